"""What the runs of a sweep say together: in how many the loss fell, and how certain that is."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evoprompt.report.numbers import mean_interval, paired_p
from evoprompt.report.sweep import write_sweep
from evoprompt.report.sweep_rows import Row, read_sweep
from evoprompt.report.verdict import Verdict, pairs, sweep_verdict

WriteRun = Callable[..., Path]
Sweep = Callable[..., Verdict]


@pytest.fixture
def said(metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path) -> Sweep:
    """The verdict over runs with these held-out losses under the evolved prompt; the others' are the plain run's."""

    def verdict(*losses: float | None) -> Verdict:
        for seed, loss in enumerate(losses):
            metrics["seed"] = seed
            metrics["arms"]["evolved"]["held_out"]["loss"] = loss
            write_run(tmp_path / "sweep" / f"seed{seed}")
        return sweep_verdict(read_sweep(tmp_path / "sweep")[0])

    return verdict


def test_runs_that_all_fell_say_so_with_interval_and_test(said: Sweep) -> None:
    found = said(10.0, 11.0, 9.0, 10.5, 9.5, 10.0)
    assert found.headline == "The held-out loss fell in all 6 runs; its mean went from 20.0 to 10.0 points."
    assert found.tone == "good"
    low, high = mean_interval([-10.0, -9.0, -11.0, -9.5, -10.5, -10.0])[1:]
    assert found.comparisons[0] == (
        f"Against no prompt: −10.0 points on average (95% interval over 6 seeds −{-low:.1f} to −{-high:.1f}; "
        "lower in 6 of 6 runs; p = 0.031)."
    )
    assert [line.split(":")[0] for line in found.comparisons] == [
        "Against no prompt",
        "Against a plain persona line",
        "Against in-context examples",
    ]
    assert "All runs are of one culture: intervals and tests are over seeds" in found.cost
    assert "paired permutation test" in found.cost


def test_a_few_runs_get_no_test(said: Sweep) -> None:
    found = said(10.0, 12.0, 11.0)
    assert "too few seeds for a test" in found.comparisons[0]
    assert "permutation" not in found.cost


def test_one_run_gets_neither_interval_nor_test(said: Sweep) -> None:
    found = said(10.0)
    assert found.headline == "The held-out loss fell in the one run, from 20.0 to 10.0 points."
    assert found.comparisons[0] == "Against no prompt: −10.0 points on average (lower in 1 of 1 runs)."
    assert found.tone == "flat"


def test_a_persona_line_that_does_better_over_runs_is_in_the_headline(said: Sweep) -> None:
    found = said(16.0, 16.5, 15.9, 16.2, 16.1)
    assert found.headline.endswith(", but a plain persona line does better.")
    assert found.tone == "flat"
    assert found.comparisons[1].startswith("Against a plain persona line: +1.1 points on average")


def test_runs_that_rose_and_runs_without_a_loss_are_counted(said: Sweep) -> None:
    found = said(25.0, 26.0, None)
    assert found.headline.startswith("The held-out loss fell in none of 2 runs")
    assert found.tone == "bad"
    assert found.comparisons[-1] == "In 1 of 3 runs the held-out loss could not be measured."


def test_a_doubtful_fall_is_told_with_its_doubt(metrics: dict[str, Any], said: Sweep) -> None:
    metrics["arms"]["evolved"]["held_out"]["label_mass"] = 0.01
    found = said(4.0, 5.0)
    assert found.headline == (
        "The held-out loss fell in all 2 runs, all of them with doubt; its mean went from 20.0 to 4.5 points."
    )
    assert found.tone == "bad", "the model no longer answers"
    assert said(4.0, 25.0).headline.startswith("The held-out loss fell in 1 of 2 runs, with doubt; its mean")


def test_the_one_run_that_fell_with_doubt_is_said_to_have_fallen(metrics: dict[str, Any], said: Sweep) -> None:
    confirmed = {arm: {**metrics["arms"]["naive"]["held_out"], "invalid_rate": 0.0} for arm in ("naive", "evolved")}
    metrics["confirmation"] = confirmed
    found = said(4.0)
    assert found.headline == "The held-out loss fell in the one run, with doubt, from 20.0 to 4.0 points."
    assert found.tone == "flat", "free text did not confirm it, nor did the model break"


def test_doubtful_runs_among_others_are_counted_beside_them(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path
) -> None:
    for seed, mass in enumerate((0.9, 0.01, 0.9, 0.9)):
        metrics["seed"] = seed
        metrics["arms"]["evolved"]["held_out"] |= {"loss": 10.0, "label_mass": mass}
        write_run(tmp_path / f"seed{seed}")
    found = sweep_verdict(read_sweep(tmp_path)[0])
    assert found.headline.startswith("The held-out loss fell in all 4 runs, 1 of them with doubt; its mean went")
    assert found.tone == "good"


@pytest.fixture
def cultures(metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path) -> Callable[..., list[Row]]:
    """Runs of several cultures: for each the loss without a prompt, and those under the evolved prompt by seed."""

    def rows(**losses: tuple[float, list[float]]) -> list[Row]:
        for culture, (before, after) in losses.items():
            metrics.update(culture=culture, culture_name=culture)
            metrics["arms"]["naive"]["held_out"]["loss"] = before
            for seed, loss in enumerate(after):
                metrics["seed"] = seed
                metrics["arms"]["evolved"]["held_out"]["loss"] = loss
                write_run(tmp_path / f"{culture}-seed{seed}")
        return read_sweep(tmp_path)[0]

    return rows


def test_over_several_cultures_a_pair_is_the_mean_of_a_culture(cultures: Callable[..., list[Row]]) -> None:
    rows = cultures(arab=(20.0, [10.0, 12.0, 14.0]), usa=(8.0, [7.0]))
    assert sorted(pairs(rows, "naive")) == [(7.0, 8.0), (12.0, 20.0)]
    found = sweep_verdict(rows)
    assert found.headline == "The held-out loss fell in all 4 runs; its mean went from 14.0 to 9.5 points."
    assert "−4.5 points on average (95% interval over 2 cultures −8.0 to −1.0; lower in 4 of 4" in found.comparisons[0]
    assert "too few cultures for a test" in found.comparisons[0]
    assert "A culture counts once, as the mean of its runs" in found.cost


def test_more_seeds_of_the_same_cultures_do_not_make_a_result_more_certain(
    cultures: Callable[..., list[Row]],
) -> None:
    few = sweep_verdict(cultures(arab=(20.0, [10.0]), usa=(8.0, [9.0]), india=(15.0, [12.0])))
    many = sweep_verdict(cultures(arab=(20.0, [10.0] * 4), usa=(8.0, [9.0] * 4), india=(15.0, [12.0] * 4)))
    assert many.comparisons[0] == few.comparisons[0].replace("2 of 3 runs", "8 of 12 runs")


def test_the_means_of_several_cultures_have_an_interval_over_cultures(
    cultures: Callable[..., list[Row]], tmp_path: Path
) -> None:
    cultures(arab=(20.0, [10.0, 12.0]), usa=(8.0, [7.0, 7.0]))
    page = write_sweep(tmp_path).read_text(encoding="utf-8")
    line = page[page.index('<tr class="together">') :].split("</tr>")[0]
    assert line.startswith('<tr class="together"><th scope="row">2 cultures</th><td>4</td><td>14.0</td>')
    assert line.endswith("<td>4 of 4</td><td>1.0 to 10.0</td><td>1.0 to 9.0</td>")


def test_no_run_with_a_loss_is_said(said: Sweep) -> None:
    assert said(None, None).headline == "The held-out loss could not be measured in any run."


def test_an_interval_covers_the_mean_and_a_test_finds_a_constant_gain() -> None:
    values = np.random.default_rng(0).normal(3, 1, 40).tolist()
    mean, low, high = mean_interval(values)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(40), rel=0.3)
    assert paired_p([1.0] * 10, [2.0] * 10) == pytest.approx(2 / 2**10)
    assert paired_p([1.0, 2.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 2.0, 1.0]) == 1.0
    assert paired_p([1.0] * 4, [2.0] * 4) is None


def test_a_sweep_writes_its_plots_with_the_losses_of_every_run(said: Sweep, tmp_path: Path) -> None:
    said(10.0, 12.0)
    page = write_sweep(tmp_path / "sweep").read_text(encoding="utf-8")
    names = {f"{name}.{kind}" for name in ("losses", "gains") for kind in ("png", "svg", "csv")}
    assert {path.name for path in (tmp_path / "sweep/plots").iterdir()} == names
    assert all(f'<a href="plots/{name}">' in page for name in names)
    with (tmp_path / "sweep/plots/losses.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] == "evolved"]
    assert [(row["run"], row["held_out_loss"]) for row in rows] == [("seed0", "10.0"), ("seed1", "12.0")]
    with (tmp_path / "sweep/plots/gains.csv").open(encoding="utf-8", newline="") as file:
        gains = [(row["searched_gain"], row["held_out_gain"]) for row in csv.DictReader(file)]
    assert gains == [("10.0", "10.0"), ("10.0", "8.0")]
    assert page.index('class="headline good"') < page.index("<figure")
