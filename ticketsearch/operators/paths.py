"""Mutation that grows whole paths from inputs to outputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Edges, Guidance, Mask, MaskSpec, live_edges, mask_of, strongest, weight_numbers
from ticketsearch.operators.refill import refill_empty_layers
from ticketsearch.operators.swaps import swap_mutation
from ticketsearch.typing import Indices

__all__ = ["path_mutation"]


def path_mutation(
    mask: Mask,
    *,
    spec: MaskSpec,
    rng: np.random.Generator,
    rate: float = 0.05,
    guidance: Guidance | None = None,
    temperature: float = 0.0,
) -> Mask:
    """Grow paths from inputs to outputs, through units live or dead, and prune as many weights elsewhere.

    Weights that are on no path are pruned first. Then the least salient of the others are, but not the last
    weight into or out of a live unit, so that no unit of a network without shortcuts dies; such weights are
    pruned only where no others are left. Paths that are grown together take the same way through shortcuts.

    Parameters
    ----------
    mask : the parent, ``(weights,)`` bool.
    rate : expected share of kept weights that are swapped, in [0, 1], which gives the number of weights to
        grow; at least one path is grown. Where none can be, or the groups were declared by hand so that paths
        are unknown, weights are swapped (:func:`~ticketsearch.operators.swap_mutation`).
    guidance : scores of the mask's weights; without them the pruned weights are drawn at random.
    temperature : scale of the noise on the pruning; see :func:`ticketsearch.masks.guidance.strongest`.
    """
    if not spec.nodes:
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    kept = int(np.count_nonzero(mask))
    grown = random_paths(spec, rng, int(rng.binomial(kept, rate)))
    child = mask | grown
    surplus = int(np.count_nonzero(child)) - kept
    if not 0 < surplus <= np.count_nonzero(mask & ~grown):
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    if guidance is None:
        values, temperature = np.ones(len(mask)), 1.0
    else:
        values = np.zeros(len(mask))
        values[mask] = guidance.saliency
    for pool in _prunable_tiers(child, grown, values, spec, rng):
        going = min(surplus, len(pool))
        stay = strongest(values[pool], len(pool) - going, rng, temperature)
        child[np.delete(pool, stay)] = False
        surplus -= going
    child = refill_empty_layers(child, spec, rng)
    if np.array_equal(child, mask):  # refilling an empty layer undid the growth
        return swap_mutation(mask, spec=spec, rng=rng, rate=rate)
    return child


def random_paths(spec: MaskSpec, rng: np.random.Generator, weights: int) -> Mask:
    """Return the ``(weights,)`` mask of random paths with about ``weights`` weights, of at least one path.

    Paths are drawn from the output back. A layer is passed through one of its pieces, from any of the piece's
    sources; a sum through one of its terms; a product through one of its factors, and through all others that
    are zero without input.
    """
    way = _way(spec, rng)
    grown = np.zeros(spec.size, dtype=np.bool_)
    if not way:  # a shortcut from inputs to outputs
        return grown
    paths = max(1, weights // len(way))
    first = rng.integers(spec.groups[spec.pieces[way[0][0]].target].size, size=paths)
    none = Edges(first[:0], first[:0], first[:0])
    reached: list[Indices] = []
    for index, origin in way:
        piece = spec.pieces[index]
        units = first if origin < 0 else reached[origin]
        sources = units if piece.diagonal else rng.integers(spec.groups[piece.source].size, size=paths)
        path_edges = [none] * len(spec.pieces)
        positions = spec.data_positions(index)
        path_edges[index] = Edges(units, sources, positions[rng.integers(len(positions), size=paths)])
        grown |= mask_of(path_edges, spec)
        reached.append(sources)
    return grown


def _way(spec: MaskSpec, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return the pieces of a random way from the output back to the input.

    With each piece comes the index of the piece whose sources are its targets, −1 for the first one.
    """
    way: list[tuple[int, int]] = []
    alone = _reached(spec)
    fed = _reached(spec, alone)
    number = len(spec.nodes) - 1
    ends = [(number, int(rng.integers(len(spec.nodes[number].groups))), -1)]
    while ends:
        number, place, origin = ends.pop()
        node = spec.nodes[number]
        if node.operation == "linear":
            pieces = [i for i in spec.layer_pieces[node.layer] if spec.pieces[i].to == place]
            pieces = [i for i in pieces if fed[node.inputs[0]][spec.pieces[i].of]]
            if pieces:
                way.append((int(rng.choice(pieces)), origin))
                ends.append((node.inputs[0], spec.pieces[way[-1][0]].of, len(way) - 1))
        elif node.operation == "concatenate":
            for source in node.inputs:
                if place < len(spec.nodes[source].groups):
                    ends.append((source, place, origin))
                    break
                place -= len(spec.nodes[source].groups)
        elif node.operation == "select":
            ends.append((node.inputs[0], node.places[place], origin))
        elif sources := [source for source in node.inputs if fed[source][place]]:
            chosen = int(rng.choice(sources))
            ends.append((chosen, place, origin))
            if node.operation == "multiply":
                others = [s for s in node.inputs if s != chosen and not alone[s][place]]
                ends += [(source, place, origin) for source in others]
    return way


