"""Trust: files run no code, and a run of one's own goes on as long as its code is as it was."""

import json
import os
import py_compile
import shutil
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from conftest import refusal

from ticketsearch import cli, experiment
from ticketsearch import settings as config
from ticketsearch.cli.flags import assigned
from ticketsearch.plugins import source_digest
from ticketsearch.runs import Run
from ticketsearch.settings.trust import Origin, check_word

pytestmark = pytest.mark.slow

CODE = (
    "from pathlib import Path\nPath('ran').touch()\n"
    "from ticketsearch.models import mlp\nfrom ticketsearch.datasets import load_dataset\n"
    "def model(input_shape, classes, *, hidden='6'):\n    return mlp(input_shape, classes, hidden)\n"
    "def load():\n    return load_dataset('digits')\n"
)
SMALL = {
    "evolution.population": 3,
    "evolution.generations": 1,
    "seeding.initializations": 2,
    "seeding.method": "magnitude",
    "seeding.density": 0.2,
    "training.steps": 1,
    "training.device": "cpu",
    "final.steps": 0,
    "final.orders": 1,
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with ``mine.py``; ``ran`` is there once code of it has run."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "mine.py").write_text(CODE)
    return folder


def shell(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def made(name="one", **more):
    """Make a run of the model ``mine.py:model``, without evolving anything; return its folder."""
    settings = SMALL | {"model.name": "mine.py:model"} | more
    prepared = experiment.Search.prepare(config.load(None, settings.items()))
    experiment.create_run(prepared, Path("runs"), name).close()
    Path("ran").unlink(missing_ok=True)
    return Path("runs") / name


def goes_on(path, given=None, **options):
    """Resume a run and say whether its code ran."""
    _, run = experiment.resume(path, given or {}, **options)
    run.close()
    ran = Path("ran").exists()
    Path("ran").unlink(missing_ok=True)
    return ran


def stranger(monkeypatch, tmp_path):
    """Let this process be somebody else, who has another key."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))


def meta(path, **changed):
    with sqlite3.connect(path / "run.sqlite") as connection:
        for key, value in changed.items():
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
        found = dict(connection.execute("SELECT key, value FROM meta"))
    connection.close()
    return found


def test_a_run_goes_on_in_its_own_folder_and_from_any_other(here, monkeypatch):
    path = made()
    assert goes_on(path)
    (here / "sub").mkdir()
    monkeypatch.chdir(here / "sub")
    assert goes_on(here / path)


def test_a_run_stores_its_own_code_as_a_relative_path_and_a_digest(here):
    path = made(**{"data.name": f"{here}/mine.py:load"})
    found = meta(path)
    assert json.loads(found["settings"])["model"]["name"] == "mine.py:model"
    assert json.loads(found["settings"])["data"]["name"] == "mine.py:load"
    digest = source_digest("mine.py:model")
    assert json.loads(found["origin"])["sources"] == {"mine.py:model": digest, "mine.py:load": digest}
    for file in path.rglob("*.toml"):
        assert str(here) not in file.read_text()
    with Run.open(path) as run:
        assert run.settings.model.name == f"{here.resolve()}/mine.py:model"


def test_a_run_that_moves_with_its_code_goes_on(here, tmp_path, monkeypatch):
    path = made()
    here.rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    assert goes_on(path)


def test_the_key_can_be_read_by_its_user_alone(here, tmp_path, monkeypatch):
    stranger(monkeypatch, tmp_path)
    assert goes_on(made())
    key = tmp_path / "other" / "ticketsearch" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32
    assert [path.name for path in key.parent.iterdir()] == ["key"]


def test_the_run_of_a_stranger_runs_nothing(here, tmp_path, monkeypatch, capsys):
    path = made()
    stranger(monkeypatch, tmp_path)
    expected = (
        "files run no code, but run 'one' names model.name = 'mine.py:model' and is not known to be yours; "
        "read that code, then add --trust (in Python trust=True)"
    )
    assert refusal(experiment.resume, path, {}) == expected
    assert shell(capsys, "evolve", "--resume", "one") == (2, "", f"error: {expected}\n")
    code, _, err = shell(capsys, "evolve", str(path / "settings.toml"))
    assert (code, err.count("\n")) == (2, 1)
    assert "settings.toml' in the folder of a run names model.name = 'mine.py:model'" in err
    for command in (["show", "one"], ["report", "one"], ["list"], ["overlap", "one"], ["compare", str(path)]):
        shell(capsys, *command)
    assert not Path("ran").exists()
    assert goes_on(path, trust=True)
    assert goes_on(path)  # its user's from now on


def test_signed_settings_that_were_altered_are_a_strangers(here, monkeypatch):
    path = made()
    whole = meta(path)
    changed = json.loads(whole["settings"])
    changed["model"]["options"] = {"hidden": "7"}
    meta(path, settings=json.dumps(changed))
    assert "is not known to be yours" in refusal(experiment.resume, path, {})
    origin = json.loads(whole["origin"])
    origin["sources"]["mine.py:model"] = "0" * 64
    meta(path, settings=whole["settings"], origin=json.dumps(origin))
    assert "is not known to be yours" in refusal(experiment.resume, path, {})
    meta(path, origin="{}")
    assert "is not known to be yours" in refusal(experiment.resume, path, {})
    meta(path, origin="[1]")
    assert "run.sqlite' cannot be read" in refusal(experiment.resume, path, {})
    assert not Path("ran").exists()


def test_a_run_of_before_there_were_signatures_asks_once(here):
    path = made()
    with sqlite3.connect(path / "run.sqlite") as connection:
        connection.execute("DELETE FROM meta WHERE key = 'origin'")
    connection.close()
    assert "is not known to be yours" in refusal(experiment.resume, path, {})
    assert goes_on(path, trust=True)
    assert goes_on(path)


def test_a_run_whose_code_has_changed_asks(here, capsys):
    path = made()
    Path("mine.py").write_text(CODE + "# more\n")
    message = refusal(experiment.resume, path, {})
    assert message == (
        "run 'one' goes on with its own code, but 'mine.py' has changed since "
        "(model.name); put it back, or add --trust (in Python trust=True) to go on with it as it is"
    )
    code, _, err = shell(capsys, "evolve", "--resume", "one")
    assert (code, err) == (2, f"error: {message}\n")
    assert not Path("ran").exists()
    assert goes_on(path, trust=True)
    assert goes_on(path)


def test_a_run_whose_code_has_moved_is_told_where(here, capsys):
    path = made()
    Path("new").mkdir()
    Path("mine.py").rename("new/mine.py")
    message = refusal(experiment.resume, path, {})
    assert "there is no such file" in message
    assert message.endswith("say where it is now: --model FILE.py:model")
    assert not Path("ran").exists()
    code, _, err = shell(capsys, "evolve", "--resume", "one", "--model", "new/mine.py:model")
    assert code == 0, err
    assert json.loads(meta(path)["settings"])["model"]["name"] == "new/mine.py:model"
    assert 'name = "new/mine.py:model"' in (path / "settings.toml").read_text()
    assert goes_on(path, {"evolution.generations": 2})
    refused = refusal(experiment.resume, path, {"model.name": "new/mine.py:load"})
    assert "goes on with its own settings, but model.name is" in refused


def test_code_named_at_the_command_line_is_its_users_word(here, tmp_path, monkeypatch):
    path = made(**{"data.name": "mine.py:load"})
    stranger(monkeypatch, tmp_path)
    given = {"model.name": "mine.py:model"}
    assert "names data.name = 'mine.py:load'" in refusal(experiment.resume, path, given)
    assert not Path("ran").exists()
    assert goes_on(path, given | {"data.name": "mine.py:load"})


def test_without_a_place_for_a_key_code_asks_and_nothing_breaks(here, monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", "file/state")
    path = made()
    assert "is not known to be yours" in refusal(experiment.resume, path, {})
    assert goes_on(path, trust=True)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("file"))
    assert "is not known to be yours" in refusal(experiment.resume, path, {})


def test_code_in_options_and_the_address_of_a_cluster_ask_too(here, tmp_path, monkeypatch):
    Path("mine.py").write_text("def reward(outputs, y):\n    return outputs.sum()\n")
    plain = {"model.name": "mlp:6"}
    reward = {"seeding.method": "saliency", "seeding.options.reward": "mine.py:reward"}
    mutation = {"evolution.mutation": "ticketsearch.operators:swap_mutation"}
    paths = [made("reward", **plain, **reward), made("mutation", **plain, **mutation)]
    own = made("plain", **plain)
    for path in paths:
        experiment.resume(path, {})[1].close()
    stranger(monkeypatch, tmp_path)
    for path, word in zip(paths, ("seeding.options.reward", "evolution.mutation"), strict=True):
        assert f"names {word} = " in refusal(experiment.resume, path, {})
    experiment.resume(own, {})[1].close()
    cluster = config.load(None, {"training.address": "tcp://there:1"}.items())
    message = refusal(check_word, "run 'x'", cluster, Origin(), here)
    assert "names training.address = 'tcp://there:1'" in message
    check_word("run 'x'", cluster, Origin(), here, ["training.address"])


def test_a_module_is_known_by_its_file_and_is_not_imported_before(here, monkeypatch):
    package = here / "ticketsearch_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    (package / "models.py").write_text(CODE)
    monkeypatch.syspath_prepend(here)
    path = made(**{"model.name": "ticketsearch_test_package.models:model"})
    for name in [name for name in sys.modules if name.startswith("ticketsearch_test_package")]:
        monkeypatch.delitem(sys.modules, name)
    Path("imported").unlink()
    text = (package / "models.py").read_text()
    (package / "models.py").write_text(text + "# more\n")
    assert "has changed since (model.name)" in refusal(experiment.resume, path, {})
    assert not Path("imported").exists()
    (package / "models.py").write_text(text)
    assert goes_on(path)


def test_only_the_text_of_a_file_runs_not_a_compiled_copy_beside_it(here, monkeypatch):
    monkeypatch.setattr(sys, "pycache_prefix", None)
    time = Path("mine.py").stat().st_mtime
    evil = CODE.replace("Path('ran')", "Path('evl')")
    Path("mine.py").write_text(evil)
    py_compile.compile("mine.py")
    Path("mine.py").write_text(CODE)
    os.utime("mine.py", (time, time))
    copies = list(Path("__pycache__").glob("mine.*.pyc"))
    assert copies
    for copy in copies:
        data = bytearray(copy.read_bytes())
        data[8:12] = int(time).to_bytes(4, "little")
        copy.write_bytes(data)
    experiment.Search.prepare(config.load(None, (SMALL | {"model.name": "mine.py:model"}).items()))
    assert Path("ran").exists()
    assert not Path("evl").exists()


def test_the_settings_of_a_run_of_ones_own_are_taken_as_long_as_they_are_the_runs(here):
    file = made() / "settings.toml"
    assert assigned(file, None, {})["model.name"] == "mine.py:model"
    file.write_text(file.read_text().replace("density = 0.2", "density = 0.3"))
    assert "is not known to be yours" in refusal(assigned, file, None, {})
    assert assigned(file, None, {}, trust=True)["seeding.density"] == 0.3
    shutil.copy(file, "mine.toml")
    assert assigned(Path("mine.toml"), None, {})["seeding.density"] == 0.3


def test_reports_of_a_run_need_none_of_its_code(here, capsys):
    assert shell(capsys, *arguments(), "--name", "one")[0] == 0
    Path("mine.py").unlink()
    for command in ("report", "show"):
        code, _, err = shell(capsys, command, "one")
        assert code == 0, err
    assert str(here) not in Path("runs/one/report.html").read_text()


def arguments():
    settings = SMALL | {"model.name": "mine.py:model"}
    return ["evolve", *(part for name, value in settings.items() for part in ("--set", f"{name}={value}"))]
