"""Layout: the widths of each compacted network, and the masks that are therefore trained as one batch.

A mask's layout follows from its own live units alone, so the masks trained beside it change no bit of its
result. Widths are rounded up, by dead units, so that masks of a cohort share few layouts: the larger the
cost of a network beside the overhead of a step, the finer the rounding.
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

from ticketsearch import compiled
from ticketsearch.masks import Mask, MaskSpec, Piece, between_live
from ticketsearch.training.flops import (
    BLOCK,
    compacted_operations,
    kept_operations,
    layer_positions,
    layer_sizes,
)
from ticketsearch.training.mask_modes import MASKINGS
from ticketsearch.training.native.program import lacking_step
from ticketsearch.wiring import Compaction, Wiring, compact, fixed_groups, live_groups, spec_for, whole

__all__ = [
    "Layout",
    "batches",
    "compaction_notes",
    "compacts",
    "engine_for",
    "engine_name",
    "exact_compactions",
    "layouts",
    "networks_at_once",
    "why_not_compacted",
    "why_not_native",
]

# Floating-point operations of one step that take as long as the overhead of a batch's step (0.2 ms on one
# core). Fixed: a layout that followed this machine's clock would change last bits from run to run.
OVERHEAD = 2e7
# Overheads of a step below which compacting a network gains nothing.
MIN_OVERHEADS = 1 / 32
# Samples of a batch, as far as a layout is concerned.
SAMPLES = 128
# Narrower products gain nothing, and libraries sum some of them in another order where they stand alone.
NARROWEST = 8
# Weights of one batch of networks, and of each of its gradients and momenta: more saves no further overhead,
# and leaves the caches. Changes no result.
WEIGHTS = 2**20


# Versions of the engines.
VERSIONS = {"native": 1, "stacked": 1, "single": 1}


class Layout(NamedTuple):
    """Masks whose networks have the same widths: their indices, and the compaction of each."""

    masks: list[int]
    compactions: list[Compaction]


def why_not_compacted(wiring: Wiring, masking: str) -> str | None:
    """Return the reason why networks are trained whole; None where they are trained without dead units."""
    if MASKINGS[masking].dense:
        return f"under masking {masking!r} the forward pass is that of the whole network"
    if masking != "parameter":
        return f"under masking {masking!r} weights that the mask does not keep learn too"
    if not wiring.steps:
        return "the neuron groups are declared by hand, and the module computes by itself"
    return None


def compaction_notes(
    wiring: Wiring, masking: str, device: torch.device | None = None, precision: str = "float32"
) -> list[str]:
    """Return sentences on what of a network is trained whole, or by torch on the CPU, and why."""
    reason = why_not_compacted(wiring, masking)
    if reason is not None:
        return [f"Networks are trained whole: {reason}."]
    notes = []
    device = device or torch.device("cpu")
    reason = why_not_native(wiring, masking, device, precision)
    if reason is not None and device.type == "cpu":
        notes.append(f"Trained by torch: {reason}.")
    groups = [wiring.spec.groups[index] for index in sorted(fixed_groups(wiring))]
    names = [group.name for group in groups if group.kind == "hidden"]
    if names:
        notes.append(
            f"Trained whole: {', '.join(names)}, which are normalised over their units or divided by grouped "
            "convolutions."
        )
    return notes


def compacts(wiring: Wiring, masking: str) -> bool:
    """Return whether networks of this wiring are trained without their dead units."""
    return why_not_compacted(wiring, masking) is None


def engine_for(wiring: Wiring, masking: str, device: torch.device, precision: str = "float32") -> str:
    """Return the engine that trains networks: ``native``, ``stacked`` or ``single``.

    The native one where :func:`why_not_native` finds no reason against it, else torch: networks of Linear
    layers stacked as one tensor program, others one by one.
    """
    if why_not_native(wiring, masking, device, precision) is None:
        return "native"
    return "stacked" if wiring.dense else "single"


def engine_name(wiring: Wiring, masking: str, device: torch.device, precision: str = "float32") -> str:
    """Return the engine of :func:`engine_for` and its version, which rises when a training's bits change."""
    engine = engine_for(wiring, masking, device, precision)
    return f"{engine} {VERSIONS[engine]}"


