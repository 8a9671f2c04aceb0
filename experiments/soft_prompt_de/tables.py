"""The tables of the study as text, and what they say in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from evoprompt.surveys import DIMENSIONS, get_culture
from experiments.soft_prompt_de.results import BASELINES

TITLES = {"naive": "no prompt", "persona": "persona line", "icl": "in-context examples", "evolved": "evolved"}

SIGNIFICANT = 0.05
GUESSING = 0.11  # two standard errors of sixty guesses of four

Row = Mapping[str, Any]


def rows_of(frame: pd.DataFrame, **wanted: str) -> list[dict[str, Any]]:
    """Rows in which columns have the wanted values."""
    found = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]


def names(rows: Iterable[Row], column: str) -> list[str]:
    """The different values of a column, in order."""
    return list(dict.fromkeys(str(row[column]) for row in rows))


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def span(row: Row, digits: int = 1) -> str:
    """An interval, such as `0.6 to 3.2`; – where there is none."""
    found = f"{row['low']:.{digits}f} to {row['high']:.{digits}f}"
    return "–" if "nan" in found else found


def figure(value: float, style: str = ".1f") -> str:
    """A number; – where it is not known.

    >>> figure(1.25, "+.1f"), figure(float("nan"))
    ('+1.2', '–')
    """
    return "–" if value != value else f"{value:{style}}"


def p_value(p: float) -> str:
    """Rounded, never to 0.

    >>> p_value(0.0004), p_value(0.25), p_value(float("nan"))
    ('< 0.001', '0.250', '–')
    """
    return "< 0.001" if p < 0.001 else figure(p, ".3f")


def loss_table(losses: pd.DataFrame) -> str:
    """Loss of every arm by culture, with 95 % intervals, on held-out and searched wordings."""
    searched = {(row["culture"], row["arm"]): row for row in rows_of(losses, split="searched")}
    asked_again = losses["confirmed"].notna().any()
    rows = []
    for row in rows_of(losses, split="held_out"):
        other = searched[row["culture"], row["arm"]]
        cells = [get_culture(row["culture"]).name, TITLES[row["arm"]]]
        for found in (row, other):
            cells += [figure(found["loss"]), span(found)]
        doubtful = f"{row['doubtful']} of {row['runs']}" if row["arm"] == "evolved" else ""
        cells += [f"{row['label_mass']:.0%}", doubtful, *([figure(row["confirmed"])] if asked_again else [])]
        rows.append(cells)
    heads = ["region", "arm", "held out", "95 %", "searched", "95 %", "label mass", "runs in doubt"]
    return grid([*heads, *(["held out, in free text"] if asked_again else [])], rows)


def dimension_table(losses: pd.DataFrame) -> str:
    """Each dimension's distance to its target on held-out wordings, with 95 % intervals; – without a target."""
    rows = []
    for row in rows_of(losses, split="held_out"):
        cells = [get_culture(row["culture"]).name, TITLES[row["arm"]]]
        for name in DIMENSIONS:
            bounds = {"low": row[f"{name} low"], "high": row[f"{name} high"]}
            cells.append("–" if row[name] != row[name] else f"{row[name]:.1f} ({span(bounds)})")
        rows.append(cells)
    return grid(["region", "arm", *(name.upper() for name in DIMENSIONS)], rows)


def cost_table(costs: pd.DataFrame) -> str:
    """Perplexity and divergence on neutral text, by region: mean over the seeds, least and most."""
    rows = []
    for row in rows_of(costs):
        cells = [get_culture(row["culture"]).name]
        for name, sign in (("perplexity", "×"), ("kl", "")):
            least, most = row[f"{name} least"], row[f"{name} most"]
            cells += [f"{sign}{row[name]:.2f}", f"{sign}{least:.2f} to {sign}{most:.2f}"]
        rows.append(cells)
    return grid(["region", "perplexity", "least to most", "KL, nats a token", "least to most"], rows)


def summary_table(losses: pd.DataFrame) -> str:
    """The table of the project's README: held-out losses by region and arm, the evolved one's with its interval."""
    known = {(row["culture"], row["arm"]): row for row in rows_of(losses, split="held_out")}
    searched = {row["culture"]: row for row in rows_of(losses, split="searched", arm="evolved")}
    rows = []
    for culture in names(known.values(), "culture"):
        evolved = known[culture, "evolved"]
        cells = [get_culture(culture).name, *(f"{known[culture, arm]['loss']:.1f}" for arm in BASELINES)]
        cells += [f"**{evolved['loss']:.1f}**", span(evolved), f"{searched[culture]['loss']:.1f}"]
        rows.append(cells)
    heads = ["region", *(TITLES[arm] for arm in BASELINES), "evolved", "its 95 %", "on searched wordings"]
    return grid(heads, rows)


def difference_table(tests: pd.DataFrame) -> str:
    """Evolved minus each baseline on held-out wordings."""
    rows = []
    for row in rows_of(tests, split="held_out"):
        cells = [get_culture(row["culture"]).name, TITLES[row["against"]], figure(row["difference"], "+.1f"), span(row)]
        rows.append([*cells, p_value(row["p"]), p_value(row["p_adjusted"])])
    return grid(["region", "evolved minus", "points", "95 %", "p", "p, adjusted"], rows)


def tau_table(taus: pd.DataFrame) -> str:
    """Kendall's tau over the regions on held-out wordings; – where an arm answers alike everywhere."""
    rows = []
    for arm, title in TITLES.items():
        known = {row["dimension"]: row for row in rows_of(taus, split="held_out", arm=arm)}
        own = [figure(known[name]["tau"], ".2f") for name in ("mean", *DIMENSIONS)]
        rows.append([title, own[0], span(known["mean"], 2), *own[1:]])
    return grid(["arm", "mean", "95 %", *(name.upper() for name in DIMENSIONS)], rows)


