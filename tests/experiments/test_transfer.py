"""Transfer to instruments that were not searched."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evoprompt.errors import UserError
from evoprompt.experts import BUNDLED, Registry, read_expert
from evoprompt.llm import FrozenModel, Respondent, Sheet
from evoprompt.surveys import DIMENSIONS, cultures, full_plan, get_culture, vsm13
from experiments.soft_prompt_de.external import MultipleChoice, Opinion, load_choices, load_opinions
from experiments.soft_prompt_de.transfer import (
    SAMPLES,
    ability,
    agreement,
    answered,
    choices,
    indices,
    is_country,
    main,
    opinions,
    questionnaire,
    second_questionnaire,
)

JAPAN = Registry(BUNDLED).path("japan")
OPINION = {
    "question": "Is rain good?",
    "selections": "defaultdict(<class 'list'>, {'Japan': [0.2, 0.8], 'India (old sample)': [1.0, 0.0]})",
    "options": "['Yes', 'No']",
    "source": "GAS",
}
CHOICE = {
    "data_idx": 7,
    "question_idx": 7,
    "prompt_question": "Which is wet?",
    "prompt_option_a": "sand",
    "prompt_option_b": "dust",
    "prompt_option_c": "rain",
    "prompt_option_d": "ash",
    "answer": "C",
    "country": "Japan",
}


@dataclass(eq=False)
class ByRule(Respondent):
    """Answers every question by a rule: texts of its options as shown -> their shares."""

    rule: Callable[[list[str]], list[float]] = field(default=lambda options: [1.0] * len(options))

    def answer_with_mass(
        self, soft_prompts: torch.Tensor, sheet: Sheet
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        shown = [re.search(r"Options: (.*)\.\nQuestion", text)[1].split("; ") for text in sheet.texts]
        shares = [self.rule([option.split(" = ")[1] for option in options]) for options in shown]
        given = np.repeat(np.array(shares, dtype=np.float32)[None], len(soft_prompts), axis=0)
        return given, np.ones(given.shape[:2], dtype=np.float32)


def by_rule(pocket: FrozenModel, rule: Callable[[list[str]], list[float]]) -> Respondent:
    respondent = ByRule(pocket)
    respondent.rule = rule
    return respondent


def write_json(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_csv(path: Path, *records: dict[str, Any]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return path


def test_the_questionnaire_has_four_items_for_each_dimension_two_for_it_and_two_against() -> None:
    asked = questionnaire()
    assert Counter(zip(asked.dimensions, asked.keys, strict=True)) == {(d, k): 2 for d in DIMENSIONS for k in (1, -1)}
    assert all(len(item.searched) == 2 for item in asked.instrument.items)
    wordings = {text for item in asked.instrument.items for text in item.searched}
    assert len(wordings) == 48
    assert not wordings & {text for item in vsm13().items for text in item.searched + item.held_out}


def test_who_agrees_with_everything_scores_zero_on_every_dimension(pocket: FrozenModel) -> None:
    agreeing = by_rule(pocket, lambda options: [float(option == "agree") for option in options])
    items = second_questionnaire(agreeing, {"naive": ""})
    assert set(items.answer) == {4.0}
    assert indices(items).loc["naive"].tolist() == [0.0] * 6


def test_a_liking_for_labels_and_positions_cancels(pocket: FrozenModel) -> None:
    biased = by_rule(pocket, lambda options: [0.6, 0.2, 0.1, 0.1, 0.0][: len(options)])
    np.testing.assert_allclose(second_questionnaire(biased, {"naive": ""}).answer, 3.0, atol=1e-6)
    right = choices(biased, {"naive": ""}, ability())
    np.testing.assert_allclose(right.probability, 0.25, atol=1e-6)
    assert right.correct.mean() == 0.25
    yes_or_no = [Opinion("Is rain good?", ("yes", "no"), {"Japan": (0.5, 0.5)})]
    assert opinions(biased, {"naive": ""}, yes_or_no).alignment[0] == pytest.approx(1.0, abs=1e-4)


def test_agreeing_with_items_of_one_key_alone_gives_the_ends_of_the_index(pocket: FrozenModel) -> None:
    asked = questionnaire()
    key_of = {w: k for item, k in zip(asked.instrument.items, asked.keys, strict=True) for w in item.searched}

    class Believer(Respondent):
        def answer_with_mass(
            self, soft_prompts: torch.Tensor, sheet: Sheet
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            given = np.zeros((1, len(sheet), 5), dtype=np.float32)
            for place, text in enumerate(sheet.texts):
                key = key_of[re.search(r"Question: (.*)\n", text)[1]]
                first = "strongly agree" if key > 0 else "strongly disagree"
                options = [o.split(" = ")[1] for o in re.search(r"Options: (.*)\.\n", text)[1].split("; ")]
                given[0, place, options.index(first)] = 1.0
            return given, np.ones(given.shape[:2], dtype=np.float32)

    found = indices(second_questionnaire(Believer(pocket), {"naive": ""}))
    assert found.columns.tolist() == list(DIMENSIONS)
    assert found.loc["naive"].tolist() == [50.0] * 6


def test_who_knows_the_answers_is_right_wherever_they_stand(pocket: FrozenModel) -> None:
    rights = {question.options[question.right] for question in ability()[45:]}
    knowing = by_rule(pocket, lambda options: [float(option in rights) + 0.01 for option in options])
    assert choices(knowing, {"naive": ""}, ability()[45:]).correct.mean() > 0.8


def test_where_the_output_is_not_finite_there_is_no_figure(pocket: FrozenModel) -> None:
    broken = by_rule(pocket, lambda options: [float("nan")] * len(options))
    assert choices(broken, {"naive": ""}, ability()).correct.isna().all()
    assert indices(second_questionnaire(broken, {"naive": ""})).isna().all(axis=None)
    assert opinions(broken, {"naive": ""}, load_opinions(SAMPLES["opinions"])[0]).alignment.isna().all()


def test_arms_answer_as_they_do_when_asked_alone(pocket: FrozenModel) -> None:
    japan, china = (Registry(BUNDLED)[name].prompt for name in ("japan", "china"))
    arms = {"naive": "", "japan": japan, "persona": "You are from Japan.", "china": china, "short": japan[:2]}
    together = choices(Respondent(pocket), arms, ability()[:3])
    assert list(dict.fromkeys(together.arm)) == list(arms)
    by_arm = together.pivot(index="question", columns="arm", values="probability")
    assert by_arm.T.drop_duplicates().shape == (5, 3)
    for name in ("china", "persona"):
        alone = choices(Respondent(pocket), {name: arms[name]}, ability()[:3])
        np.testing.assert_allclose(alone.probability, by_arm[name], atol=1e-4)


def test_shares_go_back_to_the_options_that_they_were_given_for(pocket: FrozenModel) -> None:
    liked = {"a": 0.1, "b": 0.2, "c": 0.7}
    entry = Opinion("Which letter?", ("a", "b", "c"), {"here": (0.1, 0.2, 0.7), "there": (0.7, 0.2, 0.1)})
    found = opinions(by_rule(pocket, lambda options: [liked[option] for option in options]), {"naive": ""}, [entry])
    assert found.alignment[0] == pytest.approx(1.0, abs=1e-3)
    assert found.alignment[1] < 0.6


def test_the_pocket_model_answers_with_labels_everywhere(pocket: FrozenModel) -> None:
    arms = {"naive": "", "expert": read_expert(JAPAN).prompt}
    found = opinions(Respondent(pocket), arms, load_opinions(SAMPLES["opinions"])[0])
    assert len(found) == 2 * 14 * 6
    assert found.alignment.between(0, 1).all()
    assert found.label_mass.between(0, 1.001).all()


def test_right_answers_are_balanced_over_letters_and_questions_differ() -> None:
    questions = ability()
    assert Counter(question.right for question in questions) == dict.fromkeys(range(4), 15)
    assert Counter(question.group for question in questions) == dict.fromkeys(
        ("arithmetic", "words", "facts", "logic"), 15
    )
    assert len({question.question for question in questions}) == 60


def test_the_samples_say_that_their_shares_are_illustrative() -> None:
    lines = SAMPLES["opinions"].read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["source"].startswith("illustrative") for line in lines)
    loaded, refused = load_opinions(SAMPLES["opinions"])
    assert len(loaded) == 14
    assert not refused
    known, refused = load_choices(SAMPLES["knowledge"])
    assert len(known) == 16
    assert not refused


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_published_layouts_are_read(tmp_path: Path, suffix: str) -> None:
    write = write_csv if suffix == "csv" else write_json
    (opinion,), refused = load_opinions(write(tmp_path / f"opinions.{suffix}", OPINION))
    assert opinion == Opinion("Is rain good?", ("Yes", "No"), {"Japan": (0.2, 0.8), "India (old sample)": (1.0, 0.0)})
    assert not refused
    (choice,), refused = load_choices(write(tmp_path / f"knowledge.{suffix}", CHOICE))
    assert choice == MultipleChoice("Which is wet?", ("sand", "dust", "rain", "ash"), 2, "Japan")
    assert not refused


def test_plain_lists_and_percentages_are_read_too(tmp_path: Path) -> None:
    plain = OPINION | {"selections": {"Japan": [20, 60]}, "options": [1, 2.5]}
    (opinion,), _ = load_opinions(write_json(tmp_path / "opinions.jsonl", plain))
    assert opinion.options == ("1", "2.5")
    assert opinion.shares == {"Japan": (0.25, 0.75)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": ""}, "question is '', it must be a text"),
        ({"options": "['Yes']"}, "must be 2 to 26 different texts"),
        ({"options": "['Yes', 'Yes']"}, "must be 2 to 26 different texts"),
        ({"options": "Yes or no"}, "options 'Yes or no' cannot be read"),
        ({"selections": "__import__('os').getcwd()"}, "cannot be read; it must be a plain list or dictionary"),
        ({"selections": "defaultdict(<class 'list'>, {'Japan': [nan, 1.0]})"}, "cannot be read"),
        ({"selections": "{}"}, "do not map countries to shares"),
        ({"selections": "{'Japan': [1.0]}"}, "shares of Japan must be 2 numbers, one for each option, not [1.0]"),
        ({"selections": "{'Japan': [-0.5, 1.5]}"}, "shares of Japan are [-0.5, 1.5]; they must be numbers from 0"),
        ({"selections": "{'Japan': [0, 0]}"}, "shares of Japan sum to 0.0"),
        ({"selections": f"{{'Japan': [{10**400}, 1]}}"}, "they must be numbers from 0 to 1e+09"),
    ],
)
def test_a_bad_opinion_is_left_out_with_its_line_and_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = write_csv(tmp_path / "opinions.csv", OPINION | {"question": "Two\nlines?"}, OPINION | change, OPINION)
    loaded, (line,) = load_opinions(path)
    assert [opinion.question for opinion in loaded] == ["Two lines?", "Is rain good?"]
    assert line.startswith(f"{path}, line 4: ")
    assert reason in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "is not a JSON object"),
        (json.dumps(CHOICE | {"answer": "E"}), "answer 'E' must be one of A, B, C, D"),
        (json.dumps(CHOICE | {"prompt_option_b": None}), "prompt_option_b is None, it must be a text"),
        (json.dumps({k: v for k, v in CHOICE.items() if k != "country"}), "there is no 'country'; there are data_idx"),
        (json.dumps({"prompt_question": "?", "prompt_option": "x", "answer": True}), "CulturalBench-Hard"),
    ],
)
def test_a_bad_choice_is_left_out_with_its_line_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "knowledge.jsonl"
    path.write_text(f"{json.dumps(CHOICE)}\n\n{text}\n", encoding="utf-8")
    loaded, (line,) = load_choices(path)
    assert len(loaded) == 1
    assert line.startswith(f"{path}, line 3: ")
    assert reason in line


def test_a_csv_row_with_a_field_too_many_is_left_out(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "knowledge.csv", CHOICE)
    path.write_text(path.read_text(encoding="utf-8") + "1,2\n", encoding="utf-8")
    loaded, refused = load_choices(path)
    assert len(loaded) == 1
    assert refused == [f"{path}, line 3: has 2 fields, the header has 9"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("absent.csv", None, "cannot read"),
        ("opinions.parquet", b"", "files end in .csv or .jsonl"),
        ("empty.jsonl", b"", "it is empty"),
        ("latin.csv", b"question\n\xe9\n", "cannot read"),
        ("other.csv", b"a,b\n1,2\n", "there is no 'question'; there are a, b"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as refused:
        load_opinions(tmp_path / name)
    assert reason in str(refused.value)
    assert name in str(refused.value)


def test_changes_as_wanted_agree_and_opposite_ones_do_not() -> None:
    rng = np.random.default_rng(1)
    wanted = rng.normal(0, 30, (4, 6))
    observed = 0.2 * wanted + rng.normal(0, 1, (4, 6))
    found = agreement(wanted, observed)
    assert found.pairs == found.signed == 24
    assert found.spearman > 0.9
    assert 0.8 < found.low <= found.spearman <= found.high <= 1
    assert found.same_sign >= 20
    assert found.p < 0.001
    opposite = agreement(wanted, -observed)
    assert opposite.spearman == pytest.approx(-found.spearman)
    assert opposite.same_sign == 24 - found.same_sign


def test_changes_by_chance_are_called_chance() -> None:
    rng = np.random.default_rng(2)
    found = agreement(rng.normal(size=(4, 6)), rng.normal(size=(4, 6)))
    assert found.low < 0 < found.high
    assert found.p > 0.05


def test_what_is_missing_or_does_not_move_is_not_counted() -> None:
    wanted = np.array([[10.0, -5.0, np.nan, 3.0, 0.0, 8.0]])
    observed = np.array([[1.0, -2.0, 9.0, 0.0, 4.0, -1.0]])
    found = agreement(wanted, observed)
    assert (found.pairs, found.signed, found.same_sign) == (5, 3, 2)
    nothing = agreement(np.full((1, 6), np.nan), observed)
    assert (nothing.pairs, nothing.signed) == (0, 0)
    assert np.isnan([nothing.spearman, nothing.low, nothing.p]).all()


def test_countries_of_published_files_are_known_by_their_names() -> None:
    for name, key in (
        ("United States", "usa"),
        ("Britain", "great_britain"),
        ("South Korea", "south_korea"),
        ("India (Current national sample)", "india"),
        ("Saudi Arabia", "arab"),
    ):
        assert is_country(name, get_culture(key)), name
    assert sum(is_country("India", culture) for culture in cultures().values()) == 1


@pytest.mark.system
def test_the_command_measures_an_expert_on_files_of_the_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = write_csv(tmp_path / "opinions.csv", OPINION, OPINION | {"options": "?"})
    known = write_csv(tmp_path / "knowledge.csv", CHOICE)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "expert").symlink_to(JAPAN)
    assert main([str(tmp_path / "run"), f"opinions={asked}", f"knowledge={known}"]) == 0
    said, warned = capsys.readouterr()
    for words in ("Japan, pocket", "Power distance", "alignment", "Cultural knowledge", "arithmetic", "simulator"):
        assert words in said
    assert "illustrative" not in said
    assert warned.splitlines()[-1].startswith(f"left out: {asked}, line 3: options '?' cannot be read")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give one folder"),
        ([str(JAPAN), "opinion=x.csv"], "unknown key 'opinion'; did you mean opinions?"),
        ([str(JAPAN), "opinions=absent.csv"], "cannot read absent.csv"),
        (["absent"], "absent is not a complete expert folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert reason in line
    assert line.count("\n") == 1


def test_every_form_is_asked_once(pocket: FrozenModel) -> None:
    plan = full_plan(questionnaire().instrument, "searched")
    assert len(plan.questions) == len(set(plan.texts())) == 24 * 2 * 4
    ((shares, mass),) = answered(Respondent(pocket), {"naive": ""}, plan).values()
    assert shares.shape == (192, 5)
    assert mass.shape == (192,)
