"""Settings: every choice of a run as one tree of checked values, read from and written to TOML."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ticketsearch.checks import Count, Generations, Members, Orders, Steps, Workers
from ticketsearch.errors import BadInput, nearest, shown
from ticketsearch.halving import parse_steps
from ticketsearch.plugins import relative_name

__all__ = [
    "Settings",
    "apply",
    "as_list",
    "changes",
    "identity",
    "leaves",
    "load",
    "parse_assignment",
    "parse_value",
    "portable",
    "stored",
    "to_toml",
]

# Settings that change no content of a run, so that a resumed run may change them.
FREE = ("training.workers", "training.backend", "training.address")
# Characters of a text in settings, how deep values are nested, and the size of whole numbers.
LONGEST, DEEPEST, LARGEST = 4_096, 16, 2**64
# Options that a function is given by the search itself.
TAKEN = {
    "model": ("model", "dataset", "scheme", "seed"),
    "fitness": ("name", "network", "dataset", "run_seed"),
}
# Settings that there were once, with the value by which they did nothing.
GONE = {"seeding.repeats": 1}
# Settings that are names of functions, one or several.
NAMES = (
    *(("data", "name"), ("model", "name"), ("fitness", "name"), ("seeding", "method")),
    *(("evolution", "crossover"), ("evolution", "mutation")),
)


class Section(BaseModel):
    """A part of the settings; unknown names are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


def _names(value: Any) -> str | list[str]:
    """Return one name as text, and several, of a list or separated by commas, as a list."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(name, str) and name.strip() for name in given):
        raise BadInput(f"must be a name, or several in a list or separated by commas, but got {shown(value)}")
    names = [name.strip() for name in given]
    if len(set(names)) < len(names) or not names:
        raise BadInput(f"must be names that differ, at least one, but got {shown(value)}")
    return names if len(names) > 1 or "," in names[0] else names[0]


def _paths(value: Any) -> list[str]:
    """Return no path, one, or several, of a list or separated by commas, as a list."""
    return as_list(_names(value)) if value not in ("", []) else []


Names = Annotated[str | list[str], BeforeValidator(_names)]


class Data(Section):
    """What is learned: a dataset's name and the options of its loader."""

    name: str = "digits"
    options: dict[str, Any] = {}


class Model(Section):
    """The architecture and the options of its factory."""

    name: str = "mlp:100,50"
    options: dict[str, Any] = {}


class Seeding(Section):
    """The first population: a pruner over differently initialized copies."""

    method: Names = "synflow"  # each of several prunes each initialization
    density: float = Field(0.05, gt=0, le=1)
    initializations: Orders = Field(8, ge=1)
    schemes: list[str] = ["kaiming_normal", "kaiming_uniform", "xavier_uniform", "orthogonal"]
    steps: Steps = Field(0, ge=0)  # cuts; 0 is the pruner's own number
    schedule: Literal["exponential", "linear", "one_shot"] = "exponential"
    scope: Literal["global", "layer"] = "global"
    mutation_rate: float = Field(0.1, gt=0, le=1)
    tickets: Annotated[list[str], BeforeValidator(_paths)] = []  # files, or runs for their best ones
    options: dict[str, Any] = {}


class Evolution(Section):
    """The genetic algorithm."""

    population: Members = Field(32, ge=1)
    generations: Generations = Field(20, ge=0)
    elites: Count = Field(4, ge=0)
    tournament: Members = Field(3, ge=1)
    crossover: Names = "union_crossover"  # of several, each child's is drawn by credit
    crossover_rate: float = Field(0.5, ge=0, le=1)
    mutation: Names = "guided_mutation"
    mutation_rate: float = Field(0.1, gt=0, le=1)
    attempts: Count = Field(10, ge=0)
    objective: Literal["score", "front"] = "score"  # or the front of scores against kept weights
    least_density: float = Field(0.01, gt=0, le=1)  # of a front
    largest_density: float = Field(0.5, gt=0, le=1)  # of a front
    identity: Literal["structure", "ticket"] = "structure"  # equal masks, or with equal weights
    saliency: Literal["magnitude", "curvature", "mixed"] = "curvature"  # that guidance goes by
    temperature: float = Field(0.3, ge=0)  # of the noise on guided choices
    candidates: float = Field(1.0, ge=0)  # worth growing, by which guidance names them, a kept weight
    trial: bool = True  # of a child with all its parents keep, before it is pruned to its size
    reassess: Count = Field(3, ge=0)  # one of so many members each generation, in turns; 0 is none
    polish: Count = Field(0, ge=0)  # changes tried of each child before it joins, by an untrained fitness
    ties: Count = Field(0, ge=0)  # survivors that may share a score; 0 is any number
    start_density: float = Field(0.0, ge=0, le=1)  # falls to seeding.density; 0 begins there
    annealed: float = Field(0.75, gt=0, le=1)  # share of the generations in which the density falls


