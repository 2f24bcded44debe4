"""Operators on neurons, paths and renumbered parents: what they move, in networks of every kind."""

import inspect

import numpy as np
import pytest
from networks import concatenated, convolutional, depthwise, grouped, mlp, read_twice, residual, separable

from ticketsearch import operators
from ticketsearch.masks import MaskSpec, layer_counts, live, live_units, permute, random_order
from ticketsearch.masks.guidance import Guidance
from ticketsearch.operators import (
    aligned_crossover,
    fan_in_mutation,
    neuron_crossover,
    path_mutation,
    swap_mutation,
    union_crossover,
)

pytestmark = pytest.mark.slow

KINDS = {
    "chain": mlp(12, 9, 7, 4),
    "no hidden units": mlp(6, 5),
    "residual": residual(6, 8, 4),
    "convolutional": convolutional(2, 5, 4, 3),
    "grouped": grouped(2, 3, 3, 3, columns=3),
    "concatenated": concatenated(4, 5, 4, 3),
    "read twice": read_twice(4, 6, 3),
    "depthwise": depthwise(4, 7, 3),
    "separable": separable(4, 5, 3),
}
kinds = pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)


def masks_of(spec, rng, share=0.35, number=2):
    """Return masks that leave no layer empty, with the same count."""
    found = np.zeros((number, spec.size), dtype=bool)
    for mask in found:
        mask[rng.choice(spec.size, int(share * spec.size), replace=False)] = True
        for layer in spec.layers:
            mask[layer.offset] = True
    return found


def guidance_of(mask, rng):
    """Guidance without candidates; no two magnitudes are equal."""
    magnitude = (rng.permutation(int(mask.sum())) + 1.0).astype("f4")
    return Guidance(magnitude, np.empty(0, dtype=np.int64), np.empty(0, dtype="f4"))


def numbers(seed):
    return np.random.default_rng(seed)


@kinds
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("name", operators.__all__)
def test_every_operator_keeps_the_count_in_networks_of_every_kind(name, guided, spec):
    operator, rng = getattr(operators, name), numbers(0)
    for seed in range(10):
        a, b = masks_of(spec, rng)
        arguments = (a, b) if name.endswith("_crossover") else (a,)
        own = tuple(guidance_of(mask, rng) for mask in arguments)
        known = {"guidance": own if len(own) == 2 else own[0]} if guided else {}
        options = known if "guidance" in inspect.signature(operator).parameters else {}
        child = operator(*arguments, spec=spec, rng=numbers(seed), **options)
        assert child.sum() == a.sum()
        assert layer_counts(child, spec).min() >= 1
        assert not child.flags.writeable


# Neuron crossover


def test_a_neurons_fan_in_comes_whole_from_one_parent_where_counts_agree():
    """Of parents whose neurons have three weights each, nothing is trimmed or filled."""
    spec, rng = mlp(10, 8, 6, 4), numbers(0)

    def regular():
        mask = np.zeros(spec.size, dtype=bool)
        for part in spec.split(mask).values():
            for row in part:
                row[rng.choice(len(row), 3, replace=False)] = True
        return mask

    mixed = 0
    for seed in range(20):
        a, b = regular(), regular()
        child = neuron_crossover(a, b, spec=spec, rng=numbers(seed))
        sides = set()
        for name, part in spec.split(child).items():
            for row, first, second in zip(part, spec.split(a)[name], spec.split(b)[name], strict=True):
                sides.add("a" if np.array_equal(row, first) else "b")
                assert np.array_equal(row, first) or np.array_equal(row, second)
        mixed += sides == {"a", "b"}
    assert mixed > 15


def test_a_units_fan_in_in_several_pieces_has_one_origin():
    spec, (a, b) = residual(4, 6, 3), np.zeros((2, 4 * 6 + 36 + 18), dtype=bool)
    for mask, column in ((a, 0), (b, 1)):
        for part in spec.split(mask).values():
            part[:, column] = True
    child = neuron_crossover(a, b, spec=spec, rng=numbers(3))
    into, inner, _ = spec.split(child).values()
    assert np.array_equal(into[:, 1], inner[:, 1])
    assert 0 < into[:, 1].sum() < 6


