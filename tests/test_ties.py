"""Equal scores: the lot decides, by seed and initialization, and it is said how much it has decided."""

import warnings
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import ticketsearch as ts
from ticketsearch.masks import drawn_among_equals, largest
from ticketsearch.masks.guidance import Guidance, cut
from ticketsearch.operators import guided_mutation
from ticketsearch.pruners import EqualScoresWarning, LayerCollapseWarning, PruningWarning, prune, prune_all
from ticketsearch.pruners.ties import tie_generator
from ticketsearch.theory.compression import critical_at_once

pytestmark = pytest.mark.slow


@cache
def digits():
    return ts.load_dataset("digits")


@cache
def chain():
    return ts.initialize("mlp:9,4,30", digits())


def constant(network, mask, batch, *, rng):
    """Score all weights alike."""
    return {name: torch.ones(part.shape) for name, part in mask.items()}


def quiet(network, method=constant, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)
        return prune(network, method, **options)


def overlap(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_each_of_equal_scores_is_drawn_as_often_as_the_others():
    rng, scores = np.random.default_rng(0), np.array([2.0, 1, 1, 1, 1, 0])
    counts = sum(largest(scores, 3, rng).astype(int) for _ in range(3000))
    assert counts[0] == 3000
    assert counts[5] == 0
    assert (abs(counts[1:5] - 1500) < 5 * np.sqrt(3000 / 4)).all()


def test_without_equal_scores_at_the_threshold_nothing_is_drawn():
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    assert largest(np.array([1.0, 1, 3, 2]), 2, rng).tolist() == [False, False, True, True]
    assert rng.bit_generator.state == state


def test_weights_count_as_drawn_where_an_equal_one_was_left_out():
    scores = np.array([3.0, 2, 2, 2, 1])
    chosen = np.array([True, True, False, True, False])
    assert drawn_among_equals(scores, chosen).tolist() == [False, True, False, True, False]
    assert not drawn_among_equals(scores, scores >= 2).any()
    assert not drawn_among_equals(scores, np.ones(5, dtype=bool)).any()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("schedule", ["exponential", "one_shot"])
def test_equal_scores_are_ordered_by_seed_and_initialization(scope, schedule):
    options = {"density": 0.25, "scope": scope, "schedule": schedule}
    network = ts.initialize("mlp:60,40", digits(), seed=1)
    mask = quiet(network, **options)
    assert np.array_equal(mask, quiet(network, **options))
    size = network.spec.size
    for other in (
        quiet(network, seed=1, **options),
        quiet(network.reinitialized("kaiming_normal", 2), **options),
        quiet(network.reinitialized("orthogonal", 1), **options),
    ):
        # Of two random masks: 1/7 of the weights that either keeps, give or take.
        assert abs(overlap(mask, other) - 1 / 7) < 5 / np.sqrt(size / 4)
    rows = mask[network.spec.layers[0].slice].reshape(60, -1).sum(1)
    assert rows.min() > 0  # no row fills up before others


def test_the_lot_of_a_copy_does_not_depend_on_its_company():
    network = ts.initialize("mlp:12", digits(), scheme="signed_constant", seed=1)
    other = network.reinitialized("signed_constant", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)
        together = prune_all([other, network], "synflow", density=0.1, seeds=[7, 5])
    assert np.array_equal(together[1], quiet(network, "synflow", density=0.1, seed=5))


@pytest.mark.parametrize("method", ["synflow", "balanced_synflow", "magnitude", "flow_preserving"])
def test_two_initializations_of_equal_magnitudes_get_different_masks(method):
    a, b = (ts.initialize("mlp:30", digits(), scheme="signed_constant", seed=seed) for seed in (0, 1))
    options = {"rounds": 3, "tries": 1} if method == "flow_preserving" else {}
    masks = [quiet(each, method, density=0.1, **options) for each in (a, b)]
    assert overlap(*masks) < 0.65  # magnitude draws 222 of the 300 weights of the last layer: 0.587 by chance
    assert np.array_equal(masks[0], quiet(a, method, density=0.1, **options))


def test_pruning_says_how_many_weights_were_drawn():
    size = chain().spec.size
    with pytest.warns(EqualScoresWarning, match=f"{size // 2:,} of {size // 2:,} kept weights were drawn"):
        prune(chain(), constant, density=0.5)

    def first(network, mask, batch, *, rng):
        scores = torch.arange(1.0, size + 1).clamp(max=size - size // 4 + 1)
        return {name: part.view(mask[name].shape) for name, part in network.spec.split(scores).items()}

    few = round(0.2 * size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapseWarning)
        with pytest.warns(EqualScoresWarning, match=f"{few:,} of {few:,}"):
            prune(chain(), first, density=0.2, schedule="one_shot")
        prune(chain(), first, density=0.5, schedule="one_shot")  # all of the equal ones are kept: no lot


def test_weights_that_an_earlier_cut_drew_count_too():
    """The first cut draws half of the equal scores, the second keeps those that score most."""
    seen = []

    def scores(network, mask, batch, *, rng):
        seen.append(None)
        flat = torch.ones(network.spec.size) if len(seen) == 1 else torch.arange(network.spec.size) + 1.0
        return {name: part.view(mask[name].shape) for name, part in network.spec.split(flat).items()}

    kept = round(0.25 * chain().spec.size)
    with pytest.warns(EqualScoresWarning, match=f"{kept:,} of {kept:,}"):
        prune(chain(), scores, density=0.25, steps=2)


class Residual(nn.Module):
    """A block with a normalisation at its end whose scale is 0, as zero_init_residual has it."""

    def __init__(self, zero):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6 * 64, 10)
        nn.init.constant_(self.norm.weight, 0.0 if zero == "norm.weight" else 1.0)
        self.scale = nn.Parameter(torch.full((6, 1, 1), 0.0 if zero == "scale" else 1.0))
        if zero == "conv.weight":
            nn.init.zeros_(self.conv.weight)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.flatten(x + self.scale * self.norm(self.conv(x)), 1))


