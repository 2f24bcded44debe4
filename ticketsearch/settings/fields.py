"""The settings as a tree of checked values; each field's description is its help text and documentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ticketsearch.checks import Count, Generations, Members, Orders, Steps, Workers
from ticketsearch.settings.values import Names, as_list, parse_paths, parse_rungs

__all__ = ["NAMES", "Data", "Section", "Settings", "as_list"]

# Settings whose values are names of functions, one or several.
NAMES = (
    *(("data", "name"), ("model", "name"), ("fitness", "name"), ("seeding", "method")),
    *(("evolution", "crossover"), ("evolution", "mutation"), ("final", "contenders")),
)


class Section(BaseModel):
    """A section of the settings; it refuses unknown names, and its values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Data(Section):
    """Dataset that is learned."""

    name: str = Field(
        "digits",
        description="Dataset: digits, mnist1d, moons, cifar10:FOLDER, idx:FOLDER (MNIST and its like), "
        "npz:FILE, csv:FILE, libsvm:FILE, or FILE.py:FUNCTION for a loader of your own.",
    )
    options: dict[str, Any] = Field({}, description="Options of the dataset's loader, such as seed or label.")


class Model(Section):
    """Architecture of the network."""

    name: str = Field(
        "mlp:100,50",
        description="Architecture: mlp:H1,H2,… with hidden layers of these widths, lenet_300_100, lenet5, "
        "conv2, conv4, conv6, resnet20, vgg16_bn, or FILE.py:FUNCTION for a factory of your own.",
    )
    options: dict[str, Any] = Field(
        {}, description="Options of the model's factory, such as width, a factor on the hidden sizes."
    )


class Seeding(Section):
    """First population: masks that pruners make of differently initialized copies of the network."""

    method: Names = Field(
        "synflow",
        description="Pruner that makes the first masks: synflow, balanced_synflow, snip, grasp, saliency, "
        "magnitude, random, imp, averaged_imp, obd, edge_popup, flow_preserving, or FILE.py:FUNCTION. A "
        "search takes several too, separated by commas; each of them prunes every initialization.",
    )
    density: float = Field(
        0.05, gt=0, le=1, description="Density of the masks: the share of the weights that they keep."
    )
    initializations: Orders = Field(
        8, ge=1, description="Number of initializations of the network that are pruned."
    )
    schemes: list[str] = Field(
        ["kaiming_normal", "kaiming_uniform", "xavier_uniform", "orthogonal"],
        description="Initialization schemes, which the initializations take in turn.",
    )
    steps: Steps = Field(
        0,
        ge=0,
        description="Number of pruning steps; 0 stands for the pruner's own number: 100 for synflow, "
        "balanced_synflow and functions of your own; for imp, averaged_imp and obd, as many as prune a fifth "
        "of the weights each; 1 for the others.",
    )
    schedule: Literal["exponential", "linear", "one_shot"] = Field(
        "exponential",
        description="Schedule of the density over the pruning steps: exponential, linear, or one_shot, which "
        "prunes in a single step.",
    )
    scope: Literal["global", "layer"] = Field(
        "global",
        description="Scope of the pruning: global compares all weights with each other, layer compares the "
        "weights within each layer, so that all layers have the same density.",
    )
    mutation_rate: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Chance that a kept weight is swapped in the mutants that fill up the first population.",
    )
    tickets: Annotated[list[str], BeforeValidator(parse_paths)] = Field(
        [],
        description="Saved tickets that join the first population: ticket files, or folders of finished runs "
        "for their best tickets.",
    )
    options: dict[str, Any] = Field(
        {}, description="Options of the pruner; each goes to those of several pruners that take it."
    )


class Evolution(Section):
    """Genetic algorithm over masks."""

    population: Members = Field(32, ge=1, description="Number of tickets in a generation.")
    generations: Generations = Field(
        20, ge=0, description="Number of generations after the first population."
    )
    minutes: float = Field(
        0,
        ge=0,
        description="Minutes after which no generation begins any more, counted from each start of the "
        "search; the final comparison of what there is follows. 0 sets no limit.",
    )
    elites: Count = Field(4, ge=0, description="Number of best tickets that always survive.")
    tournament: Members = Field(
        3, ge=1, description="Number of tickets in a tournament, which chooses parents and survivors."
    )
    crossover: Names = Field(
        "union_crossover",
        description="Crossover operator: union_crossover, uniform_crossover, neuron_crossover, "
        "aligned_crossover, or FILE.py:FUNCTION. Of several, adaptive operator selection draws one for each "
        "child.",
    )
    crossover_rate: float = Field(
        0.5, ge=0, le=1, description="Chance that a child is made by crossover rather than by mutation."
    )
    mutation: Names = Field(
        "guided_mutation",
        description="Mutation operator: guided_mutation, swap_mutation, path_mutation, fan_in_mutation, or "
        "FILE.py:FUNCTION. Of several, adaptive operator selection draws one for each child.",
    )
    mutation_rate: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Chance that a mutation swaps a kept weight (fan_in_mutation: moves a neuron's fan-in); "
        "at least one is swapped.",
    )
    attempts: Count = Field(
        10,
        ge=0,
        description="Number of times that a child is made again where it duplicates a network of the run; "
        "then a random mask takes its place.",
    )
    objective: Literal["score", "front"] = Field(
        "score",
        description="Objective: score, or front, the Pareto front of score against the number of kept "
        "weights (NSGA-II).",
    )
    least_density: float = Field(
        0.01, gt=0, le=1, description="Smallest density on the Pareto front; objective score ignores it."
    )
    largest_density: float = Field(
        0.5, gt=0, le=1, description="Largest density on the Pareto front; objective score ignores it."
    )
    identity: Literal["structure", "ticket"] = Field(
        "structure",
        description="Definition of a duplicate: structure compares masks up to a renumbering of hidden "
        "neurons, ticket compares their initial weights as well.",
    )
    saliency: Literal["magnitude", "curvature", "mixed"] = Field(
        "curvature",
        description="Weight saliency that guided operators and trials use: magnitude of trained weights and "
        "of gradients, curvature of the loss (optimal brain damage), or mixed, which prunes by magnitude and "
        "grows by curvature.",
    )
    temperature: float = Field(
        0.3, ge=0, description="Temperature of the Gumbel noise on guided choices; 0 stands for no noise."
    )
    candidates: float = Field(
        1.0,
        ge=0,
        description="Number of pruned weights that guidance proposes for growing, in multiples of the number "
        "of kept weights.",
    )
    trial: bool = Field(
        True,
        description="Whether a child is first trained with all weights that its parents keep, and then "
        "pruned by saliency to its number of weights.",
    )
    reassess: Count = Field(
        3,
        ge=0,
        description="Period, in generations, in which each member is evaluated again beside the children: 3 "
        "takes a third of the members in each generation, 0 takes none.",
    )
    polish: Count = Field(
        0,
        ge=0,
        description="Number of changes that memetic local search tries on each child before it joins the "
        "population; 0 stands for no local search. It needs a fitness that does not train, such as "
        "untrained.",
    )
    ties: Count = Field(
        0,
        ge=0,
        description="Largest number of survivors of equal score, as long as there are others; 0 stands for "
        "any number.",
    )
    start_density: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Density of the first population, from which the density falls to seeding.density; 0 "
        "stands for seeding.density from the beginning.",
    )
    annealed: float = Field(
        0.75, gt=0, le=1, description="Share of the generations in which the density falls."
    )


