"""What the figures of masks show: their arrays exactly, and their captions."""

import numpy as np
import pytest
from conftest import data
from matplotlib.colors import to_rgb

from ticketsearch.masks import live, live_units
from ticketsearch.models import initialize
from ticketsearch.overlap import Null, overlap_study
from ticketsearch.overlap.profiles import degrees
from ticketsearch.overlap_studies import Case
from ticketsearch.pruners import prune_all
from ticketsearch.report.audit import layer_colours
from ticketsearch.report.best import diagram_caption, stored
from ticketsearch.report.diagram import diagram
from ticketsearch.report.drawing import LINES, lines_drawn
from ticketsearch.report.inputs import pixel_use
from ticketsearch.report.layers import layer_bars
from ticketsearch.report.lineage import lanes, lineage, lineage_sentence
from ticketsearch.report.matrices import pair_matrices
from ticketsearch.report.nulls import null_panels, null_text
from ticketsearch.report.overlap_figures import mask_labels
from ticketsearch.report.overview import overview_picture, overview_rows
from ticketsearch.report.pages import THEME, WASH, picture
from ticketsearch.report.profiles import drawn, profiles
from ticketsearch.report.text import shown_effect
from ticketsearch.runs import Run, queries
from ticketsearch.tickets import Ticket

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def networks(digits):
    return [initialize("mlp:9,7", digits, seed=seed) for seed in range(4)]


@pytest.fixture(scope="module")
def spec(networks):
    return networks[0].spec


@pytest.fixture(scope="module")
def masks(networks, digits):
    return np.stack(prune_all(networks, "synflow", density=0.2, dataset=digits))


@pytest.fixture(scope="module")
def study(masks, spec):
    return overlap_study(masks, spec, draws=19, aligned_draws=4)


def test_the_matrices_show_each_pair_once_on_one_scale(study):
    shown = pair_matrices(list("abcd"), study.iou, study.aligned)
    below = np.tril_indices(4, -1)
    assert np.array_equal(shown.raw[below], study.iou[below])
    assert np.array_equal(shown.aligned[below], study.aligned[below])
    assert np.isnan(shown.raw[np.triu_indices(4)]).all()
    assert shown.top == max(study.iou[below].max(), study.aligned[below].max()) < 1


def test_bars_are_means_over_pairs_of_the_whole_and_of_each_layer(study, spec):
    bars = layer_bars(study)
    pairs = np.triu_indices(4, 1)
    assert bars.names == ["all weights", *(layer.name for layer in spec.layers)]
    assert bars.raw == pytest.approx([study.iou[pairs].mean(), *(m[pairs].mean() for m in study.layers)])
    assert bars.chance[1:] == pytest.approx([m[pairs].mean() for m in study.layers_chance])
    assert bars.aligned[0] == pytest.approx(study.aligned[pairs].mean())
    means = [study.nulls["aligned_uniform"][name].mean for name in ("iou", *bars.names[1:])]
    assert bars.aligned_null.tolist() == means
    assert layer_bars(overlap_study(study.masks, spec, draws=2, aligned_draws=0)).aligned_null is None


def test_null_panels_hold_all_draws_in_a_fixed_order(study, masks, spec):
    panels = null_panels(study)
    assert [(p.compared, p.kept) for p in panels] == [
        ("as they are", "layer counts"),
        ("renumbered", "layer counts"),
        ("renumbered", "unit degrees"),
    ]
    assert [len(p.draws) for p in panels] == [19, 4, 4]
    assert [p.null.observed for p in panels] == [n["iou"].observed for n in study.nulls.values()]
    assert [p.draws.mean() for p in panels] == pytest.approx([p.null.mean for p in panels])
    assert len(null_panels(overlap_study(masks, spec, draws=2, aligned_draws=0))) == 1


@pytest.mark.parametrize(
    ("values", "more", "words"),
    [
        ((0.01, -0.002, 0.02, 0.04, 0.3), False, "no more alike\n+0.0100 (95 % −0.0020 to +0.0200), p = 0.3"),
        ((0.01, 0.002, 0.022, 0.001, 0.05), True, "more alike\n+0.0100 (95 % +0.0020 to +0.0220), p = 0.05"),
        ((-0.01, np.nan, np.nan, 0.6, None), False, "no more alike\n−0.0100, p = 0.6"),
        ((0.01, np.nan, np.nan, 0.001, None), None, "too few draws to tell\n+0.0100, p = 0.001"),
    ],
)
def test_a_test_in_words_goes_by_the_corrected_p(values, more, words):
    effect, low, high, p, holm = values
    null = Null(
        observed=0.2, mean=0.2 - effect, sd=0.1, effect=effect, low=low, high=high, p=p, draws=99, holm=holm
    )
    assert null_text(null, more) == words