@pytest.mark.parametrize("zero", ["norm.weight", "conv.weight", "scale"])
def test_the_tensor_through_which_nothing_flows_is_named(zero):
    network = ts.initialize(lambda shape, classes: Residual(zero), digits(), scheme="as_built")
    with pytest.warns(EqualScoresWarning, match=f"scores of 0 were among them, since {zero} is 0"):
        prune(network, "synflow", density=0.97, schedule="one_shot")


def test_guidance_cuts_equal_saliencies_by_lot():
    mask = np.ones(1000, dtype=bool)
    guidance = Guidance(np.zeros(1000, dtype=np.float32), np.arange(0), np.zeros(0, dtype=np.float32))
    left, _ = cut(mask, guidance, 500, rng=np.random.default_rng(0))
    assert 200 < np.count_nonzero(left[:500]) < 300


def test_guided_mutation_grows_equal_candidates_by_lot():
    spec = chain().spec
    mask = np.zeros(spec.size, dtype=bool)
    mask[::2] = True
    candidates = np.flatnonzero(~mask)
    salient = np.ones(np.count_nonzero(mask), dtype=np.float32)
    guidance = Guidance(salient, candidates, np.ones(len(candidates), dtype=np.float32))
    child = guided_mutation(mask, spec=spec, rng=np.random.default_rng(0), rate=0.3, guidance=guidance)
    for changed in (np.flatnonzero(child & ~mask), np.flatnonzero(mask & ~child)):
        assert changed.min() < spec.size / 3
        assert changed.max() > 2 * spec.size / 3


def test_the_critical_compression_is_the_one_that_every_lot_reaches():
    spec = ts.initialize("mlp:4", digits()).spec
    scores = np.ones(spec.size)
    assert critical_at_once(scores, spec).kept == spec.layers[0].size + 1


def test_an_rng_without_a_seed_is_refused():
    bare = np.random.Generator(np.random.RandomState(0)._bit_generator)
    with pytest.raises(ts.BadInput, match="default_rng"):
        tie_generator(bare, chain().initialization)


def test_the_overlap_study_says_how_many_weights_were_drawn(tmp_path):
    network = ts.initialize("mlp:30", digits(), scheme="signed_constant", seed=0)
    overlaps = ts.study_pruners(
        network,
        digits(),
        ["synflow", "random"],
        0.1,
        folder=tmp_path,
        initializations=[ts.Initialization("signed_constant", seed) for seed in (0, 1)],
        draws=0,
        aligned_draws=0,
        steps=5,
    )
    drawn = {case.title: case.drawn for case in overlaps.cases}
    assert drawn["random at density 0.1"] == 0
    assert 0.01 < drawn["synflow at density 0.1"] <= 1
    assert "drawn at random among equal scores" in ts.overlaps_text(overlaps)
    assert ts.overlaps_text(overlaps).count("of the weights that a mask of synflow at density 0.1 keeps") == 1
