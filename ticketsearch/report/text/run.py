"""What a run came to: the final comparison, the overlap of its seeds, its ladder, its times, its content."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch import settings as config
from ticketsearch.evolution import OWN, probabilities
from ticketsearch.halving import ENOUGH_PAIRS, LEAST_TAU, Tau, counted, pool
from ticketsearch.masks import MaskSpec, effective_densities, layer_counts, live
from ticketsearch.overlap import OverlapStudy, RawOverlap, overlap_study, raw_overlap
from ticketsearch.runs import BEST, Result, Run, contenders, front_name
from ticketsearch.tickets import Ticket, Tickets

__all__ = [
    "Comparison",
    "OperatorRow",
    "Phase",
    "comparison",
    "comparison_lines",
    "content",
    "credit_lines",
    "first_seeds",
    "front_lines",
    "front_rows",
    "ladder_lines",
    "masking_lines",
    "one_line",
    "operator_rows",
    "overlap_lines",
    "own_work",
    "phase_lines",
    "phases",
    "seed_overlap",
    "seed_study",
    "spread",
    "study_lines",
    "winner",
]


# The most weights, summed over pairs, of the masks that a report aligns: seconds of work.
ALIGNED = 20_000_000


class Comparison(NamedTuple):
    """One row of the final table: test results over data orders, mean and sample standard deviation."""

    contender: str
    density: float
    effective_density: float
    accuracy: float
    accuracy_sd: float
    loss: float
    loss_sd: float
    accuracies: tuple[float, ...]


class OperatorRow(NamedTuple):
    """One operator's children, how many survived their generation, and its chance to make the next child."""

    name: str
    children: int
    survivors: int
    probability: float


class Phase(NamedTuple):
    """One row of the table of phases: seconds over all generations, and their share of all phases."""

    name: str
    seconds: float
    share: float


def comparison(run: Run) -> list[Comparison]:
    """Return the rows of the final table, best ticket first; empty until the run is finished."""
    results = [result for result in run.results() if result.part == "test"]
    rows = []
    for name in contenders(run.settings):
        own = [result for result in results if result.contender == name]
        if own:
            rows.append(_comparison(name, own))
    return rows


def front_rows(run: Run) -> list[Comparison]:
    """Return the rows of a front's table, the sparsest ticket first; empty where there is none.

    Validation chose them: none of the front beats another in validation accuracy and kept weights.
    """
    if run.settings.evolution.objective != "front":
        return []
    results = [r for r in run.results() if r.part == "test" and r.ticket is not None]
    tickets = {r.ticket: front_name(r.ticket) for r in results if r.ticket is not None}
    rows = [_comparison(name, [r for r in results if r.ticket == number]) for number, name in tickets.items()]
    return sorted(rows, key=lambda row: row.density)


def spread(deviation: float) -> str:
    """Return a standard deviation after its mean; nothing where there is none, as of a single data order."""
    return "" if math.isnan(deviation) else f" ± {deviation:.4f}"


def front_lines(run: Run) -> list[str]:
    """Return the table of the front as text; none where there is none."""
    rows = front_rows(run)
    if not rows:
        return []
    width = max(len(row.contender) for row in rows)
    return [
        f"The front, {len(rows)} tickets that validation chose, by density, on the test split:",
        f"  {'':{width}}  density  effective     accuracy",
        *(
            f"  {row.contender:{width}}  {row.density:7.4f}  {row.effective_density:9.4f}  "
            f"{row.accuracy:.4f}{spread(row.accuracy_sd)}"
            for row in rows
        ),
    ]


def winner(run: Run) -> Ticket | None:
    """Return the ticket that validation chose, or None until the run is finished."""
    numbers = [r.ticket for r in run.results() if r.contender == BEST and r.ticket is not None]
    return run.ticket(numbers[0]) if numbers else None


def first_seeds(run: Run) -> Tickets:
    """Return what the first pruner left of each initialization, in their order, equal masks too."""
    seeds = run.seeds()
    return Tickets(seed for seed in seeds if seed.operator == seeds[0].operator)


def seed_overlap(run: Run) -> RawOverlap | None:
    """Return the overlap of the masks of all initializations, equal ones too; None for fewer than two."""
    seeds = first_seeds(run)
    return raw_overlap(seeds.masks, run.spec) if len(seeds) > 1 else None


