"""The run directory: its files, who may write to it, and what it remembers."""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from evoprompt.errors import UserError

SCHEMA_VERSION = 1
PACKAGES = ("evoprompt", "numpy", "scipy", "torch", "transformers", "ray", "hydra-core", "nevergrad", "cma")


class TakenError(UserError):
    """A folder belongs to a run that goes on elsewhere or was asked for something else: nothing is written there."""


class RunDirectory:
    """Paths inside a run's folder."""

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
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise TakenError(f"another process is running in {self.path}; wait for it, or end it") from None
            yield

    def remember(self, **values: Any) -> None:
        """Add values to run.json, atomically."""
        write_json(self.run, {**self.recall(), **values})

    def recall(self) -> dict[str, Any]:
        """What run.json holds; empty before the first `remember`."""
        if not self.run.exists():
            return {}
        loaded: dict[str, Any] = json.loads(self.run.read_text(encoding="utf-8"))
        return loaded

    def read_metrics(self) -> dict[str, Any]:
        """What metrics.json holds; a loss that could not be measured, null there, is NaN."""
        metrics: dict[str, Any] = json.loads(self.metrics.read_text(encoding="utf-8"))
        for splits in metrics["arms"].values():
            for found in splits.values():
                found["loss"] = math.nan if found["loss"] is None else found["loss"]
        return metrics


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, as `write_text` does; JSON has no NaN: a number that is not finite becomes null."""
    write_text(path, json.dumps(as_json(value), indent=2, allow_nan=False) + "\n")


def as_json(value: Any) -> Any:
    """A value in which every number that is not finite is None.

    >>> as_json({"loss": float("nan"), "interval": (1.0, float("inf"))})
    {'loss': None, 'interval': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {key: as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
