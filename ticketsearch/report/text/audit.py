"""What pruning came to, layer by layer, and what an audit found: as rows, as lines of text, and for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Mask, MaskSpec, layer_counts, live, live_units
from ticketsearch.models import Network
from ticketsearch.pruners import Copies
from ticketsearch.pruners.flow import FlowNetwork
from ticketsearch.pruners.retention import Retention, flow_retention, retention_kind
from ticketsearch.theory import Conservation, MethodAudit, collapsed, disconnected

__all__ = [
    "AuditRow",
    "LayerRow",
    "MaskTable",
    "audit_lines",
    "audit_rows",
    "collapse_rows",
    "mask_content",
    "mask_lines",
    "mask_table",
]


class LayerRow(NamedTuple):
    """What a mask leaves of one layer, or of all of them.

    Attributes
    ----------
    name : of the layer.
    weights, kept, effective : all weights, those kept, and those kept that lie on an input-to-output path.
    live, neurons : of the groups that the layer feeds, the neurons on such a path, and all.
    flow_share : the share of the dense network's SynFlow scores in this layer that its kept weights have;
        None where the flow is not known.
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
    """What a mask leaves of a network.

    Attributes
    ----------
    layers, total : a row each; the total counts each neuron once and has no flow share.
    empty : names of the layers without a kept weight: layer collapse.
    disconnected : whether no kept path leads from an input to an output.
    retention : the flow retention; None where the flow is not known, or R* was not searched for.
    searchable : whether a search would tell it.
    """

    layers: tuple[LayerRow, ...]
    total: LayerRow
    empty: tuple[str, ...]
    disconnected: bool
    retention: Retention | None
    searchable: bool


def mask_table(mask: Mask, network: Network, *, search: bool = False) -> MaskTable:
    """Return what a ``(weights,)`` mask leaves of a network.

    ``search`` tells the flow retention also where the best flow must be searched for, which takes seconds.
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


def mask_lines(table: MaskTable, requested: float) -> list[str]:
    """Return the table as text; ``requested`` is the density that was asked for."""
    total = table.total
    headings = ("layer", "weights", "kept", "density", "effective", "live neurons", "flow share")
    rows = [_cells(row) for row in (*table.layers, total)]
    empty = f"{len(table.empty)} of {len(table.layers)} layers are empty: {', '.join(table.empty)}"
    ratio = f"compression ratio ρ = {total.weights / total.kept:.4g}"
    return [
        *aligned(headings, rows),
        f"Density: {requested:.6g} requested, {total.density:.6g} achieved ({total.kept:,} of "
        f"{total.weights:,} weights), {ratio}",
        f"Effective density: {total.effective_density:.6g} (weights on a path from an input to an output)",
        f"Flow retention R/R*: {_retention(table)}",
        f"Layer collapse: {empty if table.empty else 'none, every layer keeps a weight'}",
        "Disconnected: "
        + (
            "yes, no kept path leads from an input to an output"
            if table.disconnected
            else "no, kept paths lead from inputs to outputs"
        ),
    ]


def _cells(row: LayerRow) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.weights:,}",
        f"{row.kept:,}",
        f"{row.density:.4g}",
        f"{row.effective_density:.4g}",
        f"{row.live:,}/{row.neurons:,}",
        "-" if row.flow_share is None else f"{row.flow_share:.3g}",
    )


def _retention(table: MaskTable) -> str:
    found = table.retention
    if found is None:
        return "- (needs a search for R*: --retention)" if table.searchable else "- (the flow is not known)"
    if found.flow == -math.inf:
        return "0 (exact: nothing flows)"
    number = f"{found.value:.4g}"
    return {
        "exact": f"{number} (exact)",
        "bound": f"at least {number} (bound: R* is at most what the cuts let through)",
        "search": f"at most {number} (search: R* is the best flow that was found)",
    }[found.kind]


def mask_content(table: MaskTable) -> dict[str, Any]:
    """Return the table as plain values for JSON; what is not known or not finite is None."""
    total, found = table.total, table.retention
    return {
        "weights": total.weights,
        "kept": total.kept,
        "density": total.density,
        "compression": total.weights / total.kept,
        "effective_density": total.effective_density,
        "live_neurons": total.live,
        "neurons": total.neurons,
        "flow_retention": None
        if found is None
        else {
            "value": found.value,
            "kind": found.kind,
            "log2_flow": _finite(found.flow),
            "log2_best_flow": _finite(found.optimum),
        },
        "empty_layers": list(table.empty),
        "disconnected": table.disconnected,
        "layers": [
            {
                "name": row.name,
                "weights": row.weights,
                "kept": row.kept,
                "density": row.density,
                "effective_density": row.effective_density,
                "live_neurons": row.live,
                "neurons": row.neurons,
                "flow_share": row.flow_share,
            }
            for row in table.layers
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class AuditRow(NamedTuple):
    """One row of an audit's first table, as text; ``-`` is what does not apply."""

    pruner: str
    neuron: str
    network: str
    critical: str
    most: str
    axiom: str
    prune_to_cut: str


