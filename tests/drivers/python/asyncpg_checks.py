"""asyncpg with its defaults, statement cache on: plain connections, and its own pool."""
import asyncio
import datetime
import decimal
import io
import time
import uuid

import asyncpg

from report import KEPT, ROUNDS, URL, USERS, Report, kept, same


async def connect():
    return await asyncpg.connect(URL)


async def raises(state, awaitable):
    try:
        await awaitable
    except asyncpg.PostgresError as error:
        return same(error.sqlstate, state)
    raise AssertionError(f"no error where {state} was due")


async def query():
    c = await connect()
    for n in range(20):
        same(await c.fetchval("SELECT 1 + 1"), 2)
        same(await c.fetchval("SELECT $1::int * 2", n), 2 * n)
    same(len(await c.fetch("SELECT g FROM generate_series(1, 1000) g")), 1000)
    same(await c.execute("SELECT 1; SELECT 2"), "SELECT 1")  # the tag of the last
    await c.close()


async def types():
    c = await connect()
    when = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, datetime.timezone.utc)
    await c.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    await c.execute("CREATE TYPE pair AS (a int, b text)")
    values = [
        ("int2", 7), ("int4", -70000), ("int8", 2**60), ("float8", 1.5), ("bool", True),
        ("numeric", decimal.Decimal("12345.6789")), ("text", "naïve 'quoted' \\ snow ☃"),
        ("bytea", b"\0\1\xff"), ("date", datetime.date(2024, 2, 29)),
        ("time", datetime.time(23, 59, 58)), ("timestamptz", when),
        ("timestamp", when.replace(tzinfo=None)),
        ("interval", datetime.timedelta(days=3, seconds=42)), ("uuid", uuid.UUID(int=5)),
        ("jsonb", '{"a": [1, null]}'), ("int4[]", [1, 2, None]), ("text[]", ["a", "b,c", '"']),
        ("int4range", asyncpg.Range(1, 5)), ("mood", "sad"), ("pair", (1, "x")), ("text", None),
    ]
    for _ in range(3):
        for kind, value in values:
            same(await c.fetchval(f"SELECT $1::{kind}", value), value)
    await c.close()


async def transaction():
    c = await connect()
    await c.execute("CREATE TABLE tx (n int)")
    for n in range(10):
        tx = c.transaction()
        await tx.start()
        await c.execute("INSERT INTO tx VALUES ($1)", n)
        await (tx.commit() if n % 2 else tx.rollback())
    same(await c.fetchval("SELECT sum(n) FROM tx"), 25)
    async with c.transaction(isolation="serializable", readonly=True):
        same(await c.fetchval("SHOW transaction_isolation"), "serializable")
    await c.close()


async def savepoint():
    c = await connect()
    await c.execute("CREATE TABLE sp (n int PRIMARY KEY)")
    async with c.transaction():
        await c.execute("INSERT INTO sp VALUES ($1)", 1)
        for _ in range(3):
            try:
                async with c.transaction():
                    await c.execute("INSERT INTO sp VALUES ($1)", 1)
                raise AssertionError("no error where 23505 was due")
            except asyncpg.UniqueViolationError:
                pass
        async with c.transaction():
            await c.execute("INSERT INTO sp VALUES ($1)", 2)
    same(await c.fetchval("SELECT count(*) FROM sp"), 2)
    await c.close()


async def error():
    c = await connect()
    for _ in range(8):
        await raises("42601", c.fetch("SELEC 1"))
        await raises("22012", c.fetch("SELECT 1 / $1::int", 0))
        await raises("42P01", c.fetch("SELECT * FROM no_such_table"))
        same(await c.fetchval("SELECT $1::text", "still here"), "still here")
    await c.close()


