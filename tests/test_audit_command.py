"""``ticketsearch audit``: its tables, its page, its figure's arrays, and what bad input comes to."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import test_cli

from ticketsearch import initialize, theory
from ticketsearch.experiment import Search
from ticketsearch.pruners import prune
from ticketsearch.report import AuditPage, density_curve, write_audit
from ticketsearch.report.audit import layer_colours
from ticketsearch.report.text import audit_lines, audit_rows, collapse_rows
from ticketsearch.settings import load

pytestmark = pytest.mark.slow

shell, refused = test_cli.shell, test_cli.refused

SMALL = ("audit", "--model", "mlp:60,40", "--methods", "synflow,snip,magnitude")


@pytest.fixture(scope="module")
def audits(digits):
    network = initialize("mlp:60,40", digits)
    return list(theory.audit(network, ["synflow", "snip", "magnitude", "random"], digits))


@pytest.fixture(scope="module")
def page(tmp_path_factory, digits):
    """The page of an audit as text, made through the command line."""
    folder = tmp_path_factory.mktemp("audit")
    from ticketsearch import cli

    with pytest.raises(SystemExit) as ended:
        cli.main([*SMALL[:-1], "synflow,snip,grasp,random", "--output", str(folder / "a.html")])
    assert not ended.value.code
    assert [path.name for path in folder.iterdir()] == ["a.html"]
    return (folder / "a.html").read_text(encoding="utf-8")


def test_the_command_prints_progress_both_tables_and_where_the_page_is(shell, tmp_path):
    code, out, err = shell(*SMALL)
    assert code == 0
    assert err.splitlines() == [
        f"Auditing {name} ({number} of 3) …"
        for number, name in enumerate(("synflow", "snip", "magnitude"), 1)
    ]
    rows = {line[:14].strip(): line[14:].split() for line in out.splitlines() if line.startswith("  ")}
    assert re.match(r"digits, mlp:60,40: 6,640 weights in 3 layers; initialization kaiming_normal, seed", out)
    lines = [line.split() for line in out.splitlines() if line.startswith("  ")]
    assert lines[0] == ["pruner", "neuron", "network", "ρ_cr", "ρ_max", "axiom", "prune/cut"]
    assert rows["snip, signed"][2:] == ["-", "-", "-", "-"]
    assert all(float(value) < 1e-9 for value in rows["snip, signed"][:2])
    (synflow, collapses) = [line for line in lines if line[0] == "synflow"]
    assert float(synflow[1]) < 1e-9
    assert synflow[3:6] == ["2,213", "2,213", "holds"]
    assert float(synflow[6]) < 1
    assert collapses[1:] == ["0", "0", "0", "0"]
    assert ["pruner", "10", "100", "1,000", "2,213"] in lines
    assert out.splitlines()[-1] == "Page: audit.html"
    assert (tmp_path / "audit.html").is_file()


def test_the_network_and_seed_are_those_of_the_first_copy_of_a_search(shell, monkeypatch):
    seen = []

    def record(network, methods, dataset, *, seed, steps, options):
        seen.append((network, seed, steps))
        return []

    monkeypatch.setattr("ticketsearch.theory.audit", record)
    monkeypatch.setattr("ticketsearch.report.write_audit", lambda page, path: path)
    assert shell("audit", "--model", "mlp:9", "--seed", "5", "--methods", "random", "--steps", "7")[0] == 0
    ((network, seed, steps),) = seen
    settings = load(None, [("model.name", "mlp:9"), ("seed", 5), ("seeding.method", "random")])
    search = Search.prepare(settings)
    assert network.initialization == search.network.initialization
    assert np.array_equal(prune(network, "random", density=0.05, seed=seed), search.seeds[0].mask)
    assert steps == 7


def test_rows_say_what_the_audits_say(audits):
    rows = audit_rows(audits)
    assert [row.pruner for row in rows] == ["synflow", "snip", "snip, signed", "magnitude", "random"]
    assert rows[0].axiom == "holds"
    assert rows[1].axiom == "fails"
    assert rows[1].neuron == f"{audits[1].used.neuron:.2g}"
    assert rows[2].neuron == f"{audits[1].signed.neuron:.1e}"
    assert rows[0].prune_to_cut == f"{audits[0].prune_to_cut:.3g}"
    assert rows[1].prune_to_cut == "-"
    marks, cells = collapse_rows(audits)
    assert marks == ["10", "100", "1,000", "2,213"]
    for found, (name, own) in zip(audits, cells, strict=True):
        assert name == found.method
        assert own == [(len(names), rho in found.disconnected) for rho, names in found.empty.items()]


def test_a_rho_that_is_told_to_a_step_is_marked(audits):
    critical = audits[0].critical._replace(rho=162.4, exact=False)
    from dataclasses import replace

    (row,) = audit_rows([replace(audits[0], critical=critical)])
    assert (row.critical, row.axiom) == ("≥ 162", "fails")
    assert any("≥ 162" in line for line in audit_lines([replace(audits[0], critical=critical)]))


def test_the_figure_shows_the_curve_with_empty_layers_on_its_floor(audits):
    for audit in audits:
        shown = density_curve(audit, 1e-6)
        empty = audit.curve.density == 0
        assert np.array_equal(shown.compression, audit.curve.compression)
        assert np.array_equal(shown.density[~empty], audit.curve.density[~empty])
        assert (shown.density[empty] == 1e-6).all()
        assert shown.collapse == audit.curve.collapse
    assert density_curve(audits[0], 1e-6).collapse == math.inf
    first = density_curve(audits[2], 1e-6)
    assert not (audits[2].curve.density[first.compression < first.collapse] == 0).any()
    assert (audits[2].curve.density[first.compression == first.collapse] == 0).any()


@pytest.mark.parametrize("count", [1, 3, 22])
def test_each_layer_has_a_colour_of_its_own(count):
    colours = layer_colours(count)
    assert len(set(colours)) == count
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


def test_the_page_has_the_tables_what_they_mean_and_a_panel_a_pruner(page):
    assert re.findall(r'<figure id="panel\d+"><figcaption>(\w+)</figcaption>', page) == [
        *("synflow", "snip", "grasp", "random")
    ]
    assert page.count("<svg") == 4
    for text in ("snip, signed", "holds", "fails", "theorem 3", "collapse", "1.weight", "disconnected"):
        assert text in page
    assert "layer empty at ρ =" in page
    assert "ticketsearch" in page
    assert "torch" in page


def test_the_page_asks_the_network_for_nothing_and_its_tags_are_closed(page):
    addresses = set(re.findall(r"""https?://[^\s"'<>]+""", page))
    assert all(a.startswith(("http://www.w3.org/", "https://www.w3.org/")) for a in addresses)
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", page)

    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.stack = []

        def handle_starttag(self, tag, attrs):
            if tag != "meta":
                self.stack.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.stack.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert checker.stack == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert not {name for name in ids if ids.count(name) > 1} & referred


