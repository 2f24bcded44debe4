"""Own code that ends the program, takes other arguments or raises: one line, exit code 2, nothing lost."""

from pathlib import Path

import numpy as np
import pytest
from conftest import refusal
from searches import plain

from ticketsearch import cli
from ticketsearch.datasets import load_dataset
from ticketsearch.errors import BadInput
from ticketsearch.evolution import evolve
from ticketsearch.fitness import build_fitness
from ticketsearch.models import initialize
from ticketsearch.plugins import call, own_code
from ticketsearch.pruners import prune
from ticketsearch.runs import Run

pytestmark = pytest.mark.slow

HEAD = """
import sys, torch
from ticketsearch.datasets import load_dataset
from ticketsearch.models import mlp
from ticketsearch.operators import swap_mutation
class Leaving(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
    def forward(self, x):
        {leave}
def leave():
    {leave}
def load():
    {leave}
def model(input_shape, classes):
    {leave}
def forward(input_shape, classes):
    return Leaving()
def scores(network, mask, batch, *, rng):
    {leave}
def reward(outputs, y):
    {leave}
def mutate(mask, *, spec, rng, rate):
    {leave}
def building(network, dataset):
    {leave}
def fitness(network, dataset):
    def score(masks, *, round=0):
        if round:
            {leave}
        return masks[:, :20].sum(axis=1)
    return score
"""
SMALL = (
    *("evolve", "--model", "mlp:6", "--population", "4", "--generations", "2", "--initializations", "2"),
    *("--density", "0.2", "--device", "cpu", "--method", "magnitude", "--steps", "1"),
    *("--set", "final.steps=0", "--set", "final.orders=1", "--set", "evolution.reassess=0"),
)


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        return ended.value.code, *capsys.readouterr()

    return run


def own_line(result):
    """Return the one line with which a command ended; what was announced before stands above it."""
    code, out, err = result
    assert (code, out) == (2, "")
    *_, last = err.splitlines()
    assert last.startswith("error: "), err
    assert "Traceback" not in err
    return last


LEAVING = ["sys.exit(0)", "sys.exit(7)", "raise GeneratorExit", "raise BaseException('odd')"]
PLACES = {
    "load": ("--data", "mine.py:load"),
    "model": ("--model", "mine.py:model"),
    "forward": ("--model", "mine.py:forward"),
    "scores": ("--method", "mine.py:scores"),
    "reward": ("--method", "saliency", "--set", "seeding.options.reward=mine.py:reward"),
    "mutate": ("--set", "evolution.mutation=mine.py:mutate", "--set", "evolution.crossover_rate=0"),
    "building": ("--set", "fitness.name=mine.py:building"),
    "fitness": (
        *("--set", "fitness.name=mine.py:fitness"),
        *("--set", "evolution.crossover=uniform_crossover", "--set", "evolution.mutation=swap_mutation"),
    ),
}


@pytest.mark.filterwarnings("ignore::ticketsearch.evolution.GuidanceWarning")
@pytest.mark.parametrize("place", PLACES)
def test_code_that_would_end_the_program_is_one_line_and_exit_code_2(shell, place):
    leave = LEAVING[list(PLACES).index(place) % len(LEAVING)]
    Path("mine.py").write_text(HEAD.format(leave=leave))
    line = own_line(shell(*SMALL, *PLACES[place], "--name", "one"))
    name = leave.removeprefix("raise ").partition("(")[0]
    assert {"sys.exit": "SystemExit"}.get(name, name) in line
    assert "__main__" in line
    if place == "fitness":
        with Run.open("runs/one") as run:
            assert run.progress() == 0
        Path("mine.py").write_text(HEAD.format(leave="pass"))
        code, _, err = shell("evolve", "--resume", "one", "--trust")
        assert code == 0, err


@pytest.mark.parametrize("leave", LEAVING)
def test_a_file_that_would_end_the_program_does_not_load(shell, leave):
    Path("mine.py").write_text(f"import sys\n{leave}\n")
    for place in (PLACES["load"], PLACES["model"], PLACES["scores"], PLACES["mutate"], PLACES["fitness"]):
        assert "'mine.py' does not load (" in own_line(shell(*SMALL, *place)).replace(f"{Path.cwd()}/", "")
    assert not Path("runs").exists()


