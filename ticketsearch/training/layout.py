"""Layout: how wide the network is that a mask leaves, and which masks are therefore trained as one program.

A mask's layout follows from its own live units alone, so whatever trains beside it changes no bit of its
result. Widths are rounded up, by dead units, so that masks of a cohort meet in few layouts: the more a
network costs beside the overhead of a program, the more finely.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ticketsearch.masks import Mask, MaskSpec, Piece, between_live, layer_counts, live
from ticketsearch.training.mask_modes import MASKINGS
from ticketsearch.wiring import Compaction, Wiring, compact, fixed_groups, live_groups, spec_for, whole

__all__ = [
    "Layout",
    "compacts",
    "growable_operations",
    "kept_operations",
    "kept_whole",
    "layouts",
    "live_operations",
    "networks_at_once",
    "obstacle",
    "operations_a_sample",
    "programs",
    "runs_sparse",
]

# Floating-point operations of one step that take as long as the overhead of a program's step does (0.2 ms on
# one core). Fixed: a layout that went by this machine's clock would change last bits from run to run.
OVERHEAD = 2e7
# Overheads of a step below which a network is not worth making smaller.
LEAST = 1 / 32
# Samples of a batch, as far as a layout is concerned.
SAMPLES = 128
# Narrower products gain nothing, and libraries sum some of them in another order where they stand alone.
NARROWEST = 8
# Weights of one program, and of each of its gradients and momenta: more no longer saves overhead, and what
# leaves the caches costs. Changes no result.
WEIGHTS = 2**20
# What a step of a sparse network takes for each live weight, and beside them for each unit, in weights of a
# dense product (measured on one core). Fixed, as is OVERHEAD.
SPARSE_WEIGHT, SPARSE_UNIT = 3.5, 30.0
# Sparse networks of one program: more save no more overhead.
SPARSE_AT_ONCE = 16
# Samples of the largest batch that a program sees, in an evaluation.
BLOCK = 1024


class Layout(NamedTuple):
    """Masks whose networks have the same widths: their numbers, and what is kept of each.

    Sparse ones are whole, and trained by the kept weights between live units alone: ``live``, ``(weights,)``
    bool for each.
    """

    masks: list[int]
    compactions: list[Compaction]
    live: Sequence[Mask] = ()


def obstacle(wiring: Wiring, masking: str) -> str | None:
    """Return why networks are trained whole though masks leave less of them; None where they are not."""
    if MASKINGS[masking].dense:
        return f"under masking {masking!r} the forward pass is that of the whole network"
    if masking != "parameter":
        return f"under masking {masking!r} weights that the mask does not keep learn too"
    if not wiring.steps:
        return "the neuron groups are declared by hand, and the module computes by itself"
    return None


def kept_whole(wiring: Wiring, masking: str) -> list[str]:
    """Return sentences that say what is trained whole though masks leave less of it, and why."""
    reason = obstacle(wiring, masking)
    if reason is not None:
        return [f"Networks are trained whole: {reason}."]
    groups = [wiring.spec.groups[index] for index in sorted(fixed_groups(wiring))]
    names = [group.name for group in groups if group.kind == "hidden"]
    if not names:
        return []
    return [
        f"Trained whole: {', '.join(names)}, which are normalised over their units or divided by grouped "
        "convolutions."
    ]


def compacts(wiring: Wiring, masking: str) -> bool:
    """Return whether networks of this wiring are trained without their dead units."""
    return obstacle(wiring, masking) is None


def runs_sparse(wiring: Wiring, masking: str, device: torch.device, precision: str = "float32") -> bool:
    """Return whether networks may be trained by their live weights alone: on a CPU, with MKL's products."""
    able: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    able = able and device.type == "cpu" and precision == "float32"
    return able and wiring.dense and compacts(wiring, masking)


