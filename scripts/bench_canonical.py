"""Times canonical keys, from the flat mask to the key, against pynauty, igraph and networkx.

Each is given the flat mask and does all that its user has to do: find the weights, build the graph, make the
key. Dead weights are removed beforehand; all but ours trust that. The rivals' graphs are built with NumPy:
once of all units, as the network numbers them, and once of those alone that have weights ("live"), since the
others cost them much. Each input and output has a colour of its own, hidden units that of their layer. The
Weisfeiler-Lehman hash is no identity: it is here as what is often used for one.

In each repetition all are timed in turn, on the same masks, each for at least 20 ms of processor time;
medians are given. The rivals know no kernels, so ResNet-20 and VGG-16 are ours alone.

To reach: 5 times pynauty's speed and igraph's own on graphs of live units at every density; on symmetric
masks a tenth of pynauty's speed.

    python scripts/bench_canonical.py                   all, about 3 minutes
    python scripts/bench_canonical.py --only random     LeNet-300-100, random masks of nine densities
    python scripts/bench_canonical.py --only synflow    the same with what SynFlow leaves of initializations
    python scripts/bench_canonical.py --only symmetric  dense and regular masks
    python scripts/bench_canonical.py --only kernels    ResNet-20 and VGG-16, random masks

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
from collections.abc import Callable, Iterator, Mapping, Sequence
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
# Times as fast as these on graphs of live units, at every density; and on symmetric masks.
TARGETS = {"pynauty live": 5.0, "igraph live": 1.0}
SYMMETRIC_TARGETS = {"pynauty live": 0.1}


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


def compared(
    name: str,
    masks: Sequence[Mask],
    spec: MaskSpec,
    given: argparse.Namespace,
    targets: Mapping[str, float] = TARGETS,
) -> dict[str, Any]:
    """Return a row: medians in ms, the rivals' as multiples of ours, and whether these reach ``targets``."""
    calls: dict[str, Callable[[Mask, MaskSpec], object]] = {"ours": canonical_key, **rivals(given)}
    for call in calls.values():
        call(masks[0], spec)
    rounds = [
        {name: timed(call, masks, spec) for name, call in calls.items()} for _ in range(given.repetitions)
    ]
    medians = {name: statistics.median(r[name] for r in rounds) for name in calls}
    ratios = {name: ms / medians["ours"] for name, ms in medians.items() if name != "ours"}
    kept = int(np.mean([np.count_nonzero(mask) for mask in masks]))
    cells = "".join(f"{medians[n]:>11.2f} {f'({ratio:.3g}x)':>9}" for n, ratio in ratios.items())
    met = {n: ratios[n] >= target for n, target in targets.items() if n in ratios}
    print(f"{name:>24}{kept:>9}{medians['ours']:>10.3f}{cells}", flush=True)
    return {"masks": name, "live": kept, "ms": medians, "ratios": ratios, "met": met}