def _steps(value: Any) -> int | list[int]:
    """Return a number as it is, and a ladder of them as a list; one rung is a number."""
    rungs = parse_steps(value)
    return rungs[0] if len(rungs) == 1 else list(rungs)


class Training(Section):
    """How a ticket is trained for its fitness, and on what."""

    steps: Annotated[int | list[int], BeforeValidator(_steps)] = 200  # a list is a ladder
    batch: int = Field(128, ge=1)
    optimizer: str = "sgd"
    lr: float = Field(0.05, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    lr_schedule: str = "constant"  # of the learning rate; or to zero, linear or cosine
    dtype: Literal["float32", "float64"] = "float32"
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    initialization: Literal["shared", "own"] = "shared"
    masking: str = "parameter"
    scored: Literal["validation", "pooled"] = "validation"  # on what samples; pooled with those of training
    device: str = "auto"
    workers: Workers = Field(
        0, ge=0
    )  # that train side by side; 0 is as many as pay: one a core or GPU, one for a short search
    backend: Literal["loky", "threads", "dask", "ray"] = "loky"
    address: str = ""  # of the cluster, for dask and ray


class Fitness(Section):
    """The fitness by name; ``short_training`` takes the training settings, others their own options."""

    name: str = "short_training"
    options: dict[str, Any] = {}


class Final(Section):
    """The final comparison: candidates are chosen on validation data, the winner meets the test data once."""

    steps: int = Field(1000, ge=0)
    orders: Orders = Field(5, ge=1)
    candidates: Orders = Field(4, ge=1)


class Settings(Section):
    """All settings of a run."""

    seed: int = Field(0, ge=0, lt=2**64)
    data: Data = Data()
    model: Model = Model()
    seeding: Seeding = Seeding()
    evolution: Evolution = Evolution()
    training: Training = Training()
    fitness: Fitness = Fitness()
    final: Final = Final()


def load(path: str | Path | None, assignments: Iterable[tuple[str, Any]] = ()) -> Settings:
    """Return the settings of a TOML file (defaults where it is silent, or for None) with assignments applied.

    Raises :class:`BadInput` for a missing or malformed file, an unknown setting, or a value out of range.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise BadInput(f"no settings file {str(path)!r}") from error
        except OSError as error:
            raise BadInput(f"settings file {str(path)!r} cannot be read: {error.strerror}") from error
        except (
            ValueError,
            RecursionError,
        ) as error:  # of what is no text or TOML, numbers too long, or depth
            reason = "it is nested too deep" if isinstance(error, RecursionError) else shown(str(error))[1:-1]
            raise BadInput(f"settings file {str(path)!r} is no TOML: {reason}") from error
    return _validated(_assigned(tree, assignments))


def stored(tree: Mapping[str, Any], folder: Path | None = None) -> Settings:
    """Return the settings that a run or a comparison holds; one that is gone since may be there idle.

    Paths of own code are relative to ``folder``, by default the working folder. Raises :class:`BadInput` as
    :func:`load` does.
    """
    there = [(name, value) for name, value in leaves(tree) if GONE.get(name, ...) != value]
    return _validated(_assigned({}, there), folder)


def apply(settings: Settings, assignments: Iterable[tuple[str, Any]]) -> Settings:
    """Return settings with some changed by dotted name, e.g. ``("evolution.generations", 50)``."""
    return _validated(_assigned(settings.model_dump(), assignments))


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read ``a.b=value``; the value is TOML, or else plain text.

    Raises :class:`BadInput` for a text without a name or an equals sign.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise BadInput(f"a setting is given as section.name=value, but got {shown(text)}")
    return name.strip(), parse_value(value)


def parse_value(text: str) -> Any:
    """Return the value of a text that is TOML, or a number as people write it, or else the text itself.

    Raises :class:`BadInput` for one that is nested too deep.
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except RecursionError as error:
        raise BadInput(f"a value is nested at most {DEEPEST} deep, but got {shown(text)}") from error
    except ValueError:  # also of an integer of thousands of digits
        plain = text.strip()
    for kind, pattern in ((int, r"[+-]?\d+"), (float, r"[+-]?(\d+\.?|\d*\.\d+)(e[+-]?\d+)?")):
        if len(plain) <= 40 and re.fullmatch(pattern, plain, re.IGNORECASE):
            return kind(plain)
    return plain


def portable(settings: Settings, folder: Path, *, exclude_defaults: bool = False) -> dict[str, Any]:
    """Return the settings as a tree in which paths of own code are relative to a folder."""
    tree = settings.model_dump(exclude_defaults=exclude_defaults)
    for section, key in NAMES:
        part = tree.get(section, {})
        if key in part:
            found = [relative_name(name, folder) for name in as_list(part[key])]
            part[key] = found[0] if isinstance(part[key], str) else found
    return tree


def to_toml(settings: Settings, folder: Path | None = None) -> str:
    """Return all settings, defaults included, as TOML that :func:`load` reads back to the same.

    With a ``folder``, paths of own code are relative to it.
    """
    return tomli_w.dumps(settings.model_dump() if folder is None else portable(settings, folder))


def identity(settings: Settings) -> str:
    """Return a digest of what determines a run's content.

    Only what differs from the defaults counts, so a setting added later leaves old identities as they are.
    """
    tree = settings.model_dump(exclude_defaults=True)
    tree.get("evolution", {}).pop("generations", None)
    for name in FREE:
        section, _, key = name.partition(".")
        tree.get(section, {}).pop(key, None)
    content = {key: value for key, value in tree.items() if value != {}}
    return hashlib.blake2b(
        json.dumps(content, sort_keys=True, default=str).encode(), digest_size=8
    ).hexdigest()


def changes(old: Settings, new: Settings) -> dict[str, tuple[Any, Any]]:
    """Return ``{dotted name: (old value, new value)}`` of what differs and changes a run's content."""
    before, after = _flat(old.model_dump()), _flat(new.model_dump())
    return {
        name: (before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name) != after.get(name) and name not in FREE
    }


def leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return dotted assignments that rebuild a settings tree; options stay whole, as they have any names."""
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and key != "options":
            found += leaves(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found


def as_list(names: str | list[str]) -> list[str]:
    """Return the names of a setting that takes one or several."""
    return [names] if isinstance(names, str) else names


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _assigned(tree: dict[str, Any], assignments: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    for name, value in assignments:
        *sections, key = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise BadInput(f"unknown setting {name!r}: {section!r} is a value, not a section")
        place[key] = value
    return tree


def _validated(tree: dict[str, Any], folder: Path | None = None) -> Settings:
    for name, value in tree.items():
        _check_extent(name, value)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise BadInput(_one_line(error)) from error
    for section, names in TAKEN.items():
        for option in getattr(settings, section).options:
            if option in names:
                rule = "is given by the search: initial weights follow from seed and seeding.schemes"
                rule = rule if section == "model" else "is given by the search"
                raise BadInput(f"setting {section}.options.{option} {rule}; leave it out")
    return settings.model_copy(update=_absolute(settings, folder or Path()))


def _check_extent(name: str, value: Any, depth: int = 1) -> None:
    """Refuse what no setting needs: long texts, or with NUL in them, deep nesting and huge numbers."""
    rule = ""
    if isinstance(value, str) and (len(value) > LONGEST or "\0" in value):
        rule = f"is a text of at most {LONGEST:,} characters, none of them NUL"
    elif isinstance(value, int) and abs(value) >= LARGEST:
        rule = "is less than 2**64"
    elif depth > DEEPEST:
        rule = f"is nested at most {DEEPEST} deep"
    if rule:
        raise BadInput(f"setting {shown(name)[1:-1]} {rule}, but got {shown(value)}")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_extent(f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_extent(name, inner, depth + 1)


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = shown(".".join(str(part) for part in first["loc"]))[1:-1]
    if first["type"] == "extra_forbidden":
        known = list(dict.fromkeys([*dict(leaves(Settings().model_dump())), *Settings.model_fields]))
        siblings = [k for k in known if k.rpartition(".")[0] == name.rpartition(".")[0]] or known
        hint = nearest(name, [*siblings, *known])
        return f"unknown setting {name!r}{hint}: known here are {', '.join(sorted(siblings))}"
    if first["type"] == "value_error":  # a rule of ours, which says rule, value and way out
        section, _, key = name.rpartition(".")
        rule = str(first["ctx"]["error"])
        return f"setting {section}.{rule}" if rule.startswith(key) else f"setting {name}: {rule}"
    rule = first["msg"].removeprefix("Input ").replace("should be", "must be")
    return f"setting {name} {rule}, but got {shown(first['input'])}"


def _absolute(settings: Settings, folder: Path) -> dict[str, Section]:
    """Make paths in names absolute, those of own code from a folder: any folder will do to resume a run."""
    updates: dict[str, Section] = {}
    for section, key in NAMES:
        part: Section = updates.get(section, getattr(settings, section))
        given: str | list[str] = getattr(part, key)
        found = [_absolute_name(name, section, folder) for name in as_list(given)]
        updates[section] = part.model_copy(update={key: found[0] if isinstance(given, str) else found})
    paths = [str(Path(path).expanduser().resolve()) for path in settings.seeding.tickets]
    seeding = updates.get("seeding", settings.seeding)
    return updates | {"seeding": seeding.model_copy(update={"tickets": paths})}


def _absolute_name(name: str, section: str, folder: Path) -> str:
    left, colon, right = name.rpartition(":")
    if not colon:
        return name
    if left.endswith(".py"):
        return f"{(folder / left).resolve()}:{right}"
    if section == "data" and "." not in left and ("/" in right or Path(right).exists()):
        first, _, rest = name.partition(":")
        return f"{first}:{Path(rest).expanduser().resolve()}"
    return name
