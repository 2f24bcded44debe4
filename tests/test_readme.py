"""The README's code runs, and what it names exists."""

import re
from pathlib import Path

import pytest

import ticketsearch as ts

pytestmark = pytest.mark.slow

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n\n")[-1].splitlines()[0][:30])
def test_the_code_in_the_readme_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_there_is_code_in_the_readme():
    assert len(BLOCKS) == 9


def test_every_public_name_is_there_and_documented():
    for name in ts.__all__:
        value = getattr(ts, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name
    assert set(ts._HOME) | {"__version__", "theory"} == set(ts.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ts.nothing


def test_the_commands_the_readme_names_exist():
    from ticketsearch.cli import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"\| `ticketsearch (\w+)", README)) == commands
