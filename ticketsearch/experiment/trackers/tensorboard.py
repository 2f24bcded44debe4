"""Figures of a run as TensorBoard events, in ``tensorboard/`` of its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ticketsearch.experiment.trackers.tracker import TABLE, Tracker, table_records
from ticketsearch.runs import ContenderRow, Run
from ticketsearch.storage import refuse_links

__all__ = ["TensorBoard"]

FOLDER = "tensorboard"
# Every generation has this figure, which is logged last.
ALWAYS = "seconds"
# TensorBoard's own name of the text "final".
TEXT = "final/text_summary"


class TensorBoard(Tracker):
    """Writes scalars by generation, and the final table as scalars and as text."""

    extra, module = "tensorboard", "tensorboard"
    writer: Any
    # The last generation of each tag that is logged.
    logged: dict[str, int]

    def begin(self, run: Run) -> int:
        """Read the events of earlier processes, and begin a new file of events."""
        from torch.utils.tensorboard import SummaryWriter

        refuse_links(run.path, [FOLDER])
        self.logged = _logged(run.path / FOLDER)
        self.writer = SummaryWriter(str(run.path / FOLDER))
        return self.logged.get(f"generation/{ALWAYS}", -1)

    def log(self, generation: int, figures: Mapping[str, float]) -> None:
        """Write a scalar for each figure."""
        for name, value in figures.items():
            self._scalar(f"generation/{name}", value, generation)
        self.writer.flush()

    def log_table(self, generation: int, rows: Sequence[ContenderRow]) -> None:
        """Write the table, and close the file."""
        records = table_records(rows)
        for record in records:
            for name in TABLE[1:]:
                if name in record:
                    self._scalar(f"final/{name}/{record['contender']}", float(record[name]), generation)
        if generation > self.logged.get(TEXT, -1):
            cells = [
                TABLE,
                ["---"] * len(TABLE),
                *([str(r.get(name, "")) for name in TABLE] for r in records),
            ]
            table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
            self.writer.add_text("final", table, generation)
        self.writer.close()

    def _scalar(self, tag: str, value: float, generation: int) -> None:
        """Write a scalar, unless a process that was killed has written it."""
        if generation > self.logged.get(tag, -1):
            self.writer.add_scalar(tag, value, generation)


def _logged(folder: Path) -> dict[str, int]:
    """Return the last generation of each tag in the events of a folder."""
    if not folder.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    last = {tag: max(event.step for event in events.Scalars(tag)) for tag in tags["scalars"]}
    return last | {tag: max(event.step for event in events.Tensors(tag)) for tag in tags["tensors"]}
