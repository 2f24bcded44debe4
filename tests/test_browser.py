"""The pages as a reader sees them, in headless Chromium: on a phone, on a screen, in the dark, on paper."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
from conftest import every

from ticketsearch import cli, report
from ticketsearch import settings as config
from ticketsearch.models import initialize
from ticketsearch.overlap import overlap_study
from ticketsearch.overlap_studies import Case, Overlaps
from ticketsearch.pruners import prune_all
from ticketsearch.python import compare
from ticketsearch.report import write_comparisons, write_overlap
from ticketsearch.runs import Run

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: the package chromium)"),
]
PAGES = ("run", "overlap", "audit", "compare", "one_density")
WIDTHS = (390, 1400)
# Pixels of an A4 page between margins of 12 mm.
PAPER = {"width": 703, "height": 1032}


@pytest.fixture(scope="module")
def pages(small_run, digits, tmp_path_factory):
    """The files of the pages by name: of a run, of an overlap study, of an audit, of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    with Run.open(small_run) as run:
        found = {"run": report.write_report(run)}
    networks = [initialize("mlp:12,8", digits, seed=seed) for seed in range(4)]
    spec = networks[0].spec
    names = [f"kaiming_normal {seed}" for seed in range(4)]
    studies = {}
    for method in ("synflow", "magnitude", "random"):
        masks = np.stack(prune_all(networks, method, density=0.1, dataset=digits))
        studies[method] = overlap_study(masks, spec, names=names, draws=30, aligned_draws=8)
    cases = tuple(
        Case("initializations", f"{method} at density 0.1", method, 0.1, study)
        for method, study in studies.items()
    )
    overlaps = Overlaps("study", {"data": "digits", "model": "mlp:12,8"}, spec, (1, 8, 8), cases)
    found["overlap"] = write_overlap(overlaps, folder / "overlap.html")
    found["audit"] = folder / "audit.html"
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [
                *("audit", "--model", "mlp:12", "--methods", "synflow,magnitude"),
                *("--output", str(found["audit"])),
            ]
        )
    assert ended.value.code == 0
    small = {"model.name": "mlp:12", "evolution.population": 4, "evolution.generations": 2, "final.orders": 2}
    small |= {"training.steps": 10, "final.steps": 20, "seeding.options": {"training_steps": 5}}
    methods = ("dense", "synflow", "imp_best", "random_search", "evolution")
    comparison = compare(
        config.load(None, small.items()), methods, (0.3, 0.2), folder=folder / "comparison", initializations=2
    )
    found["compare"] = write_comparisons([comparison], folder / "compare.html")
    results = tuple(result for result in comparison.results if result.density != 0.2)
    searches = tuple(search for search in comparison.best_so_far if search.density != 0.2)
    one_density = dataclasses.replace(comparison, results=results, best_so_far=searches)
    found["one_density"] = write_comparisons([one_density], folder / "one_density.html")
    return found


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # Chromium has no sandbox for root, which is who tests in containers.
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser, pages):
    """Show a page, all its sections open, and check that it asked for nothing and complained of nothing."""
    shown, complaints, requests = [], [], []

    def open_page(name, width=1280, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(pages[name].as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        shown.append(page)
        return page

    yield open_page
    for page in shown:
        page.close()
    assert complaints == []
    assert all(address.startswith(("file:", "data:")) for address in requests), requests


BOXES = """elements => elements.map(element => {
    const box = element.getBoundingClientRect();
    return [box.left, box.top, box.right, box.bottom];
})"""


def boxes(page, selector):
    """Return the (elements, 4) left, top, right and bottom of what the selector finds, in pixels."""
    return np.array(page.eval_on_selector_all(selector, BOXES)).reshape(-1, 4)


@pytest.mark.parametrize("width", every(WIDTHS, default=WIDTHS[:1]))
@pytest.mark.parametrize("name", every(PAGES, default=("run", "compare")))
def test_every_figure_is_visible_and_nothing_scrolls_sideways(show, name, width):
    page = show(name, width)
    left, top, right, bottom = boxes(page, "svg").T
    assert len(left) >= 2
    assert (right - left > 200).all()
    assert (bottom - top > 80).all()
    assert (left >= 0).all()
    assert (right <= width).all()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for table in page.query_selector_all(".wide"):
        assert table.evaluate("box => box.scrollWidth - box.clientWidth") <= 0, table.inner_text()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", every(PAGES, default=("run", "compare")))
def test_no_two_words_of_a_figure_overlap_and_none_is_cut_off(show, name, width):
    page = show(name, width)
    for figure in page.query_selector_all("svg"):
        label = figure.get_attribute("aria-label")
        whole = np.array(
            figure.evaluate("e => (r => [r.left, r.top, r.right, r.bottom])(e.getBoundingClientRect())")
        )
        words = np.array(figure.eval_on_selector_all("text", BOXES)).reshape(-1, 4)
        assert (words[:, :2] >= whole[:2] - 2).all(), label
        assert (words[:, 2:] <= whole[2:] + 2).all(), label
        # A line's box has room above and below its letters.
        height = words[:, 3] - words[:, 1]
        words[:, 1] += 0.2 * height
        words[:, 3] -= 0.2 * height
        start = np.maximum(words[:, None, :2], words[None, :, :2])
        end = np.minimum(words[:, None, 2:], words[None, :, 2:])
        shared = (end - start > 1).all(axis=2)
        np.fill_diagonal(shared, False)
        texts = figure.eval_on_selector_all("text", "all => all.map(each => each.textContent)")
        assert not shared.any(), (label, [(texts[i], texts[j]) for i, j in np.argwhere(shared)])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", every(PAGES, default=("run", "compare")))
def test_every_word_stands_out_on_light_and_on_dark(show, name, scheme):
    page = show(name, scheme=scheme)
    ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground > 0.9) if scheme == "light" else (ground < 0.05)
    inks = page.eval_on_selector_all("svg text", "all => all.map(each => getComputedStyle(each).fill)")
    inks += page.eval_on_selector_all(
        "p, h1, h2, td, th, li, dt, dd, pre", "all => all.map(each => getComputedStyle(each).color)"
    )
    for ink in set(inks):
        light, dark = sorted((luminance(ink), ground), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, ink


def luminance(colour):
    """Return the relative luminance of ``rgb(r, g, b)`` (WCAG 2.2)."""
    values = np.array([int(value) for value in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("name", every(PAGES, default=("run", "compare")))
def test_on_paper_no_figure_is_clipped_and_closed_sections_are_open(show, name):
    page = show(name, scheme="dark")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = false)")
    page.emulate_media(media="print")
    page.set_viewport_size(PAPER)
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) > 0.9
    assert page.eval_on_selector_all("svg", "all => all.every(each => each.checkVisibility())")
    left, top, right, bottom = boxes(page, "svg").T
    assert (right - left > 100).all()
    assert (bottom - top > 60).all()
    assert (bottom - top < PAPER["height"]).all()
    assert (left >= 0).all()
    assert (right <= PAPER["width"]).all()
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2
