"""What clients do, one step after the other. Each is drawn from the step's own chance `r`."""

import asyncio

import session
import units
from client import Over, Unit, Violation
from wire import COPY_DONE, FLUSH, SYNC, bind, copy_data, copy_fail, execute, parse, query

SLEEP = "SELECT pg_sleep({}), '{}'"


async def ask(c, r):
    await c.exchange(*units.look(c, r), split=r if r.random() < 0.15 else None)


async def set_something(c, r):
    await c.exchange(*units.setting(c, r))


async def write(c, r):
    await c.exchange(*units.book(c, r))


async def look_around(c, _):
    await c.exchange(units.left(c))


async def pipeline(c, r):
    """Some batches in one go, with a mistake among them."""
    planned = set()
    batches = []
    for _ in range(r.randrange(2, 7)):
        kind = r.random()
        batches += (units.look(c, r, planned) if kind < 0.6 else
                    units.book(c, r) if kind < 0.8 else
                    units.setting(c, r) if kind < 0.9 and c.kind != "statement" else
                    units.mistake(r))
    await c.exchange(*batches, split=r if r.random() < 0.1 else None)


async def one_batch(c, r):
    """Several statements up to one Sync: one transaction."""
    planned, batch = set(), []
    for _ in range(r.randrange(2, 5)):
        batch += units.named(c, r, c.tag(), planned) if r.random() < 0.5 else units.book(c, r)
    if r.random() < 0.2:
        batch += units.mistake(r)
    await c.exchange(*(unit for unit in batch if not unit.ends), units.sync())


async def flushed(c, r):
    """A batch whose answers are asked for by Flush, and its Sync later, or never."""
    tag = c.tag()
    insert = Unit(parse("", "INSERT INTO public.ledger VALUES ($1, 1, '')"), lambda: ["1"])
    run = Unit(execute() + FLUSH, lambda: [("C", "INSERT 0 1")], entry=c.entry(tag, 1))
    await c.exchange(insert, Unit(bind("", [tag]), lambda: ["2"]), run)
    await c.world.rest(r, 0.05)
    if r.random() < 0.3:
        c.leave(r.choice(("terminate", "fin", "rst")))
    await c.exchange(units.sync())


async def mistake(c, r):
    await c.exchange(*units.mistake(r))


async def transaction(c, r):
    """BEGIN to its end, with savepoints, settings, mistakes; one by one, or all in one go."""
    if r.random() < 0.25:
        inside = [*units.book(c, r), *(units.setting(c, r, r.random() < 0.5)), *units.look(c, r)]
        end = units.commit(c) if r.random() < 0.7 else units.rollback(c)
        await c.exchange(units.begin(c), *inside, end)
        return
    if not (await c.exchange(units.begin(c))).ok:
        return
    names = []
    for n in range(r.randrange(1, 8)):
        kind = r.random()
        if c.s.status == "E":
            if not names or kind < 0.4:
                break
            await c.exchange(units.back_to(c, names[-1]))
        elif kind < 0.25:
            await c.exchange(*units.look(c, r))
        elif kind < 0.45:
            await c.exchange(*units.book(c, r))
        elif kind < 0.60:
            await c.exchange(*units.setting(c, r, r.random() < 0.5))
        elif kind < 0.72:
            await c.exchange(units.savepoint(c, f"sp{n}"))
            if c.s.status == "T":
                names.append(f"sp{n}")
        elif kind < 0.80 and names:
            if r.random() < 0.5:
                await c.exchange(units.back_to(c, names[-1]))
            else:
                await c.exchange(units.release(c, names.pop()))
        elif kind < 0.88:
            await c.exchange(*units.mistake(r))
        elif kind < 0.94:
            await cursor(c, r)
        else:
            # For those who are limited, past idleTransactionTimeout.
            await asyncio.sleep(r.random() * (3 if c.kind == "limited" else 0.3))
    end = r.random()
    if end < 0.12:
        c.leave(r.choice(("terminate", "fin", "rst")))
    await c.exchange(units.commit(c) if end < 0.75 else units.rollback(c))


async def cursor(c, r):
    tag = c.tag()
    await c.exchange(units.command(
        f"DECLARE cu{c.number} CURSOR FOR SELECT '{tag}', g FROM generate_series(1, 9) g",
        "DECLARE CURSOR"))
    count = r.randrange(1, 5)
    if c.s.status == "T":
        rows = [("D", [tag, str(g + 1)]) for g in range(count)]
        await c.exchange(Unit(query(f"FETCH {count} FROM cu{c.number}"),
                              lambda: ["T", *rows, ("C", f"FETCH {count}")], ends=True))


