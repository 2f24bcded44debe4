"""Flags that several commands share, and settings from flags, ``--set`` and a settings file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ticketsearch.cli import completion
from ticketsearch.errors import BadInput, shown

if TYPE_CHECKING:
    from ticketsearch.datasets import Dataset
    from ticketsearch.models import Network
    from ticketsearch.settings import Settings

__all__ = [
    "PRUNERS",
    "Assignments",
    "DataName",
    "Density",
    "InitSeed",
    "Initializations",
    "Method",
    "ModelName",
    "PruningSteps",
    "Scheme",
    "Seed",
    "SettingsCommand",
    "SettingsFile",
    "Trust",
    "assigned",
    "check_output",
    "densities_option",
    "names",
    "network_line",
    "network_of",
    "numbers",
    "option",
    "out_option",
    "pruners_option",
    "setting_option",
    "whole_number",
    "workers_option",
]

# Returns the words that an incomplete one may become, or pairs of word and explanation.
Complete = Callable[[str], Sequence[str | tuple[str, str]]]
# Pruners that are audited and compared by default.
PRUNERS = "synflow, snip, grasp, magnitude, random"
# Marks the help of a flag whose text is the description of the setting named behind it.
SETTING = "setting "


class SettingsCommand(TyperCommand):
    """A command whose flags for settings take their help from the settings' descriptions and defaults.

    The texts are read when help is shown: importing the settings takes half as long again as a start.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the help."""
        from ticketsearch.settings import default_text, description

        for parameter in self.params:
            text = str(getattr(parameter, "help", ""))
            if text.startswith(SETTING):
                name = text.removeprefix(SETTING)
                parameter.help = f"{description(name)} Default: {default_text(name)}."  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def setting_option(name: str, flag: str, metavar: str = "NAME", complete: Complete | None = None) -> Any:
    """Return the flag of a dotted setting, for commands of the class :class:`SettingsCommand`.

    ``complete`` returns the words that the shell may complete an incomplete one to.
    """
    return typer.Option(flag, metavar=metavar, help=SETTING + name, autocompletion=complete)


def option(
    flag: str, text: str, *, default: str = "", metavar: str | None = None, complete: Complete | None = None
) -> Any:
    """Return a flag that is no setting; its help is the text, and its default where it has one.

    ``complete`` is that of :func:`setting_option`.
    """
    text = f"{text} Default: {default}." if default else text
    return typer.Option(flag, metavar=metavar, help=text, show_default=False, autocompletion=complete)


def pruners_option(use: str) -> Any:
    """Return the flag of several pruners, which are used as ``use`` says, e.g. ``"audited"``."""
    text = f"Pruners that are {use}, named as in prune --method."
    return option("--methods", text, default=PRUNERS, metavar="NAME,NAME,…", complete=completion.pruners)


def densities_option(default: str) -> Any:
    """Return the flag of several densities."""
    text = "Densities of the masks: the shares of the weights that they keep, in (0, 1]."
    return option("--densities", text, default=default, metavar="FLOAT,FLOAT,…")


def workers_option(default: str) -> Any:
    """Return the flag of the number of processes of a study."""
    text = "Number of processes that work side by side."
    return option("--workers", text, default=default, metavar="INTEGER")


def out_option(what: str, default: str) -> Any:
    """Return the flag of the folder of a comparison or an overlap study."""
    return option("--out", f"Folder of the {what}.", default=default, metavar="FOLDER")


SettingsFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="SETTINGS.toml", help="Settings file (TOML); settings that it leaves out have their defaults."
    ),
]
DataName = Annotated[str | None, setting_option("data.name", "--data", complete=completion.datasets)]
ModelName = Annotated[str | None, setting_option("model.name", "--model", complete=completion.models)]
Method = Annotated[str | None, setting_option("seeding.method", "--method", complete=completion.pruners)]
Density = Annotated[str | None, setting_option("seeding.density", "--density", "FLOAT")]
Initializations = Annotated[
    str | None, setting_option("seeding.initializations", "--initializations", "INTEGER")
]
PruningSteps = Annotated[str | None, setting_option("seeding.steps", "--steps", "INTEGER")]
Seed = Annotated[str | None, setting_option("seed", "--seed", "INTEGER")]
Scheme = Annotated[
    str | None,
    option(
        "--scheme",
        "Initialization scheme of the weights.",
        default="the first of seeding.schemes (kaiming_normal)",
        metavar="NAME",
    ),
]
InitSeed = Annotated[
    str | None,
    option(
        "--init-seed",
        "Seed of the initial weights.",
        default="drawn from --seed, as for the first initialization of evolve",
        metavar="INTEGER",
    ),
]
Assignments = Annotated[
    list[str] | None,
    option(
        "--set",
        "Assignment of any setting, e.g. seeding.options.x=2; the flag may be repeated.",
        metavar="NAME=VALUE",
        complete=completion.setting_names,
    ),
]
Trust = Annotated[
    bool,
    option("--trust", "Run the code that the run folder names. Read that code first: it may do anything."),
]


def assigned(
    settings: Path | None, assign: list[str] | None, flags: Mapping[str, Any], trust: bool = False
) -> dict[str, Any]:
    """Return settings by dotted name: those of the file, then of ``--set``, then of the flags that are given.

    Texts of flags are parsed as values of ``--set`` are, so that the settings check both in the same words.
    Code that a settings file names is trusted, as its user wrote it, except in the folder of a run, which
    may be anybody's: :class:`BadInput` says so unless the user made that run, or with ``trust``.
    """
    from ticketsearch.runs import read_settings
    from ticketsearch.settings import parse_assignment, parse_value

    assignments = read_settings(settings, trust=trust) if settings else {}
    assignments |= dict(parse_assignment(text) for text in assign or [])
    given = {name: value for name, value in flags.items() if value is not None}
    return assignments | {name: parse_value(v) if isinstance(v, str) else v for name, v in given.items()}


def whole_number(flag: str, text: str, least: int) -> int:
    """Return the integer that a flag is given; raises :class:`BadInput` for others than >= ``least``."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise BadInput(f"{flag} takes an integer from {least} up, but got {shown(text)}")
    return value


