"""The first population: what a pruner leaves of differently initialized copies of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ticketsearch.canonical import canonical_key
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.models import AS_BUILT, Initialization, Network
from ticketsearch.operators import swap_mutation
from ticketsearch.pruners import ScoreFunction, prune
from ticketsearch.tickets import Ticket, Tickets

__all__ = ["DEFAULT_SCHEMES", "initializations", "seed_population"]

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
    seeds = np.random.SeedSequence(seed).generate_state(count)
    return [Initialization(schemes[i % len(schemes)], int(s)) for i, s in enumerate(seeds)]


def seed_population(
    network: Network,
    dataset: Dataset | None = None,
    size: int = 32,
    density: float = 0.05,
    initializations: int | Sequence[Initialization] = 8,
    seed: int = 0,
    *,
    method: str | ScoreFunction = "synflow",
    schemes: Sequence[str] = DEFAULT_SCHEMES,
    own: bool = False,
    mutation_rate: float = 0.1,
    duplicate_key: Callable[[Mask, MaskSpec], str] = canonical_key,
    **options: Any,
) -> Tickets:
    """Return the first population: pruned copies of the network, then mutants of them up to ``size``.

    The network itself is the first copy, the others are drawn by :func:`initializations`; a mask that is a
    network already there (up to hidden-neuron permutation) is left out. What is missing to ``size`` is made
    by swap mutation of the pruned masks in turn.

    Parameters
    ----------
    dataset : only for pruners that use data.
    density : kept / total of every mask, in (0, 1].
    initializations : how many copies, or the (scheme, seed) of each beside the network's own.
    method, options : the pruner and its options; see :func:`ticketsearch.pruners.prune`.
    own : tickets are trained from the initialization they were pruned from, rather than the network's.
    duplicate_key : equal for masks that count as the same network.

    Raises :class:`BadInput` for a bad argument, or if no ``size`` different networks are found.
    """
    if size < 1:
        raise BadInput(f"a population holds at least 1 ticket, but got size={size}")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    tickets = Tickets()
    seen: set[str] = set()

    def add(ticket: Ticket) -> bool:
        ticket.key = duplicate_key(ticket.mask, network.spec)
        if ticket.key in seen or len(tickets) == size:
            return False
        seen.add(ticket.key)
        tickets.append(ticket)
        return True

    for copy in _copies(network, initializations, schemes, seed):
        mask = prune(copy, method, density=density, dataset=dataset, seed=seed, **options)
        trained_from = copy.initialization if own else network.initialization
        name = method.rpartition(":")[2] if isinstance(method, str) else getattr(method, "__name__", "pruner")
        add(Ticket(mask, trained_from, copy.initialization, name))
    pruned = list(tickets)
    failures = 0
    while len(tickets) < size:
        parent = pruned[len(tickets) % len(pruned)]
        child = swap_mutation(parent.mask, spec=network.spec, rng=rng, rate=mutation_rate)
        added = add(Ticket(child, parent.initialization, parent.pruned_from, "swap_mutation"))
        failures = 0 if added else failures + 1
        if failures == ATTEMPTS:
            raise BadInput(
                f"found only {len(tickets)} different networks of density {density:g} for a population "
                f"of {size}; ask for a smaller population or another density"
            )
    return tickets


def _copies(
    network: Network, wanted: int | Sequence[Initialization], schemes: Sequence[str], seed: int
) -> list[Network]:
    if isinstance(wanted, int):
        # The first drawn one is the network's own place: its scheme comes first in the turn.
        drawn = initializations(wanted, schemes=schemes, seed=seed)[1:]
    else:
        drawn = list(wanted)
    if network.initialization.scheme == AS_BUILT and network.factory is None:
        raise BadInput(
            "a network without a factory cannot be initialized again; use ts.initialize(factory, …)"
        )
    return [network, *(network.reinitialized(*initialization) for initialization in drawn)]
