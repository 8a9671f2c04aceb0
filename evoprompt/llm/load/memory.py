"""How many tokens one forward pass may compute: from free memory, halved when memory runs out all the same."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evoprompt.errors import UserError
from evoprompt.llm.load.model import FrozenModel

logger = logging.getLogger(__name__)

PASS_TOKENS = {"cpu": 4096, "cuda": 16_384}  # of one pass, unless `model.token_budget` is set: more is no faster
SHARE = 0.8  # of the free memory that a pass may take
CGROUP = Path("/sys/fs/cgroup")


@dataclass
class Attempt:
    """A computation that memory may not suffice for, and the tokens that it has at once."""

    tokens: int
    fits: bool = True


class TokenBudget:
    """Most tokens of one pass, by path: a token costs each another amount of memory.

    Parameters
    ----------
    frozen
        The model; its `token_budget`, where there is one, is what every path starts from.
    most
        By kind of device, what they start from otherwise.

    Attributes
    ----------
    bytes_per_token
        Above the weights, by path and number of soft tokens, as measured.
    halved
        How often memory ran out.
    """

    def __init__(self, frozen: FrozenModel, most: Mapping[str, int] = PASS_TOKENS) -> None:
        given = frozen.spec.token_budget
        self.frozen = frozen
        self.start = most[frozen.device.type] if given is None else given
        self.bytes_per_token: dict[tuple[str, int], float] = {}
        self.halved = 0
        self._limits: dict[str, int] = {}

    def limit(self, path: str) -> int:
        """Tokens that a pass may compute: `model.token_budget`, or what is fast and fits; less after a failure."""
        return min(self.start, self._limits.get(path, self.start))

    def learn(self, path: str, soft: int, tokens: int, run: Callable[[], object]) -> None:
        """Measure one pass of so many tokens; unless `model.token_budget` is set, free memory limits what follows."""
        run()  # what a path keeps from its first pass on is not a token's cost
        free = free_bytes(self.frozen.device)
        each = self.bytes_per_token[path, soft] = peak_bytes(self.frozen.device, run) / tokens
        if self.frozen.spec.token_budget is None:
            self._limits[path] = min(self._limits.get(path, sys.maxsize), max(1, int(SHARE * free / each)))

    @contextmanager
    def halved_when_full(self, path: str, tokens: int) -> Iterator[Attempt]:
        """Compute with so many tokens at once; where memory runs out, leave the block and allow half as many.

        Raises
        ------
        UserError
            Nothing smaller is left to try.
        """
        attempt = Attempt(tokens)
        try:
            yield attempt
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        attempt.fits, tokens = False, attempt.tokens
        if tokens > self.limit(path):
            raise UserError(
                f"model {self.frozen.spec.name!r} runs out of memory on a single question; "
                "use a smaller dtype, model.quantization=8bit or a larger device"
            )
        self._limits[path] = max(1, tokens // 2)
        self.halved += 1
        gc.collect()
        if self.frozen.device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning("out of memory in a pass of %d tokens; going on with at most %d", tokens, self._limits[path])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, of whichever device, ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def free_bytes(device: torch.device) -> int:
    """Memory that this process could still take on a device."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    found = [_available(), _left_in_cgroup()]
    return min((value for value in found if value is not None), default=4 << 30)


def _available() -> int | None:
    """What the kernel calls available, where it says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _left_in_cgroup() -> int | None:
    """What a container's limit leaves, where there is one."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used)


def peak_bytes(device: torch.device, run: Callable[[], object]) -> int:
    """Most bytes of tensors that `run` had alive at once beyond what there was before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    with _LiveTensors() as live:
        run()
    return live.peak


class _LiveTensors(TorchDispatchMode):
    """Follows the storages that operations return, from their making to their end."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.total = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        known = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            address, size = storage.data_ptr(), storage.nbytes()
            if address in known or address in self.alive or not size:
                continue
            self.alive[address] = size
            self.total += size
            self.peak = max(self.peak, self.total)
            weakref.finalize(storage, self._freed, address)
        return out

    def _freed(self, address: int) -> None:
        self.total -= self.alive.pop(address, 0)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
