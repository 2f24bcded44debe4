"""Crossovers and mutations on whole flat masks.

Crossovers and mutations return a new read-only ``(weights,)`` mask with exactly the count of its (first)
parent, and leave no layer without a weight. One that names a parameter ``guidance`` is given what the
training of its parent revealed (of both parents, for a crossover), or None where nothing did; one that names
``temperature`` the noise of guided choices.

Mutations swap weights blindly (``swaps``) or by guidance (``guided``), move whole fan-ins (``fan_ins``) or
grow whole paths (``paths``). Crossovers mix weights or neurons (``crossovers``), and renumber one parent's
neurons after the other's first (``aligned``).
"""

from ticketsearch.masks import layer_shuffle as layer_shuffle  # importable beside them
from ticketsearch.operators.aligned import aligned_crossover
from ticketsearch.operators.crossovers import neuron_crossover, uniform_crossover, union_crossover
from ticketsearch.operators.fan_ins import fan_in_mutation
from ticketsearch.operators.guided import guided_mutation
from ticketsearch.operators.paths import path_mutation
from ticketsearch.operators.swaps import swap_mutation

# The operators that have a name.
__all__ = [
    "aligned_crossover",
    "fan_in_mutation",
    "guided_mutation",
    "neuron_crossover",
    "path_mutation",
    "swap_mutation",
    "uniform_crossover",
    "union_crossover",
]
