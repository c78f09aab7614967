"""Gates: limits that a result must keep. A gate looks at the bound of an interval, never at the point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.core.settings import GateSettings
from tunewright.evaluate.bootstrap import MIN_UNITS
from tunewright.evaluate.contracts import Comparison, Figure

State = Literal["passed", "failed", "cannot_tell", "not_measured"]
RETENTION = "retention_loss"
"""The figure that `max_loss_increase` looks at: nats a token on the retention texts."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate's outcome, as in verdict.json."""

    name: str
    state: State
    value: float | None
    """The bound that was held against the limit."""
    limit: float


def judge_gates(
    settings: GateSettings, comparisons: Sequence[Comparison], figures: Sequence[Figure] = ()
) -> list[Gate]:
    """Every planned gate; none when none is planned.

    `min_gain` wants the gain on each primary metric (tuned better than base, in the metric's own unit) to be at
    least its limit; `max_loss_increase` wants the rise in retention loss to be at most its limit.
    """
    gates = []
    if settings.min_gain is not None:
        primary = [comparison for comparison in comparisons if comparison.primary]
        for comparison in primary:
            name = "min_gain" if len(primary) == 1 else f"min_gain ({comparison.name})"
            gates.append(_min_gain(name, comparison, settings.min_gain))
        if not primary:
            gates.append(Gate("min_gain", "not_measured", None, settings.min_gain))
    if settings.max_loss_increase is not None:
        figure = next((figure for figure in figures if figure.name == RETENTION), None)
        gates.append(_max_loss_increase(figure, settings.max_loss_increase))
    return gates


def _min_gain(name: str, comparison: Comparison, limit: float) -> Gate:
    low, high = comparison.low, comparison.high
    if not comparison.higher_is_better:
        low, high = -high, -low
    if comparison.n < MIN_UNITS:
        return Gate(name, "cannot_tell", low, limit)
    return Gate(name, "passed" if low >= limit else "failed" if high < limit else "cannot_tell", low, limit)


def _max_loss_increase(figure: Figure | None, limit: float) -> Gate:
    if figure is None:
        return Gate("max_loss_increase", "not_measured", None, limit)
    state: State = "passed" if figure.high <= limit else "failed" if figure.low > limit else "cannot_tell"
    return Gate("max_loss_increase", state, figure.high, limit)
