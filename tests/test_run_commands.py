"""Living with runs at the shell: list, show, settings, completion, and what each of them imports."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys

import pytest
import typer
from conftest import refusal
from searches import plain
from test_cli import refused
from test_evolution import SPEC, first_masks
from test_storage import assess

from ticketsearch import cli
from ticketsearch import settings as config
from ticketsearch.cli import completion
from ticketsearch.cli.examples import EXAMPLES
from ticketsearch.evolution import evolve
from ticketsearch.experiment import Callback, Callbacks
from ticketsearch.models import Initialization
from ticketsearch.report.text import content
from ticketsearch.runs import (
    BEST,
    OVERVIEW_COLUMNS,
    Result,
    Run,
    generation_records,
    read_overview,
    result_records,
    state_of,
    ticket_records,
)
from ticketsearch.settings import Settings, default_text, description, leaves, setting_rows
from ticketsearch.storage import is_locked, lock_folder
from ticketsearch.tickets import Ticket, Tickets

COMMANDS = typer.main.get_command(cli.app).commands
GENERATIONS = 2


def made(root, name, density, *, generations=GENERATIONS, accuracy=None, **assignments):
    """Make a run of as many generations, finished where there is an accuracy."""
    chosen = {"evolution.generations": GENERATIONS, "seeding.density": density, **assignments}
    settings = config.load(None, chosen.items())
    initialization = Initialization("orthogonal", 3)
    seeds = [Ticket(mask, None, initialization, "synflow", key="k") for mask in first_masks(2)]
    first = Tickets(Ticket(mask, initialization, initialization, "synflow") for mask in first_masks(6))
    with Run.create(root, name, settings, SPEC, "data", {"torch": "2"}, seeds) as run:
        search = evolve(first, assess, SPEC, **plain(generations=GENERATIONS, reassess=1, seed=3))
        for generation, _ in zip(search, range(generations + 1), strict=False):
            run.append(generation)
        if accuracy is not None:
            orders = enumerate((accuracy - 0.01, accuracy + 0.01))
            run.save_results(
                [Result(BEST, order, "test", 0, 0.1, 0.1, 0.5, value) for order, value in orders]
            )
    return root / name


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A folder with runs of three states and one that cannot be read."""
    folder = tmp_path_factory.mktemp("several")
    root = folder / "runs"
    made(root, "dense", 0.5, accuracy=0.7)
    made(root, "sparse", 0.02, accuracy=0.9, **{"training.steps": [50, 200]})
    made(root, "stopped", 0.1, generations=1, **{"data.options": {"seed": 4}})
    (root / "torn").mkdir()
    (root / "torn" / "run.sqlite").write_bytes(b"x" * 5000)
    return folder


@pytest.fixture
def shell(several, monkeypatch, capsys):
    """Run a command beside the runs; returns exit code, stdout and stderr."""
    monkeypatch.chdir(several)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def listed(shell, *arguments):
    """Return the names of the runs that ``list`` prints as JSON, in their order."""
    code, out, err = shell("list", "--json", *arguments)
    assert (code, err) == (0, "")
    return [record["name"] for record in json.loads(out)]


def test_list_says_the_state_and_the_figures_of_each_run(shell, several):
    code, out, _ = shell("list")
    assert code == 0
    heading, dense, sparse, stopped, torn = out.splitlines()
    assert heading.split() == [
        *("run", "state", "data", "model", "density", "generation", "fitness", "test", "accuracy"),
        *("time", "created"),
    ]
    assert dense.split()[:6] == ["dense", "finished", "digits", "mlp:100,50", "0.5", "2/2"]
    assert sparse.split()[4:6] == ["0.02", "2/2"]
    assert sparse.split()[7] == "0.9000"
    assert stopped.split()[:6] == ["stopped", "interrupted", "digits", "mlp:100,50", "0.1", "1/2"]
    assert re.match(r"torn     unreadable: .*run\.sqlite", torn)


def test_the_overview_is_that_of_the_whole_run(several):
    overview = read_overview(several / "runs" / "sparse")
    with Run.open(several / "runs" / "sparse") as run:
        assert overview.settings == run.settings
        assert overview.fitness == run.statistics()[-1]["best"]
        assert overview.seconds == pytest.approx(sum(run.phases().values()))
        assert overview.seconds == pytest.approx(sum(g.seconds for g in run.generations()))
        assert overview.accuracy == pytest.approx(0.9)
        assert overview.created[:2] == "20"
    unfinished = read_overview(several / "runs" / "stopped")
    assert (unfinished.generation, unfinished.generations, unfinished.accuracy) == (1, 2, None)


