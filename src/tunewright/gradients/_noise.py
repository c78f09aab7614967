"""Clipping, noise and the division: what makes a sum of units' gradients private."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from tunewright.core.plugins import Plugin
from tunewright.core.seeds import secret_stream

_TINY, _GAMMA = 1e-6, 0.01
_DRAWING = 8
"""Threads that draw noise at most."""


class Clipped(Plugin):
    """Each unit's gradient clipped, noise added once a step, the sum divided by the expected number of units."""

    sigma: float = Field(ge=0)
    """Standard deviation of the noise over the clipping norm."""
    clip: Literal["automatic"] | float = "automatic"
    """A norm that no unit's gradient exceeds, or `automatic`: every gradient is brought to about 1."""
    expected: float = Field(gt=0)
    """Units that a step has on average; the sum is divided by it, never by how many came."""

    noise_seed: int | None = None
    """Noise that can be drawn again, for tests; what it makes is not private."""

    def fresh_secret(self) -> str:
        """What keys noise and sampling of a new run: from the operating system, unless a seed is given."""
        return secrets.token_hex(32) if self.noise_seed is None else f"given {self.noise_seed}"

    @property
    def sensitivity(self) -> float:
        """The most that one unit can move the sum."""
        return 1.0 if self.clip == "automatic" else float(self.clip)

    def factors(self, square_U: Tensor) -> Tensor:
        """[units] what each gradient is multiplied with, from its squared norm over all trained weights together.

        Flat: min(1, C / norm) (Abadi et al. 2016). Automatic: 1 / (norm + 0.01) (Bu et al. 2023, AUTO-S).
        """
        norm_U = square_U.sqrt()
        if self.clip == "automatic":
            return 1 / (norm_U + _GAMMA)
        return (float(self.clip) / (norm_U + _TINY)).clamp(max=1)

    def release(self, sums: Mapping[str, Tensor], trained: Mapping[str, nn.Parameter], secret: str, step: int) -> None:
        """Sets each weight's gradient: clipped sum plus noise, over the expected number of units."""
        noises = _drawn(secret, step, trained) if self.sigma else repeat(None)
        for (name, weight), noise in zip(trained.items(), noises, strict=False):
            total = sums[name]
            if noise is not None:
                total = total.add(noise.to(total.dtype), alpha=self.sigma * self.sensitivity)
            weight.grad = (total / self.expected).to(weight.dtype)


@dataclass(slots=True)
class ClippedSum:
    """One run's private gradients: what units gave to the step so far; between steps nothing is kept."""

    how: Clipped
    trained: Mapping[str, nn.Parameter]
    secret: str
    sums: dict[str, Tensor] = field(default_factory=dict)
    """The clipped sum of this step so far, by the weight's name."""

    def add(self, name: str, part: Tensor) -> None:
        """Adds what units gave to one weight."""
        self.sums[name] = self.sums[name].add_(part) if name in self.sums else part

    def taken(self) -> dict[str, Tensor]:
        """The clipped sums so far, without noise, and no longer held here."""
        found, self.sums = self.sums, {}
        return found

    def finish(self, step: int) -> None:
        """Noise and division; a step without any unit is noise alone."""
        for name, weight in self.trained.items():
            self.sums.setdefault(name, torch.zeros_like(weight))
        self.how.release(self.sums, self.trained, self.secret, step)
        self.sums = {}


def _drawn(secret: str, step: int, trained: Mapping[str, nn.Parameter]) -> Iterator[Tensor]:
    """The noise of each weight in turn, drawn a little ahead; each has its own stream, so threads change nothing."""
    at_once = min(_DRAWING, torch.get_num_threads())
    with ThreadPoolExecutor(at_once) as pool:
        coming: deque[Future[Tensor]] = deque()
        for name, weight in trained.items():
            coming.append(pool.submit(standard_normal, secret, step, name, weight.shape))
            if len(coming) > at_once:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def standard_normal(secret: str, step: int, name: str, shape: torch.Size) -> Tensor:
    """Noise keyed by the run's secret, the step and the weight: the same after a resume, different for each weight."""
    draw = secret_stream(secret, "noise", step, name)
    return torch.from_numpy(draw.standard_normal(tuple(shape), dtype=np.float32))
