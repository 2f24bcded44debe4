"""The reading half of a run: its tickets, generations and summaries, validated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ticketsearch.errors import BadInput
from ticketsearch.evolution import Generation, OrderEffects
from ticketsearch.halving import Agreement
from ticketsearch.runs import rows, tables
from ticketsearch.runs.header import RunHeader
from ticketsearch.runs.replay import generation_of, replay
from ticketsearch.runs.schema import ORDER_EFFECTS_SINCE, old_order_effects
from ticketsearch.tickets import Ticket, Tickets

__all__ = ["RunReader"]

# Numbers of tickets that one query asks for.
CHUNK = 500


class RunReader(RunHeader):
    """The queries of :class:`ticketsearch.Run`, which change nothing."""

    def tickets(self) -> Tickets:
        """Return all tickets of the run by number.

        A ticket's ``score`` is the mean over all its evaluations, those after its first generation too, less
        the effects of their data orders; ``first_score`` is that of the first one.
        """
        return self._tickets("ORDER BY number")

    def chunks(self) -> Iterator[Tickets]:
        """Yield all tickets by number, some hundreds at a time: all masks may not fit into memory."""
        numbers = [row.number for row in self._read(tables.PARENTS, "ORDER BY number")]
        order_effects = self._order_effects(self.progress())
        query = "WHERE number BETWEEN ? AND ? ORDER BY number"
        for start in range(0, len(numbers), CHUNK):
            chunk = numbers[start : start + CHUNK]
            yield self._tickets(query, (chunk[0], chunk[-1]), order_effects=order_effects)

    def ticket(self, number: int) -> Ticket:
        """Return one ticket. Raises :class:`BadInput` for an unknown number."""
        tickets = self._tickets("WHERE number = ?", (number,))
        if not tickets:
            raise BadInput(f"run {self.name!r} has no ticket {number}; `ticketsearch show` lists them")
        return tickets[0]

    def ancestors(self, number: int) -> Tickets:
        """Return a ticket and its ancestors by number, without their masks, ``(0,)``.

        The masks of a long search do not fit into memory. Raises :class:`BadInput` for an unknown number, or
        a missing parent.
        """
        parents = {row.number: row.parents for row in self._read(tables.PARENTS, "ORDER BY number")}
        wanted, waiting = {number}, [number]
        while waiting:
            new = set(parents.get(waiting.pop(), ())) - wanted
            wanted |= new
            waiting += new
        numbers, ancestors, order_effects = sorted(wanted), Tickets(), self._order_effects(self.progress())
        for start in range(0, len(numbers), CHUNK):
            chunk = numbers[start : start + CHUNK]
            query = f"WHERE number IN ({', '.join('?' * len(chunk))}) ORDER BY number"
            ancestors += [
                replace(t, mask=t.mask[:0]) for t in self._tickets(query, chunk, order_effects=order_effects)
            ]
        missing = wanted - {ticket.number for ticket in ancestors}
        if missing:
            raise BadInput(f"run {self.name!r} has no ticket {min(missing)}; `ticketsearch show` lists them")
        return ancestors

    def population(self, generation: int) -> Tickets:
        """Return the members of a generation in their places."""
        places = self._read(tables.MEMBERS, "WHERE generation = ? ORDER BY position", (generation,))
        query = "WHERE number IN (SELECT ticket FROM members WHERE generation = ?)"
        members = {t.number: t for t in self._tickets(query, (generation,), until=generation)}
        with self._validation():
            if missing := [row.ticket for row in places if row.ticket not in members]:
                raise ValueError(f"ticket {missing[0]} of generation {generation} is not there")
        return Tickets(members[row.ticket] for row in places)

    def offspring(self, generation: int) -> Tickets:
        """Return the tickets that were first evaluated in a generation, by number."""
        return self._tickets("WHERE generation = ? ORDER BY number", (generation,), until=generation)

    def seeds(self) -> Tickets:
        """Return the pruned masks of all initializations, in their order, equal ones too."""
        stored = self._read(tables.SEEDS, "ORDER BY position", context=self.spec)
        return Tickets(rows.seed_of(row, self.spec) for row in stored)

    def keys(self) -> list[str]:
        """Return the duplicate keys of all tickets of the run."""
        return [row.key for row in self._read(tables.KEYS, "ORDER BY number")]

    def searched(self) -> Tickets:
        """Return the tickets whose canonical form had to be searched for, by number: see ``Seen``."""
        return self._tickets("WHERE instr(key, '-') ORDER BY number")

    def agreements(self) -> list[Agreement]:
        """Return the agreement of successive halving's rungs by generation; empty for a single rung."""
        stored = self._read(tables.AGREEMENTS, "ORDER BY number")
        return [Agreement(*counts) for row in stored for counts in row.agreements]

    def operators(self) -> dict[str, tuple[int, int]]:
        """Return by operator the number of children, and of children that survived their generation."""
        return {row.operator: (row.children, row.survivors) for row in self._read(tables.MADE)}

    def credit(self) -> dict[str, dict[str, float]]:
        """Return the quality of each operator by kind after the last generation, of kinds with several."""
        newest = self._read(tables.STATES, "ORDER BY number DESC LIMIT 1")
        return {
            str(kind): qualities for row in newest for kind, qualities in (row.state.credit or {}).items()
        }

    def generations(self) -> Iterator[Generation]:
        """Yield the generations in order, each with its population and offspring, in one pass."""
        last = self.progress()
        replayed = replay(self._read, self.spec, self._order_effects(last), last)
        while True:
            with self._validation():
                generation = next(replayed, None)
            if generation is None:
                return
            yield generation

    def last(self) -> Generation | None:
        """Return the last committed generation, from which a search continues; None before the first."""
        from ticketsearch.tickets import Seen  # imports canonical forms, which other queries do without

        number = self.progress()
        with self._validation():
            newest = self._read(tables.PARENTS, "ORDER BY number DESC LIMIT 1")
            if number < 0 and newest:
                raise ValueError("there are tickets, but no generation")
        if number < 0:
            return None
        population, offspring = self.population(number), self.offspring(number)
        with self._validation():
            (row,) = self._read(tables.GENERATIONS, "WHERE number = ?", (number,))
            if not population:
                raise ValueError(f"generation {number} has no members")
            if row.state.count <= max(ticket.number for ticket in newest):
                raise ValueError(f"generation {number} counts {row.state.count} tickets, but there are more")
            members = {ticket.number: ticket for ticket in population}
            for guidance in self._read(tables.GUIDANCE):
                if guidance.ticket in members:
                    members[guidance.ticket].guidance = rows.guidance_of(guidance, members[guidance.ticket])
        generation = generation_of(row, population, offspring, self._order_effects(number))
        return replace(generation, seen=Seen(self.spec, keys=self.keys(), searched=self.searched()))

    def _order_effects(self, until: int) -> OrderEffects:
        """Return the effects of data orders that were known at a generation."""
        if self._version < ORDER_EFFECTS_SINCE:
            with self._validation():
                return OrderEffects(old_order_effects(self._connection, until))
        stored = self._read(tables.WORTH, "WHERE generation <= ? ORDER BY generation, rung", (until,))
        return OrderEffects((row.rung, row.generation, row.value) for row in stored)

    def _tickets(
        self,
        rest: str,
        parameters: Sequence[Any] = (),
        *,
        until: int | None = None,
        order_effects: OrderEffects | None = None,
    ) -> Tickets:
        """Return tickets with their evaluations until a generation; by default the last."""
        stored = self._read(tables.TICKETS, rest, parameters, self.spec)
        last = self.progress() if until is None else until
        tickets = Tickets(rows.ticket_of(row, self.spec) for row in stored)
        if not tickets:
            return tickets
        by_number = {ticket.number: ticket for ticket in tickets}
        with self._validation():
            if (newest := max(ticket.generation for ticket in tickets)) > last:
                raise ValueError(f"there are tickets of generation {newest}, but the last one is {last}")
        query = "WHERE ticket BETWEEN ? AND ? AND generation <= ? ORDER BY generation"
        for row in self._read(tables.ASSESSMENTS, query, (min(by_number), max(by_number), last)):
            if row.ticket in by_number:
                by_number[row.ticket].add_evaluation(rows.assessment_of(row))
        (self._order_effects(last) if order_effects is None else order_effects).subtract(tickets)
        return tickets
