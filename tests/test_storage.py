"""Stores that others may have written: all content is validated, and nothing goes through links."""

import contextlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from conftest import examples, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import plain
from test_evolution import SPEC, first_masks, likeness

from ticketsearch import cli
from ticketsearch import settings as config
from ticketsearch.errors import BadInput
from ticketsearch.evolution import evolve
from ticketsearch.masks import MaskSpec, check_spec
from ticketsearch.masks.guidance import Guidance
from ticketsearch.models import Initialization
from ticketsearch.report.text import best_lines, content, phase_lines, run_lines
from ticketsearch.runs import BEST, Result, Run, list_runs, read_overview, ticket_records
from ticketsearch.runs.schema import SCHEMA_VERSION
from ticketsearch.storage import lock_folder, write_atomically
from ticketsearch.tickets import Scores, Ticket, Tickets

pytestmark = pytest.mark.slow

OPTIONS = {"generations": 3, "reassess": 1, "seed": 3}


def assess(masks, *, round):
    guidance = [Guidance(np.ones(mask.sum(), "f4"), np.empty(0, "i8"), np.empty(0, "f4")) for mask in masks]
    values = likeness(masks) / 7 + round
    return Scores(values, {"accuracy": values / 900}, rungs=np.full(len(masks), 50), guidance=guidance)


def filled(root, name="one"):
    """Make a run that has something in each of its tables; return its folder."""
    initialization = Initialization("orthogonal", 3)
    seeds = [Ticket(mask, None, initialization, "synflow", key="k") for mask in first_masks(2)]
    first = Tickets(Ticket(mask, initialization, initialization, "synflow") for mask in first_masks(6))
    settings = config.load(None, [("evolution.generations", OPTIONS["generations"])])
    with Run.create(root, name, settings, SPEC, "data", {"torch": "2"}, seeds) as run:
        for generation in evolve(first, assess, SPEC, **plain(**OPTIONS)):
            run.append(generation)
        run.save_results([Result(BEST, 0, part, 0, 0.1, 0.1, 0.5, 0.9) for part in ("validation", "test")])
    return root / name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "runs" / "one")


def changed(path, *statements):
    with contextlib.closing(sqlite3.connect(path / "run.sqlite", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(*([statement] if isinstance(statement, str) else statement))


def read_all(path):
    with Run.open(path) as run:
        run.tickets(), run.results(), run.keys(), run.searched(), run.last(), run.statistics()
        tables = [*run_lines([read_overview(path)]), *best_lines(ticket_records(run, 3))]
        return [*content(run), *phase_lines(run), *tables, *run.generations()]


def columns(path):
    connection = sqlite3.connect(path / "run.sqlite")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = [(t, row[1]) for t in tables for row in connection.execute(f"PRAGMA table_info({t})")]
    connection.close()
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
VALUES = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.binary(max_size=60)
    | JSON.map(json.dumps)
    | st.sampled_from(["", "[" * 10_000, '{"a":' * 10_000, "9" * 5_000, "[1", "\x1b[31m"])
)


@settings(max_examples=examples(30), deadline=None, database=None)
@given(data=st.data())
def test_whatever_stands_in_a_cell_a_reader_gets_an_answer_or_one_line_that_names_the_file(whole, data):
    damaged = whole.parent / "damaged"
    shutil.copytree(whole, damaged, dirs_exist_ok=True)
    table, column = data.draw(st.sampled_from(columns(damaged)))
    with contextlib.suppress(sqlite3.IntegrityError):  # a number that SQLite itself insists on
        changed(damaged, (f"UPDATE OR IGNORE {table} SET {column} = ?", (data.draw(VALUES),)))
    said = "damaged"
    try:
        read_all(damaged)
    except BadInput as error:
        said = str(error)
    assert "\n" not in said
    assert "damaged" in said


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE meta SET value = '[1]' WHERE key = 'settings'", ("settings", "run.sqlite")),
        ("UPDATE meta SET value = 'null' WHERE key = 'spec'", ("spec", "run.sqlite")),
        ("DELETE FROM meta WHERE key = 'spec'", ("has no 'spec'",)),
        ("UPDATE tickets SET parents = '[99]' WHERE number = 3", ("parents come before ticket 3",)),
        ("UPDATE tickets SET mask = x'00' WHERE number = 3", ("table tickets", "bytes")),
        ("UPDATE tickets SET mask = 7 WHERE number = 3", ("row 4 mask", "bytes")),
        ("UPDATE tickets SET digest = 'f' WHERE number = 3", ("digest is that of another mask",)),
        ("UPDATE tickets SET rung = 'x' WHERE number = 3", ("row 4 rung", "integer", "'x'")),
        ("UPDATE tickets SET generation = 8 WHERE number = 3", ("generation 8", "last one is 3")),
        ("DELETE FROM tickets WHERE number < 6", ("was not there before", "run.sqlite")),
        ("DELETE FROM generations", ("the last one is -1",)),
        ("DELETE FROM generations WHERE number = 1", ("generations 0 to 3 are not all there",)),
        ("DELETE FROM members WHERE generation = 2", ("generation 2 has no members",)),
        ("UPDATE generations SET state = '{}'", ("state", "rng")),
        ("UPDATE generations SET phases = '{\"rest\": -1}'", ("phases", "rest")),
        ("UPDATE generations SET statistics = '[]'", ("statistics",)),
        ("UPDATE results SET accuracy = 2", ("table results", "accuracy")),
        ("UPDATE guidance SET saliency = x'0000'", ("run.sqlite",)),
        ("UPDATE worth SET value = 'x'", ("table worth",)),
        ("ALTER TABLE tickets RENAME COLUMN rung TO step", ("rung",)),
    ],
)
def test_damaged_content_is_named(folder, statement, words):
    changed(folder, "PRAGMA foreign_keys = OFF", statement)
    message = refusal(read_all, folder)
    for word in words:
        assert word in message, message


