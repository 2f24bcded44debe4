"""Figures of a run as CSV files: ``generations.csv``, a row a generation, and ``results.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ticketsearch.experiment.trackers.tracker import FIGURES, TABLE, Tracker, table_records
from ticketsearch.runs import ContenderRow, Run
from ticketsearch.storage import refuse_links, write_atomically

__all__ = ["CsvFiles"]

GENERATIONS, RESULTS = "generations.csv", "results.csv"
COLUMNS = ("generation", *FIGURES)


class CsvFiles(Tracker):
    """Writes the figures of generations and the final table as CSV."""

    folder: Path

    def begin(self, run: Run) -> int:
        """Keep the whole rows of an earlier process; a row that was cut short is written again."""
        self.folder = run.path
        refuse_links(run.path, [GENERATIONS, RESULTS])
        file = run.path / GENERATIONS
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        header = _text([], COLUMNS)
        rows = []
        if lines[:1] == [header]:
            for number, line in enumerate(lines[1:]):
                if not line.startswith(f"{number},") or not line.endswith("\n"):
                    break
                rows.append(line)
        write_atomically(file, "".join([header, *rows]))
        return len(rows) - 1

    def log(self, generation: int, figures: Mapping[str, float]) -> None:
        """Append a row."""
        row = _text([{"generation": generation, **figures}], COLUMNS, header=False)
        with (self.folder / GENERATIONS).open("a", encoding="utf-8") as file:
            file.write(row)

    def log_table(self, generation: int, rows: Sequence[ContenderRow]) -> None:
        """Write the table in place of an earlier one."""
        write_atomically(self.folder / RESULTS, _text(table_records(rows), TABLE))


def _text(records: Iterable[Mapping[str, Any]], columns: Sequence[str], *, header: bool = True) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
