"""Times training of masks that searches really train, beside other ways to train them, all in one run.

Masks are those of results/masks (``record_masks.py``: last populations of searches), of SynFlow, or dense.
Data are random numbers of the right shape. All sides train the same masks from the same weights on the same
data order. They take turns, one after another in each round, and figures are medians over rounds, in
processor milliseconds a mask-step; the rows of threads are in seconds of the clock. Rivals are those of
``training_rivals.py``. JAX is left out where it is not installed (``pip install '.[bench]'``), and all but
the plain loop for networks that are not of Linear layers and ReLU alone. Compilation is not in the times;
the building of cohorts and trainings is.

floors       our time over 6 x kept weights x batch FLOPs (those of a convolution once for each position) at
             the rate of a large float32 product in this run. Inputs need no gradient, so that a dense
             network may get below 1.
C++          floors of C++ loops over live weights, measured once on another machine (AVX2, 72 GFLOP/s)
difference   the largest between the first layer's kept weights of any side and the plain loop, after CHECKED
             steps of one network; of a convolutional network after the steps of its row

    OMP_NUM_THREADS=1 python scripts/bench_searched.py [--only NAME ...]     about 10 minutes
    OMP_NUM_THREADS=1 python scripts/bench_searched.py --whole evolve study  whole processes, minutes each

The table goes to the standard output, and by ``--out`` into a Markdown file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from training_rivals import LR, MOMENTUM, Problem, Side, rivals

import ticketsearch
from ticketsearch.datasets import Dataset
from ticketsearch.masks import Mask
from ticketsearch.models import initialize
from ticketsearch.pruners import prune_all
from ticketsearch.training import Cohort, Recipe, Training, TrainingPart, data_order

HERE = Path(__file__).parent
MASKS = HERE / "results" / "masks"
CHECKED = 20


class Row(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    network : name in NETWORKS.
    masks : name of recorded masks, or the density of SynFlow's.
    sizes : numbers of networks that are trained together.
    steps, batch : of one training.
    cpp : floors of the C++ loops, by size.
    """

    network: str
    masks: str | float
    sizes: tuple[int, ...]
    steps: int = 200
    batch: int = 128
    cpp: tuple[float | None, ...] = ()


# Model, shape of a sample, and number of training samples.
NETWORKS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "MNIST-1D 40-128-64-10": ("mlp:128,64", (40,), 4000),
    "digits 64-100-50-10": ("mlp:100,50", (1, 8, 8), 1200),
    "LeNet-300-100": ("lenet_300_100", (1, 28, 28), 20_000),
    "Conv-2": ("conv2", (1, 28, 28), 2000),
    "ResNet-20": ("resnet20", (3, 32, 32), 500),
    "MNIST-1D conv": (lambda *_: convolutions(), (40,), 4000),
}
ROWS = {
    "mnist1d": Row("MNIST-1D 40-128-64-10", "mnist1d", (1, 8, 32), cpp=(5.0, 3.3, 3.4)),
    "dense": Row("MNIST-1D 40-128-64-10", 1.0, (1, 4), cpp=(2.2, 1.9)),
    "digits": Row("digits 64-100-50-10", "digits", (32,), cpp=(3.5,)),
    "lenet": Row("LeNet-300-100", "lenet", (1, 8), 100, cpp=(2.6, 2.0)),
    "synflow-0.02": Row("LeNet-300-100", 0.02, (16,), 60, cpp=(2.4,)),
    "synflow-0.1": Row("LeNet-300-100", 0.1, (16,), 60, cpp=(2.1,)),
    "conv2-0.1": Row("Conv-2", 0.1, (2,), 6),
    "conv2-0.02": Row("Conv-2", 0.02, (2,), 6),
    "resnet20-0.1": Row("ResNet-20", 0.1, (2,), 4, 32),
    "resnet20-0.02": Row("ResNet-20", 0.02, (2,), 4, 32),
    "conv1d-0.05": Row("MNIST-1D conv", 0.05, (4,), 50),
}
# Whole processes: arguments of ``ticketsearch``.
WHOLE = {
    "evolve": ["evolve", "--workers", "1"],
    "study": [
        *("evolve", str(HERE / "evolution.toml"), "--data", "mnist1d", "--set", "data.options.test=20000"),
        *("--model", "mlp:128,64", "--density", "0.02", "--workers", "1"),
    ],
}


