"""The rows of a run's tables: what each column may hold, and how tickets are read from them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, Json

from ticketsearch.masks import Guidance, MaskSpec, check_guidance, digest, pack, unpack
from ticketsearch.models import Initialization
from ticketsearch.storage import Count, Finite, Share, Table, Word
from ticketsearch.tickets import Assessment, Ticket

__all__ = [
    "ASSESSMENTS",
    "GENERATIONS",
    "GUIDANCE",
    "MEMBERS",
    "META",
    "RESULTS",
    "SEEDS",
    "STATES",
    "TICKETS",
    "WORTH",
    "GenerationRow",
    "State",
    "TicketRow",
    "assessment_of",
    "assessment_row",
    "guidance_of",
    "guidance_row",
    "seed_of",
    "ticket_of",
    "ticket_row",
]

# Of saliencies, numbers of candidates, and their growth, little-endian.
GUIDANCE_TYPES = ("<f4", "<u4", "<f4")
Measures = Json[dict[Word, float]]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bits = Annotated[int, Field(ge=0, lt=2**128)]


class Stream(BaseModel):
    """The state of NumPy's PCG64."""

    state: Bits
    inc: Bits


class Generator(BaseModel):
    """The state of the evolution's random generator, as NumPy gives it."""

    bit_generator: Literal["PCG64"]
    state: Stream
    has_uint32: Literal[0, 1]
    uinteger: Annotated[int, Field(ge=0, lt=2**32)]


class State(BaseModel):
    """What an evolution goes on from; ``worth``, of all rounds so far, was part of it up to schema 5."""

    rng: Generator
    count: Count
    population: Annotated[int, Field(ge=1, lt=2**63)]
    credit: dict[Literal["crossover", "mutation"], dict[Word, Share]] | None = None

    def content(self) -> dict[str, Any]:
        """Return it as plain numbers and text."""
        return self.model_dump(exclude_unset=True)


class OldState(BaseModel):
    """What a state told of rounds up to schema 5: rung, generation and worth."""

    worth: list[tuple[Count, Count, Finite]] = []


class Taken(BaseModel):
    """What evaluations took; floating-point operations soon pass what SQLite's integers hold."""

    evaluations: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=0)]
    flops: Annotated[int, Field(ge=0)]


class MetaRow(NamedTuple):
    """One fact about the run."""

    key: str
    value: str


class GenerationRow(NamedTuple):
    """One generation."""

    number: Count
    refused: Count
    immigrants: Count
    statistics: Json[dict[Word, float]]
    state: Json[State]
    agreements: Json[list[tuple[Count, Count, Count, Count, Count]]]
    spent: Json[Taken]
    phases: Json[dict[Word, Seconds]]
    finished: Finite


class TicketRow(NamedTuple):
    """One evaluated mask."""

    number: Count
    generation: Count
    mask: bytes
    digest: str
    key: str
    exact: Literal[0, 1]
    operator: Word
    parents: Json[tuple[Count, ...]]
    scheme: Word | None
    seed: Count | None
    pruned_scheme: Word | None
    pruned_seed: Count | None
    rung: Count
    fitness: Finite | None
    measures: Measures


class SeedRow(NamedTuple):
    """What a pruner left of one initialization."""

    position: Count
    mask: bytes
    digest: str
    key: str
    operator: Word
    scheme: Word
    seed: Count


class MemberRow(NamedTuple):
    """A ticket's place in a generation's population."""

    generation: Count
    position: Count
    ticket: Count


class AssessmentRow(NamedTuple):
    """One further evaluation of a member."""

    ticket: Count
    generation: Count
    rung: Count
    fitness: Finite | None
    measures: Measures


class WorthRow(NamedTuple):
    """What a generation's data order was found to be worth at a rung."""

    generation: Count
    rung: Count
    value: Finite


class GuidanceRow(NamedTuple):
    """What training revealed of a member of the last generation."""

    ticket: Count
    saliency: bytes
    candidates: bytes
    growth: bytes


class ResultRow(NamedTuple):
    """One final training."""

    contender: Word
    data_order: Count
    part: Literal["validation", "test"]
    ticket: Count | None
    density: Share
    effective_density: Share
    loss: float | None
    accuracy: Share


class StatisticsRow(NamedTuple):
    """A generation's statistics."""

    number: Count
    statistics: Json[dict[Word, float]]


class AgreementsRow(NamedTuple):
    """How far the rungs of a ladder agree in a generation."""

    agreements: Json[list[tuple[Count, Count, Count, Count, Count]]]


class PhasesRow(NamedTuple):
    """A generation's seconds by phase."""

    phases: Json[dict[Word, Seconds]]


class StateRow(NamedTuple):
    """A generation's state."""

    number: Count
    state: Json[State]


class OldStateRow(NamedTuple):
    """What a generation's state told of rounds up to schema 5."""

    number: Count
    state: Json[OldState]


class MadeRow(NamedTuple):
    """How many children an operator made, and how many of them survived their generation."""

    operator: Word
    children: Count
    survivors: Count


class NumberRow(NamedTuple):
    """A generation's number."""

    number: Count


class KeyRow(NamedTuple):
    """A ticket's key."""

    key: str


