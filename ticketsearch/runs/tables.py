"""The rows of a run's tables: the type and range of each column."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, Json

from ticketsearch.masks import MaskSpec, digest, unpack
from ticketsearch.storage import Count, Finite, Share, Table, Word

__all__ = [
    "AGREEMENTS",
    "ASSESSMENTS",
    "EVALUATIONS",
    "GENERATIONS",
    "GUIDANCE",
    "KEYS",
    "MADE",
    "MEMBERS",
    "META",
    "NUMBERS",
    "OLD_STATES",
    "PARENTS",
    "PHASES",
    "RESULTS",
    "SEEDS",
    "STATES",
    "STATISTICS",
    "TICKETS",
    "WORTH",
    "AssessmentRow",
    "EvaluationRow",
    "GenerationRow",
    "GuidanceRow",
    "MemberRow",
    "SeedRow",
    "State",
    "TicketRow",
]

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
    """The state that an evolution goes on from; up to schema 5 with ``worth``, see :class:`OldState`."""

    rng: Generator
    count: Count
    population: Annotated[int, Field(ge=1, lt=2**63)]
    credit: dict[Literal["crossover", "mutation"], dict[Word, Share]] | None = None

    def content(self) -> dict[str, Any]:
        """Return it as plain numbers and text."""
        return self.model_dump(exclude_unset=True)


class OldState(BaseModel):
    """The part of a state up to schema 5 on effects of data orders: (rung, generation, effect) each."""

    worth: list[tuple[Count, Count, Finite]] = []


class Taken(BaseModel):
    """Cost of evaluations, as JSON: FLOPs soon exceed the integers of SQLite."""

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
    """A pruner's mask of one initialization."""

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
    """The estimated effect of a generation's data order on scores of a rung."""

    generation: Count
    rung: Count
    value: Finite


class GuidanceRow(NamedTuple):
    """Prune and grow scores of a member of the last generation."""

    ticket: Count
    saliency: bytes
    candidates: bytes
    growth: bytes


class EvaluationRow(NamedTuple):
    """One evaluation of the generation that is being made.

    ``passes`` are loss and accuracy of each pass, float64; the other blobs are guidance, None without.
    """

    round: Count
    steps: Count
    digest: str
    scheme: Word
    seed: Count
    passes: bytes
    saliency: bytes | None
    candidates: bytes | None
    growth: bytes | None


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
    """Agreement of the rungs of successive halving in a generation."""

    agreements: Json[list[tuple[Count, Count, Count, Count, Count]]]


class PhasesRow(NamedTuple):
    """A generation's seconds by phase."""

    phases: Json[dict[Word, Seconds]]


class StateRow(NamedTuple):
    """A generation's state."""

    number: Count
    state: Json[State]


class OldStateRow(NamedTuple):
    """A generation's state up to schema 5."""

    number: Count
    state: Json[OldState]


class MadeRow(NamedTuple):
    """Children of an operator, and those that survived their generation."""

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


def _check_evaluation(row: EvaluationRow, _: object) -> None:
    values = np.frombuffer(row.passes, "<f8") if len(row.passes) % 8 == 0 else np.empty(0)
    if not len(values) or len(values) % 2 or not ((values[1::2] >= 0) & (values[1::2] <= 1)).all():
        raise ValueError("an evaluation holds pairs of a loss and an accuracy in [0, 1]")
    if len({row.saliency is None, row.candidates is None, row.growth is None}) > 1:
        raise ValueError("guidance has saliency, candidates and growth")
    if any(blob is not None and len(blob) % 4 for blob in (row.saliency, row.candidates, row.growth)):
        raise ValueError("guidance holds numbers of 4 bytes")


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
EVALUATIONS = Table("evaluations", EvaluationRow, _check_evaluation)
RESULTS = Table("results", ResultRow)
# Some columns alone, which are quicker to read than all.
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
