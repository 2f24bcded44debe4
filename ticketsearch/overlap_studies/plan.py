"""The plan of a study: the sets of masks to compare, and the prunings or runs that the masks come from."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from ticketsearch.runs import Run, winner

__all__ = ["DEFAULT_METHODS", "MaskSet", "OverlapPlan", "Pruning", "Sizes", "pruner_plan", "run_plan"]

T = TypeVar("T")
DEFAULT_METHODS = ("synflow", "snip", "grasp", "magnitude", "random")
# Options that all prunings of a study share.
PRUNING = ("scope", "schedule", "steps", "batch")


class Sizes(NamedTuple):
    """Numbers that set the accuracy and the duration of a study.

    Attributes
    ----------
    draws, aligned_draws : draws of the raw, and of each aligned null model; 0 leaves the model out.
    restarts : starting points of each alignment.
    orders : data orders whose masks are compared, for each pruner that trains; fewer than 2 leave these out.
    """

    draws: int = 999
    aligned_draws: int = 199
    restarts: int = RESTARTS
    orders: int = 4


class Pruning(NamedTuple):
    """One mask to be made: its pruner, density, initialization, and the pruner's seed."""

    method: str
    density: float
    initialization: Initialization
    seed: int

    @property
    def name(self) -> str:
        """The name of the mask in the store."""
        scheme, seed = self.initialization
        return f"{self.method} {self.density!r} of {scheme} {seed}, seed {self.seed}"