async def prepared():
    a, b = await connect(), await connect()
    one = await a.prepare("SELECT $1::int + 1000")
    two = await b.prepare("SELECT $1::int + 1000")
    other = await a.prepare("SELECT $1::text || 'x'")
    for n in range(10):
        same(await one.fetchval(n), n + 1000)
        same(await two.fetchval(n), n + 1000)
        same(await other.fetchval(str(n)), f"{n}x")
    for n in range(150):  # past the 100 that its cache keeps: the oldest are closed
        same(await a.fetchval(f"SELECT $1::int + {n}", 1), n + 1)
    for n in range(150):
        same(await a.fetchval(f"SELECT $1::int + {n}", 1), n + 1)
    await a.close(), await b.close()


async def pipeline():
    c = await connect()
    await c.execute("CREATE TABLE pl (n int PRIMARY KEY)")
    await c.executemany("INSERT INTO pl VALUES ($1)", [(n,) for n in range(2000)])
    same(await c.fetchval("SELECT count(*) FROM pl"), 2000)
    await raises("23505", c.executemany("INSERT INTO pl VALUES ($1)", [(5000,), (1,), (5001,)]))
    same(await c.fetchval("SELECT count(*) FROM pl"), 2000)
    await c.close()


async def copy():
    c = await connect()
    await c.execute("CREATE TABLE cp (n int, t text)")
    rows = [(n, f"row {n}") for n in range(20000)]
    await c.copy_records_to_table("cp", records=rows)
    out = io.BytesIO()
    await c.copy_from_query("SELECT * FROM cp WHERE n < $1 ORDER BY n", 20000, output=out)
    same(out.getvalue().decode() == "".join(f"{n}\t{t}\n" for n, t in rows), True)
    await raises("22P02", c.copy_to_table("cp", source=io.BytesIO(b"x\ty\n")))
    same(await c.fetchval("SELECT count(*) FROM cp"), 20000)
    await c.close()


async def large():
    c = await connect()
    text = "0123456789abcdef" * 65536 * 5
    same(await c.fetchval("SELECT $1::text", text) == text, True)
    rows = await c.fetch("SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000)")
    same(sum(len(row["x"]) for row in rows), 20_000_000)
    await c.close()


async def cursor():
    c = await connect()
    for _ in range(3):
        async with c.transaction():
            total = 0
            async for row in c.cursor("SELECT g FROM generate_series(1, $1) g", 1000, prefetch=100):
                total += row["g"]
            same(total, 500500)
    await c.close()


async def cancel():
    c = await connect()
    for _ in range(3):
        began = time.monotonic()
        try:
            await c.fetchval("SELECT pg_sleep(20)", timeout=0.3)
            raise AssertionError("no timeout")
        except asyncio.TimeoutError:
            pass
        same(await c.fetchval("SELECT 1"), 1)
        same(time.monotonic() - began < 10, True)
    await c.close()


async def reconnect():
    for n in range(25):
        c = await connect()
        same(await c.fetchval("SELECT $1::int", n), n)
        await (c.close() if n % 5 else asyncio.sleep(0))
        c.terminate()


async def schema_change():
    c, other = await connect(), await connect()
    await other.execute("CREATE TABLE shape (a int); INSERT INTO shape VALUES (1)")

    async def read():
        return tuple(await c.fetchrow("SELECT * FROM shape WHERE a = $1", 1))

    for _ in range(8):
        same(await read(), (1,))
    for change, want in [("ADD COLUMN b text DEFAULT 'x'", (1, "x")),
                         ("ALTER b DROP DEFAULT, ALTER b TYPE int USING 7", (1, 7)),
                         ("DROP COLUMN b", (1,))]:
        await other.execute("ALTER TABLE shape " + change)
        for _ in range(8):  # asyncpg prepares again by itself outside a transaction
            same(await read(), want)
    await c.close(), await other.close()


