"""Time cohorts on a CUDA device against a plain loop on the same device; all sides in one run.

"blocks" are the kernels of ticketsearch.training.cuda_blocks alone, one block for each mask; "search" is what
a search calls, with all that it builds; "plain" is the loop of scripts/bench_training.py, one mask after
another, timed on two masks. Sides are timed in turn, after one run of each that compiles; ratios are medians
over pairs.

    scripts/bench_cuda.py               256 masks of LeNet-300-100, 4 of Conv-2, at densities 0.02 and 0.05
    scripts/bench_cuda.py --steps 500   with more steps
"""

from __future__ import annotations

import argparse
import statistics

import torch
from bench_training import Problem, masks_of, plain_loop, problem_of, rival_of, timed

from ticketsearch.masks import Mask
from ticketsearch.models import Network
from ticketsearch.training.cohort import resident
from ticketsearch.training.cuda_blocks import AVAILABLE, Blocks, fits
from ticketsearch.training.layout import exact_compactions

# Network: (masks, steps, the ratio of the plain loop to a search to reach).
COHORTS = {"lenet_300_100": (256, 100, 100.0), "conv2": (4, 8, None)}
DENSITIES = (0.02, 0.05)


def by_blocks(problem: Problem, network: Network, masks: Mask) -> None:
    """Train masks by the kernels."""
    device, recipe = torch.device(problem.device), problem.fitness.recipe
    initial = [network.parameters()]
    compactions, live = zip(*exact_compactions(network.wiring, masks, initial), strict=True)
    part = Blocks(compactions, masks, live, initial, device=device)
    x = resident(problem.x, flat=True, device=device, dtype=torch.float32)
    part.training(recipe, x, problem.y, problem.order[None]).advance(0, recipe.steps)


def measured(problem: Problem, density: float, size: int, pairs: int) -> str:
    """Return a row of the table: ms a mask-step of each side, and their ratios to the plain loop."""
    network = problem.network
    masks = masks_of(network, density, size)
    rival = rival_of(problem)
    kernels = AVAILABLE and fits(network.wiring, [], problem.fitness.recipe)
    each = 1e3 / problem.steps
    times: dict[str, list[float]] = {"plain": [], "search": [], **({"blocks": []} if kernels else {})}
    for number in range(pairs + 1):  # the first compiles
        once = {"search": timed(problem, problem.trained, masks)[0] * each / size}
        if kernels:
            once["blocks"] = timed(problem, by_blocks, problem, network, masks)[0] * each / size
        loops = [timed(problem, plain_loop, problem, mask, rival)[0] for mask in masks[[0, -1]]]
        once["plain"] = statistics.mean(loops) * each
        for side in times if number else ():
            times[side].append(once[side])
    found = {side: statistics.median(values) for side, values in times.items()}
    ratios = {
        side: statistics.median(p / o for p, o in zip(times["plain"], times[side], strict=True))
        for side in times
        if side != "plain"
    }
    cells = [f"{side} {1e3 * value:.2f} µs" for side, value in found.items()]
    cells += [f"plain ÷ {side} {ratio:.1f}" for side, ratio in ratios.items()]
    return f"{network.name}, density {density:g}, {size} masks: {', '.join(cells)}"


def main() -> None:
    """Print the table; say where there is no device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=3, help="of all sides in turn")
    parser.add_argument("--steps", type=int, help="by default 100 of LeNet-300-100, 8 of Conv-2")
    parser.add_argument(
        "--data", default="synthetic", help="idx:FOLDER; by default of MNIST's shape, made here"
    )
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; times are of a mask-step")
    for name, (size, steps, least) in COHORTS.items():
        problem = problem_of(name, given.data, given.steps or steps, "cuda")
        for density in DENSITIES:
            print(measured(problem, density, size, given.pairs), flush=True)
        if least is not None:
            print(f"to reach: plain ÷ search at least {least:g}")


if __name__ == "__main__":
    main()
