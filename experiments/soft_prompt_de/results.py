"""From the folders of finished runs to tables of losses, tests, ranks and ablations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from evoprompt.report.cautions import doubt, label_shift
from evoprompt.study.arms import ANSWERS
from evoprompt.study.run_info import RunInfo
from evoprompt.study.rundir import RunDirectory
from evoprompt.study.sweepdir import SweepDirectory
from evoprompt.surveys import DIMENSIONS, l1_loss, raw_scores
from evoprompt.surveys.instrument import SPLITS
from evoprompt.typing import Doubles, Indices
from experiments.statistics import adjusted, interval, paired, permuted

BASELINES = ("naive", "persona", "icl")
TAU_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Finished:
    """One finished run: what it was told beside culture and seed, and what it measured."""

    folder: Path
    setting: str
    metrics: dict[str, Any]

    @property
    def culture(self) -> str:
        """Its key."""
        return str(self.metrics["culture"])

    @property
    def seed(self) -> int:
        """Of the search."""
        return int(self.metrics["seed"])

    @property
    def target(self) -> Doubles:
        """(6,), NaN where there is none."""
        known = self.metrics["target"]
        return np.array([np.nan if known.get(d) is None else known[d] for d in DIMENSIONS], dtype=float)

    def loss(self, arm: str, split: str) -> float:
        """In points."""
        return float(self.metrics["arms"][arm][split]["loss"])

    def confirmed(self, arm: str) -> float:
        """Held-out loss in free text; NaN where that was not asked, or got no valid answer."""
        loss = (self.metrics.get("confirmation") or {}).get(arm, {}).get("loss")
        return np.nan if loss is None else float(loss)

    @cached_property
    def info(self) -> RunInfo:
        """What run.json says."""
        return RunDirectory(self.folder).info

    @cached_property
    def _people(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "respondents.parquet")

    def by_person(self, arm: str, split: str) -> Doubles:
        """Dimension scores (people, 6) of each respondent alone; the scores of all are their mean."""
        rows = self._people[(self._people["arm"] == arm) & (self._people["split"] == split)]
        means = rows[ANSWERS].to_numpy(dtype=float) @ np.arange(1.0, 6.0)
        return np.asarray(raw_scores(means.reshape(-1, 24)) + np.array(self.metrics["constant"]["values"]))


def read_block(folder: Path, common: Sequence[str] = ()) -> list[Finished]:
    """The finished runs of a multirun, by culture, setting and seed; a setting is what is not `common`."""
    found = []
    for job in SweepDirectory(folder).jobs():
        if job.finished and job.folder is not None:
            told = overrides_of(job.folder)
            setting = " ".join(one for one in told if one not in common and not one.startswith(("+culture=", "seed=")))
            found.append(Finished(job.folder, setting, RunDirectory(job.folder).read_metrics()))
    return sorted(found, key=lambda run: (run.culture, run.setting, run.seed))


def overrides_of(folder: Path) -> list[str]:
    """What a job of a multirun was told on the command line."""
    return [str(one) for one in RunDirectory(folder).info.job["overrides"]]


def mean_loss(stack: Doubles, target: Doubles, seeds: Indices, people: Indices) -> Doubles:
    """Loss of resampled seeds (..., S) and people (..., P), of scores (seeds, people, 6): the mean over the seeds."""
    scores = stack[seeds[..., :, None], people[..., None, :]].mean(axis=-2)
    return np.asarray(l1_loss(scores, target).mean(axis=-1))


def loss_interval(stack: Doubles, target: Doubles) -> tuple[float, float, float]:
    """Loss and its 95 % interval over respondents, and over seeds where there are several.

    Parameters
    ----------
    stack
        (seeds, people, 6) scores of each respondent.
    target
        (6,)
    """
    seeds, people = np.arange(len(stack)), np.arange(stack.shape[1])
    low, high = _resampled(lambda s, p: mean_loss(stack, target, s, p), seeds, people)
    return float(mean_loss(stack, target, seeds, people)), low, high


def _resampled(
    statistic: Callable[[Indices, Indices], Doubles],
    seeds: Indices,
    people: Indices,
) -> tuple[float, float]:
    """Interval of a statistic over people, and over seeds where there are several."""
    if len(seeds) > 1:
        return interval((seeds, people), lambda s, p, axis=-1: statistic(s, p))
    return interval((people,), lambda p, axis=-1: statistic(np.zeros((*p.shape[:-1], 1), dtype=np.int64), p))


def arms_of(runs: Sequence[Finished]) -> dict[str, list[Finished]]:
    """Runs of one culture whose scores belong to each arm: the baselines are the same in all of them."""
    return {**{arm: [runs[0]] for arm in BASELINES}, "evolved": list(runs)}


def by_culture(runs: Sequence[Finished]) -> dict[str, list[Finished]]:
    """In the order of the runs."""
    found: dict[str, list[Finished]] = {}
    for run in runs:
        found.setdefault(run.culture, []).append(run)
    return found


def stacked(runs: Sequence[Finished], arm: str, split: str) -> Doubles:
    """Scores (seeds, people, 6) of an arm."""
    return np.stack([run.by_person(arm, split) for run in runs])


def losses(main: Sequence[Finished]) -> pd.DataFrame:
    """A row for each culture, split and arm: loss and interval, distance of every dimension to its target and interval.

    `label_mass` is the probability of answering with a label at all; `doubtful` counts the runs whose evolved prompt
    lowers the loss by something else than opinions (`evoprompt.report.cautions.doubt`); `confirmed` is the loss in free
    text, where it was asked.
    """
    rows = []
    for culture, runs in by_culture(main).items():
        target = runs[0].target
        for split in SPLITS:
            for arm, own in arms_of(runs).items():
                stack = stacked(own, arm, split)
                loss, low, high = loss_interval(stack, target)
                row: dict[str, Any] = {"culture": culture, "split": split, "arm": arm, "runs": len(own)}
                row |= {"loss": loss, "low": low, "high": high}
                for place, name in enumerate(DIMENSIONS):
                    known = np.isfinite(target[place])
                    away = loss_interval(stack[..., place, None], target[place, None]) if known else (np.nan,) * 3
                    row |= dict(zip((name, f"{name} low", f"{name} high"), away, strict=True))
                row["label_mass"] = float(np.mean([run.metrics["arms"][arm][split]["label_mass"] for run in own]))
                row["doubtful"] = sum(doubt(run.metrics) is not None for run in own) if arm == "evolved" else 0
                row["confirmed"] = float(np.mean([run.confirmed(arm) for run in own]))
                rows.append(row)
    return pd.DataFrame(rows)


def costs(main: Sequence[Finished]) -> pd.DataFrame:
    """What the evolved prompts cost on neutral text, by culture: means and extremes over the seeds."""
    rows = []
    for culture, runs in by_culture(main).items():
        row: dict[str, Any] = {"culture": culture, "runs": len(runs)}
        for name, key in (("perplexity", "perplexity_ratio"), ("kl", "kl")):
            found = [float(run.metrics["cost"][key]) for run in runs]
            row |= {name: np.mean(found), f"{name} least": min(found), f"{name} most": max(found)}
        rows.append(row)
    return pd.DataFrame(rows)


def tests(main: Sequence[Finished]) -> pd.DataFrame:
    """Evolved against each baseline, by culture and split: difference in loss, interval, p over respondents.

    The intervals resample seeds and respondents, these together for both arms. The permutation test exchanges the arms
    of a respondent, in all seeds at once. p is adjusted within each split.
    """
    rows = []
    for culture, runs in by_culture(main).items():
        target = runs[0].target
        for split in SPLITS:
            evolved = stacked(runs, "evolved", split)
            for arm in BASELINES:
                other = stacked(runs[:1], arm, split)
                rows.append({"culture": culture, "split": split, "against": arm, **_compared(evolved, other, target)})
    frame = pd.DataFrame(rows)
    return frame.assign(p_adjusted=frame.groupby("split")["p"].transform(adjusted_of))


def _compared(evolved: Doubles, other: Doubles, target: Doubles) -> dict[str, float]:
    """Difference in loss of scores (seeds, people, 6) and others (1, people, 6) of the same people."""
    seeds, people = np.arange(len(evolved)), np.arange(evolved.shape[1])

    def difference(s: Indices, p: Indices) -> Doubles:
        first = np.zeros((*p.shape[:-1], 1), dtype=np.int64)
        return mean_loss(evolved, target, s, p) - mean_loss(other, target, first, p)

    low, high = _resampled(difference, seeds, people)
    both = np.concatenate([evolved, np.broadcast_to(other, evolved.shape)], axis=1)  # (seeds, 2 people, 6)

    def exchanged(x: Indices, y: Indices, axis: int = -1) -> Doubles:
        a, b = (mean_loss(both, target, seeds, np.moveaxis(part, axis, -1)) for part in (x, y))
        return np.asarray(a - b)

    p = permuted((people, people + len(people)), exchanged)
    return {"difference": float(difference(seeds, people)), "low": low, "high": high, "p": p}


def taus(main: Sequence[Finished]) -> pd.DataFrame:
    """Kendall's tau-b of scores and targets over the cultures, by arm, split and dimension, and the mean of the six.

    Intervals are percentiles over resampled respondents (the same in all cultures) and seeds.
    """
    groups = by_culture(main)
    targets = np.stack([runs[0].target for runs in groups.values()])
    rng, rows = np.random.default_rng(0), []
    for split in SPLITS:
        for arm in (*BASELINES, "evolved"):
            stacks = [stacked(arms_of(runs)[arm], arm, split) for runs in groups.values()]
            found = _tau(np.stack([stack.mean(axis=(0, 1)) for stack in stacks]), targets)
            drawn = []
            for _ in range(TAU_RESAMPLES):
                people = rng.integers(0, stacks[0].shape[1], stacks[0].shape[1])
                chosen = [stack[rng.integers(0, len(stack), len(stack))][:, people] for stack in stacks]
                drawn.append(_tau(np.stack([stack.mean(axis=(0, 1)) for stack in chosen]), targets))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # an arm that answers alike everywhere has no order
                low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
            for name, *values in zip((*DIMENSIONS, "mean"), found, low, high, strict=True):
                rows.append((split, arm, name, *values))
    return pd.DataFrame(rows, columns=["split", "arm", "dimension", "tau", "low", "high"])


def _tau(scores: Doubles, targets: Doubles) -> Doubles:
    """(7,): tau of each dimension over cultures, and their mean; scores and targets (cultures, 6)."""
    found = [
        float(kendalltau(own, wanted, nan_policy="omit").statistic)
        for own, wanted in zip(scores.T, targets.T, strict=True)
    ]
    return np.array([*found, np.nanmean(found) if np.isfinite(found).any() else np.nan])


def rivals(main: Sequence[Finished], others: Sequence[Finished]) -> pd.DataFrame:
    """Every optimizer by culture and split: mean loss over the seeds that all have, and the portfolio minus it, paired.

    Pairs are a culture and a seed each, taken as independent; p is adjusted over the optimizers.
    """
    named = {"auto": list(main)}
    for run in others:
        named.setdefault(optimizer_of(run), []).append(run)
    common = set.intersection(*({(run.culture, run.seed) for run in runs} for runs in named.values()))
    cultures, rows = (*by_culture(main), "all"), []
    for split in SPLITS:
        for culture in cultures:
            ours: Doubles | None = None
            for name, runs in named.items():
                mine = sorted(
                    ((run.culture, run.seed), run.loss("evolved", split))
                    for run in runs
                    if (run.culture, run.seed) in common and culture in (run.culture, "all")
                )
                found = np.array([loss for _, loss in mine])
                ours = found if ours is None else ours
                row = {"split": split, "culture": culture, "optimizer": name, "runs": len(found), "loss": found.mean()}
                if name != "auto":
                    against = paired(ours, found)
                    row |= {
                        "auto minus it": against.difference,
                        "low": against.low,
                        "high": against.high,
                        "p": against.p,
                    }
                rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.assign(p_adjusted=frame.groupby(["split", "culture"])["p"].transform(adjusted_of))


def adjusted_of(p: pd.Series) -> pd.Series:
    """A column of p-values, adjusted for that there are many."""
    return pd.Series(adjusted(p.tolist()), p.index)


def optimizer_of(run: Finished) -> str:
    """The optimizer's name, for nevergrad's with the one inside, for differential evolution with the variant."""
    found = run.metrics["optimizer"]
    options = [one.partition("=")[2] for one in run.setting.split() if one.startswith("optimizer.optimizer=")]
    name = " ".join(filter(None, (str(found["name"]), found.get("variant"))))
    return f"{name} {options[0]}" if options else f"{name} TwoPointsDE" if name == "nevergrad" else name


def ablations(main: Sequence[Finished], tried: Sequence[Finished]) -> pd.DataFrame:
    """A row for each setting: means over the runs of the ablated cultures and seeds; the first is the default."""
    keys = {(run.culture, run.seed) for run in tried}
    settings: dict[str, list[Finished]] = {"default": [run for run in main if (run.culture, run.seed) in keys]}
    for run in tried:
        settings.setdefault(run.setting, []).append(run)
    rows = []
    for setting, runs in settings.items():
        means = {
            "search": np.mean([run.metrics["search_loss"] for run in runs]),
            "searched": np.mean([run.loss("evolved", "searched") for run in runs]),
            "held out": np.mean([run.loss("evolved", "held_out") for run in runs]),
            "worst": np.max([run.loss("evolved", "held_out") for run in runs]),
            "naive": np.mean([run.loss("naive", "held_out") for run in runs]),
            "label mass": np.mean([run.metrics["arms"]["evolved"]["held_out"]["label_mass"] for run in runs]),
            "label shift": np.mean([_shift(run) for run in runs]),
            "perplexity": np.mean([run.metrics["cost"]["perplexity_ratio"] for run in runs]),
        }
        rows.append({"setting": setting, "runs": len(runs), **{name: float(value) for name, value in means.items()}})
    return pd.DataFrame(rows)


def _shift(run: Finished) -> float:
    """How far the label that moved most moved beyond its mirror and its like in the other label set."""
    moved = label_shift(run.metrics)
    return abs(moved.own) if moved else float("nan")
