"""The judge of traced networks: it finds planted faults, and the script says how many networks are wrong."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ticketsearch.models import initialize

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
if not (SCRIPTS / "network_checks").is_dir():
    pytest.skip("the scripts are not here", allow_module_level=True)
sys.path.append(str(SCRIPTS))

import check_networks  # noqa: E402

from network_checks.judge import Case, dataset_of, judged  # noqa: E402
from network_checks.small import SMALL  # noqa: E402


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.fixture
def case():
    dataset = dataset_of((6,), 3)
    return Case.of(initialize(lambda shape, classes: build(), dataset, scheme="as_built"), build, dataset)


def with_spec(case, **parts):
    """Return the case with another spec than the trace found."""
    return replace(case, wiring=replace(case.wiring, spec=replace(case.spec, **parts)))


def test_a_right_trace_violates_no_rule(case):
    assert judged(case, "abcdsr") == dict.fromkeys("abcdsr", "")


def test_pieces_of_groups_that_change_places_violate_rule_a(case):
    first, second, third = case.spec.pieces
    swapped = second._replace(target=second.source, source=second.target)
    assert "renumbering" in judged(with_spec(case, pieces=(first, swapped, third)), "a")["a"]


def test_a_bias_numbered_by_another_group_violates_rule_a(case):
    axes = dict(case.wiring.axes)
    axes["0.bias"], axes["2.bias"] = axes["2.bias"], axes["0.bias"]
    found = judged(replace(case, wiring=replace(case.wiring, axes=axes)), "a")["a"]
    assert found.startswith("renumbering all groups moves outputs by")


def test_live_weights_that_the_spec_calls_dead_violate_rule_b(case):
    *before, last = case.spec.nodes
    past_the_middle_layer = (*before, last._replace(inputs=(2,)))
    found = judged(with_spec(case, nodes=past_the_middle_layer), "b")["b"]
    assert "dead weights of" in found
    assert "move outputs by" in found


def test_training_what_is_frozen_violates_rule_c(case):
    case.original.module[0].weight.requires_grad_(False)
    assert "outputs differ from those of a plain loop" in judged(case, "c")["c"]


def test_keys_that_take_no_notice_of_the_weights_violate_rule_d(case, monkeypatch):
    monkeypatch.setattr("network_checks.judge.canonical_key", lambda mask, spec: "key")
    assert judged(case, "d")["d"] == "masks of other live weights have one key"


def test_a_pruner_that_keeps_one_too_few_violates_rule_e(case, monkeypatch):
    from ticketsearch import prune

    def one_less(network, name, **options):
        mask = prune(network, name, **options).copy()
        mask[mask.argmax()] = False
        return mask

    monkeypatch.setattr("network_checks.judge.prune", one_less)
    monkeypatch.setattr("network_checks.judge.SLOW_PRUNERS", ())
    assert judged(case, "e")["e"] == "random keeps 6 of 70 at density 0.1"


def test_scores_of_another_network_violate_rule_s(case):
    assert "scores differ" in judged(replace(case, original=_Twice(case.original)), "s")["s"]


class _Twice:
    """An original module whose first layer counts twice."""

    def __init__(self, original):
        self.original = original

    def flow_scores(self, tensors, x):
        scores = self.original.flow_scores(tensors, x)
        return scores | {"0.weight": 2 * scores["0.weight"]}


def test_names_of_small_networks_are_of_every_verdict():
    assert {small.verdict for small in SMALL.values()} == {"traced", "refused", "either"}


def test_the_script_exits_with_0_where_nothing_is_wrong(capsys):
    assert (
        check_networks.main(["--packages", "small", "--only", "re[sf]*", "--rules", "ab", "--limit", "0"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "residual" in printed
    assert "small: 2 traced of 2, 0 wrong" in printed


def test_the_script_exits_with_1_where_a_network_is_traced_that_has_no_trace(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(SMALL, "residual", SMALL["residual"]._replace(verdict="refused"))
    file = tmp_path / "found.json"
    arguments = ["--packages", "small", "--only", "residual", "--rules", "", "--limit", "0"]
    assert check_networks.main([*arguments, "--json", str(file)]) == 1
    assert "small: 1 traced of 1, 1 wrong" in capsys.readouterr().out
    assert json.loads(file.read_text())[0]["wrong"] == "traced, though no trace can be right"


def test_a_missing_package_is_named_and_its_networks_are_skipped(capsys, monkeypatch):
    monkeypatch.setattr(check_networks, "available", lambda package: "not installed")
    assert check_networks.main(["--packages", "timm", "--only", "resnet18"]) == 0
    assert "timm: 1 networks skipped, as the package is not here (not installed)" in capsys.readouterr().out
