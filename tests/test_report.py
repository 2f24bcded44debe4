"""The report: its arrays exactly, and its page as one safe, self-contained file."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from searches import plain

from ticketsearch import report
from ticketsearch import settings as config
from ticketsearch.evolution import evolve
from ticketsearch.evolution.timing import EVOLUTION_PHASES
from ticketsearch.halving import Agreement
from ticketsearch.masks import layer_counts
from ticketsearch.models import initialize
from ticketsearch.overlap import overlap_study, raw_overlap
from ticketsearch.overlap_studies import Case, Overlaps
from ticketsearch.pruners import prune_all
from ticketsearch.report import text
from ticketsearch.report.overlap import null_rows, write_overlap
from ticketsearch.runs import Run, queries
from ticketsearch.tickets import Scores, Tickets

pytestmark = pytest.mark.slow


@pytest.fixture
def run(small_run):
    with Run.open(small_run) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(small_run):
    with Run.open(small_run) as run:
        return report.write_report(run).read_text(encoding="utf-8")


def test_the_fitness_curve_is_what_the_generations_say(run):
    curve = report.fitness_curve(run)
    populations = [[t.score for t in g.population] for g in run.generations()]
    assert curve.generation.tolist() == list(range(len(populations)))
    assert np.allclose(curve.best, [max(p) for p in populations], rtol=1e-12)
    assert np.allclose(curve.worst, [min(p) for p in populations], rtol=1e-12)
    assert np.allclose(curve.mean, [np.mean(p) for p in populations], rtol=1e-12)


def test_layer_densities_are_those_of_the_seeds_and_the_winner(run):
    densities = report.layer_densities(run)
    sizes = [layer.size for layer in run.spec.layers]
    assert densities.names == [layer.name for layer in run.spec.layers]
    assert np.array_equal(densities.seeds, layer_counts(run.seeds().masks, run.spec) / sizes)
    assert np.array_equal(densities.winner, layer_counts(queries.winner(run).mask, run.spec) / sizes)


def test_the_comparison_is_mean_and_sd_over_data_orders(run):
    rows = queries.contender_rows(run)
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
    assert means[queries.winner(run).number] == max(means.values())
    assert len(means) == run.settings.final.candidates


def test_the_page_has_every_section_and_figure(page, run):
    for words in (run.name, "The best ticket on the test set", "Settings", "Versions", "torch"):
        assert words in page
    for row in queries.contender_rows(run):
        assert f"{row.accuracy:.4f} <span>± {row.accuracy_sd:.4f}</span>" in page
    for line in text.study_lines(run, text.seed_study(run)):
        assert line in page
    best = queries.winner(run)
    family = ["lineage"] if best.parents else []
    assert figures(page) == [
        *("accuracy", "fitness", "validation", "diversity", "layers"),
        *("nulls", "pairs", "bars", "profiles", "pixels"),
        *("network", *family),
    ]
    assert page.count("<svg") == 11 + len(family)
    assert page.count('role="img" aria-label="') == page.count("<svg")


def test_a_winner_that_the_search_made_has_its_lineage_in_the_page(small_run, monkeypatch):
    with Run.open(small_run) as run:
        child = next(t for t in run.tickets() if len(t.parents) == 2)
        monkeypatch.setattr("ticketsearch.report.run.winner", lambda run: child)
        page = report.write_report(run).read_text(encoding="utf-8")
    assert figures(page)[-2:] == ["network", "lineage"]
    assert f"Ticket {child.number} has " in page
    assert "pixels" not in figures(page)  # the shape of an input is in the file of the winner, another ticket


def figures(page):
    return re.findall(r'<figure id="(\w+)"', page)


def test_the_words_on_the_seeds_say_how_much_they_share_beside_chance(run):
    masks = run.seeds().masks
    raw, study = raw_overlap(masks, run.spec), text.seed_study(run)
    pairs = np.triu_indices(len(masks), 1)
    lines = text.study_lines(run, study)
    shared, chance = raw.whole[pairs].mean(), raw.chance[pairs].mean()
    assert f"share {shared:.1%} of the weights that either keeps, and {chance:.1%} by chance" in lines[0]
    assert f"at least {study.aligned[pairs].mean():.1%}." in lines[1]
    for null in ("aligned_uniform", "aligned_degrees"):
        draws = study.drawn[null]["iou"]
        assert len(draws) == 19
        assert f"{draws.min():.1%} to {draws.max():.1%}" in lines[1]
    assert "ticketsearch overlap" in lines[1]
    assert lines[2].endswith("they are all different networks.")


def test_seeds_that_let_nothing_through_are_no_networks(run, monkeypatch):
    seeds = run.seeds()
    dead = [dataclasses.replace(seed, mask=np.zeros(run.spec.size, dtype=bool)) for seed in seeds]
    for planted, words in (
        (
            [*dead[:2], *seeds[2:]],
            f"the {len(seeds) - 2} of {len(seeds)} connected masks are",
        ),
        (dead, f"All {len(seeds)} masks are disconnected: no kept path leads from an input to an output."),
    ):
        monkeypatch.setattr(run, "seeds", lambda planted=planted: Tickets(planted))
        assert words in text.study_lines(run, None)[-1]


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        (0.0, "no more than chance"),
        (0.1, "no more than chance"),
        (0.12, "hardly more than chance"),
        (0.3, "3.0 times as much"),
    ],
)
def test_the_words_compare_what_is_shared_with_chance(run, monkeypatch, shared, words):
    count = len(run.seeds())
    level = np.full((count, count), 0.1)
    planted = raw_overlap(run.seeds().masks, run.spec)._replace(whole=shared * level / 0.1, chance=level)
    monkeypatch.setattr("ticketsearch.report.text.run.seed_overlap", lambda run: planted)
    assert f": {words}." in text.study_lines(run, None)[0]
    assert "not renumbered here" in text.study_lines(run, None)[1]


@pytest.mark.parametrize(("alignments", "draws"), [(39, 19), (38, 18), (11, 5), (10, 0), (0, 0)])
def test_renumbered_masks_stand_beside_null_models_or_not_at_all(run, monkeypatch, alignments, draws):
    monkeypatch.setattr("ticketsearch.report.text.run.ALIGNED", alignments * 3 * run.spec.size)  # three pairs
    study = text.seed_study(run)
    assert (0 if study is None else len(study.drawn["aligned_degrees"]["iou"])) == draws


def test_masks_of_very_large_networks_are_not_aligned_for_the_page(run, monkeypatch):
    monkeypatch.setattr("ticketsearch.report.text.run.ALIGNED", 3 * run.spec.size - 1)
    page = report.write_report(run).read_text(encoding="utf-8")
    assert not {"nulls", "pairs", "bars"} & {*figures(page)}
    assert "profiles" in figures(page)
    assert "renumbered to match they share" not in page


def test_the_page_says_where_the_time_went(page, run):
    seconds = run.phases()
    assert set(seconds) >= {"fitness", *EVOLUTION_PHASES}
    rows = queries.phase_rows(run)
    assert {row.name: row.seconds for row in rows} == seconds
    assert [row.seconds for row in rows] == sorted(seconds.values(), reverse=True)
    assert sum(row.share for row in rows) == pytest.approx(1)
    for row in rows:
        assert f"<td>{row.name}</td><td>{row.seconds:.2f}</td>\n<td>{100 * row.share:.1f} %</td>" in page
    own = sum(row.share for row in rows if row.name in EVOLUTION_PHASES)
    assert f"({', '.join(EVOLUTION_PHASES)}) is {100 * own:.1f} % of the time." in page


def test_without_rungs_the_page_has_no_word_of_successive_halving(page):
    told = page.partition("<h2>Settings</h2>")[0]
    assert "rung" not in told
    assert "halving" not in told
    assert "20 training steps an evaluation" in page
    assert "best to worst of the population" in page


def with_rungs(folder, small_run, agreements):
    """A run of two generations that says how far its rungs agree."""
    with Run.open(small_run) as run:
        first = [t for t in run.tickets() if t.generation == 0]
        settings = config.apply(run.settings, [("training.steps", [50, 200, 800])])
        new = Run.create(folder, "new", settings, run.spec, "", {}, run.seeds())

    def fitness(masks):
        scores = masks[:, ::2].sum(axis=1)
        return Scores(scores, rungs=np.where(scores % 2, 50, 800), agreements=agreements)

    for generation in evolve(first, fitness, new.spec, **plain(generations=1)):
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
def test_the_page_of_a_run_with_rungs_says_how_far_they_agree(tmp_path, small_run, agreement, words):
    with with_rungs(tmp_path, small_run, [agreement]) as run:
        page = report.write_report(run).read_text(encoding="utf-8")
        assert "Do the rungs of successive halving agree?" in page
        for word in words:
            assert word in page
        assert ("trusted" in page) is any("trusted" in word for word in words)
        assert "50, 200 or 800 training steps an evaluation (successive halving)" in page
        assert "best to worst of the top rung" in page


def test_the_fitness_curve_is_that_of_the_highest_rung(tmp_path, small_run):
    with with_rungs(tmp_path, small_run, []) as run:
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


class Checker(HTMLParser):
    """Goes wrong at a tag that is closed out of order."""

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


def check_tags(page):
    checker = Checker()
    checker.feed(page)
    assert checker.stack == []


def test_the_pages_tags_are_closed_in_order(page):
    check_tags(page)


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
        assert figures(page) == ["nulls", "pairs", "bars", "profiles"]  # of the masks of the pruner
        first = [t for t in run.tickets() if t.generation == 0]
        generations = evolve(first, lambda masks: -masks[:, :5].sum(axis=1), run.spec, generations=0)
        new.append(next(iter(generations)))
        page = report.write_report(new).read_text(encoding="utf-8")
        assert figures(page) == ["fitness", "diversity", "layers", "nulls", "pairs", "bars", "profiles"]


@pytest.fixture(scope="module")
def overlaps(digits):
    networks = [initialize("mlp:9,7", digits, seed=seed) for seed in range(4)]
    cases = []
    long = [f"kaiming_normal {number}" for number in range(4)]
    for method, names in (("synflow", ["<one>", "two", "three", "four"]), ("magnitude", long)):
        masks = np.stack(prune_all(networks, method, density=0.2, dataset=digits))
        study = overlap_study(masks, networks[0].spec, names=names, draws=9, aligned_draws=3)
        cases.append(Case("initializations", f"{method} at density 0.2", method, 0.2, study))
    bare = overlap_study(masks, networks[0].spec, draws=0, aligned_draws=0)
    cases.append(Case("methods", "without draws", None, None, bare))
    settings = {"data": "<script>digits</script>"}
    return Overlaps("mine", settings, networks[0].spec, (1, 8, 8), tuple(cases))


@pytest.fixture(scope="module")
def overlap_page(overlaps, tmp_path_factory):
    path = tmp_path_factory.mktemp("overlap") / "overlap.html"
    return write_overlap(overlaps, path).read_text(encoding="utf-8")


def test_the_overlap_page_has_words_then_an_overview_then_all_tests_then_the_figures_of_each_case(
    overlaps, overlap_page
):
    page = overlap_page
    check_tags(page)
    parts = (
        text.overlap_headline(overlaps.cases)[:40],
        '<figure id="overview"',
        "<table",
        '<figure id="case0-',
    )
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
    shown = re.findall(r'<figure id="case(\d)-(\w+)"', page)
    whole = ["pairs", "nulls", "profiles", "bars", "pixels"]
    assert shown == [
        *(("0", name) for name in whole),
        *(("1", name) for name in whole),
        *(("2", name) for name in whole if name != "nulls"),
    ]
    assert page.count('role="img" aria-label="') == page.count("<svg") == 2 + 14 + 3
    assert "<script" not in page
    assert "&lt;one&gt;" in page
    assert re.findall(r"<li>(.*)</li>", page) == [f"kaiming_normal {number}" for number in range(4)]


def test_the_tests_of_the_table_are_those_of_the_studies(overlaps, overlap_page):
    tests = null_rows(overlaps)
    assert [len(rows) for rows in tests] == [3, 3]  # nothing was drawn for the third
    for rows, case in zip(tests, overlaps.cases[:2], strict=True):
        assert {row.case for row in rows} == {case.title}
        assert [row.null for row in rows] == [each["iou"] for each in case.study.nulls.values()]
        for row in rows:
            cells = re.escape(f"<td>{row.null.observed:.4f}</td><td>{row.null.mean:.4f}</td>")
            p = f"{row.null.holm:.2g}"
            assert re.search(
                rf"{row.kept}</td>\s*{cells}\s*<td>[^/]*<span>\(.* to .*\)</span></td>\s*<td>{p}</td>",
                overlap_page,
                re.DOTALL,
            )


def test_the_sections_of_many_cases_are_closed_but_for_the_first(overlaps, overlap_page, tmp_path):
    assert overlap_page.count("<details open>") == 1
    assert overlap_page.count("<details>") == 2
    few = dataclasses.replace(overlaps, cases=overlaps.cases[2:])
    page = write_overlap(few, tmp_path / "overlap.html").read_text(encoding="utf-8")
    assert page.count("<details open>") == 1
    assert "<details>" not in page
