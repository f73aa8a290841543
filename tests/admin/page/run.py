#!/usr/bin/env python3
"""The status page in a real Chromium, before a real Carpool and a real PostgreSQL: what a person
would see under load, in each kind of trouble, during a resize, with a rejected configuration and
when the sidecar is gone. Screenshots go to docs/ with --screenshots.

Playwright is installed by pip into a cache outside of the tree ($CARPOOL_PAGE_CACHE, or
~/.cache/carpool-page); the browser is Debian's chromium.
"""
import argparse
import contextlib
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import throwaway  # noqa: E402  (found by the line above)

CACHES = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
CACHE = pathlib.Path(os.environ.get("CARPOOL_PAGE_CACHE") or CACHES / "carpool-page")
PLAYWRIGHT = "playwright==1.65.2"
POOL_SIZE = 3
SEEN_MS_MAX = 10_000  # a person finds the reason within ten seconds; so must the page show it

CONFIG = """\
listen: {{port: {listen}}}
admin: {{address: 127.0.0.1, port: {admin}, controlPort: {control}}}
server: {{host: 127.0.0.1, port: {postgres}, user: app, database: app}}
pool: {{size: {size}, acquireTimeout: 20s}}
"""


def use_playwright():
    """Runs this program again with the Python of the cache, unless it has Playwright already."""
    if importlib.util.find_spec("playwright") is not None:
        return
    python = CACHE / "bin" / "python"
    if sys.executable == str(python):
        sys.exit("page: Playwright was not installed")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", CACHE], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", PLAYWRIGHT], check=True)
    os.execv(python, [str(python), *sys.argv])


class Sidecar:
    def __init__(self, binary, home, postgres):
        self.ports = {name: throwaway.free_port() for name in ("listen", "admin", "control")}
        self.postgres = postgres
        self.volume = throwaway.ConfigMapVolume(home / "config")
        self.configure(POOL_SIZE)
        self.process = throwaway.Process(
            [binary, "run", "--config", home / "config" / "carpool.yaml"], log=home / "carpool.log")
        throwaway.wait_until(lambda: throwaway.accepts(self.ports["admin"]), 20, "Carpool",
                             self.process)

    def configure(self, size):
        self.volume.write({"carpool.yaml": CONFIG.format(
            **self.ports, postgres=self.postgres.port, size=size)})

    def url(self):
        return f"http://127.0.0.1:{self.ports['admin']}/"

    def status(self):
        return throwaway.admin_json(self.ports["admin"], "/status")


