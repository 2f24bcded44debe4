"""Canonical forms against brute force, pynauty, networkx and Burnside counts; symmetric masks end quickly."""

from __future__ import annotations

import dataclasses
import importlib
import io
import itertools
import json
import os
import subprocess
import sys

import networkx as nx
import numpy as np
import pynauty
import pytest
from conftest import every, examples
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    PIECEWISE,
    concatenated,
    convolutional,
    depthwise,
    grouped,
    groups,
    layers,
    mlp,
    read_twice,
    renumberings,
    residual,
    separable,
    shuffled,
)

from ticketsearch import compiled
from ticketsearch.canonical import (
    canonical_form,
    canonical_key,
    canonical_order,
    isomorphic,
    kernels,
    refinement,
    to_networkx,
)
from ticketsearch.errors import BadInput
from ticketsearch.masks import MaskSpec, Node, Piece, digest, edges, live, live_edges, permute


def parallel(inputs, first, second, outputs):
    """Two layers join the same two hidden groups."""
    nodes = (
        Node("input", (), (0,)),
        Node("linear", (0,), (1,), 0),
        Node("elementwise", (1,), (1,)),
        Node("linear", (2,), (2,), 1),
        Node("linear", (1,), (2,), 2),
        Node("add", (3, 4), (2,)),
        Node("linear", (5,), (3,), 3),
    )
    shapes = layers(l0=(first, inputs), l1=(second, first), l2=(second, first), l3=(outputs, second))
    pieces = (Piece(0, 1, 0), Piece(1, 2, 1), Piece(2, 2, 1), Piece(3, 3, 2))
    return MaskSpec(shapes, groups(inputs, outputs, h=first, k=second), pieces, nodes)


def around(block, inputs=3, outputs=2):
    """Return spec and mask of a block (second hidden, first hidden) with all inputs and outputs attached."""
    block = np.asarray(block, dtype=bool)
    rows, columns = block.shape
    spec = mlp(inputs, columns, rows, outputs)
    parts = np.ones((columns, inputs), dtype=bool), block, np.ones((outputs, rows), dtype=bool)
    return spec, np.concatenate([part.ravel() for part in parts])


def patterned(patterns, kernel):
    """Return spec and mask of a convolution (second hidden, first hidden) with these bits of its kernels.

    Position p of a kernel is kept where its pattern has bit p. All inputs and outputs are attached.
    """
    patterns = np.asarray(patterns)
    rows, columns = patterns.shape
    spec = convolutional(1, columns, rows, 1, kernel=(kernel,), block=1)
    block = patterns[:, :, None] >> np.arange(kernel) & 1
    parts = np.ones(columns * kernel), block.ravel(), np.ones(rows)
    return spec, np.concatenate(parts).astype(bool)


