"""The results of a study, read from its folder as one object."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ticketsearch.alignment import Counts
from ticketsearch.checks import checked
from ticketsearch.errors import shown
from ticketsearch.masks import MaskSpec, layer_counts
from ticketsearch.overlap import NULLS, Masks, OverlapStudy, conclude
from ticketsearch.overlap_studies.settings import settings
from ticketsearch.overlap_studies.store import OverlapStore

__all__ = ["Case", "Overlaps", "packed", "read_overlaps"]


@dataclass(frozen=True, eq=False)
class Case:
    """One set of masks that were compared with each other.

    Attributes
    ----------
    kind : ``initializations`` of one method and density, ``methods`` on one initialization, data ``orders``
        of one initialization, ``seeds``, the masks of a search's first population against its winner, or
        ``winners`` of several searches.
    title : e.g. ``synflow at density 0.1``.
    method, density : of all masks, or None.
    study : the overlaps and their tests.
    drawn : the largest share of a mask's kept weights that its pruner drew among equal scores.
    """

    kind: str
    title: str
    method: str | None
    density: float | None
    study: OverlapStudy
    drawn: float = 0.0

    def __repr__(self) -> str:
        return f"Case({shown(self.title, 40)}, {self.study!r})"


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The results of a whole study.

    Attributes
    ----------
    name : the folder's.
    settings : of the study, ``{name: text}``.
    spec, input_shape : of the network; the shape of one sample, () where it is not known.
    cases : the sets of masks, in order.
    """

    name: str
    settings: Mapping[str, str]
    spec: MaskSpec
    input_shape: tuple[int, ...]
    cases: tuple[Case, ...]

    def __repr__(self) -> str:
        most = max((len(case.study.names) for case in self.cases), default=0)
        return (
            f"Overlaps({shown(self.name, 40)}, {len(self.cases)} sets of up to {most} masks, "
            f"{self.spec.size:,} weights)"
        )

    def headline(self) -> str:
        """Return the findings in a few sentences; deprecated, the first line of ``overlaps_text``."""
        return self._text("headline").splitlines()[0]

    def lines(self) -> list[str]:
        """Return the study as lines of text; deprecated, use :func:`ticketsearch.overlaps_text`."""
        return self._text("lines").splitlines()

    def _text(self, method: str) -> str:
        # Late, because the text is made from these results: without it, importing either needs the other.
        from ticketsearch.report.text import overlaps_text

        warnings.warn(
            f"Overlaps.{method}() is removed in the next release; call ts.overlaps_text(overlaps)",
            DeprecationWarning,
            stacklevel=3,
        )
        return overlaps_text(self)


def packed(store: OverlapStore, case: int) -> Masks:
    """Return the masks of a set as they are sent to workers."""
    mask_set, stored = store.mask_sets[case], store.masks_of(case)
    signs = tuple(mask.signs for mask in stored) if mask_set.signed else ()
    return Masks(
        store.spec,
        tuple(mask.bits for mask in stored),
        signs,
        store.sizes.restarts,
        mask_set.seed(store.seed),
    )


@checked
def read_overlaps(folder: str | Path) -> Overlaps:
    """Read the study in a folder, finished or not: sets whose pairs were compared, with their draws so far.

    Raises :class:`BadInput` for a folder without a study.
    """
    with OverlapStore.open(Path(folder)) as store:
        cases = (_case(store, number) for number in range(len(store.mask_sets)))
        return Overlaps(
            Path(folder).resolve().name,
            settings(store.content),
            store.spec,
            store.input_shape,
            tuple(case for case in cases if case is not None),
        )


def _case(store: OverlapStore, number: int) -> Case | None:
    overlaps = store.pair_overlaps(number)
    if overlaps is None:
        return None
    mask_set, masks = store.mask_sets[number], packed(store, number)
    sizes = layer_counts(masks.compared, store.spec)
    raw, aligned = (
        Counts(sizes, counts[0], counts[1] if mask_set.signed else None)
        for counts in (overlaps.raw, overlaps.aligned)
    )
    draws = {null: store.draws(number, null) for null in NULLS}
    study = conclude(
        mask_set.names,
        masks,
        raw,
        aligned,
        np.asarray(overlaps.exact),
        keys=overlaps.keys,
        drawn={null: counts for null, counts in draws.items() if counts is not None},
        leaders=mask_set.leaders,
    )
    stored = store.masks()
    drawn = [stored[name].drawn for name in mask_set.masks]
    share = float(np.max(np.divide(drawn, np.maximum(sizes.sum(axis=-1), 1))))
    title = mask_set.title
    if mask_set.kind == "seeds":  # the stored title is a seed of the draws, and stays
        title = title.replace(" and its seeds", " and its first population")
    return Case(mask_set.kind, title, mask_set.method, mask_set.density, study, share)
