"""Where a model's files are, and what to say when they cannot be had."""

from __future__ import annotations

import json
import os
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError

from evoprompt.errors import UserError
from evoprompt.llm.load.spec import POCKET, POCKET_FOLDER

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # in one file or in several
SITE = "https://huggingface.co"
OTHERWISE = "use model=pocket, which is bundled, or model.name=<folder of a downloaded model>"


@dataclass(frozen=True)
class Source:
    """Where a model is loaded from: a folder, or a hub name at one commit.

    `unreachable` says why the hub did not give the model; the cache is then all there is.
    """

    path: str
    commit: str | None = None
    unreachable: UserError | None = None

    @property
    def on_the_hub(self) -> bool:
        """Whether more of it can be fetched."""
        return self.commit is not None and self.unreachable is None


def find_model(name: str, revision: str | None) -> Source:
    """Look for a model in a folder, on the hub and in the hub's cache.

    The hub is asked once, with a time-out; when it does not answer, the cache decides and nothing else is asked for.
    All files are then taken from one commit.

    Raises
    ------
    UserError
        There is no such model, or it cannot be reached and is not in the cache.
    """
    folder = Path(str(POCKET_FOLDER) if name == POCKET else os.path.expanduser(name))
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise UserError(f"folder {name!r} has no {CONFIG}; model.name takes a folder written by save_pretrained")
        if revision is not None:
            raise UserError(f"model.revision={revision!r} has no meaning for the folder {name!r}; leave it out")
        return Source(str(folder))
    if folder.is_file():
        raise UserError(f"model {name!r} is a file; model.name takes its folder")
    if name.startswith(("/", ".", "~")):
        raise UserError(f"cannot load model {name!r}: there is no such folder; {OTHERWISE}")
    try:
        commit = get_hf_file_metadata(hf_hub_url(name, CONFIG, revision=revision)).commit_hash
        if commit is not None:
            hf_hub_download(name, CONFIG, revision=revision)  # the cache then knows the branch's commit
    except HFValidationError:
        raise UserError(f"cannot load model {name!r}: neither a folder nor a name on the hub; {OTHERWISE}") from None
    except Exception as error:  # whatever the network has in store
        return _cached(name, revision, _refused(name, revision, error))
    if commit is None:
        return _cached(name, revision, _out_of_reach(name, "what answers is not a model hub"))
    return Source(name, commit)


def require_safetensors(source: Source) -> None:
    """Raise a `UserError` where there are no weights to load or the hub stopped answering; nothing large is fetched."""
    if not any(_has(source, file) for file in WEIGHTS):
        raise source.unreachable or UserError(
            f"model {source.path!r} has no {' or '.join(WEIGHTS)}; safetensors are required, as other weights files "
            "(.bin) are pickles, which can run code"
        )


def weight_files(source: Source) -> tuple[Path, ...]:
    """The safetensors files of a model that are on this machine."""
    return tuple(path for file in _weights(source) if (path := _local(source, file)) is not None)


def missing_weights(source: Source) -> dict[str, int | None]:
    """Weights files that are not on this machine, with their bytes where the hub tells them."""
    return {file: _size(source, file) for file in _weights(source) if _local(source, file) is None}


def _weights(source: Source) -> list[str]:
    """All weights files of a model by name: one, or those that its index names."""
    whole, index = WEIGHTS
    if _local(source, whole) is not None:
        return [whole]
    listed = _local(source, index)
    if listed is None and source.on_the_hub:
        with suppress(Exception):  # there is none, or the hub stopped answering
            listed = Path(hf_hub_download(source.path, index, revision=source.commit))
    return sorted(set(json.loads(listed.read_text("utf-8"))["weight_map"].values())) if listed else [whole]


def _local(source: Source, file: str) -> Path | None:
    """A file of a folder or of the hub's cache; None where it is not there."""
    if source.commit is None:
        path = Path(source.path) / file
        return path if path.is_file() else None
    cached = try_to_load_from_cache(source.path, file, revision=source.commit)
    return Path(cached) if isinstance(cached, str) else None


def _size(source: Source, file: str) -> int | None:
    with suppress(Exception):  # whatever the network has in store
        if source.on_the_hub:
            return get_hf_file_metadata(hf_hub_url(source.path, file, revision=source.commit)).size
    return None


def _has(source: Source, file: str) -> bool:
    if _local(source, file) is not None:
        return True
    if not source.on_the_hub:
        return False
    try:
        get_hf_file_metadata(hf_hub_url(source.path, file, revision=source.commit))
    except RemoteEntryNotFoundError:
        return False
    except Exception as error:  # whatever the network has in store
        raise _refused(source.path, source.commit, error) from error
    return True


def _cached(name: str, revision: str | None, unreachable: UserError) -> Source:
    config = try_to_load_from_cache(name, CONFIG, revision=revision)
    if not isinstance(config, str):
        raise unreachable
    return Source(name, Path(config).parent.name, unreachable)


def _refused(name: str, revision: str | None, error: Exception) -> UserError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return UserError(
            f"model {name!r} is gated: accept its licence at {SITE}/{name}, then log in with `hf auth login` "
            "or set HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"model {name!r} has no revision {revision!r}; {SITE}/{name}/commits/main lists what there is")
    if isinstance(error, RemoteEntryNotFoundError):
        return UserError(f"model {name!r} has no {CONFIG} on the hub: it is not saved for transformers; use another")
    if isinstance(error, RepositoryNotFoundError):
        return UserError(
            f"cannot load model {name!r}: there is no such folder, and on the hub no such model or a private one; "
            f"correct the name, log in with `hf auth login`, or {OTHERWISE}"
        )
    if status == 401:
        return UserError(
            f"the hub refuses your token (401) for model {name!r}: log in again with `hf auth login`, or correct or "
            "unset HF_TOKEN"
        )
    if status == 403:
        return UserError(
            f"your token may not read model {name!r} (403); allow it at {SITE}/settings/tokens or use another token"
        )
    if isinstance(error, OfflineModeIsEnabled):
        return _out_of_reach(name, "HF_HUB_OFFLINE is set")
    return _out_of_reach(name, f"it answers {status}" if status else _reason(error))


def _out_of_reach(name: str, reason: str) -> UserError:
    return UserError(
        f"cannot load model {name!r}: the hub may be offline or out of reach ({reason}), and the cache does not hold "
        f"all of the model; {OTHERWISE}"
    )


def explain(name: str, source: Source, error: Exception) -> UserError:
    """Turn what loading raised into one line."""
    text = str(error)
    if "custom code" in text and "trust_remote_code" in text:
        return UserError(
            f"model {name!r} brings Python code of its own, which is not run unless you say so; "
            "if you trust its author, add model.trust_remote_code=true"
        )
    if isinstance(error, SafetensorError):
        return UserError(
            f"a weights file of model {name!r} is damaged ({_reason(error)}); delete and download it again"
        )
    if isinstance(error, torch.OutOfMemoryError):
        return UserError(
            f"model {name!r} does not fit into the device's memory; use a smaller one, model.dtype=bfloat16 "
            "or model.quantization=8bit or 4bit"
        )
    if source.unreachable is not None and isinstance(error, OSError):
        return source.unreachable
    if f"file named {WEIGHTS[0]}" in text:  # it was there a moment ago
        return _out_of_reach(name, "it stopped answering")
    return UserError(f"cannot load model {name!r} ({_reason(error)}); {OTHERWISE}")


def _reason(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" ...") or type(error).__name__
