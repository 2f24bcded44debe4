"""``audit``: what pruners conserve, and how far each goes before a layer is empty."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ticketsearch.cli.endings import interrupted
from ticketsearch.cli.flags import (
    Assignments,
    DataName,
    InitSeed,
    ModelName,
    Scheme,
    Seed,
    SettingsFile,
    Trust,
    assigned,
    check_output,
    network_of,
    subject,
)
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.datasets import Dataset
    from ticketsearch.models import Network
    from ticketsearch.settings import Settings
    from ticketsearch.theory import MethodAudit

__all__ = ["audit"]

METHODS = "synflow,snip,grasp,magnitude,random"
PACKAGES = ("ticketsearch", "torch", "numpy")


def audit(
    settings: SettingsFile = None,
    data: DataName = None,
    model: ModelName = None,
    methods: Annotated[
        str, typer.Option(metavar="NAME,NAME,…", help="Pruners, as prune --method names them.")
    ] = METHODS,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="INTEGER",
            help="Cuts of pruners that score again after each, by default each one's own number (100 for "
            "synflow); the others make one.",
        ),
    ] = None,
    seed: Seed = None,
    scheme: Scheme = None,
    init_seed: InitSeed = None,
    output: Annotated[Path, typer.Option(help="The page; one that is there is written anew.")] = Path(
        "audit.html"
    ),
    trust: Trust = False,
    assign: Assignments = None,
) -> None:
    """Audit pruners on a network: conservation of their scores, critical compression, layer collapse.

    All are audited on one initialization, the first that evolve prunes with
    the same settings, with all weights compared (global scope) and the
    exponential schedule. An option set as seeding.options.NAME goes to those
    of the pruners that take it. The page has the tables and a figure.
    """
    from ticketsearch.pruners import method_options
    from ticketsearch.settings import load

    flags = {"data.name": data, "model.name": model, "seeding.steps": steps, "seed": seed}
    found = load(None, assigned(settings, assign, flags, trust).items())
    names = list(dict.fromkeys(name.strip() for name in methods.split(",") if name.strip()))
    _refuse_ignored(found)
    if not names:
        raise BadInput(
            f"an audit takes at least one pruner, but --methods names none; the default is {METHODS}"
        )
    options = method_options(names, found.seeding.options)
    check_output(output, "page", overwrite=True)
    audits: list[MethodAudit] = []
    try:
        dataset, network = network_of(found, scheme, init_seed)
        for result in _audited(found, dataset, network, names, options):
            audits.append(result)
    except KeyboardInterrupt:
        done = ", ".join(result.method for result in audits) or "none"
        what = f"of {len(names)} pruners these were audited: {done}; no page was written"
        raise interrupted(f"Interrupted; {what}") from None
    from ticketsearch.report import AuditPage, write_audit
    from ticketsearch.report.text import audit_lines

    print(f"{subject(found, network)}; global scope")
    for line in audit_lines(audits):
        print(line)
    page = AuditPage(found, network.spec, network.initialization, audits, _environment())
    print(f"Page: {write_audit(page, output)}")


def _refuse_ignored(settings: Settings) -> None:
    """Raise :class:`BadInput` for settings of the pruning that an audit has no use for."""
    chosen = settings.seeding.model_dump(exclude_defaults=True)
    for name in ("method", "density", "scope", "schedule", "initializations"):
        if name in chosen:
            raise BadInput(
                f"an audit goes through all densities of --methods under global scope and the exponential "
                f"schedule, but seeding.{name} is {chosen[name]!r}; leave it out"
            )


def _audited(
    settings: Settings,
    dataset: Dataset,
    network: Network,
    names: list[str],
    options: dict[str, dict[str, Any]],
) -> Iterator[MethodAudit]:
    """Audit one pruner after the other, saying so on stderr."""
    from ticketsearch import theory
    from ticketsearch.random_streams import Stream, seed_sequence

    # Of the pruner, as evolve and prune draw it for the first initialization.
    seed = int(seed_sequence(settings.seed, Stream.PRUNING).generate_state(1)[0])
    steps = settings.seeding.steps or None
    for number, name in enumerate(names, 1):
        print(f"Auditing {name} ({number} of {len(names)}) …", file=sys.stderr, flush=True)
        yield from theory.audit(network, [name], dataset, seed=seed, steps=steps, options=options)


def _environment() -> dict[str, str]:
    from importlib.metadata import version

    return {
        **{package: version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "command": shlex.join(["ticketsearch", *sys.argv[1:]]),
    }
