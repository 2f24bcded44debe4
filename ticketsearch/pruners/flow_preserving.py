"""Flow-preserving pruning: a search for the mask of a given count with the largest flow.

The commentary of Ross's notes asks for a loss that seeks to preserve the flow R and compares it with the
optimum. This pruner maximises the retention of :mod:`ticketsearch.pruners.retention`.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ticketsearch.checks import Count, check
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec, Piece, largest, live_units
from ticketsearch.models import Network
from ticketsearch.pruners.batching import Batch, Copies, Parts, one_cut
from ticketsearch.pruners.flow import Flow, FlowNetwork
from ticketsearch.pruners.iterative import DEFAULT_STEPS, scheduled_count
from ticketsearch.pruners.ties import tie_generator
from ticketsearch.typing import Floats, Indices

__all__ = [
    "ROUNDS",
    "TRIES",
    "FlowSearch",
    "flow_preserving",
    "flow_slopes",
    "log2_of",
    "log_flow",
    "unit_flows",
]


# Exponents p of the descents by the flow of |θ|^p: p below 1 gives the number of paths more weight. On small
# networks either of the two was the better start at times.
POWERS = (0.75, 1.0)
ROUNDS = 50
TRIES = 60
# Share of a group's live units that one try leaves out, and growth of the mask before it is cut again.
SHARES = (0.3, 0.1, 0.02)
GROWTH = 1.0


@one_cut
def flow_preserving(
    network: Network,
    mask: Parts,
    batch: Batch | None,
    *,
    rng: np.random.Generator,
    target: int,
    floor: int = 1,
    rounds: int = ROUNDS,
    tries: int = TRIES,
) -> Parts:
    """Return scores that keep the weights of largest flow, with live neurons in every layer.

    SynFlow removes the weights that carry least flow *now*, although most of the paths counted will be pruned
    later. This pruner searches for the mask of ``target`` weights with the largest R: it prunes in ``rounds``
    cuts by flow, leaves out the weakest neurons of a layer, adds weights to the others and prunes again, and
    swaps single weights, each as long as R grows. ``floor`` neurons of each hidden group stay live, through
    paths of their own. The chosen weights score above all others, so one step is enough. Data are not used.

    Parameters
    ----------
    target : weights to be kept in the end; given by the pruning loop.
    floor : the least number of live neurons in each hidden group (all of them in smaller groups).
    rounds : cuts of the greedy descent, and the most rounds of swaps.
    tries : number of attempts to leave out neurons.

    Raises :class:`BadInput` for a floor that needs more weights than ``target``.
    """
    for word, value, least in (("floor", floor, 0), ("rounds", rounds, 1), ("tries", tries, 0)):
        check(word, value, Count)
        if value < least:
            raise BadInput(f"{word} is an integer from {least} up, but got {value!r}")
    spec = network.spec
    if floor > (widest := max((group.size for group in spec.groups if group.kind == "hidden"), default=0)):
        raise BadInput(
            f"floor is at most the widest hidden layer, of {widest} neurons, but got {floor}; lower it"
        )
    allowed = np.concatenate([mask[layer.name].numpy().ravel() for layer in spec.layers])
    if np.count_nonzero(readable := spec.reading(allowed)) >= target:
        allowed = readable  # the others read padding alone
    chosen = FlowSearch(network, allowed, target, 0, rng).best(rounds, tries)
    if not _has_floor(chosen, spec, floor):  # only then must paths of less flow be kept
        chosen = FlowSearch(network, allowed, target, floor, rng).best(rounds, tries)
    scores = np.zeros(spec.size)
    kept = np.flatnonzero(allowed)
    scores[kept] = FlowNetwork(Copies([network]), [kept]).scores()[0]
    scores[chosen] += 2.0  # all scores are below 1
    return {name: torch.from_numpy(part) for name, part in spec.split(scores).items()}


def _has_floor(mask: Mask, spec: MaskSpec, floor: int) -> bool:
    """Return whether each hidden group has ``floor`` live units, or all that can be live."""
    alive, most = (live_units(m, spec, constants=False) for m in (mask, np.ones_like(mask)))
    names = [spec.groups[group].name for group in spec.hidden]
    return all(alive[name].sum() >= min(floor, most[name].sum()) for name in names)


class FlowSearch:
    """The search for the mask of largest flow within ``allowed``, of ``target`` weights, with a floor.

    Equal flows are ordered by lot, which ``rng`` and the network's initialization decide.
    """

    def __init__(
        self, network: Network, allowed: Mask, target: int, floor: int, rng: np.random.Generator
    ) -> None:
        self.network, self.allowed, self.target, self.floor = network, allowed, target, floor
        self.spec = network.spec
        self.lot = tie_generator(rng, network.initialization)
        self.backbone, self.spared = _backbone(network, allowed, floor, self.lot)
        if np.count_nonzero(self.backbone) > target:
            raise BadInput(
                f"floor={floor} live neurons a layer need {np.count_nonzero(self.backbone)} weights, but "
                f"{target} are kept; lower floor or raise the density"
            )

    def best(self, rounds: int, tries: int) -> Mask:
        """Return the best mask of the search."""
        candidates = [self._descended(self.allowed, rounds, power) for power in POWERS]
        candidates.append(self._descended(self.allowed, DEFAULT_STEPS))  # SynFlow itself
        mask = max(candidates, key=self._flow)
        return self._swapped(self._narrowed(mask, tries), rounds)

    def _flow(self, mask: Mask) -> float:
        return log_flow(self.network, mask)

    def _descended(self, allowed: Mask, rounds: int, power: float = 1.0) -> Mask:
        """Prune by the scores of the flow of |θ|^power in ``rounds`` cuts; the backbone is spared."""
        kept = np.flatnonzero(allowed)
        start = len(kept)
        flow = FlowNetwork(Copies([self.network]), [kept], power=power)
        for step in range(1, rounds + 1):
            scores = flow.scores()[0]
            scores[self.backbone[kept]] = np.inf
            count = scheduled_count(start, (self.target / start) ** (step / rounds))
            keep = largest(scores, max(self.target, count) if step < rounds else self.target, self.lot)
            flow.cut([keep])
            kept = kept[keep]
        mask = np.zeros_like(allowed)
        mask[kept] = True
        return mask

    def _narrowed(self, mask: Mask, tries: int) -> Mask:
        """Leave out the weakest units of one group after the other, as long as the flow then increases."""
        flow, left = self._flow(mask), tries
        improved = True
        while improved and left > 0:
            improved = False
            for group in self.spec.hidden:
                for share in SHARES:
                    allowed = self._without_weakest(mask, group, share)
                    if allowed is None or left == 0:
                        continue
                    left -= 1
                    changed = self._descended(self._grown(mask & allowed, allowed), 10)
                    if (reached := self._flow(changed)) > flow:
                        mask, flow, improved = changed, reached, True
                        break
        return mask

    def _without_weakest(self, mask: Mask, group: int, share: float) -> Mask | None:
        """Return ``allowed`` without a share of the group's live units; None where too few are live."""
        flows = unit_flows(self.network, mask)[group]
        flows[self.spared[group]] = np.inf
        units = np.flatnonzero(flows > 0)
        drop = max(1, int(share * len(units)))
        if len(units) - drop < max(1, self.floor):
            return None
        gone = np.setdiff1d(np.arange(len(flows)), units[_descending(flows[units], self.lot)][:-drop])
        allowed = self.allowed.copy()
        for piece in self.spec.pieces:
            window = self.spec.window(piece, allowed)
            if piece.target == group:
                window[gone] = False
            elif piece.source == group:
                columns = gone[:, None] * piece.block + np.arange(piece.block)
                window[:, columns.ravel()] = False
        return allowed | self.backbone

    def _grown(self, mask: Mask, allowed: Mask) -> Mask:
        """Return a mask with the pruned weights added that would carry most flow."""
        slopes = flow_slopes(self.network, mask)
        outside = np.flatnonzero(allowed & ~mask)
        count = int((1 + GROWTH) * self.target) - int(np.count_nonzero(mask))
        grown = mask.copy()
        grown[outside[largest(slopes[outside], count, self.lot)]] = True
        return grown

    def _swapped(self, mask: Mask, rounds: int) -> Mask:
        """Swap kept weights of little flow for pruned ones that would carry more, as long as R grows."""
        flow, swaps = self._flow(mask), max(1, self.target // 4)
        for _ in range(rounds):
            slopes = flow_slopes(self.network, mask)
            inside = np.flatnonzero(mask & ~self.backbone)
            outside = np.flatnonzero(self.allowed & ~mask)
            count = min(swaps, len(inside), len(outside))
            leave = inside[_descending(-slopes[inside], self.lot)[:count]]
            enter = outside[_descending(slopes[outside], self.lot)[:count]]
            better = slopes[enter] > slopes[leave]
            changed = mask.copy()
            changed[leave[better]] = False
            changed[enter[better]] = True
            reached = self._flow(changed)
            if reached > flow + 1e-12:
                mask, flow = changed, reached
            elif swaps == 1:
                break
            else:
                swaps //= 2
        return mask


def flow_slopes(network: Network, mask: Mask) -> Floats:
    """Return |θ| ∂R/∂|θ| of all weights at a mask: the flow that a kept one carries or a pruned one would."""
    flow = FlowNetwork(Copies([network]), [np.flatnonzero(mask)], slopes=True)
    scored = flow.layer_scores()
    tops = [int(e[0]) + math.frexp(float(s.max()))[1] for s, e in scored if len(s) and s.max() > 0]
    top = max(tops, default=0)
    return np.concatenate([np.ldexp(s, int(max(e[0] - top, -2000))) for s, e in scored])


def unit_flows(network: Network, mask: Mask) -> list[Floats]:
    """Return for each group ``(units,)`` the share of all flow that enters each unit through kept weights."""
    spec = network.spec
    scores = np.zeros(spec.size)
    kept = np.flatnonzero(mask)
    scores[kept] = FlowNetwork(Copies([network]), [kept]).scores()[0]
    flows = [np.zeros(group.size) for group in spec.groups]
    for piece in spec.pieces:
        if not piece.diagonal:
            flows[piece.target] += spec.part(piece, scores).sum((1, 2))
    return flows


def _descending(values: Floats, lot: np.random.Generator) -> Indices:
    """Return the order of ``(n,)`` values from the largest down, equals by lot."""
    return np.lexsort((lot.random(len(values)), -values))


def _backbone(
    network: Network, allowed: Mask, floor: int, lot: np.random.Generator
) -> tuple[Mask, list[Indices]]:
    """Return the weights that keep ``floor`` units of each hidden group live, and those units.

    The units are those of largest flow. Each keeps its best weight from a chosen unit in the first layer that
    feeds its group, and its best weight to a chosen unit in the last layer that reads it. These weights form
    paths from the inputs to the outputs, since the first layer of a group reads groups of earlier layers.
    """
    spec = network.spec
    backbone = np.zeros_like(allowed)
    chosen = [
        _descending(flows, lot)[: floor if group.kind == "hidden" else None]
        for group, flows in zip(spec.groups, unit_flows(network, allowed), strict=True)
    ]
    kept = np.flatnonzero(allowed)
    scores = np.full(spec.size, -1.0)
    scores[kept] = FlowNetwork(Copies([network]), [kept]).scores()[0]
    for group in spec.hidden:
        writers = [p for p in spec.pieces if p.target == group and p.source != group]
        readers = [p for p in spec.pieces if p.source == group and p.target != group]
        diagonal = [p for p in spec.pieces if p.diagonal and p.target == group]
        if not writers or not readers:  # zeros beside other units, or a slice that nothing reads
            continue
        for piece in (writers[0], *diagonal):
            _keep_best(backbone, spec, piece, scores, chosen[group], chosen[piece.source], lot, rows=True)
        ends = chosen[group], chosen[readers[-1].target]
        _keep_best(backbone, spec, readers[-1], scores, *ends, lot, rows=False)
    return backbone, chosen


def _keep_best(
    backbone: Mask,
    spec: MaskSpec,
    piece: Piece,
    scores: Floats,
    units: Indices,
    others: Indices,
    lot: np.random.Generator,
    *,
    rows: bool,
) -> None:
    """Keep each unit's best weight of a piece that joins it to one of the ``others``."""
    numbers = spec.part(piece, np.arange(spec.size))
    for unit in units:
        if piece.diagonal:
            candidates = numbers[unit]
        else:
            candidates = numbers[unit][others] if rows else numbers[others, unit]
        if candidates.size and scores[candidates].max() > 0:
            backbone[candidates.ravel()[largest(scores[candidates].ravel(), 1, lot)]] = True


def log_flow(network: Network, mask: Mask) -> float:
    """Return log2 of R, the flow of a ``(weights,)`` mask; −inf where nothing flows."""
    return log2_of(FlowNetwork(Copies([network]), [np.flatnonzero(mask)]).flow())


def log2_of(flow: Flow) -> float:
    """Return log2 of the flow of the first copy."""
    mantissa = float(flow.mantissa[0])
    return math.log2(mantissa) + int(flow.exponent[0]) if mantissa > 0 else -math.inf
