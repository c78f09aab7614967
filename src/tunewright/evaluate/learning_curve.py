"""What twice the data would buy, from models trained on a quarter, a half and all of the rows.

Along a power law each doubling gains a constant share of the doubling before it (Hestness et al. 2017, section 3): the
gains are g, r g and so the next one is r^2 g. All g that are gains and all r from 0 to `FASTEST` are weighed by how
well they explain the two gains that were measured; the interval is where 95 % of that weight lies. The two gains have
one model in common and are measured on the same test rows, so their errors go together, and the luck of training comes
on top of the luck of the test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunewright.core.blocks import Block, Line, Lines, Text
from tunewright.core.words import name_of
from tunewright.evaluate.bootstrap import LEVEL, Scale, critical, draws_of
from tunewright.evaluate.contracts import Floats, Metric

SHARES = (0.25, 0.5)
"""Of the training rows, beside all of them."""
FASTEST = 1.2
"""A gain may be at most so much larger than the one before: above 1, since small sets have much luck."""
_GAINS, _RATIOS = 301, 61


@dataclass(frozen=True, slots=True)
class Forecast:
    """What twice the rows would buy on one metric; a gain is positive when the metric gets better."""

    metric: str
    rows: tuple[int, int, int]
    figures: tuple[float, float, float]
    gain: float
    """From all rows to twice as many, the middle of what is plausible."""
    low: float
    high: float
    told: bool
    why: str
    """Why it cannot be told; empty when it can."""
    luck: Literal["seeds", "assumed"] = "assumed"
    """Whether the luck of training was measured over seeds, or taken to be as large as that of the test."""


def forecast(
    metric: Metric,
    name: str,
    rows: Sequence[int],
    measured: Sequence[Floats],
    luck: float | None = None,
    **test: object,
) -> Forecast:
    """Forecasts one metric.

    Args:
        metric: Summarises the records.
        name: What to call it.
        rows: Training rows of the three models.
        measured: [n, numbers] records of each on the same test rows in the same order.
        luck: Standard deviation of the metric over training seeds, where it was measured.
        test: `units` and `row_weights` of the test rows, `seed` and `resamples`.
    """
    figures, scale, errors = _measure(metric, measured, **test)  # type: ignore[arg-type]
    of_luck = _luck(errors, luck, figures[-1], scale)
    sign = 1 if metric.higher_is_better else -1
    level = [sign * float(scale.into(figure)) for figure in figures]
    gain, low, high, told, why = next_gain(level[1] - level[0], level[2] - level[1], errors + of_luck)
    kind: Literal["seeds", "assumed"] = "assumed" if luck is None else "seeds"
    size = [abs(scale.change(sign * value)) for value in (gain, low, high)]
    counts, values = (rows[0], rows[1], rows[2]), (figures[0], figures[1], figures[2])
    return Forecast(name, counts, values, size[0], size[1], size[2], told, why, kind)


def next_gain(first: float, second: float, errors: Floats) -> tuple[float, float, float, bool, str]:
    """The gain of the next doubling from two: (middle, low, high, told, why not).

    Args:
        first: Gain from a quarter to a half.
        second: Gain from a half to all.
        errors: [2, 2] covariance of those two.
    """
    total, spread = first + second, math.sqrt(max(float(errors.sum()), 0.0))
    most = max(first, second, 0.0) + 5 * math.sqrt(float(np.max(np.diag(errors)))) + 1e-12
    gain_G, ratio_R = np.linspace(0, most, _GAINS)[:, None], np.linspace(0, FASTEST, _RATIOS)[None]
    off = np.stack([np.broadcast_to(first - gain_G, (_GAINS, _RATIOS)), second - ratio_R * gain_G])
    inverse = np.linalg.pinv(errors + np.eye(2) * 1e-18)
    fit = -0.5 * np.einsum("igr,ij,jgr->gr", off, inverse, off)
    weight = np.exp(fit - fit.max()).ravel()
    ahead = (ratio_R**2 * gain_G).ravel()
    order = np.argsort(ahead)
    share = np.cumsum(weight[order]) / weight.sum()
    low, gain, high = (float(ahead[order][np.searchsorted(share, q)]) for q in ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
    bound = critical(math.inf) * spread
    if total + bound < 0:
        return gain, low, high, False, "more rows made it worse so far: the luck of training is larger than the gain"
    if total - bound <= 0:
        return gain, low, high, False, "what more rows bought so far may be chance"
    return gain, low, high, True, ""


def _measure(
    metric: Metric,
    measured: Sequence[Floats],
    units: Sequence[str],
    row_weights: Floats,
    seed: int,
    resamples: int,
) -> tuple[list[float], Scale, Floats]:
    """The three figures, where differences are normal, and the covariance of the two gains by the test rows."""
    everything = np.ones(len(units), dtype=bool)
    figures = [float(metric.summarise(records, row_weights[None])[0]) for records in measured]
    scale = Scale.of(metric, figures[-1])
    drawn = np.concatenate(
        [draws_of(metric, records, units, [everything], seed, resamples, row_weights) for records in measured]
    )
    drawn = np.asarray(scale.into(drawn))
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    return figures, scale, np.cov(np.diff(drawn, axis=0))


def _luck(errors: Floats, luck: float | None, figure: float, scale: Scale) -> Floats:
    """[2, 2] what the luck of training adds: each model has its own, and the middle one is in both gains."""
    known = None if luck is None else luck / figure if scale.ratios else luck
    # Where it was not measured it is taken to be as large for a gain as the luck of the test.
    variance = float(np.trace(errors)) / 4 if known is None else known**2
    return variance * np.array([[2.0, -1.0], [-1.0, 2.0]])


def curve_sentence(found: Forecast) -> str:
    """The forecast in plain words."""
    path = ", ".join(f"{figure:.3f} with {rows}" for rows, figure in zip(found.rows, found.figures, strict=True))
    if not found.told:
        return f"Whether twice the data would help cannot be told: {found.why} ({found.metric} {path} rows)."
    return (
        f"Twice the data buys about {found.gain:.2g} in {found.metric} (95 % interval {found.low:.2g} to "
        f"{found.high:.2g}): it is {path} rows."
    )


def curve_blocks(found: Sequence[Forecast]) -> list[Block]:
    """The curve and the sentence for each metric."""
    blocks: list[Block] = []
    for one in found:
        luck = (
            "The luck of training was measured over seeds."
            if one.luck == "seeds"
            else "The luck of training is taken to be as large as that of the test; `seeds: 3` measures it."
        )
        said = f"{curve_sentence(one)} {luck} Three points are few: read it as a hint."
        line = Line(name="tuned", x=[float(rows) for rows in one.rows], y=list(one.figures))
        blocks.append(
            Lines(
                title=f"More rows: {name_of(one.metric)}",
                section="runs",
                x_label="Training rows",
                y_label=name_of(one.metric),
                lines=[line],
                note=said,
            )
        )
    return blocks or [Text(title="More rows", section="runs", paragraphs=["Not measured."])]