def masking_lines(run: Run) -> list[str]:
    """Return what is to be known of the figures where the mask is not that of the forward pass."""
    if run.settings.training.masking != "gradient":
        return []
    return [
        "Masked in the gradient alone: weights that a mask does not keep stay at their initial values and "
        "count in these figures, which are those of whole networks."
    ]


def comparison_lines(run: Run) -> list[str]:
    """Return the final table as text, with the sentence that says how it was made."""
    rows = comparison(run)
    if not rows:
        return [f"Not finished: generation {run.progress()} of {run.settings.evolution.generations}."]
    final = run.settings.final
    width = max(len(row.contender) for row in rows)
    lines = [
        f"Test split, after {final.steps} training steps, "
        + ("1 data order." if final.orders == 1 else f"{final.orders} data orders (mean ± sd; ")
        + ("" if final.orders == 1 else "random: a new mask for each)."),
        f"  {'':{width}}  {'accuracy':^15}  {'loss':^15}  density  effective",
    ]
    for row in rows:
        lines.append(
            f"  {row.contender:{width}}  {row.accuracy:.4f}{spread(row.accuracy_sd):9}  "
            f"{row.loss:.4f}{spread(row.loss_sd):9}  {row.density:7.4f}  {row.effective_density:9.4f}"
        )
    lines += masking_lines(run)
    best = winner(run)
    if best is not None:
        score = run.settings.evolution.objective == "score"
        among = f"among the {final.candidates} of best fitness" if score else "from the front"
        lines.append(
            f"The best ticket is number {best.number}, {_origin(best)}; validation accuracy chose it {among}."
        )
    return [*lines, *front_lines(run)]


def _origin(ticket: Ticket) -> str:
    if not ticket.parents and ticket.generation == 0:
        pruned = f" of {ticket.pruned_from.scheme}" if ticket.pruned_from else ""
        return (
            f"of the first population ({ticket.operator}{pruned}): no child of the search was chosen over it"
        )
    return f"made by {ticket.operator} in generation {ticket.generation}"


def overlap_lines(run: Run) -> list[str]:
    """Return what the masks of different initializations share, against chance, in sentences."""
    overlap, seeds = seed_overlap(run), first_seeds(run)
    if overlap is None:
        return ["Overlap: there are fewer than two masks of different initializations."]
    networks = len({seed.key for seed in seeds})
    layers = ", ".join(
        f"{layer.name} {_off_diagonal(iou):.4f} ({_off_diagonal(chance):.4f})"
        for layer, iou, chance in zip(run.spec.layers, overlap.layers, overlap.layers_chance, strict=True)
    )
    return [
        f"Overlap of {len(seeds)} {seeds[0].operator} masks from different initializations: "
        f"IoU {_off_diagonal(overlap.whole):.4f}, by chance {_off_diagonal(overlap.chance):.4f} "
        "(same layer densities); means over pairs.",
        f"By layer (chance in brackets): {layers}.",
        f"Up to a renumbering of hidden neurons they are {networks} different networks.",
    ]


def seed_study(run: Run) -> OverlapStudy | None:
    """Return the overlap of the masks of all initializations, raw and aligned, without null models.

    Masks are named by their numbers, from 1 on. None for fewer than two masks, and for networks whose
    alignment would take long.
    """
    seeds = first_seeds(run)
    pairs = len(seeds) * (len(seeds) - 1) // 2
    if not 0 < pairs * run.spec.size <= ALIGNED:
        return None
    names = [str(number) for number in range(1, len(seeds) + 1)]
    return overlap_study(seeds.masks, run.spec, names=names, draws=0, aligned_draws=0)


def study_lines(run: Run, study: OverlapStudy | None) -> list[str]:
    """Return in plain words what the masks of different initializations share."""
    overlap, seeds = seed_overlap(run), first_seeds(run)
    if overlap is None:
        return overlap_lines(run)
    shared, chance = _off_diagonal(overlap.whole), _off_diagonal(overlap.chance)
    if shared <= chance:
        more = "no more than chance"
    else:
        ratio = shared / chance
        more = f"{ratio:.1f} times as much" if ratio >= 1.25 else "hardly more than chance"
    lines = [
        f"The masks that {seeds[0].operator} leaves of {len(seeds)} initializations share "
        f"{shared:.1%} of the weights that either keeps, and {chance:.1%} by chance: {more}. "
        "(Mean over pairs of intersection over union; chance has the same number of weights in each layer.)",
    ]
    if study is None:
        lines.append("Masks of this size are renumbered to match by “ticketsearch overlap”, not here.")
    else:
        lines.append(
            "With hidden neurons renumbered to match they share at least "
            f"{_off_diagonal(study.aligned):.1%}. Renumbering makes any two masks more alike; whether these "
            "more than shuffled ones, “ticketsearch overlap” tests."
        )
    return [*lines, _networks_line(run)]