class Clients:
    """Sessions of psql through the pool; all end with the block."""

    def __init__(self, sidecar, page):
        self.sidecar = sidecar
        self.page = page
        self.open = []

    def __enter__(self):
        return self

    def start(self, *statements):
        psql = subprocess.Popen(
            ["psql", "-XqAt", "-h", "127.0.0.1", "-p", str(self.sidecar.ports["listen"]), "-U",
             "app", "-d", "app"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, text=True)
        psql.stdin.write("".join(statement + ";\n" for statement in statements))
        psql.stdin.flush()
        self.open.append(psql)

    def load(self, clients, seconds):
        self.open.append(subprocess.Popen(
            ["pgbench", "-n", "-S", "-h", "127.0.0.1", "-p", str(self.sidecar.ports["listen"]),
             "-U", "app", "-c", str(clients), "-T", str(seconds), "app"], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def __exit__(self, *_):
        for child in self.open:
            child.kill()
            child.wait()
        # The next scenario starts with nobody waiting and nothing lent.
        throwaway.wait_until(
            lambda: all(p["waiting"] == 0 and p["busy"] == 0
                        for p in self.sidecar.status()["pools"]), 30, "clients to leave")
        # Nor may a sentence of this scenario be taken for one of the next.
        self.page.get_by_text("Nobody waits for a server.").wait_for(timeout=SEEN_MS_MAX)


class Checks:
    """One line a check; the exit code says whether all held."""

    def __init__(self):
        self.failed = 0

    def hold(self, what, condition, saw=""):
        print(f"{'ok    ' if condition else 'FAILED'} {what}" +
              (f": {saw}" if saw and not condition else ""), flush=True)
        self.failed += not condition

    def shows(self, what, locator, pattern):
        """Whether the text appears in time; what is there instead, if not."""
        deadline = time.monotonic() + SEEN_MS_MAX / 1000
        text = ""
        while time.monotonic() < deadline:
            text = locator.inner_text()
            if re.search(pattern, text):
                return self.hold(what, True)
            time.sleep(0.1)
        return self.hold(what, False, text)


def scenarios(page, sidecar, checks, picture):
    why = page.locator("#why")
    pools = page.locator("#pools")

    checks.shows("before the first client: no pool", pools, "No client has connected yet")
    with Clients(sidecar, page) as clients:
        clients.load(2, 12)
        checks.shows("under load: the pool and its transactions", pools,
                     r"app / app[\s\S]*transactions/s\s+[1-9]")
        checks.hold("under load: live", page.locator("#live").inner_text() == "Live")
        page.locator("figure path[d*=L]").first.wait_for(state="attached", timeout=30_000)
        checks.hold("under load: charts are drawn", True)
        picture("load")

    with Clients(sidecar, page) as clients:
        for _ in range(POOL_SIZE):
            clients.start("BEGIN", "SELECT 1")
        time.sleep(1.5)
        clients.start("SELECT 2")
        checks.shows("idle in transaction is named", why, "transactions in which nothing runs")
        picture("idle-in-transaction")

    with Clients(sidecar, page) as clients:
        for _ in range(POOL_SIZE):
            clients.start("SELECT 'a secret', pg_sleep(15)")
        time.sleep(1.5)
        clients.start("SELECT 2")
        checks.shows("a slow query is named", why, "long quer")
        checks.hold("literals are masked", "a secret" not in page.content())

    with Clients(sidecar, page) as clients:
        for _ in range(POOL_SIZE):
            clients.start("LISTEN news")
        time.sleep(1.5)
        clients.start("SELECT 2")
        checks.shows("pins are named", why, r"pinned until[\s\S]*by listen")

    with Clients(sidecar, page) as clients:
        clients.load(30, 14)
        checks.shows("a pool that is too small is named", why, r"raise\s+pool\.size")

        sidecar.configure(2 * POOL_SIZE)
        checks.shows("a resize shows at once", pools, rf"in use\s+\d+ of {2 * POOL_SIZE}")
    checks.shows("and what it applied", page.locator("#config-lists"), r"pool\.size")

    sidecar.configure(0)
    checks.shows("a rejected configuration says where and why", page.locator("#config-lists"),
                 r"Rejected[\s\S]*carpool\.yaml:\d+:\d+[\s\S]*size")
    checks.shows("and the old one stays", pools, rf"of {2 * POOL_SIZE}")
    picture("rejected")
    sidecar.configure(POOL_SIZE)

    sidecar.postgres.process.stop()
    with contextlib.suppress(subprocess.SubprocessError):
        subprocess.run(["psql", "-XqAt", "-h", "127.0.0.1", "-p", str(sidecar.ports["listen"]),
                        "-U", "app", "-d", "app", "-c", "SELECT 1"], capture_output=True,
                       timeout=3)
    checks.shows("a database that is down is named", why,
                 r"no connection to PostgreSQL can be opened")


def manners(page, requests, complaints, sidecar, checks):
    page.set_viewport_size({"width": 360, "height": 740})
    checks.hold("a phone needs no sideways scrolling", page.evaluate(
        "document.documentElement.scrollWidth <= window.innerWidth"))
    page.keyboard.press("Tab")
    checks.hold("the first Tab offers to skip to the pools", page.evaluate(
        "document.activeElement.textContent") == "Skip to the pools")
    checks.hold("every picture has a description", page.evaluate(
        "[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))"))
    foreign = [url for url in requests if not url.startswith((sidecar.url(), "data:"))]
    checks.hold("nothing is asked of any other host", not foreign, str(foreign))
    checks.hold("the browser has no complaint", not complaints, str(complaints))
    sizes = 0
    for path in ("", "page.css", "page.js", "status", "config", "history"):
        with urllib.request.urlopen(sidecar.url() + path, timeout=5) as answer:
            sizes += len(answer.read())
    checks.hold("the page and its data stay under 60 KB", sizes < 60_000, str(sizes))


def watch(binary, home, screenshots):
    from playwright.sync_api import sync_playwright
    checks = Checks()
    with contextlib.ExitStack() as stack:
        postgres = throwaway.Postgres(home, tcp=True)
        stack.callback(postgres.stop)
        subprocess.run(["pgbench", "-i", "-q", "-h", postgres.folder, "-p", str(postgres.port),
                        "-U", "app", "app"], check=True, capture_output=True)
        sidecar = Sidecar(binary, home, postgres)
        stack.callback(sidecar.process.stop)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium",
                                             args=["--no-sandbox", "--disable-gpu"])
        stack.callback(browser.close)
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        requests = []
        complaints = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type == "error" and
                complaints.append(message.text))
        page.goto(sidecar.url())

        def picture(name):
            if not screenshots:
                return
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=screenshots / f"status-page-{name}-{scheme}.png")
            page.emulate_media(color_scheme="light")

        scenarios(page, sidecar, checks, picture)
        manners(page, requests, complaints, sidecar, checks)
        sidecar.process.stop()
        checks.shows("a sidecar that is gone is said to be", page.locator("#live"),
                     r"The sidecar is gone\. What you see is .* old\.")
    return checks.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--binary", type=pathlib.Path, default=throwaway.CARPOOL)
    parser.add_argument("--screenshots", type=pathlib.Path, help="write them to this folder")
    arguments = parser.parse_args()
    use_playwright()
    with tempfile.TemporaryDirectory(prefix="carpool-page-") as home:
        os.chmod(home, 0o755)
        failed = watch(arguments.binary.resolve(), pathlib.Path(home), arguments.screenshots)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
