"""Flags that several commands share, and how flags, ``--set`` and a settings file become settings."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ticketsearch.errors import BadInput, shown

if TYPE_CHECKING:
    from ticketsearch.datasets import Dataset
    from ticketsearch.models import Network
    from ticketsearch.settings import Settings

__all__ = [
    "Assignments",
    "DataName",
    "Density",
    "InitSeed",
    "Method",
    "ModelName",
    "Scheme",
    "Seed",
    "SettingsFile",
    "Trust",
    "assigned",
    "check_output",
    "names",
    "network_of",
    "numbers",
    "subject",
    "whole_number",
]

SettingsFile = Annotated[
    Path | None, typer.Argument(help="Settings as TOML; what it leaves out has its default.")
]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="digits (the default), mnist1d, moons, cifar10:FOLDER, idx:FOLDER, npz:FILE, file.py:function.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="mlp:H1,H2,… (default mlp:100,50), lenet_300_100, lenet5, conv2, conv4, conv6, resnet20, "
        "vgg16_bn or file.py:function.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="synflow (the default), balanced_synflow, snip, grasp, saliency, magnitude, random, imp, "
        "averaged_imp, obd, edge_popup, flow_preserving or file.py:function, evolve also several as a,b; "
        "their own options are --set seeding.options.NAME=VALUE.",
    ),
]
Density = Annotated[
    str | None,
    typer.Option("--density", metavar="FLOAT", help="Kept / total of a mask, in (0, 1]; default 0.05."),
]
Seed = Annotated[
    str | None,
    typer.Option("--seed", metavar="INTEGER", help="Of everything random but the data split; default 0."),
]
Scheme = Annotated[
    str | None,
    typer.Option(
        "--scheme", help="Of the initial weights; by default the first of seeding.schemes (kaiming_normal)."
    ),
]
InitSeed = Annotated[
    str | None,
    typer.Option(
        "--init-seed",
        metavar="INTEGER",
        help="Of the initial weights; by default drawn from --seed, as that of evolve's first copy.",
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting, e.g. seeding.options.x=2; repeatable.",
        show_default=False,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the code that the run folder names. Read that code first: it may do anything.",
    ),
]


def assigned(
    settings: Path | None, assign: list[str] | None, flags: Mapping[str, Any], trust: bool = False
) -> dict[str, Any]:
    """Return settings by dotted name: those of the file, then of ``--set``, then of the flags that are given.

    Flags are texts, which are read as values of ``--set`` are: the settings check them, and say rule and
    value in the same words everywhere. Code that a settings file names is its user's word, as a flag's is,
    but not in the folder of a run, which may be anybody's: :class:`BadInput` says so unless that run is known
    to be the user's own, or with ``trust``.
    """
    from ticketsearch.settings import parse_assignment, parse_value

    found = dict(_read(settings)) if settings else {}
    if settings and not trust:
        _check_word(settings)
    found |= dict(parse_assignment(text) for text in assign or [])
    given = {key: value for key, value in flags.items() if value is not None}
    return found | {key: parse_value(v) if isinstance(v, str) else v for key, v in given.items()}


def whole_number(flag: str, text: str, least: int) -> int:
    """Return the number that a flag is given; raises :class:`BadInput` for anything else or less."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise BadInput(f"{flag} takes an integer from {least} up, but got {shown(text)}")
    return number


def names(text: str) -> list[str]:
    """Return the names in a flag, which has commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(flag: str, text: str) -> list[float]:
    """Return the numbers that a flag is given; raises :class:`BadInput` for anything else."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise BadInput(
            f"{flag} takes numbers with commas between, e.g. 0.1,0.02,0.01, but got {shown(text)}"
        ) from None


def network_of(settings: Settings, scheme: str | None, init_seed: str | None) -> tuple[Dataset, Network]:
    """Return the dataset and the network, initialized as the first copy that a search prunes.

    ``scheme`` and ``init_seed`` take the place of that initialization's own where they are given.
    """
    from ticketsearch.datasets import load_dataset
    from ticketsearch.models import initialize
    from ticketsearch.seeding import initializations

    first = initializations(1, schemes=settings.seeding.schemes, seed=settings.seed)[0]
    seed = first.seed if init_seed is None else whole_number("--init-seed", init_seed, 0)
    first = first._replace(scheme=scheme or first.scheme, seed=seed)
    dataset = load_dataset(settings.data.name, **settings.data.options)
    return dataset, initialize(settings.model.name, dataset, *first, **settings.model.options)


def subject(settings: Settings, network: Network) -> str:
    """Return what was pruned in words: data, model, sizes, and the initialization."""
    data, model = (name.rpartition("/")[2] for name in (settings.data.name, settings.model.name))
    spec, (scheme, seed) = network.spec, network.initialization
    return (
        f"{data}, {model}: {spec.size:,} weights in {len(spec.layers)} layers; "
        f"initialization {scheme}, seed {seed}"
    )


def check_output(path: Path, what: str, *, overwrite: bool) -> None:
    """Raise :class:`BadInput` before any work if a file cannot be written there."""
    if path.is_dir():
        raise BadInput(f"the {what} goes into a file, but {str(path)!r} is a folder; give --output FILE")
    if path.exists() and not overwrite:
        raise BadInput(f"{str(path)!r} exists already; give another --output, or --force to overwrite it")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {str(path.parent)!r} for {path.name!r}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"the folder {str(path.parent)!r} cannot be written to; give another --output")


def _check_word(path: Path) -> None:
    """Raise :class:`BadInput` for code that the settings file of a run names, unless it is the user's own."""
    if not (path.parent / "run.sqlite").is_file():
        return
    from ticketsearch.runs import Run
    from ticketsearch.settings import Origin, changes, check_word, load, outside

    found = load(path)
    if not outside(found):
        return
    with Run.open(path.parent) as run:
        origin = Origin() if changes(found, run.settings) else run.origin
        check_word(f"{str(path)!r} in the folder of a run", found, origin, run.folder)


def _read(path: Path) -> list[tuple[str, Any]]:
    from ticketsearch.settings import leaves, load

    load(path)  # says what is wrong with the file itself
    return leaves(tomllib.loads(path.read_text(encoding="utf-8")))
