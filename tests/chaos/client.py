"""A client of `./dev chaos`: one identity with one connection after the other, that knows what each
of its requests must be answered. A unit is what it sends and what must come; exchange() sends some
and holds every message against them."""

import asyncio
import collections
import dataclasses
import random
import time
import typing

import allowed
import session
import wire

# Nothing takes as long, on a busy machine either: PostgreSQL's restart, a pause, acquireTimeout.
SILENCE_S = 120
LIVES = 15  # that are remembered, in case the ledger is wrong about one


class Violation(Exception):
    """Carpool has broken a promise."""


class Over(Exception):
    """This connection has come to an end that is allowed."""


@dataclasses.dataclass
class Unit:
    """`want()` is asked when it is its turn: ("D", values), ("C", tag), ("d", bytes) or a type.
    `ends`: a ReadyForQuery follows. `then` comes true with the last of `want`. `fails`: the
    SQLSTATE that it must fail with. `entry`: it writes that into the ledger, (id, rows).
    `on_copy`: what is done once a COPY has begun. `block`: "begin", "commit", "rollback", "back"
    to a savepoint."""
    data: bytes
    want: typing.Callable = lambda: ()
    ends: bool = False
    then: typing.Callable | None = None
    fails: str | None = None
    entry: tuple | None = None
    on_copy: typing.Callable | None = None
    block: str = ""


class Result(typing.NamedTuple):
    ok: bool
    errors: list  # SQLSTATEs


