"""Random streams: every use of a seed has its own stream, and no two streams share numbers."""

from __future__ import annotations

from enum import IntEnum
from operator import index

import numpy as np

from ticketsearch.errors import BadInput

__all__ = ["Stream", "seed_sequence"]


class Stream(IntEnum):
    """Uses of random numbers. The values are part of a seed's meaning: add, never renumber."""

    INITIALIZATIONS = 0
    PRUNING = 1
    SEEDING = 2
    EVOLUTION = 3
    ROUND = 4
    CHOOSING = 5
    REPORTING = 6
    CONTROL = 7
    SCORING = 8
    HALVING = 9


def seed_sequence(seed: int, stream: Stream, *indices: int) -> np.random.SeedSequence:
    """Return the sequence of a stream, and within it of indices such as a round or a data order.

    The stream goes into the spawn key: as further entropy it could coincide with another stream, since NumPy
    pads entropy with zeros. Raises :class:`BadInput` for an invalid seed, i.e. anything but an integer from 0
    to 2**64 - 1.
    """
    try:
        value = index(seed)
    except TypeError:
        value = -1
    if not 0 <= value < 2**64:
        raise BadInput(f"a seed is an integer from 0 to 2**64 - 1, but got {seed!r}")
    return np.random.SeedSequence(value, spawn_key=(int(stream), *indices))
