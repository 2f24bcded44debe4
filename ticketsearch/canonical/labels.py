"""Labels: the parts of an initialization that are compared beside the mask."""

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
    """Initial values that are compared together with a mask.

    Attributes
    ----------
    weights : ``(weights,)`` float; the live ones are compared.
    units : ``{group name: (units,) or (units, values) float}``, such as biases; those of live hidden units
        and of all inputs and outputs are compared.
    rest : all other tensors that two tickets must share, as bytes.
    """

    weights: ArrayLike
    units: Mapping[str, ArrayLike] = {}
    rest: bytes = b""


class Labels(NamedTuple):
    """Weights as labels that are equal exactly where the values are: uint64, never 0."""

    weights: NDArray[np.uint64]
    units: dict[int, NDArray[np.uint64]]
    rest: bytes

    @classmethod
    def of(cls, given: Weights | ArrayLike, spec: MaskSpec) -> Labels:
        """Return the labels of weights, or of an array ``(weights,)`` of them alone.

        Raises :class:`BadInput` for another shape, an unknown group, or values that are not numbers.
        """
        whole = given if isinstance(given, Weights) else Weights(given)
        named = {group.name: index for index, group in enumerate(spec.groups)}
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
    """Return the bits of float64 values plus 1; 0.0 and -0.0 are equal."""
    return (values + 0.0).view(np.uint64) + np.uint64(1)


def decoded(labels: NDArray[np.uint64]) -> Floats:
    """Return the values of labels; 0.0 where there is no label."""
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