def test_the_lock_tells_running_and_finishing_runs_from_interrupted_ones(several, tmp_path):
    root = several / "runs"
    for name, generations, accuracy, free, held in (
        ("none", -1, None, "interrupted", "running"),
        ("begun", 1, None, "interrupted", "running"),
        ("trained", 2, None, "interrupted", "finishing"),
        ("whole", 2, 0.5, "finished", "finished"),
    ):
        path = made(tmp_path, name, 0.1, generations=generations, accuracy=accuracy)
        assert not is_locked(path)
        with Run.open(path) as run:
            assert state_of(run) == free
            with lock_folder(path):
                assert is_locked(path)
                assert state_of(run) == held
            assert state_of(run) == free
    assert not is_locked(root / "torn")
    assert not is_locked(tmp_path / "nowhere")


def test_a_lock_that_is_only_asked_for_does_not_stop_a_writer(tmp_path, monkeypatch):
    asking = lock_folder(tmp_path)
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        asking.close()

    monkeypatch.setattr("ticketsearch.storage.folders.time.sleep", sleep)
    with lock_folder(tmp_path):
        assert len(waited) == 1
        assert "being written" in refusal(lock_folder, tmp_path)
        assert len(waited) == 2


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("density=0.02", ["sparse"]),
        ("density != 0.02", ["dense", "stopped", "torn"]),
        ("seeding.density<=0.1", ["sparse", "stopped"]),
        ("density>=0.1", ["dense", "stopped"]),
        ("accuracy>0.8", ["sparse"]),
        ("accuracy<0.8", ["dense"]),
        ("state=interrupted", ["stopped"]),
        ("state=unreadable", ["torn"]),
        ("name>dense", ["sparse", "stopped", "torn"]),
        ("training.steps=50,200", ["sparse"]),
        ("training.steps=200", ["dense", "stopped"]),
        ("evolution.trial=true", ["dense", "sparse", "stopped"]),
        ("data.options.seed=4", ["stopped"]),
        ("data.options.seed!=4", ["dense", "sparse", "torn"]),
        ("seed==0", ["dense", "sparse", "stopped"]),
        ("density=thin", []),
        ("created>2020", ["dense", "sparse", "stopped"]),
    ],
)
def test_a_condition_picks_the_runs_that_fulfil_it(shell, condition, names):
    assert listed(shell, "--where", condition) == names


def test_several_conditions_hold_together_and_no_run_is_said_so(shell):
    assert listed(shell, "--where", "density<0.2", "--where", "generation=2") == ["sparse"]
    code, out, _ = shell("list", "--where", "density<0.2", "--where", "accuracy>0.95")
    assert (code, out) == (0, "None of the 4 runs in runs/ fulfils density<0.2 and accuracy>0.95.\n")


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ("density", ["sparse", "stopped", "dense", "torn"]),
        ("-density", ["dense", "stopped", "sparse", "torn"]),
        ("-accuracy", ["sparse", "dense", "stopped", "torn"]),
        ("generation,-name", ["stopped", "sparse", "dense", "torn"]),
        ("training.steps,density", ["stopped", "dense", "sparse", "torn"]),
    ],
)
def test_runs_are_sorted_by_several_keys_and_those_without_a_value_are_last(shell, keys, names):
    assert listed(shell, f"--sort={keys}") == names


def test_a_key_that_is_unknown_or_not_comparable_is_one_line_with_the_nearest(shell):
    refused(shell("list", "--where", "densty=1"), "unknown key 'densty'", "did you mean 'density'?")
    refused(shell("list", "--sort", "seeding.densty"), "did you mean 'seeding.density'?")
    refused(shell("list", "--where", "density"), "--where takes KEY=VALUE")
    refused(shell("list", "--where", "density<thin"), "density is a number", "'thin'")
    refused(shell("list", "--where", "nothing.options.seed=1"), "unknown key")


def test_the_json_of_a_list_has_the_columns_and_a_reason_for_an_unreadable_run(shell):
    _, out, _ = shell("list", "--json")
    dense, _, stopped, torn = json.loads(out)
    assert tuple(dense) == OVERVIEW_COLUMNS
    assert (dense["density"], dense["state"], stopped["accuracy"]) == (0.5, "finished", None)
    assert torn["density"] is None
    assert "run.sqlite" in torn["reason"]


def test_show_alone_prints_the_content_and_nothing_else(shell, several):
    code, out, _ = shell("show", "sparse")
    with Run.open(several / "runs" / "sparse") as run:
        assert (code, out) == (0, "".join(f"{line}\n" for line in content(run)))


