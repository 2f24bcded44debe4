"""The package's shape: which module imports which, read from the source."""

import ast
import re
from pathlib import Path

import ticketsearch

PACKAGE = Path(ticketsearch.__file__).parent

# Internal imports, module by module; everything may import errors, checks and typing, and its own files.
ALLOWED = {
    "checks": "",
    "cost": "",
    "errors": "",
    "halving": "",
    "masks": "",
    "plugins": "",
    "random_streams": "",
    "statistics": "",
    "storage": "",
    "typing": "",
    "canonical": "masks",
    "datasets": "plugins",
    "settings": "halving plugins",
    "wiring": "masks",
    "alignment": "masks random_streams canonical",
    "models": "masks plugins datasets wiring",
    "training": "cost masks datasets wiring",
    "operators": "masks alignment",
    "pruners": "cost masks plugins random_streams datasets wiring models training",
    "tickets": "cost halving masks plugins canonical datasets wiring models",
    "workers": "plugins datasets models",
    "evolution": "cost halving masks plugins random_streams canonical operators tickets",
    "fitness": "cost halving masks plugins random_streams datasets models training tickets workers",
    "overlap": "masks random_streams statistics canonical alignment workers",
    "seeding": "cost masks plugins random_streams canonical datasets models operators pruners tickets",
    "theory": "masks datasets wiring models pruners",
    "runs": "cost halving masks storage settings models tickets evolution",
    "experiment": "cost masks plugins random_streams storage canonical datasets settings models "
    "training operators pruners tickets evolution fitness seeding runs",
    "__main__": "cli",
    # Their deprecated lines() and headline() alone import report, when they are called; they go with these.
    "comparison": "cost masks random_streams statistics storage datasets settings training "
    "operators pruners tickets workers fitness overlap runs experiment report",
    "overlap_studies": "masks random_streams storage canonical datasets alignment models pruners "
    "workers overlap seeding runs report",
    "report": "halving masks plugins statistics storage settings models pruners tickets "
    "evolution overlap theory runs comparison overlap_studies",
    "cli": "halving masks random_streams storage datasets settings models pruners tickets "
    "workers evolution seeding theory runs experiment comparison overlap_studies report",
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
        allowed = {name, "errors", "checks", "typing", "__version__", *ALLOWED[name].split()}
        for path in paths:
            extra = internal_imports(path) - allowed
            place = path.relative_to(PACKAGE)
            assert not extra, f"{place} imports {sorted(extra)}, which the table does not allow"


def test_nothing_reads_a_pickle():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"\b(pickle|dill|cloudpickle|shelve|torch\.load)\b", text), path.name
        assert "allow_pickle=True" not in text, path.name
