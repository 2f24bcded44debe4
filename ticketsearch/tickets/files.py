"""Ticket files: safetensors of a network's initial weights and a packed mask, with checked metadata."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import torch
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, Json, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ticketsearch.checks import checked
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, check_mask, density, effective_density, pack, unpack
from ticketsearch.models import AS_BUILT, SCHEMES, Factory, Initialization, Network, restore
from ticketsearch.models import __all__ as MODELS
from ticketsearch.plugins import code_of, relative_name
from ticketsearch.tickets.ticket import Ticket

__all__ = [
    "LoadedTicket",
    "NetworkMetadata",
    "StoredTicket",
    "check_finite",
    "load_ticket",
    "network_metadata",
    "path_of",
    "read_file",
    "read_ticket",
    "save_ticket",
    "write_file",
]

FORMAT = "ticketsearch-ticket-1"
# Function that reads the files of each format.
READERS = {FORMAT: "load_ticket", "ticketsearch-trained-1": "load_trained"}
# Largest number of values in one sample: tracing a network takes several such arrays.
MAX_INPUT = 2**20
MAX_CLASSES = 2**20


class NetworkMetadata(BaseModel):
    """The metadata of a file from which its network is built; all values are text in the file.

    Attributes
    ----------
    model, source : name of the model, and the SHA-256 of the file that it names, "" for a listed model.
    options, input_shape, classes : arguments of its factory, as JSON.
    scheme, seed : scheme and seed of the initialization.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)

    model: Annotated[str, Field(min_length=1, max_length=1000)]
    options: Json[dict[str, JsonValue]]
    input_shape: Json[Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_INPUT)], ...], Field(max_length=8)]]
    classes: Json[Annotated[int, Field(ge=1, le=MAX_CLASSES)]]
    scheme: Annotated[str, Field(pattern=f"^({'|'.join([*SCHEMES, AS_BUILT])})$")]
    seed: Json[Annotated[int, Field(ge=0, lt=2**63)]]
    source: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""

    @property
    def initialization(self) -> Initialization:
        """The scheme and seed of the initial weights."""
        return Initialization(self.scheme, self.seed)


M = TypeVar("M", bound=NetworkMetadata)


class Metadata(NetworkMetadata):
    """The metadata of a ticket file; ``spec`` is the signature of the mask spec."""

    format: Literal["ticketsearch-ticket-1"]
    spec: str


class StoredTicket(NamedTuple):
    """The content of a ticket file, with all checks that need no network.

    Attributes
    ----------
    metadata : model and initialization of its network.
    parameters : ``{name: float32 tensor}``, the initial weights, finite.
    packed : the mask's bits.
    """

    metadata: Metadata
    parameters: Mapping[str, Tensor]
    packed: bytes


class LoadedTicket(NamedTuple):
    """A network with its initial weights, and the mask of a ticket."""

    network: Network
    mask: Mask


@checked
def save_ticket(path: str | Path, network: Network, ticket: Ticket | ArrayLike) -> None:
    """Write a ticket as safetensors: initial weights by name, the packed mask, and metadata.

    An existing file is replaced atomically. Metadata are text: model, options, shapes, scheme, seed,
    densities and digests; for a model in a file of the user also the path, relative to the working folder,
    and the SHA-256.

    Parameters
    ----------
    path : the file to write.
    network : the network, with the initial weights that the ticket is trained from.
    ticket : a ticket, or a mask ``(weights,)`` of the network.

    Raises :class:`BadInput` for a mask of another network, another initialization, and options that JSON
    cannot hold.
    """
    if not isinstance(network, Network):
        raise BadInput(
            f"save_ticket(path, network, mask) takes a Network, but got {type(network).__name__}; "
            "ts.initialize makes one"
        )
    if not isinstance(ticket, Ticket):
        ticket = Ticket(check_mask(ticket, network.spec), network.initialization)
    if ticket.initialization is not None and ticket.initialization != network.initialization:
        raise BadInput(
            f"the ticket is trained from {ticket.initialization}, but the network has "
            f"{network.initialization}"
        )
    mask = check_mask(ticket.mask, network.spec)
    tensors = {name: tensor.contiguous() for name, tensor in network.parameters().items()}
    tensors["mask"] = torch.frombuffer(bytearray(pack(mask)), dtype=torch.uint8)
    write_file(path_of(path), save(tensors, metadata=_metadata_of(network, ticket, mask)))


def network_metadata(network: Network) -> dict[str, str]:
    """Return the metadata from which a network is built, all as text."""
    return {
        "model": relative_name(network.name, Path.cwd()),
        "source": network.source,
        "options": _options_json(network),
        "input_shape": json.dumps(network.input_shape),
        "classes": str(network.classes),
        "scheme": network.initialization.scheme,
        "seed": str(network.initialization.seed),
    }


def _metadata_of(network: Network, ticket: Ticket, mask: Mask) -> dict[str, str]:
    """Return the metadata of a ticket file, all as text."""
    return {
        "format": FORMAT,
        **network_metadata(network),
        "spec": network.spec.signature,
        "density": repr(density(mask)),
        "effective_density": repr(effective_density(mask, network.spec)),
        "digest": ticket.digest,
        "key": ticket.key,
        "operator": ticket.operator,
        "rung": str(ticket.rung),
        "fitness": repr(ticket.score),
        "measures": json.dumps(ticket.measures),
    }


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically, with the default mode, which safetensors' own function does not give."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except IsADirectoryError as error:
        raise BadInput(f"a ticket is a file, but {str(path)!r} is a folder; give another name") from error
    finally:
        temporary.unlink(missing_ok=True)