def test_columns_and_tables_that_were_added_do_no_harm(folder, whole):
    changed(folder, "ALTER TABLE tickets ADD COLUMN note TEXT", "CREATE TABLE notes (note TEXT)")
    with Run.open(folder, write=True) as run:
        assert [t.digest for t in run.tickets()] == [t.digest for t in Run.open(whole).tickets()]
        options = {**OPTIONS, "generations": 4, "after": run.last()}
        run.append(next(evolve([], assess, SPEC, **plain(**options))))


def test_a_spec_whose_parts_do_not_agree_is_refused():
    good = SPEC.to_json()
    assert check_spec(MaskSpec.from_json(good)) == SPEC
    for change in (
        lambda j: j["pieces"][0].__setitem__(1, 99),
        lambda j: j["layers"][0].__setitem__(2, 5),
        lambda j: j["layers"][0].__setitem__(1, [7]),
        lambda j: j["groups"][1].__setitem__(1, 10**12),
        lambda j: j["groups"][1].__setitem__(1, j["groups"][1][1] + 1),
        lambda j: j["nodes"][1].__setitem__(1, [5]),
        lambda j: j.__setitem__("layers", []),
        lambda j: j.__setitem__("reads", [[2] * 99]),
    ):
        spec = json.loads(json.dumps(good))
        change(spec)
        with pytest.raises(ValueError, match=r"."):
            check_spec(MaskSpec.from_json(spec))


def test_a_run_that_goes_on_keeps_the_spec_that_its_keys_were_made_by():
    from ticketsearch.experiment import Search

    options = {"data.name": "digits", "model.name": "mlp:4", "seeding.density": 0.2, "training.steps": 1}
    prepared = Search.prepare(config.load(None, options.items()))
    own = MaskSpec.from_json(prepared.network.spec.to_json())
    again = Search.prepare(prepared.settings, prepared.dataset, spec=own)
    assert again.network.spec is own
    assert again.fitness.network.spec is own
    assert Search.prepare(prepared.settings, prepared.dataset, spec=SPEC).network.spec is not SPEC


