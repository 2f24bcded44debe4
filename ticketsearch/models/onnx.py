"""ONNX files of modules."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ticketsearch.errors import BadInput

__all__ = ["write_onnx"]


def write_onnx(module: nn.Module, input_shape: tuple[int, ...], path: str | Path) -> None:
    """Write a module as ONNX: ``inputs (samples, *input_shape)`` to ``logits``, for any number of samples.

    An existing file is replaced atomically. Raises :class:`BadInput` where the packages are not installed.
    """
    path = Path(path)
    try:
        import onnxscript  # noqa: F401 - the exporter of torch needs it
    except ImportError as error:
        raise BadInput(
            "an ONNX file needs onnx and onnxscript, which are not here; pip install 'ticketsearch[onnx]'"
        ) from error
    parameter = next(module.parameters(), torch.zeros(()))
    example = torch.zeros(2, *input_shape, dtype=parameter.dtype)
    whole = path.with_name(f".{path.name}.partial")
    try:
        with _quiet():
            torch.onnx.export(
                module.eval(),
                (example,),
                whole,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("samples")},),
                input_names=["inputs"],
                output_names=["logits"],
                external_data=False,
                verbose=False,
            )
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on packages that it does without, and on its own future."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
