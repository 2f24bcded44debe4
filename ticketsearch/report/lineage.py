"""Lineage: the ancestors of a ticket by generation, with the operator and the fitness of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ticketsearch.report.pages import BLUE, DRAWN, GREY, INK, ORANGE, PAPER, PURPLE, TEAL, segments
from ticketsearch.runs import Run
from ticketsearch.tickets import Ticket
from ticketsearch.typing import Floats, Indices

__all__ = ["Lineage", "draw_lineage", "lanes", "lineage", "lineage_sentence"]

# Sweeps over the generations that order their members, forth and back in turn.
SWEEPS = 12
GOLDEN = (1 + 5**0.5) / 2
# A colour and a marker for each operator, in order of first appearance; further ones share the last.
KINDS = ((TEAL, "s"), (BLUE, "o"), (ORANGE, "D"), (PURPLE, "^"), (GREY, "v"))


class Lineage(NamedTuple):
    """A ticket and its ancestors by number, the ticket last.

    Attributes
    ----------
    tickets : without their masks, ``(0,)``.
    links : (links, 2) positions of parent and child in ``tickets``.
    line : positions of the ticket's first parents, the oldest first, and of the ticket itself.
    """

    tickets: list[Ticket]
    links: Indices
    line: list[int]


def lineage(run: Run, number: int) -> Lineage:
    """Return the ancestors of a run's ticket. Raises :class:`BadInput` for an unknown number."""
    tickets = run.ancestors(number)
    position = {ticket.number: place for place, ticket in enumerate(tickets)}
    links = [(position[parent], position[t.number]) for t in tickets for parent in t.parents]
    line = [position[number]]
    while tickets[line[0]].parents:
        line.insert(0, position[tickets[line[0]].parents[0]])
    return Lineage(tickets, np.array(links, dtype=np.intp).reshape(-1, 2), line)


def lineage_sentence(ancestry: Lineage) -> str:
    """Return the sentence on the numbers of a ticket's ancestors and of their initializations."""
    *ancestors, last = ancestry.tickets
    first = {t.pruned_from for t in ancestors if not t.parents}
    return (
        f"Ticket {last.number} has {len(ancestors)} {'ancestor' if len(ancestors) == 1 else 'ancestors'} in "
        f"{len({t.generation for t in ancestors})} generations; their masks began as those of {len(first)} "
        f"{'initialization' if len(first) == 1 else 'different initializations'}."
    )


def lanes(ancestry: Lineage) -> Floats:
    """Return the height of each ticket, ``(tickets,)``: those of a generation one apart, around 0.

    In each generation the order is that of the barycentres of parents and children, to have few crossings.
    """
    generation = np.array([ticket.generation for ticket in ancestry.tickets])
    height = np.zeros(len(generation))
    members = [np.flatnonzero(generation == number) for number in np.unique(generation)]
    for peers in members:
        height[peers] = np.arange(len(peers)) - (len(peers) - 1) / 2
    ends = np.concatenate([ancestry.links, ancestry.links[:, ::-1]])
    degree = np.bincount(ends[:, 0], minlength=len(height))
    for sweep in range(SWEEPS):
        for peers in members if sweep % 2 == 0 else members[::-1]:
            sums = np.bincount(ends[:, 0], height[ends[:, 1]], minlength=len(height))
            centre = sums[peers] / np.maximum(degree[peers], 1)
            height[peers[np.argsort(centre, kind="stable")]] = np.arange(len(peers)) - (len(peers) - 1) / 2
    # Off the common lanes, so that no long line passes through a ticket that it does not end at.
    shifted: Floats = height + 0.5 * (generation * GOLDEN % 1 - 0.5)
    return shifted


def draw_lineage(figure: Figure, ancestry: Lineage) -> None:
    """Draw parents and children by generation, and below them the fitness of each ancestor."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    generation = np.array([ticket.generation for ticket in ancestry.tickets], dtype=np.float64)
    fitness = np.array([ticket.score for ticket in ancestry.tickets])
    rung = np.array([ticket.rung for ticket in ancestry.tickets])
    fitness[(rung < rung[-1]) | ~(np.abs(fitness) < DRAWN)] = np.nan
    tree = np.stack([generation, lanes(ancestry)], axis=1)
    above.add_patch(
        segments(tree[ancestry.links], GREY, 0.7, float(np.clip(8 / np.sqrt(len(tree)), 0.35, 0.8)))
    )
    above.plot(*tree[ancestry.line].T, color=INK, linewidth=1.4, label="line of first parents")
    below.plot(generation[ancestry.line], fitness[ancestry.line], color=INK, linewidth=1.4)
    size = float(np.clip(60 / np.sqrt(len(tree)), 3, 6))
    kinds = np.array([ticket.operator for ticket in ancestry.tickets])
    for index, name in enumerate(dict.fromkeys(kinds.tolist())):
        colour, marker = KINDS[min(index, len(KINDS) - 1)]
        members = kinds == name
        for axes, height in ((above, tree[:, 1]), (below, fitness)):
            axes.plot(
                generation[members],
                height[members],
                marker,
                color=colour,
                markersize=size,
                markeredgecolor=PAPER,
                markeredgewidth=0.4,
                label=name.replace("_", " "),
                clip_on=False,
            )
    for axes, last in ((above, tree[-1, 1]), (below, fitness[-1])):
        axes.plot(generation[-1], last, "*", color=INK, markersize=12, markeredgecolor=PAPER, label="winner")
        axes.autoscale_view()  # now, as the layout is computed from the limits
    above.set_axis_off()
    below.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    below.set_xlabel("generation")
    below.set_ylabel("fitness")
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=8.5)
