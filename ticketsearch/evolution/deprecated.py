"""Keywords that ``evolve`` took before version 0.2.0, translated to its options; goes with version 0.3.0."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from ticketsearch.canonical import canonical_identity
from ticketsearch.errors import BadInput
from ticketsearch.evolution.density_schedule import DensitySchedule
from ticketsearch.evolution.generation import Generation
from ticketsearch.evolution.local_search import Improvement, LocalSearch
from ticketsearch.evolution.selection import NSGA2, Tournament
from ticketsearch.evolution.variation import Duplicates, Variation
from ticketsearch.masks import MaskSpec
from ticketsearch.operators import swap_mutation, uniform_crossover
from ticketsearch.tickets import Seen, Ticket

__all__ = ["translate_old_keywords"]

P = ParamSpec("P")
R = TypeVar("R")

# Old keyword → its default then, and what takes its place.
OLD: dict[str, tuple[Any, str]] = {
    "population": (None, "selection=Tournament(population=…)"),
    "elites": (4, "selection=Tournament(elites=…)"),
    "tournament": (3, "selection=Tournament(size=…)"),
    "ties": (0, "selection=Tournament(ties=…)"),
    "reassess": (0, "selection=Tournament(reassess=…)"),
    "front": (None, "selection=NSGA2(fewest=…, most=…)"),
    "crossover": (uniform_crossover, "variation=Variation(crossover=…)"),
    "mutation": (swap_mutation, "variation=Variation(mutation=…)"),
    "crossover_rate": (0.5, "variation=Variation(crossover_rate=…)"),
    "mutation_rate": (0.05, "variation=Variation(mutation_rate=…)"),
    "temperature": (0.0, "variation=Variation(temperature=…)"),
    "trial": (False, "variation=Variation(trial=…)"),
    "attempts": (10, "variation=Variation(attempts=…)"),
    "duplicate_key": (canonical_identity, "variation=Variation(duplicates=Duplicates(key=…))"),
    "weights": (None, "variation=Variation(duplicates=Duplicates(weights=…))"),
    "counts": (None, "density=DensitySchedule(…)"),
    "polish": (None, "local_search=LocalSearch(…)"),
    "seen": ((), "after=generation, which knows the networks seen"),
    "searched": ((), "after=generation, which knows the networks seen"),
}
NEW = ("variation", "selection", "density", "local_search")


def translate_old_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``evolve`` with its old keywords: with any of them all options have their old defaults.

    Warns (DeprecationWarning) with the new keyword of each. Raises :class:`BadInput` for a mixture of old and
    new ones.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = {name: kwargs.pop(name) for name in OLD if name in kwargs}
        if given:
            if mixed := [name for name in NEW if name in kwargs]:
                raise BadInput(
                    f"old and new keywords of evolve do not mix, but got {', '.join([*given, *mixed])}; "
                    f"write {_instead(given)}"
                )
            warnings.warn(
                f"the keywords {', '.join(given)} of evolve are deprecated and go with version 0.3.0; "
                f"write {_instead(given)}",
                DeprecationWarning,
                stacklevel=2,
            )
            kwargs.update(_translated({name: default for name, (default, _) in OLD.items()} | given))
        return function(*args, **kwargs)

    return call


def _instead(given: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(OLD[name][1] for name in given))


def _translated(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new keywords of all old ones."""
    if old["polish"] is not None and (old["trial"] or old["counts"] is not None or old["front"] is not None):
        raise BadInput("polish gives children a size of its own, but got trial, counts or front too")
    if old["ties"] and old["front"] is not None:
        raise BadInput("ties are of one objective, the score, but got front too; leave one out")
    names = ("crossover", "mutation", "crossover_rate", "mutation_rate", "temperature", "trial", "attempts")
    duplicates = _Duplicates(old["duplicate_key"], old["weights"], tuple(old["seen"]), tuple(old["searched"]))
    selection: Tournament | NSGA2
    if old["front"] is None:
        selection = Tournament(
            old["population"], old["tournament"], old["elites"], old["ties"], old["reassess"]
        )
    else:
        fewest, most = old["front"]
        selection = NSGA2(old["population"], fewest, most, old["tournament"], old["reassess"])
    return {
        "variation": Variation(**{name: old[name] for name in names}, duplicates=duplicates),
        "selection": selection,
        "density": None if old["counts"] is None else _Counts(1.0, 1.0, given=tuple(old["counts"])),
        "local_search": None if old["polish"] is None else _Polish(1, 1, given=old["polish"]),
    }


@dataclass(frozen=True)
class _Duplicates(Duplicates):
    """Duplicates with keys and tickets that are given beside the generation to continue from."""

    keys: tuple[str, ...] = ()
    searched: tuple[Ticket, ...] = ()

    def seen(self, spec: MaskSpec, after: Generation | None) -> Seen:
        return Seen(spec, self.key, self.weights, keys=self.keys, searched=self.searched)


@dataclass(frozen=True)
class _Counts(DensitySchedule):
    """Weight counts that are given generation by generation."""

    given: tuple[int, ...] = ()

    def counts(self, size: int, generations: int) -> list[int]:
        if not self.given:
            raise BadInput("counts has a number of weights for each generation, but is empty; leave it out")
        for count in self.given:
            if not 1 <= count <= size:
                raise BadInput(f"counts are weights to keep, 1 to {size}, but got {count}")
        return list(self.given)


@dataclass(frozen=True)
class _Polish(LocalSearch):
    """An improvement that is given as a function."""

    given: Improvement | None = None

    def improvement(self, fitness: Callable[..., Any], spec: MaskSpec) -> Improvement:
        assert self.given is not None  # the translation makes no other
        return self.given
