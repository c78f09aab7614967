"""A trace: what whoever watched training would have seen, so that an audit can look from inside.

At some steps, evenly spread, the trained weights and the gradient that the optimiser was given are kept as they were.
Both are what a private run releases in any case, so its guarantee covers them. Training is only listened to: it
computes the same bits with a trace and without, and a step taken again after a resume is written again, the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors.torch import load_file, save
from torch import Tensor, nn

from tunewright.core.files import write_atomic
from tunewright.models.contracts import Batch, Gradients, LoadedModel, Loss, Making

FOLDER = "trace"
"""In the run folder, for its owner alone, until the run is deleted."""


def chosen(steps: int, kept: int) -> frozenset[int]:
    """Which of a run's steps are kept (from 0): evenly spread, all of them if they are few."""
    return frozenset(int(step) for step in np.linspace(0, steps - 1, min(kept, steps)).round())


@dataclass(frozen=True, slots=True)
class Seen:
    """One step: weights before it and the gradient of each, by name."""

    weights: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]


def steps_in(folder: Path) -> list[Path]:
    """The files of a trace, in the order of the steps."""
    return sorted((folder / FOLDER).glob("*.safetensors"))


def read(path: Path) -> Seen:
    """One step of a trace."""
    found = load_file(path)
    weights, gradients = (
        {name.removeprefix(kind): value for name, value in found.items() if name.startswith(kind)}
        for kind in ("weight.", "gradient.")
    )
    return Seen(weights, gradients)


@dataclass(frozen=True, slots=True)
class Traced:
    """Private gradients as they are, and a trace of some steps beside them."""

    private: ClassVar[bool] = True
    real: Gradients
    folder: Path
    steps: frozenset[int]

    def __repr__(self) -> str:
        return repr(self.real)

    def plugin_name(self) -> str:
        """As the real ones."""
        return self.real.plugin_name()

    def fresh_secret(self) -> str:
        """As the real ones."""
        return self.real.fresh_secret()

    @contextmanager
    def begin(self, model: LoadedModel, trained: Mapping[str, nn.Parameter], secret: str) -> Iterator[Making]:
        """The real ones' making, listened to."""
        with self.real.begin(model, trained, secret) as making:
            yield _Listening(self, making, trained)


@dataclass(frozen=True, slots=True)
class _Listening:
    how: Traced
    making: Making
    trained: Mapping[str, nn.Parameter]

    def accumulate(self, loss: Loss, count: float, batch: Batch) -> None:
        self.making.accumulate(loss, count, batch)

    def taken(self) -> dict[str, Tensor]:
        return self.making.taken()

    def add(self, name: str, part: Tensor) -> None:
        self.making.add(name, part)

    def finish(self, step: int) -> None:
        self.making.finish(step)
        if step not in self.how.steps:
            return
        found = {f"weight.{name}": weight.detach().contiguous() for name, weight in self.trained.items()}
        found |= {
            f"gradient.{name}": weight.grad.contiguous()
            for name, weight in self.trained.items()
            if weight.grad is not None
        }
        path = self.how.folder / FOLDER / f"{step:06d}.safetensors"
        write_atomic(path, save(found), mode=0o600)
        os.utime(path, (0, 0))  # how long a step took would tell how many came
