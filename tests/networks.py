"""Specs of small networks, and renumbered copies of their masks, for tests that need no model."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from ticketsearch.masks import Bundle, Group, Layer, Mask, MaskSpec, Node, Piece, permute, random_order


def layers(**shapes: tuple[int, ...]) -> tuple[Layer, ...]:
    """Return layers of these names and shapes, one behind the other."""
    offsets = itertools.accumulate((math.prod(shape) for shape in shapes.values()), initial=0)
    return tuple(
        Layer(name, shape, offset) for (name, shape), offset in zip(shapes.items(), offsets, strict=False)
    )


def groups(x: int, y: int, **hidden: int) -> tuple[Group, ...]:
    """Return the group x of inputs, the hidden ones, and y of outputs."""
    between = (Group(name, size, "hidden") for name, size in hidden.items())
    return Group("x", x, "input"), *between, Group("y", y, "output")


def mlp(*sizes: int, constant: bool = False) -> MaskSpec:
    """Layers fc0.weight, ... join groups g0 (inputs), g1, ...; with ``constant`` no unit needs a source."""
    kinds = ["input", *["hidden"] * (len(sizes) - 2), "output"]
    numbered = tuple(Group(f"g{i}", n, kind) for i, (n, kind) in enumerate(zip(sizes, kinds, strict=True)))
    shapes, pieces, nodes = {}, [], [Node("input", (), (0,))]
    for index, (columns, rows) in enumerate(itertools.pairwise(sizes)):
        shapes[f"fc{index}.weight"] = rows, columns
        pieces.append(Piece(index, index + 1, index))
        nodes.append(Node("linear", (len(nodes) - 1,), (index + 1,), index, constant))
        if index < len(sizes) - 2:
            nodes.append(Node("elementwise", (len(nodes) - 1,), (index + 1,)))
    return MaskSpec(layers(**shapes), numbered, tuple(pieces), tuple(nodes))


def residual(inputs: int, hidden: int, outputs: int) -> MaskSpec:
    """x → h, h + f(h), → y: the middle layer joins the hidden group to itself."""
    nodes = (
        Node("input", (), (0,)),
        Node("linear", (0,), (1,), 0),
        Node("elementwise", (1,), (1,)),
        Node("linear", (2,), (1,), 1),
        Node("add", (1, 3), (1,)),
        Node("linear", (4,), (2,), 2),
    )
    shapes = layers(l0=(hidden, inputs), l1=(hidden, hidden), l2=(outputs, hidden))
    pieces = (Piece(0, 1, 0), Piece(1, 1, 1), Piece(2, 2, 1))
    return MaskSpec(shapes, groups(inputs, outputs, h=hidden), pieces, nodes)


def convolutional(
    inputs: int = 1,
    first: int = 3,
    second: int = 3,
    outputs: int = 2,
    *,
    kernel: tuple[int, ...] = (3, 3),
    block: int = 4,
    constant: bool = False,
) -> MaskSpec:
    """Convolution, relu, convolution, flattened feature maps of ``block`` places, Linear."""
    size = math.prod(kernel)
    shapes = layers(a=(first, inputs, *kernel), b=(second, first, *kernel), c=(outputs, second * block))
    pieces = (
        Piece(0, 1, 0, positions=size),
        Piece(1, 2, 1, positions=size),
        Piece(2, 3, 2, block=block, positions=block),
    )
    nodes = (
        Node("input", (), (0,)),
        Node("linear", (0,), (1,), 0, constant),
        Node("elementwise", (1,), (1,)),
        Node("linear", (2,), (2,), 1, constant),
        Node("linear", (3,), (3,), 2),
    )
    return MaskSpec(shapes, groups(inputs, outputs, h=first, k=second), pieces, nodes)


def grouped(
    inputs: int = 1,
    sources: int = 2,
    targets: int = 2,
    outputs: int = 1,
    *,
    columns: int = 2,
    kernel: int = 2,
) -> MaskSpec:
    """Convolution, convolution of ``columns`` groups, relu, Linear; the groups may be exchanged.

    The first convolution makes ``sources`` units for each column, the second ``targets`` from those alone.
    """
    first, second = range(1, columns + 1), range(columns + 1, 2 * columns + 1)
    shapes = layers(
        a=(columns * sources, inputs, kernel),
        b=(columns * targets, sources, kernel),
        c=(outputs, columns * targets),
    )
    numbered = groups(
        inputs,
        outputs,
        **{f"a{i}": sources for i in range(columns)},
        **{f"b{i}": targets for i in range(columns)},
    )
    pieces = [
        *(Piece(0, g, 0, row=i * sources, positions=kernel, to=i) for i, g in enumerate(first)),
        *(
            Piece(1, t, s, row=i * targets, positions=kernel, to=i, of=i)
            for i, (s, t) in enumerate(zip(first, second, strict=True))
        ),
        *(Piece(2, 2 * columns + 1, g, column=i * targets, of=i) for i, g in enumerate(second)),
    ]
    nodes = (
        Node("input", (), (0,)),
        Node("linear", (0,), tuple(first), 0),
        Node("linear", (1,), tuple(second), 1),
        Node("elementwise", (2,), tuple(second)),
        Node("linear", (3,), (2 * columns + 1,), 2),
    )
    bundle = Bundle("columns", tuple(zip(first, second, strict=True)))
    return MaskSpec(shapes, numbered, tuple(pieces), nodes, (bundle,))


def concatenated(inputs: int = 1, first: int = 3, second: int = 2, outputs: int = 2) -> MaskSpec:
    """Two layers read the inputs, a third what both make, one behind the other."""
    shapes = layers(a=(first, inputs), b=(second, inputs), c=(outputs, first + second))
    pieces = (Piece(0, 1, 0), Piece(1, 2, 0), Piece(2, 3, 1), Piece(2, 3, 2, column=first, of=1))
    nodes = (
        Node("input", (), (0,)),
        Node("linear", (0,), (1,), 0),
        Node("linear", (0,), (2,), 1),
        Node("concatenate", (1, 2), (1, 2)),
        Node("linear", (3,), (3,), 2),
    )
    return MaskSpec(shapes, groups(inputs, outputs, h=first, k=second), pieces, nodes)


def read_twice(inputs: int = 1, hidden: int = 4, outputs: int = 2) -> MaskSpec:
    """A layer reads the value of another and its relu, one behind the other: each unit twice."""
    shapes = layers(a=(hidden, inputs), b=(outputs, 2 * hidden))
    pieces = (Piece(0, 1, 0), Piece(1, 2, 1), Piece(1, 2, 1, column=hidden, of=1))
    nodes = (
        Node("input", (), (0,)),
        Node("linear", (0,), (1,), 0),
        Node("elementwise", (1,), (1,)),
        Node("concatenate", (1, 2), (1, 1)),
        Node("linear", (3,), (2,), 1),
    )
    return MaskSpec(shapes, groups(inputs, outputs, h=hidden), pieces, nodes)


def depthwise(inputs: int = 1, hidden: int = 4, outputs: int = 1, *, kernel: int = 2) -> MaskSpec:
    """Linear, a convolution of each channel by itself, relu, Linear."""
    shapes = layers(a=(hidden, inputs), b=(hidden, 1, kernel), c=(outputs, hidden))
    pieces = (Piece(0, 1, 0), Piece(1, 1, 1, positions=kernel, diagonal=True), Piece(2, 2, 1))
    nodes = (
        Node("input", (), (0,)),
        Node("linear", (0,), (1,), 0),
        Node("linear", (1,), (1,), 1),
        Node("elementwise", (2,), (1,)),
        Node("linear", (3,), (2,), 2),
    )
    return MaskSpec(shapes, groups(inputs, outputs, h=hidden), pieces, nodes)


def separable(inputs: int = 1, hidden: int = 2, outputs: int = 1, *, kernel: int = 2) -> MaskSpec:
    """Linear, a convolution of each channel by itself, Linear; the channels in two halves to be exchanged."""
    shapes = layers(a=(2 * hidden, inputs), b=(2 * hidden, 1, kernel), c=(outputs, 2 * hidden))
    pieces = (
        Piece(0, 1, 0),
        Piece(0, 2, 0, row=hidden, to=1),
        Piece(1, 1, 1, positions=kernel, diagonal=True),
        Piece(1, 2, 2, row=hidden, positions=kernel, to=1, of=1, diagonal=True),
        Piece(2, 3, 1),
        Piece(2, 3, 2, column=hidden, of=1),
    )
    nodes = (
        Node("input", (), (0,)),
        Node("linear", (0,), (1, 2), 0),
        Node("linear", (1,), (1, 2), 1),
        Node("linear", (2,), (3,), 2),
    )
    bundle = Bundle("halves", ((1,), (2,)))
    return MaskSpec(shapes, groups(inputs, outputs, h=hidden, k=hidden), pieces, nodes, (bundle,))


def shuffled(mask: Mask, spec: MaskSpec, rng: np.random.Generator) -> Mask:
    """Return the mask with the units of each hidden group and the columns of bundles renumbered at random."""
    return permute(mask, spec, random_order(spec, rng))


def renumberings(spec: MaskSpec) -> NDArray[np.intp]:
    """Return (renumberings, weights): where each weight comes from, for all that :func:`permute` can do."""
    sizes = {spec.groups[group].name: spec.groups[group].size for group in spec.hidden}
    sizes |= {bundle.name: len(bundle.columns) for bundle in spec.bundles}
    choices = itertools.product(*(itertools.permutations(range(size)) for size in sizes.values()))
    return np.stack([permute(np.arange(spec.size), spec, dict(zip(sizes, c, strict=True))) for c in choices])


# One of each kind, with so few units that all renumberings can be tried.
PIECEWISE = {
    "convolutional": convolutional(1, 3, 3, 1, kernel=(1, 2), block=2),
    "convolutional, 3 x 3": convolutional(1, 2, 3, 1, constant=True),
    "grouped": grouped(),
    "three columns": grouped(columns=3, kernel=1),
    "concatenated": concatenated(),
    "read twice": read_twice(),
    "depthwise": depthwise(),
    "separable": separable(),
}
