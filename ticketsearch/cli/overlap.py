"""``overlap``: are masks of different origin the same network? A study that goes on where it stopped."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ticketsearch.cli.endings import interrupted, resumable, show_lines
from ticketsearch.cli.flags import (
    Assignments,
    DataName,
    ModelName,
    Seed,
    assigned,
    names,
    network_of,
    numbers,
    whole_number,
)
from ticketsearch.cli.following import follow
from ticketsearch.cli.runs import RUNS, folder
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.datasets import Dataset
    from ticketsearch.models import Network
    from ticketsearch.overlap_studies import OverlapPlan, Sizes
    from ticketsearch.settings import Settings

__all__ = ["overlap"]

METHODS = "synflow,snip,grasp,magnitude,random"
DENSITIES = "0.1,0.02,0.01"

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        help="Finished runs: each one's winner is compared with its seeds, and winners with each other."
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME,…", help=f"Pruners, as prune --method names them; default {METHODS}."),
]
Densities = Annotated[
    str | None, typer.Option(metavar="FLOAT,FLOAT,…", help=f"Kept / total, in (0, 1]; default {DENSITIES}.")
]
Initializations = Annotated[
    str | None, typer.Option(metavar="INTEGER", help="That each method prunes, at least 2; default 8.")
]
Schemes = Annotated[
    str | None,
    typer.Option(
        "--scheme",
        help="Of all initial weights; by default those of seeding.schemes in turn (kaiming_normal, "
        "kaiming_uniform, xavier_uniform, orthogonal).",
    ),
]
Orders = Annotated[
    str,
    typer.Option(
        metavar="INTEGER", help="Data orders that a pruner which trains (imp) is compared over; 0 for none."
    ),
]
Draws = Annotated[
    str, typer.Option(metavar="INTEGER", help="Of the null model of masks as they are; 0 for none.")
]
AlignedDraws = Annotated[
    str,
    typer.Option(metavar="INTEGER", help="Of each null model of renumbered masks, which take the time."),
]
Workers = Annotated[
    str | None,
    typer.Option(metavar="INTEGER", help="Processes that work side by side; by default one a core."),
]
Out = Annotated[
    Path | None,
    typer.Option(help="The study's folder; by default one in runs/ that is named after what is studied."),
]


def overlap(
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
    """Compare the masks of pruners, or of finished runs: are they the same network, and more than by chance?

    Masks of different initializations are compared pair by pair, as they are
    and renumbered to match, each beside null models of the same counts; methods
    on one initialization and data orders likewise. Whatever is done is kept in
    the study's folder: the same command goes on from there.
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
    raw, moved, ordered = (whole_number(flag, text, 0) for flag, text in counts)
    sizes = Sizes(raw, moved, orders=ordered)
    try:
        if runs:
            given = {**flags, "methods": methods, "densities": densities, "set": assign or None}
            _refuse([name for name, value in given.items() if value is not None and name != "seed"])
            subject = _of_runs(runs, sizes, seed)
        else:
            settings = _settings(assigned(None, assign, flags))
            subject = _of_pruners(
                settings,
                names(METHODS if methods is None else methods),
                numbers("--densities", DENSITIES if densities is None else densities),
                sizes,
            )
        _see_through(subject, out, processes)
    except KeyboardInterrupt:
        raise interrupted("Interrupted before anything was begun") from None


class _Subject(NamedTuple):
    """What is studied: the plan, the network and data that masks are pruned from, and a name for a folder."""

    plan: OverlapPlan
    network: Network | None
    dataset: Dataset | None
    word: str


def _refuse(flags: list[str]) -> None:
    if flags:
        raise BadInput(
            f"a study of runs takes networks and masks from them, but got {flags[0].rpartition('.')[2]} too; "
            "leave it out, or the runs"
        )


def _settings(assignments: dict[str, Any]) -> Settings:
    """Return the settings of a study of pruners, which has its own flags for some of them."""
    from ticketsearch.settings import load

    settings = load(None, assignments.items())
    chosen = settings.seeding.model_dump(exclude_defaults=True)
    for name, flag in (("method", "--methods"), ("density", "--densities")):
        if name in chosen:
            raise BadInput(f"a study takes {flag}, but seeding.{name} is {chosen[name]!r}; leave it out")
    return settings


def _of_runs(runs: list[str], sizes: Sizes, seed: str | None) -> _Subject:
    from ticketsearch.overlap_studies import run_plan
    from ticketsearch.runs import Run

    with ExitStack() as stack:
        opened = [stack.enter_context(Run.open(folder(name))) for name in runs]
        plan = run_plan(opened, sizes=sizes, seed=whole_number("--seed", seed or "0", 0))
    return _Subject(plan, None, None, "runs")


def _of_pruners(settings: Settings, methods: list[str], densities: list[float], sizes: Sizes) -> _Subject:
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
    word = re.sub(r"[^A-Za-z0-9_]+", "-", Path(settings.model.name.partition(":")[0]).stem)
    return _Subject(plan, network, dataset, word)


def _see_through(subject: _Subject, out: Path | None, workers: int) -> None:
    """Do what is left of a study and print what it came to; whatever stops it, say how to go on."""
    from ticketsearch.overlap_studies import OverlapStore, OverlapWork, plan_digest

    plan, path = subject.plan, out
    if path is None:
        path = RUNS / f"overlap-{subject.word}-{plan_digest(plan)}"
    store = OverlapStore.create(path, plan)
    with resumable("study", path):
        with store:
            print(f"Study in {path}: {len(plan.mask_sets)} sets of masks", file=sys.stderr, flush=True)
            follow(OverlapWork(plan, store, subject.network, subject.dataset, workers).steps())
        _print_outcome(path)


def _print_outcome(path: Path) -> None:
    from ticketsearch.overlap_studies import read_overlaps
    from ticketsearch.report import write_overlap
    from ticketsearch.report.text import nulls_csv, overlaps_text, pairs_csv
    from ticketsearch.storage import write_atomically

    overlaps = read_overlaps(path)
    show_lines(overlaps_text(overlaps).splitlines())
    write_atomically(path / "pairs.csv", pairs_csv(overlaps.cases))
    write_atomically(path / "nulls.csv", nulls_csv(overlaps.cases))
    print(f"Page:   {write_overlap(overlaps, path / 'overlap.html')}")
    print(f"Tables: {path / 'pairs.csv'}, {path / 'nulls.csv'}")
