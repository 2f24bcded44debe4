"""Workers: training work on threads, on processes, and on clusters of machines.

Running tasks (``spreading``, on the backends of ``local``, ``processes`` and ``clusters``)
    Spread, BACKENDS, check_backend
Inside a task (``attempts``)
    check_stopped
Network and data of a task (``sources``)
    Source
Progress, and tasks side by side (``steps``)
    Step, side_by_side

A task is small: a :class:`Source`, packed masks, settings. Each process builds the network and the data of a
source once, and keeps them from task to task. Only the process that hands out tasks writes to a run. Results
are those of one process, to the bit on the same kind of processor.
"""

from ticketsearch.workers.attempts import check_stopped
from ticketsearch.workers.sources import Source
from ticketsearch.workers.spreading import BACKENDS, Spread, check_backend
from ticketsearch.workers.steps import Step, side_by_side

__all__ = ["BACKENDS", "Source", "Spread", "Step", "check_backend", "check_stopped", "side_by_side"]
