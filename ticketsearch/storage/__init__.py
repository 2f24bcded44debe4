"""Storage: a folder with one SQLite file, written by one process at a time, and validated as it is read."""

from __future__ import annotations

from ticketsearch.storage.database import Database
from ticketsearch.storage.folders import LOCK, is_locked, lock_folder, refuse_links, write_atomically
from ticketsearch.storage.sqlite import Kind, create_file, transaction
from ticketsearch.storage.tables import Count, Finite, Share, Table, Word, validated

__all__ = [
    "LOCK",
    "Count",
    "Database",
    "Finite",
    "Kind",
    "Share",
    "Table",
    "Word",
    "create_file",
    "is_locked",
    "lock_folder",
    "refuse_links",
    "transaction",
    "validated",
    "write_atomically",
]
