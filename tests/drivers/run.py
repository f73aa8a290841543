#!/usr/bin/env python3
"""The driver matrix: what people connect with, through Carpool in transaction mode.

Each program under tests/drivers/ runs the same named checks and prints one JSON object a line.
It runs twice: straight against PostgreSQL, where every check must pass (or else the check is
wrong), and against Carpool with a pool of 2 servers. The outcome is a table, docs/drivers.md.

PostgreSQL is a throwaway of its own. Drivers are installed by their ordinary clients (pip, npm, go,
mvn, cargo) into a cache outside of the tree: $CARPOOL_DRIVERS_CACHE, or ~/.cache/carpool-drivers.
"""
import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from throwaway import free_port  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHE = Path(os.environ.get("CARPOOL_DRIVERS_CACHE") or CACHES / "carpool-drivers")
CHECKS = ["query", "types", "transaction", "savepoint", "error", "prepared", "pipeline", "copy",
          "large", "cursor", "cancel", "reconnect", "schema_change", "session_set", "temp_table",
          "advisory_lock", "listen_notify", "concurrent"]
POOL_SIZE = 2
SAID = threading.local()

PYTHON = CACHE / "python" / "bin" / "python"
# (name, language, command, in the quick set)
PROGRAMS = [
    ("psycopg2", "python", [PYTHON, "psycopg2_checks.py"], True),
    ("psycopg3", "python", [PYTHON, "psycopg3_checks.py"], True),
    ("psycopg3-prepare-0", "python", [PYTHON, "psycopg3_checks.py", "0"], True),
    ("asyncpg", "python", [PYTHON, "asyncpg_checks.py"], True),
    ("sqlalchemy-queuepool", "python", [PYTHON, "sqlalchemy_checks.py", "QueuePool"], True),
    ("sqlalchemy-nullpool", "python", [PYTHON, "sqlalchemy_checks.py", "NullPool"], True),
    ("django", "python", [PYTHON, "django_checks.py", "request"], True),
    ("django-persistent", "python", [PYTHON, "django_checks.py", "persistent"], True),
    ("django-pool", "python", [PYTHON, "django_checks.py", "pool"], True),
    ("django-async", "python", [PYTHON, "django_checks.py", "async"], True),
    ("node-postgres", "node", ["node", "pg_checks.js"], True),
    ("postgres.js", "node", ["node", "postgresjs_checks.js"], True),
    ("sequelize", "node", ["node", "sequelize_checks.js"], True),
    ("pgx-cache-statement", "go", ["./checks", "pgx", "cache_statement"], True),
    ("pgx-cache-describe", "go", ["./checks", "pgx", "cache_describe"], True),
    ("pgx-describe-exec", "go", ["./checks", "pgx", "describe_exec"], True),
    ("pgx-exec", "go", ["./checks", "pgx", "exec"], True),
    ("pgx-simple", "go", ["./checks", "pgx", "simple_protocol"], True),
    ("lib-pq", "go", ["./checks", "pq"], True),
    ("gorm", "go", ["./checks", "gorm"], True),
    ("pgjdbc", "java", ["java", "-cp", "@classpath", "Checks", "default"], False),
    ("pgjdbc-prepare-1", "java", ["java", "-cp", "@classpath", "Checks", "prepare1"], False),
    ("hikaricp", "java", ["java", "-cp", "@classpath", "Checks", "hikari"], False),
    ("tokio-postgres", "rust", ["./target/debug/tokio_postgres_checks"], False),
    ("sqlx", "rust", ["./target/debug/sqlx_checks"], False),
    ("libpq-pipeline", "c", ["./checks"], True),
    ("psql", "psql", [sys.executable, "psql_checks.py"], True),
]


def say(text):
    """At once, or, of a program that runs beside others, when it is done."""
    lines = getattr(SAID, "lines", None)
    if lines is None:
        print(text, flush=True)
    else:
        lines.append(text)


# ---- installing -------------------------------------------------------------------------------