def names(text: str) -> list[str]:
    """Return the names in the text of a flag, which are separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(flag: str, text: str) -> list[float]:
    """Return the numbers that a flag is given; raises :class:`BadInput` for any other text."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise BadInput(
            f"{flag} takes numbers with commas between them, e.g. 0.1,0.02,0.01, but got {shown(text)}"
        ) from None


def network_of(settings: Settings, scheme: str | None, init_seed: str | None) -> tuple[Dataset, Network]:
    """Return the dataset, and the network with the first initialization that a search prunes.

    ``scheme`` and ``init_seed`` replace the scheme and the seed of that initialization where they are given.
    """
    from ticketsearch.datasets import load_dataset
    from ticketsearch.models import initialize
    from ticketsearch.seeding import initializations

    first = initializations(1, schemes=settings.seeding.schemes, seed=settings.seed)[0]
    seed = first.seed if init_seed is None else whole_number("--init-seed", init_seed, 0)
    first = first._replace(scheme=scheme or first.scheme, seed=seed)
    dataset = load_dataset(settings.data.name, **settings.data.options)
    return dataset, initialize(settings.model.name, dataset, *first, **settings.model.options)


def network_line(settings: Settings, network: Network) -> str:
    """Return a line on a network: data, model, sizes and initialization."""
    data, model = (name.rpartition("/")[2] for name in (settings.data.name, settings.model.name))
    spec, (scheme, seed) = network.spec, network.initialization
    return (
        f"{data}, {model}: {spec.size:,} weights in {len(spec.layers)} layers; "
        f"initialization {scheme}, seed {seed}"
    )


def check_output(path: Path, what: str, *, overwrite: bool, flag: str = "--output") -> None:
    """Raise :class:`BadInput` if an output file, named ``what``, cannot be written; before any work.

    ``flag`` is the flag that gives the file.
    """
    if path.is_dir():
        raise BadInput(f"the {what} goes into a file, but {str(path)!r} is a folder; give {flag} FILE")
    if path.exists() and not overwrite:
        raise BadInput(f"{str(path)!r} exists already; give another {flag}, or --force to overwrite it")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {str(path.parent)!r} for {path.name!r}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"the folder {str(path.parent)!r} cannot be written to; give another {flag}")
