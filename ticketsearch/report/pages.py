"""Parts of all pages: colours for light and dark, figures as inline SVG, and the filling of templates."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from ticketsearch.storage import write_atomically
from ticketsearch.typing import Floats

__all__ = [
    "BAND",
    "BLUE",
    "DRAWN",
    "GREY",
    "HEAT",
    "INK",
    "ORANGE",
    "PAPER",
    "PURPLE",
    "TEAL",
    "WASH",
    "Picture",
    "filled",
    "picture",
    "segments",
    "with_code",
    "write_page",
]

# Each colour on light and on dark. Figures are drawn with the first; in the page it is a CSS variable.
THEME = {
    "ink": ("#1c1c1c", "#e8e8e8"),
    "paper": ("#ffffff", "#161616"),
    "grey": ("#6e6e6e", "#a3a3a3"),
    "line": ("#e4e4e4", "#383838"),
    "band": ("#f1f1f1", "#262626"),
    "blue": ("#1b6ca8", "#62b2ea"),
    "orange": ("#c8501e", "#f28b5b"),
    "teal": ("#0f7f74", "#48c4b2"),
    "purple": ("#7b4fb5", "#b99af0"),
}
INK, PAPER, GREY, LINE, BAND, BLUE, ORANGE, TEAL, PURPLE = (light for light, _ in THEME.values())
# From nothing to blue: scales on light and on dark, as the page shows through; WASH under text too.
HEAT, WASH = (
    LinearSegmentedColormap.from_list("blue", [(0.2, 0.54, 0.79, 0), (0.2, 0.54, 0.79, most)])
    for most in (1, 0.75)
)

STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "legend.frameon": False,
    "axes.unicode_minus": True,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text stays text: searchable, and in the page's own font
}
# Larger values, of a user's own fitness, are left out of figures: the span of an axis is a number too.
DRAWN = 1e100
Draw = Callable[[Figure], None]


class Picture(NamedTuple):
    """A figure of a page: its id, title, panels as SVG, and caption."""

    name: str
    title: str
    panels: tuple[Markup, ...]
    caption: str = ""
    wide: bool = False


def picture(
    name: str,
    title: str,
    draw: Draw | Mapping[str, Draw],
    height: float = 2.9,
    width: float = 4.6,
    *,
    caption: str = "",
    wide: bool = False,
) -> Picture:
    """Return a figure as inline SVG, ``height`` by ``width`` inches at the size of the page's own text.

    Several drawings, ``{label: draw}``, stand side by side where the page has room for them. A wide figure
    has the page's whole width.
    """
    draws = draw if isinstance(draw, Mapping) else {"": draw}
    panels = []
    for number, (label, draw_panel) in enumerate(draws.items()):
        whole_label = f"{title}: {label}" if label else title
        panels.append(_svg(f"{name}{number or ''}", whole_label, draw_panel, height, width))
    return Picture(name, title, tuple(panels), caption, wide)


def _svg(name: str, label: str, draw: Draw, height: float, width: float) -> Markup:
    """Return a drawing as inline SVG; ids are salted by name, as all figures share one page."""
    style: dict[Any, Any] = {**STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height))
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", dpi=200, transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', _opening(label, width), svg, count=1)
    svg = re.sub(r'(?<= )(d|x|y)="[^"]*"', _rounded, svg)
    for variable, (colour, _) in THEME.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return Markup(svg)


def _opening(title: str, width: float) -> str:
    """Return the opening tag, as a replacement; at full width, text is a little smaller than the page's."""
    label = str(Markup.escape(title)).replace("\\", r"\\")
    return r'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ' + (
        rf'viewBox="\1" style="max-width: {7 * width:g}rem" role="img" aria-label="{label}">'
    )


def _rounded(attribute: re.Match[str]) -> str:
    """Round coordinates to a hundredth of a point, which no eye sees and which halves the file."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def with_code(text: str) -> Markup:
    """Return text as HTML in which commands between backticks are code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(Markup.escape(text))))


def segments(ends: Floats, colour: str, width: float, opacity: float) -> PathPatch:
    """Return the lines between ``(lines, 2, 2)`` ends as one path: a few bytes each, of any number."""
    path = Curve(ends.reshape(-1, 2), np.tile([Curve.MOVETO, Curve.LINETO], len(ends)))
    path.should_simplify = False
    return PathPatch(path, fill=False, edgecolor=colour, linewidth=width, alpha=opacity, clip_on=False)


def filled(template: str, **values: Any) -> str:
    """Return a template of :mod:`ticketsearch.report` with its values."""
    environment = Environment(
        loader=PackageLoader("ticketsearch.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(theme=THEME, **values)


def write_page(template: str, path: Path, **values: Any) -> Path:
    """Fill a template of :mod:`ticketsearch.report`, write the page as a whole, and return its path."""
    write_atomically(path, filled(template, **values))
    return path
