"""Searches that end early: keys say so, and masks are then compared pair by pair, never wrongly."""

from __future__ import annotations

import itertools
from functools import partial

import networkx as nx
import numpy as np
import pytest
from conftest import every
from networks import PIECEWISE, mlp, residual, shuffled
from test_canonical import around, circulant, cycles, nauty_certificate, patterned, rook, shrikhande

from ticketsearch.canonical import canonical_identity, canonical_key, isomorphic
from ticketsearch.canonical import isomorphism as comparison
from ticketsearch.canonical.search_tree import Exhausted
from ticketsearch.errors import BadInput
from ticketsearch.masks import live
from ticketsearch.tickets import Ticket
from ticketsearch.tickets.duplicates import Seen

pytestmark = pytest.mark.slow


def cai_furer_immerman(base, twisted):
    """Return the block of a CFI graph: even subsets of each vertex's edges (of one vertex odd ones if
    ``twisted``) by two ends of each edge. Refinement cannot tell the two, whatever cells it begins with."""
    edges = list(base.edges)
    rows = []
    for vertex in base:
        own = [number for number, edge in enumerate(edges) if vertex in edge]
        odd = twisted and vertex == next(iter(base))
        for bits in itertools.product([0, 1], repeat=len(own)):
            if sum(bits) % 2 == odd:
                row = np.zeros((len(edges), 2), dtype=bool)
                row[own, bits] = True
                rows.append(row.ravel())
    return np.array(rows)


def incidence(relation):
    """Return the block (edges, vertices) of a symmetric relation."""
    ends = np.argwhere(np.triu(relation))
    return (ends[:, :, None] == np.arange(len(relation))).any(axis=1)


HARD = {
    "CFI of K4": [cai_furer_immerman(nx.complete_graph(4), twisted) for twisted in (False, True)],
    "CFI of Petersen": [cai_furer_immerman(nx.petersen_graph(), twisted) for twisted in (False, True)],
    "strongly regular": [incidence(rook(4)), incidence(shrikhande())],
    "rings": [cycles(12), cycles(6, 6)],
    "more rings": [cycles(8, 8, 16), cycles(8, 12, 12)],
}


@pytest.mark.parametrize("name", HARD)
def test_pairs_that_no_refinement_tells_apart_have_other_keys(name):
    (spec, first), (_, second) = (around(block) for block in HARD[name])
    keys = [canonical_key(mask, spec) for mask in (first, second)]
    assert keys[0] != keys[1]
    assert nauty_certificate(first, spec) != nauty_certificate(second, spec)
    for seed in range(3):
        copies = [shuffled(mask, spec, np.random.default_rng(seed)) for mask in (first, second)]
        assert [canonical_key(mask, spec) for mask in copies] == keys


@pytest.mark.parametrize(
    "name",
    every([name for name in HARD if "Petersen" not in name], default=lambda name: name != "strongly regular"),
)
@pytest.mark.parametrize("budget", every([0, 5], default=[0]))
def test_a_search_without_budget_says_so_and_isomorphism_stays_exact(name, budget):
    (spec, first), (_, second) = (around(block) for block in HARD[name])
    copy = shuffled(first, spec, np.random.default_rng(0))
    assert not canonical_identity(first, spec, budget=0).exact
    assert isomorphic(first, copy, spec, budget=budget)
    assert not isomorphic(first, second, spec, budget=budget)
    assert not isomorphic(copy, second, spec, budget=budget)


def test_only_what_is_unsettled_is_given_to_vf2pp(monkeypatch):
    """The cycle of 12 units, and none of the other 98."""
    rng = np.random.default_rng(0)
    spec = mlp(30, 60, 50, 4)
    parts = {layer.name: rng.random(layer.shape) < 0.5 for layer in spec.layers}
    ring = cycles(12)
    parts["fc0.weight"][:6] = True
    parts["fc1.weight"][:6, 6:], parts["fc1.weight"][6:, :6] = False, False
    parts["fc1.weight"][:6, :6] = ring
    parts["fc2.weight"][:, :6] = True
    mask = spec.join(parts)
    sizes = []
    search = nx.vf2pp_is_isomorphic

    def measured(*graphs, **options):
        sizes.extend(len(graph) for graph in graphs)
        return search(*graphs, **options)

    monkeypatch.setattr(nx, "vf2pp_is_isomorphic", measured)
    assert isomorphic(mask, shuffled(mask, spec, rng), spec, budget=0)
    assert sizes == [12, 12]


def test_buckets_and_the_parts_of_keys_do_not_depend_on_the_budget():
    for block in (*HARD["rings"], *HARD["CFI of K4"], rook(4)):
        spec, mask = around(block)
        copies = [shuffled(mask, spec, np.random.default_rng(seed)) for seed in range(3)]
        found = [canonical_identity(copy, spec, budget=n) for copy in copies for n in (0, 2, 20, None)]
        assert len({identity.bucket for identity in found}) == 1
        assert all(identity.searched for identity in found)
        assert len({identity.key for identity in found if identity.exact}) == 1
        assert {identity.key for identity in found if not identity.exact} <= {f"{found[0].bucket}-"}
        assert found[-1].key == canonical_key(mask, spec)


