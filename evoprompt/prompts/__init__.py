"""Search spaces of soft prompts."""

from evoprompt.extras import require

require("evoprompt.prompts", "lm", "torch", "transformers", "safetensors")

from evoprompt.prompts.space import FullSpace, LowRank, RandomProjection, Space, VocabPCA
from evoprompt.prompts.spaces import (
    DEFAULT_SPACE,
    SPACES,
    load_space,
    make_space,
    save_space,
    space_for,
    space_options,
)
from evoprompt.prompts.start import centre_prompt

__all__ = [
    "DEFAULT_SPACE",
    "SPACES",
    "FullSpace",
    "LowRank",
    "RandomProjection",
    "Space",
    "VocabPCA",
    "centre_prompt",
    "load_space",
    "make_space",
    "save_space",
    "space_for",
    "space_options",
]
