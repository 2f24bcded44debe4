"""Tickets: a mask with its initialization, provenance and scores; duplicates; and ticket files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketsearch import lazy

__all__ = [
    "Assessment",
    "Key",
    "LoadedNetwork",
    "LoadedTicket",
    "Scores",
    "Seen",
    "StoredTicket",
    "Ticket",
    "TicketFitness",
    "Tickets",
    "as_tickets",
    "from_pruned",
    "initial_weights",
    "load_ticket",
    "load_trained",
    "read_ticket",
    "save_ticket",
    "save_trained",
    "trained_metadata",
    "trained_transform",
]

_HOMES = {
    "duplicates": "Key Seen initial_weights",
    "files": "LoadedTicket StoredTicket load_ticket read_ticket save_ticket",
    "pruned": "from_pruned",
    "scores": "Assessment Scores TicketFitness",
    "ticket": "Ticket Tickets as_tickets",
    "trained": "LoadedNetwork load_trained save_trained trained_metadata trained_transform",
}

if TYPE_CHECKING:
    from ticketsearch.tickets.duplicates import Key, Seen, initial_weights
    from ticketsearch.tickets.files import LoadedTicket, StoredTicket, load_ticket, read_ticket, save_ticket
    from ticketsearch.tickets.pruned import from_pruned
    from ticketsearch.tickets.scores import Assessment, Scores, TicketFitness
    from ticketsearch.tickets.ticket import Ticket, Tickets, as_tickets
    from ticketsearch.tickets.trained import (
        LoadedNetwork,
        load_trained,
        save_trained,
        trained_metadata,
        trained_transform,
    )

__getattr__ = lazy.face(__name__, _HOMES)
