"""Keys against what others know: counts by Burnside's lemma and in print, pynauty, and vf2pp on GraphML."""

from __future__ import annotations

import io
import itertools
import math

import networkx as nx
import numpy as np
import pytest
from networks import PIECEWISE, concatenated, convolutional, depthwise, grouped, mlp, residual, shuffled
from test_canonical import around, cycles, moved, nauty_certificate, regular

from ticketsearch.canonical import canonical_key, canonical_order, isomorphic, to_networkx
from ticketsearch.masks import live, permute

pytestmark = pytest.mark.slow


def partitions(number, largest=None):
    """Yield the partitions of a number, as tuples of parts that do not grow."""
    if number == 0:
        yield ()
    for part in range(min(number, largest or number), 0, -1):
        for rest in partitions(number - part, part):
            yield part, *rest


def share(lengths):
    """Return which part of all permutations has these lengths of cycles."""
    product = math.prod(lengths)
    return 1 / (product * math.prod(math.factorial(lengths.count(part)) for part in set(lengths)))


def networks_by_burnside(inputs, first, second, outputs):
    """Return how many networks there are up to renumbering of two hidden layers, dead weights and all.

    A pair of orders fixes 2^c masks, where c counts the cycles of weights: a hidden cycle of length a has one
    for each input (or output) it meets, and meets one of length b in gcd(a, b).
    """
    total = 0.0
    for a, b in itertools.product(partitions(first), partitions(second)):
        weights = inputs * len(a) + outputs * len(b) + sum(math.gcd(i, j) for i in a for j in b)
        total += share(a) * share(b) * 2.0**weights
    return round(total)


@pytest.mark.parametrize("sizes", [(1, 2, 2, 1), (2, 2, 2, 1), (1, 3, 2, 1), (2, 2, 2, 2)])
def test_whole_networks_have_the_number_that_burnsides_lemma_gives(sizes):
    spec = mlp(*sizes)
    forms = set()
    for bits in itertools.product([False, True], repeat=spec.size):
        mask = np.array(bits)
        forms.add(permute(mask, spec, canonical_order(mask, spec, live_only=False)).tobytes())
    assert len(forms) == networks_by_burnside(*sizes)


@pytest.mark.parametrize(("units", "known"), [(1, 3), (2, 6), (3, 10), (4, 15), (5, 21)])
def test_one_hidden_layer_is_a_multiset_of_units(units, known):
    """1 input, 2 outputs: a live unit is of one of 3 kinds, by the outputs that it feeds.

    There are C(n + 2, 2) multisets of n of them, and C(n + 3, 3) of n or fewer.
    """
    spec = mlp(1, units, 2)
    keys, full = set(), set()
    for kinds in itertools.product(range(4), repeat=units):
        mask = np.ones(spec.size, dtype=bool)
        mask[units:] = [kind & 1 for kind in kinds] + [kind >> 1 for kind in kinds]
        keys.add(canonical_key(mask, spec))
        if all(kinds):
            full.add(canonical_key(mask, spec))
    assert len(full) == known == math.comb(units + 2, 2)
    assert len(keys) == math.comb(units + 3, 3)


def pairs():
    """Yield (spec, mask, mask) of pairs that are isomorphic, nearly so, or alike in all counts."""
    for seed in range(120):
        rng = np.random.default_rng(seed)
        inputs, first, second = rng.integers(1, 5), rng.integers(4, 12), rng.integers(4, 12)
        random = mlp(int(inputs), int(first), int(second), 2)
        drawn = rng.random(random.size) < rng.uniform(0.2, 0.9)
        twins = rng.random((3, 4))[np.ix_(rng.integers(3, size=9), rng.integers(4, size=8))] < 0.5
        tied = residual(2, 8, 1)
        for spec, mask in [
            (random, drawn),
            around(regular(int(rng.integers(6, 11)), 3, seed)),
            around(regular(8, 2, seed)),
            around(np.kron(regular(5, 2, seed), np.ones((2, 2)))),
            around(twins),
            (tied, np.concatenate([np.ones(16), regular(8, 2, seed).ravel(), np.ones(8)]).astype(bool)),
        ]:
            near = moved(mask, rng)
            yield spec, mask, shuffled(mask, spec, rng)
            yield spec, mask, shuffled(near, spec, rng)
            yield spec, near, shuffled(moved(mask, rng), spec, rng)


