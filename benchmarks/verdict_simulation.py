"""Does the verdict keep its promises? 2,000 pairs of models a case, with known truth.

For equally good models: how many are called better or worse (at most 6 %), how many 95 % intervals cover
(93.5 to 96.5 %), and how many plain percentile intervals would. Then, with a true difference of exactly what the
tests state as their smallest detectable one: how many are found (about 80 %). Tests whose units decide nothing whatever
they show (one holds nearly all rows) state none, and are not counted there; `state` is the share of tests that do.

    python benchmarks/verdict_simulation.py [pairs] [units ...]     # 2000; cases of all numbers of units unless told
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.evaluate.bootstrap import Paired, compare
from tunewright.evaluate.contracts import Metric
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.nll import Nll

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, "Case", float], tuple[Floats, Floats, NDArray[np.int64]]]


@dataclass(frozen=True)
class Case:
    """A population of test sets; `gain` is passed to `draw` separately."""

    name: str
    metric: Metric
    draw: Draw
    units: int
    largest: int
    """Rows a unit: 1 to this, most units small."""


def rows_of_units(rng: np.random.Generator, case: Case) -> NDArray[np.int64]:
    """[n] unit of each row; sizes are long-tailed."""
    sizes = np.clip(np.round(rng.lognormal(0.5, 0.8, case.units)), 1, case.largest).astype(int)
    return np.repeat(np.arange(case.units), sizes)


def hits(rng: np.random.Generator, case: Case, gain: float) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Right or wrong, 25 % of rows differ, and a unit's rows lean the same way; the rest are ties."""
    unit = rows_of_units(rng, case)
    lean = rng.normal(0, 0.15, case.units).clip(-0.4, 0.4)[unit]
    differs = rng.random(len(unit)) < max(0.25, gain)
    gains = rng.random(len(unit)) < 0.5 + lean + gain / (2 * max(0.25, gain))
    base = rng.random(len(unit)) < 0.7
    tuned = np.where(differs, gains, base)
    base = np.where(differs, ~gains, base)
    return base[:, None].astype(float), tuned[:, None].astype(float), unit


def rare_hits(rng: np.random.Generator, case: Case, gain: float) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """As `hits`, but only 8 % of rows differ."""
    unit = rows_of_units(rng, case)
    differs = rng.random(len(unit)) < max(0.08, gain)
    gains = rng.random(len(unit)) < 0.5 + gain / (2 * max(0.08, gain))
    base = rng.random(len(unit)) < 0.7
    pair = np.where(differs, ~gains, base), np.where(differs, gains, base)
    return pair[0][:, None].astype(float), pair[1][:, None].astype(float), unit


def losses(rng: np.random.Generator, case: Case, gain: float) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Nats and tokens: long-tailed lengths and losses, unit effects; `gain` nats a token less for tuned."""
    unit = rows_of_units(rng, case)
    tokens = 1.0 + rng.geometric(0.1, len(unit))
    shared = rng.gamma(2.0, 1.0, len(unit)) * tokens
    noise = rng.normal(0, 0.2, case.units)[unit] * tokens + rng.standard_t(5, len(unit)) * 0.5 * np.sqrt(tokens)
    base = np.column_stack([shared, tokens])
    tuned = np.column_stack([shared + noise - gain * tokens, tokens])
    return base, tuned, unit


def percentile_covers(case: Case, base: Floats, tuned: Floats, unit: NDArray[np.int64], seed: int) -> bool:
    """Whether the plain percentile interval of the same bootstrap covers 0."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(case.units, np.full(case.units, 1 / case.units), size=500)[:, unit].astype(float)
    low, high = np.quantile(case.metric.summarise(tuned, counts) - case.metric.summarise(base, counts), [0.025, 0.975])
    return bool(low <= 0 <= high)


def simulate(case: Case, pairs: int, gain: float = 0.0, resamples: int = 500) -> list[Paired]:
    """Compares so many pairs of models that differ by `gain`."""
    results = []
    for pair in range(pairs):
        base, tuned, unit = case.draw(np.random.default_rng((pair, case.units, 1)), case, gain)
        names = [f"u{number}" for number in unit]
        results.append(compare(case.metric, base, tuned, names, seed=pair, resamples=resamples))
    return results


def stated(results: list[Paired]) -> float:
    """The middle one of the stated smallest detectable differences."""
    return float(np.median([r.smallest_detectable for r in results if r.smallest_detectable is not None]))


def found_share(results: list[Paired]) -> float:
    """Of the tests that state a detectable difference: how many say better."""
    return float(np.mean([r.decision == "better" for r in results if r.smallest_detectable is not None]))


CASES = [
    Case(f"{name}, {units} units", metric, draw, units, largest=12)
    for name, metric, draw in (
        ("accuracy, 25 % differ", Accuracy(), hits),
        ("accuracy, 8 % differ", Accuracy(), rare_hits),
        ("nll", Nll(), losses),
    )
    for units in (12, 25, 60, 150, 500)
]


def main(pairs: int = 2000, *units: int) -> None:
    print(f"{'case':34}{'called':>8}{'covers':>8}{'percentile':>12}{'state':>8}{'found':>8}   ({pairs} pairs)")
    for case in (case for case in CASES if not units or case.units in units):
        equal = simulate(case, pairs)
        called = np.mean([result.decision != "cannot_tell" for result in equal])
        covers = np.mean([result.low <= 0 <= result.high for result in equal])
        plain = np.mean(
            [
                percentile_covers(case, *case.draw(np.random.default_rng((p, case.units, 1)), case, 0.0), p)
                for p in range(pairs)
            ]
        )
        state = np.mean([result.smallest_detectable is not None for result in equal])
        found = found_share(simulate(case, pairs, stated(equal)))
        print(f"{case.name:34}{called:8.1%}{covers:8.1%}{plain:12.1%}{state:8.1%}{found:8.1%}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
