"""Where the tuned model does worse: words, lengths, subgroups and units, corrected for having looked at all of them.

Two looks, each at its share of 5 %. Words, lengths and subgroups: does the mean loss of units go with how much of them
is inside? Losses are permuted among units and the largest statistic of each permutation is the yardstick
(Westfall & Young 1993, max-T), so hundreds of correlated candidates cost no more than they must. A mean of few rows
(or tokens) scatters more than one of many, so units change places only with units of about their size. Units with
several rows: rows are permuted among units in the same way.

What counts twice in the metric (a survey weight of 2, an answer of twice the tokens) counts twice in the test, so that
both are of the same quantity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.blocks import Block, Table
from tunewright.core.seeds import stream
from tunewright.core.words import name_of
from tunewright.evaluate.baselines._text import question
from tunewright.evaluate.bootstrap import LEVEL
from tunewright.evaluate.compare import metric_name, weights_of
from tunewright.evaluate.contracts import Floats, Metric, Outcome
from tunewright.evaluate.units import units_of
from tunewright.evaluate.words import words

MIN_LOOKED = 30
"""Fewer units are too few to look for words and lengths among them."""
MIN_INSIDE = 10
"""Units that a candidate must touch, and as many that it must not."""
MIN_ROWS = 5
"""Rows that a unit must have to be a candidate itself."""
MOST_WORDS = 500
PERMUTATIONS = 999
LISTED = 8
_ROUNDING = 1e-12
_CELLS = 20_000_000
"""Candidates times rows at most, which bounds memory and time: of a huge test fewer words and units are looked at."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A set of rows that somebody could name."""

    name: str
    inside: NDArray[np.bool_]
    """[rows]"""


@dataclass(frozen=True, slots=True)
class ErrorSlice:
    """Rows on which the tuned model does worse than on the others."""

    name: str
    rows: int
    units: int
    inside: float
    """The metric on these rows."""
    outside: float
    p_value: float
    """Corrected for all candidates of its look."""


@dataclass(frozen=True, slots=True)
class ErrorSlices:
    """What was found, surest first, of how many candidates."""

    metric: str
    found: tuple[ErrorSlice, ...]
    looked: int
    note: str = ""