def test_the_overview_has_each_set_of_masks_beside_its_null_models(study, masks, spec):
    bare = overlap_study(masks, spec, draws=0, aligned_draws=0)
    cases = [Case("initializations", "one", "synflow", 0.1, study), Case("methods", "two", None, None, bare)]
    raw, aligned = (overview_rows(cases, aligned=which) for which in (False, True))
    assert [(row.title, row.observed) for row in raw] == [
        ("one", study.mean(study.iou)),
        ("two", study.mean(bare.iou)),
    ]
    # Without draws chance is known exactly for masks as they are, and not at all for renumbered ones.
    assert [(row.title, row.observed) for row in aligned] == [("one", study.mean(study.aligned))]
    assert list(raw[0].nulls) == ["shuffled within layers"]
    assert list(aligned[0].nulls) == ["shuffled within layers", "same degrees, rewired"]
    assert raw[1].nulls == {"shuffled within layers": (bare.mean(bare.chance),) * 3}
    for name, span in zip(study.nulls, [*raw[0].nulls.values(), *aligned[0].nulls.values()], strict=True):
        draws = study.drawn[name]["iou"]
        assert span.mean == pytest.approx(study.nulls[name]["iou"].mean)
        assert (span.low, span.high) == tuple(np.quantile(draws, (0.025, 0.975)))
    figure = overview_picture(cases * 20)
    assert len(figure.panels) == 2
    assert len(overview_picture(cases[1:]).panels) == 1
    assert "The first 24 of 40 sets are drawn." in figure.caption


@pytest.mark.parametrize(("observed", "mean"), [(0.12345, 0.11115), (0.3, 0.3), (0.04996, 0.05004)])
def test_columns_add_up_as_they_are_shown(observed, mean):
    null = Null(observed, mean, 0.1, observed - mean, np.nan, np.nan, 0.5, 99, 0.5)
    assert f"{float(f'{observed:.4f}') - float(f'{mean:.4f}'):+.4f}" == f"{shown_effect(null):+.4f}"


def test_profiles_are_sorted_degrees_and_of_many_groups_six_are_drawn(masks, spec):
    found = profiles(degrees(masks, spec))
    assert [profile.group for profile in found] == [spec.groups[i].name for i in spec.hidden]
    first = spec.split(masks)[spec.layers[0].name].sum(axis=2)
    assert np.array_equal(found[0].fan_in, -np.sort(-first, axis=1))
    second = spec.split(masks)[spec.layers[1].name].sum(axis=1)
    assert np.array_equal(found[0].fan_out, -np.sort(-second, axis=1))
    assert drawn(found) == found
    many = [found[0]._replace(group=str(number)) for number in range(14)]
    assert [profile.group for profile in drawn(many)] == ["0", "3", "5", "8", "10", "13"]


def test_the_pixel_maps_count_live_weights_at_each_pixel(masks, spec):
    use = pixel_use(masks, masks[1], spec, (1, 8, 8))
    for mask, counted in zip(masks, use.seeds, strict=True):
        kept = spec.split(live(mask, spec))[spec.layers[0].name]
        assert np.array_equal(counted, kept.sum(axis=0).reshape(8, 8))
    assert np.array_equal(use.mean, use.seeds.mean(axis=0))
    assert np.array_equal(use.winner, use.seeds[1])
    colours = pixel_use(masks, None, spec, (4, 4, 4))
    kept = spec.split(live(masks[0], spec))[spec.layers[0].name]
    assert np.array_equal(colours.seeds[0], kept.sum(axis=0).reshape(4, 4, 4).sum(axis=0))
    assert colours.winner is None


@pytest.mark.parametrize("shape", [(64,), (1, 8, 9), ()])
def test_inputs_that_are_no_image_have_no_pixel_maps(masks, spec, shape):
    assert pixel_use(masks, None, spec, shape) is None


def test_a_convolution_reads_no_single_pixels(digits):
    network = initialize("conv2", digits, width=0.05)
    full = np.ones((2, network.spec.size), dtype=bool)
    assert pixel_use(full, None, network.spec, (1, 8, 8)) is None


def edge_set(found):
    """The (source group, source unit, target group, target unit) of all lines of a diagram."""
    return {
        (bond.source, found.rows[bond.source].units[tail], bond.target, found.rows[bond.target].units[head])
        for bond in found.bonds
        for tail, head in zip(bond.tails, bond.heads, strict=True)
    }