def test_ctrl_c_in_own_code_stays_an_interrupt():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(stop, "dataset", "mine")
    with pytest.raises(KeyError), own_code("dataset", "mine"):
        raise KeyError("an ordinary error passes")


@pytest.mark.parametrize(
    "place",
    [
        ("--data", "os.path:join"),
        ("--data", "builtins:print"),
        ("--data", "builtins:dict.fromkeys"),
        ("--model", "os.path:join"),
        ("--model", "os.path:basename"),
        ("--model", "math.nothing:x"),
        ("--method", "os.path:join"),
        ("--method", "os.path:exists"),
        ("--set", "fitness.name=os.path:join"),
        ("--set", "fitness.name=os.path:exists"),
        ("--set", "fitness.name=collections.abc:Mapping"),
        ("--set", "evolution.mutation=os.path:join"),
        ("--set", "evolution.crossover=os.path:join"),
        ("--method", "saliency", "--set", "seeding.options.reward=os.path:exists"),
    ],
    ids=" ".join,
)
def test_functions_that_take_other_arguments_are_one_line(shell, place):
    assert own_line(shell(*SMALL, *place)).count(":") >= 1
    assert not Path("runs").exists()


def test_functions_without_a_signature_are_called_and_refused():
    for kind in ("dataset", "pruner"):
        message = refusal(call, max, kind, "builtins:max")
        assert "does not take what it is given (TypeError: max expected" in message
    assert call(max, "model", "builtins:max", 1, 2) == 2


def test_a_loader_that_raises_is_one_line_at_the_shell_and_itself_in_python(shell):
    Path("mine.py").write_text("def load():\n    return {}['absent']\n")
    line = own_line(shell(*SMALL, "--data", "mine.py:load"))
    assert "KeyError: 'absent', raised in" in line
    assert "mine.py', line 2" in line
    with pytest.raises(KeyError):
        load_dataset("mine.py:load")


def test_a_model_or_a_fitness_that_cannot_be_built_says_why_and_keeps_the_cause(tiny):
    def model(input_shape, classes):
        raise RuntimeError("two\nlines")

    with pytest.raises(BadInput) as caught:
        initialize(model, tiny)
    built = "model 'model' cannot be built for input_shape (7,), 3 classes and options {}"
    assert str(caught.value) == f"{built} (RuntimeError: two lines)"
    assert isinstance(caught.value.__cause__, RuntimeError)
    network = initialize("mlp:5", tiny)
    assert "cannot be built" in refusal(build_fitness, "os.path:join", network, tiny)


def test_an_error_of_an_own_fitness_passes_with_its_traceback(shell, capsys):
    Path("mine.py").write_text(HEAD.format(leave="raise KeyError('mine')"))
    with pytest.raises(KeyError, match="mine"):
        cli.main([*SMALL, *PLACES["fitness"], "--name", "one"])
    with Run.open("runs/one") as run:
        assert run.progress() == 0


def test_scores_that_no_report_can_show_are_refused_at_once(tiny):
    network = initialize("mlp:5", tiny)
    masks = np.stack([prune(network, "random", density=0.5, seed=seed) for seed in range(3)])
    for score, words in (
        (lambda masks: np.full(len(masks), 1e308), "at most 1e+100 in size, but a fitness returned 1e+308"),
    ):
        assert words in refusal(next, evolve(masks, score, network.spec, **plain(generations=1)))
    huge = evolve(masks, lambda masks: np.array([1.0, -1e200, 2.0]), network.spec, generations=0)
    assert [ticket.diverged for ticket in next(huge).population].count(True) == 1


def test_reward_and_scores_given_as_functions_are_guarded_too(digits):
    network = initialize("mlp:5", digits)

    def leaving(*_, **__):
        raise SystemExit(0)

    for options in ({"method": "saliency", "reward": leaving}, {"method": leaving}):
        message = refusal(prune, network, density=0.5, dataset=digits, **options)
        assert "would end the program (SystemExit: 0)" in message
