#!/usr/bin/python3
"""The status page in a real Chromium, before a real Carpool and a real PostgreSQL: what a person
would see under load, in each kind of trouble, during a resize, with a rejected configuration and
when the sidecar is gone. --screenshots FOLDER keeps pictures, in light, dark and on a phone."""

import argparse
import contextlib
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

from chromium import Chromium

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import throwaway  # noqa: E402  (found by the line above)

POOL_SIZE = 3
SEEN_SECONDS_MAX = 40  # a broken page is never right; a busy machine is slow
PAGE_BYTES_MAX = 60_000
LOOP_MS_MAX = 1.0  # of the loop's time for one poll of the page
MANY_CLIENTS = 1000
POLLS = 100
WIDE, PHONE = (1100, 900), (360, 740)

CONFIG = """\
listen: {{port: {listen}, clientsMax: {clients_max}}}
admin: {{address: 127.0.0.1, port: {admin}, controlPort: {control}}}
server: {{host: 127.0.0.1, port: {postgres}, user: app, database: app}}
pool: {{size: {size}, acquireTimeout: 60s}}
databases:
  - {{name: app}}
  - {{name: reports, server: {{database: app}}, pool: {{mode: session, size: 2}}}}
"""


class Sidecar:
    def __init__(self, home, postgres):
        self.ports = {name: throwaway.free_port() for name in ("listen", "admin", "control")}
        self.postgres = postgres
        self.volume = throwaway.ConfigMapVolume(home / "config")
        self.configure(POOL_SIZE)
        self.process = throwaway.Carpool(home / "config" / "carpool.yaml", self.ports["listen"],
                                         home / "carpool.log")

    def configure(self, size):
        self.volume.write({"carpool.yaml": CONFIG.format(
            **self.ports, postgres=self.postgres.port, size=size, clients_max=2 * MANY_CLIENTS)})

    def url(self):
        return f"http://127.0.0.1:{self.ports['admin']}/"

    def status(self):
        return throwaway.admin_json(self.ports["admin"], "/status")

    def loop_seconds(self):
        """What the loop's thread has run so far; it is the process's first."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat") as stat:
            return int(stat.read().split()[0]) / 1e9


class Clients:
    """Sessions of psql through the pool; all end with the block, and the page says so."""

    def __init__(self, sidecar, page):
        self.sidecar, self.page, self.open = sidecar, page, []

    def __enter__(self):
        return self

    def start(self, *statements, database="app", name="web"):
        psql = subprocess.Popen(
            ["psql", "-XqAt", "-h", "127.0.0.1", "-p", str(self.sidecar.ports["listen"]), "-U",
             "app", "-d", database], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, text=True, env=os.environ | {"PGAPPNAME": name})
        psql.stdin.write("".join(statement + ";\n" for statement in statements))
        psql.stdin.flush()
        self.open.append(psql)

    def load(self, clients, seconds):
        self.open.append(subprocess.Popen(
            ["pgbench", "-n", "-S", "-h", "127.0.0.1", "-p", str(self.sidecar.ports["listen"]),
             "-U", "app", "-c", str(clients), "-T", str(seconds), "app"], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def hold_all(self, *statements, database="app", servers=POOL_SIZE):
        """Servers are taken for good, and then one more client comes and has to wait."""
        for i in range(servers):
            self.start(*statements, database=database, name=f"worker-{i}")
        throwaway.wait_until(
            lambda: any(pool["database"] == database and pool["busy"] == servers
                        for pool in self.sidecar.status()["pools"]), 60, "servers to be taken")
        self.start("SELECT 2", database=database)

    def __exit__(self, *_):
        for child in self.open:
            child.kill()
            child.communicate()
        # The next scenario starts with nobody waiting and nothing lent.
        throwaway.wait_until(
            lambda: all(p["waiting"] == 0 and p["busy"] == 0
                        for p in self.sidecar.status()["pools"]), 60, "clients to leave")
        # Nor may a sentence of this scenario be taken for one of the next.
        throwaway.wait_until(lambda: "Nobody waits for a server." in self.page.text("#why"), SEEN_SECONDS_MAX,
                             "the page to calm down")


class Checks:
    """One line a check; the exit code says whether all held."""

    def __init__(self, page):
        self.page = page
        self.failed = 0

    def hold(self, what, condition, saw=""):
        print(f"{'ok    ' if condition else 'FAILED'} {what}" +
              (f": {saw}" if saw and not condition else ""), flush=True)
        self.failed += not condition

    def shows(self, what, selector, pattern):
        """Whether the text appears, and after how long; what is there instead, if not."""
        began = time.monotonic()
        while time.monotonic() < began + SEEN_SECONDS_MAX:
            text = self.page.text(selector)
            if re.search(pattern, text):
                return self.hold(f"{what} (after {time.monotonic() - began:.1f} s)", True)
            time.sleep(0.1)
        return self.hold(what, False, text)


class Pictures:
    def __init__(self, page, folder):
        self.page, self.folder = page, folder

    def take(self, name):
        if not self.folder:
            return
        for scheme in ("light", "dark"):
            self.page.scheme(scheme)
            self.page.screenshot(self.folder / f"status-page-{name}-{scheme}.png")
        self.page.scheme("light")

    def take_on_phone(self, name):
        if self.folder:
            self.page.screenshot(self.folder / f"status-page-{name}-phone.png")


def reasons(page, sidecar, checks, pictures):
    """Why does somebody wait? The page's sentence names the right reason."""
    with Clients(sidecar, page) as clients:
        clients.hold_all("BEGIN", "SELECT 1")
        checks.shows("idle in transaction is named", "#why",
                     r"left open[\s\S]*transactions in which nothing runs[\s\S]*\"worker-\d\""
                     r"[\s\S]*pool\.idleTransactionTimeout")
        pictures.take("idle-in-transaction")

    with Clients(sidecar, page) as clients:
        clients.hold_all("SELECT 'a secret', pg_sleep(600)")
        checks.shows("a slow query is named", "#why", r"long quer[\s\S]*pg_sleep\(\?\)")
        checks.hold("literals are masked",
                    "a secret" not in page.value("document.documentElement.outerHTML"))

    with Clients(sidecar, page) as clients:
        clients.hold_all("LISTEN news")
        checks.shows("pins are named", "#why", r"pinned until[\s\S]*by listen")

    with Clients(sidecar, page) as clients:
        clients.hold_all("SELECT 1", database="reports", servers=2)
        checks.shows("sessions that keep their servers are named", "#why",
                     r"sessions that run nothing[\s\S]*pool\.mode transaction")


