"""The learning rate of a step: linear warm-up, then cosine, linear or constant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate as a pure function of the step."""

    kind: Literal["cosine", "linear", "constant"]
    peak: float
    warmup: int
    steps: int

    def at(self, step: int) -> float:
        """The rate of step `step` (from 0); reaches the peak after the warm-up and 0 after the last step."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        match self.kind:
            case "cosine":
                return self.peak * 0.5 * (1 + math.cos(math.pi * done))
            case "linear":
                return self.peak * (1 - done)
            case "constant":
                return self.peak
