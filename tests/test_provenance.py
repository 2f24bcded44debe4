"""Where a run comes from: the versions, and the commit of a checkout."""

import subprocess
from importlib.metadata import version

import pytest

from ticketsearch.experiment import environment, provenance
from ticketsearch.experiment.provenance import checkout_commit


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit of one file."""
    (tmp_path / "file.txt").write_text("first")
    identity = ("-c", "user.name=tester", "-c", "user.email=tester@example.com")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "first")):
        try:
            subprocess.run(["git", *command], cwd=tmp_path, check=True)
        except FileNotFoundError:
            pytest.skip("Git is not installed")
    return tmp_path


def test_the_environment_has_the_version_of_the_package():
    assert environment()["ticketsearch"] == version("ticketsearch")


def test_a_checkout_has_its_commit_and_says_whether_it_was_changed(checkout, monkeypatch):
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert checkout_commit(checkout) == head
    (checkout / "file.txt").write_text("second")
    assert checkout_commit(checkout) == f"{head}-dirty"
    monkeypatch.setattr(provenance, "ROOT", checkout)
    assert environment()["commit"] == f"{head}-dirty"


def test_a_package_installed_inside_a_repository_has_no_commit(checkout, monkeypatch):
    installed = checkout / ".venv"
    installed.mkdir()
    assert checkout_commit(installed) == ""
    monkeypatch.setattr(provenance, "ROOT", installed)
    assert "commit" not in environment()


def test_a_checkout_without_git_or_a_commit_has_none(checkout, monkeypatch, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    subprocess.run(["git", "init", "-q"], cwd=empty, check=True)
    assert checkout_commit(empty) == ""
    monkeypatch.setenv("PATH", str(empty))
    assert checkout_commit(checkout) == ""


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/bin/ticketsearch", "evolve", "--name", "a b"], "ticketsearch evolve --name 'a b'"),
        (["/lib/ticketsearch/__main__.py", "evolve"], "ticketsearch evolve"),
        (["search/mine.py", "--fast"], "ticketsearch in mine.py"),
        (["ipykernel_launcher", "-f", "/home/me/kernel.json"], "ticketsearch in Python"),
        ([""], "ticketsearch in Python"),
    ],
)
def test_the_command_is_that_of_the_shell_or_the_script_that_searched(arguments, command, monkeypatch):
    monkeypatch.setattr("sys.argv", arguments)
    assert environment()["command"] == command
