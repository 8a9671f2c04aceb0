"""The closing lines and tables of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evoprompt.study.run_info import optimizer_words
from evoprompt.study.rundir import RunResult
from evoprompt.surveys import DIMENSIONS
from evoprompt.surveys.quality import INVALID_LIMIT, LABEL_MASS_LIMIT, percent

SPLIT_TITLES = {"searched": "wordings used by the search", "held_out": "held-out wordings"}


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a line as it is: names and paths may hold what `rich` takes for markup."""
    console.print(text, style=style, markup=False, emoji=False)


def figure(value: float | None, digits: int = 1) -> str:
    """A number; `-` where there is none.

    >>> figure(1.25), figure(float("nan")), figure(None)
    ('1.2', '-', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def closing_table(result: RunResult, console: Console) -> None:
    """Print what limits the numbers, then losses, intervals and dimensions of every arm, the cost, and the files."""
    metrics, directory = result.metrics, result.directory
    _limits(metrics, console)
    for split, title in SPLIT_TITLES.items():
        console.print(_table(metrics, split, f"{metrics['culture_name']}, {title}"))
    for arm, found in metrics.get("confirmation", {}).items():
        say(
            console,
            f"{arm:8s} asked again in free text, held-out wordings: loss {figure(found['loss'])} "
            f"({_interval(found['interval'])}), {found['invalid_rate']:.1%} of the answers invalid",
            "yellow" if found["invalid_rate"] > INVALID_LIMIT else None,
        )
    cost = metrics["cost"]
    say(
        console,
        f"cost of the prompt on neutral text: perplexity x{figure(cost['perplexity_ratio'], 2)}, "
        f"KL {figure(cost['kl'], 3)} nats a token",
    )
    say(
        console,
        f"{optimizer_words(metrics['optimizer'])}: {metrics['evaluations']} evaluations, {metrics['failed']} failed, "
        f"stopped by {metrics['stopped']}, {metrics['seconds']:.0f} s",
    )
    if not metrics.get("served_by_peft", True):
        say(
            console,
            f"PEFT serves this prompt as a prefix, which is not where it was evolved ({metrics['placement']} "
            "placement); ask it through evoprompt, as the expert's README.md shows",
            "yellow",
        )
    if metrics["model"] == "pocket":
        say(console, "the pocket model is a simulator: these figures say nothing about people", "yellow")
    for name, path in (("expert", directory.expert), ("report", directory.report), ("metrics", directory.metrics)):
        if path.exists():
            console.print(Text(f"{name:8s}{_shown(path)}"))


def _limits(metrics: Mapping[str, Any], console: Console) -> None:
    """How many free-text answers were invalid; where options were scored, a warning if they are hardly ever said."""
    held_out = {arm: metrics["arms"][arm]["held_out"] for arm in ("naive", "evolved")}
    if metrics.get("invalid_rate") is not None:
        rates = {arm: found["invalid_rate"] for arm, found in held_out.items()}
        shares = ", ".join(f"{rate:.1%} {arm}" for arm, rate in rates.items())
        text = f"invalid free-text answers: {metrics['invalid_rate']:.1%} in the search, at the end {shares}"
        say(console, text, "yellow" if max(rates.values()) > INVALID_LIMIT else None)
    for arm, found in held_out.items():
        mass = found.get("label_mass")
        if mass is not None and mass < LABEL_MASS_LIMIT:
            say(
                console,
                f"{arm}: the model puts {percent(mass)} of its words on the labels, and its answers below are shares "
                "of that; respondent=sampled or survey.confirm=true shows what it says instead",
                "yellow",
            )


def _table(metrics: Mapping[str, Any], split: str, title: str) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left")
    table.add_column("")
    for title in ("loss", "95 % interval", *map(str.upper, DIMENSIONS)):
        table.add_column(title, justify="right")
    target = metrics["target"]
    table.add_row("target", "", "", *(figure(target[name], 0) for name in DIMENSIONS))
    for arm, splits in metrics["arms"].items():
        found = splits[split]
        scores = (figure(found["dimensions"][name], 0) for name in DIMENSIONS)
        style = "bold green" if arm == "evolved" else ""
        table.add_row(arm, figure(found["loss"]), _interval(found["interval"]), *scores, style=style)
    return table


def _interval(bounds: Sequence[float | None]) -> str:
    low, high = (figure(bound) for bound in bounds)
    return "-" if "-" in (low, high) else f"{low} .. {high}"


def _shown(path: Path) -> Path:
    with suppress(OSError, ValueError):  # the folder was deleted, or is none above it
        return path.relative_to(Path.cwd())
    return path
