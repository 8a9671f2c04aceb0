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
from evoprompt.study.arms import AnswerCache
from evoprompt.study.rundir import RunDirectory, RunResult
from evoprompt.study.settings import Settings, read_settings, require_same
from evoprompt.study.study import Study


def run_job(
    config: Mapping[str, Any],
    output: Path,
    overrides: Sequence[str],
    console: Console,
    job: Mapping[str, Any] | None = None,
    cache: AnswerCache | None = None,
) -> RunResult:
    """Run or continue one study, alone or as a job of a sweep.

    A fresh run that is refused before anything was evaluated leaves its folder as if it had not begun.

    Parameters
    ----------
    config
        The composed configuration; `resume` names the run directory to continue, if any.
    output
        Folder of a fresh run. A job of a sweep is continued if it was begun there before.
    overrides
        What was given beside `resume`, as `key=value`. A continued run takes everything else from its stored
        configuration.
    console
        Where to print.
    job
        What run.json is to say about a job of a sweep, see `job_entry`.
    cache
        What the sweep's jobs keep for each other of what the frozen model answers under texts.

    Raises
    ------
    UserError
        Bad input, or the run in the folder has another configuration.
    """
    fresh = {key: value for key, value in config.items() if key != "resume"}
    resume = None if job else config.get("resume")
    directory = RunDirectory(resume or output)
    begun = bool(resume) or (job is not None and directory.config.exists())
    if begun:
        stored = directory.stored_config()
        fresh = overridden(stored, fresh, overrides) if resume else fresh
        require_same(stored, fresh, directory.path)
    settings = read_settings(fresh)
    if begun:
        console.print(f"continuing {directory.path}", markup=False)
    else:
        check_start(settings)
        directory.create(fresh)
    with directory.locked(), _told_why_it_ends(directory, begun):
        if job or directory.info.failure:
            directory.remember(job=job or directory.info.job, failure={})
        return Study(settings, directory, console, cache).run()


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
def _told_why_it_ends(directory: RunDirectory, begun: bool) -> Iterator[None]:
    """Say in a line that there is no room; free the folder of a fresh run that is refused before it evaluates."""
    kept = (directory.journal, directory.checkpoint, directory.metrics, directory.expert)
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"cannot write to {directory.path}: {error.strerror}; free some space and continue with "
            f"resume={directory.path}: all that could be written is kept"
        ) from None
    except UserError:
        if not begun and not any(path.exists() for path in kept):
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
