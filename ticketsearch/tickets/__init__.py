"""Tickets: a mask with its initialization, provenance and scores; duplicates; and ticket files."""

from ticketsearch.tickets.duplicates import Key as Key
from ticketsearch.tickets.duplicates import Seen as Seen
from ticketsearch.tickets.duplicates import initial_weights as initial_weights
from ticketsearch.tickets.files import LoadedTicket as LoadedTicket
from ticketsearch.tickets.files import StoredTicket as StoredTicket
from ticketsearch.tickets.files import load_ticket as load_ticket
from ticketsearch.tickets.files import read_ticket as read_ticket
from ticketsearch.tickets.files import save_ticket as save_ticket
from ticketsearch.tickets.pruned import from_pruned as from_pruned
from ticketsearch.tickets.scores import Assessment as Assessment
from ticketsearch.tickets.scores import Scores as Scores
from ticketsearch.tickets.scores import TicketFitness as TicketFitness
from ticketsearch.tickets.ticket import Ticket as Ticket
from ticketsearch.tickets.ticket import Tickets as Tickets
from ticketsearch.tickets.ticket import as_tickets as as_tickets
from ticketsearch.tickets.trained import LoadedNetwork as LoadedNetwork
from ticketsearch.tickets.trained import load_trained as load_trained
from ticketsearch.tickets.trained import save_trained as save_trained
from ticketsearch.tickets.trained import trained_metadata as trained_metadata
