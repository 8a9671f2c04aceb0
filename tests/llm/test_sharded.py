"""A model whose layers are in several places, as accelerate puts them."""

from __future__ import annotations

from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from test_respondent import LABELS, TEXTS, soft

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model


@pytest.mark.parametrize("placement", ["prefix", "suffix"])
def test_a_dispatched_model_answers_as_a_whole_one(pocket: FrozenModel, placement: str, tmp_path: Path) -> None:
    spread = load_model(ModelSpec(device="cpu"))
    places = dict.fromkeys(["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"], "cpu")
    places |= {f"model.layers.{i}": ("disk" if i % 2 else "cpu") for i in range(len(spread.model.model.layers))}
    accelerate.dispatch_model(spread.model, places, main_device="cpu", offload_dir=str(tmp_path))
    assert any(parameter.device.type == "meta" for parameter in spread.model.parameters()), "some layers are elsewhere"
    prompts = soft(pocket, 3)
    answers = []
    for frozen in (pocket, spread):
        respondent = Respondent(frozen, placement)
        answers.append(respondent.answer(prompts, respondent.sheet(TEXTS[:6], LABELS[:6])))
        assert respondent.path == "cascade"
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_a_model_is_spread_over_gpus_or_refused_where_there_are_none() -> None:
    if torch.cuda.is_available():
        assert load_model(ModelSpec(device="sharded")).device.type == "cuda"
    else:
        with pytest.raises(UserError, match=r"device 'cuda' is not there"):
            load_model(ModelSpec(device="sharded"))
