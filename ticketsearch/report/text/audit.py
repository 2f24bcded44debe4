"""An audit of pruners as text: conservation, critical compression, and empty layers on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ticketsearch.report.text.table import table_lines
from ticketsearch.theory import Conservation, MethodAudit

__all__ = ["AuditRow", "audit_lines", "audit_rows", "collapse_rows", "compression"]


class AuditRow(NamedTuple):
    """One row of an audit's first table, as text; ``-`` where a column does not apply."""

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
    for audit in audits:
        critical = audit.critical
        ratio = "-" if audit.prune_to_cut is None else f"{audit.prune_to_cut:.3g}"
        rows.append(
            AuditRow(
                audit.method,
                *_violations(audit.used),
                f"{'' if critical.exact else '≥ '}{compression(critical.rho)}",
                compression(critical.rho_max),
                "holds" if critical.holds else "fails",
                ratio,
            )
        )
        if audit.signed is not None:
            rows.append(AuditRow(f"{audit.method}, signed", *_violations(audit.signed), "-", "-", "-", "-"))
    return rows


def _violations(conservation: Conservation) -> tuple[str, str]:
    return (
        _violation(conservation.neuron, conservation.neurons),
        _violation(conservation.network, conservation.cuts),
    )


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
        (audit.method, [(len(audit.empty[rho]), rho in audit.disconnected) for rho in marks])
        for audit in audits
    ]
    return [compression(rho) for rho in marks], rows


def audit_lines(audits: Sequence[MethodAudit]) -> list[str]:
    """Return both tables of an audit as text, each below a legend of its columns."""
    marks, rows = collapse_rows(audits)
    cells = [(name, *(f"{n}{' d' if cut else ''}" for n, cut in row)) for name, row in rows]
    headings = ("pruner", "neuron", "network", "ρ_cr", "ρ_max", "axiom", "prune/cut")
    return [
        "Largest relative violation of conservation, neuron-wise and network-wise (0 is exact); critical",
        "compression; largest prune size / cut size on the way to ρ_max (theorem 3 wants < 1):",
        *table_lines(headings, audit_rows(audits)),
        "Empty layers at compression ρ, the last ρ_max (d: disconnected, no path from inputs to outputs):",
        *table_lines(("pruner", *marks), cells),
    ]
