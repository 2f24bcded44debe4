"""Comparisons and overlap studies: the work, and the page and tables of its results in the same folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ticketsearch import comparison as comparisons
from ticketsearch import overlap_studies as studies
from ticketsearch.checks import Count, Orders, Workers, check_count, checked
from ticketsearch.comparison import (
    DEFAULT_DENSITIES,
    DEFAULT_METHODS,
    Comparison,
    ComparisonPlan,
    ComparisonStore,
    ComparisonWork,
    check_reference,
    comparison_plan,
)
from ticketsearch.datasets import Dataset
from ticketsearch.models import Initialization, Network
from ticketsearch.overlap_studies import (
    OverlapPlan,
    Overlaps,
    OverlapStore,
    OverlapWork,
    Sizes,
    pruner_plan,
)
from ticketsearch.seeding import DEFAULT_SCHEMES
from ticketsearch.seeding import initializations as drawn_initializations
from ticketsearch.settings import Settings
from ticketsearch.workers import Step

__all__ = [
    "ShownComparison",
    "ShownOverlaps",
    "compare",
    "finish_comparison",
    "finish_overlaps",
    "read_comparison",
    "read_overlaps",
    "study_pruners",
]

DEFAULT_SIZES = Sizes()
# Does the steps of long work.
Follow = Callable[[Iterable[Step]], object]


def _exhaust(steps: Iterable[Step]) -> None:
    """Do the steps, and show nothing."""
    for _ in steps:
        pass


class ShownComparison(Comparison):
    """The results of a whole comparison, which a notebook shows with their figures."""

    def _repr_html_(self) -> str:
        from ticketsearch.report import comparison_html  # figures take a second to import

        return comparison_html(self)


class ShownOverlaps(Overlaps):
    """The results of a whole overlap study, which a notebook shows with their figures."""

    def _repr_html_(self) -> str:
        from ticketsearch.report import overlaps_html

        return overlaps_html(self)


def _attributes(found: Any) -> dict[str, Any]:
    return {field.name: getattr(found, field.name) for field in fields(found)}


@checked
def read_comparison(folder: str | Path) -> ShownComparison:
    """Read the comparison in a folder, finished or not.

    Raises :class:`BadInput` for a folder without one.
    """
    return ShownComparison(**_attributes(comparisons.read_comparison(folder)))


@checked
def read_overlaps(folder: str | Path) -> ShownOverlaps:
    """Read the study in a folder, finished or not: sets whose pairs were compared, with their draws so far.

    Raises :class:`BadInput` for a folder without a study.
    """
    return ShownOverlaps(**_attributes(studies.read_overlaps(folder)))


def finish_comparison(
    plan: ComparisonPlan,
    store: ComparisonStore,
    workers: int = 1,
    reference: str | None = None,
    follow: Follow | None = None,
) -> ShownComparison:
    """Do the rest of a comparison, close its store, and write page and tables into its folder."""
    from ticketsearch.report import write_comparison_files

    with store:
        (follow or _exhaust)(ComparisonWork(plan, store, workers).steps())
    comparison = read_comparison(store.path)
    write_comparison_files([comparison], store.path, reference)
    return comparison


def finish_overlaps(
    plan: OverlapPlan,
    store: OverlapStore,
    network: Network | None,
    dataset: Dataset | None,
    workers: int = 1,
    follow: Follow | None = None,
) -> ShownOverlaps:
    """Do the rest of an overlap study, close its store, and write page and tables into its folder.

    ``network`` and ``dataset`` are those of a plan with prunings.
    """
    from ticketsearch.report import write_overlap_files

    with store:
        (follow or _exhaust)(OverlapWork(plan, store, network, dataset, workers).steps())
    overlaps = read_overlaps(store.path)
    write_overlap_files(overlaps, store.path)
    return overlaps


@checked
def compare(  # noqa: PLR0913 - the documented interface
    settings: Settings | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    densities: Sequence[float] = DEFAULT_DENSITIES,
    *,
    folder: str | Path,
    initializations: Orders = 10,
    controls: Sequence[str] | None = None,
    orders: Orders | None = None,
    budget: int | None = None,
    workers: Workers = 1,
    reference: str | None = None,
    follow: Follow | None = None,
) -> ShownComparison:
    """Compare methods that find masks by one protocol, with equal budgets for all that search.

    Every method begins with the same initial weights. Every mask gets the same training from them, on the
    same data orders, and is then evaluated once on the test set.

    Parameters
    ----------
    settings : of the search, of all training and of the data; initialization i is that of a search with
        ``seed + i``. ``final.orders`` counts the data orders for the choice on validation data.
    methods : ``dense``, pruners, ``evolution``, and searches with the FLOPs of the evolution as budget:
        ``imp_best``, ``averaged_imp_best`` and ``obd_best`` (the best of several prunings by ``imp`` or
        another pruner that trains), ``random_search``, ``one_plus_lambda``.
    densities : kept / total, in (0, 1].
    folder : folder of the comparison. Called again with the same arguments and folder it goes on where it
        stopped; more methods, densities, initializations, controls or orders extend it.
    initializations : number of initializations, over which differences are paired.
    controls : methods whose masks are also trained as ablated controls, with the weights of each layer
        shuffled, and from other initial weights of the same scale; by default the evolution.
    orders : number of data orders of the final training; by default ``final.orders``.
    budget : FLOPs of each search if the evolution is not compared.
    workers : number of processes; the result is the same for any number.
    reference : the method that all others are subtracted from, see :func:`ticketsearch.comparison_text`.
    follow : goes through the steps of the work, an iterable of ``(kind, number done, total)``, for progress.

    Returns the results, which a notebook shows with their figures. Page and tables are in the folder, as
    ``ticketsearch compare`` writes them.

    Raises :class:`BadInput` for a bad argument, or a folder that holds another comparison; committed work is
    kept.
    """
    plan = comparison_plan(
        settings or Settings(),
        methods,
        densities,
        initializations=initializations,
        controls=controls,
        orders=orders,
        budget=budget,
    )
    if reference is not None:
        check_reference(reference, plan, Path(folder))
    return finish_comparison(plan, ComparisonStore.create(Path(folder), plan), workers, reference, follow)


@checked
def study_pruners(  # noqa: PLR0913 - the documented interface
    network: Network,
    dataset: Dataset | None = None,
    methods: str | Sequence[str] = studies.DEFAULT_METHODS,
    densities: float | Sequence[float] = (0.1, 0.02, 0.01),
    *,
    folder: str | Path,
    initializations: int | Sequence[Initialization] = 8,
    schemes: Sequence[str] = DEFAULT_SCHEMES,
    draws: Count = DEFAULT_SIZES.draws,
    aligned_draws: Count = DEFAULT_SIZES.aligned_draws,
    restarts: Count = DEFAULT_SIZES.restarts,
    orders: Orders = DEFAULT_SIZES.orders,
    seed: int = 0,
    workers: Workers = 1,
    options: Mapping[str, Any] | None = None,
    follow: Follow | None = None,
    **pruning: Any,
) -> ShownOverlaps:
    """Study whether pruning methods find the same network from different initializations.

    For each method and density the masks of all initializations are compared pair by pair, raw and aligned,
    with the null models of :func:`ticketsearch.overlap_study`; for each density also the methods on one
    initialization, and for each method that trains the masks of several data orders.

    Parameters
    ----------
    network : the first initialization.
    dataset : only for pruners that use data.
    methods, densities : names of pruners, and kept / total in (0, 1]; several, or one.
    folder : folder of the study. Called again with the same arguments and folder it goes on where it stopped.
    initializations : number of initializations, the network's own among them, or the (scheme, seed) of each.
    schemes : of initializations that are drawn.
    draws, aligned_draws, restarts : see :func:`ticketsearch.overlap_study`.
    orders : number of data orders of a method that trains; fewer than 2 leave these sets out.
    seed : of initializations, pruners and null models.
    workers : number of processes; the result is the same for any number.
    options : of the pruners; each goes to those that take it.
    follow : see :func:`ticketsearch.compare`.
    pruning : ``scope``, ``schedule``, ``steps`` and ``batch`` of :func:`ticketsearch.prune`.

    Returns the results, which a notebook shows with figures; page and tables of the shell are in the folder.

    Raises :class:`BadInput` for an unknown method or option, a density that no mask of the network can have,
    fewer than two initializations, a method that needs data without them, or a folder that holds another
    study; committed work is kept.
    """
    plan = pruner_plan(
        network,
        methods,
        densities,
        _initializations(network, initializations, schemes, seed),
        sizes=Sizes(draws, aligned_draws, restarts, orders),
        seed=seed,
        options=options,
        dataset=dataset,
        **pruning,
    )
    store = OverlapStore.create(Path(folder), plan)
    return finish_overlaps(plan, store, network, dataset, workers, follow)


def _initializations(
    network: Network, wanted: int | Sequence[Initialization], schemes: Sequence[str], seed: int
) -> list[Initialization]:
    """Return the initializations of a study: those given, or a number of them, the network's own first."""
    if isinstance(wanted, Sequence):
        return [Initialization(*scheme_and_seed) for scheme_and_seed in wanted]
    check_count("initializations", wanted, 1)
    return [network.initialization, *drawn_initializations(wanted, schemes=schemes, seed=seed)[1:]]
