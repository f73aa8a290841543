#!/usr/bin/python3
"""Builds and tests what changed: `check.py FOLDER JOBS`, by ./dev check.

A room that changed is tested with those above it, by the links that CMake knows; whatever is in the
binary makes the promises of tests/integration be asked again. What changed is what differs from where
the branch left main, committed or not; on main, from the commit before.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# By the beginning of a path: regular expressions on the names of tests. What is built differently, or
# builds differently, is tested whole. The rest (charts/, e2e/, ...) has its own ways.
ELSEWHERE = {
    "CMakeLists.txt": [""], "tests/CMakeLists.txt": [""],
    "tests/integration/harness/": ["^integration"], "tests/integration/CMakeLists.txt": ["^integration"],
    "tests/integration/one_server.h": ["^integration"],
    "tests/property/": ["^property$"], "tests/console/": ["^console$"], "tests/docs/": ["^docs$"],
    "tests/admin/page/": ["^page$"], "bench/load": ["^load$"], "docs/": ["^docs$"],
    "charts/": ["^charts"], "tools/throwaway.py": ["^console$", "^page$", "^load$"],
    "tests/drivers/run.py": ["^property$"],
}
VALUES = {"config/config.h", "pool/counters.h"}  # all may include them
OUTSIDE = ["carpool", "integration_test", "property_check", "load"]
OF_THE_BINARY = ["^integration", "^property$", "^console$", "^docs$", "^charts", "^load$"]


def git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=ROOT, text=True, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL)
    return done.stdout.strip() if done.returncode == 0 else ""


def changed():
    head = git("rev-parse", "HEAD")
    lefts = [git("merge-base", "HEAD", main) for main in ("origin/main", "main")]
    since = next((left for left in lefts if left and left != head), None) or "HEAD~1"
    return sorted({*git("diff", "--name-only", since).splitlines(),
                   *git("ls-files", "--others", "--exclude-standard").splitlines()})


def rooms_above(folder):
    """room -> itself and all that link it."""
    links = {"values": set()}
    for line in (folder / "rooms" / "links").read_text().splitlines():
        room, linked = line.split(" ", 1)
        links[room] = set(re.findall(r"carpool_(\w+)", linked))
    above = {room: {room} for room in links}
    for _ in links:  # one step further each time
        for room, linked in links.items():
            for below in linked & set(links):
                above[below] |= above[room]
    return above


def chosen(paths, above):
    """The rooms whose tests are to run, and regular expressions on the names of all tests."""
    rooms, patterns = set(), set()
    for path in paths:
        parts = path.split("/")
        if parts[0] == "sidecar":
            rooms |= above.get("values" if "/".join(parts[1:]) in VALUES else parts[1], set()) - {"values"}
            patterns |= {*OF_THE_BINARY, *({"^page$"} if parts[1] == "admin" else ())}
        elif parts[0] == "tests" and parts[1] in above and path.endswith((".cpp", ".h")):
            rooms.add(parts[1])
        elif match := re.fullmatch(r"tests/integration/(\w+)_test\.cpp", path):
            patterns.add(f"^integration\\.{match[1]}$")
        for beginning, tests in ELSEWHERE.items():
            if path.startswith(beginning):
                patterns |= set(tests)
    return rooms, patterns | {f"^{room}\\." for room in rooms}


def main():
    folder, jobs = ROOT / sys.argv[1], sys.argv[2]
    paths = changed()
    rooms, patterns = chosen(paths, rooms_above(folder))
    if not patterns:
        print(f"check: {len(paths)} files changed, and no test here is about them")
        return 0
    print(f"check: {len(paths)} files changed; tests: {' '.join(sorted(patterns))}", flush=True)
    targets = [f"{room}_test" for room in sorted(rooms)]
    if patterns - {f"^{room}\\." for room in rooms}:
        targets += OUTSIDE
    if "" in patterns:
        targets = []  # all of them
    subprocess.check_call(["ninja", "-C", folder, *targets])
    return subprocess.call(["ctest", "--test-dir", folder, "--output-on-failure", "-j", jobs,
                            "-R", "|".join(sorted(patterns))])


if __name__ == "__main__":
    sys.exit(main())
