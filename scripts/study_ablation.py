"""Ablation of the search: the search of the studies, whole and with one part changed.

    .venv/bin/python scripts/study_ablation.py OUT --initializations 10

MNIST-1D by default, other samples than those of the study (another seed of the generator) and other
initializations, with which the search was not chosen either. Prints for each variant the mean accuracy of the
winners after the final training on samples that no search has seen, what they took in FLOPs, and the
difference to the whole search, paired over initializations, with its interval and p (all changes of signs,
corrected by Holm's method). Validation accuracy would not do: what fits itself to it would seem to be better.
Generations are such that variants take about as much as the whole. Searches are runs in OUT: the same command
goes on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from ticketsearch import settings as config
from ticketsearch.comparison.final_training import tested
from ticketsearch.comparison.methods import evolved
from ticketsearch.cost import Spent
from ticketsearch.experiment import Search
from ticketsearch.statistics import holm, paired
from ticketsearch.workers import side_by_side

COMMON = {
    "data.name": "mnist1d",
    "data.options": {"seed": 1, "test": 20000},
    "model.name": "mlp:128,64",
    "seeding.density": 0.02,
    "final.steps": 2000,
    "final.orders": 6,
    "seeding.options": {"training_steps": 1000},
}
BLIND = {"evolution.mutation": "swap_mutation", "evolution.crossover": "uniform_crossover"}
# What is changed, and how many times as many generations take as much as the whole search.
VARIANTS: dict[str, tuple[dict[str, Any], float]] = {
    "whole": ({}, 1.0),
    "no trials": ({"evolution.trial": False}, 2.0),
    "re-evaluation": ({"evolution.reassess": 3}, 0.87),
    "few members": ({"evolution.population": 4, "evolution.elites": 4}, 1.9),
    "no crossover": ({"evolution.crossover_rate": 0.0}, 1.0),
    "crossover alone": ({"evolution.crossover_rate": 1.0}, 1.0),
    "no noise": ({"evolution.temperature": 0.0}, 1.0),
    "calmer": ({"evolution.temperature": 0.1}, 1.0),
    "by magnitude": ({"evolution.saliency": "magnitude"}, 1.0),
    "mixed": ({"evolution.saliency": "mixed"}, 1.0),
    "pooled scores": ({"training.scored": "pooled"}, 0.95),
    "blind without trials": ({**BLIND, "evolution.trial": False}, 2.0),
    "from imp": ({"seeding.method": "imp"}, 1.0),
    "from synflow": ({"seeding.method": "synflow", "seeding.options": {}}, 1.5),
}


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--initializations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=2000, help="of the first initialization")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="some of them, the whole first")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    names = arguments.variants.split(",")
    if unknown := [name for name in names if name not in VARIANTS]:
        parser.error(f"unknown variants: {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    tasks = [
        (arguments.out, name, arguments.seed + number, tuple(arguments.set))
        for number in range(arguments.initializations)
        for name in names
    ]
    found: dict[tuple[str, int], tuple[float, Spent]] = {}
    for index, result in side_by_side(search, tasks, arguments.workers):
        _, name, seed, _ = tasks[index]
        found[name, seed] = result
        print(f"{name}, {seed}: {result[0]:.4f}, {result[1].flops:.3g} FLOPs", flush=True)
    seeds = range(arguments.seed, arguments.seed + arguments.initializations)
    accuracy = {name: np.array([found[name, seed][0] for seed in seeds]) for name in names}
    tests = {name: paired(accuracy[name] - accuracy[names[0]]) for name in names[1:]}
    corrected = dict(zip(tests, holm([test.permutation for test in tests.values()]), strict=True))
    print("\n| variant | accuracy | live FLOPs | less the whole (95 %) | p (Holm) |\n|---|---|---|---|---|")
    for name in names:
        flops = np.mean([found[name, seed][1].flops for seed in seeds])
        row = f"| {name} | {accuracy[name].mean():.4f} | {flops:.3g} |"
        if name in tests:
            difference = tests[name].difference
            row += f" {difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}) |"
            row += f" {corrected[name]:.3g} |"
        print(row)


def search(task: tuple[Path, str, int, tuple[str, ...]]) -> tuple[float, Spent]:
    """Return the accuracy of what the search of a variant and a seed found, and what it took."""
    out, name, seed, given = task
    change, factor = VARIANTS[name]
    file = Path(__file__).with_name("evolution.toml")
    settings = config.load(file, {**COMMON, "seed": seed}.items())
    settings = config.apply(settings, [config.parse_assignment(text) for text in given])
    generations = round(factor * settings.evolution.generations)
    settings = config.apply(
        settings, {"evolution.generations": generations, "training.workers": 1, **change}.items()
    )
    prepared = Search.prepare(settings)
    made = evolved(prepared, out, f"{name.replace(' ', '-')}-{seed}")
    evaluation = tested(prepared, made.mask, "", range(settings.final.orders))
    return float(evaluation.accuracy.mean()), made.spent


if __name__ == "__main__":
    main()
