"""The first population: pruned copies with their provenance, then mutants, no network twice."""

import itertools

import numpy as np
import pytest
import torch
from conftest import refused

from ticketsearch.canonical import canonical_key
from ticketsearch.cost import Spent
from ticketsearch.evolution import evolve
from ticketsearch.fitness.named import short_training
from ticketsearch.masks import digest, layer_counts
from ticketsearch.models import Initialization, initialize
from ticketsearch.pruners import prune
from ticketsearch.seeding import (
    DEFAULT_SCHEMES,
    initializations,
    prune_copies,
    saved_tickets,
    seed_population,
)
from ticketsearch.tickets import Ticket, Tickets, save_ticket

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network(tiny):
    return initialize("mlp:9,7", tiny, seed=3)


def copies(network, drawn):
    return [network, *(network.reinitialized(*initialization) for initialization in drawn)]


def test_first_come_the_pruned_masks_of_the_differently_initialized_copies(network):
    first = seed_population(network, size=12, density=0.2, initializations=5, seed=4, steps=20)
    drawn = initializations(5, seed=4)[1:]
    for ticket, copied in zip(first, copies(network, drawn), strict=False):
        assert np.array_equal(ticket.mask, prune(copied, "synflow", density=0.2, seed=4, steps=20))
        assert ticket.pruned_from == copied.initialization
        assert ticket.operator == "synflow"
    assert [ticket.operator for ticket in first] == ["synflow"] * 5 + ["swap_mutation"] * 7
    origins = [network.initialization, *drawn]
    mutants = first[5:]
    assert [t.pruned_from for t in mutants] == [origins[i % 5] for i in range(5, 12)]
    for mutant in mutants:  # by one swap at rate 0.1, so most of its origin is left
        parent = first[origins.index(mutant.pruned_from)]
        assert 0.5 * parent.mask.sum() < (mutant.mask & parent.mask).sum() < parent.mask.sum()


@pytest.mark.parametrize("density", [0.05, 0.3, 0.9])
def test_size_and_counts_are_exact_and_no_network_is_there_twice(network, density):
    first = seed_population(network, size=20, density=density, initializations=4, steps=10)
    assert isinstance(first, Tickets)
    assert first.masks.shape == (20, network.spec.size)
    assert first.masks.dtype == np.bool_
    assert (first.masks.sum(axis=1) == round(density * network.spec.size)).all()
    assert (layer_counts(first.masks, network.spec) >= 1).all()
    keys = [canonical_key(ticket.mask, network.spec) for ticket in first]
    assert len(set(keys)) == 20
    assert [ticket.key for ticket in first] == keys
    assert not any(ticket.mask.flags.writeable for ticket in first)
    assert not any(ticket.fitness.valid for ticket in first)


def test_tickets_are_trained_from_the_networks_initialization_unless_own(network):
    options = {"size": 9, "density": 0.2, "initializations": 4, "steps": 5}
    shared = seed_population(network, **options)
    own = seed_population(network, own=True, **options)
    assert {ticket.initialization for ticket in shared} == {network.initialization}
    assert [ticket.initialization for ticket in own] == [ticket.pruned_from for ticket in own]
    assert len({ticket.initialization for ticket in own}) == 4
    assert np.array_equal(shared.masks, own.masks)


def test_schemes_come_in_turn_each_with_a_seed_of_its_own():
    drawn = initializations(10, seed=1)
    assert [d.scheme for d in drawn] == list(itertools.islice(itertools.cycle(DEFAULT_SCHEMES), 10))
    assert len({d.seed for d in drawn}) == 10
    assert all(isinstance(d.seed, int) for d in drawn)
    assert initializations(10, seed=1) == drawn
    assert initializations(4, seed=1) == drawn[:4]
    assert not {d.seed for d in drawn} & {d.seed for d in initializations(10, seed=2)}
    assert {d.scheme for d in initializations(3, schemes=["orthogonal"])} == {"orthogonal"}


