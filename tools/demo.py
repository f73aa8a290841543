"""A throwaway PostgreSQL and Carpool before it, its configuration mounted as the kubelet mounts a
ConfigMap. Runs until Ctrl-C and leaves nothing behind; --check proves the promise by itself."""

import argparse
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

from throwaway import (LOOPBACK, ROOT, Carpool, ConfigMapVolume, Postgres, Session, admin_json,
                       admin_pool, free_port)

HOME = ROOT / "build" / "demo"
SIZE = 4
SECONDS_TO_FORCE = 1.0  # from the swap of ..data to the new size in force

CONFIG = """\
# Mounted as a ConfigMap would be. `build/demo/resize N` changes pool.size as the kubelet would.
listen: {{port: {port}, clientsMax: 200}}
admin:  {{port: {admin_port}, controlPort: {control_port}}}
server: {{host: "{host}", port: {server_port}, user: app}}
pool:
  size: {size}
  acquireTimeout: 10s
"""

RESIZE = """\
#!/bin/sh
# Usage: resize N. Swaps the ..data symlink to a configuration with pool.size N.
exec /usr/bin/python3 '{demo}' --resize "${{1:?how many servers?}}" --admin-port {admin_port}
"""


class Demo:
    """Everything that runs; leaving ends it in the order of a pod and removes the folder."""

    def __enter__(self):
        self.lock = os.open(HOME.parent, os.O_RDONLY)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("demo: one is running already")
        shutil.rmtree(HOME, ignore_errors=True)
        HOME.mkdir()
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, HOME, ignore_errors=True)
            self.postgres = Postgres(HOME, port=5432)
            stack.callback(self.postgres.stop)
            self.port, self.admin_port = free_port(6432), free_port(9930)
            self.control_port = free_port(9931)
            self.volume = ConfigMapVolume(HOME / "config")
            self.resize(SIZE)
            self.carpool = Carpool(self.volume.folder / "carpool.yaml", self.port,
                                   HOME / "carpool.log")
            stack.callback(self.carpool.stop)
            script = HOME / "resize"
            script.write_text(RESIZE.format(demo=pathlib.Path(__file__).resolve(),
                                            admin_port=self.admin_port))
            script.chmod(0o755)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave something behind
        self.stack.close()
        os.close(self.lock)

    def resize(self, size):
        """Returns the moment of the swap."""
        return self.volume.write({"carpool.yaml": CONFIG.format(
            size=size, host=self.postgres.folder, server_port=self.postgres.port, port=self.port,
            admin_port=self.admin_port, control_port=self.control_port)})


def seconds_until_in_force(admin_port, size, committed, seconds_max=5):
    """None when it took longer than `seconds_max`."""
    while time.monotonic() < committed + seconds_max:
        pool = admin_pool(admin_port)
        if pool and pool["size"] == size:
            return time.monotonic() - committed
        time.sleep(0.005)
    return None


def resize(size, admin_port):
    """What build/demo/resize does: the kubelet's swap, and then what became of it."""
    volume = ConfigMapVolume(HOME / "config")
    text = (volume.folder / "carpool.yaml").read_text()
    before = admin_json(admin_port, "/config")["reloads"]
    volume.write({"carpool.yaml": re.sub(r"(?m)^  size: .*$", f"  size: {size}", text)})
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        config = admin_json(admin_port, "/config")
        if config["reloads"] != before:
            break
        time.sleep(0.02)
    print(f"{config['lastResult']}: pool.size {size}", *config["errors"], sep="\n  ")
    return 0 if config["lastResult"] == "applied" else 1


class Observer(threading.Thread):
    """Counts Carpool's backends ten times a second, as PostgreSQL itself sees them."""

    def __init__(self, postgres):
        super().__init__(daemon=True)
        self.session = Session(postgres)
        self.samples = []  # (time.monotonic, backends)
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.1):
            count = self.session.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app'")
            self.samples.append((time.monotonic(), int(count)))

    def most(self, since):
        return max((count for moment, count in self.samples if moment >= since), default=0)

    def stop(self):
        self.done.set()
        self.join()
        self.session.close()