def rival_table(rivals: pd.DataFrame) -> str:
    """Optimizers at equal budgets, by region and over all, on held-out wordings."""
    found = rows_of(rivals, split="held_out")
    cultures, rows = names(found, "culture"), []
    for name in names(found, "optimizer"):
        known = {row["culture"]: row for row in found if row["optimizer"] == name}
        total = known["all"]
        against = [figure(total["auto minus it"], "+.1f"), span(total), p_value(total["p_adjusted"])]
        against = [""] * 3 if name == "auto" else against
        rows.append([name, *(f"{known[culture]['loss']:.1f}" for culture in cultures), *against])
    titles = [culture if culture == "all" else get_culture(culture).name for culture in cultures]
    return grid(["optimizer", *titles, "`auto` minus it", "95 %", "p, adjusted"], rows)


def ablation_table(ablations: pd.DataFrame) -> str:
    """What each setting changes, the default first."""
    rows = []
    for row in rows_of(ablations):
        losses = (f"{row[name]:.1f}" for name in ("search", "searched", "held out", "worst", "naive"))
        shares = (f"{row[name]:.0%}" for name in ("label mass", "label shift"))
        rows.append([row["setting"], f"{row['runs']}", *losses, *shares, f"×{row['perplexity']:.2f}"])
    heads = ["setting", "runs", "as the search saw it", "searched", "held out", "worst", "no prompt"]
    return grid([*heads, "label mass", "label moved", "perplexity"], rows)


def carried_table(carried: pd.DataFrame) -> str:
    """Does the second questionnaire move the way the targets ask."""
    rows = []
    for row in rows_of(carried):
        signs = f"{row['same_sign']} of {row['signed']}"
        cells = [TITLES[row["arm"]], f"{row['spearman']:.2f}", span(row, 2), signs, p_value(row["p"])]
        rows.append([*cells, f"{row['moved']:.1f}"])
    heads = ["arm", "Spearman", "95 %", "moved the wanted way", "p of the signs", "mean size of a move, points"]
    return grid(heads, rows)


def ability_table(able: pd.DataFrame) -> str:
    """Share of right answers, by region."""
    rows = []
    for row in rows_of(able):
        cells = [get_culture(row["culture"]).name, TITLES[row["arm"]], f"{row['accuracy']:.2f}"]
        against = [""] * 3
        if row["arm"] != "naive":
            against = [f"{row['minus naive']:+.2f}", span(row, 2), p_value(row["p_adjusted"])]
        rows.append([*cells, *against])
    return grid(["region", "arm", "right", "minus no prompt", "95 %", "p, adjusted"], rows)


def claims(losses: pd.DataFrame, tests: pd.DataFrame, rivals: pd.DataFrame) -> list[str]:
    """What the tables say, a sentence each."""
    known = {(row["culture"], row["arm"]): row for row in rows_of(losses, split="held_out")}
    cultures = names(known.values(), "culture")
    apart = [one for one in cultures if known[one, "evolved"]["high"] < known[one, "naive"]["low"]]
    doubtful = [one for one in apart if known[one, "evolved"]["doubtful"]]
    found = [
        f"The evolved prompt is below no prompt on held-out wordings in {len(apart)} of {len(cultures)} regions with "
        "95 % intervals that do not overlap."
    ]
    if doubtful:
        found.append(
            f"In {len(doubtful)} of these some run is in doubt: under its prompt the model hardly answers any more, or "
            "free text does not confirm it."
        )
    for arm in BASELINES[1:]:
        verdicts: dict[str, list[str]] = {"below": [], "above": [], "not told apart": []}
        for row in rows_of(tests, split="held_out", against=arm):
            verdicts[_order(row) or "not told apart"].append(get_culture(row["culture"]).name)
        told = (f"{word} in {', '.join(places)}" for word, places in verdicts.items() if places)
        found.append(f"Against {TITLES[arm]}: {'; '.join(told).rstrip('.')}.")
    for row in rows_of(rivals, split="held_out", culture="all"):
        if row["optimizer"] != "auto":
            found.append(
                f"At equal budgets the default `auto` is {_order(row) or 'not told apart from'} {row['optimizer']}: "
                f"{row['auto minus it']:+.1f} points ({span(row)}; adjusted p {p_value(row['p_adjusted'])}) over "
                f"{row['runs']} pairs of runs."
            )
    return found


def transfer_claims(carried: pd.DataFrame, able: pd.DataFrame) -> list[str]:
    """What became of questions that no search has seen, a sentence each."""
    (moved,) = rows_of(carried, arm="evolved")
    base = rows_of(able, arm="naive")[0]
    found = [
        f"On the second questionnaire {moved['same_sign']} of {moved['signed']} scores moved the way the targets ask "
        f"(p {p_value(moved['p'])}); rank correlation with the wanted changes {figure(moved['spearman'], '.2f')} "
        f"({span(moved, 2)})."
    ]
    chance, right = 0.25, base["accuracy"]
    told = "near guessing, so that no harm could show" if right < chance + GUESSING else f"against {chance} by guessing"
    return [*found, f"Without a prompt the model answers {right:.0%} of the ability questions rightly, {told}."]


def _order(row: Row) -> str | None:
    """`below` or `above` where the interval of a difference and its adjusted p both say so."""
    if not row["p_adjusted"] < SIGNIFICANT:
        return None
    return "below" if row["high"] < 0 else "above" if row["low"] > 0 else None
