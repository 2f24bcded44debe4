"""Masks: the flat array and its layers, identity, and which weights and units are live."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    PIECEWISE,
    concatenated,
    convolutional,
    depthwise,
    grouped,
    layers,
    read_twice,
    residual,
    separable,
)

from ticketsearch.errors import BadInput
from ticketsearch.masks import (
    Group,
    MaskSpec,
    Node,
    Piece,
    Segment,
    check_mask,
    check_masks,
    density,
    digest,
    edges,
    effective_densities,
    effective_density,
    layer_counts,
    live,
    live_edges,
    live_units,
    mask_of,
    pack,
    permute,
    random_order,
    segment_order,
    unit_orders,
    unpack,
    weight_numbers,
)

few = settings(max_examples=examples(100), deadline=None)


def make_spec(shapes, groups, nodes):
    """Return a spec whose layers are named a, b, c, ... and join what their nodes say, kernels included.

    A layer of shape (units, 1, ...) from groups to themselves is depthwise.
    """
    letters = dict(zip("abcdefgh", shapes, strict=False))
    pieces = []
    for node in nodes:
        if node.operation != "linear":
            continue
        shape, sources = shapes[node.layer], nodes[node.inputs[0]].groups
        size = int(np.prod(shape[2:]))
        row = 0
        for to, target in enumerate(node.groups):
            if shape[1] == 1 and len(shape) > 2 and sources == node.groups:
                diagonal = {"positions": size, "to": to, "of": to, "diagonal": True}
                pieces.append(Piece(node.layer, target, target, row, **diagonal))
            else:
                column = 0
                for of, source in enumerate(sources):
                    place = {"positions": size, "to": to, "of": of}
                    pieces.append(Piece(node.layer, target, source, row, column, **place))
                    column += groups[source][1]
            row += groups[target][1]
    return MaskSpec(layers(**letters), tuple(Group(*group) for group in groups), tuple(pieces), tuple(nodes))


def chain(*widths, linear_constant=False, map_constant=False):
    """Return the spec of an MLP: input, linear, elementwise, linear, ..., linear."""
    groups = [("input", widths[0], "input")]
    groups += [(f"h{i}", width, "hidden") for i, width in enumerate(widths[1:-1])]
    groups += [("output", widths[-1], "output")]
    nodes = [Node("input", (), (0,))]
    for layer in range(len(widths) - 1):
        last = layer == len(widths) - 2
        constant = linear_constant and not last
        nodes.append(Node("linear", (len(nodes) - 1,), (layer + 1,), layer, constant))
        if not last:
            nodes.append(Node("elementwise", (len(nodes) - 1,), (layer + 1,), -1, map_constant))
    return make_spec([(rows, columns) for columns, rows in itertools.pairwise(widths)], groups, nodes)


def bits(text):
    return np.array([c == "1" for c in text.replace(" ", "").replace("/", "")])


@st.composite
def networks(draw):
    """Any tiny network: branches, sums, products, parts, kernels, layers that join groups to themselves."""
    sizes = [draw(st.integers(1, 3))]
    nodes, shapes = [Node("input", (), (0,))], []

    def linear(source, targets, kernel, constant):
        rows, columns = (sum(sizes[group] for group in part) for part in (targets, nodes[source].groups))
        shapes.append((rows, columns, *kernel))
        nodes.append(Node("linear", (source,), targets, len(shapes) - 1, constant))

    for _ in range(draw(st.integers(1, 5))):
        constant = draw(st.booleans())
        source = draw(st.integers(0, len(nodes) - 1))
        groups = nodes[source].groups
        kinds = [
            "linear",
            "depthwise",
            "elementwise",
            "mix",
            "add",
            "multiply",
            "concatenate",
            "select",
            "zeros",
        ]
        kind = draw(st.sampled_from(kinds))
        if kind == "linear":
            targets = []
            for _ in range(draw(st.integers(1, 2))):
                targets.append(draw(st.integers(1, len(sizes))))
                if targets[-1] == len(sizes):
                    sizes.append(draw(st.integers(1, 2)))
            linear(source, tuple(targets), draw(st.sampled_from([(), (2,), (1, 2)])), constant)
        elif kind == "depthwise":
            shapes.append((sum(sizes[group] for group in groups), 1, 2))
            nodes.append(Node("linear", (source,), groups, len(shapes) - 1, constant))
        elif kind in ("elementwise", "mix"):
            nodes.append(Node(kind, (source,), groups, -1, constant or kind == "mix"))
        elif kind in ("add", "multiply"):
            partners = [i for i, node in enumerate(nodes) if node.groups == groups]
            nodes.append(Node(kind, (source, draw(st.sampled_from(partners))), groups))
        elif kind == "select":
            places = draw(st.lists(st.integers(0, len(groups) - 1), min_size=1, max_size=3))
            chosen = tuple(groups[place] for place in places)
            nodes.append(Node("select", (source,), chosen, places=tuple(places)))
        elif kind == "zeros":
            nodes.append(Node("zeros", (), groups))
        else:
            partners = [i for i, node in enumerate(nodes) if len(node.groups) + len(groups) <= 4]
            if partners:
                partner = draw(st.sampled_from(partners))
                nodes.append(Node("concatenate", (source, partner), groups + nodes[partner].groups))
    sizes.append(draw(st.integers(1, 2)))
    linear(draw(st.integers(0, len(nodes) - 1)), (len(sizes) - 1,), (), draw(st.booleans()))
    kinds = ["input", *["hidden"] * (len(sizes) - 2), "output"]
    groups = [(f"g{i}", size, kind) for i, (size, kind) in enumerate(zip(sizes, kinds, strict=True))]
    return make_spec(shapes, groups, nodes)


@st.composite
def networks_with_masks(draw):
    spec = draw(st.one_of(networks(), st.sampled_from(list(PIECEWISE.values()))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return spec, rng.random(spec.size) < draw(st.sampled_from([0.25, 0.5, 0.75]))


@st.composite
def chains_with_masks(draw):
    spec = chain(*draw(st.lists(st.integers(1, 6), min_size=2, max_size=5)))
    return spec, np.random.default_rng(draw(st.integers(0, 2**32))).random(spec.size) < 0.5


def enumerated(mask, spec, constants):
    """Walk every path of the computation: the weights and (group, unit) pairs on a path to the output."""
    numbers = [spec.part(piece, np.arange(spec.size)) for piece in spec.pieces]
    weights, units = set(), set()

    def nonzero(index, place, unit):
        """Return whether a unit of a value may be non-zero, constants counted in any case."""
        node = spec.nodes[index]
        if node.operation == "input" or node.constant:
            return True
        if node.operation == "concatenate":
            for source in node.inputs:
                if place < len(spec.nodes[source].groups):
                    return nonzero(source, place, unit)
                place -= len(spec.nodes[source].groups)
        if node.operation == "select":
            return nonzero(node.inputs[0], node.places[place], unit)
        if node.operation != "linear":
            own = [nonzero(source, place, unit) for source in node.inputs]
            return all(own) if node.operation == "multiply" else any(own)
        for number in spec.layer_pieces[node.layer]:
            piece, part = spec.pieces[number], numbers[number]
            for source in range(part.shape[1]) if piece.to == place else ():
                if mask[part[unit, source]].any():
                    origin = unit if piece.diagonal else source
                    if nonzero(node.inputs[0], piece.of, origin):
                        return True
        return False

    def steps(node, place, unit):
        """Yield (consumer, place, unit, weights used) for each step on from one unit of a value."""
        for index, consumer in enumerate(spec.nodes):
            for turn, source in enumerate(consumer.inputs):
                if source != node:
                    continue
                if consumer.operation == "linear":
                    for number in spec.layer_pieces[consumer.layer]:
                        piece = spec.pieces[number]
                        for row in range(len(numbers[number])) if piece.of == place else ():
                            if piece.diagonal and row != unit:
                                continue
                            between = numbers[number][row, 0 if piece.diagonal else unit]
                            used = {int(n) for n in between if mask[n]}
                            if used:
                                yield index, piece.to, row, used
                elif consumer.operation == "concatenate":
                    before = sum(len(spec.nodes[other].groups) for other in consumer.inputs[:turn])
                    yield index, before + place, unit, set()
                elif consumer.operation == "select":
                    for there, taken in enumerate(consumer.places):
                        if taken == place:
                            yield index, there, unit, set()
                elif consumer.operation == "multiply":
                    others = [other for i, other in enumerate(consumer.inputs) if i != turn]
                    if all(nonzero(other, place, unit) for other in others):
                        yield index, place, unit, set()
                elif consumer.operation == "mix" and constants:
                    for other, group in enumerate(consumer.groups):
                        yield from ((index, other, u, set()) for u in range(spec.groups[group].size))
                else:
                    yield index, place, unit, set()

    def walk(node, place, unit, used, met):
        met = met | {(spec.nodes[node].groups[place], unit)}
        if spec.nodes[node].operation == "mix" and spec.nodes[node].constant and constants:
            # All units are read by the normalisation, which makes none of them zero.
            met |= {(group, u) for group in spec.nodes[node].groups for u in range(spec.groups[group].size)}
        if node == len(spec.nodes) - 1:
            weights.update(used)
            units.update(met)
        for index, there, other, new in steps(node, place, unit):
            walk(index, there, other, used | new, met)

    for index, node in enumerate(spec.nodes):
        if node.operation == "input" or (constants and node.constant):
            for place, group in enumerate(node.groups):
                for unit in range(spec.groups[group].size):
                    walk(index, place, unit, set(), set())
    return weights, units


# The flat array and its layers


def test_a_spec_knows_its_size_and_where_each_layer_lies():
    spec = chain(3, 2, 4)
    assert spec.size == 3 * 2 + 2 * 4
    assert [layer.slice for layer in spec.layers] == [slice(0, 6), slice(6, 14)]
    assert [layer.size for layer in spec.layers] == [6, 8]
    assert [(piece.source, piece.target) for piece in spec.pieces] == [(0, 1), (1, 2)]
    assert spec.layer_pieces == ((0,), (1,))
    assert spec.hidden == (1,)
    assert spec.outputs == 4


def test_a_part_has_targets_sources_and_positions():
    spec = convolutional(2, 3, 2, 1, kernel=(1, 2), block=2)
    numbers = np.arange(spec.size)  # a: 12 weights, b: 12, c: 4
    assert spec.part(spec.pieces[0], numbers).tolist() == np.arange(12).reshape(3, 2, 2).tolist()
    assert spec.part(spec.pieces[1], numbers)[1, 0].tolist() == [18, 19]
    assert spec.window(spec.pieces[1], numbers).shape == (2, 3, 1, 2)
    # The two features of each channel stand together behind the flattening.
    assert spec.part(spec.pieces[2], numbers).tolist() == [[[24, 25], [26, 27]]]


def test_parts_of_concatenated_grouped_and_depthwise_layers_lie_where_their_groups_are():
    spec = concatenated(1, 3, 2, 2)
    first, second = (spec.part(spec.pieces[index], np.arange(spec.size))[:, :, 0] for index in (2, 3))
    assert first.tolist() == [[5, 6, 7], [10, 11, 12]]
    assert second.tolist() == [[8, 9], [13, 14]]
    spec = grouped(1, 2, 1, 1)  # a: (4, 1, 2), b: (2, 2, 2), c: (1, 2)
    parts = [spec.part(piece, np.arange(spec.size)).tolist() for piece in spec.pieces]
    assert parts[1] == [[[4, 5]], [[6, 7]]]
    assert parts[3] == [[[12, 13], [14, 15]]]
    assert parts[5] == [[[17]]]
    spec = separable()  # a: (4, 1), b: (4, 1, 2), c: (1, 4)
    assert spec.part(spec.pieces[3], np.arange(spec.size)).tolist() == [[[8, 9]], [[10, 11]]]
    assert spec.piece_shapes[3] == (2, 1, 2)


def test_a_window_is_a_view():
    spec = grouped()
    values = np.zeros(spec.size, dtype=int)
    for number, piece in enumerate(spec.pieces):
        spec.window(piece, values)[...] = number
    assert np.bincount(values).tolist() == [4, 4, 8, 8, 2, 2]


def test_a_counterpart_joins_the_groups_that_others_come_from():
    spec = grouped()  # groups x, a0, a1, b0, b1, y
    origins = [0, 2, 1, 4, 3, 5]
    assert [spec.counterpart(index, origins) for index in range(6)] == [1, 0, 3, 2, 5, 4]
    assert [read_twice().counterpart(index, [0, 1, 2]) for index in range(3)] == [0, 1, 2]


def test_split_is_row_major():
    parts = chain(3, 2, 1).split(np.arange(8))
    assert parts["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert parts["b"].tolist() == [[6, 7]]


def test_split_keeps_leading_dimensions():
    spec = chain(3, 2, 1)
    cube = np.arange(2 * 5 * spec.size).reshape(2, 5, spec.size)
    parts = spec.split(cube)
    assert {name: part.shape for name, part in parts.items()} == {"a": (2, 5, 2, 3), "b": (2, 5, 1, 2)}
    assert np.array_equal(parts["b"][1, 3], spec.split(cube[1, 3])["b"])


def test_split_of_one_array_are_views_of_it():
    values = np.zeros(8)
    chain(3, 2, 1).split(values)["b"][0, 1] = 7.0
    assert values.tolist() == [0, 0, 0, 0, 0, 0, 0, 7]


@few
@given(chains_with_masks())
def test_join_undoes_split(case):
    spec, mask = case
    assert np.array_equal(spec.join(spec.split(mask)), mask)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"a": np.zeros((2, 3))}, "exactly the layers a, b, but got a"),
        ({"a": np.zeros((2, 3)), "b": np.zeros((1, 2)), "c": np.zeros(1)}, "but got a, b, c"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((1, 2))}, "layer a has shape (2, 3), but got (3, 2)"),
    ],
)
def test_join_refuses_other_layers_and_shapes(parts, words):
    with pytest.raises(BadInput) as caught:
        chain(3, 2, 1).join(parts)
    assert words in str(caught.value)


def test_density_and_layer_counts_are_exact():
    spec = chain(3, 2, 1)
    mask = bits("110 000 / 01")
    assert density(mask) == 3 / 8
    assert layer_counts(mask, spec).tolist() == [2, 1]
    assert layer_counts(np.stack([mask, ~mask]), spec).tolist() == [[2, 1], [4, 1]]


def test_edges_are_targets_and_sources_in_row_major_order():
    found = edges(bits("101 010 / 01"), chain(3, 2, 1))
    assert [[part.tolist() for part in e] for e in found] == [
        [[0, 0, 1], [0, 2, 1], [0, 0, 0]],
        [[0], [1], [0]],
    ]


@few
@given(networks_with_masks())
def test_edges_hold_exactly_the_kept_weights(case):
    spec, mask = case
    again = np.zeros(spec.size, dtype=bool)
    for piece, (rows, columns, positions) in zip(spec.pieces, edges(mask, spec), strict=True):
        sources = np.zeros_like(columns) if piece.diagonal else columns
        again[spec.part(piece, np.arange(spec.size))[rows, sources, positions]] = True
        assert np.array_equal(rows, columns) or not piece.diagonal
        assert (np.diff((rows * 100 + sources) * 100 + positions) > 0).all()
    assert np.array_equal(again, mask)


@few
@given(networks_with_masks())
def test_weight_numbers_and_mask_of_undo_edges(case):
    spec, mask = case
    found = edges(mask, spec)
    assert np.array_equal(np.sort(weight_numbers(found, spec)), np.flatnonzero(mask))
    assert np.array_equal(mask_of(found, spec), mask)
    assert not mask_of(found, spec).flags.writeable


# Checking


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8, np.float32, object])
def test_a_mask_of_zeros_and_ones_of_any_type_is_accepted(dtype):
    given_bits = bits("101 010 / 01")
    checked = check_mask(given_bits.astype(dtype), chain(3, 2, 1))
    assert checked.dtype == np.bool_
    assert np.array_equal(checked, given_bits)


def test_a_list_is_a_mask():
    assert check_mask([1, 0, 1, 0, 1, 0, 0, 1], chain(3, 2, 1)).tolist() == bits("101 010 01").tolist()


@pytest.mark.parametrize("value", [2, -1, 0.5, float("nan")])
def test_a_mask_of_other_values_is_refused(value):
    values = np.array([1, 0, 1, 0, 1, 0, 0, value])
    with pytest.raises(BadInput, match="True and False, or 1 and 0") as caught:
        check_mask(values, chain(3, 2, 1))
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput):
        check_masks(values[None], chain(3, 2, 1))


@pytest.mark.parametrize("shape", [(7,), (9,), (1, 8), (), (0,)])
def test_a_mask_of_another_shape_is_refused(shape):
    with pytest.raises(BadInput, match=r"has shape \(8,\), but got") as caught:
        check_mask(np.zeros(shape, dtype=bool), chain(3, 2, 1))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(8,), (2, 7), (2, 8, 1)])
def test_masks_of_another_shape_are_refused(shape):
    with pytest.raises(BadInput, match=r"\(population, 8\)"):
        check_masks(np.zeros(shape, dtype=bool), chain(3, 2, 1))


def test_a_checked_mask_is_read_only_and_the_given_one_stays_writable():
    mine = np.zeros(8, dtype=bool)
    checked = check_mask(mine, chain(3, 2, 1))
    with pytest.raises(ValueError, match="read-only"):
        checked[0] = True
    mine[0] = True
    masks = check_masks(np.zeros((2, 8), dtype=int), chain(3, 2, 1))
    assert masks.shape == (2, 8)
    with pytest.raises(ValueError, match="read-only"):
        masks[0, 0] = True


# Bits and identity


@few
@given(chains_with_masks())
def test_unpack_undoes_pack(case):
    spec, mask = case
    packed = pack(mask)
    assert len(packed) == (spec.size + 7) // 8
    again = unpack(packed, spec)
    assert again.dtype == np.bool_
    assert not again.flags.writeable
    assert np.array_equal(again, mask)


def test_pack_writes_the_first_weight_into_the_highest_bit():
    assert pack(bits("10000001 1")) == bytes([0b10000001, 0b10000000])


@pytest.mark.parametrize("size", [0, 1, 3])
def test_unpack_refuses_another_number_of_bytes(size):
    with pytest.raises(BadInput, match=f"has 2 bytes, but got {size}"):
        unpack(bytes(size), chain(3, 3, 1))


@few
@given(chains_with_masks(), st.data())
def test_one_flipped_bit_changes_the_digest(case, data):
    spec, mask = case
    other = mask.copy()
    other[data.draw(st.integers(0, spec.size - 1))] ^= True
    assert digest(other) != digest(mask)
    assert digest(mask.copy()) == digest(mask)


def test_masks_of_different_lengths_have_different_digests():
    zeros = [digest(np.zeros(size, dtype=bool)) for size in range(1, 40)]
    assert len(set(zeros)) == len(zeros)


def test_a_digest_is_pinned():
    assert digest(bits("101 010 / 01")) == "3fe5aa6b98b05d2f2810e7abb485bfad"


def test_a_digest_is_the_same_in_every_process():
    code = (
        "import numpy as np; from ticketsearch.masks import digest;"
        "print(digest(np.random.default_rng(0).random(999) < 0.3), hash('a'))"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert answers[0][1] != answers[1][1]  # the hash seeds did differ
    assert answers[0][0] == answers[1][0] == digest(np.random.default_rng(0).random(999) < 0.3)


# Liveness


def test_a_weight_to_or_from_a_dead_unit_is_dead():
    spec = chain(2, 3, 1)
    # Unit 0 is whole, unit 1 has no inputs, unit 2 leads nowhere.
    mask = bits("10 00 01 / 110")
    assert live(mask, spec).tolist() == bits("10 00 00 / 100").tolist()
    units = live_units(mask, spec)
    assert {name: alive.tolist() for name, alive in units.items()} == {
        "input": [True, False],
        "h0": [True, False, False],
        "output": [True],
    }
    assert effective_density(mask, spec) == 2 / 9


def test_death_spreads_along_a_chain():
    spec = chain(1, 2, 2, 1)
    # 0→0→0→out lives; hidden 1 of the first layer reaches only a unit that leads nowhere.
    mask = bits("1 1 / 10 01 / 10")
    assert live(mask, spec).tolist() == bits("1 0 / 10 00 / 10").tolist()


def test_an_output_without_inputs_is_a_dead_unit():
    spec = chain(2, 2)
    assert live_units(bits("00 11"), spec)["output"].tolist() == [False, True]


@pytest.mark.parametrize("where", ["linear_constant", "map_constant"])
def test_a_constant_unit_keeps_its_outgoing_weights_alive(where):
    spec = chain(2, 3, 1, **{where: True})
    mask = bits("10 00 01 / 110")
    assert live(mask, spec).tolist() == bits("10 00 00 / 110").tolist()
    assert live_units(mask, spec)["h0"].tolist() == [True, True, False]
    assert live(mask, spec, constants=False).tolist() == bits("10 00 00 / 100").tolist()
    assert live_units(mask, spec, constants=False)["h0"].tolist() == [True, False, False]
    # Effective density counts input-to-output paths, whatever the constants.
    assert effective_density(mask, spec) == 2 / 9


def test_an_empty_mask_has_nothing_live_and_a_full_one_everything():
    for spec in (chain(2, 3, 2), residual(2, 2, 1)):
        empty, full = np.zeros(spec.size, dtype=bool), np.ones(spec.size, dtype=bool)
        assert not live(empty, spec).any()
        assert not any(units.any() for units in live_units(empty, spec).values())
        assert live(full, spec).all()
        assert all(units.all() for units in live_units(full, spec).values())
        assert (effective_density(empty, spec), effective_density(full, spec)) == (0.0, 1.0)


def test_a_channel_lives_by_any_position_of_its_kernels():
    spec = convolutional(1, 2, 2, 1, kernel=(2,), block=2)
    # a: channel 0 by its second position, channel 1 not; b: 0→0, 1→0 and 1→1; c: the second feature of 0.
    mask = bits("01 00 / 10 11 00 01 / 01 00")
    assert live(mask, spec).tolist() == bits("01 00 / 10 00 00 00 / 01 00").tolist()
    assert [units.tolist() for units in live_units(mask, spec).values()] == [
        *([True], [True, False], [True, False], [True])
    ]


def test_a_depthwise_channel_without_weights_is_dead_on_both_sides():
    spec = depthwise(1, 3, 1)
    mask = bits("111 / 10 00 01 / 110")
    assert live(mask, spec).tolist() == bits("100 / 10 00 00 / 100").tolist()


def test_groups_of_a_grouped_convolution_live_by_themselves():
    spec = grouped(1, 2, 1, 1)  # a0, a1 of two channels each, b0, b1 of one
    # The input feeds the first channel of a0, which b0 reads, and the second of a1, which b1 does not read.
    mask = bits("10 00 00 11 / 0101 1100 / 11")
    assert live(mask, spec).tolist() == bits("10 00 00 00 / 0100 0000 / 10").tolist()


def test_a_value_read_twice_lives_by_either():
    spec = read_twice(1, 3, 1)
    assert live(bits("111 / 100 010"), spec).tolist() == bits("110 / 100 010").tolist()


def test_a_normalisation_keeps_all_its_units_alive_where_one_matters():
    nodes = [Node("input", (), (0,)), Node("linear", (0,), (1,), 0)]
    nodes += [Node("mix", (1,), (1,), -1, True), Node("linear", (2,), (2,), 1)]
    groups = [("x", 1, "input"), ("h", 3, "hidden"), ("y", 1, "output")]
    spec = make_spec([(3, 1), (1, 3)], groups, nodes)
    mask = bits("110 / 100")
    assert live(mask, spec).tolist() == mask.tolist()
    assert live(bits("110 / 000"), spec).tolist() == bits("000 / 000").tolist()
    assert live_units(mask, spec)["h"].tolist() == [True, True, True]
    # Effective density follows paths of weights, each unit by itself.
    assert effective_density(mask, spec) == 2 / 6
    # One that leaves zeros zero (RMSNorm) activates none, though all that are active matter to the others.
    nodes[2] = nodes[2]._replace(constant=False)
    spec = make_spec([(3, 1), (1, 3)], groups, nodes)
    assert live(bits("110 / 101"), spec).tolist() == bits("110 / 100").tolist()


@few
@given(chains_with_masks())
def test_declared_groups_are_alive_by_kept_weights_alone(case):
    spec, mask = case
    declared = dataclasses.replace(spec, nodes=())
    assert np.array_equal(live(mask, declared, constants=False), live(mask, spec, constants=False))
    assert effective_density(mask, declared) == effective_density(mask, spec)
    constant = chain(*(group.size for group in spec.groups), linear_constant=True)
    assert np.array_equal(live(mask, declared), live(mask, constant))


def test_a_path_respects_the_order_of_computation():
    # h = a(x); y = h + b(relu(h)); c(y). Unit 1 becomes active only in y, after b has read h:
    # the weight of b from unit 1 to unit 0 is dead, though unit 1 is live.
    mask = bits("10 00 / 01 10 / 11")
    assert live(mask, residual(2, 2, 1)).tolist() == bits("10 00 / 00 10 / 11").tolist()
    assert live_units(mask, residual(2, 2, 1))["h"].tolist() == [True, True]


def test_a_sum_carries_a_unit_past_an_emptied_layer():
    mask = bits("10 01 / 00 00 / 11")
    assert live(mask, residual(2, 2, 1)).tolist() == mask.tolist()


@settings(max_examples=examples(400), deadline=None)
@given(networks_with_masks(), st.booleans())
def test_live_weights_and_units_are_those_on_some_enumerated_path(case, constants):
    spec, mask = case
    weights, units = enumerated(mask, spec, constants)
    assert set(np.flatnonzero(live(mask, spec, constants=constants)).tolist()) == weights
    found, alive = live_edges(mask, spec, constants=constants)
    assert {(g, int(u)) for g, flags in enumerate(alive) for u in np.flatnonzero(flags)} == units
    assert sum(len(part.rows) for part in found) == len(weights)
    if not constants:
        assert effective_density(mask, spec) == len(weights) / spec.size


@few
@given(networks_with_masks(), st.integers(0, 2**32 - 1))
def test_effective_densities_of_masks_side_by_side_are_those_of_each(case, seed):
    spec, mask = case
    others = np.random.default_rng(seed).random((5, spec.size)) < 0.6
    masks = np.stack([mask, *others]).reshape(2, 3, -1)
    for same in (spec, dataclasses.replace(spec, nodes=())):
        wanted = [
            [sum(len(p.rows) for p in live_edges(m, same, constants=False)[0]) / spec.size for m in row]
            for row in masks
        ]
        assert effective_densities(masks, same).tolist() == wanted


@pytest.mark.parametrize("spec", PIECEWISE.values(), ids=list(PIECEWISE))
def test_effective_densities_follow_grouped_depthwise_and_declared_wirings(spec):
    masks = np.random.default_rng(0).random((40, spec.size)) < 0.6
    for same in (spec, dataclasses.replace(spec, nodes=())):
        assert effective_densities(masks, same).tolist() == [effective_density(m, same) for m in masks]
        found = [live_edges(mask, same, constants=False)[0] for mask in masks]
        assert effective_densities(masks, same).tolist() == [
            sum(len(part.rows) for part in parts) / spec.size for parts in found
        ]


@few
@given(networks_with_masks(), st.booleans())
def test_removing_the_dead_weights_changes_no_liveness(case, constants):
    spec, mask = case
    alive = live(mask, spec, constants=constants)
    assert not (alive & ~mask).any()
    assert not alive.flags.writeable
    assert np.array_equal(live(alive, spec, constants=constants), alive)


@few
@given(networks_with_masks(), st.data())
def test_one_more_weight_kills_none(case, data):
    spec, mask = case
    more = mask.copy()
    more[data.draw(st.integers(0, spec.size - 1))] = True
    assert not (live(mask, spec) & ~live(more, spec)).any()


# Renumbering


def test_an_order_names_the_old_unit_for_each_new_number():
    spec = chain(2, 3, 1)
    values = np.arange(9)  # a = [[0, 1], [2, 3], [4, 5]], b = [[6, 7, 8]]
    assert permute(values, spec, {"h0": [2, 0, 1]}).tolist() == [4, 5, 0, 1, 2, 3, 8, 6, 7]


def test_a_layer_that_joins_a_group_to_itself_is_renumbered_on_both_sides():
    values = np.arange(10)  # a = [[0, 1], [2, 3]], b = [[4, 5], [6, 7]], c = [[8, 9]]
    assert permute(values, residual(2, 2, 1), {"h": [1, 0]}).tolist() == [2, 3, 0, 1, 7, 6, 5, 4, 9, 8]


def test_no_order_changes_nothing():
    assert permute(np.arange(9), chain(2, 3, 1), {}).tolist() == list(range(9))


def test_the_columns_of_a_bundle_change_places_as_wholes():
    spec = grouped(1, 2, 1, 1)  # a: (4, 1, 2), b: (2, 2, 2), c: (1, 2)
    values = np.arange(spec.size)
    moved = [*(4, 5, 6, 7, 0, 1, 2, 3), *(12, 13, 14, 15, 8, 9, 10, 11), *(17, 16)]
    assert permute(values, spec, {"columns": [1, 0]}).tolist() == moved
    # Units are renumbered by the numbers of the group that they are in before.
    moved[4:8], moved[12:16] = [2, 3, 0, 1], [10, 11, 8, 9]
    assert permute(values, spec, {"columns": [1, 0], "a0": [1, 0]}).tolist() == moved


def test_depthwise_weights_move_with_their_channel():
    values = np.arange(16)  # a: (4, 1), b: (4, 1, 2), c: (1, 4)
    moved = [1, 0, 2, 3, 6, 7, 4, 5, 8, 9, 10, 11, 13, 12, 14, 15]
    assert permute(values, depthwise(), {"h": [1, 0, 2, 3]}).tolist() == moved


@few
@given(networks_with_masks(), st.integers(0, 2**32))
def test_the_inverse_order_restores_and_liveness_moves_along(case, seed):
    spec, mask = case
    order = random_order(spec, np.random.default_rng(seed))
    columns = {bundle.name: order.pop(bundle.name) for bundle in spec.bundles}
    inverse = {name: np.argsort(units) for name, units in order.items()}
    moved = permute(mask, spec, order)
    assert np.array_equal(permute(moved, spec, inverse), mask)
    assert np.array_equal(live(moved, spec), permute(live(mask, spec), spec, order))
    assert moved.sum() == mask.sum()
    for name, alive in live_units(mask, spec).items():
        assert np.array_equal(live_units(moved, spec)[name], alive[order.get(name, range(len(alive)))])
    whole = permute(mask, spec, order | columns)
    assert np.array_equal(whole, permute(moved, spec, columns))
    assert np.array_equal(live(whole, spec), permute(live(mask, spec), spec, order | columns))
    back = {name: np.argsort(units) for name, units in columns.items()}
    assert np.array_equal(permute(whole, spec, back), moved)


AXES = {  # (layer, axis): segments
    "convolutional": {("c", 1): [Segment(2, 2)], ("b", 0): [Segment(2)], ("b", 1): [Segment(1)]},
    "concatenated": {("c", 1): [Segment(1), Segment(2)]},
    "read twice": {("b", 1): [Segment(1), Segment(1)]},
    "grouped": {("a", 0): [Segment(1), Segment(2)], ("c", 1): [Segment(3), Segment(4)]},
    "separable": {("b", 0): [Segment(1), Segment(2)], ("c", 1): [Segment(1), Segment(2)]},
}


@pytest.mark.parametrize("name", AXES)
def test_an_axis_is_renumbered_as_the_weights_are(name):
    spec = PIECEWISE[name]
    order = random_order(spec, np.random.default_rng(0))
    numbers, moved = (
        spec.split(a) for a in (np.arange(spec.size), permute(np.arange(spec.size), spec, order))
    )
    by_axis = {layer.name: numbers[layer.name] for layer in spec.layers}
    for (layer, axis), segments in AXES[name].items():
        by_axis[layer] = by_axis[layer].take(segment_order(segments, spec, *unit_orders(spec, order)), axis)
    for layer in {layer for layer, _ in AXES[name]}:
        assert np.array_equal(by_axis[layer], moved[layer])


@pytest.mark.parametrize("name", ["input", "output", "h1", ""])
def test_only_hidden_groups_are_renumbered(name):
    with pytest.raises(BadInput, match=f"hidden groups h0 may be renumbered, but got {name!r}"):
        permute(np.arange(9), chain(2, 3, 1), {name: [0, 1, 2]})


@pytest.mark.parametrize(
    "order", [[0, 1], [0, 1, 1], [1, 2, 3], [0, 1, 2, 3], [0.5, 1.5, 2.5], 0, [[0, 1, 2]]]
)
def test_an_order_that_is_no_permutation_is_refused(order):
    with pytest.raises(BadInput, match="the order of group 'h0' is no permutation of its 3 units"):
        permute(np.arange(9), chain(2, 3, 1), {"h0": order})


# The spec as data


@few
@given(networks_with_masks())
def test_a_spec_survives_json(case):
    spec, _ = case
    again = MaskSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.signature == spec.signature


def test_the_signature_tells_specs_apart():
    specs = [
        chain(2, 3, 1),
        chain(2, 3, 2),
        chain(3, 2, 1),
        chain(2, 3, 1, linear_constant=True),
        chain(2, 3, 1, map_constant=True),
        residual(2, 2, 1),
        *PIECEWISE.values(),
        dataclasses.replace(PIECEWISE["grouped"], bundles=()),
        dataclasses.replace(PIECEWISE["grouped"], nodes=()),
    ]
    assert len({spec.signature for spec in specs}) == len(specs)
    assert chain(2, 3, 1).signature == specs[0].signature
