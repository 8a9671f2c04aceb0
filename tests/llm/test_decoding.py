"""Many answers at once: each is what the model says alone, whoever is beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, load_model
from evoprompt.llm.load.memory import TokenBudget
from evoprompt.llm.speak.decoding import Decoder, Sampling, Stream, Text, Token, decode, draw, mixture
from evoprompt.llm.write.conversation import make_context

QUESTIONS = ("How do I greet my host?", "How do I praise a colleague?", "Why?", "May I disagree with my teacher?")


def soft(frozen: FrozenModel, tokens: int, seed: int) -> torch.Tensor:
    mean, spread = frozen.embedding_statistics
    return mean + 2 * spread * torch.randn(tokens, frozen.hidden, generator=torch.Generator().manual_seed(seed))


def rows(frozen: FrozenModel) -> list[torch.Tensor]:
    """Questions under soft prompts of different lengths, and under none."""
    prompts = [None, soft(frozen, 2, 1), soft(frozen, 7, 2)]
    contexts = [make_context(frozen, [{"role": "user", "content": question}]) for question in QUESTIONS]
    return [context.embedded(frozen, prompt) for context in contexts for prompt in prompts]


@torch.inference_mode()
def literally(frozen: FrozenModel, stream_rows: list[torch.Tensor], weights: list[float], steps: int) -> list[int]:
    """The likeliest tokens of a mixture by plain calls: no cache, no batch, no padding."""
    said: list[int] = []
    for _ in range(steps):
        scores = torch.zeros(0)
        for row, weight in zip(stream_rows, weights, strict=True):
            whole = torch.cat([row, frozen.embeddings(torch.tensor(said, dtype=torch.long))])
            own = torch.softmax(frozen.model(inputs_embeds=whole[None]).logits[0, -1].float(), dim=-1)
            scores = weight * own if not len(scores) else scores + weight * own
        said.append(int(scores.argmax()))
    return said


@pytest.fixture(scope="module")
def spoken(pocket: FrozenModel) -> list[list[int]]:
    """The nine likeliest tokens after each of `rows`, by literal calls; a shorter answer is the beginning of it."""
    return [literally(pocket, [row], [1.0], 9) for row in rows(pocket)]


def ids(stream: Stream) -> list[int]:
    return [token.id for token in stream.said]


def endless(frozen: FrozenModel, room: int | None = None) -> Decoder:
    """A decoder for which no token ends an answer, so that all have their full length."""
    decoder = Decoder(frozen, None if room is None else TokenBudget(frozen, {"cpu": room}))
    decoder._ends = set()
    return decoder


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2", "gpt2", "opt", "falcon_alibi", "mamba", "phi3_longrope"])
def test_of_any_family_each_says_what_it_says_alone(name: str, family: Callable[..., FrozenModel]) -> None:
    frozen = family(name)
    everything, decoder = rows(frozen), endless(frozen)
    streams = [Stream([row], sampling=Sampling(6 + place % 3)) for place, row in enumerate(everything)]
    mixed = Stream(everything[:3], [0.5, 0.2, 0.3], Sampling(7))
    for stream in streams[:4]:
        decoder.add(stream)
    decoder.step()
    decoder.step()
    for stream in (*streams[4:], mixed):  # they join while others are under way
        decoder.add(stream)
    while decoder.running or decoder.waiting:
        decoder.step()
    for row, stream in zip(everything, streams, strict=True):
        assert ids(stream) == literally(frozen, [row], [1.0], stream.sampling.max_tokens)
        assert stream.finish == "length"
    assert ids(mixed) == literally(frozen, everything[:3], [0.5, 0.2, 0.3], 7)


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 11), st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=8),
    leaving=st.integers(0, 7),
    room=st.sampled_from([40, 200, 10_000]),
)
def test_whoever_comes_and_goes_the_others_say_the_same(
    arrivals: list[tuple[int, int, int]], leaving: int, room: int, pocket: FrozenModel, spoken: list[list[int]]
) -> None:
    everything, decoder = rows(pocket), endless(pocket, room)
    streams = []
    for place, length, pause in arrivals:
        streams.append(Stream([everything[place]], sampling=Sampling(length)))
        decoder.add(streams[-1])
        for _ in range(pause):
            decoder.step()
    gone = streams[leaving % len(streams)]
    decoder.remove(gone)
    while decoder.running or decoder.waiting:
        decoder.step()
    for (place, length, _), stream in zip(arrivals, streams, strict=True):
        assert ids(stream) == spoken[place][: len(stream.said)]
        assert len(stream.said) == length or stream is gone


def test_memory_that_runs_out_under_way_loses_no_answer_and_changes_none() -> None:
    frozen = load_model(ModelSpec(device="cpu"))
    everything = rows(frozen)[:6]
    expected = [Stream([row], sampling=Sampling(9)) for row in everything]
    decode(endless(frozen), expected)
    read: list[int] = []

    def refuse(_: object, args: object, given: dict[str, torch.Tensor]) -> None:
        read.append(len(given["inputs_embeds"]))
        if len(read) > 4 and read[-1] > 2:
            raise torch.OutOfMemoryError("out of memory")

    frozen.model.register_forward_pre_hook(refuse, with_kwargs=True)
    streams, decoder = [Stream([row], sampling=Sampling(9)) for row in everything], endless(frozen)
    decode(decoder, streams)
    assert read[:5] == [6] * 5
    assert decoder.budget.halved > 0
    assert [ids(stream) for stream in streams] == [ids(stream) for stream in expected]
    assert all(stream.finish == "length" for stream in streams)


def test_sampling_is_repeatable_and_does_not_depend_on_neighbours(pocket: FrozenModel) -> None:
    row, other = rows(pocket)[1], rows(pocket)[5]
    drawn = Sampling(12, temperature=1.0, top_p=0.9, seed=5)
    alone, beside, elsewhere = Stream([row], sampling=drawn), Stream([row], sampling=drawn), Stream([other])
    decode(endless(pocket), [alone])
    decode(endless(pocket), [elsewhere, beside])
    assert ids(alone) == ids(beside)
    another = Stream([row], sampling=Sampling(12, temperature=1.0, top_p=0.9, seed=6))
    decode(endless(pocket), [another])
    assert ids(another) != ids(alone)


def test_the_nucleus_is_the_fewest_likely_tokens_that_reach_top_p() -> None:
    drawn = [Sampling(temperature=1.0, top_p=0.6, seed=seed) for seed in range(400)]
    streams = [Stream([torch.zeros(1, 1)], sampling=sampling) for sampling in drawn]
    tokens = draw(streams, torch.tensor([0.2, 0.5, 0.3]).log().repeat(400, 1))
    ids = [token.id for token in tokens if token is not None]
    assert len(ids) == 400
    assert set(ids) == {1, 2}
    assert ids.count(1) / 400 == pytest.approx(0.5 / 0.8, abs=0.07)


def test_a_mixture_of_one_opinion_with_itself_is_that_opinion() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixture(torch.stack([logits, logits]), [0.3, 9.0]), torch.log_softmax(logits, dim=-1))


def test_an_expert_whose_output_is_not_finite_is_left_out_of_the_mixture() -> None:
    good, bad = torch.zeros(4), torch.full((4,), float("nan"))
    torch.testing.assert_close(mixture(torch.stack([bad, good]), [0.9, 0.1]).exp(), torch.full((4,), 0.25))
    assert mixture(torch.stack([bad, bad]), [0.9, 0.1]).isnan().all()


def test_a_stream_without_a_finite_row_ends_with_an_error_and_harms_no_other(pocket: FrozenModel) -> None:
    row = rows(pocket)[0]
    broken, sound, alone = Stream([row * float("nan")]), Stream([row]), Stream([row])
    decode(Decoder(pocket), [broken, sound], ("\n",))
    decode(Decoder(pocket), [alone], ("\n",))
    assert broken.finish == "error"
    assert ids(sound) == ids(alone)


def test_log_probabilities_and_alternatives_are_those_of_the_model(pocket: FrozenModel) -> None:
    row = rows(pocket)[1]
    stream = Stream([row], sampling=Sampling(1, top=3))
    decode(Decoder(pocket), [stream])
    with torch.inference_mode():
        expected = torch.log_softmax(pocket.model(inputs_embeds=row[None]).logits[0, -1].float(), dim=-1)
    (token,) = stream.said
    best = expected.topk(3)
    assert [id for id, _ in token.top] == best.indices.tolist()
    np.testing.assert_allclose([score for _, score in token.top], best.values, atol=1e-5)
    assert token.log_probability == pytest.approx(float(best.values[0]), abs=1e-5)


def test_what_does_not_fit_is_refused_before_anything_is_computed(pocket: FrozenModel) -> None:
    decoder = Decoder(pocket)
    with pytest.raises(UserError, match=r"needs \d+ tokens and an answer of 5000, the model takes 1024"):
        decoder.add(Stream([rows(pocket)[0]], sampling=Sampling(5000)))
    with pytest.raises(ValueError, match="2 rows have the weights"):
        decoder.add(Stream(rows(pocket)[:2], [1.0]))
    assert not decoder.waiting


def test_text_comes_in_whole_characters_and_ends_before_the_stop_text(pocket: FrozenModel) -> None:
    wanted = "Grüße: 你好!\nQuestion"
    tokens = pocket.tokenizer(wanted, add_special_tokens=False).input_ids
    stream, text, seen = Stream([rows(pocket)[0]]), Text(pocket, ("\nQuest", "#")), []
    for token in tokens:
        stream.said.append(Token(token, 0.0))
        seen.append(text.update(stream))
    assert "".join(seen) == text.text == "Grüße: 你好!"
    assert text.stopped
    assert not any("\ufffd" in piece for piece in seen)
