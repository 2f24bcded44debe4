"""Crossovers and mutations on whole flat masks.

Crossovers and mutations return a new read-only ``(weights,)`` mask with exactly the weight count of the
(first) parent, and leave no layer without a weight. An operator with a parameter ``guidance`` gets the
:class:`~ticketsearch.Guidance` of its parent (a pair of them for a crossover), or None; one with a parameter
``temperature`` gets the scale of the noise on guided choices.

Mutations swap weights at random (``swaps``) or by guidance (``guided``), move whole fan-ins (``fan_ins``) or
grow whole paths (``paths``). Crossovers mix weights or neurons (``crossovers``); one first renumbers the
neurons of the second parent to match those of the first (``aligned``).
"""

from ticketsearch.masks import layer_shuffle as layer_shuffle  # importable beside them
from ticketsearch.operators.aligned import aligned_crossover
from ticketsearch.operators.crossovers import neuron_crossover, uniform_crossover, union_crossover
from ticketsearch.operators.fan_ins import fan_in_mutation
from ticketsearch.operators.guided import guided_mutation
from ticketsearch.operators.paths import path_mutation
from ticketsearch.operators.swaps import swap_mutation

# The operators that settings may name.
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
