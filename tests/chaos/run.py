#!/usr/bin/env python3
"""Clients that know what they must get, through Carpool, while everything around them breaks.

Each has a session of its own and checks every answer: that it is of its request, and in order; its
settings; what it has left on its server. Meanwhile backends are ended, stopped and killed,
PostgreSQL and Carpool are restarted, connections reset, cut and torn to pieces, configurations
reloaded, pools paused. Now and then all clients leave: then nothing may be left of them, and a
ledger says whether all that was answered as committed is there, once, and nothing else.

The same seed makes the same plan and the same clients; what they meet depends on timing. The first
violation is told with what its client and its servers have sent and got, and ends it, with 1."""

import argparse
import asyncio
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

import box as boxes  # noqa: E402
import judge as judges  # noqa: E402
import plan as plans  # noqa: E402

PROCESSES = 2
HOME_BYTES = 1 << 30
STOP_S = 240  # all clients, from `stop`: each ends what it does


class Found(Exception):
    """A violation: what, and whose."""

    def __init__(self, what, client=None, story=""):
        super().__init__(what)
        self.what, self.client, self.story = what, client, story


class Workers:
    """The processes that the clients live in."""

    def __init__(self, judge):
        self.judge, self.processes, self.readers = judge, [], []
        self.stopped = asyncio.Queue()
        self.found = asyncio.get_running_loop().create_future()
        self.done, self.errors = collections.Counter(), collections.Counter()
        self.stories = {}

    async def start(self, port, seed, count, pace):
        places = [boxes.PLACES[n * 37 % len(boxes.PLACES)] for n in range(count)]
        places = [{"kind": kind, "database": database, "user": user, "index": n}
                  for n, (kind, database, user) in enumerate(places)]
        for n in range(PROCESSES):
            process = await asyncio.create_subprocess_exec(
                sys.executable, HERE / "clients.py", stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, limit=1 << 26, start_new_session=True)
            self.processes.append(process)
            told = {"port": port, "seed": seed, "pace": pace, "places": places[n::PROCESSES]}
            process.stdin.write(json.dumps(told).encode() + b"\n")
            self.readers.append(asyncio.create_task(self.listen(process)))

    async def listen(self, process):
        while line := await process.stdout.readline():
            said = json.loads(line)
            if "stopped" in said:
                self.done.update(said["done"])
                self.errors.update(said["errors"])
                self.stopped.put_nowait(said["ledger"])
            elif "ended" in said:
                self.judge.ended(said)
            elif "stories" in said:
                self.stories |= said["stories"]
            elif not self.found.done():
                self.found.set_result(Found(said["violation"], said["client"], said["story"]))
        if not self.found.done():
            self.found.set_result(Found("the clients' process has ended"))

    def tell(self, word):
        for process in self.processes:
            process.stdin.write(word.encode() + b"\n")

    async def stop(self):
        """All clients leave: the ledger's entries since the last time."""
        self.tell("stop")
        told = {}
        try:
            async with asyncio.timeout(STOP_S):
                for _ in self.processes:
                    told |= await self.stopped.get()
        except TimeoutError:
            self.tell("stories")
            await asyncio.sleep(1)
            raise Found("clients do not come to an end", None,
                        "\n\n".join(list(self.stories.values())[:5])) from None
        return told

    async def story(self, tag):
        """Of the connection in which a client has used this tag."""
        name, life, *_ = [*tag.split("."), "0"]
        self.tell(f"story {name} {life}")
        await asyncio.sleep(0.5)
        return "\n".join(self.stories.values())

    def kill(self):
        for process in self.processes:
            if process.returncode is None:
                process.kill()


