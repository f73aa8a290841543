#!/usr/bin/python3
"""Where the time of a check goes.

    times.py stage NAME COMMAND...   runs it, and adds what it took to build/times.tsv
    times.py table                   the table, of the last .ci/run in this checkout
    times.py measure [--cold]        .ci/run in a fresh clone of HEAD, and its table into CONTRIBUTING.md;
                                     --cold: with nothing in the caches
"""

import collections
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGES = ROOT / "build" / "times.tsv"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- ./dev check --times -->", "<!-- end -->"
LONG_SECONDS = 10  # a test that takes more says why


def stage(name, command):
    began = time.monotonic()
    code = subprocess.call(command)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    STAGES.parent.mkdir(exist_ok=True)
    with STAGES.open("a", encoding="utf-8") as file:
        file.write(f"{name}\t{time.monotonic() - began:.1f}\t{used.ru_utime + used.ru_stime:.1f}\n")
    return code if code >= 0 else 128 - code


def kind(output):
    """What ninja made, in few words."""
    if output.endswith((".gch", ".pch")):
        return "headers, read once"
    if not output.endswith(".o"):
        return "links"
    if output.startswith("tests/integration/"):
        return "the promises' tests"
    return "rooms' tests" if output.startswith("tests/") else "rooms"


def compiled(folder):
    """Seconds by kind of what ninja made, as many at once as there are cores."""
    found = collections.Counter()
    for line in (folder / ".ninja_log").read_text().splitlines()[1:]:
        begin, end, _, output, _ = line.split("\t")
        found[kind(output)] += (int(end) - int(begin)) / 1000
    return found


def tests(folder):
    """Seconds by test, from what ctest remembers."""
    found = {}
    for line in (folder / "Testing" / "Temporary" / "CTestCostData.txt").read_text().splitlines():
        if line == "---":
            break
        name, _, seconds = line.rsplit(" ", 2)
        found[name] = float(seconds)
    return found


def reasons():
    """What the tests that take long say of it: `# slow NAME: why` beside their entry."""
    text = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("CMakeLists.txt"))
    return dict(re.findall(r"^\s*# slow ([\w.]+): (.+)$", text, re.M))


def table():
    lines = ["| what | s | CPU s |", "|---|--:|--:|"]
    for line in STAGES.read_text().splitlines():
        name, wall, used = line.split("\t")
        lines.append(f"| {name} | {float(wall):.0f} | {float(used):.0f} |")
    for folder in ("build", "build-asan", "build-test"):
        if (ROOT / folder / ".ninja_log").exists():
            for name, seconds in compiled(ROOT / folder).most_common():
                lines.append(f"| of {folder}: {name} | | {seconds:.0f} |")
    known = reasons()
    for folder in ("build-asan", "build-test"):
        if not (ROOT / folder / "Testing/Temporary/CTestCostData.txt").exists():
            continue
        found = tests(ROOT / folder)
        lines.append(f"| {len(found)} tests of {folder}, one after the other | {sum(found.values()):.0f} | |")
        for name, seconds in sorted(found.items(), key=lambda pair: -pair[1]):
            if seconds > LONG_SECONDS:
                why = known.get(name.removeprefix("delivered.").removeprefix("newest.")
                                .removeprefix("oldest."), "**says not why**")
                lines.append(f"| {name}: {why} | {seconds:.0f} | |")
    return "\n".join(lines)


def measure(cold):
    with tempfile.TemporaryDirectory(prefix="carpool-times-") as folder:
        clone = pathlib.Path(folder) / "carpool"
        subprocess.check_call(["git", "clone", "-q", ROOT, clone])
        environment = dict(os.environ)
        if cold:
            environment["XDG_CACHE_HOME"] = environment["CCACHE_DIR"] = str(pathlib.Path(folder) / "cache")
        began = time.monotonic()
        code = subprocess.call([clone / ".ci" / "run"], env=environment)
        took = time.monotonic() - began
        found = subprocess.check_output([clone / "tools/dev/times.py", "table"], text=True)
    text = (f"`.ci/run`, {'nothing in the caches' if cold else 'caches as they were'}, "
            f"{os.cpu_count()} cores: {took / 60:.0f} minutes.\n\n{found}")
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    PAGE.write_text(head + BEGIN + "\n" + text + END + rest.split(END, 1)[1])
    print(text)
    return code


def main():
    if sys.argv[1:2] == ["stage"]:
        return stage(sys.argv[2], sys.argv[3:])
    if sys.argv[1:] == ["table"]:
        return print(table())
    if sys.argv[1:2] == ["measure"]:
        return measure("--cold" in sys.argv)
    return print(__doc__) or 2


if __name__ == "__main__":
    sys.exit(main())
