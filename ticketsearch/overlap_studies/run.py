"""The work of a study: masks pruned, pairs compared, null models drawn; each step is committed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ticketsearch.alignment import IOU
from ticketsearch.canonical import canonical_key
from ticketsearch.datasets import Dataset
from ticketsearch.masks import pack
from ticketsearch.models import Network
from ticketsearch.overlap import NULLS, Masks, batches, drawn, stacked
from ticketsearch.overlap_studies.plan import OverlapPlan, Pruning
from ticketsearch.overlap_studies.results import packed
from ticketsearch.overlap_studies.store import OverlapStore, PairOverlaps, StoredMask
from ticketsearch.pruners import PruningStep, PruningWarning, prune
from ticketsearch.workers import Source, Step, side_by_side

__all__ = ["OverlapWork"]


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
