"""Operators: exact counts, no emptied layer, and what each keeps and changes."""

import itertools
from collections import Counter

import numpy as np
import pytest
import scipy
from conftest import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketsearch import operators
from ticketsearch.masks import Group, Layer, MaskSpec, Node, Piece, layer_counts
from ticketsearch.masks.guidance import Guidance, cut, strongest
from ticketsearch.operators import (
    guided_mutation,
    layer_shuffle,
    swap_mutation,
    uniform_crossover,
    union_crossover,
)

MUTATIONS = [name for name in operators.__all__ if name.endswith("_mutation")]
CROSSOVERS = [name for name in operators.__all__ if name.endswith("_crossover")]
many = settings(max_examples=examples(150), deadline=None)
seeds = st.integers(0, 2**32)


def chain(*widths):
    shapes = [(rows, columns) for columns, rows in itertools.pairwise(widths)]
    offsets = np.cumsum([0] + [rows * columns for rows, columns in shapes]).tolist()
    layers = tuple(Layer(f"{i}.weight", shape, offsets[i]) for i, shape in enumerate(shapes))
    kinds = ["input", *["hidden"] * (len(widths) - 2), "output"]
    groups = tuple(Group(f"g{i}", width, kinds[i]) for i, width in enumerate(widths))
    pieces = tuple(Piece(i, i + 1, i) for i in range(len(layers)))
    nodes = (Node("input", (), (0,)), *(Node("linear", (i,), (i + 1,), i) for i in range(len(layers))))
    return MaskSpec(layers, groups, pieces, nodes)


def random_mask(spec, rng, full=False):
    """Return a mask with any number of weights in each layer, but none empty; ``full`` allows full ones."""
    mask = np.zeros(spec.size, dtype=bool)
    for layer in spec.layers:
        most = layer.size if full else max(1, layer.size - 1)
        kept = rng.choice(layer.size, rng.integers(1, most + 1), replace=False)
        mask[layer.offset + kept] = True
    mask.flags.writeable = False
    return mask


@st.composite
def specs(draw, smallest=1):
    return chain(*draw(st.lists(st.integers(smallest, 5), min_size=2, max_size=5)))


@st.composite
def parents(draw):
    """Return a spec and two masks with equal counts in no layer in particular."""
    spec, rng = draw(specs()), np.random.default_rng(draw(seeds))
    return spec, random_mask(spec, rng, full=True), random_mask(spec, rng, full=True)


def applied(name, a, b, spec, seed):
    operator = getattr(operators, name)
    arguments = (a,) if name in MUTATIONS else (a, b)
    return operator(*arguments, spec=spec, rng=np.random.default_rng(seed))


# What holds for every operator


def test_every_listed_operator_is_a_mutation_or_a_crossover():
    assert {*MUTATIONS, *CROSSOVERS} == set(operators.__all__)
    assert MUTATIONS
    assert CROSSOVERS


@pytest.mark.parametrize("name", operators.__all__)
@many
@given(parents(), seeds)
def test_a_child_keeps_exactly_its_first_parents_count(name, case, seed):
    spec, a, b = case
    child = applied(name, a, b, spec, seed)
    assert child.shape == (spec.size,)
    assert child.dtype == np.bool_
    assert child.sum() == a.sum()


@pytest.mark.parametrize("name", operators.__all__)
@many
@given(parents(), seeds)
def test_no_layer_is_emptied(name, case, seed):
    spec, a, b = case
    assert layer_counts(applied(name, a, b, spec, seed), spec).min() >= 1


@pytest.mark.parametrize("name", operators.__all__)
@many
@given(specs(), seeds)
def test_no_layer_is_emptied_at_one_weight_a_layer(name, spec, seed):
    rng = np.random.default_rng(seed)
    a, b = np.zeros((2, spec.size), dtype=bool)
    for mask in (a, b):
        mask[[layer.offset + rng.integers(layer.size) for layer in spec.layers]] = True
    assert layer_counts(applied(name, a, b, spec, seed), spec).tolist() == [1] * len(spec.layers)


@pytest.mark.parametrize("name", operators.__all__)
def test_a_child_is_read_only_and_no_view_of_a_parent(name):
    spec, rng = chain(4, 5, 3), np.random.default_rng(0)
    a, b = random_mask(spec, rng).copy(), random_mask(spec, rng).copy()
    before = a.copy(), b.copy()
    child = applied(name, a, b, spec, 1)
    assert not child.flags.writeable
    assert not np.shares_memory(child, a)
    assert not np.shares_memory(child, b)
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])
    assert a.flags.writeable


