"""Django's ORM over psycopg 3, server-side cursors on (its default).

The first argument: `request` (CONN_MAX_AGE 0, a connection a request), `persistent`
(CONN_MAX_AGE None), `pool` (psycopg's pool, Django 5.1's option) or `async`.
"""
import asyncio
import datetime
import decimal
import sys
import threading
import uuid
from urllib.parse import urlsplit

import django
from asgiref.sync import sync_to_async
from django.conf import settings

from report import KEPT, ROUNDS, URL, USERS, Report, kept, same, users

HOW = sys.argv[1] if len(sys.argv) > 1 else "persistent"
where = urlsplit(URL)
database = {"ENGINE": "django.db.backends.postgresql", "NAME": where.path[1:],
            "USER": where.username, "HOST": where.hostname, "PORT": where.port,
            "CONN_MAX_AGE": {"request": 0, "pool": 0}.get(HOW),
            "CONN_HEALTH_CHECKS": HOW == "persistent"}
if HOW == "pool":
    database["OPTIONS"] = {"pool": {"min_size": 2, "max_size": 5}}
settings.configure(DATABASES={"default": database}, USE_TZ=True, TIME_ZONE="Europe/Oslo",
                   DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()

# Only now: models need the settings.
from django.db import DatabaseError, IntegrityError, close_old_connections, connection, models
from django.db import reset_queries, transaction as tx
from django.db.models import Count, F, Sum


class Thing(models.Model):
    name = models.CharField(max_length=100, unique=True)
    n = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=20, decimal_places=4, default=0)
    when = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    took = models.DurationField(null=True)
    key = models.UUIDField(null=True)
    data = models.JSONField(null=True)
    blob = models.BinaryField(null=True)
    text = models.TextField(default="")

    class Meta:
        app_label = "checks"


class Round(models.Model):
    u = models.IntegerField()
    r = models.IntegerField()

    class Meta:
        app_label = "checks"


def request(body, *args):
    """Runs body as Django runs a view: between the two signals that look after connections."""
    reset_queries()
    close_old_connections()
    try:
        return body(*args)
    finally:
        close_old_connections()


def sql(text, args=None):
    with connection.cursor() as c:
        c.execute(text, args)
        return c.fetchone()[0] if c.description else None


def raises(state, body):
    try:
        body()
    except DatabaseError as error:
        return same(error.__cause__.sqlstate, state)
    raise AssertionError(f"no error where {state} was due")


def leave():
    """Really closes the connection, also one that psycopg's pool would keep."""
    connection.close()
    if HOW == "pool":
        connection.close_pool()


def query():
    for n in range(20):
        same(request(sql, "SELECT %s::int * 2", [n]), 2 * n)
        same(Thing.objects.filter(n__gte=n).exclude(name="x").count(), 0)
    Thing.objects.bulk_create(Thing(name=f"t{n}", n=n) for n in range(500))
    same(Thing.objects.aggregate(s=Sum("n"))["s"], 124750)
    Thing.objects.update(n=F("n") + 1)
    same(Thing.objects.values("n").annotate(c=Count("id")).order_by("-n")[0], {"n": 500, "c": 1})
    Thing.objects.all().delete()


def types():
    values = {"n": -7, "price": decimal.Decimal("12345.6789"),
              "when": datetime.datetime(2024, 2, 29, 1, 2, 3, 456, datetime.timezone.utc),
              "day": datetime.date(2024, 2, 29), "took": datetime.timedelta(days=3, seconds=4),
              "key": uuid.UUID(int=5), "data": {"a": [1, None, "☃"]}, "text": "snow ☃ 'q' \\"}
    for n in range(8):
        Thing.objects.create(name=f"kind {n}", blob=b"\0\1\xff", **values)
        got = Thing.objects.get(name=f"kind {n}")
        same({key: getattr(got, key) for key in values}, values)
        same(bytes(got.blob), b"\0\1\xff")
    same(Thing.objects.filter(data__a__2="☃", when__year=2024).count(), 8)
    Thing.objects.all().delete()


def transaction():
    def one(n):
        with tx.atomic():
            Round.objects.create(u=100, r=n)
            if n % 2 == 0:
                tx.set_rollback(True)

    for n in range(10):
        request(one, n)
    same(Round.objects.filter(u=100).aggregate(s=Sum("r"))["s"], 25)
    seen = []
    with tx.atomic():
        tx.on_commit(lambda: seen.append(1))
        same(Round.objects.select_for_update().filter(u=100).count(), 5)
    same(seen, [1])


