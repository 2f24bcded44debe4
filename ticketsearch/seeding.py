"""The first population: what a pruner leaves of differently initialized copies of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import numpy as np

from ticketsearch.canonical import Weights, canonical_identity
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.identity import Key, Seen
from ticketsearch.masks import MaskSpec
from ticketsearch.models import Initialization, Network
from ticketsearch.operators import swap_mutation
from ticketsearch.pruners import ScoreFunction, prune_all
from ticketsearch.streams import Stream, seed_sequence
from ticketsearch.tickets import Ticket, Tickets

__all__ = ["DEFAULT_SCHEMES", "fill_population", "initializations", "prune_copies", "seed_population"]

# A gain a layer changes nothing for SynFlow, so schemes differ by distribution, not by scale.
DEFAULT_SCHEMES = ("kaiming_normal", "kaiming_uniform", "xavier_uniform", "orthogonal")
# How often a mutant that is a network already there is made again before the population is given up.
ATTEMPTS = 100


def initializations(
    count: int, *, schemes: Sequence[str] = DEFAULT_SCHEMES, seed: int = 0
) -> list[Initialization]:
    """Return ``count`` initializations, scheme after scheme, each with its own seed drawn from ``seed``."""
    if count < 1:
        raise BadInput(f"initializations must be >= 1, but got {count}")
    if not schemes:
        raise BadInput("at least one initialization scheme is needed, but got none")
    seeds = seed_sequence(seed, Stream.INITIALIZATIONS).generate_state(count)
    return [Initialization(schemes[i % len(schemes)], int(s)) for i, s in enumerate(seeds)]


def prune_copies(
    network: Network,
    dataset: Dataset | None = None,
    density: float = 0.05,
    initializations: int | Sequence[Initialization] = 8,
    seed: int = 0,
    *,
    method: str | ScoreFunction = "synflow",
    schemes: Sequence[str] = DEFAULT_SCHEMES,
    own: bool = False,
    duplicate_key: Key = canonical_identity,
    weights: Callable[[Ticket], Weights] | None = None,
    **options: Any,
) -> Tickets:
    """Return what the pruner leaves of each copy of the network, one ticket a copy, also where two are equal.

    Parameters are those of :func:`seed_population`.
    """
    copies = _copies(network, initializations, schemes, seed)
    seeds = seed_sequence(seed, Stream.PRUNING).generate_state(len(copies))
    name = method.rpartition(":")[2] if isinstance(method, str) else getattr(method, "__name__", "pruner")
    masks = prune_all(
        copies, method, density=density, dataset=dataset, seeds=[int(s) for s in seeds], **options
    )
    tickets, seen = Tickets(), Seen(network.spec, duplicate_key, weights)
    for copy, mask in zip(copies, masks, strict=True):
        trained_from = copy.initialization if own else network.initialization
        tickets.append(Ticket(mask, trained_from, copy.initialization, name))
        seen.admit(tickets[-1])
    return tickets


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

    Raises :class:`BadInput` if no ``size`` different networks are found.
    """
    if size < 1:
        raise BadInput(f"a population holds at least 1 ticket, but got size={size}")
    rng = np.random.default_rng(seed_sequence(seed, Stream.SEEDING))
    different = list({ticket.key: ticket for ticket in reversed(pruned)}.values())[::-1]
    tickets = Tickets(different[:size])
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


def seed_population(
    network: Network,
    dataset: Dataset | None = None,
    size: int = 32,
    density: float = 0.05,
    initializations: int | Sequence[Initialization] = 8,
    seed: int = 0,
    *,
    mutation_rate: float = 0.1,
    duplicate_key: Key = canonical_identity,
    weights: Callable[[Ticket], Weights] | None = None,
    **pruning: Any,
) -> Tickets:
    """Return the first population: pruned copies of the network, then mutants of them up to ``size``.

    The network itself is the first copy, the others are drawn by :func:`initializations`; a mask that is a
    network already there (up to hidden-neuron permutation) is left out.

    Parameters
    ----------
    dataset : only for pruners that use data.
    size : tickets in the population.
    density : kept / total of every mask, in (0, 1].
    initializations : how many copies, the network itself among them; or the (scheme, seed) of each copy
        beside it.
    seed : of the copies' initializations, the pruner and the mutants.
    mutation_rate : chance that a mutant swaps a weight, in (0, 1].
    duplicate_key, weights : what counts as the same network; see :class:`ticketsearch.identity.Seen`.
    pruning : ``method`` (``"synflow"``), ``schemes`` of the copies, ``own`` (tickets are trained from the
        initialization they were pruned from, rather than the network's), and options of
        :func:`ticketsearch.pruners.prune`.

    Raises :class:`BadInput` for a bad argument, or if no ``size`` different networks are found.
    """
    if size < 1:
        raise BadInput(f"a population holds at least 1 ticket, but got size={size}")
    same: dict[str, Any] = {"duplicate_key": duplicate_key, "weights": weights}
    pruned = prune_copies(network, dataset, density, initializations, seed, **same, **pruning)
    return fill_population(pruned, network.spec, size, seed, mutation_rate=mutation_rate, **same)


def _copies(
    network: Network, wanted: int | Sequence[Initialization], schemes: Sequence[str], seed: int
) -> list[Network]:
    if isinstance(wanted, Sequence):
        drawn = list(wanted)
    else:
        # The first drawn one is the network's own place: its scheme comes first in the turn.
        drawn = initializations(index(wanted), schemes=schemes, seed=seed)[1:]
    return [network, *(network.reinitialized(*initialization) for initialization in drawn)]
