"""Paired bootstrap over units: the interval of a difference, its p-value, and the smallest difference it can see.

Rows of one unit (worker, speaker, patient) are drawn together, and base and tuned are asked with the same draws.
Rows may carry weights of their own (survey weights): a unit is drawn as any other and brings its rows with them.
The interval is `difference ± t x se`: se is the bootstrap's, freed of its small-sample bias, and t has the degrees
of freedom of the *effective* number of units (Kish 1965), because one large unit among small ones tells less than
equal ones. Plain percentiles cover too rarely with few units; `benchmarks/verdict_simulation.py` measures both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.seeds import stream
from tunewright.evaluate.contracts import Floats, Metric
from tunewright.evaluate.scale import Scale
from tunewright.evaluate.units import effective

LEVEL = 0.95
POWER = 0.8
MIN_UNITS = 12
"""Fewer units give no decision: it is the smallest number simulated, and there false calls stay below 6 %."""
MIN_EFFECTIVE = 5.0
"""Fewer effective units (one unit holds nearly all rows) give no decision either: t is then a guess of the tails."""
MIN_DIFFERING = 6
"""Fewer units that differ give no decision: below six, even all in one direction are chance (2 x 0.5^5 > 0.05)."""
LOST = 0.01
"""Share of resamples that may lack a figure (one of two labels in none of their units)."""
_MANY = 200.0
"""Degrees of freedom from which a noncentral t is a shifted normal distribution to three digits."""
_FEW = 25
"""Units below which that a difference passes and that enough units differ are two conditions."""
_ROUNDING = 1e-12
_CELLS = 4_000_000  # numbers in one block of weights: 32 MB

Decision = Literal["better", "worse", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class Paired:
    """Base against tuned on one metric: what a `Comparison` holds of statistics."""

    base: float
    tuned: float
    difference: float
    low: float
    high: float
    n: int
    """Units."""
    smallest_detectable: float | None
    """The difference that would be found in 80 % of such tests; None where the units decide nothing whatever they show:
    too few, or hardly more than one holds nearly all rows."""
    p_value: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class _Units:
    """Rows by unit; sorted by name, so that the order of rows changes nothing."""

    of_row: NDArray[np.int64]
    row_weights: Floats
    """[n] how much each row counts by itself."""
    count: int
    effective: float

    @property
    def freedom(self) -> float:
        return max(self.effective - 1, 1.0)

    @property
    def enough(self) -> bool:
        """Whether a test of these units can decide anything."""
        return self.count >= MIN_UNITS and self.effective >= MIN_EFFECTIVE

    @property
    def correction(self) -> float:
        """What a bootstrap standard error must be multiplied by: it is that of n-1 effective units, told as n."""
        return math.sqrt(self.effective / (self.effective - 1)) if self.effective > 1 else 1.0


def compare(
    metric: Metric,
    base_records: Floats,
    tuned_records: Floats,
    units: Sequence[str],
    seed: int,
    resamples: int = 2000,
    row_weights: Floats | None = None,
) -> Paired:
    """Compares two models on the same rows.

    Args:
        metric: Summarises the records.
        base_records: [n, numbers] of the base.
        tuned_records: [n, numbers] of the tuned model, the same rows in the same order.
        units: [n] to whom each row belongs; rows of a unit are resampled together.
        seed: Of the resampling.
        resamples: How many.
        row_weights: [n] survey weights, 1 each unless given; rows of weight 0 are left out.

    Raises:
        UserError: A record is not finite (the sentence names the rows).
        NotMeasured: The metric has no value on these rows.
    """
    records = [np.asarray(base_records, float), np.asarray(tuned_records, float)]
    for name, of_model in zip(("base", "tuned"), records, strict=True):
        require_finite(of_model, [f"{row} (unit {unit})" for row, unit in enumerate(units)], name)
    records, grouped = _group(metric, records, units, row_weights)
    base, tuned = (_figure(metric, of_model, grouped) for of_model in records)
    draws = _drawn(metric, records, grouped, seed, resamples)
    at = Scale.of(metric, base)
    first, second, draws = at.into(base), at.into(tuned), at.into(draws)
    scale = max(abs(first), abs(second), at.least)
    se_base, se_tuned, se = (_spread(d, scale) * grouped.correction for d in (*draws, draws[1] - draws[0]))
    judged, differing = _counts(metric, records, grouped)
    # A figure that many resamples lack (one of two labels) is that of the lucky ones: nothing can be told by it.
    there = float(np.isfinite(draws).all(axis=0).mean()) >= 1 - LOST
    enough = grouped.enough and judged >= MIN_UNITS and there
    tellable = enough and differing >= MIN_DIFFERING
    difference = float(second - first) if abs(second - first) > _ROUNDING * scale else 0.0
    open_by = _open(metric, grouped) if se == 0 or differing < MIN_DIFFERING else 0.0
    half, p_value = _half_width(difference, se, grouped.freedom, tellable, open_by)
    gain = difference if metric.higher_is_better else -difference
    found = tellable and abs(difference) > half
    # Identical answers say nothing of how the two could differ: then as if they were asked of different rows.
    smallest = _detectable(se if se > 0 else math.hypot(se_base, se_tuned), grouped, differing)
    smallest = max(smallest, open_by)
    change = at.change(smallest if metric.higher_is_better else -smallest)
    lowest, highest = metric.bounds
    return Paired(
        base=base,
        tuned=tuned,
        difference=at.change(difference),
        low=max(at.change(difference - half), lowest - highest),
        high=min(at.change(difference + half), highest - lowest),
        n=judged,
        smallest_detectable=abs(change) if enough else None,
        p_value=p_value,
        decision="cannot_tell" if not found else "better" if gain > 0 else "worse",
    )


def estimate(
    metric: Metric,
    records: Floats,
    units: Sequence[str],
    seed: int,
    resamples: int = 2000,
    row_weights: Floats | None = None,
) -> tuple[float, float | None, float | None]:
    """One model's figure with its 95 % interval over units, within the metric's `bounds`: (value, low, high).

    One unit alone says nothing of others: it has no interval.

    Raises:
        UserError: A record is not finite.
        NotMeasured: The metric has no value on these rows.
    """
    records = np.asarray(records, float)
    require_finite(records, [f"{row} (unit {unit})" for row, unit in enumerate(units)], "the model")
    (records,), grouped = _group(metric, [records], units, row_weights)
    value = _figure(metric, records, grouped)
    if grouped.count < 2:
        return value, None, None
    draws = np.concatenate([metric.summarise(records, weights) for weights in _weights(grouped, seed, resamples)])
    at = Scale.of(metric, value)
    spread = _spread(at.into(draws), max(abs(at.into(value)), at.least))
    half = critical(grouped.freedom) * spread * grouped.correction
    half = max(half, _open(metric, grouped)) if _unlike(records, grouped) < MIN_DIFFERING else half
    lowest, highest = metric.bounds
    return value, max(value + at.change(-half), lowest), min(value + at.change(half), highest)


def effective_units(metric: Metric, records: Floats, of_row: NDArray[np.intp], row_weights: Floats) -> float:
    """How many units of equal weight would tell as much as those of these rows (Kish 1965).

    Args:
        metric: Says how much of a figure each row makes, where that differs.
        records: [n, numbers].
        of_row: [n] the number of each row's unit.
        row_weights: [n] how much each row counts by itself.
    """
    return effective(of_row, metric.sizes(records) * row_weights)


def draws_of(
    metric: Metric,
    records: Floats,
    units: Sequence[str],
    groups: Sequence[NDArray[np.bool_]],
    seed: int,
    resamples: int,
    row_weights: Floats,
) -> Floats:
    """[groups, resamples] the figure of each group of rows, all groups under the same draws of units.

    Args:
        metric: Summarises the records.
        records: [n, numbers].
        units: [n] to whom each row belongs.
        groups: [n] each: which rows are in it; groups may overlap.
        seed: Of the resampling; equal seeds and units give equal draws, whatever is measured.
        resamples: How many.
        row_weights: [n]; rows of weight 0 are left out.
    """
    counts = row_weights > 0
    (kept,), grouped = _group(metric, [np.asarray(records, float)], units, row_weights)
    masks = [mask[counts] for mask in groups]
    blocks = [
        np.stack([metric.summarise(kept[mask], weights[:, mask]) for mask in masks])
        for weights in _weights(grouped, seed, resamples)
    ]
    return np.concatenate(blocks, axis=1)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) when there is nothing to count."""
    if n <= 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    # Rounding would leave dust beside an end that is 0 or 1.
    return max(0.0, centre - half) if successes > 0 else 0.0, min(1.0, centre + half) if successes < n else 1.0


