"""Tables of a run as data frames of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch.errors import BadInput, unknown
from ticketsearch.runs import Run, generation_records, result_records, ticket_records

if TYPE_CHECKING:
    import pandas

__all__ = ["dataframe"]

TABLES = {"tickets": ticket_records, "generations": generation_records, "results": result_records}
# Columns of whole numbers that rows may lack.
WHOLE = {"ticket", "seed", "pruned_seed"}


def dataframe(run: Run, which: str) -> pandas.DataFrame:
    """Return a table of a run: see :meth:`ticketsearch.Run.dataframe`."""
    if which not in TABLES:
        raise unknown("table", which, TABLES)
    try:
        import pandas
    except ImportError as error:
        raise BadInput('a data frame needs pandas; pip install "ticketsearch[pandas]"') from error
    records = TABLES[which](run)
    frame = pandas.DataFrame(records)
    for name in WHOLE & set(frame.columns):  # as floats, large ones would be rounded
        frame[name] = pandas.array([record[name] for record in records], dtype="Int64")
    return frame
