"""Experts that answer together say what each says alone, and what PEFT says."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from evoprompt.commands.start import call
from evoprompt.errors import UserError
from evoprompt.experts import write_expert
from evoprompt.experts.registry import Registry
from evoprompt.llm import PLACEMENTS, FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.llm.speak.decoding import Decoder, Sampling, decode
from evoprompt.routing import Committee, Profile, Voice, load_router

main = partial(call, "route")

GREETING = "How do I greet my host?"


def voices(committee: Committee, *names: str) -> list[Voice]:
    return [Voice(name, committee.registry[name], 1 / len(names)) for name in names]


@pytest.fixture(scope="module")
def mixed(pocket: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Committee:
    """Experts of different lengths and placements."""
    folder, (mean, spread) = tmp_path_factory.mktemp("experts"), pocket.embedding_statistics
    for seed, placement in enumerate(PLACEMENTS):
        noise = torch.randn(2 + 3 * seed, pocket.hidden, generator=torch.Generator().manual_seed(seed))
        about = {"culture": {"key": placement, "name": placement, "edition": "test", "targets": {}}}
        write_expert(folder / placement, mean + 2 * spread * noise, pocket, about, placement)
    return Committee(pocket, Registry(folder, pocket))


def test_a_panel_says_what_each_expert_says_alone(mixed: Committee) -> None:
    together = mixed.answer(GREETING, "panel", voices=voices(mixed, *PLACEMENTS), sampling=Sampling(12))
    for name in PLACEMENTS:
        alone = mixed.answer(GREETING, voices=voices(mixed, name), sampling=Sampling(12))
        assert together.panel[name] == alone.text
        assert f"{name}: {alone.text}" in together.text


def test_a_mixture_of_equal_experts_is_their_answer_and_weights_count(everybody: Committee) -> None:
    japan = voices(everybody, "japan")
    alone = everybody.answer(GREETING, voices=japan).text
    assert everybody.answer(GREETING, voices=[*japan, *japan, *japan]).text == alone
    brazil = Voice("brazil", everybody.registry["brazil"], 1e-6)
    assert everybody.answer(GREETING, voices=[*japan, brazil]).text == alone


def test_a_synthesis_reads_the_panel(everybody: Committee) -> None:
    answer = everybody.answer(GREETING, "synthesis", voices=voices(everybody, "japan", "brazil"), sampling=Sampling(16))
    assert set(answer.panel) == {"japan", "brazil"}
    stream = everybody.synthesis(
        [{"role": "user", "content": GREETING}], answer.voices, list(answer.panel.values()), Sampling(16)
    )
    (text,) = decode(Decoder(everybody.frozen), [stream], everybody.stops)
    assert text == answer.text


def test_answers_too_long_for_a_synthesis_are_cut_alike(everybody: Committee) -> None:
    limit, sampling = everybody.frozen.max_length, Sampling(16)
    asked = [{"role": "user", "content": GREETING}]
    panel = voices(everybody, "japan", "brazil", "kenya")
    long = "a gift and a few warm words " * 400
    stream = everybody.synthesis(asked, panel, ["Bow.", long, long], sampling)
    assert limit - 8 < stream.longest <= limit
    same = everybody.synthesis(asked, panel, ["Bow.", long + long, long], sampling)
    torch.testing.assert_close(stream.rows[0], same.rows[0])
    with pytest.raises(UserError, match=r"leaves no room in the 1024 tokens .* for 3 answers and 990 tokens"):
        everybody.synthesis(asked, panel, ["Bow.", long, long], Sampling(990))


def test_of_two_experts_of_a_culture_the_better_one_is_asked(pocket: FrozenModel, tmp_path: Path) -> None:
    for name, loss in (("a", 9.0), ("b", 2.0), ("c", None)):
        about = {"culture": {"key": "japan", "name": "Japan", "edition": "test", "targets": {"pdi": 54.0}}}
        scored = {"loss": loss, "interval": [loss, loss], "dimensions": {}}
        about["arms"] = {"evolved": {"searched": scored, "held_out": scored}} if loss else {}
        write_expert(tmp_path / name, torch.zeros(2, pocket.hidden), pocket, about, "prefix")
    committee = Committee(pocket, Registry(tmp_path, pocket), load_router())
    _, chosen = committee.route("What do I bring as omiyage?")
    assert [voice.name for voice in chosen] == ["b"]


def test_cultures_of_the_users_own_are_told_apart_and_routed_to_by_name(pocket: FrozenModel, tmp_path: Path) -> None:
    for name, place in (("Freedonia", "the hills of Freedonia"), ("Sylvania", "Sylvania")):
        culture = {"key": "custom", "name": name, "place": place, "edition": "user", "targets": {"pdi": 50.0}}
        write_expert(tmp_path / name, torch.zeros(2, pocket.hidden), pocket, {"culture": culture}, "prefix")
    committee = Committee(pocket, Registry(tmp_path, pocket), load_router())
    for name in ("Freedonia", "Sylvania"):
        _, chosen = committee.route(f"How do I greet my host in {name}?")
        assert [(voice.name, voice.culture) for voice in chosen] == [(name, name)]
    _, chosen = committee.route("What is 17 * 23?")
    assert chosen[0].culture is None


def test_whoever_is_routed_to_answers_and_nobody_where_none_is_needed(everybody: Committee) -> None:
    answer = everybody.answer("What do I bring as omiyage?")
    assert [voice.name for voice in answer.voices] == ["japan"]
    assert answer.route is not None
    assert [voice.name for voice in everybody.answer("What is 17 * 23?").voices] == ["base"]
    placed = everybody.answer(GREETING, profile=Profile("Nairobi"))
    assert placed.voices[0].name == "kenya"
    assert placed.voices[0].label == "Kenya"
    spread = everybody.answer(GREETING)
    assert len(spread.voices) == 3
    assert spread.route is not None
    assert spread.route.spread


@pytest.mark.parametrize("placement", ["prefix", "suffix"])
def test_option_probabilities_are_those_of_our_scoring(placement: str, mixed: Committee, pocket: FrozenModel) -> None:
    opinion = mixed.opinion("How important is rest to you?", ["very", "not at all"], voices=voices(mixed, placement))
    text = "Options: A = very; B = not at all.\nQuestion: How important is rest to you?\nAnswer:"
    respondent = Respondent(pocket, placement)
    prompt = mixed.registry[placement].prompt[None]
    expected, mass = respondent.answer_with_mass(prompt, respondent.sheet([text], [["A", "B"]]))
    np.testing.assert_allclose(opinion.log_probabilities[placement][0], np.log(expected[0, 0] * mass[0, 0]), atol=1e-5)
    assert opinion.shares.sum() == pytest.approx(1)
    assert 0 < opinion.label_mass[placement] <= 1


def test_peft_gives_the_same_option_logits(everybody: Committee) -> None:
    name = "india"
    tuned = PeftModel.from_pretrained(load_model(ModelSpec(device="cpu")).model, everybody.registry.path(name)).eval()
    opinion = everybody.opinion("Is it good to save?", ["yes", "no", "it depends"], voices=voices(everybody, name))
    tokenizer = everybody.frozen.tokenizer
    for row, shown in zip(opinion.log_probabilities[name], [(0, 1, 2), (2, 1, 0)], strict=True):
        options = "; ".join(f"{label} = {opinion.options[i]}" for label, i in zip("ABC", shown, strict=True))
        text = f"Options: {options}.\nQuestion: Is it good to save?\nAnswer:"
        with torch.inference_mode():
            logits = tuned(input_ids=tokenizer(text, return_tensors="pt").input_ids).logits[0, -1]
        labels = [tokenizer(f" {label}").input_ids[0] for label in "ABC"]
        theirs = torch.log_softmax(logits, dim=-1)[labels].numpy()
        np.testing.assert_allclose(row[list(shown)], theirs, atol=1e-4)


def test_shares_are_weighted_over_voices_and_neutral_to_the_order(everybody: Committee) -> None:
    one, other = voices(everybody, "japan", "brazil")
    mix = everybody.opinion("Is rest important?", ["yes", "no"], voices=[one, other])
    np.testing.assert_allclose(mix.shares, (mix.by_voice["japan"] + mix.by_voice["brazil"]) / 2)
    turned = everybody.opinion("Is rest important?", ["no", "yes"], voices=[one, other])
    np.testing.assert_allclose(turned.shares[::-1], mix.shares, atol=1e-6)


@pytest.mark.parametrize("options", [["yes"], ["yes", "yes"], ["yes", " "], [str(i) for i in range(27)]])
def test_options_that_are_none_are_refused(options: list[str], everybody: Committee) -> None:
    with pytest.raises(UserError, match="must be 2 to 26 different texts"):
        everybody.opinion("Rest?", options)


def test_what_cannot_be_composed_or_asked_is_refused(mixed: Committee) -> None:
    with pytest.raises(UserError, match=r"unknown composition 'duet'\. Known"):
        mixed.answer(GREETING, "duet", voices=voices(mixed, "prefix"))
    with pytest.raises(UserError, match="has no router; name an expert"):
        mixed.answer(GREETING)


def test_the_command_says_who_spoke_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["What do I bring as omiyage?"]) == 0
    said = capsys.readouterr().out
    assert "Japan" in said
    assert "says omiyage" in said
    assert "the pocket model is a simulator" in said


def test_the_command_gives_one_json_object_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Who pays in Osaka and in Lagos?", "--json", "--compose", "panel"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {voice["name"] for voice in found["voices"]} == set(found["panel"]) == {"japan", "nigeria"}
    assert found["route"]["needs_experts"] > 0.9
    assert main(["Is rest important?", "--json", "--expert", "japan", "--options", "yes|no"]) == 0
    assert sum(json.loads(capsys.readouterr().out)["shares"].values()) == pytest.approx(1)


def test_shares_of_hardly_anything_are_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Should I bring my relatives to the party?", "--expert", "japan", "--options", "yes|no"]) == 0
    said = capsys.readouterr().out
    assert "the labels have under 1% of its words, and these are shares of that" in said
    assert "the pocket model is a simulator" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Hello", "--expert", "jappan"], "unknown expert 'jappan'; did you mean japan"),
        (["Hello", "--experts", "nowhere"], "nowhere is not a folder"),
        (["Hello", "-k", "0"], "-k must be an integer >= 1, got 0"),
        (["  "], "the query is empty"),
        (["Hello", "--max-tokens", "0"], "--max-tokens must be an integer >= 1, got 0"),
        (["Hello", "--temperature", "9"], "--temperature must be a number from 0 to 2, got 9.0"),
        (["Hello", "--options", "yes"], "must be 2 to 26 different texts"),
        (["Hello", "--options", "yes|no", "--compose", "panel"], "--compose panel is about answers in words"),
    ],
)
def test_bad_input_to_the_command_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_folder_without_experts_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Hello", "--experts", str(tmp_path)]) == 2
    assert "has no expert that can be asked: there is no expert.json below it" in capsys.readouterr().err
