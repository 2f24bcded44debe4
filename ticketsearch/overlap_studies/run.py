"""The work of a study: masks pruned, pairs compared, null models drawn; each step is committed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ticketsearch.alignment import IOU
from ticketsearch.canonical import canonical_key
from ticketsearch.checks import Count, Orders, Workers, check_count, checked
from ticketsearch.datasets import Dataset
from ticketsearch.masks import pack
from ticketsearch.models import Initialization, Network
from ticketsearch.overlap import NULLS, Masks, batches, drawn, stacked
from ticketsearch.overlap_studies.plan import DEFAULT_METHODS, OverlapPlan, Pruning, Sizes, pruner_plan
from ticketsearch.overlap_studies.results import Overlaps, packed, read_overlaps
from ticketsearch.overlap_studies.store import OverlapStore, PairOverlaps, StoredMask
from ticketsearch.pruners import PruningStep, PruningWarning, prune
from ticketsearch.seeding import DEFAULT_SCHEMES
from ticketsearch.seeding import initializations as drawn_initializations
from ticketsearch.workers import Source, Step, side_by_side

__all__ = ["OverlapWork", "study_pruners"]

DEFAULT_SIZES = Sizes()


class _Job(NamedTuple):
    """One pruning with its options."""

    pruning: Pruning
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class OverlapWork:
    """The remaining work of a plan.

    Attributes
    ----------
    plan : the masks to make and compare.
    store : the masks, pairs and draws so far.
    network, dataset : for a plan with prunings.
    workers : number of processes side by side; the result is the same for any number.
    """

    plan: OverlapPlan
    store: OverlapStore
    network: Network | None = None
    dataset: Dataset | None = None
    workers: int = 1

    def steps(self) -> Iterator[Step]:
        """Do the remaining work; each step is committed before it is yielded.

        Raises :class:`BadInput` where a pruner refuses; committed work is kept.
        """
        yield from self._prune()
        yield from self._compare()
        yield from self._draw()

    def _prune(self) -> Iterator[Step]:
        stored, total = self.store.masks(), len(self.plan.prunings)
        for name, given in self.plan.given.items():
            if name not in stored:
                self.store.add_mask(name, StoredMask(pack(given), b""))
        left = [pruning for pruning in self.plan.prunings if pruning.name not in stored]
        jobs = [_Job(p, {**self.plan.pruning, **self.plan.options[p.method]}) for p in left]
        for number, (index, mask) in enumerate(self._pruned(jobs), start=1):
            self.store.add_mask(left[index].name, mask)
            yield Step("masks", total - len(left) + number, total)

    def _pruned(self, jobs: list[_Job]) -> Iterator[tuple[int, StoredMask]]:
        network, dataset = self.network, self.dataset
        if self.workers == 1 or dataset is None or network is None:
            for index, job in enumerate(jobs):
                assert network is not None  # a plan with prunings comes with one
                yield index, _prune(network, dataset, job)
            return
        source = Source.of(network, dataset)
        yield from side_by_side(_prune_there, [(source, job) for job in jobs], self.workers)

    def _compare(self) -> Iterator[Step]:
        total = len(self.plan.mask_sets)
        left = [case for case in range(total) if self.store.pair_overlaps(case) is None]
        tasks = [packed(self.store, case) for case in left]
        for number, (index, overlaps) in enumerate(side_by_side(_overlaps, tasks, self.workers), start=1):
            self.store.add_pair_overlaps(left[index], overlaps)
            yield Step("sets of masks", total - len(left) + number, total)

    def _draw(self) -> Iterator[Step]:
        tasks, cases, total = [], [], 0
        for case in range(len(self.plan.mask_sets)):
            masks = packed(self.store, case)
            for null, model in NULLS.items():
                draws = self.plan.sizes.aligned_draws if model.aligned else self.plan.sizes.draws
                stored = self.store.drawn(case, null)
                missing = batches(masks, null, [number for number in range(draws) if number not in stored])
                tasks += missing
                cases += [case] * len(missing)
                total += draws
        done = total - sum(len(task.numbers) for task in tasks)
        for index, counts in side_by_side(drawn, tasks, self.workers):
            batch = tasks[index]
            self.store.add_draws(cases[index], batch.null, dict(zip(batch.numbers, counts, strict=True)))
            done += len(counts)
            yield Step("draws", done, total)


def _prune(network: Network, dataset: Dataset | None, job: _Job) -> StoredMask:
    method, density, initialization, seed = job.pruning
    copy = network.reinitialized(*initialization)
    drawn = np.zeros(copy.spec.size, dtype=np.bool_)

    def record(step: PruningStep) -> None:
        drawn[step.numbers[step.drawn]] = True

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)  # layer densities and the headline show it
        mask = prune(
            copy, method, density=density, dataset=dataset, seed=seed, callback=record, **job.options
        )
    weights = copy.parameters()
    signs = copy.spec.join({layer.name: weights[layer.name].numpy() > 0 for layer in copy.spec.layers})
    return StoredMask(pack(mask), pack(signs), int(np.count_nonzero(drawn & mask)))


def _prune_there(task: tuple[Source, _Job]) -> StoredMask:
    source, job = task
    return _prune(*source.load(), job)


def _overlaps(masks: Masks) -> PairOverlaps:
    raw, (aligned, exact) = masks.raw(), masks.aligned()
    keys = tuple(canonical_key(mask, masks.spec) for mask in masks.masks)
    ious = (counts.measures(())[IOU] for counts in (raw, aligned))
    return PairOverlaps(stacked(raw), stacked(aligned), exact, keys, *ious)


@checked
def study_pruners(  # noqa: PLR0913 - the documented interface
    network: Network,
    dataset: Dataset | None = None,
    methods: str | Sequence[str] = DEFAULT_METHODS,
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
    **pruning: Any,
) -> Overlaps:
    """Study whether pruning methods find the same network from different initializations.

    For each method and density the masks of all initializations are compared pair by pair, raw and aligned,
    with the null models of :func:`ticketsearch.overlap_study`; for each density also the methods on one
    initialization, and for each method that trains the masks of several data orders.

    Parameters
    ----------
    network : the first initialization.
    dataset : only for pruners that use data.
    methods, densities : names of pruners, and kept / total in (0, 1]; several, or one.
    folder : folder of the study. Called again with the same arguments and folder it goes on where it
        stopped, and a finished study is read.
    initializations : number of initializations, the network's own among them, or the (scheme, seed) of each.
    schemes : of initializations that are drawn.
    draws, aligned_draws, restarts : see :func:`ticketsearch.overlap_study`.
    orders : number of data orders of a method that trains; fewer than 2 leave these sets out.
    seed : of initializations, pruners and null models.
    workers : number of processes; the result is the same for any number.
    options : of the pruners; each goes to those that take it.
    pruning : ``scope``, ``schedule``, ``steps`` and ``batch`` of :func:`ticketsearch.prune`.

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
    with OverlapStore.create(Path(folder), plan) as store:
        for _ in OverlapWork(plan, store, network, dataset, workers).steps():
            pass
    return read_overlaps(folder)


def _initializations(
    network: Network, wanted: int | Sequence[Initialization], schemes: Sequence[str], seed: int
) -> list[Initialization]:
    """Return the initializations of a study: those given, or a number of them, the network's own first."""
    if isinstance(wanted, Sequence):
        return [Initialization(*scheme_and_seed) for scheme_and_seed in wanted]
    check_count("initializations", wanted, 1)
    return [network.initialization, *drawn_initializations(wanted, schemes=schemes, seed=seed)[1:]]
