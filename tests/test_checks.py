"""Arguments of another kind than annotations say are refused by name, in all public functions."""

import inspect
import warnings
from functools import cache
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import every

import ticketsearch as ts
from ticketsearch.checks import LAYERS, check, checked
from ticketsearch.comparison import Comparison
from ticketsearch.errors import shown
from ticketsearch.overlap_studies import Overlaps
from ticketsearch.settings import Settings
from ticketsearch.sweeps import Sweep


def uniform(masks):
    return np.zeros(len(masks))


@cache
def arguments():
    """Return each public function's arguments without a default; one that writes gets no folder's name."""
    rng = np.random.default_rng(0)
    data = ts.from_arrays("mine", rng.random((60, 4)), np.arange(60) % 3)
    network = ts.initialize("mlp:3", data)
    spec = network.spec
    mask = rng.random(spec.size) < 0.7
    tickets = ts.Tickets([ts.Ticket(mask), ts.Ticket(~mask)])
    functions = {
        "align": {"mask": mask, "reference": mask, "spec": spec},
        "batched": {"function": uniform},
        "canonical_form": {"mask": mask, "spec": spec},
        "canonical_identity": {"mask": mask, "spec": spec},
        "canonical_key": {"mask": mask, "spec": spec},
        "successive_halving": {
            "size": 2,
            "rungs": (1,),
            "evaluate": lambda p, r: np.zeros(len(p)),
            "rng": rng,
        },
        "comparison_text": {"comparisons": Comparison("mine", Settings(), 1, (), ())},
        "overlaps_text": {"overlaps": Overlaps("mine", {}, spec, (), ())},
        "sweep_text": {"sweep": Sweep(Path("mine"), Settings(), (0,), {}, ())},
        "compare": {"folder": "/dev/null/none"},
        "density": {"mask": mask},
        "effective_density": {"mask": mask, "spec": spec},
        "evolve": {"first": tickets, "fitness": uniform, "spec": spec},
        "flow_retention": {"mask": mask, "network": network},
        "from_pruned": {"module": torch.nn.Linear(4, 3), "dataset": data},
        "from_arrays": {"name": "mine", "x": rng.random((60, 4)), "y": np.arange(60) % 3},
        "initializations": {"count": 2},
        "initialize": {"model": "mlp:3", "dataset": data},
        "isomorphic": {"a": mask, "b": mask, "spec": spec},
        "live": {"mask": mask, "spec": spec},
        "live_units": {"mask": mask, "spec": spec},
        "load_dataset": {"name": "digits"},
        "load_ticket": {"path": "/dev/null/none"},
        "load_trained": {"path": "/dev/null/none"},
        "overlap_study": {"masks": np.stack([mask, ~mask]), "spec": spec, "draws": 1, "aligned_draws": 1},
        "permute": {"mask": mask, "spec": spec, "order": {}},
        "prune": {"network": network, "method": "magnitude", "density": 0.5},
        "prune_all": {"networks": [network], "method": "magnitude", "density": 0.5},
        "read_comparison": {"folder": "/dev/null/none"},
        "read_overlaps": {"folder": "/dev/null/none"},
        "save_ticket": {"path": "/dev/null/none", "network": network, "ticket": ts.Ticket(mask)},
        "seed_population": {
            "network": network,
            "size": 2,
            "density": 0.5,
            "initializations": 2,
            "method": "magnitude",
        },
        "study_pruners": {"network": network, "methods": "magnitude", "folder": "/dev/null/none", "draws": 1},
        "compact": {"network": network, "mask": mask},
        "to_networkx": {"mask": mask, "spec": spec},
        "to_pruned": {"network": network, "mask": mask},
        "to_sparse": {"network": network, "mask": mask},
        "train": {"network": network, "mask": mask, "dataset": data, "steps": 1},
        "search": {"settings": "/dev/null/none", "name": "no/name"},
        "read_sweep": {"folder": "/dev/null/none"},
        "sweep": {"settings": "/dev/null/none", "name": "no/name"},
        "Dataset": {n: getattr(data, n) for n in inspect.signature(ts.Dataset).parameters},
        "DensitySchedule": {"start": 0.5, "final": 0.1},
        "Duplicates": {},
        "EvaluationOptions": {},
        "LocalSearch": {"steps": 1, "most": 1},
        "NSGA2": {},
        "Recipe": {},
        "Scores": {"values": [1.0]},
        "ShortTraining": {"network": network, "dataset": data, "steps": 1},
        "Tournament": {},
        "Variation": {},
    }
    theory = {
        "audit": {"network": network, "methods": ["magnitude"]},
        "collapsed": {"mask": mask, "spec": spec},
        "conservation": {"scores": rng.random(spec.size), "network": network},
        "critical_compression": {"network": network, "method": "magnitude"},
        "disconnected": {"mask": mask, "spec": spec},
        "prune_to_cut": {"network": network, "method": "magnitude"},
        "rho_max": {"spec": spec},
    }
    return functions | {f"theory.{name}": given for name, given in theory.items()}


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
    "Callback",
    "EqualScoresWarning",
    "Generation",
    "Guidance",
    "GuidanceWarning",
    "HalvingResult",
    "Initialization",
    "LayerCollapseWarning",
    "MaskSpec",
    "Network",
}
APART |= {"Run", "Ticket", "Tickets", "theory", "__version__"}
# Functions of ts.theory.
THEORY = ["audit", "collapsed", "conservation", "critical_compression", "disconnected", "prune_to_cut"]
THEORY += ["rho_max"]


def called(function, given):
    """Call a function, and begin what it yields; return an error that is no refusal in one line."""
    given = dict(given)
    first = {n: given.pop(n) for n in list(given) if n == "name" and function is ts.load_dataset}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = function(*first.values(), **given)
            if inspect.isgenerator(found):
                next(found, None)
    except ts.BadInput as refusal:
        return None if "\n" not in str(refusal) and len(str(refusal)) < 700 else str(refusal)
    except Exception as error:  # any at all
        return f"{type(error).__name__}: {error}"
    return None


FUNCTIONS = sorted(set(ts.__all__) - APART) + [f"theory.{name}" for name in THEORY]


def test_the_table_holds_every_public_function():
    assert set(arguments()) == set(FUNCTIONS)


@pytest.mark.parametrize("name", every(FUNCTIONS, quick=["density", "initialize", "prune", "theory.rho_max"]))
def test_arguments_of_other_types_are_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, given, wrong = attrgetter(name)(ts), arguments()[name], []
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
    network, mask = arguments()["prune"]["network"], arguments()["live"]["mask"]
    data, spec = arguments()["initialize"]["dataset"], network.spec
    for call, said in (
        (lambda: ts.prune(network, "synflow", density=0.5, steps=10**9), "steps must be at most 100,000"),
        (lambda: ts.seed_population(network, size=10**20), "size must be at most 1,000,000"),
        (
            lambda: ts.seed_population(network, size=10**6, density=0.1, initializations=1),
            "only 210 different",
        ),
        (lambda: ts.evolve([mask], uniform, spec, generations=10**7), "generations must be at most"),
        (lambda: ts.evolve([mask], uniform, spec, generations="3"), "must be an integer, but got '3'"),
        (lambda: ts.initialize("mlp:" + "3," * LAYERS + "3", data), "at most 1000 hidden layers"),
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
