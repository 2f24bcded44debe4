"""``python -m ticketsearch`` is the command ``ticketsearch``."""

from ticketsearch.cli import main

main()
