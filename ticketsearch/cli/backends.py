"""Flags of the backend of ``evolve``, and the settings that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from ticketsearch.cli.flags import option, setting_option
from ticketsearch.errors import BadInput

__all__ = ["Address", "Backend", "Scheduler", "backend_settings"]

Backend = Annotated[str | None, setting_option("training.backend", "--backend")]
Scheduler = Annotated[
    str | None,
    option("--scheduler", "Address of the Dask scheduler, for backend dask.", metavar="HOST:PORT"),
]
Address = Annotated[
    str | None,
    option("--address", "Address of the Ray cluster, or auto, for backend ray.", metavar="HOST:PORT"),
]
# Flag of the address of each cluster backend.
CLUSTERS = {"dask": "--scheduler", "ray": "--address"}


def backend_settings(
    backend: str | None, scheduler: str | None, address: str | None, settings: Mapping[str, Any]
) -> dict[str, str]:
    """Return the settings of backend and address that the flags stand for; ``settings`` are the others given.

    Raises :class:`BadInput` where the flags contradict each other or these settings.
    """
    if scheduler is not None and address is not None:
        raise BadInput(f"a cluster has one address, but got {scheduler!r} and {address!r}; drop one")
    if scheduler is None and address is None:
        if backend is None:
            return {}
        # The address of a settings file, or of the run to go on with, may be another backend's.
        keep = "training.address" in settings and settings.get("training.backend", backend) == backend
        return {"training.backend": backend} | ({} if keep else {"training.address": ""})
    cluster = "dask" if address is None else "ray"
    chosen = str(backend or settings.get("training.backend", cluster))
    if chosen != cluster:
        way_out = f"give {CLUSTERS[chosen]}" if chosen in CLUSTERS else "drop it"
        way_out += "" if backend else f", or add --backend {cluster}"
        raise BadInput(f"{CLUSTERS[cluster]} is for backend {cluster!r}, but got {chosen!r}; {way_out}")
    return {"training.backend": cluster, "training.address": scheduler or address or ""}