def to_schema_5(path):
    """Write a run as the version before did: each state repeats what all rounds so far are worth."""
    with Run.open(path) as run:
        effects = run._order_effects(run.progress())
    connection = sqlite3.connect(path / "run.sqlite", isolation_level=None)
    for number, state in connection.execute("SELECT number, state FROM generations").fetchall():
        rows = [[r, g, v] for r, own in effects.until(number).effects.items() for g, v in own.items()]
        state = json.dumps(json.loads(state) | ({"worth": rows} if rows else {}))
        connection.execute("UPDATE generations SET state = ? WHERE number = ?", (state, number))
    connection.execute("DROP TABLE evaluations")
    connection.execute("DROP TABLE worth")
    connection.execute("DROP INDEX assessments_of_generation")
    connection.execute("PRAGMA user_version = 5")
    connection.close()


def told(run):
    return [
        (
            g.number,
            g.state,
            g.order_effects.until(g.number).effects,
            [(t.number, t.fitness.values) for t in tickets],
        )
        for g in run.generations()
        for tickets in (g.population, g.offspring)
    ]


def test_a_run_of_schema_5_is_read_as_it_is_and_goes_on_as_one_of_schema_7(folder, whole):
    to_schema_5(folder)
    before = (folder / "run.sqlite").read_bytes()
    with Run.open(folder) as old, Run.open(whole) as new:
        assert told(old) == told(new)
        assert list(content(old)) == list(content(new))
    assert (folder / "run.sqlite").read_bytes() == before
    longer = {**OPTIONS, "generations": 5}
    with Run.open(folder, write=True) as run, Run.open(whole) as new:
        assert told(run) == told(new)
        for generation in evolve([], assess, SPEC, **plain(**longer, after=run.last())):
            run.append(generation)
        (version,) = run._connection.execute("PRAGMA user_version").fetchone()
        assert version == SCHEMA_VERSION == 7
        went_on = told(run)
    first = Tickets(
        Ticket(mask, *[Initialization("orthogonal", 3)] * 2, "synflow") for mask in first_masks(6)
    )
    for (number, state, worth, fitness), generation in zip(
        went_on[::2], evolve(first, assess, SPEC, **plain(**longer)), strict=True
    ):
        assert number == generation.number
        assert state == generation.state
        assert worth == generation.order_effects.until(number).effects
        assert fitness == [(t.number, t.fitness.values) for t in generation.population]


def test_what_a_generation_stores_does_not_grow_with_those_before_it(folder):
    options = {**OPTIONS, "generations": 60}
    with Run.open(folder, write=True) as run:
        for generation in evolve([], assess, SPEC, **plain(**options, after=run.last())):
            run.append(generation)
        query = "SELECT max(length(state)) FROM generations WHERE number {}"
        early, late = (run._connection.execute(query.format(c)).fetchone()[0] for c in ("< 10", "> 50"))
        assert late <= early + 10
        ages = [len(ticket.assessments) for ticket in run.last().population]
        assert max(ages) > 8
        statements = []
        run._connection.set_trace_callback(statements.append)
        assert len(list(run.generations())) == 61
        assert len(statements) < 10
        statements.clear()
        run.ancestors(run.last().population[0].number)
        assert len(statements) < 30


@pytest.mark.parametrize("scale", [1e100, 1e90])
def test_a_report_is_written_of_scores_of_any_size_and_of_a_run_without_seeds(tmp_path, scale):
    from ticketsearch.report import write_report

    def fitness(masks):
        return np.linspace(-1, 1, len(masks)) * scale

    with Run.create(tmp_path, "huge", config.load(None), SPEC, "", {}) as run:
        for generation in evolve(first_masks(4), fitness, SPEC, **plain(generations=1)):
            run.append(generation)
        assert write_report(run).is_file()
        assert len(read_all(run.path)) > 4


