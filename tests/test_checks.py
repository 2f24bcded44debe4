"""Arguments of another kind than annotations say are refused by name, in all public functions."""

import inspect
import warnings

import numpy as np
import pytest
import torch

import ticketsearch as ts
from ticketsearch.checks import LAYERS, check, checked
from ticketsearch.errors import shown

rng = np.random.default_rng(0)
DATA = ts.from_arrays("mine", rng.random((60, 4)), np.arange(60) % 3)
NETWORK = ts.initialize("mlp:3", DATA)
SPEC = NETWORK.spec
MASK = rng.random(SPEC.size) < 0.7
TICKETS = ts.Tickets([ts.Ticket(MASK), ts.Ticket(~MASK)])


def uniform(masks):
    return np.zeros(len(masks))


# What each public function takes that has no default; functions that write are given names of no folder.
GIVEN = {
    "align": {"mask": MASK, "reference": MASK, "spec": SPEC},
    "batched": {"function": uniform},
    "canonical_form": {"mask": MASK, "spec": SPEC},
    "canonical_identity": {"mask": MASK, "spec": SPEC},
    "canonical_key": {"mask": MASK, "spec": SPEC},
    "climb": {"size": 2, "rungs": (1,), "evaluate": lambda p, r: np.zeros(len(p)), "rng": rng},
    "compare": {"folder": "/dev/null/none"},
    "density": {"mask": MASK},
    "effective_density": {"mask": MASK, "spec": SPEC},
    "evolve": {"first": TICKETS, "fitness": uniform, "spec": SPEC},
    "flow_retention": {"mask": MASK, "network": NETWORK},
    "from_pruned": {"module": torch.nn.Linear(4, 3), "dataset": DATA},
    "from_arrays": {"name": "mine", "x": rng.random((60, 4)), "y": np.arange(60) % 3},
    "initializations": {"count": 2},
    "initialize": {"model": "mlp:3", "dataset": DATA},
    "isomorphic": {"a": MASK, "b": MASK, "spec": SPEC},
    "live": {"mask": MASK, "spec": SPEC},
    "live_units": {"mask": MASK, "spec": SPEC},
    "load_dataset": {"name": "digits"},
    "load_ticket": {"path": "/dev/null/none"},
    "overlap_study": {"masks": np.stack([MASK, ~MASK]), "spec": SPEC, "draws": 1, "aligned_draws": 1},
    "permute": {"mask": MASK, "spec": SPEC, "order": {}},
    "prune": {"network": NETWORK, "method": "magnitude", "density": 0.5},
    "prune_all": {"networks": [NETWORK], "method": "magnitude", "density": 0.5},
    "read_comparison": {"folder": "/dev/null/none"},
    "read_overlaps": {"folder": "/dev/null/none"},
    "save_ticket": {"path": "/dev/null/none", "network": NETWORK, "ticket": ts.Ticket(MASK)},
    "seed_population": {
        "network": NETWORK,
        "size": 2,
        "density": 0.5,
        "initializations": 2,
        "method": "magnitude",
    },
    "study_pruners": {"network": NETWORK, "methods": "magnitude", "folder": "/dev/null/none", "draws": 1},
    "to_networkx": {"mask": MASK, "spec": SPEC},
    "Dataset": {n: getattr(DATA, n) for n in inspect.signature(ts.Dataset).parameters},
    "EvaluationOptions": {},
    "Recipe": {},
    "Scores": {"values": [1.0]},
    "ShortTraining": {"network": NETWORK, "dataset": DATA, "steps": 1},
}
THEORY = {
    "audit": {"network": NETWORK, "methods": ["magnitude"]},
    "collapsed": {"mask": MASK, "spec": SPEC},
    "conservation": {"scores": rng.random(SPEC.size), "network": NETWORK},
    "critical_compression": {"network": NETWORK, "method": "magnitude"},
    "disconnected": {"mask": MASK, "spec": SPEC},
    "prune_to_cut": {"network": NETWORK, "method": "magnitude"},
    "rho_max": {"spec": SPEC},
}
OTHERS = (
    None,
    "text",
    1.5,
    -3,
    10**30,
    object(),
    np.empty(0),
    [],
    {},
    b"\0",
    float("nan"),
    torch.zeros(2, 2),
)
# Neither functions nor made of what users give.
APART = {
    "BadInput",
    "EqualScoresWarning",
    "Generation",
    "Guidance",
    "Initialization",
    "LayerCollapseWarning",
    "MaskSpec",
    "Network",
}
APART |= {"Run", "Ticket", "Tickets", "theory", "__version__"}


def called(function, arguments):
    """Call a function, and begin what it yields; return an error that is no refusal in one line."""
    arguments = dict(arguments)
    first = {n: arguments.pop(n) for n in list(arguments) if n == "name" and function is ts.load_dataset}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = function(*first.values(), **arguments)
            if inspect.isgenerator(found):
                next(found, None)
    except ts.BadInput as refusal:
        return None if "\n" not in str(refusal) and len(str(refusal)) < 700 else str(refusal)
    except Exception as error:  # any at all
        return f"{type(error).__name__}: {error}"
    return None


def test_the_table_holds_every_public_function():
    assert set(GIVEN) | APART == set(ts.__all__)


@pytest.mark.parametrize("name", [*GIVEN, *(f"theory.{name}" for name in THEORY)])
def test_arguments_of_other_types_are_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theory, _, own = name.rpartition(".")
    function, given = (getattr(ts.theory, own), THEORY[own]) if theory else (getattr(ts, own), GIVEN[own])
    wrong = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        for other in OTHERS:
            if parameter.name == "folder" and isinstance(other, str):
                continue  # a folder: the comparison or study would be made
            if fault := called(function, {**given, parameter.name: other}):
                wrong.append(f"{parameter.name}={shown(other)}: {fault}")
    assert not wrong, "\n".join(wrong)


def test_values_are_shown_on_one_line_of_eighty_characters():
    class Odd:
        def __repr__(self):
            raise KeyError

    assert shown("a\nb") == r"'a\nb'"
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert len(shown("x" * 10**6)) == 80
    assert shown(10**5000) == "an integer of 16610 bits"
    assert shown(Odd()) == "a Odd"


def test_limits_are_said_at_once_and_own_rules_come_first():
    for call, said in (
        (lambda: ts.prune(NETWORK, "synflow", density=0.5, steps=10**9), "steps must be at most 100,000"),
        (lambda: ts.seed_population(NETWORK, size=10**20), "size must be at most 1,000,000"),
        (
            lambda: ts.seed_population(NETWORK, size=10**6, density=0.1, initializations=1),
            "only 210 different",
        ),
        (lambda: ts.evolve([MASK], uniform, SPEC, generations=10**7), "generations must be at most"),
        (lambda: ts.evolve([MASK], uniform, SPEC, generations="3"), "must be an integer, but got '3'"),
        (lambda: ts.initialize("mlp:" + "3," * LAYERS + "3", DATA), "at most 1000 hidden layers"),
        (lambda: ts.initializations(10**6), "count must be at most 10,000"),
        (lambda: check("steps", 1.5, int), "steps must be an integer, but got 1.5"),
    ):
        with pytest.raises(ts.BadInput, match=said):
            call()


def test_an_error_that_arguments_do_not_explain_passes_through():
    @checked
    def divided(number: int) -> float:
        return 1 / number

    assert divided(2) == 0.5
    with pytest.raises(ZeroDivisionError):
        divided(0)
    with pytest.raises(ts.BadInput, match="number must be an integer, but got 'x'"):
        divided("x")
    with pytest.raises(TypeError, match="unexpected keyword"):
        divided(2, other=3)