def cycles(*lengths):
    """Return the block of disjoint cycles, of even lengths."""
    size = sum(lengths) // 2
    block, start = np.zeros((size, size), dtype=bool), 0
    for length in lengths:
        places = start + np.arange(length // 2)
        block[places, places] = block[places, np.roll(places, 1)] = True
        start += length // 2
    return block


def hypercube(dimension):
    even = [v for v in range(2**dimension) if v.bit_count() % 2 == 0]
    odd = [v for v in range(2**dimension) if v.bit_count() % 2 == 1]
    return np.array([[(a ^ b).bit_count() == 1 for b in even] for a in odd])


def rook(size):
    squares = list(itertools.product(range(size), repeat=2))
    return np.array([[a != b and (a[0] == b[0] or a[1] == b[1]) for b in squares] for a in squares])


def shrikhande():
    squares = list(itertools.product(range(4), repeat=2))
    steps = {(0, 1), (0, 3), (1, 0), (3, 0), (1, 1), (3, 3)}
    return np.array([[((a[0] - b[0]) % 4, (a[1] - b[1]) % 4) in steps for b in squares] for a in squares])


def projective_plane(order):
    points = [(1, a, b) for a in range(order) for b in range(order)]
    points += [(0, 1, a) for a in range(order)] + [(0, 0, 1)]
    return np.array([[np.dot(p, line) % order == 0 for p in points] for line in points])


def circulant(size, steps):
    return np.array([[(a - b) % size in steps for b in range(size)] for a in range(size)])


def regular(size, degree, seed):
    """Return a random block with ``degree`` weights in each row and column."""
    rng = np.random.default_rng(seed)
    block = circulant(size, range(degree))
    for _ in range(10 * size * degree):
        rows = rng.integers(size, size=2)
        columns = [rng.choice(np.flatnonzero(block[row])) for row in rows]
        if not block[rows[0], columns[1]] and not block[rows[1], columns[0]]:
            block[rows, columns] = False
            block[rows, columns[::-1]] = True
    return block


@pytest.fixture
def without_numba(monkeypatch):
    """The compiled loops as plain Python."""
    monkeypatch.setattr(compiled, "AVAILABLE", False)
    importlib.reload(kernels)
    yield
    monkeypatch.undo()
    importlib.reload(kernels)


TINY = {
    "3+3": mlp(2, 3, 3, 2),
    "4+4": mlp(1, 4, 4, 1),
    "6+2": mlp(2, 6, 2, 1),
    "constant": mlp(2, 3, 3, 1, constant=True),
    "residual": residual(2, 5, 1),
    "parallel": parallel(1, 3, 3, 1),
} | PIECEWISE


@pytest.mark.parametrize("name", every(TINY, quick=["3+3", "residual", "convolutional"]))
def test_keys_are_equal_exactly_where_brute_force_finds_a_renumbering(name):
    spec = TINY[name]
    table = renumberings(spec)
    rng = np.random.default_rng(0)
    least_of, key_of = {}, {}
    for count in range(400):
        mask = rng.random(spec.size) < rng.choice([0.25, 0.5, 0.75, 0.9])
        if count % 5 == 0:
            mask[spec.layers[0].slice] = mask[spec.layers[-1].slice] = True
        least = min(row.tobytes() for row in np.packbits(live(mask, spec)[table], axis=1))
        key = canonical_key(mask, spec)
        assert least_of.setdefault(key, least) == least
        assert key_of.setdefault(least, key) == key
    assert len(key_of) > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    every(
        [
            *(mlp(1, 2, 3, 1), mlp(2, 3, 1), mlp(1, 2, 2, 2, constant=True), residual(1, 2, 2)),
            convolutional(1, 2, 1, 1, kernel=(2,), block=2),
            convolutional(1, 1, 2, 1, kernel=(1,), block=3),
            grouped(1, 1, 2, 1, kernel=1),
            grouped(1, 2, 1, 1, kernel=1),
            grouped(1, 1, 1, 1, columns=3, kernel=1),
            *(concatenated(1, 2, 2, 1), concatenated(2, 2, 1, 1), read_twice(1, 3, 1), read_twice(1, 2, 2)),
            *(
                depthwise(1, 3, 1, kernel=1),
                depthwise(1, 2, 1, kernel=3),
                separable(1, 1, 1),
                separable(1, 2, 1, kernel=1),
            ),
        ],
        default=lambda spec: spec.size < 12,
    ),
)
def test_the_number_of_keys_over_all_masks_is_that_of_burnside(spec):
    masks = (np.arange(2**spec.size)[:, None] >> np.arange(spec.size) & 1).astype(bool)
    alive = [mask for mask in masks if np.array_equal(live(mask, spec), mask)]
    table = renumberings(spec)
    fixed = sum(int((np.stack(alive)[:, row] == np.stack(alive)).all(axis=1).sum()) for row in table)
    assert len({canonical_key(mask, spec) for mask in masks}) == fixed / len(table)


@pytest.mark.parametrize(
    ("rows", "columns", "known"),
    every(
        [(2, 2, 7), (2, 3, 13), (3, 3, 36), (3, 4, 87)],
        default=lambda member: member[2] < 87,
        quick=lambda member: member[2] < 36,
    ),
)
def test_blocks_up_to_row_and_column_order_have_their_known_number(rows, columns, known):
    """OEIS A028657: binary matrices up to permutations of rows and of columns."""
    blocks = itertools.product([False, True], repeat=rows * columns)
    keys = set()
    for block in blocks:
        spec, mask = around(np.reshape(block, (rows, columns)), 1, 1)
        keys.add(canonical_key(mask, spec))
    assert len(keys) == known


@pytest.mark.parametrize(("units", "known"), [(1, 2), (2, 10), (3, 104)])
def test_relations_of_a_group_to_itself_have_their_known_number(units, known):
    """OEIS A000595: binary relations on unlabelled points, loops allowed."""
    spec = residual(1, units, 1)
    ends = np.ones(units, dtype=bool)
    relations = itertools.product([False, True], repeat=units**2)
    assert len({canonical_key(np.concatenate([ends, r, ends]), spec) for r in relations}) == known