def _reached(spec: MaskSpec, alone: list[list[bool]] | None = None) -> list[list[bool]]:
    """Return for each group of each node's value whether inputs can reach it through some weights.

    Without ``alone``, return for each group whether it is non-zero without any weights.
    """
    values: list[list[bool]] = []
    for node in spec.nodes:
        inputs = [values[i] for i in node.inputs]
        value = [node.operation == "input"] * len(node.groups)
        if node.operation == "linear" and alone is None:
            value = [node.constant] * len(node.groups)
        elif node.operation == "linear":
            for index in spec.layer_pieces[node.layer]:
                value[spec.pieces[index].to] |= inputs[0][spec.pieces[index].of]
        elif node.operation == "concatenate":
            value = [part for whole in inputs for part in whole]
        elif node.operation == "select":
            value = [inputs[0][place] for place in node.places]
        elif alone is None and node.constant:
            value = [True] * len(node.groups)
        elif node.operation == "multiply":
            factors = (
                inputs
                if alone is None
                else [[a or b for a, b in zip(values[i], alone[i], strict=True)] for i in node.inputs]
            )
            value = [all(units) for units in zip(*factors, strict=True)]
        elif inputs:
            value = [any(units) for units in zip(*inputs, strict=True)]
        if node.operation == "multiply" and alone is not None:
            some = [any(group) for group in zip(*inputs, strict=True)]
            value = [a and b for a, b in zip(value, some, strict=True)]
        values.append(value)
    return values


def _prunable_tiers(
    child: Mask, grown: Mask, values: NDArray[np.float64], spec: MaskSpec, rng: np.random.Generator
) -> list[Indices]:
    """Return weight numbers by order of pruning: dead ones, redundant ones, last ones of a live unit."""
    live, _ = live_edges(child, spec, constants=False)
    numbers = weight_numbers(live, spec)
    first = np.cumsum([0, *(group.size for group in spec.groups)])
    sides = list(zip(live, spec.pieces, strict=True))
    rows = np.concatenate([edge.rows + first[piece.target] for edge, piece in sides])
    columns = np.concatenate([edge.columns + first[piece.source] for edge, piece in sides])
    # The last of several assignments stays: that of the largest value, ties at random.
    order = np.lexsort((rng.random(len(numbers)), values[numbers]))
    order = order[np.argsort(grown[numbers[order]], kind="stable")]  # grown weights stay
    held = np.zeros(spec.size, dtype=np.bool_)
    for ends in (rows, columns):
        best = np.full(first[-1], -1)
        best[ends[order]] = numbers[order]
        held[best[best >= 0]] = True
    living = np.zeros(spec.size, dtype=np.bool_)
    living[numbers] = True
    old = child & ~grown
    return [np.flatnonzero(part) for part in (old & ~living, old & living & ~held, old & living & held)]
