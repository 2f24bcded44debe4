"""``audit``: conservation of pruners' scores, and the compression at which each empties a layer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ticketsearch.cli.endings import interrupted
from ticketsearch.cli.flags import (
    PRUNERS,
    Assignments,
    DataName,
    InitSeed,
    ModelName,
    PruningSteps,
    Scheme,
    Seed,
    SettingsFile,
    Trust,
    assigned,
    check_output,
    names,
    network_line,
    network_of,
    option,
    pruners_option,
)
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.datasets import Dataset
    from ticketsearch.models import Network
    from ticketsearch.settings import Settings
    from ticketsearch.theory import MethodAudit

__all__ = ["audit"]


Methods = Annotated[str, pruners_option("audited")]
Output = Annotated[
    Path,
    option(
        "--output",
        "HTML page that is written; an existing one is replaced.",
        default="audit.html",
        metavar="FILE",
    ),
]


def audit(  # noqa: PLR0913 - a parameter for each flag
    settings: SettingsFile = None,
    data: DataName = None,
    model: ModelName = None,
    methods: Methods = PRUNERS,
    steps: PruningSteps = None,
    seed: Seed = None,
    scheme: Scheme = None,
    init_seed: InitSeed = None,
    output: Output = Path("audit.html"),
    trust: Trust = False,
    assign: Assignments = None,
) -> None:
    """Audit pruners on a network: conservation of their scores, critical compression, layer collapse.

    All pruners are audited on one initialization, the first that evolve prunes
    with the same settings, with global scope and the exponential schedule. An
    option set as seeding.options.NAME goes to the pruners that take it. The
    page has the tables and a figure.
    """
    from ticketsearch.settings import load

    flags = {"data.name": data, "model.name": model, "seeding.steps": steps, "seed": seed}
    chosen = load(None, assigned(settings, assign, flags, trust).items())
    pruners = list(dict.fromkeys(names(methods)))
    _check_settings(chosen)
    if not pruners:
        raise BadInput(
            f"an audit takes at least one pruner, but --methods names none; the default is {PRUNERS}"
        )
    from ticketsearch.pruners import method_options

    options = method_options(pruners, chosen.seeding.options)
    check_output(output, "page", overwrite=True)
    audits: list[MethodAudit] = []
    try:
        dataset, network = network_of(chosen, scheme, init_seed)
        for result in _audited(chosen, dataset, network, pruners, options):
            audits.append(result)
    except KeyboardInterrupt:
        done = ", ".join(result.method for result in audits) or "none"
        message = f"Interrupted; of {len(pruners)} pruners these were audited: {done}; no page was written"
        raise interrupted(message) from None
    from ticketsearch.experiment import environment
    from ticketsearch.report import AuditPage, write_audit
    from ticketsearch.report.text import audit_lines

    print(f"{network_line(chosen, network)}; global scope")
    for line in audit_lines(audits):
        print(line)
    page = AuditPage(chosen, network.spec, network.initialization, audits, environment())
    print(f"Page: {write_audit(page, output)}")


def _check_settings(settings: Settings) -> None:
    """Raise :class:`BadInput` for settings of the pruning that an audit does not use."""
    chosen = settings.seeding.model_dump(exclude_defaults=True)
    for name in ("method", "density", "scope", "schedule", "initializations"):
        if name in chosen:
            raise BadInput(
                "an audit prunes by --methods to all densities, in global scope by the exponential schedule, "
                f"but seeding.{name} is {chosen[name]!r}; leave it out"
            )


def _audited(
    settings: Settings,
    dataset: Dataset,
    network: Network,
    pruners: list[str],
    options: dict[str, dict[str, Any]],
) -> Iterator[MethodAudit]:
    """Audit one pruner after the other, with a line for each on stderr."""
    from ticketsearch import theory
    from ticketsearch.random_streams import Stream, seed_sequence

    # The seed that evolve and prune give a pruner for the first initialization.
    seed = int(seed_sequence(settings.seed, Stream.PRUNING).generate_state(1)[0])
    steps = settings.seeding.steps or None
    for position, name in enumerate(pruners, 1):
        print(f"Auditing {name} ({position} of {len(pruners)}) …", file=sys.stderr, flush=True)
        yield from theory.audit(network, [name], dataset, seed=seed, steps=steps, options=options)
