"""The page of a run: one HTML file without scripts and without a request to anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from evoprompt.report.answers import carried, carried_words, mean_answers
from evoprompt.report.cautions import Caution, warnings
from evoprompt.report.drawing import Plot
from evoprompt.report.elements import (
    arm_name,
    cautions_box,
    culture_name,
    duration,
    figure,
    page,
    saved,
    section,
    table,
)
from evoprompt.report.files import ARM_TITLES, Run, parsed_config
from evoprompt.report.items import ITEM_LABELS, feeds
from evoprompt.report.method import respondent_kind, respondent_words, space_fact, space_words
from evoprompt.report.numbers import digits_of, interval, number, share
from evoprompt.report.verdict import verdict
from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS

CHECKS = {  # what tells whether the answers can be believed, and its column
    "label_mass": '<abbr title="probability that the model answers with any of the labels">label mass</abbr>',
    "invalid_rate": '<abbr title="share of free-text answers that chose no option or several">invalid</abbr>',
}
SHOWN_FAILURES = 10
SPLIT_TITLES = {"held_out": "Held-out wordings, never seen by the search", "searched": "Wordings used by the search"}


def run_page(run: Run, plots: Sequence[Plot]) -> str:
    """The report of one run."""
    drawn = {plot.name: plot for plot in plots}
    sections = [
        _dimensions(drawn["dimensions"]),
        _arms(run),
        _search(run, drawn),
        _answers(run, drawn) if "answers" in drawn else "",
        _labels(run),
        _confirmation(run),
        _made_with(run),
    ]
    name = culture_name(run.metrics)
    body = f"<header>{_top(run)}</header>\n<main>\n{_cautions(run)}\n" + "\n".join(filter(None, sections))
    return page(f"{name}: evolved soft prompt, seed {run.metrics.get('seed', '–')}", f"{body}\n</main>\n{_foot()}")


def _top(run: Run) -> str:
    metrics, said = run.metrics, verdict(run.metrics)
    facts = [
        f"model {metrics.get('model')}",
        f"optimizer {metrics.get('optimizer')}",
        f"{metrics.get('placement', 'prefix')} placement",
        f"respondent {respondent_kind(metrics)}",
        space_fact(metrics, parsed_config(run.config)),
        f"seed {metrics.get('seed')}",
        f"{int(metrics.get('evaluations') or 0):,} evaluations".replace(",", " "),
        duration(metrics.get("seconds")),
    ]
    comparisons = [*said.comparisons, said.cost]
    return (
        f"<h1>{escape(culture_name(metrics))}: evolved soft prompt</h1>\n"
        f'<p class="facts">{escape(" · ".join(fact for fact in facts if fact))}</p>\n'
        f'<p class="headline {said.tone}">{escape(said.headline)}</p>\n'
        f"{_tiles(run)}\n"
        f'<ul class="said">{"".join(f"<li>{escape(line)}</li>" for line in comparisons)}</ul>'
    )


def _tiles(run: Run) -> str:
    digits = digits_of([run.measured(arm, "held_out") for arm in run.arms])
    tiles = []
    for arm in run.arms:
        measured = run.measured(arm, "held_out")
        tiles.append(
            f'<div class="tile" style="--arm: var(--{arm})"><dt>{escape(ARM_TITLES[arm])}</dt>'
            f'<dd class="value">{number(measured["loss"], digits)}</dd>'
            f'<dd class="note">{interval(measured["interval"], digits)}</dd></div>'
        )
    cost = run.metrics.get("cost") or {}
    ratio, kl = cost.get("perplexity_ratio"), cost.get("kl")
    tiles.append(
        f'<div class="tile cost"><dt>cost: perplexity</dt><dd class="value">×{number(ratio, 2)}</dd>'
        f'<dd class="note">KL {number(kl, 3)} nats</dd></div>'
    )
    what = "Loss on held-out wordings: points from the target, with 95% intervals. Lower is better."
    return f'<p class="facts tiles-title">{what}</p>\n<dl class="tiles">{"".join(tiles)}</dl>'


def _cautions(run: Run) -> str:
    found = warnings(run.metrics, parsed_config(run.config))
    found += [Caution("Noted by the run", _sentence(str(note))) for note in run.record.get("notes") or ()]
    found.append(
        Caution(
            "One run, one seed",
            "The 95% intervals are over simulated respondents, not over seeds; "
            "repeat with other seeds before claiming a gain.",
        )
    )
    items = "".join(f"<li><strong>{escape(one.title)}.</strong> {escape(one.text)}</li>" for one in found)
    return cautions_box(items)


def _sentence(text: str) -> str:
    """A line of the terminal as a sentence.

    >>> _sentence("it is so")
    'It is so.'
    """
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _dimensions(plot: Plot) -> str:
    return section(
        "dimensions",
        "Six dimensions",
        "Hofstede’s dimensions as the model’s answers score on them, against the culture’s target scores.",
        figure(plot, "Bars are 95% bootstrap intervals over respondents. Closer to the upright bar is better."),
    )


def _arms(run: Run) -> str:
    tables = "".join(_arm_table(run, split) for split in ("held_out", "searched"))
    return section(
        "arms",
        "All arms",
        "Loss is the mean absolute distance to the target over the dimensions that it has, in points of the 0–100 "
        "scale. All arms answer the same questions as the same respondents.",
        f'<div class="card">{tables}{saved("arms", ("csv",))}</div>',
    )


def _arm_table(run: Run, split: str) -> str:
    measured = {arm: run.measured(arm, split) for arm in run.arms}
    digits = digits_of(list(measured.values()))
    checks = {key: title for key, title in CHECKS.items() if any(key in found for found in measured.values())}
    head = [
        "",
        "loss",
        "95% interval",
        *checks.values(),
        *(f'<abbr title="{DIMENSION_NAMES[name]}">{name.upper()}</abbr>' for name in DIMENSIONS),
    ]
    blank = [""] * len(checks)
    rows = [("target", ["target", "", "", *blank, *(number(run.target[name], 0) for name in DIMENSIONS)])]
    for arm, found in measured.items():
        scores = (number(found["dimensions"].get(name)) for name in DIMENSIONS)
        loss = [number(found["loss"], digits), interval(found["interval"], digits)]
        rows.append((arm, [arm_name(arm), *loss, *(share(found.get(key)) for key in checks), *scores]))
    return table(SPLIT_TITLES[split], head, rows)


def _search(run: Run, drawn: Mapping[str, Plot]) -> str:
    metrics = run.metrics
    failed = int(metrics.get("failed") or 0)
    done, budget = (f"{int(metrics.get(key) or 0):,}".replace(",", " ") for key in ("evaluations", "budget"))
    lead = (
        f"Optimizer {escape(str(metrics.get('optimizer')))}: {done} evaluations of a budget of {budget}, "
        f"{failed} failed; stopped by {escape(str(metrics.get('stopped', 'nothing on record')))}."
    )
    if respondent_kind(metrics) == "sampled":
        lead += (
            f" Every candidate was asked in free text; {share(metrics.get('invalid_rate'))} of the sampled answers "
            "chose no option or several and were left out. All candidates met the same noise."
        )
    convergence = (
        "<strong>Convergence.</strong> A dot is one evaluation; the line is the best so far; level lines are the "
        "baselines’ loss on the searched wordings. Triangles, if any, lie above the frame"
        f"{'; crosses failed' if failed else ''}. "
        f"{'The second panel shows the best against the seconds of searching. ' if 'elapsed' in run.history else ''}"
        "The search asks a balanced part of the questions, so its loss may differ a little from the table’s."
    )
    diversity = (
        "<strong>Diversity.</strong> How far apart the candidates of a generation lie (of a sliding window, where the "
        "search is steady): root mean square distance, estimated from eight random projections. Near 0 the search has "
        "settled on one place; a line that stays at 1 has not begun to settle."
    )
    captions = {"convergence": convergence, "diversity": diversity}
    figures = "".join(figure(drawn[name], caption) for name, caption in captions.items() if name in drawn)
    return section("search", "The search", lead, figures + _failures(run))


def _failures(run: Run) -> str:
    """Where and when evaluations failed: the first of them, and how many by worker."""
    failed = run.history[run.history["failed"].to_numpy(dtype=bool)]
    columns = [name for name in ("generation", "trial", "worker") if name in failed]
    if not len(failed) or not columns:
        return ""
    first = [("", [escape(str(cell)) for cell in row]) for row in failed[columns].head(SHOWN_FAILURES).to_numpy()]
    shown = f"The first {len(first)} of {len(failed)}" if len(failed) > len(first) else "All of them"
    tables = table(f"Failed evaluations: {shown.lower()}", columns, first, kind="left")
    if "worker" in failed:
        counts = run.history.groupby("worker")["failed"].agg(["sum", "size"]).query("sum > 0").itertuples()
        rows = [("", [escape(str(worker)), str(lost), str(total)]) for worker, lost, total in counts]
        tables += table("Failures by worker", ["worker", "failed", "of its evaluations"], rows, kind="left")
    return f'<div class="card">{tables}</div>'


def _answers(run: Run, drawn: Mapping[str, Plot]) -> str:
    arms = [arm for arm in run.arms if len(run.measured(arm, "held_out").get("answers") or ()) == len(ITEM_LABELS)]
    means = {arm: mean_answers(run, arm) for arm in arms}
    rows = []
    for index, label in enumerate(ITEM_LABELS):
        cells = [f"{index + 1}. {escape(label)}", feeds(index), *(number(float(means[arm][index]), 2) for arm in arms)]
        rows.append(("", cells))
    head = ["item", "counts for", *(escape(ARM_TITLES[arm]) for arm in arms)]
    changed = section(
        "answers",
        "What changed in the answers",
        "The answers to each of the 24 items, before and after. Items are named by their subject; "
        "the words of the options are those of the bundled instrument.",
        figure(
            drawn["answers"], "<strong>Mean answers.</strong> At the right the change, in steps of the five-step scale."
        )
        + f"<details><summary>Mean answers as a table</summary>"
        f'<div class="card">{table("Mean answers on held-out wordings", head, rows)}</div></details>'
        + figure(
            drawn["distributions"],
            "<strong>All five answers</strong>, from light (1) to dark (5). Of each item the upper bar is without a "
            "prompt, the lower one with the evolved prompt.",
        ),
    )
    carry = section(
        "carry",
        "Do the changes carry over to new wordings?",
        carried_words(carried(run)),
        figure(
            drawn["carry"],
            "A dot is an item: how far its mean answer moved on the wordings that were searched and on those that were "
            "not. On the broken line both moved alike; the solid line is fitted by least squares.",
        ),
    )
    return f"{changed}\n{carry}"


def _labels(run: Run) -> str:
    shares = {arm: run.measured(arm, "held_out").get("label_shares") or {} for arm in run.arms}
    labels = list(shares["naive"])
    if not labels:
        return ""
    rows = []
    for arm in run.arms:
        rows.append((arm, [arm_name(arm), *(share(shares[arm].get(label)) for label in labels)]))
    head = ["", *(escape(label) for label in labels)]
    what = (
        "How often each printed label was chosen among valid answers, by name or by its option’s words"
        if respondent_kind(run.metrics) == "sampled"
        else "The mean probability of each printed label"
    )
    return section(
        "labels",
        "Option labels",
        f"{what}, whatever it stood for. Options are asked in both orders, "
        "so a change of opinion moves a label and its mirror image (A and E, B and D) and "
        "those of the other set (1 and 5, 2 and 4) alike; a prompt that pushes one label shows here.",
        f'<div class="card">{table("Share of each label on held-out wordings", head, rows)}</div>',
    )


def _confirmation(run: Run) -> str:
    found = run.metrics.get("confirmation") or {}
    if not found:
        return ""
    digits = digits_of(list(found.values()))
    rows = []
    for arm, measured in found.items():
        scores = (number(measured["dimensions"].get(name)) for name in DIMENSIONS)
        loss = [number(measured["loss"], digits), interval(measured["interval"], digits)]
        rows.append((arm, [arm_name(arm), *loss, share(measured.get("invalid_rate")), *scores]))
    head = ["", "loss", "95% interval", "invalid", *(name.upper() for name in DIMENSIONS)]
    return section(
        "confirmation",
        "Asked again in free text",
        "The search reads the probabilities of the options; here the model answered in its own words, as published "
        "protocols ask, and the answers were sampled and parsed. Some of them are in <code>transcript.jsonl</code>.",
        f'<div class="card">{table("Held-out wordings, free text", head, rows)}</div>',
    )


def _made_with(run: Run) -> str:
    record = run.record
    found: dict[str, Any] = {"status": record.get("status"), "edition of the target": run.metrics.get("edition")}
    config = parsed_config(run.config)
    found |= {
        "placement": run.metrics.get("placement"),
        "respondent": ", ".join(respondent_words(run.metrics, config)),
        "space": ", ".join(space_words(run.metrics, config)),
    }
    parts = {
        "model": ("name", "revision", "fingerprint"),
        "instrument": ("name", "sha256"),
        "scoring": ("path", "tokens_per_candidate"),
    }
    for part, keys in parts.items():
        values = record.get(part)
        if isinstance(values, Mapping):
            found |= {f"{part} {key}": values.get(key) for key in keys}
    constant = run.metrics.get("constant")
    if isinstance(constant, Mapping):
        anchors = ", ".join(map(str, constant.get("anchors") or ()))
        found["constant C"] = f"{constant.get('treatment')}{f' ({anchors})' if anchors else ''}"
        values = constant.get("values") or ()
        found["values of C"] = ", ".join(
            f"{name.upper()} {number(value)}" for name, value in zip(DIMENSIONS, values, strict=False)
        )
    versions = record.get("versions")
    if isinstance(versions, Mapping):
        found |= versions
    rows = [("", [escape(str(key)), escape(str(value))]) for key, value in found.items() if value is not None]
    return section(
        "configuration",
        "Configuration and versions",
        "Everything needed to repeat the run: the configuration as it was used, and what it was run with.",
        f'<div class="card"><h3>config.yaml</h3><pre>{escape(run.config.strip())}</pre></div>'
        f'<div class="card">{table("Made with", (), rows, kind="left")}</div>',
    )


def _foot() -> str:
    return (
        "<footer><p>The constant C of the survey’s formulas is shared by all arms, so differences between arms do not "
        "depend on it; the distance to a published score does. The numbers behind every plot are in "
        "<code>plots/*.csv</code>.</p></footer>"
    )
