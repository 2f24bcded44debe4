"""The report: its arrays exactly, and its page as one safe, self-contained file."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from ticketsearch import report, summary
from ticketsearch.evolution import evolve
from ticketsearch.masks import layer_counts
from ticketsearch.overlap import chance_iou, pairwise_iou, raw_overlap
from ticketsearch.runs import Run


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
