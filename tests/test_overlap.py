"""Overlap: values by hand, chance by enumeration, alignment of renumbered copies, honest null models."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import examples, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    PIECEWISE,
    convolutional,
    depthwise,
    grouped,
    mlp,
    read_twice,
    renumberings,
    residual,
    shuffled,
)

from ticketsearch.alignment import align, align_order
from ticketsearch.canonical import isomorphic
from ticketsearch.errors import BadInput
from ticketsearch.masks import layer_counts, live, permute
from ticketsearch.operators import layer_shuffle
from ticketsearch.overlap import (
    Diversity,
    chance_iou,
    containment,
    degree_shuffle,
    diversity,
    iou,
    overlap_study,
    pairwise_iou,
    raw_overlap,
)
from ticketsearch.statistics import holm, jackknife

pytestmark = pytest.mark.slow

SPECS = {
    "mlp": mlp(6, 9, 8, 3),
    "tied": residual(4, 7, 2),
    "flat": mlp(4, 3),
    "wide convolutional": convolutional(2, 8, 6, 3),
    "six columns": grouped(3, 3, 2, 2, columns=6),
    "wide read twice": read_twice(3, 12, 6),
    "wide depthwise": depthwise(2, 9, 2, kernel=3),
} | PIECEWISE


def random_mask(spec, density, rng):
    return rng.random(spec.size) < density


def test_overlap_has_its_values_by_hand():
    a = np.array([1, 1, 1, 0, 0, 0], dtype=bool)
    b = np.array([0, 1, 1, 1, 1, 0], dtype=bool)
    nothing = np.zeros(6, dtype=bool)
    assert iou(a, b) == 2 / 5
    assert containment(a, b) == 2 / 3
    assert iou(a, a) == containment(a, a) == 1
    assert iou(a, nothing) == 0
    assert iou(nothing, nothing) == containment(a, nothing) == 1
    assert pairwise_iou([a, b, nothing]).tolist() == [[1, 0.4, 0], [0.4, 1, 0], [0, 0, 1]]


def test_diversity_has_its_values_by_hand():
    a = [1, 1, 1, 0, 0, 0]
    b = [0, 1, 1, 1, 1, 0]
    nothing = [0] * 6
    assert diversity([a, b, a]) == Diversity((2 / 5 + 1 + 2 / 5) / 3, 2)
    assert diversity([a, b, nothing]) == Diversity((2 / 5) / 3, 0)
    assert diversity([a, a]) == diversity([a]) == Diversity(1, 3)


def test_diversity_is_of_rows_of_masks_and_not_of_none():
    assert refusal(diversity, np.ones(3, dtype=bool)) == (
        "masks have shape (population, weights), i.e. one row a network, but got (3,)"
    )
    assert refusal(diversity, np.ones((0, 3), dtype=bool)) == (
        "diversity is of a population, i.e. at least 1 mask, but got shape (0, 3)"
    )


def test_pairwise_overlap_is_that_of_each_pair_of_large_masks():
    masks = np.random.default_rng(0).random((4, 1_500_000)) < 0.3
    expected = [[np.sum(a & b) / np.sum(a | b) for b in masks] for a in masks]
    assert np.array_equal(pairwise_iou(masks), expected)


def test_chance_is_exact_on_tiny_layers():
    spec = mlp(2, 2, 1)
    counts = np.array([[2, 1], [3, 1], [0, 0]])
    chance = chance_iou(counts, spec)

    def placed(count, size):
        return [frozenset(kept) for kept in itertools.combinations(range(size), count)]

    for i, j in itertools.product(range(3), repeat=2):
        one, two = (
            [
                (len(a & b), len(a | b))
                for a in placed(counts[i, layer], size)
                for b in placed(counts[j, layer], size)
            ]
            for layer, size in enumerate((4, 2))
        )
        ratios = [(s + t) / (u + v) if u + v else 1 for (s, u), (t, v) in itertools.product(one, two)]
        assert chance.whole[i, j] == pytest.approx(np.mean(ratios), rel=1e-12)
        for layer, cases in enumerate((one, two)):
            mean = np.mean([shared / union if union else 1 for shared, union in cases])
            assert chance.layers[layer, i, j] == pytest.approx(mean, rel=1e-12)


def test_chance_is_the_mean_of_random_masks():
    spec = mlp(30, 20, 10, 5)
    rng = np.random.default_rng(0)
    masks = np.stack([random_mask(spec, density, rng) for density in (0.1, 0.3)])
    masks[:, spec.layers[2].slice] = True
    drawn = [pairwise_iou([layer_shuffle(m, spec=spec, rng=rng) for m in masks])[0, 1] for _ in range(3000)]
    expected = chance_iou(masks, spec)
    assert expected.whole[0, 1] == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / len(drawn) ** 0.5)
    assert expected.layers[2, 0, 1] == 1
    assert np.array_equal(chance_iou(layer_counts(masks, spec), spec).whole, expected.whole)


def test_chance_of_large_layers_is_close_to_the_ratio_of_means():
    spec = mlp(784, 300, 100, 10)
    chance = chance_iou([[2352, 300, 100], [23520, 3000, 955]], spec)
    kept = np.array([2352, 300, 100]), np.array([23520, 3000, 955])
    shared = kept[0] * kept[1] / [235200, 30000, 1000]
    assert chance.whole[0, 1] == pytest.approx(
        shared.sum() / (sum(map(np.sum, kept)) - shared.sum()), rel=1e-3
    )
    assert chance.layers[0, 0, 1] == pytest.approx(shared[0] / (kept[0] + kept[1] - shared)[0], rel=1e-3)


def test_raw_overlap_of_eight_lenet_masks_is_pairwise_and_by_layer():
    spec = mlp(784, 300, 100, 10)
    rng = np.random.default_rng(0)
    masks = np.stack([random_mask(spec, 0.05 + 0.01 * i, rng) for i in range(8)])
    raw = raw_overlap(masks, spec)
    assert raw.whole.shape == raw.chance.shape == (8, 8)
    assert raw.layers.shape == raw.layers_chance.shape == (3, 8, 8)
    pairs = np.triu_indices(8, 1)
    assert raw.whole[pairs] == pytest.approx(raw.chance[pairs], rel=0.1)
    assert raw.layers[1, 0, 1] == iou(masks[0, spec.layers[1].slice], masks[1, spec.layers[1].slice])


@settings(max_examples=examples(150), deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 1), st.sampled_from(list(SPECS)))
def test_a_renumbered_copy_aligns_exactly(seed, density, name):
    spec = SPECS[name]
    rng = np.random.default_rng(seed)
    mask = random_mask(spec, density, rng)
    aligned = align(shuffled(mask, spec, rng), mask, spec)
    assert np.array_equal(aligned, mask)
    assert iou(aligned, mask) == 1


def test_a_symmetric_copy_aligns_exactly():
    """Assignment alone is lost here: all units look alike until one is told apart."""
    spec = mlp(2, 12, 12, 1)
    ring = np.eye(12, dtype=bool) | np.roll(np.eye(12, dtype=bool), 1, axis=1)
    mask = np.concatenate([np.ones(24, dtype=bool), ring.ravel(), np.ones(12, dtype=bool)])
    for seed in range(5):
        assert np.array_equal(align(shuffled(mask, spec, np.random.default_rng(seed)), mask, spec), mask)


@pytest.mark.parametrize("seed", range(10))
def test_equal_live_parts_share_all_their_weights_or_more_whatever_is_dead(seed):
    rng = np.random.default_rng(seed)
    spec = mlp(4, 8, 8, 2)
    mask = random_mask(spec, 0.25, rng)
    matrices = spec.split(mask.copy())
    matrices["fc1.weight"][:, 5:] = False  # units 5 to 7 of the first group feed nothing
    other = spec.split(spec.join(matrices))
    other["fc0.weight"][5:] = rng.random((3, 4)) < 0.5
    a, b = spec.join(matrices), shuffled(spec.join(other), spec, rng)
    assert isomorphic(a, b, spec)
    assert np.sum(align(b, a, spec) & a) >= np.sum(live(a, spec))


@pytest.mark.parametrize("name", PIECEWISE)
def test_equal_live_parts_of_other_networks_share_all_their_weights_or_more(name):
    spec = PIECEWISE[name]
    rng = np.random.default_rng(0)
    differing = 0
    for _ in range(60):
        mask = random_mask(spec, rng.uniform(0.1, 0.4), rng)
        dead = ~live(mask, spec)
        other = mask ^ (dead & (rng.random(spec.size) < 0.3))
        if not np.array_equal(live(other, spec), live(mask, spec)):
            continue
        differing += not np.array_equal(other, mask)
        aligned = align(shuffled(other, spec, rng), mask, spec)
        assert np.sum(aligned & mask) >= np.sum(live(mask, spec))
    # Where kernels of nine positions and constants keep all alive there is nothing to differ in.
    assert differing > 5 or name == "convolutional, 3 x 3"


def two_paths_among_dead_weights(rng):
    """The parts of a mask that has two live paths and many dead weights."""
    spec = mlp(6, 20, 20, 3)
    parts = spec.split(np.zeros(spec.size, dtype=bool))
    parts["fc0.weight"][:2, 0] = True
    parts["fc0.weight"][2:10] = rng.random((8, 6)) < 0.5
    parts["fc1.weight"][[0, 1], [0, 1]] = True
    parts["fc1.weight"][10:, :10] = rng.random((10, 10)) < 0.5  # into units that feed nothing
    parts["fc2.weight"][[0, 1], [0, 1]] = True
    return spec, parts


@pytest.mark.parametrize("seed", range(20))
def test_live_parts_that_are_equal_but_for_numbers_do_not_cost_dead_weights(seed):
    """Two paths cross: to uncross them is to take all dead weights apart."""
    spec, parts = two_paths_among_dead_weights(np.random.default_rng(seed))
    reference = spec.join(parts)
    parts["fc1.weight"][:2, :2] ^= True
    mask = spec.join(parts)
    assert isomorphic(mask, reference, spec)
    assert np.sum(live(mask, spec) & live(reference, spec)) == 4
    assert np.sum(align(mask, reference, spec) & reference) >= np.sum(mask & reference)


@pytest.mark.parametrize("seed", range(5))
def test_equal_live_parts_of_differing_dead_weights_align_as_well_as_any_masks(seed):
    rng = np.random.default_rng(seed)
    spec, parts = two_paths_among_dead_weights(rng)
    reference = spec.join(parts)
    parts["fc1.weight"][10:, :10] ^= rng.random((10, 10)) < 0.1
    mask = spec.join(parts)
    moved = align(shuffled(mask, spec, rng), reference, spec)
    assert np.sum(moved & reference) >= 0.9 * np.sum(mask & reference)


def test_masks_that_let_nothing_through_align_as_well_as_any_masks():
    rng = np.random.default_rng(0)
    spec = mlp(20, 20, 20, 5)
    shares = []
    for _ in range(5):
        masks = rng.random((2, spec.size)) < 0.1
        masks[:, spec.layers[2].slice] = False
        found = np.sum(align(*masks, spec) & masks[1])
        masks[:, -1] = True  # now one weight of the same unit feeds the outputs, and little else changes
        shares.append(found / np.sum(align(*masks, spec) & masks[1]))
    assert min(shares) > 0.9


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 1), st.sampled_from(list(SPECS)), st.integers(1, 5))
def test_alignment_never_lowers_the_overlap_and_is_a_renumbering(seed, density, name, restarts):
    spec = SPECS[name]
    rng = np.random.default_rng(seed)
    mask, reference = random_mask(spec, density, rng), random_mask(spec, rng.random(), rng)
    moved = align(mask, reference, spec, restarts=restarts, seed=seed)
    assert np.sum(moved & reference) >= np.sum(mask & reference)
    order = align_order(mask, reference, spec, restarts=restarts, seed=seed)
    assert np.array_equal(moved, permute(mask, spec, order))
    hidden = {spec.groups[group].name for group in spec.hidden}
    assert set(order) == hidden | {bundle.name for bundle in spec.bundles}


@pytest.mark.parametrize("seed", range(10))
def test_alignment_never_lowers_the_overlap_of_dead_masks(seed):
    rng = np.random.default_rng(seed)
    spec = mlp(6, 9, 8, 3)
    masks = rng.random((2, spec.size)) < 0.5
    masks[:, spec.layers[2].slice] = False
    assert not live(masks[0], spec).any()
    assert np.sum(align(*masks, spec) & masks[1]) > np.sum(masks[0] & masks[1])
    masks[1] = masks[0]
    masks[1, 0] ^= True
    assert np.sum(align(*masks, spec) & masks[1]) >= np.sum(masks[0] & masks[1])


def test_alignment_finds_the_best_of_all_renumberings_of_one_group():
    spec = mlp(3, 5, 2)
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask, reference = random_mask(spec, 0.5, rng), random_mask(spec, 0.5, rng)
        best = max(
            np.sum(permute(mask, spec, {"g1": o}) & reference) for o in itertools.permutations(range(5))
        )
        assert np.sum(align(mask, reference, spec, restarts=1) & reference) == best


@pytest.mark.parametrize("spec", [read_twice(2, 5, 2), depthwise(2, 5, 2, kernel=3)])
def test_alignment_finds_the_best_of_all_renumberings_of_channels_that_only_meet_themselves(spec):
    rng = np.random.default_rng(0)
    table = renumberings(spec)
    for _ in range(10):
        mask, reference = random_mask(spec, 0.5, rng), random_mask(spec, 0.5, rng)
        best = (mask[table] & reference).sum(axis=1).max()
        assert np.sum(align(mask, reference, spec, restarts=1) & reference) == best


@pytest.mark.parametrize("spec", [mlp(2, 4, 3, 1), residual(2, 5, 1), *PIECEWISE.values()])
def test_alignment_by_parts_is_near_the_best_of_all_renumberings(spec):
    rng = np.random.default_rng(1)
    table = renumberings(spec)
    shares = []
    for _ in range(10):
        mask, reference = random_mask(spec, 0.4, rng), random_mask(spec, 0.4, rng)
        best = (mask[table] & reference).sum(axis=1).max()
        shares.append(np.sum(align(mask, reference, spec, restarts=6) & reference) / best)
    assert max(shares) <= 1
    assert np.mean(shares) > 0.93


def test_alignment_moves_whole_columns_of_a_copy_with_noise():
    spec = grouped(4, 6, 6, 3, columns=5, kernel=3)
    rng = np.random.default_rng(0)
    mask = random_mask(spec, 0.3, rng)
    noisy = mask ^ (rng.random(spec.size) < 0.02)
    order = {"columns": [3, 1, 4, 0, 2]}
    assert iou(align(permute(noisy, spec, order), mask, spec), mask) == iou(noisy, mask)
    assert iou(align(shuffled(noisy, spec, rng), mask, spec), mask) > 0.9 * iou(noisy, mask)


def test_alignment_recovers_most_of_a_convolutional_copy_with_noise():
    spec = convolutional(3, 16, 12, 5)
    rng = np.random.default_rng(0)
    mask = random_mask(spec, 0.2, rng)
    noisy = mask ^ (rng.random(spec.size) < 0.01)
    assert iou(align(shuffled(noisy, spec, rng), mask, spec), mask) == iou(noisy, mask)


def test_alignment_recovers_most_of_a_copy_with_noise():
    spec = mlp(100, 40, 20, 5)
    rng = np.random.default_rng(0)
    mask = random_mask(spec, 0.1, rng)
    noisy = mask ^ (rng.random(spec.size) < 0.01)
    assert iou(align(shuffled(noisy, spec, rng), mask, spec), mask) == iou(noisy, mask)


def test_uniform_shuffles_keep_layer_counts_and_move_weights():
    spec = SPECS["mlp"]
    rng = np.random.default_rng(0)
    mask = random_mask(spec, 0.3, rng)
    drawn = np.stack([layer_shuffle(mask, spec=spec, rng=rng) for _ in range(2000)])
    assert (layer_counts(drawn, spec) == layer_counts(mask, spec)).all()
    share = np.repeat(
        layer_counts(mask, spec) / [la.size for la in spec.layers], [la.size for la in spec.layers]
    )
    assert drawn.mean(axis=0) == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("density", [0.05, 0.4, 0.6, 0.95, 1.0])
def test_degree_preserving_shuffles_keep_degrees_and_move_weights(density):
    spec = mlp(30, 20, 15, 10)
    rng = np.random.default_rng(0)
    mask = random_mask(spec, density, rng)
    other = degree_shuffle(mask, spec=spec, rng=rng)
    for a, b in zip(spec.split(mask).values(), spec.split(other).values(), strict=True):
        assert np.array_equal(a.sum(axis=0), b.sum(axis=0))
        assert np.array_equal(a.sum(axis=1), b.sum(axis=1))
    assert np.array_equal(mask, other) == (density == 1)
    if density < 1:
        dense = density > 0.5
        assert iou(mask ^ dense, other ^ dense) < 0.5


@pytest.mark.parametrize("name", ["wide convolutional", "six columns", "wide read twice"])
def test_degree_preserving_shuffles_keep_the_degrees_of_each_position(name):
    spec = SPECS[name]
    rng = np.random.default_rng(0)
    mask = random_mask(spec, 0.4, rng)
    other = degree_shuffle(mask, spec=spec, rng=rng)
    assert not np.array_equal(mask, other)
    for piece in spec.pieces:
        a, b = spec.part(piece, mask), spec.part(piece, other)
        assert np.array_equal(a.sum(axis=0), b.sum(axis=0))
        assert np.array_equal(a.sum(axis=(1, 2)), b.sum(axis=(1, 2)))


def test_degree_preserving_shuffles_keep_the_degrees_of_depthwise_channels():
    spec = depthwise(2, 20, 2, kernel=4)
    rng = np.random.default_rng(0)
    mask = random_mask(spec, 0.4, rng)
    other = degree_shuffle(mask, spec=spec, rng=rng)
    a, b = (spec.part(spec.pieces[1], m)[:, 0] for m in (mask, other))
    assert not np.array_equal(a, b)
    assert np.array_equal(a.sum(axis=0), b.sum(axis=0))
    assert np.array_equal(a.sum(axis=1), b.sum(axis=1))


@pytest.mark.full
def test_degree_preserving_shuffles_are_uniform_over_permutation_matrices():
    spec = mlp(4, 4)
    rng = np.random.default_rng(0)
    start = np.eye(4, dtype=bool).ravel()
    drawn = np.stack([degree_shuffle(start, spec=spec, rng=rng, trades=16) for _ in range(4800)])
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 24
    assert np.sum((counts - 200) ** 2 / 200) < 55  # chi-square with 23 degrees of freedom, p = 0.0002


def test_degree_preserving_shuffles_are_uniform_where_some_swaps_are_refused():
    spec = mlp(3, 3)
    rng = np.random.default_rng(1)
    start = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    matrices = (np.arange(512)[:, None] >> np.arange(9) & 1).astype(bool).reshape(-1, 3, 3)
    same = (matrices.sum(axis=1) == start.sum(axis=0)) & (matrices.sum(axis=2) == start.sum(axis=1))
    drawn = np.stack([degree_shuffle(start.ravel(), spec=spec, rng=rng, trades=16) for _ in range(3000)])
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    expected = 3000 / same.all(axis=1).sum()
    assert len(counts) == same.all(axis=1).sum()
    assert np.sum((counts - expected) ** 2 / expected) < 25


def test_degree_preserving_shuffles_mix_among_few_dense_units():
    """Where swaps of single weights in the whole layer take hundreds of sweeps: 25 of 300 units live."""
    spec = mlp(200, 300, 100, 10)
    rng = np.random.default_rng(0)
    matrices = spec.split(np.zeros(spec.size, dtype=bool))
    matrices["fc0.weight"][:25] = rng.random((25, 200)) < 0.3
    matrices["fc1.weight"][:, :25] = rng.random((100, 25)) < 0.5
    matrices["fc2.weight"][:] = rng.random((10, 100)) < 0.5
    mask = spec.join(matrices)
    left = [iou(mask, degree_shuffle(mask, spec=spec, rng=rng, trades=trades)) for trades in (16, 200)]
    assert left[0] == pytest.approx(left[1], abs=0.02)
    assert left[0] < 0.4


def test_p_values_of_random_masks_are_spread_out():
    spec = mlp(8, 6, 5, 2)
    rng = np.random.default_rng(0)
    found = []
    for seed in range(60):
        masks = np.stack([random_mask(spec, 0.3, rng) for _ in range(3)])
        found.append(overlap_study(masks, spec, draws=39, aligned_draws=0, seed=seed).uniform.p)
    assert 0.35 < np.mean(found) < 0.7
    assert min(found) < 0.2
    assert max(found) > 0.8


@pytest.mark.full
def test_p_values_of_aligned_random_masks_are_spread_out():
    spec = mlp(5, 4, 3, 2)
    rng = np.random.default_rng(0)
    found = []
    for seed in range(25):
        masks = np.stack([random_mask(spec, 0.4, rng) for _ in range(3)])
        study = overlap_study(masks, spec, draws=0, aligned_draws=9, restarts=1, seed=seed)
        found.append((study.aligned_uniform.p, study.aligned_degrees.p))
    assert (np.mean(found, axis=0) > 0.35).all()
    assert (np.min(found, axis=0) < 0.35).all()


def test_renumbered_copies_of_one_network_stand_out_only_when_aligned():
    spec = mlp(20, 15, 12, 4)
    rng = np.random.default_rng(0)
    mask = random_mask(spec, 0.2, rng)
    masks = np.stack([shuffled(mask, spec, rng) for _ in range(4)])
    study = overlap_study(masks, spec, names=list("abcd"), draws=99, aligned_draws=19)
    assert study.identical == 6
    assert (study.aligned == 1).all()
    assert study.iou[np.triu_indices(4, 1)].max() < 0.25
    assert study.aligned_uniform.p == study.aligned_degrees.p == 1 / 20
    assert study.aligned_uniform.effect > 0.3
    assert study.aligned_uniform.observed == 1
    assert study.aligned_uniform.mean > study.uniform.mean


def test_identical_masks_have_the_least_p_value_and_plain_words():
    spec = mlp(20, 15, 12, 4)
    mask = random_mask(spec, 0.2, np.random.default_rng(0))
    study = overlap_study([mask, mask, mask], spec, draws=99, aligned_draws=0)
    assert study.uniform.p == 1 / 100
    assert (study.iou == 1).all()
    assert (study.containment == 1).all()
    assert study.names == ("0", "1", "2")
    assert study.aligned_uniform is None
    words = study.summary()
    assert "Of the 3 pairs of 3 masks, 3 are the same network" in words
    assert "raw overlap is more than shuffled masks have" in words
    assert "aligned overlap was not tested (no draws)" in words


def test_renumbered_copies_of_a_grouped_convolution_are_one_network_for_a_study():
    spec = SPECS["six columns"]
    rng = np.random.default_rng(0)
    mask = random_mask(spec, 0.3, rng)
    masks = np.stack([shuffled(mask, spec, rng) for _ in range(3)])
    study = overlap_study(masks, spec, draws=19, aligned_draws=3, restarts=1)
    assert study.identical == 3
    assert (study.aligned == 1).all()
    assert study.aligned_uniform.mean < 1


def test_a_study_is_the_same_for_one_seed_and_another_for_another():
    spec = mlp(8, 6, 5, 2)
    masks = np.stack([random_mask(spec, 0.3, np.random.default_rng(i)) for i in range(3)])
    first, again, other = (
        overlap_study(masks, spec, draws=20, aligned_draws=5, restarts=4, seed=seed) for seed in (0, 0, 1)
    )
    assert first.uniform == again.uniform
    assert first.aligned_degrees == again.aligned_degrees
    assert np.array_equal(first.aligned, again.aligned)
    assert first.uniform.mean != other.uniform.mean


def test_random_lenet_masks_align_far_above_chance():
    spec = mlp(784, 300, 100, 10)
    rng = np.random.default_rng(0)
    masks = np.stack([random_mask(spec, 0.02, rng) for _ in range(8)])
    study = overlap_study(masks, spec, draws=0, aligned_draws=0)
    assert study.aligned[0, 1] > 3 * study.iou[0, 1]


def ticket(spec, density, rng):
    return random_mask(spec, density, rng), rng.normal(size=spec.size)


def test_alignment_by_weights_brings_a_trained_copy_back():
    spec = mlp(30, 20, 12, 4)
    rng = np.random.default_rng(0)
    mask, weights = ticket(spec, 0.3, rng)
    order = {"g1": rng.permutation(20), "g2": rng.permutation(12)}
    noisy = weights + 0.2 * rng.normal(size=spec.size)
    moved = permute(mask, spec, order), permute(noisy, spec, order)
    found = align_order(moved[0], mask, spec, weights=(moved[1], weights))
    for name, own in order.items():
        assert np.array_equal(own[found[name]], np.arange(len(own)))
    assert np.array_equal(align(moved[0], mask, spec, weights=(moved[1], weights)), mask)


def test_alignment_by_weights_makes_their_product_large():
    spec = mlp(10, 9, 7, 3)
    rng = np.random.default_rng(1)
    (mask, weights), (other, others) = ticket(spec, 0.5, rng), ticket(spec, 0.5, rng)
    order = align_order(mask, other, spec, weights=(weights, others))
    before = float((weights * mask) @ (others * other))
    after = float(permute(weights * mask, spec, order) @ (others * other))
    by_mask = float(permute(weights * mask, spec, align_order(mask, other, spec)) @ (others * other))
    assert after > max(before, by_mask)


def test_alignment_by_activations_matches_units_that_respond_alike():
    spec = mlp(5, 6, 4, 2)
    rng = np.random.default_rng(0)
    mask = random_mask(spec, 0.5, rng)
    own = {"g1": rng.normal(size=(50, 6)), "g2": rng.normal(size=(50, 4))}
    own["g1"][:, 2] = 3.0  # a dead unit, which fits where no other does
    order = {"g1": rng.permutation(6), "g2": rng.permutation(4)}
    moved = {name: 2 * own[name][:, order[name]] - 1 for name in own}
    found = align_order(permute(mask, spec, order), mask, spec, activations=(moved, own))
    for name, each in order.items():
        assert np.array_equal(each[found[name]], np.arange(len(each)))
    assert np.array_equal(align(permute(mask, spec, order), mask, spec, activations=(moved, own)), mask)


def test_units_without_weights_take_no_part_and_cost_no_overlap():
    spec = mlp(10, 60, 40, 3)
    small = mlp(10, 6, 5, 3)
    rng = np.random.default_rng(0)
    pair = [random_mask(small, 0.5, rng) for _ in range(2)]
    large = []
    for mask in pair:
        parts, own = spec.split(np.zeros(spec.size, dtype=bool)), small.split(mask)
        parts["fc0.weight"][:6] = own["fc0.weight"]
        parts["fc1.weight"][:5, :6] = own["fc1.weight"]
        parts["fc2.weight"][:, :5] = own["fc2.weight"]
        large.append(shuffled(spec.join(parts), spec, rng))
    found = np.sum(align(large[0], large[1], spec) & large[1])
    assert found >= 0.95 * np.sum(align(pair[0], pair[1], small) & pair[1])


def test_one_group_is_aligned_exactly_and_several_are_bounded():
    rng = np.random.default_rng(0)
    for spec, exact in ((mlp(6, 9, 3), True), (mlp(6, 9, 8, 3), False), (residual(4, 7, 2), False)):
        masks = [random_mask(spec, 0.4, rng) for _ in range(3)]
        masks.append(shuffled(masks[0], spec, rng))
        study = overlap_study(masks, spec, draws=0, aligned_draws=0)
        assert study.exact[0, 3]
        assert study.exact[np.triu_indices(3, 1)].tolist() == [exact] * 3
        assert study.identical == 1


def test_signs_count_where_both_masks_and_their_signs_agree():
    spec = mlp(3, 2)
    masks = np.array([[1, 1, 1, 0, 0, 1], [1, 1, 0, 1, 0, 1]], dtype=bool)
    weights = np.array([[1, 1, -1, 1, 1, -1], [2, -1, -1, 1, 1, -3]])
    study = overlap_study(masks, spec, weights=weights, draws=9, aligned_draws=0)
    assert study.iou[0, 1] == 3 / 5
    assert study.signs[0, 1] == 2 / 5
    assert study.nulls["uniform"]["signs"].observed == 2 / 5
    assert overlap_study(masks, spec, draws=0, aligned_draws=0).signs is None


def test_signs_move_with_the_units():
    spec = mlp(30, 20, 12, 4)
    rng = np.random.default_rng(0)
    mask, weights = ticket(spec, 0.3, rng)
    order = {"g1": rng.permutation(20), "g2": rng.permutation(12)}
    masks, both = [mask, permute(mask, spec, order)], [weights, permute(weights, spec, order)]
    study = overlap_study(masks, spec, weights=both, draws=0, aligned_draws=2)
    assert study.aligned_signs[0, 1] == study.aligned[0, 1] == 1
    assert study.signs[0, 1] < study.iou[0, 1] < 0.5
    # A shuffled mask keeps weights of random signs.
    null = study.drawn["aligned_uniform"]
    assert null["signs"] == pytest.approx(null["iou"] / 2, rel=0.4)


def test_a_study_measures_containment_and_layers_after_alignment():
    spec = mlp(4, 5, 3)
    rng = np.random.default_rng(0)
    masks = [random_mask(spec, 0.5, rng) for _ in range(3)]
    study = overlap_study(masks, spec, draws=0, aligned_draws=0)
    moved = align(masks[2], masks[0], spec)
    assert study.aligned[0, 2] == iou(moved, masks[0])
    assert study.aligned_containment[0, 2] == containment(moved, masks[0])
    for index, layer in enumerate(spec.layers):
        assert study.aligned_layers[index, 0, 2] == iou(moved[layer.slice], masks[0][layer.slice])
        assert study.layers[index, 0, 2] == iou(masks[2][layer.slice], masks[0][layer.slice])


def test_profiles_and_their_distances_have_their_values_by_hand():
    spec = mlp(3, 2, 2)
    masks = np.array(
        [[1, 1, 1, 1, 0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 1, 0, 1, 1, 1, 1]],
        dtype=bool,
    )
    study = overlap_study(masks, spec, draws=0, aligned_draws=0)
    # Layers keep 4 and 2 weights, and 2 and 4.
    assert study.density_distance[0, 1] == pytest.approx(1 / 3)
    assert {name: profile.tolist() for name, profile in study.degrees.items()} == {
        "g1 in": [[3, 1], [1, 1]],
        "g1 out": [[2, 0], [2, 2]],
    }
    assert study.degree_distance[0, 1] == pytest.approx((2 + 2) / (6 + 6))
    assert study.density_distance[0, 0] == study.degree_distance[1, 1] == 0


def test_holm_corrects_step_by_step():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    spec = mlp(8, 6, 5, 2)
    masks = np.stack([random_mask(spec, 0.3, np.random.default_rng(i)) for i in range(3)])
    study = overlap_study(masks, spec, draws=19, aligned_draws=9)
    tests = [study.uniform, study.aligned_uniform, study.aligned_degrees]
    assert [test.holm for test in tests] == pytest.approx(holm([test.p for test in tests]))
    assert study.nulls["uniform"]["containment"].holm is None


def test_masks_that_let_nothing_through_are_counted_apart_and_are_no_same_network():
    spec = mlp(8, 6, 5, 2)
    rng = np.random.default_rng(0)
    masks = rng.random((5, spec.size)) < 0.5
    masks[1] = shuffled(masks[0], spec, rng)
    masks[2:4, spec.layers[1].slice] = False
    study = overlap_study(masks, spec, draws=0, aligned_draws=0)
    assert study.keys[2] == study.keys[3]
    assert study.blocked.tolist() == [False, False, True, True, False]
    assert (study.passing, study.identical) == (3, 1)
    assert study.summary().startswith(
        "Of the 3 pairs of those that let something through (2 of 5 masks let nothing through), 1 are"
    )


def test_a_test_of_too_few_draws_says_so():
    spec = mlp(8, 6, 5, 2)
    masks = np.stack([random_mask(spec, 0.3, np.random.default_rng(i)) for i in range(3)])
    few = overlap_study(masks, spec, draws=99, aligned_draws=9)
    assert few.more(few.uniform) is False
    assert few.more(few.aligned_degrees) is None
    assert "too few to tell" in few.summary()
    enough = overlap_study(masks, spec, draws=99, aligned_draws=59)
    assert enough.more(enough.aligned_degrees) is False
    assert "too few" not in enough.summary()
    same = overlap_study([masks[0]] * 3, spec, draws=99, aligned_draws=59)
    assert same.more(same.aligned_degrees) is True
    assert same.more(same.nulls["uniform"]["containment"]) is None


def test_the_jackknife_of_a_mean_over_pairs_has_its_value_by_hand():
    pairs = np.array(np.triu_indices(4, 1))
    # Without the first mask the pairs of the others have mean 1, without another one 1/3.
    low, high = jackknife(np.array([0.0, 0, 0, 1, 1, 1]), pairs)
    reach = 3.182446305284263 * np.sqrt(3 / 4 * 1 / 3)
    assert (low, high) == pytest.approx((1 / 2 - reach, 1 / 2 + reach))
    # A mask in all pairs is taken as given: of four others, three are left each time.
    low, high = jackknife(np.array([1.0, 2.0, 3.0, 4.0]), np.array([[0, 0, 0, 0], [1, 2, 3, 4]]))
    assert (low + high) / 2 == pytest.approx(2.5)
    assert high - 2.5 == pytest.approx(3.182446305284263 * np.sqrt(3 / 4 * 5 / 9))
    # Three that can be left out are too few.
    assert np.isnan(jackknife(np.arange(3.0), np.array([[0, 0, 1], [1, 2, 2]]))).all()
    assert np.isnan(jackknife(np.arange(3.0), np.array([[0, 0, 0], [1, 2, 3]]))).all()
    assert np.isnan(jackknife(np.array([1.0]), np.array([[0], [1]]))).all()


@pytest.mark.full
def test_the_interval_covers_the_effect_of_masks_that_were_not_seen():
    """Masks of one density overlap by chance: in 19 of 20 studies or more, 0 is within the interval."""
    spec = mlp(12, 10, 4)
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(60):
        masks = np.stack([random_mask(spec, 0.3, rng) for _ in range(6)])
        null = overlap_study(masks, spec, draws=60, aligned_draws=0, seed=seed).uniform
        inside += null.low <= 0 <= null.high
    assert inside >= 52


@pytest.mark.full
def test_workers_change_no_study():
    spec = mlp(12, 10, 8, 4)
    masks = np.stack([random_mask(spec, 0.3, np.random.default_rng(i)) for i in range(3)])
    one, two = (overlap_study(masks, spec, draws=150, aligned_draws=9, workers=n) for n in (1, 2))
    assert one.nulls == two.nulls


def test_bad_input_is_one_line():
    spec = mlp(2, 3, 1)
    masks = np.ones((2, 9), dtype=bool)
    cases = [
        (lambda: iou(np.ones(3), np.ones(4)), r"one shape \(weights,\), but got \(3,\) and \(4,\)"),
        (lambda: containment(masks, masks), r"but got \(2, 9\) and \(2, 9\)"),
        (lambda: pairwise_iou(np.ones(3)), r"one row a network, but got \(3,\)"),
        (lambda: raw_overlap(masks[:, 1:], spec), r"\(population, 9\)"),
        (lambda: raw_overlap(masks[:1], spec), "at least 2 masks, but got 1"),
        (lambda: overlap_study(masks[:1], spec), "at least 2 masks, but got 1"),
        (lambda: overlap_study(masks, spec, names=["a"]), "one name a mask, 2, but got 1"),
        (lambda: overlap_study(masks, spec, draws=-1), "draws is an integer from 0 up, but got -1"),
        (lambda: overlap_study(masks, spec, draws=1.5), "draws must be an integer, but got 1.5"),
        (lambda: overlap_study(masks, spec, aligned_draws="9"), "aligned_draws must be an integer"),
        (lambda: overlap_study(masks, spec, restarts=0), "an integer from 1 up, but got 0"),
        (lambda: overlap_study(masks, spec, seed=-1), "a seed is an integer from 0 .* but got -1"),
        (lambda: overlap_study(masks, spec, names=["a", "a"]), "names of masks are different ones"),
        (lambda: align(*masks, spec, restarts=0), "an integer from 1 up, but got 0"),
        (lambda: align(*masks, spec, restarts=True), "an integer from 1 up, but got True"),
        (lambda: align(*masks, spec, seed=-1), "a seed is an integer from 0 .* but got -1"),
        (lambda: align(*masks, spec, weights=([1.0], [2.0])), r"shape \(9,\), but got \(1,\)"),
        (lambda: align(*masks, spec, weights=np.full((2, 9), np.nan)), "weights are finite"),
        (lambda: align(*masks, spec, weights=(np.ones(9),)), "weights are two, .* but got 1"),
        (lambda: align(*masks, spec, weights=1.0), "weights are two, .* but got 1"),
        (lambda: align(*masks, spec, activations=({},)), "activations are two, .* but got 1"),
        (lambda: align(*masks, spec, activations=[{"g1": np.full((4, 3), np.nan)}] * 2), "tions are finite"),
        (lambda: overlap_study(masks, spec, weights=np.full((2, 9), np.nan)), "weights are finite"),
        (lambda: overlap_study(masks, spec, weights=np.full((2, 9), "a")), "weights are an array of numbers"),
        (lambda: align(masks[0], masks[1], spec, activations=({}, {})), "hidden groups g1, but got none"),
        (
            lambda: align(*masks, spec, activations=({"g1": np.ones((4, 2))}, {"g1": np.ones((4, 2))})),
            r"shape \(samples, 3\)",
        ),
        (lambda: align(*masks, spec, weights=masks, activations=({}, {})), "but got both"),
        (lambda: overlap_study(masks, spec, weights=np.ones(9)), r"the shape of the masks, \(2, 9\)"),
        (lambda: align(masks[0, 1:], masks[1], spec), r"shape \(9,\), but got \(8,\)"),
        (
            lambda: chance_iou([[7, 1]], spec),
            r"between 0 and the layers' sizes \[6, 3\], but got \[\[7, 1\]\]",
        ),
    ]
    for call, message in cases:
        with pytest.raises(BadInput, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