def test_the_best_tickets_are_those_of_highest_fitness(shell, several):
    with Run.open(several / "runs" / "dense") as run:
        tickets = sorted(run.tickets(), key=lambda ticket: ticket.fitness, reverse=True)
        records = ticket_records(run, 3)
        assert [record["fitness"] for record in records] == [ticket.score for ticket in tickets[:3]]
        assert {tuple(record) for record in ticket_records(run)} == {tuple(records[0])}
        assert len(ticket_records(run, 1000)) == len(tickets)
    code, out, err = shell("show", "dense", "--best", "3")
    assert (code, err) == (0, "")
    heading, *rows = out.splitlines()
    assert heading.split()[:4] == ["ticket", "operator", "fitness", "accuracy"]
    assert [int(row.split()[0]) for row in rows] == [record["ticket"] for record in records]
    assert [row.split()[2] for row in rows] == [f"{record['fitness']:.4f}" for record in records]


def test_records_tell_the_first_score_from_the_mean_of_all_evaluations(several):
    with Run.open(several / "runs" / "dense") as run:
        tickets, records = run.tickets(), ticket_records(run)
    assert [record["ticket"] for record in records] == list(range(len(tickets)))
    for ticket, record in zip(tickets, records, strict=True):
        assert record["evaluations"] == len(ticket.assessments)
        assert record["first_fitness"] == ticket.assessments[0].score
        assert record["fitness"] == ticket.score
        assert record["weights"] == ticket.mask.sum()
        assert record["density"] == pytest.approx(ticket.mask.mean())
        assert (record["digest"], record["key"]) == (ticket.digest, ticket.key)
    assert any(record["first_fitness"] != record["fitness"] for record in records)


def test_show_prints_tables_for_programs(shell, several):
    with Run.open(several / "runs" / "dense") as run:
        tickets, generations, results = ticket_records(run), generation_records(run), result_records(run)
    _, out, err = shell("show", "dense", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert err == ""
    assert [float(row["fitness"]) for row in rows] == [record["fitness"] for record in tickets]
    assert [row["parents"].split() for row in rows] == [list(map(str, r["parents"])) for r in tickets]
    _, out, _ = shell("show", "dense", "--json")
    shown = json.loads(out)
    assert (shown["tickets"], shown["generations"], shown["results"]) == (tickets, generations, results)
    assert [record["generation"] for record in generations] == [0, 1, 2]
    assert Settings(**shown["settings"]).seeding.density == 0.5
    _, out, _ = shell("show", "dense", "--json", "--best", "2")
    assert len(json.loads(out)["tickets"]) == 2
    refused(shell("show", "dense", "--json", "--csv"), "--json and --csv")
    refused(shell("show", "dense", "--best", "0"), "--best takes an integer from 1 up")


def test_a_diverged_ticket_has_no_fitness_in_json(several, tmp_path):
    path = shutil.copytree(several / "runs" / "dense", tmp_path / "dense")
    with sqlite3.connect(path / "run.sqlite") as file:
        file.execute("UPDATE assessments SET fitness = NULL WHERE ticket = 0")
        file.execute("UPDATE tickets SET fitness = NULL WHERE number = 0")
    file.close()
    with Run.open(path) as run:
        first, *_ = ticket_records(run)
        assert (first["fitness"], first["first_fitness"]) == (None, None)
        assert ticket_records(run, 100)[-1]["ticket"] == 0


def test_settings_shows_every_setting_with_values_default_and_description(shell):
    code, out, _ = shell("settings")
    text = " ".join(out.split())
    assert code == 0
    for name, _ in leaves(Settings().model_dump()):
        default = default_text(name)
        assert re.search(rf"{re.escape(name)} \([^)]+; ", text)
        assert (f"; default {default})" if default else "empty by default)") in text
        assert " ".join(description(name).split()) in text
    assert [line.split()[0] for line in out.splitlines() if line[0] != " "] == [
        row.name for row in setting_rows()
    ]


def test_settings_are_found_by_whole_words_then_by_parts_of_words(shell):
    def names(*arguments):
        code, out, _ = shell("settings", *arguments)
        assert code == 0
        return [line.split()[0] for line in out.splitlines() if line[0] != " "]

    assert names("evolution.elites") == ["evolution.elites"]
    assert "seed" in names("seed")
    assert "seeding.steps" not in names("tournament")
    assert names("Gumbel") == ["evolution.temperature"]
    assert names("temperatu") == ["evolution.temperature"]
    refused(shell("settings", "tournamnt"), "'tournamnt'", "did you mean 'tournament'?")


def test_the_changed_settings_of_a_run_stand_beside_their_defaults(shell):
    code, out, _ = shell("settings", "--changed", "sparse")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["setting", "run", "default"],
        ["seeding.density", "0.02", "0.05"],
        ["evolution.generations", "2", "20"],
        ["training.steps", "50,200", "200"],
    ]
    _, out, _ = shell("settings", "density", "--changed", "sparse")
    assert [line.split()[0] for line in out.splitlines()] == ["setting", "seeding.density"]
    _, out, _ = shell("settings", "momentum", "--changed", "sparse")
    assert "are the defaults" in out
    refused(shell("settings", "--changed", "nosuch"), "no run in 'runs/nosuch'")


