"""The plan of a study: which masks are compared with each other, and where they come from."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ticketsearch.alignment import RESTARTS
from ticketsearch.checks import check_count
from ticketsearch.datasets import Dataset
from ticketsearch.errors import BadInput, unknown
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.models import AS_BUILT, SCHEMES, Initialization, Network
from ticketsearch.pruners import TRAINING, check_density, method_options, scores_of
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.report.text import winner
from ticketsearch.runs import Run

__all__ = ["DEFAULT_METHODS", "Outline", "Plan", "Pruning", "Sizes", "pruner_plan", "run_plan"]

T = TypeVar("T")
DEFAULT_METHODS = ("synflow", "snip", "grasp", "magnitude", "random")
# What all prunings of a study have in common.
PRUNING = ("scope", "schedule", "steps", "batch")


class Sizes(NamedTuple):
    """How thorough a study is.

    Attributes
    ----------
    draws, aligned_draws : of the raw and of each aligned null model; 0 leaves it out.
    restarts : starting points of each alignment.
    orders : data orders that a pruner which trains is compared over; fewer than 2 leave that out.
    """

    draws: int = 999
    aligned_draws: int = 199
    restarts: int = RESTARTS
    orders: int = 4


class Pruning(NamedTuple):
    """One mask that is to be made: by which pruner, of which initialization, with which seed."""

    method: str
    density: float
    initialization: Initialization
    seed: int

    @property
    def name(self) -> str:
        """What the mask is called in the store."""
        scheme, seed = self.initialization
        return f"{self.method} {self.density!r} of {scheme} {seed}, seed {self.seed}"


class Outline(NamedTuple):
    """One set of masks that are compared with each other.

    Attributes
    ----------
    kind : ``initializations``, ``methods``, ``orders``, ``seeds`` or ``winners``.
    title : in words, e.g. ``synflow at density 0.1``; no two of a plan are equal.
    method, density : of all masks, or None.
    names, masks : what each mask is called there, and in the store.
    signed : whether the signs of initial weights are compared too.
    leaders : how many masks, the first ones, are compared with the others; 0 compares all pairs.
    """

    kind: str
    title: str
    method: str | None
    density: float | None
    names: tuple[str, ...]
    masks: tuple[str, ...]
    signed: bool = False
    leaders: int = 0

    def seed(self, seed: int) -> int:
        """Return the seed of the draws: it depends on the title, not on what else is studied."""
        text = f"{seed} {self.title}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Plan:
    """All of a study that determines its content.

    Attributes
    ----------
    spec, input_shape : of the network; the shape of a sample is () where it is not known.
    subject : what is studied, ``{name: text}``, for reading and as part of the plan's identity.
    outlines : the sets of masks.
    sizes : draws and restarts.
    seed : of everything random.
    prunings : masks to be made; ``options`` are those of each method, ``pruning`` those of all.
    given : masks that are there already, by name.
    """

    spec: MaskSpec
    input_shape: tuple[int, ...]
    subject: Mapping[str, str]
    outlines: tuple[Outline, ...]
    sizes: Sizes
    seed: int
    prunings: tuple[Pruning, ...] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pruning: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Mask] = field(default_factory=dict)


def pruner_plan(
    network: Network,
    methods: str | Sequence[str],
    densities: float | Sequence[float],
    initializations: Sequence[Initialization],
    *,
    sizes: Sizes = Sizes(),  # noqa: B008 - a tuple, which nothing changes
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    dataset: Dataset | None = None,
    **pruning: Any,
) -> Plan:
    """Return the plan that compares pruners over initializations, with each other, and over data orders.

    Parameters
    ----------
    network : the architecture; its own weights count only as far as ``initializations`` name them.
    methods, densities : several, or one.
    options : by name; each goes to those of the methods that take it.
    dataset : what masks are pruned with; the plan has its name alone.
    pruning : ``scope``, ``schedule``, ``steps`` and ``batch`` of :func:`ticketsearch.prune`.

    Raises :class:`BadInput` for an unknown method or option, a density that no mask of the network can have,
    fewer than two initializations, a method that needs data without them, what is no seed, or sizes below 0.
    """
    _check_sizes(sizes)
    for name in pruning:
        if name not in PRUNING:
            raise unknown("setting of pruning", name, PRUNING, "options=… gives a pruner its own")
    for scheme, _ in initializations:
        if scheme not in (*SCHEMES, AS_BUILT):
            raise unknown("initialization scheme", scheme, [*SCHEMES, AS_BUILT])
    methods = [methods] if isinstance(methods, str) else list(methods)
    found = method_options(methods, options or {})
    densities = list(densities) if isinstance(densities, Sequence | np.ndarray) else [densities]
    for density in densities:
        check_density(density, network.spec)
    densities = [float(density) for density in densities]
    if dataset is None:
        for method in methods:
            scores_of(network, method, **found[method])  # one that needs data says so
    if not methods or not densities:
        raise BadInput("a study takes at least one method and one density, but got none: name some")
    for what, values in (
        ("methods", methods),
        ("densities", densities),
        ("initializations", initializations),
    ):
        if len(set(values)) < len(values):
            raise BadInput(f"the {what} of a study are different ones, but got {', '.join(map(str, values))}")
    if len(initializations) < 2:
        raise BadInput(
            "overlap is of pairs, so a study takes at least 2 initializations, but got "
            f"{len(initializations)}; ask for more"
        )
    seeds = seed_sequence(seed, Stream.PRUNING).generate_state(len(initializations)).tolist()
    others = seed_sequence(seed, Stream.PRUNING, 1).generate_state(max(sizes.orders, 1)).tolist()
    own = list(zip(initializations, seeds, strict=True))
    over = {key: [Pruning(*key, *each) for each in own] for key in itertools.product(methods, densities)}
    ordered = {
        key: [over[key][0], *(Pruning(*key, initializations[0], each) for each in others[1:])]
        for key in over
        if key[0] in TRAINING and sizes.orders > 1
    }
    short = _labels(methods, lambda method: method.rpartition("/")[2], str)
    at = {density: f"at density {text}" for density, text in _labels(densities, "{:g}".format, repr).items()}
    outlines = [
        Outline(
            "initializations",
            f"{short[method]} {at[density]}",
            method,
            density,
            tuple(_label(pruning.initialization) for pruning in prunings),
            tuple(pruning.name for pruning in prunings),
            signed=True,
        )
        for (method, density), prunings in over.items()
    ]
    outlines += [
        Outline(
            "orders",
            f"{short[method]} {at[density]}, data orders",
            method,
            density,
            tuple(f"order {number}" for number in range(1, len(prunings) + 1)),
            tuple(pruning.name for pruning in prunings),
        )
        for (method, density), prunings in ordered.items()
    ]
    if len(methods) > 1:
        outlines += [
            Outline(
                "methods",
                f"methods {at[density]}, one initialization",
                None,
                density,
                tuple(methods),
                tuple(over[method, density][0].name for method in methods),
            )
            for density in densities
        ]
    wanted = itertools.chain(*over.values(), *ordered.values())
    return Plan(
        network.spec,
        network.input_shape,
        _subject(network, dataset),
        tuple(outlines),
        sizes,
        seed,
        tuple(dict.fromkeys(wanted)),
        found,
        pruning,
    )


def _subject(network: Network, dataset: Dataset | None) -> dict[str, str]:
    found = {"model": network.name, "model options": repr(dict(network.options))}
    if dataset is None:
        return found
    return {"data": dataset.name, "data fingerprint": dataset.fingerprint, **found}


def _labels(values: Sequence[T], short: Callable[[T], str], full: Callable[[T], str]) -> dict[T, str]:
    """Return the short word for each value, or the full one where others have the same short word."""
    words = Counter(map(short, values))
    return {value: short(value) if words[short(value)] == 1 else full(value) for value in values}


def _label(initialization: Initialization) -> str:
    return f"{initialization.scheme} {initialization.seed}"


def run_plan(
    runs: Sequence[Run],
    *,
    sizes: Sizes = Sizes(),  # noqa: B008 - a tuple, which nothing changes
    seed: int = 0,
) -> Plan:
    """Return the plan that compares the winner of each run with its seeds, and the winners with each other.

    Raises :class:`BadInput` for a run without a winner yet, or runs of different networks.
    """
    _check_sizes(sizes)
    first, given, outlines = runs[0], dict[str, Mask](), list[Outline]()
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise BadInput(f"the runs of a study are different ones, but {twice} came twice; name it once")
    for name, run in zip(names, runs, strict=True):
        if run.spec.signature != first.spec.signature:
            raise BadInput(
                f"masks overlap within one network, but run {name!r} is of another than {names[0]!r} "
                f"({run.settings.model.name} and {first.settings.model.name}); leave one out"
            )
        best = winner(run)
        if best is None:
            raise BadInput(
                f"a run that is compared has a winner, but {name!r} is not finished; "
                f"go on with: ticketsearch evolve --resume {name}"
            )
        seeds = run.seeds()
        labels = [_label(seed.pruned_from) if seed.pruned_from else "?" for seed in seeds]
        if len({seed.operator for seed in seeds}) > 1:
            labels = [f"{seed.operator}, {label}" for seed, label in zip(seeds, labels, strict=True)]
        masks = {f"winner of {name}": best.mask}
        masks |= {f"seed {number} of {name}": each.mask for number, each in enumerate(seeds)}
        given |= masks
        title = f"winner of {name} and its seeds"
        outlines.append(Outline("seeds", title, None, None, ("winner", *labels), tuple(masks), leaders=1))
    if len(runs) > 1:
        masks_of_winners = tuple(f"winner of {name}" for name in names)
        outlines.append(
            Outline("winners", f"winners of {len(runs)} searches", None, None, tuple(names), masks_of_winners)
        )
    settings = first.settings
    subject = {"runs": ", ".join(names), "data": settings.data.name, "model": settings.model.name}
    return Plan(first.spec, (), subject, tuple(outlines), sizes, seed, given=given)


def _check_sizes(sizes: Sizes) -> None:
    for what, count in sizes._asdict().items():
        check_count(what, count, 1 if what == "restarts" else 0)
