"""A run as text: its state, final comparison, overlap of pruned masks, rungs, operators and times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ticketsearch.evolution import EVOLUTION_PHASES
from ticketsearch.halving import ENOUGH_PAIRS, LEAST_TAU, Tau, counted, pool
from ticketsearch.masks import live
from ticketsearch.overlap import ALIGNED_DEGREES, ALIGNED_UNIFORM, RawOverlap, raw_overlap
from ticketsearch.runs import (
    Run,
    contender_rows,
    first_seeds,
    front_rows,
    operator_rows,
    phase_rows,
    winner,
)
from ticketsearch.tickets import Ticket
from ticketsearch.typing import Floats

if TYPE_CHECKING:
    from ticketsearch.overlap import OverlapStudy

__all__ = [
    "comparison_lines",
    "early_end_lines",
    "masking_lines",
    "operator_lines",
    "overlap_lines",
    "own_work",
    "pair_mean",
    "phase_lines",
    "rung_lines",
    "seed_overlap",
    "seed_study",
    "spread",
    "study_lines",
]

# The most weights, summed over pairs and draws, of the masks that a report aligns: seconds of work.
ALIGNED = 20_000_000
# Draws of each null model, and the fewest that are worth showing.
DRAWS, FEWEST_DRAWS = 19, 5
_TOO_LARGE = (
    "Masks of this size are not renumbered here, as their null models would take long: “ticketsearch "
    "overlap” renumbers and tests them."
)


def early_end_lines(run: Run) -> list[str]:
    """Return a sentence on the early end of a search; empty where all planned generations are there."""
    if run.stopped is None:
        return []
    there, planned = run.settings.evolution.generations, run.stopped.planned
    reason = f"its limit of {run.stopped.minutes:g} minutes was over" if run.stopped.minutes else "as asked"
    lifted = " --set evolution.minutes=0" if run.stopped.minutes else ""
    return [
        f"The search ended after generation {there} of {planned}, {reason}; "
        f"`ticketsearch evolve --resume {run.name} --generations {planned}{lifted}` goes on with it."
    ]


def comparison_lines(run: Run) -> list[str]:
    """Return the final table, after a sentence on its training and before one on the best ticket."""
    rows = contender_rows(run)
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
        candidates = f"the {final.candidates} tickets of best fitness" if score else "the Pareto front"
        lines.append(
            f"The best ticket is number {best.number}, {_origin(best)}; it has the highest validation "
            f"accuracy of {candidates}."
        )
    return [*lines, *_front_lines(run)]


def masking_lines(run: Run) -> list[str]:
    """Return a note on the figures of a run whose masks are applied to gradients alone; else no line."""
    if run.settings.training.masking != "gradient":
        return []
    return [
        "Masks are applied to gradients alone: weights that a mask prunes stay at their initial values and "
        "count in these figures, which are those of whole networks."
    ]


def spread(deviation: float) -> str:
    """Return `` ± deviation`` to follow a mean; the empty string for NaN, as of a single data order."""
    return "" if math.isnan(deviation) else f" ± {deviation:.4f}"


def _origin(ticket: Ticket) -> str:
    if not ticket.parents and ticket.generation == 0:
        pruned = f" of {ticket.pruned_from.scheme}" if ticket.pruned_from else ""
        return (
            f"of the first population ({ticket.operator}{pruned}): no child of the search was chosen over it"
        )
    return f"made by {ticket.operator} in generation {ticket.generation}"


def _front_lines(run: Run) -> list[str]:
    """Return the table of the Pareto front; no line without a front."""
    rows = front_rows(run)
    if not rows:
        return []
    width = max(len(row.contender) for row in rows)
    return [
        f"The Pareto front of validation accuracy and density, {len(rows)} tickets, on the test split:",
        f"  {'':{width}}  density  effective     accuracy",
        *(
            f"  {row.contender:{width}}  {row.density:7.4f}  {row.effective_density:9.4f}  "
            f"{row.accuracy:.4f}{spread(row.accuracy_sd)}"
            for row in rows
        ),
    ]


def seed_overlap(run: Run) -> RawOverlap | None:
    """Return the overlap of the masks of all initializations, equal ones too; None for fewer than two."""
    seeds = first_seeds(run)
    return raw_overlap(seeds.masks, run.spec) if len(seeds) > 1 else None


def overlap_lines(run: Run) -> list[str]:
    """Return the overlap of the masks of different initializations beside that expected by chance."""
    overlap, seeds = seed_overlap(run), first_seeds(run)
    if overlap is None:
        return ["Overlap: there are fewer than two masks of different initializations."]
    networks = len({seed.key for seed in seeds})
    layers = ", ".join(
        f"{layer.name} {pair_mean(iou):.4f} ({pair_mean(chance):.4f})"
        for layer, iou, chance in zip(run.spec.layers, overlap.layers, overlap.layers_chance, strict=True)
    )
    return [
        f"Overlap of {len(seeds)} {seeds[0].operator} masks from different initializations: "
        f"IoU {pair_mean(overlap.whole):.4f}, by chance {pair_mean(overlap.chance):.4f} "
        "(same layer densities); means over pairs.",
        f"By layer (chance in brackets): {layers}.",
        f"Up to a renumbering of hidden neurons they are {networks} different networks.",
    ]


def seed_study(run: Run) -> OverlapStudy | None:
    """Return the overlap of the masks of all initializations, raw and aligned, beside their null models.

    Masks are named by their numbers, from 1 on. None for fewer than two masks, and for networks whose
    alignment, with enough draws of the null models, would take long.
    """
    from ticketsearch.overlap import overlap_study  # takes scipy, which the text of a run does without

    seeds = first_seeds(run)
    pairs = len(seeds) * (len(seeds) - 1) // 2
    draws = _affordable_draws(pairs * run.spec.size)
    if not draws:
        return None
    names = [str(number) for number in range(1, len(seeds) + 1)]
    return overlap_study(seeds.masks, run.spec, names=names, draws=draws, aligned_draws=draws)


def _affordable_draws(work: int) -> int:
    """Return the draws of each null model; 0 where there is no pair, or not time for a few.

    ``work`` is the number of weights of all pairs. Masks and the draws of two null models are aligned.
    """
    draws = (ALIGNED // work - 1) // 2 if work else 0
    return min(draws, DRAWS) if draws >= FEWEST_DRAWS else 0


def study_lines(run: Run, study: OverlapStudy | None) -> list[str]:
    """Return sentences on the overlap of the masks of different initializations."""
    overlap, seeds = seed_overlap(run), first_seeds(run)
    if overlap is None:
        return overlap_lines(run)
    shared, chance = pair_mean(overlap.whole), pair_mean(overlap.chance)
    if shared <= chance:
        verdict = "no more than chance"
    else:
        ratio = shared / chance
        verdict = f"{ratio:.1f} times as much" if ratio >= 1.25 else "hardly more than chance"
    lines = [
        f"The {seeds[0].operator} masks of {len(seeds)} initializations share "
        f"{shared:.1%} of the weights that either keeps, and {chance:.1%} by chance: {verdict}. "
        "(Mean over pairs of intersection over union; chance has the same number of weights in each layer.)",
    ]
    lines.append(_TOO_LARGE if study is None else _renumbered_line(study))
    return [*lines, _networks_line(run)]


def _renumbered_line(study: OverlapStudy) -> str:
    """Return the overlap of renumbered masks beside the range of each null model's draws."""
    shared = study.mean(study.aligned)
    draws = [study.drawn[null]["iou"] for null in (ALIGNED_UNIFORM, ALIGNED_DEGREES)]
    (least, most), (fewest, highest) = ((values.min(), values.max()) for values in draws)
    first, second = (_place(shared, values) for values in draws)
    verdict = f"{first} both" if first == second else f"{first} the first and {second} the second"
    return (
        f"With hidden neurons renumbered to match they share at least {shared:.1%}. Renumbering makes any "
        f"masks more alike: masks shuffled within layers then share {least:.1%} to {most:.1%}, and masks "
        f"rewired with the same fan-in and fan-out of each neuron {fewest:.1%} to {highest:.1%}, in "
        f"{len(draws[0])} draws of each. The overlap of the pruned masks is {verdict} of these ranges; "
        "“ticketsearch overlap” tests it with more draws."
    )