def random(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """LeNet-300-100, random masks."""
    spec = chain(LENET)
    for density in DENSITIES:
        masks = [live(np.random.default_rng(seed).random(spec.size) < density, spec) for seed in range(4)]
        yield compared(f"random {density:g}", masks, spec, given)


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
    row = compared("all ones, LeNet", [np.ones(lenet.size, dtype=bool)], lenet, given, SYMMETRIC_TARGETS)
    yield row | {"met": row["met"] | {"ours under 200 ms": row["ms"]["ours"] < 200}}
    small = chain((100, 20, 20, 10))
    yield compared("all ones, small", [np.ones(small.size, dtype=bool)], small, given, SYMMETRIC_TARGETS)
    blocks = {
        "circulant of degree 5": [circulant(100, {0, 1, 5, 12, 40})],
        "a cycle of 200": [circulant(100, {0, 1})],
        "20 cycles of 10": [np.kron(np.eye(20, dtype=bool), circulant(5, {0, 1}))],
        "5 times rook 4 x 4": [np.kron(np.eye(5, dtype=bool), rook(4))],
        "rook 6 x 6": [rook(6)],
        "rook 8 x 8": [rook(8)],
        "hypercube of 128": [hypercube(7)],
        "hypercube of 256": [hypercube(8)],
        "projective plane of 7": [projective_plane(7)],
        "projective plane of 11": [projective_plane(11)],
        "CFI pair of K4": cfi_pair(nx.complete_graph(4)),
        "CFI pair of K5": cfi_pair(nx.complete_graph(5)),
        "CFI pair of Petersen": cfi_pair(nx.petersen_graph()),
        "all but a matching": [~np.eye(100, dtype=bool)],
    }
    for name, pair in blocks.items():
        rows, columns = pair[0].shape
        spec = chain((3, columns, rows, 2))
        ends = np.ones(3 * columns, dtype=bool), np.ones(2 * rows, dtype=bool)
        masks = [np.concatenate([ends[0], block.ravel(), ends[1]]) for block in pair]
        yield compared(name, masks, spec, given, SYMMETRIC_TARGETS)


def circulant(size: int, steps: set[int]) -> Mask:
    """Return the block in which unit b is joined to unit a if a − b is one of the steps."""
    return np.array([[(a - b) % size in steps for b in range(size)] for a in range(size)])


def rook(size: int) -> Mask:
    """Return which squares a rook reaches from which."""
    squares = list(itertools.product(range(size), repeat=2))
    return np.array([[a != b and (a[0] == b[0] or a[1] == b[1]) for b in squares] for a in squares])


def hypercube(dimension: int) -> Mask:
    """Return which corners of a hypercube are joined to which."""
    corners = range(2**dimension)
    return np.array([[(a ^ b).bit_count() == 1 for b in corners] for a in corners])


def projective_plane(order: int) -> Mask:
    """Return which points are on which lines of the plane over a prime field."""
    points = [(1, a, b) for a in range(order) for b in range(order)]
    points += [(0, 1, a) for a in range(order)] + [(0, 0, 1)]
    return np.array([[np.dot(point, line) % order == 0 for point in points] for line in points])


def cfi_pair(base: nx.Graph[int]) -> list[Mask]:
    """Return the two graphs of Cai, Fürer and Immerman, which refinement cannot tell apart.

    Rows are the even sets of each vertex's edges, in the second graph odd ones of one vertex; columns are the
    two ends of each edge, one for sets with it and one for sets without.
    """
    edges, pair = list(base.edges), []
    for twisted in (0, 1):
        rows = []
        for vertex in base:
            own = [number for number, edge in enumerate(edges) if vertex in edge]
            for bits in itertools.product([0, 1], repeat=len(own)):
                if sum(bits) % 2 == (twisted if vertex == 0 else 0):
                    row = np.zeros((len(edges), 2), dtype=bool)
                    row[own, bits] = True
                    rows.append(row.ravel())
        pair.append(np.array(rows))
    return pair


def kernels(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """ResNet-20 and VGG-16, random masks."""
    alone = argparse.Namespace(**vars(given) | {"skip": ["pynauty", "igraph", "networkx"]})
    for name, model in {"ResNet-20": "resnet20", "VGG-16": "vgg16_bn"}.items():
        spec = initialize(model, Shape(3, 32, 32)).spec
        for density in (0.2, 0.05, 0.01):
            masks = [live(np.random.default_rng(seed).random(spec.size) < density, spec) for seed in range(2)]
            row = compared(f"{name} {density:g}", masks, spec, alone)
            yield row | {"met": {"ours under 1 s": row["ms"]["ours"] < 1000}}


PARTS = {part.__name__: part for part in (random, synflow, symmetric, kernels)}


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
    print(f"{'masks':>24}{'live':>9}{'ours':>10}" + "".join(f"{name:>21}" for name in rivals(given)))
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
            for name in ("numpy", "numba", *dict.fromkeys(name.split()[0] for name in rivals(given)))
        },
        "machine": here,
        "rows": rows,
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
