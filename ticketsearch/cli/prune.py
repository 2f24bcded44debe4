"""``prune``: prunes one initialization with one pruner; prints each layer's density, writes a ticket file."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ticketsearch.cli.endings import interrupted
from ticketsearch.cli.flags import (
    Assignments,
    DataName,
    Density,
    InitSeed,
    Method,
    ModelName,
    PruningSteps,
    Scheme,
    Seed,
    SettingsFile,
    Trust,
    assigned,
    check_output,
    network_line,
    network_of,
    option,
    setting_option,
    whole_number,
)
from ticketsearch.errors import BadInput

if TYPE_CHECKING:
    from ticketsearch.datasets import Dataset
    from ticketsearch.models import Network
    from ticketsearch.settings import Settings
    from ticketsearch.theory import MaskTable
    from ticketsearch.tickets import Ticket

__all__ = ["prune"]

Scope = Annotated[str | None, setting_option("seeding.scope", "--scope")]
Schedule = Annotated[str | None, setting_option("seeding.schedule", "--schedule")]
Batch = Annotated[
    str,
    option(
        "--batch",
        "Number of training samples that a data-dependent pruner scores on.",
        default="256",
        metavar="INTEGER",
    ),
]
Output = Annotated[
    Path | None,
    option("--output", "Ticket file that is written.", default="METHOD-DENSITY.safetensors", metavar="FILE"),
]
Force = Annotated[bool, option("--force", "Overwrite the ticket file.")]
Retention = Annotated[
    bool,
    option(
        "--retention",
        "Compute the flow retention R/R* of layers even where the largest flow R* must be searched for.",
    ),
]
Json = Annotated[bool, option("--json", "Print one JSON object instead of the table.")]


@dataclass(frozen=True)
class _Pruning:
    """A network, the settings of its pruning, and the path of the ticket file."""

    settings: Settings
    dataset: Dataset
    network: Network
    batch: int
    path: Path

    @property
    def steps(self) -> int:
        """Number of pruning steps."""
        from ticketsearch.pruners import schedule_steps

        seeding = self.settings.seeding
        if seeding.schedule == "one_shot":
            return 1
        return seeding.steps or schedule_steps(_method(self.settings), seeding.density)


def prune(  # noqa: PLR0913 - a parameter for each flag
    settings: SettingsFile = None,
    data: DataName = None,
    model: ModelName = None,
    method: Method = None,
    density: Density = None,
    scope: Scope = None,
    schedule: Schedule = None,
    steps: PruningSteps = None,
    batch: Batch = "256",
    seed: Seed = None,
    scheme: Scheme = None,
    init_seed: InitSeed = None,
    output: Output = None,
    force: Force = False,
    retention: Retention = False,
    as_json: Json = False,
    trust: Trust = False,
    assign: Assignments = None,
) -> None:
    """Prune one initialization: print the density of each layer, and write the mask as a ticket file.

    The initialization is the first that evolve prunes with the same settings,
    so the mask is one of its first population. The file holds the initial
    weights too; ticketsearch.load_ticket reads it.
    """
    from ticketsearch.settings import load

    flags = {
        "data.name": data,
        "model.name": model,
        "seeding.method": method,
        "seeding.density": density,
        "seeding.scope": scope,
        "seeding.schedule": schedule,
        "seeding.steps": steps,
        "seed": seed,
    }
    chosen = load(None, assigned(settings, assign, flags, trust).items())
    path = output or _default_name(chosen)
    check_output(path, "ticket", overwrite=force)
    samples = whole_number("--batch", batch, 1)
    from ticketsearch.theory import mask_table

    _check_pruner(chosen)
    done = "no ticket was written"
    try:
        job = _Pruning(chosen, *network_of(chosen, scheme, init_seed), samples, path)
        ticket = _prune(job)
        _save(job, ticket)
        done = f"the ticket is {path}"
        table = mask_table(ticket.mask, job.network, search=retention)
    except KeyboardInterrupt:
        raise interrupted(f"Interrupted; {done}") from None
    if as_json:
        print(json.dumps(_content(job, ticket, table), indent=2, allow_nan=False, default=str))
    else:
        _print(job, table)


def _check_pruner(settings: Settings) -> None:
    """Raise :class:`BadInput` for an unknown pruner, or options that it does not take."""
    from ticketsearch.pruners import check_scores, resolve_pruner

    method, options = _method(settings), settings.seeding.options
    check_scores(resolve_pruner(method), method, options)


def _method(settings: Settings) -> str:
    """Return the one pruner; raises :class:`BadInput` where there are several."""
    method = settings.seeding.method
    if not isinstance(method, str):
        raise BadInput(f"one pruner makes a mask, but got {', '.join(method)}; give one of them")
    return method


def _default_name(settings: Settings) -> Path:
    method = _method(settings).rpartition(":")[2]
    return Path(f"{method}-{settings.seeding.density:g}.safetensors")


def _prune(job: _Pruning) -> Ticket:
    from ticketsearch.pruners import LayerCollapseWarning
    from ticketsearch.seeding import prune_copies

    seeding = job.settings.seeding
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)  # the table shows empty layers
        tickets = prune_copies(
            job.network,
            job.dataset,
            seeding.density,
            1,
            job.settings.seed,
            method=seeding.method,
            scope=seeding.scope,
            schedule=seeding.schedule,
            steps=seeding.steps or None,
            batch=job.batch,
            **seeding.options,
        )
    return tickets[0]


def _save(job: _Pruning, ticket: Ticket) -> None:
    from safetensors import SafetensorError

    from ticketsearch.tickets import save_ticket

    try:
        save_ticket(job.path, job.network, ticket)
    except SafetensorError as problem:
        raise BadInput(f"{str(job.path)!r} cannot be written ({problem}); give another --output") from problem


def _print(job: _Pruning, table: MaskTable) -> None:
    from ticketsearch.report.text import mask_lines

    settings, seeding = job.settings, job.settings.seeding
    cuts = f"{job.steps} cuts, {seeding.schedule}" if job.steps > 1 else "1 cut"
    print(network_line(settings, job.network))
    print(f"{_method(settings).rpartition('/')[2]}, {cuts}, {seeding.scope} scope")
    for line in mask_lines(table, seeding.density):
        print(line)
    print(f"Ticket: {job.path}")


def _content(job: _Pruning, ticket: Ticket, table: MaskTable) -> dict[str, Any]:
    """Return the table and the settings of the pruning, for JSON."""
    from ticketsearch.report.text import mask_content

    settings = job.settings
    return {
        "data": settings.data.model_dump(),
        "model": settings.model.model_dump(),
        "initialization": job.network.initialization._asdict(),
        "method": settings.seeding.method,
        "options": settings.seeding.options,
        "scope": settings.seeding.scope,
        "schedule": settings.seeding.schedule,
        "steps": job.steps,
        "batch": job.batch,
        "seed": settings.seed,
        "requested_density": settings.seeding.density,
        **mask_content(table),
        "digest": ticket.digest,
        "key": ticket.key,
        "ticket": str(job.path),
    }
