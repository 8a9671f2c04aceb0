"""Does an evolved prompt carry to instruments that were not searched, and what does it cost in ability?

    python -m experiments.soft_prompt_de.transfer RUN_OR_EXPERT [opinions=FILE] [knowledge=FILE]

Prints tables of the naive model, the persona line and the expert. Without files of yours it asks those of `data/`.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, bootstrap, pearsonr, rankdata

from evoprompt.errors import UserError, unknown_name
from evoprompt.experts import Expert, read_expert
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.routing.committee import LETTERS
from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS, Culture, Instrument, Item, Plan, Question, full_plan
from evoprompt.typing import Doubles
from experiments.answer_figures import alignment
from experiments.soft_prompt_de.external import MultipleChoice, Opinion, load_choices, load_opinions
from experiments.statistics import RESAMPLES, mean_interval, paired

DATA = Path(__file__).parent / "data"
SAMPLES = {"opinions": DATA / "sample_opinions.jsonl", "knowledge": DATA / "sample_cultural_knowledge.jsonl"}
INDEX = 25.0  # points of a step of the mean keyed answer: an index lies within -50 .. 50
MIDDLE = 3.0
SHOWN = 5  # refused lines that are told one by one
CALLED = {  # what published files call a culture otherwise than we do
    "arab": ("Saudi Arabia",),  # as in arXiv 2503.16094
    "czech_republic": ("Czech Rep.",),
    "great_britain": ("Britain", "United Kingdom"),
    "south_korea": ("S. Korea",),
    "south_africa": ("S. Africa",),
}

Arm = str | torch.Tensor
"""A text that comes before every question (empty for the naive model), or a soft prompt (tokens, hidden)."""
Orders = Callable[[int], list[tuple[int, ...]]]


@dataclass(frozen=True)
class Questionnaire:
    """The second questionnaire: its items as an instrument, and each item's dimension and key (+1 or -1)."""

    instrument: Instrument
    dimensions: tuple[str, ...]
    keys: tuple[int, ...]


@dataclass(frozen=True)
class Agreement:
    """Whether wanted and observed changes go together.

    Attributes
    ----------
    pairs
        Changes that are compared.
    spearman, low, high
        Rank correlation and its 95 % percentile bootstrap interval over the pairs.
    same_sign, signed
        Pairs of one direction, of those that have a direction.
    p
        Two-sided, of so many or so few if directions were tossed up (binomial test).
    """

    pairs: int
    spearman: float
    low: float
    high: float
    same_sign: int
    signed: int
    p: float


@cache
def questionnaire() -> Questionnaire:
    """The 24 statements of `data/second_questionnaire.yaml`."""
    given = yaml.safe_load((DATA / "second_questionnaire.yaml").read_text(encoding="utf-8"))
    items = [Item(number, "agreement", tuple(item["wordings"]), ()) for number, item in given["items"].items()]
    instrument = Instrument(given["name"], {"agreement": tuple(given["options"])}, tuple(items), "")
    entries = given["items"].values()
    return Questionnaire(instrument, tuple(e["dimension"] for e in entries), tuple(e["key"] for e in entries))


