"""The first population: pruned copies of a network with different initializations, and saved tickets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ticketsearch.canonical import Weights, canonical_identity
from ticketsearch.checks import Members, Orders, checked
from ticketsearch.cost import Spent
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, unpack
from ticketsearch.models import Initialization, Network
from ticketsearch.operators import swap_mutation
from ticketsearch.plugins import parameters_of
from ticketsearch.pruners import ScoreFunction, TrainingCost, check_density, method_options, prune_all
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.tickets import Key, Seen, Ticket, Tickets, read_ticket

__all__ = [
    "DEFAULT_SCHEMES",
    "fill_population",
    "initializations",
    "prune_copies",
    "saved_tickets",
    "seed_population",
]

# SynFlow's masks do not depend on the gain of a layer, so the schemes differ by distribution, not by scale.
DEFAULT_SCHEMES = ("kaiming_normal", "kaiming_uniform", "xavier_uniform", "orthogonal")
# Duplicates drawn in a row before filling the population is given up.
ATTEMPTS = 100
# Largest network, in weights, whose possible masks are counted before a population is filled.
COUNTABLE = 10_000


@checked
def initializations(
    count: Orders, *, schemes: Sequence[str] = DEFAULT_SCHEMES, seed: int = 0
) -> list[Initialization]:
    """Return ``count`` initializations, scheme after scheme, each with its own seed drawn from ``seed``."""
    if count < 1:
        raise BadInput(f"initializations must be >= 1, but got {count}")
    if not len(schemes):
        raise BadInput("at least one initialization scheme is needed, but got none")
    seeds = seed_sequence(seed, Stream.INITIALIZATIONS).generate_state(count)
    return [Initialization(schemes[i % len(schemes)], int(s)) for i, s in enumerate(seeds)]


def prune_copies(  # noqa: PLR0913 - the parameters of seed_population
    network: Network,
    dataset: Dataset | None = None,
    density: float = 0.05,
    initializations: int | Sequence[Initialization] = 8,
    seed: int = 0,
    *,
    method: str | ScoreFunction | Sequence[str] = "synflow",
    schemes: Sequence[str] = DEFAULT_SCHEMES,
    own: bool = False,
    duplicate_key: Key = canonical_identity,
    weights: Callable[[Ticket], Weights] | None = None,
    **options: Any,
) -> Tickets:
    """Return the mask of each pruner for each copy of the network, copy after copy, duplicates included.

    Parameters are those of :func:`seed_population`; the tickets' ``spent`` is the cost of pruners that train.
    """
    common = {name: options.pop(name) for name in parameters_of(prune_all) & set(options)}
    chosen: list[tuple[str | ScoreFunction, dict[str, Any]]]
    if isinstance(method, str) or callable(method):
        chosen = [(method, options)]
    else:
        chosen = list(method_options(method, options).items())
    names = [_name_of(pruner) for pruner, _ in chosen]
    if len(set(names)) < len(names) or not names:
        raise BadInput(f"pruners are told apart by their names, one or several, but got {method!r}")
    copies = _copies(network, initializations, schemes, seed)
    seeds = seed_sequence(seed, Stream.PRUNING).generate_state(len(copies))
    common |= {"density": density, "dataset": dataset, "seeds": [int(s) for s in seeds]}
    masks, spent = [], Spent()
    for pruner, given in chosen:
        cost = TrainingCost(pruner, given, network.wiring, dataset)
        masks.append(prune_all(copies, pruner, callback=cost.record, **common, **given))
        spent = sum((cost.spent(copy) for copy in range(len(copies))), spent)
    tickets, seen = Tickets(), Seen(network.spec, duplicate_key, weights)
    for copy, *copy_masks in zip(copies, *masks, strict=True):
        trained_from = copy.initialization if own else network.initialization
        for name, mask in zip(names, copy_masks, strict=True):
            tickets.append(Ticket(mask, trained_from, copy.initialization, name))
            seen.admit(tickets[-1])
    tickets.spent = spent
    return tickets


def saved_tickets(
    paths: Sequence[str | Path], network: Network, density: float, *, own: bool = False
) -> Tickets:
    """Return the tickets of files, and the best ones of run folders, for a first population.

    Like masks pruned from other copies they are trained from the network's initialization; their own one is
    kept as ``pruned_from``. With ``own`` they are trained from their own, which its scheme and seed must
    reproduce.

    Raises :class:`BadInput` for a file that cannot be read, and for a ticket of another network, of another
    density, or with ``own`` of initial weights that scheme and seed do not reproduce.
    """
    kept = check_density(density, network.spec)
    tickets = Tickets()
    for path in map(Path, paths):
        file = path / "tickets" / "best.safetensors" if path.is_dir() else path
        stored = read_ticket(file)  # builds nothing: the ticket must be of the network at hand
        if stored.metadata.spec != network.spec.signature:
            raise BadInput(
                f"saved tickets are of the network that is searched, {network.name}, but {str(file)!r} is of "
                f"{stored.metadata.model} on inputs {stored.metadata.input_shape}; leave it out"
            )
        mask = unpack(stored.packed, network.spec)
        if (count := int(np.count_nonzero(mask))) != kept:
            raise BadInput(
                f"saved tickets keep as many weights as density {density:g} asks for, {kept}, but "
                f"{str(file)!r} keeps {count}; leave it out, or ask for density {mask.mean():g}"
            )
        origin = stored.metadata.initialization
        if own and not _same_weights(stored.parameters, network.reinitialized(*origin)):
            raise BadInput(
                f"tickets with initializations of their own are trained from what scheme and seed make, but "
                f"{str(file)!r} holds other weights than {origin.scheme} with seed {origin.seed}; leave it "
                "out, or share one initialization"
            )
        tickets.append(Ticket(mask, origin if own else network.initialization, origin))
    return tickets


def _same_weights(first: Mapping[str, Tensor], network: Network) -> bool:
    """Return whether a network begins with these parameters, to the bit."""
    second = network.parameters()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _name_of(method: str | ScoreFunction) -> str:
    return method.rpartition(":")[2] if isinstance(method, str) else getattr(method, "__name__", "pruner")


def fill_population(
    pruned: Tickets,
    spec: MaskSpec,
    size: int,
    seed: int = 0,
    *,
    mutation_rate: float = 0.1,
    duplicate_key: Key = canonical_identity,
    weights: Callable[[Ticket], Weights] | None = None,
) -> Tickets:
    """Return ``size`` different networks: the pruned ones, as many as fit, then swap mutants of them in turn.

    Raises :class:`BadInput` if fewer than ``size`` different networks are found.
    """
    if size < 1:
        raise BadInput(f"a population holds at least 1 ticket, but got size={size}")
    if weights is None:  # with weights, each mask makes as many networks as there are initializations
        _check_room(size, pruned, spec)
    rng = np.random.default_rng(seed_sequence(seed, Stream.SEEDING))
    different = list({ticket.key: ticket for ticket in reversed(pruned)}.values())[::-1]
    tickets = Tickets(different[:size])
    tickets.spent = pruned.spent
    seen = Seen(spec, duplicate_key, weights, keys=[ticket.key for ticket in tickets], searched=tickets)
    failures = 0
    while len(tickets) < size:
        parent = different[len(tickets) % len(different)]
        mask = swap_mutation(parent.mask, spec=spec, rng=rng, rate=mutation_rate)
        mutant = Ticket(mask, parent.initialization, parent.pruned_from, "swap_mutation")
        if seen.admit(mutant):
            tickets.append(mutant)
            failures = 0
            continue
        failures += 1
        if failures == ATTEMPTS:
            raise BadInput(
                f"found only {len(tickets)} different networks of density {np.mean(parent.mask):g} for a "
                f"population of {size}; ask for a smaller population or another density"
            )
    return tickets


def _check_room(size: int, pruned: Tickets, spec: MaskSpec) -> None:
    """Refuse a population of more members than there are masks with the weight counts of the pruned ones."""
    if spec.size > COUNTABLE:
        return
    masks = sum(math.comb(spec.size, kept) for kept in {int(np.count_nonzero(t.mask)) for t in pruned})
    if masks < size:
        raise BadInput(
            f"found only {masks} different networks of density {pruned[0].mask.mean():g} for a population of "
            f"{size}, as there are no more masks; ask for a smaller population or another density"
        )


@checked
def seed_population(  # noqa: PLR0913 - the documented interface
    network: Network,
    dataset: Dataset | None = None,
    size: Members = 32,
    density: float = 0.05,
    initializations: Orders | Sequence[Initialization] = 8,
    seed: int = 0,
    *,
    mutation_rate: float = 0.1,
    duplicate_key: Key = canonical_identity,
    weights: Callable[[Ticket], Weights] | None = None,
    **pruning: Any,
) -> Tickets:
    """Return the first population: pruned copies of the network, then mutants of them up to ``size``.

    The network itself is the first copy, the others are drawn by :func:`initializations`. Duplicates, i.e.
    masks that are the same network up to a permutation of hidden neurons, are left out.

    Parameters
    ----------
    dataset : only for pruners that use data.
    size : tickets in the population.
    density : kept / total of every mask, in (0, 1].
    initializations : number of copies, the network itself included; or the (scheme, seed) of each further
        copy.
    seed : of the copies' initializations, the pruner and the mutants.
    mutation_rate : probability that a mutant swaps a weight, in (0, 1].
    duplicate_key, weights : the identity of networks; see :class:`ticketsearch.tickets.Seen`.
    pruning : ``method`` (``"synflow"``), or the names of several pruners that each prune each copy;
        ``schemes`` of the copies; ``own`` (tickets are trained from the initialization they were pruned from,
        rather than the network's); options of the pruners and of :func:`ticketsearch.prune`.

    Raises :class:`BadInput` for a bad argument, or if fewer than ``size`` different networks are found.
    """
    if size < 1:
        raise BadInput(f"a population holds at least 1 ticket, but got size={size}")
    same: dict[str, Any] = {"duplicate_key": duplicate_key, "weights": weights}
    pruned = prune_copies(network, dataset, density, initializations, seed, **same, **pruning)
    return fill_population(pruned, network.spec, size, seed, mutation_rate=mutation_rate, **same)


def _copies(
    network: Network, wanted: int | Sequence[Initialization], schemes: Sequence[str], seed: int
) -> list[Network]:
    if isinstance(wanted, int | np.integer):
        # The network takes the place of the first drawn one: its scheme comes first in the turn.
        drawn = initializations(int(wanted), schemes=schemes, seed=seed)[1:]
    else:
        drawn = list(wanted)
    return [network, *(network.reinitialized(*initialization) for initialization in drawn)]
