"""``ticketsearch prune``: the table, the JSON object, the ticket file, and what bad input comes to."""

import json
import re

import numpy as np
import pytest
import test_cli
from conftest import every

from ticketsearch import initialize, load_ticket, prune
from ticketsearch.datasets import from_arrays, load_dataset
from ticketsearch.experiment import Search
from ticketsearch.masks import effective_density, layer_counts, live_units
from ticketsearch.pruners import Copies, flow_retention
from ticketsearch.pruners import __all__ as pruners
from ticketsearch.pruners.flow import FlowNetwork
from ticketsearch.pruners.retention import retention_kind
from ticketsearch.report.text import mask_lines
from ticketsearch.settings import load
from ticketsearch.theory import mask_table

pytestmark = pytest.mark.slow

shell, refused = test_cli.shell, test_cli.refused

HEADINGS = ("layer", "weights", "kept", "density", "effective", "live neurons", "flow share")
SMALL = ("prune", "--model", "mlp:20,10", "--density", "0.05")


def told(result):
    """Return the JSON object of a command that went well."""
    code, out, err = result
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_mask_is_that_of_the_first_seed_of_a_search_with_the_same_settings(shell):
    flags = [*SMALL, "--method", "snip", "--seed", "4", "--json"]
    content = told(shell(*flags))
    settings = load(
        None,
        [
            *(
                ("model.name", "mlp:20,10"),
                ("seeding.density", 0.05),
                ("seeding.method", "snip"),
                ("seed", 4),
            ),
            ("seeding.initializations", 1),
        ],
    )
    search = Search.prepare(settings)
    (seed,) = search.seeds
    found = load_ticket(content["ticket"])
    assert np.array_equal(found.mask, seed.mask)
    assert found.network.initialization == search.network.initialization
    assert content["digest"] == seed.digest
    assert content["key"] == seed.key
    for name, tensor in search.network.parameters().items():
        assert tensor.equal(found.network.parameters()[name])


def test_scheme_and_seed_of_the_initialization_can_be_chosen(shell):
    drawn = told(shell(*SMALL, "--json", "--output", "a"))["initialization"]
    chosen = told(shell(*SMALL, "--json", "--scheme", "orthogonal", "--init-seed", "9", "--output", "b"))
    assert drawn["scheme"] == "kaiming_normal"
    assert chosen["initialization"] == {"scheme": "orthogonal", "seed": 9}
    network = initialize("mlp:20,10", load_dataset("digits"), "orthogonal", 9)
    assert load_ticket("b").network.parameters()["1.weight"].equal(network.parameters()["1.weight"])
    other = told(shell(*SMALL, "--json", "--scheme", "orthogonal", "--output", "c"))["initialization"]
    assert other == {"scheme": "orthogonal", "seed": drawn["seed"]}
    (code, out, _) = shell(*SMALL, "--scheme", "orthogonal", "--init-seed", "9", "--output", "d")
    assert code == 0
    assert "initialization orthogonal, seed 9" in out


def test_json_tells_each_layer_exactly(shell):
    content = told(shell(*SMALL, "--json"))
    network, mask = load_ticket(content["ticket"])
    spec = network.spec
    counts = layer_counts(mask, spec)
    assert [layer["name"] for layer in content["layers"]] == ["1.weight", "3.weight", "5.weight"]
    assert [layer["weights"] for layer in content["layers"]] == [1280, 200, 100]
    assert [layer["kept"] for layer in content["layers"]] == counts.tolist()
    live = list(live_units(mask, spec, constants=False).values())[1:]
    assert [layer["live_neurons"] for layer in content["layers"]] == [int(units.sum()) for units in live]
    assert [layer["neurons"] for layer in content["layers"]] == [20, 10, 10]
    assert (content["live_neurons"], content["neurons"]) == (sum(int(units.sum()) for units in live), 40)
    scores = FlowNetwork(Copies([network]), [np.arange(spec.size)]).scores()[0]
    for layer, told_of in zip(spec.layers, content["layers"], strict=True):
        own = scores[layer.slice]
        assert told_of["flow_share"] == pytest.approx(own[mask[layer.slice]].sum() / own.sum(), rel=1e-12)
        assert told_of["density"] == told_of["kept"] / told_of["weights"]
    effective = sum(layer["effective_density"] * layer["weights"] for layer in content["layers"])
    assert effective / spec.size == pytest.approx(effective_density(mask, spec), rel=1e-12)
    assert content["requested_density"] == 0.05
    assert content["density"] == 79 / 1580
    assert content["compression"] == 1580 / 79
    assert content["effective_density"] == effective_density(mask, spec)
    retention = flow_retention(mask, network)
    assert content["flow_retention"]["value"] == pytest.approx(retention.value, rel=1e-12)
    assert content["flow_retention"]["kind"] == retention.kind == "bound"
    assert content["empty_layers"] == []
    assert content["disconnected"] is False
    assert (content["steps"], content["scope"], content["schedule"], content["batch"]) == (
        *(100, "global", "exponential"),
        256,
    )


