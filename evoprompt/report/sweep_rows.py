"""The runs below a folder: a row each, as tables and plots of a sweep need them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprompt.errors import UserError
from evoprompt.report.cautions import Doubt, doubt, gains
from evoprompt.report.files import ARM_TITLES, COST, Run, csv_bytes, read_run
from evoprompt.report.method import METHOD, method_words
from evoprompt.report.numbers import finite, number, share
from evoprompt.report.rendering import culture_name
from evoprompt.study.sweepdir import SweepDirectory

LOSSES = tuple(ARM_TITLES)
CHECKS: dict[str, Callable[[Any], str]] = {  # of the evolved prompt, on held-out wordings, and how each is shown
    "label_mass": share,
    "invalid_rate": share,
    "confirmed_loss": number,
}
LABELS = ("run", "culture", "seed", *METHOD)

Method = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Row:
    """One run of a sweep.

    `method` has the words of each of `METHOD`: a name, then the options that it was used with; `stages` are the
    evaluations that each stage of the optimizer took. `losses` are held-out, by arm of `LOSSES`, None where one was not
    or could not be measured; `gains` are by how many points the evolved prompt lowered naive's loss, by split;
    `checks` are by name of `CHECKS`; `doubt` is what takes a lower loss back.
    """

    run: Run
    folder: str
    culture: str
    name: str
    seed: Any
    method: Method
    stages: Mapping[str, int]
    losses: Mapping[str, float | None]
    gains: Mapping[str, float | None]
    checks: Mapping[str, float | None]
    doubt: Doubt | None


def read_sweep(folder: Path) -> tuple[list[Row], list[str]]:
    """Rows of all readable runs, and a line for each that cannot be read or has no result, with the reason.

    Raises
    ------
    UserError
        There is no finished run below the folder.
    """
    rows, skipped = [], []
    for run in sorted(path.parent for path in folder.rglob("metrics.json")):
        try:
            if (run / "config.yaml").is_file():
                rows.append(_row(read_run(run), run.relative_to(folder).as_posix()))
        except UserError as error:
            skipped.append(str(error))
    jobs = [job for multirun in sorted(folder.rglob("multirun.yaml")) for job in SweepDirectory(multirun.parent).jobs()]
    skipped += [f"{job.name}: {job.reason}" for job in jobs if not job.finished]
    for run in sorted(path.parent for path in folder.rglob("config.yaml")):
        unfinished = (run / "run.json").is_file() and not (run / "metrics.json").is_file()
        if unfinished and run not in [job.folder for job in jobs]:
            skipped.append(f"{run} is not finished")
    if not rows:
        more = f" ({'; '.join(skipped)})" if skipped else ""
        raise UserError(f"{folder} is neither a run directory nor holds a finished run{more}")
    return sorted(rows, key=lambda row: (row.culture, row.name, row.method, str(row.seed).zfill(12))), skipped


def _row(run: Run, folder: str) -> Row:
    held_out = {arm: run.measured(arm, "held_out") for arm in run.arms}
    confirmed = (run.metrics.get("confirmation") or {}).get("evolved") or {}
    checks = {**held_out["evolved"], "confirmed_loss": confirmed.get("loss")}
    return Row(
        run=run,
        folder=folder,
        culture=str(run.metrics.get("culture")),
        name=_name(run.metrics),
        seed=run.metrics.get("seed"),
        method=method_words(run.metrics, run.settings),
        stages=run.metrics["optimizer"].get("stages") or {},
        losses={arm: finite(held_out[arm]["loss"]) if arm in held_out else None for arm in LOSSES},
        gains={split: finite(gain) for split, gain in gains(run.metrics).items()},
        checks={name: finite(checks.get(name)) for name in CHECKS},
        doubt=doubt(run.metrics),
    )


def _name(metrics: Mapping[str, Any]) -> str:
    """The culture's name; custom ones that were given none are told apart by their targets."""
    name = culture_name(metrics)
    targets = [f"{key.upper()} {value}" for key, value in metrics["target"].items() if value is not None]
    return f"custom ({', '.join(targets)})" if name == "custom" else name


def grouped(rows: Sequence[Row]) -> dict[tuple[str, Method], list[Row]]:
    """The runs of each culture and method, which differ in their seeds only."""
    groups: dict[tuple[str, Method], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.name, row.method), []).append(row)
    return groups


def shown_methods(rows: Sequence[Row]) -> dict[Method, list[str]]:
    """Each method in few words: options that it has as most runs of a name have them are left out."""
    shown: dict[Method, list[str]] = {row.method: [] for row in rows}
    for column in range(len(METHOD)):
        usual = _usual([row.method[column] for row in rows])
        for method, line in shown.items():
            name, *options = method[column]
            keys = {option.partition("=")[0] for option in options}
            told = [option for option in options if option not in usual[name]]
            lacked = [f"no {key}" for option in usual[name] if (key := option.partition("=")[0]) not in keys]
            line.append(", ".join(filter(None, (name, *told, *lacked))))
    return shown


def _usual(words: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
    """The options that more than half of the runs of a name have, by name.

    >>> _usual([("de", "popsize=9", "variant=jde"), ("de", "popsize=9"), ("cma",)])
    {'de': ['popsize=9'], 'cma': []}
    """
    names = Counter(name for name, *_ in words)
    used = Counter((name, option) for name, *options in words for option in options)
    return {name: [one for of, one in used if of == name and 2 * used[of, one] > names[name]] for name in names}


def told_apart(rows: Sequence[Row]) -> tuple[list[str], dict[Method, list[str]]]:
    """Those of `METHOD` in which the runs differ, and each method's words for these."""
    shown = shown_methods(rows)
    differing = [column for column in range(len(METHOD)) if len({words[column] for words in shown.values()}) > 1]
    told = {method: [words[column] for column in differing] for method, words in shown.items()}
    return [METHOD[column] for column in differing], told


def labels(row: Row) -> tuple[Any, ...]:
    """What the CSV files call a run, in the columns `LABELS`: the method with every option."""
    return (row.folder, row.culture, row.seed, *(", ".join(filter(None, words)) for words in row.method))


def sweep_csv(rows: Sequence[Row]) -> bytes:
    """A row per run."""
    lines = []
    for row in rows:
        stages = ", ".join(f"{name}={count}" for name, count in row.stages.items())
        cost = [row.run.metrics["cost"][key] for key in COST]
        lines.append((*labels(row), stages, *row.losses.values(), *row.checks.values(), *cost))
    return csv_bytes((*LABELS, "stages", *LOSSES, *CHECKS, *COST), lines)
