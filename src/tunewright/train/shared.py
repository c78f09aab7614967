"""Memory that the processes of a run share: the trained weights, and under them what each worker made of them."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn


def made(processes: int, trained: Mapping[str, nn.Parameter]) -> tuple[int, Tensor]:
    """A file without a name, so that nothing is left of it, and its content [processes, weights]."""
    try:
        file = os.memfd_create("tunewright")
    except AttributeError:  # not on Linux
        with tempfile.TemporaryFile() as unnamed:
            file = os.dup(unnamed.fileno())
    os.ftruncate(file, processes * sum(weight.numel() for weight in trained.values()) * _dtype(trained).itemsize)
    return file, opened(file, processes, trained)


def opened(file: int, processes: int, trained: Mapping[str, nn.Parameter]) -> Tensor:
    """[processes, weights] of the file; whoever writes to it is seen by all."""
    content = mmap.mmap(file, 0)
    return torch.from_numpy(np.frombuffer(content, _dtype(trained)).reshape(processes, -1))


def parts(flat_W: Tensor, trained: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    """Each weight's part of all weights one after the other, in its shape."""
    start = 0
    for name, weight in trained.items():
        yield name, flat_W[start : start + weight.numel()].view(weight.shape)
        start += weight.numel()


def lay(flat_W: Tensor, trained: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Writes what there is of each weight into its part."""
    with torch.no_grad():
        for name, part_W in parts(flat_W, trained):
            if name in values:
                part_W.copy_(values[name])


def _dtype(trained: Mapping[str, nn.Parameter]) -> np.dtype[np.floating]:
    """Trained weights are float32; tests train in float64."""
    wide = any(weight.dtype == torch.float64 for weight in trained.values())
    return np.dtype(np.float64 if wide else np.float32)
