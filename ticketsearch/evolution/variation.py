"""Options of variation: operators, their rates, and which masks count as the same network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ticketsearch.canonical import Weights, canonical_identity
from ticketsearch.checks import Count
from ticketsearch.evolution.generation import Generation
from ticketsearch.evolution.operator_selection import Operators, as_operators
from ticketsearch.evolution.rules import AT_LEAST_0, IN_0_TO_1, POSITIVE_TO_1, check_fields
from ticketsearch.masks import MaskSpec
from ticketsearch.operators import guided_mutation, union_crossover
from ticketsearch.tickets import Key, Seen, Ticket

__all__ = ["Duplicates", "Variation"]


@dataclass(frozen=True)
class Duplicates:
    """Duplicate rejection: no network is evaluated twice in a search.

    Parameters
    ----------
    key : ``key(mask, spec)``, equal for masks that count as the same network. By default the canonical form,
        equal up to a renumbering of hidden units.
    weights : gives a ticket's initial weights; tickets are then duplicates only if these match too, and the
        key is ``key(mask, spec, weights)``. See :func:`ticketsearch.tickets.initial_weights`.
    """

    key: Key = canonical_identity
    weights: Callable[[Ticket], Weights] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def seen(self, spec: MaskSpec, after: Generation | None) -> Seen:
        """Return the networks of a search up to a generation; none before the first."""
        if after is None or after.seen is None:
            return Seen(spec, self.key, self.weights)
        keys, searched = after.seen.until(after.state["count"])
        return Seen(spec, self.key, self.weights, keys=keys, searched=searched)


@dataclass(frozen=True)
class Variation:
    """How parents become children; the defaults are those of the command line.

    A child is made by crossover of two parents with probability ``crossover_rate``, else by mutation of one.
    A child that is a duplicate is made again, up to ``attempts`` times; then an immigrant takes its place, a
    random mask with the layer counts of a member.

    Guided operators (those with a parameter ``guidance``) choose by the saliencies that the fitness measured
    on the parents, see :class:`ticketsearch.Guidance`. Without them they choose at random, and the search
    warns once (:class:`GuidanceWarning`).

    Parameters
    ----------
    crossover, mutation : an operator, or several, of which one is selected for each child; see
        :mod:`ticketsearch.operators` and :mod:`ticketsearch.evolution.operator_selection`.
    crossover_rate : probability of crossover, in [0, 1].
    mutation_rate : passed to the mutation as ``rate``, in (0, 1].
    temperature : scale of the noise on guided choices, >= 0; see
        :func:`ticketsearch.masks.guidance.strongest`.
    trial : whether a child is first trained as a draft, with all weights that its parents keep, and then
        pruned to its size by the saliencies measured in that. Without guidance, and with a local search,
        there are no drafts.
    attempts : how often a duplicate is made again, >= 0.
    duplicates : which masks count as the same network.

    Raises :class:`ticketsearch.BadInput` for values out of range, no operator, and two of one name.
    """

    crossover: Operators = union_crossover
    mutation: Operators = guided_mutation
    crossover_rate: float = 0.5
    mutation_rate: float = 0.1
    temperature: float = 0.3
    trial: bool = True
    attempts: Count = 10
    duplicates: Duplicates = Duplicates()

    def __post_init__(self) -> None:
        check_fields(
            self,
            crossover_rate=IN_0_TO_1,
            mutation_rate=POSITIVE_TO_1,
            temperature=(">= 0 and finite", lambda value: 0 <= value < math.inf),
            attempts=AT_LEAST_0,
        )
        as_operators(self.crossover, "crossover")
        as_operators(self.mutation, "mutation")
