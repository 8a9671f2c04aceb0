"""The documentation site: everything public is on it, its links lead somewhere, it asks nobody for anything."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from site_pages import ROOT, WRITTEN, anchors, name

import evoprompt

ROOMS = sorted(
    f"evoprompt.{module.name}"
    for module in pkgutil.iter_modules(evoprompt.__path__)
    if module.ispkg and hasattr(importlib.import_module(f"evoprompt.{module.name}"), "__all__")
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


class Fetched(HTMLParser):
    """Collects what a browser fetches to show a page, which links are not."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        shown = given.get("src") or (given.get("href") if tag == "link" and given.get("rel") != "canonical" else None)
        if shown:
            self.addresses.append(shown)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; building it ends with an error where a link or a name leads nowhere."""
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_a_pages_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"(?s)```.*?```", "", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert not re.search(r"@@|TODO|FIXME", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("room", ["evoprompt", *ROOMS])
def test_every_public_room_has_a_page_in_the_reference(room: str) -> None:
    page = ROOT / "docs" / "reference" / f"{room.removeprefix('evoprompt.')}.md"
    assert f"::: {room}\n" in page.read_text(encoding="utf-8")
    assert f"reference/{page.name}" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.system
@pytest.mark.parametrize("room", ["evoprompt", *ROOMS])
def test_every_public_name_is_on_the_site(room: str, site: Path) -> None:
    page = (site / "reference" / room.removeprefix("evoprompt.") / "index.html").read_text(encoding="utf-8")
    headings = set(re.findall(r'id="([\w.]+)"', page))
    for public in importlib.import_module(room).__all__:
        assert any(re.fullmatch(rf"{room}(\.\w+)?\.{public}", one) for one in headings), public


@pytest.mark.system
def test_the_site_asks_no_other_machine_for_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        fetched = Fetched(page.read_text(encoding="utf-8")).addresses
        assert not [address for address in fetched if re.match(r"(https?:)?//", address)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.system
def test_tutorials_show_all_their_code(site: Path) -> None:
    for script in (ROOT / "examples").glob("*.py"):
        page = (site / "examples" / script.stem / "index.html").read_text(encoding="utf-8")
        shown = re.sub(r"<[^>]+>", "", page)
        for line in script.read_text(encoding="utf-8").splitlines():
            if line.startswith(("def ", "from evoprompt")):
                assert line.replace("'", "&#39;").replace(">", "&gt;") in shown, line