def test_schemes_of_the_population_may_be_chosen(network):
    first = seed_population(
        network, size=5, density=0.2, initializations=5, schemes=("orthogonal", "xavier_normal"), steps=5
    )
    found = [ticket.pruned_from.scheme for ticket in first]
    assert found == ["kaiming_normal", "xavier_normal", "orthogonal", "xavier_normal", "orthogonal"]


def test_initializations_may_be_given_one_by_one(network):
    given = [Initialization("orthogonal", 7), Initialization("xavier_normal", 8)]
    first = seed_population(network, size=4, density=0.2, initializations=given, steps=10)
    assert [ticket.pruned_from for ticket in first[:3]] == [network.initialization, *given]
    for ticket, copied in zip(first, copies(network, given), strict=False):
        assert np.array_equal(ticket.mask, prune(copied, "synflow", density=0.2, steps=10))
    only = seed_population(network, size=4, density=0.2, initializations=[], steps=10)
    assert {ticket.pruned_from for ticket in only} == {network.initialization}


def test_a_copy_that_prunes_to_a_network_already_there_is_left_out(network):
    again = [network.initialization, Initialization("orthogonal", 7), Initialization("orthogonal", 7)]
    first = seed_population(network, size=6, density=0.2, initializations=again, steps=10)
    assert [ticket.operator for ticket in first] == ["synflow"] * 2 + ["swap_mutation"] * 4


def test_a_population_smaller_than_the_initializations_holds_the_first_of_them(network):
    first = seed_population(network, size=3, density=0.2, initializations=6, seed=2, steps=5)
    origins = [network.initialization, *initializations(6, seed=2)[1:3]]
    assert [ticket.pruned_from for ticket in first] == origins
    assert len(seed_population(network, size=1, density=0.2, initializations=6, steps=5)) == 1


def test_the_seed_determines_the_population(network):
    def masks(seed):
        return seed_population(network, size=10, density=0.2, initializations=3, seed=seed, steps=5).masks

    assert np.array_equal(masks(0), masks(0))
    assert not np.array_equal(masks(0)[3:], masks(1)[3:])


def test_global_randomness_neither_matters_nor_moves(network):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = seed_population(network, size=6, density=0.2, initializations=3, steps=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = seed_population(network, size=6, density=0.2, initializations=3, steps=5)
    assert np.array_equal(first.masks, again.masks)


def test_a_gain_of_each_layer_changes_no_mask(tiny):
    masks = []
    for gains in ((1, 1, 1), (4, 0.125, 32)):
        network = initialize("mlp:9,7", tiny, seed=3)
        with torch.no_grad():
            for layer, gain in zip(network.spec.layers, gains, strict=True):
                network.module.get_parameter(layer.name).mul_(gain)
        masks.append(seed_population(network, size=4, density=0.2, initializations=1, steps=20).masks)
    assert np.array_equal(*masks)


def test_other_pruners_and_their_options_are_passed_on(network):
    first = seed_population(
        network, size=2, density=0.5, initializations=2, method="magnitude", scope="layer"
    )
    for ticket, copied in zip(first, copies(network, initializations(2)[1:]), strict=True):
        assert np.array_equal(ticket.mask, prune(copied, "magnitude", density=0.5, scope="layer"))
        assert ticket.operator == "magnitude"

    def reversed_magnitude(network, mask, batch, *, rng):
        return {name: -network.parameters()[name].abs() for name in mask}

    own = seed_population(
        network, size=1, density=0.5, initializations=1, method=reversed_magnitude, scope="layer"
    )
    assert own[0].operator == "reversed_magnitude"
    assert not np.array_equal(own[0].mask, first[0].mask)


@pytest.mark.filterwarnings("ignore::ticketsearch.pruners.EqualScoresWarning")
def test_a_pruner_that_uses_data_is_given_them(network, tiny):
    seen = []

    def score(network, mask, batch, *, rng):
        seen.append(batch)
        return {name: part.double() for name, part in mask.items()}

    seed_population(
        network, tiny, size=1, density=0.5, initializations=1, method=score, steps=1, batch=9, scope="layer"
    )
    assert seen[0][0].shape == (9, 7)
    assert seen[0][1].shape == (9,)


def test_what_counts_as_the_same_network_may_be_chosen(network):
    everything = seed_population(
        network, size=5, density=0.2, initializations=2, steps=5, duplicate_key=lambda mask, _: digest(mask)
    )
    assert [ticket.key for ticket in everything] == [digest(ticket.mask) for ticket in everything]


def test_a_population_that_cannot_be_is_refused(network):
    refused(
        lambda: seed_population(network, size=2, density=1.0, initializations=1, steps=1),
        "only 1 different networks of density 1",
        "population of 2",
        "smaller population",
    )
    assert seed_population(network, size=1, density=1.0, initializations=1, steps=1).masks.all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, ("at least 1 ticket", "size=0")),
        ({"initializations": 0}, ("initializations must be >= 1", "0")),
        ({"density": 0.0}, ("(0, 1]", "0")),
        ({"schemes": []}, ("at least one initialization scheme",)),
        ({"schemes": ["kaiming_norml"]}, ("'kaiming_norml'", "did you mean 'kaiming_normal'")),
        ({"method": "sinflow"}, ("'sinflow'", "did you mean 'synflow'")),
        ({"biasses": True}, ("'biasses'", "did you mean 'biases'")),
    ],
)
def test_a_bad_argument_is_refused(network, arguments, words):
    refused(lambda: seed_population(network, **{"size": 4, "density": 0.2, "steps": 2, **arguments}), *words)