@pytest.mark.parametrize(
    "name", every(["3+3", "constant", "residual", "parallel", *PIECEWISE], quick=["3+3", "residual"])
)
@pytest.mark.parametrize("values", every([1, 3], default=[1]))
def test_keys_are_exact_whatever_hashes_collide(name, values, monkeypatch, without_numba):
    def collide(value):
        return (value % np.uint64(values)) << np.uint64(60)

    monkeypatch.setattr(refinement, "_mix", collide)
    monkeypatch.setattr(refinement, "_numbered", lambda count: collide(np.arange(count, dtype=np.uint64)))
    monkeypatch.setattr(kernels, "mixed", collide)
    spec = TINY[name]
    table = renumberings(spec)
    rng = np.random.default_rng(0)
    least_of, key_of = {}, {}
    for _ in range(150):
        mask = rng.random(spec.size) < rng.choice([0.5, 0.75, 0.9])
        least = min(row.tobytes() for row in np.packbits(live(mask, spec)[table], axis=1))
        for copy in (mask, shuffled(mask, spec, rng)):
            key = canonical_key(copy, spec)
            assert least_of.setdefault(key, least) == least
            assert key_of.setdefault(least, key) == key


def nauty_certificate(mask, spec):
    """All units are vertices, live weights edges; certificates leave out the colouring: sizes are fixed."""
    starts = np.cumsum([0] + [group.size for group in spec.groups]).tolist()
    graph = pynauty.Graph(starts[-1])
    found, _ = live_edges(mask, spec)
    for piece, (rows, columns, _) in zip(spec.pieces, found, strict=True):
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            graph.connect_vertex(starts[piece.target] + row, [starts[piece.source] + column])
    cells = []
    for group, start in zip(spec.groups, starts, strict=False):
        vertices = range(start, start + group.size)
        cells += [set(vertices)] if group.kind == "hidden" else [{vertex} for vertex in vertices]
    graph.set_vertex_coloring(cells)
    return pynauty.certificate(graph)


def moved(mask, rng):
    """Return the mask with one weight moved, if there is anywhere to."""
    other = mask.copy()
    if mask.all():
        return other
    other[rng.choice(np.flatnonzero(mask))] = False
    other[rng.choice(np.flatnonzero(~mask))] = True
    return other


def oracle_masks():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        spec = mlp(3, 12, 10, 2)
        yield spec, rng.random(spec.size) < rng.uniform(0.1, 0.9), seed
    for seed in range(25):
        yield *around(regular(10, 3, seed)), seed
        yield *around(np.kron(regular(6, 2, seed), np.ones((2, 2)))), seed
        rng = np.random.default_rng(seed)
        yield (
            *around(rng.random((3, 4))[np.ix_(rng.integers(3, size=9), rng.integers(4, size=8))] < 0.5),
            seed,
        )
    for block in (cycles(12), cycles(6, 6), rook(4), shrikhande(), hypercube(4), ~np.eye(9, dtype=bool)):
        yield *around(block), 0


@pytest.mark.full
def test_pynauty_agrees_on_random_regular_twin_laden_and_nearly_isomorphic_pairs():
    compared = equal = 0
    for spec, mask, seed in oracle_masks():
        rng = np.random.default_rng(seed + 1000)
        near = moved(mask, rng)
        for a, b in [
            (mask, shuffled(mask, spec, rng)),
            (mask, shuffled(near, spec, rng)),
            (near, moved(mask, rng)),
            (near, moved(near, rng)),
        ]:
            same = nauty_certificate(a, spec) == nauty_certificate(b, spec)
            assert (canonical_key(a, spec) == canonical_key(b, spec)) == same
            assert isomorphic(a, b, spec) == same
            compared, equal = compared + 1, equal + same
    assert compared > 400
    assert 100 < equal < compared - 100


@pytest.mark.slow
def test_pynauty_agrees_on_all_pairs_of_small_regular_blocks():
    blocks = [regular(8, 3, seed) for seed in range(40)]
    spec, _ = around(blocks[0])
    masks = [around(block)[1] for block in blocks]
    pairs = {(canonical_key(mask, spec), nauty_certificate(mask, spec)) for mask in masks}
    assert len(pairs) == len({key for key, _ in pairs}) == len({certificate for _, certificate in pairs}) > 3


