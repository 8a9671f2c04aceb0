"""The runs below a folder: a row each, as tables and plots of a sweep need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprompt.errors import UserError
from evoprompt.report.cautions import doubt, gains
from evoprompt.report.elements import culture_name
from evoprompt.report.files import parsed_config, read_metrics, read_text
from evoprompt.report.method import respondent_words, space_words
from evoprompt.report.numbers import finite
from evoprompt.study.sweepdir import SweepDirectory

LOSSES = ("naive", "persona", "icl", "evolved")
METHOD = ("model", "optimizer", "space", "placement", "respondent")
CHECKS = ("label_mass", "invalid_rate", "confirmed_loss")  # of the evolved prompt, on held-out wordings
COLUMNS = ("run", "culture", "seed", *METHOD, *LOSSES, *CHECKS, "perplexity_ratio", "kl")


@dataclass(frozen=True)
class Row:
    """One run of a sweep.

    `method` has the words of each of `METHOD`: a name, then the options that it was used with. `losses` are held-out,
    None for an arm that was not or could not be measured; `searched_gain` is by how many points the evolved prompt
    lowered naive's loss on the searched wordings; `checks` as named by `CHECKS`. `doubtful` runs have one that
    takes the loss back.
    """

    folder: str
    culture: str
    name: str
    seed: Any
    method: tuple[tuple[str, ...], ...]
    losses: tuple[float | None, ...]
    searched_gain: float | None
    checks: tuple[float | None, ...]
    doubtful: bool
    perplexity_ratio: float | None
    kl: float | None

    def loss(self, arm: str) -> float | None:
        """Held-out loss of an arm."""
        return self.losses[LOSSES.index(arm)]

    @property
    def gain(self) -> float | None:
        """Points by which the evolved prompt lowered naive's loss on held-out wordings."""
        before, after = self.loss("naive"), self.loss("evolved")
        return None if before is None or after is None else before - after

    @property
    def cells(self) -> tuple[Any, ...]:
        """In the order of `COLUMNS`."""
        method = (", ".join(words) for words in self.method)
        cost = (self.perplexity_ratio, self.kl)
        return (self.folder, self.culture, self.seed, *method, *self.losses, *self.checks, *cost)


def find_runs(folder: Path) -> list[Path]:
    """Finished runs below a folder, in the order of their paths."""
    return sorted(path.parent for path in folder.rglob("metrics.json") if (path.parent / "config.yaml").is_file())


def read_sweep(folder: Path) -> tuple[list[Row], list[str]]:
    """Rows of all readable runs, and a line for each that cannot be read or has no result, with the reason.

    Raises
    ------
    UserError
        There is no finished run below the folder.
    """
    rows, skipped = [], []
    for found in find_runs(folder):
        try:
            rows.append(_row(found, folder))
        except UserError as error:
            skipped.append(str(error))
    jobs = [job for multirun in sorted(folder.rglob("multirun.yaml")) for job in SweepDirectory(multirun.parent).jobs()]
    skipped += [f"{job.name}: {job.reason}" for job in jobs if not job.finished]
    for config in sorted(folder.rglob("config.yaml")):
        run = config.parent
        unfinished = (run / "run.json").is_file() and not (run / "metrics.json").is_file()
        if unfinished and run not in [job.folder for job in jobs]:
            skipped.append(f"{run} is not finished")
    if not rows:
        more = f" ({'; '.join(skipped)})" if skipped else ""
        raise UserError(f"{folder} is neither a run directory nor holds a finished run{more}")
    return sorted(rows, key=lambda row: (row.culture, row.method, str(row.seed).zfill(12))), skipped


def _row(run: Path, folder: Path) -> Row:
    metrics, config = read_metrics(run), parsed_config(read_text(run / "config.yaml"))
    arms, cost = metrics["arms"], metrics.get("cost") or {}
    words = {"space": space_words(metrics, config), "respondent": respondent_words(metrics, config)}
    evolved, confirmed = arms["evolved"]["held_out"], (metrics.get("confirmation") or {}).get("evolved") or {}
    return Row(
        folder=run.relative_to(folder).as_posix(),
        culture=str(metrics.get("culture")),
        name=culture_name(metrics),
        seed=metrics.get("seed"),
        method=tuple(words.get(name) or (str(metrics.get(name) or "–"),) for name in METHOD),
        searched_gain=finite(gains(metrics)["searched"]),
        losses=tuple(finite(arms[arm]["held_out"]["loss"]) if arm in arms else None for arm in LOSSES),
        checks=(*(finite(evolved.get(key)) for key in CHECKS[:2]), finite(confirmed.get("loss"))),
        doubtful=doubt(metrics) is not None,
        perplexity_ratio=cost.get("perplexity_ratio"),
        kl=cost.get("kl"),
    )


def grouped(rows: Sequence[Row]) -> dict[tuple[str, tuple[tuple[str, ...], ...]], list[Row]]:
    """The runs of each culture and method, which differ in their seeds only."""
    groups: dict[tuple[str, tuple[tuple[str, ...], ...]], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.name, row.method), []).append(row)
    return groups


def shown_methods(rows: Sequence[Row]) -> list[list[str]]:
    """Each row's method in few words: the options that all runs of a name share are left out."""
    shown = [list[str]() for _ in rows]
    for column in range(len(METHOD)):
        for line, row in zip(shown, rows, strict=True):
            name, *options = row.method[column]
            alike = [other.method[column] for other in rows if other.method[column][0] == name]
            told = (option for option in options if not all(option in words for words in alike))
            line.append(", ".join((name, *told)))
    return shown


def told_apart(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Those of `METHOD` in which the runs differ, and each row's words for these."""
    shown = shown_methods(rows)
    differing = [column for column in range(len(METHOD)) if len({words[column] for words in shown}) > 1]
    return [METHOD[column] for column in differing], [[words[column] for column in differing] for words in shown]
