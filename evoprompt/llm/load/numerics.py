"""Device, number format, attention implementation and quantization: what a machine offers of what was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from evoprompt.errors import UserError, unknown_name
from evoprompt.extras import advice
from evoprompt.llm.load.spec import DEVICES, QUANTIZATIONS, SHARDED, ModelSpec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(name: str) -> torch.device:
    """The device of that name; `auto`: CUDA where there is one. A `UserError` where it is not served or not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == SHARDED:
        return find_device("cuda")
    try:
        device: torch.device | None = torch.device(str(name))
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise UserError(f"device {name!r} is not served; use auto, cpu, cuda, cuda:<number> or {SHARDED}")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UserError(
                f"device {name!r} is not there: this machine shows {count} CUDA devices; use model.device=cpu"
            )
    return device


def find_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; `auto`: bfloat16 on CUDA and float32 elsewhere. A `UserError` where it is unknown."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is unknown; use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def find_attention(name: str) -> str | None:
    """The attention of that name, None for `auto`; else a `UserError` that names what is known or available."""
    from transformers import utils

    installed: dict[str, Callable[[], bool]] = {
        "auto": lambda: True,
        "eager": lambda: True,
        "sdpa": lambda: True,
        "flex_attention": utils.is_torch_flex_attn_available,
        "flash_attention_2": utils.is_flash_attn_2_available,
        "flash_attention_3": utils.is_flash_attn_3_available,
    }
    if name not in installed:
        raise unknown_name("attention", name, installed)
    if not installed[name]():
        available = ", ".join(key for key, there in installed.items() if there())
        raise UserError(f"attention {name!r} is not installed here; available: {available}")
    return None if name == "auto" else name


def placing_options(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What `from_pretrained` takes to quantize a model or to spread it over GPUs; nothing for a plain one.

    Raises
    ------
    UserError
        The quantization is unknown, or the packages that it or sharding needs are not installed.
    """
    from transformers import BitsAndBytesConfig
    from transformers.utils import is_accelerate_available, is_bitsandbytes_available

    name, options = spec.quantization, {}
    if name is not None:
        if name not in QUANTIZATIONS:
            raise unknown_name("quantization", name, QUANTIZATIONS)
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        if not (is_bitsandbytes_available() and is_accelerate_available()):
            raise UserError(f"model.quantization={name} needs bitsandbytes and accelerate; {advice('quant')}")
        config = BitsAndBytesConfig(
            load_in_8bit=name == "8bit",
            load_in_4bit=name == "4bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
        )
        options = {"quantization_config": config, "device_map": {"": device}}
    if spec.device == SHARDED:
        if not is_accelerate_available():
            raise UserError(f"model.device={SHARDED} needs accelerate; {advice('quant')}")
        options["device_map"] = "auto"
    return options


def keep_weights_as_they_are(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for some CPUs when they are first used.

    What it packs depends on the processor, fails for widths that are not a multiple of 64, and rounds to bfloat16.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010, not an attribute of every module
