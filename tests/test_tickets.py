"""Tickets: their scores, and their files, which bring back network and mask to the bit."""

import json

import numpy as np
import pytest
import torch
from conftest import refused
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from ticketsearch.ladder import Agreement
from ticketsearch.masks import density, digest, effective_density
from ticketsearch.models import Initialization, initialize
from ticketsearch.tickets import (
    Scores,
    Ticket,
    TicketFitness,
    Tickets,
    as_tickets,
    load_ticket,
    save_ticket,
)


def ticket_of(network, seed=0, **values):
    mask = np.random.default_rng(seed).random(network.spec.size) < 0.3
    return Ticket(mask, network.initialization, network.initialization, "synflow", **values)


def own_model(input_shape, classes, *, width=4):
    return nn.Sequential(nn.Linear(input_shape[0], width), nn.Tanh(), nn.Linear(width, classes))


# --- scores


def test_the_score_is_the_fitness_and_nan_before_evaluation():
    ticket = Ticket(np.ones(3, dtype=bool))
    assert np.isnan(ticket.score)
    assert ticket.rung == 0
    assert not ticket.diverged
    ticket.fitness.values = (200, -0.25)
    assert ticket.score == -0.25
    assert ticket.rung == 200
    assert not ticket.diverged


def test_a_ticket_whose_fitness_is_minus_infinity_diverged():
    ticket = Ticket(np.ones(3, dtype=bool))
    ticket.fitness.values = (0, float("-inf"))
    assert ticket.diverged
    assert ticket.score == float("-inf")


def test_larger_fitness_is_better():
    better, worse, diverged = (TicketFitness((0, score)) for score in (-0.1, -0.2, float("-inf")))
    assert better > worse > diverged


def test_a_higher_rung_comes_before_any_score():
    assert TicketFitness((800, -9)) > TicketFitness((200, -0.1)) > TicketFitness((200, -0.2))
    assert TicketFitness((50, -9)) > TicketFitness((0, float("-inf")))


def test_tickets_do_not_share_their_fitness_or_measures():
    first, second = Ticket(np.ones(3, dtype=bool)), Ticket(np.ones(3, dtype=bool))
    first.fitness.values = (0, 1.0)
    first.measures["accuracy"] = 0.5
    assert not second.fitness.valid
    assert second.measures == {}
    assert first != second  # a ticket is itself, not its values
    assert first.digest == second.digest == digest(np.ones(3, dtype=bool))


def test_scores_hold_measures_of_their_own():
    values = np.zeros(2)
    Scores(values).measures["a"] = values
    assert Scores(values).measures == {}


def test_scores_carry_rungs_agreements_and_phases_and_what_is_computed_from_them_does_not():
    agreement = Agreement(50, 200, 3, 1, 0)
    scores = Scores([1.0, 2.0], rungs=[50, 200], agreements=[agreement], phases={"training": 2})
    assert scores.tolist() == [1, 2]
    assert scores.rungs.tolist() == [50, 200]
    assert (scores.agreements, scores.phases) == ([agreement], {"training": 2.0})
    for other in (scores + 1, scores[:1], Scores(scores)):
        assert (other.rungs, other.agreements, other.phases) == (None, [], {})
    assert scores.rungs is not None


def test_agreements_become_plain_numbers_that_a_run_can_hold():
    scores = Scores([1.0], agreements=[tuple(np.arange(5))])
    assert scores.agreements == [Agreement(0, 1, 2, 3, 4)]
    assert json.loads(json.dumps(scores.agreements)) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("rungs", "word"), [([50.0, 200.0], "float64"), ([-1, 50], "-1")])
def test_rungs_that_are_no_steps_are_refused(rungs, word):
    refused(lambda: Scores([1.0, 2.0], rungs=rungs), "training steps, integers >= 0", word)


