"""Times canonical keys, from the flat mask to the key, against pynauty, igraph and networkx.

Each is given the flat mask and does all that its user has to do: find the weights, build the graph, make the
key. Dead weights are removed beforehand; all but ours trust that. The rivals' graphs are built with NumPy:
once of all units, as the network numbers them, and once of those alone that have weights ("live"), since the
others cost them much. Each input and output has a colour of its own, hidden units that of their layer. The
Weisfeiler-Lehman hash is no identity: it is here as what is often used for one.

In each repetition all are timed in turn, on the same masks, each for at least 20 ms of processor time;
medians are given. The rivals know no kernels, so VGG-16 is ours alone.

    python scripts/bench_canonical.py                   all, about 3 minutes
    python scripts/bench_canonical.py --only random     LeNet-300-100, random masks of nine densities
    python scripts/bench_canonical.py --only synflow    the same with what SynFlow leaves of initializations
    python scripts/bench_canonical.py --only symmetric  dense and regular masks
    python scripts/bench_canonical.py --only vgg        VGG-16 at density 0.05

pynauty and igraph are left out where they are not installed (`pip install pynauty igraph`).
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from bench_training import machine
from numpy.typing import NDArray

from ticketsearch.canonical import canonical_key
from ticketsearch.masks import Group, Layer, Mask, MaskSpec, Node, Piece, live
from ticketsearch.models import initialize
from ticketsearch.pruners import prune_all

Integers = NDArray[np.intp]
LENET = (784, 300, 100, 10)
DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
# The ratios to reach, at these densities of random masks.
TARGETS = {"pynauty": 30, "igraph": 20}
TARGET_DENSITIES = (0.1, 0.02)


class Shape:
    """The description of a dataset: shape of a sample, and classes."""

    def __init__(self, *input_shape: int) -> None:
        self.input_shape, self.classes = input_shape, 10


def chain(sizes: Sequence[int]) -> MaskSpec:
    """Return the spec of a chain of Linear layers and relu, without biases."""
    layers, pieces, nodes, offset = [], [], [Node("input", (), (0,))], 0
    for index, (columns, rows) in enumerate(itertools.pairwise(sizes)):
        layers.append(Layer(f"{index}.weight", (rows, columns), offset))
        pieces.append(Piece(index, index + 1, index))
        offset += rows * columns
        nodes.append(Node("linear", (len(nodes) - 1,), (index + 1,), index))
        if index < len(sizes) - 2:
            nodes.append(Node("elementwise", (len(nodes) - 1,), (index + 1,)))
    kinds = ("input", *["hidden"] * (len(sizes) - 2), "output")
    groups = tuple(
        Group(f"g{i}", size, kind) for i, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
    )
    return MaskSpec(tuple(layers), groups, tuple(pieces), tuple(nodes))


def arcs(mask: Mask, spec: MaskSpec, *, every: bool) -> tuple[Integers, Integers, list[int]]:
    """Return the kept weights as (source, target) of vertices, and how many of these each group has.

    ``every`` unit is a vertex, or each hidden one that has weights.
    """
    found, numbers, counts, start = [], None, [spec.groups[0].size], 0
    for layer, group in zip(spec.layers, spec.groups[1:], strict=True):
        rows, columns = np.divmod(np.flatnonzero(mask[layer.slice]), layer.shape[1])
        columns = columns if numbers is None else numbers[columns]
        alive = np.full(group.size, every or group.kind == "output")
        alive[rows] = True
        numbers = np.cumsum(alive) - 1
        found.append((columns + start, numbers[rows] + start + counts[-1]))
        start += counts[-1]
        counts.append(int(numbers[-1]) + 1)
    sources, targets = (np.concatenate(ends) for ends in zip(*found, strict=True))
    return sources, targets, counts


def colours(counts: list[int]) -> list[int]:
    """Return the colour of each vertex."""
    inputs, *hidden, outputs = counts
    found = list(range(inputs))
    for layer, count in enumerate(hidden):
        found += [inputs + layer] * count
    return [*found, *range(inputs + len(hidden), inputs + len(hidden) + outputs)]


def by_pynauty(mask: Mask, spec: MaskSpec, *, every: bool) -> bytes:
    """Return pynauty's certificate."""
    import pynauty

    sources, targets, counts = arcs(mask, spec, every=every)
    degrees = np.bincount(targets, minlength=sum(counts))  # weights come target by target
    lists = np.split(sources, np.cumsum(degrees)[:-1])
    neighbours = {vertex: part.tolist() for vertex, part in enumerate(lists) if len(part)}
    ends = np.cumsum(counts).tolist()
    cells = [{vertex} for vertex in range(ends[0])]
    cells += [set(range(*pair)) for pair in itertools.pairwise(ends[:-1]) if pair[0] < pair[1]]
    cells += [{vertex} for vertex in range(*ends[-2:])]
    graph = pynauty.Graph(ends[-1], adjacency_dict=neighbours, vertex_coloring=cells)
    certificate: bytes = pynauty.certificate(graph)
    return certificate


