"""The plan of a comparison: its methods, densities and initializations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ticketsearch import pruners
from ticketsearch import settings as config
from ticketsearch.checks import check_count
from ticketsearch.errors import BadInput, unknown
from ticketsearch.experiment import Search
from ticketsearch.masks import MaskSpec
from ticketsearch.pruners import method_options
from ticketsearch.settings import Settings

__all__ = [
    "BEST_OF",
    "BUDGETED",
    "CONTROLS",
    "DEFAULT_DENSITIES",
    "DEFAULT_METHODS",
    "DENSE",
    "EVOLUTION",
    "IMP_BEST",
    "ONE_PLUS_LAMBDA",
    "RANDOM_SEARCH",
    "Cell",
    "ComparisonPlan",
    "comparison_plan",
]

DENSE, EVOLUTION, IMP_BEST = "dense", "evolution", "imp_best"
RANDOM_SEARCH, ONE_PLUS_LAMBDA = "random_search", "one_plus_lambda"
# Methods that are the best of several prunings by a pruner that trains.
BEST_OF = {f"{name}_best": name for name in pruners.TRAINING}
# Methods that get the budget of the evolution.
BUDGETED = (*BEST_OF, RANDOM_SEARCH, ONE_PLUS_LAMBDA)
DEFAULT_METHODS = (DENSE, "random", "synflow", "snip", "imp", IMP_BEST, EVOLUTION)
DEFAULT_DENSITIES = (0.05, 0.02, 0.01)
# Ablated controls: they show how much a mask owes to the places of its weights, and to their initial values.
CONTROLS = ("shuffled", "reinitialized")
# Training options of pruners that default to the settings: {pruner option: setting of [training]}.
RECIPE = {
    "training_batch": "batch",
    "optimizer": "optimizer",
    "lr": "lr",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
    "lr_schedule": "lr_schedule",
    "precision": "dtype",
    "device": "device",
}


class Cell(NamedTuple):
    """One mask of a comparison: its method, density, and initialization (0, 1, …)."""

    method: str
    density: float
    initialization: int


@dataclass(frozen=True)
class ComparisonPlan:
    """The masks that a comparison makes and tests.

    Attributes
    ----------
    settings : of the search and of all training; ``seed`` is that of initialization 0.
    methods : in the order of tables.
    controls : methods whose masks are also trained shuffled and reinitialized.
    densities : kept / total.
    initializations : number of initializations.
    orders : number of data orders of the final training.
    budget : FLOPs of each search if the evolution is not compared; None if it is.
    options : of each pruner.
    spec, fingerprint : of the network and the data.
    """

    settings: Settings
    methods: tuple[str, ...]
    controls: tuple[str, ...]
    densities: tuple[float, ...]
    initializations: int
    orders: int
    budget: int | None
    options: Mapping[str, Mapping[str, Any]]
    spec: MaskSpec
    fingerprint: str

    def cells(self, *methods: str) -> Iterator[Cell]:
        """Yield the cells of some methods; the dense network is one for all densities."""
        for method in methods:
            densities = (1.0,) if method == DENSE else self.densities
            for density, initialization in itertools.product(densities, range(self.initializations)):
                yield Cell(method, density, initialization)

    @property
    def pruners(self) -> list[str]:
        """The methods that are pruners."""
        return _pruners(self.methods)

    def settings_of(self, cell: Cell) -> str:
        """Return the settings of the search of a cell's density and initialization, as JSON."""
        density = self.densities[0] if cell.method == DENSE else cell.density
        settings = _settings_of(self.settings, density, cell.initialization, self.options)
        return settings.model_dump_json()


def comparison_plan(
    settings: Settings,
    methods: Sequence[str] = DEFAULT_METHODS,
    densities: Sequence[float] = DEFAULT_DENSITIES,
    *,
    initializations: int = 10,
    controls: Sequence[str] | None = None,
    orders: int | None = None,
    budget: int | None = None,
) -> ComparisonPlan:
    """Return the plan of a comparison; see :func:`ticketsearch.compare` for the parameters.

    Raises :class:`BadInput` for any argument that cannot be used.
    """
    if controls is None:
        controls = [name for name in (EVOLUTION,) if name in methods]
    orders = settings.final.orders if orders is None else orders
    check_count("initializations", initializations, 1)
    check_count("orders", orders, 1)
    _check_settings(settings)
    _check_names(methods, controls, densities)
    _check_budget(methods, budget)
    options = _options(settings, methods)
    searches: list[Search] = []
    for density in densities:
        settings_of_density = _settings_of(settings, float(density), 0, options)
        searches.append(Search.prepare(settings_of_density, searches[0].dataset if searches else None))
    return ComparisonPlan(
        settings,
        tuple(methods),
        tuple(controls),
        tuple(map(float, densities)),
        initializations,
        orders,
        budget,
        options,
        searches[0].network.spec,
        searches[0].dataset.fingerprint,
    )


