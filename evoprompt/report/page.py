"""The page of a run: what its template is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evoprompt.report.answers import ITEM_LABELS, answered, carried, carried_words, feeds, has_answers, mean_answers
from evoprompt.report.cautions import Caution, noted, warnings
from evoprompt.report.drawing import Plot
from evoprompt.report.files import ARM_TITLES, Run
from evoprompt.report.method import METHOD, method_words, respondent_kind, space_fact
from evoprompt.report.numbers import digits_of, interval, number, share
from evoprompt.report.rendering import Rows, culture_name, duration, render, spaced
from evoprompt.report.verdict import verdict
from evoprompt.study.run_info import optimizer_words
from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS

CHECKS = {  # what tells whether the answers can be believed: its column, and what that means
    "label_mass": ("label mass", "probability that the model answers with any of the labels"),
    "invalid_rate": ("invalid", "share of free-text answers that chose no option or several"),
}
SHOWN_FAILURES = 10
SPLIT_TITLES = {"held_out": "Held-out wordings, never seen by the search", "searched": "Wordings used by the search"}
SHORT = [(name.upper(), DIMENSION_NAMES[name]) for name in DIMENSIONS]
ONE_SEED = Caution(
    "One run, one seed",
    "The 95% intervals are over simulated respondents, not over seeds; repeat with other seeds before claiming a gain.",
)


def run_page(run: Run, plots: Sequence[Plot]) -> str:
    """The report of one run."""
    metrics, confirmed = run.metrics, run.metrics.get("confirmation")
    arms = [_arm_table(run, split) for split in SPLIT_TITLES]
    return render(
        "run.html.j2",
        metrics=metrics,
        culture=culture_name(metrics),
        optimizer=optimizer_words(metrics["optimizer"]),
        facts=_facts(run),
        verdict=verdict(metrics),
        tiles=arms[0][-1][1:],  # a row for each arm, on held-out wordings
        warnings=[*warnings(metrics, run.settings), *noted(run.info), ONE_SEED],
        plots={"diversity": None, **{plot.name: plot for plot in plots}},
        arms=arms,
        failed=int(metrics.get("failed") or 0),
        sampled=respondent_kind(metrics) == "sampled",
        timed="elapsed" in run.history,
        failures=_failures(run),
        answers=_answers(run) if has_answers(run) else None,
        carried=carried_words(carried(run)) if has_answers(run) else "",
        labels=_labels(run),
        confirmation=_measured(confirmed, ["invalid_rate"]) if confirmed else None,
        config=run.config.strip(),
        made_with=_made_with(run),
    )


def _facts(run: Run) -> list[str]:
    metrics = run.metrics
    facts = [
        f"model {metrics.get('model')}",
        f"optimizer {optimizer_words(metrics['optimizer'])}",
        f"{metrics.get('placement', 'prefix')} placement",
        f"respondent {respondent_kind(metrics)}",
        space_fact(metrics, run.settings),
        f"seed {metrics.get('seed')}",
        f"{spaced(metrics.get('evaluations'))} evaluations",
        duration(metrics.get("seconds")),
    ]
    return [fact for fact in facts if fact]


def _arm_table(run: Run, split: str) -> tuple[str, Sequence[Any], Rows]:
    """Title, head and rows: the target, then every arm."""
    measured = {arm: run.measured(arm, split) for arm in run.arms}
    checks = [key for key in CHECKS if any(key in found for found in measured.values())]
    head, rows = _measured(measured, checks)
    blank = [""] * (2 + len(checks))
    target = ("target", ["target", *blank, *(number(run.metrics["target"][name], 0) for name in DIMENSIONS)])
    return SPLIT_TITLES[split], head, [target, *rows]


def _measured(measured: Mapping[str, Mapping[str, Any]], checks: Sequence[str]) -> tuple[Sequence[Any], Rows]:
    """Head and rows: name, loss, interval, checks and scores of some arms."""
    head = ["", "loss", "95% interval", *(CHECKS[key] for key in checks), *SHORT]
    digits = digits_of(list(measured.values()))
    rows: Rows = []
    for arm, found in measured.items():
        scores = (number(found["dimensions"].get(name)) for name in DIMENSIONS)
        loss = [number(found["loss"], digits), interval(found["interval"], digits)]
        rows.append((arm, [ARM_TITLES[arm], *loss, *(share(found.get(key)) for key in checks), *scores]))
    return head, rows


def _failures(run: Run) -> list[tuple[str, Sequence[str], Rows]]:
    """Where and when evaluations failed: the first of them, and how many by worker."""
    failed = run.history[run.history["failed"].to_numpy(dtype=bool)]
    columns = [name for name in ("generation", "trial", "worker") if name in failed]
    if not len(failed) or not columns:
        return []
    first: Rows = [("", [str(cell) for cell in row]) for row in failed[columns].head(SHOWN_FAILURES).to_numpy()]
    shown = f"the first {len(first)} of {len(failed)}" if len(failed) > len(first) else "all of them"
    tables: list[tuple[str, Sequence[str], Rows]] = [(f"Failed evaluations: {shown}", columns, first)]
    if "worker" in failed:
        counts = run.history.groupby("worker")["failed"].agg(["sum", "size"]).query("sum > 0").itertuples()
        rows: Rows = [("", [str(worker), str(lost), str(total)]) for worker, lost, total in counts]
        tables.append(("Failures by worker", ["worker", "failed", "of its evaluations"], rows))
    return tables


def _answers(run: Run) -> tuple[Sequence[str], Rows]:
    """Head and rows of the mean answers, an item each."""
    arms = [arm for arm in run.arms if answered(run.measured(arm, "held_out"))]
    means = [mean_answers(run, arm) for arm in arms]
    rows: Rows = [
        ("", [f"{index + 1}. {label}", feeds(index), *(number(mean[index], 2) for mean in means)])
        for index, label in enumerate(ITEM_LABELS)
    ]
    return ["item", "counts for", *(ARM_TITLES[arm] for arm in arms)], rows


def _labels(run: Run) -> tuple[Sequence[str], Rows] | None:
    """Head and rows of the labels' shares, an arm each."""
    shares = {arm: run.measured(arm, "held_out").get("label_shares") or {} for arm in run.arms}
    labels = list(shares["naive"])
    rows: Rows = [(arm, [ARM_TITLES[arm], *(share(shares[arm].get(label)) for label in labels)]) for arm in run.arms]
    return (["", *labels], rows) if labels else None


def _made_with(run: Run) -> Rows:
    info, constant = run.info, run.metrics.get("constant") or {}
    method = dict(zip(METHOD, method_words(run.metrics, run.settings), strict=True))
    found: dict[str, Any] = {
        "status": info.status,
        "edition of the target": run.metrics.get("edition"),
        "placement": run.metrics.get("placement"),
        "respondent": ", ".join(method["respondent"]),
        "space": ", ".join(method["space"]),
    }
    parts = {
        "model": ("name", "revision", "fingerprint"),
        "instrument": ("name", "sha256"),
        "scoring": ("path", "tokens_per_candidate"),
    }
    for part, keys in parts.items():
        found |= {f"{part} {key}": getattr(info, part).get(key) for key in keys}
    if constant:
        anchors = ", ".join(map(str, constant.get("anchors") or ()))
        values = zip(DIMENSIONS, constant.get("values") or (), strict=False)
        found["constant C"] = f"{constant.get('treatment')}{f' ({anchors})' if anchors else ''}"
        found["values of C"] = ", ".join(f"{name.upper()} {number(value)}" for name, value in values)
    return [("", [key, str(value)]) for key, value in {**found, **info.versions}.items() if value is not None]