def sh(command, cwd, **extra):
    """Runs an install step; shows what it said only when it failed."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=os.environ | extra)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n"
                           f"{done.stdout[-3000:]}")
    return done.stdout


def changed(folder, files):
    """Whether the files differ from those of the last install, and the stamp to write after one."""
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(files))).hexdigest()
    stamp = folder / ".installed"
    return not stamp.exists() or stamp.read_text() != digest, lambda: stamp.write_text(digest)


INSTALLING = {program[1]: threading.Lock() for program in PROGRAMS}
NOT_INSTALLED = {}


def install(language):
    """Makes the folder that the language's programs run in, and returns it. Fails once: the other
    programs of a language that did not install are told so without another try."""
    with INSTALLING[language]:
        if language in NOT_INSTALLED:
            raise RuntimeError(f"{language} did not install: {NOT_INSTALLED[language]}")
        try:
            return install_now(language)
        except (RuntimeError, OSError) as error:
            NOT_INSTALLED[language] = error
            raise


def install_now(language):
    source = HERE / language
    if language in ("psql",):
        return source
    if language == "python":
        stale, done = changed_in(CACHE / "python", [source / "requirements.txt"])
        if stale:
            sh([python_with_venv(), "-m", "venv", CACHE / "python"], source)
            sh([PYTHON, "-m", "pip", "install", "-q", "-r", "requirements.txt"], source)
            done()
        return source
    work = CACHE / language
    work.mkdir(parents=True, exist_ok=True)
    files = [p for p in source.rglob("*") if p.is_file()]
    for p in files:
        target = work / p.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(p, target)
    if language == "node":
        stale, done = changed(work, [source / "package.json"])
        if stale:
            sh(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"], work)
            done()
        return work
    stale, done = changed(work, files)
    if stale:
        if language == "go":
            sh([go_command(work), "build", "-p", "1", "-o", "checks", "."], work)
        elif language == "java":
            sh(["mvn", "-q", "-B", "compile", "dependency:build-classpath",
                "-Dmdep.outputFile=classpath.txt"], work)
        elif language == "rust":
            sh(["cargo", "build", "-q", "-j1"], work)
        elif language == "c":
            sh(["cc", "-Wall", "-Wextra", "-g", "checks.c", "-o", "checks", *libpq_flags(),
                "-lpthread"], work)
        done()
    return work


def go_command(work):
    """Go. One that is too old to fetch the Go that go.mod asks for is helped: it comes as a module.
    """
    found = subprocess.check_output(["go", "env", "GOVERSION"], text=True, cwd=CACHE)
    version = re.match(r"go1\.(\d+)", found)
    if version is None or int(version[1]) >= 21:
        return "go"
    wanted = re.search(r"^go (\S+)$", (work / "go.mod").read_text(), re.M)[1]
    system = subprocess.check_output(["go", "env", "GOOS", "GOARCH"], text=True, cwd=CACHE).split()
    module = f"golang.org/toolchain@v0.0.1-go{wanted}.{'-'.join(system)}"
    said = subprocess.run(["go", "mod", "download", "-json", module], cwd=CACHE, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if said.returncode != 0:
        raise RuntimeError(f"no Go {wanted}: {said.stdout[-1000:]}{said.stderr[-1000:]}")
    root = Path(json.loads(said.stdout)["Dir"])
    # A module's files carry no permission to be executed.
    for tool in [*root.glob("bin/*"), *root.glob("pkg/tool/*/*")]:
        tool.chmod(0o755)
    return root / "bin" / "go"


def python_with_venv():
    """This Python, or the one on the PATH: Debian's comes without venv unless asked for."""
    for python in (sys.executable, shutil.which("python3")):
        if subprocess.run([python, "-c", "import ensurepip, venv"],
                          stderr=subprocess.DEVNULL).returncode == 0:
            return python
    raise RuntimeError("no Python with venv: install python3-venv")


def libpq_flags():
    return subprocess.check_output(["pkg-config", "--cflags", "--libs", "libpq"], text=True).split()


def changed_in(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    return changed(folder, files)


# ---- the two ends -----------------------------------------------------------------------------

def postgres_bin():
    """initdb and postgres of the version to try; psql and pg_isready are those of the PATH."""
    if "POSTGRES_BIN_DIR" in os.environ:
        return Path(os.environ["POSTGRES_BIN_DIR"])
    found = shutil.which("pg_ctl")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"),
                     key=lambda p: float(p.parent.name), reverse=True)
    for folder in folders + ([Path(found).parent] if found else []):
        if (folder / "initdb").exists():
            return folder
    sys.exit("no PostgreSQL server found (initdb)")


