"""What run.json says of a run, and that runs of an earlier version are refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from evoprompt.errors import UserError
from evoprompt.optim.protocol import shares
from evoprompt.study import RunDirectory, RunResult
from evoprompt.study.run_info import RunInfo

Job = Callable[..., tuple[RunResult, str]]


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
