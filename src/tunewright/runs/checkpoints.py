"""Checkpoints that are whole or absent; a torn one is passed over for the last good one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from tunewright.core.errors import UserError
from tunewright.core.files import file_digest, system_error
from tunewright.core.words import command

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything the loop needs to go on as if nothing had happened."""

    step: int
    trained: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    state: Mapping[str, Any]
    """JSON-able: length of the events file, best validation so far ..."""


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes into a temporary folder, then renames it; the manifest of hashes is written last.

    Raises:
        UserError: The disk is full or not writable; earlier checkpoints are untouched.
    """
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        _put_tensors(beside / "trained.safetensors", checkpoint.trained)
        _put_tensors(beside / "optimizer.safetensors", checkpoint.optimiser)
        _put(beside / "state.json", json.dumps({"step": checkpoint.step, **checkpoint.state}).encode())
        hashes = {path.name: file_digest([path]) for path in sorted(beside.iterdir())}
        _put(beside / _MANIFEST, json.dumps(hashes).encode())
        _replace(folder, beside)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        raise UserError(
            f"Checkpoint {folder} could not be written: {why}. Earlier checkpoints are whole; "
            f"make room, then `{command('resume', folder.parent.parent)}` goes on from the last one."
        ) from None


def _replace(folder: Path, beside: Path) -> None:
    """The old one goes last, so that at every moment one of the two is whole where `read` finds it."""
    aside = _aside(folder)
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
    os.replace(beside, folder)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def read(folder: Path) -> Checkpoint | None:
    """A checkpoint whose hashes all hold, or the one that it was about to replace; None when both are torn."""
    return _read(folder) or _read(_aside(folder))


def _read(folder: Path) -> Checkpoint | None:
    try:
        hashes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        content = {name: (folder / name).read_bytes() for name in hashes}
        if any(file_digest([folder / name]) != value for name, value in hashes.items()):
            return None
        state = json.loads(content["state.json"])
        return Checkpoint(
            state.pop("step"), load(content["trained.safetensors"]), load(content["optimizer.safetensors"]), state
        )
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:  # a disk that does not answer now may later: nothing is thrown away for it
        raise UserError(f"Checkpoint {folder} cannot be read: {error.strerror or error}. Try again.") from None
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        return None


def numbered(folder: Path) -> list[Path]:
    """Checkpoint folders by step, newest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()), key=lambda p: -int(p.name))


def last_good(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and sentences: which torn ones were passed over, and that none is whole."""
    torn: list[str] = []
    for path in numbered(folder):
        checkpoint = read(path)
        if checkpoint is not None:
            return checkpoint, [f"{sentence} and was passed over for an earlier one." for sentence in torn]
        torn.append(f"Checkpoint {path} is torn (its hashes do not hold)")
    if not torn:
        return None, []
    return None, [*(f"{sentence}." for sentence in torn), "No checkpoint is whole: training starts again at step 0."]


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep` numbered checkpoints."""
    _remove(numbered(folder)[keep:])


def drop_after(folder: Path, step: int) -> None:
    """Removes the torn ones behind the step from which training goes on: they would be counted among those kept.

    And what a kill left of one that was being written.
    """
    _remove(path for path in numbered(folder) if int(path.name) > step)
    _remove(folder.glob(".*.tmp"))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def _put_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """From where they lie: as bytes in memory they would be there twice, at the very peak of a run of many weights."""
    os.close(_opened(path))
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(system_error(error) or errno.EIO, str(error), str(path)) from None
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _opened(path: Path) -> int:
    """For the owner's eyes: a private run's checkpoints hold the key of its noise."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def _put(path: Path, content: bytes) -> None:
    with open(_opened(path), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