@pytest.fixture
def comparison(tmp_path):
    from ticketsearch.comparison.methods import FoundMask
    from ticketsearch.comparison.plan import Cell
    from ticketsearch.comparison.schema import META
    from ticketsearch.comparison.store import ComparisonStore, FinalResult, FinalTraining

    settings = config.load(None).model_dump()
    content = {"settings": settings, "budget": None, "fingerprint": "", "spec": SPEC.to_json()}
    rows = [(key, json.dumps(value)) for key, value in content.items()]
    folder = tmp_path / "compared"
    with ComparisonStore.make(folder, lambda connection: connection.executemany(META.insert, rows)) as store:
        cell = Cell("random", 0.1, 0)
        store.add_cells([(cell, FoundMask(first_masks(1)[0]))])
        store.add_results(FinalTraining(cell, ""), {0: FinalResult(0.5, 0.9)})
    return folder


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE results SET accuracy = 'x'", "accuracy"),
        ("UPDATE results SET control = 'other'", "control"),
        ("UPDATE results SET data_order = 3", "data orders"),
        ("DELETE FROM cells", "no mask"),
        ("UPDATE cells SET mask = x'00'", "bytes"),
        ("UPDATE cells SET trail = '[[1]]'", "trail"),
        ("UPDATE meta SET value = '[1]' WHERE key = 'settings'", "settings"),
        ("UPDATE meta SET value = '{' WHERE key = 'spec'", "value"),
        ("DELETE FROM meta", "settings"),
    ],
)
def test_damaged_comparisons_are_one_line(comparison, statement, word):
    from ticketsearch.comparison import read_comparison

    assert read_comparison(comparison).methods == ["random"]
    with contextlib.closing(sqlite3.connect(comparison / "compare.sqlite", isolation_level=None)) as file:
        file.execute(statement)
    message = refusal(read_comparison, comparison)
    assert "compare.sqlite" in message
    assert word in message