def _networks_line(run: Run) -> str:
    """Say how many networks those seeds are that let something through."""
    seeds = first_seeds(run)
    keys = [seed.key for seed in seeds if live(seed.mask, run.spec).any()]
    if not keys:
        return f"None of the {len(seeds)} masks lets anything through."
    networks = len(set(keys))
    same = {1: "the same network", len(keys): "all different networks"}
    words = same.get(networks, f"{networks} different networks")
    who = "they"
    if len(keys) < len(seeds):
        who = f"the {len(keys)} of {len(seeds)} masks that let something through"
    return f"Up to a renumbering of hidden neurons {who} are {words}."


def ladder_lines(run: Run) -> list[str]:
    """Return how far the rungs of a ladder agree, and which are not to be trusted; none without a ladder."""
    taus = pool(run.agreements())
    if not taus:
        return []
    return [
        "Agreement of the ladder's rungs, Kendall τ over pairs of controls (random masks of the worse part, "
        "trained on all the same):",
        *(f"  {_tau_line(tau)}" for tau in taus),
    ]


def _tau_line(tau: Tau) -> str:
    rungs = f"{tau.lower_steps} and {tau.upper_steps} steps"
    if tau.pairs == 0:
        return f"{rungs}: unknown, as there was no pair of controls to compare."
    found = f"{rungs}: τ {tau.tau:.2f} (95 % {tau.low:.2f} to {tau.high:.2f}, {counted(tau.pairs)})"
    if tau.untrusted:
        return f"{found}; the rung of {tau.lower_steps} steps is not to be trusted, as τ < {LEAST_TAU}."
    if tau.pairs < ENOUGH_PAIRS:
        return f"{found}; fewer than {ENOUGH_PAIRS} pairs say little."
    return f"{found}."


def operator_rows(run: Run) -> list[OperatorRow]:
    """Return the table of operators that credit chose among; empty where there is one of each kind."""
    made = run.operators()
    return [
        OperatorRow(name, *made.get(name, (0, 0)), float(chance))
        for own in run.credit().values()
        for name, chance in zip(own, probabilities(list(own.values())), strict=True)
    ]


def credit_lines(run: Run) -> list[str]:
    """Return the table of operators as text; none where there is one of each kind."""
    rows = operator_rows(run)
    if not rows:
        return []
    width = max(len(row.name) for row in rows)
    return [
        "Operators, drawn by the share of their children in the better half of a generation:",
        f"  {'':{width}}  children  survivors  probability",
        *(f"  {r.name:{width}}  {r.children:8}  {r.survivors:9}  {r.probability:11.3f}" for r in rows),
    ]


def phases(run: Run) -> list[Phase]:
    """Return the table of phases, the longest first; empty before the first generation."""
    seconds = run.phases()
    total = sum(seconds.values())
    rows = [Phase(name, each, each / total if total else 0.0) for name, each in seconds.items()]
    return sorted(rows, key=lambda row: (-row.seconds, row.name))


def own_work(run: Run) -> str:
    """Return in a sentence which part of the time is the evolution's own work."""
    share = sum(row.share for row in phases(run) if row.name in OWN)
    return f"The evolution's own work ({', '.join(OWN)}) is {100 * share:.1f} % of the time."


def phase_lines(run: Run) -> list[str]:
    """Return the table of phases as text, with the sentence on the evolution's own work."""
    rows = phases(run)
    if not rows:
        return []
    width = max(len(row.name) for row in rows)
    return [
        f"Time of {run.progress() + 1} generations by phase:",
        *(f"  {row.name:{width}}  {row.seconds:9.2f} s  {100 * row.share:5.1f} %" for row in rows),
        own_work(run),
    ]


