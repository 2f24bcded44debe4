"""The package's shape: which module imports which, read from the source."""

import ast
import re
from pathlib import Path

import ticketsearch

PACKAGE = Path(ticketsearch.__file__).parent

# Internal imports, module by module; everything may import errors and checks, and a package its own files.
ALLOWED = {
    "errors": "",
    "checks": "",
    "names": "",
    "streams": "",
    "masks": "",
    "ladder": "",
    "budget": "",
    "phases": "",
    "printing": "",
    "storage": "printing",
    "config": "ladder names",
    "trust": "config names",
    "datasets": "names",
    "wiring": "masks",
    "models": "names masks wiring datasets",
    "pruners": "streams names masks wiring models datasets training budget",
    "tickets": "names masks models ladder guidance budget",
    "pruned": "masks datasets models tickets wiring",
    "operators": "masks guidance overlap",
    "seeding": "streams names masks models pruners datasets operators tickets canonical identity budget",
    "guidance": "masks",
    "training": "masks wiring models datasets guidance",
    "trainer": "masks models datasets training workers guidance budget",
    "front": "masks tickets",
    "strong": "masks datasets models training tickets budget",
    "fitness": "streams names masks models datasets training trainer ladder tickets guidance budget strong",
    "workers": "names models datasets",
    "canonical": "masks",
    "overlap": "streams masks canonical workers",
    "identity": "masks models tickets canonical",
    "credit": "masks",
    "polishing": "names masks tickets budget",
    "breeding": "names masks tickets phases identity guidance credit front budget",
    "assessing": "names tickets guidance phases",
    "levelling": "tickets",
    "evolution": "breeding front streams names masks operators canonical tickets ladder phases identity "
    "budget credit assessing levelling",
    "runs": "trust masks models config tickets evolution ladder levelling phases guidance budget storage",
    "search": "streams names masks config datasets models pruners tickets operators seeding training fitness "
    "evolution runs canonical identity front budget polishing trust storage",
    "summary": "config masks overlap runs tickets ladder phases credit",
    "databases": "storage",
    "study": "streams names masks canonical datasets models pruners seeding runs summary overlap tables "
    "workers databases storage",
    "contest": "streams names masks config datasets pruners tickets operators training fitness runs search "
    "overlap tables workers databases budget storage",
    "theory": "masks wiring models datasets pruners",
    "tables": "masks models pruners theory",
    "report": "names masks config models overlap runs study contest summary tables theory tickets storage",
    "progress": "ladder",
    "cli": "config streams names search runs summary tables report theory progress masks datasets models "
    "pruners seeding tickets evolution ladder study workers contest trust storage printing",
    "__main__": "cli",
}


def entries() -> dict[str, list[Path]]:
    """Return the files of each module; a folder with ``__init__.py`` is one module of that name."""
    found = {path.stem: [path] for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    return found | {path.parent.name: [*path.parent.rglob("*.py")] for path in PACKAGE.glob("*/__init__.py")}


def internal_imports(path: Path) -> set[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(PACKAGE.parent).parts[: -node.level] if node.level else ()
            names += [".".join(filter(None, [*above, node.module, alias.name])) for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("ticketsearch.")}


def test_every_module_imports_only_what_the_table_allows():
    assert set(entries()) == set(ALLOWED)
    for name, paths in entries().items():
        allowed = {name, "errors", "checks", "__version__", *ALLOWED[name].split()}
        for path in paths:
            extra = internal_imports(path) - allowed
            place = path.relative_to(PACKAGE)
            assert not extra, f"{place} imports {sorted(extra)}, which the table does not allow"


def test_nothing_reads_a_pickle():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"\b(pickle|dill|cloudpickle|shelve|torch\.load)\b", text), path.name
        assert "allow_pickle=True" not in text, path.name
