"""Sources: small descriptions from which a worker process builds its network and loads its data, once."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import platform
import shutil
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from joblib.externals.loky.backend.reduction import dumps
from safetensors.numpy import save_file
from safetensors.torch import load_file

from ticketsearch import models
from ticketsearch.datasets import PARTS, Dataset, Origin, load_dataset
from ticketsearch.errors import BadInput
from ticketsearch.models import Factory, Initialization, Network, initialize
from ticketsearch.plugins import OBJECT, listed, resolve
from ticketsearch.workers.attempts import one_line

__all__ = ["Source"]

# Largest description in bytes: a task of it and masks stays under 1 MB.
MAX_BYTES = 2**18
# Number of networks and of datasets that a process keeps.
KEPT = 2

T = TypeVar("T")


class Importable(NamedTuple):
    """Name of a function that every process can import."""

    module: str
    name: str


@dataclass(frozen=True, eq=False)
class Source:
    """Description of a network and its data, from which a worker rebuilds them; made by :meth:`of`.

    Attributes
    ----------
    name, options, initialization : of the network.
    model : the name of a listed model, the import name of a factory, or the factory itself.
    signature, weights : digests of the mask spec, and of the initial parameters and buffers.
    fingerprint : digest of the data.
    data, classes : name and number of classes of the dataset.
    origin : name and options by which the data are loaded, or None.
    file : the safetensors file of data made in memory, or None.
    path : the driver's import path.
    versions : of ticketsearch and torch, the same on every worker.
    key : digest of all fields.
    """

    name: str
    model: str | Importable | Factory
    options: Mapping[str, Any]
    initialization: Initialization
    signature: str
    weights: str
    fingerprint: str
    data: str
    classes: int
    origin: Origin | None
    file: str | None
    path: tuple[str, ...]
    versions: tuple[str, str]
    key: str = ""

    @classmethod
    def of(cls, network: Network, dataset: Dataset) -> Source:
        """Return the description of a network and its data.

        Data that were loaded by a name are loaded by it in each worker. Other data are written to a temporary
        file, which is deleted with the dataset or when Python exits. A factory that cannot be imported by
        name, such as one of a script, is sent whole.

        Raises :class:`BadInput` for a factory that cannot be sent, or is too large with all it refers to.
        """
        origin = dataset.origin if _size(dataset.origin) <= MAX_BYTES // 2 else None
        source = cls(
            name=network.name,
            model=_model(network),
            options=dict(network.options),
            initialization=network.initialization,
            signature=network.spec.signature,
            weights=_digest(network),
            fingerprint=dataset.fingerprint,
            data=dataset.name,
            classes=dataset.classes,
            origin=origin,
            file=None if origin else _file_of(dataset),
            path=tuple(folder or str(Path.cwd()) for folder in sys.path),
            versions=_versions(),
        )
        name = network.name.removeprefix(OBJECT)
        way_out = (
            "name a file.py:function or package.module:function, or let threads train, backend 'threads'"
        )
        try:
            content = dumps(source)
        except Exception as error:  # an object may raise anything when it is pickled
            raise BadInput(
                f"model {name!r} cannot be sent to other processes ({one_line(error)}); {way_out}"
            ) from error
        if len(content) > MAX_BYTES:
            raise BadInput(
                f"a model and its options must take at most {MAX_BYTES:,} bytes to be sent to other "
                f"processes, but {name!r} takes {len(content):,}; {way_out}"
            )
        return replace(source, key=hashlib.blake2b(content, digest_size=16).hexdigest())

    def load(self) -> tuple[Network, Dataset]:
        """Return the network and the data, built once in each process; nothing may write to them.

        Raises :class:`BadInput` if they cannot be built here, or differ from the driver's.
        """
        with _lock:
            if self.versions != _versions():
                raise BadInput(
                    f"workers need ticketsearch {self.versions[0]} and torch {self.versions[1]}, which the "
                    f"driver has, but {_here()} has {' and '.join(_versions())}; install the same"
                )
            dataset = _kept(_datasets, self.fingerprint, self._load_dataset)
            return _kept(_networks, self.key, lambda: self._build(dataset)), dataset

    def _load_dataset(self) -> Dataset:
        if self.origin is None:
            dataset = self._read()
        else:
            with self._surroundings(self.origin.folder):
                dataset = load_dataset(self.origin.name, **self.origin.options)
        if dataset.fingerprint != self.fingerprint:
            raise BadInput(
                f"the data of {self.data!r} must be the same on every worker, but those that {_here()} loads "
                "are not the driver's; give all machines the same files, and a loader that draws no chance"
            )
        return dataset

    def _read(self) -> Dataset:
        assert self.file is not None  # without an origin there is a file
        try:
            tensors: dict[str, Any] = load_file(self.file)
        except FileNotFoundError as error:
            raise BadInput(
                f"data made in memory are put into a file for the workers, but {_here()} sees no "
                f"{self.file!r}; load them by a name, or set TMPDIR to a folder that all machines share"
            ) from error
        return Dataset(name=self.data, classes=self.classes, **tensors)

    def _build(self, dataset: Dataset) -> Network:
        with self._surroundings():
            factory = _imported(self.model) if isinstance(self.model, Importable) else self.model
            network = initialize(factory, dataset, *self.initialization, **self.options)
        if (network.spec.signature, _digest(network)) != (self.signature, self.weights):
            raise BadInput(
                f"model {self.name!r} must be the same on every worker, but the one that {_here()} builds is "
                "not the driver's; it may depend on its options and on torch's generator alone"
            )
        return replace(network, name=self.name)

    @contextlib.contextmanager
    def _surroundings(self, folder: str | None = None) -> Iterator[None]:
        """Import along the driver's path, in its folder, without warnings, which the driver has shown."""
        sys.path += [folder for folder in self.path if folder not in sys.path]
        with contextlib.ExitStack() as stack, warnings.catch_warnings():
            if folder and Path(folder).is_dir():  # another machine may not have it, nor need it
                stack.enter_context(contextlib.chdir(folder))
            warnings.simplefilter("ignore")
            yield


