"""The layer table of a mask as text, and as plain values for JSON."""

from __future__ import annotations

import math
from typing import Any

from ticketsearch.report.text.table import table_lines
from ticketsearch.theory import LayerRow, MaskTable

__all__ = ["mask_content", "mask_lines"]


def mask_lines(table: MaskTable, requested: float) -> list[str]:
    """Return the layer table of a mask as text, with the density that was requested."""
    total = table.total
    headings = ("layer", "weights", "kept", "density", "effective", "live neurons", "flow share")
    rows = [_cells(row) for row in (*table.layers, total)]
    empty = f"{len(table.empty)} of {len(table.layers)} layers are empty: {', '.join(table.empty)}"
    ratio = f"compression ratio ρ = {total.weights / total.kept:.4g}"
    return [
        *table_lines(headings, rows),
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
    retention = table.retention
    if retention is None:
        return "- (needs a search for R*: --retention)" if table.searchable else "- (the flow is not known)"
    if retention.flow == -math.inf:
        return "0 (exact: no flow)"
    value = f"{retention.value:.4g}"
    return {
        "exact": f"{value} (exact)",
        "bound": f"at least {value} (bound: R* is at most the capacity of the cuts)",
        "search": f"at most {value} (search: R* is the best flow found)",
    }[retention.kind]


def mask_content(table: MaskTable) -> dict[str, Any]:
    """Return the layer table as plain values for JSON; unknown and infinite values are None."""
    total, retention = table.total, table.retention
    return {
        "weights": total.weights,
        "kept": total.kept,
        "density": total.density,
        "compression": total.weights / total.kept,
        "effective_density": total.effective_density,
        "live_neurons": total.live,
        "neurons": total.neurons,
        "flow_retention": None
        if retention is None
        else {
            "value": retention.value,
            "kind": retention.kind,
            "log2_flow": _finite(retention.flow),
            "log2_best_flow": _finite(retention.optimum),
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
