"""What `./dev chaos` shakes: a PostgreSQL, the relay before it, Carpool, its configuration."""

import asyncio
import os
import pathlib
import re
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import relay  # noqa: E402
import session  # noqa: E402
import throwaway  # noqa: E402
import wire  # noqa: E402

# More than Carpool's pools may want at times: PostgreSQL then says 53300, and clients wait.
MAX_CONNECTIONS = 45
USERS = ("u1", "u2")

# Which clients there are, of a hundred: their kind, database and user. Taken in steps of 37, so
# that a few are a mixture, too.
PLACES = [
    *[("transaction", "tx", "u1")] * 30, *[("transaction", "tx", "u2")] * 24,
    *[("session", "ses", "u1")] * 12, *[("statement", "st", "u1")] * 8,
    *[("flip", "flip", "u2")] * 8, *[("limited", "lim", "u1")] * 12,
    *[("guest", "guest", "u2")] * 6,
]

SCHEMA = "".join([
    "CREATE TABLE ledger (id text, rows int, pad text); GRANT ALL ON ledger TO PUBLIC;"
    "CREATE TABLE mine (who text); INSERT INTO mine VALUES ('public'); GRANT ALL ON mine TO PUBLIC;"
    "CREATE ROLE r1; CREATE ROLE r2;",
    *(f"CREATE USER {user} IN ROLE r1, r2;" for user in USERS),
    *(f"CREATE SCHEMA t{n}; GRANT USAGE ON SCHEMA t{n} TO PUBLIC;"
      f"CREATE TABLE t{n}.mine (who text); INSERT INTO t{n}.mine VALUES ('t{n}');"
      f"GRANT ALL ON t{n}.mine TO PUBLIC;"
      for n in range(session.TENANTS)),
])

# What a reload may change: the values that a key takes. allowed.py knows the least of the timeouts.
POOL_KEYS = {
    "size": (2, 3, 4, 6, 8), "overflow": (0, 0, 2), "overflowAfter": ("100ms", "1s"),
    "minIdle": (0, 0, 2), "acquireTimeout": ("3s", "8s", "20s"), "idleTimeout": ("1s", "5m"),
    "maxLifetime": ("2s", "1h"), "connectConcurrency": (1, 4),
    "preparedStatementsMax": (3, 20, 500), "resetQuery": ("DISCARD ALL", "discard all"),
}
KEYS_OF = {
    "flip": {"mode": ("transaction", "statement", "session")},
    "lim": {"queryTimeout": ("0s", "1s", "2s"), "idleTransactionTimeout": ("0s", "1500ms")},
    "guest": {"there": (True, False), "sessionState": ("follow", "pin")},
}
MODES = {"ses": "session", "st": "statement"}
DATABASES = ("tx", "ses", "st", "flip", "lim", "guest")


def text_of(value):
    return str(value) if not isinstance(value, str) else f'"{value}"'


class Settings:
    """The configuration, one reload after the other."""

    def __init__(self):
        self.pools = {name: {"mode": MODES.get(name, "transaction"), "size": 5,
                             "acquireTimeout": "20s", "pruneInterval": "200ms"}
                      for name in DATABASES}
        self.pools["ses"]["size"] = 8
        self.there = True

    def change(self, r):
        """What has changed, for people."""
        said = []
        for _ in range(r.choice((1, 1, 2, 4))):
            database = r.choice(DATABASES)
            keys = {**POOL_KEYS, **KEYS_OF.get(database, {})}
            own = list(KEYS_OF.get(database, ()))
            key = r.choice(own) if own and r.random() < 0.5 else r.choice(list(keys))
            value = r.choice(keys[key])
            if key == "there":
                self.there = value
            else:
                self.pools[database][key] = value
            said.append(f"{database}.{key}={value}")
        return " ".join(said)

    def text(self, ports, relay_port):
        lines = [
            f"listen: {{address: 127.0.0.1, port: {ports['clients']}}}",
            f"admin: {{address: 127.0.0.1, port: {ports['admin']}, "
            f"controlPort: {ports['control']}, users: [app]}}",
            f"server: {{host: 127.0.0.1, port: {relay_port}, database: app, sslMode: disable, "
            "connectTimeout: 2s}",
            "log: {level: info, statsInterval: 0s, slowQuery: 0s}",
            "drain: {timeout: 2s}",
            "databases:",
        ]
        for name, pool in self.pools.items():
            if name == "guest" and not self.there:
                continue
            pool = dict(pool)
            pool["minIdle"] = min(pool.get("minIdle", 0), pool["size"])
            keys = ", ".join(f"{key}: {text_of(value)}" for key, value in pool.items())
            lines.append(f"  - {{name: {name}, pool: {{{keys}}}}}")
        return "\n".join(lines) + "\n"


