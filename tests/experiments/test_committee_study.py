"""The committee study scores every arm alike, on labels fixed before, and says no to what it does not understand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evoprompt.errors import UserError
from evoprompt.experts import BUNDLED, Registry, write_expert
from evoprompt.llm import FrozenModel
from evoprompt.routing import Committee, load_router
from evoprompt.routing.committee import BASE
from evoprompt.surveys import committee
from experiments.committee.__main__ import Study, main, study, write
from experiments.committee.arms import ARMS, Asker, Panelists, Put, Reply, best_voices, persona_line, routes_of
from experiments.committee.figures import comparisons, results, routing, scored
from experiments.committee.make_queries import FILE, lines, make_queries
from experiments.committee.queries import LabelledQuery, in_two, study_queries
from experiments.committee.settings import Settings, parse
from experiments.committee.table import verdict
from experiments.committee.truth import targets, unprompted_means
from experiments.pocket_model.simulator import Simulator

KEYS = {culture.key for culture in committee()}


@pytest.fixture(scope="module")
def survey() -> list[LabelledQuery]:
    return in_two(study_queries())[0]


@pytest.fixture(scope="module")
def experts(pocket: FrozenModel) -> Committee:
    return Committee(pocket, Registry(Path(BUNDLED), pocket), load_router())


@pytest.fixture(scope="module")
def some(survey: list[LabelledQuery]) -> list[LabelledQuery]:
    """A few of every number of labelled cultures."""
    return [*survey[:3], *survey[80:82], *survey[110:112]]


@pytest.fixture(scope="module")
def found(some: list[LabelledQuery]) -> Study:
    everyday = in_two(study_queries())[1]
    return study(Settings(rounds=0), [*some, *everyday[2:4]])


def test_the_file_of_queries_is_what_its_script_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == lines(make_queries())


def test_a_hundred_survey_queries_have_profiles_and_all_labels_are_cultures_of_the_committee(
    survey: list[LabelledQuery],
) -> None:
    told = [query for query in survey if query.profile.location or query.profile.language]
    assert len(survey) >= 120
    assert len(told) >= 100
    assert [sum(len(query.cultures) == count for query in survey) for count in (1, 2, 3)] == [80, 30, 10]
    assert {culture for query in study_queries() for culture in query.cultures} == KEYS
    assert {query.item for query in survey} == set(range(24))


def test_labels_follow_from_text_and_profile_alone(survey: list[LabelledQuery]) -> None:
    for query in survey:
        assert query.profile.location or query.profile.language or query.text != query.question
        assert query.question in query.text


def test_reported_queries_are_asked_in_no_searched_wording() -> None:
    reported, chosen_on = (in_two(study_queries(split))[0] for split in ("held_out", "searched"))
    assert not {query.question for query in reported} & {query.question for query in chosen_on}


def test_everyday_queries_have_aspects_and_some_are_sensitive() -> None:
    everyday = in_two(study_queries())[1]
    assert len(everyday) >= 30
    assert all(query.aspects for query in everyday)
    assert 0 < sum(query.sensitive for query in everyday) < len(everyday)


def test_a_voice_is_asked_as_the_committee_asks_it(experts: Committee, some: list[LabelledQuery]) -> None:
    for voice in (BASE, best_voices(experts)["japan"]):
        together = Asker(experts).shares(voice, [Put(query.question, query.options) for query in some])
        for query, shares in zip(some, together, strict=True):
            opinion = experts.opinion(query.question, query.options, voices=[voice])
            np.testing.assert_allclose(shares, opinion.shares, atol=1e-5)


def test_the_mixture_is_the_committees_own_opinion(experts: Committee, some: list[LabelledQuery]) -> None:
    routed = routes_of(experts, some)[1]
    replies = Panelists(Asker(experts), some, best_voices(experts), "question").replies(routed, "kenya")
    for query, voices, reply in zip(some, routed, replies["mixture"], strict=True):
        opinion = experts.opinion(query.question, query.options, voices=voices)
        np.testing.assert_allclose(reply.shares, opinion.shares, atol=1e-5)


def test_the_oracle_is_nearer_than_a_direct_answer(found: Study) -> None:
    table = found.results.groupby("arm")["alignment"].mean()
    assert table["oracle"] > table["direct"]


def test_every_arm_is_scored_by_the_same_function(some: list[LabelledQuery], experts: Committee) -> None:
    """The same reply has the same figures, whichever arm gives it."""
    reply = Reply(np.array([0.1, 0.2, 0.4, 0.2, 0.1]), (BASE,), (2,))
    frame = results(some, {arm: [reply] * len(some) for arm in ARMS}, targets(experts.frozen))
    for _, rows in frame.groupby("query"):
        assert len(rows) == len(ARMS)
        assert len(rows.drop(columns="arm").drop_duplicates()) == 1
    assert (comparisons(frame)["difference"] == 0).all()
    assert all("not told apart" in sentence for sentence in verdict(frame)[:3])


def test_alignment_is_one_for_the_targets_themselves(some: list[LabelledQuery], experts: Committee) -> None:
    truth = targets(experts.frozen)
    for query in some:
        own = np.mean([truth[culture][query.item] for culture in query.cultures], axis=0)
        assert scored(query, Reply(own, (BASE,), (0,)), truth)["alignment"] == pytest.approx(1.0, abs=1e-6)


def test_a_panels_shares_are_its_votes(found: Study) -> None:
    panel = found.results[found.results["arm"] == "panel"]
    assert (panel["alignment"] == panel["alignment_of_votes"]).all()


def test_targets_are_the_simulators_truth(experts: Committee) -> None:
    japan = next(culture for culture in committee() if culture.key == "japan")
    means = targets(experts.frozen)["japan"] @ np.arange(1, 6)
    np.testing.assert_allclose(means, Simulator().item_means(japan.target), atol=0.01)


def test_a_model_without_a_known_truth_is_measured_for_an_average_culture(experts: Committee) -> None:
    means = unprompted_means(experts.frozen)
    assert means.shape == (24,)
    assert np.abs(means - Simulator().base).max() < 1  # what the pocket model was trained to say, leaning to some


def test_a_persona_is_told_where_the_user_is_known_to_be(survey: list[LabelledQuery]) -> None:
    for query in survey:
        if query.profile.location is None:
            assert persona_line(query) == ""
        else:
            assert persona_line(query).startswith("You are from ")


def test_routing_is_perfect_where_exactly_the_labels_are_chosen(
    experts: Committee, survey: list[LabelledQuery]
) -> None:
    routes = routes_of(experts, survey)[0]
    right = [
        (query, route)
        for query, route in zip(survey, routes, strict=True)
        if {choice.culture for choice in route.chosen} == set(query.cultures)
    ]
    table = routing([query for query, _ in right], [route for _, route in right], "kenya").set_index("router")
    assert table.loc["committee", ["precision", "recall", "f1", "no expert"]].tolist() == [1, 1, 1, 0]


def test_two_runs_give_the_same_numbers(found: Study, some: list[LabelledQuery], tmp_path: Path) -> None:
    everyday = in_two(study_queries())[1]
    again = study(Settings(rounds=0), [*some, *everyday[2:4]])
    pd.testing.assert_frame_equal(found.results, again.results, check_exact=True)
    assert found.text == again.text
    (tmp_path / "README.md").write_text("a\n<!-- table -->\nold\n<!-- /table -->\nb\n", encoding="utf-8")
    for one in (found, again):
        write(one, tmp_path)
    shown = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert shown == f"a\n<!-- table -->\n\n{found.text}\n<!-- /table -->\nb\n"
    assert (tmp_path / "alignment.png").stat().st_size > 1000
    assert not (tmp_path / "latency.csv").exists()


def test_the_published_figures_are_marked_and_can_be_left_out(found: Study, some: list[LabelledQuery]) -> None:
    assert "**Circular" in found.text
    everyday = in_two(study_queries())[1]
    assert "Circular" not in study(Settings(rounds=0, metrics="ours"), [*some[:2], *everyday[2:4]]).text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["presett=quick"], "unknown key 'presett'; did you mean preset?"),
        (["preset=quik"], "unknown preset 'quik'; did you mean quick?"),
        (["quick"], "'quick' is not understood; write key=value"),
        (["k=0"], "k='0' must be a whole number from 1"),
        (["k=1", "k=2"], "k is given twice"),
        (["asked=everything"], "unknown asked 'everything'"),
        (["preset=full"], "preset=full needs model=<name or folder> and experts=<folder of a sweep>"),
    ],
)
def test_a_bad_argument_is_one_clear_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments, f"out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_experts_that_lack_a_culture_are_refused(pocket: FrozenModel, tmp_path: Path) -> None:
    about = {"culture": {"key": "japan", "name": "Japan", "edition": "test", "targets": {"pdi": 54.0}}}
    write_expert(tmp_path / "japan", pocket.embedding_statistics[0].expand(2, -1), pocket, about, "prefix")
    with pytest.raises(UserError, match="has no experts of brazil, china"):
        best_voices(Committee(pocket, Registry(tmp_path, pocket)))


def test_named_models_are_those_of_the_main_command() -> None:
    assert parse(["preset=full", "model=llama3-8b-instruct", "experts=e"]).spec().name.startswith("meta-llama/")
    assert parse(["preset=full", "model=some/where", "experts=e"]).spec().name == "some/where"


def test_only_the_quick_preset_as_it_is_writes_beside_the_readme() -> None:
    assert parse([]).folder == FILE.parent
    assert parse(["split=searched"]).folder != FILE.parent
    assert parse(["out=x"]).folder == Path("x")
