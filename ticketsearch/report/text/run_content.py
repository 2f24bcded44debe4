"""The content of a run as text: equal for equal runs, so without times, rates and paths."""

from __future__ import annotations

from collections.abc import Iterator

from ticketsearch.evolution import Generation
from ticketsearch.masks import MaskSpec, effective_densities, layer_counts
from ticketsearch.report.text.run import operator_lines, overlap_lines, rung_lines
from ticketsearch.runs import Run
from ticketsearch.settings import settings_digest
from ticketsearch.tickets import Ticket

__all__ = ["content"]


def content(run: Run) -> Iterator[str]:
    """Yield a run's content as lines: settings, pruned masks, generations, results, and tables."""
    yield f"run {run.name}"
    yield f"settings {settings_digest(run.settings)}"
    yield f"network {run.spec.signature}, {run.spec.size} weights; data {run.data_fingerprint}"
    yield from _pruned_lines(run)
    for generation in run.generations():
        yield from _generation_lines(generation, run.spec)
        if run.settings.evolution.objective == "front":
            yield f"  front {' '.join(str(ticket.number) for ticket in generation.front)}"
    for result in run.results():
        yield (
            f"{result.part} of {result.contender}, data order {result.data_order}: "
            f"accuracy {result.accuracy!r}, loss {result.loss!r}, density {result.density!r}, "
            f"effective density {result.effective_density!r}"
        )
    yield from rung_lines(run)
    yield from operator_lines(run)
    yield from overlap_lines(run)


def _pruned_lines(run: Run) -> Iterator[str]:
    pruned = run.seeds()
    several = len({ticket.operator for ticket in pruned}) > 1
    for ticket in pruned:
        counts = "+".join(map(str, layer_counts(ticket.mask, run.spec)))
        scheme, seed = ticket.pruned_from or ("?", "?")
        method = f" by {ticket.operator}" if several else ""
        yield f"pruned mask of {scheme} {seed}{method}: {ticket.digest} key {ticket.key}, kept {counts}"


def _generation_lines(generation: Generation, spec: MaskSpec) -> Iterator[str]:
    statistics = ", ".join(f"{name} {value!r}" for name, value in generation.statistics.items())
    yield (
        f"generation {generation.number}: {statistics}; {len(generation.offspring)} evaluated, "
        f"{generation.diverged} diverged, {generation.refused} refused, {generation.immigrants} immigrants"
    )
    for agreement in generation.agreements:
        yield (
            f"  rungs of {agreement.lower_steps} and {agreement.upper_steps} steps: pairs of controls "
            f"{agreement.concordant} concordant, {agreement.discordant} discordant, {agreement.tied} tied"
        )
    offspring = generation.offspring
    if offspring:
        counts = layer_counts(offspring.masks, spec).tolist()
        densities = effective_densities(offspring.masks, spec).tolist()
        for ticket, kept, effective in zip(offspring, counts, densities, strict=True):
            yield f"  {_ticket_line(ticket, kept, effective, spec)}"
    for ticket in generation.population:
        if ticket.generation < ticket.assessments[-1].generation == generation.number:
            count = len(ticket.assessments)
            yield f"  ticket {ticket.number} again, mean of {count} evaluations: {_fitness(ticket)}"
    yield f"  survivors {' '.join(str(ticket.number) for ticket in generation.population)}"


def _ticket_line(ticket: Ticket, kept: list[int], effective: float, spec: MaskSpec) -> str:
    parents = " from " + " ".join(map(str, ticket.parents)) if ticket.parents else ""
    pruned = f" of {ticket.pruned_from.scheme} {ticket.pruned_from.seed}" if ticket.pruned_from else ""
    return (
        f"ticket {ticket.number} {ticket.digest} key {ticket.key}: {ticket.operator}{parents}{pruned}, "
        f"kept {'+'.join(map(str, kept))}, density {sum(kept) / spec.size:.6g}, "
        f"effective {effective:.6g}, {_fitness(ticket)}"
    )


def _fitness(ticket: Ticket) -> str:
    """Return the fitness as of the generation that is printed, after the first one where both differ."""
    measures = "".join(f", {name} {value!r}" for name, value in ticket.measures.items())
    rung = f"rung {ticket.rung}, " if ticket.rung else ""
    first = "" if ticket.score == ticket.first_score else f"first fitness {ticket.first_score!r}, "
    return f"{rung}{first}fitness {ticket.score!r}{measures}"
