"""Successive halving: which masks are trained on, the effect of controls, and rank agreement of rungs."""

import math

import numpy as np
import pytest
import scipy
from conftest import examples, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

import ticketsearch as ts
from ticketsearch.halving import Agreement, Tau, parse_steps, pool, successive_halving

RUNGS = (50, 200, 800)


def halved(scores, seed=0, rungs=RUNGS):
    """Halve a population of planted scores ``(rungs, population)``; return the result and who was trained."""
    scores, calls = np.asarray(scores, dtype=float), []

    def evaluate(positions, rung):
        calls.append((rung, positions.tolist()))
        return scores[rung, positions]

    result = successive_halving(scores.shape[1], rungs[: len(scores)], evaluate, np.random.default_rng(seed))
    return result, dict(calls)


def controls_of(result, trained, rung):
    """Those that were trained at a rung without having earned it (nothing planted here diverges)."""
    return [position for position in trained[rung] if result.rung[position] < rung]


# What steps may be


@pytest.mark.parametrize(
    ("value", "rungs"),
    [
        (200, (200,)),
        (0, (0,)),
        ("200", (200,)),
        ("50,200,800", (50, 200, 800)),
        (" 50, 200 ", (50, 200)),
        ([50, 200, 800], (50, 200, 800)),
        ((0, 1), (0, 1)),
        (np.int64(7), (7,)),
        ([np.int32(7), 8], (7, 8)),
    ],
)
def test_steps_are_a_number_or_ascending_rungs(value, rungs):
    assert parse_steps(value) == rungs
    assert all(type(rung) is int for rung in parse_steps(value))


@pytest.mark.parametrize(
    "value",
    [-1, "-1", "x", "", "50,", "50,50", [200, 50], [], [1.5], 200.0, True, [True, 5], None, {"50": 1}],
    ids=repr,
)
def test_other_steps_are_refused_with_rule_value_and_way_out(value):
    message = refusal(parse_steps, value)
    assert "an integer >= 0, or the rungs of successive halving" in message
    assert "50,200,800" in message
    assert message.endswith(f"but got {value!r}")


# Who goes on


def test_the_better_half_goes_on_and_earns_its_rung():
    scores = [[8, 1, 7, 2, 6, 3, 5, 4], [1, 0, 4, 0, 3, 0, 2, 0], [0, 0, 10, 0, 20, 0, 0, 0]]
    result, trained = halved(scores)
    assert trained[0] == list(range(8))
    assert set(trained[1]) >= {0, 2, 4, 6}
    assert set(trained[2]) >= {2, 4}
    assert result.rung.tolist() == [1, 0, 2, 0, 2, 0, 1, 0]
    assert result.score.tolist() == [1, 1, 10, 2, 20, 3, 2, 4]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12, 33])
