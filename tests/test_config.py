"""Settings: read, written, changed by name, and identified by what determines a run's content."""

import json
import types
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from conftest import examples, refusal, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketsearch.errors import BadInput
from ticketsearch.settings import (
    Settings,
    apply,
    changes,
    leaves,
    load,
    parse_assignment,
    stored,
    to_toml,
)
from ticketsearch.settings import settings_digest as identity

LEAVES = dict(leaves(Settings().model_dump()))
# What two runs of one content may differ in: who computes it, its limit of time, and how far it has come.
PLACES = {"training.workers", "training.backend", "training.address", "evolution.minutes"}
NO_CONTENT = {*PLACES, "evolution.generations"}


def other_value(name):
    """Return a valid value other than the default of the setting ``name``."""
    *sections, key = name.split(".")
    model = Settings
    for section in sections:
        model = model.model_fields[section].annotation
    annotation, default = model.model_fields[key].annotation, LEAVES[name]
    if get_origin(annotation) is Literal:
        return next(choice for choice in get_args(annotation) if choice != default)
    return {
        bool: lambda: not default,
        int: lambda: default + 1,
        float: lambda: default / 2 if default else 0.25,
        str: lambda: f"{default}_other",
        list: lambda: [*default, "/as_built"],  # absolute, as paths become
        dict: lambda: {"width": 3, "deep": {"name": "x"}},
        types.NoneType: lambda: 1,
    }[type(default)]()


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# Reading and writing


def test_without_a_file_all_settings_are_the_defaults():
    assert load(None) == Settings()


def test_the_defaults_are_the_job_with_no_argument():
    found = Settings()
    assert (found.data.name, found.model.name, found.seed) == ("digits", "mlp:100,50", 0)
    assert (found.seeding.density, found.seeding.initializations, found.seeding.steps) == (0.05, 8, 0)
    assert found.seeding.schemes == ["kaiming_normal", "kaiming_uniform", "xavier_uniform", "orthogonal"]
    assert (found.evolution.population, found.evolution.generations, found.evolution.attempts) == (32, 20, 10)
    assert (found.training.steps, found.training.optimizer, found.training.initialization) == (
        200,
        "sgd",
        "shared",
    )
    assert (found.final.steps, found.final.orders) == (1000, 5)


def test_the_defaults_survive_toml(tmp_path):
    assert load(written(tmp_path / "settings.toml", to_toml(Settings()))) == Settings()


@pytest.mark.parametrize("name", LEAVES)
def test_every_setting_survives_toml(name, tmp_path):
    changed = load(None, [(name, other_value(name))])
    again = load(written(tmp_path / "settings.toml", to_toml(changed)))
    assert again == changed
    assert again != Settings()
    assert identity(again) == identity(changed)


def test_a_file_is_silent_on_what_stays_the_default(tmp_path):
    path = written(
        tmp_path / "settings.toml", "seed = 3\n[evolution]\npopulation = 8\n[data.options]\nscale = 1\n"
    )
    found = load(path)
    assert (found.seed, found.evolution.population, found.data.options) == (3, 8, {"scale": 1})
    assert found.evolution.generations == Settings().evolution.generations


def test_assignments_come_after_the_file_and_the_last_one_counts(tmp_path):
    path = written(tmp_path / "settings.toml", "[evolution]\npopulation = 8\nelites = 1\n")
    found = load(path, [("evolution.population", 9), ("evolution.population", 10), ("data.options.scale", 2)])
    assert (found.evolution.population, found.evolution.elites) == (10, 1)
    assert found.data.options == {"scale": 2}


def test_leaves_rebuild_the_settings():
    changed = load(None, [(name, other_value(name)) for name in LEAVES])
    assert load(None, leaves(changed.model_dump())) == changed


