"""The command line: what it prints, where, and what bad input comes to."""

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from rich.console import Console
from rich.live import Live

from ticketsearch import cli
from ticketsearch.cli.following import follow
from ticketsearch.comparison import DEFAULT_DENSITIES, DEFAULT_METHODS
from ticketsearch.errors import BadInput
from ticketsearch.evolution.timing import EVOLUTION_PHASES
from ticketsearch.halving import Tau
from ticketsearch.python.progress import Line, LiveTable, PlainLines
from ticketsearch.runs import Run
from ticketsearch.settings import Settings, default_text, description, leaves
from ticketsearch.workers import Step

# Commands, flags and settings.
SETTINGS_FLAGS = (
    ("evolve prune audit overlap compare", "--data", "data.name"),
    ("evolve prune audit overlap compare", "--model", "model.name"),
    ("evolve prune audit overlap compare", "--seed", "seed"),
    ("evolve prune", "--method", "seeding.method"),
    ("evolve prune", "--density", "seeding.density"),
    ("evolve overlap", "--initializations", "seeding.initializations"),
    ("prune audit", "--steps", "seeding.steps"),
    ("prune", "--scope", "seeding.scope"),
    ("prune", "--schedule", "seeding.schedule"),
    ("evolve", "--population", "evolution.population"),
    ("evolve", "--generations", "evolution.generations"),
    ("evolve", "--steps", "training.steps"),
    ("evolve", "--workers", "training.workers"),
    ("evolve", "--backend", "training.backend"),
    ("evolve", "--device", "training.device"),
)
DESCRIPTIONS = [description(name) for name, _ in leaves(Settings().model_dump())]