def layouts(
    wiring: Wiring,
    masks: Mask,
    initial: Sequence[Mapping[str, Tensor]],
    *,
    masking: str,
    stacked: bool,
    sparse: bool = False,
) -> list[Layout]:
    """Return the layouts of masks ``(P, weights)``, each mask in one of them, widest first.

    ``initial`` are the parameters and buffers that training begins from, one for all or one for each mask.
    ``stacked`` rounds widths up so that masks meet; otherwise they are exactly what lives. ``sparse`` takes
    networks whole where that is quicker by their live weights alone; they are the last layout.
    """
    if not compacts(wiring, masking):
        return [Layout(list(range(len(masks))), [whole(wiring)] * len(masks))] if len(masks) else []
    specs = [spec_for(wiring, tensors) for tensors in initial]
    fixed = fixed_groups(wiring)
    costs = _costs(wiring)
    if stacked and _overheads(wiring.spec, costs, [group.size for group in wiring.spec.groups]) < LEAST:
        return [Layout(list(range(len(masks))), [whole(wiring)] * len(masks))] if len(masks) else []

    def widths(sizes: tuple[int, ...], live: tuple[int, ...]) -> Sequence[int]:
        return _rounded(wiring.spec, costs, sizes, live) if stacked else live

    found: dict[tuple[int, ...], Layout] = {}
    thin: dict[int, Mask] = {}
    for number, mask in enumerate(masks):
        spec = specs[number] if len(specs) > 1 else specs[0]
        kept = live_groups(mask, spec, fixed, widths)
        if sparse and (few := _few(mask, spec, [len(own) for own in kept])) is not None:
            thin[number] = few
            continue
        own = found.setdefault(tuple(map(len, kept)), Layout([], []))
        own.masks.append(number)
        own.compactions.append(compact(wiring, kept))
    wide = [found[key] for key in sorted(found, reverse=True)]
    return wide + ([Layout([*thin], [whole(wiring)] * len(thin), [*thin.values()])] if thin else [])