def test_a_diagram_has_a_line_for_each_live_weight_and_a_dot_for_each_live_unit(masks, spec):
    weights = np.random.default_rng(0).normal(size=spec.size)
    found = diagram(masks[0], spec, input_shape=(1, 8, 8), weights=weights)
    alive = live(masks[0], spec)
    expected = set()
    for layer, (source, target) in zip(spec.layers, ((0, 1), (1, 2), (2, 3)), strict=True):
        for head, tail in np.argwhere(spec.split(alive)[layer.name]):
            expected.add((source, tail, target, head))
    assert edge_set(found) == expected
    assert found.weights == alive.sum()
    for row, units in zip(found.rows, live_units(masks[0], spec).values(), strict=True):
        assert sorted(row.units) == np.flatnonzero(units).tolist()
        ends = [edge[1] for edge in expected if spec.groups[edge[0]].name == row.name]
        ends += [edge[3] for edge in expected if spec.groups[edge[2]].name == row.name]
        assert row.degree.tolist() == [ends.count(unit) for unit in row.units]
    bond = found.bonds[0]
    first = weights[: spec.layers[0].size].reshape(spec.layers[0].shape)
    heads, tails = found.rows[1].units[bond.heads], found.rows[0].units[bond.tails]
    assert np.array_equal(bond.sign, np.sign(first[heads, tails]).astype(int))
    assert not diagram(masks[0], spec).bonds[0].sign.any()