@pytest.fixture
def shell(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture
def finished(shell, small_run, tmp_path):
    """A shell whose folder holds the finished run ``small``."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "small").symlink_to(small_run)
    return shell


def refused(result, *words):
    """Assert one line on stderr that has these words, nothing on stdout, and exit code 2."""
    code, out, err = result
    assert code == 2
    assert out == ""
    errors = [line for line in err.splitlines() if not line.startswith(("Run ", "Pruning ", "Starting "))]
    assert len(errors) == 1, err
    assert errors[0].startswith("error: ")
    for word in words:
        assert word in errors[0]


def test_help_names_every_command_and_imports_no_torch():
    code = (
        "import sys\n"
        "from ticketsearch import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "assert not {'torch', 'sklearn', 'matplotlib', 'deap', 'pydantic'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("evolve", "prune", "audit", "list", "show", "report", "docs"):
        assert command in done.stdout


def test_the_help_of_evolve_gives_the_defaults_of_the_settings(shell):
    code, out, _ = shell("evolve", "--help")
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", out).split())
    settings = Settings()
    assert code == 0
    for value in (
        settings.seeding.density,
        settings.evolution.population,
        settings.evolution.generations,
        settings.training.steps,
        settings.seeding.initializations,
        settings.seed,
        settings.model.name,
        settings.data.name,
    ):
        assert f"Default: {value}." in text


@pytest.mark.parametrize("command", typer.main.get_command(cli.app).commands)
def test_the_help_of_every_flag_is_a_sentence_and_a_setting_s_flag_has_its_description(command, capsys):
    parsed = typer.main.get_command(cli.app).commands[command]
    parsed.main(["--help"], standalone_mode=False)
    capsys.readouterr()
    for flag in parsed.params:
        assert re.fullmatch(r"[A-Z].*\.", flag.help), flag.name
        if flag.default not in (None, False):
            default = str(flag.default)
            assert flag.help.endswith(f" Default: {default}."), flag.name
    settings_flags = {flag: name for c, flag, name in SETTINGS_FLAGS if command in c.split()}
    shown = {flag.opts[0]: flag.help for flag in parsed.params}
    for flag, name in settings_flags.items():
        assert shown[flag] == f"{description(name)} Default: {default_text(name)}."
    # No other flag is marked as one of a setting.
    described = {flag for flag, text in shown.items() if any(map(text.startswith, DESCRIPTIONS))}
    assert described == set(settings_flags)


def test_the_defaults_of_compare_are_those_of_its_help(capsys):
    parsed = typer.main.get_command(cli.app).commands["compare"]
    text = {flag.opts[0]: flag.help.partition("Default: ")[2].rstrip(".") for flag in parsed.params}
    assert tuple(text["--methods"].split(", ")) == DEFAULT_METHODS
    assert tuple(map(float, text["--densities"].split(", "))) == DEFAULT_DENSITIES


def test_no_command_prints_the_help_alone(shell):
    code, out, err = shell()
    assert code == 2
    assert "evolve" in out + err
    assert "error" not in err


def test_python_dash_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "ticketsearch", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ticketsearch 0.")


@pytest.mark.slow
def test_a_search_prints_lines_on_stderr_and_the_comparison_on_stdout(shell, tmp_path):
    small = (
        "--model",
        "mlp:10",
        "--density",
        "0.2",
        "--population",
        "4",
        "--generations",
        "2",
        "--steps",
        "5",
    )
    code, out, err = shell("evolve", *small, "--initializations", "2", "--set", "final.steps=5")
    assert code == 0
    lines = re.findall(
        r"^generation (\d)/2: fitness best -\d\.\d+ mean -\d\.\d+, density 0\.2000 effective 0\.\d+, "
        r"\d+ duplicates refused, [\d.]+ evaluations/s, (?:\d:\d\d|\?) left$",
        err,
        re.MULTILINE,
    )
    assert lines == ["0", "1", "2"]
    for contender in ("best ticket", "synflow, same initialization", "random, same layer densities", "dense"):
        assert re.search(rf"^  {contender} +0\.\d{{4}} ± 0\.\d{{4}}", out, re.MULTILINE)
    assert re.search(r"Overlap of 2 synflow masks .* IoU 0\.\d{4}, by chance 0\.\d{4}", out)
    assert (tmp_path / "runs" / "digits-mlp-001" / "report.html").is_file()
    assert "runs/digits-mlp-001/report.html" in out
    assert "runs/digits-mlp-001/tickets" in out
    assert re.search(
        r"^The best ticket is number \d+, (of the first population|made by \w+_)", out, re.MULTILINE
    )


@pytest.mark.slow
def test_show_prints_content_and_nothing_of_times_or_places(finished, small_run):
    code, out, _ = finished("show", "small")
    assert code == 0
    with Run.open(small_run) as run:
        for ticket in run.tickets():
            assert f"ticket {ticket.number} {ticket.digest} key {ticket.key}: {ticket.operator}" in out
            assert f"fitness {ticket.score!r}" in out
        for result in run.results():
            assert f"accuracy {result.accuracy!r}" in out
    assert not re.search(r"second|/s\b|\d:\d\d|runs/|tmp|20\d\d-", out)
    assert "of the time" not in out


@pytest.mark.slow
def test_show_says_on_stderr_where_the_time_went(finished, small_run):
    _, _, err = finished("show", "small")
    with Run.open(small_run) as run:
        seconds = run.phases()
    first, *rows, last = err.splitlines()
    assert first == "Time of 3 generations by phase:"
    found = [re.fullmatch(r"  (\w+) +([\d.]+) s +[\d.]+ %", row) for row in rows]
    assert {row[1]: row[2] for row in found} == {name: f"{value:.2f}" for name, value in seconds.items()}
    own = sum(seconds[name] for name in EVOLUTION_PHASES) / sum(seconds.values())
    assert last.endswith(f"is {100 * own:.1f} % of the time.")
    assert last.startswith("The evolution's own work (keys, operators, selection, store, rest)")


@pytest.mark.slow
def test_list_has_a_line_for_each_run_readable_or_not(finished, tmp_path):
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "run.sqlite").write_bytes(b"x" * 5000)
    code, out, _ = finished("list")
    assert code == 0
    heading, first, second = out.splitlines()
    assert heading.split()[:4] == ["run", "state", "data", "model"]
    assert re.match(r"broken +unreadable: ", first)
    figures = r"small +finished +digits +mlp:12 +0\.1 +2/2 +-?\d+\.\d{4} +0\.\d{4} +0:00:\d\d +20\d\d-"
    assert re.match(figures, second)


def test_list_without_runs_says_so(shell):
    code, out, _ = shell("list")
    assert code == 0
    assert "No runs" in out


@pytest.mark.slow
def test_report_writes_the_page_again(finished, small_run):
    (small_run / "report.html").unlink(missing_ok=True)
    code, out, _ = finished("report", "runs/small")
    assert code == 0
    assert Path(out.strip()).is_file()


@pytest.mark.slow
def test_resuming_a_finished_run_prints_its_result(finished):
    code, out, err = finished("evolve", "--resume", "small")
    assert code == 0
    assert "best ticket" in out
    assert "generation" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--popluation", "4"], ["--popluation", "--population"]),
        (["--set", "evolution.popluation=4"], ["evolution.popluation", "evolution.population"]),
        (["--set", "evolution"], ["section.name=value"]),
        (["--set", "nothing.at=all"], ["unknown setting 'nothing'"]),
        (["--population", "0"], ["evolution.population", "greater than or equal to 1", "got 0"]),
        (["--population", "many"], ["evolution.population", "valid integer", "many"]),
        (["--density", "0"], ["seeding.density", "greater than 0", "got 0"]),
        (["--density", "1.5"], ["seeding.density", "less than or equal to 1", "1.5"]),
        (["--density", "nan"], ["seeding.density"]),
        (["--density", "0.0001"], ["too few for one in each of 3 layers", "lowest density"]),
        (["--density", "1"], ["found only 1 different networks of density 1", "smaller population"]),
        (["--data", "digit"], ["unknown dataset 'digit'", "did you mean 'digits'"]),
        (["--data", "idx:nowhere"], ["nowhere"]),
        (["--data", "idx"], ["needs its folder", "idx:FOLDER"]),
        (["--data", "npz:none.npz"], ["none.npz"]),
        (["--data", "mine.py:load"], ["no file", "mine.py"]),
        (["--set", "data.options={sede=1}"], ["no option 'sede'", "did you mean 'seed'"]),
        (["--model", "mpl:10"], ["unknown model 'mpl'", "did you mean 'mlp'"]),
        (["--model", "mlp:10,x"], ["mlp widths", "10,x"]),
        (["--set", "seeding.method=synfow"], ["unknown pruner 'synfow'", "did you mean 'synflow'"]),
        (["--set", "seeding.options={bias=true}"], ["no option 'bias'", "did you mean 'biases'"]),
        (["--set", 'seeding.schemes=["kaiming"]'], ["unknown initialization scheme 'kaiming'"]),
        (["--set", "seeding.schemes=[]"], ["at least one initialization scheme"]),
        (["--set", "evolution.mutation=swap"], ["unknown mutation 'swap'", "did you mean 'swap_mutation'"]),
        (["--set", "evolution.crossover=swap_mutation"], ["crossover"]),
        (["--steps", "200,50"], ["training.steps", "each larger than the one before", "got '200,50'"]),
        (["--set", "training.steps=[50, 1.5]"], ["training.steps", "got [50, 1.5]"]),
        (["--set", "training.optimizer=sdg"], ["unknown optimizer 'sdg'", "did you mean 'sgd'"]),
        (["--set", "training.batch=5000"], ["batch=5000", "1079"]),
        (["--set", "fitness.name=short_trainig"], ["unknown fitness", "did you mean 'short_training'"]),
        (["--device", "gpu"], ["a device is auto, cpu, cuda or cuda:N", "gpu"]),
        (["--device", "cuda:99"], ["cuda:99", "CUDA devices are here"]),
        (["--name", "../out"], ["a run's name", "../out"]),
        (["--resume", "absent"], ["no run in", "absent"]),
        (["--resume", "absent", "--name", "x"], ["--name", "drop one"]),
        (["absent.toml"], ["no settings file", "absent.toml"]),
        (["--seed", "-1"], ["seed", "greater than or equal to 0"]),
        (["--workers", "-1"], ["--workers takes an integer from 0 up", "got '-1'", "leave it out"]),
        (["--workers", "two"], ["--workers takes an integer from 0 up", "got 'two'", "leave it out"]),
        (["--workers", "99999999999"], ["training.workers", "less than or equal to 1024", "got 99999999999"]),
        (["--set", "training.address=h:1"], ["an address is of a cluster", "'h:1'", "backend 'loky'"]),
        (["--backend", "threads", "--set", "training.address=h:1"], ["'h:1'", "backend 'threads'"]),
        (["--backend", "threads", "--scheduler", "h:1"], ["--scheduler is for backend 'dask'", "drop it"]),
        (["--backend", "dask", "--address", "h:1"], ["--address is for", "'dask'", "give --scheduler"]),
        (["--scheduler", "h:1", "--address", "h:2"], ["one address", "'h:1' and 'h:2'", "drop one"]),
        (
            ["--set", "training.backend=dask", "--address", "h:1"],
            ["--address is for backend 'ray'", "got 'dask'", "give --scheduler, or add --backend ray"],
        ),
        (
            ["--set", "training.backend=loky", "--scheduler", "h:1"],
            ["--scheduler is for backend 'dask'", "got 'loky'", "drop it, or add --backend dask"],
        ),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(shell, tmp_path, arguments, words):
    refused(shell("evolve", *arguments), *words)
    assert not [path for path in (tmp_path / "runs").glob("*") if not path.name.startswith(".")]
    assert not list(tmp_path.glob("runs/.*"))


@pytest.mark.parametrize(("total", "lines"), [(50, 50), (51, 2)])
def test_of_few_steps_each_has_its_line_and_of_many_one_now_and_then(total, lines, capsys, monkeypatch):
    monkeypatch.setattr("ticketsearch.cli.following.time.monotonic", lambda: 100.0)
    follow(Step("masks", done, total) for done in range(1, total + 1))
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == lines
    assert shown[0] == f"masks: 1 of {total}, 0:00:00 left"
    assert shown[-1] == f"masks: {total} of {total}"


def test_the_time_left_is_told_from_when_the_work_began(capsys, monkeypatch):
    """Two that end together after a minute say as much as one that ended after half of it."""
    clock = [100.0]
    monkeypatch.setattr("ticketsearch.cli.following.time.monotonic", lambda: clock[0])

    def steps():
        for seconds, step in (
            *((60, Step("masks", 5, 10)), (0, Step("masks", 6, 10)), (60, Step("masks", 7, 10))),
            *((40, Step("tests", 1, 3)), (0, Step("tests", 2, 3))),
        ):
            clock[0] += seconds
            yield step

    follow(steps())
    assert capsys.readouterr().err.splitlines() == [
        "masks: 5 of 10, 0:05:00 left",
        "masks: 6 of 10, 0:02:00 left",
        "masks: 7 of 10, 0:02:00 left",
        "tests: 1 of 3, 0:01:20 left",
        "tests: 2 of 3, 0:00:20 left",
    ]


@pytest.mark.full
def test_the_address_of_a_dashboard_is_one_line_at_once_also_when_python_exits(tmp_path):
    pytest.importorskip("distributed")
    arguments = (*("evolve", "--model", "mlp:4", "--scheduler", "http://127.0.0.1:1"),)
    done = subprocess.run(
        [sys.executable, "-m", "ticketsearch", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    refused(
        (done.returncode, done.stdout, done.stderr), "'http://127.0.0.1:1'", "dashboard", "tcp://host:port"
    )


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ([], ("auto", "")),
        (["--scheduler", "h:1"], ("dask", "h:1")),
        (["--address", "auto"], ("ray", "auto")),
        (["--backend", "dask", "--set", "training.address=h:1"], ("dask", "h:1")),
        (["--set", "training.backend=dask", "--scheduler", "h:2"], ("dask", "h:2")),
        (["file.toml"], ("dask", "h:3")),
        (["file.toml", "--scheduler", "h:4"], ("dask", "h:4")),
        (["file.toml", "--backend", "dask"], ("dask", "h:3")),
        (["file.toml", "--backend", "threads"], ("threads", "")),
        (["file.toml", "--backend", "ray", "--address", "h:5"], ("ray", "h:5")),
    ],
    ids=lambda value: " ".join(value),
)
def test_flags_and_settings_say_where_workers_are(shell, tmp_path, monkeypatch, arguments, place):
    from ticketsearch import experiment

    (tmp_path / "file.toml").write_text('[training]\nbackend = "dask"\naddress = "h:3"\n')
    seen = []

    def prepare(settings):
        seen.append((settings.training.backend, settings.training.address))
        raise BadInput("enough")

    monkeypatch.setattr(experiment.Search, "prepare", prepare)
    refused(shell("evolve", *arguments), "enough")
    assert seen == [place]


@pytest.mark.slow
def test_a_taken_name_is_refused_and_the_run_stays(finished, small_run):
    before = (small_run / "run.sqlite").read_bytes()
    refused(finished("evolve", "--name", "small"), "exists already", "--resume small")
    assert (small_run / "run.sqlite").read_bytes() == before


@pytest.mark.slow
def test_resuming_with_other_settings_or_other_data_is_refused(finished):
    refused(finished("evolve", "--resume", "small", "--density", "0.2"), "seeding.density is 0.1", "0.2 here")
    refused(finished("evolve", "--resume", "small", "--generations", "1"), "2 generations already", "1")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return lambda masks: masks.sum(axis=1)[:-1] * 1.0", ["one float a mask", "(4,)", "(3,)"]),
        ("return lambda masks: masks.sum(axis=1) * float('nan')", ["not finite for any of the 4"]),
        ("return 5", ["must build a callable", "int"]),
    ],
)
def test_a_users_fitness_that_is_wrong_is_one_line(shell, tmp_path, body, words):
    (tmp_path / "mine.py").write_text(f"def build(network, dataset):\n    {body}\n")
    small = ("--model", "mlp:10", "--density", "0.2", "--population", "4", "--generations", "1")
    result = shell("evolve", *small, "--initializations", "2", "--set", "fitness.name=mine.py:build")
    refused(result, *words)


@pytest.mark.filterwarnings("default::ticketsearch.evolution.GuidanceWarning")
@pytest.mark.slow
def test_a_search_goes_by_the_users_own_fitness_pruner_operators_data_and_model(shell, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np, torch\n"
        "from ticketsearch.datasets import from_arrays\n"
        "from ticketsearch.operators import layer_shuffle\n"
        "def load(*, samples=300):\n"
        "    rng = np.random.default_rng(0)\n"
        "    y = np.arange(samples) % 3\n"
        "    return from_arrays('mine', rng.normal(size=(samples, 5)) + y[:, None], y)\n"
        "def model(input_shape, classes):\n"
        "    nn = torch.nn\n"
        "    return nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, classes))\n"
        "def scores(network, mask, batch, *, rng):\n"
        "    assert batch is not None\n"
        "    return {k: torch.rand(p.shape) for k, p in network.parameters().items() if k in mask}\n"
        "def mutate(mask, *, spec, rng, rate):\n"
        "    return layer_shuffle(mask, spec=spec, rng=rng)\n"
        "def build(network, dataset, *, sign=1):\n"
        "    return lambda masks: sign * masks[:, :10].sum(axis=1)\n"
    )
    code, out, err = shell(
        *("evolve", "--data", "mine.py:load", "--model", "mine.py:model", "--density", "0.3"),
        *("--population", "6", "--generations", "3", "--initializations", "3", "--name", "mine"),
        *("--set", "seeding.method=mine.py:scores", "--set", "evolution.mutation=mine.py:mutate"),
        *("--set", "fitness.name=mine.py:build", "--set", "fitness.options={sign=-1}"),
        *("--set", "final.steps=5", "--set", "data.options={samples=240}", "--set", "training.batch=32"),
    )
    assert code == 0, err
    assert err.count("warning: the fitness gives no guidance") == 1
    assert "scores, same initialization" in out
    with Run.open(tmp_path / "runs" / "mine") as run:
        assert {t.operator for t in run.tickets()} >= {"scores", "mutate"}
        assert all(t.score == -t.mask[:10].sum() for t in run.tickets())
        assert Path(run.settings.data.name.rpartition(":")[0]).is_absolute()


def test_a_folder_where_nothing_can_be_made_is_one_line(shell, tmp_path):
    (tmp_path / "runs").write_text("a file, not a folder")
    result = shell(
        "evolve", "--population", "4", "--generations", "0", "--initializations", "2", "--steps", "1"
    )
    refused(result, "runs")


LINE = Line(3, -0.25, -0.5, 0.05, 0.04, 7, 1, 32, 2.0)


def test_plain_lines_tell_speed_and_time_left(capsys):
    lines = PlainLines(5)
    lines.generation(LINE)
    err = capsys.readouterr().err
    assert "16.0 evaluations/s" in err
    assert "0:04 left" in err
    assert "7 duplicates refused, 1 diverged" in err


def live_table(*lines, width=120, terminal=True):
    """Return what a terminal shows after these generations, or its last picture alone as plain text."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width)
    with Live(console=console, auto_refresh=False) as live:
        table = LiveTable(5, live)
        table.say("Pruning")
        for line in lines:
            table.generation(line)
        table.on_evaluated(None, 4, 1_004, 1_200)
        live.refresh()
    return console.file.getvalue()


def test_the_live_table_has_a_row_a_generation():
    shown = live_table(LINE)
    for word in ("generation", "3/5", "-0.2500", "-0.5000", "0.0500", "0.0400", "16.0", "0:04"):
        assert word in shown
    assert "τ" not in shown


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (120, ""),
        (90, ""),
        (80, "effective"),
        (60, "effective refused eval/s"),
        (40, "effective refused eval/s mean diverged"),
    ],
)
def test_a_narrow_terminal_leaves_out_whole_columns_and_no_digit(width, left_out):
    wide = {"generation": "3/5", "best fitness": "-0.2500", "mean": "-0.5000", "density": "0.0500"}
    wide |= {"effective": "0.0400", "refused": "7", "diverged": "1", "eval/s": "16.0", "left": "0:04"}
    headings, figures, spinner = live_table(LINE, width=width, terminal=False).splitlines()
    kept = {heading: figure for heading, figure in wide.items() if heading not in left_out.split()}
    assert re.split(" {2,}", headings.strip()) == list(kept)
    assert figures.split() == list(kept.values())
    assert spinner.endswith("generation 4: 1,004 of 1,200 trained")
    assert max(map(len, (headings, figures))) <= width


