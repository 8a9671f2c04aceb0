"""Whole studies: where the prompt stands, how the model is asked, which space is searched, going on after a stop."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from evoprompt.errors import UserError
from evoprompt.experts import read_expert
from evoprompt.files import as_json
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.optim import make_optimizer
from evoprompt.prompts import load_space
from evoprompt.report import write_report
from evoprompt.study import RunResult, closing_table
from evoprompt.study.arms import SurveyPanel, summarise
from evoprompt.study.journal import SKETCH
from evoprompt.study.search import SearchFailedError
from evoprompt.study.search_log import load_checkpoint
from evoprompt.study.settings import SEARCH_RESPONDENTS
from evoprompt.study.table import figure
from evoprompt.surveys import load_instrument, sample_respondents
from evoprompt.surveys.quality import percent

Job = Callable[..., tuple[RunResult, str]]
TEMPLATE = "{% for turn in messages %}[{{ turn.role }}]\n{{ turn.content }}\n{% endfor %}[assistant]\n"
SAMPLED = {"kind": "sampled", "max_new_tokens": 2}
CONFIRMED = {
    "space": {"kind": "random_projection", "tokens": 2, "dimensions": 8, "init_text": "Answer:"},
    "survey": {"confirm": {"max_new_tokens": 2}},
}
SILENCED = {"placement": "suffix", "survey": {"confirm": {"max_new_tokens": 2}}}
RESULT = ["trial", "loss", "pdi", "idv", "mas", "uai", "lto", "ivr", "invalid", "failed", *SKETCH]


@pytest.fixture(scope="module")
def chatting(pocket: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The pocket model in a folder, with a chat template that knows a system turn."""
    folder = tmp_path_factory.mktemp("chatting")
    pocket.model.save_pretrained(folder)
    tokenizer = load_model(ModelSpec(device="cpu")).tokenizer
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def random_model(pocket: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The pocket model's shape with random weights, which answers anything but labels."""
    folder = tmp_path_factory.mktemp("random")
    torch.manual_seed(0)
    type(pocket.model)(pocket.model.config).save_pretrained(folder)
    pocket.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def suffix(job: Job, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, str]:
    """A finished study with suffix placement, confirmed in free text, and what it printed."""
    return job(tmp_path_factory.mktemp("suffix") / "run", placement="suffix", **CONFIRMED)


@pytest.fixture(scope="module")
def silenced(job: Job, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, str]:
    """A finished study whose prompts make the model say anything but a label, and what it printed."""
    return job(tmp_path_factory.mktemp("silenced") / "run", **SILENCED)


@pytest.fixture(scope="module")
def sampled(job: Job, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, str]:
    """A finished study in free text, and what it printed."""
    return job(tmp_path_factory.mktemp("sampled") / "run", respondent=SAMPLED)


def recorded(result: RunResult) -> dict[str, Any]:
    """What run.json holds."""
    held: dict[str, Any] = json.loads(result.directory.run.read_text(encoding="utf-8"))
    return held


def same_result(one: RunResult, other: RunResult) -> None:
    """History, measurements and expert are the same, bit for bit."""
    left, right = (pd.read_parquet(result.directory.history)[RESULT] for result in (one, other))
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    for key in ("arms", "cost", "confirmation", "invalid_rate"):
        assert repr(one.metrics.get(key)) == repr(other.metrics.get(key)), key
    assert torch.equal(*(read_expert(result.directory.expert).prompt for result in (one, other)))


def unfinished(result: RunResult, folder: Path) -> Path:
    """A copy of a run as it was before its last generation."""
    shutil.copytree(result.directory.path, folder)
    (folder / "metrics.json").unlink()
    shutil.rmtree(folder / "expert")
    shutil.rmtree(max((folder / "checkpoint").iterdir()))
    return folder


def closing(result: RunResult) -> str:
    """The closing lines of a run."""
    printed = io.StringIO()
    closing_table(result, Console(file=printed, soft_wrap=True))
    return printed.getvalue()


LONGER = pytest.mark.system  # of the cases of one claim, one runs in the fast suite


@pytest.mark.parametrize(
    "placement", ["system", pytest.param("prefix", marks=LONGER), pytest.param("suffix", marks=LONGER)]
)
def test_an_expert_asked_where_it_was_evolved_scores_as_the_run_says(
    placement: str, chatting: str, job: Job, short_survey: str, tmp_path: Path
) -> None:
    result, _ = job(tmp_path / "run", model={"name": chatting}, placement=placement)
    expert = read_expert(result.directory.expert)
    assert {expert.placement, recorded(result)["placement"], result.metrics["placement"]} == {placement}
    said = result.metrics["arms"]["evolved"]["held_out"]
    losses = {}
    for where in ("prefix", "system", "suffix"):
        respondent = Respondent(load_model(ModelSpec(name=chatting, device="cpu")), where)
        people = sample_respondents(SEARCH_RESPONDENTS + 2, 0)[SEARCH_RESPONDENTS:]
        panel = SurveyPanel(respondent, load_instrument(short_survey), people)
        shares = panel.probabilities("held_out", prompt=expert.prompt)
        target = np.array(list(result.metrics["target"].values()))
        losses[where] = summarise(panel.plan("held_out"), shares, target, np.zeros(6))["loss"]
    assert losses[placement] == pytest.approx(said["loss"], abs=1e-3)
    assert all(abs(loss - said["loss"]) > 0.01 for where, loss in losses.items() if where != placement)


def test_how_questions_were_scored_is_on_record(suffix: tuple[RunResult, str]) -> None:
    result, printed = suffix
    scoring = recorded(result)["scoring"]
    assert scoring["path"] == "cascade"
    assert 0 < scoring["tokens_per_candidate"] < 96 * 20, "all that comes before the question is computed once"
    assert scoring["token_budget"] > scoring["tokens_per_candidate"]
    assert scoring["halved"] == 0
    assert "path" not in printed
    assert "label_mass" in result.metrics["arms"]["naive"]["searched"]


@pytest.mark.system
def test_ray_workers_take_placement_and_respondent_along(
    suffix: tuple[RunResult, str], sampled: tuple[RunResult, str], job: Job, tmp_path: Path
) -> None:
    workers = {"executor": {"kind": "ray", "workers": 2}}
    same_result(suffix[0], job(tmp_path / "suffix", placement="suffix", **CONFIRMED, **workers)[0])
    same_result(sampled[0], job(tmp_path / "sampled", respondent=SAMPLED, **workers)[0])


@pytest.mark.system
def test_a_stopped_run_goes_on_to_the_same_end_under_its_placement_only(
    suffix: tuple[RunResult, str], sampled: tuple[RunResult, str], job: Job, tmp_path: Path
) -> None:
    for name, (result, _) in {"suffix": suffix, "sampled": sampled}.items():
        folder = unfinished(result, tmp_path / name)
        same_result(result, job(tmp_path, resume=str(folder))[0])
    folder = unfinished(suffix[0], tmp_path / "moved")
    with pytest.raises(UserError, match="placement: 'suffix' -> 'system'"):
        job(tmp_path, ("placement=system",), resume=str(folder), placement="system")


def test_a_confirmation_asks_naive_and_evolved_again_in_free_text(suffix: tuple[RunResult, str]) -> None:
    result, _ = suffix
    found = result.metrics["confirmation"]
    assert list(found) == ["naive", "evolved"]
    for arm, one in found.items():
        assert 0 <= one["invalid_rate"] < 0.5
        assert one["loss"] != result.metrics["arms"][arm]["held_out"]["loss"]
        assert f"{arm:8s} asked again in free text, held-out wordings: loss {figure(one['loss'])}" in closing(result)
    lines = [json.loads(line) for line in result.directory.transcript.read_text().splitlines()]
    assert {(line["arm"], line["split"]) for line in lines} == {("naive", "held_out"), ("evolved", "held_out")}
    for line in lines:
        assert line["prompt"].endswith("Answer:")
        assert line["answer"] in (None, 1, 2, 3, 4, 5)
    page = write_report(result.directory.path).read_text(encoding="utf-8")
    assert "Asked again in free text" in page
    assert "suffix placement" in page


def test_a_search_in_free_text_counts_what_chose_no_option(sampled: tuple[RunResult, str]) -> None:
    result, _ = sampled
    history = pd.read_parquet(result.directory.history)
    assert history["invalid"].between(0, 1).all()
    assert result.metrics["invalid_rate"] == pytest.approx(history["invalid"].mean())
    for splits in result.metrics["arms"].values():
        assert all(0 <= found["invalid_rate"] < 0.5 for found in splits.values())
    assert f"invalid free-text answers: {result.metrics['invalid_rate']:.1%} in the search" in closing(result)
    assert recorded(result)["respondent"]["max_new_tokens"] == 2
    assert result.directory.transcript.exists()


def test_each_respondents_answers_are_kept(suffix: tuple[RunResult, str]) -> None:
    result, _ = suffix
    people = pd.read_parquet(result.directory.people)
    assert len(people) == 4 * 2 * 2 * 24  # arms, splits, respondents, items
    shares = [f"answer_{value}" for value in range(1, 6)]
    np.testing.assert_allclose(people[shares].sum(axis=1), 1.0, atol=1e-6)
    for (arm, split), part in people.groupby(["arm", "split"]):
        mean = part.groupby("item")[shares].mean()
        np.testing.assert_allclose(mean, result.metrics["arms"][arm][split]["answers"], atol=1e-12)


def test_demographics_say_who_is_asked(job: Job, tmp_path: Path) -> None:
    result, _ = job(tmp_path / "run", survey={"demographics": ["education", "gender"]})
    people = pd.read_parquet(result.directory.people)["respondent"].unique()
    assert all(re.fullmatch(r"Respondent: [\w ]+, (woman|man)\.", line) for line in people)


@pytest.mark.parametrize(
    "kind", ["vocab_pca", *(pytest.param(kind, marks=LONGER) for kind in ("full", "random_projection", "low_rank"))]
)
def test_the_expert_can_be_built_again_from_z_in_every_space(kind: str, job: Job, tmp_path: Path) -> None:
    result, _ = job(tmp_path / "run", space={"kind": kind, "tokens": 2})
    directory = result.directory
    space = load_space(directory.space)
    optimizer = make_optimizer("de", bounds=space.bounds, budget=16, seed=0, popsize=8, dtype="float32")
    state = load_checkpoint(directory.checkpoint)
    assert state is not None
    optimizer.load_state_dict(state["optimizer"])
    assert optimizer.best is not None
    assert torch.equal(space.decode(optimizer.best.x[None])[0], read_expert(directory.expert).prompt)
    same_result(result, job(tmp_path, resume=str(unfinished(result, tmp_path / "stopped")))[0])


def test_a_run_that_starts_from_an_expert_goes_on_when_the_expert_is_gone(
    suffix: tuple[RunResult, str], job: Job, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(suffix[0].directory.expert, source)
    result, printed = job(
        tmp_path / "run", space={"kind": "random_projection", "dimensions": 8, "init_expert": str(source)}
    )
    np.testing.assert_array_equal(load_space(result.directory.space).centre, read_expert(source).prompt.numpy())
    noted = "the prompt to start from was evolved with suffix placement, this run has prefix"
    assert printed.count(noted) == 1
    assert recorded(result)["notes"] == [noted]
    assert f"{noted[1:]}." in write_report(result.directory.path).read_text(encoding="utf-8")
    shutil.rmtree(source)
    again, printed = job(tmp_path, resume=str(unfinished(result, tmp_path / "stopped")))
    same_result(result, again)
    assert noted not in printed, "it was said when the run began"
    for one in (result, again):
        lineage = read_expert(one.directory.expert).provenance
        assert lineage["started_from"] == {
            "expert": str(source),
            "culture": "arab",
            "placement": "suffix",
            "run": suffix[0].directory.path.name,
            "prompt_sha256": read_expert(suffix[0].directory.expert).provenance["prompt_sha256"],
        }
        assert lineage["space"]["init_expert"] == str(source)


def test_an_expert_tells_how_it_was_searched_asked_and_confirmed(suffix: tuple[RunResult, str]) -> None:
    result, _ = suffix
    provenance = read_expert(result.directory.expert).provenance
    assert provenance["space"] == result.metrics["space_options"]
    said = {"init_text": "Answer:", "tokens": 2, "coordinates": 8, "spread": "overall"}
    assert said.items() <= provenance["space"].items()
    assert provenance["survey"]["respondents"] == 2
    assert provenance["survey"]["demographics"] == ["gender", "age", "occupation"]
    assert provenance["survey"]["confirm"]["max_new_tokens"] == 2
    assert provenance["confirmation"] == as_json(result.metrics["confirmation"])
    assert provenance["started_from"] is None
    assert result.metrics["space"] == "random_projection", "older readers know the kind by this name"


def test_a_start_from_which_the_model_hardly_says_a_label_is_told_before_the_search(
    silenced: tuple[RunResult, str], suffix: tuple[RunResult, str]
) -> None:
    result, printed = silenced
    mass = recorded(result)["start_label_mass"]
    assert 0 < mass < 0.5
    assert result.metrics["start_label_mass"] == mass
    said = f"under the prompt that the search starts from the model puts {percent(mass)} of its words on the labels"
    assert printed.count(said) == 1
    assert printed.index(said) < printed.index("naive    loss")
    assert said[1:] in write_report(result.directory.path).read_text(encoding="utf-8")
    assert recorded(suffix[0])["start_label_mass"] > 0.5
    assert "the search starts from" not in suffix[1]


def test_a_low_loss_of_a_model_that_stopped_answering_is_not_celebrated(silenced: tuple[RunResult, str]) -> None:
    result, _ = silenced
    evolved = result.metrics["arms"]["evolved"]["held_out"]
    assert evolved["loss"] < result.metrics["arms"]["naive"]["held_out"]["loss"]
    assert evolved["label_mass"] < 0.5
    page = write_report(result.directory.path).read_text(encoding="utf-8")
    assert re.search(r'class="headline (flat|bad)"', page)
    assert "Free text does not confirm it." in page
    lines = closing(result)
    assert lines.index("of its words on the labels") < lines.index("wordings used by the search")
    assert "PEFT serves this prompt as a prefix" in lines


def test_what_could_not_be_measured_is_null_in_every_file_and_a_dash_in_words(
    silenced: tuple[RunResult, str], job: Job, tmp_path: Path
) -> None:
    result, _ = silenced
    folder = tmp_path / "run"
    shutil.copytree(result.directory.path, folder)
    files = (folder / "metrics.json", folder / "run.json", folder / "expert" / "expert.json")
    metrics, _, expert = (json.loads(path.read_text(), parse_constant=pytest.fail) for path in files)
    for found in (metrics, expert):
        assert found["confirmation"]["evolved"]["loss"] is None
        assert found["confirmation"]["evolved"]["interval"] == [None, None]
    assert "evolved  asked again in free text, held-out wordings: loss - (-)" in closing(result)
    metrics["arms"]["evolved"]["held_out"] |= {"loss": None, "interval": [None, None]}
    files[0].write_text(json.dumps(metrics))
    again, _ = job(tmp_path, resume=str(folder))
    assert np.isnan(again.metrics["arms"]["evolved"]["held_out"]["loss"])
    assert "nan" not in closing(again)
    assert re.search(r"evolved +│ +- │ +- │", closing(again))


def test_system_placement_without_a_system_turn_is_called_what_it_is(chatting: str, job: Job, tmp_path: Path) -> None:
    result, printed = job(tmp_path / "plain", placement="system", budget=8)
    assert printed.count("placement=system is the same as prefix here: model 'pocket' has neither") == 1
    assert read_expert(result.directory.expert).served_by_peft
    assert "PEFT" not in closing(result)
    result, printed = job(tmp_path / "chatting", placement="system", budget=8, model={"name": chatting})
    assert "same as prefix" not in printed
    assert "PEFT serves this prompt as a prefix" in closing(result)


def test_a_persona_line_without_a_place_is_told(job: Job, tmp_path: Path) -> None:
    culture = {"key": "custom", "targets": {"pdi": 50}}
    _, printed = job(tmp_path / "nowhere", culture=culture, budget=8)
    assert printed.count("the persona line is 'You are from custom.', which names no place; give culture.place") == 1
    _, printed = job(tmp_path / "somewhere", culture={**culture, "place": "the Andes"}, budget=8)
    assert "names no place" not in printed


def test_names_with_brackets_are_printed_as_they_are(job: Job, tmp_path: Path) -> None:
    name = "Lower [/east] :smile: side"
    culture = {"key": "custom", "name": name, "targets": {"pdi": 50}}
    result, printed = job(tmp_path / "a[" / "b] [red]", culture=culture, budget=8)
    assert printed.startswith(f"{name}: evolving")
    lines = closing(result)
    assert f"{name}, held-out wordings" in lines
    assert str(result.directory.metrics) in lines


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"respondent": {"kind": "sampled", "temperature": "hot"}}, "temperature must be a number >= 0, got 'hot'"),
        ({"respondent": {"kind": "sampled", "top_p": 0}}, "top_p must be a number > 0 and <= 1, got 0"),
        ({"survey": {"confirm": {"seed": -1}}}, "seed must be a whole number >= 0, got -1"),
        ({"space": {"init_expert": "nowhere"}}, "nowhere is not a complete expert folder"),
    ],
)
def test_what_only_the_model_can_refuse_is_refused_before_anything_is_asked(
    changes: dict[str, Any], said: str, job: Job, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        job(tmp_path / "run", **changes)
    assert not (tmp_path / "run" / "run.json").exists()


def test_an_expert_of_another_model_is_no_start(
    suffix: tuple[RunResult, str], random_model: str, job: Job, tmp_path: Path
) -> None:
    space = {"kind": "random_projection", "dimensions": 8, "init_expert": str(suffix[0].directory.expert)}
    with pytest.raises(UserError, match=r"evolved on 'pocket'.*not on '.*random"):
        job(tmp_path / "run", model={"name": random_model}, space=space)


def test_a_model_that_hardly_says_a_label_is_warned_about(random_model: str, job: Job, tmp_path: Path) -> None:
    result, _ = job(tmp_path / "run", model={"name": random_model})
    mass = result.metrics["arms"]["evolved"]["held_out"]["label_mass"]
    assert 0 < mass < 0.5
    assert f"evolved: the model puts {percent(mass)} of its words on the labels" in closing(result)
    assert "The model seldom answers with a label" in write_report(result.directory.path).read_text(encoding="utf-8")


@pytest.mark.system
def test_a_model_that_never_says_an_option_is_told_so(random_model: str, job: Job, tmp_path: Path) -> None:
    silent = {"model": {"name": random_model}, "respondent": SAMPLED}
    with pytest.raises(UserError, match="gives no valid answer to some item under an anchor's persona line"):
        job(tmp_path / "anchored", survey={"constant": "anchors"}, **silent)
    with pytest.raises(SearchFailedError, match=r"no valid answer to an item: raise respondent\.samples"):
        job(tmp_path / "plain", **silent)
    assert pd.read_parquet(tmp_path / "plain" / "history.parquet")["invalid"].mean() > 0.5