COPY = "COPY public.ledger FROM STDIN"
COPY_BY_PROTOCOL = parse("", COPY) + bind("")
COPY_BOUND = (Unit(parse("", COPY), lambda: ["1"]), Unit(bind(""), lambda: ["2"]))


async def behind_copy(c, *batch):
    """Something of it stands behind a COPY that may fail."""
    c.behind_copy = True
    try:
        return await c.exchange(*batch)
    finally:
        c.behind_copy = False


async def copy_in(c, r):
    """Rows into the ledger: to the end, given up, or with one that is bad."""
    tag, count = c.tag(), r.choice((1, 20, 400, 5000))
    how = r.choice(("done", "done", "done", "fail", "bad"))
    pad = "y" * r.choice((0, 50, 300))
    lines = [f"{tag}\t1\t{pad}\n" for _ in range(count)]
    if how == "bad":
        lines[r.randrange(count)] = f"{tag}\tnone\t{pad}\n"
    data, size = "".join(lines).encode(), r.choice((700, 8000, 60000))
    pieces = [copy_data(data[at:at + size]) for at in range(0, len(data), size)]
    entry = c.entry(tag, count if how == "done" else 0)
    ending = copy_fail("enough") if how == "fail" else COPY_DONE
    wanted = ["G", ("C", f"COPY {count}")] if how == "done" else ["G"]
    fails = {"fail": "57014", "bad": "22P02"}.get(how)
    begin = query(COPY)
    form = r.random()
    if form < 0.2:
        data = begin + b"".join(pieces) + ending
        return await c.exchange(Unit(data, lambda: wanted, True, fails=fails, entry=entry))
    if form < 0.5:
        # Its Sync is under way before PostgreSQL has said that the COPY has begun, or failed.
        run = Unit(execute() + b"".join(pieces) + ending, lambda: wanted, fails=fails, entry=entry)
        return await behind_copy(c, *COPY_BOUND, run, units.sync())

    async def feed():
        for piece in pieces:
            if r.random() < 0.02:
                await asyncio.sleep(r.random() * 0.05)
            c.wire.send(piece)
            await c.drained()
        c.wire.send(ending)

    unit = Unit(begin, lambda: wanted, True, fails=fails, entry=entry, on_copy=feed)
    await c.exchange(unit)


async def copy_left(c, r):
    """A COPY that its client leaves in the midst of: nothing of it is there."""
    tag = c.tag()
    rows = copy_data(f"{tag}\t1\tz\n".encode() * r.choice((1, 50, 3000)))
    c.world.ledger_over([c.entry(tag, 1)])
    begin = query(COPY) if r.random() < 0.5 else COPY_BY_PROTOCOL + execute()
    c.send(begin + rows * r.choice((1, 3)))
    if r.random() < 0.6:
        await c.world.rest(r, 0.05)
    if r.random() < 0.3:
        c.wire.send(SYNC * r.randrange(1, 4))  # PostgreSQL passes over it in a COPY
    if r.random() < 0.4:
        c.wire.send(rows[:r.randrange(1, len(rows))])
        c.leave(r.choice(("fin", "rst")))
    c.leave(r.choice(("terminate", "fin", "rst")))


def many(c, r):
    """A COPY out, or a query, of some megabytes at most: the unit."""
    tag, count, wide = c.tag(), r.choice((10, 500, 3000)), r.choice((10, 500))
    what = f"SELECT '{tag}', g, repeat('w', {wide}) FROM generate_series(1, {count}) g"
    if r.random() < 0.5:
        lines = [("d", f"{tag}\t{g + 1}\t{'w' * wide}\n".encode()) for g in range(count)]
        return Unit(query(f"COPY ({what}) TO STDOUT"),
                    lambda: ["H", *lines, "c", ("C", f"COPY {count}")], True)
    rows = [("D", [tag, str(g + 1), "w" * wide]) for g in range(count)]
    return Unit(query(what), lambda: ["T", *rows, ("C", f"SELECT {count}")], True)


async def read_much(c, r):
    """Read at once, or with a rest in the midst of it."""
    stop_at = r.randrange(1, 400) if r.random() < 0.4 else None
    seen = 0

    async def slowly():
        nonlocal seen
        seen += 1
        if seen == stop_at and not c.wire.transport.is_closing():
            c.wire.transport.pause_reading()
            await asyncio.sleep(r.random() * 1.5)
            if not c.wire.transport.is_closing():
                c.wire.transport.resume_reading()

    await c.exchange(many(c, r), read_slowly=slowly if stop_at else None)


