"""Labels: what of an initialization counts beside the mask, where weights tell units apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec
from ticketsearch.typing import Floats

__all__ = ["Labels", "Weights", "decoded", "encoded"]


class Weights(NamedTuple):
    """Initial values that a mask is compared with.

    Attributes
    ----------
    weights : ``(weights,)`` float, of which the live ones count.
    units : ``{group name: (units,) or (units, values) float}``, such as biases, of which those of live
        hidden units count, and of all inputs and outputs.
    rest : whatever else two tickets must have in common, as bytes.
    """

    weights: ArrayLike
    units: Mapping[str, ArrayLike] = {}
    rest: bytes = b""


class Labels(NamedTuple):
    """The same as numbers that are equal exactly where the values are: uint64, never 0."""

    weights: NDArray[np.uint64]
    units: dict[int, NDArray[np.uint64]]
    rest: bytes

    @classmethod
    def of(cls, given: Weights | ArrayLike, spec: MaskSpec) -> Labels:
        """Return the labels of weights, or of an array ``(weights,)`` of them alone.

        Raises :class:`BadInput` for another shape, a group that is unknown, or values that are no numbers.
        """
        whole = given if isinstance(given, Weights) else Weights(given)
        named = {group.name: number for number, group in enumerate(spec.groups)}
        units = {}
        for name, values in whole.units.items():
            if name not in named:
                raise BadInput(f"units have labels by group, {', '.join(named)}, but got {name!r}")
            size = spec.groups[named[name]].size
            array = _bits(values, f"labels of group {name!r}")
            if array.ndim not in (1, 2) or len(array) != size:
                raise BadInput(
                    f"labels of group {name!r} have shape ({size},) or ({size}, values), "
                    f"but got {array.shape}"
                )
            units[named[name]] = array.reshape(size, -1)
        weights = _bits(whole.weights, "weights")
        if weights.shape != (spec.size,):
            raise BadInput(f"weights of this network have shape ({spec.size},), but got {weights.shape}")
        return cls(weights, units, whole.rest)


def encoded(values: Floats) -> NDArray[np.uint64]:
    """Return the bits of float64 and 1 more; 0.0 and -0.0 are one number."""
    return (values + 0.0).view(np.uint64) + np.uint64(1)


def decoded(labels: NDArray[np.uint64]) -> Floats:
    """Return the values of labels, and 0.0 where there is none."""
    return np.where(labels > 0, labels - np.uint64(1), np.uint64(0)).view(np.float64)


def _bits(values: ArrayLike, name: str) -> NDArray[np.uint64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be numbers, but {error}") from error
    if np.isnan(array).any():
        raise BadInput(
            f"{name} must be numbers, but got NaN, which equals nothing; look into the initializer"
        )
    return encoded(array)
