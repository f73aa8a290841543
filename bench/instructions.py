"""Instructions that Carpool executes for a transaction, counted by valgrind: steadier than time, and
blind to the kernel's part.

    bench/instructions.py [--carpool PATH ...]

Each row is run twice, short and long, so that what is not of a transaction falls out.
"""

import argparse
import json
import pathlib
import re
import signal
import socket
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))

from throwaway import LOOPBACK, ROOT, Postgres, Process, accepts, free_port, wait_until  # noqa: E402

SHORT, LONG = 300, 2300
TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.M)


def message(kind, body=b""):
    return kind + struct.pack(">i", len(body) + 4) + body


def startup(more=()):
    pairs = ("user", "app", "database", "app", *more)
    body = struct.pack(">i", 196608) + b"".join(part.encode() + b"\0" for part in pairs) + b"\0"
    return struct.pack(">i", len(body) + 4) + body


SIMPLE = message(b"Q", b"select 1\0")
BIND = message(b"E", b"\0\0\0\0\0") + message(b"S")
PARSE = message(b"P", b"s\0select $1::int\0\0\0")
NAMED = message(b"B", b"\0s\0\0\0\0\1\0\0\0\0011\0\0") + BIND
UNNAMED = message(b"P", b"\0select $1::int\0\0\0") + message(b"B", b"\0\0\0\0\0\1\0\0\0\0011\0\0") + BIND
BLOCK = [message(b"Q", text + b"\0") for text in (
    b"begin", b"insert into t values (1, 'some text')", b"select * from t where i = 1 limit 1", b"commit")]


class Client:
    def __init__(self, port, more=()):
        self.socket = socket.create_connection((LOOPBACK, port))
        self.rest = b""
        self.ask(startup(more))

    def ask(self, bytes_):
        self.socket.sendall(bytes_)
        while True:
            while len(self.rest) >= 5:
                size = 1 + struct.unpack(">i", self.rest[1:5])[0]
                if len(self.rest) < size:
                    break
                kind, self.rest = self.rest[:1], self.rest[size:]
                if kind == b"E":
                    raise RuntimeError("an error")
                if kind == b"Z":
                    return
            self.rest += self.socket.recv(65536)


def simple(port, count):
    client = Client(port)
    for _ in range(count):
        client.ask(SIMPLE)


def prepared(port, count):
    client = Client(port)
    client.ask(PARSE + message(b"S"))
    for _ in range(count):
        client.ask(NAMED)


def unnamed(port, count):
    client = Client(port)
    for _ in range(count):
        client.ask(UNNAMED)


def block(port, count):
    client = Client(port)
    for _ in range(count):
        for part in BLOCK:
            client.ask(part)


def two_settings(port, count):
    """One server and two clients of different settings: a restore each time."""
    clients = [Client(port, ("TimeZone", zone)) for zone in ("UTC", "Asia/Tokyo")]
    for n in range(count):
        clients[n % 2].ask(SIMPLE)


def connect(port, count):
    for _ in range(count):
        client = Client(port)
        client.ask(SIMPLE)
        client.socket.sendall(message(b"X"))
        client.socket.close()


ROWS = {"a simple query": simple, "a prepared statement": prepared, "an unnamed statement": unnamed,
        "a transaction of four queries": block, "settings restored": two_settings,
        "a connection and a query": connect}


def executed(binary, postgres, folder, row, count):
    port = free_port()
    config, out = folder / "carpool.yaml", folder / "callgrind.out"
    config.write_text(json.dumps({
        "listen": {"port": port}, "admin": {"port": free_port(), "controlPort": free_port()},
        "server": {"host": str(postgres.folder), "port": postgres.port}, "pool": {"size": 1}}))
    carpool = Process(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", binary, "run",
                       "--config", config], log=folder / "carpool.log", stop_signal=signal.SIGTERM)
    try:
        wait_until(lambda: accepts(port), 60, "Carpool", carpool)
        row(port, count)
    finally:
        carpool.stop(60)
    return int(TOTAL.findall(out.read_text())[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carpool", action="append", type=pathlib.Path)
    args = parser.parse_args()
    binaries = args.carpool or [ROOT / "build" / "carpool"]
    print("| instructions for | " + " | ".join(f"`{binary}`" for binary in binaries) + " |")
    print("|---|" + "--:|" * len(binaries))
    with tempfile.TemporaryDirectory(prefix="carpool-instructions-") as name:
        folder = pathlib.Path(name)
        postgres = Postgres(folder)
        try:
            postgres.psql("create table t(i int, s text)")
            for words, row in ROWS.items():
                found = []
                for binary in binaries:
                    less, more = (executed(binary, postgres, folder, row, count) for count in (SHORT, LONG))
                    found.append((more - less) / (LONG - SHORT))
                    postgres.psql("truncate t")
                print(f"| {words} | " + " | ".join(f"{each:,.0f}" for each in found) + " |", flush=True)
        finally:
            postgres.stop()


if __name__ == "__main__":
    main()