async def stop_reading_and_leave(c, r):
    unit = many(c, r)
    c.send(unit.data)
    c.wire.transport.pause_reading()
    await asyncio.sleep(r.random())
    c.leave(r.choice(("terminate", "fin", "rst")))


async def cancel(c, r):
    """A query that its client cancels, in time or not."""
    tag = c.tag()
    seconds = r.choice((0.05, 0.3, 1))
    waits = r.random() * seconds * 1.3

    async def stop():
        await asyncio.sleep(waits)
        await c.cancel()

    unit = Unit(query(SLEEP.format(seconds, tag)),
                lambda: ["T", ("D", ["", tag]), ("C", "SELECT 1")], True)
    if r.random() < 0.5:
        await c.exchange(unit, meanwhile=stop)
        # It has landed, or come to nothing: it cannot reach what follows.
        return await c.exchange(*units.look(c, r))
    task = asyncio.create_task(stop())
    try:
        await c.exchange(unit)
        await c.exchange(*units.look(c, r))
    finally:
        await asyncio.wait({task})
    return None


async def cancel_in_vain(c, r):
    """With another's number, or a secret that nobody has: reaches nobody."""
    pid, secret = c.key
    if r.random() < 0.5:
        pid = pid + r.randrange(-40, 40)
    await c.cancel(pid & 0xffffffff, r.randbytes(len(secret)))


async def run_into_timeout(c, r):
    """statement_timeout ends its own statement and no other."""
    value = f"{r.choice((80, 150, 300))}ms"
    base = c.s.held["statement_timeout"]
    done = await c.exchange(units.command(f"SET statement_timeout TO '{value}'", "SET",
                                          lambda: c.s.set("statement_timeout", value)))
    if not done.ok:
        return
    seconds = r.choice((0.05, 2))
    tag = c.tag()
    unit = Unit(query(SLEEP.format(seconds, tag)),
                lambda: ["T", ("D", ["", tag]), ("C", "SELECT 1")], True)
    done = await c.exchange(unit)
    if done.ok and seconds == 2:
        raise Violation(f"it slept for 2 s under a statement_timeout of {value}")
    while c.s.held["statement_timeout"] != base:
        # That may itself run into what it takes back.
        await c.exchange(units.command(f"SET statement_timeout TO '{base}'", "SET",
                                       lambda: c.s.set("statement_timeout", base)))


async def long_query(c, r):
    tag = c.tag()
    await c.exchange(Unit(query(SLEEP.format(r.choice((0.3, 1.5, 3)), tag)),
                          lambda: ["T", ("D", ["", tag]), ("C", "SELECT 1")], True))


async def discard_all(c, r):
    await c.exchange(units.command("DISCARD ALL", "DISCARD ALL", c.s.discard_all))
    await c.exchange(*units.look(c, r))


async def forget_statements(c, _):
    await c.exchange(units.command("DEALLOCATE ALL", "DEALLOCATE ALL", lambda: (
        c.s.names.clear(), c.s.left["prepared"].clear())))


# ---- what pins

async def pin(c, r):
    """Leaves something on its server, and looks whether it is there, and nothing else."""
    kind = r.choice(session.KINDS)
    name = f"{c.id}_{c.life}_{c.number}"
    held = c.s.left[kind]
    if kind == "locks":
        # No other connection asks for this one.
        key = f"{c.index}, {c.number}"
        ask_for = r.choice(("pg_advisory_lock", "pg_try_advisory_lock"))
        value = "t" if "try" in ask_for else ""
        await c.exchange(Unit(query(f"SELECT {ask_for}({key})"),
                              lambda: ["T", ("D", [value]), ("C", "SELECT 1")], True,
                              then=lambda: held.add(key)))
        c.number += 1
    elif kind == "channels":
        done = await c.exchange(units.command(f"LISTEN {name}", "LISTEN", lambda: held.add(name)))
        if done.ok:
            await c.exchange(units.command(f"NOTIFY {name}, '{c.id}.{c.tag()}'", "NOTIFY"))
    elif kind == "prepared":
        done = await c.exchange(units.command(f"PREPARE p_{name} AS SELECT '{name}'", "PREPARE",
                                              lambda: held.add(f"p_{name}")))
        if done.ok:
            await c.exchange(Unit(query(f"EXECUTE p_{name}"),
                                  lambda: ["T", ("D", [name]), ("C", "SELECT 1")], True))
    elif kind == "tables":
        await c.exchange(units.command(
            f"CREATE TEMP TABLE t_{name} AS SELECT '{name}'::varchar(90)", "SELECT 1",
            lambda: held.add(f"t_{name}")))
    else:
        await c.exchange(units.command(
            f"DECLARE h_{name} CURSOR WITH HOLD FOR SELECT '{name}' FROM generate_series(1, 3)",
            "DECLARE CURSOR", lambda: held.add(f"h_{name}")))
    c.number += 1
    await c.exchange(units.left(c))