def convolutions() -> nn.Module:
    """Return the convolutional network of MNIST-1D: three strided convolutions of 25 channels."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 40))]
    for channels in (1, 25, 25):
        layers += [nn.Conv1d(channels, 25, 5, stride=2, padding=2), nn.BatchNorm1d(25), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(125, 10))


@cache
def problem_of(row: Row) -> Problem:
    """Return the network of a row, with random data."""
    model, shape, samples = NETWORKS[row.network]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, *shape, generator=generator)
    y = torch.randint(10, (samples,), generator=generator)
    y[:10] = torch.arange(10)
    few = {f"{axis}_{part}": v[:32] for axis, v in (("x", x), ("y", y)) for part in ("validation", "test")}
    dataset = Dataset(name="random", classes=10, x_train=x, y_train=y, **few)
    network = initialize(model, dataset, "kaiming_uniform", seed=0)
    order = data_order(samples, Recipe(max(row.steps, CHECKED), batch=row.batch), [0])
    return Problem(network, x, y, order)


def masks_of(row: Row) -> Mask:
    """Return as many masks as a row trains at most; SynFlow's are of differently initialized copies."""
    network, count = problem_of(row).network, max(row.sizes)
    if isinstance(row.masks, str):
        known = json.loads((MASKS / "shapes.json").read_text())[row.masks]
        bits = np.frombuffer((MASKS / f"{row.masks}.bits").read_bytes(), np.uint8)
        bits = bits.reshape(known["masks"], -1)
        return np.unpackbits(bits, axis=1, count=known["weights"])[:count].astype(np.bool_)
    if row.masks == 1:
        return np.ones((count, network.spec.size), np.bool_)
    copies = [network.reinitialized("kaiming_uniform", seed) for seed in range(count)]
    return np.stack(prune_all(copies, "synflow", density=row.masks))


def ours(problem: Problem, batch: int, engine: str) -> Side:
    """Train all networks by this package."""
    network, recipes = problem.network, {}
    tensors = {**network.parameters(), **dict(network.module.named_buffers())}
    options = {}
    if engine == "torch":
        options = {"engine": "stacked" if network.wiring.dense else "single"}

    def side(masks: Mask, steps: int) -> Tensor:
        recipe = recipes.setdefault(steps, Recipe(steps, batch=batch, lr=LR, momentum=MOMENTUM))
        cohort = Cohort(network.wiring, masks, [tensors], device=torch.device("cpu"), **options)
        part = TrainingPart(problem.x, problem.y)
        Training(cohort, part, recipe, [problem.order[:steps]]).advance(steps)
        return next(iter(cohort.parameters().values()))[0]

    return side


@cache
def rate() -> float:
    """Return the median GFLOP/s of float32 products of size 1024."""
    a, b = torch.randn(2, 1024, 1024)
    return 2 * 1024**3 / statistics.median(timed(lambda: torch.mm(a, b)) for _ in range(24)) / 1e9


def timed(call: Callable[[], Any]) -> float:
    """Return the processor seconds of a call, of all threads."""
    began = time.process_time()
    call()
    return time.process_time() - began


def floor(row: Row, masks: Mask) -> float:
    """Return the ms that the FLOPs of a mask-step take at the rate of a large product."""
    problem, positions = problem_of(row), {}
    hooks = [
        module.register_forward_hook(
            lambda _, __, out, name=name: positions.update({name: out[0, 0].numel()})
        )
        for name, module in problem.network.module.named_modules()
    ]
    with torch.no_grad():
        problem.network.module(problem.x[:2])
    for hook in hooks:
        hook.remove()
    used = 0.0
    for layer in problem.network.spec.layers:
        used += float(masks[:, layer.slice].sum(1).mean()) * positions[layer.name.rpartition(".")[0]]
    return 6 * row.batch * used / rate() / 1e6