@pytest.mark.parametrize("name", operators.__all__)
def test_the_generator_alone_decides(name):
    spec, rng = chain(6, 7, 5), np.random.default_rng(0)
    a, b = random_mask(spec, rng), random_mask(spec, rng)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    first = [applied(name, a, b, spec, seed) for seed in range(5)]
    np.random.seed(2)  # noqa: NPY002
    again = [applied(name, a, b, spec, seed) for seed in range(5)]
    assert np.array_equal(first, again)
    assert len({child.tobytes() for child in first}) > 1


@pytest.mark.parametrize("name", operators.__all__)
def test_a_full_mask_stays_as_it_is(name):
    spec = chain(3, 4, 2)
    full = np.ones(spec.size, dtype=bool)
    assert applied(name, full, full, spec, 0).all()


@pytest.mark.parametrize("name", MUTATIONS)
@many
@given(parents(), seeds)
def test_a_mutation_changes_something_wherever_there_is_room(name, case, seed):
    spec, mask, _ = case
    child = applied(name, mask, None, spec, seed)
    assert np.array_equal(child, mask) == mask.all()


# Swap mutation


def test_a_swap_is_never_undone_by_refilling_a_layer_that_it_emptied():
    # Layer 1 is one weight, and full: swapped into layer 0 it empties layer 1, which takes one back.
    spec, mask = chain(3, 1, 1), np.array([False, True, True, True])
    for seed in range(100):
        child = swap_mutation(mask, spec=spec, rng=np.random.default_rng(seed))
        assert child[3]
        assert child[0]


