"""The figures of a run's best ticket: its live network and its lineage."""

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
    """The content of a ticket's file that its run lacks: an input's shape, ``(weights,)`` initial weights."""

    input_shape: tuple[int, ...]
    weights: NDArray[np.floating]


def stored(run: Run, best: Ticket) -> Stored | None:
    """Return the content of ``tickets/best.safetensors``; None if missing, damaged or of another mask."""
    try:
        file = read_ticket(run.path / "tickets" / "best.safetensors")
        if file.packed != pack(best.mask):
            return None
        parts = {layer.name: file.parameters.get(layer.name) for layer in run.spec.layers}
        weights = run.spec.join({name: part.numpy() for name, part in parts.items() if part is not None})
    except BadInput:
        return None
    return Stored(file.metadata.input_shape, weights)


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
    """Return the caption of a drawing: its legend, and the lines and weights that it leaves out."""
    inputs = "The inputs lie as in the image, seen at a slant. " if shown.image else ""
    sentences = [f"{inputs}Larger dots have more weights than others of their row."]
    if any(bond.positions > 1 for bond in shown.bonds):
        sentences.append("A line is the kernel or feature map of a channel, thicker for more kept weights.")
    if any(bond.target <= bond.source for bond in shown.bonds):
        sentences.append(
            "Units that a shortcut numbers alike are one row, which several layers read and write."
        )
    if signed:
        sentences.append("Lines are blue for positive initial weights, orange for negative ones.")
    pairs, drawn = sum(len(bond.tails) for bond in shown.bonds), lines_drawn(shown)
    if sum(drawn) < pairs:
        sentences.append(
            f"Of {pairs:,} lines {sum(drawn):,} are drawn: between two rows at most {max(drawn):,}, lines of "
            "most weights first, then lines between units of most weights."
        )
    if shown.looped:
        sentences.append(f"{shown.looped:,} weights join units of one row and are not drawn.")
    return " ".join(sentences)


def lineage_picture(ancestry: Lineage) -> Picture:
    """Return the figure of a ticket's lineage."""
    last = ancestry.tickets[-1]
    lower = sum(ticket.rung < last.rung for ticket in ancestry.tickets)
    rungs = f" The fitness of {lower} ancestors that stopped at a lower rung is left out." if lower else ""
    return picture(
        "lineage",
        "Lineage of the best ticket",
        partial(draw_lineage, ancestry=ancestry),
        4.6,
        WIDTH,
        caption="Above: every ancestor at the generation it was made in, with a line to each child of the "
        "lineage. Below: its fitness, without the effects of the generations' data orders on scores, which "
        f"are estimated from members that were trained again.{rungs}",
        wide=True,
    )
