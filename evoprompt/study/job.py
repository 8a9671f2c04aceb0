"""From a composed configuration to a finished run: fresh or continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from evoprompt.study.rundir import RunDirectory
from evoprompt.study.settings import read_settings, require_same
from evoprompt.study.study import Outcome, Study


def run_job(config: Mapping[str, Any], output: Path, overrides: Sequence[str], console: Console) -> Outcome:
    """Run or continue one study.

    Parameters
    ----------
    config
        The composed configuration; `resume` names the run directory to continue, if any.
    output
        Folder of a fresh run.
    overrides
        What was given beside `resume`. With nothing given, a continued run takes its stored configuration.
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
        if overrides:
            fresh = {**fresh, "culture": fresh.get("culture") or stored.get("culture")}
            require_same(stored, fresh, directory.path)
        else:
            fresh = stored
        settings = read_settings(fresh)
        console.print(f"continuing {directory.path}")
    else:
        settings = read_settings(fresh)
        directory = RunDirectory(output)
        directory.create(fresh)
    return Study(settings, directory, console).run()