def test_what_neurons_bring_too_much_is_trimmed_by_magnitude_and_what_lacks_is_filled():
    spec, rng = mlp(10, 20, 5), numbers(0)
    trimmed = filled = 0
    for seed in range(40):
        a, b = masks_of(spec, rng)
        own = guidance_of(a, rng), guidance_of(b, rng)
        values = np.full((2, spec.size), np.nan)
        values[0, a], values[1, b] = own[0].saliency, own[1].saliency
        mean = np.zeros(spec.size)
        mean[a | b] = np.nanmean(values[:, a | b], axis=0)
        child = neuron_crossover(a, b, spec=spec, rng=numbers(seed), guidance=own)
        # The same coins again, for what the neurons bring.
        coins, same = numbers(seed), np.zeros(spec.size, dtype=bool)
        flips = [coins.random(group.size) < 0.5 for group in spec.groups]
        for piece in spec.pieces:
            spec.window(piece, same)[flips[piece.target]] = True
        whole = np.where(same, b, a)
        gone, come = whole & ~child, child & ~whole
        assert not (gone.any() and come.any())
        assert not (come & ~(a | b)).any()
        if gone.any():
            trimmed += 1
            assert mean[gone].max() <= mean[child].min()
        if come.any():
            filled += 1
            assert mean[come].min() >= mean[(a | b) & ~child].max()
    assert trimmed > 5
    assert filled > 5


# Aligned crossover


@pytest.mark.parametrize("kind", ["chain", "convolutional", "grouped", "residual"])
def test_a_renumbered_copy_of_a_parent_is_aligned_away_with_its_magnitudes(kind):
    """Which weights of a and of its renumbered copy are largest agrees: the child is a itself, as if joined
    with a copy that is numbered as it is."""
    spec, rng = KINDS[kind], numbers(0)
    a = masks_of(spec, rng, 0.5, 1)[0]
    own = guidance_of(a, rng)
    values = np.zeros(spec.size, dtype="f4")
    values[a] = own.saliency
    order = random_order(spec, rng)
    b = permute(a, spec, order)
    assert not np.array_equal(a, b)
    second = own._replace(saliency=permute(values, spec, order)[b])
    for guidance in ((None, None), (own, second)):
        child = aligned_crossover(a, b, spec=spec, rng=numbers(1), guidance=guidance)
        assert np.array_equal(child, a)
    assert not np.array_equal(union_crossover(a, b, spec=spec, rng=numbers(1), guidance=(own, second)), a)


def test_magnitudes_are_renumbered_with_their_weights():
    """Sharing all but one weight each, the smaller of the two loses: which is known in either numbering."""
    spec, rng = mlp(6, 5, 4), numbers(0)
    order = random_order(spec, rng)
    a = masks_of(spec, rng, 0.6, 1)[0]
    swap = a.copy()
    dropped, grown = np.flatnonzero(a)[0], np.flatnonzero(~a)[0]
    swap[dropped], swap[grown] = False, True
    values = rng.random(spec.size).astype("f4") + 1
    for least, winner in ((dropped, swap), (grown, a)):
        values[[dropped, grown]] = 0.5
        values[least] = 0.25
        b, moved = permute(swap, spec, order), permute(values, spec, order)
        own, second = (
            Guidance(v[m], np.empty(0, dtype=np.int64), np.empty(0, dtype="f4"))
            for v, m in ((values, a), (moved, b))
        )
        child = aligned_crossover(a, b, spec=spec, rng=rng, guidance=(own, second))
        assert np.array_equal(child, winner)


# Fan-in mutation


def test_a_fan_in_moves_whole_and_layers_keep_their_counts():
    spec, rng = mlp(20, 15, 12, 5), numbers(0)
    exchanged = redirected = 0
    for seed in range(60):
        mask = masks_of(spec, rng, 0.3, 1)[0]
        child = fan_in_mutation(mask, spec=spec, rng=numbers(seed), rate=0.0)
        assert layer_counts(child, spec).tolist() == layer_counts(mask, spec).tolist()
        changed = [
            (name, unit)
            for name, part in spec.split(mask).items()
            for unit in np.flatnonzero((part != spec.split(child)[name]).any(axis=1))
        ]
        assert len({name for name, _ in changed}) == 1
        rows, others = spec.split(mask)[changed[0][0]], spec.split(child)[changed[0][0]]
        units = [unit for _, unit in changed]
        if len(units) == 2:
            exchanged += 1
            assert np.array_equal(rows[units], others[units[::-1]])
        else:
            redirected += 1
            assert rows[units[0]].sum() == others[units[0]].sum()
    assert exchanged > 10
    assert redirected > 10


