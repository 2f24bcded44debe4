"""The composition: what settings become, which data meet which use, and when a run may be resumed."""

import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import refused

from ticketsearch import experiment
from ticketsearch import settings as config
from ticketsearch.canonical import canonical_key
from ticketsearch.errors import BadInput
from ticketsearch.experiment.final_training import contender_masks, train_contender
from ticketsearch.fitness.named import short_training
from ticketsearch.masks import layer_counts
from ticketsearch.pruners import prune
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.report import text
from ticketsearch.report.text.run import seed_overlap
from ticketsearch.runs import BEST, DENSE, RANDOM, Run, queries
from ticketsearch.tickets import Ticket, load_ticket
from ticketsearch.tickets.duplicates import initial_weights

pytestmark = pytest.mark.slow

SMALL = (
    *(("model.name", "mlp:12"), ("seeding.density", 0.1), ("seeding.initializations", 3)),
    *(("evolution.population", 6), ("evolution.generations", 2), ("training.steps", 20)),
    *(("final.steps", 20), ("final.orders", 2), ("training.device", "cpu")),
)


def searched(root, name, *assignments):
    prepared = experiment.Search.prepare(config.load(None, [*SMALL, *assignments]))
    with experiment.create_run(prepared, root, name) as run:
        for _ in prepared.generations(run):
            pass
        said = list(experiment.finish(prepared, run))
    return prepared, root / name, said


def test_the_networks_initialization_is_the_first_seeds(tmp_path):
    prepared = experiment.Search.prepare(config.load(None, SMALL))
    first = prepared.first_population[0]
    assert first.initialization == first.pruned_from == prepared.network.initialization
    assert np.array_equal(first.mask, prune(prepared.network, "synflow", density=0.1))


def test_all_tickets_share_one_initialization_and_under_own_keep_their_lineages(tmp_path):
    prepared, path, _ = searched(tmp_path, "shared")
    with Run.open(path) as run:
        assert {t.initialization for t in run.tickets()} == {prepared.network.initialization}
        assert len({t.pruned_from for t in run.tickets()}) == 3
    _, path, _ = searched(tmp_path, "own", ("training.initialization", "own"))
    with Run.open(path) as run:
        tickets = {t.number: t for t in run.tickets()}
        assert len({t.initialization for t in tickets.values()}) > 1
        for ticket in tickets.values():
            assert ticket.initialization == ticket.pruned_from
            if ticket.parents:
                assert ticket.initialization == tickets[ticket.parents[0]].initialization
    network, mask = load_ticket(path / "tickets" / "best.safetensors")
    with Run.open(path) as run:
        winner = queries.winner(run)
    assert network.initialization == winner.initialization
    assert np.array_equal(mask, winner.mask)


def test_the_contenders_are_what_their_names_say(tmp_path):
    prepared, path, said = searched(tmp_path, "one")
    with Run.open(path) as run:
        winner = queries.winner(run)
        results = run.results()
    masks = contender_masks(prepared, winner, prepared.seeds)
    assert (masks[BEST] == winner.mask).all()
    assert (masks["synflow, same initialization"] == prepared.first_population[0].mask).all()
    assert masks[DENSE].all()
    assert len({mask.tobytes() for mask in masks[RANDOM]}) == 2  # a new one for each data order
    assert (layer_counts(masks[RANDOM], prepared.network.spec) == layer_counts(winner.mask, run.spec)).all()
    assert {r.contender for r in results if r.part == "test"} == set(masks)
    assert said[-4:] == list(masks)


def test_under_own_the_rivals_share_the_winners_initialization(tmp_path):
    prepared = experiment.Search.prepare(config.load(None, [*SMALL, ("training.initialization", "own")]))
    other = prepared.seeds[1]
    assert other.initialization == other.pruned_from != prepared.network.initialization
    masks = contender_masks(prepared, other, prepared.seeds)
    copy = prepared.network.reinitialized(*other.initialization)
    assert (masks["synflow, same initialization"] == prune(copy, "synflow", density=0.1)).all()
    final = train_contender(prepared, "any", masks[DENSE], other.initialization, Stream.REPORTING, None)
    alone = experiment.Search.prepare(config.load(None, SMALL))
    recipe = replace(alone.fitness.recipe, steps=20)
    shared = short_training(copy, prepared.dataset, device="cpu")
    orders = [seed_sequence(alone.settings.seed, Stream.REPORTING, i) for i in range(2)]
    wanted = shared.trained(masks[DENSE], recipe, orders, part="test")
    assert [r.loss for r in final] == wanted.loss.tolist()


