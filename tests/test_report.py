"""The report: its arrays exactly, and its page as one safe, self-contained file."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from ticketsearch import config, report, summary
from ticketsearch.evolution import evolve
from ticketsearch.ladder import Agreement
from ticketsearch.masks import layer_counts
from ticketsearch.overlap import chance_iou, pairwise_iou, raw_overlap
from ticketsearch.phases import OWN
from ticketsearch.runs import Run
from ticketsearch.tickets import Scores


@pytest.fixture
def run(small_run):
    with Run.open(small_run) as opened:
        yield opened


@pytest.fixture
def page(run):
    return report.write_report(run).read_text(encoding="utf-8")


def test_the_fitness_curve_is_what_the_generations_say(run):
    curve = report.fitness_curve(run)
    populations = [[t.score for t in g.population] for g in run.generations()]
    assert curve.number.tolist() == list(range(len(populations)))
    assert np.allclose(curve.best, [max(p) for p in populations], rtol=1e-12)
    assert np.allclose(curve.worst, [min(p) for p in populations], rtol=1e-12)
    assert np.allclose(curve.mean, [np.mean(p) for p in populations], rtol=1e-12)


def test_layer_densities_are_those_of_the_seeds_and_the_winner(run):
    densities = report.layer_densities(run)
    sizes = [layer.size for layer in run.spec.layers]
    assert densities.names == [layer.name for layer in run.spec.layers]
    assert np.array_equal(densities.seeds, layer_counts(run.seeds().masks, run.spec) / sizes)
    assert np.array_equal(densities.winner, layer_counts(summary.winner(run).mask, run.spec) / sizes)


def test_the_overlap_figure_is_measured_below_the_diagonal_and_chance_above(run):
    seeds = run.seeds()
    raw = raw_overlap(seeds.masks, run.spec)
    matrix = report.overlap_matrix(raw)
    below = np.tril_indices(len(seeds), -1)
    above = np.triu_indices(len(seeds), 1)
    assert np.array_equal(matrix[below], pairwise_iou(seeds.masks)[below])
    assert np.array_equal(matrix[above], chance_iou(seeds.masks, run.spec).whole[above])
    assert not np.array_equal(raw.whole[below], raw.chance[below])
    assert np.isnan(np.diag(matrix)).all()


def test_the_comparison_is_mean_and_sd_over_data_orders(run):
    rows = summary.comparison(run)
    assert [row.contender for row in rows] == [
        "best ticket",
        "synflow, same initialization",
        "random, same layer densities",
        "dense",
    ]
    for row in rows:
        own = [r for r in run.results() if r.contender == row.contender and r.part == "test"]
        assert row.accuracy == pytest.approx(np.mean([r.accuracy for r in own]), rel=1e-12)
        assert row.accuracy_sd == pytest.approx(np.std([r.accuracy for r in own], ddof=1), rel=1e-12)
    assert rows[-1].density == 1.0
    assert rows[0].density == rows[1].density == rows[2].density


def test_the_winner_is_the_candidate_of_best_mean_validation_accuracy(run):
    chosen = [r for r in run.results() if r.part == "validation"]
    means = {n: np.mean([r.accuracy for r in chosen if r.ticket == n]) for n in {r.ticket for r in chosen}}
    assert means[summary.winner(run).number] == max(means.values())
    assert len(means) == run.settings.final.candidates


def test_the_page_has_every_section_and_figure(page, run):
    for text in (run.name, "The best ticket on test data", "Settings", "Versions", "torch"):
        assert text in page
    for row in summary.comparison(run):
        assert f"{row.accuracy:.4f} <span>± {row.accuracy_sd:.4f}</span>" in page
    for line in summary.overlap_lines(run):
        assert line in page
    assert re.findall(r'<figure id="(\w+)">', page) == ["fitness", "layers", "overlap", "accuracy"]
    assert page.count("<svg") == 4


def test_the_page_says_where_the_time_went(page, run):
    seconds = run.phases()
    assert set(seconds) >= {"fitness", *OWN}
    rows = summary.phases(run)
    assert {row.name: row.seconds for row in rows} == seconds
    assert [row.seconds for row in rows] == sorted(seconds.values(), reverse=True)
    assert sum(row.share for row in rows) == pytest.approx(1)
    for row in rows:
        assert f"<td>{row.name}</td><td>{row.seconds:.2f}</td>\n<td>{100 * row.share:.1f} %</td>" in page
    own = sum(row.share for row in rows if row.name in OWN)
    assert f"({', '.join(OWN)}) is {100 * own:.1f} % of the time." in page


def test_without_a_ladder_the_page_has_no_word_of_one(page):
    told = page.partition("<h2>Settings</h2>")[0]
    assert "rung" not in told
    assert "ladder" not in told
    assert "20 training steps an evaluation" in page
    assert "best to worst of the population" in page


def on_a_ladder(folder, small_run, agreements):
    """A run of two generations that says how far its rungs agree."""
    with Run.open(small_run) as run:
        first = [t for t in run.tickets() if t.generation == 0]
        settings = config.apply(run.settings, [("training.steps", [50, 200, 800])])
        new = Run.create(folder, "new", settings, run.spec, "", {}, run.seeds())

    def fitness(masks):
        scores = masks[:, ::2].sum(axis=1)
        return Scores(scores, rungs=np.where(scores % 2, 50, 800), agreements=agreements)

    for generation in evolve(first, fitness, new.spec, generations=1):
        new.append(generation)
    return new


@pytest.mark.parametrize(
    ("agreement", "words"),
    [
        (Agreement(50, 200, 4, 2, 0), ["and 200 steps: τ 0.33 (95 % ", "not to be trusted, as τ &lt; 0.4."]),
        (Agreement(50, 200, 5, 1, 0), ["and 200 steps: τ 0.67 (95 % ", " 12 pairs).<"]),
        (Agreement(50, 200, 1, 2, 0), ["steps: τ -0.33 (95 % ", "6 pairs); fewer than 10 pairs say little."]),
        (Agreement(50, 200, 0, 0, 0), ["and 200 steps: unknown, as there was no pair of controls"]),
    ],
    ids=["untrusted", "trusted", "few", "none"],
)
def test_the_page_of_a_ladder_says_how_far_its_rungs_agree(tmp_path, small_run, agreement, words):
    with on_a_ladder(tmp_path, small_run, [agreement]) as run:
        page = report.write_report(run).read_text(encoding="utf-8")
        assert "Do the rungs of the ladder agree?" in page
        for word in words:
            assert word in page
        assert ("trusted" in page) is any("trusted" in word for word in words)
        assert "50, 200 or 800 training steps an evaluation (a ladder)" in page
        assert "best to worst of the top rung" in page


def test_the_fitness_curve_of_a_ladder_is_that_of_its_highest_rung(tmp_path, small_run):
    with on_a_ladder(tmp_path, small_run, []) as run:
        curve = report.fitness_curve(run)
        for number, generation in enumerate(run.generations()):
            top = [t.score for t in generation.population if t.rung == 800]
            assert 0 < len(top) < len(generation.population)
            assert (curve.best[number], curve.worst[number]) == (max(top), min(top))
            assert curve.mean[number] == pytest.approx(np.mean(top))


def test_the_page_asks_the_network_for_nothing(page):
    addresses = set(re.findall(r"""https?://[^\s"'<>]+""", page))
    # Names of XML vocabularies are no requests.
    assert all(a.startswith(("http://www.w3.org/", "https://www.w3.org/")) for a in addresses)
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", page)


