"""The main command: `python -m evoprompt.run +culture=arab`."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from evoprompt.errors import UserError, unknown_name
from evoprompt.surveys import cultures

PACKAGED = Path(__file__).parent / "conf"
CONF = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[1] / "conf"  # the latter in a checkout
GROUPS = ("model", "optimizer", "space", "respondent", "executor")
CULTURE_KEYS = ("key", "name", "place", "targets")


class _Lines(logging.Handler):
    """Shows each of the package's warnings once, as a line on stderr."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if message not in self.shown:
            self.shown.add(message)
            print(f"evoprompt: {message}", file=sys.stderr)


_lines = _Lines()


def _register_cultures() -> None:
    """Every culture is a member of the config group `culture`, taken from the target tables."""
    store = ConfigStore.instance()
    for culture in cultures().values():
        node = {"key": culture.key, "targets": dict(culture.targets)}
        store.store(group="culture", name=culture.key, node=node)
    custom = dict.fromkeys(CULTURE_KEYS) | {"key": "custom", "name": "custom"}
    store.store(group="culture", name="custom", node=custom)


def _check_choices(arguments: Sequence[str]) -> None:
    """Name what is wrong with a culture or a group choice before Hydra composes anything.

    Raises
    ------
    UserError
        No culture, or an unknown name with the closest ones.
    """
    given = dict(argument.lstrip("+").split("=", 1) for argument in arguments if "=" in argument)
    known = {group: {path.stem for path in (CONF / group).glob("*.yaml")} for group in GROUPS}
    known["culture"] = {*cultures(), "custom"}
    if any(argument.startswith(("--config-dir", "-cd", "--config-name", "-cn")) for argument in arguments):
        return  # the user's own files may name more
    for group, names in known.items():
        for choice in given.get(group, "").split(","):
            if choice and not choice.startswith(("range(", "choice(", "glob(", "'", '"')) and choice not in names:
                hint = "; for any other model use model.name=<hub name or folder>" if group == "model" else ""
                raise UserError(f"{unknown_name(group, choice, names)}{hint}")
    asks_only = any(
        argument in ("--help", "-h", "--hydra-help", "--version", "--info", "--cfg") for argument in arguments
    )
    if "culture" not in given and "resume" not in given and not asks_only:
        raise UserError(f"no culture given; add +culture=<name>, one of: {', '.join(sorted(known['culture']))}")


def _refused_key(refusal: str, arguments: Sequence[str]) -> str | None:
    """What to do about a key that Hydra could not override; None for any other refusal."""
    found = re.match(r"Could not override '([^']+)'", refusal)
    if not found:
        return None
    key = found[1]
    group, _, name = key.partition(".")
    folder = next((argument.split("=", 1)[1] for argument in arguments if argument.startswith("resume=")), None)
    if folder:
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


def _plus_for_culture(arguments: Sequence[str]) -> list[str]:
    """`culture=arab` means `+culture=arab`: there is no default culture that it could replace."""
    return [f"+{argument}" if argument.startswith("culture=") else argument for argument in arguments]


_refused: list[str] = []  # what stopped jobs of this command; kept from Hydra, which would show it at length


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _job(config: DictConfig) -> float:
    """One run; a sweep calls it once a job, and a job that is refused leaves the others alone.

    Returns the held-out loss, NaN for a refused job.
    """
    try:
        return _run(config)
    except (UserError, OmegaConfBaseException) as error:
        job = HydraConfig.get().job
        where = f"job {job.num} ({job.override_dirname}): " if HydraConfig.get().mode == RunMode.MULTIRUN else ""
        _refused.append(where + " ".join(str(error).split()))
        return float("nan")


def _run(config: DictConfig) -> float:
    from evoprompt.report import write_report
    from evoprompt.study import closing_table, run_job

    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    output = Path(HydraConfig.get().runtime.output_dir)
    given = [override for override in HydraConfig.get().overrides.task if not override.startswith("resume=")]
    console = Console(soft_wrap=True)
    try:
        outcome = run_job(plain, output, given, console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"; continue with: python -m evoprompt.run resume={plain['resume'] or output}"
        ) from None
    if plain["report"]:
        write_report(outcome.directory.path)
    closing_table(outcome, console)
    return float(outcome.metrics["arms"]["evolved"]["held_out"]["loss"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, build, run. Returns the exit code: 0, 2 for bad input, 130 when interrupted."""
    given = _plus_for_culture(sys.argv[1:] if arguments is None else arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors come here, to be shown as one line
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = logging.getLogger("evoprompt")
    own.addHandler(_lines)  # Hydra's logging is off
    own.propagate = False
    _register_cultures()
    try:
        _check_choices(given)
        resumes = any(argument.startswith("resume=") for argument in given)
        if resumes and not any(argument.startswith("hydra.run.dir=") for argument in given):
            given = [*given, "hydra.run.dir=."]
        sys.argv = [sys.argv[0], *given]
        _job()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        message = _refused_key(str(error), given) or " ".join(str(error).split())
        print(f"evoprompt: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"evoprompt: interrupted{stop}", file=sys.stderr)
        return 130
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        print(
            f"evoprompt: cannot write {error.filename}: {error.strerror}; choose hydra.run.dir=<folder>",
            file=sys.stderr,
        )
        return 2
    for message in _refused:
        print(f"evoprompt: {message}", file=sys.stderr)
    return 2 if _refused else 0


if __name__ == "__main__":
    sys.exit(main())