@pytest.mark.parametrize(("a", "b"), [(cycles(12), cycles(6, 6)), (cycles(40), cycles(20, 20))])
def test_cycles_that_refinement_cannot_tell_apart_have_other_keys(a, b):
    spec, first = around(a)
    _, second = around(b)
    assert canonical_key(first, spec) != canonical_key(second, spec)
    assert not isomorphic(first, second, spec)


def test_strongly_regular_graphs_of_equal_parameters_have_other_keys():
    """As relations of one group to itself; as blocks between two groups both are the same biplane."""
    spec = residual(1, 16, 1)
    ends = np.ones(16, dtype=bool)
    first, second = (np.concatenate([ends, part.ravel(), ends]) for part in (rook(4), shrikhande()))
    assert canonical_key(first, spec) != canonical_key(second, spec)
    assert not isomorphic(first, second, spec)
    spec, first = around(rook(4))
    _, second = around(shrikhande())
    assert isomorphic(first, second, spec)
    assert nauty_certificate(first, spec) == nauty_certificate(second, spec)


@pytest.mark.parametrize(
    "spec", [mlp(2, 4, 3, 2), residual(2, 4, 2), parallel(2, 3, 3, 1), *PIECEWISE.values()]
)
def test_vf2pp_on_the_graph_agrees(spec):
    rng = np.random.default_rng(0)
    decisions = set()
    for count in range(60):
        mask = rng.random(spec.size) < 0.6
        if count % 2:
            mask[spec.layers[0].slice] = mask[spec.layers[-1].slice] = True
        other = shuffled(mask if count % 3 else moved(mask, rng), spec, rng)
        graphs = to_networkx(mask, spec), to_networkx(other, spec)
        same = nx.vf2pp_is_isomorphic(*graphs, node_label="label")
        assert isomorphic(mask, other, spec) == same
        decisions.add(same)
    assert decisions == {True, False}


def test_vf2pp_sees_the_direction_of_weights_that_join_a_group_to_itself():
    spec = residual(1, 3, 1)
    ends = np.ones(3, dtype=bool)
    out = np.zeros((3, 3), dtype=bool)
    out[1:, 0] = True
    a, b = (np.concatenate([ends, part.ravel(), ends]) for part in (out, out.T))
    assert not isomorphic(a, b, spec)
    assert not nx.vf2pp_is_isomorphic(to_networkx(a, spec), to_networkx(b, spec), node_label="label")


def test_empty_masks_are_isomorphic_for_vf2pp_too():
    spec = mlp(2, 3, 1)
    graph = to_networkx(np.zeros(spec.size, dtype=bool), spec)
    assert nx.vf2pp_is_isomorphic(graph, graph, node_label="label")
    assert isomorphic(np.zeros(spec.size), np.eye(1, spec.size)[0], spec)


def test_the_graph_has_one_string_attribute_and_survives_graphml():
    spec, mask = around(cycles(6))
    graph = to_networkx(mask, spec)
    assert all(
        set(data) == {"label"} and isinstance(data["label"], str) for _, data in graph.nodes(data=True)
    )
    assert len(graph) == 3 + 3 + 3 + 2 + int(mask.sum())
    file = io.BytesIO()
    nx.write_graphml(graph, file)
    file.seek(0)
    read = nx.read_graphml(file)
    assert dict(read.nodes(data="label")) == dict(graph.nodes(data="label"))
    assert {frozenset(edge) for edge in read.edges} == {frozenset(edge) for edge in graph.edges}


LARGER = {
    "deep": mlp(4, 9, 8, 7, 3),
    "wide": mlp(3, 40, 30, 2),
    "convolutional": convolutional(3, 12, 10, 4),
    "grouped": grouped(3, 4, 4, 3, columns=6, kernel=3),
    "concatenated": concatenated(3, 12, 10, 3),
    "read twice": read_twice(3, 20, 3),
    "depthwise": depthwise(2, 30, 3, kernel=3),
    "separable": separable(2, 12, 3, kernel=3),
}


