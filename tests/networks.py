"""Specs of small networks, and renumbered copies of their masks, for tests that need no model."""

from __future__ import annotations

import itertools

import numpy as np

from ticketsearch.masks import Group, Layer, Mask, MaskSpec, Node, permute


def mlp(*sizes: int, constant: bool = False) -> MaskSpec:
    """Layers fc0.weight, ... join groups g0 (inputs), g1, ...; with ``constant`` no unit needs a source."""
    kinds = ["input", *["hidden"] * (len(sizes) - 2), "output"]
    groups = tuple(
        Group(f"g{i}", size, kind) for i, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
    )
    layers, nodes, offset = [], [Node("input", (), 0)], 0
    for index, (columns, rows) in enumerate(itertools.pairwise(sizes)):
        layers.append(Layer(f"fc{index}.weight", (rows, columns), offset))
        offset += rows * columns
        nodes.append(Node("linear", (len(nodes) - 1,), index + 1, index, constant))
        if index < len(sizes) - 2:
            nodes.append(Node("elementwise", (len(nodes) - 1,), index + 1))
    return MaskSpec(tuple(layers), groups, tuple(nodes))


def residual(inputs: int, hidden: int, outputs: int) -> MaskSpec:
    """x → h, h + f(h), → y: the middle layer joins the hidden group to itself."""
    shapes = [(hidden, inputs), (hidden, hidden), (outputs, hidden)]
    offsets = np.cumsum([0, *(a * b for a, b in shapes)]).tolist()
    layers = [Layer(f"l{i}", shape, offsets[i]) for i, shape in enumerate(shapes)]
    groups = (Group("x", inputs, "input"), Group("h", hidden, "hidden"), Group("y", outputs, "output"))
    nodes = (
        Node("input", (), 0),
        Node("linear", (0,), 1, 0),
        Node("elementwise", (1,), 1),
        Node("linear", (2,), 1, 1),
        Node("add", (1, 3), 1),
        Node("linear", (4,), 2, 2),
    )
    return MaskSpec(tuple(layers), groups, nodes)


def shuffled(mask: Mask, spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Return the mask with the units of each hidden group renumbered at random."""
    groups = [spec.groups[group] for group in spec.hidden]
    return permute(mask, spec, {group.name: rng.permutation(group.size) for group in groups})