def test_what_refinement_settles_needs_no_budget():
    spec = mlp(5, 30, 20, 3)
    mask = np.random.default_rng(0).random(spec.size) < 0.3
    found = canonical_identity(mask, spec, budget=0)
    assert found.exact
    assert not found.searched
    assert found.key == found.bucket == canonical_key(mask, spec)
    assert canonical_identity(np.ones(spec.size), spec, budget=0).exact, "twins need no search"


def tied(relation):
    """Return spec and mask of a group joined to itself, with all inputs and outputs attached."""
    spec = residual(1, len(relation), 1)
    ends = np.ones(len(relation), dtype=bool)
    return spec, np.concatenate([ends, np.asarray(relation, dtype=bool).ravel(), ends])


ALIKE = {
    "directed rings": [tied(circulant(8, {1})), tied(np.kron(np.eye(2), circulant(4, {1})))],
    "tournaments": [tied(circulant(7, {1, 2, 4})), tied(circulant(7, {1, 2, 3}))],
    "strongly regular": [tied(rook(4)), tied(shrikhande())],
    "rings of kernels": [
        patterned(3 * circulant(6, {0}) + 5 * circulant(6, {1}), 3),
        patterned(np.kron(np.eye(2, dtype=int), 3 * circulant(3, {0}) + 5 * circulant(3, {1})), 3),
    ],
    "kernels change places": [
        patterned(3 * circulant(5, {0, 1}) + 5 * circulant(5, {2, 3}), 3),
        patterned(3 * circulant(5, {0, 2}) + 5 * circulant(5, {1, 3}), 3),
    ],
}


@pytest.mark.parametrize("name", ALIKE)
def test_vf2pp_sees_labels_and_directions(name, monkeypatch):
    def exhausted(*_):
        raise Exhausted

    (spec, first), (_, second) = ALIKE[name]
    copies = [shuffled(mask, spec, np.random.default_rng(0)) for mask in (first, second)]
    keys = [canonical_key(mask, spec) for mask in (first, second)]
    monkeypatch.setattr(comparison, "canonical_sequence", exhausted)
    assert isomorphic(first, copies[0], spec)
    assert isomorphic(second, copies[1], spec)
    assert isomorphic(first, copies[1], spec) == (keys[0] == keys[1])


@pytest.mark.parametrize("spec", [residual(1, 5, 1), mlp(1, 4, 4, 1), *PIECEWISE.values()])
def test_vf2pp_decides_as_keys_do_where_nothing_may_be_searched(spec, monkeypatch):
    def exhausted(*_):
        raise Exhausted

    rng = np.random.default_rng(0)
    masks = []
    for _ in range(25):
        mask = rng.random(spec.size) < 0.6
        mask[spec.layers[0].slice] = mask[spec.layers[-1].slice] = True
        masks.append(live(mask, spec))
    keys = [canonical_key(mask, spec) for mask in masks]
    monkeypatch.setattr(comparison, "canonical_sequence", exhausted)
    for i, j in itertools.combinations_with_replacement(range(len(masks)), 2):
        copy = shuffled(masks[j], spec, rng)
        assert isomorphic(masks[i], copy, spec) == (keys[i] == keys[j])


@pytest.mark.parametrize("budgets", [(0,), (None,), (0, None), (3, 0, 40)])
def test_each_network_is_admitted_once_whatever_the_budget(budgets):
    """The same network may be settled in one numbering and not in another; here budgets take turns."""
    turns = itertools.cycle(budgets)
    spec = around(cycles(12))[0]
    blocks = [cycles(12), cycles(6, 6), cycles(4, 8), cycles(4, 4, 4), np.ones((6, 6))]

    def key(mask, spec):
        return canonical_identity(mask, spec, budget=next(turns))

    seen = Seen(spec, key)
    kept, refused = [], []
    rng = np.random.default_rng(0)
    for _ in range(3):
        for block in blocks:
            ticket = Ticket(shuffled(around(block)[1], spec, rng))
            (kept if seen.admit(ticket) else refused).append(ticket)
    assert len(kept) == len(blocks)
    assert len({ticket.key for ticket in kept}) == len(blocks)
    assert {ticket.key for ticket in refused} == {ticket.key for ticket in kept}
    for ticket, block in zip(kept, blocks, strict=True):
        assert isomorphic(ticket.mask, around(block)[1], spec)


def test_what_was_seen_before_is_compared_with_too():
    spec, mask = around(cycles(12))
    other = around(cycles(6, 6))[1]
    first = Seen(spec, partial(canonical_identity, budget=0))
    ticket = Ticket(mask)
    assert first.admit(ticket)
    assert not ticket.exact
    later = Seen(spec, partial(canonical_identity, budget=0), keys=[ticket.key], searched=[ticket])
    assert not later.admit(Ticket(shuffled(mask, spec, np.random.default_rng(0))))
    assert later.admit(Ticket(other))
    settled = Seen(spec, keys=[ticket.key], searched=[ticket])
    assert not settled.admit(Ticket(shuffled(mask, spec, np.random.default_rng(0))))
    assert settled.admit(Ticket(other))


def test_a_budget_is_a_number_of_nodes():
    spec, mask = around(cycles(12))
    with pytest.raises(BadInput, match=r"budget .* >= 0, but got -1"):
        canonical_identity(mask, spec, budget=-1)