def test_fan_ins_move_to_live_sources_and_kernels_as_wholes():
    spec, rng = convolutional(8, 12, 6, 2), numbers(0)
    mask = masks_of(spec, rng, 0.5, 1)[0]
    parts = spec.split(mask)
    parts["a"][8:] = False  # the units from 8 on have no source
    parts["b"][:, 7:] = False
    alive = live_units(mask, spec, constants=False)["h"]
    assert 0 < alive.sum() < 8
    for seed in range(30):
        child = spec.split(fan_in_mutation(mask, spec=spec, rng=numbers(seed), rate=0.0))
        assert not child["b"][:, ~alive].any()
        for name in ("a", "b"):
            kernels = [
                sorted(map(bytes, np.packbits(s[name].reshape(-1, 9), axis=1))) for s in (parts, child)
            ]
            assert kernels[0] == kernels[1]


# Path mutation


@kinds
def test_all_that_a_path_mutation_grows_is_live(spec):
    rng = numbers(0)
    for seed in range(30):
        mask = masks_of(spec, rng, 0.3, 1)[0]
        child = path_mutation(mask, spec=spec, rng=numbers(seed), rate=0.5)  # some are not there already
        grown = child & ~mask
        assert grown.any()
        assert not (grown & ~live(child, spec, constants=False)).any()


@pytest.mark.parametrize("guided", [False, True])
def test_no_live_unit_of_a_chain_dies_of_growth(guided):
    spec, rng = mlp(30, 20, 15, 8), numbers(0)
    for seed in range(40):
        mask = masks_of(spec, rng, 0.15, 1)[0]
        own = guidance_of(mask, rng) if guided else None
        child = path_mutation(mask, spec=spec, rng=numbers(seed), rate=0.05, guidance=own)
        before, after = (live_units(m, spec, constants=False) for m in (mask, child))
        for name in ("g1", "g2"):
            assert not (before[name] & ~after[name]).any()
        assert live(child, spec, constants=False).sum() >= live(mask, spec, constants=False).sum()


def test_dead_weights_pay_for_a_path_before_the_weakest_do():
    spec = mlp(30, 20, 10)
    mask = masks_of(spec, numbers(0), 0.1, 1)[0]
    first, second = spec.split(mask).values()
    first[18:] = second[:, 1] = False  # two units without a source, and one without a target
    second[0, 18] = first[1, :3] = True
    alive = live(mask, spec, constants=False)
    assert (mask & ~alive).sum() > 4
    own = guidance_of(mask, numbers(0))
    own.saliency[:] = np.where(alive[mask], 1.0, 9.0)
    for seed in range(30):
        child = path_mutation(mask, spec=spec, rng=numbers(seed), rate=0.0, guidance=own)
        gone = mask & ~child
        assert 1 <= gone.sum() <= 2
        assert not (gone & alive).any()


def test_where_nothing_is_dead_the_weakest_that_no_unit_needs_pay_for_a_path():
    spec, rng = mlp(20, 16, 10), numbers(0)
    weakest = 0
    for seed in range(30):
        mask = masks_of(spec, rng, 0.4, 1)[0]
        first, second = spec.split(mask).values()
        np.fill_diagonal(first, True)
        np.fill_diagonal(second.T, True)
        second[0, 10:] = True  # each unit has a way in and a way out
        own = guidance_of(mask, rng)
        child = path_mutation(mask, spec=spec, rng=numbers(seed), rate=0.0, guidance=own)
        gone, order = np.flatnonzero(mask & ~child), np.flatnonzero(mask)[np.argsort(own.saliency)]
        weakest += set(gone) <= set(order[:3])
    assert weakest > 15  # but where the path was there already, or one of them was the last way


def test_the_rate_is_the_share_of_weights_that_paths_swap():
    spec, rng = mlp(60, 50, 40, 10), numbers(0)
    mask = masks_of(spec, rng, 0.05, 1)[0]
    children = [path_mutation(mask, spec=spec, rng=rng, rate=0.1) for _ in range(60)]
    swapped = np.mean([(mask & ~child).sum() for child in children]) / mask.sum()
    assert 0.07 < swapped < 0.1  # paths of three weights, some of which are there already
    one = path_mutation(mask, spec=spec, rng=rng, rate=0.0)
    assert 1 <= (mask & ~one).sum() <= 3


def test_where_no_path_can_be_told_or_paid_for_a_swap_is_made():
    spec = mlp(4, 4, 4, 4)
    mask = np.zeros(spec.size, dtype=bool)
    mask[5] = True  # one weight cannot pay for three
    assert path_mutation(mask, spec=spec, rng=numbers(0)).sum() == 1
    declared = MaskSpec(spec.layers, spec.groups, spec.pieces, ())
    half = np.arange(spec.size) % 2 == 0
    child = path_mutation(half, spec=declared, rng=numbers(0))
    assert np.array_equal(child, swap_mutation(half, spec=declared, rng=numbers(0)))
