"""The page in a real Chromium without network: pictures, picker, sorting, widths, print, access."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import CHROMIUM, Browser

if TYPE_CHECKING:
    from causalmmm import CausalMMM, Panel

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium")

AXE = Path(__file__).parents[3] / "build/node/node_modules/axe-core/axe.min.js"
CHOOSE = """(() => {
    const picker = document.getElementById("store");
    picker.value = "%s";
    picker.dispatchEvent(new Event("change"));
})()"""
# Text whose colour stands out less than WCAG asks from what is behind it.
FAINT = """(() => {
    const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const rgb = (colour) => {
        paint.clearRect(0, 0, 1, 1);
        paint.fillStyle = colour;
        paint.fillRect(0, 0, 1, 1);
        return [...paint.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((v) => v / 255).map(
            (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = rgb(getComputedStyle(e).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const e of document.querySelectorAll("p, li, a, th, td, h1, h2, caption, summary, label, text")) {
        if (!e.textContent.trim() || !e.getClientRects().length) continue;
        const style = getComputedStyle(e);
        const [a, b] = [light(rgb(e instanceof SVGElement ? style.fill : style.color)),
                        light(behind(e))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) faint.push(`${e.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return faint;
})()"""  # noqa: E501
NAMELESS = """[
    ...[...document.querySelectorAll("svg[role=img]")].filter((e) => !e.getAttribute("aria-label")),
    ...[...document.querySelectorAll("table")].filter((e) => !e.caption?.textContent),
    ...[...document.querySelectorAll("thead th")].filter((e) => e.scope !== "col"),
    ...[...document.querySelectorAll("tbody th")].filter((e) => e.scope !== "row"),
    ...[...document.querySelectorAll("select")].filter((e) => !e.labels.length),
    ...[...document.querySelectorAll("a, button, summary")].filter((e) => !e.textContent.trim()),
].map((e) => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture
def clean(browser: Browser) -> Iterator[Browser]:
    """The browser, which must have nothing to complain of and nothing to fetch."""
    browser.complaints.clear()
    browser.requests.clear()
    yield browser
    assert browser.complaints == []
    fetched = [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert fetched == []


def test_every_store_can_be_picked_and_is_drawn(
    clean: Browser, page_file: Path, weekly: tuple[CausalMMM, Panel]
) -> None:
    clean.open(page_file)
    stores = weekly[1].stores.tolist()
    names = clean.ask("[...document.getElementById('store').options].map((o) => o.text)")
    assert names == ["all stores", *stores]
    assert clean.ask("document.getElementById('graph-figure').hidden")
    for k, store in enumerate(stores):
        clean.ask(CHOOSE % k)
        assert clean.ask("document.getElementById('store-said').textContent").startswith(store)
        for chart in ("parts", "ahead", "graph", "roi", "curves"):
            drawn = f"document.querySelectorAll('#chart-{chart} .main-svg').length"
            assert clean.ask(drawn) > 0, chart
    observed = clean.ask("document.getElementById('chart-parts').data.at(-1).y")
    expected = weekly[1].select([stores[-1]]).data.values[:, -1]
    assert observed == pytest.approx(expected[-len(observed) :].tolist(), rel=1e-3)
    boxes = clean.ask("document.getElementById('chart-graph').layout.shapes.length")
    assert boxes > len(weekly[1].nodes)  # a box per series, and edges


def test_keys_stay_above_their_plots_when_width_and_store_change(
    clean: Browser, page_file: Path
) -> None:
    covered = """["parts", "ahead", "roi", "curves"].filter((name) => {
        const box = document.getElementById(`chart-${name}`);
        const [key, plot] = [".legend", ".nsewdrag"].map(
            (part) => box.querySelector(part).getBoundingClientRect());
        return key.bottom > plot.top + 1;
    })"""
    for width, store in ((1600, 0), (360, 1), (1600, 2), (768, 0), (360, 2), (1280, 1)):
        clean.open(page_file, width=width)
        clean.ask(CHOOSE % store)
        assert (
            clean.soon(
                "Math.round(document.querySelector('#chart-parts .main-svg').clientWidth - "
                "document.getElementById('chart-parts').clientWidth)",
                0,
            )
            == 0
        )  # drawn at this width
        assert clean.ask(covered) == [], (width, store)


@pytest.mark.parametrize("width", [360, 768, 1280, 1600])
def test_nothing_sticks_out_at_any_width(clean: Browser, page_file: Path, width: int) -> None:
    clean.open(page_file, width=width)
    out = clean.soon(
        "[...document.querySelectorAll('section > *, figure > *')]"
        ".filter((e) => e.getClientRects().length && e.getBoundingClientRect().right > "
        f"{width}).map((e) => e.outerHTML.slice(0, 80))",
        [],
    )
    assert out == []
    assert clean.soon(f"document.documentElement.scrollWidth <= {width}", True)


def test_pictures_and_tables_are_there_without_scripts(clean: Browser, page_file: Path) -> None:
    clean.open(page_file, scripts=False)
    clean.call("Emulation.setScriptExecutionDisabled", value=False)
    pictures = "[...document.querySelectorAll('svg[role=img]')]"
    sizes = clean.ask(f"{pictures}.map((e) => e.getBoundingClientRect().height)")
    assert len(sizes) >= 12
    assert min(sizes) > 100
    assert clean.ask("document.querySelectorAll('#stores tbody tr').length") == 3
    assert clean.ask("document.getElementById('explorer').hidden")


def test_tables_are_sorted_by_their_heads(clean: Browser, page_file: Path) -> None:
    clean.open(page_file)
    heads = clean.ask("[...document.querySelectorAll('#stores thead th')].map((h) => h.innerText)")
    column = heads.index("gmv")
    rows = "[...document.querySelectorAll('#stores tbody tr')]"
    cells = f"{rows}.map((row) => Number(row.cells[{column}].dataset.at))"
    head = f"document.querySelectorAll('#stores thead th')[{column}]"
    for order, descending in (("descending", True), ("ascending", False)):
        clean.ask(f"{head}.querySelector('button').click()")
        values = clean.ask(cells)
        assert values == sorted(values, reverse=descending)
        assert clean.ask(f"{head}.getAttribute('aria-sort')") == order


def test_print_is_light_without_navigation_and_has_all_cards(
    clean: Browser, page_file: Path
) -> None:
    clean.open(page_file, dark=True)
    dark = clean.ask("getComputedStyle(document.body).color")
    printed = clean.pdf()
    assert printed.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", printed))
    assert 5 <= pages <= 25
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    clean.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert clean.ask("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert clean.ask("getComputedStyle(document.body).color") != dark


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_and_everything_has_a_name(
    clean: Browser, page_file: Path, dark: bool
) -> None:
    clean.open(page_file, dark=dark)
    clean.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert clean.soon(FAINT, []) == []
    assert clean.ask(NAMELESS) == []
    assert clean.ask("document.documentElement.lang") == "en"


@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core here: make accessibility-check")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_no_violation(clean: Browser, page_file: Path, width: int, dark: bool) -> None:
    clean.open(page_file, width=width, dark=dark)
    clean.ask(CHOOSE % 1)
    clean.ask(f"(() => {{ {AXE.read_text(encoding='utf-8')} }})()")
    found = clean.ask(
        "axe.run().then((r) => r.violations.map((v) => [v.id, v.help, "
        "v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200) + ' ' + n.failureSummary)]))"
    )
    assert found == []
