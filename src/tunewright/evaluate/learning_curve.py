"""What twice the data would buy, from models trained on a quarter, a half and all of the rows.

Along a power law each doubling gains a constant share of the doubling before it (Hestness et al. 2017, section 3): the
gains are g, r g and so the next one is r^2 g. All g that are gains and all r from 0 to `FASTEST` are weighed by how
well they explain the two gains that were measured; the interval is where 95 % of that weight lies. The two gains have
one model in common and are measured on the same test rows, so their errors go together, and the luck of training comes
on top of the luck of the test.

A deviation of two or three seeds is itself mostly luck, so the true one is not known: all that could have given the
measured one are weighed (variance = freedom x measured / chi-squared, Gelman et al. 2013, Bayesian Data Analysis,
section 3.2). For the luck of training alone that is Student's t; with the luck of the test beside it, it is the
convolution of Behrens and Fisher (Fisher 1935), which calls chance a gain no more often than it says. The degrees of
freedom of Satterthwaite (1946) do: simulated, in 5.2 % instead of 2.5 % with two seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tunewright.core.blocks import Block, Line, Lines, Text
from tunewright.core.words import name_of
from tunewright.evaluate.bootstrap import (
    LEVEL,
    LOST,
    MIN_DIFFERING,
    MIN_EFFECTIVE,
    MIN_UNITS,
    critical,
    draws_of,
)
from tunewright.evaluate.contracts import Floats, Metric
from tunewright.evaluate.scale import Scale
from tunewright.evaluate.units import effective

SHARES = (0.25, 0.5)
"""Of the training rows, beside all of them."""
FASTEST = 1.2
"""A gain may be at most so much larger than the one before: above 1, since small sets have much luck."""
_GAINS, _FAR_GAINS, _RATIOS = 301, 60, 61
_DEVIATIONS, _TAIL = 41, 5e-4  # how many true deviations are weighed, and what share is left out at each end
_LEAST_SIZE = -700.0  # logarithm of a determinant that is as good as 0: two gains whose errors are one
_SHARED = np.array([[2.0, -1.0], [-1.0, 2.0]])
"""Covariance of the two gains when each of the three models errs by 1: the middle one is in both."""


@dataclass(frozen=True, slots=True)
class Luck:
    """The luck of training as it was measured: the standard deviation of a figure over some seeds."""

    deviation: float
    seeds: int

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the deviation."""
        return self.seeds - 1

    def plausible(self) -> tuple[Floats, Floats]:
        """Variances that could have given this deviation, and the weight of each."""
        ends = stats.chi2.ppf([_TAIL, 1 - _TAIL], self.freedom)
        drawn = np.geomspace(float(ends[0]), float(ends[1]), _DEVIATIONS)
        return self.freedom * self.deviation**2 / drawn, drawn * stats.chi2.pdf(drawn, self.freedom)


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
    luck: Luck | None = None,
    **test: object,
) -> Forecast:
    """Forecasts one metric.

    Args:
        metric: Summarises the records.
        name: What to call it.
        rows: Training rows of the three models.
        measured: [n, numbers] records of each on the same test rows in the same order.
        luck: Of the metric over training seeds, where it was measured.
        test: `units` and `row_weights` of the test rows, `seed` and `resamples`.
    """
    figures, scale, errors, few = _measure(metric, measured, **test)  # type: ignore[arg-type]
    if luck is None:
        # Where it was not measured it is taken to be as large for a gain as the luck of the test.
        errors = errors + float(np.trace(errors)) / 4 * _SHARED
    elif scale.ratios:
        luck = replace(luck, deviation=luck.deviation / figures[-1])
    sign = 1 if metric.higher_is_better else -1
    level = [sign * float(scale.into(figure)) for figure in figures]
    gain, low, high, told, why = next_gain(level[1] - level[0], level[2] - level[1], errors, luck)
    told, why = told and not few, few or why
    kind: Literal["seeds", "assumed"] = "assumed" if luck is None else "seeds"
    size = [abs(scale.change(sign * value)) for value in (gain, low, high)]
    counts, values = (rows[0], rows[1], rows[2]), (figures[0], figures[1], figures[2])
    return Forecast(name, counts, values, size[0], size[1], size[2], told, why, kind)