@many
@given(specs(smallest=2), seeds, st.floats(0, 1))
def test_without_across_the_layer_counts_stay(spec, seed, rate):
    rng = np.random.default_rng(seed)
    mask = np.zeros(spec.size, dtype=bool)
    for layer in spec.layers:  # as much room as there are weights, so that any swap fits into its layer
        mask[layer.offset + rng.choice(layer.size, rng.integers(1, layer.size // 2 + 1), replace=False)] = (
            True
        )
    child = swap_mutation(mask, spec=spec, rng=rng, rate=rate, across=0.0)
    assert layer_counts(child, spec).tolist() == layer_counts(mask, spec).tolist()
    assert not np.array_equal(child, mask)


def test_with_across_weights_move_between_layers():
    spec, rng = chain(20, 20, 20), np.random.default_rng(0)
    mask = np.zeros(spec.size, dtype=bool)
    mask[:200] = True
    mask[790:] = True  # 200 of 400, and 10 of 400
    counts = [
        layer_counts(swap_mutation(mask, spec=spec, rng=rng, rate=0.2, across=1.0), spec)[1]
        for _ in range(200)
    ]
    # 42 swaps, 390 of the 590 free places in layer 1: the mean count is 10 - 2 + 42 · 390 / 590.
    assert np.mean(counts) == pytest.approx(10 - 2 + 42 * 390 / 590, abs=1.0)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_the_rate_is_the_share_of_swapped_weights(rate):
    spec, rng = chain(40, 40, 10), np.random.default_rng(0)
    mask = np.zeros(spec.size, dtype=bool)
    mask[rng.choice(spec.size, 1000, replace=False)] = True
    swapped = [int((mask & ~swap_mutation(mask, spec=spec, rng=rng, rate=rate)).sum()) for _ in range(100)]
    deviation = np.sqrt(1000 * rate * (1 - rate) / 100)
    assert np.mean(swapped) == pytest.approx(1000 * rate, abs=4 * deviation)
    assert len(set(swapped)) > 1


def test_a_rate_of_zero_swaps_one_weight():
    spec, rng = chain(6, 6, 6), np.random.default_rng(0)
    mask = random_mask(spec, rng)
    for _ in range(20):
        assert int((mask ^ swap_mutation(mask, spec=spec, rng=rng, rate=0.0)).sum()) == 2


def test_a_rate_of_one_swaps_all_that_find_room():
    spec = chain(4, 4)
    mask = np.arange(16) < 5
    child = swap_mutation(mask, spec=spec, rng=np.random.default_rng(0), rate=1.0)
    assert not (child & mask).any()


def test_a_swap_chooses_among_all_kept_and_all_free_weights_alike():
    spec, rng = chain(5, 1), np.random.default_rng(0)
    mask = np.array([True, True, False, False, False])
    seen = Counter(
        tuple(np.flatnonzero(mask ^ swap_mutation(mask, spec=spec, rng=rng, rate=0.0)).tolist())
        for _ in range(1800)
    )
    assert len(seen) == 2 * 3
    assert scipy.stats.chisquare(list(seen.values())).pvalue > 1e-3


# Uniform crossover


@many
@given(parents(), seeds)
def test_a_crossover_keeps_what_parents_agree_on_and_takes_the_rest_from_one_of_them(case, seed):
    spec, a, b = case
    child = uniform_crossover(a, b, spec=spec, rng=np.random.default_rng(seed))
    assert child[a & b].all()
    assert not child[~a & ~b].any()


def test_a_crossover_of_equals_is_their_equal():
    spec, rng = chain(4, 5, 3), np.random.default_rng(0)
    mask = random_mask(spec, rng)
    assert np.array_equal(uniform_crossover(mask, mask, spec=spec, rng=rng), mask)


def test_a_crossover_chooses_among_the_differing_weights_alike():
    spec, rng = chain(7, 1), np.random.default_rng(0)
    a = np.array([1, 1, 1, 0, 0, 1, 0], dtype=bool)
    b = np.array([0, 0, 1, 1, 1, 1, 0], dtype=bool)
    children = [uniform_crossover(a, b, spec=spec, rng=rng) for _ in range(1800)]
    seen = Counter(tuple(np.flatnonzero(child).tolist()) for child in children)
    assert set(seen) == {tuple(sorted((2, 5, *pair))) for pair in itertools.combinations((0, 1, 3, 4), 2)}
    assert scipy.stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_a_crossover_with_a_sparser_or_denser_parent_keeps_the_first_ones_count():
    spec, rng = chain(10, 10, 10), np.random.default_rng(0)
    sparse, dense = np.zeros(200, dtype=bool), np.zeros(200, dtype=bool)
    sparse[[3, 150]] = True
    dense[50:190] = True
    assert uniform_crossover(sparse, dense, spec=spec, rng=rng).sum() == 2
    assert uniform_crossover(dense, sparse, spec=spec, rng=rng).sum() == 140


# Guided operators


def guidance_of(mask, rng, most=None):
    """Guidance of a mask, drawn at random; every pruned weight is a candidate, or ``most`` of them."""
    pruned = np.flatnonzero(~mask)
    places = np.sort(
        rng.choice(pruned, len(pruned) if most is None else min(most, len(pruned)), replace=False)
    )
    magnitude = rng.permutation(int(mask.sum())) + 1.0
    return Guidance(magnitude.astype("f4"), places, (rng.permutation(len(places)) + 1.0).astype("f4"))


temperatures = st.sampled_from([0.0, 0.1, 1.0])


@many
@given(parents(), seeds, temperatures, st.floats(0, 1), st.one_of(st.none(), st.integers(0, 3)))
def test_guided_operators_keep_the_count_and_empty_no_layer(case, seed, temperature, rate, most):
    (spec, a, b), rng = case, np.random.default_rng(seed)
    own = guidance_of(a, rng, most), guidance_of(b, rng, most)
    mutant = guided_mutation(a, spec=spec, rng=rng, rate=rate, guidance=own[0], temperature=temperature)
    crossed = union_crossover(a, b, spec=spec, rng=rng, guidance=own, temperature=temperature)
    for child in (mutant, crossed):
        assert child.sum() == a.sum()
        assert layer_counts(child, spec).min() >= 1
        assert not child.flags.writeable
    assert np.array_equal(mutant, a) == a.all()


def test_without_noise_a_guided_mutation_swaps_the_smallest_for_the_strongest():
    spec, rng = chain(10, 10, 10), np.random.default_rng(0)
    mask = np.arange(200) % 2 == 0
    own = guidance_of(mask, rng, 40)
    child = guided_mutation(mask, spec=spec, rng=rng, rate=0.1, guidance=own)
    swaps = int((mask & ~child).sum())
    assert 1 <= swaps < 30
    kept = np.flatnonzero(mask)
    assert set(np.flatnonzero(mask & ~child)) == set(kept[np.argsort(own.saliency)[:swaps]])
    assert set(np.flatnonzero(child & ~mask)) == set(own.candidates[np.argsort(-own.growth)[:swaps]])


def test_a_guided_mutation_swaps_no_more_than_there_are_candidates():
    spec, rng = chain(10, 10, 10), np.random.default_rng(0)
    mask = np.arange(200) % 2 == 0
    own = guidance_of(mask, rng, 3)
    child = guided_mutation(mask, spec=spec, rng=rng, rate=1.0, guidance=own)
    assert set(np.flatnonzero(child & ~mask)) == set(own.candidates)


def test_guidance_that_names_no_candidate_leaves_a_blind_swap():
    spec, mask = chain(10, 10, 10), np.arange(200) % 2 == 0
    own = guidance_of(mask, np.random.default_rng(0), 0)
    same = [np.random.default_rng(5) for _ in range(2)]
    child = guided_mutation(mask, spec=spec, rng=same[0], rate=0.1, guidance=own)
    assert np.array_equal(child, swap_mutation(mask, spec=spec, rng=same[1], rate=0.1))


def test_without_noise_a_union_keeps_the_largest_of_both_parents():
    spec, rng = chain(10, 10, 10), np.random.default_rng(0)
    a, b = rng.random((2, 200)) < 0.3
    own = guidance_of(a, rng), guidance_of(b, rng)
    child = union_crossover(a, b, spec=spec, rng=rng, guidance=own)
    values = np.full((2, 200), np.nan)
    values[0, a], values[1, b] = own[0].saliency, own[1].saliency
    mean = np.nanmean(values[:, a | b], axis=0)
    assert not (child & ~(a | b)).any()
    assert mean[child[a | b]].min() >= mean[~child[a | b]].max()


def test_a_union_of_a_mask_with_itself_is_that_mask():
    spec, rng = chain(4, 5, 3), np.random.default_rng(0)
    mask = random_mask(spec, rng)
    own = guidance_of(mask, rng)
    assert np.array_equal(union_crossover(mask, mask, spec=spec, rng=rng, guidance=(own, own)), mask)


def test_strongest_are_the_largest_and_of_equals_the_first():
    rng = np.random.default_rng(0)
    assert strongest(np.array([3.0, 1.0, 3.0, 2.0, 3.0]), 2, rng, 0.0).tolist() == [0, 2]
    assert strongest(np.array([0.0, 1.0, 0.0]), 2, rng, 0.0).tolist() == [0, 1]
    assert strongest(np.array([1.0, 2.0]), 0, rng, 0.0).tolist() == []


def test_at_temperature_one_chances_are_in_proportion_to_the_values():
    rng = np.random.default_rng(0)
    seen = np.bincount([strongest(np.array([1.0, 2.0, 5.0]), 1, rng, 1.0)[0] for _ in range(4000)])
    assert scipy.stats.chisquare(seen, 4000 * np.array([1, 2, 5]) / 8).pvalue > 1e-3


@many
@given(parents(), seeds, st.integers(0, 30))
def test_a_cut_keeps_the_largest_and_their_guidance(case, seed, count):
    (_, mask, _), rng = case, np.random.default_rng(seed)
    own = guidance_of(mask, rng)
    left, guidance = cut(mask, own, count, rng=rng)
    assert left.sum() == min(count, mask.sum())
    assert not (left & ~mask).any()
    assert len(guidance.saliency) == left.sum()
    values = np.zeros(len(mask))
    values[mask] = own.saliency
    assert np.array_equal(values[left], guidance.saliency)
    assert values[left].min(initial=np.inf) >= values[mask & ~left].max(initial=0)
    blind, none = cut(mask, None, count, rng=rng)
    assert none is None
    assert blind.sum() == left.sum()
    assert not (blind & ~mask).any()


def test_a_cut_without_guidance_is_uniform():
    rng, mask = np.random.default_rng(0), np.array([True, True, False, True])
    seen = Counter(tuple(np.flatnonzero(cut(mask, None, 2, rng=rng)[0])) for _ in range(1500))
    assert len(seen) == 3
    assert scipy.stats.chisquare(list(seen.values())).pvalue > 1e-3


# Layer shuffle


@many
@given(parents(), seeds)
def test_a_shuffle_keeps_the_count_of_every_layer(case, seed):
    spec, mask, _ = case
    child = layer_shuffle(mask, spec=spec, rng=np.random.default_rng(seed))
    assert layer_counts(child, spec).tolist() == layer_counts(mask, spec).tolist()
    assert not child.flags.writeable


def test_a_shuffle_is_uniform_over_all_masks_of_its_layer_counts():
    spec, rng = chain(3, 2, 2), np.random.default_rng(0)
    mask = np.array([1, 1, 0, 0, 0, 0, 1, 0, 0, 0], dtype=bool)
    seen = Counter(layer_shuffle(mask, spec=spec, rng=rng).tobytes() for _ in range(3000))
    assert len(seen) == 15 * 4  # 2 of 6 weights, and 1 of 4
    assert scipy.stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_a_shuffle_changes_neither_its_mask_nor_depends_on_its_places():
    spec = chain(4, 5, 3)
    a = random_mask(spec, np.random.default_rng(0)).copy()
    before = a.copy()
    b = layer_shuffle(a, spec=spec, rng=np.random.default_rng(1))
    assert np.array_equal(a, before)
    assert np.array_equal(b, layer_shuffle(b, spec=spec, rng=np.random.default_rng(1)))
