"""The package's shape: which module imports which, read from the source."""

import ast
import re
from pathlib import Path

import ticketsearch

PACKAGE = Path(ticketsearch.__file__).parent

# Internal imports, module by module; everything may import errors.
ALLOWED = {
    "errors": "",
    "names": "",
    "masks": "",
    "config": "",
    "datasets": "names",
    "wiring": "masks",
    "models": "names masks wiring datasets",
    "pruners": "names masks wiring models datasets training",
    "tickets": "masks models",
    "operators": "names masks",
    "seeding": "masks models pruners datasets operators tickets canonical",
    "training": "masks wiring models datasets",
    "fitness": "names masks models datasets training tickets",
    "canonical": "masks",
    "overlap": "masks canonical operators",
    "evolution": "masks operators canonical tickets",
    "runs": "masks models config tickets evolution",
    "search": "names masks config datasets models pruners tickets operators seeding training fitness "
    "evolution runs",
    "summary": "masks overlap runs tickets",
    "report": "masks config overlap runs summary",
    "progress": "",
    "cli": "config search runs summary report progress masks evolution",
    "__main__": "cli",
}


def internal_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "ticketsearch":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ticketsearch."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("ticketsearch.")}
    return found - {"errors", "__version__"}


def test_every_module_imports_only_what_the_table_allows():
    modules = {path.stem: path for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    assert set(modules) == set(ALLOWED)
    for name, path in modules.items():
        extra = internal_imports(path) - set(ALLOWED[name].split())
        assert not extra, f"{name} imports {sorted(extra)}, which the table does not allow"


def test_nothing_reads_a_pickle():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"\b(pickle|dill|cloudpickle|shelve|torch\.load)\b", text), path.name
        assert "allow_pickle=True" not in text, path.name