def load_and_resize(page, sidecar, checks, pictures):
    checks.shows("before the first client: no pool", "#pools", "No client has connected yet")
    with Clients(sidecar, page) as clients:
        clients.load(30, 600)
        checks.shows("under load: the pool and its transactions", "#pools",
                     r"app / app[\s\S]*transactions/s\s+[1-9]")
        checks.shows("under load: live", "#live", "^Live$")
        checks.shows("a pool that is too small is named", "#why", r"too small[\s\S]*raise\s+"
                     r"pool\.size")
        # Three samples of five seconds: a line, and not a dot.
        throwaway.wait_until(lambda: page.value(
            "[...document.querySelectorAll('figure path.line')].some("
            "p => ((p.getAttribute('d') || '').match(/L/g) || []).length >= 2)"), 60, "charts")
        checks.hold("under load: charts are drawn", True)
        pictures.take("load")
        sidecar.configure(2 * POOL_SIZE)
        checks.shows("a resize under load shows at once", "#pools",
                     rf"in use\s+\d+ of {2 * POOL_SIZE}")
    checks.shows("and what it applied", "#config-lists", r"pool\.size")


def rejected(page, sidecar, checks, pictures):
    sidecar.configure(0)
    checks.shows("a rejected configuration says where and why", "#config-lists",
                 r"Rejected[\s\S]*carpool\.yaml:\d+:\d+[\s\S]*size")
    checks.shows("and is announced at the top", "#rejected", "was\\s+rejected")
    checks.shows("and the old one stays", "#pools", rf"of {2 * POOL_SIZE}")
    pictures.take("rejected")
    sidecar.configure(POOL_SIZE)
    throwaway.wait_until(lambda: page.text("#rejected") == "", SEEN_SECONDS_MAX, "no rejection")


