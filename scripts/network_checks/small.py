"""Small networks of every kind, and for each whether it can be traced, must be, or must not be.

``SMALL`` maps a name to its :class:`~network_checks.small_parts.Small`; all have five classes. A network that
must be ``refused`` computes something that no renumbering of its neurons explains, or not the same from call
to call. One that is ``either`` may be refused, if it is not traced rightly.
"""

from __future__ import annotations

from network_checks import small_faults as faults
from network_checks import small_operations as operations
from network_checks.small_parts import CLASSES, Small

__all__ = ["CLASSES", "SMALL"]

SMALL: dict[str, Small] = {
    **operations.PLAIN,
    **faults.POOLING_OVER_NEURONS,
    **faults.WITHOUT_LEARNING,
    **faults.OTHER_FROM_CALL_TO_CALL,
    **faults.READS_PADDING,
    **faults.BUILT_OTHERWISE,
    **operations.SHAPES,
    **operations.OPERATIONS,
}
