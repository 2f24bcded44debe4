"""``overlap``: an overlap study of the masks of pruners or runs; it goes on where it was interrupted."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ticketsearch.cli.endings import interrupted, resumable, show_lines
from ticketsearch.cli.flags import (
    PRUNERS,
    Assignments,
    DataName,
    Initializations,
    ModelName,
    Seed,
    assigned,
    densities_option,
    names,
    network_of,
    numbers,
    option,
    out_option,
    pruners_option,
    whole_number,
    workers_option,
)
from ticketsearch.cli.runs import RUNS, run_folder
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.datasets import Dataset
    from ticketsearch.models import Network
    from ticketsearch.overlap_studies import OverlapPlan, Sizes
    from ticketsearch.settings import Settings

__all__ = ["overlap"]

DENSITIES = "0.1, 0.02, 0.01"

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN",
        help="Finished runs, by name or folder: each winner is compared with the masks that it evolved from, "
        "and the winners with each other.",
    ),
]
Methods = Annotated[str | None, pruners_option("compared")]
Densities = Annotated[str | None, densities_option(DENSITIES)]
Schemes = Annotated[
    str | None,
    option(
        "--scheme",
        "Initialization scheme of all initializations.",
        default="those of seeding.schemes in turn (kaiming_normal, kaiming_uniform, xavier_uniform, "
        "orthogonal)",
        metavar="NAME",
    ),
]
Orders = Annotated[
    str,
    option(
        "--orders",
        "Number of data orders over which a pruner that trains, such as imp, is compared; 0 stands for none.",
        default="4",
        metavar="INTEGER",
    ),
]
Draws = Annotated[
    str,
    option(
        "--draws",
        "Number of draws of the null model of raw overlap; 0 stands for none.",
        default="999",
        metavar="INTEGER",
    ),
]
AlignedDraws = Annotated[
    str,
    option(
        "--aligned-draws",
        "Number of draws of each null model of aligned overlap, the slow part; 0 stands for none.",
        default="199",
        metavar="INTEGER",
    ),
]
Workers = Annotated[str | None, workers_option("one a core")]
Out = Annotated[Path | None, out_option("study", "runs/overlap-MODEL-DIGEST")]


def overlap(  # noqa: PLR0913 - a parameter for each flag
    runs: Runs = None,
    data: DataName = None,
    model: ModelName = None,
    methods: Methods = None,
    initializations: Initializations = None,
    densities: Densities = None,
    scheme: Schemes = None,
    orders: Orders = "4",
    draws: Draws = "999",
    aligned_draws: AlignedDraws = "199",
    seed: Seed = None,
    workers: Workers = None,
    out: Out = None,
    assign: Assignments = None,
) -> None:
    """Measure the overlap of masks of pruners, or of finished runs, and test it against chance.

    Masks of different initializations are compared pair by pair, as they are
    and after alignment of their hidden neurons, with null models of the same
    numbers of weights. Pruners are also compared on one initialization, and
    pruners that train over data orders. Finished work is kept in the study's
    folder: the same command goes on there.
    """
    from joblib import cpu_count

    from ticketsearch.overlap_studies import Sizes

    flags = {
        "data.name": data,
        "model.name": model,
        "seeding.initializations": initializations,
        "seeding.schemes": None if scheme is None else [scheme],
        "seed": seed,
    }
    processes = cpu_count() if workers is None else whole_number("--workers", workers, 1)
    counts = (("--draws", draws), ("--aligned-draws", aligned_draws), ("--orders", orders))
    raw_draws, null_draws, data_orders = (whole_number(flag, text, 0) for flag, text in counts)
    sizes = Sizes(raw_draws, null_draws, orders=data_orders)
    try:
        if runs:
            given = {"--data": data, "--model": model, "--methods": methods, "--scheme": scheme}
            given |= {"--initializations": initializations, "--densities": densities}
            _refuse_flags({**given, "--set": assign or None})
            study = _study_of_runs(runs, sizes, seed)
        else:
            settings = _settings(assigned(None, assign, flags))
            study = _study_of_pruners(
                settings,
                names(PRUNERS if methods is None else methods),
                numbers("--densities", DENSITIES if densities is None else densities),
                sizes,
            )
        _run_to_end(study, out, processes)
    except KeyboardInterrupt:
        raise interrupted("Interrupted; no study was begun") from None


class _Study(NamedTuple):
    """A plan, network and data that masks are pruned from (None for runs), part of the folder's name."""

    plan: OverlapPlan
    network: Network | None
    dataset: Dataset | None
    folder_part: str


def _refuse_flags(flags: Mapping[str, Any]) -> None:
    """Raise :class:`BadInput` for the first of these flags that is given beside runs."""
    for flag, value in flags.items():
        if value is not None:
            raise BadInput(
                f"a study of runs takes networks and masks from the runs, but got {flag} too; leave it out, "
                "or the runs"
            )


def _settings(assignments: dict[str, Any]) -> Settings:
    """Return the settings of a study of pruners; raises :class:`BadInput` for those that have other flags."""
    from ticketsearch.settings import load

    settings = load(None, assignments.items())
    chosen = settings.seeding.model_dump(exclude_defaults=True)
    for name, flag in (("method", "--methods"), ("density", "--densities")):
        if name in chosen:
            raise BadInput(f"a study takes {flag}, but seeding.{name} is {chosen[name]!r}; leave it out")
    return settings


def _study_of_runs(runs: list[str], sizes: Sizes, seed: str | None) -> _Study:
    from ticketsearch.overlap_studies import run_plan
    from ticketsearch.runs import Run

    with ExitStack() as stack:
        opened = [stack.enter_context(Run.open(run_folder(name))) for name in runs]
        plan = run_plan(opened, sizes=sizes, seed=whole_number("--seed", seed or "0", 0))
    return _Study(plan, None, None, "runs")


def _study_of_pruners(settings: Settings, methods: list[str], densities: list[float], sizes: Sizes) -> _Study:
    from ticketsearch.overlap_studies import pruner_plan
    from ticketsearch.seeding import initializations

    seeding = settings.seeding
    dataset, network = network_of(settings, None, None)
    plan = pruner_plan(
        network,
        methods,
        densities,
        initializations(seeding.initializations, schemes=seeding.schemes, seed=settings.seed),
        sizes=sizes,
        seed=settings.seed,
        options=seeding.options,
        dataset=dataset,
        scope=seeding.scope,
        schedule=seeding.schedule,
        steps=seeding.steps or None,
    )
    folder_part = re.sub(r"[^A-Za-z0-9_]+", "-", Path(settings.model.name.partition(":")[0]).stem)
    return _Study(plan, network, dataset, folder_part)


def _run_to_end(study: _Study, out: Path | None, workers: int) -> None:
    """Do the rest of a study and print its results; say how to go on, whatever stops it."""
    from ticketsearch.cli.following import follow
    from ticketsearch.overlap_studies import OverlapStore, plan_digest
    from ticketsearch.python import finish_overlaps
    from ticketsearch.report.text import overlaps_text

    plan, path = study.plan, out
    if path is None:
        path = RUNS / f"overlap-{study.folder_part}-{plan_digest(plan)}"
    store = OverlapStore.create(path, plan)
    with resumable("study", path):
        print(f"Study in {path}: {len(plan.mask_sets)} sets of masks", file=sys.stderr, flush=True)
        overlaps = finish_overlaps(plan, store, study.network, study.dataset, workers, follow)
        show_lines(overlaps_text(overlaps).splitlines())
        print(f"Page:   {path / 'overlap.html'}")
        print(f"Tables: {path / 'pairs.csv'}, {path / 'nulls.csv'}")
