"""Random streams: every use of a seed draws from a stream of its own, and no two streams meet."""

from __future__ import annotations

from enum import IntEnum
from operator import index

import numpy as np

from ticketsearch.errors import BadInput

__all__ = ["Stream", "seed_sequence"]


class Stream(IntEnum):
    """What random numbers are for. Numbers are part of what a seed means: add, never renumber."""

    INITIALIZATIONS = 0
    PRUNING = 1
    SEEDING = 2
    EVOLUTION = 3
    ROUND = 4
    CHOOSING = 5
    REPORTING = 6
    CONTROL = 7
    SCORING = 8
    LADDER = 9


def seed_sequence(seed: int, stream: Stream, *numbers: int) -> np.random.SeedSequence:
    """Return the sequence of a stream, and within it of e.g. a round or a data order.

    The stream goes into the spawn key: as further entropy it could meet another, since NumPy pads entropy
    with zeros. Raises :class:`BadInput` for a seed that is no integer from 0 to 2**64 - 1.
    """
    try:
        value = index(seed)
    except TypeError:
        value = -1
    if not 0 <= value < 2**64:
        raise BadInput(f"a seed is an integer from 0 to 2**64 - 1, but got {seed!r}")
    return np.random.SeedSequence(value, spawn_key=(int(stream), *numbers))
