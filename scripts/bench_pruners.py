"""Time SynFlow against a plain loop as its authors write it; both sides in one run, on one thread.

The plain loop computes dense scores of all weights and a k-th value at each step, in float32, as the code
that came with Tanaka et al. 2020 does. Both sides are timed in turn, so that they meet the same machine;
ratios are medians over such pairs. Their masks are compared: both sides prune the same networks.

    scripts/bench_pruners.py                  all, about 8 minutes
    scripts/bench_pruners.py --only lenet     32 initializations of LeNet-300-100 at density 0.02
    scripts/bench_pruners.py --only vgg       one VGG-16 at density 0.01, 100 steps
    scripts/bench_pruners.py --only digits    64 initializations of an MLP 64-100-50-10 at density 0.05
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ticketsearch.models import Network, initialize
from ticketsearch.pruners import prune_all

STEPS = 100


class Shape:
    """The description of a dataset: shape of a sample, and classes."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        self.input_shape, self.classes = input_shape, classes


def plain_loop(network: Network, density: float) -> np.ndarray:
    """Return the mask of SynFlow as a plain loop computes it: everything dense, at every step."""
    module = copy.deepcopy(network.module).eval()
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.abs_()
    weights = [layer.weight for layer in layers]
    masks = [torch.ones_like(weight) for weight in weights]
    inputs = torch.ones((1, *network.input_shape))
    for step in range(1, STEPS + 1):
        originals = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight, mask in zip(weights, masks, strict=True):
                weight.mul_(mask)
        module.zero_grad()
        module(inputs).sum().backward()
        scores = [(weight.grad * weight).detach().abs() for weight in weights]
        flat = torch.cat([score.flatten() for score in scores])
        pruned = int((1.0 - density ** (step / STEPS)) * flat.numel())
        threshold: Tensor | float = -1.0 if pruned < 1 else torch.kthvalue(flat, pruned).values
        masks = [(score > threshold).float() for score in scores]
        with torch.no_grad():
            for weight, original in zip(weights, originals, strict=True):
                weight.copy_(original)
    return torch.cat([mask.flatten() for mask in masks]).bool().numpy()


def ours(networks: Sequence[Network], density: float) -> np.ndarray:
    """Return the masks of this package."""
    return prune_all(networks, "synflow", density=density, steps=STEPS)


def timed(function: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the seconds of a call and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def compare(
    title: str, model: str, shape: Shape, density: float, copies: int, pairs: int, target: float
) -> None:
    """Print the median times and ratio of both sides, and how far the masks agree."""
    networks = [initialize(model, shape, seed=seed) for seed in range(copies)]  # type: ignore[arg-type]
    theirs_seconds, our_seconds = [], []
    for _ in range(pairs):
        seconds, theirs = timed(lambda: np.stack([plain_loop(network, density) for network in networks]))
        theirs_seconds.append(seconds)
        seconds, found = timed(lambda: ours(networks, density))
        our_seconds.append(seconds)
    ratios = [a / b for a, b in zip(theirs_seconds, our_seconds, strict=True)]
    differing = np.count_nonzero(theirs != found, axis=1)
    kept = int(found[0].sum())
    print(f"{title}: {copies} x {networks[0].spec.size:,} weights, density {density:g}, {STEPS} steps")
    for side, seconds_each in (("plain loop", theirs_seconds), ("this package", our_seconds)):
        median = statistics.median(seconds_each)
        print(f"  {side:12} {median:8.2f} s, {median / copies:.3f} s a mask")
    print(f"  ratio {statistics.median(ratios):.1f} of {[round(r, 1) for r in ratios]}, to reach {target:g}")
    print(
        f"  bits that differ: median {int(np.median(differing))}, most {differing.max()} of {kept:,} kept "
        "(the plain loop is float32)",
        flush=True,
    )


def main() -> None:
    """Run the comparisons asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("lenet", "vgg", "digits"))
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    image = Shape((1, 28, 28), 10)
    if chosen.only in (None, "lenet"):
        compare("LeNet-300-100", "lenet_300_100", image, 0.02, 32, chosen.pairs, 3)
    if chosen.only in (None, "digits"):
        compare("MLP 64-100-50-10", "mlp:100,50", Shape((1, 8, 8), 10), 0.05, 64, chosen.pairs, 3)
    if chosen.only in (None, "vgg"):
        compare("VGG-16 with batch norm", "vgg16_bn", Shape((3, 32, 32), 10), 0.01, 1, chosen.pairs, 2)


if __name__ == "__main__":
    main()