@settings(max_examples=examples(150), deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 1), st.sampled_from([*LARGER, *TINY]))
def test_a_renumbered_copy_keeps_the_key(seed, density, name):
    spec = TINY.get(name) or LARGER[name]
    rng = np.random.default_rng(seed)
    mask = rng.random(spec.size) < density
    copy = shuffled(mask, spec, rng)
    assert canonical_key(copy, spec) == canonical_key(mask, spec)
    whole = [permute(m, spec, canonical_order(m, spec, live_only=False)) for m in (mask, copy)]
    assert np.array_equal(*whole)


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1), st.sampled_from(list(TINY)))
def test_the_form_is_a_renumbering_of_the_live_part_and_its_own_form(seed, density, name):
    spec = TINY[name]
    mask = np.random.default_rng(seed).random(spec.size) < density
    form = canonical_form(mask, spec)
    assert form.dtype == bool
    assert not form.flags.writeable
    assert np.array_equal(form, permute(live(mask, spec), spec, canonical_order(mask, spec)))
    assert np.array_equal(form, canonical_form(form, spec))
    assert isomorphic(form, mask, spec)
    _, units = live_edges(form, spec)
    for group in spec.hidden:
        assert not np.any(np.diff(units[group].astype(int)) > 0), "live units come first"


def test_dead_units_do_not_matter():
    spec = mlp(2, 3, 2, 1)
    parts = {
        "fc0.weight": [[1, 1], [0, 1], [0, 0]],
        "fc1.weight": [[1, 0, 0], [0, 0, 0]],
        "fc2.weight": [[1, 0]],
    }
    mask = spec.join(parts).astype(bool)
    bare = spec.join(parts | {"fc0.weight": [[1, 1], [0, 0], [0, 0]]}).astype(bool)
    fed = spec.join(parts | {"fc1.weight": [[1, 0, 1], [0, 0, 0]]}).astype(bool)
    assert canonical_key(mask, spec) == canonical_key(bare, spec) == canonical_key(fed, spec)
    assert canonical_key(mask, spec) != canonical_key(np.zeros(spec.size), spec)


def test_constants_keep_units_without_inputs():
    parts = {"fc0.weight": [[1, 1], [0, 0]], "fc1.weight": [[1, 1]]}
    plain, constant = mlp(2, 2, 1), mlp(2, 2, 1, constant=True)
    mask = plain.join(parts).astype(bool)
    without = plain.join(parts | {"fc1.weight": [[1, 0]]}).astype(bool)
    assert isomorphic(mask, without, plain)
    assert not isomorphic(mask, without, constant)


def test_a_loop_differs_from_a_cycle_of_two():
    spec = residual(1, 2, 1)
    ends = np.ones(2, dtype=bool)
    loops, cycle = np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)
    a, b = (np.concatenate([ends, part.ravel(), ends]) for part in (loops, cycle))
    assert not isomorphic(a, b, spec)


def test_weights_moved_between_parallel_layers_are_another_network():
    spec = parallel(1, 2, 2, 1)
    ends = np.ones(2, dtype=bool)
    eye, full, nothing = np.eye(2, dtype=bool), np.ones((2, 2), dtype=bool), np.zeros((2, 2), dtype=bool)
    straight, crossed, first, second = (
        np.concatenate([ends, a.ravel(), b.ravel(), ends])
        for a, b in [(eye, eye), (eye, ~eye), (full, nothing), (nothing, full)]
    )
    assert not isomorphic(straight, crossed, spec)
    assert not isomorphic(first, second, spec)
    assert isomorphic(straight, np.concatenate([ends, (~eye).ravel(), (~eye).ravel(), ends]), spec)


def test_kernels_that_keep_other_positions_are_another_network():
    spec, mask = patterned([[0b01, 0b10], [0b10, 0b01]], 2)
    for other, same in [
        ([[0b10, 0b01], [0b01, 0b10]], True),
        ([[0b01, 0b01], [0b10, 0b10]], False),
        ([[0b01, 0b11], [0b10, 0b00]], False),
    ]:
        assert isomorphic(mask, patterned(other, 2)[1], spec) == same


def test_the_positions_of_two_kernels_do_not_add_up():
    """The target is reached by each position from two channels, whether or not they are the same two."""
    spec, split = patterned([[0b01, 0b10, 0b11, 0b00]], 2)
    _, merged = patterned([[0b11, 0b00, 0b01, 0b10]], 2)
    _, doubled = patterned([[0b11, 0b11, 0b00, 0b00]], 2)
    assert isomorphic(split, merged, spec)
    assert not isomorphic(split, doubled, spec)


def test_channels_with_other_kernels_are_no_twins():
    spec, mask = patterned([[0b011, 0b101], [0b011, 0b101]], 3)
    order = canonical_order(mask, spec)
    assert order["h"].tolist() in ([0, 1], [1, 0])
    for other in ([[0b011, 0b011], [0b101, 0b101]], [[0b011, 0b101], [0b101, 0b011]]):
        assert canonical_key(mask, spec) != canonical_key(patterned(other, 3)[1], spec)