def _place(value: float, draws: Floats) -> str:
    """Return where a value lies among draws."""
    return "above" if value > draws.max() else "below" if value < draws.min() else "within"


def _networks_line(run: Run) -> str:
    """Count the different networks among the masks that are not disconnected."""
    seeds = first_seeds(run)
    keys = [seed.key for seed in seeds if live(seed.mask, run.spec).any()]
    if not keys:
        return f"All {len(seeds)} masks are disconnected: no kept path leads from an input to an output."
    networks = len(set(keys))
    same = {1: "the same network", len(keys): "all different networks"}
    verdict = same.get(networks, f"{networks} different networks")
    subject = "they" if len(keys) == len(seeds) else f"the {len(keys)} of {len(seeds)} connected masks"
    return f"Up to a renumbering of hidden neurons {subject} are {verdict}."


def rung_lines(run: Run) -> list[str]:
    """Return the agreement of successive halving's rungs, with warnings; no line without several rungs."""
    taus = pool(run.agreements())
    if not taus:
        return []
    return [
        "Agreement of successive halving's rungs, Kendall τ over pairs of controls (random masks of the "
        "worse part, trained on all the same):",
        *(f"  {_tau_line(tau)}" for tau in taus),
    ]


def _tau_line(tau: Tau) -> str:
    rungs = f"{tau.lower_steps} and {tau.upper_steps} steps"
    if tau.pairs == 0:
        return f"{rungs}: unknown, as there was no pair of controls to compare."
    line = f"{rungs}: τ {tau.tau:.2f} (95 % {tau.low:.2f} to {tau.high:.2f}, {counted(tau.pairs)})"
    if tau.untrusted:
        return f"{line}; the rung of {tau.lower_steps} steps is not to be trusted, as τ < {LEAST_TAU}."
    if tau.pairs < ENOUGH_PAIRS:
        return f"{line}; fewer than {ENOUGH_PAIRS} pairs say little."
    return f"{line}."


