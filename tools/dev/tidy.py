#!/usr/bin/python3
"""clang-tidy of sidecar/, by g++'s commands in a build folder.

    tidy.py FOLDER           what changed, itself or a header that it includes: since the branch left
                             main, or on main since .ci/tidied names
    tidy.py FOLDER --all     all of it; .ci/tidied then names this commit, unless something is not clean

What was clean once is not looked at again while nothing that it is made of differs: the file, every
header down to the system's, the command, .clang-tidy and clang-tidy's version. That is remembered
for all checkouts, in $XDG_CACHE_HOME/carpool/tidy.
"""

import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "carpool/tidy"
TIDIED = ROOT / ".ci" / "tidied"
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)
NOISE = re.compile(r"^\d+ warnings? (generated|treated as errors?)\.?$")


def git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=ROOT, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.strip() if done.returncode == 0 else None


def base():
    """The commit at which all was clean; none is known: None."""
    head = git("rev-parse", "HEAD")
    for main in ("origin/main", "main"):
        left = git("merge-base", "HEAD", main)
        if left and left != head:
            return left
    recorded = TIDIED.read_text().strip() if TIDIED.exists() else ""
    # What all of it is judged by changed since: all of it is new.
    if not recorded or git("diff", "--quiet", recorded, "--", ".clang-tidy") is None:
        return None
    return recorded


@functools.cache
def included(path):
    """The headers of sidecar/ that a file includes, and those that they include."""
    found = set()
    for name in INCLUDE.findall(path.read_text()):
        header = ROOT / "sidecar" / name
        if header.exists() and header not in found:
            found |= {header} | included(header)
    return found


def changed(files):
    since = base()
    if since is None:
        return files
    touched = {ROOT / name for names in (
        git("diff", "--name-only", since, "--", "sidecar"),
        git("ls-files", "--others", "--exclude-standard", "--", "sidecar"))
        for name in names.splitlines()}
    return [file for file in files if ({file} | included(file)) & touched]


@functools.cache
def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


class Memory:
    """One entry a file and command: the digests of all that it was made of when it was clean."""

    def __init__(self):
        version = subprocess.check_output(["clang-tidy", "--version"], text=True)
        self.judge = version + (ROOT / ".clang-tidy").read_text()
        CACHE.mkdir(parents=True, exist_ok=True)

    def entry(self, command):
        named = self.judge + command["command"].replace(str(ROOT), "")
        return CACHE / hashlib.sha256(named.encode()).hexdigest()

    def clean(self, command):
        try:
            parts = json.loads(self.entry(command).read_text())
            return all(digest(ROOT / path) == was for path, was in parts.items())
        except (OSError, ValueError):
            return False

    def remember(self, command):
        words = shlex.split(command["command"])
        words[words.index("-o"):words.index("-o") + 2] = ["-M"]
        rule = subprocess.check_output(words, cwd=command["directory"], text=True)
        parts = {}
        for name in rule.split(":", 1)[1].replace("\\\n", " ").split():
            # By what it is: rooms/ of the build folder holds links to sidecar/.
            path = (pathlib.Path(command["directory"]) / name).resolve()
            parts[str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)] = digest(path)
        partial = self.entry(command).with_suffix(f".{os.getpid()}-{hash(command['file'])}")
        partial.write_text(json.dumps(parts))
        partial.rename(self.entry(command))


def tidy(folder, command, memory):
    """What clang-tidy says of a file; nothing where it is clean."""
    done = subprocess.run(["clang-tidy", "-p", folder, "--quiet", command["file"]], text=True,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode == 0:
        try:
            memory.remember(command)
        except (OSError, ValueError, subprocess.CalledProcessError):
            pass  # then it is looked at again
        return ""
    return "\n".join(line for line in done.stdout.splitlines() if not NOISE.match(line))


def main():
    folder, everything = sys.argv[1], sys.argv[2:] == ["--all"]
    commands = {pathlib.Path(c["file"]): c
                for c in json.loads((ROOT / folder / "compile_commands.json").read_text())}
    files = [file for file in commands if file.is_relative_to(ROOT / "sidecar")]
    chosen = files if everything else changed(files)
    memory = Memory()
    asked = [file for file in chosen if not memory.clean(commands[file])]
    # The longest first, so that none of them is what is waited for at the end.
    asked.sort(key=lambda file: -file.stat().st_size)
    print(f"clang-tidy: {len(files)} files, {len(chosen)} to look at, {len(chosen) - len(asked)} of them"
          " known to be clean", flush=True)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for said in pool.map(lambda file: tidy(folder, commands[file], memory), asked):
            if said:
                failed += 1
                print(said, flush=True)
    if everything and not failed and not git("status", "--porcelain", "--", "sidecar", ".clang-tidy"):
        TIDIED.write_text(git("rev-parse", "HEAD") + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
