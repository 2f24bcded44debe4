"""The final training: the winner is chosen on validation data, then compared on the test set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor, nn

from ticketsearch.evolution import pareto_front
from ticketsearch.experiment.contenders import added_mask
from ticketsearch.experiment.search import Search
from ticketsearch.fitness import Stage, Trained
from ticketsearch.masks import Mask, density, effective_density, layer_shuffle
from ticketsearch.models import Initialization, Network, module_of
from ticketsearch.random_streams import Stream, seed_sequence
from ticketsearch.runs import BEST, DENSE, RANDOM, Result, Run, front_name, pruned_name, pruned_names
from ticketsearch.storage import refuse_links
from ticketsearch.tickets import Ticket, TicketFitness, Tickets, save_ticket, save_trained
from ticketsearch.training import State

__all__ = [
    "TRAINED",
    "candidates_of",
    "choose",
    "contender_masks",
    "finish",
    "save_tickets",
    "train_contender",
    "trained_network",
    "trained_weights",
]

# Streams of the data orders of the final training, and the part of the dataset that each is evaluated on.
ReportedStream = Literal[Stream.CHOOSING, Stream.REPORTING]
PARTS = {Stream.CHOOSING: "validation", Stream.REPORTING: "test"}
# File of the winner's trained network, in the folder of tickets.
TRAINED = "best-trained.safetensors"


def finish(search: Search, run: Run) -> Iterator[str]:
    """Choose the winner on validation data, compare it on the test set, and save the best tickets.

    The candidates get the final training on several data orders; the one of highest mean validation accuracy
    wins. It, the dense network, the pruners' masks of the same initialization, those of ``final.contenders``
    too, and random masks of the same layer densities (a new one for each data order) are then trained on
    other data orders and evaluated on the test set. With a Pareto front, all its tickets are candidates, and
    those on the front of validation accuracy and kept weights are evaluated on the test set beside the
    winner.

    Yields the names of contenders before their training; the results are in the run at the end.
    """
    last = run.last()
    assert last is not None  # a run that has evolved has generations
    candidates = candidates_of(search, last.population)
    yield f"candidates {', '.join(str(ticket.number) for ticket in candidates)}"
    winner, chosen = choose(search, candidates)
    tickets = {BEST: winner}
    if search.front is not None:
        candidates = _validated_front(candidates, chosen)
        tickets |= {front_name(t.number): t for t in candidates if t is not winner}
    contenders = contender_masks(search, winner, run.seeds(), run.contenders)
    contenders |= {name: _repeated(search, ticket.mask) for name, ticket in tickets.items()}
    compared: list[Result] = []
    trained: dict[str, Trained] = {}
    for name, masks in contenders.items():
        yield name
        ticket = tickets.get(name, winner)
        number = ticket.number if name in tickets else None
        trained[name] = train_masks(
            search, masks, ticket.initialization, Stream.REPORTING, keeps_states=name == BEST
        )
        compared += _results(search, name, masks, trained[name], Stream.REPORTING, number)
    run.check_place()
    save_tickets(search, run.path / "tickets", candidates, winner)
    save_trained_winner(search, run.path / "tickets", winner, trained[BEST])
    run.save_results([*chosen, *compared])


def candidates_of(search: Search, tickets: Iterable[Ticket]) -> list[Ticket]:
    """Return the tickets that the winner is chosen from, best first: a Pareto front, or the fittest."""
    if search.front is not None:
        return pareto_front(tickets)[::-1]
    ranked = sorted(tickets, key=lambda ticket: ticket.fitness, reverse=True)
    return ranked[: search.settings.final.candidates]


def choose(search: Search, candidates: Iterable[Ticket]) -> tuple[Ticket, list[Result]]:
    """Return the candidate of highest mean validation accuracy after the final training, and all results.

    All are trained on the same data orders, which are used for nothing else.
    """
    winner, best, results = None, -1.0, list[Result]()
    for ticket in candidates:
        trainings = train_contender(
            search,
            f"candidate {ticket.number}",
            _repeated(search, ticket.mask),
            ticket.initialization,
            Stream.CHOOSING,
            ticket.number,
        )
        accuracy = float(np.mean([result.accuracy for result in trainings]))
        if accuracy > best:
            winner, best = ticket, accuracy
        results += trainings
    assert winner is not None  # there is a candidate, and no accuracy is negative
    return winner, results


def _validated_front(candidates: Iterable[Ticket], results: Iterable[Result]) -> list[Ticket]:
    """Return the candidates on the Pareto front of validation accuracy and kept weights."""
    candidates, results = list(candidates), list(results)
    accuracy = {t.number: np.mean([r.accuracy for r in results if r.ticket == t.number]) for t in candidates}
    judged = pareto_front(replace(t, fitness=TicketFitness((0.0, accuracy[t.number]))) for t in candidates)
    numbers = {ticket.number for ticket in judged}
    return [ticket for ticket in candidates if ticket.number in numbers]


def contender_masks(
    search: Search, winner: Ticket, seeds: Tickets, added: Iterable[str] = ()
) -> dict[str, Mask]:
    """Return ``{name: (orders, weights) masks}`` of the winner and its contenders on the test set.

    ``seeds`` are the masks of the first population's pruners; ``added`` are the pruners that prune the
    winner's initialization now.
    """
    names, spec = pruned_names(search.settings), search.network.spec
    pruned = {names[s.operator]: s.mask for s in seeds if s.pruned_from == winner.initialization}
    rng = np.random.default_rng(seed_sequence(search.settings.seed, Stream.CONTROL))
    orders = range(search.settings.final.orders)
    shuffled = [layer_shuffle(winner.mask, spec=spec, rng=rng) for _ in orders]
    return {
        BEST: _repeated(search, winner.mask),
        **{name: _repeated(search, mask) for name, mask in pruned.items()},
        **{pruned_name(name): _repeated(search, added_mask(search, winner, name)) for name in added},
        RANDOM: np.stack(shuffled),
        DENSE: _repeated(search, np.ones(spec.size, dtype=np.bool_)),
    }


def _repeated(search: Search, mask: Mask) -> Mask:
    """Return a mask once for each data order of the final training, ``(orders, weights)``."""
    return np.stack([mask] * search.settings.final.orders)


def train_contender(
    search: Search,
    name: str,
    masks: Mask,
    initialization: Initialization | None,
    stream: ReportedStream,
    ticket: int | None,
) -> list[Result]:
    """Return the results of :func:`train_masks`, one for each data order."""
    return _results(search, name, masks, train_masks(search, masks, initialization, stream), stream, ticket)


def train_masks(
    search: Search,
    masks: Mask,
    initialization: Initialization | None,
    stream: ReportedStream,
    *,
    keeps_states: bool = False,
) -> Trained:
    """Return the outcome of the final training of ``(orders, weights)`` masks, one for each data order.

    ``stream`` draws the data orders: those of choosing are evaluated on validation data, those of reporting
    on the test set. ``keeps_states`` keeps the trained weights.
    """
    return search.trainer.trainer.train(
        masks,
        [initialization or search.network.initialization],
        [_data_order(search, stream, order) for order in range(search.settings.final.orders)],
        search.final_recipe,
        Stage(part=PARTS[stream], keeps_states=keeps_states),
    )


def _data_order(search: Search, stream: ReportedStream, order: int) -> np.random.SeedSequence:
    """Return the seed of a data order of the final training."""
    return seed_sequence(search.settings.seed, stream, order)


def _results(
    search: Search, name: str, masks: Mask, trained: Trained, stream: ReportedStream, ticket: int | None
) -> list[Result]:
    """Return the rows of a contender's final training."""
    (evaluation,) = trained.evaluations
    return [
        Result(
            name,
            order,
            PARTS[stream],
            ticket,
            density(mask),
            effective_density(mask, search.network.spec),
            float(evaluation.loss[order]),
            float(evaluation.accuracy[order]),
        )
        for order, mask in enumerate(masks)
    ]