class Training(Section):
    """Short training of a masked network, which gives a ticket its fitness."""

    steps: Annotated[int | list[int], BeforeValidator(parse_rungs)] = Field(
        200,
        description="Number of optimizer steps of an evaluation, ≥ 0, or the rungs of successive halving, "
        "such as 50,200,800: all masks are trained to the first rung, and the better half to each next one.",
    )
    batch: int = Field(128, ge=1, description="Number of samples in a batch.")
    optimizer: str = Field("sgd", description="Optimizer: sgd (with momentum), nesterov, adam or adamw.")
    lr: float = Field(0.05, gt=0, description="Learning rate; a falling schedule begins with it.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of the optimizers sgd and nesterov.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of the optimizer.")
    lr_schedule: str = Field(
        "constant",
        description="Schedule of the learning rate: constant, or over all steps to zero, linear or cosine.",
    )
    dtype: Literal["float32", "float64"] = Field(
        "float32", description="Data type of weights, losses and evaluations: float32 or float64."
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="Precision of products and convolutions in training: float32 (that of the data type), "
        "tf32 (CUDA devices), or bfloat16.",
    )
    initialization: Literal["shared", "own"] = Field(
        "shared",
        description="Initial weights of tickets: shared trains all of them from the first initialization, "
        "own trains each from the initialization that it was pruned from.",
    )
    masking: str = Field(
        "parameter",
        description="Mask mode: parameter multiplies the mask into the weights; gradient masks the gradient "
        "alone, so that pruned weights keep their initial values; forward masks the forward pass alone, so "
        "that pruned weights go on learning.",
    )
    scored: Literal["validation", "pooled"] = Field(
        "validation",
        description="Samples of the score: those of validation, or pooled, validation and training samples.",
    )
    device: str = Field(
        "auto",
        description="Device of the training: auto (CUDA where there is a device, else the CPU), cpu, cuda or "
        "cuda:N.",
    )
    workers: Workers = Field(
        0,
        ge=0,
        description="Number of jobs trained side by side; 0 stands for one a core or GPU, and for 1 in a "
        "search of less than about a minute.",
    )
    backend: Literal["auto", "threads", "loky", "dask", "ray"] = Field(
        "auto",
        description="Backend of the workers: auto (threads where the native engine trains, else loky), "
        "threads, loky (processes of this machine), or a dask or ray cluster.",
    )
    address: str = Field(
        "", description="Address of the dask or ray cluster, HOST:PORT; empty for the other backends."
    )


class Fitness(Section):
    """Fitness of a mask."""

    name: str = Field(
        "short_training",
        description="Fitness function: short_training, untrained (accuracy of the masked network as it was "
        "initialized), or FILE.py:FUNCTION.",
    )
    options: dict[str, Any] = Field(
        {}, description="Options of the fitness function; short_training has the section [training] instead."
    )


class Final(Section):
    """Final comparison: validation data choose the winner, which is evaluated on the test set once."""

    steps: int = Field(1000, ge=0, description="Number of optimizer steps of the final training.")
    orders: Orders = Field(
        5, ge=1, description="Number of data orders of the final training, whose accuracies are averaged."
    )
    candidates: Orders = Field(
        4,
        ge=1,
        description="Number of tickets of best fitness among which the winner is chosen; objective front "
        "takes the whole front.",
    )
    contenders: Names = Field(
        "auto",
        description="Pruners whose masks of the winner's initialization, at the winner's density, join the "
        "comparison: one or several, such as imp. auto adds imp where its FLOPs are less than a tenth of the "
        "search's, as estimated when the run is made; none adds none.",
    )


class Settings(Section):
    """All settings of a run."""

    seed: int = Field(
        0,
        ge=0,
        lt=2**64,
        description="Seed of everything random in a run, except for the split of the data, which "
        "data.options.seed draws.",
    )
    data: Data = Data()
    model: Model = Model()
    seeding: Seeding = Seeding()
    evolution: Evolution = Evolution()
    training: Training = Training()
    fitness: Fitness = Fitness()
    final: Final = Final()