UNDO = {
    "locks": ("SELECT pg_advisory_unlock({})", ["T", ("D", ["t"]), ("C", "SELECT 1")]),
    "channels": ("UNLISTEN {}", [("C", "UNLISTEN")]),
    "prepared": ("DEALLOCATE {}", [("C", "DEALLOCATE")]),
    "tables": ("DROP TABLE {}", [("C", "DROP TABLE")]),
    "cursors": ("CLOSE {}", [("C", "CLOSE CURSOR")]),
}


async def unpin(c, r):
    """Gives up something of what it has left; or leaves with all of it."""
    have = [(kind, name) for kind in session.KINDS for name in sorted(c.s.left[kind])]
    if not have:
        return await look_around(c, r)
    if r.random() < 0.15:
        c.leave(r.choice(("terminate", "fin", "rst")))
    for kind, name in have if r.random() < 0.5 else [r.choice(have)]:
        if kind == "tables" and c.s.now()["role"] != "none":  # only its owner may drop it
            await c.exchange(units.command("RESET ROLE", "RESET", lambda: c.s.reset("role")))
        sql, wanted = UNDO[kind]
        await c.exchange(Unit(query(sql.format(name)), lambda wanted=wanted: wanted, True,
                              then=lambda k=kind, n=name: c.s.left[k].discard(n)))
    return await c.exchange(units.left(c))


# ---- leaving

async def leave_at_any_byte(c, r):
    """Some requests, cut off anywhere: what was not whole has not happened."""
    kind = r.random()
    if kind < 0.3:
        batch = [units.begin(c), *units.book(c, r), *units.book(c, r), units.commit(c)]
    elif kind < 0.6:
        batch = [*units.look(c, r), *units.book(c, r), *units.look(c, r)]
    elif kind < 0.8:
        batch = [unit for unit in [*units.book(c, r), *units.book(c, r)] if not unit.ends]
        batch = batch or units.book(c, r)
    else:
        batch = [*units.setting(c, r), *units.book(c, r)]
    data = b"".join(unit.data for unit in batch)
    cut = r.randrange(len(data) + 1)
    whole, at = [], 0
    for unit in batch:
        at += len(unit.data)
        if at > cut:
            break
        whole.append(unit)
    c.sent_units(whole)
    c.send(data[:cut])
    if r.random() < 0.5:
        await c.world.rest(r, 0.03)
    on_boundary = cut == sum(len(unit.data) for unit in whole)
    c.leave(r.choice(("terminate", "fin", "rst") if on_boundary else ("fin", "rst")))


async def query_and_leave(c, r):
    """What it was about to do goes on without it, or not."""
    tag = c.tag()
    unit = Unit(query(f"INSERT INTO public.ledger SELECT '{tag}', 1, '' "
                      f"FROM pg_sleep({r.choice((0.02, 0.4))})"), ends=True, entry=c.entry(tag, 1))
    c.sent_units([unit])
    c.send(unit.data)
    if r.random() < 0.7:
        await c.world.rest(r, 0.1)
    c.leave(r.choice(("terminate", "fin", "rst")))


async def copy_and_more(c, r):
    """Pipelined behind a COPY that fails or not: answered in order, or given up as 08P01."""
    tag = c.tag()
    row = f"{tag}\t{'1' if r.random() < 0.6 else 'bad'}\tq\n".encode()
    well = b"bad" not in row
    copy = Unit(query(COPY) + copy_data(row) + COPY_DONE,
                lambda: ["G", ("C", "COPY 1")] if well else ["G"], True,
                fails=None if well else "22P02", entry=c.entry(tag, 1) if well else None)
    await behind_copy(c, copy, *units.look(c, r))


async def refused_transaction(c, _):
    """In statement mode a transaction of several statements is refused, with its connection."""
    c.send(query("BEGIN") + SYNC)
    answers = []
    while answers.count("Z") < 2:
        kind, body = await c.read()
        if kind == "E" and b"\0C0A000\0" in body:
            raise Over("no transaction in statement mode")
        if kind == "E":
            c.error(body)
        answers.append(kind)
    if answers not in (["C", "Z", "Z"], ["E", "Z", "Z"]):
        c.wrong(Unit(b"BEGIN and Sync"), ["C", "Z", "Z"], "?", repr(answers).encode())
    c.leave("terminate")