def test_the_random_control_has_the_winners_layer_counts_not_the_pruners(tmp_path):
    prepared = experiment.Search.prepare(config.load(None, SMALL))
    spec = prepared.network.spec
    mask = prepared.seeds[0].mask.copy()
    first, second = (layer.slice for layer in spec.layers)
    mask[np.flatnonzero(mask[first])[0]] = False
    mask[second.start + np.flatnonzero(~mask[second])[0]] = True
    winner = Ticket(mask, prepared.network.initialization)
    masks = contender_masks(prepared, winner, prepared.seeds)
    assert (layer_counts(masks[RANDOM], spec) == layer_counts(mask, spec)).all()
    assert (layer_counts(prepared.seeds[0].mask, spec) != layer_counts(mask, spec)).any()


def test_random_seeds_differ_and_equal_seeds_count_in_the_overlap(tmp_path):
    prepared = experiment.Search.prepare(config.load(None, [*SMALL, ("seeding.method", "random")]))
    assert len({seed.digest for seed in prepared.seeds}) == 3
    (tmp_path / "mine.py").write_text(
        "def scores(network, mask, batch, *, rng):\n"
        "    return {n: m.flatten().cumsum(0).view(m.shape) * m * 1.0 for n, m in mask.items()}\n"
    )
    same = ("seeding.method", f"{tmp_path}/mine.py:scores")
    prepared = experiment.Search.prepare(config.load(None, [*SMALL, same]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = experiment.create_run(prepared, tmp_path, "same")
    with run:
        assert len(prepared.first_population) == 6
        assert seed_overlap(run).whole.tolist() == [[1.0] * 3] * 3
        assert "IoU 1.0000" in text.overlap_lines(run)[0]
        assert "they are 1 different networks" in text.overlap_lines(run)[2]


def test_more_initializations_than_places_all_count_in_the_overlap(tmp_path):
    prepared = experiment.Search.prepare(config.load(None, [*SMALL, ("evolution.population", 2)]))
    with experiment.create_run(prepared, tmp_path, "few") as run:
        assert len(prepared.first_population) == 2
        assert len(run.seeds()) == 3


def test_a_run_that_goes_on_elsewhere_says_so(tmp_path, monkeypatch):
    prepared = experiment.Search.prepare(config.load(None, SMALL))
    experiment.create_run(prepared, tmp_path, "one").close()
    monkeypatch.setattr("platform.processor", lambda: "another")
    with pytest.warns(UserWarning, match=r"goes on on cpu \(another\)"):
        _, run = experiment.resume(tmp_path / "one", {})
    run.close()


def test_a_run_that_goes_on_by_another_engine_says_so(tmp_path, monkeypatch):
    prepared = experiment.Search.prepare(config.load(None, SMALL))
    with experiment.create_run(prepared, tmp_path, "one") as run:
        assert run.environment["engine"] == "native 1"
    monkeypatch.setattr("ticketsearch.compiled.AVAILABLE", False)
    with pytest.warns(UserWarning, match="began on native 1 and goes on on stacked 1: its scores will agree"):
        search, run = experiment.resume(tmp_path / "one", {})
    run.close()
    assert search.remarks == ["Trained by torch: numba is not installed."]


def test_test_data_touch_nothing_but_the_test_results(tmp_path):
    """The same search on data whose test part is another gives all the same but the test results."""
    (tmp_path / "mine.py").write_text(
        "import dataclasses, torch\n"
        "from ticketsearch.datasets import load_dataset\n"
        "def load(*, other=False):\n"
        "    d = load_dataset('digits')\n"
        "    return dataclasses.replace(d, x_test=torch.zeros_like(d.x_test)) if other else d\n"
    )
    name = ("data.name", f"{tmp_path}/mine.py:load")
    contents = []
    for other in (False, True):
        _, path, _ = searched(tmp_path, f"other-{other}", name, ("data.options", {"other": other}))
        with Run.open(path) as run:
            contents.append(
                [
                    line
                    for line in text.content(run)
                    if not line.startswith(("run ", "network ", "pruned mask of"))
                ]
            )
    same, changed = [], []
    for a, b in zip(*contents, strict=True):
        (same if a == b else changed).append(a)
    assert all(line.startswith(("test of", "settings ")) for line in changed)
    assert len(changed) == 1 + 8
    assert not any(line.startswith("test of") for line in same)


def test_other_data_or_another_network_of_the_same_name_are_refused(tmp_path):
    source = tmp_path / "mine.py"
    source.write_text(
        "from ticketsearch.datasets import load_dataset\n"
        "from ticketsearch.models import mlp\n"
        "def load():\n    return load_dataset('digits', seed=0)\n"
        "def model(input_shape, classes):\n    return mlp(input_shape, classes, '12')\n"
    )
    names = (("data.name", f"{source}:load"), ("model.name", f"{source}:model"))
    prepared = experiment.Search.prepare(config.load(None, [*SMALL, *names]))
    experiment.create_run(prepared, tmp_path, "one").close()
    text = source.read_text()
    source.write_text(text.replace("seed=0", "seed=1"))
    with pytest.raises(BadInput, match=r"the data of .* are not those"):
        experiment.resume(tmp_path / "one", {}, trust=True)
    source.write_text(text.replace("'12'", "'13'"))
    with pytest.raises(BadInput, match="is not the network"):
        experiment.resume(tmp_path / "one", {}, trust=True)
    source.write_text(text)
    going_on, run = experiment.resume(tmp_path / "one", {"training.workers": 2})
    run.close()
    assert going_on is not None


def test_a_finished_run_needs_neither_data_nor_model_to_be_shown_again(tmp_path):
    data = tmp_path / "mine.py"
    data.write_text(
        "from ticketsearch.datasets import load_dataset\ndef load():\n    return load_dataset('digits')\n"
    )
    _, path, _ = searched(tmp_path, "one", ("data.name", f"{data}:load"))
    data.unlink()
    nothing, run = experiment.resume(path, {})
    with run:
        assert nothing is None
        assert queries.contender_rows(run)


def test_a_copied_run_folder_is_the_same_run(tmp_path):
    _, path, _ = searched(tmp_path, "one")
    shutil.copytree(path, tmp_path / "two")
    with Run.open(path) as one, Run.open(tmp_path / "two") as two:
        assert list(text.content(one))[1:] == list(text.content(two))[1:]


def test_a_search_on_a_ladder_that_is_interrupted_ends_in_the_same_content(tmp_path):
    ladder = ("training.steps", [2, 8, 20])
    prepared, path, _ = searched(tmp_path, "whole", ladder)
    with experiment.create_run(prepared, tmp_path, "broken") as run:
        next(prepared.generations(run))
    going_on, run = experiment.resume(tmp_path / "broken", {})
    with run, Run.open(path) as whole:
        for _ in going_on.generations(run):
            pass
        list(experiment.finish(going_on, run))
        assert list(text.content(run))[1:] == list(text.content(whole))[1:]
        assert {ticket.rung for ticket in run.tickets()} == {2, 8, 20}
        assert len(run.agreements()) == 2 * 3
        assert len(text.rung_lines(run)) == 3


@pytest.mark.parametrize("masking", ["gradient", "forward"])
def test_a_search_goes_by_the_masking_it_is_given_and_says_so(tmp_path, masking):
    prepared, path, _ = searched(tmp_path, "one", ("training.masking", masking))
    masks = np.stack([prepared.seeds[0].mask] * 2)
    initialization = prepared.network.initialization
    found = train_contender(prepared, "any", masks, initialization, Stream.REPORTING, None)
    fitness = short_training(prepared.network, prepared.dataset, device="cpu", masking=masking)
    recipe = replace(fitness.recipe, steps=20)
    orders = [seed_sequence(prepared.settings.seed, Stream.REPORTING, i) for i in range(2)]
    wanted = fitness.trained(masks, recipe, orders, part="test")
    assert [r.loss for r in found] == wanted.loss.tolist()
    with Run.open(path) as run:
        assert run.settings.training.masking == masking
        assert all(set(ticket.measures) == {"accuracy", "dense_accuracy"} for ticket in run.tickets())
        assert any("dense_accuracy" in line for line in text.content(run))
        said = any("stay at their initial values" in line for line in text.comparison_lines(run))
        assert said is (masking == "gradient")


@pytest.mark.parametrize("fitness", ["short_training", "untrained"])
@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("training.masking", "gradiant", ["unknown masking 'gradiant' (did you mean 'gradient'?)"]),
        ("training.lr_schedule", "cosin", ["unknown lr_schedule 'cosin' (did you mean 'cosine'?)"]),
        ("training.optimizer", "nestrov", ["unknown optimizer 'nestrov' (did you mean 'nesterov'?)"]),
        ("final.steps", 2**28, ["steps x batch must be <= 268,435,456", str(2**28)]),
    ],
)
def test_what_the_final_training_could_not_take_is_refused_before_a_search_begins(
    fitness, setting, value, words
):
    given = [*SMALL, ("fitness.name", fitness), (setting, value)]
    refused(lambda: experiment.Search.prepare(config.load(None, given)), *words)