def answered(
    respondent: Respondent, arms: Mapping[str, Arm], plan: Plan
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """What every arm answers: probabilities of the options as shown (Q, options), and of any of the labels (Q,).

    One forward pass for each question and arm; soft prompts of one length share it.
    """
    together: dict[tuple[str, int], dict[str, torch.Tensor]] = {}
    for name, arm in arms.items():
        preface, prompt = (arm, torch.zeros(0, respondent.frozen.hidden)) if isinstance(arm, str) else ("", arm)
        together.setdefault((preface, len(prompt)), {})[name] = prompt
    found: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for (preface, _), prompts in together.items():
        sheet = respondent.sheet(plan.texts(preface), [question.labels for question in plan.questions])
        shares, mass = respondent.answer_with_mass(torch.stack(list(prompts.values())), sheet)
        found.update(zip(prompts, zip(shares, mass, strict=True), strict=True))
    return {name: found[name] for name in arms}


def second_questionnaire(
    respondent: Respondent, arms: Mapping[str, Arm], people: Sequence[str] = ("",)
) -> pd.DataFrame:
    """Ask the second questionnaire: both wordings, both orders, both label sets, of every respondent line.

    Returns
    -------
    DataFrame
        A row for each arm and item: `arm`, `dimension`, `item`, `answer` (mean, 1 to 5) and `value`, its distance from
        the middle times 25 and the item's key: positive is more of the dimension. `indices` takes the means.
    """
    asked = questionnaire()
    plan = full_plan(asked.instrument, "searched", people)
    rows = []
    for arm, (shares, _) in answered(respondent, arms, plan).items():
        means = plan.item_means(shares)
        for number, answer in enumerate(means):
            value = INDEX * asked.keys[number] * (answer - MIDDLE)
            rows.append((arm, asked.dimensions[number], number + 1, float(answer), float(value)))
    return pd.DataFrame(rows, columns=["arm", "dimension", "item", "answer", "value"])


def indices(items: pd.DataFrame) -> pd.DataFrame:
    """Index of each arm and dimension, (arms, 6): the mean value of a dimension's items, -50 to 50.

    The zero point means nothing; compare arms. Who agrees with everything, or with nothing, has 0 on every dimension.
    """
    means = items.groupby(["arm", "dimension"], sort=False)["value"].mean().unstack()
    return means[list(DIMENSIONS)]


def opinions(respondent: Respondent, arms: Mapping[str, Arm], entries: Sequence[Opinion]) -> pd.DataFrame:
    """Agreement with what countries answered, options shown in both orders.

    Returns
    -------
    DataFrame
        A row for each arm, question and country: `arm`, `question` (place in `entries`), `country`, `alignment`
        (1 - Jensen-Shannon distance to the country's shares, 0 to 1) and `label_mass`, the probability of answering
        with any of the labels.
    """
    rows = []
    for arm, place, shares, mass in _distributions(respondent, arms, entries, _both_ways):
        for country, target in entries[place].shares.items():
            rows.append((arm, place, country, alignment(shares.tolist(), [target]), mass))
    return pd.DataFrame(rows, columns=["arm", "question", "country", "alignment", "label_mass"])


def choices(respondent: Respondent, arms: Mapping[str, Arm], entries: Sequence[MultipleChoice]) -> pd.DataFrame:
    """Accuracy on questions with one right answer, every option shown at every place once.

    Returns
    -------
    DataFrame
        A row for each arm and question: `arm`, `question` (place in `entries`), `group`, `correct` (1 if the right
        option is the likeliest, 0 if not; options equally likely share it), `probability` of the right one and
        `label_mass`.
    """
    rows = []
    for arm, place, shares, mass in _distributions(respondent, arms, entries, _all_round):
        right = entries[place].right
        best = np.isclose(shares, shares.max(), rtol=0.0, atol=1e-6)  # NaN is close to nothing
        correct = float(best[right] / best.sum()) if best.any() else float("nan")
        rows.append((arm, place, entries[place].group, correct, float(shares[right]), mass))
    return pd.DataFrame(rows, columns=["arm", "question", "group", "correct", "probability", "label_mass"])


def ability() -> list[MultipleChoice]:
    """The 60 general questions of `data/ability.jsonl`, by subject."""
    return load_choices(DATA / "ability.jsonl", "subject")[0]


def agreement(wanted: ArrayLike, observed: ArrayLike) -> Agreement:
    """Does a second instrument move the way the first one's target asks?

    Pairs are taken as independent, which those of one region, asked under one prompt, are not quite: give one row per
    region (the mean over its seeds), and read the interval as a lower bound of the uncertainty.

    Parameters
    ----------
    wanted
        (r, 6) target minus the naive model's score on the searched instrument; NaN where there is no target.
    observed
        (r, 6) index under the evolved prompt minus index under none.
    """
    x, y = np.asarray(wanted, dtype=np.float64).ravel(), np.asarray(observed, dtype=np.float64).ravel()
    if x.shape != y.shape:
        raise ValueError(f"wanted has {x.size} changes, observed {y.size}; they must be the same")
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    directed = (x != 0) & (y != 0)
    same, signed = int((np.sign(x) == np.sign(y))[directed].sum()), int(directed.sum())
    p = float(binomtest(same, signed).pvalue) if signed else float("nan")
    if len(x) < 3:
        return Agreement(len(x), float("nan"), float("nan"), float("nan"), same, signed, p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a sample all alike has no ranks: it is left out
        found = bootstrap(
            (x, y), _spearman, paired=True, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
        )
        low, high = np.nanpercentile(found.bootstrap_distribution, [2.5, 97.5])
        return Agreement(len(x), float(_spearman(x, y)), float(low), float(high), same, signed, p)


def is_country(name: str, culture: Culture) -> bool:
    """Whether a published file's country is this culture's.

    >>> from evoprompt.surveys import get_culture
    >>> is_country("S. Korea", get_culture("south_korea")), is_country("India", get_culture("usa"))
    (True, False)
    """
    own = (culture.name, culture.place.removeprefix("the "), *CALLED.get(culture.key, ()))
    return re.sub(r"\s*\(.*\)$", "", name).casefold() in {other.casefold() for other in own}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure an expert and print the tables. Returns the exit code: 0, or 2 for bad input."""
    try:
        folder, files = _parsed(sys.argv[1:] if arguments is None else arguments)
        loaded_opinions, bad = load_opinions(files["opinions"])
        loaded_choices, worse = load_choices(files["knowledge"])
        _tell([*bad, *worse])
        expert = read_expert(folder / "expert" if (folder / "expert").is_dir() else folder)
        base = expert.provenance["base_model"]
        frozen = load_model(ModelSpec(name=base["name"], revision=base.get("revision")))
        expert.check_base(frozen)
        _print_tables(frozen, expert, loaded_opinions, loaded_choices)
        if files["opinions"] == SAMPLES["opinions"]:
            print("The shares behind these opinions are illustrative: no survey was held.")
        if base["name"] == "pocket":
            print("The pocket model is a simulator: none of this is about people.")
    except UserError as error:
        print(f"evoprompt: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _both_ways(count: int) -> list[tuple[int, ...]]:
    """Orders in which the options of an opinion are shown, from first to last and back."""
    return [tuple(range(count)), tuple(reversed(range(count)))]


def _all_round(count: int) -> list[tuple[int, ...]]:
    """Orders in which every option stands at every place once: whoever looks at places alone, guesses.

    >>> _all_round(3)
    [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    """
    return [tuple((start + place) % count for place in range(count)) for start in range(count)]


def _distributions(
    respondent: Respondent, arms: Mapping[str, Arm], entries: Sequence[Opinion | MultipleChoice], orders: Orders
) -> list[tuple[str, int, Doubles, float]]:
    """Arm, place in `entries`, mean shares (options,) over the orders, and mean label mass; questions in order."""
    found = []
    for count in sorted({len(entry.options) for entry in entries}):
        places = [place for place, entry in enumerate(entries) if len(entry.options) == count]
        shown = orders(count)
        questions = [
            Question(
                place,
                entries[place].question,
                tuple(entries[place].options[option] for option in order),
                tuple(LETTERS[:count]),
                order,
            )
            for place in places
            for order in shown
        ]
        back = np.argsort(np.array(shown), axis=1)  # (orders, options) where each option stands
        for arm, (shares, mass) in answered(respondent, arms, Plan(tuple(questions))).items():
            sorted_shares = np.take_along_axis(shares.reshape(len(places), *back.shape), back[None], axis=2)
            means = sorted_shares.astype(np.float64).mean(axis=1)
            masses = mass.reshape(len(places), len(shown)).mean(axis=1)
            found += [(arm, place, means[i], float(masses[i])) for i, place in enumerate(places)]
    names = list(arms)
    return sorted(found, key=lambda row: (names.index(row[0]), row[1]))


def _spearman(x: Doubles, y: Doubles, axis: int = -1) -> Doubles:
    """Rank correlations of many samples at once."""
    return np.asarray(pearsonr(rankdata(x, axis=axis), rankdata(y, axis=axis), axis=axis).statistic)


def _parsed(arguments: Sequence[str]) -> tuple[Path, dict[str, Path]]:
    """The folder and the files that are asked."""
    folders = [text for text in arguments if "=" not in text]
    if len(folders) != 1:
        raise UserError(f"give one folder of a run or an expert, and if wanted opinions=FILE knowledge=FILE: {folders}")
    files = dict(SAMPLES)
    for text in arguments:
        key, given, value = text.partition("=")
        if given and key not in SAMPLES:
            raise unknown_name("key", key, SAMPLES)
        if given:
            files[key] = Path(value)
    return Path(folders[0]), files


def _tell(refused: Sequence[str]) -> None:
    for line in refused[:SHOWN]:
        print(f"left out: {line}", file=sys.stderr)
    if len(refused) > SHOWN:
        print(f"left out: {len(refused) - SHOWN} more lines", file=sys.stderr)


def _print_tables(
    frozen: FrozenModel, expert: Expert, asked: Sequence[Opinion], knowledge: Sequence[MultipleChoice]
) -> None:
    known = expert.provenance["culture"]
    culture = Culture(known["key"], known["name"], known.get("place") or known["name"], known.get("targets") or {}, "")
    arms: dict[str, Arm] = {"naive": "", "persona": culture.persona(), "expert": expert.prompt}
    respondent = Respondent(frozen, expert.placement)
    print(f"{culture.name}, {frozen.spec.name}: means with 95 % bootstrap intervals\n")
    _print_questionnaire(second_questionnaire(respondent, arms), culture, expert)
    agreeing = opinions(respondent, arms, asked)
    _print_table("Opinions, alignment (0 to 1)", agreeing, _whose(agreeing.country, culture), "alignment")
    right = choices(respondent, arms, knowledge)
    _print_table("Cultural knowledge, accuracy", right, _whose(right.group, culture), "correct")
    able = choices(respondent, arms, ability())
    _print_table("General ability, accuracy", able, able.group, "correct")
    by_arm = able.pivot(index="question", columns="arm", values="correct").dropna()
    cost = paired(by_arm["expert"].to_numpy(), by_arm["naive"].to_numpy())
    print(f"expert - naive: {cost.difference:+.3f} [{cost.low:+.3f}, {cost.high:+.3f}], p = {cost.p:.3f}\n")


def _whose(countries: pd.Series, culture: Culture) -> pd.Series:
    return countries.map(lambda name: name if is_country(name, culture) else "other countries")


def _print_table(title: str, frame: pd.DataFrame, groups: pd.Series, value: str) -> None:
    """Rows are groups and all questions together, columns the arms; a question counts once in a group."""
    shown: dict[str, dict[str, str]] = {}
    for arm, part in frame.groupby("arm", sort=False):
        cells = {str(name): rows for name, rows in part.groupby(groups.loc[part.index], sort=False)}
        shown[str(arm)] = {
            name: _span(*mean_interval(rows.groupby("question")[value].mean().dropna()))
            for name, rows in {**cells, "all": part}.items()
        }
    print(f"{title}\n{pd.DataFrame(shown).to_string()}\n")


def _print_questionnaire(items: pd.DataFrame, culture: Culture, expert: Expert) -> None:
    """Indices, the expert's change with its interval over items, and the change that the target asks for."""
    found = indices(items).T
    by_item = items.pivot(index=["dimension", "item"], columns="arm", values="value")
    changes = (by_item["expert"] - by_item["naive"]).groupby("dimension")
    intervals = {name: mean_interval(part) for name, part in changes}
    shown = found.map("{:+.1f}".format)
    shown["expert - naive"] = [_span(*intervals[name], "+.1f") for name in found.index]
    scores = expert.provenance.get("arms", {}).get("naive", {}).get("held_out", {}).get("dimensions") or {}
    naive = np.array([np.nan if scores.get(name) is None else scores[name] for name in DIMENSIONS])
    shown["wanted"] = [f"{change:+.0f}" for change in culture.target - naive]
    print(f"Second questionnaire, index (-50 to 50)\n{shown.rename(index=DIMENSION_NAMES).to_string()}\n")
    for arm in ("persona", "expert"):
        seen = agreement(culture.target - naive, found[arm] - found["naive"])
        print(
            f"{arm} moves as the target asks: {seen.same_sign} of {seen.signed} dimensions (p = {seen.p:.2f}), "
            f"rank correlation {_span(seen.spearman, seen.low, seen.high)}"
        )
    print()


def _span(value: float, low: float, high: float, style: str = ".2f") -> str:
    return f"{value:{style}} [{low:{style}}, {high:{style}}]"


if __name__ == "__main__":
    sys.exit(main())
