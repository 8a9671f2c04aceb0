"""Result files: CSV with a row per run, appended as runs end, and remarks on where they were made."""

from __future__ import annotations

import csv
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ResultFile", "machine", "processor", "read", "remarks", "rows"]

_PACKAGES = (
    "evoprompt", "numpy", "scipy", "coco-experiment", "nevergrad", "cma", "cmaes", "minionpy", "pymoo", "pygmo",
    "evosax", "jax", "torch", "transformers", "safetensors",
)  # fmt: skip


class ResultFile:
    """Rows on disk; each is written once, so that an interrupted benchmark goes on where it was.

    Parameters
    ----------
    path : path-like
    columns : sequence of str
    key : sequence of str
        The columns that tell one run from another.
    """

    def __init__(self, path: str | os.PathLike[str], columns: Sequence[str], key: Sequence[str]) -> None:
        self.path, self.columns, self.key = Path(path), list(columns), list(key)
        self._present: set[tuple[str, ...]] = set()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._present = {tuple(row[name] for name in self.key) for row in rows(self.path)}
        else:
            self._append(",".join(self.columns) + "\n")
        self._remarked = False

    def __contains__(self, row: Mapping[str, Any]) -> bool:
        return tuple(str(row[name]) for name in self.key) in self._present

    def add(self, row: Mapping[str, Any]) -> None:
        """Write one row, and before the first of this process where it was made."""
        if not self._remarked:
            self._append("".join(f"# {line}\n" for line in machine()))
            self._remarked = True
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([_plain(row[name]) for name in self.columns])
        self._present.add(tuple(str(row[name]) for name in self.key))

    def _append(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("#", "").replace("\n", " ")
    return f"{value:.9g}" if isinstance(value, float) else value


def rows(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Rows of one result file as texts, in the order they were written."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def read(paths: Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """Rows of several result files."""
    import pandas as pd  # the benchmarks that run on a bare machine do without

    how: dict[str, Any] = {"comment": "#", "keep_default_na": False, "na_values": ["nan"]}
    return pd.concat([pd.read_csv(path, **how) for path in paths], ignore_index=True)


def remarks(path: str | os.PathLike[str]) -> str:
    """Where the rows of a file were made: its remarks, each once, as a Markdown list."""
    lines = [line[2:].strip() for line in Path(path).read_text().splitlines() if line.startswith("# ")]
    return "\n".join(f"- {line}" for line in dict.fromkeys(lines)) + "\n"


def machine() -> list[str]:
    """The command, the machine and the versions, a line each."""
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    command = " ".join([f"-m {spec.name}" if spec else Path(sys.argv[0]).name, *sys.argv[1:]])
    return [
        f"command: python {command}",
        f"machine: {processor()}, {os.cpu_count()} cores, {platform.system()}",
        f"versions: Python {platform.python_version()}, {', '.join(versions)}",
    ]


def processor() -> str:
    """The model of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