def savepoint():
    with tx.atomic():
        Thing.objects.create(name="one")
        for _ in range(3):
            try:
                with tx.atomic():
                    Thing.objects.create(name="one")
                raise AssertionError("no error where 23505 was due")
            except IntegrityError:
                pass
        Thing.objects.create(name="two")
    same(Thing.objects.count(), 2)
    same(Thing.objects.get_or_create(name="two")[1], False)
    Thing.objects.all().delete()


def error():
    for _ in range(8):
        raises("22012", lambda: request(sql, "SELECT 1 / %s::int", [0]))
        raises("42601", lambda: sql("SELEC 1"))
        raises("42P01", lambda: sql("SELECT * FROM no_such_table"))
        same(request(sql, "SELECT %s::text", ["still here"]), "still here")


def prepared():
    for n in range(30):
        same(request(lambda: Thing.objects.filter(n=n).first()), None)
        same(sql("SELECT %s::int + 1000", [n]), n + 1000)


def pipeline():
    Thing.objects.bulk_create([Thing(name=f"p{n}", n=n) for n in range(1000)], batch_size=100)
    things = list(Thing.objects.order_by("n"))
    for thing in things:
        thing.n += 1
    Thing.objects.bulk_update(things, ["n"], batch_size=200)
    same(Thing.objects.aggregate(s=Sum("n"))["s"], 500500)
    Thing.objects.all().delete()
    return "bulk_create and bulk_update"


def copy():
    with connection.cursor() as c:
        c.execute("CREATE TABLE cp (n int)")
        with c.copy("COPY cp FROM STDIN") as stream:
            for n in range(10000):
                stream.write_row((n,))
    same(sql("SELECT count(*) FROM cp"), 10000)


def large():
    value = "0123456789abcdef" * 65536 * 5
    Thing.objects.create(name="large", text=value)
    same(Thing.objects.get(name="large").text == value, True)
    Thing.objects.all().delete()


def cursor():
    """iterator() declares a cursor on the server: WITH HOLD outside of a transaction."""
    Thing.objects.bulk_create(Thing(name=f"c{n}", n=n) for n in range(1000))

    def walk():
        return sum(thing.n for thing in Thing.objects.iterator(chunk_size=100))

    for _ in range(4):
        same(request(walk), 499500)
        with tx.atomic():
            same(walk(), 499500)
        stopped = Thing.objects.iterator(chunk_size=10)  # left halfway
        next(stopped)
        stopped.close()
        same(Thing.objects.count(), 1000)

    def many(_):
        try:
            for _ in range(4):
                same(request(walk), 499500)
        finally:
            connection.close()

    users(many)
    Thing.objects.all().delete()


def cancel():
    for _ in range(3):
        connection.ensure_connection()
        timer = threading.Timer(0.3, connection.connection.cancel)
        timer.start()
        raises("57014", lambda: sql("SELECT pg_sleep(20)"))
        timer.join()
        same(sql("SELECT 1"), 1)


def reconnect():
    for n in range(25):
        same(request(sql, "SELECT %s::int", [n]), n)
        connection.close()


def schema_change():
    sql("CREATE TABLE shape (a int)")
    sql("INSERT INTO shape VALUES (1)")
    for change, want in [(None, 1), ("ADD COLUMN b int DEFAULT 7", 1), ("DROP COLUMN b", 1)]:
        if change:
            sql("ALTER TABLE shape " + change)
        for _ in range(8):
            same(request(sql, "SELECT * FROM shape WHERE a = %s", [1]), want)


def session_set():
    # Django itself sets the time zone and, by startup options, client_encoding.
    same(sql("SHOW timezone"), "UTC")
    if HOW in ("persistent", "async"):
        sql("SET search_path TO pg_catalog, public")
        sql("SELECT set_config('app.tenant', %s, false)", ["seven"])
        for _ in range(4):
            same(request(sql, "SHOW search_path"), "pg_catalog, public")
            same(request(sql, "SELECT current_setting('app.tenant')"), "seven")
    with tx.atomic():
        sql("SET LOCAL statement_timeout = '5s'")
        same(sql("SHOW statement_timeout"), "5s")
    same(sql("SHOW statement_timeout"), "0")
    connection.close()
    same(sql("SHOW search_path"), '"$user", public')


