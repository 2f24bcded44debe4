"""Progress of a search: a growing table on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.measure import Measurement
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ticketsearch.evolution import Generation
from ticketsearch.experiment import Callback
from ticketsearch.halving import Pool, Tau, counted
from ticketsearch.masks import density, effective_density
from ticketsearch.runs import Run

__all__ = ["Line", "LiveTable", "NotebookTable", "PlainLines", "Progress", "displayed"]

# Seconds between two lines on the evaluations of a generation, without a terminal.
EVERY = 30.0
# Seconds between two drawings on the evaluations of a generation, in a notebook.
REDRAWN = 0.2
# Generations that the time left is estimated from, and rows of the live table.
RECENT = 10
TAU = "τ (pairs)"
HEADINGS = (
    *("generation", "best fitness", "mean", "density", "effective", "refused", "diverged", TAU),
    *("eval/s", "left"),
)
# More columns than a table takes, to measure how many it takes.
UNLIMITED = 10_000
# Columns that a narrow terminal leaves out, the least important first.
LEFT_OUT = ("effective", "refused", "eval/s", "mean", "diverged", TAU, "density", "left")


@dataclass(frozen=True)
class Line:
    """Figures of one generation that are shown.

    ``best`` and ``mean`` are fitness, ``refused`` counts duplicates among the children, ``diverged`` children
    without a finite fitness, ``seconds`` is the generation's wall-clock time. ``taus`` are Kendall's τ of
    successive rungs, over all generations so far; empty without successive halving.
    """

    number: int
    best: float
    mean: float
    density: float
    effective_density: float
    refused: int
    diverged: int
    evaluations: int
    seconds: float
    taus: tuple[Tau, ...] = ()


class Progress(Callback):
    """Display of a search's progress, line by line; subclasses show the lines, and this shows nothing."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.clock = _Clock(total)
        self.agreed = Pool(())

    def say(self, text: str) -> None:
        """Show a line on the current work."""

    def evaluated(self, text: str) -> None:
        """Show a line on the evaluations of the current generation, which comes often."""

    def generation(self, line: Line) -> None:
        """Show a generation."""

    def on_start(self, run: Run) -> None:
        """Count the agreement of rungs from the beginning of the run."""
        self.agreed = Pool(run.agreements())

    def on_note(self, run: Run, text: str) -> None:
        """Show the sentence."""
        self.say(text)

    def on_evaluated(self, run: Run, generation: int, done: int, total: int) -> None:
        """Show how many masks of the generation are trained."""
        self.evaluated(f"generation {generation}: {done:,} of {total:,} trained")

    def on_generation(self, run: Run, generation: Generation) -> None:
        """Show the generation's figures."""
        self.agreed.add(generation.agreements)
        best = generation.best
        line = Line(
            number=generation.number,
            best=generation.statistics.get("best", float("-inf")),
            mean=generation.statistics.get("mean", float("-inf")),
            density=density(best.mask),
            effective_density=effective_density(best.mask, run.spec),
            refused=generation.refused,
            diverged=generation.diverged,
            evaluations=len(generation.offspring),
            seconds=generation.seconds,
            taus=tuple(self.agreed.taus()),
        )
        self.generation(line)


@contextmanager
def displayed(total: int, wanted: bool | None = True) -> Iterator[Progress]:
    """Show progress towards generation ``total`` while inside: a table where there is a screen, else lines.

    ``wanted=None`` leaves the lines out, and ``wanted=False`` the table too.
    """
    console = Console(stderr=True)
    if wanted is False:
        yield Progress(total)
    elif console.is_jupyter:
        yield NotebookTable(total, console)
    elif sys.stderr.isatty():
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            yield LiveTable(total, live)
    else:
        yield PlainLines(total) if wanted else Progress(total)


