"""Workers: training work on threads, on processes, and on clusters of machines.

Tasks (``spreading``; ``local``, ``processes`` and ``clusters`` are what there is to run them)
    Spread, BACKENDS, check_backend
Inside a task (``attempts``)
    check_stopped
What a task is about (``sources``)
    Source
Long work in steps (``steps``)
    Step, side_by_side

A task is small: a :class:`Source`, packed masks, settings. Each process makes the network and the data of the
source once, and keeps them from task to task. Only the process that spreads tasks ever writes a run. Results
are those of one process: to the bit where the machines have the same kind of processor.
"""

from ticketsearch.workers.attempts import check_stopped
from ticketsearch.workers.sources import Source
from ticketsearch.workers.spreading import BACKENDS, Spread, check_backend
from ticketsearch.workers.steps import Step, side_by_side

__all__ = ["BACKENDS", "Source", "Spread", "Step", "check_backend", "check_stopped", "side_by_side"]