def test_a_stored_setting_that_is_gone_may_have_done_nothing():
    tree = Settings(seed=3).model_dump()
    assert stored(tree) == Settings(seed=3)
    tree["seeding"]["repeats"] = 1
    assert stored(tree) == Settings(seed=3)
    tree["seeding"]["repeats"] = 2
    refused(lambda: stored(tree), "unknown setting 'seeding.repeats'")
    refused(lambda: load(None, [("seeding.repeats", 1)]), "unknown setting 'seeding.repeats'")


def test_apply_changes_what_it_names_and_nothing_else():
    start = load(None, [("seed", 4), ("data.options.a", 1)])
    changed = apply(start, [("evolution.generations", 50), ("data.options.b", 2)])
    assert (changed.seed, changed.evolution.generations, changed.data.options) == (4, 50, {"a": 1, "b": 2})
    assert (start.evolution.generations, start.data.options) == (20, {"a": 1})
    assert apply(start, []) == start


def test_options_of_one_do_not_leak_into_another():
    assert load(None, [("data.options.a", 1)]).model.options == {}
    assert Settings().data.options == {}


def test_a_missing_or_unreadable_or_malformed_file_is_named(tmp_path):
    absent = tmp_path / "absent.toml"
    assert refusal(load, absent) == f"no settings file {str(absent)!r}"
    assert refusal(load, tmp_path) == f"settings file {str(tmp_path)!r} cannot be read: Is a directory"
    broken = written(tmp_path / "broken.toml", "seed = \n")
    assert refusal(load, broken).startswith(f"settings file {str(broken)!r} is no TOML: ")
    broken.write_bytes(b"name = '\xff\xfe'")
    assert refusal(load, broken).startswith(f"settings file {str(broken)!r} is no TOML: ")


# What is refused


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("evolution.generation", ["'evolution.generation'", "did you mean 'evolution.generations'?"]),
        (
            "training.momentun",
            ["did you mean 'training.momentum'?", "known here are training.address, training.backend"],
        ),
        ("data.optoins", ["did you mean 'data.options'?", "known here are data.name, data.options"]),
        ("evolutoin.generations", ["unknown setting 'evolutoin' (did you mean 'evolution'?)"]),
        ("sed", ["did you mean 'seed'?", "data, evolution, final, fitness, model, seed, seeding, training"]),
        ("population", ["unknown setting 'population'"]),
        ("seed.x", ["setting seed must be a valid integer"]),
        ("evolution", ["setting evolution must be"]),
        ("evolution.population.x", ["setting evolution.population must be"]),
        ("", ["unknown setting ''"]),
        ("evolution.", ["unknown setting 'evolution.'"]),
        (".", ["unknown setting ''"]),
    ],
)
def test_an_unknown_setting_names_the_nearest_and_the_known(name, words):
    message = refusal(load, None, [(name, 3)])
    for word in words:
        assert word in message


