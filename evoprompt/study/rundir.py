"""The run directory: its files, the lock on it, and what run.json says."""

from __future__ import annotations

import fcntl
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from evoprompt.errors import UserError
from evoprompt.files import write_text
from evoprompt.study.json_files import read_json
from evoprompt.study.run_info import RunInfo, require_optimizer

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
        with self.lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise TakenError(f"another process is running in {self.path}; wait for it, or end it") from None
            yield

    @cached_property
    def info(self) -> RunInfo:
        """What run.json says, read once: whoever holds the lock is the only one to write it."""
        return RunInfo.load(self.run)

    def remember(self, **changes: Any) -> None:
        """Change what run.json says."""
        self.info = replace(self.info, **changes)
        self.info.save(self.run)

    def read_metrics(self) -> dict[str, Any]:
        """What metrics.json holds; a loss that could not be measured, null there, is NaN.

        Raises
        ------
        UserError
            It cannot be read, or is of another version.
        """
        metrics = read_json(self.metrics)
        require_schema(self.metrics, metrics)
        require_optimizer(self.metrics, metrics["optimizer"])
        for splits in metrics["arms"].values():
            for found in splits.values():
                found["loss"] = math.nan if found["loss"] is None else found["loss"]
        return metrics


def require_schema(path: Path, metrics: Mapping[str, Any]) -> None:
    """Refuse the metrics of another version.

    Raises
    ------
    UserError
        Says which versions, and what the difference means.
    """
    found = metrics.get("schema_version")
    if found != SCHEMA_VERSION:
        more = "; there `de` names the portfolio that is `auto` today: run it again" if found == 1 else ""
        raise UserError(f"{path} has schema version {found!r}; this release reads version {SCHEMA_VERSION}{more}")
