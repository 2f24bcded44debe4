"""The best ticket of a run: its live network and its lineage, as figures and in words."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.errors import BadInput
from ticketsearch.masks import pack
from ticketsearch.report.diagram import Diagram, diagram
from ticketsearch.report.drawing import WIDTH, draw_diagram, drawing_height, lines_drawn
from ticketsearch.report.lineage import Lineage, draw_lineage
from ticketsearch.report.pages import Picture, picture
from ticketsearch.runs import Run
from ticketsearch.tickets import Ticket, read_ticket

__all__ = ["Stored", "diagram_caption", "lineage_picture", "network_picture", "stored"]


class Stored(NamedTuple):
    """What a ticket's file adds to a run: the shape of an input, and ``(weights,)`` initial weights."""

    input_shape: tuple[int, ...]
    weights: NDArray[np.floating]


def stored(run: Run, best: Ticket) -> Stored | None:
    """Return the content of ``tickets/best.safetensors``, None if it is missing, damaged or another's."""
    try:
        found = read_ticket(run.path / "tickets" / "best.safetensors")
        if found.packed != pack(best.mask):
            return None
        parts = {layer.name: found.parameters.get(layer.name) for layer in run.spec.layers}
        weights = run.spec.join({name: part.numpy() for name, part in parts.items() if part is not None})
    except BadInput:
        return None
    return Stored(found.metadata.input_shape, weights)


def network_picture(run: Run, best: Ticket, file: Stored | None) -> Picture:
    """Return the drawing of the best ticket's live network."""
    shape, weights = file or (None, None)
    shown = diagram(best.mask, run.spec, input_shape=shape, weights=weights)
    return picture(
        "network",
        "The live network of the best ticket",
        partial(draw_diagram, diagram=shown),
        drawing_height(shown),
        WIDTH,
        caption=diagram_caption(shown, signed=weights is not None),
        wide=True,
    )


def diagram_caption(shown: Diagram, *, signed: bool) -> str:
    """Return what is to be known to read a drawing, and what it leaves out."""
    inputs = "The inputs lie as in the image, seen at a slant. " if shown.image else ""
    words = [f"{inputs}Larger dots have more weights than others of their row."]
    if any(bond.positions > 1 for bond in shown.bonds):
        words.append("A line is the kernel or feature map of a channel, thicker for more kept weights.")
    if any(bond.target <= bond.source for bond in shown.bonds):
        words.append("Units that a shortcut numbers alike are one row, which several layers read and write.")
    if signed:
        words.append("Lines are blue for positive initial weights, orange for negative ones.")
    pairs, drawn = sum(len(bond.tails) for bond in shown.bonds), lines_drawn(shown)
    if sum(drawn) < pairs:
        words.append(
            f"Of {pairs:,} lines {sum(drawn):,} are drawn: between two rows at most {max(drawn):,}, those of "
            "most weights, then those that join units of most weights."
        )
    if shown.looped:
        words.append(f"{shown.looped:,} weights join units of one row and are not drawn.")
    return " ".join(words)


def lineage_picture(found: Lineage) -> Picture:
    """Return the figure of a ticket's lineage."""
    last = found.tickets[-1]
    lower = sum(ticket.rung < last.rung for ticket in found.tickets)
    rungs = (
        f" The fitness of {lower} that stopped at a lower rung of the ladder is left out." if lower else ""
    )
    return picture(
        "lineage",
        "Lineage of the best ticket",
        partial(draw_lineage, found=found),
        4.6,
        WIDTH,
        caption="Above every ancestor at the generation it was made in, with a line to each child of the "
        "lineage, below its fitness: scores less what their generations' data orders are worth, as far as "
        f"members that were trained again tell.{rungs}",
        wide=True,
    )
