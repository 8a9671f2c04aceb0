"""The choice between evaluating in this process and on Ray."""

from __future__ import annotations

from typing import Literal

from evoprompt.errors import unknown_name

__all__ = ["choose_executor"]


def choose_executor(
    kind: str = "auto", num_workers: int | str | None = None, gpus: int = 0, address: str | None = None
) -> Literal["local", "ray"]:
    """Choose between evaluating in this process and on Ray.

    Parameters
    ----------
    kind : {"auto", "local", "ray"}
        ``auto`` takes Ray if more than one worker is asked for, or as many as possible, or if more than one GPU is
        there, or a cluster address is given; the others are taken at their word.
    num_workers : int or "auto", optional
        Workers asked for.
    gpus : int
        GPUs that this machine has.
    address : str, optional
        Ray cluster to join.

    Raises
    ------
    UserError
        If ``kind`` is none of the three.

    Examples
    --------
    >>> choose_executor("auto"), choose_executor("auto", num_workers=4), choose_executor("local", num_workers=4)
    ('local', 'ray', 'local')
    """
    if kind == "local":
        return "local"
    if kind == "ray":
        return "ray"
    if kind != "auto":
        raise unknown_name("executor", kind, ("auto", "local", "ray"))
    several = num_workers == "auto" or (isinstance(num_workers, int) and num_workers > 1)
    return "ray" if several or gpus > 1 or address else "local"
