"""Concurrent clients, first straight at PostgreSQL and then through Carpool: how many are served,
how many queries succeed, how long they take, and how many connections PostgreSQL has to hold.

Each client keeps its connection and asks again as soon as it has its answer; who is refused tries
again after about a second. PostgreSQL has its own default of 100 connections."""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))

from throwaway import ROOT, Carpool, Postgres, Session, free_port, wait_until  # noqa: E402

PROGRAM = pathlib.Path(os.environ.get("CARPOOL_LOAD") or ROOT / "build" / "bench" / "load")
STEPS = [10, 50, 100, 500, 5000]
POOL_SIZE = 20
ROWS = 100_000
MAX_CONNECTIONS = 100
QUERY = f"SELECT v FROM load_rows WHERE id = (SELECT (random() * {ROWS - 1})::int)"
BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'load'"
CLIENTS_SPARE = 10
FILES_SPARE = 200

CONFIG = """\
listen: {{port: {port}, clientsMax: {clients_max}}}
admin: {{address: 127.0.0.1, port: 0, controlPort: 0}}
server: {{host: 127.0.0.1, port: {postgres}, database: app}}
pool: {{size: {size}}}
log: {{level: warn, statsInterval: 0s}}
"""


def prepare(postgres):
    """A table, and a user who is no superuser: those may use the connections held in reserve."""
    postgres.psql(f"CREATE TABLE load_rows AS SELECT id, md5(id::text) v "
                  f"FROM generate_series(0, {ROWS - 1}) id;"
                  "ALTER TABLE load_rows ADD PRIMARY KEY (id); ANALYZE load_rows;"
                  "CREATE USER load; GRANT SELECT ON load_rows TO load;")


@contextlib.contextmanager
def carpool(folder, postgres, size, clients):
    """Its port. When it has gone, so have its connections to PostgreSQL."""
    port = free_port()
    config = folder / f"carpool-{port}.yaml"
    config.write_text(CONFIG.format(port=port, postgres=postgres.port, size=size,
                                    clients_max=clients + CLIENTS_SPARE))
    process = Carpool(config, port, folder / f"carpool-{port}.log")
    try:
        yield port
    finally:
        process.stop()
        wait_until(lambda: postgres.psql(BACKENDS) == "0", 60, "PostgreSQL's end of connections")


class Backends(threading.Thread):
    """The most connections of the load's user that PostgreSQL had, by its own book."""

    def __init__(self, postgres):
        super().__init__(daemon=True)
        self.session = Session(postgres)
        self.most = 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.2):
            self.most = max(self.most, int(self.session.value(BACKENDS)))

    def stop(self):
        self.done.set()
        self.join()
        self.session.close()


class Progress:
    """One line, written over on a terminal; else a line each ten seconds."""

    def __init__(self):
        self.terminal = sys.stderr.isatty()
        self.said = time.monotonic()

    def say(self, text):
        if self.terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.said >= 10:
            self.said = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def clear(self):
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def run_load(port, clients, seconds, tell=None, query=QUERY, think_ms=0.0):
    """The figures of one run; `tell` gets each line of progress."""
    command = [PROGRAM, "--port", port, "--clients", clients, "--seconds", seconds, "--user",
               "load", "--query", query, "--think-ms", think_ms]
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, command)],
                             stdout=subprocess.PIPE, text=True, start_new_session=True)
    figures = None
    try:
        for line in child.stdout:
            said = json.loads(line)
            if "progress" not in said:
                figures = said
            elif tell:
                tell(said)
    finally:
        child.kill()
        child.wait()
    if figures is None:
        raise RuntimeError("the load ended without figures")
    return figures


def measured(postgres, port, name, clients, args, progress):
    def tell(said):
        wait = {"coming": "clients come", "last answers": "the last answers"}.get(
            said["progress"], f"{said['seconds']:.0f} of {args.seconds:g} s")
        progress.say(f"{name}, {clients} clients: {wait}; {said['connected']} connected, "
                     f"{said['answered']:,} answered, {said['failed']:,} failed")

    backends = Backends(postgres)
    backends.start()
    try:
        figures = run_load(port, clients, args.seconds, tell, think_ms=args.think)
    finally:
        backends.stop()
        progress.clear()
    return figures | {"name": name, "backends": backends.most}


