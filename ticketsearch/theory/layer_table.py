"""The layer table of a mask: kept and effective weights, live neurons, flow share and flow retention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Mask, MaskSpec, layer_counts, live, live_units
from ticketsearch.models import Network
from ticketsearch.pruners import Copies, FlowNetwork, Retention, flow_retention, retention_kind
from ticketsearch.theory.compression import collapsed, disconnected

__all__ = ["LayerRow", "MaskTable", "mask_table"]


class LayerRow(NamedTuple):
    """The kept weights and live neurons of one layer under a mask, or of all layers.

    Attributes
    ----------
    name : of the layer.
    weights, kept, effective : number of weights, of kept ones, and of kept ones on an input-to-output path.
    live, neurons : number of neurons on such a path, and of all, in the groups that the layer feeds.
    flow_share : share of the layer's SynFlow scores in the dense network that its kept weights have; None
        if the flow is unknown.
    """

    name: str
    weights: int
    kept: int
    effective: int
    live: int
    neurons: int
    flow_share: float | None

    @property
    def density(self) -> float:
        """Kept / all weights."""
        return self.kept / self.weights

    @property
    def effective_density(self) -> float:
        """Effective / all weights."""
        return self.effective / self.weights


@dataclass(frozen=True)
class MaskTable:
    """The layer table of a mask.

    Attributes
    ----------
    layers, total : a row each; the total counts each neuron once and has no flow share.
    empty : names of the layers without a kept weight: layer collapse.
    disconnected : whether no kept path leads from an input to an output.
    retention : the flow retention; None if the flow is unknown, or R* was not searched for.
    searchable : whether a search would find it.
    """

    layers: tuple[LayerRow, ...]
    total: LayerRow
    empty: tuple[str, ...]
    disconnected: bool
    retention: Retention | None
    searchable: bool


def mask_table(mask: Mask, network: Network, *, search: bool = False) -> MaskTable:
    """Return the layer table of a ``(weights,)`` mask.

    With ``search`` it has the flow retention also where the best flow must be searched for, which takes
    seconds.
    """
    spec = network.spec
    kept, effective = layer_counts(mask, spec), layer_counts(live(mask, spec, constants=False), spec)
    alive = [int(units.sum()) for units in live_units(mask, spec, constants=False).values()]
    shares = _flow_shares(mask, network)
    rows, fed = [], set()
    for index, layer in enumerate(spec.layers):
        groups = {spec.pieces[piece].target for piece in spec.layer_pieces[index]}
        fed |= groups
        counts = int(kept[index]), int(effective[index]), *_neurons(groups, alive, spec)
        rows.append(LayerRow(layer.name, layer.size, *counts, shares[index]))
    whole = int(kept.sum()), int(effective.sum()), *_neurons(fed, alive, spec)
    known = bool(network.wiring.steps)
    searchable = known and retention_kind(network) == "search"
    return MaskTable(
        tuple(rows),
        LayerRow("total", spec.size, *whole, None),
        tuple(collapsed(mask, spec)),
        disconnected(mask, spec),
        flow_retention(mask, network) if known and (search or not searchable) else None,
        searchable,
    )


def _neurons(groups: set[int], alive: Sequence[int], spec: MaskSpec) -> tuple[int, int]:
    return sum(alive[group] for group in groups), sum(spec.groups[group].size for group in groups)


def _flow_shares(mask: Mask, network: Network) -> list[float | None]:
    if not network.wiring.steps:
        return [None] * len(network.spec.layers)
    dense = FlowNetwork(Copies([network]), [np.arange(network.spec.size)]).layer_scores()
    return [
        _share(scores, mask[layer.slice])
        for layer, (scores, _) in zip(network.spec.layers, dense, strict=True)
    ]


def _share(scores: NDArray[np.float64], kept: Mask) -> float | None:
    whole = float(scores.sum())
    return float(scores[kept].sum()) / whole if whole > 0 else None