def unprivileged():
    """PostgreSQL refuses to run as root: the prefix that drops to another user."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    sys.exit("run as an ordinary user: PostgreSQL refuses to run as root")


class Postgres:
    """A throwaway server with one superuser, `app`, who signs in without a password."""

    def __init__(self, folder):
        self.folder, self.port, self.bin = folder / "pg", free_port(), postgres_bin()
        self.prefix = unprivileged()
        self.folder.mkdir()
        if self.prefix:
            uid = int(self.prefix[1].split("=")[1])
            os.chmod(folder, 0o755)
            os.chown(self.folder, uid, -1)
        data = self.folder / "data"
        self.run("initdb", "-D", data, "-U", "app", "-A", "trust", "-E", "UTF8", "--no-locale",
                 "-N")
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                self.prefix + [str(self.bin / "postgres"), "-D", str(data), "-p", str(self.port),
                               "-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                               "-c", "max_connections=200", "-c", "log_min_messages=warning",
                               "-c", "autovacuum=off"],
                stdout=log, stderr=log, cwd="/")
        for _ in range(200):
            if self.process.poll() is not None:
                sys.exit("PostgreSQL did not start:\n" + (self.folder / "log").read_text())
            if subprocess.run(["pg_isready", "-q", "-h", "127.0.0.1", "-p",
                               str(self.port)]).returncode == 0:
                break
            time.sleep(0.05)
        self.version = self.sql("SHOW server_version").split()[0]

    def run(self, tool, *args):
        sh([*self.prefix, self.bin / tool, *args], "/")

    def sql(self, text):
        return subprocess.check_output(
            ["psql", "-XAtq", "-h", "127.0.0.1", "-p", str(self.port), "-U", "app", "-d",
             "postgres", "-c", text], text=True).strip()

    def database(self, name):
        self.sql(f'CREATE DATABASE "{name}"')

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


class Carpool:
    """One `carpool run` in transaction mode, one a program, so that none inherits from another."""

    def __init__(self, binary, folder, postgres, name, databases=""):
        self.port, self.admin, control = free_port(), free_port(), free_port()
        config = folder / f"{name}.yaml"
        config.write_text(
            f"listen: {{address: 127.0.0.1, port: {self.port}}}\n"
            f"admin: {{address: 127.0.0.1, port: {self.admin}, controlPort: {control}}}\n"
            f"server: {{host: 127.0.0.1, port: {postgres.port}}}\n"
            f"pool: {{mode: transaction, size: {POOL_SIZE}, acquireTimeout: 10s}}\n" + databases)
        self.log = folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(binary), "run", "--config", str(config)],
                                            stdout=log, stderr=log)
        for _ in range(200):
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        raise RuntimeError("carpool did not start:\n" + self.log.read_text()[-2000:])

    def pins(self):
        """The causes that pinned a client meanwhile, with how often, from its metrics."""
        with contextlib.suppress(OSError):
            text = urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5)
            counts = {}
            for line in text.read().decode().splitlines():
                found = re.match(r'carpool_pins_total\{.*cause="([^"]+)".*\} (\d+)', line)
                if found and int(found[2]):
                    counts[found[1]] = counts.get(found[1], 0) + int(found[2])
            return counts
        return {}

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


# ---- running ----------------------------------------------------------------------------------

def one_pass(command, cwd, url, limit, checks):
    """The checks' rows by name; a program that hangs is run again without what it hung on."""
    rows, left = {}, list(checks)
    while left:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env=os.environ | {"DATABASE_URL": url, "CHECKS": ",".join(left)})
        try:
            out, err = process.communicate(timeout=limit)
            why = f"the program ended with exit {process.returncode}: {err.strip()[-300:]}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            why = f"no answer within {limit} s"
        for line in out.splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                rows[row["check"]] = row
        left = [check for check in left if check not in rows]
        if left:
            rows[left[0]] = {"check": left[0], "ok": False, "detail": why}
            left = left[1:]
            if not out.strip() and process.returncode not in (0, -signal.SIGKILL):
                for check in left:  # it does not even start: trying again 17 times is no use
                    rows[check] = {"check": check, "ok": False, "detail": why}
                left = []
    return rows