def next_gain(
    first: float, second: float, errors: Floats, luck: Luck | None = None
) -> tuple[float, float, float, bool, str]:
    """The gain of the next doubling from two: (middle, low, high, told, why not).

    Args:
        first: Gain from a quarter to a half.
        second: Gain from a half to all.
        errors: [2, 2] covariance of those two, as far as it is known.
        luck: Of training, which comes on top, where it was measured.
    """
    ahead, weight = _weighed(first, second, errors, luck)
    order = np.argsort(ahead)
    share = np.cumsum(weight[order]) / weight.sum()
    low, gain, high = (float(ahead[order][np.searchsorted(share, q)]) for q in ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
    none = _chance_of_none(first + second, errors, luck)
    if none > (1 + LEVEL) / 2:
        return gain, low, high, False, "more rows made it worse so far: the luck of training is larger than the gain"
    if none >= (1 - LEVEL) / 2:
        return gain, low, high, False, "what more rows bought so far may be chance"
    return gain, low, high, True, ""


def _plausible(luck: Luck | None) -> tuple[Floats, Floats]:
    """What the measured luck of training may truly be, and the weight of each; none where it was not measured."""
    return (np.zeros(1), np.ones(1)) if luck is None else luck.plausible()


def _chance_of_none(total: float, errors: Floats, luck: Luck | None) -> float:
    """How probable it is that more rows bought nothing so far, given both gains together."""
    variances, chances = _plausible(luck)
    spread = np.sqrt(np.maximum(float(errors.sum()), 0.0) + variances * _SHARED.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = np.nan_to_num(total / spread, nan=0.0, posinf=np.inf, neginf=-np.inf)  # nothing errs: what is, is
    return float(stats.norm.sf(beyond) @ chances / chances.sum())


def _weighed(first: float, second: float, errors: Floats, luck: Luck | None) -> tuple[Floats, Floats]:
    """Next gains along all power laws, and how well each explains the two that were measured."""
    variances, chances = _plausible(luck)
    largest, usual = (float(np.max(np.diag(errors))) + 2 * v for v in (variances.max(), np.median(variances)))
    top = max(first, second, 0.0) + 1e-12
    gains = np.linspace(0, top + 5 * math.sqrt(usual), _GAINS)
    if luck is not None:  # far gains need no fine steps, but few seeds do not rule them out
        gains = np.append(gains, np.geomspace(gains[-1], top + 5 * math.sqrt(largest), _FAR_GAINS)[1:])
    gain_G, ratio_R = gains[:, None], np.linspace(0, FASTEST, _RATIOS)[None]
    first_P = np.broadcast_to(first - gain_G, (len(gains), _RATIOS)).ravel()
    second_P = (second - ratio_R * gain_G).ravel()
    covariances = errors + np.eye(2) * 1e-18 + variances[:, None, None] * _SHARED
    inverse = np.linalg.pinv(covariances)
    squares = np.stack([first_P**2, 2 * first_P * second_P, second_P**2])
    fit_VP = -0.5 * inverse[:, [0, 0, 1], [0, 1, 1]] @ squares
    sizes = np.maximum(np.linalg.slogdet(covariances)[1], _LEAST_SIZE)
    fit_VP += (np.log(chances) - 0.5 * sizes)[:, None]
    weight = np.exp(fit_VP - fit_VP.max()).sum(axis=0) * np.repeat(np.gradient(gains), _RATIOS)
    return (ratio_R**2 * gain_G).ravel(), weight


def _few(measured: Sequence[Floats], of_row: NDArray[np.intp], mass: Floats, there: float) -> str:
    """Why the test is too small to tell anything, by the rules of every other interval; empty where it is not."""
    count, worth = int((np.bincount(of_row, mass) > 0).sum()), effective(of_row, mass)
    if count < MIN_UNITS or worth < MIN_EFFECTIVE:
        return f"the test has {count} units, worth {worth:.0f} of equal weight, and at least {MIN_UNITS} are needed"
    if there < 1 - LOST:
        return "in more than a resampling of a hundred the test rows lack what the figure needs"
    moved = len(np.unique(of_row[(mass > 0) & (measured[0] != measured[-1]).any(axis=1)]))
    if moved < MIN_DIFFERING:
        return f"more rows changed the answers to {moved} units, and at least {MIN_DIFFERING} are needed"
    return ""


def _measure(
    metric: Metric,
    measured: Sequence[Floats],
    units: Sequence[str],
    row_weights: Floats,
    seed: int,
    resamples: int,
) -> tuple[list[float], Scale, Floats, str]:
    """The three figures, where differences are normal, the covariance of the gains by the test rows, why it is none."""
    everything = np.ones(len(units), dtype=bool)
    figures = [float(metric.summarise(records, row_weights[None])[0]) for records in measured]
    scale = Scale.of(metric, figures[-1])
    drawn = np.concatenate(
        [draws_of(metric, records, units, [everything], seed, resamples, row_weights) for records in measured]
    )
    drawn = np.asarray(scale.into(drawn))
    there = np.isfinite(drawn).all(axis=0)
    of_row = np.unique(np.asarray(units, dtype=str), return_inverse=True)[1]
    mass = metric.sizes(measured[-1]) * row_weights
    few = _few(measured, of_row, mass, float(there.mean()))
    # As in `bootstrap.compare`: freed of the bootstrap's bias, and as wide as t of so many effective units.
    worth = max(effective(of_row, mass), 2.0)
    wider = worth / (worth - 1) * (critical(worth - 1) / critical(math.inf)) ** 2
    return figures, scale, np.cov(np.diff(drawn[:, there], axis=0)) * wider, few


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
