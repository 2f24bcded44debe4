"""Training by hand: a plain loop of torch, and small networks that the engines are compared with it on."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ticketsearch.datasets import Dataset
from ticketsearch.masks import Mask, live, live_units
from ticketsearch.models import Network, initialize
from ticketsearch.training import Recipe


def recipes(steps: int, batch: int) -> dict[str, Recipe]:
    """Return a recipe of every optimizer and schedule, with and without momentum and decay."""
    return {
        "sgd": Recipe(steps, batch, "sgd", lr=0.05, momentum=0.0, weight_decay=1e-3),
        "momentum": Recipe(steps, batch, "sgd", lr=0.05, momentum=0.9),
        "nesterov": Recipe(
            steps, batch, "nesterov", lr=0.05, momentum=0.8, weight_decay=1e-3, lr_schedule="linear"
        ),
        "adam": Recipe(steps, batch, "adam", lr=0.01, weight_decay=1e-2, lr_schedule="cosine"),
        "adamw": Recipe(steps, batch, "adamw", lr=0.01, weight_decay=0.1),
    }


class Parts(nn.Module):
    """Concatenation of odd widths, units that are not zero where nothing feeds them, and dropout."""

    def __init__(self, features, classes, p=0.3):
        super().__init__()
        self.left, self.right = nn.Linear(features, 5), nn.Linear(features, 3)
        self.drop = nn.Dropout(p)
        self.body = nn.Linear(5 + features + 3, 9)
        self.head = nn.Linear(9, classes)

    def forward(self, x):
        x = torch.cat([torch.sigmoid(self.left(x)), x, torch.cos(self.right(x))], dim=1)
        return self.head(self.drop(torch.sigmoid(self.body(self.drop(x)))))


class Stream(nn.Module):
    """Layers that all add to one residual stream, read as it is, or normalised by the batch."""

    def __init__(self, features, classes, normalised=False):
        super().__init__()
        self.stem, self.head = nn.Linear(features, 9), nn.Linear(9, classes)
        self.norms = nn.ModuleList(nn.BatchNorm1d(9) if normalised else nn.Identity() for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(9, 7) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(7, 9) for _ in range(2))

    def forward(self, x):
        x = self.stem(x)
        for norm, up, down in zip(self.norms, self.up, self.down, strict=True):
            x = x + down(torch.relu(up(norm(x))))
        # Not relu: of a unit that is constant, rounding in the normalisation would decide what it does at 0.
        return self.head(torch.tanh(x))


class Summed(nn.Module):
    """Two layers read the samples; the bias of one gets its gradient through their sum alone."""

    def __init__(self, features, classes):
        super().__init__()
        self.left, self.right = nn.Linear(features, 8, bias=False), nn.Linear(features, 8)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(torch.relu(self.left(x)) + self.right(x))


class Images(nn.Module):
    """A narrow network of convolutions and batch normalisation, with dropout of channels."""

    def __init__(self, classes, p=0.0):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv2, self.norm2 = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5, affine=False)
        self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout2d(p)
        self.head = nn.Linear(5 * 4, classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm1(self.conv1(x))))
        x = self.pool(torch.relu(self.norm2(self.conv2(self.drop(x)))))
        return self.head(x.flatten(1))


def images(dataset: Dataset, p: float = 0.0, seed: int = 0) -> Network:
    """Return a network of :class:`Images` for 1×8×8."""
    return initialize(lambda shape, classes: Images(classes, p), dataset, seed=seed)


def masks_for(network: Network, size: int, seed: int = 0, density: float = 0.6) -> Mask:
    """Return random masks ``(size, weights)``."""
    return np.random.default_rng(seed).random((size, network.spec.size)) < density


def tensors_of(network: Network) -> dict[str, Tensor]:
    """Return what training begins from."""
    return {**network.parameters(), **network.buffers()}


def by_hand(
    values: list[Tensor], recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return the optimizer of a recipe and its schedule, as torch has them."""
    decay, lr, momentum = recipe.weight_decay, recipe.lr, recipe.momentum
    nesterov = recipe.optimizer == "nesterov"
    optimizer = {
        "sgd": lambda: torch.optim.SGD(values, lr, momentum, weight_decay=decay, nesterov=nesterov),
        "adam": lambda: torch.optim.Adam(values, lr, weight_decay=decay),
        "adamw": lambda: torch.optim.AdamW(values, lr, weight_decay=decay),
    }["sgd" if nesterov else recipe.optimizer]()
    schedules = torch.optim.lr_scheduler
    return optimizer, {
        "constant": lambda: schedules.ConstantLR(optimizer, 1.0),
        "linear": lambda: schedules.LinearLR(optimizer, 1.0, 0.0, recipe.steps),
        "cosine": lambda: schedules.CosineAnnealingLR(optimizer, recipe.steps),
    }[recipe.lr_schedule]()


