"""The rows of the benchmark. A row measures one contender once and returns its figures by name;
None is a figure that does not exist there."""

import contextlib
import math
import pathlib
import re
import socket
import struct
import subprocess
import tempfile
import time

from contenders import CLIENTS_MAX
from throwaway import LOOPBACK, free_port

SELECT_1 = "SELECT 1;\n"
FOUR = "BEGIN;\nSELECT 1;\nSELECT 1;\nCOMMIT;\n"
COPY_BYTES = 400_000_000
COPY_ROW_BYTES = 100
IDLE_SMALL, IDLE_LARGE = 200, 4000
assert IDLE_LARGE <= CLIENTS_MAX


class Failed(Exception):
    """The contender could not do what the row asks."""


class Pgbench:
    """pgbench for some seconds; the poolers keep running between rounds, as they do in life."""

    metrics = {"tps": "transactions/s", "p99": "p99, ms", "cpu": "CPU, µs each"}

    def __init__(self, title, clients, script=SELECT_1, mode="simple", more=()):
        self.title, self.clients, self.script = title, clients, script
        self.mode, self.more = mode, more

    def measure(self, contender, seconds):
        if self.mode == "prepared" and not contender.prepares:
            return {}
        with tempfile.TemporaryDirectory(prefix="carpool-bench-") as folder:
            script = pathlib.Path(folder, "script.sql")
            work = list(self.more)
            if self.script:
                script.write_text(self.script)
                work += ["-f", script]
            # Latencies from a sample of the log: writing all of it would cost pgbench its speed.
            command = ["pgbench", "-n", "-h", LOOPBACK, "-p", contender.port, "-U", "app",
                       "-M", self.mode, "-c", self.clients, "-j", min(self.clients, 2),
                       "-T", seconds, "-l", "--sampling-rate=0.1", f"--log-prefix={folder}/log",
                       *work, "app"]
            before = contender.cpu_seconds()
            run = subprocess.run(list(map(str, command)), text=True, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            after = contender.cpu_seconds()
            if run.returncode != 0:
                raise Failed(run.stderr.strip().splitlines()[0])
            done = int(re.search(r"actually processed: (\d+)", run.stdout)[1])
            if not done:  # the time was up before the last of them was connected
                return {}
            tps = float(re.search(r"tps = ([\d.]+)", run.stdout)[1])
            times_us = sorted(int(line.split()[2]) for log in pathlib.Path(folder).glob("log.*")
                              for line in log.read_text().splitlines())
        p99 = times_us[math.ceil(len(times_us) * 0.99) - 1] / 1000 if times_us else None
        cpu = None if before is None else (after - before) / done * 1e6
        return {"tps": tps, "p99": p99, "cpu": cpu}


class Copy:
    """One large result, streamed to nowhere."""

    title = f"COPY out, {COPY_BYTES // 1_000_000} MB"
    metrics = {"rate": "MB/s", "cpu_gb": "CPU, s per GB"}

    def measure(self, contender, seconds):
        if not contender.whole:
            return {}
        # The set-returning function stands in the select list, so that it streams.
        sql = (f"COPY (SELECT repeat('x', {COPY_ROW_BYTES - 1}) FROM (SELECT generate_series("
               f"1, {COPY_BYTES // COPY_ROW_BYTES})) AS rows) TO STDOUT")
        before, began = contender.cpu_seconds(), time.monotonic()
        subprocess.run(["psql", "-Xq", "-h", LOOPBACK, "-p", str(contender.port), "-U", "app",
                        "-d", "app", "-c", sql], check=True, stdout=subprocess.DEVNULL)
        took, after = time.monotonic() - began, contender.cpu_seconds()
        return {"rate": COPY_BYTES / took / 1e6,
                "cpu_gb": None if before is None else (after - before) / COPY_BYTES * 1e9}


def idle_client(port):
    """Signs in, runs one query and then stays: what a connection held by a worker looks like."""
    client = socket.create_connection((LOOPBACK, port), 30)
    body = struct.pack("!I", 196608) + b"user\0app\0database\0app\0\0"
    client.sendall(struct.pack("!I", len(body) + 4) + body)
    for message in (b"SELECT 1\0", None):
        # ReadyForQuery, idle: the end of the greeting and of each answer.
        received = b""
        while not received.endswith(b"Z\0\0\0\5I"):
            part = client.recv(65536)
            if not part:
                raise ConnectionError(f"closed while signing in: {received!r}")
            received += part
        if message:
            client.sendall(b"Q" + struct.pack("!I", len(message) + 4) + message)
    return client


class Idle:
    """Memory with many clients that do nothing, from a fresh start."""

    title = f"memory, {IDLE_SMALL} and {IDLE_LARGE} idle clients"
    metrics = {"pss_small": f"PSS at {IDLE_SMALL}, MiB", "pss_each": "PSS a client, bytes"}

    def measure(self, contender, seconds):
        if contender.pss_bytes() is None or not contender.whole:
            return {}
        contender.stop()
        contender.start()
        with contextlib.ExitStack() as clients:
            def hold(count):
                for _ in range(count):
                    clients.enter_context(idle_client(contender.port))
                time.sleep(0.5)
                return contender.pss_bytes()

            hold(1)
            empty = contender.pss_bytes()
            small = hold(IDLE_SMALL - 1)
            if not contender.pools:
                return {"pss_small": small / 2**20}
            large = hold(IDLE_LARGE - IDLE_SMALL)
        return {"pss_small": small / 2**20, "pss_each": (large - empty) / (IDLE_LARGE - 1)}


class Start:
    """From exec to accepting, with PostgreSQL down."""

    title = "start, PostgreSQL down"
    metrics = {"start": "exec to listening, ms"}

    def measure(self, contender, seconds):
        if not contender.pools or not contender.whole:
            return {}
        # A folder of its own: a running Carpool watches the other, and would take this one's server.
        folder = contender.folder / "start"
        folder.mkdir(exist_ok=True)
        other = type(contender)(folder, free_port())
        try:
            return {"start": other.start() * 1000}
        finally:
            other.stop()


ROWS = {
    "simple": Pgbench("SELECT 1, 32 clients, simple", 32),
    "extended": Pgbench("SELECT 1, 32 clients, extended", 32, mode="extended"),
    "prepared": Pgbench("SELECT 1, 32 clients, prepared", 32, mode="prepared"),
    "one": Pgbench("SELECT 1, 1 client", 1),
    "thousand": Pgbench("SELECT 1, 1000 clients", 1000),
    "connect": Pgbench("a connection per transaction, 32 clients", 32, more=["-C"]),
    "four": Pgbench("BEGIN, 2 SELECT, COMMIT, 32 clients", 32, script=FOUR),
    "accounts": Pgbench("pgbench -S, 100 clients", 100, script=None, more=["-S"]),
    "copy": Copy(),
    "start": Start(),
    "idle": Idle(),  # last: the end of thousands of clients keeps the machine busy for a while
}
