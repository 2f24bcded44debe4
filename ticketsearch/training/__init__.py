"""The engine: trains a whole cohort of masked networks, on the CPU or a CUDA device.

The recipe (``recipe``)
    Recipe, OPTIMIZERS, PRECISIONS, data_order, check_batch, find_device, one_thread, reproducible
What a mask does in training (``maskings``)
    MASKINGS
The networks (``cohort``; ``dense`` stacks those of Linear layers, ``sparse`` those of them with few weights,
``general`` trains all others one by one; ``forward`` is what the first two share)
    Cohort
    resident
Which networks go together, without their dead units (``layout``)
    programs, obstacle, kept_whole
Training and evaluation (``loop``; ``noise`` is what dropout draws, ``replay`` records steps on CUDA)
    Training, train, evaluate, Evaluation, TrainingPart, check_normalisation, check_noise
Whether samples are evaluated each by itself (``independence``)
    check_independence
What training goes on from (``states``)
    State
"""

from ticketsearch.training.checkpoints import State
from ticketsearch.training.cohort import Cohort, resident
from ticketsearch.training.dropout import check_noise
from ticketsearch.training.independence import check_independence
from ticketsearch.training.layout import (
    BLOCK,
    growable_operations,
    kept_operations,
    kept_whole,
    live_operations,
    obstacle,
    operations_a_sample,
    programs,
)
from ticketsearch.training.loop import (
    Evaluation,
    Training,
    TrainingPart,
    check_normalisation,
    evaluate,
    train,
)
from ticketsearch.training.mask_modes import MASKINGS
from ticketsearch.training.recipe import (
    OPTIMIZERS,
    PRECISIONS,
    Recipe,
    check_batch,
    data_order,
    find_device,
    one_thread,
    reproducible,
)
from ticketsearch.training.saliency import SALIENCIES

__all__ = [
    "BLOCK",
    "MASKINGS",
    "OPTIMIZERS",
    "PRECISIONS",
    "SALIENCIES",
    "Cohort",
    "Evaluation",
    "Recipe",
    "State",
    "Training",
    "TrainingPart",
    "check_batch",
    "check_independence",
    "check_noise",
    "check_normalisation",
    "data_order",
    "evaluate",
    "find_device",
    "growable_operations",
    "kept_operations",
    "kept_whole",
    "live_operations",
    "obstacle",
    "one_thread",
    "operations_a_sample",
    "programs",
    "reproducible",
    "resident",
    "train",
]
