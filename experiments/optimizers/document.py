"""The page: one HTML file without scripts and without a request to anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from evoprompt.report.elements import cautions_box, page, section, table
from experiments.optimizers.beside import Grid
from experiments.optimizers.plots import SHOWN, ranking
from experiments.optimizers.standing import DEFAULT, Verdict
from experiments.optimizers.words import RULE, advice, headline, lead, not_best, ranked

__all__ = ["CAUTIONS", "document"]

CAUTIONS = (
    ("Developed on some of it", "The default was developed on instances 1 to 5 of the 20-D table at 200 evaluations "
     "per coordinate. Instances 6 to 10 were kept apart; the functions are the same 24."),
    ("Test functions, not language models", "BBOB and the synthetic survey are made-up functions. Whether a method is "
     "the best on your model's loss has to be tried there."),
    ("Overlap is a lenient rule", "“As good” means that these runs cannot tell two methods apart, which with five "
     "functions or three respondents is little. It does not mean that they are equal."),
    ("The kinds share runs", "Some kinds are parts of the same tables, so they are not so many independent successes. "
     "Most tables but those at 200 evaluations per coordinate in 20-D have one seed."),
    ("Told of a larger budget", "The first kind looks at the beginning of longer runs. Methods that plan by their "
     "budget, the default among them, might do better if told of the smaller one."),
)  # fmt: skip
LIBRARIES = (
    "Names are those of the benchmarks. Of them this package runs its own, which start with evoprompt:, pycma "
    "(method cma, diagonal: variant separable), and scipy’s DE and dual_annealing (methods scipy, dual_annealing); "
    "cmaes, minion and pygmo are libraries of their own."
)
GLANCE = (
    "In each row the default and the best of all other methods, named at the right on wide screens. Because the kinds "
    "were run with different numbers of methods, ranks are shown as the share of the others that each is ahead of."
)
KEY = (
    '<span class="dot" style="--arm: var(--evolved)"></span>diamond: the default · '
    '<span class="dot" style="--arm: var(--icl)"></span>triangle: evoprompt’s other methods · '
    '<span class="dot" style="--arm: var(--naive)"></span>circle: other libraries · '
    "filled: as good as the best · bars: 95% intervals"
)


def document(
    verdicts: Sequence[Verdict], p: Sequence[float], glance: tuple[str, str], beside: Sequence[Grid], missing: Grid
) -> str:
    """The whole page; `glance` is its first plot, for wide and for narrow screens."""
    warned = "".join(f"<li><strong>{title}.</strong> {escape(text)}</li>" for title, text in CAUTIONS)
    sections = [
        section("take", "What to take", LIBRARIES, _recommendations(verdicts)),
        section("overview", "At a glance", GLANCE, _figure(glance, KEY)),
        cautions_box(warned),
        section("rule", "How it is judged", RULE, ""),
        *(_job(verdict, value) for verdict, value in zip(verdicts, p, strict=True)),
        *(section(f"beside-{row}", grid.title, grid.says, _card(grid)) for row, grid in enumerate(beside)),
        section("missing", missing.title, missing.says, _missing(verdicts, missing)),
    ]
    foot = (
        "<footer><p>Made by <code>python -m experiments.optimizers</code> from the result files in "
        "<code>benchmarks/results</code>, which name the machine, the versions and the commands of every run. "
        "The numbers are in <code>recommendations.csv</code>.</p></footer>"
    )
    body = f"<header>{_top(verdicts, p)}</header>\n<main>\n" + "\n".join(sections) + f"\n</main>\n{foot}"
    return page("Which optimizer for which job", body)


def _top(verdicts: Sequence[Verdict], p: Sequence[float]) -> str:
    ranked_methods = {one.method for verdict in verdicts for one in verdict.standings}
    titles = {"best": "default has the best mean rank", "as good": "not best, intervals overlap", "behind": "behind"}
    colours = {"best": "good", "as good": "flat", "behind": "bad"}
    tiles = []
    for word, title in titles.items():
        count, kind = sum(verdict.word == word for verdict in verdicts), "tile cost" if word == "behind" else "tile"
        tiles.append(
            f'<div class="{kind}" style="--arm: var(--{colours[word]})"><dt>{title}</dt>'
            f'<dd class="value">{count}</dd><dd class="note">of {len(verdicts)} kinds of problems</dd></div>'
        )
    said = "".join(f"<li>{escape(line)}</li>" for line in [lead(verdicts, p), *not_best(verdicts)])
    return (
        "<h1>Which optimizer for which job</h1>"
        f'<p class="facts">{len(ranked_methods)} methods · {len(verdicts)} kinds of problems · '
        "equal evaluations within every comparison · gathered from committed benchmark runs</p>"
        f'<p class="headline">{escape(headline(verdicts))}</p>'
        '<p class="facts tiles-title">The default against every other method, by mean rank.</p>'
        f'<dl class="tiles">{"".join(tiles)}</dl><ul class="said">{said}</ul>'
    )


def _recommendations(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        others = [one.method for one in verdict.as_good[1:]]
        also = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        own = "best" if verdict.word == "best" else f"place {verdict.place}<br>{_held(ranked(verdict.default))}"
        kind = f'<a href="#{verdict.job.name}">{escape(verdict.job.title)}</a>'
        take = f"<strong>{escape(verdict.best.method)}</strong><br>{_held(ranked(verdict.best))}"
        rows.append(("", [kind, take, escape(also) or "–", own]))
    head = ["kind of problem", "take: best mean rank [95%]", "as good by the rule", "the default"]
    cards = "".join(
        f'<div class="card"><h3>{kind}</h3><p>{take}</p><p class="facts">As good: {also}</p>'
        f'<p class="facts">The default: {own.replace("<br>", ", ")}</p></div>'
        for _, (kind, take, also, own) in rows
    )
    whole = f'<div class="card">{table("", head, rows, kind="left")}</div>'
    return f'<div class="wide">{whole}</div><div class="narrow">{cards}</div>'


def _held(text: str) -> str:
    return f'<span style="white-space: nowrap">{text}</span>'


def _job(verdict: Verdict, p: float) -> str:
    job, against = verdict.job, verdict.against_rival
    few = f" Only {len(verdict.cases)} {job.case}: the intervals are rough." if len(verdict.cases) <= 5 else ""
    test = (
        f"Default less {escape(verdict.rival.method)}, paired: {against.difference:+.2f} ranks "
        f"[{against.low:+.2f}, {against.high:+.2f}], p = {p:.3f} after adjustment."
    )
    about = (
        f"{escape(job.about)}. {len(verdict.standings)} methods with {verdict.runs} runs each; "
        f"{len(verdict.cases)} {job.case}.{few}"
    )
    left = len(verdict.standings) - SHOWN
    more = f" The other {left} methods are in the table." if left > 0 else ""
    caption = f"Filled: as good as the best, whose interval is the grey band. {test}{more}"
    rows = [
        ("evolved" if one.method == DEFAULT else "", _cells(verdict, row)) for row, one in enumerate(verdict.standings)
    ]
    area = '<abbr title="area under the share of targets reached">AUC</abbr>'
    head = ["", "mean rank", "95% interval", "as good", area if job.objective is None else "mean loss"]
    head.append('<abbr title="CPU microseconds an evaluation, objective included; rough">µs</abbr>')
    details = (
        f'<details><summary>All methods as a table</summary><div class="card">{table("", head, rows)}</div></details>'
    )
    absent = f"<p class='facts'>Not ranked here: {escape(', '.join(verdict.missing)) or 'none'}.</p>"
    content = f"{_figure(ranking(verdict), caption)}{details.replace('</details>', f'{absent}</details>')}"
    return section(
        job.name,
        job.title,
        f'<strong style="color: var(--ink)">{escape(advice(verdict))}</strong></p><p>{about}',
        content,
    )


def _cells(verdict: Verdict, row: int) -> list[str]:
    one = verdict.standings[row]
    area = f"{one.loss:.3g}" if one.auc is None else f"{one.auc:.3f}"
    good = "yes" if one in verdict.as_good else ""
    return [escape(one.method), f"{one.rank:.2f}", f"{one.low:.2f} to {one.high:.2f}", good, area, f"{one.micros:.0f}"]


def _missing(verdicts: Sequence[Verdict], grid: Grid) -> str:
    note = (
        "<p>“all”: every run of the table, so it is ranked; a number: some runs, left out of the ranks; –: could take "
        "part and was not run; blank: not of this suite or too slow in this dimension.</p>"
    )
    grid = replace(
        grid, head=[name.replace("largescale", "large").replace("_", "\n").replace(" ", "\n") for name in grid.head]
    )
    return f"{note}<details><summary>Which method ran where</summary>{_card(grid)}</details>"


def _card(grid: Grid) -> str:
    rows = [("evolved" if line[0] == DEFAULT else "", [escape(cell) for cell in line]) for line in grid.rows]
    head = [escape(cell).replace("\n", "<br>") for cell in grid.head]
    return f'<div class="card">{table("", head, rows)}</div>'


def _figure(drawn: tuple[str, str], caption: str) -> str:
    wide, narrow = drawn
    return (
        f'<figure class="card"><div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
