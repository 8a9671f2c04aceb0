"""The command `python -m evoprompt.report`: one run, a folder of runs, and bad input."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evoprompt.commands.start import call
from evoprompt.report.sweep_rows import grouped, read_sweep, told_apart

main = partial(call, "report")

WriteRun = Callable[..., Path]


@pytest.fixture
def sweep(metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path) -> Path:
    """Three runs, two of them with one configuration and different seeds."""
    for seed, optimizer, loss in ((0, "de", 10.0), (1, "de", 12.0), (0, "cma", 21.0)):
        metrics |= {"seed": seed, "optimizer": {"name": optimizer, "stages": {"initial": 8, "evolved": 32}}}
        metrics["arms"]["evolved"]["held_out"]["loss"] = loss
        write_run(tmp_path / "sweep" / f"arab-seed{seed}-{optimizer}")
    return tmp_path / "sweep"


def test_the_command_writes_the_report_and_prints_its_path(
    write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run")
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").is_file()


def test_the_module_runs_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evoprompt.report", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("evoprompt: no run directory at ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "neither a run directory nor holds a finished run"),
        (("config.yaml", "run.json"), "is not finished: no metrics.json; continue it with resume="),
        (("below/config.yaml", "below/run.json"), "below is not finished"),
        (("metrics.json",), "line 1: not valid JSON"),
    ],
)
def test_a_bad_folder_gives_one_clear_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, ...], message: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    assert main([str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_folder_that_cannot_be_written_gives_exit_code_2(
    write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "plots").write_text("a file where a folder should be", encoding="utf-8")
    assert main([str(folder)]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_folder_of_runs_gets_one_table_of_all(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep)]) == 0
    lines = capsys.readouterr().out.splitlines()
    method = ["model", "optimizer", "space", "placement", "respondent"]
    assert lines[0].split() == ["culture", "seed", *method, "naive", "persona", "icl", "evolved"]
    method = ["some/model", "cma", "full", "prefix", "options"]
    assert lines[1].split() == ["arab", "0", *method, "20.0", "15.0", "17.0", "21.0"]
    assert [line.split()[-1] for line in lines[1:4]] == ["21.0", "10.0", "12.0"]
    assert lines[4] == str(sweep / "report.html")


def test_the_sweep_csv_holds_what_the_runs_hold(sweep: Path) -> None:
    main([str(sweep)])
    with (sweep / "sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["optimizer"], row["seed"]): float(row["evolved"]) for row in rows}
    assert found == {("de", "0"): 10.0, ("de", "1"): 12.0, ("cma", "0"): 21.0}
    assert {row["run"] for row in rows} == {"arab-seed0-de", "arab-seed1-de", "arab-seed0-cma"}
    assert {(row["perplexity_ratio"], row["kl"]) for row in rows} == {("1.05", "0.1")}


@pytest.mark.parametrize(
    ("change", "config", "shown"),
    [
        ({"placement": "suffix"}, "", "<td>suffix</td>"),
        ({"respondent": "sampled"}, "", "<td>sampled</td>"),
        ({"space_options": {"kind": "full", "tokens": 8}}, "", "<td>full, tokens=8</td>"),
        ({}, "space: {kind: full, init_text: 'Answer:'}\n", "<td>full, init_text=Answer:</td>"),
        ({}, "respondent: {kind: options, samples: 5, seed: 3}\n", "<td>options, samples=5</td>"),
        ({}, "model: {name: some/model, quantization: 4bit}\n", "<td>some/model, quantization=4bit</td>"),
        ({}, "optimizer: {name: de, variant: rand/1/bin}\n", "<td>de, variant=rand/1/bin</td>"),
        ({}, "budget: 100\n", "<td>budget=100</td>"),
        ({}, "loop: steady\n", "<td>loop=steady</td>"),
        ({}, "survey: {constant: none}\n", "<td>constant=none</td>"),
        ({}, "survey: {counterbalanced: false}\n", "<td>counterbalanced=False</td>"),
        ({}, "survey: {confirm: {samples: 5}}\n", "<td>confirm.samples=5</td>"),
    ],
)
def test_runs_of_different_methods_are_not_averaged(
    metrics: dict[str, Any], write_run: WriteRun, sweep: Path, change: dict[str, Any], config: str, shown: str
) -> None:
    metrics |= {"seed": 0, "optimizer": {"name": "de"}, **change}
    write_run(sweep / "arab-seed0-other", config=config)
    main([str(sweep)])
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert "<td>2 of 2</td>" in page
    assert page.count("of 1</td>") == 2
    assert page.count(shown) == 2


@pytest.mark.parametrize("config", ["executor: {kind: ray}\n", "report: false\n", "resume: there\n", "seed: 9\n"])
def test_runs_that_differ_in_how_they_were_computed_are_averaged(
    metrics: dict[str, Any], write_run: WriteRun, sweep: Path, config: str
) -> None:
    metrics |= {"seed": 2, "optimizer": {"name": "de"}}
    write_run(sweep / "arab-seed2-de", config=config)
    main([str(sweep)])
    assert "<td>2 of 3</td>" in (sweep / "report.html").read_text(encoding="utf-8")


def test_a_method_is_named_by_what_few_runs_have_or_lack(
    metrics: dict[str, Any], write_run: WriteRun, sweep: Path
) -> None:
    metrics |= {"optimizer": {"name": "de"}}
    for seed, option in enumerate(("popsize: 50", "popsize: 50", "popsize: 50", "popsize: 20", "popsize: null")):
        metrics["seed"] = seed
        write_run(sweep / f"own/seed{seed}", config=f"optimizer: {{name: de, {option}}}\n")
    rows = read_sweep(sweep / "own")[0]
    titles, words = told_apart(rows)
    assert titles == ["optimizer"]
    named = {row.seed: words[row.method] for row in rows}
    assert named == {0: ["de"], 1: ["de"], 2: ["de"], 3: ["de, popsize=20"], 4: ["de, no popsize"]}
    assert len(grouped(rows)) == 3


def test_custom_cultures_without_a_name_are_told_apart_by_their_targets(
    metrics: dict[str, Any], write_run: WriteRun, tmp_path: Path
) -> None:
    metrics |= {"culture": "custom", "culture_name": "custom"}
    for seed, score in enumerate((80.0, 20.0)):
        metrics["target"] = {"pdi": score, "idv": None}
        write_run(tmp_path / f"seed{seed}")
    rows = read_sweep(tmp_path)[0]
    assert [name for name, _ in grouped(rows)] == ["custom (PDI 20.0)", "custom (PDI 80.0)"]


def test_a_run_whose_model_stopped_answering_is_marked_and_not_counted_as_better(
    metrics: dict[str, Any], write_run: WriteRun, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics |= {"seed": 2, "optimizer": {"name": "de"}}
    metrics["arms"]["evolved"]["held_out"] |= {"loss": 4.0, "label_mass": 0.01}
    found = metrics["arms"]["evolved"]["held_out"]
    metrics["confirmation"] = {arm: {**found, "loss": None, "invalid_rate": 0.9} for arm in ("naive", "evolved")}
    write_run(sweep / "arab-seed2-de")
    assert main([str(sweep)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in shown[1:5]] == ["21.0", "10.0", "12.0", "4.0†"]
    assert shown[5].startswith("† no success, however low the loss")
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert "<td>8.7†</td><td>1%</td><td>2 of 3</td>" in page
    assert page.count('<tr class="doubtful">') == 1
    with (sweep / "sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert rows["arab-seed2-de"]["label_mass"] == "0.01"
    assert {row["confirmed_loss"] for row in rows.values()} == {""}


def test_the_sweep_page_averages_runs_and_links_reports_that_exist(sweep: Path) -> None:
    main([str(sweep / "arab-seed1-de")])
    main([str(sweep)])
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert '<a href="arab-seed1-de/report.html">' in page
    assert page.count('/report.html">') == 1
    assert "<td>11.0</td><td>2 of 2</td><td>8.0 to 10.0</td>" in page
    assert "<td>0 of 1</td>" in page
    assert "<script" not in page


def test_a_sweep_skips_a_broken_run_and_says_so(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "arab-seed1-de" / "metrics.json").write_text("{", encoding="utf-8")
    assert main([str(sweep)]) == 0
    shown = capsys.readouterr()
    assert "skipped" in shown.err
    assert "arab-seed1-de" in shown.err
    assert len(shown.out.splitlines()) == 4


def test_hostile_names_in_a_sweep_stay_text(
    metrics: dict[str, Any], write_run: WriteRun, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics |= {"culture_name": "<script>alert(1)</script>", "model": "<img src=x>", "seed": "<b>"}
    write_run(sweep / "<i>")
    assert main([str(sweep)]) == 0
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert not [tag for tag in ("<script", "<img", "<b>", "<i>") if tag in page]
