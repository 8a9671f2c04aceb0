"""The API by the official client and by raw requests: what is asked is answered, what is wrong is refused."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import torch
from peft import PeftModel
from serving_processes import NAMES, Server, serving, until, write_experts

from evoprompt.experts import Registry
from evoprompt.llm import FrozenModel, ModelSpec, load_model
from evoprompt.llm.speak.decoding import Decoder, Sampling, decode
from evoprompt.routing import Committee, load_router

GREETING = [{"role": "user", "content": "How do I greet my host?"}]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def here(server: Server, pocket: FrozenModel) -> Committee:
    """The same committee in this process."""
    return Committee(pocket, Registry(server.experts, pocket), load_router())


def post(server: Server, body: object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"content-type": "application/json", **headers}
    return httpx.post(f"{server.url}/v1/chat/completions", content=content, headers=told, timeout=60)


def error(response: httpx.Response) -> str:
    return str(response.json()["error"]["message"])


def test_the_official_client_lists_models_and_gets_answers(client: openai.OpenAI, here: Committee) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:4] == ["committee", "committee:mixture", "committee:panel", "committee:synthesis"]
    assert names[4:] == [*(f"expert:{name}" for name in sorted(NAMES)), "base"]
    assert client.models.retrieve("expert:usa").id == "expert:usa"
    for name in NAMES:
        answer = client.chat.completions.create(model=f"expert:{name}", messages=GREETING, max_tokens=16)
        expected = here.answer(GREETING, voices=[here.voice(name)], sampling=Sampling(16))
        assert answer.choices[0].message.content == expected.text
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0


def test_a_stream_says_the_same_as_a_whole_answer(client: openai.OpenAI) -> None:
    for model in ("expert:india", "base", "committee", "committee:panel", "committee:synthesis"):
        asked = {"model": model, "messages": GREETING, "max_tokens": 12}
        whole = client.chat.completions.create(**asked)
        pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert text.strip() == whole.choices[0].message.content
        assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason
        assert pieces[-1].usage is not None
        assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_committee_tells_who_spoke_and_why(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="committee:panel", messages=[{"role": "user", "content": "Who pays in Osaka and in Nairobi?"}]
    ).model_extra["evoprompt"]
    assert {voice["name"] for voice in found["voices"]} == {"japan", "kenya"} == set(found["panel"])
    assert all(voice["probability"] > 0.5 and voice["reasons"] for voice in found["voices"])
    placed = client.chat.completions.create(
        model="committee", messages=GREETING, extra_body={"profile": {"location": "Nairobi"}}
    ).model_extra["evoprompt"]
    assert placed["voices"][0]["name"] == "kenya"
    none = client.chat.completions.create(model="committee", messages=[{"role": "user", "content": "What is 17 * 23?"}])
    assert [voice["name"] for voice in none.model_extra["evoprompt"]["voices"]] == ["base"]


def test_served_option_logits_are_those_of_peft_and_of_our_scoring(
    client: openai.OpenAI, here: Committee, server: Server
) -> None:
    asked = {"model": "expert:germany", "messages": [{"role": "user", "content": "Is it good to save?"}]}
    served = client.chat.completions.create(**asked, extra_body={"options": ["yes", "no"]})
    opinion = served.model_extra["evoprompt"]["opinion"]
    found = np.array(opinion["log_probabilities"]["germany"])
    ours = here.opinion("Is it good to save?", ["yes", "no"], voices=[here.voice("germany")])
    np.testing.assert_allclose(found, ours.log_probabilities["germany"], atol=1e-4)
    assert served.choices[0].message.content == opinion["options"][int(np.argmax(opinion["shares"]))]
    tuned = PeftModel.from_pretrained(load_model(ModelSpec(device="cpu")).model, server.experts / "germany").eval()
    text = "Options: A = yes; B = no.\nQuestion: Is it good to save?\nAnswer:"
    with torch.inference_mode():
        logits = tuned(input_ids=here.frozen.tokenizer(text, return_tensors="pt").input_ids).logits[0, -1]
    labels = [here.frozen.tokenizer(f" {label}").input_ids[0] for label in "AB"]
    np.testing.assert_allclose(found[0], torch.log_softmax(logits, dim=-1)[labels].numpy(), atol=1e-4)


def test_log_probabilities_of_tokens_are_told(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="expert:usa", messages=GREETING, max_tokens=4, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for token in content:
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob)
        assert len(token.top_logprobs) == 3


def test_sampling_follows_its_seed(client: openai.OpenAI) -> None:
    def said(seed: int) -> str:
        asked = {"model": "expert:usa", "messages": GREETING, "max_tokens": 12, "temperature": 1.0, "seed": seed}
        return str(client.chat.completions.create(**asked).choices[0].message.content)

    assert said(1) == said(1)
    assert len({said(seed) for seed in range(5)}) > 1


def test_a_stop_text_ends_an_answer_and_is_not_part_of_it(client: openai.OpenAI) -> None:
    asked = {"model": "expert:usa", "messages": GREETING, "max_tokens": 24}
    whole = str(client.chat.completions.create(**asked).choices[0].message.content)
    middle = whole[len(whole) // 2 : len(whole) // 2 + 3]
    cut = client.chat.completions.create(**asked, stop=[middle])
    assert cut.choices[0].message.content == whole[: whole.index(middle)].strip()
    assert cut.choices[0].finish_reason == "stop"


BAD = {
    "malformed JSON": (b'{"model": "base", ', 400, "the body is not JSON"),
    "an empty body": (b"", 400, "required"),
    "a list": ([1, 2], 400, "body"),
    "no messages": ({"model": "base", "messages": []}, 400, "messages"),
    "a number as content": ({"model": "base", "messages": [{"role": "user", "content": 5}]}, 400, "content"),
    "an unknown role": ({"model": "base", "messages": [{"role": "tool", "content": "x"}]}, 400, "role"),
    "a blank question": ({"model": "base", "messages": [{"role": "user", "content": " "}]}, 400, "not empty"),
    "a blank question to the committee": (
        {"model": "committee", "messages": [{"role": "user", "content": " "}]}, 400, "empty",
    ),
    "an unknown model": ({"model": "gpt-4", "messages": GREETING}, 404, "the model 'gpt-4' does not exist"),
    "an unknown expert": ({"model": "expert:atlantis", "messages": GREETING}, 404, "does not exist"),
    "a path as an expert": ({"model": "expert:../../etc", "messages": GREETING}, 404, "does not exist"),
    "too many tokens": ({"model": "base", "messages": GREETING, "max_tokens": 9999}, 400, "than this server's 512"),
    "more than the model takes": (
        {"model": "base", "messages": [{"role": "user", "content": "word " * 2000}]}, 400, "the model takes 1024",
    ),
    "more text than is taken": (
        {"model": "base", "messages": [{"role": "user", "content": "x" * 40_000}]}, 413, "more than 32768 characters",
    ),
    "a hot temperature": ({"model": "base", "messages": GREETING, "temperature": 7}, 400, "temperature"),
    "two answers": ({"model": "base", "messages": GREETING, "n": 2}, 400, "n: "),
    "one option": ({"model": "base", "messages": GREETING, "options": ["yes"]}, 400, "options"),
    "an option twice": ({"model": "base", "messages": GREETING, "options": ["a", "a"]}, 400, "different texts"),
    "too many experts": ({"model": "committee", "messages": GREETING, "k": 20}, 400, "than this server's 5"),
    "half a character": ({"model": "base", "messages": [{"role": "user", "content": "\ud800"}]}, 400, "surrogates"),
    "half a character as an option": ({"model": "base", "messages": GREETING, "options": ["a", "\udfff"]}, 400, "surr"),
    "options for a blank question": (
        {"model": "base", "messages": [{"role": "user", "content": " "}], "options": ["a", "b"]}, 400, "not empty",
    ),
    "log probabilities of several voices": (
        {"model": "committee:panel", "messages": [{"role": "user", "content": "Who pays in Osaka and in Nairobi?"}],
         "logprobs": True}, 400, "several voices speak in a panel",
    ),
    "streamed options": (
        {"model": "base", "messages": GREETING, "options": ["a", "b"], "stream": True}, 400, "not with stream",
    ),
    "options behind a conversation": (
        {"model": "base", "messages": GREETING * 2, "options": ["a", "b"]}, 400, "go with one question",
    ),
    "an unknown profile": ({"model": "base", "messages": GREETING, "profile": {"age": 3}}, 400, "profile.age"),
    "a huge body": (b" " * 300_000, 413, "more than 262144 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "said"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_refused_with_the_right_status_and_the_server_lives(
    body: object, status: int, said: str, server: Server
) -> None:
    response = post(server, body)
    assert response.status_code == status, response.text
    assert said in error(response)
    assert server.health()["status"] == "ok"


def test_a_huge_body_without_a_length_is_cut_off(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    response = httpx.post(f"{server.url}/v1/chat/completions", content=endless(), timeout=120)
    assert response.status_code == 413


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("DELETE", "/v1/models", 405)])
def test_other_paths_and_methods_are_refused_in_the_same_form(
    method: str, path: str, status: int, server: Server
) -> None:
    response = httpx.request(method, server.url + path, timeout=60)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_client_that_hangs_up_leaves_no_stream_behind(server: Server) -> None:
    body = {"model": "expert:usa", "messages": GREETING, "max_tokens": 500, "temperature": 2.0, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=120) as response:
        for _ in zip(range(3), response.iter_lines(), strict=False):
            pass
    until(lambda: server.health()["streams"] == {"running": 0, "waiting": 0})
    for _ in range(10):
        with httpx.Client(timeout=httpx.Timeout(30, read=0.01)) as impatient, suppress(httpx.ReadTimeout):
            impatient.post(f"{server.url}/v1/chat/completions", json={**body, "stream": False})
    until(lambda: server.health()["streams"] == {"running": 0, "waiting": 0})
    until(lambda: "evoprompt_open_requests 0.0" in httpx.get(f"{server.url}/metrics", timeout=60).text)


def test_what_clients_leave_null_is_the_default(server: Server) -> None:
    nulls = dict.fromkeys(("stream", "n", "logprobs", "top_logprobs", "temperature", "top_p", "seed", "stop"))
    asked = {"model": "expert:usa", "messages": GREETING, "max_tokens": 4}
    plain, left_open = post(server, asked), post(server, {**asked, **nulls})
    assert left_open.status_code == 200
    assert left_open.json()["choices"] == plain.json()["choices"]
    assert post(server, {**asked, "seed": -5, "temperature": 1.0}).status_code == 200


def test_metrics_count_what_happened(server: Server) -> None:
    post(server, {"model": "expert:kenya", "messages": GREETING, "max_tokens": 2})
    post(server, {"model": "nobody", "messages": GREETING})
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    assert 'evoprompt_requests_total{path="/v1/chat/completions",status="404"}' in text
    assert 'evoprompt_chosen_total{expert="kenya"}' in text
    assert "evoprompt_answer_seconds_bucket" in text


def test_an_expert_that_is_swapped_or_damaged_while_serving_harms_nobody_else(
    server: Server, pocket: FrozenModel
) -> None:
    asked = {"messages": GREETING, "max_tokens": 12}

    def said(name: str) -> httpx.Response:
        return post(server, {**asked, "model": f"expert:{name}"})

    before = {name: said(name).json()["choices"][0]["message"]["content"] for name in NAMES}
    weights = server.experts / "brazil" / "adapter_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-7])
    until(lambda: said("brazil").status_code == 503)
    assert "damaged" in error(said("brazil"))
    assert str(server.experts) not in said("brazil").text, "no path of the server is told"
    for name in set(NAMES) - {"brazil"}:
        assert said(name).json()["choices"][0]["message"]["content"] == before[name]
    weights.write_bytes(good)
    until(lambda: said("brazil").status_code == 200)
    for file in (server.experts / "usa").iterdir():
        copy = server.experts / "brazil" / f"{file.name}.new"
        copy.write_bytes(file.read_bytes())
        os.replace(copy, server.experts / "brazil" / file.name)
    until(lambda: said("brazil").json()["choices"][0]["message"]["content"] == before["usa"])
    write_experts(server.experts, pocket)
    until(lambda: said("brazil").json()["choices"][0]["message"]["content"] == before["brazil"])


def test_many_clients_at_once_each_get_their_own_expert(server: Server, here: Committee) -> None:
    questions = [f"{word}, what do I bring?" for word in ("Well", "Please", "So", "Then")]
    expected = {}
    for name in NAMES:
        for question in questions:
            asked = [{"role": "user", "content": question}]
            (stream,) = here.streams(asked, [here.voice(name)], "mixture", Sampling(12))
            (text,) = decode(Decoder(here.frozen), [stream], here.stops)
            expected[name, question] = text, np.array([token.log_probability for token in stream.said])
    first = [round(float(scores[0]), 3) for _, scores in expected.values()]
    assert len(set(first)) == len(first), "answers must differ for this to be a test"
    ready = threading.Barrier(50, timeout=120)

    def ask(number: int) -> None:
        name, count = NAMES[number % len(NAMES)], 0
        with httpx.Client(timeout=150, verify=False) as own:  # the server's own limit is 120 s
            ready.wait()  # a busy machine may take longer to make fifty clients than they ask
            stop = time.monotonic() + 6
            while count < len(questions) or time.monotonic() < stop:
                question = questions[(number + count) % len(questions)]
                asked = {"messages": [{"role": "user", "content": question}], "max_tokens": 12, "logprobs": True}
                response = own.post(f"{server.url}/v1/chat/completions", json={"model": f"expert:{name}", **asked})
                assert response.status_code == 200, response.text
                (choice,) = response.json()["choices"]
                text, scores = expected[name, question]
                assert choice["message"]["content"] == text
                found = [token["logprob"] for token in choice["logprobs"]["content"]]
                np.testing.assert_allclose(found, scores, atol=1e-4)
                count += 1

    with ThreadPoolExecutor(50) as clients:
        list(clients.map(ask, range(50)))


def test_too_many_at_once_are_turned_away_and_the_slow_are_cut_off(pocket: FrozenModel, tmp_path: Path) -> None:
    experts = write_experts(tmp_path / "experts", pocket)
    long = {"model": "committee:panel", "messages": GREETING, "max_tokens": 500, "temperature": 2.0}
    with serving(experts, "--max-requests", "2", "--timeout", "0.02") as small:
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(post(small, long).status_code)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(found) == {429, 504}
        stream = post(small, {**long, "model": "expert:usa", "stream": True}).text
        assert "no whole answer within 0.02 s" in stream
        until(lambda: small.health()["streams"] == {"running": 0, "waiting": 0})


def test_questions_that_nobody_waits_for_hold_nobody_up(server: Server) -> None:
    many = [f"answer number {number}" for number in range(26)]
    for _ in range(12):
        with httpx.Client(timeout=httpx.Timeout(30, read=0.02)) as impatient, suppress(httpx.ReadTimeout):
            asked = {"model": "committee", "messages": GREETING, "options": many, "k": 5}
            impatient.post(f"{server.url}/v1/chat/completions", json=asked)
    began = time.monotonic()
    assert post(server, {"model": "expert:usa", "messages": GREETING, "max_tokens": 2}).status_code == 200
    assert time.monotonic() - began < 20, "at most the one that was under way is finished first"


def test_a_temperature_near_nothing_is_nothing(client: openai.OpenAI) -> None:
    asked = {"model": "expert:usa", "messages": GREETING, "max_tokens": 8}
    said = [client.chat.completions.create(**asked, temperature=t).choices[0].message.content for t in (0, 1e-45, 1e-9)]
    assert said == [said[0]] * 3
    assert said[0]


def test_on_this_machine_alone_it_answers_to_its_own_names_only(server: Server) -> None:
    assert httpx.get(f"{server.url}/v1/models", headers={"host": "evil.example"}, timeout=60).status_code == 421
    for name in ("localhost:1", "LOCALHOST", "[::1]", "127.0.0.1:80"):
        assert httpx.get(f"{server.url}/v1/models", headers={"host": name}, timeout=60).status_code == 200
    assert httpx.get(f"{server.url}/openapi.json", timeout=60).status_code == 404


def test_with_a_token_only_who_shows_it_is_answered(pocket: FrozenModel, tmp_path: Path) -> None:
    experts, token = write_experts(tmp_path / "experts", pocket), tmp_path / "token"
    token.write_text("s3cret\n")
    with serving(experts, "--token-file", str(token), "--allow-host", "Proxy.example") as guarded:
        asked = {"model": "expert:usa", "messages": GREETING, "max_tokens": 2}
        assert post(guarded, asked).status_code == 401
        for wrong in ("Bearer s3cre", "Bearer s3crett", "s3cret", "Basic s3cret", "Bearer"):
            assert post(guarded, asked, authorization=wrong).status_code == 401
        assert httpx.get(f"{guarded.url}/v1/models", timeout=60).status_code == 401
        assert httpx.get(f"{guarded.url}/metrics", timeout=60).status_code == 401
        assert post(guarded, asked, authorization="Bearer s3cret").status_code == 200
        for host, status in (("proxy.example:443", 200), ("localhost", 200), ("other.example", 421)):
            known = {"authorization": "Bearer s3cret", "host": host}
            assert httpx.get(f"{guarded.url}/v1/models", headers=known, timeout=60).status_code == status
        assert (
            httpx.get(f"{guarded.url}/", timeout=60).status_code
            == httpx.get(f"{guarded.url}/health", timeout=60).status_code
            == 200
        )
        trusted = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="s3cret", max_retries=0)
        assert trusted.chat.completions.create(**asked).choices
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0).models.list()


def test_bad_input_to_the_command_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from evoprompt.commands.start import call

    (tmp_path / "token").write_text("two words")
    taken = socket.create_server(("127.0.0.1", 0))
    for arguments, said in (
        (["--experts", str(tmp_path / "nowhere")], "is not a folder"),
        (["--token-file", str(tmp_path / "token")], "must be printable ASCII without blanks"),
        (["--token-file", str(tmp_path / "none")], "cannot be read"),
        (["--timeout", "0"], "limit seconds must be a number > 0, got 0.0"),
        (["--port", str(taken.getsockname()[1])], "Address already in use; choose --port or --host"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1 port 8000"),
    ):
        assert call("serve", arguments) == 2
        told = capsys.readouterr()
        (line,) = told.err.splitlines()
        assert said in line
        assert not told.out
    taken.close()