class _Clock:
    """Estimate of the time left, from the latest generations."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.recent: deque[float] = deque(maxlen=RECENT)

    def left(self, line: Line) -> str:
        if line.number > 0:  # the first population takes longer: it warms up
            self.recent.append(line.seconds)
        if not self.recent:
            return "?"
        seconds = round(sum(self.recent) / len(self.recent) * (self.total - line.number))
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class PlainLines(Progress):
    """Progress as one line for each generation, for logs; in long generations a line now and then."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.said = time.monotonic()

    def say(self, text: str) -> None:
        """Print the line."""
        print(text, file=sys.stderr, flush=True)
        self.said = time.monotonic()

    def evaluated(self, text: str) -> None:
        """Print the line if no other one was printed for some time."""
        if time.monotonic() - self.said >= EVERY:
            self.say(text)

    def generation(self, line: Line) -> None:
        """Print the generation's line."""
        diverged = f", {line.diverged} diverged" if line.diverged else ""
        known = [tau for tau in line.taus if tau.pairs]
        taus = [f"{t.lower_steps}→{t.upper_steps} {t.tau:.2f} ({counted(t.pairs)})" for t in known]
        agreement = f"τ {', '.join(taus)}, " if taus else ""
        self.say(
            f"generation {line.number}/{self.total}: fitness best {line.best:.4f} mean {line.mean:.4f}, "
            f"density {line.density:.4f} effective {line.effective_density:.4f}, "
            f"{line.refused} duplicates refused{diverged}, {agreement}{_rate(line)} evaluations/s, "
            f"{self.clock.left(line)} left"
        )


class GrowingTable(Progress):
    """Progress as a table of the latest generations with a line on the current work; subclasses draw both."""

    def __init__(self, total: int, console: Console) -> None:
        super().__init__(total)
        self.console = console
        self.rows: deque[tuple[str, ...]] = deque(maxlen=RECENT)

    def draw(self, text: str) -> None:
        """Draw the table with a line below it."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Show the line under the table until the next one."""
        self.draw(text)

    def evaluated(self, text: str) -> None:
        """Show the line under the table until the next one."""
        self.draw(text)

    def generation(self, line: Line) -> None:
        """Add the generation's row."""
        self.rows.append(
            (
                f"{line.number}/{self.total}",
                f"{line.best:.4f}",
                f"{line.mean:.4f}",
                f"{line.density:.4f}",
                f"{line.effective_density:.4f}",
                str(line.refused),
                str(line.diverged),
                ", ".join(f"{t.tau:.2f} ({t.pairs})" for t in line.taus if t.pairs),
                _rate(line),
                self.clock.left(line),
            )
        )
        self.draw("Evolving")

    def table(self) -> Table:
        """Return the table of the columns that the screen has room for; figures are never cut."""
        columns = {heading: cells for heading, *cells in zip(HEADINGS, *self.rows, strict=True)}
        if not any(columns[TAU]):  # without successive halving there is no τ
            del columns[TAU]
        unlimited = self.console.options.update(max_width=UNLIMITED)
        for heading in LEFT_OUT:
            if Measurement.get(self.console, unlimited, _grid(columns)).maximum <= self.console.width:
                break
            columns.pop(heading, None)
        return _grid(columns)


class LiveTable(GrowingTable):
    """The table on a terminal, above a spinner."""

    def __init__(self, total: int, live: Live) -> None:
        super().__init__(total, live.console)
        self.live = live
        self.spinner = Spinner("dots")

    def draw(self, text: str) -> None:
        """Draw the table and the spinner with the line."""
        self.spinner.update(text=Text(text))
        self.live.update(Group(self.table(), self.spinner) if self.rows else self.spinner)


class NotebookTable(GrowingTable):
    """The table in the output of a notebook's cell, which is saved with the notebook.

    It is redrawn by IPython's display alone, as rich's own live display needs ipywidgets in a notebook.
    """

    shown: Any = None
    drawn = 0.0

    def evaluated(self, text: str) -> None:
        """Show the line under the table, some times a second: each drawing is a message to the browser."""
        if time.monotonic() - self.drawn >= REDRAWN:
            self.draw(text)

    def on_finish(self, run: Run) -> None:
        """Show the end in place of the current work."""
        self.draw(f"Run {run.name} is finished")

    def draw(self, text: str) -> None:
        """Draw the table and the line in place of those before."""
        from IPython import display  # it runs the notebook

        table = self.table()
        table.caption, table.caption_justify = Text(text), "left"
        output = table if self.rows else Text(text)
        if self.shown is None:
            self.shown = display.display(output, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self.shown.update(output)
        self.drawn = time.monotonic()


def _grid(columns: Mapping[str, Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _rate(line: Line) -> str:
    return f"{line.evaluations / line.seconds:.1f}" if line.seconds > 0 else "?"
