"""Strong tickets: how right is a part of a network that was never trained?

    .venv/bin/python scripts/study_strong.py [--tasks moons-20,moons-100,digits-20] [--seeds 0,1,2,3,4]

The settings of SLTN-GA (arXiv 2411.04658): weights and biases U(-1, 1), biases never masked, moons with noise
0.07, all data scaled to [-0.7, 0.7], but a mask of 30 % of the weights. The search goes by accuracy on the
training part, validation chooses among the 32 best of its last generation, and the test part is met once. The
settings for moons and of edge-popup were tried on seeds 10 and up. Prints a row a seed, with the seconds of a
core. Rows named popup are what the search begins with: the best by validation of its masks of edge-popup.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np

import ticketsearch as ts
from ticketsearch.fitness import Untrained
from ticketsearch.masks import Mask, MaskSpec, digest, live
from ticketsearch.operators import swap_mutation, uniform_crossover

DENSITY = 0.3
CANDIDATES = 32


class Task(NamedTuple):
    """Settings of a search: ``popups`` of the first masks are edge-popup's, the others are random."""

    data: str
    hidden: int
    size: int  # of the population
    generations: int
    elites: int
    rate: float  # of mutation
    samples: int = 0  # of the training part, by which an evaluation goes; 0 is all
    popups: int = 0
    polish: int = 0  # changes tried of each child
    ties: int = 0


TASKS = {
    "moons-20": Task("moons", 20, 100, 99, 100, 0.08, samples=300, polish=400, ties=3),
    "moons-100": Task("moons", 100, 200, 150, 40, 0.03, samples=2000),
    "digits-20": Task("digits", 20, 32, 30, 6, 0.005, popups=8),
}


def function_key(mask: Mask, spec: MaskSpec) -> str:
    """Return what decides the function of an untrained network: the live weights."""
    return digest(live(mask, spec))


class Row(NamedTuple):
    """Accuracies of a ticket, evaluations, and seconds of one core."""

    train: float
    validation: float
    test: float
    evaluations: int
    seconds: float


def study(task: str, seed: int) -> dict[str, Row]:
    """Return the row of the search, and of edge-popup where it gave the first masks."""
    own = TASKS[task]
    size, popups = own.size, own.popups
    dataset = ts.load_dataset(own.data, standardize="range")
    network = ts.initialize(f"mlp:{own.hidden}", dataset, scheme="uniform", seed=seed)
    training = Untrained(network, dataset, samples=own.samples, device="cpu")
    parts = {
        part: Untrained(network, dataset, part=part, device="cpu") for part in ("train", "validation", "test")
    }

    def chosen(masks: Mask, evaluations: int) -> Row:
        best = masks[[np.argmax(parts["validation"](masks))]]
        seconds = time.process_time() - began
        return Row(*(float(score(best)[0]) for score in parts.values()), evaluations, seconds)

    began = time.process_time()
    rows = {}
    rng = np.random.default_rng(seed)
    kept = round(DENSITY * network.spec.size)
    first = [
        ts.prune(network, "edge_popup", density=DENSITY, dataset=dataset, seed=number, device="cpu")
        for number in range(popups)
    ]
    if first:
        rows["popup"] = chosen(np.stack(first), popups)
        first += [
            swap_mutation(first[number % popups], spec=network.spec, rng=rng, rate=own.rate)
            for number in range(size - popups)
        ]
    else:
        first = [rng.permutation(network.spec.size) < kept for _ in range(size)]
    variation = ts.Variation(
        uniform_crossover, swap_mutation, mutation_rate=own.rate, duplicates=ts.Duplicates(function_key)
    )
    local_search = ts.LocalSearch(own.polish, kept) if own.polish else None
    evaluations = 0
    for generation in ts.evolve(
        np.stack(first),
        training,
        network.spec,
        variation=variation,
        selection=ts.Tournament(elites=own.elites, ties=own.ties),
        local_search=local_search,
        generations=own.generations,
        seed=seed,
    ):
        evaluations += generation.spent.evaluations
    best = sorted(generation.population, key=lambda ticket: ticket.fitness, reverse=True)[:CANDIDATES]
    rows["search"] = chosen(np.stack([ticket.mask for ticket in best]), evaluations)
    return rows


def main() -> None:
    """Print the table of each task and its medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", default=",".join(TASKS), help="some of the tasks, by comma")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of the initial networks, by comma")
    arguments = parser.parse_args()
    print("| task | method | seed | training | validation | test | evaluations | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for task in arguments.tasks.split(","):
        found: dict[str, list[Row]] = {}
        for seed in map(int, arguments.seeds.split(",")):
            for method, row in study(task, seed).items():
                found.setdefault(method, []).append(row)
                print(_line(task, method, str(seed), row), flush=True)
        for method, rows in found.items():
            print(_line(task, method, "median", Row(*np.median(rows, axis=0))), flush=True)


def _line(task: str, method: str, seed: str, row: Row) -> str:
    accuracies = f"{row.train:.4f} | {row.validation:.4f} | {row.test:.4f}"
    return f"| {task} | {method} | {seed} | {accuracies} | {row.evaluations:,.0f} | {row.seconds:.1f} |"


if __name__ == "__main__":
    main()
