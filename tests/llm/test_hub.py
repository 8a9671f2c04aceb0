"""Loading over HTTP: from a real server that speaks the hub's protocol, in processes that read its address afresh."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import DOWN, FORBIDDEN, GATED, LIMITED, SLOW, WRONG_TOKEN, Hub, commit_of
from transformers import LlamaConfig, LlamaForCausalLM

from evoprompt.llm import FrozenModel, ModelSpec, load_model

LOAD_EACH = Path(__file__).with_name("load_each.py")
MODEL, CODE, PICKLED, BARE, PARTLY = "org/model", "org/code", "org/pickled", "org/bare", "org/partly"
SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MODELLING = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path("{marker}").touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
TIME_OUT = 1  # seconds that the hub has to answer


@dataclass(frozen=True)
class Loading:
    """What came of one request."""

    fingerprint: str | None
    error: str | None
    seconds: float


Ask = Callable[..., dict[str, Loading]]


@dataclass(frozen=True)
class World:
    """A hub with models, and what was asked of it."""

    hub: Hub
    folder: Path
    cache: Path
    marker: Path  # written by the code that comes with a model, when it is run
    ask: Ask


def save(folder: Path, pocket: FrozenModel, seed: int, **options: Any) -> Path:
    """A small model with weights of its own."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=len(pocket.tokenizer)))
    model.save_pretrained(folder, **options)
    pocket.tokenizer.save_pretrained(folder)
    return folder


