"""What a study holds, as one object that is read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ticketsearch.alignment import Counts
from ticketsearch.checks import checked
from ticketsearch.masks import MaskSpec, layer_counts
from ticketsearch.overlap import OverlapStudy
from ticketsearch.overlap.draws import Masks
from ticketsearch.overlap.null_models import NULLS
from ticketsearch.overlap.study import conclude
from ticketsearch.overlap_studies.settings import settings
from ticketsearch.overlap_studies.store import Store

__all__ = ["Case", "Overlaps", "packed", "read_overlaps"]


@dataclass(frozen=True, eq=False)
class Case:
    """One set of masks that were compared with each other.

    Attributes
    ----------
    kind : ``initializations`` of one method and density, ``methods`` on one initialization, data ``orders``
        of one initialization, ``seeds`` of a search against its winner, or ``winners`` of several searches.
    title : in words, e.g. ``synflow at density 0.1``.
    method, density : of all masks, or None.
    study : what was found.
    drawn : the largest share of a mask's kept weights that its pruner drew among equal scores.
    """

    kind: str
    title: str
    method: str | None
    density: float | None
    study: OverlapStudy
    drawn: float = 0.0


@dataclass(frozen=True, eq=False)
class Overlaps:
    """A whole study.

    Attributes
    ----------
    name : the folder's.
    settings : what was studied, and how, ``{name: text}``.
    spec, input_shape : of the network; the shape of one sample, () where it is not known.
    cases : the sets of masks, in order.
    """

    name: str
    settings: Mapping[str, str]
    spec: MaskSpec
    input_shape: tuple[int, ...]
    cases: tuple[Case, ...]

    def headline(self) -> str:
        """Return what was found in a few plain sentences."""
        from ticketsearch.report.text import headline

        return headline(self.cases)

    def lines(self) -> list[str]:
        """Return the study as text: plain words, then the tables, then the settings."""
        from ticketsearch.report.text import tables

        shown = "; ".join(f"{name} {value}" for name, value in self.settings.items())
        return [self.headline(), *tables(self.cases), f"Settings: {shown}."]


def packed(store: Store, case: int) -> Masks:
    """Return the masks of a set as they are sent to workers."""
    outline, chosen = store.outlines[case], store.masks_of(case)
    signs = tuple(mask.signs for mask in chosen) if outline.signed else ()
    return Masks(
        store.spec, tuple(mask.bits for mask in chosen), signs, store.sizes.restarts, outline.seed(store.seed)
    )


@checked
def read_overlaps(folder: str | Path) -> Overlaps:
    """Read the study in a folder, as far as it is: sets whose pairs were compared, with the draws there are.

    Raises :class:`BadInput` for a folder without a study.
    """
    with Store.open(Path(folder)) as store:
        found = (_case(store, case) for case in range(len(store.outlines)))
        cases = tuple(case for case in found if case is not None)
        name, words = Path(folder).resolve().name, settings(store.content)
        return Overlaps(name, words, store.spec, store.input_shape, cases)


def _case(store: Store, case: int) -> Case | None:
    found = store.observed(case)
    if found is None:
        return None
    outline, masks = store.outlines[case], packed(store, case)
    sizes = layer_counts(masks.compared, store.spec)
    raw, aligned = (
        Counts(sizes, counts[0], counts[1] if outline.signed else None)
        for counts in (found.raw, found.aligned)
    )
    drawn = {null: store.draws(case, null) for null in NULLS}
    study = conclude(
        outline.names,
        masks,
        raw,
        aligned,
        np.asarray(found.exact),
        keys=found.keys,
        drawn={null: counts for null, counts in drawn.items() if counts is not None},
        leaders=outline.leaders,
    )
    stored = store.masks()
    lots = [stored[name].drawn for name in outline.masks]
    share = float(np.max(np.divide(lots, np.maximum(sizes.sum(axis=-1), 1))))
    return Case(outline.kind, outline.title, outline.method, outline.density, study, share)
