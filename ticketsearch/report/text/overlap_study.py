"""An overlap study as text: a headline, two tables of tests, and CSV of all pairs and null models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ticketsearch.checks import checked
from ticketsearch.overlap import Null, OverlapStudy
from ticketsearch.overlap_studies import Case, Overlaps
from ticketsearch.pruners import UNMENTIONED
from ticketsearch.report.text.table import csv_text, table_lines

__all__ = ["nulls_csv", "overlap_headline", "overlaps_text", "pairs_csv", "shown_effect"]

SUBJECTS = {
    "initializations": "The masks of {masks} initializations",
    "winners": "The winners of {masks} searches",
    "seeds": "A winner and the masks of its first population",
    "orders": "The masks of {masks} data orders",
    "methods": "The masks of {masks} methods on one initialization",
}


@checked
def overlaps_text(overlaps: Overlaps) -> str:
    """Return an overlap study as text: a headline of one line, the tables of tests, and the settings.

    Raises :class:`BadInput` for anything but an overlap study.
    """
    settings = "; ".join(f"{name} {value}" for name, value in overlaps.settings.items())
    lines = [overlap_headline(overlaps.cases), *_tables(overlaps.cases), f"Settings: {settings}."]
    return "\n".join(lines)


def overlap_headline(cases: Sequence[Case]) -> str:
    """Return the findings on one line, in a few sentences on the first kind of mask sets of the study."""
    kinds = [kind for kind in SUBJECTS if any(case.kind == kind for case in cases)]
    if not kinds:
        return "Nothing was compared yet."
    same_kind = [case for case in cases if case.kind == kinds[0]]
    subject = SUBJECTS[kinds[0]].format(masks=max(len(case.study.names) for case in same_kind))
    raw, title = max((float(case.study.pairs(case.study.iou).max()), case.title) for case in same_kind)
    where = f" ({title})" if len(same_kind) > 1 else ""
    sentences = [
        f"{subject} share no more than {_percent(raw)} of the weights that either keeps, as they are{where}.",
        *_identical(same_kind),
        *_renumbered(same_kind),
        *_drawn(cases),
    ]
    return " ".join(sentences)


def _identical(cases: Sequence[Case]) -> Iterator[str]:
    """Count the disconnected masks, and the pairs of connected masks that are the same network."""
    blocked = sum(int(case.study.blocked.sum()) for case in cases)
    masks = sum(len(case.study.names) for case in cases)
    pairs = sum(case.study.passing for case in cases)
    same = sum(case.study.identical for case in cases)
    if blocked:
        yield (
            f"{blocked} of {masks} masks {'is' if blocked == 1 else 'are'} disconnected: no kept path leads "
            "from an input to an output."
        )
    if pairs:
        subject = f"{pairs} pair{'' if pairs == 1 else 's'}{' of the others' if blocked else ''}"
        yield (
            f"Of {subject}, {same or 'none'} "
            f"{'are' if same > 1 else 'is'} the same network up to a renumbering of hidden neurons."
        )


def _drawn(cases: Sequence[Case]) -> Iterator[str]:
    """Name the sets in which more than a hundredth of some mask was drawn among equal scores."""
    for case in cases:
        if case.drawn > UNMENTIONED:
            yield (
                f"Up to {_percent(case.drawn)} of the weights that a mask of {case.title} keeps were drawn "
                "at random among equal scores."
            )


def _renumbered(cases: Sequence[Case]) -> Iterator[str]:
    means = [case.study.mean(case.study.aligned) for case in cases]
    span = _percent(*means)
    yield f"After the best renumbering found they share {span} on average."
    tested = [(case.study, test) for case in cases if (test := case.study.aligned_degrees) is not None]
    if not tested:
        return
    tests = [test for _, test in tested]
    verdicts = [study.more(test) for study, test in tested]
    more, few = verdicts.count(True), verdicts.count(None)
    chance = _percent(*(test.mean for test in tests))
    yield (
        f"Masks with the same numbers of weights at every neuron, wired at random, share {chance} when they "
        f"are renumbered in the same way: {_verdict(more, few, len(tests))}"
        f"{' (p corrected within each case)' if few < len(tests) > 1 else ''}."
    )


def _verdict(more: int, few: int, total: int) -> str:
    """Return the clause on the tests in which pruned masks share more; ``few`` have too few draws to tell."""
    if few == total:
        return "there are too few draws to tell whether pruned masks share more"
    if more == total:
        return "pruned masks share more than that"
    if not more and not few:
        return "pruned masks share no more than that"
    unknown = f", and {few} have too few draws to tell" if few else ""
    return f"pruned masks share more than that in {more} of {total} cases{unknown}"


def _percent(*values: float) -> str:
    """Return a number as a percentage, several as the span of them."""
    low, high = (f"{100 * value:.1f}" for value in (min(values), max(values)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _tables(cases: Sequence[Case]) -> list[str]:
    """Return two tables: masks as they are, and renumbered, each with its null models."""
    test = ("effect", "95 %", "p")
    return [
        "Masks as they are: IoU, means over pairs, beside masks shuffled within layers. Effect: IoU −",
        "shuffled, with its approximate 95 % interval over other masks of the kind; p: corrected within a",
        "row, for its tests in both tables (Holm), not over rows. The last two are distances, from 0 to 1,",
        "of layer densities and of fan-ins and fan-outs:",
        *table_lines(
            ("", "masks", "IoU", "shuffled", *test, "signs", "layers", "fans"),
            [_raw_row(case) for case in cases],
        ),
        "Renumbered to match, beside masks shuffled within layers, and masks of the same degrees. Effect:",
        "IoU − degrees. The last column counts the pairs that are the same network, among pairs of connected",
        "masks:",
        *table_lines(
            ("", "IoU", "shuffled", "p", "degrees", *test, "same"), [_aligned_row(case) for case in cases]
        ),
    ]


def _raw_row(case: Case) -> tuple[str, ...]:
    study = case.study
    return (
        case.title,
        str(len(study.names)),
        f"{study.mean(study.iou):.4f}",
        # Without draws their expectation, which is known exactly.
        f"{study.mean(study.chance):.4f}" if study.uniform is None else _test(study.uniform)[0],
        *_test(study.uniform)[1:],
        "-" if study.signs is None else f"{study.mean(study.signs):.4f}",
        f"{study.mean(study.density_distance):.3f}",
        f"{study.mean(study.degree_distance):.3f}",
    )


def _aligned_row(case: Case) -> tuple[str, ...]:
    study = case.study
    return (
        case.title,
        f"{'' if study.pairs(study.exact).all() else '≥ '}{study.mean(study.aligned):.4f}",
        *(_test(study.aligned_uniform)[column] for column in (0, 3)),
        *_test(study.aligned_degrees),
        f"{study.identical}/{study.passing}",
    )


def _test(null: Null | None) -> tuple[str, str, str, str]:
    if null is None or null.holm is None:
        return "-", "-", "-", "-"
    interval = "-" if math.isnan(null.low) else f"{null.low:+.4f} {null.high:+.4f}"
    return f"{null.mean:.4f}", f"{shown_effect(null):+.4f}", interval, f"{null.holm:.3g}"


def shown_effect(null: Null) -> float:
    """Return observed − mean of both as they are shown, to four digits, so that the columns add up."""
    return round(null.observed, 4) - round(null.mean, 4)


def pairs_csv(cases: Sequence[Case]) -> str:
    """Return the measures of all pairs as CSV, a row each."""
    return csv_text([row for case in cases for row in _pair_rows(case)])


def _pair_rows(case: Case) -> Iterator[dict[str, object]]:
    study = case.study
    matrices = _matrices(study)
    for first, second in study.pairs(np.indices(study.iou.shape)).T:
        values = {name: float(matrix[first, second]) for name, matrix in matrices.items()}
        names = {"first": study.names[first], "second": study.names[second]}
        exact = {"aligned is exact": bool(study.exact[first, second])}
        yield {"case": case.title, **names, **exact, **values}


def _matrices(study: OverlapStudy) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    matrices = {
        "iou": study.iou,
        "chance": study.chance,
        "containment": study.containment,
        "aligned": study.aligned,
        "aligned containment": study.aligned_containment,
        "layer density distance": study.density_distance,
        "degree distance": study.degree_distance,
    }
    if study.signs is not None and study.aligned_signs is not None:
        matrices |= {"signs": study.signs, "aligned signs": study.aligned_signs}
    for index, layer in enumerate(study.spec.layers):
        matrices |= {
            f"iou of {layer.name}": study.layers[index],
            f"chance of {layer.name}": study.layers_chance[index],
            f"aligned of {layer.name}": study.aligned_layers[index],
        }
    return matrices


def nulls_csv(cases: Sequence[Case]) -> str:
    """Return all measures against all null models as CSV, a row each."""
    return csv_text(
        [
            {"case": case.title, "null model": null, "measure": measure, **test._asdict()}
            for case in cases
            for null, by_measure in case.study.nulls.items()
            for measure, test in by_measure.items()
        ]
    )