def one_line(run: Run) -> str:
    """Return a run's state in one line."""
    settings = run.settings
    done, total = run.progress(), settings.evolution.generations
    state = "finished" if run.finished else f"generation {max(done, 0)}/{total}"
    name = settings.data.name.rpartition("/")[2]
    text = (
        f"{state:18}  {name}, {settings.model.name.rpartition('/')[2]}, density {settings.seeding.density:g}"
    )
    rows = comparison(run)
    return text + (f", test accuracy {rows[0].accuracy:.4f}" if rows else "")


def content(run: Run) -> Iterator[str]:
    """Yield a run's content as lines: equal for equal runs, so without times, rates and paths."""
    yield f"run {run.name}"
    yield f"settings {config.settings_digest(run.settings)}"
    yield f"network {run.spec.signature}, {run.spec.size} weights; data {run.data_fingerprint}"
    seeds = run.seeds()
    several = len({seed.operator for seed in seeds}) > 1
    for seed in seeds:
        counts = "+".join(map(str, layer_counts(seed.mask, run.spec)))
        scheme, number = seed.pruned_from or ("?", "?")
        method = f" by {seed.operator}" if several else ""
        yield f"seed of {scheme} {number}{method}: {seed.digest} key {seed.key}, kept {counts}"
    for generation in run.generations():
        statistics = ", ".join(f"{name} {value!r}" for name, value in generation.statistics.items())
        yield (
            f"generation {generation.number}: {statistics}; {len(generation.offspring)} evaluated, "
            f"{generation.diverged} diverged, {generation.refused} refused, "
            f"{generation.immigrants} immigrants"
        )
        for agreement in generation.agreements:
            yield (
                f"  rungs of {agreement.lower_steps} and {agreement.upper_steps} steps: pairs of controls "
                f"{agreement.concordant} concordant, {agreement.discordant} discordant, {agreement.tied} tied"
            )
        offspring = generation.offspring
        if offspring:
            masks = offspring.masks
            counts = layer_counts(masks, run.spec).tolist()
            shares = effective_densities(masks, run.spec).tolist()
            for ticket, kept, effective in zip(offspring, counts, shares, strict=True):
                yield f"  {_ticket_line(ticket, kept, effective, run.spec)}"
        for ticket in generation.population:
            if ticket.generation < ticket.assessments[-1].generation == generation.number:
                yield f"  ticket {ticket.number} again: {_fitness(ticket)}"
        yield f"  survivors {' '.join(str(ticket.number) for ticket in generation.population)}"
        if run.settings.evolution.objective == "front":
            yield f"  front {' '.join(str(ticket.number) for ticket in generation.front)}"
    for result in run.results():
        yield (
            f"{result.part} of {result.contender}, data order {result.data_order}: "
            f"accuracy {result.accuracy!r}, loss {result.loss!r}, density {result.density!r}, "
            f"effective density {result.effective_density!r}"
        )
    yield from ladder_lines(run)
    yield from credit_lines(run)
    yield from overlap_lines(run)


def _ticket_line(ticket: Ticket, kept: list[int], effective: float, spec: MaskSpec) -> str:
    parents = " from " + " ".join(map(str, ticket.parents)) if ticket.parents else ""
    pruned = f" of {ticket.pruned_from.scheme} {ticket.pruned_from.seed}" if ticket.pruned_from else ""
    return (
        f"ticket {ticket.number} {ticket.digest} key {ticket.key}: {ticket.operator}{parents}{pruned}, "
        f"kept {'+'.join(map(str, kept))}, density {sum(kept) / spec.size:.6g}, "
        f"effective {effective:.6g}, {_fitness(ticket)}"
    )


def _fitness(ticket: Ticket) -> str:
    measures = "".join(f", {name} {value!r}" for name, value in ticket.measures.items())
    rung = f"rung {ticket.rung}, " if ticket.rung else ""
    return f"{rung}fitness {ticket.score!r}{measures}"


def _comparison(name: str, own: list[Result]) -> Comparison:
    accuracy = np.array([result.accuracy for result in own])
    loss = np.array([result.loss for result in own])
    return Comparison(
        name,
        float(np.mean([result.density for result in own])),
        float(np.mean([result.effective_density for result in own])),
        float(accuracy.mean()),
        _sd(accuracy),
        float(loss.mean()),
        _sd(loss),
        tuple(accuracy.tolist()),
    )


def _sd(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 and np.isfinite(values).all() else float("nan")


def _off_diagonal(matrix: NDArray[np.float64]) -> float:
    return float(matrix[np.triu_indices(len(matrix), k=1)].mean())
