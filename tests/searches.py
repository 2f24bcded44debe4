"""Options of searches that tests run."""

from dataclasses import fields

from ticketsearch.evolution import NSGA2, DensitySchedule, Tournament, Variation
from ticketsearch.operators import swap_mutation, uniform_crossover

BLIND = {
    "crossover": uniform_crossover,
    "mutation": swap_mutation,
    "mutation_rate": 0.05,
    "temperature": 0.0,
    "trial": False,
}


class Counts(DensitySchedule):
    """A schedule of given weight counts."""

    def __init__(self, given):
        super().__init__(1.0, 1.0)
        object.__setattr__(self, "given", given)

    def counts(self, size, generations):
        return self.given


def plain(**changes):
    """Return options of ``evolve`` for a search without guidance and without reevaluation.

    Changes are fields of the variation or of the selection, or other options; ``fewest`` and ``most`` select
    by NSGA-II.
    """

    def taken(kind):
        return {field.name: changes.pop(field.name) for field in fields(kind) if field.name in changes}

    variation = Variation(**BLIND | taken(Variation))
    kind = NSGA2 if "fewest" in changes else Tournament
    return {"variation": variation, "selection": kind(**{"reassess": 0} | taken(kind)), **changes}