def by_igraph(mask: Mask, spec: MaskSpec, *, every: bool) -> list[int]:
    """Return the canonical permutation that BLISS finds."""
    import igraph

    sources, targets, counts = arcs(mask, spec, every=every)
    graph = igraph.Graph(n=sum(counts), edges=list(zip(sources.tolist(), targets.tolist(), strict=True)))
    order: list[int] = graph.canonical_permutation(color=colours(counts))
    return order


def by_networkx(mask: Mask, spec: MaskSpec) -> str:
    """Return networkx's Weisfeiler-Lehman hash."""
    sources, targets, counts = arcs(mask, spec, every=False)
    graph = nx.empty_graph(sum(counts))
    nx.set_node_attributes(graph, dict(enumerate(map(str, colours(counts)))), "label")
    graph.add_edges_from(zip(sources.tolist(), targets.tolist(), strict=True))
    key: str = nx.weisfeiler_lehman_graph_hash(graph, node_attr="label")
    return key


RIVALS: dict[str, Callable[[Mask, MaskSpec], object]] = {
    "pynauty": partial(by_pynauty, every=True),
    "igraph": partial(by_igraph, every=True),
    "pynauty live": partial(by_pynauty, every=False),
    "igraph live": partial(by_igraph, every=False),
    "networkx": by_networkx,
}


def rivals(given: argparse.Namespace) -> dict[str, Callable[[Mask, MaskSpec], object]]:
    """Return those whose packages are there and not skipped."""
    packages = {name.split()[0] for name in RIVALS} - set(given.skip)
    there = {name for name in packages if importlib.util.find_spec(name)}
    return {name: call for name, call in RIVALS.items() if name.split()[0] in there}


def timed(call: Callable[[Mask, MaskSpec], object], masks: Sequence[Mask], spec: MaskSpec) -> float:
    """Return the ms that a call takes, all masks in turn, for 20 ms at least."""
    calls, started = 0, time.process_time()
    while True:
        for mask in masks:
            call(mask, spec)
        calls += len(masks)
        if (seconds := time.process_time() - started) > 0.02:
            return 1e3 * seconds / calls


def compared(name: str, masks: Sequence[Mask], spec: MaskSpec, given: argparse.Namespace) -> dict[str, Any]:
    """Return a row: medians in ms, and the rivals' as multiples of ours."""
    calls: dict[str, Callable[[Mask, MaskSpec], object]] = {"ours": canonical_key, **rivals(given)}
    for call in calls.values():
        call(masks[0], spec)
    rounds = [
        {name: timed(call, masks, spec) for name, call in calls.items()} for _ in range(given.repetitions)
    ]
    medians = {name: statistics.median(r[name] for r in rounds) for name in calls}
    ratios = {name: ms / medians["ours"] for name, ms in medians.items() if name != "ours"}
    kept = int(np.mean([np.count_nonzero(mask) for mask in masks]))
    cells = "".join(f"{medians[n]:>11.2f} {f'({ratio:.0f}x)':>8}" for n, ratio in ratios.items())
    print(f"{name:>24}{kept:>9}{medians['ours']:>10.3f}{cells}", flush=True)
    return {"masks": name, "live": kept, "ms": medians, "ratios": ratios, "met": {}}


