"""What must be so when all clients have left and nothing happens: nothing is left of them."""

import asyncio
import time

import allowed
import session
import wire

# A server that cannot be cleaned is closed after 30 s, and waited for 5 s more; machines are busy.
REST_S = 90
# The sanitized process keeps what was freed; what is beyond this is a leak.
GROWTH_MIB = 160
SLACK_S = 15.0  # a client may read late what it was told, where the machine is busy


class Unrest(Exception):
    """It is not as it must be."""


class Judge:
    def __init__(self, box, chaos):
        self.box, self.chaos = box, chaos
        self.at_rest_descriptors, self.first_resident = 1 << 20, {}
        self.ends, self.judged_ends, self.judged_losses = [], 0, 0
        self.entries, self.unsure = 0, 0
        self.slowest = 0.0
        self.resident = []

    async def begin(self):
        """Nobody has come yet: what it has open is what it has at rest. The least of some looks,
        since an answer of its own may still be on its way."""
        for _ in range(8):
            await self.rest(time.monotonic())
            servers = (await self.box.status())["totals"]["servers"]
            await asyncio.sleep(0.05)
            self.at_rest_descriptors = min(self.at_rest_descriptors,
                                           self.box.descriptors() - servers)

    async def rest(self, everybody_left_at):
        """Waits for it, for a bounded time; then looks at everything."""
        deadline = everybody_left_at + REST_S
        while True:
            why = await self.why_no_rest()
            if not why:
                break
            if time.monotonic() > deadline:
                raise Unrest(f"{REST_S} s after the last client has left:\n  {why}")
            await asyncio.sleep(0.1)
        self.slowest = max(self.slowest, time.monotonic() - everybody_left_at)
        await self.look_into_servers()
        self.memory()

    async def why_no_rest(self):
        """One thing that is not at rest; nothing: all is."""
        status = await self.box.status()
        clients = [c for c in status["clientList"] if c.get("database") != "pgbouncer"]
        if clients or status["clients"]["connected"]:
            return f"{status['clients']['connected']} clients: {clients[:5]}"
        for pool in status["pools"]:
            if pool["waiting"] or pool["busy"]:
                return (f"pool {pool['database']}/{pool['user']}: {pool['servers']} "
                        f"{pool['clients']}")
        servers = status["totals"]["servers"]
        busy = [s for s in status["serverList"] if s["state"] != "idle"]
        if busy:
            return f"servers that are not idle: {busy[:5]}"
        rows = await self.box.sql(
            "SELECT pid, state, wait_event, left(query, 80) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND application_name <> 'chaos'")
        bad = [r for r in rows if r[1] != "idle"]
        if bad:
            return f"backends that are not idle: {bad[:5]}"
        if len(rows) != servers:
            return f"{len(rows)} backends, and {servers} servers"
        locks = await self.box.sql(
            "SELECT pid, classid, objid FROM pg_locks WHERE locktype = 'advisory'")
        if locks:
            return f"advisory locks: {locks[:5]}"
        descriptors = self.box.descriptors() - servers
        if descriptors > self.at_rest_descriptors:
            return (f"{descriptors} descriptors beside those of {servers} servers, and "
                    f"{self.at_rest_descriptors} in the beginning")
        return ""

    async def look_into_servers(self):
        """Every idle server, through Carpool: as many clients at once as there are servers."""
        for pool in (await self.box.status())["pools"]:
            count = min(pool["servers"]["idle"], pool["size"])
            known = pool["database"] != "guest" or self.box.settings.there
            if count and known and pool["mode"] != "statement" and "?" not in pool["database"]:
                await self.look_into_pool(pool, count)

    async def look_into_pool(self, pool, count):
        lookers, holds = [], pool["database"] != "lim"
        wanted = [session.look_at(session.DEFAULTS), *"00000"]
        sql = f"SELECT {session.LOOK}, {', '.join(session.LEFT[1:])}"
        try:
            for _ in range(count):
                looker = await wire.sign_in(self.box.ports["clients"], {
                    "user": pool["user"], "database": pool["database"]})
                lookers.append(looker)
                # Its transaction keeps this server from the next; where idle ones are ended, it
                # does without.
                if holds:
                    await wire.ask(looker, "BEGIN")
                found = (await wire.ask(looker, sql))[0]
                if found != wanted:
                    raise Unrest(f"a new client of {pool['database']}/{pool['user']} sees\n"
                                 f"  {found}\n  and not\n  {wanted}")
            for looker in lookers if holds else ():
                await wire.ask(looker, "COMMIT")
        finally:
            for looker in lookers:
                looker.leave("terminate")

    def memory(self):
        now, pid = self.box.resident_mib(), self.box.carpool.pid
        first = self.first_resident.setdefault(pid, now)
        self.resident.append(now)
        if now > first + GROWTH_MIB:
            raise Unrest(f"{now} MiB are resident, and {first} at the first quiet point")

    # ---- the ledger

    async def ledger(self, told):
        """What was answered as committed is there, once; what was not is not."""
        rows = await self.box.sql("SELECT id, count(*), sum(rows) FROM ledger GROUP BY id")
        there = {name: int(count) for name, count, _ in rows}
        for name, count in there.items():
            if name not in told:
                raise Unrest(f"the ledger has {count} of {name}, which nobody has written")
        for name, (count, verdict, doing) in told.items():
            found = there.get(name, 0)
            may = {"yes": (count,), "no": (0,), "maybe": (0, count)}[verdict]
            if found not in may:
                raise Unrest(f"the ledger has {found} rows of {name} ({doing}), and its client was "
                             f"told that it has {' or '.join(map(str, may))}", name)
        self.entries += len(told)
        self.unsure += sum(verdict == "maybe" for _, verdict, _ in told.values())
        await self.box.sql("TRUNCATE ledger")

    # ---- connections that their clients have not left

    def ended(self, what):
        self.ends.append(what)

    def connections(self):
        """Each lost server ends one client at most; what else ends one has its time."""
        lost = 0
        for what in self.ends[self.judged_ends:]:
            said, at = what["said"], what["at"]
            if self.within(at, self.chaos.away):
                continue
            if said.startswith("57P01 killed"):
                if not self.within(at, self.chaos.killed):
                    raise Unrest(f"killed, and nobody was: {what}", what["client"])
            elif said.startswith("57P01 Carpool") or "no connection" in said:
                raise Unrest(f"Carpool was not away: {what}", what["client"])
            elif what["ended"] == "eof" or allowed.LOSSES.match(said):
                if not self.within(at, self.chaos.killed):
                    lost += 1
        losses = len(self.box.relay.losses) - self.judged_losses
        if lost > losses:
            said = [f"{lost} clients were told that their server was lost, and {losses} were:",
                    *self.ends[self.judged_ends:], *self.box.relay.losses[self.judged_losses:]]
            raise Unrest("\n  ".join(map(str, said)))
        self.judged_ends, self.judged_losses = len(self.ends), len(self.box.relay.losses)

    @staticmethod
    def within(at, spans):
        return any(began <= at <= ended + SLACK_S for began, ended in spans)