@pytest.mark.parametrize("lengths", [(12,), (6, 6), (4, 8), (40,), (20, 20)])
def test_rings_of_kernels_that_refinement_cannot_tell_apart_are_settled_and_rightly(lengths):
    """Each unit has one neighbour by each of two patterns, whichever way the rings close."""
    size = sum(lengths) // 2
    ring = np.zeros((size, size), dtype=int)
    start = 0
    for length in lengths:
        places = start + np.arange(length // 2)
        ring[places, places] = 0b011
        ring[places, np.roll(places, 1)] = 0b101
        start += length // 2
    spec, mask = patterned(ring, 3)
    _, whole = patterned(
        np.eye(size, dtype=int) * 0b011 | np.roll(np.eye(size, dtype=int), 1, axis=0) * 0b101, 3
    )
    assert isomorphic(mask, whole, spec) == (len(lengths) == 1)
    for seed in range(3):
        copy = shuffled(mask, spec, np.random.default_rng(seed))
        assert canonical_key(copy, spec) == canonical_key(mask, spec)


def test_depthwise_kernels_belong_to_their_channels():
    spec = depthwise(2, 2, 1)
    # a: (2, 2), b: (2, 1, 2), c: (1, 2); the channels read other inputs.
    mask, turned, swapped = (
        np.array(list("".join(parts)), dtype=int)
        for parts in (("1001", "1001", "11"), ("0110", "0110", "11"), ("1001", "0110", "11"))
    )
    assert isomorphic(mask, turned, spec)
    assert not isomorphic(mask, swapped, spec)


def test_whole_columns_are_exchanged_and_their_parts_are_not():
    # a: (2, 2, 1), b: (2, 1, 1), c: (1, 2); the two columns read other inputs and other outputs read them.
    spec = grouped(2, 1, 1, 2, kernel=1)
    parts = {"a": [[1, 0], [0, 1]], "b": [[1], [1]], "c": [[1, 0], [0, 1]]}

    def joined(**others):
        shaped = {layer.name: np.reshape((parts | others)[layer.name], layer.shape) for layer in spec.layers}
        return spec.join(shaped).astype(bool)

    whole = joined(a=[[0, 1], [1, 0]], c=[[0, 1], [1, 0]])
    half = joined(a=[[0, 1], [1, 0]])
    assert isomorphic(joined(), whole, spec)
    assert not isomorphic(joined(), half, spec)
    bare = dataclasses.replace(spec, bundles=())
    assert not isomorphic(joined(), whole, bare)


def test_groups_without_a_bundle_stay_where_they_are():
    spec = concatenated(1, 2, 2, 1)
    first, second = (np.array(list(text), dtype=int) for text in ("11101110", "10111011"))
    assert not isomorphic(first, second, spec)


def test_symmetric_columns_are_settled_and_rightly():
    spec = grouped(1, 3, 3, 1, columns=8, kernel=1)
    ring = np.eye(3, dtype=bool) | np.roll(np.eye(3, dtype=bool), 1, axis=1)
    ends = np.ones(24, dtype=bool)
    mask = np.concatenate([ends, np.tile(ring.ravel(), 8), ends])
    lone = mask.copy()
    lone[24 + 9 * 5] = False
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for whole in (mask, lone):
            assert canonical_key(shuffled(whole, spec, rng), spec) == canonical_key(whole, spec)
        assert canonical_key(shuffled(lone, spec, rng), spec) != canonical_key(mask, spec)


def test_groups_of_one_size_are_not_exchanged():
    spec = mlp(2, 2, 2, 2)
    parts = {"fc0.weight": np.eye(2), "fc1.weight": np.ones((2, 2)), "fc2.weight": np.ones((2, 2))}
    mask = spec.join(parts).astype(bool)
    other = spec.join(parts | {"fc0.weight": np.ones((2, 2)), "fc2.weight": np.eye(2)}).astype(bool)
    assert not isomorphic(mask, other, spec)


SYMMETRIC = {
    "complete": lambda: np.ones((100, 300)),
    "complete but a matching": lambda: ~np.eye(50, dtype=bool),
    "one cycle of 200": lambda: cycles(200),
    "20 cycles of 10": lambda: cycles(*[10] * 20),
    "50 cycles of 6": lambda: cycles(*[6] * 50),
    "hypercube": lambda: hypercube(7),
    "rook 5": lambda: rook(5),
    "rook 6": lambda: rook(6),
    "lines of a square": lambda: np.repeat(np.eye(6), 6, axis=1).tolist() + np.tile(np.eye(6), 6).tolist(),
    "3-regular": lambda: regular(100, 3, 0),
    "9-regular": lambda: regular(100, 9, 0),
    "four 3-regular": lambda: np.kron(np.eye(4), regular(25, 3, 0)),
    "twins of 3-regular": lambda: np.kron(regular(50, 3, 0), np.ones((2, 3))),
    "circulant": lambda: circulant(100, {0, 1, 5, 12, 40}),
    "symmetric circulant": lambda: circulant(60, {1, 5, 12, 48, 55, 59}),
    "projective plane": lambda: projective_plane(7),
    "shrikhande": lambda: shrikhande(),
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_masks_are_settled_and_rightly(name):
    spec, mask = around(SYMMETRIC[name]())
    copy = shuffled(mask, spec, np.random.default_rng(0))
    assert canonical_key(mask, spec) == canonical_key(copy, spec)


@pytest.mark.parametrize(
    "relation", [cycles(20), rook(4), shrikhande(), circulant(21, {1, 2, 5, 16, 19, 20})]
)
@pytest.mark.parametrize("loops", [False, True])
def test_symmetric_groups_joined_to_themselves_are_settled_and_rightly(relation, loops):
    spec = residual(2, len(relation), 1)
    ends = np.ones(2 * len(relation), dtype=bool)
    part = relation | np.eye(len(relation), dtype=bool) if loops else relation
    mask = np.concatenate([ends, part.ravel(), ends[::2]])
    for seed in range(3):
        copy = shuffled(mask, spec, np.random.default_rng(seed))
        assert canonical_key(mask, spec) == canonical_key(copy, spec)
        assert canonical_key(mask, spec) != canonical_key(moved(copy, np.random.default_rng(seed)), spec)


def test_the_key_is_the_same_in_processes_with_other_hash_seeds():
    spec, mask = around(hypercube(4))
    code = (
        "import json, sys; from ticketsearch.canonical import *; from ticketsearch.masks import *;"
        "spec, mask = json.load(sys.stdin);"
        "print(hash('ticket'), canonical_key(mask, MaskSpec.from_json(spec)))"
    )
    data = json.dumps([spec.to_json(), mask.astype(int).tolist()])
    found = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", code],
            input=data,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(run.stdout.split())
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1] == canonical_key(mask, spec)


def test_the_form_does_not_change_between_versions():
    """Keys are stored in runs: a change of them must be meant."""
    found = []
    for block in (cycles(12), rook(4), hypercube(4)):
        spec, mask = around(block)
        found.append(digest(canonical_form(mask, spec)))
    assert found == [
        "7873cdad5a4498c439383fdc3ffb1703",
        "7d956fdab0615390930b9c4a8ec099ba",
        "dc1052169d936e2eedc3441d17a4cd35",
    ]


def test_the_key_does_not_change_between_versions():
    spec = mlp(5, 30, 20, 3)
    mask = np.random.default_rng(3).random(spec.size) < 0.1
    assert canonical_key(mask, spec) == "16b522e59f02bd4560624ee8b3d11158"
    spec, mask = around(cycles(12))
    assert canonical_key(mask, spec) == ("a9ff910b336e6d09834807b5c8b0f8c0-c80b6beba4b93feb9762f3e9eded350a")


@pytest.mark.parametrize("call", [canonical_key, canonical_form, canonical_order, to_networkx])
def test_a_mask_of_another_shape_is_refused(call):
    spec = mlp(2, 3, 1)
    with pytest.raises(BadInput, match=r"shape \(9,\), but got \(8,\)"):
        call(np.ones(8, dtype=bool), spec)
    with pytest.raises(BadInput, match="True and False"):
        call(np.full(9, 2), spec)


def test_edges_of_the_form_are_as_many_as_live_ones():
    spec = mlp(5, 30, 20, 3)
    mask = np.random.default_rng(3).random(spec.size) < 0.1
    counts = [len(part.rows) for part in live_edges(mask, spec)[0]]
    assert [len(part.rows) for part in edges(canonical_form(mask, spec), spec)] == counts