def test_no_two_elements_of_the_page_share_an_id(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    shared = {name for name in ids if ids.count(name) > 1}
    # matplotlib numbers its groups from 1 in every figure; only what is referred to must be unique.
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert not shared & referred


def test_the_pages_tags_are_closed_in_order(page):
    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.stack = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta",):
                self.stack.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.stack.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert checker.stack == []


def test_what_users_name_is_escaped(small_run, tmp_path):
    with Run.open(small_run) as run:
        run.settings = run.settings.model_copy(
            update={"data": run.settings.data.model_copy(update={"name": "<script>alert(1)</script>"})}
        )
        page = report.write_report(run).read_text(encoding="utf-8")
        assert "<script>" not in page
        assert "&lt;script&gt;" in page
    with Run.open(small_run) as run:
        report.write_report(run)


def test_an_unfinished_run_has_a_report_too(tmp_path, small_run):
    with (
        Run.open(small_run) as run,
        Run.create(tmp_path, "new", run.settings, run.spec, "", {}, run.seeds()) as new,
    ):
        page = report.write_report(new).read_text(encoding="utf-8")
        assert "No generation is finished yet" in page
        assert re.findall(r'<figure id="(\w+)">', page) == ["overlap"]  # the seeds are there from the start
        first = [t for t in run.tickets() if t.generation == 0]
        generations = evolve(first, lambda masks: -masks[:, :5].sum(axis=1), run.spec, generations=0)
        new.append(next(iter(generations)))
        page = report.write_report(new).read_text(encoding="utf-8")
        assert re.findall(r'<figure id="(\w+)">', page) == ["fitness", "layers", "overlap"]
