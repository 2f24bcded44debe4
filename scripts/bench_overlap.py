"""Times the alignment of eight LeNet-300-100 masks and their null models; shows how fast shuffles forget.

Alignment is of all 28 pairs, with all that belongs to it. Beside ours is the plain way (Ainsworth et al.
2023, algorithm 1, on masks): all units in turn, from the given numbers, until nothing changes. Times are
processor seconds of one core; the last column is a whole study of one method at one density, 999 raw and
2 × 199 aligned draws.

    OMP_NUM_THREADS=1 python scripts/bench_overlap.py [--methods synflow random] [--densities 0.1 0.02]
    OMP_NUM_THREADS=1 python scripts/bench_overlap.py --mixing
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np

import ticketsearch as ts
from ticketsearch.alignment.align import RESTARTS, aligned_counts
from ticketsearch.alignment.coordinate_ascent import Pair, Placement
from ticketsearch.alignment.overlap_matrices import whole_parts
from ticketsearch.masks import Mask, MaskSpec
from ticketsearch.overlap import degree_shuffle, iou
from ticketsearch.overlap.draws import Masks
from ticketsearch.overlap.null_models import NULLS
from ticketsearch.seeding import prune_copies

T = TypeVar("T")
COPIES = 8


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return what a call returns, and its processor seconds."""
    began = time.process_time()
    found = call()
    return found, time.process_time() - began


def plain(masks: Mask, spec: MaskSpec) -> float:
    """Return the mean IoU of all pairs, aligned the plain way."""
    parts = [whole_parts(mask, spec) for mask in masks]
    found = []
    for first, second in itertools.combinations(range(len(masks)), 2):
        pair = Pair(parts[second], parts[first], spec)
        units = {group: np.arange(spec.groups[group].size) for group in spec.hidden}
        placement = Placement(units, list(range(len(spec.groups))))
        pair.climb(placement)
        shared = pair.intersection(placement)
        found.append(shared / (np.sum(masks[first]) + np.sum(masks[second]) - shared))
    return float(np.mean(found))


def ours(masks: Mask, spec: MaskSpec) -> float:
    """Return the mean IoU of all pairs as a study aligns them."""
    counts, _ = aligned_counts(masks, spec, RESTARTS, np.random.default_rng(0))
    return float(counts.measures(())["iou"].mean())


def row(masks: Mask, spec: MaskSpec) -> str:
    """Return times and overlaps of some masks as text."""
    (plain_iou, plain_time), (own_iou, own_time) = (timed(lambda f=f: f(masks, spec)) for f in (plain, ours))
    packed = Masks.packed(masks, spec, None, RESTARTS, 0)
    draws = {null: timed(lambda null=null: packed.draw(null, 0))[1] for null in NULLS}
    study = sum((199 if NULLS[null].aligned else 999) * seconds for null, seconds in draws.items())
    cells = "".join(f"{seconds:>17.3f}" for seconds in draws.values())
    return f"{plain_time:>9.2f} {plain_iou:.4f}{own_time:>9.2f} {own_iou:.4f}{cells}{study / 60:>9.1f}"


def mixing(masks: Mask, spec: MaskSpec) -> str:
    """Return what masks and their degree-preserving shuffles share after more and more global trades."""
    cells = []
    for trades in (1, 2, 4, 8, 12, 16, 24, 48):
        rng = np.random.default_rng(0)
        left = [iou(mask, degree_shuffle(mask, spec=spec, rng=rng, trades=trades)) for mask in masks]
        cells.append(f"{trades}: {np.mean(left):.4f}")
    return "   " + "   ".join(cells)


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # some masks leave a layer empty
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="*", default=["synflow", "magnitude", "random"])
    parser.add_argument("--densities", type=float, nargs="*", default=[0.1, 0.02, 0.01])
    parser.add_argument("--mixing", action="store_true", help="show what shuffles leave, instead of times")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.random((100, 1, 28, 28), dtype=np.float32)
    dataset = ts.from_arrays("noise", images, np.arange(100) % 10)
    network = ts.initialize("lenet_300_100", dataset, bias=False)
    if given.mixing:
        print("IoU of masks with their shuffles by number of global trades")
    else:
        nulls = "".join(f"{null:>17}" for null in NULLS)
        print(f"{'':16}{'plain, s, IoU':>16}{'ours, s, IoU':>16}{nulls}{'min':>9}")
    for method, density in itertools.product(given.methods, given.densities):
        pruned = prune_copies(network, None, density, COPIES, method=method, schemes=["kaiming_normal"])
        text = (mixing if given.mixing else row)(pruned.masks, network.spec)
        print(f"{method:10}{density:>6g}{text}", flush=True)


if __name__ == "__main__":
    main()
