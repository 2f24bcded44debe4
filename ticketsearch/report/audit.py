"""The page of an audit: its tables, and the density of each layer against compression, a panel a pruner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

from ticketsearch.masks import MaskSpec
from ticketsearch.models import Initialization
from ticketsearch.report.pages import BAND, GREY, ORANGE, picture, write_page
from ticketsearch.report.text import audit_rows, collapse_rows, compression
from ticketsearch.settings import Settings
from ticketsearch.theory import MethodAudit, rho_max
from ticketsearch.typing import Floats

__all__ = ["AuditPage", "DensityCurve", "density_curve", "write_audit"]

# The most layers that the legend names one by one.
NAMED = 40
# Colours by depth: of middle luminance, at least 3 to 1 against both white and near black.
DEPTH = LinearSegmentedColormap.from_list("depth", ["#2478d0", "#8a5ad0", "#d0447f", "#d2641a"])


@dataclass(frozen=True, eq=False)
class AuditPage:
    """The content of an audit's page: the settings and network audited, and the audits of all pruners."""

    settings: Settings
    spec: MaskSpec
    initialization: Initialization
    audits: Sequence[MethodAudit]
    environment: Mapping[str, str]


class DensityCurve(NamedTuple):
    """The panel of one pruner.

    Attributes
    ----------
    compression : (points,) ρ, ascending from 1.
    density : (points, layers) kept / total of each layer, with ``floor`` in place of 0.
    floor : a density below all positive ones.
    collapse : the first compression drawn with a layer empty; infinite if there is none.
    """

    compression: Floats
    density: Floats
    floor: float
    collapse: float


def density_curve(audit: MethodAudit, floor: float) -> DensityCurve:
    """Return the panel of a pruner's audit."""
    curve = audit.curve
    shown = np.where(curve.density > 0, curve.density, floor)
    return DensityCurve(curve.compression, shown, floor, curve.collapse)


def write_audit(page: AuditPage, path: Path) -> Path:
    """Write the page of an audit and return its path."""
    spec = page.spec
    colours = layer_colours(len(spec.layers))
    # Below one weight of the largest layer, so that an empty layer is a line of its own.
    floor = 0.15 / max(layer.size for layer in spec.layers)
    figures = []
    for number, audit in enumerate(page.audits):
        draw = partial(_draw, curve=density_curve(audit, floor), most=rho_max(spec), colours=colours)
        figures.append(picture(f"panel{number}", audit.method, draw, 2.7, 3.5))
    marks, collapses = collapse_rows(page.audits)
    return write_page(
        "audit.html",
        path,
        page=page,
        data=page.settings.data.name.rpartition("/")[2],
        model=page.settings.model.name.rpartition("/")[2],
        rows=audit_rows(page.audits),
        inexact=any(not audit.critical.exact for audit in page.audits),
        signed=any(audit.signed is not None for audit in page.audits),
        marks=marks,
        collapses=collapses,
        empty={audit.method: last_names(audit) for audit in page.audits},
        rho_max=compression(rho_max(spec)),
        figures=figures,
        legend=list(zip([layer.name for layer in spec.layers], colours, strict=True)),
        named=len(spec.layers) <= NAMED,
    )


def last_names(audit: MethodAudit) -> tuple[str, ...]:
    """Return the names of the layers that are empty at the largest compression, ρ_max."""
    return audit.empty[max(audit.empty)]


def layer_colours(count: int) -> list[str]:
    """Return a colour for each layer, in depth order from blue to orange, all legible on light and dark."""
    return [to_hex(shade) for shade in DEPTH(np.linspace(0, 1, count))]


def _draw(figure: Figure, curve: DensityCurve, most: float, colours: Sequence[str]) -> None:
    """Draw a line a layer; an empty layer lies on the floor, with a note on the collapse below it."""
    axes = figure.subplots()
    bottom = curve.floor / 10
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(1, most * 1.5)
    axes.set_ylim(bottom, 1.8)
    axes.axhspan(bottom, curve.floor * 10**0.2, color=BAND, linewidth=0)
    for layer, colour in zip(curve.density.T, colours, strict=True):
        axes.plot(curve.compression, layer, color=colour, linewidth=1.4)
    axes.axvline(most, color=GREY, linewidth=1, linestyle=":")
    axes.text(most, 1.01, "ρₘₐₓ", ha="center", color=GREY, transform=axes.get_xaxis_transform())
    if math.isfinite(curve.collapse):
        axes.axvline(curve.collapse, color=ORANGE, linewidth=1, linestyle="--")
        _note_collapse(axes, curve, left=curve.collapse > math.sqrt(most))
    _ticks(axes, most, curve.floor)
    axes.set_xlabel("compression ratio ρ")
    axes.set_ylabel("density of a layer")


def _note_collapse(axes: Axes, curve: DensityCurve, *, left: bool) -> None:
    """Write beside the line of the collapse, below the floor, where no curve runs."""
    axes.annotate(
        f"layer empty at ρ = {compression(curve.collapse)}",
        (curve.collapse, curve.floor / 10**0.55),
        xytext=(-3 if left else 3, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        color=ORANGE,
        fontsize=8.5,
    )


def _ticks(axes: Axes, most: float, floor: float) -> None:
    """Put ticks at powers of ten, every second one where they are many, and 0 at the floor."""
    powers = range(math.floor(math.log10(most)) + 1)
    across = [10.0**power for power in powers[:: 2 if len(powers) > 5 else 1]]
    decades = range(math.ceil(math.log10(floor) + 0.5), 1)
    step = 2 if len(decades) > 5 else 1
    up = [10.0**power for power in decades if power % step == 0]
    for axis, places, names in (
        (axes.xaxis, across, [_power(place) for place in across]),
        (axes.yaxis, [floor, *up], ["0", *(_power(place) for place in up)]),
    ):
        axis.set_major_locator(FixedLocator(places))
        axis.set_major_formatter(FixedFormatter(names))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    """Return a power of ten as text: plain from 0.01 to 10,000."""
    power = round(math.log10(value))
    if -2 <= power <= 4:
        return f"{value:,.0f}" if power >= 0 else f"{value:g}"
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