def _options_json(network: Network) -> str:
    try:
        return json.dumps(dict(network.options))
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"a ticket file holds model options that are text, numbers or lists of them, but {error}; "
            "bind other options in your own factory"
        ) from error


def read_ticket(path: str | Path, *, code: bool = True) -> StoredTicket:
    """Return the checked content of a ticket file; no network is built.

    ``code`` states whether its model may be a function outside the package. Raises :class:`BadInput` where it
    may not be, and for a file that is missing, torn, not a ticket, or has values out of range.
    """
    metadata, tensors = read_file(path, Metadata, FORMAT, code=code)
    if "mask" not in tensors:
        raise BadInput(f"{str(path)!r} is no whole ticket: it has no mask")
    mask = tensors.pop("mask")
    if mask.dtype != torch.uint8 or mask.ndim != 1:
        raise BadInput(
            f"{str(path)!r} is no whole ticket: its mask is bytes, one row of them, but got {mask.dtype} of "
            f"shape {tuple(mask.shape)}"
        )
    check_finite(path, tensors, (torch.float32,))
    return StoredTicket(metadata, tensors, mask.numpy().tobytes())


def read_file(path: str | Path, kind: type[M], form: str, *, code: bool) -> tuple[M, dict[str, Tensor]]:
    """Return the checked metadata and the tensors of a file of a format.

    ``code`` states whether its model may be a function outside the package. Raises :class:`BadInput` where it
    may not be, and for a file that is missing, torn, of another format, or has metadata out of range.
    """
    path = path_of(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = _metadata(path, file.metadata() or {}, kind, form, code)
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise BadInput(f"no ticket file {str(path)!r}") from error
    except PermissionError as error:
        raise BadInput(f"ticket file {str(path)!r} cannot be read: permission denied") from error
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{str(path)!r} is torn or no safetensors file ({error})") from error


def check_finite(path: str | Path, tensors: Mapping[str, Tensor], dtypes: Collection[torch.dtype]) -> None:
    """Raise :class:`BadInput` for a tensor of a file of another type, or with values that are not finite."""
    for name, tensor in tensors.items():
        if tensor.dtype not in dtypes or not torch.isfinite(tensor).all():
            got = "NaN or infinite values" if tensor.dtype in dtypes else str(tensor.dtype)
            wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            raise BadInput(f"tensors of a ticket are finite {wanted}, but {name} in {str(path)!r} has {got}")


def path_of(path: object) -> Path:
    """Return a file's path. Raises :class:`BadInput` for anything else."""
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise BadInput(f"a ticket file is given by its path, but got {_cut(path)}")
    return Path(path)


def _metadata(path: Path, content: Mapping[str, str], kind: type[M], form: str, code: bool) -> M:
    got = content.get("format")
    if got != form:
        hint = f"; ticketsearch.{READERS[got]} reads it" if got in READERS else ""
        raise BadInput(f"{str(path)!r} is no ticket: its format is {_cut(got)}, not {form!r}{hint}")
    if not code and code_of(model := content.get("model", ""), MODELS):  # the first check
        raise BadInput(
            f"a ticket file runs no code, but {str(path)!r} names the model {_cut(model)}; give the function "
            f"that builds it, {READERS[form]}(path, factory=…), or trust=True after reading that code"
        )
    try:
        metadata = kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        got = f", but got {_cut(content[name])}" if name in content else ""
        raise BadInput(
            f"{str(path)!r} is no whole ticket: {name} in its metadata is wrong "
            f"({_cut(first['msg'], repr=str)}){got}"
        ) from error
    if math.prod(metadata.input_shape) > MAX_INPUT:
        raise BadInput(
            f"a sample of a ticket's network has at most {MAX_INPUT:,} values, but the input_shape of "
            f"{str(path)!r} is {metadata.input_shape}"
        )
    return metadata


def _cut(value: object, repr: Any = repr) -> str:
    """Return a value as text of at most 80 characters on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


@checked
def load_ticket(path: str | Path, factory: str | Factory | None = None, trust: bool = False) -> LoadedTicket:
    """Return the network with its initial weights and the mask of a ticket file; no code of the file is run.

    Parameters
    ----------
    path : the file.
    factory : ``factory(input_shape, classes, **options)`` builds the module in place of the model that the
        file names: for your own model, also where its source file has moved. A name is resolved as yours.
    trust : whether a function that the file names, ``file.py:function`` or ``package.module:function``, may
        be imported and called. Read that code first.

    Raises :class:`BadInput` for a file that is missing, torn or not a ticket, for a network other than its
    model builds, and without ``factory`` and ``trust`` for a model that is not listed.
    """
    stored = read_ticket(path, code=factory is not None or trust)
    metadata = stored.metadata
    try:
        network = restore(
            factory or metadata.model,
            metadata.input_shape,
            metadata.classes,
            metadata.options,
            metadata.initialization,
            stored.parameters,
        )
    except BadInput as error:
        hint = "" if factory else "; load_ticket(path, factory=…) takes the function that builds the module"
        raise BadInput(f"ticket {str(path)!r}: {error}{hint}") from error
    if network.spec.signature != metadata.spec:
        raise BadInput(f"{str(path)!r} is of another network than model {metadata.model!r} builds now")
    return LoadedTicket(network, unpack(stored.packed, network.spec))
