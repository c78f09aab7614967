"""Base against tuned on every metric: the same rows, resampled by unit, and held against the baselines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.plugins import Plugin
from tunewright.core.records import unit_of
from tunewright.evaluate.bootstrap import Decision, compare, require_finite
from tunewright.evaluate.contracts import Comparison, Floats, Metric, Outcome


@dataclass(frozen=True, slots=True)
class How:
    """How outcomes are compared."""

    primary: Collection[str] = ()
    """Names of the metrics that decide the verdict."""
    seed: int = 0
    """Of the resampling."""
    resamples: int = 2000
    trivial: Collection[str] = ("majority", "prior")
    """Names of the baselines that a closed-set metric must beat to be called better."""

    def decides(self, metric: Metric) -> bool:
        """Whether a metric is among those that decide the verdict."""
        return metric_name(metric) in self.primary


@dataclass(frozen=True, slots=True)
class Answered:
    """What all were asked, in one order, and what is looked at."""

    base: Sequence[Outcome]
    tuned: Sequence[Outcome]
    baselines: Mapping[str, Sequence[Outcome]]
    metrics: Sequence[Metric]
    labels: Sequence[str]
    """The closed set, in the order of `choices`."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of a comparison."""

    comparisons: list[Comparison]
    unmeasured: list[str]
    """A sentence for each metric that decides nothing and has no value on these rows."""


def compare_outcomes(answered: Answered, how: How) -> Compared:
    """One comparison a metric that has at least one row and a value on its rows.

    Raises:
        UserError: The examples differ or stand in another order, a figure is not finite, or a primary metric
            has no rows, no value, or is not among the metrics.
    """
    problems = [
        problem
        for name, outcomes in (("tuned", answered.tuned), *answered.baselines.items())
        if (problem := _misaligned(name, answered.base, outcomes))
    ]
    if problems:
        raise UserError(problems)
    found, unmeasured = list[Comparison](), list[str]()
    for metric in answered.metrics:
        try:
            comparison = _Comparing(metric, answered.labels, how).of(answered)
        except NotMeasured as absent:
            if how.decides(metric):
                raise
            unmeasured.append(str(absent))
            continue
        if comparison is not None:
            found.append(comparison)
    missing = sorted(set(how.primary) - {comparison.name for comparison in found})
    if missing:
        raise UserError(
            f"Primary metric {', '.join(missing)}: no test row has it. Measured are: "
            f"{', '.join(c.name for c in found) or 'none'}. Choose evaluate.primary among them."
        )
    return Compared(found, unmeasured)


def metric_name(metric: Metric) -> str:
    """The name of a metric: its plugin's, with the settings that differ from their defaults."""
    return metric.written() if isinstance(metric, Plugin) else type(metric).__name__.lower()


def weights_of(outcomes: Sequence[Outcome]) -> Floats:
    """[rows] how much each row counts in figures."""
    return np.array([outcome.example.survey_weight for outcome in outcomes], dtype=float)


def paired_records(
    metric: Metric, left: Sequence[Outcome], right: Sequence[Outcome], labels: Sequence[str]
) -> tuple[list[int], Floats, Floats]:
    """Rows that both have a record of, and those records: (rows, [n, numbers], [n, numbers])."""
    pairs = [
        (row, first, second)
        for row, (a, b) in enumerate(zip(left, right, strict=True))
        if (first := metric.record(a, labels)) is not None and (second := metric.record(b, labels)) is not None
    ]
    return [row for row, _, _ in pairs], np.array([p[1] for p in pairs]), np.array([p[2] for p in pairs])


@dataclass(frozen=True, slots=True)
class _Comparing:
    """One metric's comparison."""

    metric: Metric
    labels: Sequence[str]
    how: How

    def of(self, answered: Answered) -> Comparison | None:
        base, tuned = answered.base, answered.tuned
        rows, base_records, tuned_records = paired_records(self.metric, base, tuned, self.labels)
        if not rows:
            return None
        name, seed, resamples = metric_name(self.metric), self.how.seed, self.how.resamples
        ids = [f"'{base[row].example.id}'" for row in rows]
        require_finite(base_records, ids, f"the base model ({name})")
        require_finite(tuned_records, ids, f"the tuned model ({name})")
        units = [unit_of(base[row].example) for row in rows]
        weights = weights_of([base[row] for row in rows])
        paired = compare(self.metric, base_records, tuned_records, units, seed, resamples, weights)
        values: dict[str, float] = {}
        margins: dict[str, tuple[float, float]] = {}
        p_values: dict[str, float] = {}
        for baseline, outcomes in answered.baselines.items():
            shared, theirs, ours = paired_records(self.metric, outcomes, tuned, self.labels)
            if not shared:
                continue
            require_finite(theirs, [f"'{base[row].example.id}'" for row in shared], f"{baseline} ({name})")
            weights = weights_of([base[row] for row in shared])
            margin = compare(
                self.metric, theirs, ours, [unit_of(base[row].example) for row in shared], seed, resamples, weights
            )
            values[baseline], margins[baseline] = margin.base, (margin.low, margin.high)
            p_values[baseline] = margin.p_value
        rivals = self._rivals(paired.decision)
        unbeaten = tuple(name for name in rivals if not self._beaten(margins.get(name)))
        return Comparison(
            name=name,
            base=paired.base,
            tuned=paired.tuned,
            difference=paired.difference,
            low=paired.low,
            high=paired.high,
            n=paired.n,
            unit="row" if all(base[row].example.unit is None for row in rows) else "unit",
            higher_is_better=self.metric.higher_is_better,
            smallest_detectable=paired.smallest_detectable,
            p_value=paired.p_value,
            decision="cannot_tell" if unbeaten else paired.decision,
            primary=self.how.decides(self.metric),
            baselines=values,
            margins=margins,
            unbeaten=unbeaten,
            p_unbeaten=max((p_values.get(name, 1.0) for name in rivals), default=0.0),
        )

    def _rivals(self, decision: Decision) -> list[str]:
        """Better over a closed set is better than every trivial answer too: which ones.

        Frequencies alone are calibrated, and say a label and stop, so that calibration and free answers are held to it
        only where they are to decide a verdict.
        """
        answered = self.metric.needs in ("choices", "text")
        over_labels = self.metric.closed_set or (self.how.decides(self.metric) and answered)
        return sorted(self.how.trivial) if decision == "better" and over_labels and self.labels else []

    def _beaten(self, margin: tuple[float, float] | None) -> bool:
        """Whether tuned is above a baseline, by the interval between them; one not measured is not beaten."""
        sign = 1 if self.metric.higher_is_better else -1
        return margin is not None and min(sign * bound for bound in margin) > 0


def _misaligned(name: str, base: Sequence[Outcome], other: Sequence[Outcome]) -> str:
    """What is wrong with the order of rows, or nothing."""
    if len(base) != len(other):
        return f"{name} has {len(other)} outcomes, base has {len(base)}: ask both about the same rows."
    for row, (left, right) in enumerate(zip(base, other, strict=True)):
        if left.example.id != right.example.id:
            return (
                f"{name}: row {row} is '{right.example.id}', that of base is '{left.example.id}': "
                "ask both about the same rows in the same order."
            )
    return ""
