"""Duplicate tickets: keys of networks, and the set of networks seen in a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from ticketsearch.canonical import Canonical, Weights, canonical_identity, isomorphic
from ticketsearch.masks import MaskSpec
from ticketsearch.tickets.ticket import Ticket

if TYPE_CHECKING:
    from ticketsearch.models import Network

__all__ = ["Key", "Seen", "initial_weights"]

# key(mask, spec), or with weights key(mask, spec, weights).
Key = Callable[..., str | Canonical]


class Seen:
    """The set of networks seen in a search, each with its duplicate key.

    Where the search for a canonical form exceeds its budget, a ticket is compared one by one with the tickets
    of the same refinement; it gets the key of an isomorphic one, or a new key.

    Parameters
    ----------
    spec : the mask spec.
    duplicate_key : ``key(mask, spec)``, equal for masks that count as the same network: a text, or a
        :class:`~ticketsearch.canonical.Canonical`.
    weights : if given, returns a ticket's initial weights; tickets are then duplicates only if these match
        too, and the key is ``key(mask, spec, weights)``.
    keys : keys of the networks seen before.
    searched : tickets among these whose canonical form needed a search; other tickets are ignored.
    """

    def __init__(
        self,
        spec: MaskSpec,
        duplicate_key: Key = canonical_identity,
        weights: Callable[[Ticket], Weights] | None = None,
        *,
        keys: Iterable[str] = (),
        searched: Iterable[Ticket] = (),
    ) -> None:
        self.spec = spec
        self.duplicate_key = duplicate_key
        self.weights = weights
        # By key the number of the ticket that brought it, −1 for keys given here.
        self.keys = dict.fromkeys(keys, -1)
        self.alike: dict[str, list[Ticket]] = {}
        for ticket in searched:
            self._remember(ticket)

    def admit(self, ticket: Ticket) -> bool:
        """Set the key of a ticket, and return whether its network is new."""
        weights = () if self.weights is None else (self.weights(ticket),)
        key = self.duplicate_key(ticket.mask, self.spec, *weights)
        ticket.key, ticket.exact = key if isinstance(key, Canonical) else (key, True)
        if ticket.exact and ticket.key in self.keys:
            return False
        alike = self.alike.get(Canonical(ticket.key).bucket, [])
        for other in alike:
            if not (ticket.exact and other.exact) and self._same(ticket, other):
                ticket.key, ticket.exact = other.key, other.exact
                return False
        if not ticket.exact:
            ticket.key += str(len(alike))
        self.keys[ticket.key] = ticket.number
        self._remember(ticket)
        return True

    def until(self, count: int) -> tuple[list[str], list[Ticket]]:
        """Return the keys, and the tickets with a searched form, of tickets numbered less than ``count``."""
        searched = [ticket for alike in self.alike.values() for ticket in alike if ticket.number < count]
        return [key for key, number in self.keys.items() if number < count], searched

    def _remember(self, ticket: Ticket) -> None:
        canonical = Canonical(ticket.key)
        if canonical.searched:
            self.alike.setdefault(canonical.bucket, []).append(ticket)

    def _same(self, a: Ticket, b: Ticket) -> bool:
        weights = None if self.weights is None else (self.weights(a), self.weights(b))
        return isomorphic(a.mask, b.mask, self.spec, weights=weights)


def initial_weights(network: Network) -> Weights:
    """Return the initial weights of a network, for the duplicate key of a ticket trained from it.

    Units are labelled by the other tensors that they index, i.e. biases and normalizations.
    """
    tensors = {name: tensor.numpy() for name, tensor in network.parameters().items()}
    spec = network.spec
    weights = spec.join({layer.name: tensors.pop(layer.name) for layer in spec.layers})
    values: dict[str, list[np.ndarray]] = {}
    for name in [name for name in tensors if name in network.wiring.axes]:
        tensor, start = tensors.pop(name), 0
        tensor = np.moveaxis(tensor, network.wiring.numbered_axis(name, tensor.shape), 0)
        for segment in network.wiring.axes[name]:
            group = spec.groups[segment.group]
            end = start + group.size * segment.block
            values.setdefault(group.name, []).append(tensor[start:end].reshape(group.size, -1))
            start = end
    units = {name: np.hstack(columns) for name, columns in values.items()}
    return Weights(weights, units, b"".join(tensor.tobytes() for tensor in tensors.values()))