def why_not_native(
    wiring: Wiring, masking: str, device: torch.device, precision: str = "float32"
) -> str | None:
    """Return the reason why torch trains networks; None where the native engine does."""
    reason = why_not_compacted(wiring, masking)
    if reason is not None:
        return reason
    if device.type != "cpu":
        return "they are trained on a GPU"
    if precision != "float32":
        return f"the native engine has no precision {precision}"
    if not compiled.AVAILABLE:
        return "numba is not installed"
    lacking = lacking_step(wiring)
    return None if lacking is None else f"the native engine lacks {lacking}"


def exact_compactions(
    wiring: Wiring, masks: Mask, initial: Sequence[Mapping[str, Tensor]]
) -> list[tuple[Compaction, Mask]]:
    """Return for each mask ``(P, weights)`` the compaction to its live units, and the weights between them.

    Such a weight is dead where it adds to a sum after the step that reads the sum; guidance sees it all the
    same.
    """
    specs = [spec_for(wiring, tensors) for tensors in initial]
    fixed = fixed_groups(wiring)
    compactions = []
    for index, mask in enumerate(masks):
        spec = specs[index if len(specs) > 1 else 0]
        units = live_groups(mask, spec, fixed, lambda _, live: live)
        compactions.append((compact(wiring, units), mask & between_live(mask, spec)))
    return compactions


def layouts(
    wiring: Wiring,
    masks: Mask,
    initial: Sequence[Mapping[str, Tensor]],
    *,
    masking: str,
    stacked: bool,
) -> list[Layout]:
    """Return the layouts of masks ``(P, weights)``, each mask in one of them, widest first.

    ``initial`` are the initial parameters and buffers, one for all or one for each mask. ``stacked`` rounds
    widths up so that masks share them; otherwise widths are the live units.
    """
    if not compacts(wiring, masking):
        return _uncompacted(wiring, len(masks))
    specs = [spec_for(wiring, tensors) for tensors in initial]
    fixed = fixed_groups(wiring)
    costs = _costs(wiring)
    sizes = [group.size for group in wiring.spec.groups]
    if stacked and _overheads(wiring.spec, costs, sizes) < MIN_OVERHEADS:
        return _uncompacted(wiring, len(masks))

    def widths(sizes: tuple[int, ...], live: tuple[int, ...]) -> Sequence[int]:
        return _rounded(wiring.spec, costs, sizes, live) if stacked else live

    dense: dict[tuple[int, ...], Layout] = {}
    for index, mask in enumerate(masks):
        spec = specs[index] if len(specs) > 1 else specs[0]
        units = live_groups(mask, spec, fixed, widths)
        layout = dense.setdefault(tuple(map(len, units)), Layout([], []))
        layout.masks.append(index)
        layout.compactions.append(compact(wiring, units))
    return [dense[key] for key in sorted(dense, reverse=True)]


def _uncompacted(wiring: Wiring, count: int) -> list[Layout]:
    """Return one layout of whole networks, none where there is no mask."""
    return [Layout(list(range(count)), [whole(wiring)] * count)] if count else []


