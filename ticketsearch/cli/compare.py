"""``compare``: a comparison of methods at equal budgets; it goes on where it was interrupted."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ticketsearch.cli.endings import interrupted, resumable, show_lines
from ticketsearch.cli.flags import (
    Assignments,
    DataName,
    ModelName,
    Seed,
    Trust,
    assigned,
    densities_option,
    names,
    numbers,
    option,
    out_option,
    whole_number,
    workers_option,
)
from ticketsearch.cli.runs import RUNS
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.comparison import Comparison, ComparisonPlan
    from ticketsearch.settings import Settings

__all__ = ["compare"]

Subjects = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="SETTINGS.toml|FOLDER",
        help="Settings file of the search, as for evolve; or folders of comparisons that are read together.",
    ),
]
Methods = Annotated[
    str | None,
    option(
        "--methods",
        "Methods that are compared: dense, pruners named as in prune --method, evolution, and imp_best, "
        "averaged_imp_best, obd_best, random_search and one_plus_lambda, which spend as much as evolution.",
        default="dense, random, synflow, snip, imp, imp_best, evolution",
        metavar="NAME,NAME,…",
    ),
]
Controls = Annotated[
    str | None,
    option(
        "--controls",
        "Methods whose masks are also trained shuffled, and from other initial weights.",
        default="evolution",
        metavar="NAME,…",
    ),
]
Densities = Annotated[str | None, densities_option("0.05, 0.02, 0.01")]
Initializations = Annotated[
    str | None,
    option(
        "--initializations",
        "Number of initializations per method; paired tests need 6 or more.",
        default="10",
        metavar="INTEGER",
    ),
]
Orders = Annotated[
    str | None,
    option(
        "--orders",
        "Number of data orders of the final training.",
        default="the setting final.orders (5)",
        metavar="INTEGER",
    ),
]
Budget = Annotated[
    str | None,
    option(
        "--budget",
        "FLOP budget of each search, e.g. 2e12, where evolution is not among the methods.",
        metavar="FLOPS",
    ),
]
Reference = Annotated[
    str | None,
    option(
        "--reference",
        "Method whose accuracy is subtracted from that of each other.",
        default="evolution",
        metavar="NAME",
    ),
]
Workers = Annotated[str | None, workers_option("one a core or GPU")]
Out = Annotated[Path | None, out_option("comparison", "runs/compare-DATA-MODEL-DIGEST")]


def compare(  # noqa: PLR0913 - a parameter for each flag
    subjects: Subjects = None,
    data: DataName = None,
    model: ModelName = None,
    methods: Methods = None,
    controls: Controls = None,
    densities: Densities = None,
    initializations: Initializations = None,
    orders: Orders = None,
    budget: Budget = None,
    reference: Reference = None,
    seed: Seed = None,
    workers: Workers = None,
    out: Out = None,
    trust: Trust = False,
    assign: Assignments = None,
) -> None:
    """Compare methods that find masks: from the same initial weights, at equal budgets, on the test set.

    All masks are trained on the same data orders and evaluated on the test set
    once; differences are paired over initializations. Finished work is kept in
    the comparison's folder: the same command goes on there, and more methods,
    densities, initializations or orders are added to it.
    """
    from ticketsearch.settings import load

    try:
        if subjects and all(path.is_dir() for path in subjects):
            flags = {"--data": data, "--model": model, "--methods": methods, "--densities": densities}
            flags |= {"--controls": controls, "--orders": orders, "--budget": budget, "--seed": seed}
            flags |= {"--initializations": initializations, "--workers": workers}
            given = [flag for flag, value in {**flags, "--set": assign or None}.items() if value is not None]
            _read(subjects, reference, out, given)
            return
        if subjects and len(subjects) > 1:
            raise BadInput(
                f"settings are one file, but got {len(subjects)}; give one, or folders of comparisons"
            )
        flags = {"data.name": data, "model.name": model, "seed": seed}
        chosen = load(None, assigned(subjects[0] if subjects else None, assign, flags, trust).items())
        from ticketsearch.comparison import DEFAULT_DENSITIES, DEFAULT_METHODS, comparison_plan

        plan = comparison_plan(
            chosen,
            DEFAULT_METHODS if methods is None else names(methods),
            DEFAULT_DENSITIES if densities is None else numbers("--densities", densities),
            initializations=whole_number(
                "--initializations", "10" if initializations is None else initializations, 1
            ),
            controls=None if controls is None else names(controls),
            orders=None if orders is None else whole_number("--orders", orders, 1),
            budget=None if budget is None else _flops(budget),
        )
        _run_to_end(plan, out, workers, reference)
    except KeyboardInterrupt:
        raise interrupted("Interrupted; no comparison was begun") from None


def _flops(text: str) -> int:
    """Return the FLOPs that --budget is given; raises :class:`BadInput` for a text that is no number."""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise BadInput(f"--budget takes a number of FLOPs, e.g. 2e12, but got {text!r}") from None


def _read(folders: list[Path], reference: str | None, out: Path | None, flags: list[str]) -> None:
    """Print finished comparisons; their tests are one family."""
    from ticketsearch.python import read_comparison
    from ticketsearch.report import write_comparison_files

    if flags:
        raise BadInput(f"finished comparisons have their settings, but got {flags[0]} too; leave it out")
    comparisons = [read_comparison(folder) for folder in folders]
    if out is None and len(folders) > 1:
        _print_results(comparisons, reference, None)
        return
    path = out or folders[0]
    path.mkdir(parents=True, exist_ok=True)
    write_comparison_files(comparisons, path, reference)  # before the output, which a reader may cut short
    _print_results(comparisons, reference, path)


def _run_to_end(plan: ComparisonPlan, out: Path | None, workers: str | None, reference: str | None) -> None:
    """Do the rest of a comparison and print its results; say how to go on, whatever stops it."""
    from ticketsearch.cli.following import follow
    from ticketsearch.comparison import ComparisonStore, check_reference, default_workers
    from ticketsearch.python import finish_comparison

    count = default_workers(plan.settings) if workers is None else whole_number("--workers", workers, 1)
    path = out or RUNS / f"compare-{_folder_name(plan.settings)}"
    if reference is not None:
        check_reference(reference, plan, path)
    store = ComparisonStore.create(path, plan)
    with resumable("comparison", path):
        print(f"Comparison in {path}", file=sys.stderr, flush=True)
        comparison = finish_comparison(plan, store, count, reference, follow)
        _print_results([comparison], reference, path)


def _folder_name(settings: Settings) -> str:
    """Return the end of the name of a comparison's folder: data, model, and a digest of the settings."""
    from ticketsearch.settings import settings_digest

    names = [Path(name.partition(":")[0]).stem for name in (settings.data.name, settings.model.name)]
    words = [re.sub(r"[^A-Za-z0-9_]+", "-", name) for name in names]
    return "-".join([*words, settings_digest(settings)[:8]])


def _print_results(comparisons: Sequence[Comparison], reference: str | None, path: Path | None) -> None:
    from ticketsearch.report.text import comparison_text

    show_lines(comparison_text(comparisons, reference).splitlines())
    if path is None:
        print("--out FOLDER writes tables and a page of these comparisons together.")
    else:
        print(f"Page:   {path / 'compare.html'}")
        print(f"Tables: {path / 'compare.md'}, {path / 'cells.csv'}, {path / 'differences.csv'}")