class Report:
    """The table of what happened."""

    def __init__(self):
        self.rows, self.held = [("what", "wanted", "got", "held")], True

    def add(self, what, wanted, got, held):
        self.rows.append((what, str(wanted), str(got), "yes" if held else "NO"))
        self.held = self.held and held

    def equal(self, what, wanted, got):
        self.add(what, wanted, got, wanted == got)

    def print(self):
        widths = [max(map(len, column)) for column in zip(*self.rows)]
        for row in self.rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def start_load(demo, seconds, clients):
    """pgbench's own banking transaction: seven statements each, so that a cut one would be seen."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "pgbench", "-n", "-h", LOOPBACK, "-p", str(demo.port),
         "-U", "app", "-c", str(clients), "-j", "2", "-T", str(seconds), "app"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def check_resize(demo, report, observer, name, size):
    committed = demo.resize(size)
    took = seconds_until_in_force(demo.admin_port, size, committed)
    report.add(f"{name} to {size}: from the ..data swap to in force", f"< {SECONDS_TO_FORCE} s",
               "never" if took is None else f"{took:.3f} s",
               took is not None and took < SECONDS_TO_FORCE)
    time.sleep(2.5)
    # A shrunk pool lets leased servers finish: a second is plenty for the load's transactions.
    report.equal("  backends in pg_stat_activity after a second", size,
                 observer.most(committed + 1))


def check_rejected(demo, report, size):
    demo.resize(-1)
    time.sleep(1)
    config = admin_json(demo.admin_port, "/config")
    report.equal("a broken configuration, size: -1", "rejected", config["lastResult"])
    why = "; ".join(config["errors"])
    report.add("  and /config says why", "pool.size", why[:60], "pool.size" in why)
    report.equal("  and the old one stays", size, admin_pool(demo.admin_port)["size"])


def check_load(demo, report, load):
    output = load.communicate()[0]
    done = int((re.search(r"actually processed: (\d+)", output) or [0, 0])[1])
    failed = (re.search(r"failed transactions: (\d+)", output) or [0, "unknown"])[1]
    report.add("transactions under load", "> 1000", done, done > 1000)
    report.equal("  of them failed, by pgbench", "0", failed)
    report.equal("  pgbench's exit code", 0, load.returncode)
    report.equal("  on PostgreSQL's books", str(done),
                 demo.postgres.psql("SELECT count(*) FROM pgbench_history"))
    if load.returncode != 0:
        print(output)


def check(demo):
    clients, grown, shrunk = 32, 12, 3
    subprocess.run(["pgbench", "-i", "-q", "-s", "10", "-h", demo.postgres.folder,
                    "-p", str(demo.postgres.port), "-U", "app", "app"],
                   check=True, stderr=subprocess.DEVNULL)
    report, observer = Report(), Observer(demo.postgres)
    observer.start()
    print(f"{clients} clients on a pool of {SIZE}, resized to {grown} and to {shrunk} under load:"
          " 12 seconds", flush=True)
    started = time.monotonic()
    load = start_load(demo, 12, clients)
    time.sleep(3)
    report.equal(f"backends with a pool of {SIZE}", SIZE, observer.most(started))
    check_resize(demo, report, observer, "grow", grown)
    check_resize(demo, report, observer, "shrink", shrunk)
    check_rejected(demo, report, shrunk)
    check_load(demo, report, load)
    report.equal("backends ever", grown, observer.most(started))
    observer.stop()
    report.equal("exit code on SIGTERM", 0, demo.carpool.stop())
    report.print()
    if not report.held:
        print(demo.carpool.log.read_text()[-4000:])
    return 0 if report.held else 1


def serve(demo):
    print(f"""
PostgreSQL and Carpool are running; Ctrl-C ends both and leaves nothing behind.

  connect   psql -h {LOOPBACK} -p {demo.port} -U app app
  status    http://{LOOPBACK}:{demo.admin_port}/
  resize    build/demo/resize 10        (the pool's size is {SIZE} now)
  load      export PGHOST={LOOPBACK} PGPORT={demo.port} PGUSER=app PGDATABASE=app
            pgbench -i && pgbench -c 32 -T 60
  log       tail -f build/demo/carpool.log
""", flush=True)
    while demo.carpool.running() and demo.postgres.process.running():
        time.sleep(0.2)
    print(demo.carpool.log.read_text()[-2000:], file=sys.stderr)
    return 1


def main():
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("--check", action="store_true",
                        help="prove it: load, a grow, a shrink, a broken file")
    parser.add_argument("--resize", help=argparse.SUPPRESS)
    parser.add_argument("--admin-port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.resize:
        return resize(args.resize, args.admin_port)

    def interrupted(*_):
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        with Demo() as demo:
            return check(demo) if args.check else serve(demo)
    except KeyboardInterrupt:
        return 0 if not args.check else 130


if __name__ == "__main__":
    sys.exit(main())
