"""The closing table of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evoprompt.study.study import Outcome
from evoprompt.surveys import DIMENSIONS

LEAST_LABEL_MASS = 0.5  # below which a scored distribution says little about what the model would answer
SPLIT_TITLES = {"searched": "wordings used by the search", "held_out": "held-out wordings"}


def closing_table(outcome: Outcome, console: Console) -> None:
    """Print losses, intervals and dimensions of every arm, the prompt's cost, and where the files are."""
    metrics, directory = outcome.metrics, outcome.directory
    for split, title in SPLIT_TITLES.items():
        console.print(_table(metrics, split, f"{metrics['culture_name']}, {title}"))
    for arm, found in metrics.get("confirmation", {}).items():
        low, high = found["interval"]
        console.print(
            f"{arm:8s} asked again in free text, held-out wordings: loss {found['loss']:.1f} "
            f"({low:.1f} .. {high:.1f}), {found['invalid_rate']:.1%} of the answers invalid"
        )
    cost = metrics["cost"]
    console.print(
        f"cost of the prompt on neutral text: perplexity x{cost['perplexity_ratio']:.2f}, "
        f"KL {cost['kl']:.3f} nats a token"
    )
    console.print(
        f"{metrics['evaluations']} evaluations, {metrics['failed']} failed, stopped by {metrics['stopped']}, "
        f"{metrics['seconds']:.0f} s"
    )
    _answers(metrics, console)
    if metrics["model"] == "pocket":
        console.print("the pocket model is a simulator: these figures say nothing about people", style="yellow")
    for name, path in (("expert", directory.expert), ("report", directory.report), ("metrics", directory.metrics)):
        if path.exists():
            console.print(f"{name:8s}{_shown(path)}", highlight=False)


def _answers(metrics: Mapping[str, Any], console: Console) -> None:
    """How many free-text answers were invalid; where options were scored, a warning if they are hardly ever said."""
    held_out = {arm: metrics["arms"][arm]["held_out"] for arm in ("naive", "evolved")}
    if metrics.get("invalid_rate") is not None:
        shares = ", ".join(f"{found['invalid_rate']:.1%} {arm}" for arm, found in held_out.items())
        console.print(f"invalid free-text answers: {metrics['invalid_rate']:.1%} in the search, at the end {shares}")
    for arm, found in held_out.items():
        mass = found.get("label_mass", 1.0)
        if mass < LEAST_LABEL_MASS:
            console.print(
                f"{arm}: the model puts only {mass:.0%} on the labels, their shares are of that; "
                "respondent=sampled shows what it says instead",
                style="yellow",
            )


def _table(metrics: Mapping[str, Any], split: str, title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("loss", justify="right")
    table.add_column("95 % interval", justify="right")
    for dimension in DIMENSIONS:
        table.add_column(dimension.upper(), justify="right")
    target = metrics["target"]
    table.add_row("target", "", "", *(_number(target[name], 0) for name in DIMENSIONS))
    for arm, splits in metrics["arms"].items():
        found = splits[split]
        low, high = found["interval"]
        scores = (_number(found["dimensions"][name], 0) for name in DIMENSIONS)
        style = "bold green" if arm == "evolved" else ""
        table.add_row(arm, _number(found["loss"], 1), f"{low:.1f} .. {high:.1f}", *scores, style=style)
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
