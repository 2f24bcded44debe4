"""Masks: the flat array and its layers, identity, and which weights and units are live."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import residual

from ticketsearch.errors import BadInput
from ticketsearch.masks import (
    Group,
    Layer,
    MaskSpec,
    Node,
    check_mask,
    check_masks,
    density,
    digest,
    edges,
    effective_density,
    layer_counts,
    live,
    live_edges,
    live_units,
    pack,
    permute,
    unpack,
)

few = settings(max_examples=60, deadline=None)


def make_spec(shapes, groups, nodes):
    """Return a spec whose layers are named a, b, c, ... and have the given (targets, sources)."""
    offsets = np.cumsum([0] + [rows * columns for rows, columns in shapes]).tolist()
    layers = tuple(Layer("abcdefgh"[i], shape, offsets[i]) for i, shape in enumerate(shapes))
    return MaskSpec(layers, tuple(Group(*group) for group in groups), tuple(nodes))


def chain(*widths, linear_constant=False, map_constant=False):
    """Return the spec of an MLP: input, linear, elementwise, linear, ..., linear."""
    groups = [("input", widths[0], "input")]
    groups += [(f"h{i}", width, "hidden") for i, width in enumerate(widths[1:-1])]
    groups += [("output", widths[-1], "output")]
    nodes = [Node("input", (), 0)]
    for layer in range(len(widths) - 1):
        last = layer == len(widths) - 2
        constant = linear_constant and not last
        nodes.append(Node("linear", (len(nodes) - 1,), layer + 1, layer, constant))
        if not last:
            nodes.append(Node("elementwise", (len(nodes) - 1,), layer + 1, -1, map_constant))
    return make_spec([(rows, columns) for columns, rows in itertools.pairwise(widths)], groups, nodes)


def bits(text):
    return np.array([c == "1" for c in text.replace(" ", "").replace("/", "")])


@st.composite
def networks(draw):
    """Any tiny network: chains, branches, sums, layers that join a group to itself, constants anywhere."""
    sizes = [draw(st.integers(1, 3))]
    nodes, shapes = [Node("input", (), 0)], []
    for _ in range(draw(st.integers(1, 5))):
        constant = draw(st.booleans())
        source = draw(st.integers(0, len(nodes) - 1))
        kind = draw(st.sampled_from(["linear", "linear", "elementwise", "add"]))
        if kind == "linear":
            group = draw(st.integers(1, len(sizes)))
            if group == len(sizes):
                sizes.append(draw(st.integers(1, 3)))
            shapes.append((sizes[group], sizes[nodes[source].group]))
            nodes.append(Node("linear", (source,), group, len(shapes) - 1, constant))
        elif kind == "elementwise":
            nodes.append(Node("elementwise", (source,), nodes[source].group, -1, constant))
        else:
            partners = [i for i, node in enumerate(nodes) if node.group == nodes[source].group]
            partner = draw(st.sampled_from(partners))
            nodes.append(Node("add", (source, partner), nodes[source].group))
    source = draw(st.integers(0, len(nodes) - 1))
    sizes.append(draw(st.integers(1, 2)))
    shapes.append((sizes[-1], sizes[nodes[source].group]))
    nodes.append(Node("linear", (source,), len(sizes) - 1, len(shapes) - 1, draw(st.booleans())))
    kinds = ["input", *["hidden"] * (len(sizes) - 2), "output"]
    groups = [(f"g{i}", size, kind) for i, (size, kind) in enumerate(zip(sizes, kinds, strict=True))]
    return make_spec(shapes, groups, nodes)


@st.composite
def networks_with_masks(draw):
    spec = draw(networks())
    return spec, np.array(draw(st.lists(st.booleans(), min_size=spec.size, max_size=spec.size)), dtype=bool)


@st.composite
def chains_with_masks(draw):
    spec = chain(*draw(st.lists(st.integers(1, 6), min_size=2, max_size=5)))
    return spec, np.random.default_rng(draw(st.integers(0, 2**32))).random(spec.size) < 0.5


def enumerated(mask, spec, constants):
    """Walk every path of the computation: the weights and (group, unit) pairs on a path to the output."""
    parts = spec.split(mask)
    weights, units = set(), set()

    def walk(node, unit, used, met):
        met = [*met, (spec.nodes[node].group, unit)]
        if node == len(spec.nodes) - 1:
            weights.update(used)
            units.update(met)
        for index, consumer in enumerate(spec.nodes):
            if node not in consumer.inputs:
                continue
            if consumer.operation == "linear":
                layer = spec.layers[consumer.layer]
                for row in np.flatnonzero(parts[layer.name][:, unit]):
                    bit = layer.offset + int(row) * layer.shape[1] + unit
                    walk(index, int(row), [*used, bit], met)
            else:
                walk(index, unit, used, met)

    for index, node in enumerate(spec.nodes):
        if node.operation == "input" or (constants and node.constant):
            for unit in range(spec.groups[node.group].size):
                walk(index, unit, [], [])
    return weights, units


# The flat array and its layers


def test_a_spec_knows_its_size_and_where_each_layer_lies():
    spec = chain(3, 2, 4)
    assert spec.size == 3 * 2 + 2 * 4
    assert [layer.slice for layer in spec.layers] == [slice(0, 6), slice(6, 14)]
    assert [layer.size for layer in spec.layers] == [6, 8]
    assert spec.layer_groups == ((0, 1), (1, 2))
    assert spec.hidden == (1,)


def test_the_layers_of_a_residual_network_know_their_groups():
    assert residual(2, 2, 1).layer_groups == ((0, 1), (1, 1), (1, 2))


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
    assert [(e.rows.tolist(), e.columns.tolist()) for e in found] == [([0, 0, 1], [0, 2, 1]), ([0], [1])]


@few
@given(networks_with_masks())
def test_edges_hold_exactly_the_kept_weights(case):
    spec, mask = case
    again = np.zeros(spec.size, dtype=bool)
    for layer, (rows, columns) in zip(spec.layers, edges(mask, spec), strict=True):
        again[layer.slice].reshape(layer.shape)[rows, columns] = True
    assert np.array_equal(again, mask)


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


def test_a_path_respects_the_order_of_computation():
    # h = a(x); y = h + b(relu(h)); c(y). Unit 1 becomes active only in y, after b has read h:
    # the weight of b from unit 1 to unit 0 is dead, though unit 1 is live.
    mask = bits("10 00 / 01 10 / 11")
    assert live(mask, residual(2, 2, 1)).tolist() == bits("10 00 / 00 10 / 11").tolist()
    assert live_units(mask, residual(2, 2, 1))["h"].tolist() == [True, True]


def test_a_sum_carries_a_unit_past_an_emptied_layer():
    mask = bits("10 01 / 00 00 / 11")
    assert live(mask, residual(2, 2, 1)).tolist() == mask.tolist()


@settings(max_examples=200, deadline=None)
@given(networks_with_masks(), st.booleans())
def test_live_weights_and_units_are_those_on_some_enumerated_path(case, constants):
    spec, mask = case
    weights, units = enumerated(mask, spec, constants)
    assert set(np.flatnonzero(live(mask, spec, constants=constants)).tolist()) == weights
    found, alive = live_edges(mask, spec, constants=constants)
    assert {(g, int(u)) for g, flags in enumerate(alive) for u in np.flatnonzero(flags)} == units
    assert sum(len(rows) for rows, _ in found) == len(weights)
    if not constants:
        assert effective_density(mask, spec) == len(weights) / spec.size


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


@few
@given(networks_with_masks(), st.randoms(use_true_random=False))
def test_the_inverse_order_restores_and_liveness_moves_along(case, random):
    spec, mask = case
    order = {spec.groups[i].name: list(range(spec.groups[i].size)) for i in spec.hidden}
    for units in order.values():
        random.shuffle(units)
    inverse = {name: np.argsort(units) for name, units in order.items()}
    moved = permute(mask, spec, order)
    assert np.array_equal(permute(moved, spec, inverse), mask)
    assert np.array_equal(live(moved, spec), permute(live(mask, spec), spec, order))
    assert moved.sum() == mask.sum()
    for name, alive in live_units(mask, spec).items():
        assert np.array_equal(live_units(moved, spec)[name], alive[order.get(name, range(len(alive)))])


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
@given(networks())
def test_a_spec_survives_json(spec):
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
    ]
    assert len({spec.signature for spec in specs}) == len(specs)
    assert chain(2, 3, 1).signature == specs[0].signature
