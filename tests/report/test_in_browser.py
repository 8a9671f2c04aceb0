"""Both pages in a real headless browser, opened as files: quiet, within the screen, legible in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page
from written_runs import plain_metrics, searched, write_files

from evoprompt.report import write_report
from evoprompt.report.sweep import write_sweep
from experiments.sample.__main__ import chromium

pytestmark = pytest.mark.system  # browsers

WIDE, PHONE = (1280, 800), (390, 844)
# Of every visible text: what it says, and its contrast with what is painted behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """() => {
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return {rgb: [r, g, b], a};
  };
  const over = (top, below) => top.rgb.map((value, i) => value * top.a + below[i] * (1 - top.a));
  const luminance = (rgb) => rgb
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const below = behind(element);
    const ink = over(parse(element.closest("svg") ? style.fill : style.color), below);
    const [light, dark] = [luminance(ink), luminance(below)].sort((a, b) => b - a);
    found.push([text, (light + 0.05) / (dark + 0.05)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a run's report with every part and every kind of warning, and of a sweep of six runs."""
    folder = tmp_path_factory.mktemp("pages")
    history = searched([2.0, 1.5, 1.0])
    history.loc[[3, 9], ["failed", "loss"]] = [True, np.nan]
    full = plain_metrics() | {"model": "pocket", "failed": 2}
    full["target"]["mas"] = None
    full["cost"]["perplexity_ratio"] = 1.5
    full["arms"]["evolved"]["held_out"]["label_shares"]["A"] = 0.5
    run = write_report(write_files(full, folder / "run", history=history))
    metrics: dict[str, Any] = plain_metrics() | {"model": "pocket"}
    for seed, loss in enumerate((10.0, 12.0, 9.0, 21.0, 11.0, 10.5)):
        metrics |= {"seed": seed, "culture_name": ("Arab countries", "India")[seed % 2]}
        metrics["arms"]["evolved"]["held_out"] |= {"loss": loss, "label_mass": 0.2 if seed == 5 else 0.9}
        write_files(metrics, folder / "sweep" / f"seed{seed}")
    return {"run": run.as_uri(), "sweep": write_sweep(folder / "sweep").as_uri()}


def opened(browser: Browser, address: str, size: tuple[int, int] = WIDE, scheme: Any = "light") -> Page:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.goto(address)
    return page


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_page_asks_for_nothing_but_itself_and_complains_of_nothing(
    browser: Browser, pages: dict[str, str], kind: str
) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(pages[kind], wait_until="networkidle")
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [pages[kind]]


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_every_linked_file_lies_beside_the_page(browser: Browser, pages: dict[str, str], kind: str) -> None:
    page = opened(browser, pages[kind])
    links = page.eval_on_selector_all("a", "links => links.map((link) => link.href)")
    assert len(links) >= 7
    assert [link for link in links if not Path(link.removeprefix("file://")).is_file()] == []


@pytest.mark.parametrize("size", [WIDE, PHONE])
@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_the_verdict_is_seen_without_scrolling(
    browser: Browser, pages: dict[str, str], kind: str, size: tuple[int, int]
) -> None:
    page = opened(browser, pages[kind], size)
    box = page.locator(".headline").bounding_box()
    assert box is not None
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= size[1]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate("getComputedStyle(document.body).overflowX") == "visible", "nothing is cut off to fit"


@pytest.mark.parametrize("size", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_every_text_stands_out_from_its_background(
    browser: Browser, pages: dict[str, str], kind: str, scheme: str, size: tuple[int, int]
) -> None:
    page = opened(browser, pages[kind], size, scheme)
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    found = page.evaluate(CONTRASTS)
    assert len(found) > 60
    assert any(text == "held-out loss" or text.startswith("loss on searched") for text, _ in found), "of plots, too"
    assert [(text, round(contrast, 2)) for text, contrast in found if contrast < 4.5] == []


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_printed_page_is_light_and_cuts_nothing_off(browser: Browser, pages: dict[str, str], kind: str) -> None:
    page = opened(browser, pages[kind], (700, 1000), "dark")
    page.emulate_media(media="print")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert [text for text, contrast in page.evaluate(CONTRASTS) if contrast < 4.5] == []
    figures = page.locator("figure .wide svg").all()
    assert len(figures) >= 2
    for figure in figures:
        box = figure.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 700
        assert box["height"] < 25 / 2.54 * 96, "it fits on a page"
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
