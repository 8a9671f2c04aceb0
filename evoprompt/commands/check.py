"""The check command, with the arguments of the run command: what would stop a run, without beginning it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from evoprompt.commands.run import CONF, explained, register_cultures, resuming, set_pluses, value_of
from evoprompt.commands.start import say
from evoprompt.commands.sweep import planned
from evoprompt.errors import UserError
from evoprompt.preflight.findings import Findings, counted
from evoprompt.preflight.model import check_model
from evoprompt.preflight.surroundings import (
    check_output,
    check_packages,
    lacks_launcher,
    show_machine,
    this_machine,
)
from evoprompt.preflight.workers import check_executor, check_launcher, check_optimizer
from evoprompt.study.job import check_start, overridden
from evoprompt.study.rundir import RunDirectory
from evoprompt.study.settings import Settings, read_settings
from evoprompt.surveys import load_instrument

HELP = """\
python -m evoprompt.check [arguments of python -m evoprompt.run]

Reports on this machine, the model, the executor and the output folder, and ends with "ready" or "not ready" and what
to do. Nothing is run, no weights are loaded or fetched, no worker is started; +culture may be left out.
Exit code: 0 if a run could begin, 1 if not, 2 for arguments that no run would take."""
STAND_IN = "+culture=arab"  # where no culture is given: none of what is checked depends on it


@dataclass(frozen=True)
class Asked:
    """What the arguments ask for: a run or the first job of a sweep, where it would write, and what starts it.

    `jobs` is the number of a sweep's jobs, None for a single run; `placed` the dtype and device of a run to continue.
    """

    settings: Settings
    folder: Path
    launcher: str
    launching: Mapping[str, Any]
    jobs: int | None
    resumed: bool
    placed: str | None


def main(arguments: Sequence[str]) -> int:
    """Compose, look, report. Returns the exit code."""
    given = set_pluses(arguments)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "--help" in given or "-h" in given:
        print(HELP)
        return 0
    try:
        given = resuming(given)
        if not any(argument.startswith(("+culture=", "resume=", "--config-name", "-cn")) for argument in given):
            given = [*given, STAND_IN]
        asked = read(given)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        say(explained(error, given))
        return 2
    return report(asked, Findings(Console()))


def read(given: Sequence[str]) -> Asked:
    """Compose the configuration as the main command would, and check its values.

    Raises
    ------
    UserError, HydraException, OmegaConfBaseException
        What the main command would refuse.
    """
    register_cultures()
    flags = get_args_parser().parse_args(list(given))
    jobs = planned(flags.overrides) if flags.multirun else [tuple(flags.overrides)]
    launcher = value_of("hydra/launcher", jobs[0]) or "basic"
    dropped = ("hydra/launcher=", "hydra.launcher.") if lacks_launcher(launcher) else ()  # reported later
    more = [f"hydra.searchpath=[file://{Path(flags.config_dir).absolute()}]"] if flags.config_dir else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config, *_ = (
            compose(
                flags.config_name or "config",
                [*(one for one in job if not one.startswith(dropped)), *more],
                return_hydra_config=True,
            )
            for job in jobs
        )
    folder = Path(config.hydra.sweep.dir if flags.multirun else config.hydra.run.dir)
    changed = [one for one in config.hydra.overrides.task if not one.startswith("resume=")]
    launching: Any = OmegaConf.to_container(config.hydra.launcher)
    with open_dict(config):
        del config["hydra"]
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    resumed = plain.pop("resume")
    if resumed:
        folder = Path(resumed)
        plain = overridden(RunDirectory(folder).stored_config(), plain, changed)
    settings = read_settings(plain)
    check_start(settings)
    if settings.survey.wording_file:
        load_instrument(settings.survey.wording_file)
    placed = RunDirectory(folder).info.model.get("placed") if resumed else None
    return Asked(settings, folder, launcher, launching, len(jobs) if flags.multirun else None, bool(resumed), placed)


def report(asked: Asked, findings: Findings) -> int:
    """Look at everything that a run would need, and print it. Returns the exit code."""
    settings, machine = asked.settings, this_machine()
    if asked.jobs:
        findings.section("sweep")
        findings.line("jobs", f"{asked.jobs}; what follows is about the first one")
        if asked.launcher == "evoprompt_ray":
            check_launcher(asked.launching, settings, machine, findings)
    show_machine(machine, findings)
    model = check_model(settings.model, machine, findings)
    if model is not None and asked.placed not in (None, model.placed):
        findings.problem(
            f"{asked.folder} was begun with {asked.placed} and would go on with {model.placed}; continue it on a "
            "machine like the first"
        )
    workers = check_executor(settings, machine, model, findings)
    if model is not None:
        check_optimizer(settings, model.footprint.hidden, workers, findings)
    check_packages(asked.launcher, findings)
    check_output(asked.folder, asked.resumed, findings)
    where = "" if model is None else f" on {model.device}"
    who = counted(workers, "Ray worker") if workers else "this process"
    return findings.close(f"{settings.model.name}{where}, evaluated by {who}")
