"""Alignment by activations: units that respond alike to the same samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ticketsearch.alignment.assignment import assignment
from ticketsearch.checks import finite
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec
from ticketsearch.typing import Floats, Indices

__all__ = ["activation_order"]


def activation_order(
    mask: Mapping[str, ArrayLike], reference: Mapping[str, ArrayLike], spec: MaskSpec
) -> dict[str, Indices]:
    """Return ``{hidden group: (units,) old numbers}`` under which units correlate most with the reference's.

    Both are ``{hidden group: (samples, units)}`` of two networks on the same samples; constant units have
    correlation 0. Raises :class:`BadInput` for missing or other groups, other shapes, or values
    that are not finite.
    """
    wanted = [spec.groups[group] for group in spec.hidden]
    names = {group.name for group in wanted}
    if set(mask) != names or set(reference) != names:
        raise BadInput(
            f"activations are given for the hidden groups {', '.join(sorted(names))}, but got "
            f"{', '.join(sorted(mask)) or 'none'} and {', '.join(sorted(reference)) or 'none'}"
        )
    orders = {}
    for group in wanted:
        values, reference_values = (finite("activations", given[group.name]) for given in (mask, reference))
        if values.ndim != 2 or values.shape != reference_values.shape or values.shape[1] != group.size:
            raise BadInput(
                f"activations of group {group.name!r} have shape (samples, {group.size}) in both networks, "
                f"but got {values.shape} and {reference_values.shape}"
            )
        correlation = _standardised(reference_values).T @ _standardised(values)
        orders[group.name] = assignment(correlation)
    return orders


def _standardised(values: Floats) -> Floats:
    """Return columns of mean 0 and length 1; constant columns are 0."""
    centred = values - values.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    scaled: Floats = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    return scaled
