"""Masks as bits: checks, counts, packing and identity."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.checks import checked
from ticketsearch.errors import BadInput
from ticketsearch.masks.spec import MaskSpec
from ticketsearch.typing import Integers, Mask

__all__ = [
    "check_mask",
    "check_masks",
    "density",
    "digest",
    "layer_counts",
    "pack",
    "read_only_bool",
    "unpack",
]


def check_mask(mask: ArrayLike, spec: MaskSpec) -> Mask:
    """Return ``mask`` as a read-only ``(weights,)`` bool array; integers and floats of 0 and 1 are accepted.

    Raises :class:`BadInput` for another shape or other values.
    """
    array = np.asarray(mask)
    if array.shape != (spec.size,):
        raise BadInput(f"a mask of this network has shape ({spec.size},), but got {array.shape}")
    return read_only_bool(array)


def check_masks(masks: ArrayLike, spec: MaskSpec) -> Mask:
    """Return ``masks`` as a read-only ``(population, weights)`` bool array; see :func:`check_mask`."""
    array = np.asarray(masks)
    if array.ndim != 2 or array.shape[1] != spec.size:
        raise BadInput(
            f"masks have shape (population, {spec.size}), i.e. one row a network, but got {array.shape}"
        )
    return read_only_bool(array)


def read_only_bool(array: NDArray[Any]) -> Mask:
    """Return an array of 0 and 1 as bool that cannot be written through, or raise :class:`BadInput`."""
    if array.dtype != np.bool_:
        if not np.isin(array, (0, 1)).all():
            raise BadInput(
                f"a mask holds True and False, or 1 and 0, but got dtype {array.dtype} with other values"
            )
        array = array.astype(np.bool_)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


@checked
def density(mask: Mask) -> float:
    """Return kept / total, in [0, 1]."""
    array = np.asarray(mask)
    if not array.size:
        raise BadInput(f"a mask has at least one weight, but got shape {array.shape}")
    return float(np.count_nonzero(array)) / array.size


def layer_counts(mask: Mask, spec: MaskSpec) -> Integers:
    """Return the number of weights that each layer keeps: ``(..., layers)`` for a ``(..., weights)`` mask."""
    counts = [np.count_nonzero(mask[..., layer.slice], axis=-1) for layer in spec.layers]
    return np.stack(counts, axis=-1).astype(np.int64)


def pack(mask: Mask) -> bytes:
    """Return the mask as bits, eight to a byte."""
    return np.packbits(mask).tobytes()


def unpack(data: bytes, spec: MaskSpec) -> Mask:
    """Return the ``(weights,)`` mask that :func:`pack` wrote.

    Raises :class:`BadInput` for another number of bytes than the spec's.
    """
    expected = (spec.size + 7) // 8
    if len(data) != expected:
        raise BadInput(f"a packed mask of this network has {expected} bytes, but got {len(data)}")
    return read_only_bool(np.unpackbits(np.frombuffer(data, np.uint8), count=spec.size).view(np.bool_))


def digest(mask: Mask) -> str:
    """Return the mask's identity: equal exactly for equal masks (128-bit digest of length and bits)."""
    return hashlib.blake2b(pack(mask), digest_size=16, person=str(mask.size).encode()[-16:]).hexdigest()
