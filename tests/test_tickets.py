"""Tickets: their scores, and their files, which bring back network and mask to the bit."""

import contextlib
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import examples, refusal, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from ticketsearch.errors import BadInput
from ticketsearch.halving import Agreement
from ticketsearch.masks import density, digest, effective_density
from ticketsearch.models import Initialization, initialize
from ticketsearch.plugins import source_digest
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
    for other in (None, 5, "a\0b"):
        refused(lambda other=other: load_ticket(other), "given by its path")


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
    refused(lambda: load_ticket(path), str(path), "no whole ticket")


def test_a_ticket_file_without_some_of_its_metadata_is_refused(tiny, tmp_path):
    path = tmp_path / "a.safetensors"
    network = initialize("mlp:5", tiny)
    save_ticket(path, network, ticket_of(network))
    with safe_open(path, framework="pt") as file:
        content, tensors = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    for missing in ("model", "options", "input_shape", "classes", "scheme", "seed", "spec"):
        save_file(tensors, path, metadata={k: v for k, v in content.items() if k != missing})
        refused(lambda: load_ticket(path), str(path), missing)
    save_file(tensors, path, metadata={**content, "classes": "three"})
    refused(lambda: load_ticket(path), str(path))
    save_file({**tensors, "mask": tensors["mask"][:-1].clone()}, path, metadata=content)
    refused(lambda: load_ticket(path), "packed mask")


# --- files run no code


def altered(path, tensors=None, **content):
    """Write a ticket file again with other metadata, and other tensors where they are given."""
    with safe_open(path, framework="pt") as file:
        known, own = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    save_file(own | (tensors or {}), path, metadata=known | content)


OWN = (
    "from pathlib import Path\nPath('ran').touch()\nfrom torch import nn\n"
    "def build(input_shape, classes, *, width=4):\n"
    "    return nn.Sequential(nn.Linear(input_shape[0], width), nn.Tanh(), nn.Linear(width, classes))\n"
)