@pytest.mark.parametrize(("width", "room"), [(40, False), (60, True), (80, True), (90, True)])
def test_the_columns_of_rungs_and_time_stay_where_there_is_room(width, room):
    headings, _, figures, _ = live_table(LINE, LADDER, width=width, terminal=False).splitlines()
    assert max(map(len, (headings, figures))) <= width
    assert ("τ (pairs)" in headings) == ("0.71 (12)" in figures) == room
    assert figures.split()[-1] == "0:04"


def test_lines_tell_of_evaluations_at_most_every_30_seconds(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("ticketsearch.python.progress.time.monotonic", lambda: now[0])
    lines, said = PlainLines(5), []
    for seconds, done in ((10, 1), (29.9, 2), (30, 3), (59, 4), (60, 5), (75, 6), (99, 7), (105, 8)):
        now[0] = 100.0 + seconds
        if seconds == 75:
            lines.generation(LINE)  # any line counts
            capsys.readouterr()
        lines.on_evaluated(None, 0, done, 12)
        said += [(seconds, line) for line in capsys.readouterr().err.splitlines()]
    assert said == [(s, f"generation 0: {d} of 12 trained") for s, d in ((30, 3), (60, 5), (105, 8))]


LADDER = replace(LINE, taus=(Tau(50, 200, 12, 0.714, 0.3, 0.9), Tau(200, 800, 0, *[float("nan")] * 3)))


def test_both_kinds_of_progress_show_how_far_rungs_agree_with_the_number_of_pairs(capsys):
    PlainLines(5).generation(LADDER)
    assert ", τ 50→200 0.71 (12 pairs), 16.0 evaluations/s" in capsys.readouterr().err
    PlainLines(5).generation(replace(LINE, taus=(LADDER.taus[0]._replace(pairs=1),)))
    assert "τ 50→200 0.71 (1 pair), " in capsys.readouterr().err
    shown = live_table(LINE, LADDER)
    assert "τ (pairs)" in shown
    assert re.search(r"0\.71 \(12\) .*16\.0", shown)
    assert "nan" not in shown


@pytest.mark.filterwarnings("ignore::ticketsearch.evolution.GuidanceWarning")
@pytest.mark.slow
def test_a_search_on_a_ladder_shows_its_agreement_and_whom_not_to_trust(shell, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "import ticketsearch as ts\n"
        "def build(network, dataset, *, rungs):\n"
        "    def fitness(masks, round):\n"
        "        true = masks[:, ::2].sum(axis=1) + np.random.default_rng(round).random(len(masks))\n"
        "        scores = [-true, true - 1000, true - 2000]\n"
        "        rng, score = np.random.default_rng(round), lambda positions, r: scores[r][positions]\n"
        "        result = ts.successive_halving(len(masks), rungs, score, rng)\n"
        "        steps = np.array(rungs)[result.rung]\n"
        "        return ts.Scores(result.score, rungs=steps, agreements=result.agreements)\n"
        "    return fitness\n"
    )
    small = ("--model", "mlp:10", "--density", "0.2", "--population", "8", "--generations", "9")
    small += ("--set", "evolution.reassess=0", "--set", "evolution.crossover=uniform_crossover")
    small += ("--set", "evolution.mutation=swap_mutation")
    own = ("--set", "fitness.name=mine.py:build", "--set", "fitness.options={rungs=[50, 200, 800]}")
    final = ("--set", "final.steps=5", "--set", "final.orders=2")
    code, out, err = shell("evolve", *small, "--initializations", "2", *own, *final, "--name", "x")
    assert code == 0, err
    assert "τ 50→200 -1.00 (10 pairs), 200→800 1.00 (60 pairs), " in err
    low, high = [line for line in out.splitlines() if " steps: τ " in line]
    assert re.match(r"  50 and 200 steps: τ -1.00 \(95 % -1.00 to -0.\d\d, 10 pairs\); ", low)
    assert low.endswith("; the rung of 50 steps is not to be trusted, as τ < 0.4.")
    assert re.fullmatch(r"  200 and 800 steps: τ 1.00 \(95 % 0.\d\d to 1.00, 60 pairs\)\.", high)
    _, out, _ = shell("show", "x")
    assert {low, high} <= set(out.splitlines())
    each = "  rungs of 50 and 200 steps: pairs of controls 0 concordant, 1 discordant, 0 tied\n"
    assert out.count(each) == 10
    with Run.open(tmp_path / "runs" / "x") as run:
        for ticket in run.tickets():
            assert f"rung {ticket.rung}, fitness {ticket.score!r}" in out
        # Those that meet the final training are the best by rung, then score.
        members = sorted(run.last().population, key=lambda ticket: (ticket.rung, ticket.score))
        best = {ticket.number for ticket in members[-run.settings.final.candidates :]}
        assert {r.ticket for r in run.results() if r.part == "validation"} == best


def test_steps_at_the_shell_may_be_a_ladder(shell, monkeypatch):
    from ticketsearch import experiment

    seen = []

    def prepare(settings):
        seen.append(settings.training.steps)
        raise BadInput("enough")

    monkeypatch.setattr(experiment.Search, "prepare", prepare)
    for steps in (["--steps", "50,200,800"], ["--set", "training.steps=[50,200]"], ["--steps", "60"]):
        refused(shell("evolve", *steps), "enough")
    assert seen == [[50, 200, 800], [50, 200], 60]


@pytest.mark.slow
@pytest.mark.full
def test_a_reader_that_has_read_enough_is_no_error(small_run):
    """As of ``show RUN | head``: the pipe is closed before the command writes."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "ticketsearch", "show", str(small_run)]
    found = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (found.returncode, found.stderr) == (0, "")
