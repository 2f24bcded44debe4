"""Breeding: who has children, how they are made, which of them are refused, and who survives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from deap import base, tools

from ticketsearch.cost import Spent
from ticketsearch.errors import BadInput
from ticketsearch.evolution.operator_selection import Credit
from ticketsearch.evolution.pareto import drawn_count, grown
from ticketsearch.evolution.timing import FITNESS, KEYS, OPERATORS, SELECTION, Phases
from ticketsearch.masks import Guidance, Mask, MaskSpec, check_mask, cut
from ticketsearch.plugins import call, parameters_of
from ticketsearch.tickets import Seen, Ticket, Tickets

__all__ = ["Breeding", "seeded_random", "survivors"]

# Temperature that each further attempt to prune a draft adds.
AGAIN = 0.1


class Breeding:
    """Makes tickets that are no network seen before.

    Parameters
    ----------
    toolbox : has the tools ``select`` and ``immigrate``.
    operators : those of each kind, ``crossover`` and ``mutation``.
    spec : the mask spec.
    rng : of every choice but the selections, which read the global generator; see :func:`seeded_random`.
    seen : all networks so far; grows.
    crossover_rate : chance of crossover rather than mutation, in [0, 1].
    attempts : how often a refused child is made again before an immigrant takes its place.
    size : children a generation makes.
    temperature : of the noise when a parent is cut, see :func:`ticketsearch.masks.guidance.strongest`.
    front : the fewest and the most weights of a child, whose number is drawn about its first parent's; None
        where children keep as many as that.
    trial : whether children are pruned from :meth:`drafts` that have been trained.

    Attributes
    ----------
    keep : the weights that a child keeps at most, None for as many as its first parent. Parents that keep
        more are cut to it before an operator sees them.
    phases : the stopwatch of the generation that is being made.
    """

    def __init__(
        self,
        toolbox: base.Toolbox,
        operators: Mapping[str, Credit],
        spec: MaskSpec,
        rng: np.random.Generator,
        seen: Seen,
        crossover_rate: float,
        attempts: int,
        size: int,
        temperature: float = 0.0,
        front: tuple[int, int] | None = None,
        trial: bool = False,
    ) -> None:
        self.toolbox = toolbox
        self.operators = operators
        self.spec = spec
        self.rng = rng
        self.seen = seen
        self.crossover_rate = crossover_rate
        self.attempts = attempts
        self.size = size
        self.temperature = temperature
        self.front = front
        self.trial = trial
        self.keep: int | None = None
        self.count = 0
        self.phases = Phases()

    def first(self, tickets: Sequence[Ticket]) -> tuple[Tickets, int]:
        """Number copies of the first population's tickets, dropping networks that are there twice."""
        kept = Tickets()
        for given in tickets:
            # A copy: the caller's tickets may begin another evolution.
            ticket = given.unassessed(check_mask(given.mask, self.spec))
            ticket.generation = 0
            if self._admit(ticket):
                kept.append(ticket)
        return kept, len(tickets) - len(kept)

    def children(self, population: Tickets, generation: int) -> tuple[Tickets, int, int]:
        """Return a population of new tickets, how many were refused, and how many are immigrants.

        Fewer come back only where even random masks are networks seen before: the space is exhausted.
        """
        makers = [lambda _: self._child(population)] * self.size
        return self._admitted(makers, population, generation)

    def polished(
        self, population: Tickets, generation: int, polish: Callable[..., tuple[Mask, Spent]]
    ) -> tuple[Tickets, int, Spent]:
        """Return what polishing makes of a population of children, how many were refused, and what it took.

        A child that has become a network seen before is left out, and no other one takes its place.
        """
        drafts = [self._child(population) for _ in range(self.size)]
        with self.phases.measure(FITNESS):
            masks, spent = polish(np.stack([draft.mask for draft in drafts]), self.rng)
        children = Tickets()
        for draft, mask in zip(drafts, masks, strict=True):
            child = replace(draft, mask=mask, generation=generation)
            if self._admit(child):
                children.append(child)
        return children, len(drafts) - len(children), spent

    def drafts(self, population: Tickets) -> tuple[Tickets, list[int]]:
        """Return what is to be trained for a population of children, and how many weights each child keeps.

        A draft is a child with all that its parents keep.
        """
        drafts, counts = Tickets(), []
        for _ in range(self.size):
            child, parents = self._bred(population)
            mask = check_mask(np.logical_or.reduce([child.mask, *parents]), self.spec)
            drafts.append(replace(child, mask=mask))
            counts.append(int(np.count_nonzero(child.mask)))
        return drafts, counts

    def pruned(
        self, drafts: Tickets, counts: Sequence[int], population: Tickets, generation: int
    ) -> tuple[Tickets, int, int]:
        """Return the children of drafts that have been trained; otherwise as :meth:`children`.

        What is a network seen before is pruned again, ever more by chance.
        """
        makers = [partial(self._pruned, *each) for each in zip(drafts, counts, strict=True)]
        return self._admitted(makers, population, generation)

    def lasting(self, tickets: Sequence[Ticket]) -> Tickets:
        """Return the tickets that keep no more weights than a child may."""
        most = self.spec.size if self.keep is None else self.keep
        return Tickets(ticket for ticket in tickets if np.count_nonzero(ticket.mask) <= most)

    def sparse(self, tickets: Sequence[Ticket]) -> Tickets:
        """Return the tickets that keep no more weights than a child may; all, where there is none."""
        return self.lasting(tickets) or Tickets(tickets)

    def reward(self, children: Sequence[Ticket]) -> None:
        """Credit the operators of a generation's children, which have been evaluated."""
        ranked = sorted(children, key=lambda child: child.fitness, reverse=True)
        for credit in self.operators.values():
            credit.reward([child.operator for child in ranked])

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, as plain numbers and text."""
        state = {"rng": self.rng.bit_generator.state, "count": self.count, "population": self.size}
        credit = {kind: own.state() for kind, own in self.operators.items() if len(own.names) > 1}
        return state | ({"credit": credit} if credit else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.rng.bit_generator.state = state["rng"]
        self.count = state["count"]
        for kind, credit in state.get("credit", {}).items():
            self.operators[kind].restore(credit)

    def _admitted(
        self, makers: Sequence[Callable[[int], Ticket]], population: Tickets, generation: int
    ) -> tuple[Tickets, int, int]:
        """Return a child of each maker, which is given the number of the attempt; see :meth:`children`."""
        children = Tickets()
        refused = immigrants = 0
        for make in makers:
            for attempt in range(2 * self.attempts + 2):
                immigrant = attempt > self.attempts
                child = self._immigrant(population) if immigrant else make(attempt)
                child.generation = generation
                if self._admit(child):
                    children.append(child)
                    immigrants += immigrant
                    break
                refused += 1
        return children, refused, immigrants

    def _admit(self, ticket: Ticket) -> bool:
        with self.phases.measure(KEYS):
            if not self.seen.admit(ticket):
                return False
        ticket.number = self.count
        self.count += 1
        return True

    def _pruned(self, draft: Ticket, count: int, attempt: int) -> Ticket:
        with self.phases.measure(OPERATORS):
            noise = max(self.temperature, AGAIN * attempt)
            mask, _ = cut(draft.mask, draft.guidance, count, rng=self.rng, temperature=noise)
        return draft.unassessed(mask)

    def _child(self, population: Tickets) -> Ticket:
        return self._bred(population)[0]

    def _bred(self, population: Tickets) -> tuple[Ticket, tuple[Mask, ...]]:
        """Return a child, and what of their weights its parents gave to choose from."""
        with self.phases.measure(SELECTION):
            a, b = self.toolbox.select(population, 2)
        crossed = a is not b and self.rng.random() < self.crossover_rate
        tool, name = self.operators["crossover" if crossed else "mutation"].draw(self.rng)
        with self.phases.measure(OPERATORS):
            keep = self.keep
            if self.front is not None:
                keep = drawn_count(int(np.count_nonzero(a.mask)), self.front, self.rng)
            cuts = [self._cut(parent, keep) for parent in ((a, b) if crossed else (a,))]
            masks, guidance = zip(*cuts, strict=True)
            known = {"guidance": guidance if crossed else guidance[0]}
            options = known if "guidance" in parameters_of(tool.func) else {}
            mask = check_mask(call(tool, "operator", name, *masks, **options), self.spec)
        if (kept := np.count_nonzero(mask)) != (wanted := np.count_nonzero(masks[0])):
            raise BadInput(
                f"an operator keeps its first parent's number of weights, but {name!r} made {kept} "
                f"of {wanted}"
            )
        if self.front is not None and keep is not None:
            mask = grown(mask, keep, self.rng)
        parents = (a.number, b.number) if crossed else (a.number,)
        return Ticket(mask, a.initialization, a.pruned_from, name, parents=parents), masks

    def _cut(self, parent: Ticket, keep: int | None) -> tuple[Mask, Guidance | None]:
        """Return the part of a parent's mask, and of its guidance, that a child may keep."""
        if keep is None:
            return parent.mask, parent.guidance
        return cut(parent.mask, parent.guidance, keep, rng=self.rng, temperature=self.temperature)

    def _immigrant(self, population: Tickets) -> Ticket:
        member = population[self.rng.integers(len(population))]
        with self.phases.measure(OPERATORS):
            mask = self.toolbox.immigrate(self._cut(member, self.keep)[0])
        return Ticket(mask, member.initialization, member.pruned_from, "immigrant")


def survivors(candidates: Tickets, size: int, elites: int, toolbox: base.Toolbox, ties: int = 0) -> Tickets:
    """The elites, then tournaments without replacement: no ticket survives twice.

    Where ``ties`` is not 0, at most so many of equal fitness are candidates as long as others are enough.
    """
    if ties:
        number: Counter[tuple[float, ...]] = Counter()
        among, surplus = Tickets(), Tickets()
        for ticket in candidates:
            number[ticket.fitness.values] += 1
            (among if number[ticket.fitness.values] <= ties else surplus).append(ticket)
        candidates = Tickets([*among, *surplus[: max(0, size - len(among))]])
    kept = Tickets(tools.selBest(candidates, min(elites, size)))
    chosen = {id(ticket) for ticket in kept}
    rest = [ticket for ticket in candidates if id(ticket) not in chosen]
    while rest and len(kept) < size:
        winner = toolbox.select(rest, 1)[0]
        kept.append(winner)
        rest = [ticket for ticket in rest if ticket is not winner]
    return kept


@contextmanager
def seeded_random(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global generator that DEAP's selections read, and give it back as it was."""
    before = random.getstate()
    random.seed(int(rng.integers(2**63)))
    try:
        yield
    finally:
        random.setstate(before)
