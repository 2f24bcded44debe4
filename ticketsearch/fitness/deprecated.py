"""Keywords of ShortTraining before Recipe and EvaluationOptions: accepted for one release, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ticketsearch.errors import BadInput
from ticketsearch.fitness.options import OPTION_NAMES, RECIPE_NAMES, recipe_and_options

__all__ = ["accepts_old_keywords"]

# Parameters that could be given by position, after network and dataset.
POSITIONAL = ("steps", "batch", "optimizer", "lr", "momentum", "workers", "seed", "device")

Init = TypeVar("Init", bound=Callable[..., None])


def accepts_old_keywords(init: Init) -> Init:
    """Return an ``__init__`` that also takes the old keywords and positions, with a DeprecationWarning.

    The warning names the call to write instead. Raises :class:`BadInput` where old keywords come together
    with the object that has taken their place.
    """

    @functools.wraps(init)
    def translated(self: object, *given: Any, **keywords: Any) -> None:
        values = dict(zip(POSITIONAL, given[2:], strict=False))
        values |= {name: keywords.pop(name) for name in (*RECIPE_NAMES, *OPTION_NAMES) if name in keywords}
        if not values or len(given) > 2 + len(POSITIONAL):
            return init(self, *given, **keywords)
        keywords = {name: values.pop(name) for name in ("steps", "seed") if name in values} | keywords
        if "options" not in keywords:  # guidance was off by default
            values = {"candidates": None, "saliency": "magnitude"} | values
        call = [f"{name}={value!r}" for name, value in keywords.items() if name in ("steps", "seed")]
        recipe, options = recipe_and_options(values)
        for keyword, names, value in (("recipe", RECIPE_NAMES, recipe), ("options", OPTION_NAMES, options)):
            arguments = ", ".join(f"{name}={values[name]!r}" for name in names if name in values)
            if not arguments:
                continue
            if keyword in keywords:
                raise BadInput(f"{arguments} must be given inside {keyword}, but got both; move it there")
            keywords[keyword] = value
            call.append(f"{keyword}=ts.{type(value).__name__}({arguments})")
        warnings.warn(
            "these arguments of ShortTraining are deprecated and go with version 0.3.0; write "
            f"ts.ShortTraining(network, dataset, {', '.join(call)})",
            DeprecationWarning,
            stacklevel=2,
        )
        return init(self, *given[:2], **keywords)

    return cast(Init, translated)
