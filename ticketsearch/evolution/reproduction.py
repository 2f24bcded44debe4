"""Reproduction: variation of selected parents, and duplicate rejection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ticketsearch.errors import BadInput
from ticketsearch.evolution.operator_selection import OperatorSelection, as_operators, operator_name
from ticketsearch.evolution.pareto import draw_count, grow
from ticketsearch.evolution.selection import ParentDraw
from ticketsearch.evolution.timing import KEYS, OPERATORS, SELECTION, Phases
from ticketsearch.evolution.variation import Variation
from ticketsearch.masks import Guidance, Mask, MaskSpec, check_mask, cut, layer_shuffle
from ticketsearch.plugins import call, parameters_of
from ticketsearch.tickets import Seen, Ticket, Tickets

__all__ = ["Draft", "Maker", "Offspring", "Reproduction"]

# Added to the temperature by each further attempt to prune a draft.
TEMPERATURE_STEP = 0.1

# Makes one child; its argument is the number of the attempt, from 0.
Maker = Callable[[int], Ticket]


class Draft(NamedTuple):
    """A child, and the masks of its parents that it was made from."""

    child: Ticket
    parents: tuple[Mask, ...]

    @property
    def kept(self) -> int:
        """Number of weights that the child keeps."""
        return int(np.count_nonzero(self.child.mask))

    def union(self, spec: MaskSpec) -> Ticket:
        """Return the child with all weights that it or a parent keeps."""
        mask = np.logical_or.reduce([self.child.mask, *self.parents])
        return self.child.copy_with_mask(check_mask(mask, spec))


class Offspring(NamedTuple):
    """New tickets, the number of duplicates that were refused, and the number of immigrants among them."""

    tickets: Tickets
    refused: int
    immigrants: int


class Reproduction:
    """Makes children that are no duplicates of networks of this search.

    Parameters
    ----------
    variation : operators, rates and attempts.
    spec : the mask spec.
    rng : generator of every choice but the selections, which read the global one; see
        :func:`ticketsearch.evolution.selection.seeded_random`.
    seen : the networks so far; grows.
    bounds : bounds of a child's weight count, which is drawn about its first parent's; None where children
        keep as many weights as that.

    Attributes
    ----------
    keep : largest weight count of a child, None for that of its first parent. Parents that keep more weights
        are pruned to it before an operator sees them.
    phases : the stopwatch of the current generation.
    """

    def __init__(
        self,
        variation: Variation,
        spec: MaskSpec,
        rng: np.random.Generator,
        seen: Seen,
        bounds: tuple[int, int] | None,
    ) -> None:
        self.variation = variation
        self.spec = spec
        self.rng = rng
        self.seen = seen
        self.bounds = bounds
        self.operators = {"crossover": self._crossovers(), "mutation": self._mutations()}
        self.keep: int | None = None
        self.count = 0
        self.phases = Phases()

    @property
    def guided(self) -> list[str]:
        """Names of the operators in use that take guidance; two draws of one parent are never crossed."""
        kinds = ["crossover", "mutation"] if self.variation.crossover_rate > 0 else ["mutation"]
        used = [tool for kind in kinds for tool in self.operators[kind].operators]
        return [operator_name(tool.func) for tool in used if "guidance" in parameters_of(tool.func)]

    def first(self, tickets: Sequence[Ticket]) -> Offspring:
        """Return numbered copies of the first population, without duplicates."""
        kept = Tickets()
        for given in tickets:
            # A copy: the caller's tickets may begin another search.
            ticket = given.copy_with_mask(check_mask(given.mask, self.spec))
            ticket.generation = 0
            if self._admit(ticket):
                kept.append(ticket)
        return Offspring(kept, len(tickets) - len(kept), 0)

    def drafts(self, draw: ParentDraw) -> Iterator[Draft]:
        """Yield drafts without end, each of newly drawn parents."""
        while True:
            yield self._draft(draw)

    def admit(self, makers: Sequence[Maker], population: Tickets, generation: int) -> Offspring:
        """Return a child of each maker, which is called again while the child is a duplicate.

        After all attempts an immigrant takes the child's place. Fewer children come back only where even
        random masks are duplicates: the space is exhausted.
        """
        children = Tickets()
        refused = immigrants = 0
        attempts = self.variation.attempts
        for make in makers:
            for attempt in range(2 * attempts + 2):
                immigrant = attempt > attempts
                child = self._immigrant(population) if immigrant else make(attempt)
                child.generation = generation
                if self._admit(child):
                    children.append(child)
                    immigrants += immigrant
                    break
                refused += 1
        return Offspring(children, refused, immigrants)

    def admit_once(self, tickets: Sequence[Ticket], generation: int) -> Offspring:
        """Return the tickets that are no duplicates; no other tickets take the place of those."""
        children = Tickets()
        for child in tickets:
            child.generation = generation
            if self._admit(child):
                children.append(child)
        return Offspring(children, len(tickets) - len(children), 0)

    def prune(self, draft: Ticket, kept: int, attempt: int) -> Ticket:
        """Return a trained draft pruned to ``kept`` weights, with more noise at each attempt."""
        with self.phases.measure(OPERATORS):
            noise = max(self.variation.temperature, TEMPERATURE_STEP * attempt)
            mask, _ = cut(draft.mask, draft.guidance, kept, rng=self.rng, temperature=noise)
        return draft.copy_with_mask(mask)

    def sparse_enough(self, tickets: Sequence[Ticket]) -> Tickets:
        """Return the tickets that keep no more weights than a child may."""
        most = self.spec.size if self.keep is None else self.keep
        return Tickets(ticket for ticket in tickets if np.count_nonzero(ticket.mask) <= most)

    def reward(self, children: Sequence[Ticket]) -> None:
        """Reward the operators of a generation's children, which have been evaluated."""
        ranked = sorted(children, key=lambda child: child.fitness, reverse=True)
        for selection in self.operators.values():
            selection.reward([child.operator for child in ranked])

    def state(self, population: int) -> dict[str, Any]:
        """Return the state of a search with this population size, as plain numbers and text."""
        state = {"rng": self.rng.bit_generator.state, "count": self.count, "population": population}
        qualities = {kind: s.state() for kind, s in self.operators.items() if len(s.names) > 1}
        return state | ({"credit": qualities} if qualities else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the state of a generation."""
        self.rng.bit_generator.state = state["rng"]
        self.count = state["count"]
        for kind, qualities in state.get("credit", {}).items():
            self.operators[kind].restore(qualities)

    def _crossovers(self) -> OperatorSelection:
        operators = as_operators(self.variation.crossover, "crossover")
        return OperatorSelection([partial(f, **self._options(f)) for f in operators])

    def _mutations(self) -> OperatorSelection:
        operators, rate = as_operators(self.variation.mutation, "mutation"), self.variation.mutation_rate
        return OperatorSelection([partial(f, rate=rate, **self._options(f)) for f in operators])

    def _options(self, operator: Callable[..., Mask]) -> dict[str, Any]:
        options: dict[str, Any] = {"spec": self.spec, "rng": self.rng}
        if "temperature" in parameters_of(operator):
            options["temperature"] = self.variation.temperature
        return options

    def _admit(self, ticket: Ticket) -> bool:
        ticket.number = self.count
        with self.phases.measure(KEYS):
            if not self.seen.admit(ticket):
                return False
        self.count += 1
        return True

    def _draft(self, draw: ParentDraw) -> Draft:
        with self.phases.measure(SELECTION):
            a, b = draw(2)
        crossed = a is not b and self.rng.random() < self.variation.crossover_rate
        tool, name = self.operators["crossover" if crossed else "mutation"].draw(self.rng)
        parents = (a, b) if crossed else (a,)
        with self.phases.measure(OPERATORS):
            keep = self.keep
            if self.bounds is not None:
                keep = draw_count(int(np.count_nonzero(a.mask)), self.bounds, self.rng)
            masks, guidance = zip(*(self._pruned(parent, keep) for parent in parents), strict=True)
            options: dict[str, Any] = {}
            if "guidance" in parameters_of(tool.func):
                options["guidance"] = guidance if crossed else guidance[0]
            mask = check_mask(call(tool, "operator", name, *masks, **options), self.spec)
        _check_count(mask, masks[0], name)
        if self.bounds is not None and keep is not None:
            mask = grow(mask, keep, self.rng)
        numbers = tuple(parent.number for parent in parents)
        return Draft(Ticket(mask, a.initialization, a.pruned_from, name, parents=numbers), masks)

    def _pruned(self, parent: Ticket, keep: int | None) -> tuple[Mask, Guidance | None]:
        """Return the mask of a parent, pruned to the weights that a child may keep, and its guidance."""
        if keep is None:
            return parent.mask, parent.guidance
        temperature = self.variation.temperature
        return cut(parent.mask, parent.guidance, keep, rng=self.rng, temperature=temperature)

    def _immigrant(self, population: Tickets) -> Ticket:
        member = population[self.rng.integers(len(population))]
        with self.phases.measure(OPERATORS):
            mask = layer_shuffle(self._pruned(member, self.keep)[0], spec=self.spec, rng=self.rng)
        return Ticket(mask, member.initialization, member.pruned_from, "immigrant")


def _check_count(mask: Mask, parent: Mask, name: str) -> None:
    if (kept := np.count_nonzero(mask)) != (wanted := np.count_nonzero(parent)):
        raise BadInput(
            f"an operator keeps its first parent's number of weights, but {name!r} made {kept} of {wanted}"
        )
