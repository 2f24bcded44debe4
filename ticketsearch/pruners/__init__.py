"""Pruners: saliency scores of a network's weights, and the loop that turns scores into a mask.

A score function takes the network as masked so far and returns ``{layer name: scores}``; the loop asks it
again after each cut. Larger scores are kept. The names listed here are the pruners that users may name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ticketsearch.checks import Steps, checked
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask
from ticketsearch.models import Network
from ticketsearch.plugins import listed, parameters_of, resolve
from ticketsearch.pruners.baselines import magnitude, random
from ticketsearch.pruners.batching import Batch as Batch
from ticketsearch.pruners.batching import Copies as Copies
from ticketsearch.pruners.batching import Parts as Parts
from ticketsearch.pruners.batching import ScoreFunction as ScoreFunction
from ticketsearch.pruners.batching import batched as batched
from ticketsearch.pruners.edge_popup import edge_popup
from ticketsearch.pruners.flow_preserving import flow_preserving
from ticketsearch.pruners.imp import averaged_imp, imp, obd
from ticketsearch.pruners.iterative import SUPPLIED as SUPPLIED
from ticketsearch.pruners.iterative import TRAINING as TRAINING
from ticketsearch.pruners.iterative import Cut as Cut
from ticketsearch.pruners.iterative import LayerCollapseWarning as LayerCollapseWarning
from ticketsearch.pruners.iterative import Schedule as Schedule
from ticketsearch.pruners.iterative import Scope as Scope
from ticketsearch.pruners.iterative import check_density as check_density
from ticketsearch.pruners.iterative import check_scores as check_scores
from ticketsearch.pruners.iterative import prune_each
from ticketsearch.pruners.iterative import schedule_steps as schedule_steps
from ticketsearch.pruners.retention import flow_retention as flow_retention
from ticketsearch.pruners.saliency import grasp, saliency, snip
from ticketsearch.pruners.synflow import balanced_synflow, synflow
from ticketsearch.pruners.ties import UNMENTIONED as UNMENTIONED
from ticketsearch.pruners.ties import EqualScoresWarning as EqualScoresWarning
from ticketsearch.pruners.ties import PruningWarning as PruningWarning
from ticketsearch.pruners.ties import mask_of_scores as mask_of_scores
from ticketsearch.pruners.training_cost import Rounds as Rounds
from ticketsearch.typing import Floats

# The pruners that have a name; prune and LayerCollapseWarning are importable beside them.
__all__ = [
    "averaged_imp",
    "balanced_synflow",
    "edge_popup",
    "flow_preserving",
    "grasp",
    "imp",
    "magnitude",
    "obd",
    "random",
    "saliency",
    "snip",
    "synflow",
]


@checked
def prune(
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
    watch: Callable[[Cut], None] | None = None,
    **options: Any,
) -> Mask:
    """Return the mask that a pruner leaves of a network, with exactly ``round(density * size)`` ones.

    After step ``k < steps`` of the exponential schedule ``N - floor((1 - density^(k/steps)) * N)`` weights
    are kept, as in the SynFlow authors' code (Tanaka et al. 2020, algorithm 1); what a step prunes never
    comes back. Equal scores are ordered by lot, drawn from the seed and the network's initialization.

    Parameters
    ----------
    network : never written to.
    method : a name (``"synflow"``, ``"snip"``, …), ``"file.py:function"``, or a score function
        ``scores(network, mask, batch, *, rng, **options) -> {layer name: tensor of the layer's shape}``.
        One that names a parameter ``dataset`` or ``target`` is given the whole dataset, or the number of
        weights to be kept in the end.
    density : kept / total, in (0, 1]; at least one weight a layer must fit.
    dataset : its training part gives the batch ``(x, y)`` that a data-dependent pruner scores on.
    seed : of the score function's ``rng`` and the choice of the batch.
    scope : ``"global"`` compares all weights, ``"layer"`` keeps the density in each layer.
    schedule : ``"exponential"``, ``"linear"`` (in the density) or ``"one_shot"``.
    steps : number of cuts; ignored for ``one_shot``. None is the method's own: 100 for ``synflow``,
        ``balanced_synflow`` and functions of your own, a fifth of the weights a round for those that train,
        1 else.
    batch : samples in the batch.
    watch : called with each :class:`~ticketsearch.pruners.iterative.Cut`.
    options : of the score function.

    Returns the ``(weights,)`` bool mask, read-only. Warns with :class:`LayerCollapseWarning` if a layer is
    left empty, and with :class:`EqualScoresWarning` if more than a hundredth of the kept weights were drawn
    among equal scores. Raises :class:`BadInput` for a bad argument or scores that are not finite.
    """
    masks = _masks(
        [network],
        method,
        density=density,
        dataset=dataset,
        seeds=[seed],
        scope=scope,
        schedule=schedule,
        steps=steps,
        batch=batch,
        watch=watch,
        **options,
    )
    mask: Mask = masks[0]
    return mask


@checked
def prune_all(
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
    watch: Callable[[Cut], None] | None = None,
    **options: Any,
) -> Mask:
    """Return what a pruner leaves of several initializations of one architecture, ``(copies, weights)`` bool.

    Each mask is the one that :func:`prune` returns for that network and its seed (of ``seeds``, by default
    0, 1, …). ``synflow``, ``balanced_synflow``, those that train and functions marked :func:`batched` score
    the copies as one program, as many at a time as pay; the others score them one after another.
    """
    return _masks(
        networks,
        method,
        density=density,
        dataset=dataset,
        seeds=seeds,
        scope=scope,
        schedule=schedule,
        steps=steps,
        batch=batch,
        watch=watch,
        **options,
    )


def _masks(
    networks: Sequence[Network],
    method: str | ScoreFunction,
    *,
    density: float,
    dataset: Dataset | None,
    seeds: Sequence[int] | None,
    scope: Scope,
    schedule: Schedule,
    steps: int | None,
    batch: int,
    watch: Callable[[Cut], None] | None,
    **options: Any,
) -> Mask:
    """Return the masks of :func:`prune_all`; a frame of its own, so that warnings name the caller's line."""
    for network in networks:
        if not isinstance(network, Network):
            raise BadInput(
                f"what is pruned is a Network, but got {type(network).__name__}; ts.initialize makes one"
            )
    if not len(networks):
        raise BadInput("pruning takes at least one network, but got none")
    own = list(range(len(networks))) if seeds is None else list(seeds)
    if len(own) != len(networks):
        raise BadInput(f"seeds are one a network, {len(networks)}, but got {len(own)}")
    function, name = (method, _name_of(method)) if callable(method) else (named(method), method)
    try:
        return prune_each(
            networks,
            function,
            name,
            density=density,
            dataset=dataset,
            seeds=own,
            scope=scope,
            schedule=schedule,
            steps=schedule_steps(name, density) if steps is None else steps,
            batch=batch,
            watch=watch,
            options=options,
        )
    except (TypeError, AttributeError) as error:
        # Of this package's own pruners nothing but an option of the wrong type raises these.
        if not options or name not in __all__:
            raise
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise BadInput(f"pruner {name!r} cannot use the options {given} ({error})") from error


def named(method: str) -> ScoreFunction:
    """Return the score function of a name; raises :class:`BadInput` for an unknown one."""
    return resolve(method, listed(sys.modules[__name__]), "pruner", ("network", "mask", "batch"))


def _name_of(method: ScoreFunction) -> str:
    return getattr(method, "__name__", "pruner")


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
    seen: list[Cut] = []
    prune(
        network,
        method,
        density=1.0,
        dataset=dataset,
        seed=seed,
        schedule="one_shot",
        batch=batch,
        watch=seen.append,
        **options,
    )
    return seen[0].scores


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

    They do if it makes one cut, and does not name ``target``, the count that it is to score for.
    """
    function, name = (method, _name_of(method)) if callable(method) else (named(method), method)
    cuts = schedule_steps(name, 0.5) if steps is None else steps
    if cuts != 1 or "target" in parameters_of(function):
        return None
    return scores_of(network, method, dataset=dataset, seed=seed, **options)


def method_options(methods: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each pruner, those that it takes.

    Raises :class:`BadInput` for an unknown pruner, an option that none takes, or one that is missing.
    """
    taken = {method: parameters_of(named(method)) for method in methods}
    found = {m: {name: options[name] for name in options if name in taken[m]} for m in methods}
    unused = {
        name: value for name, value in options.items() if not any(name in own for own in found.values())
    }
    for method, own in found.items():
        check_scores(named(method), method, own | unused)
    return found
