"""Tickets: a mask, the initialization it is trained from, where it came from, and how it scored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from deap import base
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ticketsearch.budget import Spent
from ticketsearch.checks import checked, real_array
from ticketsearch.errors import BadInput
from ticketsearch.guidance import Guidance
from ticketsearch.ladder import Agreement
from ticketsearch.masks import Mask, check_mask, density, digest, effective_density, pack, unpack
from ticketsearch.models import Factory, Initialization, Network, restore

__all__ = [
    "Assessment",
    "LoadedTicket",
    "Scores",
    "Ticket",
    "TicketFitness",
    "Tickets",
    "load_ticket",
    "save_ticket",
]

FORMAT = "ticketsearch-ticket-1"


class TicketFitness(base.Fitness):  # type: ignore[misc]  # deap has no types
    """The rung in training steps (0 without a ladder), then the score; both larger is better.

    Wherever fitnesses are compared, a higher rung comes before any score. Where training diverged they are 0
    and −inf: nothing is worse.
    """

    weights = (1.0, 1.0)


class Scores(np.ndarray[tuple[int, ...], np.dtype[np.float64]]):
    """The ``(population,)`` float scores a fitness returns, with what is to be recorded beside them.

    ``Scores(values, {"accuracy": accuracy})`` is an array like any other: larger is better, and it is what
    selection goes by, after the rungs where there are any. What is computed from it is an array without
    all that.

    Attributes
    ----------
    measures : ``{name: (population,) float}``.
    rungs : ``(population,)`` int, the training steps that each score was reached with on a ladder (see
        :func:`~ticketsearch.ladder.climb`), or None where all scores compare as they are.
    agreements : how far the rungs agree on this generation's controls.
    phases : ``{name: seconds}``, parts of the time that the fitness took, such as ``training``.
    guidance : what each mask's training revealed, None for one that diverged; None where nothing did.
    spent : what the evaluations took; nothing where the fitness does not say.
    """

    measures: dict[str, NDArray[np.float64]]
    rungs: NDArray[np.int64] | None
    agreements: list[Agreement]
    phases: dict[str, float]
    guidance: list[Guidance | None] | None
    spent: Spent

    @checked
    def __new__(
        cls,
        values: ArrayLike,
        measures: Mapping[str, ArrayLike] | None = None,
        *,
        rungs: ArrayLike | None = None,
        agreements: Iterable[Agreement] = (),
        phases: Mapping[str, float] | None = None,
        guidance: Iterable[Guidance | None] | None = None,
        spent: Spent = Spent(),  # noqa: B008 - never changes
    ) -> Scores:
        """Return a view of the values that carries the rest.

        Raises :class:`BadInput` for rungs that are no integers >= 0.
        """
        scores = real_array("scores", values).astype(np.float64).view(cls)
        named = (measures or {}).items()
        scores.measures = {k: real_array(f"measures {k!r}", v).astype(np.float64) for k, v in named}
        scores.rungs = None if rungs is None else _rungs(rungs)
        scores.agreements = [Agreement(*map(int, counts)) for counts in agreements]
        scores.phases = {name: float(seconds) for name, seconds in (phases or {}).items()}
        scores.guidance = None if guidance is None else list(guidance)
        scores.spent = spent
        return scores

    def __array_finalize__(self, source: object) -> None:
        """Called by NumPy for whatever is made from scores."""
        self.measures, self.rungs, self.agreements, self.phases = {}, None, [], {}
        self.guidance, self.spent = None, Spent()


def _rungs(given: ArrayLike) -> NDArray[np.int64]:
    rungs = np.asarray(given)
    if rungs.dtype.kind not in "iu":
        raise BadInput(f"rungs are training steps, integers >= 0, but got {rungs.dtype}; round them")
    if (rungs < 0).any():
        raise BadInput(f"rungs are training steps, integers >= 0, but got {rungs.min()}; 0 is the lowest")
    return rungs.astype(np.int64)


class Assessment(NamedTuple):
    """What a fitness said of a ticket in one generation; the score is −inf if training diverged."""

    generation: int
    rung: int
    score: float
    measures: dict[str, float]


@dataclass(eq=False)
class Ticket:
    """A mask with its initialization, provenance and scores.

    Attributes
    ----------
    mask : ``(weights,)`` bool, read-only.
    initialization : what it is trained from; None where the fitness has no use for one.
    pruned_from : the initialization whose pruning its lineage began with (first parents' line).
    operator : what made it: a pruner, a crossover or mutation, ``immigrant``, ``given``.
    generation : the generation it was evaluated in.
    parents : numbers of its parents.
    number : its number in the run, in order of evaluation.
    key : its duplicate key; equal for the same network up to hidden-neuron permutation.
    exact : whether the key alone says so; if not, tickets were compared pair by pair.
    fitness : DEAP's fitness, by which tickets compare; ``rung`` and ``score`` read it.
    measures : further figures of its evaluation, e.g. ``accuracy``.
    assessments : what fitness and measures are the means of, those of the highest rung; fitness is less what
        their rounds are worth, where that is known (:mod:`ticketsearch.levelling`).
    guidance : what its training revealed, for operators; None where nothing did.
    """

    mask: Mask
    initialization: Initialization | None = None
    pruned_from: Initialization | None = None
    operator: str = "given"
    generation: int = 0
    parents: tuple[int, ...] = ()
    number: int = -1
    key: str = ""
    exact: bool = True
    fitness: TicketFitness = field(default_factory=TicketFitness)
    measures: dict[str, float] = field(default_factory=dict)
    guidance: Guidance | None = None
    assessments: list[Assessment] = field(default_factory=list)

    def add(self, assessment: Assessment) -> None:
        """Take account of an assessment, in fitness and measures."""
        self.assessments.append(assessment)
        top = max(each.rung for each in self.assessments)
        counted = [each for each in self.assessments if each.rung == top]
        self.fitness.values = (float(top), sum(each.score for each in counted) / len(counted))
        self.measures = {
            name: float(np.mean([each.measures[name] for each in counted if name in each.measures]))
            for name in counted[0].measures
        }

    def afresh(self) -> Ticket:
        """Return a copy that can be assessed again while this one stays as it is."""
        return replace(self, fitness=TicketFitness(self.fitness.values), assessments=[*self.assessments])

    @property
    def score(self) -> float:
        """How good it is at its rung, larger is better; −inf if training diverged, NaN before evaluation.

        Scores of different rungs do not compare; ``fitness`` does.
        """
        return float(self.fitness.values[1]) if self.fitness.valid else float("nan")

    @property
    def rung(self) -> int:
        """The training steps of its score; 0 where there is no ladder, and if training diverged."""
        return int(self.fitness.values[0]) if self.fitness.valid else 0

    @property
    def diverged(self) -> bool:
        """Whether the fitness was not finite."""
        return self.score == float("-inf")

    @cached_property
    def digest(self) -> str:
        """The mask's identity."""
        return digest(self.mask)


class Tickets(list[Ticket]):
    """A list of tickets whose masks are at hand as one array.

    ``spent`` is what making them took, where a pruner trained for it.
    """

    spent: Spent = Spent()

    @property
    def masks(self) -> Mask:
        """The ``(population, weights)`` bool array of the masks."""
        return np.stack([ticket.mask for ticket in self])


class LoadedTicket(NamedTuple):
    """A network with its initial weights, and the mask that makes a ticket of it."""

    network: Network
    mask: Mask


@checked
def save_ticket(path: str | Path, network: Network, ticket: Ticket) -> None:
    """Write a ticket as safetensors: initial weights by name, the packed mask, and metadata.

    The network must have the ticket's initialization. Metadata are text: model, options, shapes, scheme,
    seed, densities, digest, key, rung, fitness and measures.
    """
    if ticket.initialization is not None and ticket.initialization != network.initialization:
        raise BadInput(
            f"the ticket is trained from {ticket.initialization}, but the network has "
            f"{network.initialization}"
        )
    mask = check_mask(ticket.mask, network.spec)
    tensors = {name: tensor.contiguous() for name, tensor in network.parameters().items()}
    tensors["mask"] = torch.frombuffer(bytearray(pack(mask)), dtype=torch.uint8)
    content = {
        "format": FORMAT,
        "model": network.name,
        "options": _options_json(network),
        "input_shape": json.dumps(network.input_shape),
        "classes": str(network.classes),
        "scheme": network.initialization.scheme,
        "seed": str(network.initialization.seed),
        "spec": network.spec.signature,
        "density": repr(density(mask)),
        "effective_density": repr(effective_density(mask, network.spec)),
        "digest": ticket.digest,
        "key": ticket.key,
        "operator": ticket.operator,
        "rung": str(ticket.rung),
        "fitness": repr(ticket.score),
        "measures": json.dumps(ticket.measures),
    }
    save_file(tensors, path, metadata=content)


def _options_json(network: Network) -> str:
    try:
        return json.dumps(dict(network.options))
    except TypeError as error:
        raise BadInput(
            f"a ticket file holds model options that are text, numbers or lists of them, but {error}; "
            "bind the others in a factory of your own"
        ) from error


@checked
def load_ticket(path: str | Path, *, factory: Factory | None = None) -> LoadedTicket:
    """Return the network with its initial weights and the mask of a ticket file.

    ``factory`` builds the module where the file's model was a function without a name of its own.
    Raises :class:`BadInput` for a file that is missing, torn, or no ticket.
    """
    try:
        with safe_open(path, framework="pt") as file:
            content = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise BadInput(f"no ticket file {str(path)!r}") from error
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{str(path)!r} is torn or no safetensors file ({error})") from error
    if content.get("format") != FORMAT or "mask" not in tensors:
        raise BadInput(f"{str(path)!r} is no ticket: its format is {content.get('format')!r}, not {FORMAT!r}")
    packed = tensors.pop("mask").numpy().tobytes()
    try:
        model, signature = content["model"], content["spec"]
        input_shape, classes = tuple(json.loads(content["input_shape"])), int(content["classes"])
        options = json.loads(content["options"])
        initialization = Initialization(content["scheme"], int(content["seed"]))
    except (KeyError, ValueError) as error:
        raise BadInput(f"{str(path)!r} is no whole ticket: its metadata lack or garble {error}") from error
    try:
        network = restore(factory or model, input_shape, classes, options, initialization, tensors)
    except BadInput as error:
        hint = "" if factory else "; load_ticket(path, factory=…) takes the function that builds the module"
        raise BadInput(f"{error}{hint}") from error
    if network.spec.signature != signature:
        raise BadInput(f"{str(path)!r} is of another network than model {model!r} builds now")
    return LoadedTicket(network, unpack(packed, network.spec))


def as_tickets(first: Iterable[Ticket] | ArrayLike) -> Tickets:
    """Return tickets as they are, and the rows of a ``(population, weights)`` array as new tickets."""
    if isinstance(first, Tickets):
        return first
    given = list(first) if isinstance(first, Iterable) else [first]
    if all(isinstance(ticket, Ticket) for ticket in given):
        return Tickets(given)  # type: ignore[arg-type]
    return Tickets(Ticket(mask) for mask in np.asarray(first))
