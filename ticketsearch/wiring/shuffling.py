"""Channel shuffles: a view arranges channels on two axes, which are exchanged and joined again.

A shuffle is a selection of all units in another order (Zhang et al. 2018, "ShuffleNet", section 3.1). Units
that are adjacent before it and not behind it become groups of their own: renumberings that move them in step
would be valid but are not considered, so that two masks that differ by one have different keys.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx

from ticketsearch.typing import Indices
from ticketsearch.wiring.shapes import sample_shape
from ticketsearch.wiring.slicing import select_units
from ticketsearch.wiring.tracer import Shape, Tracer

__all__ = ["Arranged", "arrange", "read_arranged", "shuffle"]

TRANSPOSITIONS = {
    *(torch.transpose, torch.swapaxes, torch.swapdims),
    *("transpose", "swapaxes", "swapdims"),
}
PERMUTATIONS = {torch.permute, "permute"}
COPIES = {"contiguous", "clone", torch.clone}


class Arranged(NamedTuple):
    """Channels that a view has arranged on two axes.

    Attributes
    ----------
    view : the call.
    source : the step whose value is viewed.
    channels : the channels' numbers in that value, ``(rows, columns)``.
    """

    view: fx.Node
    source: int
    channels: Indices


def arrange(tracer: Tracer, node: fx.Node, source: int, after: Shape) -> bool:
    """Record a view that splits the axis of channels alone; False for another view."""
    before = tracer.steps[source].shape
    if len(after) != len(before) + 1 or after[2:] != before[1:] or after[0] * after[1] != before[0]:
        return False
    tracer.arranged[node] = Arranged(node, source, np.arange(before[0]).reshape(after[:2]))
    return True


def read_arranged(tracer: Tracer, node: fx.Node) -> bool:
    """Read a call of channels on two axes; False for a call of another value."""
    first = node.args[0] if node.args else None
    if not isinstance(first, fx.Node) or first not in tracer.arranged:
        return False
    view, source, channels = tracer.arranged[first]
    positions = tracer.steps[source].shape[1:]
    if node.target in COPIES:
        tracer.arranged[node] = tracer.arranged[first]
    elif _exchanges(node, 3 + len(positions)):
        tracer.arranged[node] = Arranged(view, source, channels.T)
    elif sample_shape(node) == (channels.size, *positions):
        select_units(tracer, node, source, channels.ravel().tolist())
    else:
        raise tracer.parted(view)
    return True


def shuffle(tracer: Tracer, node: fx.Node, source: int, groups: int) -> None:
    """Read a channel shuffle that is one call: channel j is then channel (j mod g) C / g + j div g."""
    channels = np.arange(tracer.steps[source].shape[0]).reshape(groups, -1).T
    select_units(tracer, node, source, channels.ravel().tolist())


def _exchanges(node: fx.Node, axes: int) -> bool:
    """Return whether a call exchanges the two axes of channels, and no others."""
    given: Any = (*node.args[1:], *node.kwargs.values())
    if len(given) == 1 and isinstance(given[0], tuple | list):
        given = given[0]
    if not all(isinstance(axis, int) for axis in given):
        return False
    order = [axis % axes for axis in given]
    if node.target in TRANSPOSITIONS:
        return sorted(order) == [1, 2]
    return node.target in PERMUTATIONS and order == [0, 2, 1, *range(3, axes)]