def test_tickets_give_their_masks_as_one_array():
    masks = np.random.default_rng(0).random((5, 11)) < 0.5
    tickets = Tickets(Ticket(mask) for mask in masks)
    assert np.array_equal(tickets.masks, masks)
    assert tickets.masks.dtype == np.bool_
    assert len(tickets) == 5


def test_masks_become_tickets_and_tickets_stay_themselves():
    masks = np.random.default_rng(0).random((5, 11)) < 0.5
    made = as_tickets(masks)
    assert np.array_equal(made.masks, masks)
    assert {ticket.operator for ticket in made} == {"given"}
    again = as_tickets(iter(made))
    assert isinstance(again, Tickets)
    assert all(a is b for a, b in zip(again, made, strict=True))


# --- files


@pytest.mark.parametrize(
    ("model", "scheme", "options"),
    [
        ("mlp:9,5", "kaiming_normal", {}),
        ("mlp:9", "orthogonal", {"activation": "tanh", "bias": False}),
        ("lenet_300_100", "xavier_uniform", {}),
    ],
)
def test_a_saved_ticket_brings_back_network_and_mask_to_the_bit(tiny, tmp_path, model, scheme, options):
    network = initialize(model, tiny, scheme, 5, **options)
    ticket = ticket_of(network)
    save_ticket(tmp_path / "a.safetensors", network, ticket)
    loaded = load_ticket(tmp_path / "a.safetensors")
    assert np.array_equal(loaded.mask, ticket.mask)
    assert loaded.mask.dtype == np.bool_
    assert not loaded.mask.flags.writeable
    assert loaded.network.spec == network.spec
    assert loaded.network.initialization == Initialization(scheme, 5)
    assert (loaded.network.name, dict(loaded.network.options)) == (model, options)
    assert (loaded.network.input_shape, loaded.network.classes) == ((7,), 3)
    wanted = network.parameters()
    found = loaded.network.parameters()
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].numpy().tobytes() == value.numpy().tobytes()
    assert torch.equal(loaded.network.module(tiny.x_test), network.module(tiny.x_test))


def test_the_path_may_be_text(tiny, tmp_path):
    network = initialize("mlp:5", tiny)
    save_ticket(str(tmp_path / "a.safetensors"), network, ticket_of(network))
    assert load_ticket(str(tmp_path / "a.safetensors")).mask.shape == (network.spec.size,)


def test_the_weights_are_those_of_the_network_not_of_its_scheme(tiny, tmp_path):
    network = initialize("mlp:5", tiny)
    with torch.no_grad():
        network.module.get_parameter("1.weight").mul_(-2)
        network.module.get_parameter("3.bias").fill_(0.5)
    save_ticket(tmp_path / "a.safetensors", network, ticket_of(network))
    found = load_ticket(tmp_path / "a.safetensors").network.parameters()
    for name, value in network.parameters().items():
        assert torch.equal(found[name], value)


def test_the_metadata_say_what_the_ticket_is(tiny, tmp_path):
    network = initialize("mlp:9,5", tiny, "orthogonal", 7)
    ticket = ticket_of(network, key="abc", measures={"accuracy": 0.75})
    ticket.fitness.values = (200, -0.125)
    save_ticket(tmp_path / "a.safetensors", network, ticket)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        content = file.metadata()
        assert set(file.keys()) == {*network.parameters(), "mask"}
    assert (content["model"], content["scheme"], content["seed"]) == ("mlp:9,5", "orthogonal", "7")
    assert (content["operator"], content["key"], content["digest"]) == ("synflow", "abc", digest(ticket.mask))
    assert float(content["density"]) == density(ticket.mask)
    assert float(content["effective_density"]) == effective_density(ticket.mask, network.spec)
    assert (int(content["rung"]), float(content["fitness"])) == (200, -0.125)
    assert json.loads(content["measures"]) == {"accuracy": 0.75}
    assert content["spec"] == network.spec.signature


