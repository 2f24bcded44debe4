"""Last steps: a log-softmax, which leaves cross-entropy unchanged, and a softmax, which does not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn

from ticketsearch.errors import BadInput
from ticketsearch.wiring.refusals import location
from ticketsearch.wiring.shapes import sample_shape
from ticketsearch.wiring.tracer import Tracer

__all__ = ["LOGITS", "log_softmaxes", "read_log_softmax", "refuse_softmax"]

LOGITS = (
    "the final log-softmax of {name} is left out: cross-entropy takes logits, and has the same value and "
    "gradient with it or without it; outputs are logits"
)
LOG_SOFTMAXES = {F.log_softmax, torch.log_softmax, torch.special.log_softmax, "log_softmax"}
SOFTMAXES = {F.softmax, torch.softmax, torch.special.softmax, "softmax"}


def log_softmaxes(module: nn.Module, output: fx.Node) -> list[fx.Node]:
    """Return the log-softmaxes over the classes at the end of a network, the last one first."""
    endings = []
    while _normalizes(module, output, nn.LogSoftmax, LOG_SOFTMAXES):
        endings.append(output)
        output = output.all_input_nodes[0]
    return endings


def read_log_softmax(tracer: Tracer, node: fx.Node) -> None:
    """Read a log-softmax at the end: a normalisation over the units of a sample."""
    source = tracer.value(node, node.all_input_nodes[0])
    tracer.append(node, "mix", (source,), _log_softmax, tracer.steps[source].shape)


def refuse_softmax(module: nn.Module, output: fx.Node) -> None:
    """Raise :class:`BadInput` for a network that returns a softmax."""
    if _normalizes(module, output, nn.Softmax, SOFTMAXES):
        raise BadInput(
            f"the network ends in a softmax, {location(module, output)}, but cross-entropy takes logits and "
            "would apply a second one; remove it (the predicted classes stay the same)"
        )


def _normalizes(module: nn.Module, node: fx.Node, kind: type[nn.Module], functions: set[object]) -> bool:
    shape = sample_shape(node)
    if shape is None or len(shape) != 1 or len(node.all_input_nodes) != 1:
        return False
    if node.op == "call_module":
        child = module.get_submodule(str(node.target))
        return isinstance(child, kind) and getattr(child, "dim", None) in (1, -1, None)
    given = {**dict(zip(("input", "dim"), node.args, strict=False)), **node.kwargs}
    return node.target in functions and given.get("dim") in (1, -1, None)


def _log_softmax(x: torch.Tensor) -> torch.Tensor:
    return F.log_softmax(x, dim=1)
