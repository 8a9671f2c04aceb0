"""What run.json says of a run, and that runs of an earlier version are refused by name."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import pytest
from rich.console import Console

from evoprompt.errors import UserError
from evoprompt.optim.protocol import shares
from evoprompt.study import RunDirectory, RunResult, run_job
from evoprompt.study.run_info import RunInfo
from evoprompt.study.rundir import TakenError

Job = Callable[..., tuple[RunResult, str]]


@pytest.fixture(scope="module")
def finished(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    job(folder)
    return folder


def test_what_is_saved_is_loaded_and_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    info = RunInfo(status="running", seed=0, notes=("a", "b"), job={"number": 3, "overrides": [], "skipped": False})
    info.save(tmp_path / "run.json")
    held = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert set(held) == {"status", "seed", "notes", "seconds", "job"}
    assert RunInfo.load(tmp_path / "run.json") == info
    assert RunInfo.load(tmp_path / "nowhere.json") == RunInfo()


def test_a_change_of_what_no_run_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="statsu"):
        RunDirectory(tmp_path).remember(statsu="running")
    assert not (tmp_path / "run.json").exists()


def test_a_run_says_what_searched_and_how_many_evaluations_each_stage_took(job: Job, tmp_path: Path) -> None:
    result, printed = job(tmp_path / "run", optimizer={"name": "de", "popsize": 8, "variant": "rand/1/bin"})
    run, expert = (
        json.loads(path.read_text(encoding="utf-8"))["optimizer"]
        for path in (result.directory.run, result.directory.expert / "expert.json")
    )
    assert run == result.metrics["optimizer"]
    assert run.items() <= expert.items()
    assert (run["name"], run["variant"]) == ("de", "rand/1/bin")
    assert run["stages"] == {"initial": 8, "evolved": 8}
    assert "variant_place" not in run
    assert "by de rand/1/bin" in printed
    assert "16/16 evaluations by de rand/1/bin (initial 50%, evolved 50%)" in printed


def test_a_run_with_a_variant_of_ones_own_says_from_where_it_was_imported(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_variant.py").write_text(
        "from evoprompt.optim import Variant\nMINE = Variant('mine', 'best/1', cr=0.5)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    result, printed = job(tmp_path / "run", optimizer={"name": "de", "popsize": 8, "variant": "own_variant:MINE"})
    for path in (result.directory.run, result.directory.metrics, result.directory.expert / "expert.json"):
        said = json.loads(path.read_text(encoding="utf-8"))["optimizer"]
        assert (said["name"], said["variant"], said["variant_place"]) == ("de", "mine", "own_variant:MINE"), path
    assert f"16/16 evaluations by de mine ({shares(said['stages'])})" in printed, "in minimize's words"
    result.directory.metrics.unlink()
    shutil.rmtree(result.directory.expert)
    own = import_module("own_variant")
    monkeypatch.setattr(own, "MINE", replace(own.MINE, cr=0.7))
    with pytest.raises(UserError, match=r"run cannot be continued: .*variant.cr is 0.5 in the state and 0.7 here$"):
        job(tmp_path, resume=str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"notes": "abc"}, "`notes` must be a list of texts, is 'abc'"),
        ({"notes": [1]}, r"`notes` must be a list of texts, is \[1\]"),
        ({"model": "pocket"}, "`model` must be an object, is 'pocket'"),
        ({"seed": "one"}, "`seed` must be a whole number, is 'one'"),
        ({"seconds": True}, "`seconds` must be a number, is True"),
        ({"status": ["running"]}, r"`status` must be a text, is \['running'\]"),
        ({"started_from": []}, r"`started_from` must be an object, is \[\]"),
        ({"optimizer": {"name": "de", "stages": [1, 2]}}, r"`optimizer.stages` must be numbers .*, is \[1, 2\]"),
        ({"optimizer": {"name": "de", "stages": {"initial": "8"}}}, "`optimizer.stages` must be numbers of"),
        ({"optimizer": {"name": ["de"]}}, "`optimizer.name` must be a text"),
    ],
)
def test_a_damaged_part_is_refused_in_a_line_that_names_it(held: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(UserError, match=f"run.json is damaged: {said}") as caught:
        RunInfo.load(tmp_path / "run.json")
    assert len(str(caught.value).splitlines()) == 1


def earlier(folder: Path) -> dict[str, Any]:
    """Make run.json what an earlier version wrote."""
    held = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del held["optimizer"]
    (folder / "run.json").write_text(json.dumps(held), encoding="utf-8")
    return dict(held)


def test_a_run_of_an_earlier_version_is_not_continued_and_not_shown(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result, _ = job(folder)
    metrics = json.loads(result.directory.metrics.read_text(encoding="utf-8"))
    result.directory.metrics.write_text(json.dumps({**metrics, "schema_version": 1, "optimizer": "de"}))
    with pytest.raises(UserError, match=r"schema version 1; this release reads version 2.*`de` names the portfolio"):
        job(tmp_path, resume=str(folder))
    result.directory.metrics.unlink()
    shutil.rmtree(result.directory.expert)
    held = earlier(folder)
    with pytest.raises(UserError, match="begun by an earlier version of evoprompt, where `de` named the portfolio"):
        job(tmp_path, resume=str(folder))
    assert json.loads((folder / "run.json").read_text(encoding="utf-8")) == held, "it is as it was"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda m: m.update(optimizer="de"), "needs the objects `arms`, `target` and `optimizer`"),
        (lambda m: m.pop("optimizer"), "needs the objects `arms`, `target` and `optimizer`"),
        (lambda m: m.update(arms=[]), "needs the objects `arms`, `target` and `optimizer`"),
        (lambda m: m["arms"].update(naive=[1]), r"arms\.naive\.searched is missing"),
        (lambda m: m["arms"]["icl"]["held_out"].pop("loss"), r"arms\.icl\.held_out\.loss is 'missing'"),
        (lambda m: m.update(confirmation={"naive": {}}), r"confirmation\.naive\.loss is 'missing'"),
        (lambda m: m.update(confirmation={"naive": 3}), r"confirmation\.naive is missing"),
    ],
)
def test_damaged_metrics_are_refused_in_a_line_when_a_finished_run_is_asked_for_again(
    damage: Callable[[dict[str, Any]], Any], said: str, finished: Path, job: Job, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    damage(metrics)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with pytest.raises(UserError, match=f"metrics.json.*{said}") as caught:
        job(tmp_path, resume=str(folder))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("part", "key"), [("model", "fingerprint"), ("model", "placed"), ("instrument", "sha256")])
def test_a_run_that_does_not_say_with_what_it_was_begun_is_not_continued(
    part: str, key: str, finished: Path, job: Job, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / "metrics.json").unlink()
    held = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del held[part][key]
    (folder / "run.json").write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be continued: .* was None, is"):
        job(tmp_path, resume=str(folder))


def test_a_job_that_is_refused_after_it_was_finished_keeps_what_it_has(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / "journal.bin").unlink()
    shutil.rmtree(folder / "checkpoint")
    (folder / "metrics.json").write_text("{", encoding="utf-8")
    held = sorted(folder.iterdir())
    with pytest.raises(UserError, match="not valid JSON"):
        run_job(RunDirectory(folder).stored_config(), folder, [], Console(quiet=True), job={"number": 0})
    assert sorted(folder.iterdir()) == held


def test_a_lock_that_a_refused_run_took_away_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, opened, lock = RunDirectory(tmp_path), [], fcntl.flock

    def flock(file: IO[str], how: int) -> None:
        opened.append(file)
        if len(opened) == 1:  # the other lets go between this process's opening of the file and its locking
            directory.lock.unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with directory.locked():
        monkeypatch.undo()
        assert len(opened) == 2
        with pytest.raises(TakenError, match="another process is running"), directory.locked():
            pass
