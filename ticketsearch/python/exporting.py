"""Files of a ticket for other programs: state dicts, programs of torch.export and ONNX, and tables."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask
from ticketsearch.models import Network, bake, compact, to_pruned, write_onnx

__all__ = ["FORMATS", "MaskedModule", "check_file", "check_format", "masked_module", "write_export"]


class MaskedModule(NamedTuple):
    """A ticket with the weights that are exported.

    Attributes
    ----------
    network : gives layers and input shape.
    mask : ``(weights,)`` bool.
    module : the network's module with trained weights, or initial ones.
    """

    network: Network
    mask: Mask
    module: nn.Module

    def compact(self) -> nn.Module:
        """Return the dense network of the live units."""
        return compact(self.network, self.mask, self.module)


def masked_module(network: Network, mask: Mask) -> MaskedModule:
    """Return a ticket with the network's own weights, zeros where the mask prunes."""
    module = to_pruned(network, mask)
    bake(module)
    return MaskedModule(network, mask, module)


def check_format(form: object) -> str:
    """Return the name of a format. Raises :class:`BadInput` for another value."""
    if not isinstance(form, str) or form not in FORMATS:
        raise unknown("format", str(form), FORMATS)
    return form


def check_file(path: str | Path) -> Path:
    """Return the path of a file to write.

    Raises :class:`BadInput` for a folder, and for a file in a missing folder.
    """
    path = Path(path)
    if path.is_dir():
        raise BadInput(f"an export goes into a file, but {str(path)!r} is a folder; give a file's name")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {str(path.parent)!r} for {path.name!r}; make it first")
    return path


def write_export(masked: MaskedModule, path: Path, form: str) -> Path:
    """Write a ticket in a format of :data:`FORMATS`; an existing file is replaced as a whole."""
    whole = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        FORMATS[form](masked, whole)
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)
    return path


def _write_torch(masked: MaskedModule, path: Path) -> None:
    torch.save(masked.module.state_dict(), path)


def _write_pruned(masked: MaskedModule, path: Path) -> None:
    torch.save(to_pruned(*masked).state_dict(), path)


def _write_program(masked: MaskedModule, path: Path) -> None:
    module = masked.compact()
    parameter = next(module.parameters(), torch.zeros(()))
    example = torch.zeros(2, *masked.network.input_shape, dtype=parameter.dtype)
    samples = torch.export.Dim("samples")
    program = torch.export.export(module, (example,), dynamic_shapes=({0: samples},))
    with path.open("wb") as file:
        torch.export.save(program, file)


def _write_onnx(masked: MaskedModule, path: Path) -> None:
    write_onnx(masked.compact(), masked.network.input_shape, path)


def _write_csv(masked: MaskedModule, path: Path) -> None:
    """Write a row for each kept weight: its layer, its index along each axis, and its value."""
    masks = masked.network.spec.split(masked.mask)
    axes = max(kept.ndim for kept in masks.values())
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["layer", *(f"index_{axis}" for axis in range(axes)), "value"])
        for name, kept in masks.items():
            values = masked.module.get_parameter(name).detach().cpu().numpy()[kept]
            missing = [""] * (axes - kept.ndim)
            for index, value in zip(np.argwhere(kept).tolist(), values, strict=True):
                writer.writerow([name, *index, *missing, str(value)])


# The function that writes each format.
FORMATS: dict[str, Callable[[MaskedModule, Path], None]] = {
    "pruned": _write_pruned,
    "compact": _write_program,
    "onnx": _write_onnx,
    "csv": _write_csv,
    "torch": _write_torch,
}