def operator_lines(run: Run) -> list[str]:
    """Return the table of adaptive operator selection; no line with one operator of each kind."""
    rows = operator_rows(run)
    if not rows:
        return []
    width = max(len(row.name) for row in rows)
    return [
        "Operators, drawn by the share of their children in the better half of a generation:",
        f"  {'':{width}}  children  survivors  probability",
        *(f"  {r.name:{width}}  {r.children:8}  {r.survivors:9}  {r.probability:11.3f}" for r in rows),
    ]


def own_work(run: Run) -> str:
    """Return the sentence on the share of time that the evolution itself takes, without evaluations."""
    share = sum(row.share for row in phase_rows(run) if row.name in EVOLUTION_PHASES)
    return f"The evolution's own work ({', '.join(EVOLUTION_PHASES)}) is {100 * share:.1f} % of the time."


def phase_lines(run: Run) -> list[str]:
    """Return the table of phases, and the sentence on the evolution's own work."""
    rows = phase_rows(run)
    if not rows:
        return []
    width = max(len(row.name) for row in rows)
    return [
        f"Time of {run.progress() + 1} generations by phase:",
        *(f"  {row.name:{width}}  {row.seconds:9.2f} s  {100 * row.share:5.1f} %" for row in rows),
        own_work(run),
    ]


def pair_mean(matrix: Floats) -> float:
    """Return the mean over the pairs of a symmetric ``(masks, masks)`` matrix."""
    return float(matrix[np.triu_indices(len(matrix), k=1)].mean())
