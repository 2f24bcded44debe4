"""Short representations: one line of name, sizes and score, however large the object."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import ticketsearch as ts
from ticketsearch.comparison import Comparison, FoundMask, MethodResult
from ticketsearch.overlap import overlap_study
from ticketsearch.overlap_studies import Case, Overlaps
from ticketsearch.settings import Settings
from ticketsearch.tickets import Assessment

LENGTH = 120


@pytest.fixture(scope="module")
def network():
    return ts.initialize("mlp:300,100", SimpleNamespace(input_shape=(1, 28, 28), classes=10), seed=7)


def short(value):
    text = repr(value)
    assert "\n" not in text
    assert len(text) < LENGTH
    return text


def test_a_network_is_its_name_its_sizes_and_its_initialization(network):
    assert short(network) == (
        "Network('mlp:300,100', 266,200 weights in 3 layers, 10 classes, kaiming_normal 7)"
    )
    long = ts.Network("folder/" * 40, *(getattr(network, n) for n in list(vars(network))[1:7]))
    assert short(long).startswith("Network('folder/folder/")


def test_a_ticket_is_its_weights_and_its_score(network):
    mask = np.zeros(network.spec.size, dtype=bool)
    mask[:2662] = True
    ticket = ts.Ticket(mask, network.initialization, operator="swap_mutation", number=1234)
    assert short(ticket) == (
        "Ticket(1234, 2,662 of 266,200 weights, density 0.01, score not evaluated, 'swap_mutation')"
    )
    ticket.add_evaluation(Assessment(1, 0, 0.98765, {"accuracy": 0.9}))
    assert "score 0.9877" in short(ticket)
    assert len(short(ts.Ticket(mask, operator="x" * 300))) < LENGTH


def test_a_generation_is_its_number_its_tickets_and_their_scores(network):
    mask = np.ones(network.spec.size, dtype=bool)
    tickets = ts.Tickets(ts.Ticket(mask) for _ in range(64))
    statistics = {"best": 0.98765, "mean": 0.9, "worst": 0.1}
    generation = ts.Generation(12, tickets, tickets[:32], statistics=statistics)
    assert short(generation) == (
        "Generation(12, 64 tickets, 32 offspring, best score 0.9877, mean score 0.9)"
    )
    assert short(ts.Generation(0, ts.Tickets(), ts.Tickets())) == "Generation(0, 0 tickets, 0 offspring)"


def test_a_comparison_is_its_name_and_its_numbers():
    masks = {number: FoundMask(np.ones(10_000, dtype=bool)) for number in range(8)}
    results = tuple(
        MethodResult(method, density, dict.fromkeys(masks, 0.5), masks)
        for density in (0.05, 0.02, 0.01)
        for method in ("synflow", "evolution")
    )
    assert short(Comparison("mine", Settings(), 5, results, ())) == (
        "Comparison('mine', 2 methods, 8 initializations, 5 data orders, density 0.05 to 0.01)"
    )
    one = Comparison("x" * 300, Settings(), 1, results[:1], ())
    assert short(one).endswith("1 method, 8 initializations, 1 data order, density 0.05)")
    empty = Comparison("empty", Settings(), 0, (), ())
    assert short(empty) == "Comparison('empty', 0 methods, 0 initializations, 0 data orders)"


def test_overlaps_are_their_name_and_their_numbers(network):
    rng = np.random.default_rng(0)
    masks = rng.random((3, network.spec.size)) < 0.1
    study = overlap_study(masks, network.spec, draws=2, aligned_draws=0)
    case = Case("initializations", "synflow at density 0.1 " * 9, "synflow", 0.1, study)
    overlaps = Overlaps("mine", {}, network.spec, (1, 28, 28), (case,) * 5)
    assert short(overlaps) == "Overlaps('mine', 5 sets of up to 3 masks, 266,200 weights)"
    raw, aligned = study.mean(study.iou), study.mean(study.aligned)
    assert short(study) == f"OverlapStudy(3 masks, IoU {raw:.4f} raw and {aligned:.4f} aligned)"
    assert short(case).startswith("Case('synflow at density 0.1")
