"""The study in words and tables, all computed from its figures."""

from __future__ import annotations

import pandas as pd

from experiments.committee.arms import ARMS, COMPOSED
from experiments.committee.figures import by_arm, comparisons
from experiments.statistics import paired

LEVEL = 0.05


def markdown(table: pd.DataFrame) -> str:
    """A table of texts and numbers rounded to three places."""
    rows = [[str(name) for name in table.columns], ["---"] * len(table.columns)]
    rows += [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.to_numpy()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def alignment_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Each arm's alignment, over all queries and by number of labelled cultures, and who was heard."""
    whole, spread = by_arm(frame, "alignment"), by_arm(frame, "diversity")
    parts = {
        f"{part['query'].nunique()} with {part['cultures'].iloc[0]} labelled": by_arm(part, "alignment")
        for _, part in frame.groupby("cultures")
    }
    rows = []
    for arm in ARMS:
        mine = frame[frame["arm"] == arm]
        row: dict[str, object] = {"arm": arm, f"all {len(mine)}": str(whole[arm])}
        row |= {title: str(part[arm]) for title, part in parts.items()}
        heard = {culture for asked in mine["asked"] for culture in asked.split()}
        row |= {"diversity": spread[arm].mean, "experts asked": float(mine["experts"].mean())}
        rows.append(row | {"cultures heard": len(heard)})
    return pd.DataFrame(rows)


def comparison_table(found: pd.DataFrame) -> pd.DataFrame:
    """Differences as texts."""
    return pd.DataFrame(
        {
            "committee": found["committee"],
            "against": found["against"],
            "difference": [
                f"{difference:+.4f} ({low:+.4f} to {high:+.4f})"
                for difference, low, high in found[["difference", "low", "high"]].to_numpy()
            ],
            "adjusted p": [_p(value) for value in found["adjusted"]],
        }
    )


def verdict(frame: pd.DataFrame) -> list[str]:
    """What the figures say of the committee, sentence by sentence."""
    found = comparisons(frame).set_index(["committee", "against"])[["difference", "adjusted"]].T.to_dict("list")
    said = []
    for arm in COMPOSED:
        parts = [_compared(other, *found[arm, other]) for other in ("direct", "single best")]
        said.append(f"The {arm} committee's mean alignment is {' and '.join(parts)}.")
    votes = frame.groupby("arm")["alignment_of_votes"].mean()
    shown = ", ".join(f"{name} {votes[name]:.3f}" for name in ("direct", "single best", "panel", "oracle"))
    said.append(f"A panel's votes are no distribution of opinions; with one vote a voice for every arm: {shown}.")
    return [*said, *_by_count(frame), *_why(frame)]


def routed_or_not(frame: pd.DataFrame) -> str:
    """What routing adds to a mixture, from rows of the arms mixture, all experts and uniform."""
    means = frame.groupby("arm")["alignment"].mean()
    by_count = frame.pivot_table(index="cultures", columns="arm", values="alignment")
    by_item = frame.pivot_table(index="item", columns="arm", values="alignment")
    gain = paired(by_item["mixture"].to_numpy(), by_item["all experts"].to_numpy())
    shown = ", ".join(
        f"{gain:+.4f} with {count}" for count, gain in (by_count["mixture"] - by_count["all experts"]).items()
    )
    return (
        f"What routing adds: a mixture of all experts for every query has {means['all experts']:.3f}; the routed "
        f"mixture lies {gain.difference:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}, p {_p(gain.p)}) from it, by number "
        f"of labelled cultures {shown}. For scale: an answer that favours no option has {means['uniform']:.3f}."
    )


def _compared(other: str, difference: float, p: float) -> str:
    side = "not told apart from" if p >= LEVEL else "above" if difference > 0 else "below"
    return f"{side} {other} ({difference:+.4f}, adjusted p {_p(p)})"


def _by_count(frame: pd.DataFrame) -> list[str]:
    """The mixture's differences by the number of labelled cultures."""
    means = frame.pivot_table(index="cultures", columns="arm", values="alignment")
    said = []
    for other in ("direct", "single best"):
        differences = (means["mixture"] - means[other]).items()
        shown = ", ".join(f"{difference:+.4f} with {count}" for count, difference in differences)
        said.append(f"Mixture minus {other} by number of labelled cultures: {shown}.")
    return said


def _why(frame: pd.DataFrame) -> list[str]:
    """Where the committee asks others than the labelled cultures, and what that costs."""
    table = frame.pivot(index="query", columns="arm", values="alignment")
    mine = frame[frame["arm"] == "mixture"].set_index("query")
    kinds = {
        query: _choice(set(asked.split()), set(labelled.split()))
        for query, asked, labelled in zip(mine.index, mine["asked"], mine["labelled"], strict=True)
    }
    said = []
    for kind, part in table.groupby(table.index.map(kinds)):
        means = ", ".join(f"{arm} {part[arm].mean():.3f}" for arm in ("mixture", "single best", "direct", "oracle"))
        said.append(f"The router {kind} in {len(part)} of {len(table)} queries; mean alignment there: {means}.")
    return said


def _choice(asked: set[str], labelled: set[str]) -> str:
    if asked == labelled:
        return "chooses exactly the labelled cultures"
    if not asked:
        return "chooses no expert"
    return "misses a labelled culture and adds none" if asked < labelled else "chooses a culture that is not labelled"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
