"""Descriptions of the settings: in the fields, in settings files, in the reference."""

import re
import tomllib

import pytest

from ticketsearch import datasets, models, operators, pruners
from ticketsearch.settings import (
    Settings,
    default_text,
    description,
    leaves,
    load,
    portable,
    settings_reference,
    to_toml,
)
from ticketsearch.training.recipe import MASKINGS, OPTIMIZERS, PRECISIONS, SCHEDULES

NAMES = list(dict(leaves(Settings().model_dump())))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_description_in_whole_sentences(name):
    text = description(name)
    assert re.match(r"[A-Z]\w+ ?", text)
    assert text.endswith(".")
    assert "  " not in text


@pytest.mark.parametrize(
    ("setting", "module", "ending"),
    [
        ("data.name", datasets, ""),
        ("model.name", models, ""),
        ("seeding.method", pruners, ""),
        ("evolution.crossover", operators, "_crossover"),
        ("evolution.mutation", operators, "_mutation"),
    ],
)
def test_the_description_of_a_name_lists_all_names(setting, module, ending):
    listed = re.findall(r"\w+", description(setting))
    assert {name for name in module.__all__ if name.endswith(ending)} <= set(listed)


def test_the_descriptions_of_the_training_list_its_choices():
    for setting, choices in (
        *(("training.optimizer", OPTIMIZERS), ("training.lr_schedule", SCHEDULES)),
        *(("training.masking", MASKINGS), ("training.precision", PRECISIONS)),
    ):
        assert set(choices) <= set(re.findall(r"\w+", description(setting)))


def test_a_settings_file_holds_the_same_values_with_and_without_comments(tmp_path):
    changed = load(
        None,
        [("data.options", {"seed": 1, "deep": {"name": "x"}}), ("training.steps", "5,10"), ("seed", 3)],
    )
    assert tomllib.loads(to_toml(changed)) == tomllib.loads(to_toml(changed, comments=False))
    assert tomllib.loads(to_toml(changed, tmp_path)) == portable(changed, tmp_path)
    assert "#" not in to_toml(changed, comments=False)


def test_each_setting_of_a_file_stands_below_its_description():
    blocks = to_toml(Settings()).split("\n\n")
    commented = {}
    for block in blocks:
        lines = block.strip().splitlines()
        comment = " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
        first = next(line for line in lines if not line.startswith("#"))
        commented.setdefault(comment, []).append(first)
    for name in NAMES:
        key = name.rpartition(".")[2]
        (line,) = commented[description(name)]
        assert line.startswith(f"[{name}]" if key == "options" else f"{key} = ")
    for section in ("data", "model", "seeding", "evolution", "training", "fitness", "final"):
        assert commented[getattr(Settings(), section).__doc__] == [f"[{section}]"]


def test_the_reference_has_a_line_for_each_setting():
    text = settings_reference()
    for name in NAMES:
        (line,) = (line for line in text.splitlines() if line.startswith(f"- **`{name}`** ("))
        assert line.endswith(f"): {description(name)}")
        assert (f"default `{default_text(name)}`" if default_text(name) else "empty by default") in line
    assert "(number; > 0, ≤ 1; default `0.05`)" in text
    assert "(`score` or `front`; default `score`)" in text
    assert "(integer; ≥ 0, < 2^64; default `0`)" in text
    assert "(integer; ≥ 1, ≤ 1,000,000; default `32`)" in text
