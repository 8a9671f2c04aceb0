"""Who is chosen for a query, how sure that is, and what is said about it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from evoprompt.commands.start import call
from evoprompt.errors import UserError
from evoprompt.routing import Profile, Query, Router, bundled_queries, load_queries, load_router
from evoprompt.routing.encoders import HiddenEncoder, TfidfEncoder, encoder_from, make_encoder
from evoprompt.routing.lexicon import Lexicon, bundled_lexicon, load_lexicon
from evoprompt.routing.router import farthest
from evoprompt.routing.training import train
from evoprompt.surveys import committee, cultures

train_command = partial(call, "train")

KEYS = tuple(culture.key for culture in committee())
PLACES = {culture.key: list(culture.target) for culture in committee()}


@pytest.fixture(scope="module")
def router() -> Router:
    return load_router()


@pytest.mark.parametrize(
    ("query", "culture", "reason"),
    [
        ("Who pays when a boss in Osaka invites the team to dinner?", "japan", "names osaka"),
        ("What do I bring as omiyage?", "japan", "says omiyage"),
        ("How do I fold a letter for the Bürgeramt?", "germany", "says"),
        ("What do neighbours bring for Eid in Lagos?", "nigeria", "names lagos"),
        ("where shud i stay in istambul with kids", "turkey", "may be misspelt: istambul"),
        ("Можно ли опоздать на ужин?", "russia", "is written in the script of russia"),
    ],
)
def test_a_query_goes_to_who_knows_its_culture_and_it_says_why(
    query: str, culture: str, reason: str, router: Router
) -> None:
    route = router.route(query)
    assert route.chosen[0].culture == culture
    assert any(text.startswith(reason) for text in route.chosen[0].reasons), route.chosen[0].reasons


@pytest.mark.parametrize(
    "query", ["How do I greet the neighbours at Eid?", "When is iftar during Ramadan?", "What do I wear for Eid?"]
)
def test_a_feast_of_many_cultures_is_for_those_who_keep_it(query: str, router: Router) -> None:
    chosen = {choice.culture for choice in router.route(query, available=KEYS, k=4).chosen}
    assert chosen
    assert chosen <= {"egypt", "turkey", "indonesia", "nigeria"}


@pytest.mark.parametrize(
    "query", ["What is 17 * 23?", "My Java program leaks memory", "How long do I roast a turkey?", "Define osmosis."]
)
def test_what_needs_no_culture_is_left_to_the_base_model(query: str, router: Router) -> None:
    route = router.route(query, contrast=PLACES)
    assert (route.chosen, route.reason) == ((), "needs no culture")
    assert route.needs_experts < router.need_threshold
    assert route.weights == ()


def test_a_profile_speaks_where_the_query_tells_no_culture_and_not_where_it_does(router: Router) -> None:
    asked, kenyan = "How should I greet my new neighbours?", Profile("Nairobi", "sw")
    assert router.route(asked, kenyan).chosen[0].culture == "kenya"
    assert "the user is in Nairobi" in router.route(asked, kenyan).chosen[0].reasons
    chosen = router.route("How should I greet my new neighbours in Lyon?", kenyan).chosen
    assert chosen[0].culture == "france"
    assert router.route("What is 17 * 23?", kenyan).chosen == ()


def test_a_question_of_culture_that_tells_none_gets_views_far_apart(router: Router) -> None:
    route = router.route("Is it rude to be late to dinner?", contrast=PLACES, k=3)
    assert route.spread
    assert [choice.culture for choice in route.chosen] == farthest(PLACES, 3)
    assert route.weights == pytest.approx([1 / 3] * 3)
    assert router.route("Is it rude to be late to dinner?").chosen == (), "nobody to choose among"


def test_a_culture_without_an_expert_is_named_as_the_reason_for_none(router: Router) -> None:
    route = router.route("What do people in Sweden do at midsummer in Stockholm?", available=KEYS)
    assert route.chosen == ()
    assert route.reason == "is about sweden, of which there is no expert"
    assert router.route("What do people in Sweden do at midsummer?", available=(*KEYS, "sweden")).chosen[0].culture == (
        "sweden"
    ), "a culture without examples is known by its names"


def test_several_cultures_share_an_answer_by_probability(router: Router) -> None:
    route = router.route("Do people in Japan and in Italy tip the waiter?")
    assert {choice.culture for choice in route.chosen} == {"japan", "italy"}
    assert sum(route.weights) == pytest.approx(1.0)
    assert len(router.route("Do people in Japan and in Italy tip the waiter?", k=1).chosen) == 1


def test_probabilities_are_those_of_the_ranking_and_say_nothing_of_who_else_is_there(router: Router) -> None:
    route = router.route("What do I bring as omiyage?", available=tuple(cultures()))
    chances = [choice.probability for choice in route.ranked]
    assert chances == sorted(chances, reverse=True)
    assert len(chances) == len(cultures())
    assert all(0 <= chance <= 1 for chance in chances)


@pytest.mark.parametrize(
    ("query", "k", "said"), [("  ", 3, "the query is empty"), ("Tea?", 0, "k must be an integer >= 1, got 0")]
)
def test_what_cannot_be_routed_is_refused(query: str, k: int, said: str, router: Router) -> None:
    with pytest.raises(UserError, match=said):
        router.route(query, k=k)


def test_no_experts_is_no_error(router: Router) -> None:
    assert router.route("What do I bring as omiyage?", available=()).reason == "there are no experts"


def test_a_router_is_the_same_after_it_was_saved(router: Router, tmp_path: Path) -> None:
    router.save(tmp_path)
    again = load_router(tmp_path)
    for query in bundled_queries()[::97]:
        one, other = router.route(query.text, query.profile), again.route(query.text, query.profile)
        assert [choice.culture for choice in one.chosen] == [choice.culture for choice in other.chosen]
        np.testing.assert_allclose(one.needs_experts, other.needs_experts, atol=1e-3)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("damage", ["missing", "version", "weights", "nonsense"])
def test_what_is_no_router_is_refused_in_a_line(damage: str, router: Router, tmp_path: Path) -> None:
    router.save(tmp_path)
    table = tmp_path / "router.json"
    if damage == "missing":
        table.unlink()
    elif damage == "version":
        table.write_text(json.dumps({**json.loads(table.read_text()), "schema_version": 99}))
    elif damage == "weights":
        (tmp_path / "router.safetensors").write_bytes(b"no tensors")
    else:
        table.write_text("[]")
    with pytest.raises(UserError, match=r"holds no router|schema version 99, not 1; train it again"):
        load_router(tmp_path)


def test_a_router_of_ones_own_learns_ones_own_cultures(tmp_path: Path) -> None:
    said = {
        "harbour": ("How do the harbour people {}?", ("keep", "greet", "share"), ("guests", "boats", "elders", "nets")),
        "hills": (
            "What do hill folk {}?",
            ("cook", "sing", "plant"),
            ("at harvest", "in winter", "at weddings", "now"),
        ),
    }
    lines = [
        {"query": question.format(f"{verb} {thing}"), "cultures": [culture]}
        for culture, (question, verbs, things) in said.items()
        for verb in verbs
        for thing in things
    ]
    lines += [{"query": f"Compute {a} plus {b}", "cultures": []} for a in range(4) for b in range(5)]
    file, out = tmp_path / "queries.jsonl", tmp_path / "router"
    file.write_text("\n".join(map(json.dumps, lines)))
    lexicon = tmp_path / "lexicon.yaml"
    lexicon.write_text("harbour: {places: [Saltby], terms: [net day]}\nhills: {places: [Upper Fell]}\n")
    assert train_command(["--queries", str(file), "--lexicon", str(lexicon), "--out", str(out)]) == 0
    own = load_router(out, lexicon=load_lexicon(lexicon))
    assert own.cultures == ("harbour", "hills")
    assert own.route("How do harbour people greet elders?").chosen[0].culture == "harbour"
    assert own.route("What do hill folk sing in winter?").chosen[0].culture == "hills"
    assert own.route("Compute 3 plus 9").chosen == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 is not JSON"),
        ('{"cultures": []}', 'has no text under "query"'),
        ('{"query": "x", "cultures": "usa"}', '"cultures" must be a list of names'),
        ('{"query": "x", "location": 5}', '"location" must be a text, not 5'),
        ('{"query": "x", "language": ["ja"]}', r'"language" must be a text, not \['),
        ('{"query": "x", "kind": {}}', '"kind" must be a text, not {}'),
        ("", "there is no query in it"),
    ],
)
def test_bad_queries_are_named_with_their_line(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(UserError, match=said):
        load_queries(tmp_path / "q.jsonl")


@pytest.mark.parametrize("plain", [0, 1, 4])
def test_training_needs_examples_of_something_and_of_nothing(plain: int) -> None:
    queries = [Query("What is omiyage?", frozenset(["japan"]))] * 9 + [Query("What is 17 * 23?")] * plain
    with pytest.raises(UserError, match="training needs a culture with 5 queries and 5 queries about none"):
        train(queries, TfidfEncoder, Lexicon({}))


@pytest.mark.parametrize("kinds", [("rare", "rarer"), ("always", "always"), ("", "")])
def test_kinds_of_ones_own_may_be_few_or_many(kinds: tuple[str, str]) -> None:
    asked = [Query(f"Is omiyage {i} dear?", frozenset(["japan"]), kinds[0] and f"{kinds[0]} {i}") for i in range(5)]
    asked += [Query(f"What is {i} * 23?", frozenset(), kinds[1] and f"{kinds[1]} {i}") for i in range(6)]
    assert train(asked, TfidfEncoder, bundled_lexicon())[0].cultures == ("japan",)


def test_a_culture_whose_few_queries_fall_into_one_fold_is_learnt() -> None:
    asked = [Query(f"Is omiyage {i} dear?", frozenset(["japan"] if i % 5 else ["kenya"]), "all") for i in range(25)]
    asked += [Query(f"What is {i} * 23?", kind="all") for i in range(25)]
    together = 860  # with this seed, folds by kind leave out all of Kenya at once
    assert train(asked, TfidfEncoder, Lexicon({}), together)[0].cultures == ("japan", "kenya")


def test_queries_that_share_nothing_at_all_are_refused() -> None:
    asked = [Query(letter, frozenset(["japan"] if letter < "k" else [])) for letter in "abcdefghijklmnopqrst"]
    with pytest.raises(UserError, match="the encoder can learn nothing from these queries"):
        train(asked, TfidfEncoder, Lexicon({}))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"query": f"Is omiyage {i} dear?", "cultures": ["japan"]} for i in range(5)]
    lines += [{"query": f"What is {i} * 23?"} for i in range(5)]
    file = tmp_path / "queries.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    for out in (file, file / "router"):
        assert train_command(["--queries", str(file), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"--out {out} " in line


@pytest.mark.parametrize(
    "change",
    [
        {"cultures": ["japan"]},
        {"cultures": None},
        {"pair": {}},
        {"need": []},
        {"encoder": None},
        {"encoder": {"kind": "tfidf", "vocabularies": [{"words": ["tea"], "idf": [1.0]}] * 2}},
        {"encoder": {"kind": "tfidf", "vocabularies": []}},
    ],
)
def test_a_router_whose_parts_do_not_fit_is_refused(change: dict[str, object], router: Router, tmp_path: Path) -> None:
    router.save(tmp_path)
    table = json.loads((tmp_path / "router.json").read_text())
    (tmp_path / "router.json").write_text(json.dumps(table | change))
    with pytest.raises(UserError, match="holds no router"):
        load_router(tmp_path)


def test_the_base_models_own_states_can_be_the_encoder(pocket: object, tmp_path: Path) -> None:
    some = [query for query in bundled_queries() if query.cultures <= {"japan", "kenya"}][::3]
    encoder = make_encoder("hidden", frozen=pocket)  # type: ignore[arg-type]
    router, _ = train(some, lambda: encoder, bundled_lexicon())
    assert router.route("What do I bring as omiyage?").chosen[0].culture == "japan"
    router.save(tmp_path)
    assert isinstance(load_router(tmp_path, pocket).encoder, HiddenEncoder)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="reads the states of model 'pocket', but the base model is none"):
        load_router(tmp_path)


def test_an_encoder_that_cannot_be_had_is_named() -> None:
    with pytest.raises(UserError, match="unknown encoder 'bm25'"):
        make_encoder("bm25")
    with pytest.raises(UserError, match="needs a model's name or folder"):
        make_encoder("sentence-transformers")
    with pytest.raises(UserError, match="needs the base model"):
        make_encoder("hidden")
    assert encoder_from(TfidfEncoder([{"words": ["tea"], "idf": [1.0]}] * 2).state()).encode(["tea"]).shape == (1, 2)


def test_the_lexicon_tells_words_that_are_names_only_when_written_like_one() -> None:
    lexicon = Lexicon({"turkey": {"places": ["Turkey"], "ambiguous": ["turkey"], "terms": ["çay"]}})
    assert [hit.kind for hit in lexicon.hits("Is tipping usual in Turkey?")] == ["name"]
    assert [hit.kind for hit in lexicon.hits("how long to roast a turkey")] == ["ambiguous"]
    assert lexicon.hits("Is cay the same?") == [], "too short to be known without its accent"
    assert [hit.kind for hit in lexicon.hits("Who serves the çay?")] == ["term"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1]", "must have a mapping of lists"),
        ("a: {foods: [x]}", "a.foods must be a list"),
        ("a: {", "is not YAML"),
    ],
)
def test_a_lexicon_that_is_none_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "lexicon.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        load_lexicon(tmp_path / "lexicon.yaml")


def test_every_culture_of_the_committee_is_known_by_names_terms_and_examples() -> None:
    entries = bundled_lexicon().entries
    examples = bundled_queries()
    for key in KEYS:
        assert min(len(entries[key]["places"]), len(entries[key]["terms"])) >= 40, key
        assert sum(key in query.cultures for query in examples) >= 30, key


@pytest.mark.system
def test_a_sentence_transformers_model_can_be_the_encoder(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer, models

    words = models.Transformer(str(resources.files("evoprompt.llm") / "pocket"))
    words.tokenizer.pad_token = words.tokenizer.eos_token
    pooled = models.Pooling(words.get_word_embedding_dimension())
    SentenceTransformer(modules=[words, pooled], device="cpu").save(str(tmp_path / "model"))
    encoder = make_encoder("sentence-transformers", str(tmp_path / "model"))
    some = [query for query in bundled_queries() if query.cultures <= {"japan", "kenya"}][::3]
    router, _ = train(some, lambda: encoder, bundled_lexicon())
    router.save(tmp_path / "router")
    assert load_router(tmp_path / "router").route("What do I bring as omiyage?").chosen[0].culture == "japan"
    with pytest.raises(UserError, match="cannot be loaded"):
        make_encoder("sentence-transformers", str(tmp_path / "nowhere"))


def test_whether_experts_are_asked_has_a_threshold_of_its_own(router: Router) -> None:
    query = "How do people in Japan greet their neighbours?"
    needs = router.route(query).needs_experts
    none = replace(router, threshold=0.0, need_threshold=min(1.0, needs + 1e-6)).route(query)
    asked = replace(router, threshold=needs + 1e-6, need_threshold=0.0).route(query, available=("japan",))
    assert not none.chosen
    assert none.needs_experts == needs
    assert none.reason == "needs no culture" != asked.reason
