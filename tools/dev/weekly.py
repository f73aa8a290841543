#!/usr/bin/python3
"""Everything there is, one after the other, and one table of what came of it.

    ./dev weekly                 all of it: some hours
    ./dev weekly NAME ...        those whose names begin so
    ./dev weekly --list          what there is

What is said goes to build/weekly/NAME.log. A new kind of test that takes longer than .ci/run bears is
one line of CHECKS.
"""

import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "weekly"
VERSIONS = ("14", "15", "16", "17", "18")
FUZZED = sorted(path.name.removesuffix("_fuzz.cpp") for path in (ROOT / "fuzz").glob("*_fuzz.cpp"))
CHAOS_SECONDS = 1200
FUZZ_SECONDS = 600
# The whole relay has further to go.
FUZZ_RELAY_SECONDS = 3600

# (name, command, what it asks)
CHECKS = [
    ("lint", "./dev lint --all", "clang-tidy of every file"),
    ("test", "./dev test", "what .ci/run asks"),
    ("plain", "./dev test -E ^$", "every test, without sanitizers"),
    *((f"postgresql-{version}", f"./dev test --sanitize --postgresql {version}",
       f"what needs a PostgreSQL, with {version}") for version in VERSIONS),
    ("repeat", "./dev test --sanitize -L integration --repeat until-fail:20", "20 times: is any flaky?"),
    ("property", "./dev property --scripts 5000", "random sessions that nobody has seen"),
    ("chaos", f"./dev chaos {CHAOS_SECONDS}", "clients that know what they must get, while all breaks"),
    *((f"chaos-{version}", f"./dev chaos 300 --postgresql {version}", f"the same, with PostgreSQL {version}")
      for version in (VERSIONS[0], VERSIONS[-1])),
    *((f"fuzz-{target}", f"./dev fuzz {target} {FUZZ_SECONDS}", "bytes from a stranger")
      for target in FUZZED if target != "relay"),
    ("fuzz-relay", f"./dev fuzz relay {FUZZ_RELAY_SECONDS}", "a whole relay between hostile clients and a rogue PostgreSQL"),
    ("drivers", "./dev drivers", "every driver, with Java and Rust"),
    ("guides", "./dev guides", "every code block of docs/guides"),
    ("demo", "./dev demo --check", "what the README shows"),
    ("e2e", "./dev e2e", "image, charts and injection, run by podman"),
    ("cluster", "./dev e2e --cluster", "the same on a Kubernetes of this machine"),
    ("bench", "./dev bench --quick", "side by side with PgBouncer and HAProxy"),
]


def run(name, command):
    """Outcome and seconds."""
    began = time.monotonic()
    with open(LOGS / f"{name}.log", "w", encoding="utf-8") as log:
        code = subprocess.call(command.split(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                               stderr=subprocess.STDOUT)
    return "passed" if code == 0 else f"FAILED ({code})", time.monotonic() - began


def main():
    names = sys.argv[1:]
    if names in (["--help"], ["-h"]):
        return print(__doc__)
    if names == ["--list"]:
        return print("\n".join(f"{name:20} {command:58} {asks}" for name, command, asks in CHECKS))
    chosen = [check for check in CHECKS if not names or check[0].startswith(tuple(names))]
    if not chosen:
        sys.exit(f"weekly: nothing is called {' '.join(names)}; --list")
    LOGS.mkdir(parents=True, exist_ok=True)
    table = []
    for name, command, asks in chosen:
        print(f"weekly: {name}: {command}", flush=True)
        outcome, seconds = run(name, command)
        table.append((name, outcome, f"{seconds / 60:.1f} min", asks))
        print(f"weekly: {name}: {outcome}", flush=True)
    text = "\n".join(f"{name:20} {outcome:12} {took:>10}  {asks}" for name, outcome, took, asks in table)
    (LOGS / "table.txt").write_text(text + "\n")
    print("\n" + text)
    return 1 if any(outcome != "passed" for _, outcome, *_ in table) else 0


if __name__ == "__main__":
    sys.exit(main())
