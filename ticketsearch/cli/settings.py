"""``settings``: every setting with its values, default and description; and the settings of a run."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ticketsearch.cli import completion
from ticketsearch.cli.endings import show_lines
from ticketsearch.cli.flags import option
from ticketsearch.cli.folders import run_folder
from ticketsearch.errors import BadInput, nearest, shown

if TYPE_CHECKING:
    from ticketsearch.settings import SettingRow

__all__ = ["settings"]

Word = Annotated[
    str | None,
    typer.Argument(help="Word in the name or the description of the settings; without one, all are shown."),
]
Changed = Annotated[
    str | None,
    option(
        "--changed",
        "Run whose settings other than the defaults are shown, with the defaults.",
        metavar="RUN",
        complete=completion.run_names,
    ),
]

# Most columns of a description, and the columns that it is indented by.
WIDTH, INDENT = 100, "    "


def settings(word: Word = None, changed: Changed = None) -> None:
    """Show every setting with its values, its default and its description."""
    rows = _matching(word) if word is not None else _all()
    if changed is None:
        width = min(WIDTH, shutil.get_terminal_size().columns)
        show_lines(line for row in rows for line in _lines(row, width))
    else:
        show_lines(_changed_lines(changed, {row.name for row in rows}))


def _all() -> list[SettingRow]:
    from ticketsearch.settings import setting_rows

    return setting_rows()


def _matching(word: str) -> list[SettingRow]:
    """Return the settings that have a word in their texts; where none has the whole word, a part of one."""
    wanted, rows = word.lower(), _all()
    texts = {row: f"{row.name} {row.values} {row.description}".lower() for row in rows}
    whole = re.compile(rf"(?<![a-z0-9]){re.escape(wanted)}(?![a-z0-9])")
    matching = [row for row, text in texts.items() if whole.search(text)]
    matching = matching or [row for row, text in texts.items() if wanted in text]
    if not matching:
        words = {known for text in texts.values() for known in re.findall(r"\w+", text)}
        near = nearest(wanted, [*(row.name for row in rows), *sorted(words)])
        raise BadInput(
            f"no setting has {shown(word)} in its name or description{near}; "
            "`ticketsearch settings` shows all"
        )
    return matching


def _lines(row: SettingRow, width: int) -> list[str]:
    default = f"default {row.default}" if row.default else "empty by default"
    text = textwrap.wrap(
        row.description, width, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
    )
    return [f"{row.name} ({row.values.replace('`', '')}; {default})", *text]


def _changed_lines(run: str, names: Sequence[str] | set[str]) -> list[str]:
    """Return the table of a run's settings that are not the defaults, of those with these names."""
    from ticketsearch.report.text import table_lines
    from ticketsearch.runs import read_overview
    from ticketsearch.settings import Settings, leaves, value_text

    defaults = dict(leaves(Settings().model_dump()))
    chosen = [(name, value) for name, value in leaves(read_overview(run_folder(run)).settings.model_dump())]
    rows = [
        (name, value_text(value) or "(empty)", value_text(defaults[name]) or "(empty)")
        for name, value in chosen
        if name in names and value != defaults[name]
    ]
    if not rows:
        return [f"All settings of run {run!r} are the defaults."]
    return table_lines(("setting", "run", "default"), rows, left=3)