def require_finite(records: Floats, names: Sequence[str], model: str) -> None:
    """Refuses infinite or missing numbers.

    Raises:
        UserError: Names the first rows that have some, and how many there are.
    """
    bad = np.flatnonzero(~np.isfinite(records).all(axis=1))
    if len(bad):
        named = ", ".join(names[row] for row in bad[:5]) + (" ..." if len(bad) > 5 else "")
        raise UserError(
            f"{len(bad)} of {len(records)} rows have figures of {model} that are not finite: {named}. "
            "A model that overflowed or diverged does this: evaluate in float32, or train with a lower learning_rate."
        )


def _group(
    metric: Metric, records: Sequence[Floats], units: Sequence[str], row_weights: Floats | None
) -> tuple[list[Floats], _Units]:
    """The records of rows that count, and those rows by unit."""
    weights = np.ones(len(units)) if row_weights is None else np.asarray(row_weights, float)
    counts = weights > 0
    if not counts.any():
        raise UserError("There is no row to compare. At least one row must count and have a figure from both models.")
    kept, weights = [of_model[counts] for of_model in records], weights[counts]
    names, of_row = np.unique(np.asarray(units, dtype=str)[counts], return_inverse=True)
    effective = effective_units(metric, kept[0], of_row, weights)
    return kept, _Units(of_row.astype(np.int64), weights, len(names), effective)


