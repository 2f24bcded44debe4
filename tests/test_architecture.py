"""The package's shape: which room imports which, read from the source, and how large a file may grow."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

import ticketsearch

PACKAGE = Path(ticketsearch.__file__).parent
ROOMS, FILE_LINES, FUNCTION_LINES = 39, 350, 60

# The rooms that each room imports, from the ground floor up: a room imports only rooms above it in this
# table, and everything may import these.
GROUND = {"errors", "checks", "compiled", "lazy", "typing"}
ALLOWED = {
    "checks": "",
    "compiled": "",
    "cost": "",
    "errors": "",
    "halving": "",
    "lazy": "",
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
    "runs": "cost halving masks plugins storage settings models tickets evolution",
    "experiment": "cost masks plugins random_streams storage canonical datasets settings models "
    "training operators pruners tickets evolution fitness overlap seeding runs",
    "overlap_studies": "masks random_streams storage canonical datasets alignment models pruners "
    "workers overlap runs",
    "comparison": "cost masks random_streams statistics storage datasets settings training "
    "operators pruners tickets workers fitness runs experiment",
    "sweeps": "datasets settings statistics storage workers runs experiment",
    "report": "halving masks plugins statistics storage settings models pruners tickets evolution "
    "overlap theory runs experiment overlap_studies comparison sweeps",
    "python": "halving masks datasets settings models training tickets workers evolution seeding runs "
    "experiment overlap_studies comparison sweeps report",
    "cli": "random_streams datasets settings models pruners tickets workers "
    "seeding theory runs experiment overlap_studies comparison sweeps report python",
    "__main__": "cli",
}


# Imports that run back up while a deprecated method lasts: they are made when it is called.
LATE = {
    ("comparison.results", "report.text"),
    ("overlap_studies.results", "report.text"),
}
# Imports past a face, each for its reason.
PAST_FACES: set[tuple[str, str]] = set()


def module_of(path: Path) -> str:
    """Return the name of a file's module below the package, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FACES = {name for name, path in MODULES.items() if path.name == "__init__.py"}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str) -> set[str]:
    """Return the modules of the package that one imports, also under ``TYPE_CHECKING`` and in functions."""
    targets = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            submodules = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            targets |= {
                whole if whole.removeprefix("ticketsearch.") in MODULES else str(node.module)
                for whole in submodules.values()
            }
    inner = {name.removeprefix("ticketsearch.") for name in targets if name.startswith("ticketsearch.")}
    return {name for name in inner if name in MODULES}


@cache
def edges() -> frozenset[tuple[str, str]]:
    """Return the imports of all modules but the package's own, each a module and its target."""
    return frozenset((module, target) for module in MODULES if module for target in imports(module))


def test_rooms_are_few_and_none_bears_the_name_of_a_public_function():
    rooms = {room_of(name) for name in MODULES} - {"", "__main__"}
    documents = (PACKAGE / "docs").is_dir()
    assert len(rooms) + documents <= ROOMS
    functions = {name for name in ticketsearch.__all__ if name.islower()} - {"theory"}
    assert not rooms & functions, "importing the submodule would hide the function"


def test_every_room_imports_only_what_the_table_allows():
    assert {room_of(name) for name in MODULES} - {""} == set(ALLOWED)
    for module, target in sorted(edges() - LATE):
        room, other = room_of(module), room_of(target)
        allowed = other in {room, *GROUND, *ALLOWED[room].split()}
        assert allowed, f"{module} imports {target}, which the table does not allow"


def test_the_table_allows_nothing_that_no_file_imports_and_no_import_runs_back_up():
    order = list(ALLOWED)
    used = {(room_of(module), room_of(target)) for module, target in edges()}
    for room, others in ALLOWED.items():
        for other in others.split():
            assert (room, other) in used, f"{room} imports nothing of {other}: take it out of the table"
            assert order.index(other) < order.index(room), f"{other} stands below {room} in the table"


def test_no_circle_of_files():
    circles = [sorted(files) for files in nx.strongly_connected_components(nx.DiGraph(edges() - LATE))]
    assert [files for files in circles if len(files) > 1] == []


def test_a_package_is_entered_by_its_face():
    for module, target in sorted(edges() - LATE - PAST_FACES):
        package = target.rpartition(".")[0]
        inside = not package or module == package or module.startswith(f"{package}.")
        # A file of a package inside a room is entered by that package's own face.
        assert inside or target in FACES or room_of(module) == room_of(target), f"{module} imports {target}"


LAZY = sorted(name for name in FACES if "lazy.face(" in MODULES[name].read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", LAZY)
def test_a_lazy_face_gives_its_names_to_readers_and_to_python_alike(name):
    package = ticketsearch if not name else importlib.import_module(f"ticketsearch.{name}")
    homes = {home: names.split() for home, names in package._HOMES.items()}
    shown = {}
    for node in ast.walk(tree_of(name)):
        # Those under TYPE_CHECKING; `from ticketsearch import theory` is a whole room.
        if (
            isinstance(node, ast.ImportFrom)
            and node.col_offset
            and str(node.module).startswith("ticketsearch.")
        ):
            home = str(node.module).removeprefix(f"{package.__name__}.")
            shown.setdefault(home, []).extend(alias.name for alias in node.names)
    assert {home: sorted(names) for home, names in homes.items()} == {
        home: sorted(names) for home, names in shown.items()
    }
    names = {each for listed in homes.values() for each in listed}
    assert set(package.__all__) - {"__version__", "theory"} <= names
    for each in names:
        # Otherwise importing the submodule would hide the name.
        assert f"{name}.{each}".removeprefix(".") not in MODULES
        getattr(package, each)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_the_exceptions_are_still_needed():
    assert edges() >= LATE | PAST_FACES


def test_files_and_functions_are_short():
    long = {name: path.read_text(encoding="utf-8").count("\n") for name, path in MODULES.items()}
    assert {name: lines for name, lines in long.items() if lines > FILE_LINES} == {}
    functions = {
        f"{module}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: lines for name, lines in functions.items() if lines > FUNCTION_LINES} == {}


def test_nothing_reads_a_pickle():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"\b(pickle|dill|cloudpickle|shelve|torch\.load)\b", text), path.name
        assert "allow_pickle=True" not in text, path.name
