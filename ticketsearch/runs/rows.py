"""Tickets and their parts as rows of a run's tables, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ticketsearch.evolution import Generation
from ticketsearch.masks import Guidance, MaskSpec, check_guidance, pack, unpack
from ticketsearch.models import Initialization
from ticketsearch.runs.tables import AssessmentRow, GuidanceRow, SeedRow, TicketRow
from ticketsearch.tickets import Assessment, Ticket

__all__ = [
    "assessment_of",
    "assessment_row",
    "generation_row",
    "guidance_of",
    "guidance_row",
    "seed_of",
    "seed_row",
    "ticket_of",
    "ticket_row",
]

# Of saliencies, numbers of candidates, and their growth, little-endian.
GUIDANCE_TYPES = ("<f4", "<u4", "<f4")


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
        initialization=_initialization(row.scheme, row.seed),
        pruned_from=_initialization(row.pruned_scheme, row.pruned_seed),
        operator=row.operator,
        generation=row.generation,
        parents=row.parents,
        number=row.number,
        key=row.key,
        exact=bool(row.exact),
    )
    ticket.digest = row.digest  # which has been checked
    ticket.add_evaluation(assessment_of(row))
    return ticket


def _initialization(scheme: str | None, seed: int | None) -> Initialization | None:
    return None if scheme is None or seed is None else Initialization(scheme, seed)


def seed_row(position: int, seed: Ticket) -> tuple[Any, ...]:
    """Return a pruned mask as a row of the table ``seeds``."""
    return (position, pack(seed.mask), seed.digest, seed.key, seed.operator, *(seed.pruned_from or ()))


def seed_of(row: SeedRow, spec: MaskSpec) -> Ticket:
    """Return the pruned mask in a row of the table ``seeds``; it has no scores and no place in the run."""
    pruned_from = Initialization(row.scheme, row.seed)
    return Ticket(unpack(row.mask, spec), None, pruned_from, row.operator, key=row.key)


def assessment_of(row: TicketRow | AssessmentRow) -> Assessment:
    """Return the assessment in a row; one without a fitness has diverged."""
    score = float("-inf") if row.fitness is None else row.fitness
    return Assessment(row.generation, row.rung, score, row.measures)


def assessment_row(assessment: Assessment) -> tuple[Any, ...]:
    """Return an assessment as the last columns of its row; a diverged one has no fitness there."""
    generation, rung, score, measures = assessment
    return generation, rung, score if math.isfinite(score) else None, json.dumps(measures)


def guidance_row(ticket: Ticket, guidance: Guidance) -> tuple[Any, ...]:
    """Return a ticket's guidance as a row of the table ``guidance``."""
    arrays: Sequence[NDArray[Any]] = guidance
    stored = (array.astype(dtype).tobytes() for array, dtype in zip(arrays, GUIDANCE_TYPES, strict=True))
    return (ticket.number, *stored)


def guidance_of(row: GuidanceRow, ticket: Ticket) -> Guidance:
    """Return the guidance of a ticket in a row of the table ``guidance``.

    Raises :class:`ValueError` for the guidance of another mask.
    """
    saliency, candidates, growth = (
        np.frombuffer(blob, dtype) for blob, dtype in zip(row[1:], GUIDANCE_TYPES, strict=True)
    )
    return check_guidance(saliency, candidates.astype(np.int64), growth, ticket.mask)


def generation_row(generation: Generation, finished: float) -> tuple[Any, ...]:
    """Return a generation as a row of the table ``generations``; it was finished at a time in seconds."""
    return (
        generation.number,
        generation.refused,
        generation.immigrants,
        json.dumps(generation.statistics),
        json.dumps(generation.state),
        json.dumps(generation.agreements),
        json.dumps(asdict(generation.spent)),
        json.dumps(generation.phases),
        finished,
    )
