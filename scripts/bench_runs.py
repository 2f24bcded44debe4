"""Times long searches: whether a late generation costs more than an early one, and how fast a run is read.

A search of population 6 on mlp:12 is stored as any other. Ratios are of this one run: processor time of its
last hundred generations to its first hundred (medians), and what reading costs a generation of all of them to
what it costs of the first tenth. Targets are those of 2,000 generations.

    OMP_NUM_THREADS=1 python scripts/bench_runs.py [--generations 2000] [--set evolution.reassess=1 …]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from ticketsearch import settings as config
from ticketsearch.experiment import Search, create_run, finish
from ticketsearch.runs import Run

MOST_MEGABYTES, MOST_RATIO, MOST_SECONDS = 10.0, 1.1, 3.0
SETTINGS = {
    "model.name": "mlp:12",
    "seeding.density": 0.1,
    "seeding.initializations": 3,
    "evolution.population": 6,
    "training.steps": 5,
    "training.device": "cpu",
    "training.workers": 1,
    "final.steps": 5,
    "final.orders": 2,
}


def searched(root: Path, name: str, assignments: list[tuple[str, object]]) -> list[float]:
    """Make a finished run; return the processor seconds of each generation after the first population."""
    search = Search.prepare(config.load(None, assignments))
    found = []
    with create_run(search, root, name) as run:
        began = time.process_time()
        for _ in search.generations(run):
            now = time.process_time()
            found.append(now - began)
            began = now
        for _ in finish(search, run):
            pass
    return found[1:]


def command(*arguments: str) -> float:
    """Return the processor seconds of a command, imports included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "ticketsearch", *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def verdict(holds: bool) -> str:
    """Return whether a target is met, in a word."""
    return "met" if holds else "NOT MET"


def main() -> None:
    """Measure, and print figures beside their targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generations", type=int, default=2000)
    parser.add_argument("--set", dest="assign", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--keep", type=Path, help="a folder for the runs, which stay there")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    given = [*SETTINGS.items(), *map(config.parse_assignment, options.assign)]
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        for name, generations in (("tenth", options.generations // 10), ("whole", options.generations)):
            seconds = searched(root, name, [*given, ("evolution.generations", generations)])
        window = min(100, max(1, len(seconds) // 4))
        first, last = (statistics.median(part) for part in (seconds[:window], seconds[-window:]))
        size = (root / "whole" / "run.sqlite").stat().st_size / 1e6
        print(f"{options.generations} generations, {sum(seconds):.0f} processor seconds")
        print(
            f"a generation: first {window} {1e3 * first:.2f} ms, last {window} {1e3 * last:.2f} ms, "
            f"ratio {last / first:.3f} (at most {MOST_RATIO}: {verdict(last / first <= MOST_RATIO)})"
        )
        print(f"run.sqlite: {size:.2f} MB (at most {MOST_MEGABYTES:g}: {verdict(size <= MOST_MEGABYTES)})")
        began = time.process_time()
        with Run.open(root / "whole") as run:
            number = len(run.tickets())
        print(f"tickets(): {number} tickets, {time.process_time() - began:.2f} s")
        start = command("--version")
        for name in ("show", "report"):
            tenth, whole = (command(name, str(root / run)) for run in ("tenth", "whole"))
            growth = (whole - start) / max(tenth - start, 1e-9)
            print(
                f"{name}: {whole:.2f} s, of a tenth of the generations {tenth:.2f} s, growth {growth:.1f} "
                f"(at most {MOST_SECONDS:g} s: {verdict(whole <= MOST_SECONDS)})"
            )


if __name__ == "__main__":
    main()
