"""Fan-in and fan-out profiles: how the kept weights are spread over the units of each hidden group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ticketsearch.report.pages import GREY, ORANGE
from ticketsearch.typing import Integers

__all__ = ["Profile", "draw_profiles", "drawn", "profiles"]

# The most groups drawn.
PANELS = 6


class Profile(NamedTuple):
    """The kept weights into and out of each unit of one hidden group, each ``(masks, units)``, descending."""

    group: str
    fan_in: Integers
    fan_out: Integers


def profiles(degrees: Mapping[str, Integers]) -> list[Profile]:
    """Return the profiles of a study's ``{"<hidden group> in", "<hidden group> out": (masks, units)}``."""
    groups = [name.removesuffix(" in") for name in degrees if name.endswith(" in")]
    return [Profile(group, degrees[f"{group} in"], degrees[f"{group} out"]) for group in groups]


def drawn(groups: list[Profile]) -> list[Profile]:
    """Return the profiles to draw: all, or of many groups an even choice with the first and last."""
    chosen = np.unique(np.linspace(0, len(groups) - 1, min(PANELS, len(groups))).round().astype(int))
    return [groups[i] for i in chosen]


def draw_profiles(figure: Figure, groups: list[Profile], highlighted: bool) -> None:
    """Draw a row a group, fan-in beside fan-out, a line a mask; the last may be highlighted."""
    panels = figure.subplots(len(groups), 2, squeeze=False)
    for row, profile in zip(panels, groups, strict=True):
        for axes, degrees, name in zip(row, profile[1:], ("fan-in", "fan-out"), strict=True):
            for index, line in enumerate(degrees):
                last = highlighted and index == len(degrees) - 1
                axes.plot(
                    np.arange(1, len(line) + 1),
                    line,
                    color=ORANGE if last else GREY,
                    linewidth=1.6 if last else 0.9,
                    alpha=1 if last else 0.7,
                    drawstyle="steps-mid",
                )
            axes.set_title(f"{profile.group}: {name}")
            axes.set_xlim(1, max(2, min(degrees.shape[1], 1.1 * np.count_nonzero(degrees.any(axis=0)))))
            axes.set_ylim(0, max(1, degrees.max()) * 1.05)
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    figure.supxlabel("units, in order of their weights", fontsize=9)
    figure.supylabel("kept weights of a unit", fontsize=9)
