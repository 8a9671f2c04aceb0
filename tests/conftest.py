"""What the whole suite shares: the pocket model, loaded once, and signals as a user's terminal has them."""

from __future__ import annotations

import signal

import pytest

from evoprompt.llm import FrozenModel, ModelSpec, load_model

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so it is in the background of a script, and for all children
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pocket() -> FrozenModel:
    """The bundled model in float32 on the CPU."""
    return load_model(ModelSpec(device="cpu"))