@pytest.fixture
def own_ticket(tiny, tmp_path, monkeypatch):
    """The file of a ticket whose model is a function of ``mine.py`` beside it; nothing says that it ran."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OWN)
    network = initialize(f"{tmp_path}/mine.py:build", tiny, "as_built", 3, width=5)
    save_ticket("a.safetensors", network, ticket_of(network))
    Path("ran").unlink()
    return Path("a.safetensors")


@pytest.mark.parametrize(
    ("model", "shape", "classes"),
    [
        ("sympy.utilities.autowrap:check_output", ["touch", "ran"], "0"),
        ("subprocess:check_output", ["touch", "ran"], "3"),
        ("os.path:exists", [7], "3"),
        ("theirs.py:f", [7], "3"),
        ("/no/such/file.py:f", [7], "3"),
        ("mlp:9:theirs.py:f", [7], "3"),
        ("odd:theirs.py:f", [7], "3"),
    ],
)
def test_a_ticket_that_names_code_runs_nothing(tiny, tmp_path, monkeypatch, model, shape, classes):
    monkeypatch.chdir(tmp_path)
    Path("theirs.py").write_text("open('ran', 'w')\n")
    Path("odd:theirs.py").write_text("open('ran', 'w')\n")
    network = initialize("mlp:9", tiny)
    save_ticket("a.safetensors", network, ticket_of(network))
    altered("a.safetensors", model=model, input_shape=json.dumps(shape), classes=classes)
    refused(lambda: load_ticket("a.safetensors"), "a.safetensors")
    assert not Path("ran").exists()


def test_a_ticket_of_an_own_model_says_how_it_is_loaded(own_ticket):
    message = refusal(load_ticket, own_ticket)
    assert message == (
        "a ticket file runs no code, but 'a.safetensors' names the model 'mine.py:build'; give the function "
        "that builds it, load_ticket(path, factory=…), or trust=True after reading that code"
    )
    assert not Path("ran").exists()
    trusted = load_ticket(own_ticket, trust=True)
    assert Path("ran").exists()
    given = load_ticket(own_ticket, factory=own_model)
    named = load_ticket(own_ticket, f"{Path.cwd()}/mine.py:build")
    for loaded in (trusted, given, named):
        assert loaded.network.parameters()["0.weight"].shape == (5, 7)
        assert np.array_equal(loaded.mask, trusted.mask)
    Path("elsewhere").mkdir()
    Path("mine.py").rename("elsewhere/mine.py")
    refused(lambda: load_ticket(own_ticket, trust=True), "no file 'mine.py'")
    assert load_ticket(own_ticket, "elsewhere/mine.py:build").network.source == trusted.network.source


def test_a_ticket_holds_its_own_models_path_as_relative_and_the_digest_of_its_text(own_ticket):
    with safe_open(own_ticket, framework="pt") as file:
        content = file.metadata()
    assert content["model"] == "mine.py:build"
    assert content["source"] == source_digest("mine.py:build") != ""


def test_what_was_loaded_and_what_was_pruned_can_be_saved(tiny, tmp_path):
    network = initialize("mlp:5", tiny, seed=2)
    mask = np.random.default_rng(0).random(network.spec.size) < 0.3
    save_ticket(tmp_path / "a.safetensors", network, mask)
    first = load_ticket(tmp_path / "a.safetensors")
    save_ticket(tmp_path / "b.safetensors", *first)
    again = load_ticket(tmp_path / "b.safetensors")
    assert np.array_equal(again.mask, mask)
    assert again.network.initialization == network.initialization
    for name, value in network.parameters().items():
        assert torch.equal(again.network.parameters()[name], value)
    refused(lambda: save_ticket(tmp_path / "c.safetensors", network, mask * 2.5), "True and False")
    refused(lambda: save_ticket(tmp_path / "c.safetensors", None, mask), "takes a Network", "NoneType")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_a_ticket_file_has_the_mode_that_files_get_here(tiny, tmp_path):
    network = initialize("mlp:5", tiny)
    before = os.umask(0o027)
    try:
        save_ticket(tmp_path / "a.safetensors", network, ticket_of(network))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("input_shape", text) for text in ("5", "null", '["a"]', "[-64]", "[100000000000]", "[" * 100_000)),
        *(("input_shape", text) for text in ("[]]", "[true]", "[7.0]", "[4096, 4096, 2]", "[8]", "[]")),
        *(("options", text) for text in ("[1]", "3", "null", '{"width": null}', '{"input_shape": [7]}')),
        *(("options", text) for text in ('{"width": 1e9}', '{"width": 1e999}', '{"hidden": "3"}')),
        *(("classes", text) for text in ("-1", "0", "1" + "0" * 30, "4", "2.0", "true", "three", "9" * 5000)),
        *(("seed", text) for text in ("-1", "1" + "0" * 30, "1.5", "")),
        *(("scheme", text) for text in ("unknown", "", "sparse\nsparse", "as_built ")),
        *(("model", text) for text in ("mlp:100000,100000", "mlp", "mlp:x", "", "lenet5", "vgg16_bn")),
        ("model", "mlp:" + "3," * 3000 + "3"),
        *(("spec", text) for text in ("", "other")),
        ("source", "no digest"),
        ("format", "ticketsearch-ticket-2"),
    ],
)
def test_metadata_that_no_ticket_has_are_refused_in_a_short_line(tiny, tmp_path, name, value):
    network = initialize("mlp:9", tiny)
    path = tmp_path / "a.safetensors"
    save_ticket(path, network, ticket_of(network))
    altered(path, **{name: value})
    message = refusal(load_ticket, path)
    assert len(message) < 700, len(message)
    factory = refusal if name not in ("model", "source", "options") else (lambda *a, **k: "")
    factory(load_ticket, path, factory=lambda shape, classes: nn.Linear(*shape, classes))


def test_weights_and_masks_that_no_ticket_has_are_refused(tiny, tmp_path):
    network = initialize("mlp:9", tiny)
    path, weight = tmp_path / "a.safetensors", network.parameters()["1.weight"]
    save_ticket(path, network, ticket_of(network))
    whole, bad = path.read_bytes(), weight.clone()
    bad[2, 3] = float("nan")
    size = (network.spec.size + 7) // 8
    for tensors, word in (
        ({"1.weight": bad}, "1.weight in"),
        ({"1.weight": weight.to(torch.int64)}, "torch.int64"),
        ({"1.weight": weight.double()}, "torch.float64"),
        ({"1.weight": weight.T.contiguous()}, "1.weight has shape (7, 9), but the model's has (9, 7)"),
        ({"more": weight.clone()}, "more is missing or unknown"),
        ({"mask": torch.zeros(size, dtype=torch.float32)}, "its mask is bytes"),
        ({"mask": torch.zeros(1, size, dtype=torch.uint8)}, "its mask is bytes"),
        ({"mask": torch.zeros(size + 1, dtype=torch.uint8)}, "packed mask"),
    ):
        path.write_bytes(whole)
        altered(path, tensors)
        refused(lambda: load_ticket(path), word)


def test_a_model_of_other_sizes_is_refused_before_it_is_built(tiny, tmp_path, monkeypatch):
    network = initialize("mlp:9", tiny)
    path = tmp_path / "a.safetensors"
    save_ticket(path, network, ticket_of(network))
    altered(path, model="mlp:900000,900000")

    def reset(layer):
        assert layer.weight.is_meta, "something was built"

    monkeypatch.setattr("torch.nn.Linear.reset_parameters", reset)
    refused(lambda: load_ticket(path), "the parameters are not those of model 'mlp:900000,900000'")


TEXTS = st.one_of(
    st.text(max_size=30),
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from(["mlp:9", "mlp:9,", "lenet5", "conv2", "resnet20", "as_built", "NaN", "1e400"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ).map(json.dumps),
    st.dictionaries(st.sampled_from(["width", "bias", "activation", "depth"]), st.integers()).map(json.dumps),
)
FIELDS = ("model", "options", "input_shape", "classes", "scheme", "seed", "spec", "source", "format")


@settings(max_examples=examples(30), deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), TEXTS, min_size=1, max_size=2))
def test_any_other_metadata_are_a_ticket_or_bad_input(tiny_ticket, changed):
    altered(tiny_ticket, **TINY_METADATA | changed)
    for factory in (None, own_model):
        with contextlib.suppress(BadInput):
            network, mask = load_ticket(tiny_ticket, factory)
            assert mask.shape == (network.spec.size,)


TINY_METADATA = {}


@pytest.fixture(scope="module")
def tiny_ticket(tiny, tmp_path_factory):
    """A ticket file to be altered; ``TINY_METADATA`` are those that make it whole again."""
    path = tmp_path_factory.mktemp("tiny_ticket") / "a.safetensors"
    network = initialize("mlp:3", tiny)
    save_ticket(path, network, ticket_of(network))
    with safe_open(path, framework="pt") as file:
        TINY_METADATA.update(file.metadata())
    return path
