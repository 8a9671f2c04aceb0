"""The files of a run directory, read and checked, and those that a report writes into it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evoprompt import files
from evoprompt.errors import UserError
from evoprompt.study.json_files import read_json
from evoprompt.study.run_info import RunInfo, require_optimizer
from evoprompt.study.rundir import require_schema
from evoprompt.surveys import DIMENSIONS
from evoprompt.surveys.instrument import SPLITS

if TYPE_CHECKING:
    import pandas as pd

ARM_TITLES = {
    "naive": "no prompt",
    "persona": "persona line",
    "icl": "in-context examples",
    "evolved": "evolved prompt",
}
COST = ("perplexity_ratio", "kl")  # of the prompt, on neutral text
HISTORY_COLUMNS = ("evaluation", "loss", "failed")


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its folder and the contents of its files."""

    folder: Path
    metrics: Mapping[str, Any]
    info: RunInfo  # run.json
    config: str  # config.yaml, verbatim

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration that config.yaml holds; empty where that is no mapping."""
        try:
            loaded = yaml.safe_load(self.config)
        except yaml.YAMLError:
            return {}
        return loaded if isinstance(loaded, dict) else {}

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row for each evaluation.

        Raises
        ------
        UserError
            history.parquet cannot be read, or lacks a column.
        """
        import pandas as pd

        path = self.folder / "history.parquet"
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from None
        missing = [name for name in HISTORY_COLUMNS if name not in frame]
        if missing:
            raise UserError(f"{path} lacks the columns {', '.join(missing)}")
        return frame

    @property
    def arms(self) -> list[str]:
        """Names of the arms that were measured, evolved last."""
        return [arm for arm in ARM_TITLES if arm in self.metrics["arms"]]

    def measured(self, arm: str, split: str) -> Mapping[str, Any]:
        """What `metrics.json` holds of one arm on one split."""
        found: Mapping[str, Any] = self.metrics["arms"][arm][split]
        return found

    @property
    def measurements(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Split, arm, and what `metrics.json` holds of them."""
        return ((split, arm, self.measured(arm, split)) for split in SPLITS for arm in self.arms)


def read_run(folder: Path) -> Run:
    """Read the files of a finished run.

    Raises
    ------
    UserError
        The folder is not a run directory, the run is not finished, or a file cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"no run directory at {folder}; give the folder that holds a run's metrics.json")
    if not (folder / "metrics.json").is_file():
        if (folder / "config.yaml").is_file():
            raise UserError(f"the run in {folder} is not finished: no metrics.json; continue it with resume={folder}")
        raise UserError(f"{folder} is not a run directory: it has no metrics.json")
    metrics, info, config = read_metrics(folder), RunInfo.load(folder / "run.json"), folder / "config.yaml"
    try:
        return Run(folder, metrics, info, config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {config}: {error}") from None


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read and check `metrics.json`; a loss or an interval that could not be measured, null there, is NaN.

    A target or a part of the cost that is missing is None.

    Raises
    ------
    UserError
        It cannot be read, has another schema version, or lacks what a report needs.
    """
    path = folder / "metrics.json"
    metrics = read_json(path)
    require_schema(path, metrics)
    if not all(isinstance(metrics.get(part), dict) for part in ("arms", "target", "optimizer")):
        raise UserError(f"{path} needs the objects `arms`, `target` and `optimizer`")
    require_optimizer(path, metrics["optimizer"])
    metrics["target"] = {name: metrics["target"].get(name) for name in DIMENSIONS}
    metrics["cost"] = {**dict.fromkeys(COST), **(metrics.get("cost") or {})}
    for arm in ("naive", "evolved", *metrics["arms"]):
        for split in SPLITS:
            _check_measured(path, arm, split, metrics["arms"])
    confirmed = (metrics.get("confirmation") or {}).values()
    for measured in (*(splits[split] for splits in metrics["arms"].values() for split in SPLITS), *confirmed):
        known = (math.nan if one is None else one for one in (measured["loss"], *measured["interval"]))
        measured["loss"], *measured["interval"] = known
    return metrics


def _check_measured(path: Path, arm: str, split: str, arms: Mapping[str, Any]) -> None:
    found = arms.get(arm)
    measured = found.get(split) if isinstance(found, dict) else None
    where = f"{path}: arms.{arm}.{split}"
    if not isinstance(measured, dict):
        raise UserError(f"{where} is missing; a finished run measures it")
    loss, bounds, scores = (measured.get(key, "missing") for key in ("loss", "interval", "dimensions"))
    if not isinstance(loss, int | float | None):
        raise UserError(f"{where}.loss is {loss!r}; it should be a number, or null where it could not be measured")
    if not isinstance(bounds, list) or [isinstance(bound, int | float | None) for bound in bounds] != [True, True]:
        raise UserError(f"{where}.interval is {bounds!r}; it should be two numbers, or two nulls")
    if not isinstance(scores, dict):
        raise UserError(f"{where}.dimensions is {scores!r}; it should be an object of scores by dimension")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old or the new one, never a part.

    Raises
    ------
    UserError
        The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A CSV file with full-precision floats; None and NaN become empty cells."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(header), dtype=object)
    return frame.to_csv(index=False, lineterminator="\n").encode()


def arms_csv(run: Run) -> bytes:
    """A row per split and arm: loss and its interval."""
    rows = [(split, arm, found["loss"], *found["interval"]) for split, arm, found in run.measurements]
    return csv_bytes(("split", "arm", "loss", "low", "high"), rows)
