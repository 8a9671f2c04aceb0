"""Which optimizer for which job: the committed page is what the command makes, and the rule does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser

from evoprompt.errors import UserError
from experiments.optimizers.__main__ import main
from experiments.optimizers.jobs import JOBS, Job, complete, early, load, not_run
from experiments.optimizers.standing import DEFAULT, Standing, as_good, judge, rank_cases
from experiments.optimizers.words import advice
from experiments.sample.__main__ import chromium

HOME = Path(__file__).parents[2] / "experiments" / "optimizers"
RESULTS = HOME.parents[1] / "benchmarks" / "results"


class Words(HTMLParser):
    """The words of a page outside its plots and its style, and everything that its tags refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self._ignored = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._ignored += tag in ("svg", "style")
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        self._ignored -= tag in ("svg", "style")

    def handle_data(self, data: str) -> None:
        if not self._ignored:
            self.words += data.split()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes of the committed result files."""
    out = tmp_path_factory.mktemp("optimizers")
    subprocess.run([sys.executable, "-m", "experiments.optimizers", f"out={out}"], check=True, cwd=HOME.parents[1])
    return out


@pytest.mark.parametrize("name", ["table.md", "recommendations.csv"])
def test_the_committed_table_is_what_the_command_makes(made: Path, name: str) -> None:
    assert (made / name).read_bytes() == (HOME / name).read_bytes()


def test_the_readme_shows_the_table() -> None:
    shown = (HOME / "README.md").read_text().split("<!-- table -->")[1].split("<!-- /table -->")[0]
    assert shown.strip() == (HOME / "table.md").read_text().strip()


def test_the_committed_page_says_what_the_command_makes_of_the_committed_results(made: Path) -> None:
    pages = [(folder / "page.html").read_text(encoding="utf-8") for folder in (made, HOME)]
    assert Words(pages[0]).words == Words(pages[1]).words
    assert pages[0].count("<svg") == pages[1].count("<svg") == 2 * (1 + len(JOBS))


def test_the_page_refers_to_nothing_outside_itself() -> None:
    text = (HOME / "page.html").read_text(encoding="utf-8")
    found = Words(text)
    assert not {"script", "img", "iframe", "object"} & found.tags
    assert found.references
    assert all(reference.startswith(("#", "data:,")) for reference in found.references)
    assert "@import" not in text
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", text))
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    assert {reference[1:] for reference in found.references if reference.startswith("#")} <= ids


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.mark.system
@pytest.mark.parametrize("width", [390, 1100])
def test_a_browser_shows_it_without_a_complaint_a_request_or_a_sideways_scroll(browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((HOME / "page.html").as_uri())
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [(HOME / "page.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg:visible").count() == 1 + len(JOBS)
    headline = page.locator(".headline").bounding_box()
    assert headline
    assert headline["y"] + headline["height"] < 900
    page.close()


def runs(errors: dict[str, list[float]], hits: str = "", budget: int = 100) -> pd.DataFrame:
    """Rows of made-up runs in two dimensions: {method: an error for each function}."""
    rows = [
        {"suite": "bbob", "dim": 2, "budget": budget, "method": method, "function": function, "instance": 1, "seed": 0,
         "status": "ok", "error": error, "evaluations": budget, "starts": 1, "seconds": 0.001, "hits": hits}
        for method, values in errors.items()
        for function, error in enumerate(values, start=1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_all_whose_interval_overlaps_the_best_ones_are_as_good() -> None:
    best, touching = Standing("a", 2.0, 1.0, 3.0), Standing("b", 4.0, 3.0, 5.0)
    apart, wide = Standing("c", 4.5, 3.1, 6.0), Standing("d", 5.0, 2.9, 9.0)
    assert as_good([best, touching, apart, wide]) == [best, touching, wide]


def test_a_method_with_unknown_interval_is_as_good_as_nothing() -> None:
    nan = float("nan")
    best, other = Standing("a", 1.0, nan, nan), Standing("b", 2.0, nan, nan)
    assert as_good([best, other]) == [best]


def test_only_methods_with_every_run_are_ranked_and_the_others_are_named() -> None:
    first, second = runs({"cmaes": [1, 1], DEFAULT: [2, 2], "pycma": [0]}), runs({"cmaes": [1], DEFAULT: [2]})
    assert complete([first, second]) == ["cmaes", DEFAULT]
    missing = not_run(JOBS[1], [first], ["cmaes", DEFAULT])
    assert "pycma (1 of 2 runs)" in missing
    assert "nevergrad DE" in missing
    assert DEFAULT not in missing


def test_every_table_counts_alike_however_many_instances_it_has() -> None:
    one = runs({"a": [1.0], "b": [2.0]})
    many = pd.concat([runs({"a": [2.0], "b": [1.0]}).assign(instance=instance) for instance in range(5)])
    assert rank_cases([one, many], ["a", "b"]).loc[1].to_dict() == {"a": 1.5, "b": 1.5}


def test_an_early_look_counts_only_what_was_reached_by_then() -> None:
    rows = early(runs({"a": [1e-8], "b": [1e-8]}, hits="1 10 41 100"), first=20)
    assert rows["hits"].tolist() == ["1 10", "1 10"]
    assert rows["error"].tolist() == pytest.approx([10**1.8] * 2)
    assert set(rows["budget"]) == {40}


def write(folder: Path, rows: pd.DataFrame) -> Job:
    """A result file and the job that reads it."""
    rows.to_csv(folder / "made.csv", index=False)
    return Job("made", "Made-up problems", "Made", ("made",))


def test_where_the_default_is_behind_the_advice_says_so(tmp_path: Path) -> None:
    job = write(tmp_path, runs({"cmaes": [1.0] * 6, "pycma": [2.0] * 6, DEFAULT: [3.0] * 6}))
    verdict = judge(job, tmp_path)
    assert [one.method for one in verdict.standings] == ["cmaes", "pycma", DEFAULT]
    assert verdict.word == "behind"
    assert verdict.against_rival.difference == 2
    assert advice(verdict).startswith(
        "Take cmaes: mean rank 1.00 [1.00, 1.00]. The default is not the best: place 3 of 3"
    )


def test_where_the_default_is_first_its_rival_is_the_best_of_the_others(tmp_path: Path) -> None:
    job = write(tmp_path, runs({"cmaes": [2.0] * 6, "pycma": [3.0] * 6, DEFAULT: [1.0] * 6}))
    verdict = judge(job, tmp_path)
    assert (verdict.word, verdict.rival.method, verdict.against_rival.difference) == ("best", "cmaes", -1)


def test_runs_of_unequal_budgets_are_refused(tmp_path: Path) -> None:
    job = write(tmp_path, pd.concat([runs({"cmaes": [1]}), runs({DEFAULT: [1]}, budget=200)]))
    with pytest.raises(UserError, match="2 suites, dimensions or budgets"):
        load(job, tmp_path)


def test_every_ranked_method_of_the_committed_tables_has_the_default_beside_it() -> None:
    for job in JOBS:
        tables = load(job, RESULTS)
        assert DEFAULT in complete(tables), job.name


@pytest.mark.parametrize(
    ("argument", "said"),
    [("preset=fast", "unknown preset 'fast'"), ("budget=3", "unknown argument 'budget=3'"), ("results=no", "no/bbob")],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    argument: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument, f"out={tmp_path}"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