def test_half_is_rounded_up_and_ties_go_to_the_lower_position(size):
    result, _ = halved(np.zeros((3, size)))
    half = -(-size // 2)
    assert result.rung.tolist() == [2] * -(-half // 2) + [1] * (half - -(-half // 2)) + [0] * (size - half)


def test_among_many_equal_scores_the_first_go_on():
    scores = np.arange(600) % 3
    result, _ = halved([scores, scores])
    wanted = np.isin(np.arange(600), [*np.flatnonzero(scores == 2), *np.flatnonzero(scores == 1)[:100]])
    assert np.array_equal(result.rung == 1, wanted)


@pytest.mark.parametrize(("others", "count"), [(1, 1), (2, 2), (3, 2), (20, 2), (21, 3), (30, 3), (41, 5)])
def test_a_tenth_of_the_others_are_controls_and_two_where_there_are_two(others, count):
    result, trained = halved(np.arange(4 * others).reshape(2, -1))
    assert len(controls_of(result, trained, 1)) == count


def test_controls_are_drawn_anew_at_each_rung_and_go_to_the_top():
    scores = np.tile(np.arange(80.0), (3, 1))
    result, trained = halved(scores)
    first, later = controls_of(result, trained, 1), controls_of(result, trained, 2)
    assert len(first) == 4
    assert set(first) < set(later)
    assert len(later) == 4 + 2
    assert (result.rung[first] == 0).all()
    assert (result.rung[sorted(set(later) - set(first))] == 1).all()


def test_controls_are_random_among_the_others_and_the_same_by_the_same_generator():
    scores = np.tile(np.arange(12.0), (2, 1))
    drawn = [tuple(controls_of(*halved(scores, seed), 1)) for seed in range(60)]
    assert set().union(*drawn) == set(range(6))
    assert drawn == [tuple(controls_of(*halved(scores, seed), 1)) for seed in range(60)]


def test_a_control_keeps_the_rung_and_the_score_it_earned():
    scores = [[1, 2, 3, 4], [100, 100, 5, 6], [100, 100, 5, 6]]
    result, trained = halved(scores)
    assert controls_of(result, trained, 1) == [0, 1]
    assert result.rung.tolist() == [0, 0, 1, 2]
    assert result.score.tolist() == [1, 2, 5, 6]


def test_each_mask_is_trained_rung_after_rung_without_a_gap():
    rng = np.random.default_rng(1)
    for seed in range(20):
        _, trained = halved(rng.normal(size=(3, 37)), seed)
        assert set(trained[2]) < set(trained[1]) < set(trained[0])
        assert all(positions == sorted(set(positions)) for positions in trained.values())


def test_one_rung_halves_nothing():
    result, trained = halved([[3.0, 1.0]])
    assert trained == {0: [0, 1]}
    assert (result.rung.tolist(), result.score.tolist(), result.agreements) == ([0, 0], [3, 1], [])


def test_an_empty_population_has_no_result():
    result, trained = halved(np.empty((3, 0)))
    assert trained == {}
    assert len(result.score) == len(result.rung) == 0
    assert [agreement.pairs for agreement in result.agreements] == [0, 0]


def test_scores_of_another_shape_are_refused():
    message = refusal(
        successive_halving, 4, RUNGS, lambda positions, rung: np.zeros(3), np.random.default_rng(0)
    )
    assert message == "a rung gives one score a mask, (4,), but got (3,)"


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 2**32))
def test_rungs_hold_half_of_those_below_and_nobody_below_beats_who_went_on(size, rungs, seed):
    scores = np.random.default_rng(seed).normal(size=(rungs, size))
    result, _ = halved(scores, seed, tuple(range(10, 10 * rungs + 1, 10)))
    for rung in range(1, rungs):
        stood, went = result.rung >= rung - 1, result.rung >= rung
        assert went.sum() == -(-stood.sum() // 2)
        assert scores[rung - 1, went].min() >= scores[rung - 1, stood & ~went].max(initial=-np.inf)
    assert np.array_equal(result.score, scores[result.rung, np.arange(size)])


def test_its_old_name_warns_and_is_the_same_function():
    with pytest.warns(DeprecationWarning, match="write successive_halving") as warned:
        assert ts.climb is ts.successive_halving
    assert warned[0].filename == __file__


# What diverges


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_diverges_at_any_rung_is_minus_infinity_on_the_lowest(value):
    scores = [[value, 1, 8, 7, 6, 5, 2, 3], [0, 0, value, 7, 6, 5, 0, 0], [0, 0, 0, value, 6, 0, 0, 0]]
    result, trained = halved(scores)
    assert result.rung[[0, 2, 3]].tolist() == [0, 0, 0]
    assert (result.score[[0, 2, 3]] == -np.inf).all()
    assert (result.rung[4], result.score[4]) == (2, 6)
    assert 0 not in trained[1]
    assert 2 not in trained[2]


def test_what_is_not_finite_never_goes_on_not_even_as_a_control():
    for seed in range(20):
        result, trained = halved([[np.nan, 1, np.nan, np.nan, np.nan, np.nan], [9.0] * 6, [9.0] * 6], seed)
        assert (trained[1], trained[2]) == ([1], [1])
        assert result.rung.tolist() == [0, 2, 0, 0, 0, 0]


def test_where_all_diverge_nothing_is_trained_further():
    result, trained = halved(np.full((3, 5), np.nan))
    assert list(trained) == [0]
    assert (result.score == -np.inf).all()
    assert [agreement.pairs for agreement in result.agreements] == [0, 0]


def test_a_control_that_diverges_comes_last_there_keeps_its_score_and_goes_no_further():
    scores = np.array([[2, 1, 8, 7], [np.nan, 3, 8, 7], [5, 5, 8, 7]])
    result, trained = halved(scores)
    assert trained[1] == [0, 1, 2, 3]
    assert 0 not in trained[2]
    assert result.score[:2].tolist() == [2, 1]
    assert result.agreements[0] == Agreement(50, 200, 0, 1, 0)
    both = halved([[2, 1, 8, 7], [np.nan, np.inf, 8, 7]])[0]
    assert both.agreements == [Agreement(50, 200, 0, 0, 1)]


# How far rungs agree


@pytest.mark.parametrize("seed", range(5))
def test_kendalls_tau_is_that_of_scipy_on_the_controls(seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=600)
    scores = truth + rng.normal(size=(3, 600)) * [[1.0], [0.6], [0.3]]
    result, trained = halved(scores, seed)
    for upper, tau in enumerate(pool(result.agreements), start=1):
        controls = controls_of(result, trained, upper)
        wanted = scipy.stats.kendalltau(scores[upper - 1, controls], scores[upper, controls]).statistic
        assert tau.tau == pytest.approx(wanted, abs=1e-12)
        assert tau.pairs == len(controls) * (len(controls) - 1) // 2
        assert (tau.lower_steps, tau.upper_steps) == RUNGS[upper - 1 : upper + 1]
        assert 0 < wanted < 1


def test_pairs_are_counted_one_by_one():
    # Without others than these three, all go on: positions 0 to 2 are the worse half.
    lower, upper = [1, 2, 2, 9, 9, 9], [3, 3, 1, 9, 9, 9]
    scores, agreements = np.array([lower, upper]), set()
    for seed in range(20):
        result, trained = halved(scores, seed)
        agreements.add((tuple(controls_of(result, trained, 1)), result.agreements[0]))
    assert agreements == {
        ((0, 1), Agreement(50, 200, 0, 0, 1)),  # tied above
        ((0, 2), Agreement(50, 200, 0, 1, 0)),
        ((1, 2), Agreement(50, 200, 0, 0, 1)),  # tied below
    }


def test_agreements_pool_by_rungs_as_their_sums():
    taus = pool(
        [
            Agreement(200, 800, 1, 0, 0),
            Agreement(50, 200, 4, 2, 0),
            Agreement(50, 200, 7, 1, 2),
            Agreement(50, 200, 0, 0, 0),
        ]
    )
    assert [(t.lower_steps, t.upper_steps, t.pairs) for t in taus] == [(50, 200, 16), (200, 800, 1)]
    assert [t.tau for t in taus] == [(11 - 3) / 16, 1.0]


def test_without_pairs_tau_is_unknown_and_accuses_nobody():
    (tau,) = pool([Agreement(50, 200, 0, 0, 0)])
    assert tau.pairs == 0
    assert all(math.isnan(value) for value in (tau.tau, tau.low, tau.high))
    assert not tau.untrusted
    assert pool([]) == []


@pytest.mark.parametrize(("concordant", "discordant"), [(7, 3), (20, 0), (0, 4), (1, 0)])
def test_the_interval_of_single_pairs_is_wilsons(concordant, discordant):
    (tau,) = pool([Agreement(1, 2, 1, 0, 0)] * concordant + [Agreement(1, 2, 0, 1, 0)] * discordant)
    wanted = scipy.stats.binomtest(concordant, concordant + discordant).proportion_ci(method="wilson")
    assert (tau.low, tau.high) == pytest.approx((2 * wanted.low - 1, 2 * wanted.high - 1), abs=1e-9)


def test_pairs_that_share_a_mask_do_not_narrow_the_interval():
    # Five controls make ten pairs, but only two pairs without a mask in common.
    (shared,) = pool([Agreement(1, 2, 8, 2, 0)] * 3)
    wanted = scipy.stats.binomtest(9, 10).proportion_ci(method="wilson")
    assert shared.high - shared.low > 2 * (wanted.high - wanted.low)
    (single,) = pool([Agreement(1, 2, 1, 0, 0)] * 6)
    (many,) = pool([Agreement(1, 2, 10, 0, 0)] * 3)
    assert (many.low, many.high) == pytest.approx((single.low, single.high))


@pytest.mark.slow
@pytest.mark.full
def test_the_interval_holds_the_true_tau_at_least_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for correlation in (0.3, 0.9):
        truth, covered = 2 / np.pi * np.arcsin(correlation), 0
        for _ in range(200):
            agreements = []
            for _ in range(15):
                a = rng.normal(size=5)
                b = correlation * a + np.sqrt(1 - correlation**2) * rng.normal(size=5)
                tau = scipy.stats.kendalltau(a, b).statistic
                concordant = round(5 * (1 + tau))
                agreements.append(Agreement(1, 2, concordant, 10 - concordant, 0))
            (result,) = pool(agreements)
            covered += result.low <= truth <= result.high
        assert covered >= 190


@pytest.mark.parametrize(
    ("pairs", "tau", "untrusted"), [(10, 0.39, True), (10, 0.4, False), (9, -1.0, False), (500, 0.1, True)]
)
def test_a_rung_below_the_least_tau_is_not_to_be_trusted_once_enough_pairs_say_so(pairs, tau, untrusted):
    assert Tau(50, 200, pairs, tau, -1.0, 1.0).untrusted is untrusted
