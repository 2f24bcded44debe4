"""Pruning of networks: one, or several initializations of one architecture."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ticketsearch.checks import Steps, checked
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask
from ticketsearch.models import Network
from ticketsearch.plugins import listed, parameters_of, resolve
from ticketsearch.pruners.batching import ScoreFunction
from ticketsearch.pruners.iterative import (
    DEFAULT_STEPS,
    PruningOptions,
    PruningStep,
    Schedule,
    Scope,
    check_scores,
    default_steps,
    prune_each,
)
from ticketsearch.typing import Floats

__all__ = [
    "known_pruner",
    "method_options",
    "prune",
    "prune_all",
    "resolve_pruner",
    "schedule_steps",
    "scores_at_once",
    "scores_of",
]


@checked
def prune(  # noqa: PLR0913 - the documented interface
    network: Network,
    method: str | ScoreFunction,
    *,
    density: float,
    dataset: Dataset | None = None,
    seed: int = 0,
    scope: Scope = "global",
    schedule: Schedule = "exponential",
    steps: Steps | None = None,
    batch: int = 256,
    callback: Callable[[PruningStep], None] | None = None,
    **options: Any,
) -> Mask:
    """Prune a network: return a mask with exactly ``round(density * size)`` ones.

    After step ``k < steps`` of the exponential schedule ``N - floor((1 - density^(k/steps)) * N)`` of the N
    weights are kept, as in the SynFlow authors' code (Tanaka et al. 2020, algorithm 1); a pruned weight never
    comes back. Equal scores are ordered by lot, drawn from the seed and the network's initialization.

    Parameters
    ----------
    network : never written to.
    method : a name (``"synflow"``, ``"snip"``, …), ``"file.py:function"``, or a score function
        ``scores(network, mask, batch, *, rng, **options) -> {layer name: tensor of the layer's shape}``.
        A function with a parameter ``dataset`` or ``target`` is given the whole dataset, or the number of
        weights to be kept in the end.
    density : kept / total, in (0, 1]; at least one weight a layer must fit.
    dataset : its training part gives the batch ``(x, y)`` that a data-dependent pruner scores on.
    seed : of the score function's ``rng`` and the choice of the batch.
    scope : ``"global"`` compares all weights, ``"layer"`` keeps the density in each layer.
    schedule : ``"exponential"``, ``"linear"`` (in the density) or ``"one_shot"``.
    steps : number of cuts; ignored for ``one_shot``. None is the method's default: 100 for ``synflow``,
        ``balanced_synflow`` and functions of your own; for pruners that train, as many rounds as prune a
        fifth of the weights each; 1 for all others.
    batch : samples in the batch.
    callback : called with each :class:`~ticketsearch.pruners.PruningStep`.
    options : of the score function.

    Returns the ``(weights,)`` bool mask, read-only. Warns with :class:`LayerCollapseWarning` if a layer is
    left empty, and with :class:`EqualScoresWarning` if more than a hundredth of the kept weights were drawn
    among equal scores. Raises :class:`BadInput` for a bad argument or scores that are not finite.
    """
    callback = _callback(callback, options)
    pruning = PruningOptions(density, dataset, scope, schedule, steps, batch, callback)
    mask: Mask = _prune_many([network], method, [seed], pruning, options)[0]
    return mask


@checked
def prune_all(  # noqa: PLR0913 - the documented interface
    networks: Sequence[Network],
    method: str | ScoreFunction,
    *,
    density: float,
    dataset: Dataset | None = None,
    seeds: Sequence[int] | None = None,
    scope: Scope = "global",
    schedule: Schedule = "exponential",
    steps: Steps | None = None,
    batch: int = 256,
    callback: Callable[[PruningStep], None] | None = None,
    **options: Any,
) -> Mask:
    """Prune several initializations of one architecture: return their masks, ``(copies, weights)`` bool.

    Each mask is the one that :func:`prune` returns for that network and its seed (of ``seeds``, by default
    0, 1, …). ``synflow``, ``balanced_synflow``, the pruners that train and functions marked :func:`batched`
    score several copies as one program, in batches that fit the processor's caches; the others score one copy
    after another.
    """
    callback = _callback(callback, options)
    pruning = PruningOptions(density, dataset, scope, schedule, steps, batch, callback)
    return _prune_many(networks, method, seeds, pruning, options)


def _callback(
    callback: Callable[[PruningStep], None] | None, options: dict[str, Any]
) -> Callable[[PruningStep], None] | None:
    """Return the callback; takes its deprecated name ``watch`` out of the options."""
    if "watch" not in options:
        return callback
    message = "watch is the former name of callback and will be removed; write callback=…"
    warnings.warn(message, DeprecationWarning, stacklevel=4)  # the line that called prune or prune_all
    former: Callable[[PruningStep], None] | None = options.pop("watch")
    return former


def _prune_many(
    networks: Sequence[Network],
    method: str | ScoreFunction,
    seeds: Sequence[int] | None,
    pruning: PruningOptions,
    options: Mapping[str, Any],
) -> Mask:
    """Return the masks of :func:`prune_all`.

    :func:`prune` and :func:`prune_all` both call it, at one depth, so that warnings name the caller's line.
    """
    for network in networks:
        if not isinstance(network, Network):
            raise BadInput(
                f"pruning takes a Network, but got {type(network).__name__}; ts.initialize makes one"
            )
    if not len(networks):
        raise BadInput("pruning takes at least one network, but got none")
    chosen = list(range(len(networks))) if seeds is None else list(seeds)
    if len(chosen) != len(networks):
        raise BadInput(f"seeds are one a network, {len(networks)}, but got {len(chosen)}")
    function, name = _named(method)
    try:
        return prune_each(networks, function, name, chosen, pruning, options)
    except (TypeError, AttributeError) as error:
        # In this package's own pruners only an option of the wrong type raises these.
        if not options or name not in _known():
            raise
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise BadInput(f"pruner {name!r} cannot use the options {given} ({error})") from error


def _known() -> dict[str, ScoreFunction]:
    """Return the pruners that have a name: those in ``__all__`` of this package."""
    return listed(sys.modules[__name__.rpartition(".")[0]])


def resolve_pruner(method: str) -> ScoreFunction:
    """Return the score function of a name; raises :class:`BadInput` for an unknown one."""
    return resolve(method, _known(), "pruner", ("network", "mask", "batch"))


def known_pruner(method: str | ScoreFunction) -> ScoreFunction | None:
    """Return a score function, or the one of this package that a name stands for; None for other names.

    Unlike :func:`resolve_pruner` it runs no code of a file that a name may stand for.
    """
    return _known().get(method) if isinstance(method, str) else method


def _named(method: str | ScoreFunction) -> tuple[ScoreFunction, str]:
    """Return a pruner's score function and its name."""
    if isinstance(method, str):
        return resolve_pruner(method), method
    return method, getattr(method, "__name__", "pruner")


def schedule_steps(method: str | ScoreFunction, density: float) -> int:
    """Return a pruner's default number of cuts at a density; see ``steps`` of :func:`prune`."""
    known = known_pruner(method)
    return DEFAULT_STEPS if known is None else default_steps(known, density)


def scores_of(
    network: Network,
    method: str | ScoreFunction,
    *,
    dataset: Dataset | None = None,
    seed: int = 0,
    batch: int = 256,
    **options: Any,
) -> Floats:
    """Return the ``(weights,)`` scores that a pruner gives the whole network, before anything is pruned.

    The arguments are those of :func:`prune`.
    """
    steps: list[PruningStep] = []
    prune(
        network,
        method,
        density=1.0,
        dataset=dataset,
        seed=seed,
        schedule="one_shot",
        batch=batch,
        callback=steps.append,
        **options,
    )
    return steps[0].scores


def scores_at_once(
    network: Network,
    method: str | ScoreFunction,
    *,
    dataset: Dataset | None = None,
    seed: int = 0,
    steps: int | None = None,
    **options: Any,
) -> Floats | None:
    """Return :func:`scores_of` a pruner if all its masks follow from them, else None.

    They do if it makes one cut and has no parameter ``target``, the count that it scores for.
    """
    function, _ = _named(method)
    cuts = schedule_steps(method, 0.5) if steps is None else steps
    if cuts != 1 or "target" in parameters_of(function):
        return None
    return scores_of(network, method, dataset=dataset, seed=seed, **options)


def method_options(methods: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return for each pruner the options that it takes.

    Raises :class:`BadInput` for an unknown pruner, an option that none takes, or one that is missing.
    """
    functions = {method: resolve_pruner(method) for method in methods}
    taken = {
        method: {name: value for name, value in options.items() if name in parameters_of(function)}
        for method, function in functions.items()
    }
    used = set[str]().union(*taken.values())
    unused = {name: value for name, value in options.items() if name not in used}
    for method, function in functions.items():
        check_scores(function, method, taken[method] | unused)
    return taken