def batches(
    wiring: Wiring,
    masks: Mask,
    initial: Sequence[Mapping[str, Tensor]],
    *,
    masking: str,
    device: torch.device,
    precision: str = "float32",
    workers: int = 1,
) -> list[list[int]]:
    """Return the indices of the masks that are trained together, the batch of the largest cost first.

    Masks of one layout are divided evenly. Several workers get at least one batch each, as far as there are
    masks, and none much larger than half of a worker's share of the cost.
    """
    engine = engine_for(wiring, masking, device, precision)
    if engine == "native":
        return _dealt(kept_operations(wiring, masks), workers)
    stacked = engine == "stacked"
    cohort = layouts(wiring, masks, initial, masking=masking, stacked=stacked)
    costs = [compacted_operations(layout.compactions[0]) for layout in cohort]
    total = sum(cost * len(layout.masks) for cost, layout in zip(costs, cohort, strict=True))
    parts: list[tuple[float, list[int]]] = []
    for cost, layout in zip(costs, cohort, strict=True):
        size = len(layout.masks)
        count = size if not stacked else -(-size // networks_at_once(layout, device))
        if workers > 1:
            count = max(count, -(-size * workers // len(masks)), math.ceil(2 * workers * cost * size / total))
        count = min(count, size)
        ends = [size * part // count for part in range(count + 1)]
        parts += [(cost * (end - start), layout.masks[start:end]) for start, end in itertools.pairwise(ends)]
    return [indices for _, indices in sorted(parts, key=lambda part: -part[0])]


def _dealt(costs: NDArray[np.int64], workers: int) -> list[list[int]]:
    """Return masks dealt to two batches for each worker, of about equal cost; one batch for one worker."""
    count = min(len(costs), 1 if workers == 1 else 2 * workers)
    order = np.argsort(-costs, kind="stable")
    return [sorted(order[part::count].tolist()) for part in range(count)]


def networks_at_once(layout: Layout, device: torch.device) -> int:
    """Return the number of networks of one batch of a layout; on CUDA half the free memory holds them."""
    compaction = layout.compactions[0]
    weights = sum(layer_sizes(compaction))
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Memory that torch reserves is free as well, so that a later generation finds as much as the first.
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        values = sum(torch.Size(step.shape).numel() for step in compaction.steps)
        # Weights, gradients, masks, two momenta and intermediate tensors; values forward and backward.
        return max(1, int(free / 2 / (8 * (6 * weights + 3 * BLOCK * values))))
    return max(1, WEIGHTS // weights)


def _joined_pairs(piece: Piece, units: Sequence[int]) -> int:
    """Return the number of unit pairs that a piece joins, flattened positions apart; ``units`` are widths."""
    return units[piece.target] * (1 if piece.diagonal else units[piece.source] * piece.block)


def _costs(wiring: Wiring) -> list[float]:
    """Return for each piece of the spec the operations of a step for one source and one target unit."""
    positions = layer_positions(wiring)
    # A product forward, and two backward.
    return [
        6.0 * SAMPLES * piece.positions / piece.block * positions[piece.layer] for piece in wiring.spec.pieces
    ]


def _overheads(spec: MaskSpec, costs: Sequence[float], units: Sequence[int]) -> float:
    """Return the operations of a step in units of its overhead; ``units`` are the widths of the groups."""
    return sum(c * _joined_pairs(p, units) for c, p in zip(costs, spec.pieces, strict=True)) / OVERHEAD


def _rounded(spec: MaskSpec, costs: Sequence[float], sizes: Sequence[int], live: Sequence[int]) -> list[int]:
    """Return widths that many masks share, at least the live ones.

    Each doubling of a width is divided into more parts, the larger the cost of the layers beside it.
    """
    if _overheads(spec, costs, live) < MIN_OVERHEADS:
        return list(sizes)
    shares = [0.0] * len(sizes)
    for cost, piece in zip(costs, spec.pieces, strict=True):
        for group in {piece.target, piece.source}:
            shares[group] += cost * _joined_pairs(piece, live) / OVERHEAD
    widths = []
    for size, width, share in zip(sizes, live, shares, strict=True):
        parts = next((parts for least, parts in ((2, 8), (1 / 2, 4), (1 / 8, 2)) if share >= least), 1)
        spacing = max(1, (1 << (width.bit_length() - 1)) // parts)
        widths.append(min(size, max(NARROWEST, -(-width // spacing) * spacing)))
    return widths
