"""Checks of settings that depend on each other or on the network, and of operators."""

from __future__ import annotations

from collections.abc import Callable

from ticketsearch import operators, pruners
from ticketsearch.errors import BadInput
from ticketsearch.evolution import LocalSearch
from ticketsearch.masks import Mask
from ticketsearch.models import Network
from ticketsearch.plugins import (
    check_call,
    check_keywords,
    check_options,
    listed,
    parameters_of,
    resolve,
)
from ticketsearch.pruners import check_density
from ticketsearch.runs import pruned_name
from ticketsearch.settings import Settings, as_list

__all__ = ["check_contenders", "check_evolution", "check_local_search", "resolve_operator"]


def check_evolution(settings: Settings, network: Network) -> None:
    """Raise :class:`BadInput` for settings of the evolution that contradict each other or the network."""
    _check_annealing(settings)
    _check_front(settings, network)


def _check_annealing(settings: Settings) -> None:
    start, end = settings.evolution.start_density, settings.seeding.density
    if 0 < start < end:
        raise BadInput(
            "evolution.start_density must be at least seeding.density, which it falls to, but got "
            f"{start:g} and {end:g}; raise it, or leave it out"
        )


def _check_front(settings: Settings, network: Network) -> None:
    evolution = settings.evolution
    if evolution.objective == "score":
        return
    low, high = evolution.least_density, evolution.largest_density
    if low > high:
        raise BadInput(
            f"evolution.least_density is at most evolution.largest_density, but got {low:g} and {high:g}"
        )
    check_density(low, network.spec)
    if evolution.start_density:
        raise BadInput(
            "evolution.start_density is for objective 'score', but got objective 'front', which has all "
            "densities at once; leave one out"
        )
    if not isinstance(settings.training.steps, int):
        raise BadInput(
            "a Pareto front compares scores of one training, but training.steps is a list of rungs; "
            "give one number"
        )


def check_contenders(settings: Settings) -> None:
    """Raise :class:`BadInput` for unknown pruners in ``final.contenders``, and for equal names."""
    if settings.final.contenders in ("auto", "none"):
        return
    methods = as_list(settings.final.contenders)
    pruners.method_options(methods, {})
    names = [pruned_name(method) for method in methods]
    if len(set(names)) < len(names):
        raise BadInput(
            f"contenders are told apart by the names of their functions, but got {', '.join(methods)}; "
            "rename one"
        )


def check_local_search(settings: Settings, local_search: LocalSearch | None) -> None:
    """Raise :class:`BadInput` for settings that local search, or a tie rule, cannot be combined with."""
    evolution = settings.evolution
    if local_search is not None and evolution.start_density:
        raise BadInput(
            "local search sets the number of a child's weights, and so does annealed density, but got "
            "evolution.start_density beside evolution.polish; leave one out"
        )
    for name, value in (("polish", evolution.polish), ("ties", evolution.ties)):
        if value and evolution.objective == "front":
            raise BadInput(
                f"evolution.{name} is for objective 'score', but got objective 'front'; leave one out"
            )


def resolve_operator(name: str, kind: str, supplied: tuple[str, ...]) -> Callable[..., Mask]:
    """Return the operator of a name; ``supplied`` are its positional parameters.

    Raises :class:`BadInput` for an unknown name, and for a function that cannot be called as an operator is.
    """
    known = {name: function for name, function in listed(operators).items() if name.endswith(f"_{kind}")}
    operator = resolve(name, known, kind, supplied)
    keywords = ("spec", "rng", "rate") if kind == "mutation" else ("spec", "rng")
    check_keywords(operator, keywords, kind, name)
    check_options(operator, {}, kind, name, (*keywords, "guidance", "temperature"))
    named = [*keywords, *(parameters_of(operator) & {"guidance", "temperature"})]
    form = f"function({', '.join(supplied)}, *, {', '.join(keywords)})"
    check_call(operator, kind, name, form, len(supplied), named)
    return operator
