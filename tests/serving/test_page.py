"""The page in a real headless browser: asked by keyboard, it shows who answered and why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from serving_processes import Server, serving, write_experts

from evoprompt.llm import FrozenModel

pytestmark = pytest.mark.system  # browsers


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of Chromium: the system's where there is one, else the one that playwright has installed."""
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1100, "height": 900})
        browser.close()


@pytest.fixture
def quiet(page: Page, server: Server) -> Iterator[Page]:
    """The page of the server; afterwards nothing was asked of anybody else, and nothing was complained of."""
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(server.url)
    yield page
    assert complaints == []
    assert all(url.startswith((server.url, "data:")) for url in asked), asked


def test_a_question_is_asked_by_keyboard_alone(quiet: Page) -> None:
    expect(quiet.locator("#about")).to_contain_text("6 cultural experts")
    quiet.keyboard.press("Tab")
    expect(quiet.locator(".skip")).to_be_focused()
    quiet.keyboard.press("Tab")
    expect(quiet.locator("#question")).to_be_focused()
    quiet.keyboard.type("Who pays in Osaka and in Nairobi?")
    quiet.keyboard.press("Enter")
    expect(quiet.locator("#status")).to_contain_text("Answered in", timeout=120_000)
    assert quiet.locator("#text").inner_text()
    assert quiet.locator("#voices h3").count() == 2
    expect(quiet.locator("#voices")).to_contain_text("names osaka")
    expect(quiet.locator("#answer")).to_be_focused()
    pictures = quiet.get_by_role("img")
    assert pictures.count() == 2
    assert "Power distance" in str(pictures.first.get_attribute("aria-label"))


def test_a_panel_shows_each_experts_own_answer(quiet: Page) -> None:
    quiet.locator("#compose").select_option("panel")
    quiet.locator("#question").fill("Who pays in Osaka and in Nairobi?")
    quiet.get_by_role("button", name="Ask").click()
    expect(quiet.locator("#voices .said")).to_have_count(2, timeout=120_000)


def test_what_needs_no_culture_says_so(quiet: Page) -> None:
    quiet.locator("#question").fill("What is 17 * 23?")
    quiet.get_by_role("button", name="Ask").click()
    expect(quiet.locator("#why")).to_contain_text("answered alone: the question needs no culture", timeout=120_000)
    expect(quiet.locator("#committee")).to_be_hidden()


def test_one_expert_can_be_asked_and_a_place_given(quiet: Page) -> None:
    quiet.locator("#who").select_option("expert:india")
    quiet.locator("#question").fill("How do I greet my host?")
    quiet.get_by_role("button", name="Ask").click()
    expect(quiet.locator("#voices h3")).to_have_text("India", timeout=120_000)
    quiet.locator("#who").select_option("committee")
    quiet.locator("#location").fill("Nairobi")
    quiet.get_by_role("button", name="Ask").click()
    expect(quiet.locator("#voices")).to_contain_text("the user is in Nairobi", timeout=120_000)


def test_what_others_wrote_is_shown_as_text_and_runs_nothing(quiet: Page) -> None:
    quiet.locator("#question").fill("<img src=x onerror=alert(1)> in Osaka?")
    quiet.get_by_role("button", name="Ask").click()
    expect(quiet.locator("#status")).to_contain_text("Answered in", timeout=120_000)
    assert quiet.locator("main img").count() == 0


def test_it_fits_a_telephone(quiet: Page) -> None:
    quiet.set_viewport_size({"width": 360, "height": 740})
    assert quiet.evaluate("document.documentElement.scrollWidth") <= 360
    quiet.set_viewport_size({"width": 1100, "height": 900})


def test_a_token_is_asked_for_where_one_is_needed(page: Page, pocket: FrozenModel, tmp_path: Path) -> None:
    with serving(write_experts(tmp_path / "experts", pocket), EVOPROMPT_TOKEN="s3cret") as guarded:
        page.goto(guarded.url)
        expect(page.locator("#status")).to_have_text("This server asks for a token.")
        page.locator("#token").fill("s3cret")
        page.locator("#token").press("Tab")
        expect(page.locator("#about")).to_contain_text("6 cultural experts")
