"""Carpool beside PgBouncer, a bare relay, HAProxy as a plain TCP relay, and no pooler at all,
before the same PostgreSQL in interleaved rounds. Prints medians and ratios, and which targets are
met."""

import argparse
import contextlib
import os
import pathlib
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))

from contenders import ALL, POOL_SIZE, Carpool, PgBouncer  # noqa: E402
from rows import ROWS, Failed  # noqa: E402
from throwaway import LOOPBACK, ROOT, Postgres  # noqa: E402

HOME = ROOT / "build" / "bench"
FILES_MIN = 10_000

# (row, metric, ratio to PgBouncer, or to our own of another row, or absolute, at least or at most,
# bound, words)
TARGETS = [
    ("simple", "cpu", "ratio", "at most", 0.85, "CPU against PgBouncer, 32 clients"),
    ("one", "cpu", "ratio", "at most", 0.80, "CPU against PgBouncer, 1 client"),
    ("thousand", "cpu", "ratio", "at most", 0.80, "CPU against PgBouncer, 1000 clients"),
    ("prepared", "cpu", "ratio", "at most", 0.85, "CPU against PgBouncer 1.21 or newer, prepared"),
    ("prepared", "cpu", "simple", "at most", 1.10, "CPU, prepared against our own simple"),
    ("simple", "tps", "ratio", "at least", 1.05, "transactions/s against PgBouncer, 32 clients"),
    ("one", "tps", "ratio", "at least", 1.10, "transactions/s against PgBouncer, 1 client"),
    ("thousand", "tps", "ratio", "at least", 1.15, "transactions/s against PgBouncer, 1000"),
    ("connect", "tps", "ratio", "at least", 1.0, "a connection per transaction against PgBouncer"),
    ("copy", "cpu_gb", "ratio", "at most", 0.75, "COPY out, CPU per GB against PgBouncer"),
    ("idle", "pss_each", "absolute", "at most", 1024, "memory for an idle client, bytes of PSS"),
    ("idle", "pss_small", "absolute", "at most", 8, "memory with 200 idle clients, MiB"),
    ("accounts", "p99", "absolute", "at most", 50, "100 clients, pgbench -S, p99 in ms"),
    ("start", "start", "absolute", "at most", 50, "exec to listening with PostgreSQL down, ms"),
]


def number(value):
    if value is None:
        return "n/a"
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2
    return f"{value:,.{digits}f}"


class Results:
    """Every figure of every round: (row, metric, contender) -> [values in the order of rounds]."""

    def __init__(self):
        self.values = {}
        self.failed = set()  # (row, contender)

    def add(self, row, contender, figures):
        for metric in ROWS[row].metrics:
            self.values.setdefault((row, metric, contender), []).append(figures.get(metric))

    def median(self, row, metric, contender):
        values = [v for v in self.values.get((row, metric, contender), []) if v is not None]
        return statistics.median(values) if values else None

    def ratio(self, row, metric, to=None):
        """To PgBouncer's, or to our own of the row `to`. Of the same round each, so that the
        machine's slow moments cancel out; their median."""
        other = (to, metric, Carpool.name) if to else (row, metric, PgBouncer.name)
        pairs = zip(self.values.get((row, metric, Carpool.name), []), self.values.get(other, []))
        ratios = [a / b for a, b in pairs if a is not None and b]
        return statistics.median(ratios) if ratios else None

    def table(self, rows):
        names = [contender.name for contender in ALL]
        yield f"| | | {' | '.join(names)} | {names[0]} / {names[1]} |"
        yield "|---|---|" + "---:|" * (len(names) + 1)
        for row in rows:
            for metric, words in ROWS[row].metrics.items():
                first = metric == next(iter(ROWS[row].metrics))
                cells = ["fails" if (row, name) in self.failed
                         else number(self.median(row, metric, name)) for name in names]
                yield (f"| {ROWS[row].title if first else ''} | {words} | {' | '.join(cells)} "
                       f"| {number(self.ratio(row, metric))} |")

    def targets(self, rows):
        yield "| target | bound | measured | met |"
        yield "|---|---|---:|---|"
        for row, metric, kind, side, bound, words in TARGETS:
            if row not in rows:
                continue
            if kind == "absolute":
                value = self.median(row, metric, Carpool.name)
            else:
                value = self.ratio(row, metric, to=None if kind == "ratio" else kind)
            met = value is not None and (value <= bound if side == "at most" else value >= bound)
            yield f"| {words} | {side} {bound} | {number(value)} | {'yes' if met else 'no'} |"