def programs(
    wiring: Wiring,
    masks: Mask,
    initial: Sequence[Mapping[str, Tensor]],
    *,
    masking: str,
    device: torch.device,
    precision: str = "float32",
    workers: int = 1,
) -> list[list[int]]:
    """Return the numbers of the masks that are trained as one program each, the longest programs first.

    Masks of one layout are divided evenly. For several workers there are as many programs if there are so
    many masks, and none takes much more than half of a worker's share of the work.
    """
    sparse = runs_sparse(wiring, masking, device, precision)
    found = layouts(wiring, masks, initial, masking=masking, stacked=wiring.dense, sparse=sparse)
    costs = [
        _sparse_operations(wiring.spec, max(int(np.count_nonzero(own)) for own in layout.live))
        if layout.live
        else _operations(layout.compactions[0])
        for layout in found
    ]
    total = sum(cost * len(layout.masks) for cost, layout in zip(costs, found, strict=True))
    cuts: list[tuple[float, list[int]]] = []
    for cost, layout in zip(costs, found, strict=True):
        size = len(layout.masks)
        parts = size if not wiring.dense else -(-size // networks_at_once(layout, device))
        if workers > 1:
            parts = max(parts, -(-size * workers // len(masks)), math.ceil(2 * workers * cost * size / total))
        parts = min(parts, size)
        ends = [size * part // parts for part in range(parts + 1)]
        cuts += [(cost * (end - start), layout.masks[start:end]) for start, end in itertools.pairwise(ends)]
    return [numbers for _, numbers in sorted(cuts, key=lambda cut: -cut[0])]


def networks_at_once(layout: Layout, device: torch.device) -> int:
    """Return how many networks of this layout one program takes; on CUDA as many as half its memory holds."""
    if layout.live:
        return SPARSE_AT_ONCE
    compaction = layout.compactions[0]
    weights = sum(_sizes(compaction))
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds on to is free as well, so that a later generation finds as much as the first.
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        values = sum(torch.Size(step.shape).numel() for step in compaction.steps)
        # Weights, gradients, masks, two momenta and what is between; values forward and backward.
        return max(1, int(free / 2 / (8 * (6 * weights + 3 * BLOCK * values))))
    return max(1, WEIGHTS // weights)


def operations_a_sample(wiring: Wiring) -> float:
    """Return the multiplications of the whole network for one sample, forward; weights if it has no steps."""
    return _operations(whole(wiring))


def live_operations(wiring: Wiring, masks: Mask) -> NDArray[np.int64]:
    """Return the multiplications of masked networks for one sample, forward, by live kept weights alone.

    ``masks`` are ``(P, weights)`` bool; what comes back is ``(P,)``. Live is what lies on a path that can
    matter, see :func:`ticketsearch.masks.live`.
    """
    positions = _positions(wiring)
    each = np.array([positions.get(layer, 1) for layer in range(len(wiring.spec.layers))])
    counts = [layer_counts(live(mask, wiring.spec), wiring.spec) for mask in masks]
    found: NDArray[np.int64] = np.array(counts, dtype=np.int64).reshape(len(masks), len(each)) @ each
    return found


def kept_operations(wiring: Wiring, masks: Mask) -> NDArray[np.int64]:
    """Return the multiplications of masked networks ``(P,)`` for one sample, forward, by all kept weights."""
    positions = _positions(wiring)
    found = np.zeros(len(masks), dtype=np.int64)
    for number, layer in enumerate(wiring.spec.layers):
        found += np.count_nonzero(masks[:, layer.slice], axis=1) * positions.get(number, 1)
    return found


def growable_operations(wiring: Wiring, masks: Mask) -> NDArray[np.int64]:
    """Return those ``(P,)`` of the pruned weights that guidance chooses from: between units that are live."""
    growable = [between_live(mask, wiring.spec) & ~mask for mask in masks]
    return kept_operations(wiring, np.stack(growable) if growable else masks)


def _few(mask: Mask, spec: MaskSpec, units: Sequence[int]) -> Mask | None:
    """Return the kept weights between live units where they are quicker than products of so many units.

    One of them is dead where it adds to a sum after what reads that; guidance sees it nevertheless.
    """
    weights = sum(_joining(piece, units) for piece in spec.pieces)
    if weights <= _sparse_operations(spec, 0):
        return None
    found = mask & between_live(mask, spec)
    return found if _sparse_operations(spec, int(np.count_nonzero(found))) < weights else None


def _sparse_operations(spec: MaskSpec, weights: int) -> float:
    """Return what so many live weights take for one sample, forward, in weights of a dense product."""
    units = sum(group.size for group in spec.groups if group.kind != "input")
    return SPARSE_WEIGHT * weights + SPARSE_UNIT * units


def _operations(compaction: Compaction) -> float:
    """Return the multiplications of a network for one sample, forward; weights if it has no steps."""
    positions = _positions(compaction.wiring)
    return float(sum(size * positions.get(layer, 1) for layer, size in enumerate(_sizes(compaction))))


def _sizes(compaction: Compaction) -> list[int]:
    """Return the number of weights of each layer that are kept in memory."""
    sizes = []
    for layer in compaction.wiring.spec.layers:
        places = compaction.places.get(layer.name, ())
        sizes.append(torch.Size([*map(len, places), *layer.shape[len(places) :]]).numel())
    return sizes


def _positions(wiring: Wiring) -> dict[int, int]:
    """Return at how many places of an image each layer is applied."""
    return {step.layer: torch.Size(step.shape[1:]).numel() for step in wiring.steps if step.layer >= 0}


def _joining(piece: Piece, units: Sequence[int]) -> int:
    """Return how many pairs of so many units of each group a piece joins, flattened positions apart."""
    return units[piece.target] * (1 if piece.diagonal else units[piece.source] * piece.block)


def _costs(wiring: Wiring) -> list[float]:
    """Return for each piece of the spec the operations of a step for one source and one target unit."""
    positions = _positions(wiring)
    # A product forward, and two backward.
    return [
        6.0 * SAMPLES * piece.positions / piece.block * positions[piece.layer] for piece in wiring.spec.pieces
    ]


def _overheads(spec: MaskSpec, costs: Sequence[float], units: Sequence[int]) -> float:
    """Return how many times the overhead of a step its operations take, with so many units of each group."""
    return sum(c * _joining(p, units) for c, p in zip(costs, spec.pieces, strict=True)) / OVERHEAD


def _rounded(spec: MaskSpec, costs: Sequence[float], sizes: Sequence[int], live: Sequence[int]) -> list[int]:
    """Return widths that many masks have in common, at least the live ones.

    Every doubling of a width is divided into the more parts, the more the layers beside it cost.
    """
    if _overheads(spec, costs, live) < LEAST:
        return list(sizes)
    shares = [0.0] * len(sizes)
    for cost, piece in zip(costs, spec.pieces, strict=True):
        for group in {piece.target, piece.source}:
            shares[group] += cost * _joining(piece, live) / OVERHEAD
    found = []
    for size, width, share in zip(sizes, live, shares, strict=True):
        parts = next((parts for least, parts in ((2, 8), (1 / 2, 4), (1 / 8, 2)) if share >= least), 1)
        spacing = max(1, (1 << (width.bit_length() - 1)) // parts)
        found.append(min(size, max(NARROWEST, -(-width // spacing) * spacing)))
    return found