_lock = threading.Lock()
_datasets: dict[str, Dataset] = {}
_networks: dict[str, Network] = {}
_files: weakref.WeakKeyDictionary[Dataset, str] = weakref.WeakKeyDictionary()


def _kept(cache: dict[str, T], key: str, make: Callable[[], T]) -> T:
    if key not in cache:
        while len(cache) >= KEPT:
            del cache[next(iter(cache))]
        cache[key] = make()
    return cache[key]


def _model(network: Network) -> str | Importable | Factory:
    """Return the listed name of the network's factory, else its import name, else the factory itself."""
    factory = network.factory
    if factory is None:
        raise BadInput(
            f"model {network.name!r} comes without its factory; initialize() makes one that has it"
        )
    if network.name.partition(":")[0] in models.__all__:
        with contextlib.suppress(BadInput):  # a user's function may have the name of a listed one
            known = resolve(network.name, listed(models), "model", ("input_shape", "classes"))
            if _parts(known) == _parts(factory):
                return network.name
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if module and name and module != "__main__" and module in sys.modules:
        with contextlib.suppress(AttributeError):
            if attrgetter(name)(sys.modules[module]) is factory:
                return Importable(module, name)
    return factory


def _parts(function: Callable[..., Any]) -> tuple[Any, ...]:
    """Return function, arguments and keywords: equal partials have equal parts."""
    if isinstance(function, partial):
        return function.func, function.args, function.keywords
    return function, (), {}


def _imported(place: Importable) -> Factory:
    try:
        factory: Factory = attrgetter(place.name)(importlib.import_module(place.module))
    except Exception as error:  # the module's own code may raise anything
        raise BadInput(
            f"model {place.module}:{place.name} cannot be imported by {_here()} ({one_line(error)}); install "
            "its package on every machine"
        ) from error
    return factory


def _digest(network: Network) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in {**network.parameters(), **network.buffers()}.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _size(origin: Origin | None) -> float:
    """Return the size of an origin in bytes, infinite if it cannot be sent."""
    if origin is None:
        return float("inf")
    try:
        return len(dumps(origin))
    except Exception:  # an option may be any object
        return float("inf")


def _file_of(dataset: Dataset) -> str:
    """Write the data to a file, once; it is deleted with the dataset."""
    if dataset not in _files:
        folder = tempfile.mkdtemp(prefix="ticketsearch-")
        weakref.finalize(dataset, shutil.rmtree, folder, ignore_errors=True)
        tensors = {
            f"{axis}_{part}": tensor.detach().contiguous().numpy()
            for part in PARTS
            for axis, tensor in zip("xy", dataset.part(part), strict=True)
        }
        _files[dataset] = str(Path(folder) / "data.safetensors")
        save_file(tensors, _files[dataset])
    return _files[dataset]


def _versions() -> tuple[str, str]:
    """Return the versions of ticketsearch and torch, without torch's build suffix."""
    return version("ticketsearch"), torch.__version__.partition("+")[0]


def _here() -> str:
    return f"the worker on {platform.node()}"