def test_the_inputs_of_a_diagram_lie_as_in_the_image(masks, spec):
    row = diagram(masks[0], spec, input_shape=(1, 8, 8)).rows[0]
    assert np.array_equal(row.place, (row.units % 8 + 0.5) / 8)
    assert np.array_equal(row.depth, (row.units // 8 + 0.5) / 8)
    plain = diagram(masks[0], spec, input_shape=(64,))
    assert plain.image is None
    assert not plain.rows[0].depth.any()
    assert (np.diff(plain.rows[0].place) > 0).all()


def test_hidden_units_are_ordered_so_that_lines_need_not_cross():
    spec = initialize("mlp:6", data(6, classes=6)).spec
    order = np.array([3, 0, 5, 1, 4, 2])
    first, second = np.zeros((6, 6), dtype=bool), np.zeros((6, 6), dtype=bool)
    first[order, np.arange(6)] = second[np.arange(6), order] = True
    mask = spec.join({spec.layers[0].name: first, spec.layers[1].name: second}).astype(bool)
    found = diagram(mask, spec)
    assert found.rows[1].units.tolist() == order.tolist()
    for bond in found.bonds:
        tails = found.rows[bond.source].place[bond.tails]
        heads = found.rows[bond.target].place[bond.heads]
        assert np.array_equal(tails, heads)


def test_a_convolution_is_drawn_as_channels_joined_by_kernels(digits):
    network = initialize("conv2", digits, width=0.05)
    spec = network.spec
    rng = np.random.default_rng(1)
    mask = rng.random(spec.size) < 0.4
    found = diagram(mask, spec)
    layer = spec.layers[1]
    kept = spec.split(live(mask, spec))[layer.name].reshape(*layer.shape[:2], -1).sum(axis=2)
    bond = next(b for b in found.bonds if (b.source, b.target) == (1, 2))
    assert bond.positions == 9
    assert len(bond.kept) == np.count_nonzero(kept)
    heads, tails = found.rows[2].units[bond.heads], found.rows[1].units[bond.tails]
    assert np.array_equal(bond.kept, kept[heads, tails])
    assert (np.diff(bond.kept) <= 0).all()
    assert "kernel or feature map of a channel" in diagram_caption(found, signed=False)


def test_beyond_what_can_be_told_apart_large_bonds_are_drawn_to_the_same_number(masks, spec):
    found = diagram(masks[0], spec)
    assert lines_drawn(found) == [len(bond.tails) for bond in found.bonds]
    assert "are drawn" not in diagram_caption(found, signed=True)
    full = diagram(np.ones(spec.size, dtype=bool), spec)
    assert [len(bond.tails) for bond in full.bonds] == [576, 63, 70]
    many = full._replace(bonds=[b._replace(tails=np.repeat(b.tails, 60)) for b in full.bonds])
    assert lines_drawn(many) == [2000, 2000, 2000]
    few = full._replace(bonds=[many.bonds[0], full.bonds[1], many.bonds[2]])
    assert lines_drawn(few) == [(LINES - 63) // 2, 63, (LINES - 63) // 2]
    caption = diagram_caption(few, signed=True)
    assert "Of 38,823 lines 5,999 are drawn: between two rows at most 2,968, " in caption
    assert "blue for positive" in caption


def test_the_ticket_file_gives_the_weights_only_of_the_winner(small_run):
    with Run.open(small_run) as run:
        best = queries.winner(run)
        found = stored(run, best)
        assert found.input_shape == (1, 8, 8)
        assert found.weights.shape == (run.spec.size,)
        other = next(t for t in run.tickets() if t.digest != best.digest)
        assert stored(run, other) is None
        run.path = small_run.parent
        assert stored(run, best) is None


class Family:
    """A run as far as lineage asks it: tickets by number, given as (generation, parents)."""

    def __init__(self, *tickets):
        self.tickets = [
            Ticket(np.ones(3, dtype=bool), generation=generation, parents=parents, number=number)
            for number, (generation, parents) in enumerate(tickets)
        ]

    def ancestors(self, number):
        found, waiting = {number}, [number]
        while waiting:
            waiting += (new := set(self.tickets[waiting.pop()].parents) - found)
            found |= new
        return [self.tickets[each] for each in sorted(found)]


def test_a_lineage_holds_all_ancestors_and_no_one_else():
    run = Family((0, ()), (0, ()), (0, ()), (1, (1, 0)), (1, (2,)), (2, (3, 1)))
    found = lineage(run, 5)
    assert [ticket.number for ticket in found.tickets] == [0, 1, 3, 5]
    assert sorted(map(tuple, found.links.tolist())) == [(0, 2), (1, 2), (1, 3), (2, 3)]
    assert [found.tickets[place].number for place in found.line] == [1, 3, 5]
    assert len(lineage(run, 2).links) == 0


def test_a_lineage_in_words_counts_ancestors_and_their_initializations(small_run):
    one = lineage_sentence(lineage(Family((0, ()), (1, (0,))), 1))
    assert one == (
        "Ticket 1 has 1 ancestor in 1 generations; their masks began as those of 1 initialization."
    )
    with Run.open(small_run) as run:
        child = next(t for t in run.tickets() if len(t.parents) == 2)
        first = {run.ticket(parent).pruned_from for parent in child.parents}
        words = lineage_sentence(lineage(run, child.number))
    assert f"Ticket {child.number} has " in words
    assert f" {len(first)} " in words.rpartition(";")[2] or child.generation > 1


def test_lanes_keep_the_members_of_a_generation_apart_and_families_together():
    tickets = [(0, ()), (0, ()), (1, (1,)), (1, (0,)), (2, (3,)), (2, (2,)), (3, (4, 5))]
    found = lineage(Family(*tickets), 6)
    height = lanes(found)
    for generation in range(3):
        own = np.sort(height[[t.generation == generation for t in found.tickets]])
        assert np.diff(own).tolist() == pytest.approx([1.0])
    # Of two families side by side neither crosses the other.
    sides = [np.sign(height[a] - height[b]) for a, b in ((0, 1), (3, 2), (4, 5))]
    assert len(set(sides)) == 1


def test_long_names_become_numbers(study):
    assert mask_labels(study) == list(study.names)
    names = [f"kaiming_normal {number}" for number in range(4)]
    long = overlap_study(study.masks, study.spec, names=names, draws=0, aligned_draws=0)
    assert mask_labels(long) == ["1", "2", "3", "4"]


def contrast(a, b):
    """The contrast of two colours, each three numbers in [0, 1] (WCAG 2.2)."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    values = np.asarray(colour)
    return float(
        np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        @ [0.2126, 0.7152, 0.0722]
    )


def channels(name, scheme):
    return np.array([int(THEME[name][scheme][i : i + 2], 16) for i in (1, 3, 5)]) / 255


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_the_page_and_words_from_the_scale(scheme):
    paper = channels("paper", scheme)
    for name in ("blue", "orange", "teal", "purple"):
        assert contrast(channels(name, scheme), paper) >= 3, name
    for name in ("ink", "grey"):
        assert contrast(channels(name, scheme), paper) >= 4.5, name
    *colour, opacity = WASH(1.0)
    cell = opacity * np.array(colour) + (1 - opacity) * paper
    assert contrast(channels("ink", scheme), cell) >= 4.5


def test_layer_colours_stand_out_on_light_and_on_dark():
    for colour in layer_colours(30):
        for scheme in (0, 1):
            assert contrast(to_rgb(colour), channels("paper", scheme)) >= 3, colour


def test_a_picture_is_labelled_and_takes_its_colours_from_the_page():
    def draw(figure):
        axes = figure.subplots()
        axes.plot([0, 1], [0.123456789, 1])
        axes.text(0.5, 0.5, "0.123456 & more")

    made = picture("name", "A <title>", {"one": draw, "two": draw})
    assert len(made.panels) == 2
    assert 'role="img" aria-label="A &lt;title&gt;: one"' in made.panels[0]
    assert "0.123456 &amp; more" in made.panels[0]  # words are left as they are
    assert "var(--ink)" in made.panels[0]
    assert THEME["ink"][0] not in made.panels[0]
    ids = [{part.split('"')[0] for part in panel.split(' id="')[1:]} for panel in made.panels]
    assert not {each for each in ids[0] & ids[1] if f"#{each}" in made.panels[1]}
