"""Imports a folder's archives into the containerd that runs here, those that it has not got.

    images.py FOLDER
"""

import pathlib
import subprocess
import sys

from places import RUNTIME

# By this label of an image it is known which archive it came from.
LABEL = "carpool.archive"


def ctr(*arguments):
    return subprocess.run(["ctr", "--address", RUNTIME, "--namespace", "k8s.io", *map(str, arguments)],
                          check=True, text=True, stdout=subprocess.PIPE).stdout


def import_all(folder):
    for archive in sorted(pathlib.Path(folder).glob("*.tar")):
        if ctr("images", "list", "--quiet", f'labels."{LABEL}"=={archive.stem}').strip():
            continue
        lines = ctr("images", "import", "--all-platforms", archive).splitlines()
        for line in lines:  # "unpacking NAME (sha256:...)...done"
            if line.startswith("unpacking "):
                ctr("images", "label", line.split()[1], f"{LABEL}={archive.stem}")
        print(f"cluster: loaded {archive.stem[:12]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    import_all(sys.argv[1])
