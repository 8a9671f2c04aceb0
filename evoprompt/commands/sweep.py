"""Hydra's side of a run: the job that it calls, in whatever process its launcher chose, and the plan of a sweep."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from evoprompt.commands.start import LossyStream
from evoprompt.errors import UserError
from evoprompt.study.rundir import TakenError
from evoprompt.study.sweepdir import SweepDirectory, job_entry, note_failure

__all__ = ["Planner", "hydra_job", "one_line", "resume_arguments"]

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
FREE_ON_RESUME = re.compile(r"executor(\..+)?|hydra/launcher|hydra\.launcher\..+")

begun: SweepDirectory | None = None  # the sweep of this command; in a launcher's worker processes there is none
refused: list[str] = []  # what stopped runs whose folders do not say it; kept from Hydra, which would show it at length


class SweepRefused(BaseException):
    """A sweep that must not begin in its folder."""


class Planner(Callback):
    """Called by Hydra when a sweep begins: notes its folder, and which jobs it is to have."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Write `sweep.json`; only Hydra's own sweeper knows all of its jobs in advance."""
        global begun
        directory, sweeper = SweepDirectory(config.hydra.sweep.dir), config.hydra.sweeper
        if sweeper._target_ == BASIC_SWEEPER:
            fixed = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
            jobs = planned([*fixed, *config.hydra.overrides.task], GlobalHydra.instance().config_loader())
            try:
                directory.require_same(jobs)
            except TakenError as error:
                raise SweepRefused(one_line(error)) from None
            with contextlib.suppress(OSError):  # Hydra writes there next, and its error is shown
                directory.remember_plan(jobs)
        begun = directory


def planned(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[tuple[str, ...]]:
    """The overrides of each job, as Hydra's own sweeper numbers them."""
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [tuple(job) for job in jobs]


def hydra_job(config: DictConfig) -> float:
    """One run, alone or as a job of a sweep. Returns the held-out loss, NaN if it was refused or crashed.

    A job of a sweep that fails leaves the others alone: what happened goes to its folder, where the command finds it.
    """
    hydra = HydraConfig.get()
    output = Path(hydra.runtime.output_dir)
    given = list(hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        return _sweep_job(config, output, job_entry(hydra.job.num, given, (output / "metrics.json").exists()))
    try:
        return _single(config, output, [override for override in given if not override.startswith("resume=")])
    except (UserError, OmegaConfBaseException) as error:
        refused.append(one_line(error))
        with contextlib.suppress(OSError):  # goes only if nothing is in it
            if output.resolve() != Path.cwd():
                output.rmdir()
        return float("nan")


def _single(config: DictConfig, output: Path, given: Sequence[str]) -> float:
    from evoprompt.report import write_report
    from evoprompt.study import closing_table, run_job

    plain, console = _plain(config), Console(soft_wrap=True)
    try:
        result = run_job(plain, output, given, console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"; continue with: python -m evoprompt.run resume={plain['resume'] or output}"
        ) from None
    own = plain["resume"] and not any(_key(override) == "report" for override in given)
    if result.directory.stored_config().get("report", True) if own else plain["report"]:
        write_report(result.directory.path)
    closing_table(result, console)
    return _loss(result.metrics)


def _sweep_job(config: DictConfig, output: Path, job: dict[str, Any]) -> float:
    from evoprompt.report import write_report
    from evoprompt.study import closing_table, run_job
    from evoprompt.study.arms import AnswerCache

    hydra, crash = HydraConfig.get(), output / "crash.txt"
    sweep = SweepDirectory(Path(hydra.runtime.cwd, hydra.sweep.dir))
    crash.unlink(missing_ok=True)
    with _output_of(output):
        try:
            plain, console = _plain(config), Console(soft_wrap=True)
            result = run_job(plain, output, [], console, job, AnswerCache(sweep.answers))
            if plain["report"] and not (job["skipped"] and result.directory.report.exists()):
                write_report(output)
            if not job["skipped"]:
                closing_table(result, console)
        except TakenError as error:
            refused.append(f"{' '.join(job['overrides'])}: {one_line(error)}")
            return float("nan")
        except (UserError, OmegaConfBaseException) as error:
            note_failure(output, job, "refused", one_line(error))
            return float("nan")
        except Exception as error:
            crash.write_text(traceback.format_exc(), encoding="utf-8")
            note_failure(output, job, "crashed", f"{one_line(error)}; the traceback is in {crash}")
            return float("nan")
    loss = _loss(result.metrics)
    if begun is None and not job["skipped"]:
        name = sweep.name(job["number"], job["overrides"])
        print(f"{name}: held-out loss {loss:.1f}", flush=True)
    return loss


@contextlib.contextmanager
def _output_of(folder: Path) -> Iterator[None]:
    """Where jobs run beside each other in processes of their own, each writes to a log in its own folder."""
    if begun is not None:
        yield
        return
    with (
        (folder / "log.txt").open("a", encoding="utf-8", buffering=1) as log,
        contextlib.redirect_stdout(cast(TextIO, LossyStream(log))),
        contextlib.redirect_stderr(cast(TextIO, LossyStream(log))),
    ):
        yield


def _plain(config: DictConfig) -> dict[str, Any]:
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return plain


def _loss(metrics: Any) -> float:
    return float(metrics["arms"]["evolved"]["held_out"]["loss"])


def one_line(error: BaseException) -> str:
    """What an error says, on one line; an exception that is not about bad input is named."""
    text = " ".join(str(error).split())
    users = isinstance(error, UserError | HydraException | OmegaConfBaseException)
    return text if users else f"{type(error).__name__}: {text}"


def resume_arguments(sweep: SweepDirectory, given: Sequence[str]) -> list[str]:
    """The arguments with which the sweep in a folder was begun, for going on with it, perhaps on another executor.

    Raises `UserError` if anything else is given to change, or Hydra's `multirun.yaml` cannot be read.
    """
    changed = [argument for argument in given if argument not in ("-m", "--multirun")]
    for argument in changed:
        if not FREE_ON_RESUME.fullmatch(_key(argument)):
            raise UserError(
                f"resume={sweep.path} takes the sweep's settings from there; leave {argument} out "
                "(only hydra/launcher, hydra.launcher.*, executor and executor.* may change)"
            )
    try:
        hydra = yaml.safe_load(sweep.multirun.read_text(encoding="utf-8"))["hydra"]
        task, own = hydra["overrides"]["task"], hydra["overrides"]["hydra"]
        sources, name = hydra["runtime"]["config_sources"], hydra["job"]["config_name"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        raise UserError(f"resume={sweep.path} cannot be continued: {sweep.multirun} cannot be read") from None
    keys = {_key(argument) for argument in changed} | {"hydra.sweep.dir", "hydra.mode"}
    kept = [override for override in (*own, *task) if _key(override) not in keys]
    if "hydra/launcher" in keys:
        kept = [override for override in kept if not _key(override).startswith("hydra.launcher")]
    swept = [override for override in task if _key(override) in keys and len(planned([override])) > 1]
    if swept:
        raise UserError(f"resume={sweep.path} sweeps over {swept[0]}; leave {_key(swept[0])} out")
    flags = [f"--config-dir={source['path']}" for source in sources if source["provider"] == "command-line"]
    flags += [f"--config-name={name}"] if name != "config" else []
    where = str(sweep.path).replace("'", "\\'")
    return ["--multirun", *flags, *kept, *changed, f"hydra.sweep.dir='{where}'"]


def _key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0]
