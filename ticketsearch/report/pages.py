"""What the pages share: how a figure becomes inline SVG, and a template a file."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["BLUE", "GREY", "ORANGE", "Picture", "picture", "write_page"]

STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text stays text: searchable, and in the page's own font
}
BLUE, ORANGE, GREY = "#1b6ca8", "#c8501e", "#8a8a8a"


class Picture(NamedTuple):
    """A figure of a page: its id there, its title, and what is drawn."""

    name: str
    title: str
    svg: Markup


def picture(
    name: str, title: str, draw: Callable[[Axes], None], height: float = 2.9, width: float = 4.6
) -> Picture:
    """Return a figure as inline SVG; ids are salted by name, as all figures share one page."""
    style: dict[Any, Any] = {**STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height))
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', _opening(title), svg, count=1)
    return Picture(name, title, Markup(svg))


def _opening(title: str) -> str:
    label = str(Markup.escape(title)).replace("\\", r"\\")
    return r'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ' + (
        rf'viewBox="\1" role="img" aria-label="{label}">'
    )


def write_page(template: str, path: Path, **values: Any) -> Path:
    """Fill a template of the package and write it as a whole; return the path."""
    environment = Environment(
        loader=PackageLoader("ticketsearch"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(**values)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path
