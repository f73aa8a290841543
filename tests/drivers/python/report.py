"""What every Python driver program shares: the list of checks and one JSON object a line.

A check is a function that returns (its detail, or nothing) or raises. `Absent` says that the
driver has no such thing. CHECKS in the environment, a comma-separated list, picks some.
"""
import json
import os
import threading
import traceback

URL = os.environ["DATABASE_URL"]
USERS = 8
ROUNDS = 12


class Absent(Exception):
    """The driver does not offer what the check is about."""


class Report:
    def __init__(self, driver, version):
        self.driver, self.version = driver, version.split()[0]
        picked = os.environ.get("CHECKS", "")
        self.picked = set(picked.split(",")) if picked else None

    def wants(self, name):
        return self.picked is None or name in self.picked

    def emit(self, name, ok, detail=""):
        print(json.dumps({"driver": self.driver, "version": self.version, "check": name,
                          "ok": ok, "detail": str(detail or "")}), flush=True)

    def failed(self, name, error):
        if isinstance(error, Absent):
            return self.emit(name, None, error)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        ours = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
                if "site-packages" not in frame.filename and frame.name not in ("same", "raises")]
        line = ours[-1] if ours else 0
        self.emit(name, False, f"line {line}: {text[:300]}")

    def run(self, checks):
        for check in checks:
            if not self.wants(check.__name__):
                continue
            try:
                self.emit(check.__name__, True, check())
            except Exception as error:
                self.failed(check.__name__, error)

    async def run_async(self, checks):
        for check in checks:
            if not self.wants(check.__name__):
                continue
            try:
                self.emit(check.__name__, True, await check())
            except Exception as error:
                self.failed(check.__name__, error)


def same(got, want):
    if got != want:
        raise AssertionError(f"got {got!r:.150}, want {want!r:.150}")


def users(body):
    """Runs body(i) for each of the users at once and passes on the first failure."""
    failures = []

    def one(i):
        try:
            body(i)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(USERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def kept(r):
    """Of the rounds of a user, every third is rolled back."""
    return r % 3 != 2


KEPT = sum(kept(r) for r in range(ROUNDS))