def _counts(metric: Metric, records: Sequence[Floats], units: _Units) -> tuple[int, int]:
    """How many units make any of the figure, and how many of these differ between the two models.

    What a figure is fitted on decides nothing by itself.
    """
    mass = np.bincount(units.of_row, metric.sizes(records[0]) * units.row_weights, units.count)
    counted = mass[units.of_row] > 0
    differ = counted & (records[0] != records[1]).any(axis=1)
    return len(np.unique(units.of_row[counted])), len(np.unique(units.of_row[differ]))


def _unlike(records: Floats, units: _Units) -> int:
    """How many units have a row that is not as the commonest one."""
    _, kind, times = np.unique(records, axis=0, return_inverse=True, return_counts=True)
    return len(np.unique(units.of_row[kind.reshape(-1) != int(np.argmax(times))]))


def _weights(units: _Units, seed: int, resamples: int) -> Iterator[Floats]:
    """Blocks of [some resamples, n]: how often each row was drawn, by its unit, times what it counts."""
    random = stream(seed, "bootstrap")
    most = max(1, _CELLS // len(units.of_row))
    for start in range(0, resamples, most):
        block = min(most, resamples - start)
        drawn = random.integers(units.count, size=(block, units.count))
        cells = (drawn + units.count * np.arange(block)[:, None]).ravel()
        counts = np.bincount(cells, minlength=block * units.count).reshape(block, units.count)
        yield counts[:, units.of_row] * units.row_weights


def _drawn(metric: Metric, records: Sequence[Floats], units: _Units, seed: int, resamples: int) -> Floats:
    """[models, resamples] the figure of each model, all under the same draws."""
    blocks = [np.stack([metric.summarise(r, w) for r in records]) for w in _weights(units, seed, resamples)]
    return np.concatenate(blocks, axis=1)


def _open(metric: Metric, units: _Units) -> float:
    """How far units that are nearly all alike leave it open what others would show, of a figure that has bounds.

    The end of Tango's score interval where no case turned, and of Wilson's where all are right: no resample shows what
    no unit had.
    """
    lowest, highest = metric.bounds
    squared = float(stats.norm.ppf((1 + LEVEL) / 2)) ** 2
    reach = (highest - lowest) * squared / (units.effective + squared)
    return reach if math.isfinite(reach) else 0.0


def _figure(metric: Metric, records: Floats, units: _Units) -> float:
    """The figure of all rows, each counted by its weight."""
    with np.errstate(over="ignore"):
        value = float(metric.summarise(records, units.row_weights[None])[0])
    if metric.multiplicative and value == math.inf:
        raise NotMeasured(
            f"The metric {type(metric).__name__} is too large a number to be written on these {len(records)} rows, "
            "whose answers are long or told with next to no probability. Leave it out of evaluate.metrics and "
            "evaluate.primary; perplexity_per_token and nll can be written."
        )
    if not math.isfinite(value):
        raise NotMeasured(
            f"The metric {type(metric).__name__} has no value on these {len(records)} rows. "
            "It may need rows of more than one label: add test rows, or leave it out of evaluate.metrics."
        )
    return value


def _spread(draws: Floats, scale: float) -> float:
    """Standard deviation; what rounding makes of equal figures of that scale is no spread."""
    draws = draws[np.isfinite(draws)]  # a resample may lack what a metric needs (one of two labels)
    spread = float(np.std(draws, ddof=1)) if len(draws) > 1 else 0.0
    return spread if spread > _ROUNDING * scale else 0.0


def critical(freedom: float, level: float = LEVEL) -> float:
    """How many standard errors an interval of that level reaches to each side, by Student's t."""
    return float(stats.t.ppf((1 + level) / 2, freedom))


def _half_width(difference: float, se: float, freedom: float, tellable: bool, open_by: float) -> tuple[float, float]:
    """Half the interval's width, and the two-sided p-value; what cannot be told includes 0."""
    half = critical(freedom) * se
    if not tellable:
        return max(half, abs(difference), open_by), 1.0
    if se == 0:
        return open_by, 0.0 if abs(difference) > open_by else 1.0
    return half, float(2 * stats.t.sf(abs(difference) / se, freedom))


def _detectable(se: float, units: _Units, differing: int) -> float:
    """The difference that is found in 80 % of tests: it passes `critical`, and enough units differ for a decision.

    The first by the noncentral t distribution. The second counts where few units differ: changes strike units at a rate
    r (share struck = 1 - exp(-r)), each moves the figure by about se / sqrt(all strikes), and that `MIN_DIFFERING`
    units are struck is a binomial count. The harder condition decides; of few units both do, as if independent
    (simulated: of many units, what passes the one nearly always meets the other).
    """
    bias = 1 - 1 / (4 * units.freedom)  # a standard deviation of few values is on average too small by that
    passing = _found_at(units.freedom) / bias
    if not 0 < differing < units.count or units.count <= MIN_DIFFERING:
        return passing * se
    now = -units.count * math.log1p(-differing / units.count)
    share = float(stats.beta.ppf(POWER, MIN_DIFFERING, units.count - MIN_DIFFERING + 1))
    hardest = max(passing, -units.count * math.log1p(-share) / math.sqrt(now))
    if units.count >= _FEW:
        return hardest * se

    def short(errors: float) -> float:
        struck = -math.expm1(-max(now, errors * math.sqrt(now)) / units.count)
        enough = float(stats.binom.sf(MIN_DIFFERING - 1, units.count, struck))
        return _found(units.freedom, errors * bias) * enough - POWER

    return se * (float(optimize.brentq(short, hardest, 4 * hardest, rtol=1e-4)) if short(hardest) < 0 else hardest)


def _found(freedom: float, shift: float) -> float:
    """Share of tests that pass `critical` when the true difference is so many true standard errors."""
    if freedom > _MANY:
        return float(stats.norm.sf(critical(freedom) - shift))
    return float(stats.nct.sf(critical(freedom), freedom, shift))


@lru_cache(maxsize=4096)
def _found_at(freedom: float) -> float:
    """The difference, in true standard errors, that passes `critical` in 80 % of tests."""
    if freedom > _MANY:
        return critical(freedom) + float(stats.norm.ppf(POWER))
    found: float = optimize.brentq(lambda shift: _found(freedom, shift) - POWER, 0, 3 * critical(freedom))
    return found
