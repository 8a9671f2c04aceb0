"""The models of `conf/model/`: each a complete specification that differs from the others by its name alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from evoprompt.llm import ModelSpec

CONF = Path(__file__).parents[2] / "conf"
HUB_NAMES = {
    "gemma-2-2b-it": "google/gemma-2-2b-it",
    "gpt2": "openai-community/gpt2",
    "llama3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
    "llama3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
    "mistral-7b-instruct": "mistralai/Mistral-7B-Instruct-v0.3",
    "phi-3.5-mini": "microsoft/Phi-3.5-mini-instruct",
    "pocket": "pocket",
    "qwen2.5-0.5b-instruct": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen3-8b": "Qwen/Qwen3-8B",
    "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
}


def test_the_ready_models_are_those_of_the_list() -> None:
    assert {path.stem for path in (CONF / "model").glob("*.yaml")} == set(HUB_NAMES)


@pytest.mark.parametrize("choice", HUB_NAMES)
def test_a_choice_is_the_default_specification_with_another_name(choice: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = compose("config", overrides=[f"model={choice}"]).model
    assert dict(chosen) == asdict(ModelSpec(name=HUB_NAMES[choice]))


def test_every_key_of_a_choice_can_be_overridden() -> None:
    changes = {"revision": "v2", "quantization": "4bit", "token_budget": 4096, "attention": "eager"}
    overrides = [f"model.{key}={value}" for key, value in changes.items()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = compose("config", overrides=["model=gpt2", "model.name=./mine", *overrides]).model
    assert dict(chosen) == asdict(ModelSpec(name="./mine", **changes))  # type: ignore[arg-type]
