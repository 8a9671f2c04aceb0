"""What the whole suite shares: the pocket model, loaded once."""

from __future__ import annotations

import pytest

from evoprompt.llm import FrozenModel, ModelSpec, load_model


@pytest.fixture(scope="session")
def pocket() -> FrozenModel:
    """The bundled model in float32 on the CPU."""
    return load_model(ModelSpec(device="cpu"))
