"""Numbers of operations and maps in programs, which host and compiled loops share."""

from __future__ import annotations

__all__ = ["CODES", "FIELDS", "IN_PLACE", "MAPS", "OPTIMIZERS"]

# Integers of an operation.
FIELDS = 12


def _numbered(*names: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


CODES = _numbered(
    *("linear", "map", "add", "multiply", "maximum", "minimum", "copy", "take", "zeros", "dropout"),
    *("normalize", "mix", "convolve", "largest", "average", "margin"),
)
MAPS = _numbered(
    *("affine", "relu", "leaky_relu", "clamp", "hardtanh", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh"),
    *("elu", "softplus", "square", "abs", "sin", "cos", "exp"),
)
# Maps whose slope follows from their output: they may write over their input.
IN_PLACE = frozenset({MAPS["relu"]})
OPTIMIZERS = _numbered("sgd", "nesterov", "adam", "adamw")