def measured(row: Row, rounds: int, engine: str) -> list[list[str]]:
    """Return the lines of a row, as cells."""
    problem, masks, lines = problem_of(row), masks_of(row), []
    sides = {"ours": ours(problem, row.batch, engine), **rivals(problem)}
    for place, size in enumerate(row.sizes):
        cohort = masks[:size]
        checked = CHECKED if problem.linear else row.steps
        ends = {name: side(cohort[:1], checked) for name, side in sides.items()}
        for side in sides.values():
            side(cohort, row.steps)  # compiles what is compiled
        runs = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                seconds = timed(partial(side, cohort, row.steps))
                runs[name].append(1e3 * seconds / size / row.steps)
        ms = {name: statistics.median(each) for name, each in runs.items()}
        best = min((name for name in ms if name != "ours"), key=ms.__getitem__)
        cpp = row.cpp[place] if row.cpp else None
        keep = problem.network.spec.split(cohort[0])[problem.network.spec.layers[0].name]
        kept = torch.from_numpy(keep.copy())
        difference = max(float((end - ends["plain"])[kept].abs().max()) for end in ends.values())
        kind = f"{row.masks} evolved" if isinstance(row.masks, str) else f"density {row.masks:g}"
        lines.append(
            [
                *(row.network, kind, f"{int(cohort.sum(1).mean()):,}", str(size), f"{ms['ours']:.3f}"),
                f"{ms['ours'] / floor(row, cohort):.1f}",
                "" if cpp is None else f"{cpp:.1f}",
                *(f"{ms[name]:.3f}" if name in ms else "" for name in ("plain", "compile", "vmap", "JAX")),
                *(f"{ms['plain'] / ms['ours']:.2f}", f"{ms[best] / ms['ours']:.2f} ({best})"),
                f"{difference:.0e}",
            ]
        )
        print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    return lines


HEAD = [
    *("network", "masks", "kept", "cohort", "ours, ms", "floors", "C++, floors", "plain, ms", "compile"),
    *("vmap", "JAX", "plain ÷ ours", "best ÷ ours", "difference"),
]


def threads(rounds: int, engine: str) -> list[list[str]]:
    """Return lines of seconds of the clock: a cohort on one thread, and its halves on two."""
    lines = []
    for name in ("mnist1d", "lenet"):
        row = ROWS[name]
        side, masks, steps = ours(problem_of(row), row.batch, engine), masks_of(row), row.steps
        halves, runs = np.array_split(masks, 2), []
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(side, halves, [steps] * 2))
            for _ in range(rounds):
                began = time.perf_counter()
                side(masks, steps)
                middle = time.perf_counter()
                list(pool.map(side, halves, [steps] * 2))
                runs.append((middle - began, time.perf_counter() - middle))
        one, two = (statistics.median(each) for each in zip(*runs, strict=True))
        ratio = statistics.median(a / b for a, b in runs)
        lines.append([row.network, str(len(masks)), f"{one:.2f}", f"{two:.2f}", f"{ratio:.2f}"])
    return lines


def whole(name: str) -> list[str]:
    """Return the line of a whole process: processor seconds of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "-m", "ticketsearch", *WHOLE[name]]
        subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    shown = [Path(word).name if word.startswith("/") else word for word in WHOLE[name]]
    line = [f"`ticketsearch {' '.join(shown)}`", f"{seconds:.0f}"]
    print(" | ".join(line), file=sys.stderr, flush=True)
    return line


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines)) + "\n"


def machine() -> str:
    """Return the processor and the versions, without names of hosts."""
    file = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", file.read_text()) if file.exists() else None
    cpu = named[1].strip() if named else platform.machine()
    jax = sys.modules.get("jax")
    return (
        f"{cpu}, {os.cpu_count()} cores, one thread; Python {platform.python_version()}, torch "
        f"{torch.__version__}, {f'JAX {jax.__version__}' if jax else 'no JAX'}, ticketsearch "
        f"{ticketsearch.__version__}"
    )


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=[*ROWS, "threads"], default=[*ROWS, "threads"])
    parser.add_argument("--whole", nargs="+", choices=WHOLE, default=[], help="instead of the table of rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--engine", choices=["auto", "torch"], default="auto", help="torch: never compiled loops"
    )
    parser.add_argument("--title", default="Training of masks that searches train")
    parser.add_argument("--out", type=Path, help="Markdown file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    date = datetime.now(UTC)
    text = f"# {given.title}\n\n{date:%d %B %Y}. {machine()}. A float32 product of size 1024 runs at "
    text += f"{rate():.0f} GFLOP/s here.\n\n    OMP_NUM_THREADS=1 python {shlex.join(sys.argv)}\n"
    names = [] if given.whole else [name for name in given.only if name != "threads"]
    lines = [line for name in names for line in measured(ROWS[name], given.rounds, given.engine)]
    if lines:
        text += "\nProcessor milliseconds a mask-step; columns: see the script.\n\n" + markdown(HEAD, lines)
    if "threads" in given.only and not given.whole:
        head = ["network", "cohort", "one thread, s", "two threads, s", "ratio"]
        text += "\nSeconds of the clock.\n\n" + markdown(head, threads(given.rounds, given.engine))
    if given.whole:
        head = ["process", "processor seconds"]
        text += "\n" + markdown(head, [whole(name) for name in given.whole])
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
