"""``export``: writes the best ticket of a run, or a ticket file, for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ticketsearch.cli import completion
from ticketsearch.cli.endings import show_lines
from ticketsearch.cli.flags import Trust, check_output, option
from ticketsearch.cli.folders import run_folder
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.python import MaskedModule

__all__ = ["export"]

Subject = Annotated[
    str,
    typer.Argument(
        metavar="RUN|TICKET",
        help="Run, by its name in runs/ or the path of its folder, or a ticket file.",
        autocompletion=completion.run_names,
    ),
]
Format = Annotated[
    str,
    option(
        "--format",
        "Format of the file: torch, the state dict of the masked network; pruned, that of "
        "torch.nn.utils.prune, with weight_orig and weight_mask; compact, a program of torch.export with the "
        "live units alone; onnx, the same network as ONNX; csv, a row for each kept weight.",
        default="compact",
        metavar="NAME",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="File that is written.")]
Force = Annotated[bool, option("--force", "Overwrite the file.")]


def export(
    subject: Subject, out: Out, form: Format = "compact", force: Force = False, trust: Trust = False
) -> None:
    """Write the best ticket of a finished run, with trained weights, or a ticket file, for other programs.

    A ticket file holds initial weights, and these are written.
    """
    check_output(out, "export", overwrite=force, flag="--out")
    from ticketsearch.python import Run, check_format, write_export

    form, path = check_format(form), Path(subject)
    if path.is_file():
        show_lines([f"{subject} holds initial weights; a run's export has trained ones"], sys.stderr)
        show_lines([str(write_export(_initial(path, trust), out, form))])
        return
    with Run.open(run_folder(subject)) as run:
        show_lines([str(run.export(out, form, trust=trust))])


def _initial(path: Path, trust: bool) -> MaskedModule:
    """Return the ticket of a file with its initial weights, zeros where the mask prunes."""
    from ticketsearch.experiment import TRAINED
    from ticketsearch.python import masked_module
    from ticketsearch.tickets import load_ticket

    if path.name == TRAINED:
        raise BadInput(
            f"{str(path)!r} is the trained network of a run; give the run itself: "
            f"ticketsearch export {path.resolve().parent.parent}"
        )
    return masked_module(*load_ticket(path, trust=trust))
