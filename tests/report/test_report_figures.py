"""Plots and tables of how a search went and of what it changed: their numbers, their words, their absence."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_runs import searched

from evoprompt.report import write_report
from evoprompt.report.answers import carried, carried_words
from evoprompt.report.files import read_run
from evoprompt.report.search_plots import diversity
from evoprompt.study.journal import SKETCH

WriteRun = Callable[..., Path]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_diversity_is_the_distance_within_a_generation_relative_to_the_first(
    write_run: WriteRun, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run", history=searched([2.0, 1.0, 0.5]))
    page = write_report(folder).read_text(encoding="utf-8")
    found = rows_of(folder / "plots/diversity.csv")
    assert [(row["generation"], row["evaluations"], row["candidates"]) for row in found] == [
        ("0", "12", "12"),
        ("1", "24", "12"),
        ("2", "36", "12"),
    ]
    assert [float(row["relative"]) for row in found] == pytest.approx([1.0, 0.5, 0.25], rel=0.25)
    assert float(found[0]["rms_distance"]) == pytest.approx(np.sqrt(2 * 300) * 2.0, rel=0.25)
    assert "<strong>Diversity.</strong>" in page
    assert (folder / "plots/diversity.svg").is_file()


def test_a_steady_search_is_seen_through_a_sliding_window(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", config="loop: steady\n", history=searched([2.0, 1.0, 0.5]))
    found = diversity(read_run(folder))
    assert found is not None
    assert found.generation is None
    assert found.evaluations.tolist() == list(range(12, 37, 3))
    assert (np.diff(found.relative) < 0.05).all()


def test_a_history_without_sketches_has_no_diversity(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", history=searched([2.0, 1.0]).drop(columns=SKETCH[3]))
    assert "Diversity" not in write_report(folder).read_text(encoding="utf-8")
    assert not (folder / "plots/diversity.csv").exists()
    assert diversity(read_run(write_run(tmp_path / "point", history=searched([0.0, 0.0])))) is None
    assert diversity(read_run(write_run(tmp_path / "one", history=searched([1.0], popsize=1)))) is None


def test_convergence_is_told_in_seconds_too(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", history=searched([2.0, 1.0]))
    page = write_report(folder).read_text(encoding="utf-8")
    found = rows_of(folder / "plots/convergence.csv")
    assert (float(found[0]["seconds"]), float(found[-1]["seconds"])) == (0.5, 60.0)
    assert page.count("seconds of searching</text>") == 2, "for wide and for narrow screens"


def test_failed_evaluations_are_listed_with_their_workers(write_run: WriteRun, tmp_path: Path) -> None:
    history = searched([2.0, 1.0])
    history["worker"] = np.where(history["trial"] % 2, "ray-1", "ray-<0>")
    history.loc[history["trial"] >= 12, ["failed", "loss"]] = [True, np.nan]
    history.loc[13, ["failed", "loss"]] = [False, 6.0]
    page = write_report(write_run(tmp_path / "run", history=history)).read_text(encoding="utf-8")
    assert "Failed evaluations: the first 10 of 11" in page
    assert '<th scope="row">1</th><td>12</td><td>ray-&lt;0&gt;</td>' in page
    assert "<td>22</td><td>ray-&lt;0&gt;</td>" in page
    assert "<td>23</td><td>ray-1</td>" not in page
    assert '<th scope="row">ray-&lt;0&gt;</th><td>6</td><td>12</td>' in page
    assert '<th scope="row">ray-1</th><td>5</td><td>12</td>' in page
    whole = write_report(write_run(tmp_path / "whole", history=searched([2.0, 1.0]))).read_text(encoding="utf-8")
    assert "Failed evaluations" not in whole


def test_every_figure_links_its_files(write_run: WriteRun, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", history=searched([2.0, 1.0]))
    page = write_report(folder).read_text(encoding="utf-8")
    for path in (folder / "plots").iterdir():
        assert f'<a href="plots/{path.name}">{path.suffix[1:].upper()}</a>' in page
    assert page.count('<a href="plots/') == 3 * 6 + 1


def test_the_distributions_before_and_after_are_those_of_the_metrics(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run")
    write_report(folder)
    found = rows_of(folder / "plots/distributions.csv")
    assert len(found) == 2 * 24 * 5
    for row in found:
        before, after = (
            metrics["arms"][arm][row["split"]]["answers"][int(row["item"]) - 1][int(row["answer"]) - 1]
            for arm in ("naive", "evolved")
        )
        assert (float(row["before"]), float(row["after"]), float(row["change"])) == (before, after, after - before)


def shift_answers(metrics: dict[str, Any], split: str, by: np.ndarray) -> None:
    """Let the evolved prompt move the mean of each item by so many steps, from answers 2 and 4 alike."""
    start, step = np.array([[0.0, 0.5, 0.0, 0.5, 0.0], [0.0, -0.5, 0.0, 0.5, 0.0]])
    metrics["arms"]["naive"][split]["answers"] = [start.tolist()] * 24
    moved = [(start + one * step).tolist() for one in by]
    metrics["arms"]["evolved"][split]["answers"] = moved


@pytest.mark.parametrize(
    ("share", "noise", "words"),
    [
        (1.0, 0.0, "Shifts on held-out wordings were 100% as large as on the searched ones, in the same items"),
        (0.4, 0.0, "were 40% as large as on the searched ones, in the same items"),
        (0.6, 0.3, "but not item by item"),
        (0.0, 0.0, "The shifts did not carry over to new wordings"),
    ],
)
def test_how_much_of_the_shifts_carried_over_is_said_in_words(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path, share: float, noise: float, words: str
) -> None:
    random = np.random.default_rng(0)
    by = np.linspace(-0.5, 0.5, 24)
    kept = share * by + noise * random.uniform(-1, 1, 24) + 1e-3 * random.uniform(-1, 1, 24) * (share == 0)
    shift_answers(metrics, "searched", by)
    shift_answers(metrics, "held_out", kept)
    run = read_run(write_run(tmp_path / "run"))
    found = carried(run)
    assert found is not None
    assert found.slope == pytest.approx(np.polyfit(by, kept, 1)[0])
    assert found.correlation == pytest.approx(np.corrcoef(by, kept)[0, 1])
    assert words in carried_words(found)
    write_report(run.folder)
    rows = rows_of(run.folder / "plots/carry.csv")
    assert [float(row["searched"]) for row in rows] == pytest.approx(by.tolist())
    assert [float(row["held_out"]) for row in rows] == pytest.approx(kept.tolist())


def test_where_nothing_moved_nothing_is_said_to_carry_over(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path
) -> None:
    for split in ("searched", "held_out"):
        shift_answers(metrics, split, np.zeros(24))
    page = write_report(write_run(tmp_path / "run")).read_text(encoding="utf-8")
    assert "Too few answers moved on the searched wordings" in page
