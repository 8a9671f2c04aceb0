"""Which model, and where it goes: plain values that travel to workers, and nothing that takes long to import."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from evoprompt.checks import whole_number
from evoprompt.errors import UserError

POCKET = "pocket"
POCKET_FOLDER = resources.files("evoprompt.llm") / "pocket"
DEVICES = ("cpu", "cuda")
SHARDED = "sharded"  # over all GPUs that this process sees
QUANTIZATIONS = ("8bit", "4bit")


@dataclass(frozen=True)
class ModelSpec:
    """What to load and where to put it; plain values, so that it travels to workers.

    `name` is `pocket`, a local folder or a hub name. `auto` means: for `dtype`, float32 on CPU and bfloat16 on CUDA;
    for `device`, CUDA where there is one; for `attention`, what the architecture prefers. `device` may also be
    `sharded`: spread over all GPUs that the process sees. `threads` is the number of CPU threads of one evaluation: a
    part of the configuration and never taken from the machine, so that rounding does not depend on it.
    `quantization` is `8bit` (LLM.int8: a row's answer depends a little on the rows beside it) or `4bit` (NF4: it does
    not). `token_budget` is the number of tokens in one forward pass at most; None: as many as the free memory takes.
    """

    name: str = POCKET
    revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    attention: str = "auto"
    trust_remote_code: bool = False
    threads: int = 2
    quantization: str | None = None
    token_budget: int | None = None


def check_spec(spec: ModelSpec) -> None:
    """Raise a `UserError` on the first value of a specification that makes no sense on any machine."""
    if not isinstance(spec.name, str) or not spec.name:
        raise UserError(f"model.name={spec.name!r} must be pocket, a folder or a name on the hub")
    if not isinstance(spec.revision, str | None):
        raise UserError(f"model.revision={spec.revision!r} must be text: put it in quotes")
    if not isinstance(spec.trust_remote_code, bool):
        raise UserError(f"model.trust_remote_code={spec.trust_remote_code!r} must be true or false")
    whole_number("model.threads", spec.threads, 1, what="a whole number")
    if spec.token_budget is not None:
        whole_number("model.token_budget", spec.token_budget, 1, what="null or a whole number")