def percent(figures):
    total = figures["answered"] + figures["failed"]
    if not total:
        return "n/a"
    share = 100 * figures["answered"] / total
    return "100%" if not figures["failed"] else f"{min(share, 99.99):.2f}%"


def ms(value):
    return "n/a" if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


COLUMNS = [("clients", lambda f: str(f["clients"])), ("", lambda f: f["name"]),
           ("clients served", lambda f: str(f["served"])), ("queries that succeed", percent),
           ("a second", lambda f: f"{f['perSecond']:,.0f}"),
           ("mean ms", lambda f: ms(f["meanMs"])), ("p50 ms", lambda f: ms(f["p50Ms"])),
           ("p99 ms", lambda f: ms(f["p99Ms"])), ("max ms", lambda f: ms(f["maxMs"])),
           ("connections on the server", lambda f: str(f["backends"]))]


class Table:
    """Markdown whose columns stand below each other, a row as soon as it is known."""

    def __init__(self):
        self.widths = [max(len(head), 7) for head, _ in COLUMNS]
        self.row([head for head, _ in COLUMNS])
        print("|" + "|".join("---" + "-" * (width - 2) + ":" for width in self.widths) + "|")

    def row(self, cells):
        print("| " + " | ".join(c.rjust(w) for c, w in zip(cells, self.widths)) + " |", flush=True)

    def add(self, figures):
        self.row([show(figures) for _, show in COLUMNS])


def failures(rows):
    """What those who failed were told, by name and number of clients."""
    for figures in rows:
        for text, count in sorted(figures["errors"].items(), key=lambda pair: -pair[1])[:3]:
            yield f"{figures['clients']} clients, {figures['name']}: {count:,} times “{text}”"


def run(args):
    rows, progress = [], Progress()
    with tempfile.TemporaryDirectory(prefix="carpool-load-") as folder, \
            contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        postgres = Postgres(folder, tcp=True, settings={"max_connections": MAX_CONNECTIONS})
        stack.callback(postgres.stop)
        prepare(postgres)
        print(f"{args.seconds:g} s each; PostgreSQL with max_connections = {MAX_CONNECTIONS}; "
              f"Carpool with pool.size = {args.size}", flush=True)
        table = Table()
        for clients in args.clients:
            rows.append(measured(postgres, postgres.port, "direct", clients, args, progress))
            table.add(rows[-1])
            with carpool(folder, postgres, args.size, clients) as port:
                rows.append(measured(postgres, port, "Carpool", clients, args, progress))
            table.add(rows[-1])
    for line in failures(rows):
        print(line)
    return rows


def holds(rows, size):
    """What --check asks: that Carpool serves all, and PostgreSQL holds no more than the pool."""
    ours = [figures for figures in rows if figures["name"] == "Carpool"]
    bad = [figures for figures in ours if figures["failed"] or not figures["answered"] or
           figures["served"] < figures["clients"] or not 0 < figures["backends"] <= size]
    # And that the load itself sees a refusal where there has to be one.
    bad += [figures for figures in rows if figures["name"] == "direct" and
            (figures["failed"] > 0) != (figures["clients"] > MAX_CONNECTIONS)]
    for figures in bad:
        print(f"does not hold: {figures}", file=sys.stderr)
    return not bad


def main():
    parser = argparse.ArgumentParser(prog="./dev load", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=STEPS, metavar="N",
                        help="how many at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of each step (%(default)s)")
    parser.add_argument("--size", type=int, default=POOL_SIZE, help="pool.size (%(default)s)")
    parser.add_argument("--think", type=float, default=0, metavar="MS",
                        help="what a client does between two queries (%(default)s)")
    parser.add_argument("--check", action="store_true",
                        help="fail unless Carpool serves all of them")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = max(args.clients) + args.size + FILES_SPARE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"load: {max(args.clients)} clients need {wanted} open files, the hard limit "
                 f"(ulimit -Hn) is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        rows = run(args)
    except KeyboardInterrupt:
        return 130
    return 0 if not args.check or holds(rows, args.size) else 1


if __name__ == "__main__":
    sys.exit(main())
