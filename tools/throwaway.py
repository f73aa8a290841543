"""Throwaway processes and folders, shared by the demo and the benchmarks: a PostgreSQL of our own,
Carpool, a folder laid out and updated as the kubelet does it with a ConfigMap. Nothing here
outlives `stop()`; what is not stopped because we were killed, `setpriv --pdeathsig` ends."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
CARPOOL = pathlib.Path(os.environ.get("CARPOOL") or ROOT / "build" / "carpool")
LOOPBACK = "127.0.0.1"
# PostgreSQL refuses to run as root; this user comes with its package.
POSTGRES_USER = "postgres" if os.geteuid() == 0 else None
UNIX_PATH_MAX = 107 - len("/.s.PGSQL.65535")


# Below what Linux hands out by itself, so that no outgoing connection takes one in between.
PORTS = range(20000, 32000)
RESERVATIONS = []


def reserve(port):
    """Whether `port` is free and nobody else's: no other process of ours has it from free_port().
    They tell each other by an abstract Unix socket, which goes when its process does."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0carpool-test-port-{port}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
    except OSError:
        mark.close()
        return False
    RESERVATIONS.append(mark)
    return True


def free_port(wanted=None):
    """`wanted` where it can be had, else any. Not given twice, to nobody, while we run."""
    if wanted and reserve(wanted):
        return wanted
    for _ in PORTS:
        if reserve(port := random.choice(PORTS)):
            return port
    raise RuntimeError("no free port")


def wait_until(condition, seconds, what, process=None, every=0.02):
    """Gives up after `seconds`, or when `process` has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process and not process.running():
            raise RuntimeError(f"{what}: ended with {process.child.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(every)


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


class Process:
    """One child in a session of its own (Ctrl-C is ours to pass on), that dies with us."""

    def __init__(self, command, stop_signal=signal.SIGTERM, log=None, **popen):
        self.stop_signal = stop_signal
        out = open(log, "ab") if log else subprocess.DEVNULL
        guard = ["setpriv", "--pdeathsig", stop_signal.name[3:]]
        self.child = subprocess.Popen(
            [*guard, *map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True, **popen)
        if log:
            out.close()

    @property
    def pid(self):
        return self.child.pid

    def running(self):
        return self.child.poll() is None

    def stop(self, seconds=30):
        """Asks, waits, and kills what did not listen. Returns the exit code."""
        if self.running():
            self.child.send_signal(self.stop_signal)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
        return self.child.wait()


def reachable(folder, user):
    if user is None:
        return True
    test = subprocess.run(["test", "-x", folder], user=user, group=user, extra_groups=[])
    return test.returncode == 0


def postgres_bin_dir():
    """Where initdb and postgres of the version to try are; clients are those of the PATH."""
    return (os.environ.get("POSTGRES_BIN_DIR")
            or subprocess.check_output(["pg_config", "--bindir"], text=True).strip())


class Postgres:
    """A PostgreSQL with its own data folder, superuser `app` and database `app`, on a Unix socket
    in its folder and, where `tcp`, on loopback. In `home`, unless its user may not go there (a
    checkout under /root) or the socket's path would be too long: then in the temporary folder."""

    def __init__(self, home, settings=(), tcp=False, port=None):
        home = pathlib.Path(home)
        home.mkdir(parents=True, exist_ok=True)
        if reachable(home, POSTGRES_USER) and len(str(home / "postgres")) <= UNIX_PATH_MAX:
            self.folder = home / "postgres"
            self.folder.mkdir()
        else:
            self.folder = pathlib.Path(tempfile.mkdtemp(prefix="carpool-postgres-"))
        self.port = free_port(port)
        self.log = self.folder / "log"
        self.process = None
        try:
            self.initialise()
            self.start({"port": self.port, "unix_socket_directories": self.folder,
                        "listen_addresses": LOOPBACK if tcp else "", "fsync": "off",
                        **dict(settings)})
            self.psql("CREATE DATABASE app", database="postgres")
        except BaseException as error:
            if isinstance(error, Exception):
                print(self.log.read_text())
            self.stop()
            raise

    def initialise(self):
        self.folder.chmod(0o755)
        self.log.touch()
        self.as_user = {}
        if POSTGRES_USER:
            self.as_user = {"user": POSTGRES_USER, "group": POSTGRES_USER, "extra_groups": []}
            for path in (self.folder, self.log):
                shutil.chown(path, POSTGRES_USER, POSTGRES_USER)
        with open(self.log, "ab") as log:
            subprocess.run([f"{postgres_bin_dir()}/initdb", "-D", self.folder / "data", "-U", "app",
                            "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
                           cwd="/", check=True, stdout=log, stderr=log, **self.as_user)

    def start(self, settings):
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self.command = [f"{postgres_bin_dir()}/postgres", "-D", self.folder / "data", *options]
        self.start_again()

    def start_again(self):
        """After it was ended: by whom, and how, is the caller's."""
        self.process = Process(self.command, signal.SIGINT, self.log, cwd="/", **self.as_user)
        ready = ["pg_isready", "-q", "-h", self.folder, "-p", str(self.port)]
        wait_until(lambda: subprocess.run(ready).returncode == 0, 60, "PostgreSQL", self.process)

    def psql_command(self, database):
        return ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port),
                "-U", "app", "-d", database]

    def psql(self, sql, database="app"):
        return subprocess.check_output([*self.psql_command(database), "-c", sql], text=True).strip()

    def stop(self):
        if self.process:
            self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Session:
    """One psql kept open, so that asking often costs no connection each time."""

    def __init__(self, postgres, database="postgres"):
        self.psql = subprocess.Popen(postgres.psql_command(database), stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True, bufsize=1,
                                     start_new_session=True)

    def value(self, sql):
        """The first column of the first row."""
        self.psql.stdin.write(sql + ";\n")
        return self.psql.stdout.readline().strip()

    def close(self):
        self.psql.stdin.close()
        self.psql.wait()


class ConfigMapVolume:
    """A folder of files as the kubelet's AtomicWriter mounts a ConfigMap:
    `..<time>/key`, `..data -> ..<time>`, `key -> ..data/key`."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, files):
        """Returns the moment (time.monotonic) of the rename that commits the new content."""
        data = self.folder / "..data"
        old = self.folder / os.readlink(data) if data.is_symlink() else None
        prefix = time.strftime("..%Y_%m_%d_%H_%M_%S.")
        new = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder))
        new.chmod(0o755)
        for name, text in files.items():
            (new / name).write_text(text)
        (self.folder / "..data_tmp").symlink_to(new.name)
        os.rename(self.folder / "..data_tmp", data)
        committed = time.monotonic()
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        if old:
            shutil.rmtree(old)
        return committed


def admin_json(port, path):
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=5) as answer:
        return json.load(answer)


def admin_pool(port, database="app"):
    """The pool as /status tells it; None before its first client."""
    pools = admin_json(port, "/status")["pools"]
    return next((pool for pool in pools if pool["database"] == database), None)


class Carpool(Process):
    """`carpool run` with a configuration file whose listen.port is `port`; accepting when made."""

    def __init__(self, config, port, log):
        super().__init__([CARPOOL, "run", "--config", config], log=log)
        self.log = pathlib.Path(log)
        try:
            wait_until(lambda: accepts(port), 10, "Carpool", self, every=0.001)
        except BaseException as error:
            if isinstance(error, Exception):
                print(self.log.read_text())
            self.stop()
            raise
