"""Does the search beat the mask it began with? The same search with several seeds, paired by seed.

    .venv/bin/python scripts/study_seeds.py --seeds 5 --set evolution.generations=20

Runs `ticketsearch evolve` once a seed (into --folder, where finished seeds are reused), then prints the test
accuracy of each contender by seed, and the mean difference of the best ticket to each other contender with
its 95 % t interval over seeds. All seeds share one data split, whose variance the interval leaves out. A
study of minutes, so no test.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import stats

from ticketsearch.runs import Run, contender_rows, contenders


def main() -> None:
    """Run the seeds that are missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 on")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs") / "study_seeds", help="where runs/ is made"
    )
    arguments, rest = parser.parse_known_args()  # what is left over goes to `ticketsearch evolve`
    arguments.folder.mkdir(parents=True, exist_ok=True)
    accuracy: dict[str, list[float]] = {}
    for seed in range(arguments.seeds):
        name = f"seed-{seed}"
        path = arguments.folder / "runs" / name
        # A finished seed is only read, and refused if it had other settings.
        which = ["--resume", name] if path.exists() else ["--name", name]
        subprocess.run(
            [sys.executable, "-m", "ticketsearch", "evolve", *rest, "--seed", str(seed), *which],
            cwd=arguments.folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with Run.open(path) as run:
            names = contenders(run.settings, run.contenders)
            for row in contender_rows(run):
                accuracy.setdefault(row.contender, []).append(row.accuracy)
    print(
        f"{'test accuracy':32}"
        + "".join(f"  seed {s:2}" for s in range(arguments.seeds))
        + "     mean     sd"
    )
    for contender in names:
        values = accuracy[contender]
        cells = "".join(f"  {value:7.4f}" for value in values)
        print(f"{contender:32}{cells}  {np.mean(values):7.4f} {np.std(values, ddof=1):6.4f}")
    best = np.array(accuracy[names[0]])
    for contender in names[1:]:
        difference = best - np.array(accuracy[contender])
        low, high = stats.t.interval(0.95, len(difference) - 1, difference.mean(), stats.sem(difference))
        print(f"best ticket − {contender}: {difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
