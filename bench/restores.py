"""How often a client's settings have to be restored before its transaction: 64 clients in groups,
each group with settings of its own, on 8 servers. PostgreSQL tells a client of each, since the
setting is one that it reports.

    bench/restores.py [--carpool PATH ...] [--transactions N]

Prints restores a transaction, with all servers wanted at all times and with half of them; several
binaries take turns.
"""

import argparse
import json
import pathlib
import random
import socket
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))

from throwaway import LOOPBACK, ROOT, Postgres, Process, accepts, free_port, wait_until  # noqa: E402

CLIENTS = 64
SERVERS = 8
GROUPS = (1, 2, 4, 8)
ZONES = ("UTC", "Asia/Tokyo", "Europe/Berlin", "America/Lima", "Africa/Cairo", "Asia/Dubai",
         "Europe/Oslo", "Asia/Seoul")


class Client:
    def __init__(self, port, zone):
        self.socket = socket.create_connection((LOOPBACK, port))
        self.rest = b""
        body = b"".join(part.encode() + b"\0" for part in
                        ("user", "app", "database", "app", "TimeZone", zone)) + b"\0"
        self.socket.sendall(struct.pack(">ii", len(body) + 8, 196608) + body)
        self.until_ready()
        self.zone = zone

    def until_ready(self):
        """Reads up to ReadyForQuery; how many ParameterStatus of the time zone came."""
        told = 0
        while True:
            while len(self.rest) >= 5:
                size = 1 + struct.unpack(">i", self.rest[1:5])[0]
                if len(self.rest) < size:
                    break
                kind, body, self.rest = self.rest[:1], self.rest[5:size], self.rest[size:]
                if kind == b"E":
                    raise RuntimeError(body.decode(errors="replace"))
                told += kind == b"S" and body.startswith(b"TimeZone")
                if kind == b"Z":
                    return told
            more = self.socket.recv(65536)
            if not more:
                raise RuntimeError("the connection ended")
            self.rest += more

    def transaction(self):
        text = b"select pg_sleep(0.002)\0"
        self.socket.sendall(b"Q" + struct.pack(">i", len(text) + 4) + text)
        return self.until_ready()


def share(port, groups, think, transactions):
    clients = [Client(port, ZONES[i % groups]) for i in range(CLIENTS)]
    counts = [0] * CLIENTS

    def run(i):
        chance = random.Random(i)
        for _ in range(transactions):
            counts[i] += clients[i].transaction()
            time.sleep(chance.expovariate(1 / think) if think else 0)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.socket.close()
    return sum(counts) / (CLIENTS * transactions)


def measure(binary, postgres, folder, groups, think, transactions):
    port = free_port()
    config = folder / "carpool.yaml"
    config.write_text(json.dumps({
        "listen": {"port": port}, "admin": {"port": free_port(), "controlPort": free_port()},
        "server": {"host": str(postgres.folder), "port": postgres.port},
        "pool": {"size": SERVERS}}))
    carpool = Process([binary, "run", "--config", config], log=folder / "carpool.log")
    try:
        wait_until(lambda: accepts(port), 10, "Carpool", carpool)
        return share(port, groups, think, transactions)
    finally:
        carpool.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carpool", action="append")
    parser.add_argument("--transactions", type=int, default=100)
    args = parser.parse_args()
    binaries = args.carpool or [ROOT / "build" / "carpool"]
    print("| groups | servers wanted | " + " | ".join(f"`{binary}`" for binary in binaries) + " |")
    print("|---|---|" + "--:|" * len(binaries))
    with tempfile.TemporaryDirectory(prefix="carpool-restores-") as folder:
        postgres = Postgres(folder)
        try:
            for groups in GROUPS:
                # Who sleeps 35 ms for each 2 ms of work wants a server a twentieth of the time.
                for think, words in ((0, "all"), (0.035, "half")):
                    found = [measure(binary, postgres, pathlib.Path(folder), groups, think,
                                     args.transactions) for binary in binaries]
                    print(f"| {groups} | {words} | " + " | ".join(f"{f:.3f}" for f in found) + " |",
                          flush=True)
        finally:
            postgres.stop()


if __name__ == "__main__":
    main()
