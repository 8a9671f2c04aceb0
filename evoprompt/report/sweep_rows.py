"""The runs below a folder: a row each, as tables and plots of a sweep need them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprompt.errors import UserError
from evoprompt.report.cautions import Caution, Doubt, doubt, gains, noted, warnings
from evoprompt.report.files import csv_bytes, parsed_config, read_metrics, read_text
from evoprompt.report.method import METHOD, flattened, method_words
from evoprompt.report.numbers import finite
from evoprompt.report.rendering import culture_name
from evoprompt.study.run_info import RunInfo
from evoprompt.study.sweepdir import SweepDirectory

LOSSES = ("naive", "persona", "icl", "evolved")
CHECKS = ("label_mass", "invalid_rate", "confirmed_loss")  # of the evolved prompt, on held-out wordings
RECORDED = ("model", "instrument", "scoring", "versions")  # parts of run.json that say what a run was made with

Method = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Row:
    """One run of a sweep.

    `method` has the words of each of `METHOD`: a name, then the options that it was used with; `stages` are the
    evaluations that each stage of the optimizer took. `losses` are held-out, None for an arm that was not or could not
    be measured; `searched_gain` is by how many points the evolved prompt lowered naive's loss on the searched wordings;
    `checks` as named by `CHECKS`; `doubt` is what takes a lower loss back. `config` and `made_with` have a value for
    every dotted key.
    """

    folder: str
    culture: str
    name: str
    seed: Any
    method: Method
    stages: Mapping[str, int]
    losses: tuple[float | None, ...]
    searched_gain: float | None
    checks: tuple[float | None, ...]
    doubt: Doubt | None
    cautions: tuple[Caution, ...]
    perplexity_ratio: float | None
    kl: float | None
    config: Mapping[str, Any]
    made_with: Mapping[str, Any]

    def loss(self, arm: str) -> float | None:
        """Held-out loss of an arm."""
        return self.losses[LOSSES.index(arm)]

    @property
    def gain(self) -> float | None:
        """Points by which the evolved prompt lowered naive's loss on held-out wordings."""
        before, after = self.loss("naive"), self.loss("evolved")
        return None if before is None or after is None else before - after


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
    return sorted(rows, key=lambda row: (row.culture, row.name, row.method, str(row.seed).zfill(12))), skipped


def _row(run: Path, folder: Path) -> Row:
    metrics, config = read_metrics(run), parsed_config(read_text(run / "config.yaml"))
    info = RunInfo.load(run / "run.json")
    arms, cost, settings = metrics["arms"], metrics.get("cost") or {}, flattened(config)
    evolved, confirmed = arms["evolved"]["held_out"], (metrics.get("confirmation") or {}).get("evolved") or {}
    return Row(
        folder=run.relative_to(folder).as_posix(),
        culture=str(metrics.get("culture")),
        name=_name(metrics),
        seed=metrics.get("seed"),
        method=method_words(metrics, config),
        stages=metrics["optimizer"].get("stages") or {},
        searched_gain=finite(gains(metrics)["searched"]),
        losses=tuple(finite(arms[arm]["held_out"]["loss"]) if arm in arms else None for arm in LOSSES),
        checks=(*(finite(evolved.get(key)) for key in CHECKS[:2]), finite(confirmed.get("loss"))),
        doubt=doubt(metrics),
        cautions=(*warnings(metrics, config), *noted(info)),
        perplexity_ratio=cost.get("perplexity_ratio"),
        kl=cost.get("kl"),
        config=settings,
        made_with=_made_with(metrics, info, settings),
    )


def _name(metrics: Mapping[str, Any]) -> str:
    """The culture's name; custom ones that were given none are told apart by their targets."""
    name = culture_name(metrics)
    targets = [f"{key.upper()} {value}" for key, value in metrics["target"].items() if value is not None]
    return f"custom ({', '.join(targets)})" if name == "custom" else name


def _made_with(metrics: Mapping[str, Any], info: RunInfo, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings do not say: versions, fingerprints, and what was found out as the run began."""
    constant = metrics.get("constant") or {}
    found = {
        **flattened({part: found for part in RECORDED if (found := getattr(info, part))}),
        "target.edition": metrics.get("edition"),
        "constant.values": [round(value, 1) for value in constant.get("values") or ()] or None,
    }
    return {key: value for key, value in found.items() if value is not None and settings.get(key) != value}


def grouped(rows: Sequence[Row]) -> dict[tuple[str, Method], list[Row]]:
    """The runs of each culture and method, which differ in their seeds only."""
    groups: dict[tuple[str, Method], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.name, row.method), []).append(row)
    return groups


def of_several_cultures(rows: Sequence[Row]) -> dict[tuple[str, Method], list[Row]]:
    """The runs of each method that was tried on several cultures, named by how many these are."""
    methods: dict[Method, list[Row]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    counts = {method: len({row.name for row in members}) for method, members in methods.items()}
    return {(f"{counts[method]} cultures", method): methods[method] for method in methods if counts[method] > 1}


def shown_methods(rows: Sequence[Row]) -> list[list[str]]:
    """Each row's method in few words: options that it has as most runs of a name have them are left out."""
    shown = [list[str]() for _ in rows]
    for column in range(len(METHOD)):
        usual = _usual([row.method[column] for row in rows])
        for line, row in zip(shown, rows, strict=True):
            name, *options = row.method[column]
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
    counts = {
        name: Counter(option for other, *options in words for option in options if other == name) for name in names
    }
    return {name: [one for one, count in counts[name].items() if 2 * count > names[name]] for name in names}


def told_apart(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Those of `METHOD` in which the runs differ, and each row's words for these."""
    shown = shown_methods(rows)
    differing = [column for column in range(len(METHOD)) if len({words[column] for words in shown}) > 1]
    return [METHOD[column] for column in differing], [[words[column] for column in differing] for words in shown]


def full_words(row: Row) -> list[str]:
    """The row's method with every option, as the CSV files have it."""
    return [", ".join(filter(None, words)) for words in row.method]


def sweep_csv(rows: Sequence[Row]) -> bytes:
    """A row per run."""
    head = ("run", "culture", "seed", *METHOD, "stages", *LOSSES, *CHECKS, "perplexity_ratio", "kl")
    lines = []
    for row in rows:
        measured = (*row.losses, *row.checks, row.perplexity_ratio, row.kl)
        stages = ", ".join(f"{name}={count}" for name, count in row.stages.items())
        lines.append((row.folder, row.culture, row.seed, *full_words(row), stages, *measured))
    return csv_bytes(head, lines)