def bring_code(folder: Path, marker: Path) -> Path:
    """Make a model need Python code of its own."""
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    own = {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": classes}
    (folder / "config.json").write_text(json.dumps({**config, **own}))
    (folder / "own.py").write_text(MODELLING.format(marker=marker))
    return folder


@pytest.fixture(scope="module")
def world(pocket: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running hub."""
    folder, home = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("home")
    marker = folder / "the code was run"
    repositories = {
        MODEL: {
            "main": save(folder / "main", pocket, 1),
            "v2": save(folder / "v2", pocket, 2, max_shard_size="20KB"),
        },
        CODE: {"main": bring_code(save(folder / "code", pocket, 3), marker)},
        PICKLED: {"main": save(folder / "pickled", pocket, 4)},
        BARE: {"main": folder / "bare"},
        PARTLY: {"main": save(folder / "partly", pocket, 5)},
    }
    torch.save({}, folder / "pickled" / "pytorch_model.bin")
    (folder / "pickled" / "model.safetensors").unlink()
    (folder / "bare").mkdir()
    hub = Hub(repositories)

    def ask(*requests: dict[str, Any], **environment: str) -> dict[str, Loading]:
        """Load each in one process that has an answer ready for whatever it may prompt for."""
        done = subprocess.run(
            [sys.executable, str(LOAD_EACH), json.dumps(requests)],
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
                "HF_ENDPOINT": hub.address,
                "HF_HOME": str(home),
                "HF_HUB_ETAG_TIMEOUT": str(TIME_OUT),
                "NO_PROXY": "127.0.0.1",
                **environment,
            },
            input="y\n" * 99,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        answers = [Loading(**json.loads(line)) for line in done.stdout.splitlines()]
        return {key(request): answer for request, answer in zip(requests, answers, strict=True)}

    yield World(hub, folder, home / "hub", marker, ask)
    hub.stop()


def key(request: dict[str, Any]) -> str:
    """What a request is called in these tests."""
    return " ".join(str(value) for value in request.values())


@pytest.fixture(scope="module")
def online(world: World) -> dict[str, Loading]:
    """Everything that is asked of the running hub, in one process."""
    return world.ask(
        {"name": MODEL},
        {"name": MODEL, "revision": "v2"},
        {"name": MODEL, "revision": commit_of(MODEL, "v2")},
        {"name": MODEL, "revision": "v3"},
        {"name": "org/none"},
        {"name": "org/none", "token": "hf_right"},
        {"name": "not a/name/at all"},
        {"name": GATED},
        {"name": GATED, "token": "hf_right"},
        {"name": PARTLY, "token": WRONG_TOKEN},
        {"name": FORBIDDEN, "token": "hf_right"},
        {"name": DOWN},
        {"name": LIMITED},
        {"name": SLOW},
        {"name": BARE},
        {"name": PICKLED},
        {"name": CODE},
        {"name": str(world.folder / "code")},
        {"name": PARTLY},
    )


def of_folder(folder: Path) -> str:
    """The fingerprint of a saved model."""
    return load_model(ModelSpec(name=str(folder), device="cpu")).fingerprint


def test_a_hub_name_loads_what_its_main_branch_holds(world: World, online: dict[str, Loading]) -> None:
    assert online[MODEL].fingerprint == of_folder(world.folder / "main")


def test_a_revision_is_a_branch_or_a_commit_and_may_come_in_several_files(
    world: World, online: dict[str, Loading]
) -> None:
    assert online[f"{MODEL} v2"].fingerprint == of_folder(world.folder / "v2") != online[MODEL].fingerprint
    assert online[f"{MODEL} {commit_of(MODEL, 'v2')}"].fingerprint == online[f"{MODEL} v2"].fingerprint


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (f"{MODEL} v3", ["has no revision 'v3'", f"https://huggingface.co/{MODEL}"]),
        ("org/none", ["no such model", "hf auth login", "model=pocket", "model.name=<folder"]),
        ("org/none hf_right", ["no such model", "model=pocket"]),
        ("not a/name/at all", ["neither a folder nor a name on the hub"]),
        (GATED, ["is gated: accept its licence", f"https://huggingface.co/{GATED}", "hf auth login"]),
        (f"{GATED} hf_right", ["is gated: accept its licence", f"https://huggingface.co/{GATED}"]),
        (f"{PARTLY} {WRONG_TOKEN}", ["refuses your token (401)", "HF_TOKEN"]),
        (f"{FORBIDDEN} hf_right", ["may not read", "(403)", "settings/tokens"]),
        (DOWN, ["may be offline", "500", "model=pocket", "model.name=<folder"]),
        (LIMITED, ["may be offline", "429", "model=pocket", "model.name=<folder"]),
        (SLOW, ["may be offline", "timed out", "model=pocket", "model.name=<folder"]),
        (BARE, ["has no config.json"]),
        (PICKLED, ["safetensors are required"]),
        (CODE, ["Python code of its own", "model.trust_remote_code=true"]),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(request_: str, said: list[str], online: dict[str, Loading]) -> None:
    error = online[request_].error
    assert error is not None
    assert "\n" not in error
    assert [part for part in said if part not in error] == []


def test_no_refusal_waits_for_long(online: dict[str, Loading]) -> None:
    assert online[SLOW].seconds >= TIME_OUT
    assert all(answer.seconds < TIME_OUT + 5 for answer in online.values() if answer.error)


def test_code_that_comes_with_a_model_is_run_only_when_that_was_asked_for(
    world: World, online: dict[str, Loading]
) -> None:
    local = str(world.folder / "code")
    assert "model.trust_remote_code=true" in str(online[local].error)
    assert not world.marker.exists()
    assert not [path for path in world.hub.asked if path.endswith(".py")]
    trusted = world.ask({"name": CODE, "trust_remote_code": True}, {"name": local, "trust_remote_code": True})
    assert all(answer.fingerprint and answer.error is None for answer in trusted.values())
    assert world.marker.exists()


@pytest.fixture(scope="module", params=["gone", "silent", "not to be asked"])
def offline(request: pytest.FixtureRequest, world: World, online: dict[str, Loading]) -> Iterator[dict[str, Loading]]:
    """What was loaded before and what was not, without the hub."""
    assert online[PARTLY].fingerprint
    for weights in world.cache.glob("models--org--partly/snapshots/*/model.safetensors"):
        weights.unlink()
    requests = [{"name": MODEL}, {"name": MODEL, "revision": "v2"}, {"name": PARTLY}, {"name": "org/never-seen"}]
    asked = len(world.hub.asked)
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if request.param == "silent":
            port.listen(64)
        elsewhere = f"http://127.0.0.1:{port.getsockname()[1]}"
        changed = {"HF_HUB_OFFLINE": "1"} if request.param == "not to be asked" else {"HF_ENDPOINT": elsewhere}
        yield world.ask(*requests, **changed)
    assert len(world.hub.asked) == asked


def test_without_the_hub_the_cache_serves_what_was_loaded_before(
    offline: dict[str, Loading], online: dict[str, Loading]
) -> None:
    assert offline[MODEL].fingerprint == online[MODEL].fingerprint
    assert offline[f"{MODEL} v2"].fingerprint == online[f"{MODEL} v2"].fingerprint


@pytest.mark.parametrize("name", [PARTLY, "org/never-seen"])
def test_without_the_hub_and_a_full_cache_the_way_out_is_named(name: str, offline: dict[str, Loading]) -> None:
    error = offline[name].error
    assert error is not None
    assert "\n" not in error
    for part in ("may be offline", "the cache does not hold all", "model=pocket", "model.name=<folder"):
        assert part in error


def test_without_the_hub_nothing_waits_for_long(offline: dict[str, Loading]) -> None:
    assert offline["org/never-seen"].seconds < TIME_OUT + 5