def _pruners(methods: Sequence[str]) -> list[str]:
    return [name for name in methods if name not in (DENSE, EVOLUTION, *BUDGETED)]


def _settings_of(
    settings: Settings, density: float, initialization: int, options: Mapping[str, Mapping[str, Any]]
) -> Settings:
    """Return the settings of one search; ``options`` are those of each pruner."""
    seeding: dict[str, Any] = {}
    for method in config.as_list(settings.seeding.method):
        seeding |= options[method]
    assignments = {
        "seed": settings.seed + initialization,
        "seeding.density": density,
        "seeding.options": seeding,
        "training.workers": 1,
        "training.backend": "loky",
        "training.address": "",
    }
    return config.apply(settings, assignments.items())


def _options(settings: Settings, methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each pruner that is used the options in ``seeding.options`` that it takes."""
    used = dict.fromkeys(
        [*_pruners(methods), "synflow", *pruners.TRAINING, *config.as_list(settings.seeding.method)]
    )
    options = method_options(list(used), settings.seeding.options)
    training = settings.training.model_dump()
    recipe = {name: training[setting] for name, setting in RECIPE.items()}
    for method in pruners.TRAINING:
        options[method] = recipe | options[method]
    return options


def _check_settings(settings: Settings) -> None:
    if settings.fitness.name != "short_training":
        raise BadInput(
            "a comparison counts the cost of evaluations, which only fitness 'short_training' reports, but "
            f"got {settings.fitness.name!r}; leave fitness.name out"
        )
    if settings.training.initialization != "shared":
        raise BadInput(
            "all methods of a comparison begin with the same initial weights, but training.initialization is "
            f"{settings.training.initialization!r}; leave it out"
        )
    if settings.training.masking != "parameter":
        raise BadInput(
            "a comparison counts the FLOPs of live kept weights, but with training.masking "
            f"{settings.training.masking!r} pruned weights take part too; leave it out"
        )
    if settings.seeding.tickets:
        raise BadInput(
            "a comparison counts the whole cost of a mask, which saved tickets do not record, but got "
            f"seeding.tickets {settings.seeding.tickets}; leave it out"
        )
    if settings.final.contenders != type(settings.final)().contenders:
        raise BadInput(
            f"a comparison lists its methods, but got final.contenders {settings.final.contenders!r}; leave "
            "it out and give --methods"
        )
    if settings.seeding.density != type(settings.seeding)().density:
        raise BadInput(
            f"a comparison takes several densities, but seeding.density is {settings.seeding.density}; "
            "leave it out and give --densities"
        )


def _check_names(methods: Sequence[str], controls: Sequence[str], densities: Sequence[float]) -> None:
    for noun, values in (("methods", methods), ("densities", densities), ("controls", controls)):
        if not len(values) and noun != "controls":
            raise BadInput("a comparison takes at least one method and one density, but got none: name some")
        if len(set(values)) < len(values):
            raise BadInput(
                f"the {noun} of a comparison must be different ones, but got {', '.join(map(str, values))}"
            )
    known = [DENSE, EVOLUTION, *BUDGETED, *pruners.__all__]
    for method in methods:
        if ":" not in method and method not in known:
            raise unknown("method", method, known, "file.py:function names a pruner of your own")
    for control in controls:
        if control not in methods or control == DENSE:
            raise BadInput(
                f"controls are of methods that are compared, and not of {DENSE!r}, but got {control!r}; "
                "add it to the methods, or leave it out"
            )


def _check_budget(methods: Sequence[str], budget: int | None) -> None:
    searches = [name for name in methods if name in BUDGETED]
    if budget is not None:
        check_count("budget", budget, 1)
    if searches and EVOLUTION not in methods and budget is None:
        raise BadInput(
            f"{searches[0]} gets the budget of the evolution, which is not compared; add {EVOLUTION!r} to "
            "the methods, or give a budget in FLOPs"
        )
    if EVOLUTION in methods and budget is not None:
        raise BadInput(
            f"searches get the budget of the evolution, but got a budget of {budget} too; leave it out, or "
            f"{EVOLUTION!r}"
        )
