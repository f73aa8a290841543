"""What clients ask, as units of client.py: each says what must be answered."""

import session
from client import Unit
from wire import SYNC, bind, close, describe, execute, parse, query

PAD = "x" * 40


def ended_by(c, commits):
    """A COMMIT or ROLLBACK has been answered."""
    well = c.s.status == "T"
    entries = c.s.end(commits and well)
    (c.world.ledger_is if commits and well else c.world.ledger_over)(entries)


def sync():
    return Unit(SYNC, ends=True)


def command(sql, tag, then=None):
    """A simple query that answers with its tag alone."""
    return Unit(query(sql), lambda: [("C", tag)], ends=True, then=then)


def begin(c, sql="BEGIN"):
    return Unit(query(sql), lambda: [("C", "BEGIN")], ends=True, then=c.s.begin, block="begin")


def commit(c):
    return Unit(query("COMMIT"), lambda: [("C", "ROLLBACK" if c.s.status == "E" else "COMMIT")],
                ends=True, block="commit", then=lambda: ended_by(c, True))


def rollback(c):
    return Unit(query("ROLLBACK"), lambda: [("C", "ROLLBACK")], ends=True, block="rollback",
                then=lambda: ended_by(c, False))


def savepoint(c, name):
    return Unit(query(f"SAVEPOINT {name}"), lambda: [("C", "SAVEPOINT")], ends=True,
                then=lambda: c.s.snapshot(name))


def back_to(c, name):
    return Unit(query(f"ROLLBACK TO {name}"), lambda: [("C", "ROLLBACK")], ends=True, block="back",
                then=lambda: c.world.ledger_over(c.s.back_to(name)))


def release(c, name):
    return Unit(query(f"RELEASE {name}"), lambda: [("C", "RELEASE")], ends=True,
                then=lambda: c.s.release(name))


def by_protocol(r, sql, values, answers, then=None, entry=None):
    """Parse, Bind, maybe Describe, Execute of the unnamed statement."""
    units = [Unit(parse("", sql), lambda: ["1"]), Unit(bind("", values), lambda: ["2"])]
    if r.random() < 0.5:
        units.append(Unit(describe(b"P", ""), lambda: ["T" if len(answers()) > 1 else "n"]))
    units.append(Unit(execute(), answers, then=then, entry=entry))
    return units


def look(c, r, planned=None):
    """The client's word and its whole session, by any protocol."""
    tag = c.tag()
    form = r.random()
    if form < 0.4:
        return [Unit(query(f"SELECT '{tag}', {session.LOOK}"),
                     lambda: ["T", ("D", [tag, c.s.look()]), ("C", "SELECT 1")], ends=True)]
    if form < 0.7:
        return [*by_protocol(r, f"SELECT $1::text, {session.LOOK}", [tag],
                             lambda: [("D", [tag, c.s.look()]), ("C", "SELECT 1")]), sync()]
    return [*named(c, r, tag, planned if planned is not None else set()), sync()]


def named(c, r, tag, planned):
    """The same by a statement with a name, which is the client's own: all clients use the same."""
    name = f"s{r.randrange(5)}"
    if name in planned:
        name = f"s{len(planned) + 5}.{c.number}"
    planned.add(name)
    literal = c.s.names.get(name)
    units = []
    if literal is None:
        # Some texts are everybody's, some one client's.
        literal = r.choice((c.id, "ours", f"{c.id}.{c.number}"))
        units.append(Unit(parse(name, f"SELECT $1::text || '/{literal}', {session.LOOK}"),
                          lambda: ["1"], then=lambda: c.s.names.update({name: literal})))
    if r.random() < 0.3:
        units.append(Unit(describe(b"S", name), lambda: ["t", "T"]))
    units += [Unit(bind(name, [tag]), lambda: ["2"]),
              Unit(execute(), lambda: [("D", [f"{tag}/{literal}", c.s.look()]), ("C", "SELECT 1")])]
    if r.random() < 0.2:
        units.append(Unit(close(b"S", name), lambda: ["3"], then=lambda: c.s.names.pop(name, None)))
    return units


def book(c, r):
    """One entry of the ledger, committed with what it stands in."""
    tag = c.tag()
    entry = c.entry(tag, 1)
    if r.random() < 0.5:
        return [Unit(query(f"INSERT INTO public.ledger VALUES ('{tag}', 1, '{PAD}')"),
                     lambda: [("C", "INSERT 0 1")], ends=True, entry=entry)]
    units = by_protocol(r, "INSERT INTO public.ledger VALUES ($1, 1, $2)", [tag, PAD],
                        lambda: [("C", "INSERT 0 1")], entry=entry)
    return [*units, sync()]


def setting(c, r, local=False):
    """One setting, set or reset in any way."""
    name = r.choice([name for name in session.DEFAULTS if name != "statement_timeout" or not local])
    if not local and r.random() < 0.3:
        then = lambda: c.s.reset(name)  # noqa: E731
        return [command("RESET ROLE" if name == "role" else f"RESET {name}", "RESET", then)]
    value = session.draw(r, name, c.id)
    then = (lambda: c.s.set_local(name, value)) if local else (lambda: c.s.set(name, value))
    if r.random() < 0.3:
        sql, values = "SELECT set_config($1, $2, $3)", [name, value, "true" if local else "false"]
        return [*by_protocol(r, sql, values, lambda: [("D", [value]), ("C", "SELECT 1")], then),
                sync()]
    word = "LOCAL " if local else ""
    written = value if name in ("search_path", "role") else f"'{value}'"
    sql = f"SET {word}ROLE {written}" if name == "role" else f"SET {word}{name} TO {written}"
    if r.random() < 0.3:
        return [*by_protocol(r, sql, [], lambda: [("C", "SET")], then), sync()]
    return [command(sql, "SET", then)]


def mistake(r):
    """What fails, and what is behind it up to the Sync with it."""
    if r.random() < 0.5:
        return [Unit(query("SELECT 1/0"), ends=True, fails="22012")]
    return [Unit(parse("", "SELECT 1/$1::int"), lambda: ["1"]),
            Unit(bind("", ["0"]), fails="22012"), Unit(execute()),
            Unit(parse("", "SELECT 'behind a mistake'")), Unit(bind("")), Unit(execute()), sync()]


def left(c):
    """What the server has of this session; the same server as long as something pins it."""
    tag = c.tag()

    def check(got):
        before, c.pid = c.pid, got[1] if c.keeps_server() else None
        if got[0] != tag or got[2:] != c.s.counts() or before not in (None, got[1]):
            c.wrong(unit, [tag, before or "any", *c.s.counts()], "row", repr(got).encode())

    unit = Unit(query(f"SELECT '{tag}', {', '.join(session.LEFT)}"),
                lambda: ["T", ("D", check), ("C", "SELECT 1")], ends=True)
    return unit
