#!/usr/bin/env python3
"""Runs the property test: a throwaway PostgreSQL, and Carpool with pools of 1, 2 and 3 before it.

Options that are not known here go to the program itself: --scripts, --first, --with, ...
"""
import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("drivers", HERE.parent / "drivers" / "run.py")
drivers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drivers)


def build():
    """Compiles the program, unless it is newer than its sources."""
    folder = drivers.CACHE / "property"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "property"
    sources = [*HERE.glob("*.cpp"), *HERE.glob("*.h")]
    if not program.exists() or program.stat().st_mtime < max(p.stat().st_mtime for p in sources):
        drivers.sh(["c++", "-std=c++20", "-O1", "-g", "-Wall", "-Wextra",
                    *sorted(HERE.glob("*.cpp")), "-o", program, *drivers.libpq_flags()], HERE)
    return program


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=Path, help="the program, where it is built already")
    parser.add_argument("--carpool", type=Path,
                        default=os.environ.get("CARPOOL") or drivers.ROOT / "build" / "carpool")
    parser.add_argument("--direct-only", action="store_true",
                        help="PostgreSQL on both sides: checks the test itself")
    parser.add_argument("--seed", default="random", help="a number; by default a new one")
    args, rest = parser.parse_known_args()
    if args.seed != "random":
        rest += ["--seed", args.seed]
    program = args.binary or build()
    with tempfile.TemporaryDirectory(prefix="carpool-property-") as temporary:
        postgres = drivers.Postgres(Path(temporary))
        carpool = None
        try:
            for database in ("direct", "pooled"):
                postgres.database(database)
            straight = f"postgresql://app@127.0.0.1:{postgres.port}/"
            through = straight + "pooled"
            if not args.direct_only:
                pools = "databases:\n"
                for n in (1, 2, 3):
                    pools += (f"  - {{name: pool{n}, server: {{database: pooled}}, "
                              f"pool: {{size: {n}, acquireTimeout: 3s}}}}\n")
                carpool = drivers.Carpool(args.carpool, Path(temporary), postgres, "property", pools)
                through = f"postgresql://app@127.0.0.1:{carpool.port}/pool{{size}}"
            code = subprocess.run([program, "--carpool", through, "--direct", straight + "direct",
                                   "--server", straight + "pooled", *rest]).returncode
            if carpool:
                print("pins by cause:", carpool.pins() or "none")
                if carpool.process.poll() is not None:
                    print(f"carpool ended with {carpool.process.poll()}:",
                          carpool.log.read_text()[-3000:], sep="\n")
                    code = 1
            return code
        finally:
            if carpool:
                carpool.stop()
            postgres.stop()


if __name__ == "__main__":
    sys.exit(main())
