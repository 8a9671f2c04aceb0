"""From a composed configuration to a finished run: fresh or continued."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from evoprompt.errors import UserError
from evoprompt.experts import read_expert
from evoprompt.study.rundir import RunDirectory
from evoprompt.study.settings import Settings, read_settings, require_same
from evoprompt.study.study import Outcome, Study


def run_job(config: Mapping[str, Any], output: Path, overrides: Sequence[str], console: Console) -> Outcome:
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
        fresh = _overridden(stored, fresh, overrides)
        require_same(stored, fresh, directory.path)
        settings = read_settings(fresh)
        console.print(f"continuing {directory.path}", markup=False)
        with directory.locked():
            return Study(settings, directory, console).run()
    settings = read_settings(fresh)
    _check_start(settings)
    directory = RunDirectory(output)
    directory.create(fresh)
    with directory.locked():
        try:
            return Study(settings, directory, console).run()
        except UserError:
            _undo(directory)
            raise


def _check_start(settings: Settings) -> None:
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


def _undo(directory: RunDirectory) -> None:
    """Make the folder of a refused run free for the corrected one, unless evaluations would be lost."""
    if not directory.checkpoint.exists():
        for path in (directory.config, directory.space, directory.run):
            path.unlink(missing_ok=True)


def _overridden(stored: Mapping[str, Any], composed: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The stored configuration with the values of the overridden keys taken from the composed one."""
    result: dict[str, Any] = copy.deepcopy(dict(stored))
    for override in overrides:
        path = override.lstrip("+~").split("=", 1)[0].split(".")
        source, target = composed, result
        for key in path[:-1]:
            source, target = source.get(key) or {}, target.setdefault(key, {})
        target[path[-1]] = source.get(path[-1])
    return result
