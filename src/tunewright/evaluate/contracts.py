"""What evaluation's plugins agree on: outcomes of a model on examples, metrics, baselines and probes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.core.blocks import Block
from tunewright.core.plugins import Plugin
from tunewright.core.records import Example

Floats = NDArray[np.float64]
Need = Literal["answer", "choices", "text", "loss"]
NEEDS: dict[Need, str] = {"answer": "token_log_probs", "choices": "choices", "text": "generate"}
"""What a metric needs -> the capability of a family that gives it; every family has a loss."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model did with one example; what was not asked for is None."""

    example: Example
    answer_log_prob: float | None = None
    """Summed over the answer's tokens, the stop token included; nats."""
    answer_tokens: int = 0
    answer_bytes: int = 0
    choices: Floats | None = None
    """[labels] summed log-probability of each label, in the order of the label list."""
    text: str | None = None
    """Greedy answer."""
    stopped: bool | None = None
    loss_sum: float | None = None
    """The objective's own loss and count, for families without token probabilities."""
    loss_count: float = 0.0


Answers = Mapping[str, NDArray[Any]]
"""What a model answered: named arrays without objects, so that they can be kept as npz."""


Part = Callable[[str, Callable[[], Answers]], Answers]
"""Makes a piece of the answers, or reads what an interrupted asking left of it under that name."""


def afresh(name: str, make: Callable[[], Answers]) -> Answers:
    """A `Part` that keeps nothing."""
    return make()


class Metric(Plugin):
    """Base of metrics: a figure over examples, resampled as rightly as a mean."""

    needs: ClassVar[Need]
    higher_is_better: ClassVar[bool]
    closed_set: ClassVar[bool]
    """True when a trivial answer (majority, prior) has a score to beat."""
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """Between which the figure lies; intervals stay within."""
    of_rows: ClassVar[bool] = True
    """Whether it is a mean of what rows show one by one; how often a statement is right (ECE) or how labels are told
    apart (AUROC, F1) only many rows show together."""
    multiplicative: ClassVar[bool] = False
    """Whether it is told in ratios (perplexity): intervals are made of logarithms and told as differences."""

    @abstractmethod
    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """The numbers of one example; None when this example has none (it is then left out for both models)."""

    def sizes(self, records: Floats) -> Floats:
        """[n] how much of the figure each example makes: one each, or what it has of tokens or bytes."""
        return np.ones(len(records))

    @abstractmethod
    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] the figure for each weighting.

        Args:
            records: [n, numbers] one line an example.
            weights: [resamples, n] how often (or how much) each example counts.
        """


class Baseline(Plugin):
    """Base of baselines: a cheap answerer fitted on the training rows and asked about the same test rows."""

    trivial: ClassVar[bool] = False
    """True of majority and prior: a closed-set metric must beat them to be called better."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Capabilities the family must have."""
    validated: ClassVar[bool] = False
    """Whether it stops by the validation rows, which `outcomes` then takes as `valid`, and has a `seed` to draw by."""

    def applies(self, train: Sequence[Example], test: Sequence[Example]) -> bool:
        """Whether the rows hold what it needs beside labels; it is left out where they do not."""
        return True

    @abstractmethod
    def outcomes(self, train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> list[Outcome]:
        """One outcome a test example, with `choices` filled."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a probe on base and tuned."""

    name: str
    base: float
    tuned: float
    difference: float
    low: float
    high: float
    n: int
    unit: str = "text"
    higher_is_better: bool = False
    at_worst: float | None = None
    """The upper bound with what could not be judged counted at its worst, where something could not: for gates."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found; written to `evaluations/probe_<name>.json`."""

    figures: tuple[Figure, ...]
    blocks: tuple[Block, ...] = ()
    sentence: str = ""
    """One line for the printed verdict."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What changed in parts (by category, by position ...), as JSON values, for whoever reads the files."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Base against tuned on one metric; difference = tuned - base; the interval is of the difference, 95 %."""

    name: str
    base: float
    tuned: float
    difference: float
    low: float
    high: float
    n: int
    """Units, not rows: what was resampled."""
    unit: str
    higher_is_better: bool
    smallest_detectable: float | None
    """None where the units decide nothing whatever they show."""
    p_value: float
    """Two-sided, for the Holm correction over primary metrics."""
    decision: Literal["better", "worse", "cannot_tell"]
    primary: bool = False
    baselines: dict[str, float] = field(default_factory=dict)
    margins: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Per baseline, the interval of tuned - baseline (sign as in the metric)."""
    unbeaten: tuple[str, ...] = ()
    """Trivial baselines for whose sake a better than the base is not told."""
    p_unbeaten: float = 0.0
    """The largest p-value against a trivial baseline that a gain must beat too; Holm's correction knows of it."""