def find_error_slices(outcomes: Sequence[Outcome], metric: Metric, labels: Sequence[str], seed: int) -> ErrorSlices:
    """Looks for rows on which the model does worse.

    Args:
        outcomes: Of the tuned model.
        metric: What is looked at; it must be `of_rows`.
        labels: The closed set.
        seed: Of the permutations.
    """
    kept = [(o, r) for o in outcomes if o.example.survey_weight > 0 and (r := metric.record(o, labels)) is not None]
    name = metric_name(metric)
    if not metric.of_rows:
        return ErrorSlices(name, (), 0, f"Not looked for: {name} is of many rows together, not of one alone.")
    if not kept:
        return ErrorSlices(name, (), 0, "Not looked for: no row has a figure.")
    asked, records = [o for o, _ in kept], np.array([r for _, r in kept], dtype=float)
    loss = np.array([metric.summarise(record[None], np.ones((1, 1)))[0] for record in records])
    if not np.isfinite(loss).all():
        return ErrorSlices(name, (), 0, f"Not looked for: {name} has no value on one row alone.")
    loss = np.log(loss) if metric.multiplicative else loss
    loss = -loss if metric.higher_is_better else loss
    weights, counted = weights_of(asked), metric.sizes(records)
    unit = units_of(asked)
    sizes = np.bincount(unit)
    of_units = [
        Candidate(f"unit {asked[np.flatnonzero(unit == u)[0]].example.unit}", unit == u)
        for u in np.argsort(-sizes, kind="stable")[: _CELLS // len(asked)]
        if sizes[u] >= MIN_ROWS
    ]
    of_units = of_units if len(of_units) > 1 else []
    of_rows = _candidates(asked, unit) if len(sizes) >= MIN_LOOKED else []
    each = np.arange(len(asked))
    looks = [(of_rows, _measure(loss, weights, counted, unit)), (of_units, _measure(loss, weights, counted, each))]
    looks = [(candidates, measure) for candidates, measure in looks if candidates]
    found: list[ErrorSlice] = []
    for number, (candidates, measure) in enumerate(looks):
        level = (1 - LEVEL) / len(looks)
        inside = np.array([candidate.inside for candidate in candidates])
        for candidate, p in zip(candidates, measure(inside, stream(seed, "error slices", number)), strict=True):
            if p > level:
                continue
            there, elsewhere = (
                float(metric.summarise(records[side], weights[None, side])[0])
                for side in (candidate.inside, ~candidate.inside)
            )
            # The test compares units of one size; over all of them the figures may say the opposite, and then the
            # sentence would contradict itself.
            if there < elsewhere if metric.higher_is_better else there > elsewhere:
                rows, units = int(candidate.inside.sum()), len(np.unique(unit[candidate.inside]))
                found.append(ErrorSlice(candidate.name, rows, units, there, elsewhere, float(p)))
    looked = sum(len(candidates) for candidates, _ in looks)
    note = "" if looks else f"Not looked for: it takes {MIN_LOOKED} units, or units of {MIN_ROWS} rows."
    return ErrorSlices(name, tuple(sorted(found, key=lambda one: (one.p_value, one.name))), looked, note)


Measure = Callable[[NDArray[np.bool_], np.random.Generator], Floats]


def _measure(loss: Floats, weights: Floats, counted: Floats, unit: NDArray[np.int64]) -> Measure:
    """Corrected one-sided p-values of candidates [candidates, rows], losses permuted among units.

    Args:
        loss: [rows]
        weights: [rows] survey weights; they move how much a mean counts, not how far it scatters.
        counted: [rows] what the metric counts in each (rows, tokens, bytes).
        unit: [rows] what changes places, as numbers from 0; every row by itself where each has its own.
    """
    mass_R = weights * counted
    mass: Floats = np.bincount(unit, weights=mass_R).astype(float)
    of_unit = np.bincount(unit, weights=mass_R * loss) / mass
    sizes = np.stack([_size_class(np.bincount(unit)), _size_class(np.bincount(unit, weights=counted))])
    alike = np.unique(sizes, axis=1, return_inverse=True)[1].ravel()

    def measure(inside: NDArray[np.bool_], random: np.random.Generator) -> Floats:
        share = np.stack([np.bincount(unit, weights=mass_R * row) for row in inside]) / mass
        return _corrected(of_unit, share, mass, alike, random)

    return measure


def _size_class(sizes: NDArray[Any]) -> NDArray[np.int64]:
    """[units] equal numbers for units of equal size up to 4, above that of sizes within a factor of two."""
    return np.where(sizes <= 4, sizes, 3 + np.ceil(np.log2(np.maximum(sizes, 1)))).astype(int)


def _corrected(
    loss: Floats, share: Floats, mass: Floats, alike: NDArray[np.int64], random: np.random.Generator
) -> Floats:
    """[candidates] p-values against the largest weighted correlation of each permutation.

    Args:
        loss: [n] what is permuted.
        share: [candidates, n] how far each is inside.
        mass: [n] how much each counts; it stays where it is.
        alike: [n] equal numbers for what may change places.
        random: Of the permutations.
    """
    classes = [np.flatnonzero(alike == one) for one in np.unique(alike)]
    centred, inside = loss.astype(float), share.astype(float)
    for places in classes:
        centred[places] -= centred[places].mean()
        inside[:, places] -= (inside[:, places] @ mass[places] / mass[places].sum())[:, None]
    if not centred.any():
        return np.ones(len(share))
    inside *= mass  # now it sums to 0 in each class: times losses it is inside minus outside, by mass
    norm = np.sqrt((inside**2).sum(axis=1, keepdims=True))
    told = norm > _ROUNDING * np.sqrt((mass**2).sum())  # else all of a class is inside, or nothing of it
    inside = np.divide(inside, norm, out=np.zeros_like(inside), where=told)
    block = max(1, _CELLS // (4 * len(loss)))
    largest = np.concatenate([
        np.max(_permuted(centred, classes, min(block, PERMUTATIONS - start), random) @ inside.T, axis=1)
        for start in range(0, PERMUTATIONS, block)
    ])  # fmt: skip
    reached = (largest[:, None] >= inside @ centred - 1e-12).sum(axis=0)
    return np.asarray((1 + reached) / (1 + PERMUTATIONS))


def _permuted(values: Floats, classes: Sequence[NDArray[np.int64]], times: int, random: np.random.Generator) -> Floats:
    """[times, n] the values, permuted within each class of places."""
    permuted = np.tile(values, (times, 1))
    for places in classes:
        permuted[:, places] = random.permuted(permuted[:, places], axis=1)
    return permuted


def _candidates(asked: Sequence[Outcome], unit: NDArray[np.int64]) -> list[Candidate]:
    """Words, lengths and subgroups that enough units have and enough have not."""
    texts = [question(o.example) if o.example.context else o.example.answer.text for o in asked]
    split = [words(text) for text in texts]
    common = Counter(word for one in split for word in set(one))
    rows_of: dict[str, list[int]] = {word: [] for word, _ in common.most_common(4 * MOST_WORDS)}
    for row, one in enumerate(split):
        for word in set(one) & rows_of.keys():
            rows_of[word].append(row)
    made = [Candidate(f"with the word '{word}'", _mask(rows, len(asked))) for word, rows in rows_of.items()]
    kept = [candidate for candidate in made if _touches_enough(candidate, unit)]
    kept = kept[: min(MOST_WORDS, _CELLS // len(asked))]
    length = np.array([len(one) for one in split])
    low, high = np.quantile(length, [0.25, 0.75])
    others = [
        Candidate(f"of at most {low:.0f} words", length <= low),
        Candidate(f"of at least {high:.0f} words", length >= high),
    ]
    named = sorted({pair for o in asked for pair in o.example.slices.items()})
    others += [
        Candidate(f"with {slice_} {value}", np.array([o.example.slices.get(slice_) == value for o in asked]))
        for slice_, value in named
    ]
    return kept + [candidate for candidate in others if _touches_enough(candidate, unit)]


def _mask(rows: Sequence[int], count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, dtype=bool)
    mask[list(rows)] = True
    return mask


def _touches_enough(candidate: Candidate, unit: NDArray[np.int64]) -> bool:
    inside, outside = (np.count_nonzero(np.bincount(unit[side])) for side in (candidate.inside, ~candidate.inside))
    return bool(min(inside, outside) >= MIN_INSIDE)


def error_sentences(looked: ErrorSlices) -> list[str]:
    """What was found in plain words; nothing where nothing was looked for."""
    if not looked.looked:
        return []
    if not looked.found:
        return [f"Of {looked.looked} words, lengths and groups of rows, none does worse than chance explains."]
    worst = looked.found[0]
    more = f", and {len(looked.found) - 1} more; see the report" if len(looked.found) > 1 else ""
    return [
        f"Rows {worst.name} do worse: {looked.metric} {worst.inside:.3f} against {worst.outside:.3f} elsewhere "
        f"({worst.rows} rows, {looked.looked} candidates reckoned with){more}."
    ]


def error_blocks(looked: ErrorSlices) -> list[Block]:
    """A table of what was found, or a note that nothing was."""
    note = looked.note or (
        f"Of {looked.looked} words, lengths, subgroups and units, those on which the tuned model does worse. "
        "p is corrected for having looked at all of them: it is the chance to find one so bad anywhere if none "
        "were. It says where to look, not why."
    )
    note += "" if looked.found or looked.note else " None was found."
    columns = ["which rows", "rows", "units", f"{name_of(looked.metric)} there", "elsewhere", "p"]
    rows: list[list[Any]] = [
        [one.name, one.rows, one.units, one.inside, one.outside, one.p_value] for one in looked.found[:LISTED]
    ]
    return [Table(title="Rows that do worse", note=note, section="groups", columns=columns, rows=rows)]
