"""The run directory: its files, the lock on it, and what run.json says."""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import yaml

from evoprompt.errors import UserError
from evoprompt.files import read_json, write_text
from evoprompt.study.run_info import RunInfo, require_optimizer
from evoprompt.surveys.instrument import SPLITS

SCHEMA_VERSION = 2  # of 1 `optimizer` was a mere name, and `de` that of the portfolio


class TakenError(UserError):
    """A folder belongs to a run that goes on elsewhere or was asked for something else: nothing is written there."""


class RunDirectory:
    """A run's folder: the paths inside, and the run's account of itself."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.run = self.path / "run.json"
        self.journal = self.path / "journal.bin"
        self.history = self.path / "history.parquet"
        self.checkpoint = self.path / "checkpoint"
        self.metrics = self.path / "metrics.json"
        self.expert = self.path / "expert"
        self.space = self.path / "space.safetensors"
        self.people = self.path / "respondents.parquet"
        self.transcript = self.path / "transcript.jsonl"
        self.report = self.path / "report.html"
        self.lock = self.path / ".lock"

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the folder and write the configuration.

        Raises
        ------
        UserError
            The folder cannot be written, or holds a run already.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise UserError(
                f"cannot write to the output folder {self.path}: {error.strerror}; "
                "choose another with hydra.run.dir=<folder>"
            ) from None
        if self.config.exists():
            raise UserError(
                f"{self.path} holds a run already; continue it with resume={self.path}, or choose another folder"
            )
        write_text(self.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def stored_config(self) -> dict[str, Any]:
        """The configuration of the run that is here.

        Raises
        ------
        UserError
            There is none.
        """
        try:
            loaded = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            loaded = None
        if not isinstance(loaded, dict):
            raise UserError(f"resume={self.path} is not a run directory: it has no readable config.yaml")
        return loaded

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock goes with the process, however it ends.

        Raises
        ------
        TakenError
            Another process is running here.
        """
        while True:
            with self.lock.open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise TakenError(f"another process is running in {self.path}; wait for it, or end it") from None
                if _is_at(file, self.lock):  # else a refused run took it away before it let go of it
                    yield
                    return

    @cached_property
    def info(self) -> RunInfo:
        """What run.json says, read once: whoever holds the lock is the only one to write it."""
        return RunInfo.load(self.run)

    def remember(self, **changes: Any) -> None:
        """Change what run.json says."""
        self.info = replace(self.info, **changes)
        self.info.save(self.run)

    def read_metrics(self) -> dict[str, Any]:
        """What metrics.json holds; a loss or a bound that could not be measured, null there, is NaN.

        Raises
        ------
        UserError
            It cannot be read, is of another version, or lacks what a finished run measures.
        """
        path, metrics = self.metrics, read_json(self.metrics)
        found = metrics.get("schema_version")
        if found != SCHEMA_VERSION:
            more = "; there `de` names the portfolio that is `auto` today: run it again" if found == 1 else ""
            raise UserError(f"{path} has schema version {found!r}; this release reads version {SCHEMA_VERSION}{more}")
        if not all(isinstance(metrics.get(part), dict) for part in ("arms", "target", "optimizer")):
            raise UserError(f"{path} needs the objects `arms`, `target` and `optimizer`")
        require_optimizer(path, metrics["optimizer"])
        arms = {"naive": None, "evolved": None, **metrics["arms"]}
        measured = {f"arms.{arm}.{split}": _part(arms[arm], split) for arm in arms for split in SPLITS}
        asked_again = metrics.get("confirmation") or {}
        measured |= {f"confirmation.{arm}": _part(asked_again, arm) for arm in asked_again}
        for where, one in measured.items():
            _require_measured(f"{path}: {where}", one)
            numbers = [math.nan if value is None else value for value in (one["loss"], *one["interval"])]
            one["loss"], one["interval"] = numbers[0], numbers[1:]
        return metrics


@dataclass(frozen=True, eq=False)
class RunResult:
    """A finished run's metrics, as metrics.json has them but NaN where it has null, and its folder."""

    metrics: Mapping[str, Any]
    directory: RunDirectory


def _is_at(file: IO[str], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _part(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else None


def _require_measured(where: str, measured: Any) -> None:
    if not isinstance(measured, dict):
        raise UserError(f"{where} is missing; a finished run measures it")
    loss, bounds, scores = (measured.get(key, "missing") for key in ("loss", "interval", "dimensions"))
    if not isinstance(loss, int | float | None):
        raise UserError(f"{where}.loss is {loss!r}; it should be a number, or null where it could not be measured")
    if not isinstance(bounds, list) or [isinstance(bound, int | float | None) for bound in bounds] != [True, True]:
        raise UserError(f"{where}.interval is {bounds!r}; it should be two numbers, or two nulls")
    if not isinstance(scores, dict):
        raise UserError(f"{where}.dimensions is {scores!r}; it should be an object of scores by dimension")