@pytest.mark.parametrize("line", ["list", "show dense", "show dense --best 2", "settings", "docs data"])
def test_commands_that_read_import_no_torch(several, line):
    code = (
        "import sys\n"
        "from ticketsearch import cli\n"
        f"try: cli.main({line.split()!r})\n"
        "except SystemExit as ended: assert not ended.code\n"
        "assert not {'torch', 'scipy', 'networkx', 'matplotlib', 'sklearn', 'pandas'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=several, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Starting" not in done.stderr


def test_a_command_says_that_it_starts_before_it_imports_torch(tmp_path):
    """Where it cannot be imported, that line stands alone before the error."""
    code = (
        "import sys\n"
        "from ticketsearch import cli\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "cli.main(['prune', '--density', sys.argv[1]])\n"
    )

    def prune(density):
        command = [sys.executable, "-c", code, density]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert prune("0.5").stderr.splitlines()[0] == "Starting …"
    refused_early = prune("7")
    assert refused_early.returncode == 2
    assert refused_early.stderr.startswith("error: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_in_its_help_that_its_parser_takes(command, capsys):
    assert 2 <= len(EXAMPLES[command]) <= 4
    COMMANDS[command].main(["--help"], standalone_mode=False)
    shown = " ".join(capsys.readouterr().out.split())
    for example in EXAMPLES[command]:
        assert example in shown
        program, name, *arguments = shlex.split(re.split(r" [|>] ", example)[0])
        assert (program, name) == ("ticketsearch", command)
        parsed = COMMANDS[command].make_context(name, arguments)
        given = {flag.name for flag in parsed.command.params if parsed.params[flag.name] != flag.default}
        assert len(given) >= len([word for word in arguments if word.startswith("-")])


def test_the_examples_are_those_of_the_commands():
    assert set(EXAMPLES) == set(COMMANDS)


def completed(folder, line):
    """Return the words that bash completes a line to, and assert that torch is not imported."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "from ticketsearch.cli import main\n"
        "main()\n"
    )
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    environment = {**os.environ, **asked, "_TICKETSEARCH_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "False\n")
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ticketsearch se", ["settings"]),
        ("ticketsearch show s", ["sparse", "stopped"]),
        ("ticketsearch evolve --resume sp", ["sparse"]),
        ("ticketsearch evolve --set evolution.pop", ["evolution.population="]),
        ("ticketsearch evolve --method synflow,sn", ["synflow,snip"]),
    ],
)
def test_the_shell_completes_commands_runs_and_settings(several, line, words):
    assert completed(several, line) == words


def test_completions_are_the_names_that_the_package_knows(several, monkeypatch):
    from ticketsearch import datasets, models, pruners

    monkeypatch.chdir(several)
    assert completion.run_names("") == ["dense", "sparse", "stopped", "torn"]
    assert completion.pruners("") == sorted(pruners.__all__)
    assert completion.pruners("snip,synf") == ["snip,synflow"]
    assert completion.datasets("c") == ["cifar10", "csv"]
    assert completion.datasets("") == sorted(datasets.__all__)
    assert completion.models("") == sorted(models.__all__)
    assert completion.topics("tu") == ["tutorial"]
    assert [name for name, _ in completion.setting_names("")] == [f"{row.name}=" for row in setting_rows()]
    assert completion.keys("density,-fitness.n") == ["density,-fitness.name"]


def test_the_completion_of_a_shell_is_printed(shell, monkeypatch):
    # Of the shell that is named, whatever shell the tests are started from.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "true")
    code, out, _ = shell("--show-completion", "bash")
    assert code == 0
    assert "_TICKETSEARCH_COMPLETE=complete_bash" in out


def test_several_callbacks_each_take_the_progress_within_a_generation():
    class Taker(Callback):
        def on_evaluated(self, run, generation, done, total):
            taken.append((self, generation, done, total))

    taken, first, second = [], Taker(), Taker()
    Callbacks([first, second, lambda run, generation: None]).on_evaluated(None, 3, 4, 12)
    assert taken == [(first, 3, 4, 12), (second, 3, 4, 12)]


def test_a_program_that_the_users_code_ends_is_still_one_line(shell, tmp_path):
    (tmp_path / "mine.py").write_text("import sys\n\ndef load():\n    sys.exit(3)\n")
    result = shell("prune", "--data", f"{tmp_path / 'mine.py'}:load", "--density", "0.5")
    refused(result, "would end the program")
