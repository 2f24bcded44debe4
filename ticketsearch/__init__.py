"""ticketsearch: a genetic-algorithm search for lottery tickets.

Data and networks
    load_dataset, from_arrays, Dataset, initialize, Network, Initialization
Masks
    MaskSpec, density, effective_density, live, live_units, permute
Pruning and first populations
    prune, prune_all, batched, LayerCollapseWarning, EqualScoresWarning, flow_retention, seed_population,
    initializations, from_pruned
Masked networks as modules
    compact, to_pruned, to_sparse
Theory
    theory: conservation, collapse, critical compression, audit
Fitness and evolution
    ShortTraining, train, Recipe, EvaluationOptions, Scores, Guidance, Ticket, Tickets,
    successive_halving, HalvingResult
    evolve, Generation, GuidanceWarning, and the options of evolve: Variation, Duplicates, Tournament, NSGA2,
    DensitySchedule, LocalSearch
Canonical forms and overlap
    canonical_key, canonical_identity, canonical_form, isomorphic, to_networkx, align, overlap_study,
    study_pruners, read_overlaps, overlaps_text
Comparisons
    compare, read_comparison, comparison_text
Sweeps over seeds and settings
    sweep, read_sweep, sweep_text
Searches and runs
    search, Callback, Run, save_ticket, load_ticket, load_trained
Errors
    BadInput

Names are imported when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from ticketsearch import lazy

_HOMES = {
    "canonical": "canonical_form canonical_identity canonical_key isomorphic to_networkx",
    "datasets": "Dataset from_arrays load_dataset",
    "errors": "BadInput",
    "experiment": "Callback",
    "evolution": "DensitySchedule Duplicates Generation GuidanceWarning LocalSearch NSGA2 Tournament "
    "Variation evolve",
    "fitness": "EvaluationOptions ShortTraining train",
    "halving": "HalvingResult successive_halving",
    "masks": "Guidance MaskSpec density effective_density live live_units permute",
    "models": "Initialization Network compact initialize to_pruned to_sparse",
    "alignment": "align",
    "overlap": "overlap_study",
    "report.text": "comparison_text overlaps_text sweep_text",
    "pruners": "EqualScoresWarning LayerCollapseWarning batched flow_retention prune prune_all",
    "python": "Run compare read_comparison read_overlaps read_sweep search study_pruners sweep",
    "seeding": "initializations seed_population",
    "tickets": "Scores Ticket Tickets from_pruned load_ticket load_trained save_ticket",
    "training": "Recipe",
}
# Old name → name, for one release.
_RENAMED = {"climb": "successive_halving"}
_imported = lazy.face(__name__, _HOMES)

__all__ = [
    "NSGA2",
    "BadInput",
    "Callback",
    "Dataset",
    "DensitySchedule",
    "Duplicates",
    "EqualScoresWarning",
    "EvaluationOptions",
    "Generation",
    "Guidance",
    "GuidanceWarning",
    "HalvingResult",
    "Initialization",
    "LayerCollapseWarning",
    "LocalSearch",
    "MaskSpec",
    "Network",
    "Recipe",
    "Run",
    "Scores",
    "ShortTraining",
    "Ticket",
    "Tickets",
    "Tournament",
    "Variation",
    "__version__",
    "align",
    "batched",
    "canonical_form",
    "canonical_identity",
    "canonical_key",
    "compact",
    "compare",
    "comparison_text",
    "density",
    "effective_density",
    "evolve",
    "flow_retention",
    "from_arrays",
    "from_pruned",
    "initializations",
    "initialize",
    "isomorphic",
    "live",
    "live_units",
    "load_dataset",
    "load_ticket",
    "load_trained",
    "overlap_study",
    "overlaps_text",
    "permute",
    "prune",
    "prune_all",
    "read_comparison",
    "read_overlaps",
    "read_sweep",
    "save_ticket",
    "search",
    "seed_population",
    "study_pruners",
    "successive_halving",
    "sweep",
    "sweep_text",
    "theory",
    "to_networkx",
    "to_pruned",
    "to_sparse",
    "train",
]

if TYPE_CHECKING:
    __version__: str
    from ticketsearch import theory
    from ticketsearch.alignment import align
    from ticketsearch.canonical import (
        canonical_form,
        canonical_identity,
        canonical_key,
        isomorphic,
        to_networkx,
    )
    from ticketsearch.datasets import Dataset, from_arrays, load_dataset
    from ticketsearch.errors import BadInput
    from ticketsearch.evolution import (
        NSGA2,
        DensitySchedule,
        Duplicates,
        Generation,
        GuidanceWarning,
        LocalSearch,
        Tournament,
        Variation,
        evolve,
    )
    from ticketsearch.experiment import Callback
    from ticketsearch.fitness import EvaluationOptions, ShortTraining, train
    from ticketsearch.halving import HalvingResult, successive_halving
    from ticketsearch.masks import Guidance, MaskSpec, density, effective_density, live, live_units, permute
    from ticketsearch.models import Initialization, Network, compact, initialize, to_pruned, to_sparse
    from ticketsearch.overlap import overlap_study
    from ticketsearch.pruners import (
        EqualScoresWarning,
        LayerCollapseWarning,
        batched,
        flow_retention,
        prune,
        prune_all,
    )
    from ticketsearch.python import (
        Run,
        compare,
        read_comparison,
        read_overlaps,
        read_sweep,
        search,
        study_pruners,
        sweep,
    )
    from ticketsearch.report.text import comparison_text, overlaps_text, sweep_text
    from ticketsearch.seeding import initializations, seed_population
    from ticketsearch.tickets import (
        Scores,
        Ticket,
        Tickets,
        from_pruned,
        load_ticket,
        load_trained,
        save_ticket,
    )
    from ticketsearch.training import Recipe


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # takes longer to import than the rest of this module

        return metadata.version("ticketsearch")
    if name == "theory":
        return importlib.import_module("ticketsearch.theory")
    if name in _RENAMED:
        message = f"ticketsearch.{name} is deprecated and goes with version 0.3.0; write {_RENAMED[name]}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    return _imported(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
