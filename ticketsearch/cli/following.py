"""How far long work in steps is, and the time left: bars on a terminal, a line now and then elsewhere."""

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

# Seconds between two lines of progress where there is no terminal, unless all in all there are few.
EVERY, FEW = 30.0, 50


def follow(steps: Iterable[Step]) -> None:
    """Show on stderr how far the work is, and the time left of what is being done."""
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
    """Tells the time left of what is being done, by all that was done of it since it began.

    What was there before took no time now; what works side by side may end together.
    """

    def __init__(self) -> None:
        self.what, self.first = "", 0
        self.began = self.last = time.monotonic()

    def left(self, step: Step) -> str:
        """Return the time left after a step in words, nothing after the last."""
        if step.what != self.what:
            self.what, self.began, self.first = step.what, self.last, step.done - 1
        self.last = time.monotonic()
        seconds = (self.last - self.began) / (step.done - self.first) * (step.total - step.done)
        return f"{timedelta(seconds=round(seconds))} left" if step.done < step.total else ""
