"""Records masks of searches, which ``scripts/bench_searched.py`` trains: the last population of each.

A file ``results/masks/NAME.bits`` has the rows of its masks as packed bits (numpy.packbits along the
weights); ``results/masks/shapes.json`` has their shapes. The files were made in two minutes of one core by

    OMP_NUM_THREADS=1 python scripts/record_masks.py FOLDER_OF_MNIST [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import ticketsearch as ts

FOLDER = Path(__file__).parent / "results" / "masks"
# Settings of the searches; what they leave out has its default. Of LeNet a smaller search, since a file of 8
# masks has 266 kB.
SEARCHES: dict[str, dict[str, Any]] = {
    "mnist1d": {"data": "mnist1d", "model": "mlp:128,64"},
    "digits": {},
    "lenet": {"model": "lenet_300_100", "population": 8, "generations": 12},
}


def record(name: str, mnist: str, generations: int | None) -> None:
    """Run a search, and write the masks of its last population."""
    settings = SEARCHES[name] | ({"data": f"idx:{mnist}"} if name == "lenet" else {})
    if generations is not None:
        settings = settings | {"generations": generations}
    populations = []

    def keep(_: Any, generation: Any) -> None:
        populations.append(generation.population.masks)

    with tempfile.TemporaryDirectory() as root:
        run = ts.search(
            root=root,
            density=0.05,
            progress=False,
            callbacks=[keep],
            workers=1,
            **{"final.steps": 1},
            **settings,
        )
        groups = [[layer.name, *map(int, layer.shape)] for layer in run.spec.layers]
    masks = populations[-1]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.bits").write_bytes(np.packbits(masks, axis=1).tobytes())
    shapes = FOLDER / "shapes.json"
    known = json.loads(shapes.read_text()) if shapes.exists() else {}
    known[name] = {
        "masks": len(masks),
        "weights": int(masks.shape[1]),
        "kept": int(masks.sum(1).mean()),
        "layers": groups,
        "generations": len(populations) - 1,
        "settings": {"density": 0.05} | SEARCHES[name],
    }
    shapes.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    print(f"{name}: {masks.shape}, {masks.sum(1).mean():.0f} kept")


def main() -> None:
    """Record the masks asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mnist", help="the folder of the MNIST files, which LeNet's search reads")
    parser.add_argument("--only", choices=SEARCHES, nargs="*", default=[*SEARCHES])
    parser.add_argument("--generations", type=int, help="for a trial")
    given = parser.parse_args()
    for name in given.only:
        record(name, given.mnist, given.generations)


if __name__ == "__main__":
    main()
