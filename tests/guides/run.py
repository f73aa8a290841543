#!/usr/bin/python3
"""The guides say nothing that does not run: their code blocks are taken out and executed, each guide
before a Carpool and a PostgreSQL of its own.

The word behind a fence's language says what becomes of the block:

    yaml carpool        the sidecar's configuration; (re)starts it
    yaml check          a configuration that `carpool check` has to take
    sh run, python run, js run, sql run      executed; an exit code other than 0 is a failure
    LANGUAGE file=NAME  written to that file, for the blocks below it
    LANGUAGE text       read by people only: the guide says why

A fence without such a word is a failure. Ports 6432, 9930 and 9931 become free ones, and
DATABASE_URL names the PostgreSQL. $GUIDES_CACHE keeps the Python and Node packages."""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import throwaway  # noqa: E402  pylint: disable=wrong-import-position

GUIDES = ROOT / "docs" / "guides"
CACHE = pathlib.Path(os.environ.get("GUIDES_CACHE") or
                     pathlib.Path.home() / ".cache" / "carpool-guides")
FENCE = re.compile(r"^```(\S+)[ ]?(.*?)\n(.*?)^```$", re.M | re.S)
SECONDS_MAX = 120


def install(chosen):
    """The packages that the guides' programs need, by their ordinary clients."""
    python = not chosen or {"django", "sqlalchemy"} & set(chosen)
    if python and not (CACHE / "venv" / "bin" / "django-admin").exists():
        subprocess.run(["python3", "-m", "venv", CACHE / "venv"], check=True)
        subprocess.run([CACHE / "venv/bin/pip", "install", "-q", "-r", HERE / "requirements.txt"],
                       check=True)
    node = not chosen or "node" in chosen
    if node and not (CACHE / "node" / "node_modules" / "pg").exists():
        (CACHE / "node").mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "pg@8"], cwd=CACHE / "node", check=True)


class Guide:
    def __init__(self, path, folder, postgres):
        self.path, self.folder = path, folder
        self.ports = {wanted: str(throwaway.free_port()) for wanted in ("6432", "9930", "9931")}
        self.carpool = None
        url = f"postgresql://app@127.0.0.1:{postgres.port}/app"
        self.environment = os.environ | {
            "DATABASE_URL": url, "PGHOST": "127.0.0.1", "PGPORT": self.ports["6432"],
            "PGUSER": "app", "PGDATABASE": "app", "NODE_PATH": str(CACHE / "node/node_modules"),
            "CARPOOL_ADMIN": f"127.0.0.1:{self.ports['9930']}",
            "CARPOOL_CONTROL": f"127.0.0.1:{self.ports['9931']}",
            "PATH": f"{throwaway.CARPOOL.parent}:{CACHE}/venv/bin:{os.environ['PATH']}"}

    def execute(self, command, name):
        done = subprocess.run(command, cwd=self.folder, env=self.environment, text=True,
                              capture_output=True, timeout=SECONDS_MAX, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")

    def start(self, text):
        self.stop()
        config = self.folder / "carpool.yaml"
        # The two ports that a short configuration leaves at their defaults.
        if not re.search(r"^admin:", text, re.M):
            text += (f"admin: {{address: 127.0.0.1, port: {self.ports['9930']}, "
                     f"controlPort: {self.ports['9931']}}}\n")
        if not re.search(r"^listen:", text, re.M):
            text += f"listen: {{port: {self.ports['6432']}}}\n"
        config.write_text(text)
        log = self.folder / "carpool.log"
        self.carpool = throwaway.Process([throwaway.CARPOOL, "run", "--config", config], log=log,
                                         env=self.environment)
        try:
            throwaway.wait_until(lambda: throwaway.accepts(int(self.ports["6432"])), 20, "Carpool",
                                 self.carpool)
        except (RuntimeError, TimeoutError) as error:
            raise AssertionError(f"{error}\n{log.read_text()}") from error

    def stop(self):
        if self.carpool:
            self.carpool.stop()

    def run(self):
        executed = 0
        source = self.path.read_text()
        for match in FENCE.finditer(source):
            language, word, text = match[1], match[2].strip(), match[3]
            name = f"{self.path.name}:{source[:match.start()].count(chr(10)) + 1}"
            for wanted, port in self.ports.items():
                text = text.replace(wanted, port)
            if word == "text":
                continue
            executed += 1
            if (language, word) == ("yaml", "carpool"):
                self.start(text)
            elif (language, word) == ("yaml", "check"):
                (self.folder / "checked.yaml").write_text(text)
                self.execute([throwaway.CARPOOL, "check", "checked.yaml"], name)
            elif word.startswith("file="):
                target = self.folder / word[5:]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
            elif word == "run":
                block = self.folder / f"block.{language}"
                block.write_text(text)
                self.execute({"sh": ["bash", "-eu", block], "python": ["python", block],
                              "js": ["node", block],
                              "sql": ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", block],
                              }[language], name)
            else:
                raise AssertionError(f"{name}: what is to become of this block?")
        return executed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("guide", nargs="*", help="django, sqlalchemy, ...; else all")
    chosen = parser.parse_args().guide
    install(chosen)
    failed = []
    for path in sorted(GUIDES.glob("*.md")):
        if path.stem == "README" or (chosen and path.stem not in chosen):
            continue
        with tempfile.TemporaryDirectory(prefix="carpool-guide-") as folder:
            folder = pathlib.Path(folder)
            folder.chmod(0o755)
            (folder / "work").mkdir()
            postgres = throwaway.Postgres(folder, tcp=True)
            guide = Guide(path, folder / "work", postgres)
            try:
                print(f"{path.stem}: {guide.run()} blocks", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed.append(path.stem)
                print(f"{path.stem}: FAILED\n{error}", flush=True)
            finally:
                guide.stop()
                postgres.stop()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
