"""The words of the sources: the field's terms, and none of the expressions that these have replaced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("ticketsearch", "scripts", ".github", "runs")
SUFFIXES = {".py", ".html", ".md", ".yml", ".toml", ".sh", ""}
# A stored column or setting keeps its name: worth, credit, evolution.polish.
GONE = {
    r"\bcontests?\b": "comparison",
    r"\bladders?\b": "successive halving, rungs",
    r"\blevelling\b|\blevelled\b": "order effects",
    r"\bbreeding\b": "reproduction",
    r"\bpolish(ing|ed)\b": "local search, memetic",
    r"\b(data|generation'?s?) orders? (is|are) worth\b": "effect of a data order",
    r"\bworkshops?\b": "job runner",
    r"\bsecond looks?\b": "re-evaluation",
    r"\bmeets? the test data\b|\bmet the test data\b": "evaluated on the test set",
    r"(?-i:\bin words\b)(?!\))": "as text",
    r"\bcame to\b": "results, summary",
    r"\bso many\b": "this many",
    r"\bof those that\b": "name the noun: of the weights that",
    r"\bnone of the front\b": "not on the front",
    r"\bwhat (is|are) no\b": "invalid",
    r"\bsomething taken from them\b": "ablated controls",
    r'"""What\b': "begin with the noun",
    r"(?<!\band )\b(its|their|these|pruned) seeds\b": "masks of the first population",
    r"\bseed note\b": "Ross's notes",
}


def sources() -> list[Path]:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    skipped = ("results", "__pycache__")
    return [
        path
        for path in [ROOT / "README.md", *files]
        if path.suffix in SUFFIXES and not {*path.relative_to(ROOT).parts} & {*skipped}
    ]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sources()}


@pytest.mark.parametrize("pattern", GONE)
def test_a_word_that_is_gone_stays_gone(pattern, texts):
    flags = 0 if '"""' in pattern else re.IGNORECASE
    uses = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1} {match[0]}"
        for name, text in texts.items()
        for match in re.finditer(pattern, text, flags)
        if not (name.startswith("runs/") and not name.endswith("README.md"))
    ]
    assert not uses, f"write {GONE[pattern]!r} in place of {uses}"


def test_locals_are_named_by_their_nouns(texts):
    pattern = r"\bfor (each|found|own) in\b|^ +(found|own|each) = "
    uses = {
        name: [match[0] for match in re.finditer(pattern, text, re.MULTILINE)]
        for name, text in texts.items()
        if name.startswith("ticketsearch/") and name.endswith(".py")
    }
    assert {name: found for name, found in uses.items() if found} == {}


def test_the_sources_are_read(texts):
    assert {"README.md", "ticketsearch/evolution/loop.py", "scripts/test"} <= set(texts)
