"""The model: whether it is found, how large it is, and whether it fits into this process's device."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HUB_CACHE

from evoprompt.errors import UserError
from evoprompt.llm import ModelSpec
from evoprompt.llm.load.footprint import Footprint, footprint, locate
from evoprompt.llm.load.hub import Source, missing_weights
from evoprompt.llm.load.memory import PASS_TOKENS
from evoprompt.llm.load.numerics import find_attention, find_device, find_dtype, placing_options
from evoprompt.llm.load.spec import POCKET, QUANTIZATIONS, SHARDED
from evoprompt.preflight.findings import Findings, size
from evoprompt.preflight.surroundings import Machine, existing

__all__ = ["Model", "check_model"]


@dataclass(frozen=True)
class Model:
    """What is to be loaded, on which device this process would load it, and what is known of its size."""

    spec: ModelSpec
    device: torch.device
    local: bool  # in a folder, which other machines may not have
    footprint: Footprint

    @property
    def placed(self) -> str:
        """Dtype and device in this process, as run.json has them."""
        return f"{self.dtype(self.device.type)} on {self.device.type}"

    def dtype(self, device: str) -> torch.dtype:
        """The dtype on a kind of device."""
        return find_dtype(self.spec.dtype, torch.device(device))

    def weights(self, device: str) -> int:
        """Bytes of the weights on a kind of device."""
        return self.footprint.weights(self.dtype(device), self.spec.quantization)

    def tokens(self, device: str) -> int:
        """Tokens of a pass on a kind of device, if memory allows."""
        return self.spec.token_budget or PASS_TOKENS[device]

    def passing(self, device: str) -> int:
        """Bytes of such a pass, roughly."""
        return self.footprint.passing(self.tokens(device), self.dtype(device))


def check_model(spec: ModelSpec, machine: Machine, findings: Findings) -> Model | None:
    """Print what there is to know of a model, and note what would keep this process from loading it."""
    findings.section("model")
    findings.line("name", spec.name)
    device = None
    with findings.catching():
        find_attention(spec.attention)
        device = find_device(spec.device)
        placing_options(spec, device, find_dtype(spec.dtype, device))
    with findings.catching():
        try:
            source = locate(spec)
        except UserError:
            folder = spec.name.startswith(("/", ".", "~"))
            fetch = "" if folder else f"; where there is a network, `hf download {spec.name}` fetches it into the cache"
            findings.line("found", f"no{fetch}")
            raise
        _show_source(spec, source, findings)
        shape = footprint(spec, source)
        findings.line("size", _parameters(shape.parameters))
        if device is None:
            return None
        model = Model(spec, device, source.commit is None and spec.name != POCKET, shape)
        _check_memory(model, machine, findings)
        return model
    return None


def _show_source(spec: ModelSpec, source: Source, findings: Findings) -> None:
    missing = missing_weights(source)
    if source.commit is None:
        findings.line("found", "bundled" if spec.name == POCKET else f"in the folder {source.path}")
        if missing:
            findings.problem(f"folder {source.path!r} lacks {', '.join(missing)}; copy the whole model there")
    elif not missing:
        reached = "; the hub was not reached" if source.unreachable else ""
        findings.line("found", f"in the cache, commit {source.commit[:12]}{reached}")
    elif source.unreachable:
        findings.line("found", f"in part, commit {source.commit[:12]}: the cache lacks {', '.join(missing)}")
        findings.problem(source.unreachable)
    else:
        _show_download(source.commit, missing, findings)


def _show_download(commit: str, missing: dict[str, int | None], findings: Findings) -> None:
    total, cache = sum(bytes or 0 for bytes in missing.values()), existing(Path(HF_HUB_CACHE))
    free = shutil.disk_usage(cache).free
    findings.line("found", f"on the hub, commit {commit[:12]}; {size(total)} to fetch, {size(free)} free in {cache}")
    if total > free:
        findings.problem(
            f"the weights take {size(total)} and {cache} has {size(free)} left; free some, or set HF_HOME to a folder "
            "on a larger disk"
        )


def _parameters(count: int) -> str:
    return f"{count / 1e9:.2f} billion parameters" if count >= 10**9 else f"{count / 1e6:.1f} million parameters"


def _check_memory(model: Model, machine: Machine, findings: Findings) -> None:
    """Whether this process can hold the model, and what it would look like otherwise."""
    kind = model.device.type
    free, where = _free(model, machine)
    weights, passing = model.weights(kind), model.passing(kind)
    how = str(model.dtype(kind)).removeprefix("torch.")
    how = f"{model.spec.quantization}, the rest in {how}" if model.spec.quantization else how
    findings.line(
        "memory",
        f"about {size(weights)} of weights ({how}) and {size(passing)} for a pass of {model.tokens(kind)} tokens; "
        f"{where} {size(free)} free",
    )
    if weights > free:
        ways = ", ".join(_smaller(model, free, len(machine.gpus))) or "a smaller model or a device with more memory"
        findings.problem(
            f"model {model.spec.name!r} takes about {size(weights)}, and {where} {size(free)} free; use {ways}"
        )
    elif weights + passing > free:
        findings.note("passes will be shorter than that, for want of memory; a larger device would be faster")


def _free(model: Model, machine: Machine) -> tuple[int, str]:
    """Bytes where this process puts the model, and how to say where."""
    if model.device.type == "cpu":
        return machine.memory, "the CPU has"
    if model.spec.device == SHARDED:
        return sum(gpu.free for gpu in machine.gpus), "all GPUs here have"
    return machine.gpus[model.device.index or 0].free, f"{model.device} has"


def _smaller(model: Model, free: int, gpus: int) -> Iterator[str]:
    """Settings with which the weights would fit."""
    kind, spec, shape = model.device.type, model.spec, model.footprint
    if model.dtype(kind) == torch.float32 and not spec.quantization and shape.weights(torch.bfloat16) <= free:
        yield f"model.dtype=bfloat16 ({size(shape.weights(torch.bfloat16))})"
    for name in QUANTIZATIONS:
        weights = shape.weights(model.dtype(kind), name)
        if weights < model.weights(kind) and weights <= free:
            yield f"model.quantization={name} ({size(weights)})"
    if kind == "cuda" and gpus > 1 and spec.device != SHARDED:
        yield f"model.device={SHARDED} executor.gpus_per_worker={gpus}"