class Box:
    def __init__(self, folder, carpool):
        self.folder, self.binary = pathlib.Path(folder), carpool
        self.ports = {name: throwaway.free_port() for name in ("clients", "admin", "control")}
        self.settings = Settings()
        self.log = self.folder / "carpool.log"
        self.volume = throwaway.ConfigMapVolume(self.folder / "config")
        self.postgres, self.relay, self.carpool = None, None, None
        self.stopped = set()  # backends that are stopped
        self.exits = []

    async def start(self):
        self.postgres = await asyncio.to_thread(
            throwaway.Postgres, self.folder, {
                "max_connections": MAX_CONNECTIONS, "superuser_reserved_connections": 5,
                "autovacuum": "off", "TimeZone": "UTC", "shared_buffers": "32MB",
                "max_wal_size": "128MB"}, True)
        await asyncio.to_thread(self.postgres.psql, SCHEMA)
        self.relay = relay.Relay(self.postgres.port)
        await self.relay.start()
        self.reload()
        await self.start_carpool()

    async def start_carpool(self):
        environment = os.environ | {"ASAN_OPTIONS": "quarantine_size_mb=16:" +
                                    os.environ.get("ASAN_OPTIONS", "")}
        for name in [name for name in environment if name.startswith("PG")] + ["DATABASE_URL"]:
            environment.pop(name, None)
        self.carpool = throwaway.Process(
            [self.binary, "run", "--config", self.folder / "config" / "carpool.yaml"],
            log=self.log, env=environment)
        await self.until(lambda: throwaway.accepts(self.ports["clients"]), 60, "Carpool's start")

    async def until(self, condition, seconds, what):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or not self.carpool.running():
                raise RuntimeError(f"{what}: not within {seconds} s")
            await asyncio.sleep(0.02)

    def reload(self):
        self.volume.write({"carpool.yaml": self.settings.text(self.ports, self.relay.port)})

    async def stop_carpool(self, seconds):
        """By SIGTERM: its exit code."""
        self.carpool.child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.carpool.running() and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self.carpool.running():
            self.carpool.child.send_signal(signal.SIGABRT)
            return f"none within {seconds} s"
        return self.carpool.child.returncode

    async def restart_postgres(self, how):
        self.postgres.process.child.send_signal(how)
        try:
            await asyncio.to_thread(self.postgres.process.child.wait, 120)
        except Exception as error:
            raise RuntimeError("PostgreSQL does not end") from error
        await asyncio.to_thread(self.postgres.start_again)

    def backends(self):
        return [line.pid for line in self.relay.used()]

    def signal_backend(self, pid, what):
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            return False
        return True

    async def sql(self, text):
        """Straight from PostgreSQL."""
        it = await wire.sign_in(self.postgres.port, {
            "user": "app", "database": "app", "application_name": "chaos"})
        try:
            return await wire.ask(it, text)
        finally:
            it.leave("terminate")

    async def console(self, text):
        it = await wire.sign_in(self.ports["clients"], {"user": "app", "database": "pgbouncer"})
        try:
            return await wire.ask(it, text)
        finally:
            it.leave("terminate")

    async def status(self):
        return await asyncio.to_thread(throwaway.admin_json, self.ports["admin"],
                                       "/status?detailed=1")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.carpool.pid}/fd"))

    def resident_mib(self):
        text = pathlib.Path(f"/proc/{self.carpool.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) // 1024

    def complaints(self):
        """What a sanitizer or a CHECK has said."""
        lines = self.log.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if re.search(r"Sanitizer|runtime error:|CHECK", line):
                return "\n".join(lines[number:number + 60])
        return ""

    def log_end(self, lines=25):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self):
        if self.relay and self.relay.server:
            self.relay.stop()
        for process in (self.carpool, self.postgres and self.postgres.process):
            if process and process.running():
                process.child.send_signal(signal.SIGCONT)
        for pid in self.stopped:
            self.signal_backend(pid, signal.SIGCONT)
        if self.carpool:
            self.carpool.stop(10)
        if self.postgres:
            self.postgres.stop()
