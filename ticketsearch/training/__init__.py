"""Training: the engine that trains a cohort of masked networks, on the CPU or a CUDA device.

Recipe (``recipe``) and devices (``device``)
    Recipe, OPTIMIZERS, PRECISIONS, data_order, check_batch, find_device, one_thread, reproducible
Effect of a mask in training (``mask_modes``)
    MASKINGS, Masking
Networks (``cohort``; ``native`` trains them by their kept weights on CPUs, by compiled loops; otherwise
``stacked`` trains networks of Linear layers as one tensor program, ``single`` all others one by one)
    Cohort, resident
Networks that are trained together, without their dead units (``layout``), and their FLOPs (``flops``)
    batches, engine_for, engine_name, why_not_compacted, compaction_notes, training_cost,
    live_operations, kept_operations, growable_operations, operations_a_sample, BLOCK
Training and evaluation (``loop``; ``dropout`` draws its noise, ``cuda_graphs`` records steps on CUDA,
``checkpoints`` are states to go on from, ``saliency`` scores weights)
    Training, train, evaluate, Evaluation, TrainingPart, State, SALIENCIES, Noise, check_normalisation,
    check_noise
Independence of a sample's outputs of the samples beside it (``independence``)
    check_independence
"""

from ticketsearch.training.cohort import Cohort, resident
from ticketsearch.training.device import find_device, one_thread, reproducible, shared_gpus
from ticketsearch.training.dropout import Noise, check_noise
from ticketsearch.training.flops import (
    BLOCK,
    growable_operations,
    kept_operations,
    live_operations,
    operations_a_sample,
    training_cost,
)
from ticketsearch.training.independence import check_independence
from ticketsearch.training.layout import batches, compaction_notes, engine_for, engine_name, why_not_compacted
from ticketsearch.training.loop import (
    Evaluation,
    Training,
    TrainingPart,
    check_normalisation,
    evaluate,
    train,
)
from ticketsearch.training.mask_modes import MASKINGS, Masking
from ticketsearch.training.parts import State
from ticketsearch.training.recipe import OPTIMIZERS, PRECISIONS, Recipe, check_batch, data_order
from ticketsearch.training.saliency import SALIENCIES

__all__ = [
    "BLOCK",
    "MASKINGS",
    "OPTIMIZERS",
    "PRECISIONS",
    "SALIENCIES",
    "Cohort",
    "Evaluation",
    "Masking",
    "Noise",
    "Recipe",
    "State",
    "Training",
    "TrainingPart",
    "batches",
    "check_batch",
    "check_independence",
    "check_noise",
    "check_normalisation",
    "compaction_notes",
    "data_order",
    "engine_for",
    "engine_name",
    "evaluate",
    "find_device",
    "growable_operations",
    "kept_operations",
    "live_operations",
    "one_thread",
    "operations_a_sample",
    "reproducible",
    "resident",
    "shared_gpus",
    "train",
    "training_cost",
    "why_not_compacted",
]