def test_the_table_has_a_row_a_layer_and_what_it_comes_to_below(shell, tmp_path):
    code, out, err = shell("prune", "--density", "0.02")
    assert (code, err) == (0, "")
    first, second, *lines = out.splitlines()
    assert re.fullmatch(
        r"digits, mlp:100,50: 11,900 weights in 3 layers; initialization kaiming_normal, seed \d+", first
    )
    assert second == "synflow, 100 cuts, exponential, global scope"
    assert re.split("  +", lines[0]) == ["", *HEADINGS]
    for line, name in zip(lines[1:5], ("1.weight", "3.weight", "5.weight", "total"), strict=True):
        share = "-" if name == "total" else r"0\.\d+"
        assert re.fullmatch(rf"  {name} +[\d,]+ +\d+ +0\.\d+ +0\.\d+ +\d+/\d+ +{share}", line)
    text = "\n".join(lines[5:])
    assert "Density: 0.02 requested, 0.02 achieved (238 of 11,900 weights), compression ratio ρ = 50" in text
    assert re.search(r"^Effective density: 0\.01\d+ ", text, re.MULTILINE)
    assert re.search(r"^Flow retention R/R\*: at least 0\.\d+ \(bound: ", text, re.MULTILINE)
    assert "Layer collapse: none" in text
    assert "Disconnected: no" in text
    assert "Ticket: synflow-0.02.safetensors" in text
    assert (tmp_path / "synflow-0.02.safetensors").is_file()


@pytest.mark.parametrize("method", ["magnitude", "random", "balanced_synflow", "grasp"])
def test_layer_collapse_and_disconnection_are_told_as_such_and_not_warned_of(shell, method):
    flags = ("prune", "--model", "mlp:60,40", "--method", method, "--density", "0.0006")
    code, out, err = shell(*flags)
    assert (code, err) == (0, "")
    content = told(shell(*flags, "--json", "--force"))
    assert content["kept"] == 4
    if content["empty_layers"]:
        empty = ", ".join(content["empty_layers"])
        assert f"Layer collapse: {len(content['empty_layers'])} of 3 layers are empty: {empty}" in out
    else:
        assert "Layer collapse: none" in out
    assert ("Disconnected: yes" in out) == content["disconnected"]
    if content["disconnected"]:
        assert "Flow retention R/R*: 0 (exact: no flow)" in out
        assert content["flow_retention"]["log2_flow"] is None
        assert content["effective_density"] == 0


def test_a_dense_mask_keeps_everything(shell):
    content = told(shell("prune", "--model", "mlp:12", "--density", "1", "--json"))
    assert content["flow_retention"] == {
        "value": 1.0,
        "kind": "exact",
        "log2_flow": pytest.approx(content["flow_retention"]["log2_best_flow"]),
        "log2_best_flow": content["flow_retention"]["log2_best_flow"],
    }
    assert all(layer["flow_share"] == 1 for layer in content["layers"])
    assert (content["live_neurons"], content["effective_density"]) == (22, 1)


def test_settings_come_from_a_file_then_set_then_flags(shell, tmp_path):
    (tmp_path / "s.toml").write_text(
        'seed = 3\n[model]\nname = "mlp:9"\n[seeding]\nmethod = "random"\ndensity = 0.5\n'
        'options = {distribution = "erk"}\nscope = "layer"\n'
    )
    content = told(shell("prune", "s.toml", "--set", "seeding.density=0.4", "--density", "0.3", "--json"))
    assert content["model"]["name"] == "mlp:9"
    assert content["method"] == "random"
    assert content["options"] == {"distribution": "erk"}
    assert (content["seed"], content["scope"], content["requested_density"]) == (3, "layer", 0.3)
    assert content["steps"] == 1
    biased = shell(*SMALL, "--set", "seeding.options.biases=true", "--json", "--output", "biased")
    assert told(biased)["options"] == {"biases": True}


def test_schedule_steps_and_batch_reach_the_pruner(shell, digits):
    flags = (*SMALL, "--method", "snip", "--init-seed", "1", "--force", "--json")
    content = told(shell(*flags, "--steps", "3", "--batch", "20", "--schedule", "linear"))
    assert (content["steps"], content["batch"], content["schedule"]) == (3, 20, "linear")
    network, few = load_ticket(content["ticket"])
    # A batch of all samples is the same for any seed.
    exact = ("--set", "seeding.options.precision=float64")
    every = prune(network, "snip", density=0.05, dataset=digits, batch=2000, seed=7, precision="float64")
    content = told(shell(*flags, "--batch", "2000", *exact))
    assert content["steps"] == 1
    assert np.array_equal(load_ticket(content["ticket"]).mask, every)
    assert not np.array_equal(few, every)
    assert told(shell(*flags, "--schedule", "one_shot", "--steps", "9"))["steps"] == 1


KINDS = {"mlp:9": "exact", "mlp:9,8": "bound", "lenet5": "search", "resnet20": "search"}
NARROW = {"lenet5": {"width": 0.5}, "resnet20": {"depth": 8, "width": 0.25}}


