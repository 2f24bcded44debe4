"""Files of trained tickets: the weights of a masked network after training, ready for raw samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field, Json
from safetensors.torch import save
from torch import Tensor, nn

from ticketsearch.checks import checked
from ticketsearch.datasets import Dataset, check_constants, standardize_raw
from ticketsearch.errors import BadInput
from ticketsearch.masks import Mask, check_mask, density, digest
from ticketsearch.models import Factory, Network, module_of
from ticketsearch.tickets.files import (
    NetworkMetadata,
    check_finite,
    network_metadata,
    path_of,
    read_file,
    write_file,
)

__all__ = [
    "LoadedNetwork",
    "TrainedMetadata",
    "load_trained",
    "save_trained",
    "trained_metadata",
    "trained_transform",
]

FORMAT = "ticketsearch-trained-1"
# Prefixes of tensors that are no parameters, whose names have no slash.
BUFFERS, MASK, INPUTS = "buffers/", "mask/", "inputs/"
# Constants of the standardization of the inputs.
CONSTANTS = ("mean", "deviation", "divisor")
Share = Annotated[float, Field(ge=0, le=1)]


class TrainedMetadata(NetworkMetadata):
    """The metadata of a trained ticket's file; all values are text in the file.

    Attributes
    ----------
    accuracy : test accuracy of this training, in [0, 1].
    steps : number of its optimizer steps.
    masking : effect of the mask in training; under ``gradient`` pruned weights are not zero.
    density, digest : of the mask.
    class_names : names of the classes, null where they are numbers alone.
    """

    format: Literal["ticketsearch-trained-1"]
    accuracy: Json[Share]
    steps: Json[Annotated[int, Field(ge=0)]]
    masking: Literal["parameter", "gradient", "forward"]
    density: Json[Share]
    digest: Annotated[str, Field(pattern="^[0-9a-f]+$", max_length=128)]
    class_names: Json[tuple[str, ...] | None]


class LoadedNetwork(NamedTuple):
    """A trained network, and the standardization of its inputs.

    Attributes
    ----------
    module : in evaluation mode, with trained weights and running statistics.
    transform : raw samples ``(samples, *input_shape)`` to the tensor that the module takes.
    """

    module: nn.Module
    transform: Callable[[ArrayLike | Tensor], Tensor]


def save_trained(
    path: str | Path,
    network: Network,
    mask: Mask,
    tensors: Mapping[str, Tensor],
    dataset: Dataset,
    *,
    accuracy: float,
    steps: int,
    masking: str,
) -> None:
    """Write a trained network as safetensors; an existing file is replaced atomically.

    Parameters
    ----------
    path : the file to write.
    network, mask : of the ticket, with its initialization.
    tensors : ``{name: tensor}``, parameters and buffers after training.
    dataset : gives the standardization of the inputs, and the names of the classes.
    accuracy : test accuracy of this training.
    steps, masking : of the training.

    The file holds parameters by name, buffers as ``buffers/NAME``, the mask of each layer as ``mask/NAME``
    bool, and mean, deviation and divisor of the inputs as ``inputs/mean`` and so on, float64.
    """
    mask = check_mask(mask, network.spec)
    buffers = network.buffers().keys()
    content = {
        f"{BUFFERS}{name}" if name in buffers else name: tensor.detach().cpu().contiguous()
        for name, tensor in tensors.items()
    }
    for name, kept in network.spec.split(mask).items():
        content[f"{MASK}{name}"] = torch.from_numpy(kept.copy())
    for name in CONSTANTS:
        content[f"{INPUTS}{name}"] = torch.from_numpy(np.array(getattr(dataset, name), dtype=np.float64))
    metadata = {
        "format": FORMAT,
        **network_metadata(network),
        "accuracy": repr(accuracy),
        "steps": str(steps),
        "masking": masking,
        "density": repr(density(mask)),
        "digest": digest(mask),
        "class_names": json.dumps(dataset.class_names),
    }
    write_file(path_of(path), save(content, metadata=metadata))


@checked
def load_trained(
    path: str | Path, factory: str | Factory | None = None, trust: bool = False
) -> LoadedNetwork:
    """Return the trained network of a file, and the transform of raw samples to its inputs.

    ``module(transform(x))`` are the logits ``(samples, classes)``. No code of the file is run.

    Parameters
    ----------
    path : the file, such as ``runs/NAME/tickets/best-trained.safetensors``.
    factory : builds the module in place of the model that the file names: see :func:`load_ticket`.
    trust : whether a function that the file names may be imported and called. Read that code first.

    Raises :class:`BadInput` for a file that is missing, torn or of another format, for a network other than
    its model builds, and without ``factory`` and ``trust`` for a model that is not listed.
    """
    metadata, content = read_file(path, TrainedMetadata, FORMAT, code=factory is not None or trust)
    inputs, masks, buffers = (_taken(content, prefix) for prefix in (INPUTS, MASK, BUFFERS))
    transform = _transform(path, inputs, metadata.input_shape)
    floats = {name: tensor for name, tensor in buffers.items() if tensor.is_floating_point()}
    check_finite(path, content | floats, (torch.float32, torch.float64))
    for name, kept in masks.items():
        if kept.dtype != torch.bool or name not in content or kept.shape != content[name].shape:
            raise BadInput(
                f"{str(path)!r} is torn: the mask of {name} is not bool of the shape of its weights"
            )
    arguments = metadata.input_shape, metadata.classes, metadata.options
    try:
        module = module_of(factory or metadata.model, *arguments, content, buffers)
    except BadInput as error:
        hint = "" if factory else "; load_trained(path, factory=…) takes the function that builds the module"
        raise BadInput(f"{str(path)!r}: {error}{hint}") from error
    return LoadedNetwork(module, transform)


def trained_metadata(path: str | Path) -> TrainedMetadata:
    """Return accuracy, steps, density and class names of a trained network's file; nothing is built.

    Raises :class:`BadInput` for a file that is missing, torn or of another format.
    """
    return read_file(path, TrainedMetadata, FORMAT, code=True)[0]


def trained_transform(path: str | Path) -> Callable[[ArrayLike | Tensor], Tensor]:
    """Return the transform of raw samples to the inputs of a trained network's file; nothing is built.

    Raises :class:`BadInput` for a file that is missing, torn or of another format.
    """
    metadata, content = read_file(path, TrainedMetadata, FORMAT, code=True)
    return _transform(path, _taken(content, INPUTS), metadata.input_shape)


def _taken(content: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors of a prefix out of a file's content; return them without it."""
    names = [name for name in content if name.startswith(prefix)]
    return {name.removeprefix(prefix): content.pop(name) for name in names}


def _transform(
    path: str | Path, inputs: Mapping[str, Tensor], input_shape: tuple[int, ...]
) -> Callable[[ArrayLike | Tensor], Tensor]:
    """Return the standardization of raw samples by the constants that a file holds."""
    if inputs.keys() != set(CONSTANTS):
        raise BadInput(f"{str(path)!r} is torn: it lacks mean, deviation or divisor of the inputs")
    check_finite(path, inputs, (torch.float64,))
    constants: dict[str, Any] = {name: tensor.numpy() for name, tensor in inputs.items()}
    constants["divisor"] = float(constants["divisor"]) if constants["divisor"].ndim == 0 else 0.0
    check_constants(repr(str(path)), input_shape, **constants)
    return partial(standardize_raw, input_shape=input_shape, **constants)
