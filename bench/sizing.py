"""Throughput and p99 against the size of the pool, measured: bench/sizing.json, and its picture in
docs/sizing.svg. Two kinds of work, since they bear differently sized pools: queries that only
compute, and queries that hold their server while they wait, as for a disk or a lock."""

import argparse
import contextlib
import json
import pathlib
import resource
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))

from bench import machine  # noqa: E402
from load import QUERY, Progress, carpool, prepare, run_load  # noqa: E402
from throwaway import ROOT, Postgres  # noqa: E402

DATA = ROOT / "bench" / "sizing.json"
PICTURE = ROOT / "docs" / "sizing.svg"
SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
CLIENTS = 200
WAIT_MS = 5
WORK = {
    "computes": ("a row by its key", QUERY),
    "waits": (f"the same, and {WAIT_MS} ms of waiting",
              QUERY.replace("SELECT v ", f"SELECT v, pg_sleep({WAIT_MS / 1000}) ", 1)),
}


def measure(args):
    points, progress = {}, Progress()
    with tempfile.TemporaryDirectory(prefix="carpool-sizing-") as folder, \
            contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        postgres = Postgres(folder, tcp=True, settings={"max_connections": 200})
        stack.callback(postgres.stop)
        prepare(postgres)
        for turn in range(args.rounds):
            # Up and down again, so that what the machine does meanwhile hits no end alone.
            for size in SIZES if turn % 2 == 0 else reversed(SIZES):
                for work, (_, query) in WORK.items():
                    progress.say(f"round {turn + 1} of {args.rounds}: pool.size {size}, {work}")
                    with carpool(folder, postgres, size, CLIENTS) as port:
                        figures = run_load(port, CLIENTS, args.seconds, query=query)
                    if figures["failed"]:
                        raise RuntimeError(f"pool.size {size}: {figures['errors']}")
                    points.setdefault((work, size), []).append(figures)
        progress.clear()
    return [{"work": work, "size": size} |
            {key: round(statistics.median(run[key] for run in runs), 2)
             for key in ("perSecond", "p50Ms", "p99Ms")}
            for (work, size), runs in sorted(points.items())]


def draw(data):
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    # Neither the date nor the run's own names of things: equal data, equal file.
    matplotlib.rcParams.update({"svg.hashsalt": "carpool", "svg.fonttype": "none", "font.size": 10})
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    figure.suptitle(f"{data['clients']} clients, {data['machine'].split(';')[0]}", fontsize=10)
    for column, (work, (title, _)) in enumerate(WORK.items()):
        points = [point for point in data["points"] if point["work"] == work]
        sizes = [point["size"] for point in points]
        for row, (key, label) in enumerate((("perSecond", "queries a second"),
                                            ("p99Ms", "p99, ms"))):
            axis = axes[row][column]
            axis.plot(sizes, [point[key] for point in points], "o-", color="#0969da", markersize=4)
            axis.set_xscale("log", base=2)
            axis.set_xticks([1, 2, 4, 8, 16, 32, 64], [1, 2, 4, 8, 16, 32, 64])
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[0][column].set_title(title, fontsize=10)
        axes[1][column].set_xlabel("pool.size")
    figure.savefig(PICTURE, metadata={"Date": None, "Creator": None})


def table(data):
    yield "| pool.size | " + " | ".join(
        f"{title}: a second | p99 ms" for title, _ in WORK.values()) + " |"
    yield "|---:|" + "---:|" * (2 * len(WORK))
    by_size = {}
    for point in data["points"]:
        by_size.setdefault(point["size"], {})[point["work"]] = point
    for size, found in sorted(by_size.items()):
        cells = [f"{found[work]['perSecond']:,.0f} | {found[work]['p99Ms']:,.1f}" for work in WORK]
        yield f"| {size} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(prog="./dev sizing", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2, help="of each point")
    parser.add_argument("--draw", action="store_true", help="only the picture, from sizing.json")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if not args.draw:
        points = measure(args)
        data = {"machine": f"{machine()}; load, Carpool and PostgreSQL share it",
                "clients": CLIENTS, "rounds": args.rounds, "seconds": args.seconds,
                "points": points}
        DATA.write_text(json.dumps(data, indent=1) + "\n")
    data = json.loads(DATA.read_text())
    draw(data)
    print(*table(data), sep="\n")


if __name__ == "__main__":
    main()