class Run:
    def __init__(self, args, folder):
        self.args = args
        self.box = boxes.Box(folder, args.carpool)
        self.chaos = plans.Chaos(self.box, time.monotonic)
        self.judge = judges.Judge(self.box, self.chaos)
        self.tasks, self.recent = set(), collections.deque(maxlen=25)
        self.workers = None
        self.counts = collections.Counter()
        self.quiet_points = 0

    def say(self, text):
        if self.args.verbose:
            print(f"chaos: {text}", flush=True)

    async def go(self):
        await self.box.start()
        self.workers = Workers(self.judge)
        await self.judge.begin()
        await self.workers.start(self.box.ports["clients"], self.args.seed, self.args.clients,
                                 self.args.pace)
        self.workers.tell("go")
        began, quiet_s = time.monotonic(), 0.0
        for event in plans.draw(self.args.seed, self.args.seconds):
            await self.watch(asyncio.sleep(max(0, began + quiet_s + event.at - time.monotonic())))
            if event.name == "quiet":
                since = time.monotonic()
                await self.watch(self.quiet())
                self.workers.tell("go")
                quiet_s += time.monotonic() - since
            elif event.name in plans.ALONE:
                await self.watch(self.settle())
                await self.watch(self.carry_out(event))
            else:
                task = asyncio.create_task(self.carry_out(event))
                self.tasks.add(task)
                task.add_done_callback(self.carried_out)
        end = began + quiet_s + self.args.seconds
        await self.watch(asyncio.sleep(max(0, end - time.monotonic())))
        await self.watch(self.quiet())
        code = await self.box.stop_carpool(60)
        if code != 0:
            raise Found(f"Carpool was idle, and SIGTERM ended it with {code}\n{self.box.log_end()}")
        if complaints := self.box.complaints():
            raise Found(complaints)

    async def carry_out(self, event):
        at = time.monotonic()
        self.counts[event.name] += 1
        self.recent.append(f"  {at:.3f} {event.name} begins")
        said = await self.chaos(event)
        self.recent.append(f"  {time.monotonic():.3f} {event.name}: {said}")
        self.say(f"{event.at:7.1f} {event.name}: {said}")
        for code in self.chaos.exits:
            if code not in (0, 3):
                raise Found(f"Carpool has ended with {code}")

    def carried_out(self, task):
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() and not self.workers.found.done():
            error = task.exception()
            said = "".join(traceback.format_exception(error))
            self.workers.found.set_result(error if isinstance(error, Found) else Found(said))

    async def settle(self):
        """What goes on has come to its end."""
        while self.tasks:
            await asyncio.wait(set(self.tasks))

    async def watch(self, doing):
        """Unless a client has found something, or Carpool has died."""
        task = asyncio.ensure_future(doing)
        while not task.done():
            await asyncio.wait({task, self.workers.found}, timeout=0.5,
                               return_when=asyncio.FIRST_COMPLETED)
            away = any(ended == float("inf") for _, ended in self.chaos.away)
            died = not away and not self.box.carpool.running()
            if self.workers.found.done() or died:
                task.cancel()
                await asyncio.sleep(0.2)  # what its servers have said meanwhile
                if self.workers.found.done():
                    raise self.workers.found.result()
                raise Found(f"Carpool has ended with {self.box.carpool.child.returncode}\n" +
                            (self.box.complaints() or self.box.log_end()))
        task.result()

    async def quiet(self):
        await self.settle()
        await self.chaos.at_console("RESUME")
        told = await self.workers.stop()
        left_at = time.monotonic()
        if not any(verdict == "yes" for _, verdict, _ in told.values()):
            raise Found("the clients have committed nothing since the last quiet point")
        try:
            await self.judge.rest(left_at)
            self.judge.connections()
            await self.judge.ledger(told)
        except judges.Unrest as unrest:
            what, *of = unrest.args
            story = await self.workers.story(*of) if of else ""
            raise Found(what, *of, story) if of else Found(what) from None
        if complaints := self.box.complaints():
            raise Found(complaints)
        self.quiet_points += 1
        self.say(f"quiet after {time.monotonic() - left_at:.1f} s: {len(told)} entries, "
                 f"{self.judge.resident[-1]} MiB, {self.box.descriptors()} descriptors")

    def report(self, found):
        print(f"\nchaos: VIOLATION, with {self.args.seconds} --seed {self.args.seed}",
              found.what, "", found.story, sep="\n")
        if found.client:
            tag = found.client if "." in found.client else found.client + "."
            for story in self.box.relay.stories(tag):
                print("\n" + story)
        print("\nwhat was done to them:", *self.recent, sep="\n")
        print("\nCarpool's log:\n" + self.box.log_end())
        if self.box.complaints():
            print("\nand:\n" + self.box.complaints())
        if self.args.keep:
            self.args.keep.mkdir(parents=True, exist_ok=True)
            (self.args.keep / "carpool.log").write_bytes(self.box.log.read_bytes())
            (self.args.keep / "postgres.log").write_bytes(self.box.postgres.log.read_bytes())

    def summary(self):
        judge, relay = self.judge, self.box.relay
        for what, counts in (("done to them", self.counts), ("clients did", self.workers.done),
                             ("clients heard", self.workers.errors)):
            print(f"chaos: {what}:", ", ".join(f"{name} {n}" for name, n in counts.most_common()))
        print(f"chaos: {self.quiet_points} quiet points, at rest after {judge.slowest:.1f} s at "
              f"most; {judge.entries} entries of the ledger judged, {judge.unsure} of them cut off "
              f"in their COMMIT; {relay.opened} connections to PostgreSQL, {len(relay.losses)} "
              f"lost; resident {judge.resident[0]} to {max(judge.resident)} MiB; Carpool's exit "
              f"codes {self.chaos.exits} and 0")


def home():
    """In memory, where there is room: PostgreSQL is wanted, and not its disk."""
    memory = pathlib.Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > HOME_BYTES:
        return memory
    return None


async def run(args):
    with tempfile.TemporaryDirectory(prefix="carpool-chaos-", dir=home()) as folder:
        os.chmod(folder, 0o755)
        it = Run(args, folder)
        try:
            await it.go()
            it.summary()
            print(f"chaos: no violation in {args.seconds} s (--seed {args.seed})")
            return 0
        except Found as found:
            it.report(found)
            return 1
        finally:
            if it.workers:
                it.workers.kill()
            it.box.stop()


def main():
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=int, nargs="?", default=60, help="60 where it is not given")
    parser.add_argument("--seed", type=int, default=None, help="a number; by default a new one")
    parser.add_argument("--carpool", type=pathlib.Path,
                        default=os.environ.get("CARPOOL") or ROOT / "build-asan" / "carpool",
                        help="another binary than build-asan/carpool")
    parser.add_argument("--postgresql", metavar="VERSION",
                        help="14 to 18, whatever is installed (tools/postgresql.py)")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--pace", type=float, default=0.35,
                        help="seconds that a client rests between two steps, in the mean")
    parser.add_argument("--plan", action="store_true", help="prints what would be done, and when")
    parser.add_argument("--verbose", action="store_true", help="says what is done")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the logs of a violation")
    args = parser.parse_args()
    if args.postgresql:
        os.environ["POSTGRES_BIN_DIR"] = subprocess.check_output(
            [sys.executable, ROOT / "tools" / "postgresql.py", args.postgresql], text=True).strip()
    if args.seed is None:
        args.seed = random.randrange(1 << 31)
    if args.plan:
        for event in plans.draw(args.seed, args.seconds):
            print(f"{event.at:8.2f} {event.name} {event.seed}")
        return 0
    print(f"chaos: {args.clients} clients for {args.seconds} s, --seed {args.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return asyncio.run(run(args))


if __name__ == "__main__":
    sys.exit(main())