@pytest.mark.full
def test_pynauty_agrees_on_thousands_of_pairs():
    compared = equal = 0
    for spec, a, b in pairs():
        same = certificate(a, spec) == certificate(b, spec)
        assert (canonical_key(a, spec) == canonical_key(b, spec)) == same
        compared, equal = compared + 1, equal + same
    assert compared > 2100
    assert 700 < equal < compared - 700


def certificate(mask, spec):
    return directed_certificate(mask, spec) if len(spec.hidden) == 1 else nauty_certificate(mask, spec)


def directed_certificate(mask, spec):
    """Of a group joined to itself: each unit is two vertices, one that reads and one that is read."""
    pynauty = pytest.importorskip("pynauty")
    inputs, units, outputs = (group.size for group in spec.groups)
    first, among, last = spec.split(live(mask, spec)).values()
    reads, read = inputs, inputs + units
    graph = pynauty.Graph(inputs + 2 * units + outputs)
    for unit in range(units):
        graph.connect_vertex(read + unit, [reads + unit])
        graph.connect_vertex(reads + unit, np.flatnonzero(first[unit]).tolist())
        graph.connect_vertex(reads + unit, (np.flatnonzero(among[unit]) + read).tolist())
        graph.connect_vertex(read + unit, (np.flatnonzero(last[:, unit]) + read + units).tolist())
    # The joint of a unit's two vertices would hide a loop: loops are a colour.
    loops = among.diagonal().nonzero()[0]
    plain = [set(range(reads, reads + units)) - {reads + u for u in loops}, {reads + u for u in loops}]
    cells = [{vertex} for vertex in range(inputs)] + [cell for cell in plain if cell]
    cells += [set(range(read, read + units))]
    cells += [{vertex} for vertex in range(read + units, read + units + outputs)]
    graph.set_vertex_coloring(cells)
    return len(loops), pynauty.certificate(graph)


@pytest.mark.parametrize(
    "spec",
    [
        *(convolutional(1, 3, 3, 1, kernel=(1, 2), block=2), depthwise(2, 4, 2), grouped(2, 2, 2, 1)),
        *(residual(2, 4, 1), concatenated(1, 3, 3, 2), *PIECEWISE.values()),
    ],
)
def test_vf2pp_decides_as_keys_do_on_graphs_read_back_from_graphml(spec):
    rng = np.random.default_rng(0)
    decisions = []
    for count in range(12):
        mask = rng.random(spec.size) < 0.7
        mask[spec.layers[0].slice] = mask[spec.layers[-1].slice] = True
        other = shuffled(mask if count % 3 else moved(mask, rng), spec, rng)
        graphs = []
        for graph in (to_networkx(mask, spec), to_networkx(other, spec)):
            file = io.BytesIO()
            nx.write_graphml(graph, file)
            file.seek(0)
            graphs.append(nx.read_graphml(file))
            assert dict(graphs[-1].nodes(data="label")) == dict(graph.nodes(data="label"))
            assert nx.utils.graphs_equal(nx.Graph(graphs[-1].edges), nx.Graph(graph.edges))
        same = nx.vf2pp_is_isomorphic(*graphs, node_label="label")
        assert isomorphic(mask, other, spec) == same
        decisions.append(same)
    assert True in decisions


def test_a_label_says_layer_and_kept_positions_of_the_kernel():
    spec = convolutional(1, 1, 1, 1, kernel=(2, 2), block=3)
    mask = np.array([1, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1], dtype=bool)
    labels = sorted(label for _, label in to_networkx(mask, spec).nodes(data="label") if "weights" in label)
    assert labels == ["a piece 0 weights d", "b piece 1 weights 2", "c piece 2 weights 6"]


def test_cycles_and_their_unions_are_told_apart_up_to_length_16():
    """Partitions of 8 into cycles of at least 2 + 2 weights: one network each."""
    found = {}
    for lengths in partitions(8):
        if min(lengths) > 1:
            spec, mask = around(cycles(*(2 * length for length in lengths)))
            found[canonical_key(mask, spec)] = lengths
    assert len(found) == 7
