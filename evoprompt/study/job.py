"""From a composed configuration to a finished run: fresh or continued, alone or as a job of a sweep."""

from __future__ import annotations

import copy
import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from evoprompt.errors import UserError
from evoprompt.experts import read_expert
from evoprompt.study.answer_cache import AnswerCache
from evoprompt.study.run_result import RunResult
from evoprompt.study.rundir import RunDirectory
from evoprompt.study.settings import Settings, read_settings, require_same
from evoprompt.study.study import Study


def run_job(config: Mapping[str, Any], output: Path, overrides: Sequence[str], console: Console) -> RunResult:
    """Run or continue one study.

    A fresh run that is refused before anything was evaluated leaves its folder as if it had not begun.

    Parameters
    ----------
    config
        The composed configuration; `resume` names the run directory to continue, if any.
    output
        Folder of a fresh run.
    overrides
        What was given beside `resume`, as `key=value`. A continued run takes everything else from its stored
        configuration.
    console
        Where to print.

    Raises
    ------
    UserError
        Bad input, or a resumed run's configuration differs.
    """
    fresh = {key: value for key, value in config.items() if key != "resume"}
    if config.get("resume"):
        directory = RunDirectory(config["resume"])
        stored = directory.stored_config()
        fresh = overridden(stored, fresh, overrides)
        require_same(stored, fresh, directory.path)
        settings = read_settings(fresh)
        console.print(f"continuing {directory.path}", markup=False)
        with directory.locked(), _full_disk_told(directory):
            if directory.info.failure:
                directory.remember(failure={})
            return Study(settings, directory, console).run()
    directory = RunDirectory(output)
    settings = _begun(directory, fresh)
    with directory.locked(), _undone_if_refused(directory), _full_disk_told(directory):
        return Study(settings, directory, console).run()


def run_sweep_job(
    config: Mapping[str, Any], output: Path, job: Mapping[str, Any], console: Console, answers: Path
) -> RunResult:
    """Run one job of a sweep, or continue it if it was begun in its folder before.

    Parameters
    ----------
    config, output, console
        As `run_job` takes them.
    job
        What run.json is to say about the job, see `job_entry`.
    answers
        Folder in which the sweep's jobs keep for each other what the frozen model answers under texts.

    Raises
    ------
    UserError
        Bad input, or the run in the folder has another configuration.
    """
    fresh = {key: value for key, value in config.items() if key != "resume"}
    directory = RunDirectory(output)
    if directory.config.exists():
        require_same(directory.stored_config(), fresh, directory.path)
        settings = read_settings(fresh)
        console.print(f"continuing {directory.path}", markup=False)
    else:
        settings = _begun(directory, fresh)
    with directory.locked(), _undone_if_refused(directory), _full_disk_told(directory):
        directory.remember(job=job, failure={})
        return Study(settings, directory, console, AnswerCache(answers)).run()


def _begun(directory: RunDirectory, config: Mapping[str, Any]) -> Settings:
    """Check the settings of a fresh run and make its folder."""
    settings = read_settings(config)
    check_start(settings)
    directory.create(config)
    return settings


def check_start(settings: Settings) -> None:
    """Read the expert that the search is to start from, if any, before a folder is made and a model loaded.

    Raises
    ------
    UserError
        There is none; a run's folder is told from its expert's.
    """
    named = settings.space["init_expert"]
    if not named:
        return
    inside = Path(named) / "expert"
    if inside.is_dir():
        raise UserError(f"space.init_expert={named} is the folder of a run; did you mean {inside}?")
    try:
        read_expert(named)
    except UserError as error:
        raise UserError(f"space.init_expert: {error}") from None


@contextmanager
def _full_disk_told(directory: RunDirectory) -> Iterator[None]:
    """Say in a line that there is no room, and how to go on when there is."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"cannot write to {directory.path}: {error.strerror}; free some space and continue with "
            f"resume={directory.path}: all that could be written is kept"
        ) from None


@contextmanager
def _undone_if_refused(directory: RunDirectory) -> Iterator[None]:
    """Make the folder of a refused run free for the corrected one, unless evaluations would be lost."""
    try:
        yield
    except UserError:
        kept = (directory.journal, directory.checkpoint, directory.metrics, directory.expert)
        if not any(path.exists() for path in kept):
            for path in (directory.space, directory.run, directory.lock, directory.config):  # without it one may begin
                path.unlink(missing_ok=True)
        raise


def overridden(stored: Mapping[str, Any], composed: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The stored configuration with the values of the overridden keys taken from the composed one."""
    result: dict[str, Any] = copy.deepcopy(dict(stored))
    for override in overrides:
        path = override.lstrip("+~").split("=", 1)[0].split(".")
        source, target = composed, result
        for key in path[:-1]:
            source, target = source.get(key) or {}, target.setdefault(key, {})
        target[path[-1]] = source.get(path[-1])
    return result