def save_tickets(search: Search, folder: Path, ranked: Iterable[Ticket], winner: Ticket) -> None:
    """Write tickets into a folder in place of others there, the winner twice.

    Only files named as tickets are replaced or removed. Raises :class:`BadInput` where the folder is a
    link: files behind it are not the run's.
    """
    refuse_links(folder.parent, [folder.name])
    folder.mkdir(exist_ok=True)
    names = {f"ticket-{ticket.number:05d}.safetensors": ticket for ticket in ranked}
    for name, ticket in {**names, "best.safetensors": winner}.items():
        whole = folder / f".{name}"
        whole.unlink(missing_ok=True)  # of a process that was killed, or a link
        save_ticket(whole, _network_of(search, ticket), ticket)
        whole.replace(folder / name)
    for stale in folder.glob("ticket-*.safetensors"):  # of an interrupted or since extended run
        if stale.name not in names:
            stale.unlink()


def trained_weights(
    search: Search, ticket: Ticket, order: int, state: State | None = None
) -> dict[str, Tensor]:
    """Return parameters and buffers of a ticket's network after the final training on a data order.

    The data orders are those that test accuracies are reported for, from 0 on. ``state`` is that of the end
    of this training; without it the ticket is trained now.
    """
    return search.trainer.trainer.weights(
        ticket.mask,
        ticket.initialization or search.network.initialization,
        _data_order(search, Stream.REPORTING, order),
        search.final_recipe,
        state,
    )


def trained_network(search: Search, ticket: Ticket, order: int) -> nn.Module:
    """Return a ticket's module, in evaluation mode, with :func:`trained_weights`."""
    network = search.network
    tensors = trained_weights(search, ticket, order)
    buffers = {name: tensors.pop(name) for name in network.buffers()}
    model = network.factory or network.name
    return module_of(model, network.input_shape, network.classes, network.options, tensors, buffers)


def save_trained_winner(search: Search, folder: Path, winner: Ticket, trained: Trained) -> None:
    """Write the network that the first data order trained of the winner into the folder of tickets."""
    whole = folder / f".{TRAINED}"
    whole.unlink(missing_ok=True)
    save_trained(
        whole,
        _network_of(search, winner),
        winner.mask,
        trained_weights(search, winner, 0, trained.states[0]),
        search.dataset,
        accuracy=float(trained.evaluations[0].accuracy[0]),
        steps=search.final_recipe.steps,
        masking=search.final_recipe.masking,
    )
    whole.replace(folder / TRAINED)


def _network_of(search: Search, ticket: Ticket) -> Network:
    """Return the network with the initialization that the ticket is trained from."""
    return search.network.reinitialized(*(ticket.initialization or search.network.initialization))