async def session_set():
    a, b = await connect(), await connect()
    pairs = [(a, "Asia/Tokyo", "pg_catalog"), (b, "America/Lima", "public")]
    for c, zone, path in pairs:
        await c.execute(f"SET TIME ZONE '{zone}'")
        await c.execute(f"SET search_path TO {path}; SET statement_timeout = '{len(zone)}s'")
        await c.fetchval("SELECT set_config('app.tenant', $1, false)", zone)
    for _ in range(4):
        for c, zone, path in pairs:
            same(await c.fetchval("SHOW timezone"), zone)
            same(await c.fetchval("SHOW search_path"), path)
            same(await c.fetchval("SHOW statement_timeout"), f"{len(zone)}s")
            same(await c.fetchval("SELECT current_setting('app.tenant')"), zone)
    tx = a.transaction()
    await tx.start()
    await a.execute("SET TIME ZONE 'Europe/Oslo'")
    await tx.rollback()
    same(await a.fetchval("SHOW timezone"), "Asia/Tokyo")
    await a.close(), await b.close()
    with_settings = await asyncpg.connect(URL, server_settings={
        "application_name": "named", "search_path": "pg_catalog", "statement_timeout": "7s"})
    for _ in range(4):
        same(await with_settings.fetchval("SHOW application_name"), "named")
        same(await with_settings.fetchval("SHOW search_path"), "pg_catalog")
        same(await with_settings.fetchval("SHOW statement_timeout"), "7s")
    await with_settings.close()


async def temp_table():
    a, b = await connect(), await connect()
    await a.execute("CREATE TEMP TABLE mine (n int)")
    for n in range(5):
        await a.execute("INSERT INTO mine VALUES ($1)", n)
        await raises("42P01", b.fetch("SELECT * FROM mine"))
    same(await a.fetchval("SELECT count(*) FROM mine"), 5)
    await a.close(), await b.close()


async def advisory_lock():
    a, b = await connect(), await connect()
    await a.execute("SELECT pg_advisory_lock($1)", 42)
    for _ in range(5):
        same(await b.fetchval("SELECT pg_try_advisory_lock($1)", 42), False)
        same(await a.fetchval("SELECT 1"), 1)
    await a.reset()  # what its pool does when a connection comes back
    same(await b.fetchval("SELECT pg_try_advisory_lock($1)", 42), True)
    await a.close(), await b.close()


async def listen_notify():
    a, b = await connect(), await connect()
    heard = asyncio.Queue()
    await a.add_listener("news", lambda *got: heard.put_nowait(got[3]))
    for n in range(3):
        await b.execute("SELECT pg_notify('news', $1)", str(n))
        same(await asyncio.wait_for(heard.get(), 5), str(n))
    await a.reset()
    await a.close(), await b.close()


async def user(i, pool):
    mine = await connect()
    await mine.execute(f"SET app.who = 'user-{i}'")
    for r in range(ROUNDS):
        same(await mine.fetchval("SELECT $1::int + 1", r), r + 1)
        same(await mine.fetchval("SELECT current_setting('app.who')"), f"user-{i}")
        tx = mine.transaction()
        await tx.start()
        await mine.execute("INSERT INTO conc VALUES ($1, $2)", i, r)
        await (tx.commit() if kept(r) else tx.rollback())
        if r % 4 == 0:
            await raises("22012", mine.fetch("SELECT 1 / $1::int", 0))
        same(await mine.fetchval("SELECT count(*) FROM conc WHERE u = $1", i),
             sum(kept(n) for n in range(r + 1)))
        async with pool.acquire() as shared:
            same(await shared.fetchval("SELECT $1::text", f"{i}/{r}"), f"{i}/{r}")
    await mine.close()


async def concurrent():
    c = await connect()
    await c.execute("CREATE TABLE conc (u int, r int)")
    async with asyncpg.create_pool(URL, min_size=3, max_size=5) as pool:
        await asyncio.gather(*(user(i, pool) for i in range(USERS)))
    same(await c.fetchval("SELECT count(*) FROM conc"), USERS * KEPT)
    await c.close()


asyncio.run(Report("asyncpg", asyncpg.__version__).run_async([
    query, types, transaction, savepoint, error, prepared, pipeline, copy, large, cursor, cancel,
    reconnect, schema_change, session_set, temp_table, advisory_lock, listen_notify, concurrent]))