def run_program(program, args, folder, postgres):
    name, language, command, _ = program
    cwd = install(language)
    if language == "java":
        classpath = (cwd / "classpath.txt").read_text().strip()
        command = [f"target/classes:{classpath}" if part == "@classpath" else part
                   for part in command]
    slug = re.sub(r"\W", "_", name)
    checks = args.check or CHECKS

    def url(port, database):
        return f"postgresql://app@127.0.0.1:{port}/{database}"

    postgres.database(slug + "_d")
    direct = one_pass(command, cwd, url(postgres.port, slug + "_d"), args.limit, checks)
    pooled, pins, ended = {}, {}, 0
    if not args.direct_only:
        postgres.database(slug + "_c")
        carpool = Carpool(args.carpool, folder, postgres, slug)
        try:
            pooled = one_pass(command, cwd, url(carpool.port, slug + "_c"), args.limit, checks)
            pins = carpool.pins()
        finally:
            died = carpool.process.poll()
            ended = carpool.stop() if died is None else died
        if died is not None:
            say(f"  carpool itself ended with {died}; its log: {carpool.log.read_text()[-1500:]}")
    row = next((r for r in direct.values() if "driver" in r), {"driver": name, "version": ""})
    result = {"name": name, "driver": row["driver"], "version": row["version"],
              "language": language, "direct": direct, "pooled": pooled, "pins": pins, "exit": ended}
    for side in ("direct", "pooled"):
        rows = result[side]
        bad = [c for c in checks if c in rows and rows[c]["ok"] is False]
        good = sum(rows[c]["ok"] is True for c in checks if c in rows)
        if rows:
            say(f"  {side}: {good} passed, {len(bad)} failed")
        for check in bad:
            say(f"    {check}: {rows[check]['detail']}")
    return result


# ---- the table --------------------------------------------------------------------------------

def cell(result, check):
    direct = result["direct"].get(check)
    pooled = result["pooled"].get(check)
    if direct is None or pooled is None:
        return ""
    if direct["ok"] is None and pooled["ok"] is None:
        return "–"
    if direct["ok"] is not True:
        return "?"
    return "yes" if pooled["ok"] else "**no**"


def table(results, postgres):
    lines = [
        "# Drivers",
        "",
        "What people connect with, through Carpool in **transaction mode**, with each driver's own",
        f"defaults: a pool of {POOL_SIZE} servers, and 8 users at once in `concurrent`.",
        f"Every check passes straight against PostgreSQL {postgres.version} first. `./dev drivers`",
        "runs them and writes this page; `tests/drivers/` has the programs.",
        "",
        "`yes`: passes. `–`: the driver has no such thing. `**no**`: fails, see below.",
        "",
    ]
    names = [c for c in CHECKS if any(c in r["pooled"] for r in results)]
    head = ["driver", "version", *(n.replace("_", " ") for n in names)]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in results:
        lines.append("| " + " | ".join([r["driver"], r["version"],
                                        *(cell(r, n) for n in names)]) + " |")
    failures = [(r, n) for r in results for n in names if cell(r, n) in ("**no**", "?")]
    if failures:
        lines += ["", "## What fails", ""]
        for r, n in failures:
            side = "direct" if cell(r, n) == "?" else "pooled"
            where = "straight against PostgreSQL, " if side == "direct" else ""
            lines.append(f"- {r['driver']}, {n.replace('_', ' ')}: {where}"
                         f"{tidy(r[side][n]['detail'])}")
    notes = []
    for r in results:
        for n in names:
            ours, theirs = r["pooled"].get(n, {}), r["direct"].get(n, {})
            if ours.get("ok") is not True or not (ours.get("detail") or theirs.get("detail")):
                continue
            said = ours.get("detail") or "nothing of that"
            if n == "schema_change" and ours.get("detail") != theirs.get("detail"):
                said += f" (straight against PostgreSQL: {theirs.get('detail') or 'none'})"
            notes.append(f"- {r['driver']}, {n.replace('_', ' ')}: {tidy(said)}")
    if notes:
        lines += ["", "## Notes", "", *notes]
    if any(r["pins"] for r in results):
        lines += ["", "## What pinned a client to its server", "",
                  "Counts of `carpool_pins_total` by cause after all the checks of a driver; what",
                  "is not here was followed.", "",
                  "| driver | pins |", "|---|---|"]
        for r in results:
            pins = ", ".join(f"{k} {v}" for k, v in sorted(r["pins"].items())) or "none"
            lines.append(f"| {r['driver']} | {pins} |")
    lines += [
        "", "## What a check does", "",
        "- **query**, **types**: statements with and without parameters; numbers, text, times,",
        "  arrays, JSON, bytes, UUIDs, enums there and back.",
        "- **transaction**, **savepoint**: commits, rollbacks, connections closed halfway, errors",
        "  taken back to a savepoint.",
        "- **error**: syntax, division by zero and missing tables, and the connection goes on.",
        "- **prepared**: statements by the protocol and by SQL, past the driver's cache and back.",
        "- **pipeline**: the driver's pipelines and batches, with an error in the middle of one.",
        "- **copy**, **large**, **cursor**: COPY both ways and refused; values of 5 MB, results of",
        "  20 MB; server-side cursors, also WITH HOLD.",
        "- **cancel**, **reconnect**: a running query is cancelled and the connection goes on.",
        "- **schema change**: a table changes under a statement that is prepared and cached.",
        "- **session set**: SET, set_config, ROLLBACK of a SET, RESET, two sessions that differ.",
        "- **temp table**, **advisory lock**, **listen notify**: what belongs to one session stays",
        "  with it, and goes when it leaves.",
        "- **concurrent**: 8 users with settings, transactions, rollbacks and errors of their own.",
    ]
    return "\n".join(lines) + "\n"