class MaskSet(NamedTuple):
    """A set of masks that are compared with each other.

    Attributes
    ----------
    kind : ``initializations``, ``methods``, ``orders``, ``seeds`` or ``winners``.
    title : e.g. ``synflow at density 0.1``; no two of a plan are equal.
    method, density : of all masks, or None.
    names, masks : the names of the masks in the set, and in the store.
    signed : whether the signs of initial weights are compared too.
    leaders : number of first masks that are compared with the others; 0 compares all pairs.
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
        """Return the seed of the draws: it depends on the title, not on the other sets of the study."""
        text = f"{seed} {self.title}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@dataclass(frozen=True)
class OverlapPlan:
    """Everything that determines the content of a study.

    Attributes
    ----------
    spec, input_shape : of the network; the shape of a sample is () where it is not known.
    subject : data, model or runs, ``{name: text}``; a part of the plan's digest.
    mask_sets : the sets of masks.
    sizes : draws and restarts.
    seed : of everything random.
    prunings : masks to be made; ``options`` are those of each method, ``pruning`` those of all.
    given : existing masks, by name.
    """

    spec: MaskSpec
    input_shape: tuple[int, ...]
    subject: Mapping[str, str]
    mask_sets: tuple[MaskSet, ...]
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
) -> OverlapPlan:
    """Return the plan that compares pruners over initializations, with each other, and over data orders.

    Parameters
    ----------
    network : the architecture; its weights count only as far as ``initializations`` name them.
    methods, densities : several, or one.
    options : by name; each goes to those of the methods that take it.
    dataset : for pruners that use data; the plan records its name and fingerprint.
    pruning : ``scope``, ``schedule``, ``steps`` and ``batch`` of :func:`ticketsearch.prune`.

    Raises :class:`BadInput` for an unknown method or option, a density that no mask of the network can have,
    fewer than two initializations, a method that needs data without them, an invalid seed, or negative sizes.
    """
    _check_sizes(sizes)
    methods = [methods] if isinstance(methods, str) else list(methods)
    densities = list(densities) if isinstance(densities, Sequence | np.ndarray) else [densities]
    _check_pruning(pruning, initializations)
    method_option = method_options(methods, options or {})
    for density in densities:
        check_density(density, network.spec)
    densities = [float(density) for density in densities]
    if dataset is None:
        for method in methods:
            scores_of(network, method, **method_option[method])  # raises for a method that needs data
    _check_several(methods, densities, initializations)
    over_copies, over_orders = _prunings(methods, densities, initializations, sizes, seed)
    return OverlapPlan(
        network.spec,
        network.input_shape,
        _subject(network, dataset),
        tuple(_mask_sets(over_copies, over_orders)),
        sizes,
        seed,
        tuple(dict.fromkeys(itertools.chain(*over_copies.values(), *over_orders.values()))),
        method_option,
        pruning,
    )


def _check_pruning(pruning: Mapping[str, Any], initializations: Sequence[Initialization]) -> None:
    for name in pruning:
        if name not in PRUNING:
            raise unknown("setting of pruning", name, PRUNING, "options=… passes options to a pruner")
    for scheme, _ in initializations:
        if scheme not in (*SCHEMES, AS_BUILT):
            raise unknown("initialization scheme", scheme, [*SCHEMES, AS_BUILT])


def _check_several(
    methods: Sequence[str], densities: Sequence[float], initializations: Sequence[Initialization]
) -> None:
    if not methods or not densities:
        raise BadInput("a study takes at least one method and one density, but got none: name some")
    for noun, values in (
        ("methods", methods),
        ("densities", densities),
        ("initializations", initializations),
    ):
        if len(set(values)) < len(values):
            raise BadInput(
                f"the {noun} of a study must be different ones, but got {', '.join(map(str, values))}"
            )
    if len(initializations) < 2:
        raise BadInput(
            "overlap is of pairs, so a study takes at least 2 initializations, but got "
            f"{len(initializations)}; ask for more"
        )


# Prunings by method and density.
Prunings = dict[tuple[str, float], list[Pruning]]


def _prunings(
    methods: Sequence[str],
    densities: Sequence[float],
    initializations: Sequence[Initialization],
    sizes: Sizes,
    seed: int,
) -> tuple[Prunings, Prunings]:
    """Return the prunings of all initializations, and those of several data orders of the first one."""
    seeds = seed_sequence(seed, Stream.PRUNING).generate_state(len(initializations)).tolist()
    order_seeds = seed_sequence(seed, Stream.PRUNING, 1).generate_state(max(sizes.orders, 1)).tolist()
    copies = list(zip(initializations, seeds, strict=True))
    over_copies = {
        key: [Pruning(*key, *copy) for copy in copies] for key in itertools.product(methods, densities)
    }
    over_orders = {
        key: [prunings[0], *(Pruning(*key, initializations[0], other) for other in order_seeds[1:])]
        for key, prunings in over_copies.items()
        if key[0] in TRAINING and sizes.orders > 1
    }
    return over_copies, over_orders


def _mask_sets(over_copies: Prunings, over_orders: Prunings) -> Iterator[MaskSet]:
    """Yield the sets of initializations, of data orders, and of methods on the first initialization."""
    methods, densities = (list(dict.fromkeys(values)) for values in zip(*over_copies, strict=True))
    short = _labels(methods, lambda method: method.rpartition("/")[2], str)
    at = {density: f"at density {text}" for density, text in _labels(densities, "{:g}".format, repr).items()}
    for (method, density), prunings in over_copies.items():
        yield MaskSet(
            "initializations",
            f"{short[method]} {at[density]}",
            method,
            density,
            tuple(_label(pruning.initialization) for pruning in prunings),
            tuple(pruning.name for pruning in prunings),
            signed=True,
        )
    for (method, density), prunings in over_orders.items():
        yield MaskSet(
            "orders",
            f"{short[method]} {at[density]}, data orders",
            method,
            density,
            tuple(f"order {number}" for number in range(1, len(prunings) + 1)),
            tuple(pruning.name for pruning in prunings),
        )
    if len(methods) > 1:
        for density in densities:
            yield MaskSet(
                "methods",
                f"methods {at[density]}, one initialization",
                None,
                density,
                tuple(methods),
                tuple(over_copies[method, density][0].name for method in methods),
            )


def _subject(network: Network, dataset: Dataset | None) -> dict[str, str]:
    subject = {"model": network.name, "model options": repr(dict(network.options))}
    if dataset is None:
        return subject
    return {"data": dataset.name, "data fingerprint": dataset.fingerprint, **subject}


def _labels(values: Sequence[T], short: Callable[[T], str], full: Callable[[T], str]) -> dict[T, str]:
    """Return the short name of each value, or the full one where others have the same short name."""
    counts = Counter(map(short, values))
    return {value: short(value) if counts[short(value)] == 1 else full(value) for value in values}


def _label(initialization: Initialization) -> str:
    return f"{initialization.scheme} {initialization.seed}"


def run_plan(
    runs: Sequence[Run],
    *,
    sizes: Sizes = Sizes(),  # noqa: B008 - a tuple, which nothing changes
    seed: int = 0,
) -> OverlapPlan:
    """Return the plan that compares winners with the masks of their first populations, and with each other.

    Raises :class:`BadInput` for a run without a winner yet, or runs of different networks.
    """
    _check_sizes(sizes)
    given, mask_sets = dict[str, Mask](), list[MaskSet]()
    names = _run_names(runs)
    for name, run in zip(names, runs, strict=True):
        _check_network(name, run, names[0], runs[0])
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
        masks |= {f"seed {number} of {name}": ticket.mask for number, ticket in enumerate(seeds)}
        given |= masks
        title = f"winner of {name} and its seeds"
        mask_sets.append(MaskSet("seeds", title, None, None, ("winner", *labels), tuple(masks), leaders=1))
    if len(runs) > 1:
        title = f"winners of {len(runs)} searches"
        winners = tuple(f"winner of {name}" for name in names)
        mask_sets.append(MaskSet("winners", title, None, None, tuple(names), winners))
    settings = runs[0].settings
    subject = {"runs": ", ".join(names), "data": settings.data.name, "model": settings.model.name}
    return OverlapPlan(runs[0].spec, (), subject, tuple(mask_sets), sizes, seed, given=given)


def _run_names(runs: Sequence[Run]) -> list[str]:
    """Return the names of runs, or their paths where two have the same name."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise BadInput(f"the runs of a study must be different ones, but {twice} came twice; name it once")
    return names


def _check_network(name: str, run: Run, first_name: str, first: Run) -> None:
    if run.spec.signature != first.spec.signature:
        raise BadInput(
            f"masks overlap within one network, but run {name!r} is of another than {first_name!r} "
            f"({run.settings.model.name} and {first.settings.model.name}); leave one out"
        )


def _check_sizes(sizes: Sizes) -> None:
    for name, count in sizes._asdict().items():
        check_count(name, count, 1 if name == "restarts" else 0)