def test_an_unknown_setting_in_a_file_is_refused_too(tmp_path):
    message = refusal(load, written(tmp_path / "s.toml", "[evolution]\npopulatoin = 8\n"))
    assert "did you mean 'evolution.population'?" in message
    assert "'extra'" in refusal(load, written(tmp_path / "s.toml", "[extra]\nx = 1\n"))
    assert "is a value, not a section" in refusal(
        load, written(tmp_path / "s.toml", "data = 3\n"), [("data.name", "digits")]
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("seed", 0.5),
        ("seeding.density", 0),
        ("seeding.density", 1.01),
        ("seeding.density", float("nan")),
        ("seeding.initializations", 0),
        ("seeding.schedule", "cubic"),
        ("seeding.schemes", "orthogonal"),
        ("seeding.schemes", [3]),
        ("evolution.population", 0),
        ("evolution.population", "many"),
        ("evolution.generations", -1),
        ("evolution.tournament", 0),
        ("evolution.crossover_rate", 1.5),
        ("evolution.mutation_rate", 0),
        ("training.steps", -1),
        ("training.steps", "50,20"),
        ("training.steps", [50, 50]),
        ("training.lr", 0),
        ("training.lr", float("inf")),
        ("training.momentum", 1),
        ("training.batch", 0),
        ("training.workers", -1),
        ("training.dtype", "float16"),
        ("final.orders", 0),
        ("data.name", 3),
        ("data.options", 3),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_rule_and_value(name, value):
    message = refusal(load, None, [(name, value)])
    assert message.startswith(f"setting {name}")
    assert "must be" in message
    assert message.endswith(f"but got {value!r}") or name == "seeding.schemes"
    with pytest.raises(BadInput):
        apply(Settings(), [(name, value)])


def test_the_ends_of_ranges_are_in():
    found = load(
        None, [("seeding.density", 1), ("evolution.generations", 0), ("training.momentum", 0), ("seed", 0)]
    )
    assert (found.seeding.density, found.evolution.generations, found.training.momentum) == (1.0, 0, 0.0)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("steps = 300", 300),
        ("steps = [50, 200, 800]", [50, 200, 800]),
        ('steps = "50,200,800"', [50, 200, 800]),
        ("steps = [300]", 300),
    ],
)
def test_steps_are_a_number_or_a_ladder_and_stay_what_they_are(tmp_path, given, found):
    first = load(written(tmp_path / "s.toml", f"[training]\n{given}\n"))
    again = load(written(tmp_path / "t.toml", to_toml(first)))
    for each in (first, again, load(None, leaves(json.loads(json.dumps(first.model_dump()))))):
        assert each.training.steps == found
        assert type(each.training.steps) is type(found)
        assert identity(each) == identity(load(None, [("training.steps", found)]))


def test_a_ladder_is_another_run_and_its_change_is_named():
    ladder = load(None, [parse_assignment("training.steps=50,200,800")])
    assert ladder == load(None, [parse_assignment("training.steps=[50, 200, 800]")])
    assert identity(ladder) == "e2edd39de47f47ef"
    assert changes(Settings(), ladder) == {"training.steps": (200, [50, 200, 800])}


def test_the_final_training_has_no_ladder():
    assert "final.steps" in refusal(load, None, [("final.steps", [50, 200])])


def test_settings_never_change():
    found = Settings()
    with pytest.raises(ValueError, match="frozen"):
        found.seed = 3
    with pytest.raises(ValueError, match="frozen"):
        found.evolution.population = 3


# Assignments at the shell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evolution.generations=50", ("evolution.generations", 50)),
        ("seeding.density = 0.02", ("seeding.density", 0.02)),
        ("training.lr=1e-3", ("training.lr", 0.001)),
        ("x=true", ("x", True)),
        ('seeding.schemes=["orthogonal"]', ("seeding.schemes", ["orthogonal"])),
        ("data.options={a = 1}", ("data.options", {"a": 1})),
        ('model.name="mlp:3"', ("model.name", "mlp:3")),
        ("model.name=mlp:300,100", ("model.name", "mlp:300,100")),
        ("model.name= mlp ", ("model.name", "mlp")),
        ("data.name=idx:../data/mnist", ("data.name", "idx:../data/mnist")),
        ("a.b=c=d", ("a.b", "c=d")),
        ("a.b=", ("a.b", "")),
    ],
)
def test_an_assignment_is_toml_or_else_plain_text(text, expected):
    found = parse_assignment(text)
    assert found == expected
    assert type(found[1]) is type(expected[1])


@pytest.mark.parametrize("text", ["", "seed", "=3", " =3", "evolution.generations 3"])
def test_an_assignment_without_a_name_or_a_sign_is_refused(text):
    assert refusal(parse_assignment, text) == f"a setting is given as section.name=value, but got {text!r}"


