"""Tensors that are computed once per example and kept on disk: whole or absent, keyed by all they depend on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tunewright.core.batches import batches
from tunewright.core.files import digest, write_atomic
from tunewright.data.encoder import Encoded

_CHUNK_POSITIONS = 4096
"""Rows are computed and kept together up to so many positions: bounds memory, fills the matrix products."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A folder of tensors, one a row, in safetensors files of neighbouring rows.

    Which rows share a file depends on the given rows alone, and a file is always computed from all of its rows. So a
    row's tensor is the same bits whether it was read, or computed again because its file was lost or torn.
    """

    folder: Path
    recipe: str
    """Digest of what the tensors depend on beside their rows: weights, dtype, what is computed, threads."""
    _file_of: dict[str, Path] = field(default_factory=dict)

    def fill(self, rows: Iterable[Encoded], compute: Callable[[Sequence[Encoded]], Sequence[Tensor]]) -> Iterator[int]:
        """Makes every row's tensor readable, and yields how many rows are, file by file.

        Args:
            rows: Each content once (see `within`).
            compute: From a file's rows to their tensors, [length, ...] each.

        Raises:
            OSError: The folder cannot be written.
        """
        known = {path.name.split(".")[0]: path for path in self.folder.glob("*.safetensors")}
        stale = set(known.values())
        for chunk in batches(rows, attrgetter("length"), _CHUNK_POSITIONS):
            keys = [content_key(row) for row in chunk]
            name = digest(self.recipe, keys)
            path = known.get(name)
            if path is None or not _whole(path):
                content = save({key: t.contiguous() for key, t in zip(keys, compute(chunk), strict=True)})
                path = self.folder / f"{name}.{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
                write_atomic(path, content)
            stale.discard(path)
            self._file_of.update(dict.fromkeys(keys, path))
            yield len(self._file_of)
        for path in stale:  # of other rows or weights, or torn
            path.unlink()

    def get(self, row: Encoded) -> Tensor | None:
        """The row's tensor [length, ...]; None when it was not filled."""
        key = content_key(row)
        path = self._file_of.get(key)
        if path is None:
            return None
        with safe_open(path, "pt") as file:
            tensor: Tensor = file.get_tensor(key)
        return tensor

    def free_disk(self) -> int:
        """Bytes that are free where the folder is or will be."""
        return shutil.disk_usage(self.folder.parent).free


def content_key(row: Encoded) -> str:
    """Hash of what the model sees of a row; targets and weights are not part of it."""
    total = hashlib.sha256()
    for name, array in sorted(row.inputs.items()):
        total.update(f"{name} {array.dtype} {array.shape} ".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:32]


def weights_key(module: nn.Module) -> str:
    """Hash of all frozen weights and buffers, by name and content."""
    total = hashlib.sha256()
    frozen = [(name, weight) for name, weight in module.named_parameters() if not weight.requires_grad]
    for name, tensor in [*frozen, *module.named_buffers()]:
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:32]


def within(rows: Iterable[Encoded], position_bytes: int, room: float) -> Iterator[Encoded]:
    """The first rows, each content once, whose tensors fit into so many bytes."""
    found = set[str]()
    for row in rows:
        key = content_key(row)
        if key in found:
            continue
        room -= row.length * position_bytes
        if room < 0:
            return
        found.add(key)
        yield row


def _whole(path: Path) -> bool:
    """Whether the content is the one that the name was given for."""
    with open(path, "rb") as file:
        return path.name.split(".")[1] == hashlib.file_digest(file, "sha256").hexdigest()[:16]
