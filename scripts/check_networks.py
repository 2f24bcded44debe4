#!/usr/bin/env python
"""Trace networks that were not written for this package, and judge each trace by the original module.

    scripts/check_networks.py                          all, a line each; minutes
    scripts/check_networks.py --packages small         the hand-written ones, which need no other package
    scripts/check_networks.py --only 'resnet*'         those whose name matches
    scripts/check_networks.py --json found.json        what was found, as data

pytorchcv, torchvision, timm and transformers are the extra ``networks``; one that is missing is skipped.
Nothing is downloaded. Seconds are the processor's. A network is wrong if its trace violates a rule, if it is
traced though no trace of it can be right, or if it ends in anything but one line of refusal. The exit status
is 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import multiprocessing
import random
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch import nn

from network_checks.judge import RULES, Case, dataset_of, judged
from network_checks.original import without_noise
from network_checks.published import CLASSES, PUBLISHED, available
from network_checks.small import CLASSES as SMALL_CLASSES
from network_checks.small import SMALL
from ticketsearch import initialize
from ticketsearch.errors import BadInput

PACKAGES = ("small", *PUBLISHED)


@dataclass
class Found:
    """The verdict on one network: traced, or refused with a reason, and how the rules held.

    ``seconds`` are the processor's.
    """

    package: str
    name: str
    expected: str = "either"
    traced: bool = False
    reason: str = ""
    fault: str = ""
    rules: dict[str, str] = field(default_factory=dict)
    weights: int = 0
    seconds: float = 0.0

    @property
    def wrong(self) -> str:
        """How it is wrong, or an empty string."""
        if self.fault:
            return self.fault
        broken = [f"({rule}) {how}" for rule, how in self.rules.items() if how and how[0] != "-"]
        if broken:
            return "; ".join(broken)
        return "traced, though no trace can be right" if self.traced and self.expected == "refused" else ""

    def line(self) -> str:
        """Return the network's line of the table."""
        if self.wrong:
            word = "WRONG"
        elif self.traced:
            word = "traced"
        else:
            word = (
                "refused"
                if self.expected != "traced"
                else "REFUSED"
                if self.package == "small"
                else "refused"
            )
        held = "".join(r if not how else "-" if how[0] == "-" else r.upper() for r, how in self.rules.items())
        unsaid = "; ".join(f"({r}) {how[1:]}" for r, how in self.rules.items() if how[:1] == "-")
        why = self.wrong or (unsaid if self.traced else self.reason)
        name = f"{self.package} {self.name}"
        return f"{name:54} {word:8}{held:7}{self.seconds:6.1f} s  {why[:170]}".rstrip()


def built(package: str, name: str, size: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a fresh module of a name, always the same, and its input shape."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - some networks draw from it
    random.seed(0)
    if package == "small":
        return SMALL[name].build(), SMALL[name].input_shape
    return PUBLISHED[package][name](size)


def examine(package: str, name: str, size: int, rules: str = "".join(RULES)) -> Found:
    """Trace one network and judge the trace."""
    start = time.process_time()
    found = Found(package, name, SMALL[name].verdict if package == "small" else "traced")
    classes = SMALL_CLASSES if package == "small" else CLASSES
    try:
        _, shape = built(package, name, size)
    except Exception as error:
        found.fault = f"cannot be built ({type(error).__name__}: {' '.join(str(error).split())[:150]})"
        return found
    dataset = dataset_of(shape, classes)

    def quiet() -> nn.Module:
        module = built(package, name, size)[0]
        without_noise(module)
        return SMALL[name].plain(module) if package == "small" else module

    try:
        network = initialize(lambda s, c: built(package, name, size)[0], dataset, scheme="as_built")
        if without_noise(built(package, name, size)[0]):
            network = initialize(lambda s, c: quiet(), dataset, scheme="as_built")
        found.traced, found.weights = True, network.spec.size
    except BadInput as error:
        found.reason = str(error)
        if "\n" in found.reason:
            found.fault = f"a refusal of several lines: {' '.join(found.reason.split())}"
    except Exception as error:
        found.fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if found.traced:
        found.rules = judged(Case.of(network, quiet, dataset), rules)
    found.seconds = time.process_time() - start
    return found


def _child(sender: Connection, package: str, name: str, size: int, rules: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sender.send(examine(package, name, size, rules))


def apart(package: str, name: str, size: int, rules: str, limit: float) -> Found:
    """Examine a network in a process of its own, which ends after ``limit`` seconds; in this one for 0."""
    if not limit:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return examine(package, name, size, rules)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    asked = (sender, package, name, size, rules)
    process = multiprocessing.get_context("fork").Process(target=_child, args=asked)
    process.start()
    sender.close()
    try:
        if receiver.poll(limit):
            found: Found = receiver.recv()
            return found
        fault = f"not done after {limit:g} s"
    except EOFError:
        process.join()
        fault = f"its process ended with status {process.exitcode}"
    finally:
        process.kill()
        process.join()
    return Found(package, name, fault=fault, seconds=limit)


def chosen(packages: Sequence[str], only: str) -> Iterator[tuple[str, str]]:
    """Yield the package and name of each network that is asked for; says which packages are missing."""
    for package in packages:
        names = list(SMALL if package == "small" else PUBLISHED[package])
        names = [name for name in names if fnmatch.fnmatchcase(name, only)]
        if names and package != "small" and (why := available(package)):
            print(f"{package}: {len(names)} networks skipped, as the package is not here ({why})", flush=True)
        else:
            yield from ((package, name) for name in names)


def summary(found: Sequence[Found], seconds: float) -> list[str]:
    """Return the last lines: how many were traced, and how many are wrong."""
    lines = []
    for title, own in (
        ("published", [f for f in found if f.package != "small"]),
        ("small", [f for f in found if f.package == "small"]),
    ):
        if own:
            traced = sum(f.traced for f in own)
            lines.append(f"{title}: {traced} traced of {len(own)}, {sum(bool(f.wrong) for f in own)} wrong")
    missed = [f.name for f in found if f.package == "small" and f.expected == "traced" and not f.traced]
    if missed:
        lines.append(f"small: {len(missed)} refused that have a trace ({', '.join(missed)})")
    return [*lines, f"{seconds:.0f} s"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine the networks asked for; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", default=",".join(PACKAGES), help="of %(default)s")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names of networks, as in a shell")
    parser.add_argument("--size", type=int, default=32, help="pixels of an image's side (%(default)s)")
    parser.add_argument("--rules", default="".join(RULES), help="to try, '' for traces alone (%(default)s)")
    parser.add_argument("--limit", type=float, default=600, help="seconds a network may take (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write what was found")
    given = parser.parse_args(arguments)
    packages = given.packages.split(",")
    if unknown := [package for package in packages if package not in PACKAGES]:
        parser.error(f"packages are of {', '.join(PACKAGES)}, but got {', '.join(unknown)}")
    if unknown := set(given.rules) - set(RULES):
        parser.error(f"rules are of {''.join(RULES)}, but got {''.join(sorted(unknown))}")
    # What each network needs is imported once, before processes are forked.
    dataset_of((2,), 2)
    importlib.import_module("torch._dynamo")
    start = time.perf_counter()
    found = []
    for package, name in chosen(packages, given.only):
        found.append(apart(package, name, given.size, given.rules, given.limit))
        print(found[-1].line(), flush=True)
    print(*summary(found, time.perf_counter() - start), sep="\n")
    if given.json:
        rows = [asdict(own) | {"wrong": own.wrong} for own in found]
        given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return int(any(own.wrong for own in found))


if __name__ == "__main__":
    sys.exit(main())