def test_a_number_as_people_write_it_is_a_number():
    assert load(None, [parse_assignment("seeding.density=.05")]).seeding.density == 0.05
    assert load(None, [parse_assignment("seed=007")]).seed == 7
    assert len(refusal(load, None, [parse_assignment("seed=" + "9" * 5000)])) < 160
    assert "9…" in refusal(load, None, [parse_assignment("seed=" + "9" * 5000)])
    assert "nested at most 16 deep" in refusal(parse_assignment, "data.options.x=" + "[" * 20_000)
    assert "leave it out" in refusal(load, None, [("model.options.seed", 1)])
    for value in (True, "8", 2.0, 10**7):
        assert "setting evolution.population" in refusal(load, None, [("evolution.population", value)])


@settings(max_examples=examples(100), deadline=None)
@given(st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=12))
def test_an_assignment_always_reads(value):
    assert parse_assignment(f"data.options.x={value}")[0] == "data.options.x"


# Identity


def test_identities_are_pinned():
    # A change here makes runs of today unknown to the package of tomorrow.
    assert identity(Settings()) == "01e7b720ff566d53"
    assert identity(load(None, [("seed", 7)])) == "0fdcc2c9013d887f"
    assert (
        identity(
            load(
                None,
                [("seeding.density", 0.02), ("model.name", "lenet_300_100"), ("evolution.population", 16)],
            )
        )
        == "99c957883ef03ebc"
    )
    assert identity(load(None, [("data.options.b", [1, 2.5]), ("data.options.a", "x")])) == "e1245bdb2b8ebba5"


@pytest.mark.parametrize("name", LEAVES)
def test_every_setting_changes_the_identity_but_those_without_content(name):
    changed = load(None, [(name, other_value(name))])
    assert (identity(changed) == identity(Settings())) is (name in NO_CONTENT)


def test_no_two_settings_share_an_identity():
    found = [identity(load(None, [(name, other_value(name))])) for name in LEAVES if name not in NO_CONTENT]
    assert len(set(found)) == len(found)


def test_workers_and_generations_leave_any_identity_as_it_is():
    base = [("evolution.population", 9), ("training.lr", 0.1)]
    more = [("evolution.generations", 99), ("training.workers", 2)]
    assert identity(load(None, base)) == identity(load(None, [*base, *more]))


def test_a_default_written_out_is_the_same_run(tmp_path):
    explicit = load(written(tmp_path / "settings.toml", to_toml(Settings())))
    assert identity(explicit) == identity(Settings())


def test_settings_of_before_there_were_maskings_are_the_same_run(tmp_path):
    text = to_toml(Settings())
    assert 'masking = "parameter"\n' in text
    old = load(written(tmp_path / "settings.toml", text.replace('masking = "parameter"\n', "")))
    assert old == Settings()
    assert changes(old, load(None, [("training.masking", "forward")])) == {
        "training.masking": ("parameter", "forward")
    }


def test_the_order_of_options_does_not_matter():
    ab = load(None, [("data.options.a", 1), ("data.options.b", 2)])
    ba = load(None, [("data.options.b", 2), ("data.options.a", 1)])
    assert identity(ab) == identity(ba)


def test_options_may_hold_whatever_toml_holds(tmp_path):
    path = written(tmp_path / "settings.toml", "[data.options]\nday = 2020-01-01\nlimit = inf\n")
    assert identity(load(path)) != identity(Settings())
    assert identity(load(written(tmp_path / "again.toml", to_toml(load(path))))) == identity(load(path))


# Changes


def test_equal_settings_have_no_changes():
    assert changes(Settings(), load(None)) == {}


@pytest.mark.parametrize("name", sorted(set(LEAVES) - PLACES))
def test_a_change_is_named_with_both_values(name):
    value = other_value(name)
    found = changes(Settings(), load(None, [(name, value)]))
    if isinstance(value, dict):
        assert found == {f"{name}.width": (None, 3), f"{name}.deep.name": (None, "x")}
    else:
        assert found == {name: (LEAVES[name], value)}


