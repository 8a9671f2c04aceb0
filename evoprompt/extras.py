"""The package's extras: which modules each brings, and what is said where one is absent."""

from __future__ import annotations

from importlib.util import find_spec

from evoprompt.errors import UserError

__all__ = ["EXTRAS", "MissingExtraError", "advice", "installed", "require"]

EXTRAS = {
    "lm": (
        *("torch", "transformers", "huggingface_hub", "safetensors", "pandas", "pyarrow", "yaml", "jinja2", "hydra"),
        *("ray", "rich", "matplotlib", "sklearn", "rapidfuzz"),
    ),
    "peers": ("cma", "nevergrad"),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "peft": ("peft",),
    "quant": ("bitsandbytes", "accelerate"),
    "encoders": ("sentence_transformers",),
    "telemetry": ("tensorboard",),
    "launchers": ("hydra_plugins.hydra_joblib_launcher", "hydra_plugins.hydra_submitit_launcher"),
    "testing": ("pytest", "hypothesis"),
}
"""The modules of each extra by which one sees that it is there."""

NAMED = 3  # of the modules that are absent, as many are named


class MissingExtraError(UserError, ImportError):
    """Something needs an extra that is not installed; the message names it."""


def installed(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # of the package around it
        return False
    return spec is not None and spec.origin is not None  # a mere folder of that name has a spec, but no origin


def advice(extra: str) -> str:
    """What is said to whoever lacks an extra, whether they have a checkout or a wheel.

    >>> advice("serve")
    "install evoprompt with the extra 'serve'"
    """
    return f"install evoprompt with the extra {extra!r}"


def require(who: str, extra: str, *modules: str) -> None:
    """Refuse, in one line, to go on without an extra.

    Parameters
    ----------
    who : str
        What needs it, as the message begins.
    extra : str
        A name in `EXTRAS`.
    *modules : str
        Those of its modules that are needed; none: all of them.

    Raises
    ------
    MissingExtraError
        One of them is not installed; a `UserError` and an `ImportError`.
    """
    absent = [name for name in modules or EXTRAS[extra] if not installed(name)]
    if absent:
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        raise MissingExtraError(f"{who} needs {', '.join(absent[:NAMED])}{more}; {advice(extra)}")
