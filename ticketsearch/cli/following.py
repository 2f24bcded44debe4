"""How far long work in steps is, and the time left: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from ticketsearch.workers import Step

__all__ = ["follow"]

# Seconds between two lines of progress where there is no terminal, unless all in all there are few.
EVERY, FEW = 30.0, 50


def follow(steps: Iterable[Step]) -> None:
    """Show on stderr how far the work is, and the time left of what is being done."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    lines = None if console.is_terminal else _Lines()
    with Progress(*columns, console=console, disable=lines is not None) as shown:
        bars: dict[str, TaskID] = {}
        for step in steps:
            if lines is not None:
                lines.show(step)
                continue
            if step.what not in bars:
                # What was there before took no time now.
                bars[step.what] = shown.add_task(step.what, total=step.total, completed=step.done - 1)
            shown.update(bars[step.what], completed=step.done)


class _Lines:
    """A line now and then, for logs."""

    def __init__(self) -> None:
        self.what, self.began, self.first, self.said = "", 0.0, 0, 0.0

    def show(self, step: Step) -> None:
        """Print how far the work is, if it is time to."""
        now = time.monotonic()
        if step.what != self.what:
            self.what, self.began, self.first = step.what, now, step.done
        elif FEW < step.total > step.done and now - self.said < EVERY:
            return
        self.said = now
        left = ""
        if self.first < step.done < step.total:
            seconds = (now - self.began) / (step.done - self.first) * (step.total - step.done)
            left = f", {timedelta(seconds=round(seconds))} left"
        print(f"{step.what}: {step.done:,} of {step.total:,}{left}", file=sys.stderr, flush=True)