def test_the_number_of_workers_is_no_change():
    elsewhere = [("training.workers", 2), ("training.backend", "dask"), ("training.address", "here:8786")]
    assert changes(Settings(), load(None, elsewhere)) == {}


def test_an_option_taken_away_is_a_change():
    assert changes(load(None, [("model.options.bias", False)]), Settings()) == {
        "model.options.bias": (False, None)
    }


# Paths


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("data.name", "idx:data/mnist", "idx:{}/data/mnist"),
        ("data.name", "idx:../data", "idx:{parent}/data"),
        ("data.name", "npz:./x.npz", "npz:{}/x.npz"),
        ("data.name", "mine.py:load", "{}/mine.py:load"),
        ("model.name", "code/mine.py:build", "{}/code/mine.py:build"),
        ("fitness.name", "mine.py:build", "{}/mine.py:build"),
        ("seeding.method", "mine.py:scores", "{}/mine.py:scores"),
        ("evolution.crossover", "mine.py:cross", "{}/mine.py:cross"),
        ("evolution.mutation", "../mine.py:mutate", "{parent}/mine.py:mutate"),
        ("data.name", "digits", "digits"),
        ("data.name", "package.module:load", "package.module:load"),
        ("model.name", "mlp:300,100", "mlp:300,100"),
    ],
)
def test_relative_paths_become_absolute(here, name, value, expected):
    found = dict(leaves(load(None, [(name, value)]).model_dump()))[name]
    assert found == expected.replace("{parent}", str(here.parent)).replace("{}", str(here))
    assert dict(leaves(load(None, [(name, found)]).model_dump()))[name] == found


def test_a_folder_beside_is_a_path_only_for_data(here):
    for folder in ("mnist", "100", "load"):
        (here / folder).mkdir()
    found = load(None, [("data.name", "idx:mnist"), ("model.name", "mlp:100")])
    assert found.data.name == f"idx:{here / 'mnist'}"
    assert found.model.name == "mlp:100"
    assert load(None, [("data.name", "package.module:load")]).data.name == "package.module:load"


def test_home_is_known(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    assert load(None, [("data.name", "idx:~/mnist")]).data.name == f"idx:{here}/mnist"


def test_both_operators_of_a_file_become_absolute(here):
    found = load(None, [("evolution.crossover", "mine.py:cross"), ("evolution.mutation", "mine.py:mutate")])
    assert found.evolution.crossover == f"{here}/mine.py:cross"
    assert found.evolution.mutation == f"{here}/mine.py:mutate"


def test_one_name_or_several_and_their_paths_become_absolute(here):
    files = ["swap_mutation", "mine.py:mutate"]
    for value in (",".join(files), ", ".join(files), files):
        found = load(None, [("evolution.mutation", value)])
        assert found.evolution.mutation == ["swap_mutation", f"{here}/mine.py:mutate"]
        assert load(written(here / "again.toml", to_toml(found))) == found
    for value in ("swap_mutation", ["swap_mutation"]):
        assert load(None, [("evolution.mutation", value)]).evolution.mutation == "swap_mutation"
    odd = load(None, [("evolution.mutation", ["a,b.py:mutate"])])
    assert odd.evolution.mutation == [f"{here}/a,b.py:mutate"]
    assert apply(odd, []) == odd


@pytest.mark.parametrize("value", [[], "", "a,", ["a", 3], 3, "a,a"])
def test_names_that_are_none_are_refused(value):
    message = refusal(lambda: load(None, [("evolution.crossover", value)]))
    assert message.startswith("setting evolution.crossover: must be")
    assert repr(value) in message


def test_a_run_is_the_same_from_any_folder(here, monkeypatch):
    (here / "sub").mkdir()
    (here / "data").mkdir()
    first = load(None, [("data.name", "idx:data")])
    monkeypatch.chdir(here / "sub")
    assert identity(load(None, [("data.name", "idx:../data")])) == identity(first)
    assert Path(first.data.name.removeprefix("idx:")).is_absolute()