def test_mutants_are_given_up_one_by_one_not_by_their_sum(network):
    made = itertools.count()
    first = seed_population(  # two of three mutants are refused: 118 in all, but never 100 running
        network,
        size=60,
        density=0.2,
        initializations=1,
        steps=1,
        duplicate_key=lambda *_: str(next(made) // 3),
    )
    assert len(first) == 60
    assert next(made) == 3 * 59 + 1


def test_a_population_as_large_as_there_are_networks_is_found(tiny):
    """With one weight less than all, a network is the one it leaves out, up to a renumbering: few classes."""
    network = initialize("mlp:2", tiny)
    size, layers = network.spec.size, network.spec.layers
    everything = ~np.eye(size, dtype=bool)
    different = len({canonical_key(mask, network.spec) for mask in everything})
    assert different == 7 + 3
    assert len(layers) == 2
    options = {"density": (size - 1) / size, "initializations": 1, "steps": 1}
    assert len(seed_population(network, size=different, **options)) == different
    refused(lambda: seed_population(network, size=different + 1, **options), f"only {different} different")


# Several pruners, and saved tickets


def test_each_of_several_pruners_prunes_each_copy_with_its_own_options(network, tiny):
    options = {"density": 0.3, "initializations": 3, "seed": 4, "steps": 4}
    both = prune_copies(network, tiny, method=["magnitude", "imp"], training_steps=3, batch=8, **options)
    assert [t.operator for t in both] == ["magnitude", "imp"] * 3
    assert [t.pruned_from for t in both[::2]] == [t.pruned_from for t in both[1::2]]
    for name, found, own in (("magnitude", both[::2], {}), ("imp", both[1::2], {"training_steps": 3})):
        alone = prune_copies(network, tiny, method=name, **own, **options)
        assert np.array_equal(alone.masks, Tickets(found).masks)
    assert not np.array_equal(both[0].mask, both[1].mask)


def test_what_two_pruners_agree_on_is_in_the_population_once(network):
    found = seed_population(network, size=4, density=0.3, initializations=1, method=["magnitude", "synflow"])
    assert [t.operator for t in found] == ["magnitude", "synflow", *["swap_mutation"] * 2]
    again = prune_copies(network, None, 1.0, 1, method=["magnitude", "random"], steps=1)
    assert again[0].key == again[1].key
    one = seed_population(network, size=1, density=1.0, initializations=1, method=["magnitude", "random"])
    assert [t.operator for t in one] == ["magnitude"]


def test_several_pruners_that_cannot_be_are_refused(network, tmp_path):
    (tmp_path / "mine.py").write_text("def synflow(network, mask, batch, *, rng):\n    return {}\n")
    options = {"density": 0.3, "initializations": 1}
    refused(
        lambda: prune_copies(network, method=["synflow", "magnitude"], training_steps=3, **options),
        "no option 'training_steps'",
    )
    refused(lambda: prune_copies(network, method=["synflow", "sinflow"], **options), "'sinflow'", "'synflow'")
    refused(
        lambda: prune_copies(network, method=["synflow", f"{tmp_path}/mine.py:synflow"], **options),
        "told apart by their names",
    )
    refused(lambda: prune_copies(network, method=[], **options), "one or several")


def test_saved_tickets_are_trained_from_the_networks_initialization_or_under_own_from_theirs(
    network, tmp_path
):
    other = network.reinitialized("orthogonal", 7)
    file, folder = tmp_path / "one.safetensors", tmp_path / "run"
    (folder / "tickets").mkdir(parents=True)
    for net, path in ((other, file), (network, folder / "tickets" / "best.safetensors")):
        mask = prune(net, "synflow", density=0.2, steps=5)
        save_ticket(path, net, Ticket(mask, net.initialization))
    paths = [file, folder]
    shared, own = (saved_tickets(paths, network, 0.2, own=own) for own in (False, True))
    assert np.array_equal(shared[0].mask, prune(other, "synflow", density=0.2, steps=5))
    assert np.array_equal(shared.masks, own.masks)
    assert [t.initialization for t in shared] == [network.initialization] * 2
    assert [t.initialization for t in own] == [other.initialization, network.initialization]
    assert [t.pruned_from for t in shared] == [other.initialization, network.initialization]


def test_saved_tickets_that_cannot_join_are_refused(network, tiny, tmp_path):
    def saved(net, density=0.2, name="x.safetensors"):
        mask = prune(net, "magnitude", density=density)
        save_ticket(tmp_path / name, net, Ticket(mask, net.initialization))
        return [tmp_path / name]

    wider = initialize("mlp:10,7", tiny)
    refused(
        lambda: saved_tickets(saved(wider), network, 0.2), "of the network that is searched", "of mlp:10,7 on"
    )
    refused(
        lambda: saved_tickets(saved(network, 0.3), network, 0.2),
        "density 0.2 asks for",
        "ask for density 0.299",
    )
    refused(lambda: saved_tickets([tmp_path / "none.safetensors"], network, 0.2), "no ticket file")
    refused(lambda: saved_tickets([tmp_path], network, 0.2), "no ticket file", "best.safetensors")
    moved = network.reinitialized("orthogonal", 7)
    with torch.no_grad():
        moved.module.get_parameter(network.spec.layers[0].name).mul_(2)
    path = saved(moved)
    assert len(saved_tickets(path, network, 0.2)) == 1
    refused(
        lambda: saved_tickets(path, network, 0.2, own=True), "holds other weights than orthogonal with seed 7"
    )


def test_what_a_pruner_trains_for_the_first_population_is_counted(tiny):
    network = initialize("mlp:9,7", tiny)
    options = {"density": 0.4, "initializations": 2, "training_steps": 3, "training_batch": 16}
    assert prune_copies(network, tiny, 0.4, 2).spent == Spent()
    once, more = (prune_copies(network, tiny, method=name, **options).spent for name in ("imp", "obd"))
    assert once.steps == more.steps == 2 * 5 * 3  # 0.8^5 < 0.4
    dense = network.spec.size * 6 * 16 * 3
    assert 2 * dense < once.flops < 2 * 5 * dense
    assert more.flops > once.flops * (1 + 8 * 61 / (6 * 16 * 3)) * 0.9  # curvature, on all 61 samples
    thrice = prune_copies(network, tiny, method="averaged_imp", **options).spent
    assert thrice.steps == 3 * once.steps
    assert 2.5 * once.flops < thrice.flops < 3.5 * once.flops  # other masks, but alike
    both = prune_copies(network, tiny, method=["synflow", "imp"], **options)
    assert both.spent == once
    first = seed_population(network, tiny, size=4, method="imp", **options)
    fitness = short_training(network, tiny, steps=3, batch=16, device="cpu")
    (generation,) = evolve(first, fitness, network.spec, generations=0)
    assert generation.spent == once + fitness(generation.population.masks, round=1).spent
