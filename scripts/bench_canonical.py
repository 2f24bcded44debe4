"""Times canonical keys of LeNet-300-100 masks, from the flat mask to the key, against pynauty and others.

Each is given the flat mask and must do all that its user has to do: find the weights, build the graph,
make the key. Dead weights are removed beforehand, and all but ours trust that. Repetitions are interleaved,
and medians given. The Weisfeiler-Lehman hash is no identity: it is here as what is often used for one.

    python scripts/bench_canonical.py [--densities 0.1 0.02] [--repetitions 5] [--skip pynauty networkx]
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import time
import warnings
from collections.abc import Callable

import networkx as nx
import numpy as np

from ticketsearch.canonical import canonical_key
from ticketsearch.masks import Group, Layer, Mask, MaskSpec, Node, Piece, live

SIZES = (784, 300, 100, 10)
STARTS = (0, 784, 1084, 1184, 1194)


def lenet_300_100() -> MaskSpec:
    """Return the spec of LeNet-300-100 without biases."""
    layers, pieces, nodes, offset = [], [], [Node("input", (), (0,))], 0
    for index, (columns, rows) in enumerate(itertools.pairwise(SIZES)):
        layers.append(Layer(f"{index}.weight", (rows, columns), offset))
        pieces.append(Piece(index, index + 1, index))
        offset += rows * columns
        nodes.append(Node("linear", (len(nodes) - 1,), (index + 1,), index))
        if index < len(SIZES) - 2:
            nodes.append(Node("elementwise", (len(nodes) - 1,), (index + 1,)))
    kinds = ("input", "hidden", "hidden", "output")
    groups = tuple(
        Group(f"g{i}", size, kind) for i, (size, kind) in enumerate(zip(SIZES, kinds, strict=True))
    )
    return MaskSpec(tuple(layers), groups, tuple(pieces), tuple(nodes))


def pairs(mask: Mask) -> list[tuple[int, int]]:
    """Return the kept weights as pairs of vertices, numbered from the first input to the last output."""
    found = []
    offset = 0
    for index, (columns, rows) in enumerate(itertools.pairwise(SIZES)):
        targets, sources = mask[offset : offset + rows * columns].reshape(rows, columns).nonzero()
        offset += rows * columns
        found += zip((sources + STARTS[index]).tolist(), (targets + STARTS[index + 1]).tolist(), strict=True)
    return found


def colours() -> list[int]:
    """Return the colour of each vertex: inputs and outputs their own, hidden units that of their layer."""
    return [*range(784), *[784] * 300, *[785] * 100, *range(786, 796)]


def by_pynauty(mask: Mask) -> bytes:
    """Return pynauty's certificate."""
    import pynauty

    neighbours: dict[int, list[int]] = {}
    for source, target in pairs(mask):
        neighbours.setdefault(source, []).append(target)
    cells = [{vertex} for vertex in range(784)] + [set(range(784, 1084)), set(range(1084, 1184))]
    cells += [{vertex} for vertex in range(1184, 1194)]
    graph = pynauty.Graph(1194, adjacency_dict=neighbours, vertex_coloring=cells)
    certificate: bytes = pynauty.certificate(graph)
    return certificate


def by_igraph(mask: Mask) -> list[int]:
    """Return the canonical permutation that BLISS finds."""
    import igraph

    order: list[int] = igraph.Graph(n=1194, edges=pairs(mask)).canonical_permutation(color=colours())
    return order


def by_networkx(mask: Mask) -> str:
    """Return networkx's Weisfeiler-Lehman hash."""
    graph = nx.empty_graph(1194)
    nx.set_node_attributes(graph, dict(enumerate(map(str, colours()))), "label")
    graph.add_edges_from(pairs(mask))
    key: str = nx.weisfeiler_lehman_graph_hash(graph, node_attr="label")
    return key


def timed(call: Callable[[Mask], object], mask: Mask) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call(mask)
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # networkx announces that its hashes change between versions
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--densities", type=float, nargs="*", default=[1, 0.5, 0.1, 0.02, 0.001])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--skip", nargs="*", default=[], choices=["pynauty", "igraph", "networkx"])
    given = parser.parse_args()
    spec = lenet_300_100()
    rivals: dict[str, Callable[[Mask], object]] = {
        name: call
        for name, call in [("pynauty", by_pynauty), ("igraph", by_igraph), ("networkx", by_networkx)]
        if name not in given.skip and importlib.util.find_spec(name)
    }
    calls = {"ours": lambda mask: canonical_key(mask, spec), **rivals}
    print("ms from the flat mask to the key, and times ours", "LeNet-300-100", sep=", ")
    print(f"{'density':>8}{'ours':>12}" + "".join(f"{name:>20}" for name in rivals))
    for density in given.densities:
        rng = np.random.default_rng(0)
        mask = live(rng.random(spec.size) < density, spec)
        for call in calls.values():
            call(mask)
        rounds = [{name: timed(call, mask) for name, call in calls.items()} for _ in range(given.repetitions)]
        medians = {name: 1e3 * statistics.median(r[name] for r in rounds) for name in calls}
        ours = medians.pop("ours")
        cells = "".join(f"{ms:>11.1f} {f'({ms / ours:.0f}x)':>8}" for ms in medians.values())
        print(f"{density:>8g}{ours:>12.2f}{cells}", flush=True)


if __name__ == "__main__":
    main()