# Links, folders that go away, and what is left of failures.


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(folder, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (folder / "run.lock").unlink()
    (folder / "run.lock").symlink_to(precious)
    assert "run.lock' is a link" in refusal(Run.open, folder, write=True)
    assert precious.read_text() == "precious"


def test_a_lock_is_not_emptied(tmp_path):
    (tmp_path / "run.lock").write_text("own")
    lock_folder(tmp_path).close()
    assert (tmp_path / "run.lock").read_text() == "own"


@pytest.mark.parametrize("name", ["tickets", "run.sqlite", "run.sqlite-wal", "run.sqlite-shm"])
def test_links_in_a_run_are_refused(folder, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    if name in ("tickets", "run.sqlite"):
        shutil.move(folder / name, elsewhere)
    else:
        elsewhere.write_text("precious")
        (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(elsewhere)
    assert f"{name}' is a link" in refusal(Run.open, folder, write=True)
    if name not in ("tickets", "run.sqlite"):
        assert elsewhere.read_text() == "precious"


def test_a_file_is_replaced_and_not_written_through_a_link(tmp_path):
    precious, link = tmp_path / "precious", tmp_path / "report.html"
    precious.write_text("precious")
    link.symlink_to(precious)
    write_atomically(link, "page")
    assert (precious.read_text(), link.read_text(), link.is_symlink()) == ("precious", "page", False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "report.html"]


@pytest.mark.parametrize("how", ["deleted", "moved", "another"])
def test_a_run_that_is_deleted_or_moved_ends_at_the_next_commit(tmp_path, how):
    with Run.create(tmp_path, "one", config.load(None), SPEC, "", {}) as run:
        first, second, third = evolve(first_masks(), assess, SPEC, **plain(generations=2, reassess=1))
        run.append(first)
        shutil.move(run.path, tmp_path / "moved")
        if how == "another":
            shutil.copytree(tmp_path / "moved", run.path)
        if how == "deleted":
            shutil.rmtree(tmp_path / "moved")
        assert "was deleted or moved" in refusal(run.append, second)
    if how != "deleted":
        with Run.open(tmp_path / "moved", write=True) as moved:
            assert moved.progress() == 0
            moved.append(second)
            moved.append(third)


@pytest.mark.parametrize("error", [BadInput("no"), TypeError("own code")])
def test_a_run_whose_first_generation_fails_leaves_no_folder(tmp_path, error):
    with pytest.raises(type(error)), Run.create(tmp_path, "one", config.load(None), SPEC, "", {}):
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk")])
def test_a_run_that_was_interrupted_or_lacked_room_stays_and_so_does_one_that_goes_on(tmp_path, error):
    with pytest.raises(type(error)), Run.create(tmp_path, "one", config.load(None), SPEC, "", {}):
        raise error
    with pytest.raises(BadInput), Run.open(tmp_path / "one", write=True):
        raise BadInput("no")
    assert list_runs(tmp_path) == [tmp_path / "one"]


def test_hidden_folders_of_killed_processes_are_removed_and_no_others(tmp_path):
    abandoned, held, foreign = (tmp_path / f".{name}.abcdefg1" for name in ("one", "two", "three"))
    for path in (abandoned, held, foreign):
        path.mkdir()
        (path / "settings.toml").touch()
        (path / "run.lock").touch()
    (foreign / "thesis.tex").touch()
    young = tmp_path / ".four.abcdefg1"
    young.mkdir()
    with lock_folder(held):
        Run.create(tmp_path, "new", config.load(None), SPEC, "", {}).close()
    assert not abandoned.exists()
    assert all(path.is_dir() for path in (held, foreign, young, tmp_path / "new"))


def listed(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["list"])
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_damaged_runs_hide_no_others_from_list(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parents[1])
    for name, statement in (
        ("a", "UPDATE meta SET value = '[1]' WHERE key = 'settings'"),
        ("b", "UPDATE results SET accuracy = 'x'"),
        ("c", "DROP TABLE generations"),
    ):
        changed(shutil.copytree(folder, folder.with_name(name)), statement)
    (folder.with_name("d")).mkdir()
    (folder.with_name("d") / "run.sqlite").write_bytes(b"nothing")
    heading, *lines = listed(capsys)
    assert heading.startswith("run ")
    assert [line.split()[0] for line in lines] == ["a", "b", "c", "d", "one"]
    assert all(line.split()[1] == "unreadable:" for line in lines[:4])
    assert "finished" in lines[4]


def test_a_run_that_fails_in_a_way_nobody_thought_of_hides_no_others_either(folder, monkeypatch, capsys):
    def fails(path):
        raise RuntimeError("two\nlines")

    monkeypatch.chdir(folder.parents[1])
    monkeypatch.setattr("ticketsearch.runs.read_overview", fails)
    assert listed(capsys) == ["one  unreadable: two lines"]


def test_control_characters_are_shown_and_not_obeyed(folder, monkeypatch, capsys):
    changed(
        folder,
        ("UPDATE tickets SET operator = ? WHERE generation = 2", ("swap\x1b[31m",)),
        ("UPDATE meta SET value = replace(value, 'digits', ?)", (json.dumps("d\x1b]0;x\x07")[1:-1],)),
    )
    shutil.copytree(folder, folder.with_name("na\x1bme"))
    monkeypatch.chdir(folder.parents[1])
    out = "\n".join(listed(capsys))
    with pytest.raises(SystemExit):
        cli.main(["show", "one"])
    shown = capsys.readouterr().out
    assert "\x1b" not in out + shown
    assert r"na\x1bme" in out
    assert r"swap\x1b[31m" in shown


def test_where_permission_is_denied_it_is_said(folder, monkeypatch):
    if not hasattr(os, "geteuid"):
        pytest.skip("no permissions of this kind here")
    (folder / "run.sqlite").chmod(0)
    as_root = os.geteuid() == 0
    if as_root:  # who may read everything
        for path in (*folder.parents, folder):
            if path.stat().st_uid == 0 and not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o055)
        os.seteuid(65534)
    try:
        message = refusal(Run.open, folder)
    finally:
        if as_root:
            os.seteuid(0)
    assert "permission denied" in message
    assert "damaged" not in message


def test_a_full_disk_names_the_file_and_a_way_out(folder):
    from ticketsearch.cli.endings import reason

    with Run.open(folder, write=True) as run:
        (pages,) = run._connection.execute("PRAGMA page_count").fetchone()
        run._connection.execute(f"PRAGMA max_page_count = {pages}")
        options = {**OPTIONS, "generations": 40, "after": run.last()}
        with pytest.raises(OSError, match="No space left") as caught:
            list(map(run.append, evolve([], assess, SPEC, **plain(**options))))
    said = reason(caught.value)
    assert str(folder / "run.sqlite") in said
    assert "free space" in said
    assert Path(caught.value.filename) == folder / "run.sqlite"