def machine():
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}, {memory:.0f} GiB, "
            f"Linux {platform.release()}")


def write_results(path, args, results, rows):
    versions = ", ".join(f"{contender.product} {contender.version()}" for contender in ALL)
    command = " ".join(["./dev bench", *args.words])
    lines = [
        "# Side by side", "",
        f"- machine: {machine()}; clients, poolers and PostgreSQL share it",
        f"- versions: {versions}",
        f"- command: `{command}`, {time.strftime('%Y-%m-%d')}: medians of {args.rounds} "
        f"interleaved rounds of {args.seconds} s",
        f"- pool of {POOL_SIZE}, transaction mode, TCP on loopback, trust, no TLS, log lines off, "
        "fsync off; HAProxy is a plain TCP relay on one thread, and the floor is the least that a "
        "relay of transactions can do (bench/floor.cpp)",
        "- CPU is the pooler's own process, user and system, from /proc; ratios are medians of "
        "each round's own ratio", "",
        *results.table(rows), "", "## Targets", "", *results.targets(rows), ""]
    path.write_text("\n".join(lines))


def run(args, rows):
    results = Results()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, HOME, ignore_errors=True)
        postgres = Postgres(HOME, tcp=True, settings={
            "max_connections": 1200, "shared_buffers": "256MB", "autovacuum": "off", "jit": "off"})
        stack.callback(postgres.stop)
        # What the contenders read lies beside PostgreSQL's data: its user can go there.
        folder = postgres.folder / "contenders"
        folder.mkdir()
        contenders = [contender(folder, postgres.port) for contender in ALL]
        for contender in contenders:
            contender.start()
            stack.callback(contender.stop)
        if "accounts" in rows:
            subprocess.run(["pgbench", "-i", "-q", "-s", "10", "-h", LOOPBACK, "-p",
                            str(postgres.port), "-U", "app", "app"], check=True,
                           stderr=subprocess.DEVNULL)
        for round_number in range(args.rounds):
            for row in rows:
                turn = round_number % len(contenders)
                for contender in contenders[turn:] + contenders[:turn]:
                    try:
                        figures = ROWS[row].measure(contender, args.seconds)
                        told = ", ".join(f"{key} {number(value)}" for key, value in figures.items())
                    except Failed as error:
                        results.failed.add((row, contender.name))
                        figures, told = {}, f"fails: {error}"
                    results.add(row, contender.name, figures)
                    print(f"{round_number + 1}/{args.rounds} {row:9} {contender.name:9} {told}",
                          flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of 2 s, nothing written")
    parser.add_argument("--rows", default=",".join(ROWS), help="of: %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6, help="of each pgbench run")
    parser.add_argument("--pgbouncer", default=PgBouncer.binary,
                        help="the PgBouncer to measure (default: Debian's)")
    parser.add_argument("--output", type=pathlib.Path,
                        help="default: bench/RESULTS.md, when all rows ran")
    args = parser.parse_args()
    args.words = sys.argv[1:]
    if args.quick:
        args.rounds, args.seconds = 1, 2
    PgBouncer.binary = args.pgbouncer
    rows = args.rows.split(",")
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < FILES_MIN:
        sys.exit(f"bench: needs {FILES_MIN} open files, the hard limit (ulimit -Hn) is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    results = run(args, rows)
    print(*results.table(rows), "", *results.targets(rows), sep="\n")
    output = args.output
    if not output and rows == list(ROWS) and not args.quick:
        output = ROOT / "bench" / "RESULTS.md"
    if output:
        write_results(output, args, results, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
