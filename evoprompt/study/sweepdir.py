"""The folder of a sweep: its jobs, and what became of each.

Jobs may run in other processes and on other machines; what they have to say stands in their folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from evoprompt.errors import UserError
from evoprompt.files import read_json, write_json
from evoprompt.study.run_info import RunInfo
from evoprompt.study.rundir import RunDirectory, TakenError

NOT_THE_RESULT = ("executor", "report")  # overrides that may differ when a job is continued
State = Literal["finished", "skipped", "refused", "crashed", "unfinished", "waiting"]


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep: what it is called, its folder if it has one, and how it stands.

    A job is skipped if it was finished already when the sweep was continued, refused for bad input, waiting as long as
    it has not begun. `reason` says why it has no result.
    """

    name: str
    folder: Path | None = None
    state: State = "waiting"
    reason: str = "it has not begun, or left nothing in this folder"

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return self.state in ("finished", "skipped")


class SweepDirectory:
    """A sweep's folder: the paths inside, and its jobs."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.plan = self.path / "sweep.json"
        self.multirun = self.path / "multirun.yaml"  # Hydra's
        self.answers = self.path / "answers"  # of the frozen model under texts, for all jobs

    def require_same(self, jobs: Sequence[Sequence[str]]) -> None:
        """Refuse a plan without a job that has begun here under another: a sweep may grow, not change.

        Raises
        ------
        TakenError
            Names the first such job.
        """
        new = {_asked(overrides) for overrides in jobs}
        for job in self.jobs() if self._planned else ():
            overrides = _info(job.folder).job.get("overrides") if job.folder else None
            if overrides is not None and _asked(overrides) not in new:
                raise TakenError(
                    f"{self.path} holds a sweep with other settings, to which {job.name} belongs; go on with it by "
                    f"resume={self.path}, or choose another folder by hydra.sweep.dir"
                )

    def remember_plan(self, jobs: Sequence[Sequence[str]]) -> None:
        """Write down the overrides of every job that there is to be, in the order of their numbers."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.plan, {"jobs": [list(job) for job in jobs]})
        self.__dict__.pop("_planned", None)
        self.__dict__.pop("_shared", None)

    def jobs(self) -> list[SweepJob]:
        """Every job of the plan; where there is none, every job that has begun."""
        begun = {}
        for path in self.path.rglob("run.json"):
            info = _info(path.parent)
            if job := info.job:
                name = self.name(job["number"], job["overrides"])
                begun[_identity(job["number"], job["overrides"])] = _job(name, path.parent, info)
        if not self._planned:
            return [begun[identity] for identity in sorted(begun)]
        return [
            begun.get(_identity(number, overrides)) or SweepJob(self.name(number, overrides))
            for number, overrides in enumerate(self._planned)
        ]

    def name(self, number: int, overrides: Sequence[str]) -> str:
        """What a job is called: its number, and its overrides but for those that all jobs share.

        Examples
        --------
        >>> SweepDirectory("nowhere").name(3, ["+culture=arab", "seed=2"])
        'job 3 (+culture=arab seed=2)'
        """
        return f"job {number} ({' '.join(override for override in overrides if override not in self._shared)})"

    @cached_property
    def _planned(self) -> list[list[str]]:
        with suppress(UserError):
            planned: list[list[str]] = read_json(self.plan).get("jobs", [])
            return planned
        return []

    @cached_property
    def _shared(self) -> set[str]:
        return set.intersection(*map(set, self._planned)) if len(self._planned) > 1 else set()


def job_entry(number: int, overrides: Sequence[str], skipped: bool = False) -> dict[str, Any]:
    """What a job's run.json says under `job`."""
    return {"number": number, "overrides": list(overrides), "skipped": skipped}


def note_failure(folder: Path, job: Mapping[str, Any], kind: Literal["refused", "crashed"], reason: str) -> None:
    """Leave in a job's folder why it has no result."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = replace(_info(folder), status="failed", job=job, failure={"kind": kind, "reason": reason})
    failed.save(RunDirectory(folder).run)


def _identity(number: int, overrides: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """A job is the same when another executor goes on with it."""
    return number, tuple(one for one in overrides if not one.lstrip("+").startswith(NOT_THE_RESULT))


def _asked(overrides: Sequence[str]) -> frozenset[str]:
    """What a job was asked for, whatever its number."""
    return frozenset(one.lstrip("+") for one in _identity(0, overrides)[1])


def _job(name: str, folder: Path, info: RunInfo) -> SweepJob:
    if info.failure:
        state: Any = info.failure["kind"]
        return SweepJob(name, folder, state, info.failure["reason"])
    if RunDirectory(folder).metrics.exists():
        return SweepJob(name, folder, "skipped" if info.job["skipped"] else "finished", "")
    return SweepJob(name, folder, "unfinished", "it is not finished: it still runs, or its process was killed")


def _info(folder: Path) -> RunInfo:
    """What a job's run.json says; nothing where there is none to read."""
    try:
        return RunDirectory(folder).info
    except UserError:
        return RunInfo()
