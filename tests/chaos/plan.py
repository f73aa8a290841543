"""What happens to Carpool and PostgreSQL, and when: drawn from the seed alone, so that the same
seed makes the same plan. What it meets depends on timing."""

import asyncio
import dataclasses
import random
import signal

QUIET_EVERY_S = 25
# In the mean; what is heavy takes its time besides.
PAUSE_S = 0.7

# (name, weight)
EVENTS = (
    ("terminate", 10), ("stop_backends", 8), ("kill_backend", 0.7), ("restart_fast", 0.5),
    ("restart_immediate", 0.4), ("reset", 7), ("end", 3), ("hold", 6), ("tear", 5), ("refuse", 2),
    ("reload", 10), ("reconnect", 3), ("pause", 3), ("kill_database", 1), ("freeze", 1.5),
    ("restart_carpool", 0.6), ("look", 4),
)
# These are waited for: nothing else happens meanwhile.
ALONE = ("kill_backend", "restart_fast", "restart_immediate", "restart_carpool", "reload")
# Each happens in a minute, whatever is drawn.
SURELY = ("restart_carpool", "kill_backend", "restart_fast", "restart_immediate", "kill_database")


@dataclasses.dataclass
class Event:
    at: float
    name: str
    seed: int


def draw(seed, seconds):
    r = random.Random(f"{seed}/plan")
    names, weights = zip(*EVENTS)
    at, quiet, events = 1.0, QUIET_EVERY_S, []
    while at < seconds:
        if at > quiet:
            events.append(Event(at, "quiet", r.getrandbits(32)))
            quiet += QUIET_EVERY_S
        events.append(Event(at, r.choices(names, weights)[0], r.getrandbits(32)))
        at += min(r.expovariate(1 / PAUSE_S), 4)
    for number in range(int(seconds // 60) * len(SURELY)):
        minute, name = divmod(number, len(SURELY))
        events.append(Event(60 * minute + r.uniform(2, 58), SURELY[name], r.getrandbits(32)))
    return sorted(events, key=lambda event: event.at)


class Chaos:
    """Carries events out. `away`: the spans in which Carpool was ended, `killed`: those of KILL."""

    def __init__(self, box, clock):
        self.box, self.clock = box, clock
        self.away, self.killed = [], []
        self.exits = []

    async def __call__(self, event):
        """Returns what it has done, for people."""
        return await getattr(self, event.name)(random.Random(event.seed))

    async def terminate(self, r):
        pids = [pid for pid in self.box.backends() if r.random() < r.choice((0.1, 0.3))]
        for pid in pids:
            self.box.signal_backend(pid, signal.SIGTERM)
        return f"backends {pids}"

    async def stop_backends(self, r):
        pids = [pid for pid in self.box.backends() if r.random() < r.choice((0.1, 0.4))]
        seconds = r.uniform(0.1, 3)
        for pid in pids:
            self.box.signal_backend(pid, signal.SIGSTOP)
        self.box.stopped |= set(pids)
        await asyncio.sleep(seconds)
        for pid in pids:
            self.box.signal_backend(pid, signal.SIGCONT)
        self.box.stopped -= set(pids)
        return f"backends {pids} for {seconds:.1f} s"

    async def kill_backend(self, r):
        pids = self.box.backends()
        if not pids:
            return "nobody"
        pid = r.choice(pids)
        self.box.signal_backend(pid, signal.SIGKILL)
        await asyncio.sleep(1)
        return f"backend {pid}"

    async def restart_fast(self, r):
        await asyncio.sleep(r.random())
        await self.box.restart_postgres(signal.SIGINT)
        return ""

    async def restart_immediate(self, r):
        await asyncio.sleep(r.random())
        await self.box.restart_postgres(signal.SIGQUIT)
        return ""

    async def reset(self, r):
        share = r.choice((0.1, 0.3, 1))
        self.box.relay.reset(r, share)
        return f"{share} of the servers"

    async def end(self, r):
        share = r.choice((0.1, 0.3, 1))
        self.box.relay.end(r, share)
        return f"{share} of the servers"

    async def hold(self, r):
        share, seconds = r.choice((0.2, 0.5, 1)), r.uniform(0.1, 3)
        await self.box.relay.hold(r, share, seconds)
        return f"{share} of the servers for {seconds:.1f} s"

    async def tear(self, r):
        share, seconds = r.choice((0.3, 1)), r.uniform(1, 4)
        await self.box.relay.tear(r.random(), share, seconds)
        return f"{share} of the servers for {seconds:.1f} s"

    async def refuse(self, r):
        await self.box.relay.refuse(r.uniform(0.2, 1.5))
        return ""

    async def reload(self, r):
        said = self.box.settings.change(r)
        self.box.reload()
        await asyncio.sleep(r.choice((0, 0.1, 0.5)))
        return said

    async def reconnect(self, r):
        return await self.at_console("RECONNECT" + r.choice(("", " tx", " ses", " flip")))

    async def pause(self, r):
        name = r.choice(("", " tx", " ses", " st", " lim"))
        # A PAUSE answers when all servers are gone: it is asked beside its RESUME.
        paused = asyncio.create_task(self.at_console("PAUSE" + name))
        await asyncio.sleep(r.uniform(0.2, 2))
        said = await self.at_console("RESUME" + name)
        return f"{await paused}; {said}"

    async def kill_database(self, r):
        name = r.choice(("tx", "ses", "st", "flip", "lim"))
        began = self.clock()
        said = await self.at_console(f"KILL {name}")
        self.killed.append((began, self.clock()))
        await asyncio.sleep(r.random())
        return f"{said}; {await self.at_console(f'RESUME {name}')}"

    async def look(self, r):
        """Whoever watches it harms nobody."""
        what = r.choice(("POOLS", "CLIENTS", "SERVERS", "STATS", "DATABASES", "LISTS", "CONFIG"))
        return await self.at_console(f"SHOW {what}")

    async def at_console(self, command):
        """What is refused (RESUME of what is not paused) is nothing."""
        try:
            async with asyncio.timeout(20):
                await self.box.console(command)
        except RuntimeError as error:
            return str(error)
        except Exception as error:  # Carpool is away, or frozen
            return f"{command}: {type(error).__name__} {error}"
        return command

    async def freeze(self, r):
        seconds = r.uniform(0.3, 4)
        self.box.carpool.child.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self.box.carpool.child.send_signal(signal.SIGCONT)
        return f"Carpool for {seconds:.1f} s"

    async def restart_carpool(self, _):
        began = self.clock()
        self.away.append((began, float("inf")))
        code = await self.box.stop_carpool(60)
        self.exits.append(code)
        await self.box.start_carpool()
        self.away[-1] = (began, self.clock())
        return f"it ended with {code}"
