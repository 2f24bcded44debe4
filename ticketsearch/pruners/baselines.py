"""Pruners without derivatives or data: magnitude, and random masks with given layer densities."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.models import Network
from ticketsearch.pruners.batching import Batch, Parts, one_cut
from ticketsearch.typing import Floats

__all__ = ["Densities", "densities_of", "erk_densities", "magnitude", "quotas", "random"]

# {layer name: density}, densities in layer order, or those as text: "0.1,0.5,1".
Densities = Mapping[str, float] | Sequence[float] | str | float
DISTRIBUTIONS = ("global", "uniform", "erk")


@one_cut
def magnitude(network: Network, mask: Parts, batch: Batch | None, *, rng: np.random.Generator) -> Parts:
    """Return the absolute weights: magnitude pruning (Han et al. 2015). Data are not used."""
    named = network.parameters()
    return {layer.name: named[layer.name].abs() * mask[layer.name] for layer in network.spec.layers}


@one_cut
def random(
    network: Network,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: np.random.Generator,
    target: int | None = None,
    distribution: str = "global",
    densities: Densities | None = None,
) -> Parts:
    """Return random scores: a random mask, with given layer densities if wanted. Data are not used.

    Weights that read padding alone are drawn last. Under the scope ``"layer"`` all layers have the same
    density, and these options have no effect.

    Parameters
    ----------
    target : weights to be kept in the end; given by the pruning loop.
    distribution : ``"global"`` draws from all weights of the network alike. ``"uniform"`` gives all layers
        the same density (Evci et al. 2020). ``"erk"`` (Erdős–Rényi kernel, Evci et al. 2020) has
        layer densities in proportion to (sum of the layer's shape) / (product of it), at most 1: see
        :func:`erk_densities`. A layer that would have to keep weights that read padding alone keeps only
        its other weights, and the remaining layers share the rest of the count as long as they have enough.
    densities : the layers' densities instead, each in (0, 1]: ``{layer name: density}``, a list in layer
        order, or that as text ``"0.1,0.5,1"``. They must keep ``target`` weights up to rounding.

    Whatever the schedule, the counts of the layers are exact in the end and each is at least 1.
    Raises :class:`BadInput` for an unknown distribution, or densities that do not fit.
    """
    if distribution not in DISTRIBUTIONS:
        raise unknown("distribution", distribution, DISTRIBUTIONS)
    layers = network.spec.layers
    if densities is None and distribution == "global":
        # Scores are below 1, and below 0 for weights that read padding alone.
        last = network.spec.split(~network.spec.readable)
        return {
            layer.name: torch.from_numpy(rng.random(layer.shape) - last[layer.name]) * mask[layer.name]
            for layer in layers
        }
    if densities is not None and distribution != "global":
        raise BadInput(
            f"layer densities are given or follow a distribution, but got densities and distribution="
            f"{distribution!r}; leave one out"
        )
    if target is None:
        raise BadInput("layer densities need target, the number of weights that are kept in the end")
    if densities is None and distribution == "erk":
        wanted = erk_densities(network.spec, target)
    elif densities is None:
        wanted = _uniform_densities(network.spec, target)
    else:
        wanted = densities_of(densities, network.spec)
    counts = quotas(wanted, network.spec, target)
    readable = network.spec.split(network.spec.readable)
    return {
        layer.name: torch.from_numpy(_ranked(mask[layer.name].numpy(), readable[layer.name], count, rng))
        for layer, count in zip(layers, counts, strict=True)
    }


def _ranked(mask: Mask, readable: Mask, quota: int, rng: np.random.Generator) -> Floats:
    """Return scores of a layer in random order, above 1 for ``quota`` kept weights.

    The weight of rank r = 0, 1, … has the score quota / (r + 1/2). So the largest scores of all layers are
    their quotas when as many are kept, and proportionally more when more are kept. Only kept weights have
    ranks: each cut takes a random part of the weights that the previous one left. Weights that read padding
    alone rank last.
    """
    scores = np.zeros(mask.shape)
    kept = int(np.count_nonzero(mask))
    ranks = rng.permutation(kept)
    readable_kept = readable[mask]
    if not readable_kept.all():
        places = np.lexsort((ranks, ~readable_kept))
        ranks[places] = np.arange(kept)
    scores[mask] = quota / (ranks + 0.5)
    return scores


def _uniform_densities(spec: MaskSpec, target: int) -> list[float]:
    """Return one density for all layers; a layer with fewer weights that can be live keeps all of those."""
    density = target / spec.size
    sizes = [layer.size for layer in spec.layers]
    if all(density * size <= most for size, most in zip(sizes, spec.readable_sizes, strict=True)):
        return [density] * len(sizes)
    return _shared(sizes, spec, target)


def erk_densities(spec: MaskSpec, target: int) -> list[float]:
    """Return the Erdős–Rényi-kernel densities of the layers for ``target`` weights (Evci et al. 2020, §3).

    A layer of n_in inputs, n_out outputs and a w × h kernel has a density in proportion to
    (n_in + n_out + w + h) / (n_in · n_out · w · h). Layers for which that exceeds 1 are dense, and the others
    share the rest in the same proportion. A dense layer keeps all its weights that can be live; the weights
    that read padding alone follow only if those of all layers are too few.
    """
    return _shared([sum(layer.shape) for layer in spec.layers], spec, target)


def _shared(parts: Sequence[int], spec: MaskSpec, target: int) -> list[float]:
    """Return densities that share ``target`` weights among the layers in proportion to ``parts``.

    A layer takes at most all its weights that can be live; only if these are too few are the weights that
    read padding alone shared too.
    """
    sizes = [layer.size for layer in spec.layers]
    most = list(spec.readable_sizes)
    counts = _filled(parts, most, min(target, sum(most)))
    if target > sum(most):
        dead = [size - live_size for size, live_size in zip(sizes, most, strict=True)]
        more = _filled(parts, dead, target - sum(most))
        counts = [count + other for count, other in zip(counts, more, strict=True)]
    return [count / size for count, size in zip(counts, sizes, strict=True)]


def _filled(parts: Sequence[int], most: Sequence[int], target: int) -> list[float]:
    """Return shares of ``target`` in proportion to ``parts``, none more than ``most``."""
    full: set[int] = set()
    while True:
        others = [i for i in range(len(parts)) if i not in full]
        if not others:
            return [float(count) for count in most]
        left = target - sum(most[i] for i in full)
        scale = left / sum(parts[i] for i in others)
        over = {i for i in others if scale * parts[i] > most[i]}
        if not over:
            return [float(most[i]) if i in full else scale * parts[i] for i in range(len(parts))]
        full |= over


def densities_of(given: Densities, spec: MaskSpec) -> list[float]:
    """Return densities in layer order.

    Raises :class:`BadInput` for other layers than the network's, or a density outside (0, 1].
    """
    names = [layer.name for layer in spec.layers]
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise unknown("layer in densities", str(name), names)
        missing = [name for name in names if name not in given]
        if missing:
            raise BadInput(f"densities are one a layer, but {', '.join(missing)} has none; add it")
        values: list[object] = [given[name] for name in names]
    else:
        listed = given.split(",") if isinstance(given, str) else given
        values = list(listed) if isinstance(listed, Iterable) else [listed]
        if len(values) != len(names):
            raise BadInput(
                f"densities are one a layer, for {', '.join(names)}, but got {len(values)}: {given}"
            )
    return [_density(name, value) for name, value in zip(names, values, strict=True)]


def _density(name: str, value: object) -> float:
    try:
        density = float(str(value))
    except ValueError:
        density = math.nan
    if not 0 < density <= 1:
        raise BadInput(f"density is kept / total, in (0, 1], but got {value!r} for layer {name}")
    return density


def quotas(densities: Sequence[float], spec: MaskSpec, target: int) -> list[int]:
    """Return the counts of weights that layers keep: ``target`` in all, at least 1 each, near the densities.

    Raises :class:`BadInput` for densities whose total differs from ``target`` by more than half a weight a
    layer.
    """
    exact = [density * layer.size for density, layer in zip(densities, spec.layers, strict=True)]
    total = sum(exact)
    if abs(total - target) > len(exact) / 2:
        raise BadInput(
            f"densities of layers must keep {target} of {spec.size} weights (density "
            f"{target / spec.size:.6g}), but they keep {total:g}; ask for density {total / spec.size:.6g}"
        )
    counts = [max(1, round(wanted)) for wanted in exact]
    while sum(counts) != target:
        step = 1 if sum(counts) < target else -1
        movable = [i for i, layer in enumerate(spec.layers) if 1 <= counts[i] + step <= layer.size]
        # Weights that read padding alone come last.
        movable = [i for i in movable if counts[i] + step <= spec.readable_sizes[i]] or movable
        # The layer whose count is furthest off its density in the other direction; ties go to the first.
        counts[max(movable, key=lambda i: step * (exact[i] - counts[i]))] += step
    return counts
