#!/usr/bin/env python3
"""Some of the clients of `./dev chaos`, in a process of their own. It is told by lines on its
standard input (`go`, `stop`, `stories`), and says what came of it, a JSON object a line."""

import asyncio
import json
import sys
import traceback

import client
import works

# (what a client does, how often, for which kinds; none: for all)
ANYBODY = (
    (works.ask, 30), (works.set_something, 14), (works.write, 14), (works.pipeline, 10),
    (works.one_batch, 6), (works.mistake, 2), (works.copy_in, 3), (works.read_much, 3),
    (works.cancel, 4), (works.cancel_in_vain, 1), (works.run_into_timeout, 1.5), (works.flushed, 2),
    (works.leave_at_any_byte, 3), (works.query_and_leave, 1), (works.copy_left, 1),
    (works.stop_reading_and_leave, 0.7), (works.copy_and_more, 1), (works.forget_statements, 0.7),
)
BY_BLOCKS = (
    (works.transaction, 22), (works.look_around, 5), (works.discard_all, 1), (works.pin, 3),
)
WORKS = {
    "transaction": (*ANYBODY, *BY_BLOCKS),
    "session": (*ANYBODY, *BY_BLOCKS, (works.pin, 6)),
    "guest": (*ANYBODY, *BY_BLOCKS),
    "limited": (*ANYBODY, *BY_BLOCKS, (works.long_query, 12), (works.transaction, 20)),
    "statement": (*ANYBODY, (works.refused_transaction, 1)),
    "flip": (*ANYBODY, (works.refused_transaction, 1)),
}


class Works:
    def __init__(self):
        self.tables = {kind: ([work for work, _ in table], [weight for _, weight in table])
                       for kind, table in WORKS.items()}

    def choose(self, r, c):
        # Whoever is pinned takes a server from the others: not for long.
        if c.s.pinned() and r.random() < 0.4:
            return "unpin", works.unpin
        work = r.choices(*self.tables[c.kind])[0]
        return work.__name__, work


class World:
    """What the clients of this process share."""

    def __init__(self, port, seed, places, pace):
        self.port, self.pace, self.works = port, pace, Works()
        self.going = asyncio.Event()
        self.stopping = False
        self.resting = 0
        self.ledger = {}  # id: [rows, "yes", "no" or "maybe", by what]
        self.done, self.errors = {}, {}
        self.clients = [client.Client(place["index"], place, self, seed) for place in places]

    def say(self, **what):
        print(json.dumps(what), flush=True)

    # ---- for clients

    async def may_go(self):
        if self.going.is_set():
            return
        self.resting += 1
        if self.resting == len(self.clients):
            self.say(stopped=True, ledger=self.ledger, done=self.done, errors=self.errors)
            self.ledger, self.done, self.errors = {}, {}, {}
        await self.going.wait()
        self.resting -= 1

    async def rest(self, r, mean):
        await asyncio.sleep(0 if self.stopping else min(r.expovariate(1 / mean), 10 * mean))

    def count(self, name):
        self.done[name] = self.done.get(name, 0) + 1

    def heard_error(self, what):
        self.errors[what] = self.errors.get(what, 0) + 1

    def ended(self, c, how, said):
        """A connection that its client has not left: whether that was due is asked elsewhere."""
        if how == "eof":
            self.heard_error(how)
        self.say(ended=how, client=c.id, said=said, doing=c.doing,
                 at=asyncio.get_running_loop().time())

    def ledger_cut(self, entries):
        for name, rows, doing in entries:
            self.ledger.setdefault(name, [rows, "no", doing])

    def ledger_may_be(self, entries):
        for name, rows, doing in entries:
            self.ledger[name] = [rows, "maybe", doing]

    def ledger_is(self, entries):
        for name, rows, doing in entries:
            self.ledger[name] = [rows, "yes", doing]

    def ledger_over(self, entries):
        for name, rows, doing in entries:
            self.ledger[name] = [rows, "no", doing]

    # ---- for the harness

    async def live(self, c):
        try:
            await c.run()
        except client.Violation as violation:
            self.say(violation=str(violation), client=c.id, story=c.story())
        except Exception:  # the harness's own fault, which must not look like silence
            self.say(violation="the client itself failed:\n" + traceback.format_exc(), client=c.id,
                     story=c.story())

    async def run(self, reader):
        tasks = [asyncio.create_task(self.live(c)) for c in self.clients]
        while line := (await reader.readline()).decode().strip():
            if line == "go":
                self.stopping = False
                self.going.set()
            elif line == "stop":
                self.stopping = True
                self.going.clear()
            elif line.startswith("story "):
                _, name, life = line.split()
                self.say(stories={c.id: c.past_story(int(life)) for c in self.clients
                                  if c.id == name})
            elif line == "stories":
                self.say(stories={c.id: c.story() for c in self.clients if c.doing != "nothing"})
            else:
                break
        for task in tasks:
            task.cancel()


async def main():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    told = json.loads(await reader.readline())
    await World(told["port"], told["seed"], told["places"], told["pace"]).run(reader)


if __name__ == "__main__":
    asyncio.run(main())
