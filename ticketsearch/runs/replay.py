"""Replay of a run: its generations in order, from tables whose rows are read once, in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

from ticketsearch.cost import Spent
from ticketsearch.evolution import Generation, OrderEffects
from ticketsearch.halving import Agreement
from ticketsearch.masks import MaskSpec
from ticketsearch.runs.rows import assessment_of, ticket_of
from ticketsearch.runs.tables import (
    ASSESSMENTS,
    GENERATIONS,
    MEMBERS,
    TICKETS,
    AssessmentRow,
    GenerationRow,
    MemberRow,
)
from ticketsearch.tickets import Ticket, Tickets

__all__ = ["generation_of", "replay"]

Row = TypeVar("Row", bound=tuple[Any, ...])
# Generations per chunk: the masks of a long search do not fit into memory.
CHUNK = 64


def replay(
    read: Callable[..., list[Any]], spec: MaskSpec, order_effects: OrderEffects, last: int, first: int = 0
) -> Iterator[Generation]:
    """Yield the generations up to the ``last`` one, each with its population and offspring.

    Parameters
    ----------
    read : ``read(table, rest, parameters, context)`` returns validated rows.
    spec : of the masks.
    order_effects : the effects of data orders.
    last : the number of the last generation that is committed, −1 for none.
    first : the number of the first generation to yield.

    Raises :class:`ValueError` for generations or members that are missing.
    """
    known, living = OrderEffects(), dict[int, Ticket]()  # both as of the generation that is yielded
    between = "WHERE {0} BETWEEN ? AND ? ORDER BY {0}"
    for start in range(0, last + 1, CHUNK):
        bounds = start, min(start + CHUNK - 1, last)
        rows: list[GenerationRow] = read(GENERATIONS, between.format("number"), bounds)
        if [row.number for row in rows] != list(range(bounds[0], bounds[1] + 1)):
            raise ValueError(f"generations {bounds[0]} to {bounds[1]} are not all there")
        made = _by_generation(read(TICKETS, f"{between.format('generation')}, number", bounds, spec))
        members = _by_generation(read(MEMBERS, f"{between.format('generation')}, position", bounds))
        again = _by_generation(read(ASSESSMENTS, f"{between.format('generation')}, ticket", bounds))
        for row in rows:
            number = row.number
            offspring = Tickets(ticket_of(ticket_row, spec) for ticket_row in made.get(number, ()))
            living = {ticket: living[ticket].copy_for_reevaluation() for ticket in living}
            living |= {ticket.number: ticket for ticket in offspring}
            population = _population(members.get(number, ()), living, number)
            _assess(again.get(number, ()), living)
            for rung, value in order_effects.of(number):
                known.add(rung, number, value)
            known.subtract([*offspring, *population])
            living = {ticket.number: ticket for ticket in population}
            if number >= first:
                yield generation_of(row, population, offspring, order_effects)


def _by_generation(rows: Sequence[Any]) -> dict[int, list[Any]]:
    return {number: list(group) for number, group in groupby(rows, lambda row: row.generation)}


def _population(rows: Sequence[MemberRow], living: dict[int, Ticket], number: int) -> Tickets:
    for row in rows:
        if row.ticket not in living:
            raise ValueError(f"ticket {row.ticket} of generation {number} was not there before")
    if not rows:
        raise ValueError(f"generation {number} has no members")
    return Tickets(living[row.ticket] for row in rows)


def _assess(rows: Sequence[AssessmentRow], living: dict[int, Ticket]) -> None:
    for row in rows:
        if row.ticket not in living:
            raise ValueError(f"ticket {row.ticket} was evaluated again but is no member")
        living[row.ticket].add_evaluation(assessment_of(row))


def generation_of(
    row: GenerationRow, population: Tickets, offspring: Tickets, order_effects: OrderEffects
) -> Generation:
    """Return the generation in a row of the table ``generations``, with its tickets."""
    return Generation(
        row.number,
        population,
        offspring,
        row.refused,
        row.immigrants,
        row.statistics,
        row.state.content(),
        [Agreement(*counts) for counts in row.agreements],
        row.phases,
        Spent(**row.spent.model_dump()),
        order_effects,
    )