@pytest.mark.parametrize("scheme", ["as_built", "kaiming_uniform"])
def test_a_factory_of_ones_own_is_given_again(tiny, tmp_path, scheme):
    network = initialize(own_model, tiny, scheme, 3, width=6)
    ticket = ticket_of(network)
    save_ticket(tmp_path / "a.safetensors", network, ticket)
    loaded = load_ticket(tmp_path / "a.safetensors", factory=own_model)
    assert np.array_equal(loaded.mask, ticket.mask)
    assert loaded.network.initialization == Initialization(scheme, 3)
    for name, value in network.parameters().items():
        assert torch.equal(loaded.network.parameters()[name], value)
    refused(lambda: load_ticket(tmp_path / "a.safetensors"), "unknown model 'own_model'")


def test_a_factory_of_another_network_is_refused(tiny, tmp_path):
    network = initialize(own_model, tiny, width=6)
    path = tmp_path / "a.safetensors"
    save_ticket(path, network, ticket_of(network))

    def wider(input_shape, classes, *, width=4):
        return own_model(input_shape, classes, width=width + 1)

    def other_activation(input_shape, classes, *, width=4):
        linear, _, last = own_model(input_shape, classes, width=width)
        return nn.Sequential(linear, nn.Sigmoid(), last)

    refused(lambda: load_ticket(path, factory=wider), "wider", "parameters are not those")
    # The same tensors, but units without inputs are now not zero: other masks are isomorphic.
    refused(lambda: load_ticket(path, factory=other_activation), str(path), "another network")


def test_a_network_with_another_initialization_than_the_ticket_is_refused(tiny, tmp_path):
    network = initialize("mlp:5", tiny, seed=1)
    other = ticket_of(initialize("mlp:5", tiny, seed=2))
    path = tmp_path / "a.safetensors"
    refused(lambda: save_ticket(path, network, other), "seed=1", "seed=2")
    assert not path.exists()


def test_a_mask_of_another_network_is_not_saved(tiny, tmp_path):
    network = initialize("mlp:5", tiny)
    path = tmp_path / "a.safetensors"
    refused(
        lambda: save_ticket(path, network, Ticket(np.ones(3, dtype=bool))), f"({network.spec.size},)", "(3,)"
    )
    assert not path.exists()


def test_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "none.safetensors"
    refused(lambda: load_ticket(path), "no ticket file", str(path))


def test_a_folder_is_refused(tmp_path):
    refused(lambda: load_ticket(tmp_path), str(tmp_path))


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_a_torn_file_is_refused(tiny, tmp_path, kept):
    network = initialize("mlp:5", tiny)
    path = tmp_path / "a.safetensors"
    save_ticket(path, network, ticket_of(network))
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    refused(lambda: load_ticket(path), str(path), "torn")


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"PK\x03\x04" + bytes(1000))
    refused(lambda: load_ticket(path), str(path), "torn")
    save_file({"weight": torch.zeros(3)}, path)
    refused(lambda: load_ticket(path), str(path), "no ticket", "None")
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "ticketsearch-ticket-1"})
    refused(lambda: load_ticket(path), str(path), "no ticket")


def test_a_ticket_file_without_some_of_its_metadata_is_refused(tiny, tmp_path):
    path = tmp_path / "a.safetensors"
    network = initialize("mlp:5", tiny)
    save_ticket(path, network, ticket_of(network))
    with safe_open(path, framework="pt") as file:
        content, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for missing in ("model", "options", "input_shape", "classes", "scheme", "seed", "spec"):
        save_file(tensors, path, metadata={k: v for k, v in content.items() if k != missing})
        refused(lambda: load_ticket(path), str(path), missing)
    save_file(tensors, path, metadata={**content, "classes": "three"})
    refused(lambda: load_ticket(path), str(path))
    save_file({**tensors, "mask": tensors["mask"][:-1].clone()}, path, metadata=content)
    refused(lambda: load_ticket(path), "packed mask")