def manners(page, sidecar, checks, pictures):
    page.resize(*PHONE)
    checks.hold("a phone needs no sideways scrolling", page.value(
        "document.documentElement.scrollWidth <= window.innerWidth"))
    checks.hold("nor do its tables", page.value(
        "[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)"))
    pictures.take_on_phone("load")
    page.press_tab()
    checks.hold("the first Tab offers to skip to the pools", page.value(
        "document.activeElement.textContent") == "Skip to the pools")
    page.resize(*WIDE)
    checks.hold("every picture has a description", page.value(
        "[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))"))
    foreign = [url for url in page.requests if not url.startswith((sidecar.url(), "data:",
                                                                  "about:"))]
    checks.hold("nothing is asked of any other host", not foreign, str(foreign))
    checks.hold("the browser has no complaint", not page.complaints, str(page.complaints))

    page.value("Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
               "document.dispatchEvent(new Event('visibilitychange'))")
    checks.shows("a hidden page pauses", "#live", "Paused while hidden")
    asked = len(page.requests)
    time.sleep(5)  # more than two polls
    page.text("#live")  # takes in what has happened since
    checks.hold("and asks nothing", len(page.requests) == asked, str(page.requests[asked:]))
    page.value("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    checks.shows("until it is seen again", "#live", "^Live$")


def idle_client(port):
    client = socket.create_connection(("127.0.0.1", port), 30)
    body = struct.pack("!I", 196608) + b"user\0app\0database\0app\0application_name\0worker\0\0"
    client.sendall(struct.pack("!I", len(body) + 4) + body)
    received = b""
    while not received.endswith(b"Z\0\0\0\5I"):
        part = client.recv(65536)
        if not part:
            raise ConnectionError(f"closed while signing in: {received!r}")
        received += part
    return client


def cost(page, sidecar, checks, times_count):
    """Bytes, and the loop's time, of a poll with many clients, of whom one waits: then the loop
    has to list them all, so that the reason can be found."""
    page.open("about:blank")
    with Clients(sidecar, page) as clients, contextlib.ExitStack() as sockets:
        for _ in range(MANY_CLIENTS):
            sockets.enter_context(idle_client(sidecar.ports["listen"]))
        clients.hold_all("BEGIN", "SELECT 1")
        throwaway.wait_until(lambda: any("why" in pool for pool in sidecar.status()["pools"]), 60,
                             "somebody who waits")

        def fetch(*paths):
            total = 0
            for path in paths:
                with urllib.request.urlopen(sidecar.url() + path, timeout=30) as answer:
                    total += len(answer.read())
            return total

        size = fetch("", "page.css", "page.js", "status", "config", "history")
        checks.hold(f"the page and its data: {size} bytes at {MANY_CLIENTS} clients",
                    size < PAGE_BYTES_MAX)
        before, began = sidecar.loop_seconds(), time.monotonic()
        for _ in range(POLLS):
            fetch("status", "config", "history?since=1000000")
        took, after = time.monotonic() - began, sidecar.loop_seconds()
        time.sleep(took)
        idle = sidecar.loop_seconds() - after
        each_ms = (after - before - idle) / POLLS * 1000
        checks.hold(f"loop time of a poll: {each_ms:.3f} ms at {MANY_CLIENTS} clients",
                    each_ms < LOOP_MS_MAX or not times_count)
        page.open(sidecar.url())


def gone(page, sidecar, checks):
    with contextlib.ExitStack() as stack:
        clients = Clients(sidecar, page)
        stack.callback(lambda: [(child.kill(), child.communicate()) for child in clients.open])
        sidecar.postgres.process.stop()
        clients.start("SELECT 1")
        checks.shows("a database that is down is named", "#why",
                     r"no connection to PostgreSQL can be opened")
    sidecar.process.stop()
    checks.shows("a sidecar that is gone is said to be", "#live",
                 r"The sidecar is gone\. What you see is .* old\.")


def watch(home, screenshots, times_count):
    with contextlib.ExitStack() as stack:
        postgres = throwaway.Postgres(home, tcp=True)
        stack.callback(postgres.stop)
        subprocess.run(["pgbench", "-i", "-q", "-h", postgres.folder, "-p", str(postgres.port),
                        "-U", "app", "app"], check=True, capture_output=True)
        sidecar = Sidecar(home, postgres)
        stack.callback(sidecar.process.stop)
        page = stack.enter_context(Chromium(*WIDE))
        checks, pictures = Checks(page), Pictures(page, screenshots)
        page.open(sidecar.url())
        load_and_resize(page, sidecar, checks, pictures)
        rejected(page, sidecar, checks, pictures)
        reasons(page, sidecar, checks, pictures)
        manners(page, sidecar, checks, pictures)
        cost(page, sidecar, checks, times_count)
        gone(page, sidecar, checks)
    return checks.failed


def main():
    parser = argparse.ArgumentParser(prog="./dev page", description=__doc__.split("\n\n")[0])
    parser.add_argument("--screenshots", type=pathlib.Path, help="write them to this folder")
    parser.add_argument("--no-times", action="store_true", default="CARPOOL_SANITIZED" in os.environ,
                        help="what the loop's time is does not decide (sanitizers)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carpool-page-") as home:
        os.chmod(home, 0o755)
        failed = watch(pathlib.Path(home), arguments.screenshots, not arguments.no_times)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
