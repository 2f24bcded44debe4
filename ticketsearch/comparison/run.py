"""The work of a comparison: masks are made, then trained and tested; each step is committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import cpu_count

from ticketsearch import settings as config
from ticketsearch.comparison.final_training import tested
from ticketsearch.comparison.methods import (
    FoundMask,
    best_of,
    evolved,
    one_plus_lambda,
    pruned,
    random_search,
)
from ticketsearch.comparison.plan import (
    BEST_OF,
    BUDGETED,
    CONTROLS,
    DENSE,
    EVOLUTION,
    ONE_PLUS_LAMBDA,
    Cell,
    ComparisonPlan,
)
from ticketsearch.comparison.results import read_comparison
from ticketsearch.comparison.schema import COMPARISON
from ticketsearch.comparison.store import ComparisonStore, FinalResult, FinalTraining
from ticketsearch.datasets import Dataset, load_dataset
from ticketsearch.errors import unknown
from ticketsearch.experiment import Search
from ticketsearch.masks import Mask, pack, unpack
from ticketsearch.settings import Data, Settings
from ticketsearch.training import shared_gpus
from ticketsearch.workers import Step, side_by_side

__all__ = ["ComparisonWork", "check_reference", "default_workers"]

# Initializations that one task prunes together.
TOGETHER = 4
# Settings of searches that are not guided by training, and so do not pay for guidance.
BLIND = {
    "evolution.mutation": "swap_mutation",
    "evolution.crossover": "uniform_crossover",
    "evolution.trial": False,
    "evolution.start_density": 0.0,
}
# Searches that a process keeps, with their networks.
SEARCHES = 32


class _Pruning(NamedTuple):
    """A pruner and its options; the settings of the searches whose networks it prunes."""

    method: str
    options: Mapping[str, Any]
    settings: tuple[str, ...]


class _Evolving(NamedTuple):
    """The settings of a search, and the folder and name of its run."""

    settings: str
    root: Path
    name: str


class _Searching(NamedTuple):
    """A method with a budget in FLOPs; ``first`` is the mask of the pruner, if it was made before."""

    method: str
    options: Mapping[str, Any]
    settings: str
    budget: int
    first: FoundMask | None


class _Testing(NamedTuple):
    """A packed mask to be trained on some data orders and tested, as it is or as a control."""

    settings: str
    mask: bytes
    control: str
    orders: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ComparisonWork:
    """The remaining work of a plan.

    Attributes
    ----------
    plan : the masks to make and test.
    store : the masks and results so far.
    workers : number of processes side by side; the result is the same for any number.
    """

    plan: ComparisonPlan
    store: ComparisonStore
    workers: int = 1

    def steps(self) -> Iterator[Step]:
        """Do the remaining work; each step is committed before it is yielded.

        The evolution comes first, as its cost is the budget of other searches; no mask is tested before all
        masks are made.
        """
        yield from self._evolve()
        yield from self._prune()
        yield from self._search()
        yield from self._test()

    def _left(self, *methods: str) -> tuple[list[Cell], int]:
        """Return the cells that are not stored yet, and the number of all."""
        stored, cells = self.store.cells(), list(self.plan.cells(*methods))
        return [cell for cell in cells if cell not in stored], len(cells)

    def _evolve(self) -> Iterator[Step]:
        left, total = self._left(*(name for name in self.plan.methods if name == EVOLUTION))
        root = self.store.path / "searches"
        tasks = [
            _Evolving(self.plan.settings_of(cell), root, f"density-{cell.density!r}-{cell.initialization}")
            for cell in left
        ]
        done = total - len(left)
        for index, mask in self._spread(_evolve, tasks):
            self.store.add_cells([(left[index], mask)])
            done += 1
            yield Step("evolutions", done, total)

    def _prune(self) -> Iterator[Step]:
        dense, _ = self._left(*(name for name in self.plan.methods if name == DENSE))
        ones = np.ones(self.plan.spec.size, dtype=np.bool_)
        self.store.add_cells((cell, FoundMask(ones)) for cell in dense)
        left, total = self._left(*self.plan.pruners)
        done, groups = total - len(left), []
        for method in self.plan.pruners:
            for density in self.plan.densities:
                cells = [cell for cell in left if (cell.method, cell.density) == (method, density)]
                groups += [cells[first : first + TOGETHER] for first in range(0, len(cells), TOGETHER)]
        tasks = [
            _Pruning(
                group[0].method,
                self.plan.options[group[0].method],
                tuple(self.plan.settings_of(cell) for cell in group),
            )
            for group in groups
        ]
        for index, masks in self._spread(_prune, tasks):
            self.store.add_cells(zip(groups[index], masks, strict=True))
            done += len(masks)
            yield Step("pruned masks", done, total)

    def _search(self) -> Iterator[Step]:
        left, total = self._left(*(name for name in self.plan.methods if name in BUDGETED))
        stored = self.store.cells()
        tasks = []
        for cell in left:
            evolved_mask = stored.get(cell._replace(method=EVOLUTION))
            budget = self.plan.budget
            if budget is None and evolved_mask is not None:
                budget = evolved_mask.spent.flops
            assert budget is not None  # the plan has checked it
            pruner = BEST_OF.get(cell.method, "synflow")
            first = stored.get(cell._replace(method=pruner)) if cell.method in BEST_OF else None
            options = self.plan.options[pruner]
            tasks.append(_Searching(cell.method, options, self.plan.settings_of(cell), budget, first))
        done = total - len(left)
        for index, mask in self._spread(_spend, tasks):
            self.store.add_cells([(left[index], mask)])
            done += 1
            yield Step("other searches", done, total)

    def _test(self) -> Iterator[Step]:
        masks, stored = self.store.cells(), self.store.results()
        tasks, trainings = [], []
        total = 0
        for cell in self.plan.cells(*self.plan.methods):
            for control in ("", *(CONTROLS if cell.method in self.plan.controls else ())):
                training = FinalTraining(cell, control)
                orders = [n for n in range(self.plan.orders) if n not in stored.get(training, ())]
                total += 1
                if orders:
                    mask = pack(masks[cell].mask)
                    tasks.append(_Testing(self.plan.settings_of(cell), mask, control, tuple(orders)))
                    trainings.append(training)
        done = total - len(tasks)
        for index, results in self._spread(_test, tasks):
            by_order = dict(zip(tasks[index].orders, results, strict=True))
            self.store.add_results(trainings[index], by_order)
            done += 1
            yield Step("final trainings", done, total)

    def _spread(self, function: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        yield from side_by_side(
            function, tasks, self.workers, gpus=shared_gpus(self.plan.settings.training.device)
        )


def check_reference(reference: str, plan: ComparisonPlan, folder: Path) -> None:
    """Raise :class:`BadInput` for a reference that is no method of the comparison, before any work."""
    known = [*plan.methods, *(f"{name}/{control}" for name in plan.controls for control in CONTROLS)]
    if (folder / COMPARISON.file).is_file():
        known += read_comparison(folder).methods
    if reference not in known:
        raise unknown("method of the comparison", reference, list(dict.fromkeys(known)))


def default_workers(settings: Settings) -> int:
    """Return the default number of processes: one a GPU if the settings use GPUs, else one a core."""
    return shared_gpus(settings.training.device) or cpu_count()


@lru_cache(maxsize=1)
def _data(text: str) -> Dataset:
    data = Data.model_validate_json(text)
    return load_dataset(data.name, **data.options)


def _new_search(text: str) -> Search:
    """Return a new search for settings as JSON, one whose fitness remembers no evaluation."""
    settings = Settings.model_validate_json(text)
    return Search.prepare(settings, _data(settings.data.model_dump_json()))


@lru_cache(maxsize=SEARCHES)
def _search(text: str) -> Search:
    """Return a search for settings as JSON, from a cache: for work that does not use its fitness."""
    return _new_search(text)


def _timed(make: Callable[[], list[FoundMask]]) -> list[FoundMask]:
    """Return the masks that are made, each with its share of the processor seconds."""
    start = time.process_time()
    masks = make()
    seconds = (time.process_time() - start) / len(masks)
    return [mask._replace(seconds=seconds) for mask in masks]


def _evolve(task: _Evolving) -> FoundMask:
    search, begun = _new_search(task.settings), (task.root / task.name).exists()
    (mask,) = _timed(lambda: [evolved(search, task.root, task.name)])
    # The seconds of an earlier process are not known.
    return mask._replace(seconds=None) if begun else mask


def _prune(task: _Pruning) -> list[FoundMask]:
    searches = [_search(text) for text in task.settings]
    return _timed(lambda: pruned(searches, task.method, task.options))


def _spend(task: _Searching) -> FoundMask:
    if task.method in BEST_OF:
        search, first = _new_search(task.settings), task.first
        pruner = BEST_OF[task.method]
        (mask,) = _timed(lambda: [best_of(search, pruner, task.options, task.budget, first)])
        if first is None or mask.seconds is None:
            return mask
        return mask._replace(seconds=None if first.seconds is None else mask.seconds + first.seconds)
    blind = config.apply(Settings.model_validate_json(task.settings), BLIND.items())
    function = one_plus_lambda if task.method == ONE_PLUS_LAMBDA else random_search
    search = _new_search(blind.model_dump_json())
    (mask,) = _timed(lambda: [function(search, task.options, task.budget)])
    return mask


def _test(task: _Testing) -> list[FinalResult]:
    search = _search(task.settings)
    mask: Mask = unpack(task.mask, search.network.spec)
    evaluation = tested(search, mask, task.control, task.orders)
    return [FinalResult(float(loss), float(accuracy)) for loss, accuracy in zip(*evaluation, strict=True)]
