"""The files of a run directory, read and checked, and those that a report writes into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evoprompt import files
from evoprompt.errors import UserError
from evoprompt.study.run_info import RunInfo
from evoprompt.study.rundir import RunDirectory
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
    directory, config = RunDirectory(folder), folder / "config.yaml"
    metrics, info = directory.read_metrics(), directory.info
    metrics["target"] = {name: metrics["target"].get(name) for name in DIMENSIONS}
    metrics["cost"] = {**dict.fromkeys(COST), **(metrics.get("cost") or {})}
    try:
        return Run(folder, metrics, info, config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {config}: {error}") from None


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
