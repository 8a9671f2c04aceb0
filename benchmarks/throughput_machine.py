"""What the machine gives: time of a call, memory above what was there, and the rate of plain matrix products."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import resident, result_file
from evoprompt.llm import Respondent, Sheet

__all__ = ["MatrixRate", "Memory", "device_name", "predicted_peak_bytes", "timed"]


def timed(device: torch.device, call: Callable[..., Any], *arguments: Any) -> float:
    """Wall seconds of a call, until the device is done."""
    _wait(device)
    began = time.perf_counter()
    call(*arguments)
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The model of the GPU or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else result_file.processor()


def predicted_peak_bytes(respondent: Respondent, sheet: Sheet, tokens: int, candidates: int) -> int:
    """Memory above the weights that answering for so many candidates is expected to take at its peak."""
    known, path = respondent.budget.bytes_per_token, respondent.path or ""
    if (path, tokens) not in known:
        respondent.answer(torch.zeros(1, tokens, respondent.frozen.hidden), sheet)
        path = respondent.path or ""
    return round(respondent.pass_tokens(sheet, tokens, candidates) * known[path, tokens])


class MatrixRate:
    """Rate of square matrix products in one dtype, the best of those asked for so far."""

    def __init__(self, size: int, device: torch.device, dtype: torch.dtype) -> None:
        generator = torch.Generator(device).manual_seed(0)
        self.left = torch.randn(size, size, generator=generator, device=device).to(dtype)
        self.right = torch.randn(size, size, generator=generator, device=device).to(dtype)
        self.product = self.left @ self.right
        self.device, self.best = device, 0.0

    def measure(self, products: int = 4) -> None:
        """Time some more products."""
        seconds = timed(self.device, self._multiply, products)
        self.best = max(self.best, products * 2 * len(self.left) ** 3 / seconds)

    def _multiply(self, products: int) -> None:
        for _ in range(products):
            torch.mm(self.left, self.right, out=self.product)


class Memory:
    """Peak memory above what there is when this is made: of the allocator on CUDA, resident on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.base: int | None = torch.cuda.memory_allocated(device)
        else:
            try:
                self.base = resident.reset_peak()
            except OSError:
                self.base = None

    def peak(self) -> int | None:
        """Bytes; None where the system does not tell."""
        if self.base is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.base
        return resident.peak() - self.base
