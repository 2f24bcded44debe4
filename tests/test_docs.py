"""The documents: their code runs and prints what they say; links, commands and settings in them exist."""

import contextlib
import importlib.util
import io
import json
import math
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import typer

import ticketsearch as ts
from ticketsearch import cli, settings

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(ts.__file__).parent / "docs"
PAGES = {"README": ROOT / "README.md", **{path.stem: path for path in sorted(FOLDER.glob("*.md"))}}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
# Code, and the output that stands below it.
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
BLOCKS = {name: BLOCK.findall(text) for name, text in TEXTS.items()}
PROSE = {name: re.sub(r"```.*?```", "", text, flags=re.DOTALL) for name, text in TEXTS.items()}
# Pages whose code takes seconds.
SLOW = {"README", "comparison", "search", "training", "tutorial"}
NUMBER = r"[-+]?\d+(?:\.\d+)?"
COMMANDS = typer.main.get_command(cli.app).commands


def reference_pages():
    """Return the script that writes the pages made from the code."""
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "scripts/reference_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(code, namespace):
    """Run a block; return what it prints. A block that begins with its file's name is also written there."""
    if name := re.match(r"# (\w+\.py)\n", code):
        Path(name[1]).write_text(code, encoding="utf-8")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, "document", "exec"), namespace)
    return output.getvalue()


def alike(left, right):
    """Whether two texts are the same but for numbers that differ a little, as between processors."""
    numbers = [[float(number) for number in re.findall(NUMBER, text)] for text in (left, right)]
    words = [re.sub(NUMBER, "#", text) for text in (left, right)]
    return words[0] == words[1] and all(
        math.isclose(a, b, rel_tol=0.1, abs_tol=0.05) for a, b in zip(*numbers, strict=True)
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder, from which files of one's own are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("mine", None)


WITH_CODE = [
    pytest.param(page, marks=pytest.mark.slow if page in SLOW else ())
    for page, blocks in BLOCKS.items()
    if blocks
]


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(page, folder):
    namespace = {"__name__": "document"}
    for code, output in BLOCKS[page]:
        if page != "tutorial":
            namespace = {"__name__": "document"}
        actual = printed(code, namespace)
        assert not output or alike(actual, output), actual


def test_outputs_are_alike_where_words_are_equal_and_numbers_near():
    assert alike("best -0.364 of 12", "best -0.37 of 12")
    assert not alike("best -0.364", "worst -0.364")
    assert not alike("best -0.364", "best -0.264 1")
    assert not alike("kept 595", "kept 12")


@pytest.mark.slow
def test_your_own_data_and_model_are_searched_as_the_readme_says(folder):
    printed(BLOCKS["README"][1][0], {"__name__": "document"})
    command = re.search(r"^    ticketsearch (evolve --data mine.py.*)$", TEXTS["README"], re.MULTILINE)[1]
    small = "--population 4 --generations 1 --steps 5 --initializations 2 --set final.steps=5 --name rings"
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), *small.split()])
    assert ended.value.code == 0
    run = folder / "runs" / "rings"
    assert (run / "report.html").is_file()
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert environment["ticketsearch"] == metadata.version("ticketsearch")
    assert environment["command"].startswith("ticketsearch")


def test_the_readme_is_short_and_its_picture_small():
    assert len(TEXTS["README"].splitlines()) <= 150
    assert (ROOT / "scripts/results/report-digits.png").stat().st_size <= 150_000


def anchors(text):
    """Return the anchors of a page's headings, as Markdown renderers make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", PROSE[page]):
        path, _, anchor = target.partition("#")
        place = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert place.is_file(), target
        assert not anchor or anchor in anchors(place.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_and_flags_of_a_page_exist(page):
    lines = re.findall(
        r"^    (?:scripts/(?=evolve)|ticketsearch )(\w+)(.*(?:\\\n.*)*)", PROSE[page], re.MULTILINE
    )
    lines += re.findall(r"`ticketsearch (\w+)([^`]*)`", PROSE[page])
    for name, rest in lines:
        command = COMMANDS[name]
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= flags, (name, rest)


@pytest.mark.parametrize("page", [name for name in PAGES if name != "changelog"])
def test_the_settings_of_a_page_exist(page):
    names = dict(settings.leaves(settings.Settings().model_dump()))
    sections = "|".join({name.partition(".")[0] for name in names if "." in name})
    for name in re.findall(rf"(?<![\w./])((?:{sections})\.[a-z]\w+)", PROSE[page]):
        assert name in names or name.endswith((".py", ".md")), name


@pytest.fixture
def shown(capsys):
    """Run ``ticketsearch docs``; returns exit code, stdout and stderr, each with single spaces."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main(["docs", *arguments])
        return ended.value.code, *(" ".join(text.split()) for text in capsys.readouterr())

    return run


def test_docs_lists_every_topic_with_its_first_sentence(shown):
    code, out, err = shown()
    assert (code, err) == (0, "")
    for topic in set(PAGES) - {"README"}:
        assert re.search(rf"\b{topic} \w+", out), topic


def test_docs_shows_a_topic_and_names_those_that_it_refers_to(shown):
    code, out, err = shown("search")
    assert (code, err) == (0, "")
    assert "A search evolves pruning masks of one network" in out
    assert "see your own code (topic own_code)" in out
    assert ".md" not in out.replace("runs/README.md", "")


def test_docs_refuses_an_unknown_topic_in_one_line_with_the_nearest(shown):
    code, out, err = shown("prunes")
    assert (code, out) == (2, "")
    assert err.startswith("error: unknown topic 'prunes' (did you mean 'pruners'?)")


def test_the_readme_has_every_command():
    assert set(re.findall(r"\| `ticketsearch (\w+)", TEXTS["README"])) == set(COMMANDS)


def test_the_pages_made_from_the_code_are_up_to_date():
    way_out = "python scripts/reference_pages.py writes them anew"
    assert settings.settings_reference() == TEXTS["settings"], way_out
    assert reference_pages().python_page() == TEXTS["python"], way_out


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert project == metadata.version("ticketsearch"), "install the package again, as scripts/test does"
    assert ts.__version__ == project
    assert f"version = {{{project}}}" in TEXTS["README"]
    assert re.search(r"^## (.*)$", TEXTS["changelog"], re.MULTILINE)[1] == project


def test_the_site_has_every_page_and_the_readme_links_to_each():
    site = (ROOT / "scripts/mkdocs.yml").read_text(encoding="utf-8")
    pages = set(PAGES) - {"README"}
    assert pages <= set(re.findall(r"^  - [\w ]+: (\w+)\.md$", site, re.MULTILINE))
    assert pages == set(re.findall(r"\(ticketsearch/docs/(\w+)\.md\)", TEXTS["README"]))


def test_every_public_name_is_there_and_documented():
    for name in ts.__all__:
        value = getattr(ts, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name
    lazy = {name for names in ts._HOMES.values() for name in names.split()}
    assert lazy | {"__version__", "theory"} == set(ts.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ts.nothing
