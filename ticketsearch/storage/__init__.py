"""Storage: a folder with one SQLite file, written by one process at a time, and validated as it is read."""

from __future__ import annotations

from ticketsearch.storage.database import Database, Kind
from ticketsearch.storage.folders import LOCK, lock_folder, refuse_links, write_atomically
from ticketsearch.storage.stores import SqliteStore, connect, system_error, transaction
from ticketsearch.storage.tables import Count, Finite, Share, Table, Word, unreadable, validated

__all__ = [
    "LOCK",
    "Count",
    "Database",
    "Finite",
    "Kind",
    "Share",
    "SqliteStore",
    "Table",
    "Word",
    "connect",
    "lock_folder",
    "refuse_links",
    "system_error",
    "transaction",
    "unreadable",
    "validated",
    "write_atomically",
]