def temp_table():
    sql("CREATE TEMP TABLE mine (n int)")
    for n in range(5):
        sql("INSERT INTO mine VALUES (%s)", [n])
    same(sql("SELECT count(*) FROM mine"), 5)
    sql("DROP TABLE mine")
    leave()


def advisory_lock():
    sql("SELECT pg_advisory_lock(42)")
    other = []

    def ask(_):
        other.append(sql("SELECT pg_try_advisory_lock(42)"))
        connection.close()

    thread = threading.Thread(target=ask, args=(0,))
    thread.start(), thread.join()
    same(other, [False])
    same(sql("SELECT pg_advisory_unlock(42)"), True)
    leave()


def listen_notify():
    sql("LISTEN news")
    raw = connection.connection
    for n in range(3):
        thread = threading.Thread(target=lambda: (sql("SELECT pg_notify('news', %s)", [str(n)]),
                                                  connection.close()))
        thread.start(), thread.join()
        same([note.payload for note in raw.notifies(timeout=5, stop_after=1)], [str(n)])
    sql("UNLISTEN *")
    leave()
    return "through the driver's connection"


def user(i):
    def view(r):
        with tx.atomic():
            Round.objects.create(u=i, r=r)
            if not kept(r):
                tx.set_rollback(True)
        same(Round.objects.filter(u=i).count(), sum(kept(n) for n in range(r + 1)))
        same(sql("SELECT %s::text", [f"{i}/{r}"]), f"{i}/{r}")
        same(sum(row.u == i for row in Round.objects.filter(u=i).iterator(chunk_size=3)),
             sum(kept(n) for n in range(r + 1)))

    try:
        for r in range(ROUNDS):
            request(view, r)
            if r % 4 == 0:
                raises("22012", lambda: request(sql, "SELECT 1 / %s::int", [0]))
    finally:
        connection.close()


def concurrent():
    users(user)
    same(Round.objects.filter(u__lt=USERS).count(), USERS * KEPT)


async def a_query():
    for n in range(10):
        same(await Thing.objects.filter(n__gte=n).acount(), 0)
    await Thing.objects.abulk_create([Thing(name=f"t{n}", n=n) for n in range(300)])
    same((await Thing.objects.aaggregate(s=Sum("n")))["s"], 44850)
    same([t.n async for t in Thing.objects.order_by("n")[:3]], [0, 1, 2])
    await Thing.objects.all().adelete()


async def a_cursor():
    await Thing.objects.abulk_create([Thing(name=f"c{n}", n=n) for n in range(500)])
    for _ in range(4):
        total = 0
        async for thing in Thing.objects.aiterator(chunk_size=50):
            total += thing.n
        same(total, 124750)
    await Thing.objects.all().adelete()


async def a_concurrent():
    async def one(i):
        for r in range(ROUNDS):
            await sync_to_async(view, thread_sensitive=False)(i, r)
            same(await Round.objects.filter(u=i).acount(), sum(kept(n) for n in range(r + 1)))

    def view(i, r):
        with tx.atomic():
            Round.objects.create(u=i, r=r)
            if not kept(r):
                tx.set_rollback(True)
        connection.close()

    await asyncio.gather(*(one(i) for i in range(USERS)))
    same(await Round.objects.filter(u__lt=USERS).acount(), USERS * KEPT)


CHECKS = [query, types, transaction, savepoint, error, prepared, pipeline, copy, large, cursor,
          cancel, reconnect, schema_change, session_set, temp_table, advisory_lock, listen_notify,
          concurrent]


def tables():
    with connection.schema_editor() as editor:
        if "checks_thing" not in connection.introspection.table_names():
            editor.create_model(Thing)
            editor.create_model(Round)
    connection.close()


tables()
names = {"request": "Django, CONN_MAX_AGE=0", "persistent": "Django, persistent",
         "pool": "Django, its pool", "async": "Django, async"}
report = Report(names[HOW], django.__version__)
if HOW == "async":
    own = {"query": a_query, "cursor": a_cursor, "concurrent": a_concurrent}

    def lift(check):
        async def run():
            return await sync_to_async(check)()
        run.__name__ = check.__name__
        return run

    for name, check in own.items():
        check.__name__ = name
    asyncio.run(report.run_async([own.get(c.__name__) or lift(c) for c in CHECKS]))
else:
    report.run(CHECKS)
