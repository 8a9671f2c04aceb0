"""Search spaces of soft prompts."""

from evoprompt.prompts.space import (
    SPACES,
    FullSpace,
    RandomProjection,
    Space,
    centre_prompt,
    load_space,
    make_space,
    save_space,
)

__all__ = [
    "SPACES",
    "FullSpace",
    "RandomProjection",
    "Space",
    "centre_prompt",
    "load_space",
    "make_space",
    "save_space",
]
