"""The run store: what goes in comes back, and damaged, foreign or locked runs are refused in one line."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from networks import shuffled
from searches import plain
from test_canonical import around, cycles
from test_evolution import SPEC, first_masks, halving_fitness, likeness

from ticketsearch import experiment
from ticketsearch import settings as config
from ticketsearch.canonical import canonical_identity, canonical_key
from ticketsearch.errors import BadInput
from ticketsearch.evolution import Duplicates, evolve
from ticketsearch.evolution.timing import STORE
from ticketsearch.masks.guidance import Guidance
from ticketsearch.models import Initialization
from ticketsearch.runs import Result, Run, check_name, counting_name, list_runs
from ticketsearch.tickets import Scores, Ticket, Tickets


def some_generations(count=4, seed=0, diverging=False):
    first = Tickets(
        Ticket(mask, Initialization("kaiming_normal", 2**32 - 1), Initialization("orthogonal", i), "synflow")
        for i, mask in enumerate(first_masks())
    )

    def fitness(masks):
        values = likeness(masks) / 7
        if diverging:
            values[0] = np.nan
        return Scores(values, {"accuracy": masks[:, :40].mean(axis=1) / 3})

    return list(evolve(first, fitness, SPEC, **plain(generations=count, seed=seed)))


@pytest.fixture
def run(tmp_path):
    settings = config.load(None, [("data.options", {"seed": 4}), ("seed", 9)])
    with Run.create(tmp_path, "one", settings, SPEC, "fingerprint", {"torch": "2"}) as run:
        yield run


def same(a, b):
    return (
        a.number == b.number
        and np.array_equal(a.population.masks, b.population.masks)
        and [vars_of(t) for t in a.population] == [vars_of(t) for t in b.population]
        and [vars_of(t) for t in a.offspring] == [vars_of(t) for t in b.offspring]
        and (a.refused, a.immigrants, a.statistics, a.state, a.agreements)
        == (b.refused, b.immigrants, b.statistics, b.state, b.agreements)
    )


def vars_of(t):
    return (
        t.digest,
        t.initialization,
        t.pruned_from,
        t.operator,
        t.generation,
        t.parents,
        t.number,
        t.key,
        t.exact,
        t.rung,
        t.score,
        t.measures,
    )


def test_a_new_run_has_everything_that_is_needed_to_resume_it(run):
    assert {path.name for path in run.path.iterdir()} >= {
        "run.sqlite",
        "settings.toml",
        "environment.json",
        "tickets",
    }
    with Run.open(run.path) as opened:
        assert opened.settings == run.settings
        assert opened.settings.data.options == {"seed": 4}
        assert opened.spec == SPEC
        assert opened.data_fingerprint == "fingerprint"
        assert opened.environment == {"torch": "2"}
        assert opened.progress() == -1
        assert opened.last() is None
        assert not opened.finished
    assert config.load(run.path / "settings.toml") == run.settings


def test_a_run_of_when_there_was_a_setting_more_can_be_opened(run):
    stored = run.settings.model_dump(mode="json")
    stored["seeding"]["repeats"] = 1
    with sqlite3.connect(run.path / "run.sqlite") as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'settings'", (json.dumps(stored),))
    connection.close()
    with Run.open(run.path) as opened:
        assert opened.settings == run.settings


def test_levelled_generations_come_back_exactly(run):
    """Scores of lucky rounds, guidance that a second look takes away, and a member that then diverges."""

    def fitness(masks, *, round):
        values = likeness(masks) / 7 + [0.0, 40.0, -3.0, 11.0, 5.0][round]
        if round == 3:
            values[-1] = np.nan
        guidance = [
            Guidance(np.ones(mask.sum(), "f4"), np.empty(0, "i8"), np.empty(0, "f4")) for mask in masks
        ]
        if round:
            guidance[-4:] = [None] * 4
        return Scores(values, {"accuracy": masks[:, :40].mean(axis=1) / 3}, guidance=guidance)

    written = list(evolve(first_masks(), fitness, SPEC, **plain(generations=4, reassess=2)))
    for generation in written:
        run.append(generation)
        guided = [ticket.guidance is None for ticket in generation.population]
        assert [ticket.guidance is None for ticket in run.last().population] == guided
    assert all(same(a, b) for a, b in zip(written, run.generations(), strict=True))
    assert [len(written[-1].order_effects.of(number)) for number in range(5)] == [0, 1, 1, 1, 1]
    assert [run._order_effects(number).effects for number in range(5)] == [
        written[-1].order_effects.until(number).effects for number in range(5)
    ]
    assert {ticket.guidance is None for ticket in written[-1].population} == {True, False}


@pytest.mark.parametrize("diverging", [False, True])
def test_generations_come_back_exactly(run, diverging):
    written = some_generations(diverging=diverging)
    for generation in written:
        run.append(generation)
    with Run.open(run.path) as opened:
        assert all(same(a, b) for a, b in zip(written, opened.generations(), strict=True))
        assert same(opened.last(), written[-1])
        assert opened.keys() == [t.key for g in written for t in g.offspring]
        assert [t.number for t in opened.population(2)] == [t.number for t in written[2].population]
        assert opened.progress() == 4
        assert sum(t.diverged for t in opened.tickets()) == sum(g.diverged for g in written)


def test_rungs_and_agreements_come_back_and_the_evolution_goes_on_with_them(run):
    written = list(evolve(first_masks(), halving_fitness, SPEC, **plain(generations=6, seed=0)))
    for generation in written[:4]:
        run.append(generation)
    with Run.open(run.path) as opened:
        assert all(same(a, b) for a, b in zip(written, opened.generations(), strict=False))
        assert {t.rung for t in opened.tickets()} == {50, 200, 800}
        assert opened.agreements() == [a for g in written[:4] for a in g.agreements]
        options = {"population": 12, "after": opened.last()}
        rest = list(evolve([], halving_fitness, SPEC, **plain(generations=6, seed=0, **options)))
    assert all(same(a, b) for a, b in zip(rest, written[4:], strict=True))


def test_phases_come_back_and_the_stores_own_with_the_next_commit(run):
    written = some_generations(2)
    for generation in written:
        run.append(generation)
    read = [generation.phases for generation in run.generations()]
    for found, generation in zip(read[:2], written, strict=False):
        assert found.pop(STORE) > 0
        assert found == generation.phases
    assert read[2] == written[2].phases
    before = run.phases()
    run.save_results([])
    after = run.phases()
    assert after[STORE] > before[STORE]
    assert {**after, STORE: 0} == {**before, STORE: 0}
    assert list(run.generations())[1].seconds > written[1].seconds


def test_the_time_of_a_commit_is_that_of_the_commit(run, monkeypatch):
    class Slow:
        def __init__(self, connection):
            self.connection = connection

        def execute(self, statement, *parameters):
            if statement == "COMMIT":
                time.sleep(0.05)
            return self.connection.execute(statement, *parameters)

        def close(self):
            self.connection.close()

    monkeypatch.setattr(run, "_connection", Slow(run._connection))
    for generation in some_generations(2):
        run.append(generation)
    assert [g.phases.get(STORE, 0) >= 0.05 for g in run.generations()] == [True, True, False]


def test_a_commit_that_fails_loses_no_time_that_was_known(run):
    first, second, third = some_generations(2)
    run.append(first)
    key, second.offspring[-1].key = second.offspring[-1].key, first.population[0].key
    with pytest.raises(sqlite3.IntegrityError):
        run.append(second)
    assert STORE not in run.phases()
    second.offspring[-1].key = key
    run.append(second)
    run.append(third)
    assert [STORE in generation.phases for generation in run.generations()] == [True, True, False]


def test_the_seeds_come_back_in_their_order_equal_ones_too(run, tmp_path):
    masks = first_masks(3)[[0, 1, 0]]
    seeds = [
        Ticket(mask, None, Initialization("orthogonal", i), "synflow", key=f"key {mask[0]}")
        for i, mask in enumerate(masks)
    ]
    with Run.create(tmp_path, "seeded", run.settings, SPEC, "", {}, seeds) as seeded:
        assert np.array_equal(seeded.seeds().masks, masks)
        found = [(s.pruned_from, s.operator, s.key) for s in seeded.seeds()]
        assert found == [(s.pruned_from, s.operator, s.key) for s in seeds]


def test_an_evolution_goes_on_from_what_was_read_back(run):
    written = some_generations(6)
    for generation in written[:4]:
        run.append(generation)

    def fitness(masks):
        return Scores(likeness(masks) / 7, {"accuracy": masks[:, :40].mean(axis=1) / 3})

    with Run.open(run.path) as opened:
        rest = list(evolve([], fitness, SPEC, **plain(generations=6, population=12, after=opened.last())))
    assert all(same(a, b) for a, b in zip(rest, written[4:], strict=True))


def test_a_generation_is_written_whole_or_not_at_all(run):
    first, second = some_generations(1)
    run.append(first)
    second.offspring[-1].key = first.population[0].key  # the last insert of its kind fails
    with pytest.raises(sqlite3.IntegrityError):
        run.append(second)
    assert run.progress() == 0
    assert len(run.tickets()) == len(first.population)


def test_results_come_back_and_extending_drops_them(run):
    results = [
        Result("best ticket", i, "test", None, 0.05, 0.04, float("inf") if i else 0.5, 0.9) for i in range(3)
    ]
    run.save_results(results)
    assert run.results() == results
    run.plan(50)
    assert run.results() == []
    with Run.open(run.path) as opened:
        assert opened.settings.evolution.generations == 50
    assert config.load(run.path / "settings.toml").evolution.generations == 50


def test_a_name_that_is_taken_is_refused_and_nothing_changes(run):
    before = sorted(run.path.parent.iterdir())
    with pytest.raises(BadInput, match=r"exists already .* --resume one"):
        Run.create(run.path.parent, "one", run.settings, SPEC, "", {})
    assert sorted(run.path.parent.iterdir()) == before


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/x", ".hidden", "a b", "-x", "x" * 101, "ü"])
def test_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(BadInput, match="a run's name is"):
        check_name(name)


def test_a_second_writer_is_refused_and_readers_are_not(run):
    with pytest.raises(BadInput, match="another process"):
        Run.open(run.path, write=True)
    run.append(some_generations(0)[0])
    with Run.open(run.path) as reader:
        assert reader.progress() == 0


def test_the_lock_goes_with_a_killed_process(run, tmp_path):
    run.close()
    opened = f"Run.open({str(run.path)!r}, write=True)"
    code = f"from ticketsearch.runs import Run; import os; run = {opened}; os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    Run.open(run.path, write=True).close()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no run in .*run\.sqlite"):
        Run.open(tmp_path)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    "damage", ["truncated", "half", "text", "empty", "foreign", "other version", "no meta"]
)
def test_a_damaged_or_foreign_file_is_one_line(run, damage, write):
    for generation in some_generations():
        run.append(generation)
    run.close()
    file = run.path / "run.sqlite"
    if damage in ("truncated", "half", "text", "empty"):
        data = file.read_bytes()
        cut = {
            "truncated": data[:5000],
            "half": data[: len(data) // 2],
            "text": b"hello " * 999,
            "empty": b"",
        }
        file.write_bytes(cut[damage])
    else:
        connection = sqlite3.connect(file)
        statement = {
            "foreign": "PRAGMA application_id = 7",
            "other version": "PRAGMA user_version = 99",
            "no meta": "DROP TABLE meta",
        }[damage]
        connection.execute(statement)
        connection.commit()
        connection.close()
    if damage == "half" and not write:
        # A reader may get through with what is intact, or is told in one line, but never sees other content.
        try:
            with Run.open(run.path) as opened:
                list(opened.generations())
        except (BadInput, sqlite3.DatabaseError):
            pass
        return
    with pytest.raises(BadInput) as caught:
        Run.open(run.path, write=write)
    assert "\n" not in str(caught.value)
    assert "run.sqlite" in str(caught.value)


def test_a_run_of_an_older_version_is_one_line_that_says_so(run):
    run.close()
    connection = sqlite3.connect(run.path / "run.sqlite")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    with pytest.raises(BadInput) as caught:
        Run.open(run.path)
    assert str(caught.value).endswith(
        "has schema 2, but this version of ticketsearch reads 5 to 7; use the version that wrote it"
    )


def test_runs_are_named_by_counting(tmp_path):
    settings = config.load(None, [("data.name", "mnist1d"), ("model.name", "mlp:10")])
    assert counting_name(tmp_path, settings) == "mnist1d-mlp-001"
    for name in ("mnist1d-mlp-001", "mnist1d-mlp-007", "mnist1d-mlp-x", "digits-mlp-050"):
        (tmp_path / name).mkdir()
    assert counting_name(tmp_path, settings) == "mnist1d-mlp-008"
    odd = config.load(None, [("data.name", "some/where/my data.py:load"), ("model.name", "lenet_300_100")])
    check_name(counting_name(tmp_path, odd))


def test_searches_that_begin_at_the_same_moment_count_on(run, tmp_path, monkeypatch):
    names = iter(["one", "one", "two"])
    monkeypatch.setattr("ticketsearch.experiment.resuming.counting_name", lambda *_: next(names))
    prepared = SimpleNamespace(
        settings=run.settings,
        engine="",
        network=SimpleNamespace(spec=SPEC),
        dataset=SimpleNamespace(fingerprint=""),
        seeds=[],
    )
    with experiment.create_run(prepared, tmp_path) as second:
        assert second.name == "two"


def test_a_ticket_is_found_by_its_number_or_refused(run):
    run.append(some_generations(0)[0])
    assert run.ticket(3).digest == run.tickets()[3].digest
    with pytest.raises(BadInput, match="has no ticket 99"):
        run.ticket(99)


def test_only_runs_are_listed(run, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copytree(run.path, tmp_path / ".one.partial")
    assert list_runs(tmp_path) == [run.path]
    assert list_runs(tmp_path / "absent") == []


def test_no_file_of_a_run_is_a_pickle(run):
    for generation in some_generations():
        run.append(generation)
    for folder, _, names in os.walk(run.path):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:  # noqa: PTH118, PTH123
                assert file.read(1) != b"\x80", name


def test_tickets_whose_search_came_to_no_end_are_stored_as_such_and_compared_after_a_resume(tmp_path):
    """Rings of 12 and of 6 + 6 weights, which refinement does not tell apart, in many numberings."""
    spec = around(cycles(12))[0]
    rng = np.random.default_rng(0)
    first = [shuffled(around(block)[1], spec, rng) for block in (cycles(12), cycles(6, 6), cycles(4, 8)) * 2]

    def renumbered(mask, *, spec, rng, rate):
        return shuffled(mask, spec, rng)

    def evolved(generations, **options):
        return evolve(
            first,
            lambda masks: np.arange(len(masks), dtype=float),
            spec,
            **plain(
                generations=generations,
                population=6,
                crossover_rate=0.0,
                mutation=renumbered,
                attempts=1,
                duplicates=Duplicates(partial(canonical_identity, budget=1)),
                **options,
            ),
        )

    whole = list(evolved(3))
    begun, *_ = whole
    assert len(begun.population) == 3
    assert begun.refused == 3
    assert {t.exact for t in begun.population} == {True, False}
    with Run.create(tmp_path, "rings", config.load(None), spec, "fingerprint", {"torch": "2"}) as run:
        run.append(begun)
        for generation in evolved(3, after=run.last()):
            run.append(generation)
        assert [vars_of(t) for t in run.tickets()] == [vars_of(t) for g in whole for t in g.offspring]
        masks = run.tickets().masks
        stored = run._connection.execute("SELECT key, exact FROM tickets ORDER BY number").fetchall()
    assert len({canonical_key(mask, spec) for mask in masks}) == len(masks)
    assert stored == [(t.key, int(t.exact)) for g in whole for t in g.offspring]