def audit_rows(audits: Iterable[MethodAudit]) -> list[AuditRow]:
    """Return the first table: conservation, critical compression and theorem 3 of each pruner."""
    rows = []
    for found in audits:
        critical = found.critical
        ratio = "-" if found.prune_to_cut is None else f"{found.prune_to_cut:.3g}"
        rows.append(
            AuditRow(
                found.method,
                *_violations(found.used),
                f"{'' if critical.exact else '≥ '}{compression(critical.rho)}",
                compression(critical.rho_max),
                "holds" if critical.holds else "fails",
                ratio,
            )
        )
        if found.signed is not None:
            rows.append(AuditRow(f"{found.method}, signed", *_violations(found.signed), "-", "-", "-", "-"))
    return rows


def _violations(found: Conservation) -> tuple[str, str]:
    return _violation(found.neuron, found.neurons), _violation(found.network, found.cuts)


def _violation(value: float, places: int) -> str:
    if not places:
        return "-"
    return f"{value:.2g}" if value == 0 or value >= 0.01 else f"{value:.1e}"


def compression(rho: float) -> str:
    """Return a compression ratio as text, whole from 100 up."""
    return f"{rho:,.0f}" if rho >= 100 else f"{rho:.3g}"


def collapse_rows(
    audits: Sequence[MethodAudit],
) -> tuple[list[str], list[tuple[str, list[tuple[int, bool]]]]]:
    """Return the second table: compressions, and each pruner's (empty layers, whether disconnected) there."""
    marks = list(audits[0].empty) if audits else []
    rows = [
        (found.method, [(len(found.empty[rho]), rho in found.disconnected) for rho in marks])
        for found in audits
    ]
    return [compression(rho) for rho in marks], rows


def audit_lines(audits: Sequence[MethodAudit]) -> list[str]:
    """Return both tables of an audit as text, with what their cells mean."""
    marks, rows = collapse_rows(audits)
    cells = [(name, *(f"{n}{' d' if cut else ''}" for n, cut in row)) for name, row in rows]
    headings = ("pruner", "neuron", "network", "ρ_cr", "ρ_max", "axiom", "prune/cut")
    return [
        "Largest relative violation of conservation, neuron-wise and network-wise (0 is exact); critical",
        "compression; largest prune size / cut size on the way to ρ_max (theorem 3 wants < 1):",
        *aligned(headings, audit_rows(audits)),
        "Empty layers at compression ρ, the last ρ_max (d: disconnected, no path from inputs to outputs):",
        *aligned(("pruner", *marks), cells),
    ]


def aligned(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as lines, its first column to the left and the others to the right."""
    table = [tuple(headings), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    return [
        "  "
        + "  ".join(
            f"{cell:{width}}" if column == 0 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
