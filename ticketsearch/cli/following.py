"""Progress of long work in steps, with the time left: bars on a terminal, lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

if TYPE_CHECKING:
    from ticketsearch.workers import Step

__all__ = ["follow"]

# Seconds between two lines of progress without a terminal; at most FEW steps have a line each.
EVERY, FEW = 30.0, 50


def follow(steps: Iterable[Step]) -> None:
    """Do the steps, and show on stderr how many are done and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
    )
    console, clock = Console(stderr=True), _Clock()
    said = 0.0
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        bars: dict[str, TaskID] = {}
        for step in steps:
            left = clock.left(step)
            if step.what not in bars:
                bars[step.what] = shown.add_task(step.what, total=step.total, left="")
                said = 0.0
            shown.update(bars[step.what], completed=step.done, left=left)
            now = time.monotonic()
            if not console.is_terminal and (
                not said or now - said >= EVERY or not FEW < step.total > step.done
            ):
                said = now
                line = f"{step.what}: {step.done:,} of {step.total:,}"
                print(line + (f", {left}" if left else ""), file=sys.stderr, flush=True)


class _Clock:
    """Estimate of the time left, from all steps of one kind since the first.

    Steps of an earlier start took no time now, and steps that run side by side may end together.
    """

    def __init__(self) -> None:
        self.what, self.first = "", 0
        self.began = self.last = time.monotonic()

    def left(self, step: Step) -> str:
        """Return the time left after a step as text, an empty one after the last step."""
        if step.what != self.what:
            self.what, self.began, self.first = step.what, self.last, step.done - 1
        self.last = time.monotonic()
        seconds = (self.last - self.began) / (step.done - self.first) * (step.total - step.done)
        return f"{timedelta(seconds=round(seconds))} left" if step.done < step.total else ""
