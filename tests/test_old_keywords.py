"""Keywords that ``evolve`` took before version 0.2.0: the same searches, with a warning."""

import hashlib

import numpy as np
import pytest
from conftest import refused
from searches import plain
from test_evolution import SPEC, contents, first_masks, halving_fitness, likeness
from test_guided_evolution import guided

from ticketsearch.comparison import Comparison, MethodResult
from ticketsearch.evolution import DensitySchedule, Duplicates, LocalSearch, Variation, evolve
from ticketsearch.masks import digest
from ticketsearch.operators import guided_mutation, path_mutation, swap_mutation, union_crossover
from ticketsearch.settings import Settings

GUIDED = {"mutation": [guided_mutation, path_mutation], "crossover": union_crossover, "temperature": 0.2}


def key(mask, spec):
    return digest(mask)


def climb(masks, rng):
    return LocalSearch(5, 30).improvement(likeness, SPEC)(masks, rng)


# A digest of the search by version 0.1.0, then fitness, old keywords, and what was renamed.
CASES = {
    "rates": ("258769a527ea", likeness, {"crossover_rate": 0.3, "mutation_rate": 0.2, "attempts": 2}, {}),
    "tournament": (
        "00b1f8213f84",
        likeness,
        {"population": 9, "elites": 2, "ties": 1, "tournament": 5},
        {"size": 5},
    ),
    "reassess": ("23c80d902c7f", halving_fitness, {"reassess": 2}, {}),
    "guided": ("e58568fc6e19", guided, {**GUIDED, "trial": True}, {}),
    "front": ("4ed4d787fbb7", guided, {**GUIDED, "front": (5, 40)}, {"fewest": 5, "most": 40}),
    "key": ("f1bc971a00b8", likeness, {"duplicate_key": key}, {"duplicates": Duplicates(key)}),
    "counts": (
        "103fc24e308f",
        guided,
        {"counts": [24, 17, 12]},
        {"density": DensitySchedule(1 / 3, 1 / 6, 0.5)},
    ),
    "polish": ("246135ed33f0", likeness, {"polish": climb}, {"local_search": LocalSearch(5, 30)}),
}
RENAMED = ("tournament", "front", "duplicate_key", "counts", "polish")


@pytest.mark.parametrize(("digest_before", "fitness", "old", "renamed"), CASES.values(), ids=CASES)
def test_old_keywords_give_the_search_of_the_new_ones_and_of_version_0_1_0(
    digest_before, fitness, old, renamed
):
    new = {name: value for name, value in old.items() if name not in RENAMED} | renamed
    with pytest.warns(DeprecationWarning, match="version 0.3.0") as warned:
        before = list(evolve(first_masks(), fitness, SPEC, generations=4, seed=1, **old))
    assert warned[0].filename == __file__
    after = list(evolve(first_masks(), fitness, SPEC, **plain(generations=4, seed=1, **new)))
    assert contents(before) == contents(after)
    assert hashlib.sha256(repr(contents(after)).encode()).hexdigest()[:12] == digest_before


@pytest.mark.filterwarnings("ignore:the keywords:DeprecationWarning")
def test_old_keywords_continue_with_the_keys_that_are_given_and_no_others():
    def search(**options):
        return evolve(first_masks(), likeness, SPEC, generations=6, duplicate_key=key, **options)

    whole = list(search())
    keys = [ticket.key for generation in whole[:4] for ticket in generation.offspring]
    assert contents(search(after=whole[3], seen=keys)) == contents(whole[4:])
    generation = next(search(after=whole[3]))
    assert generation.seen.keys.keys() == {ticket.key for ticket in generation.offspring}


def test_the_warning_names_what_to_write():
    start = "the keywords elites, mutation, counts of evolve are deprecated"
    with pytest.warns(DeprecationWarning, match=start) as warned:
        evolve(first_masks(), likeness, SPEC, elites=2, mutation=swap_mutation, counts=[9])
    message = str(warned[0].message)
    for words in ("selection=Tournament(elites=…)", "variation=Variation(mutation=…)", "DensitySchedule(…)"):
        assert words in message


def test_old_and_new_keywords_together_are_refused():
    refused(
        lambda: evolve(first_masks(), likeness, SPEC, elites=2, variation=Variation()),
        "elites, variation",
        "write selection=Tournament(elites=…)",
    )


@pytest.mark.filterwarnings("ignore:the keywords:DeprecationWarning")
@pytest.mark.parametrize(
    ("old", "words"),
    [
        ({"population": 0}, "population must be >= 1"),
        ({"tournament": 10**9}, "size must be at most"),
        ({"polish": climb, "trial": True}, "polish"),
        ({"polish": climb, "front": (4, 9)}, "polish"),
        ({"ties": 2, "front": (4, 9)}, "ties"),
        ({"front": (4, 9), "counts": [9]}, "leave one out"),
        ({"counts": []}, "counts has a number of weights for each generation"),
        ({"counts": [9, 0]}, "counts are weights to keep, 1 to 72, but got 0"),
        ({"temperature": np.nan}, "temperature must be a number"),
    ],
)
def test_old_keywords_are_checked_as_the_options_are(old, words):
    refused(lambda: evolve(first_masks(), likeness, SPEC, **old), words)


def test_attributes_that_were_renamed_warn_and_give_the_new_ones():
    comparison = Comparison("mine", Settings(), 1, (MethodResult("imp", 0.1, {}, {}),), ())
    generation = next(evolve(first_masks(), likeness, SPEC, **plain()))
    for value, old, new in (
        (comparison, "standings", "results"),
        (comparison, "trails", "best_so_far"),
        (comparison.results[0], "made", "masks"),
        (generation, "levels", "order_effects"),
    ):
        with pytest.warns(DeprecationWarning, match=f"{old} is deprecated .* write {new}"):
            assert getattr(value, old) is getattr(value, new)