def torch_loop(
    network: Network, mask: Mask, dataset: Dataset, recipe: Recipe, order: NDArray[np.int64]
) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:
    """Train one network as one would by hand; yields its module and its hidden weights after each step.

    The module holds what the forward pass uses; the optimizer moves tensors of its own, whose gradients are
    the module's, masked where the masking says so.
    """
    module = copy.deepcopy(network.module).double().train()
    keep = {name: torch.from_numpy(part).double() for name, part in network.spec.split(mask).items()}
    initial = {name: p.detach().clone() for name, p in module.named_parameters()}
    hidden = {name: nn.Parameter(p.clone()) for name, p in initial.items()}
    optimizer, schedule = by_hand(list(hidden.values()), recipe)

    def load():
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                m = keep.get(name, torch.ones(()))
                if recipe.masking == "gradient":
                    hidden[name].copy_(torch.where(m == 1, hidden[name], initial[name]))
                parameter.copy_(hidden[name] if recipe.masking == "gradient" else hidden[name] * m)

    load()
    for chosen in order:
        module.zero_grad()
        F.cross_entropy(module(dataset.x_train[chosen].double()), dataset.y_train[chosen]).backward()
        for name, parameter in module.named_parameters():
            m = keep[name] if name in keep and recipe.masking != "forward" else 1
            hidden[name].grad = parameter.grad * m
        optimizer.step()
        schedule.step()
        load()
        yield module, hidden


def matters(network: Network, mask: Mask) -> dict[str, Tensor]:
    """Return for each parameter and buffer which entries can matter to the network that a mask leaves."""
    spec, axes = network.spec, network.wiring.axes
    found = {name: torch.ones(tensor.shape, dtype=torch.bool) for name, tensor in tensors_of(network).items()}
    if network.wiring.steps:
        # Weights that the mask does not keep are known, too.
        bits = spec.split(live(mask, spec) | ~mask)
        found |= {name: torch.from_numpy(part.copy()) for name, part in bits.items()}
        units = live_units(mask, spec)
        for name, axis in axes.items():
            alive = [np.repeat(units[spec.groups[s.group].name], s.block) for s in axis]
            shape = found[name].shape
            place = network.wiring.numbered_axis(name, tuple(shape))
            own = torch.from_numpy(np.concatenate(alive)).view(-1, *[1] * (len(shape) - place - 1))
            found[name] = own.expand(shape)
    return found


def relative(ours: Tensor, theirs: Tensor, matter=...) -> float:
    """Return the largest difference where it matters, in terms of the largest value."""
    ours, theirs = ours[matter], theirs[matter]
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def normalised_away(wiring):
    """Return the biases that a batch normalisation takes away, and the running means that follow them.

    Their true gradient is zero. What they get is rounding, and Adam makes a step of any size of it.
    """
    found = set()
    for index, step in enumerate(wiring.steps):
        readers = [other for other in wiring.steps if index in other.inputs]
        if step.operation == "linear" and {other.operation for other in readers} == {"normalize"}:
            found |= {step.names[1], *(other.names[2] for other in readers)} if step.names[1] else set()
    return found