@pytest.mark.parametrize("model", every(KINDS, default=["mlp:9", "mlp:9,8", "lenet5"]))
def test_how_the_best_flow_is_known_is_told_without_a_search(model, digits):
    images = np.random.default_rng(0).normal(size=(40, 3, 12, 12))
    data = from_arrays("images", images, np.arange(40) % 4) if model in NARROW else digits
    network = initialize(model, data, **NARROW.get(model, {}))
    mask = prune(network, "synflow", density=0.3, steps=5)
    kind = flow_retention(mask, network).kind
    assert kind == KINDS[model]
    assert retention_kind(network) == kind
    quick, slow = mask_table(mask, network), mask_table(mask, network, search=True)
    assert (quick.retention is None) == (kind == "search")
    assert slow.retention.kind == kind
    (line,) = [line for line in mask_lines(slow, 0.3) if "retention" in line]
    assert {"exact": "(exact)", "bound": "at least", "search": "at most"}[kind] in line
    if kind == "search":
        assert any("needs a search for R*: --retention" in line for line in mask_lines(quick, 0.3))


def test_a_network_whose_flow_is_not_known_has_a_dash_for_it(digits):
    # A module that torch.fx cannot trace would need its groups declared; the table only asks for steps.
    from dataclasses import replace

    network = initialize("mlp:9", digits)
    spec = replace(network.spec, nodes=())
    declared = replace(network, wiring=replace(network.wiring, steps=(), spec=spec))
    mask = prune(network, "magnitude", density=0.3)
    table = mask_table(mask, declared)
    assert [row.flow_share for row in table.layers] == [None, None]
    lines = mask_lines(table, 0.3)
    assert all(line.endswith(" -") for line in lines[1:4])
    assert "Flow retention R/R*: - (the flow is not known)" in lines


def test_the_help_names_every_pruner(shell):
    code, out, _ = shell("prune", "--help")
    assert code == 0
    words = set(re.findall(r"[a-z_]+", out))
    assert set(pruners) <= words


def test_a_ticket_file_is_only_overwritten_when_told_to(shell, tmp_path):
    path = tmp_path / "synflow-0.05.safetensors"
    path.write_bytes(b"precious")
    refused(shell(*SMALL), "synflow-0.05.safetensors", "exists already", "--force")
    assert path.read_bytes() == b"precious"
    assert shell(*SMALL, "--force")[0] == 0
    assert load_ticket(path).mask.sum() == 79


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "snp"], ["unknown pruner 'snp'", "did you mean 'snip'"]),
        (["--method", "mine.py:scores"], ["no file", "mine.py"]),
        (["--density", "0.00001"], ["too few for one in each of 3 layers", "1 / rho_max = 0.0019"]),
        (["--density", "2"], ["seeding.density", "less than or equal to 1"]),
        (["--density", "x"], ["seeding.density", "valid number"]),
        (["--scope", "local"], ["seeding.scope", "'global' or 'layer'", "local"]),
        (["--schedule", "cosine"], ["seeding.schedule", "'exponential'", "cosine"]),
        (["--steps", "-1"], ["seeding.steps", "greater than or equal to"]),
        (["--batch", "0"], ["--batch", "0"]),
        (["--batch", "many"], ["--batch", "many"]),
        (["--scheme", "kaiming"], ["unknown initialization scheme 'kaiming'", "kaiming_normal"]),
        (["--init-seed", "-1"], ["--init-seed", "from 0 up", "-1"]),
        (["--init-seed", str(2**63)], ["a seed of a network", "9223372036854775808"]),
        (["--data", "digit"], ["unknown dataset 'digit'", "did you mean 'digits'"]),
        (["--data", "npz:none.npz", "--method", "snip"], ["none.npz"]),
        (["--set", "seeding.options.temprature=2", "--method", "grasp"], ["did you mean 'temperature'"]),
        (["--set", "seeding.options.temperature=0", "--method", "grasp"], ["temperature", "> 0"]),
        (["--method", "synflow,snip"], ["one pruner", "synflow, snip"]),
        (["--output", "none/x.st"], ["no folder 'none'"]),
        (["--output", "."], ["is a folder"]),
        (["--output", "/dev/null/x"], ["no folder '/dev/null'"]),
        (["absent.toml"], ["no settings file", "absent.toml"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(shell, tmp_path, arguments, words):
    refused(shell("prune", "--model", "mlp:20,10", *arguments), *words)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_after_all_is_one_line(shell, monkeypatch):
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("ticketsearch.tickets.save_ticket", full)
    refused(shell(*SMALL), "cannot be written", "No space left", "--output")


@pytest.mark.parametrize(
    ("place", "what", "left"),
    [
        ("ticketsearch.seeding.prune_copies", "no ticket was written", []),
        ("ticketsearch.theory.mask_table", "the ticket is", ["synflow-0.05.safetensors"]),
    ],
)
def test_an_interrupted_pruning_says_whether_there_is_a_ticket(
    shell, monkeypatch, tmp_path, place, what, left
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stop)
    code, out, err = shell(*SMALL)
    assert (code, out) == (130, "")
    assert re.fullmatch(f"Interrupted; {what}.*", err.strip())
    assert [path.name for path in tmp_path.iterdir()] == left
