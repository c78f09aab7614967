"""The hub's cache: what lies there, and bringing a model into it. Only `download` talks to the network."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from tunewright.core.errors import UserError

SMALL = ("*.json", "*.txt", "*.jinja", "*.model", "README.md")
"""Configuration, tokenizer and model card."""
WEIGHTS = ("*.safetensors",)
NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)
"""Faults of the disk, which are no fault of the network."""


def cached_snapshot(hub_id: str) -> Path | None:
    """The newest snapshot of a model in the hub's cache, or None; the network is not touched."""
    try:
        found = huggingface_hub.snapshot_download(hub_id, local_files_only=True, allow_patterns=[*SMALL, *WEIGHTS])
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Path(str(found))


def download(hub_id: str, check: Callable[[Path], list[str]]) -> Path:
    """Brings a model's configuration, tokenizer, card and safetensors into the hub's cache, and nothing else.

    Args:
        hub_id: As `org/name`.
        check: Faults seen in the small files alone; weights are downloaded only when there are none.

    Raises:
        UserError: No such model, no access, no network, or weights that only a pickle holds.
    """
    try:
        names = huggingface_hub.HfApi().list_repo_files(hub_id)
        faults = [] if any(name.endswith(".safetensors") for name in names) else [_no_weights(hub_id, names)]
        if not faults:
            faults = check(Path(str(huggingface_hub.snapshot_download(hub_id, allow_patterns=list(SMALL)))))
        if faults:
            raise UserError(faults)
        return Path(str(huggingface_hub.snapshot_download(hub_id, allow_patterns=[*SMALL, *WEIGHTS])))
    except GatedRepoError:
        raise UserError(
            f"'{hub_id}' is gated: accept its terms on https://huggingface.co/{hub_id}, log in with `hf auth login`, "
            "then fetch it again."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise UserError(
            f"The hub has no model '{hub_id}' that you may see. Check the spelling (org/name); for a private one log "
            "in with `hf auth login`."
        ) from None
    except OSError as error:  # every failure of the network is one, offline mode included
        if error.errno in NO_PLACE:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"'{hub_id}' could not be fetched from the hub: {reason}. Check the network (and HF_HUB_OFFLINE), then "
            "fetch it again; what is already there is kept."
        ) from None


def _no_weights(hub_id: str, names: list[str]) -> str:
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    found = f"pickled weights only ({', '.join(pickled[:3])})" if pickled else "no weights"
    return (
        f"'{hub_id}' has {found}; only *.safetensors are read, because a pickle can run code. Take another model, or "
        "the branch or copy of this one that has safetensors."
    )