class ParentsRow(NamedTuple):
    """A ticket's parents, which came before it."""

    number: Count
    parents: Json[tuple[Count, ...]]


def _check_mask(row: TicketRow | SeedRow, spec: MaskSpec) -> None:
    if digest(unpack(row.mask, spec)) != row.digest:
        raise ValueError("the digest is that of another mask")


def _check_ticket(row: TicketRow, spec: MaskSpec) -> None:
    _check_mask(row, spec)
    _check_parents(row, spec)
    for scheme, seed in ((row.scheme, row.seed), (row.pruned_scheme, row.pruned_seed)):
        if (scheme is None) != (seed is None):
            raise ValueError("an initialization has a scheme and a seed")


def _check_parents(row: TicketRow | ParentsRow, _: object) -> None:
    if any(parent >= row.number for parent in row.parents):
        raise ValueError(f"parents come before ticket {row.number}, but are {row.parents}")


META = Table("meta", MetaRow)
GENERATIONS = Table("generations", GenerationRow)
TICKETS = Table("tickets", TicketRow, _check_ticket)
SEEDS = Table("seeds", SeedRow, _check_mask)
MEMBERS = Table("members", MemberRow)
ASSESSMENTS = Table("assessments", AssessmentRow)
WORTH = Table("worth", WorthRow)
GUIDANCE = Table("guidance", GuidanceRow)
RESULTS = Table("results", ResultRow)
# Some columns alone, for those who need no more.
STATISTICS = Table("generations", StatisticsRow)
AGREEMENTS = Table("generations", AgreementsRow)
PHASES = Table("generations", PhasesRow)
STATES = Table("generations", StateRow)
OLD_STATES = Table("generations", OldStateRow)
NUMBERS = Table("generations", NumberRow)
KEYS = Table("tickets", KeyRow)
PARENTS = Table("tickets", ParentsRow, _check_parents)
MADE = Table(
    """(SELECT operator, count(*) AS children, count(members.ticket) AS survivors
    FROM tickets LEFT JOIN members
    ON members.ticket = tickets.number AND members.generation = tickets.generation
    WHERE tickets.generation > 0 GROUP BY operator ORDER BY operator)""",
    MadeRow,
)


def ticket_row(ticket: Ticket) -> tuple[Any, ...]:
    """Return a ticket as a row of the table ``tickets``, with its first assessment."""
    trained, pruned = ticket.initialization, ticket.pruned_from
    return (
        ticket.number,
        ticket.generation,
        pack(ticket.mask),
        ticket.digest,
        ticket.key,
        int(ticket.exact),
        ticket.operator,
        json.dumps(ticket.parents),
        *(trained or (None, None)),
        *(pruned or (None, None)),
        *assessment_row(ticket.assessments[0])[1:],
    )


def ticket_of(row: TicketRow, spec: MaskSpec) -> Ticket:
    """Return the ticket in a row of the table ``tickets``."""
    ticket = Ticket(
        unpack(row.mask, spec),
        _initialization(row.scheme, row.seed),
        _initialization(row.pruned_scheme, row.pruned_seed),
        row.operator,
        row.generation,
        row.parents,
        row.number,
        row.key,
        bool(row.exact),
    )
    ticket.digest = row.digest  # which has been checked
    ticket.add_evaluation(assessment_of(row))
    return ticket


def _initialization(scheme: str | None, seed: int | None) -> Initialization | None:
    return None if scheme is None or seed is None else Initialization(scheme, seed)


def seed_of(row: SeedRow, spec: MaskSpec) -> Ticket:
    """Return the pruned mask in a row of the table ``seeds``; it has no scores and no place in the run."""
    pruned_from = Initialization(row.scheme, row.seed)
    return Ticket(unpack(row.mask, spec), None, pruned_from, row.operator, key=row.key)


def assessment_of(row: TicketRow | AssessmentRow) -> Assessment:
    """Return the assessment in a row; one without a fitness has diverged."""
    score = float("-inf") if row.fitness is None else row.fitness
    return Assessment(row.generation, row.rung, score, row.measures)


def assessment_row(assessment: Assessment) -> tuple[Any, ...]:
    """Return an assessment as tables have it; a diverged one has no fitness there."""
    generation, rung, score, measures = assessment
    return generation, rung, score if math.isfinite(score) else None, json.dumps(measures)


def guidance_row(ticket: Ticket, guidance: Guidance) -> tuple[Any, ...]:
    """Return a ticket's guidance as a row of the table ``guidance``."""
    arrays: Sequence[NDArray[Any]] = guidance
    stored = (array.astype(dtype).tobytes() for array, dtype in zip(arrays, GUIDANCE_TYPES, strict=True))
    return (ticket.number, *stored)


def guidance_of(row: GuidanceRow, ticket: Ticket) -> Guidance:
    """Return the guidance of a ticket in a row of the table ``guidance``.

    Raises :class:`ValueError` for one that is not of the ticket's mask.
    """
    saliency, candidates, growth = (
        np.frombuffer(blob, dtype) for blob, dtype in zip(row[1:], GUIDANCE_TYPES, strict=True)
    )
    return check_guidance(saliency, candidates.astype(np.int64), growth, ticket.mask)
