"""Examples of each command, which its help ends with."""

from __future__ import annotations

__all__ = ["EXAMPLES", "epilog"]

EXAMPLES = {
    "evolve": (
        "ticketsearch evolve --density 0.02 --generations 10",
        "ticketsearch evolve --data moons --model mlp:20,20 --seed 1 --name moons",
        "ticketsearch evolve --resume moons --generations 40",
        "ticketsearch evolve --seeds 0-9 --sweep evolution.temperature=0.1,0.3",
    ),
    "prune": (
        "ticketsearch prune --method snip --density 0.02",
        "ticketsearch prune --method grasp --model lenet5 --output grasp.safetensors",
        "ticketsearch prune --method synflow --steps 1 --json",
    ),
    "audit": (
        "ticketsearch audit",
        "ticketsearch audit --methods synflow,snip --model lenet_300_100",
        "ticketsearch audit --data mnist1d --output mnist1d.html",
    ),
    "overlap": (
        "ticketsearch overlap --methods synflow,snip --densities 0.05,0.02",
        "ticketsearch overlap digits-mlp-001 digits-mlp-002",
    ),
    "compare": (
        "ticketsearch compare --densities 0.05,0.02",
        "ticketsearch compare --methods evolution,imp,synflow --initializations 6",
        "ticketsearch compare runs/one runs/two --reference imp",
    ),
    "list": (
        "ticketsearch list",
        "ticketsearch list --where seeding.density=0.02 --where 'accuracy>0.9'",
        "ticketsearch list --sort=-accuracy,seconds --json",
    ),
    "show": (
        "ticketsearch show digits-mlp-001 | less",
        "ticketsearch show digits-mlp-001 --best 10",
        "ticketsearch show digits-mlp-001 --csv > tickets.csv",
    ),
    "report": (
        "ticketsearch report digits-mlp-001",
        "ticketsearch report elsewhere/runs/digits-mlp-001",
    ),
    "export": (
        "ticketsearch export digits-mlp-001 --format onnx --out best.onnx",
        "ticketsearch export digits-mlp-001 --format csv --out kept-weights.csv",
        "ticketsearch export runs/digits-mlp-001/tickets/best.safetensors --format pruned --out initial.pt",
    ),
    "settings": (
        "ticketsearch settings",
        "ticketsearch settings density",
        "ticketsearch settings --changed digits-mlp-001",
    ),
    "docs": (
        "ticketsearch docs",
        "ticketsearch docs tutorial | less -R",
    ),
}


def epilog(command: str) -> str:
    """Return the examples of a command, each a paragraph, as the help puts each paragraph on a line."""
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