class Client:
    """`place`: {"database", "user", "kind"}. `world`: the process it lives in (clients.py)."""

    def __init__(self, index, place, world, seed):
        self.id, self.index, self.world, self.seed = f"c{index:03}", index, world, seed
        self.place, self.kind = place, place["kind"]
        self.life, self.number, self.step = 0, 0, 0
        self.wire, self.s, self.reported = None, None, {}
        self.key, self.cancels, self.asked_cancel, self.has_canceled = None, set(), False, False
        self.sent_at, self.before_at, self.pid = 0.0, 0.0, None
        self.behind_copy = False
        self.doing = "nothing"
        self.recent = collections.deque(maxlen=12)
        self.past = collections.deque(maxlen=LIVES)  # (life, what was said in it)

    def tag(self):
        self.number += 1
        return f"{self.id}.{self.life}.{self.number}"

    def entry(self, tag, rows):
        """Of the ledger: an entry, and what wrote it."""
        return tag, rows, self.doing

    def random(self, *what):
        """Chance of its own for each step, whatever came of the others."""
        return random.Random("/".join(map(str, (self.seed, self.index, *what))))

    # ---- lives

    async def run(self):
        while True:
            await self.world.may_go()
            self.life += 1
            r = self.random("life", self.life)
            pause = 0.3
            try:
                await self.enter(r)
                await self.live(r)
            except Over as over:
                self.recent.append(f"{self.id}.{self.life} over: {over}")
                if "left by" not in str(over):
                    pause = 1  # a crowd that comes back at once would be all that there is to do
            finally:
                self.forget()
            await self.world.rest(r, pause)

    async def live(self, r):
        for _ in range(r.choice((2, 8, 30, 80))):
            if self.world.stopping:
                break
            self.step += 1
            step = self.random("step", self.step)
            name, work = self.world.works.choose(step, self)
            self.doing = name
            self.world.count(name)
            await work(self, step)
            await self.world.rest(step, self.world.pace)
        self.leave(r.choice(("terminate", "terminate", "fin", "rst")))

    def leave(self, how):
        self.wire.leave(how)
        raise Over(f"left by {how}")

    def forget(self):
        if self.wire is not None and self.wire.transport is not None:
            self.wire.transport.abort()
            self.past.append((self.life, self.wire.history))
        if self.s is not None:
            self.world.ledger_cut(self.s.end(False))
        self.pid = None

    async def enter(self, r):
        self.doing = "signing in"
        given = {}
        for name in r.sample(["application_name", "app.tenant", "search_path", "TimeZone",
                              "statement_timeout", "work_mem"], r.choice((0, 0, 1, 2, 4))):
            given[name] = session.draw(r, name, self.id)
        values = {"user": self.place["user"], "database": self.place["database"]}
        by_options = [name for name in given if name != "application_name" and r.random() < 0.4]
        values |= {name: value for name, value in given.items() if name not in by_options}
        if by_options:
            values["options"] = " ".join(f"-c {name}={given[name].replace(' ', chr(92) + ' ')}"
                                         for name in by_options)
        self.s, self.wire, self.cancels, self.reported = session.Session(given), None, set(), {}
        self.has_canceled = False
        try:
            self.wire = await wire.Wire.open(self.world.port)
        except wire.Gone as gone:
            return self.gone(gone)
        self.send(wire.startup(values))
        while True:
            kind, body = await self.read()
            if kind == "K":
                self.key = (int.from_bytes(body[:4], "big"), body[4:])
            elif kind == "E":
                self.error(body, entering=True)
                raise Over("not let in")
            elif kind == "Z":
                return None

    # ---- what is sent and what comes

    def send(self, data):
        # A cancel that has not been answered yet may reach what comes now.
        self.asked_cancel = bool(self.cancels)
        self.before_at, self.sent_at = self.sent_at, time.monotonic()
        self.wire.send(data)

    async def read(self):
        while True:
            try:
                kind, body = await self.wire.read(SILENCE_S)
            except wire.Gone as gone:
                self.gone(gone)
            except wire.Silent as silent:
                raise Violation(f"{silent}: an answer is owed") from None
            if kind == "A":
                self.heard(body)
            elif kind == "S":
                name, value = (part.decode() for part in body.split(b"\0")[:2])
                self.reported[name] = value
            elif kind != "N":
                return kind, body

    async def drained(self):
        try:
            await self.wire.drained(SILENCE_S)
        except wire.Silent as silent:
            raise Violation(str(silent)) from None

    def gone(self, gone):
        self.world.ended(self, "eof", f"{gone.how}{', inside a message' if gone.inside else ''}")
        raise Over(str(gone))

    def heard(self, body):
        channel, said = (part.decode() for part in body[4:].split(b"\0")[:2])
        if channel not in self.s.left["channels"] or said.split(".")[0] != self.id:
            raise Violation(f"a notification on {channel}: {said!r}; it listens to "
                            f"{sorted(self.s.left['channels'])}")

    def error(self, body, entering=False):
        """An error that nothing of the client's explains."""
        said = wire.fields(body)
        now = time.monotonic()
        timeout = self.s.now()["statement_timeout"]
        seconds = 0.0 if timeout == "0" else (float(timeout[:-2]) / 1000 if timeout.endswith("ms")
                                              else float(timeout[:-1]))
        moment = allowed.Moment(
            took=now - self.sent_at, quiet=max(now - self.sent_at, self.sent_at - self.before_at),
            asked_cancel=self.asked_cancel, has_canceled=self.has_canceled,
            statement_timeout=seconds,
            limited=self.kind == "limited", removable=self.kind == "guest",
            failed=self.s.status == "E", behind_copy=self.behind_copy, entering=entering)
        why_not = allowed.judge(said.get("C"), said.get("M", ""), moment)
        if why_not:
            raise Violation(f"{why_not}\n  {said.get('S')} {said.get('C')} {said.get('M')}")
        self.world.heard_error(f"{said.get('C')} {said.get('M', '')[:24]}")
        if said.get("V", said.get("S")) in ("FATAL", "PANIC"):
            self.world.ended(self, "told", f"{said['C']} {said['M']}")
            raise Over(f"{said['C']} {said['M'][:60]}")
        return said["C"]

    def sent_units(self, units):
        """What may be in the ledger, now that these have been sent whole."""
        inside, under_way = self.s.status != "I", list(self.s.open)
        for unit in units:
            if unit.entry:
                under_way.append(unit.entry)
                self.world.ledger_cut([unit.entry])
            # A BEGIN that gets no server fails, and what is pipelined behind it with it; behind one
            # that statement mode has refused, as behind any mistake, it does not.
            begins = unit.block == "begin" and self.kind not in ("statement", "flip")
            inside = (inside or begins) and unit.block not in ("commit", "rollback")
            if unit.ends and not inside and unit.block != "rollback":
                self.world.ledger_may_be(under_way)
                under_way = []

    async def exchange(self, *units, split=None, meanwhile=None, read_slowly=None):
        """Sends them all and checks every answer. `split`: sent in pieces of chance."""
        data = b"".join(unit.data for unit in units)
        self.sent_units(units)
        if split is None:
            self.send(data)
        else:
            self.send(data[:1])
            at = 1
            while at < len(data):
                await asyncio.sleep(split.random() * 0.004)
                size = split.choice((1, 3, 7, 50, 400))
                self.wire.send(data[at:at + size])
                at += size
        task = asyncio.create_task(meanwhile()) if meanwhile else None
        try:
            return await self.answers(units, read_slowly)
        finally:
            if not self.keeps_server():
                self.pid = None
            if task:
                await asyncio.wait({task})

    def keeps_server(self):
        return self.kind == "session" or self.s.pinned()

    async def answers(self, units, read_slowly=None):
        before = dict(self.s.held) if self.s.status == "I" else None
        errors, failed = [], False
        for unit in units:
            if not failed and (code := await self.one(unit, read_slowly)):
                errors.append(code)
                failed = True
                self.has_failed(before)
            if unit.entry:
                self.world.ledger_over([unit.entry]) if failed else self.s.open.append(unit.entry)
            if unit.ends:
                kind, body = await self.read()
                if kind == "E":
                    errors.append(self.error(body))
                    self.has_failed(before)
                    kind, body = await self.read()
                if kind != "Z" or body.decode() != self.s.status:
                    self.wrong(unit, ("Z", self.s.status), kind, body)
                failed = False
                self.hold_reports_against_beliefs(unit)
                if self.s.status == "I":
                    # What was of the batch alone is committed.
                    self.world.ledger_is(self.s.end(True))
                    before = dict(self.s.held)
        return Result(not errors, errors)

    def hold_reports_against_beliefs(self, unit):
        """A driver believes what the last ParameterStatus said."""
        now = self.s.now()
        for name in session.REPORTED if self.s.status != "E" else ():
            if self.reported.get(name, now[name]) != now[name]:
                self.wrong(unit, f"{name} = {now[name]!r}", "S", self.reported[name].encode())

    def has_failed(self, before):
        if self.s.status == "I":  # the whole batch is undone
            self.s.held = before
            self.world.ledger_over(self.s.end(False))
        else:
            self.s.status = "E"

    async def one(self, unit, read_slowly):
        """The SQLSTATE it has failed with."""
        wanted = list(unit.want())
        for expected in [*wanted, *(["E"] if unit.fails else [])]:
            if read_slowly:
                await read_slowly()
            kind, body = await self.read()
            if kind == "E":
                said = wire.fields(body)
                if said["C"] == unit.fails and said.get("V") == "ERROR":
                    return said["C"]
                return self.error(body)
            value = expected if isinstance(expected, str) else expected[0]
            if kind != value:
                self.wrong(unit, expected, kind, body)
            if kind == "G" and unit.on_copy:
                await unit.on_copy()
            if not isinstance(expected, str):
                got = (wire.row(body) if kind == "D" else
                       body if kind == "d" else body[:-1].decode())
                if kind == "D" and callable(expected[1]):
                    expected[1](got)
                elif got != expected[1]:
                    self.wrong(unit, expected, kind, body)
        if self.s.status == "E" and wanted and not unit.block and wanted != ["3"]:
            raise Violation(f"it went well in a transaction that has failed: {unit.data[:300]!r}")
        if unit.then:
            unit.then()
        return None

    def wrong(self, unit, expected, kind, body):
        raise Violation(f"asked     {unit.data[:300]!r}\n  expected  {expected}\n"
                        f"  got       {wire.show(kind, body)[:1500]}")

    # ---- cancels

    async def cancel(self, pid=None, secret=None):
        """Asks, and waits until that has landed."""
        mine = pid is None
        if mine:
            pid, secret = self.key
            self.asked_cancel = self.has_canceled = True
            token = object()
            self.cancels.add(token)
        try:
            other = await wire.Wire.open(self.world.port, wire.cancel_request(pid, secret))
            landed = await other.end(30)
            other.transport.abort()
            if mine and landed:
                self.cancels.discard(token)
        except wire.Gone:
            pass  # Carpool is away; nobody knows whether it has landed

    def past_story(self, life):
        for number, history in self.past:
            if number == life:
                return "\n".join(wire.story(history))
        return "not remembered"

    def story(self):
        lines = [f"client {self.id}, connection {self.life}, step {self.step} ({self.doing}), "
                 f"database {self.place['database']}, user {self.place['user']}"]
        if self.s is not None:
            lines.append(f"  believes {self.s.status} {self.s.now()} left {self.s.left} "
                         f"statements {sorted(self.s.names)}")
        return "\n".join([*lines, *(f"  {line}" for line in self.recent),
                          *(wire.story(self.wire.history) if self.wire else [])])
