"""The sample run that the README shows is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "experiments" / "sample"


def test_the_report_links_to_files_that_are_there() -> None:
    page = (SAMPLE / "report.html").read_text(encoding="utf-8")
    links = [link for link in re.findall(r'href="([^"#]+)"', page) if not link.startswith(("http", "data:"))]
    assert len(links) > 10
    for link in links:
        assert (SAMPLE / link).is_file(), link


def test_report_and_figures_are_of_one_run() -> None:
    metrics = json.loads((SAMPLE / "metrics.json").read_text(encoding="utf-8"))
    before, after = (metrics["arms"][arm]["held_out"]["loss"] for arm in ("naive", "evolved"))
    page = (SAMPLE / "report.html").read_text(encoding="utf-8")
    assert f"from {before:.1f} to {after:.1f} points" in re.sub(r"<[^>]+>", "", page)
    assert f"budget, {metrics['seconds']:.0f} s" in (SAMPLE / "printed.txt").read_text(encoding="utf-8")