def test_the_final_training_is_by_the_settings_whatever_the_fitness_returns(tmp_path):
    """A fitness of one's own may be a ShortTraining of its own; the final one goes by [training]."""
    (tmp_path / "mine.py").write_text(
        "import ticketsearch as ts\n"
        "def build(network, dataset):\n"
        "    recipe, options = ts.Recipe(lr=0.5), ts.EvaluationOptions(device='cpu')\n"
        "    return ts.ShortTraining(network, dataset, steps=3, recipe=recipe, options=options)\n"
    )
    own = ("fitness.name", f"{tmp_path}/mine.py:build")
    prepared = experiment.Search.prepare(config.load(None, [*SMALL, own]))
    assert prepared.fitness.recipe.lr == 0.5
    assert prepared.trainer is not prepared.fitness
    assert prepared.trainer.recipe.lr == config.Settings().training.lr
    plain = experiment.Search.prepare(config.load(None, SMALL))
    assert plain.trainer is plain.fitness


def test_a_pruner_that_collapses_a_layer_warns_and_the_search_goes_on(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def scores(network, mask, batch, *, rng):\n"
        "    size = {name: part.numel() for name, part in mask.items()}\n"
        "    return {name: part * float(size[name]) for name, part in mask.items()}\n"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, path, _ = searched(tmp_path, "one", ("seeding.method", f"{tmp_path}/mine.py:scores"))
    assert any("layer collapse" in str(warning.message) for warning in caught)
    with Run.open(path) as run:
        assert run.finished


def test_a_ticket_is_a_mask_or_a_mask_with_its_weights():
    """All masks are equal at density 1: one network, but as many tickets as there are initializations."""
    dense = (("model.name", "mlp:4"), ("seeding.density", 1.0), ("seeding.initializations", 6))
    own = ("training.initialization", "own")
    ticket = ("evolution.identity", "ticket")
    prepared = experiment.Search.prepare(config.load(None, [*SMALL, *dense, own, ticket]))
    first = prepared.first_population
    assert len({ticket.key for ticket in first}) == len(first) == 6
    assert len({ticket.digest for ticket in first}) == 1
    for others in ([own], [ticket]):
        with pytest.raises(BadInput, match="found only 1 different networks"):
            _ = experiment.Search.prepare(config.load(None, [*SMALL, *dense, *others])).first_population


def test_a_search_for_tickets_stores_keys_of_tickets_and_resumes(tmp_path):
    settings = [("evolution.identity", "ticket"), ("training.initialization", "own")]
    _, path, _ = searched(tmp_path, "tickets", *settings)
    with Run.open(path) as run:
        tickets = run.tickets()
    assert all(ticket.exact for ticket in tickets)
    prepared = experiment.Search.prepare(config.load(None, [*SMALL, *settings]))
    for ticket in tickets:
        weights = initial_weights(prepared.network.reinitialized(*ticket.initialization))
        assert ticket.key == canonical_key(ticket.mask, prepared.network.spec, weights)
    with pytest.raises(BadInput, match=r"evolution\.identity is 'ticket'"):
        experiment.resume(path, {"evolution.identity": "structure"})
    resumed, run = experiment.resume(path, {"evolution.generations": 3})
    with run:
        assert [generation.number for generation in resumed.generations(run)] == [3]
        keys = [ticket.key for ticket in run.tickets()]
    assert len(set(keys)) == len(keys) > len(tickets)


def test_each_of_several_pruners_is_a_contender_with_its_own_options(tmp_path):
    more = [("seeding.method", "magnitude,imp"), ("seeding.options.training_steps", 5)]
    prepared, path, _ = searched(tmp_path, "both", *more)
    with Run.open(path) as run:
        assert [seed.operator for seed in run.seeds()] == ["magnitude", "imp"] * 3
        assert len(queries.first_seeds(run)) == 3
        names = [row.contender for row in queries.contender_rows(run)]
        assert names == [BEST, "magnitude, same initialization", "imp, same initialization", RANDOM, DENSE]
        assert any("by imp: " in line for line in text.content(run))
        masks = contender_masks(prepared, queries.winner(run), run.seeds())
        assert np.array_equal(masks[names[2]][0], prepared.seeds[1].mask)
    with pytest.raises(BadInput, match="no option 'training_step'"):
        experiment.Search.prepare(config.load(None, [*SMALL, more[0], ("seeding.options.training_step", 5)]))


@pytest.mark.parametrize("own", [False, True])
def test_the_best_ticket_of_another_run_joins_and_its_initialization_has_its_rival(tmp_path, own):
    _, first, _ = searched(tmp_path, "first", ("seed", 5))
    more = [("seeding.tickets", str(first)), ("training.initialization", "own" if own else "shared")]
    prepared, path, _ = searched(tmp_path, "second", *more)
    saved, mask = load_ticket(first / "tickets" / "best.safetensors")
    joined = prepared.first_population[0]
    assert np.array_equal(joined.mask, mask)
    assert joined.operator == "given"
    assert joined.pruned_from == saved.initialization != prepared.network.initialization
    assert joined.initialization == (saved if own else prepared.network).initialization
    with Run.open(path) as run:
        assert run.ticket(0).digest == joined.digest
        origins = [seed.pruned_from for seed in run.seeds()]
        assert len(origins) == len(set(origins)) == 3 + own
        assert (saved.initialization in origins) == own
        rivals = contender_masks(prepared, joined, run.seeds())
    assert "synflow, same initialization" in rivals