def tidy(text):
    """No port and no path of this machine goes into the page."""
    text = text.replace(str(ROOT), ".").replace("|", "\\|")
    return re.sub(r"port \d+|:\d{4,5}\b", "port …", text)


def run_beside(program, args, folder, postgres):
    """run_program(), whose output comes in one piece; the result, or None where there is none."""
    SAID.lines = []
    began = time.monotonic()
    say(f"{program[0]}:")
    try:
        return run_program(program, args, folder, postgres)
    except (RuntimeError, OSError) as error:
        say(f"  not run: {error}")
    finally:
        SAID.lines[0] += f" {time.monotonic() - began:.0f} s"
        print(*SAID.lines, sep="\n", flush=True)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="without Java and Rust, which build long")
    parser.add_argument("--direct-only", action="store_true",
                        help="PostgreSQL alone: checks the checks")
    parser.add_argument("--driver", action="append", help="only this program (or language)")
    parser.add_argument("--check", action="append", help="only this check")
    parser.add_argument("--limit", type=float, default=120, help="seconds a program may take")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="programs at once")
    parser.add_argument("--carpool", type=Path, default=ROOT / "build" / "carpool")
    parser.add_argument("--out", type=Path,
                        help="where the table goes; docs/drivers.md for a full run")
    parser.add_argument("--json", type=Path, help="also write every row there")
    args = parser.parse_args()
    if args.check and (unknown := set(args.check) - set(CHECKS)):
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    if not args.direct_only and not args.carpool.exists():
        parser.error(f"{args.carpool} is missing: build it first, or give --carpool")
    programs = [p for p in PROGRAMS
                if (not args.driver or p[0] in args.driver or p[1] in args.driver)
                and (p[3] or not args.quick)]
    if not programs:
        parser.error("no such driver; known: " + ", ".join(p[0] for p in PROGRAMS))
    with tempfile.TemporaryDirectory(prefix="carpool-drivers-") as temporary:
        postgres = Postgres(Path(temporary))
        try:
            with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
                results = list(pool.map(
                    lambda program: run_beside(program, args, Path(temporary), postgres), programs))
            broken = sum(result is None for result in results)
            results = [result for result in results if result is not None]
        finally:
            postgres.stop()
        full = not (args.quick or args.driver or args.check or args.direct_only or broken)
        out = args.out or (ROOT / "docs" / "drivers.md" if full else None)
        if out and results:
            out.write_text(table(results, postgres))
            say(f"the table is in {out}")
        if args.json:
            args.json.write_text(json.dumps(results, indent=1))
    sides = ["direct"] if args.direct_only else ["direct", "pooled"]
    rows = [row for r in results for side in sides for row in r[side].values()]
    passed = sum(row["ok"] is True for row in rows)
    failed = sum(row["ok"] is False for row in rows) + broken
    say(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
