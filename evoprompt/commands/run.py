"""The main command: `evoprompt run +culture=arab`."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evoprompt.commands import sweep
from evoprompt.commands.start import say
from evoprompt.commands.sweep import one_line, resume_arguments
from evoprompt.errors import UserError, unknown_name
from evoprompt.study.sweepdir import SweepDirectory
from evoprompt.surveys import cultures

PACKAGED = Path(__file__).parents[1] / "conf"
CONF = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[2] / "conf"  # the latter in a checkout
GROUPS = ("model", "optimizer", "space", "respondent", "executor")
CULTURE_KEYS = ("key", "name", "place", "targets")
ASKING = {"--help", "-h", "--hydra-help", "--version", "--info", "--cfg", "-sc", "--shell-completion"}
RESUME = "python -m evoprompt.run resume="


class _Lines(logging.Handler):
    """Shows each of the package's warnings once, as a line on stderr."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if message not in self.shown:
            self.shown.add(message)
            say(message)


_lines = _Lines()


def register_cultures() -> None:
    """Every culture is a member of the config group `culture`, taken from the target tables."""
    store = ConfigStore.instance()
    for culture in cultures().values():
        node = {"key": culture.key, "targets": dict(culture.targets)}
        store.store(group="culture", name=culture.key, node=node)
    custom = dict.fromkeys(CULTURE_KEYS) | {"key": "custom", "name": "custom"}
    store.store(group="culture", name="custom", node=custom)


def require_culture(arguments: Sequence[str]) -> None:
    """Refuse a run without a culture, unless a configuration of the user's own may name one."""
    known = ("+culture=", "resume=", "--config-dir", "-cd", "--config-name", "-cn")
    if not any(argument.startswith(known) or argument in ASKING for argument in arguments):
        raise UserError(f"no culture given; add +culture=<name>, one of: {', '.join(sorted([*cultures(), 'custom']))}")


def explained(error: Exception, arguments: Sequence[str]) -> str:
    """What a refusal says, on one line; of a name or a key that Hydra does not know, what to do about it."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        hint = "; for any other model use model.name=<hub name or folder>" if group == "model" else ""
        return f"{unknown_name(group, choice, error.options)}{hint}"
    found = re.match(r"Could not override '([^']+)'", str(error))
    return (_about_key(found[1], arguments) if found else None) or one_line(error)


def _about_key(key: str, arguments: Sequence[str]) -> str | None:
    """What to do about a key that Hydra could not override; None where its own words are as good."""
    group, _, name = key.partition(".")
    if folder := value_of("resume", arguments):
        return f"a continued run takes its settings from {folder}; leave {key} out"
    if group in ("hydra", "optimizer"):  # an optimizer takes more than its file lists, by +optimizer.<option>
        return None
    main = _content(CONF / "config.yaml") | {"culture": dict.fromkeys(CULTURE_KEYS)}
    owners = {path.stem: _content(path) for path in sorted((CONF / group).glob("*.yaml")) if group in GROUPS}
    having = [choice for choice, own in owners.items() if name in own]
    if having:
        return f"{key} belongs to {group}={' or '.join(having)}; choose that too, or leave {key} out"
    common = _content(CONF / f"{group}_defaults.yaml") if owners else main.get(group)
    if not name or not isinstance(common, dict):
        return str(unknown_name("key", key, {*main, *GROUPS}))
    return str(unknown_name(f"key {group}.*", name, set(common).union(*owners.values())))


def _content(path: Path) -> dict[str, Any]:
    """What a configuration file says but for what is Hydra's; nothing where there is no file."""
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
    return {key: value for key, value in content.items() if key not in ("defaults", "hydra")}


def value_of(key: str, arguments: Sequence[str]) -> str | None:
    """What the arguments set a key to; None where they do not."""
    return next((argument.split("=", 1)[1] for argument in arguments if argument.startswith(f"{key}=")), None)


def set_pluses(arguments: Sequence[str]) -> list[str]:
    """`culture=arab` means `+culture=arab`, as no default is there to replace; for `resume` a plus says nothing."""
    pairs = [argument.partition("=") for argument in arguments]
    meant = {"culture": "+culture", "resume": "resume"}
    return [f"{meant.get(key.lstrip('+'), key)}{equals}{value}" for key, equals, value in pairs]


def main(arguments: Sequence[str]) -> int:
    """Parse, build, run.

    Returns the exit code: 0, 1 if a job of a sweep crashed or is not finished, 2 for bad input, 130 when interrupted.
    """
    given = set_pluses(arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors come here, to be shown as one line
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = logging.getLogger("evoprompt")
    own.addHandler(_lines)  # Hydra's logging is off
    own.propagate = False
    register_cultures()
    try:
        given = resuming(given)
        require_culture(given)
        sys.argv = [sys.argv[0], *given]
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(sweep.hydra_job)()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return _stopped(explained(error, given), 2)
    except sweep.SweepRefused as error:
        return _stopped(str(error), 2)
    except KeyboardInterrupt as stop:
        return _stopped(f"interrupted{stop if sweep.begun is None else ''}", 130)
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        key = "hydra.run.dir" if sweep.begun is None else "hydra.sweep.dir"
        return _stopped(f"cannot write {error.filename}: {error.strerror}; choose {key}=<folder>", 2)
    except Exception as error:
        if sweep.begun is None:
            raise
        crash = sweep.begun.path / "crash.txt"
        crash.write_text(traceback.format_exc(), encoding="utf-8")
        _list_jobs(sweep.begun)
        return _stopped(f"the launcher gave up: {one_line(error):.200}; the traceback is in {crash}", 1)
    for message in sweep.refused:
        say(message)
    return max(_list_jobs(sweep.begun) if sweep.begun else 0, 2 if sweep.refused else 0)


def resuming(given: list[str]) -> list[str]:
    """Arguments that continue the run or the sweep that `resume` names; the same if it is not there."""
    folder = value_of("resume", given)
    if folder is None:
        return given
    directory = SweepDirectory(folder)
    if directory.multirun.is_file():
        return resume_arguments(directory, [argument for argument in given if not argument.startswith("resume=")])
    return given if any(argument.startswith("hydra.run.dir=") for argument in given) else [*given, "hydra.run.dir=."]


def _stopped(message: str, code: int) -> int:
    """Say what stopped the command, and how a sweep goes on if some of its jobs have begun. Returns the exit code."""
    say(message)
    jobs = sweep.begun.jobs() if sweep.begun else []
    if sweep.begun and any(job.folder for job in jobs):
        left = sum(not job.finished for job in jobs)
        say(f"{left} of {len(jobs)} jobs have no result; continue with: {RESUME}{sweep.begun.path}")
    return code


def _list_jobs(directory: SweepDirectory) -> int:
    """Name the jobs of a sweep that were finished before and those that have no result. Returns the exit code."""
    jobs = directory.jobs()
    for job in jobs:
        if job.state == "skipped":
            print(f"{job.name}: finished already")
    failed = [job for job in jobs if not job.finished]
    if len(failed) < len(jobs):
        print(f"one table and a page of all {len(jobs)} jobs: python -m evoprompt.report {directory.path}")
    for job in failed:
        say(f"{job.name}: {job.reason}")
    if any(job.state != "refused" for job in failed):
        return 1
    return 2 if failed else 0
