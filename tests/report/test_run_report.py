"""The page, the plots and their numbers, written from a run directory's files alone."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evoprompt.errors import UserError
from evoprompt.report import write_report

WriteRun = Callable[..., Path]
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags and attributes of a page; `unbalanced` names a tag that does not close what was opened last."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """What a reader sees."""
        return " ".join(" ".join(self.words).split())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_gets_a_page_and_every_plot_in_three_forms(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert write_report(folder) == folder / "report.html"
    plots = {path.name for path in (folder / "plots").iterdir()}
    names = ("dimensions", "convergence", "answers", "distributions", "carry")
    assert plots == {"arms.csv", *(f"{name}.{kind}" for name in names for kind in ("png", "svg", "csv"))}
    assert not list(folder.rglob("*.partial"))


def test_the_page_asks_nothing_of_the_network_and_needs_no_script(page: str) -> None:
    parsed = Page(page)
    tags = [tag for tag, _ in parsed.tags]
    assert "script" not in tags
    assert "iframe" not in tags
    for _, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:", "plots/")), (name, value)
            assert name == "href" or not value.startswith("plots/"), "files are linked, not loaded"
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_page_is_well_formed_and_says_what_it_is(page: str) -> None:
    parsed = Page(page)
    assert parsed.unbalanced == []
    assert parsed.open == []
    assert ("html", {"lang": "en"}) in parsed.tags
    assert "<title>Arab countries: evolved soft prompt, seed 3</title>" in page
    identities = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_every_plot_has_a_text_that_holds_its_numbers(page: str) -> None:
    labels = [attributes.get("aria-label") or "" for tag, attributes in Page(page).tags if tag == "svg"]
    assert len(labels) == 10  # five plots, each for wide and for narrow screens
    assert any("Power distance: target 80, no prompt 100, evolved 93" in label for label in labels)


def test_inlined_references_point_into_the_same_drawing(page: str) -> None:
    wanted = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert wanted
    assert wanted <= set(re.findall(r'\bid="([^"]+)"', page))


def test_plots_take_their_colours_from_the_page(page: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--evolved)" in drawings
    assert not re.search(r"(?:fill|stroke): #[0-9a-f]{6}", drawings)
    assert "prefers-color-scheme: dark" in page


def test_verdict_and_warnings_come_before_the_first_plot(page: str) -> None:
    order = [page.index(part) for part in ('class="headline', 'class="cautions"', "<figure", "config.yaml")]
    assert order == sorted(order)


def test_hostile_names_stay_text(metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path) -> None:
    attack = '</title><script>alert(1)</script><img src="http://x.test/" onerror=alert(1)> $x_1$ ${title}'
    for key in ("culture_name", "model", "stopped", "edition"):
        metrics[key] = attack
    metrics["optimizer"] = {"name": attack, "stages": {attack: 20, "de": 20}}
    for splits in metrics["arms"].values():
        splits["held_out"]["label_shares"][attack] = 0.2
    run = write_run(tmp_path / "run", config=f"name: '{attack}'\n")
    text = write_report(run).read_text(encoding="utf-8")
    tags = [tag for tag, _ in Page(text).tags]
    assert "script" not in tags
    assert "img" not in tags
    assert Page(text).text.count("<script>alert(1)</script>") >= 6


def test_the_configuration_is_shown_to_the_letter(write_run: WriteRun, tmp_path: Path) -> None:
    config = "survey:\n  wording_file: 'a & b <c>.yaml'   # mine\n"
    text = write_report(write_run(tmp_path / "run", config=config)).read_text(encoding="utf-8")
    assert "wording_file: 'a & b <c>.yaml' # mine" in Page(text).text
    assert "3.11.7" in text
    assert "f00d" in text


def test_missing_target_dimensions_are_reported_not_drawn(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path
) -> None:
    metrics["target"] = dict.fromkeys(metrics["target"]) | {"pdi": 80.0}
    folder = write_run(tmp_path / "run")
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "The target is incomplete." in text
    assert {row["target"] for row in rows_of(folder / "plots/dimensions.csv")} == {"80.0", ""}


def test_the_csv_files_hold_the_metrics_exactly(metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path) -> None:
    metrics["arms"]["icl"]["searched"]["loss"] = 0.1 + 0.2
    folder = write_run(tmp_path / "run")
    write_report(folder)
    arms = metrics["arms"]
    for row in rows_of(folder / "plots/arms.csv"):
        found = arms[row["arm"]][row["split"]]
        assert [float(row["loss"]), float(row["low"]), float(row["high"])] == [found["loss"], *found["interval"]]
    dimensions = rows_of(folder / "plots/dimensions.csv")
    assert len(dimensions) == 4 * 2 * 6
    for row in dimensions:
        found, name = arms[row["arm"]][row["split"]], row["dimension"]
        assert float(row["score"]) == found["dimensions"][name]
        assert [float(row["low"]), float(row["high"])] == found["dimension_intervals"][name]
        assert float(row["target"]) == metrics["target"][name]
    answers = rows_of(folder / "plots/answers.csv")
    assert len(answers) == 4 * 2 * 24
    for row in answers:
        shares = arms[row["arm"]][row["split"]]["answers"][int(row["item"]) - 1]
        assert [float(row[f"share_{answer}"]) for answer in range(1, 6)] == shares
        assert float(row["mean"]) == pytest.approx(np.dot(shares, [1, 2, 3, 4, 5]))


def test_the_convergence_csv_keeps_the_best_and_leaves_failures_empty(write_run: WriteRun, tmp_path: Path) -> None:
    history = pd.DataFrame(
        {
            "evaluation": range(5),
            "loss": [np.inf, 5.0, 7.0, np.nan, 4.0],
            "failed": [True, False, False, True, False],
        }
    )
    folder = write_run(tmp_path / "run", history=history)
    write_report(folder)
    found = rows_of(folder / "plots/convergence.csv")
    assert {row.pop("seconds") for row in found} == {""}, "a history of an older release does not tell"
    rows = [tuple(row.values()) for row in found]
    assert rows == [("1", "", ""), ("2", "5.0", "5.0"), ("3", "7.0", "5.0"), ("4", "", "5.0"), ("5", "4.0", "4.0")]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_history_in_which_nothing_succeeded_still_makes_a_report(
    write_run: WriteRun, tmp_path: Path, count: int
) -> None:
    history = pd.DataFrame({"evaluation": range(count), "loss": [np.nan] * count, "failed": [True] * count})
    text = write_report(write_run(tmp_path / "run", history=history)).read_text(encoding="utf-8")
    assert f"None of {count} evaluations gave a finite loss" in text


def test_a_run_with_the_required_metrics_only_still_makes_a_report(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path
) -> None:
    for splits in metrics["arms"].values():
        for split, found in splits.items():
            splits[split] = {key: found[key] for key in ("loss", "interval", "dimensions")}
    for key in ("culture_name", "edition", "constant", "stopped", "budget"):
        del metrics[key]
    folder = write_run(tmp_path / "run")
    assert "arab: evolved soft prompt" in write_report(folder).read_text(encoding="utf-8")
    assert not (folder / "plots/answers.png").exists()


def test_what_could_not_be_measured_is_null_and_shown_as_a_dash(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path
) -> None:
    lost = {"loss": None, "interval": [None, None], "label_shares": dict.fromkeys("12345ABCDE")}
    for arm in ("naive", "evolved"):
        for found in metrics["arms"][arm].values():
            found |= lost
            found["dimensions"] = dict.fromkeys(found["dimensions"])
            found["dimension_intervals"] = {name: [None, None] for name in found["dimensions"]}
            found["answers"] = [[None] * 5, *found["answers"][1:]]
    metrics["confirmation"] = {
        arm: {**metrics["arms"][arm]["held_out"], "invalid_rate": 1.0} for arm in ("naive", "evolved")
    }
    folder = write_run(tmp_path / "run")
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "The held-out loss could not be measured." in text
    assert "Not comparable with a plain persona line" in text
    assert "nan" not in text
    assert "– to –" not in text
    empty = [row for row in rows_of(folder / "plots/arms.csv") if row["arm"] in ("naive", "evolved")]
    assert all((row["loss"], row["low"], row["high"]) == ("", "", "") for row in empty)


def test_the_facts_say_who_was_asked_and_which_space_was_searched(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path
) -> None:
    config = "space: {kind: full, tokens: 3, init_text: 'Answer:'}\n"
    old = Page(write_report(write_run(tmp_path / "old", config=config)).read_text(encoding="utf-8")).text
    assert "respondent options · full space: 3 tokens, from the text “Answer:” · seed 3" in old
    metrics["space_options"] = {"kind": "full", "tokens": 2, "coordinates": 128, "init_text": None}
    new = Page(write_report(write_run(tmp_path / "new")).read_text(encoding="utf-8")).text
    assert "full space: 2 tokens, 128 coordinates · seed 3" in new


def test_the_page_says_what_searched_and_which_share_each_of_its_stages_took(page: str) -> None:
    text = Page(page).text
    assert "optimizer auto (opening 20%, lines 20%, de 60%)" in text
    assert "Optimizer auto (opening 20%, lines 20%, de 60%): 40 evaluations of a budget of 40" in text


@pytest.mark.parametrize(("key", "column"), [("label_mass", "label mass"), ("invalid_rate", "invalid")])
def test_the_table_of_arms_says_how_far_each_can_be_believed(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path, key: str, column: str
) -> None:
    for share, splits in enumerate(metrics["arms"].values()):
        splits["held_out"][key] = (0.004, 0.61, 0.62, 0.63)[share]
    metrics["respondent"] = "sampled" if key == "invalid_rate" else "options"
    metrics["invalid_rate"] = 0.07 if key == "invalid_rate" else None
    text = Page(write_report(write_run(tmp_path / "run")).read_text(encoding="utf-8")).text
    assert f"95% interval {column} PDI" in text
    assert "no prompt 20.0 19.5 to 20.5 under 1% " in text
    assert "evolved prompt 10.0 9.5 to 10.5 63% " in text
    assert ("asked in free text; 7% of the sampled answers chose no option" in text) == (key == "invalid_rate")
    assert ("The mean probability of each printed label" in text) == (key == "label_mass")
    assert ("How often each printed label was chosen among valid answers" in text) == (key == "invalid_rate")


def test_what_the_run_noted_is_in_its_report(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps({**record, "notes": ["the <i>start</i> was elsewhere"]}))
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "Noted by the run. The <i>start</i> was elsewhere." in text


def test_writing_twice_gives_the_same_bytes(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    first = write_report(folder).read_bytes(), (folder / "plots/dimensions.svg").read_bytes()
    assert (write_report(folder).read_bytes(), (folder / "plots/dimensions.svg").read_bytes()) == first


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda m: m.update(schema_version=1),
            "schema version 1; this release reads version 2; there `de` names the portfolio",
        ),
        (lambda m: m.update(schema_version=3), "schema version 3; this release reads version 2"),
        (lambda m: m["arms"].pop("evolved"), "arms.evolved.searched is missing"),
        (lambda m: m["arms"]["icl"]["held_out"].update(interval=[1.0]), "icl.held_out.interval is [1.0]"),
        (lambda m: m["arms"]["icl"]["held_out"].pop("loss"), "icl.held_out.loss is 'missing'"),
        (lambda m: m.pop("target"), "needs the objects `arms`, `target` and `optimizer`"),
        (lambda m: m["optimizer"].update(stages=[8, 32]), "`optimizer.stages` must be numbers of evaluations by stage"),
    ],
)
def test_metrics_that_cannot_be_reported_are_refused_by_name(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path, damage: Callable[[Any], None], message: str
) -> None:
    damage(metrics)
    folder = write_run(tmp_path / "run")
    with pytest.raises(UserError, match=re.escape(message)):
        write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("name", ["metrics.json", "run.json", "history.parquet"])
def test_a_damaged_file_is_named_in_one_line(write_run: WriteRun, tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).write_text("{ not this", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(name)) as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)


def test_an_old_report_survives_a_failed_new_one(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    before = write_report(folder).read_bytes()
    (folder / "metrics.json").write_text(json.dumps({"schema_version": 2}), encoding="utf-8")
    with pytest.raises(UserError):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before


def test_importing_the_room_loads_neither_matplotlib_nor_pandas_nor_torch() -> None:
    heavy = ("matplotlib", "pandas", "torch", "numpy")
    code = f"import sys, evoprompt.report; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_matplotlib_settings_of_the_caller_are_left_alone(write_run: WriteRun, tmp_path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0}):
        write_report(write_run(tmp_path / "run"))
        assert matplotlib.rcParams["font.size"] == 31.0
