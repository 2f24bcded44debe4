"""Options of a short training: its samples, initialization and guidance, and the place where it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ticketsearch.checks import check, is_number
from ticketsearch.errors import BadInput, unknown
from ticketsearch.training import SALIENCIES, Recipe, find_device
from ticketsearch.workers import check_backend

__all__ = ["OPTION_NAMES", "RECIPE_NAMES", "EvaluationOptions", "recipe_and_options"]

INITIALIZATIONS = ("shared", "own")
SCORED = ("validation", "pooled")
DTYPES = ("float32", "float64")


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of a short training beside its recipe; the defaults are those of the settings.

    Attributes
    ----------
    initialization : ``shared`` trains every mask from the network's θ₀, ``own`` from its ticket's.
    scored : samples of the score: those of ``validation``, or these ``pooled`` with the training part. A
        search of many evaluations overfits the validation samples, all samples together less.
    candidates : number of weights that a mask's guidance names for growth, as a share of its kept weights;
        None gives no guidance. See :mod:`ticketsearch.masks.guidance`.
    saliency : scores of guidance: ``magnitude`` of trained weights and of gradients, ``curvature`` of the
        loss, or ``mixed``, which prunes by magnitude and grows by curvature.
    dtype : type of the weights, ``float32`` or ``float64``.
    device : ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    workers : number of cohorts that are trained side by side, one core each; changes no score.
    backend, address : place of the workers: ``threads``, ``loky`` (processes of this machine), ``auto``
        (threads where the native engine trains, else processes), or the ``dask`` or ``ray`` cluster at an
        address. See :class:`~ticketsearch.workers.Spread`.

    Raises :class:`BadInput` for an option out of its range, or a device that this machine does not have.
    """

    initialization: str = "shared"
    scored: str = "validation"
    candidates: float | None = 1.0
    saliency: str = "curvature"
    dtype: str = "float32"
    device: str = "auto"
    workers: int = 1
    backend: str = "auto"
    address: str | None = None

    def __post_init__(self) -> None:
        names = {
            "initialization": INITIALIZATIONS,
            "scored": SCORED,
            "saliency": SALIENCIES,
            "dtype": DTYPES,
        }
        for kind, known in names.items():
            name = getattr(self, kind)
            if not isinstance(name, str) or name not in known:
                raise unknown(kind, name, known)
        share = self.candidates
        if share is not None and (not is_number(share) or not 0 <= share < math.inf):
            raise BadInput(f"candidates must be a share of the kept weights, >= 0, but got {share!r}")
        check("address", self.address, str | None)
        find_device(self.device)
        # What auto stands for depends on the network; both take the same workers.
        check_backend("loky" if self.backend == "auto" else self.backend, self.workers, self.address)


RECIPE_NAMES = tuple(field.name for field in fields(Recipe) if field.name != "steps")
OPTION_NAMES = tuple(field.name for field in fields(EvaluationOptions))


def recipe_and_options(values: Mapping[str, Any]) -> tuple[Recipe, EvaluationOptions]:
    """Return the recipe and the options of values by their names in the settings, without ``steps``."""
    recipe = {name: value for name, value in values.items() if name in RECIPE_NAMES}
    options = {name: value for name, value in values.items() if name not in RECIPE_NAMES}
    return Recipe(**recipe), EvaluationOptions(**options)
