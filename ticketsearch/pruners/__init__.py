"""Pruners: saliency scores of a network's weights, and the loop that prunes by them.

A score function takes the network as masked so far and returns ``{layer name: scores}``; the loop calls it
again after each cut. Weights of larger scores are kept. ``__all__`` lists the pruners that have a name.
"""

from __future__ import annotations

from ticketsearch.pruners.baselines import magnitude, random
from ticketsearch.pruners.batching import Batch as Batch
from ticketsearch.pruners.batching import Copies as Copies
from ticketsearch.pruners.batching import Parts as Parts
from ticketsearch.pruners.batching import ScoreFunction as ScoreFunction
from ticketsearch.pruners.batching import batched as batched
from ticketsearch.pruners.edge_popup import edge_popup
from ticketsearch.pruners.flow import FlowNetwork as FlowNetwork
from ticketsearch.pruners.flow_preserving import flow_preserving
from ticketsearch.pruners.imp import TRAINING as TRAINING
from ticketsearch.pruners.imp import averaged_imp, imp, obd
from ticketsearch.pruners.iterative import SUPPLIED as SUPPLIED
from ticketsearch.pruners.iterative import LayerCollapseWarning as LayerCollapseWarning
from ticketsearch.pruners.iterative import PruningStep as PruningStep
from ticketsearch.pruners.iterative import Schedule as Schedule
from ticketsearch.pruners.iterative import Scope as Scope
from ticketsearch.pruners.iterative import check_density as check_density
from ticketsearch.pruners.iterative import check_scores as check_scores
from ticketsearch.pruners.iterative import scoring_batch as scoring_batch
from ticketsearch.pruners.pruning import method_options as method_options
from ticketsearch.pruners.pruning import prune as prune
from ticketsearch.pruners.pruning import prune_all as prune_all
from ticketsearch.pruners.pruning import resolve_pruner as resolve_pruner
from ticketsearch.pruners.pruning import schedule_steps as schedule_steps
from ticketsearch.pruners.pruning import scores_at_once as scores_at_once
from ticketsearch.pruners.pruning import scores_of as scores_of
from ticketsearch.pruners.retention import Retention as Retention
from ticketsearch.pruners.retention import flow_retention as flow_retention
from ticketsearch.pruners.retention import retention_kind as retention_kind
from ticketsearch.pruners.saliency import find_reward as find_reward
from ticketsearch.pruners.saliency import grasp, saliency, snip
from ticketsearch.pruners.synflow import balanced_synflow, synflow
from ticketsearch.pruners.ties import UNMENTIONED as UNMENTIONED
from ticketsearch.pruners.ties import EqualScoresWarning as EqualScoresWarning
from ticketsearch.pruners.ties import PruningWarning as PruningWarning
from ticketsearch.pruners.ties import mask_of_scores as mask_of_scores
from ticketsearch.pruners.training_cost import TrainingCost as TrainingCost

__all__ = [
    "averaged_imp",
    "balanced_synflow",
    "edge_popup",
    "flow_preserving",
    "grasp",
    "imp",
    "magnitude",
    "obd",
    "random",
    "saliency",
    "snip",
    "synflow",
]
