"""Small, complete run directories, written from numbers chosen here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evoprompt.study.journal import SKETCH, distance_sketches
from evoprompt.surveys import DIMENSIONS

LOSSES = {"naive": 20.0, "persona": 15.0, "icl": 17.0, "evolved": 10.0}
TARGET = {"pdi": 80.0, "idv": 38.0, "mas": 53.0, "uai": 68.0, "lto": 23.0, "ivr": 34.0}
LABELS = ("1", "2", "3", "4", "5", "A", "B", "C", "D", "E")


def measured(loss: float, spread: float = 0.5, place: int = 0) -> dict[str, Any]:
    """One arm on one split, of the shape that a finished run stores."""
    scores = {name: TARGET[name] + loss + place for name in DIMENSIONS}
    peak = np.arange(1, 6)
    answers = [np.exp(-((peak - 1 - (item + place) % 4) ** 2) / 2.0) for item in range(24)]
    return {
        "loss": loss,
        "interval": [loss - spread, loss + spread],
        "dimensions": scores,
        "dimension_intervals": {name: [score - 2.25, score + 2.25] for name, score in scores.items()},
        "answers": [(share / share.sum()).tolist() for share in answers],
        "label_shares": dict.fromkeys(LABELS, 0.2),
    }


def plain_metrics() -> dict[str, Any]:
    """A run in which the evolved prompt is clearly best, at a small cost, with a complete target."""
    return {
        "schema_version": 2,
        "culture": "arab",
        "culture_name": "Arab countries",
        "edition": "2015-12",
        "model": "some/model",
        "space": "full",
        "placement": "prefix",
        "respondent": "options",
        "optimizer": {"name": "auto", "stages": {"opening": 8, "lines": 8, "de": 24}},
        "seed": 3,
        "budget": 40,
        "target": dict(TARGET),
        "constant": {"values": [50.0] * 6, "treatment": "anchors", "anchors": ["japan"]},
        "arms": {
            arm: {"searched": measured(loss, place=place), "held_out": measured(loss, place=place)}
            for place, (arm, loss) in enumerate(LOSSES.items())
        },
        "cost": {"perplexity": 3.0, "perplexity_ratio": 1.05, "kl": 0.1},
        "evaluations": 40,
        "failed": 0,
        "stopped": "budget",
        "seconds": 12.5,
    }


def searched(spread: list[float], popsize: int = 12) -> pd.DataFrame:
    """A history of generations whose candidates in 300 dimensions lie so far apart."""
    count = popsize * len(spread)
    x = np.random.default_rng(0).normal(size=(count, 300)) * np.repeat(spread, popsize)[:, None]
    columns: dict[str, Any] = {
        "evaluation": np.arange(count),
        "generation": np.repeat(np.arange(len(spread)), popsize),
        "trial": np.arange(count),
        "loss": np.linspace(20, 5, count),
        "failed": np.zeros(count, dtype=bool),
        "elapsed": np.linspace(0.5, 60, count),
        "worker": "local",
    }
    return pd.DataFrame(columns | dict(zip(SKETCH, distance_sketches(x).T, strict=True)))


def write_files(metrics: dict[str, Any], folder: Path, config: str = "", history: pd.DataFrame | None = None) -> Path:
    """Write a run directory; `config` adds top-level text to config.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    record = {"status": "finished", "seed": 3, "versions": {"python": "3.11.7", "numpy": "2.3.5"}}
    record |= {"model": {"name": metrics["model"], "fingerprint": "f00d"}}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "config.yaml").write_text(f"budget: 40\nseed: 3\n{config}", encoding="utf-8")
    if history is None:
        loss = 30.0 - np.arange(40) / 2 + np.arange(40) % 3
        loss[[4, 9]] = np.nan
        history = pd.DataFrame({"evaluation": np.arange(40), "loss": loss, "failed": np.isnan(loss)})
    history.to_parquet(folder / "history.parquet", index=False)
    return folder