@pytest.mark.filterwarnings("ignore:.*layer collapse")
def test_the_legend_names_few_layers_one_by_one_and_many_by_a_bar(page, tiny, tmp_path):
    assert page.count("<li>") == 3
    assert "linear-gradient" not in page
    network = initialize("mlp:" + ",".join(["3"] * 41), tiny)
    audits = list(theory.audit(network, ["magnitude"], tiny))
    deep = AuditPage(load(None), network.spec, network.initialization, audits, {})
    text = write_audit(deep, tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.count("<li>") == 0
    assert text.count("linear-gradient") == 1
    assert "83.weight (last of 42 layers)" in text


def test_a_pruner_of_ones_own_is_audited_and_escaped(shell, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def scores(network, mask, batch, *, rng, strength=1.0):\n"
        "    named = network.parameters()\n"
        "    return {name: named[name].abs() * strength * part for name, part in mask.items()}\n"
    )
    code, out, err = shell(
        *("audit", "--model", "mlp:9", "--methods", "mine.py:scores,grasp", "--steps", "3"),
        *("--set", "seeding.options.strength=2", "--set", "seeding.options.temperature=1"),
    )
    assert code == 0, err
    assert "mine.py:scores" in out


def test_the_page_is_written_anew(shell, tmp_path):
    (tmp_path / "a.html").write_text("old")
    flags = ("audit", "--model", "mlp:9", "--methods", "magnitude,magnitude", "--output", "a.html")
    assert shell(*flags)[0] == 0
    assert (tmp_path / "a.html").read_text(encoding="utf-8").count("<svg") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "synflow,snp"], ["unknown pruner 'snp'", "did you mean 'snip'"]),
        (["--methods", ","], ["at least one pruner", "the default is"]),
        (["--methods", "synflow", "--steps", "x"], ["seeding.steps", "valid integer"]),
        (["--set", "seeding.options.temprature=1"], ["no option 'temprature'"]),
        (["--methods", "grasp", "--set", "seeding.options.temprature=1"], ["did you mean 'temperature'"]),
        (["--output", "none/a.html"], ["no folder 'none'"]),
        (["--output", "."], ["is a folder"]),
        (["--data", "digit"], ["unknown dataset 'digit'"]),
        (["--init-seed", "x"], ["--init-seed", "'x'"]),
        (["--scheme", "kaiming"], ["unknown initialization scheme"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(shell, tmp_path, arguments, words):
    refused(shell("audit", "--model", "mlp:9", *arguments), *words)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_audit_says_what_is_done(shell, tmp_path, monkeypatch):
    whole = theory.audit

    def stop(network, methods, *rest, **options):
        if methods == ["magnitude"]:
            raise KeyboardInterrupt
        yield from whole(network, methods, *rest, **options)

    monkeypatch.setattr("ticketsearch.theory.audit", stop)
    code, out, err = shell(*SMALL)
    assert (code, out) == (130, "")
    *_, last = err.splitlines()
    assert last == "Interrupted; of 3 pruners these were audited: synflow, snip; no page was written"
    assert not list(tmp_path.iterdir())