def random(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """LeNet-300-100, random masks."""
    spec = chain(LENET)
    for density in DENSITIES:
        masks = [live(np.random.default_rng(seed).random(spec.size) < density, spec) for seed in range(4)]
        row = compared(f"random {density:g}", masks, spec, given)
        if density in TARGET_DENSITIES:
            for rival, ratio in row["ratios"].items():
                if rival != "networkx":
                    row["met"][rival] = ratio >= TARGETS[rival.split()[0]]
        yield row


def synflow(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """LeNet-300-100, SynFlow's masks."""
    spec = chain(LENET)
    networks = [initialize("lenet_300_100", Shape(1, 28, 28), seed=seed) for seed in range(4)]
    for density in DENSITIES:
        masks = [live(mask, spec) for mask in prune_all(networks, "synflow", density=density)]
        yield compared(f"SynFlow {density:g}", masks, spec, given)


def symmetric(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Masks with many automorphisms; blocks lie between two hidden layers, all else is kept."""
    lenet = chain(LENET)
    row = compared("all ones, LeNet", [np.ones(lenet.size, dtype=bool)], lenet, given)
    yield row | {"met": {"ours under 200 ms": row["ms"]["ours"] < 200}}
    small = chain((100, 20, 20, 10))
    yield compared("all ones, small", [np.ones(small.size, dtype=bool)], small, given)
    squares = list(itertools.product(range(6), repeat=2))
    corners = range(128)
    blocks = {
        "circulant of degree 5": circulant(100, {0, 1, 5, 12, 40}),
        "a cycle of 200": circulant(100, {0, 1}),
        "20 cycles of 10": np.kron(np.eye(20, dtype=bool), circulant(5, {0, 1})),
        "5 times rook 4 x 4": np.kron(
            np.eye(5, dtype=bool), rook(list(itertools.product(range(4), repeat=2)))
        ),
        "rook 6 x 6": rook(squares),
        "hypercube of 128": np.array([[(a ^ b).bit_count() == 1 for b in corners] for a in corners]),
        "all but a matching": ~np.eye(100, dtype=bool),
    }
    for name, block in blocks.items():
        spec = chain((3, *block.shape[::-1], 2))
        ends = np.ones(3 * block.shape[1], dtype=bool), np.ones(2 * block.shape[0], dtype=bool)
        yield compared(name, [np.concatenate([ends[0], block.ravel(), ends[1]])], spec, given)


def circulant(size: int, steps: set[int]) -> Mask:
    """Return the block in which unit b is joined to unit a if a − b is one of the steps."""
    return np.array([[(a - b) % size in steps for b in range(size)] for a in range(size)])


def rook(squares: list[tuple[int, int]]) -> Mask:
    """Return which squares a rook reaches from which."""
    return np.array([[a != b and (a[0] == b[0] or a[1] == b[1]) for b in squares] for a in squares])


def vgg(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """VGG-16, a random mask."""
    spec = initialize("vgg16_bn", Shape(3, 32, 32)).spec
    masks = [live(np.random.default_rng(0).random(spec.size) < 0.05, spec)]
    alone = argparse.Namespace(**vars(given) | {"skip": ["pynauty", "igraph", "networkx"]})
    row = compared("VGG-16 0.05", masks, spec, alone)
    yield row | {"met": {"ours under 1 s": row["ms"]["ours"] < 1000}}


PARTS = {part.__name__: part for part in (random, synflow, symmetric, vgg)}


def main() -> None:
    """Print the table and write it down."""
    warnings.simplefilter("ignore")  # networkx announces that its hashes change between versions
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--skip", nargs="*", default=[], choices=["pynauty", "igraph", "networkx"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="by default in scripts/results")
    given = parser.parse_args()
    here = machine()
    print(f"{here['cpu']}; ms from the flat mask to the key, and times ours")
    print(f"{'masks':>24}{'live':>9}{'ours':>10}" + "".join(f"{name:>20}" for name in rivals(given)))
    rows = [row for name in ([given.only] if given.only else PARTS) for row in PARTS[name](given)]
    met = [met for row in rows for met in row["met"].values()]
    print(f"{sum(met)} of {len(met)} targets met")
    words = re.sub(r"[^a-z0-9]+", "-", here["cpu"].lower()).strip("-")
    only = f"-{given.only}" if given.only else ""
    file = given.json or Path(__file__).parent / "results" / f"bench_canonical-{words}{only}.json"
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["scripts/bench_canonical.py", *sys.argv[1:]]),
        "versions": {
            name: version(name)
            for name in ("numpy", *dict.fromkeys(name.split()[0] for name in rivals(given)))
        },
        "machine": here,
        "rows": rows,
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
