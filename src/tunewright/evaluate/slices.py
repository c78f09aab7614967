"""Who it works for: base and tuned for each subgroup, and the largest gap between two of them.

Subgroups are what the user named in `data.slices`, and those that a format knows of itself. Each is compared with the
project's own metrics, weights and units; gaps are drawn with the same units for all subgroups, so rows of one person in
two of them are no illusion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.blocks import Bar, Bars, Block, Cell, Table
from tunewright.core.records import unit_of
from tunewright.core.words import interval, name_of
from tunewright.evaluate.bootstrap import (
    LEVEL,
    LOST,
    MIN_EFFECTIVE,
    MIN_UNITS,
    compare,
    critical,
    draws_of,
    effective_units,
)
from tunewright.evaluate.compare import Answered, How, metric_name, paired_records, weights_of
from tunewright.evaluate.contracts import Floats, Metric
from tunewright.evaluate.scale import Scale
from tunewright.evaluate.several import adjusted

NOT_STATED = "(not stated)"
MOST = 40
"""Values of one slice that are looked at, the commonest; a column of names is no slice."""


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Base and tuned on the rows of one value; None = too few units to say anything."""

    value: str
    rows: int
    units: int
    base: float | None = None
    tuned: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    worse: bool = False
    """Proven worse than the base, with all subgroups of all slices reckoned with (Holm)."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the best subgroup is from the worst, by one model; the interval holds for all pairs of all slices."""

    best: str
    worst: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SliceTable:
    """One metric over the values of one slice."""

    slice: str
    metric: str
    higher_is_better: bool
    groups: tuple[Subgroup, ...]
    gaps: dict[str, Gap] = field(default_factory=dict)
    """By who answered: `base`, `tuned`; of the subgroups of enough units (by weight `MIN_EFFECTIVE` at least) whose
    figure hardly a resampling loses (AUROC wants both answers); empty with fewer than two of them."""
    left_out: int = 0
    """Values that are not looked at, rarer than the `MOST` commonest."""


def slice_tables(answered: Answered, how: How) -> list[SliceTable]:
    """A table for each slice that the examples carry and each primary metric."""
    names = sorted({name for outcome in answered.base for name in outcome.example.slices})
    primary = [metric for metric in answered.metrics if how.decides(metric)]
    level = 1 - (1 - LEVEL) / max(len(names) * len(primary), 1)
    made = [found for name in names for metric in primary if (found := _table(name, metric, answered, how, level))]
    kept = iter(_holm([group for _, groups in made for group in groups]))
    return [replace(table, groups=tuple(next(kept) for _ in groups)) for table, groups in made]


Measured = list[tuple[Subgroup, float]]
"""Subgroups, each with the p-value of its difference."""


def _table(name: str, metric: Metric, answered: Answered, how: How, level: float) -> tuple[SliceTable, Measured] | None:
    """One table without its subgroups, and those; its gaps at a level that has looked at all tables."""
    base = answered.base
    rows, *records = paired_records(metric, base, answered.tuned, answered.labels)
    if not rows:
        return None
    asked = [base[row] for row in rows]
    data = _Rows(
        metric, {"base": records[0], "tuned": records[1]}, [unit_of(o.example) for o in asked], weights_of(asked), how
    )
    values = np.array([o.example.slices.get(name, NOT_STATED) for o in asked])
    there, counts = np.unique(values, return_counts=True)
    common = sorted(there[np.argsort(-counts, kind="stable")][:MOST].tolist())
    members = {value: (values == value) & (data.weights > 0) for value in common}
    groups = [data.subgroup(value, inside) for value, inside in members.items()]
    measured = {g.value: members[g.value] for g, _ in groups if g.tuned is not None}
    enough = {value: inside for value, inside in measured.items() if data.effective(inside) >= MIN_EFFECTIVE}
    gaps = {who: gap for who in data.records if (gap := data.gap(who, enough, level))}
    left_out = len(there) - len(common)
    return SliceTable(name, metric_name(metric), metric.higher_is_better, (), gaps, left_out), groups


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows that both models have a record of."""

    metric: Metric
    records: Mapping[str, Floats]
    units: list[str]
    weights: Floats
    how: How

    def subgroup(self, value: str, inside: NDArray[np.bool_]) -> tuple[Subgroup, float]:
        """One subgroup's figures, with the p-value of its difference."""
        places = np.flatnonzero(inside).tolist()
        units = [self.units[row] for row in places]
        count = len(set(units))
        if count < MIN_UNITS:
            return Subgroup(value, len(places), count), 1.0
        pair = [self.records[who][places] for who in ("base", "tuned")]
        if not all(math.isfinite(float(self.metric.summarise(r, self.weights[None, places])[0])) for r in pair):
            return Subgroup(value, len(places), count), 1.0
        seed, resamples = self.how.seed, self.how.resamples
        found = compare(self.metric, pair[0], pair[1], units, seed, resamples, self.weights[places])
        group = Subgroup(
            value,
            len(places),
            count,
            found.base,
            found.tuned,
            found.difference,
            found.low,
            found.high,
            worse=found.decision == "worse",
        )
        return group, found.p_value

    def effective(self, inside: NDArray[np.bool_]) -> float:
        """Units of equal weight that would tell as much as those of these rows."""
        _, of_row = np.unique(np.array(self.units)[inside], return_inverse=True)
        return effective_units(self.metric, self.records["base"][inside], of_row, self.weights[inside])

    def gap(self, who: str, members: Mapping[str, NDArray[np.bool_]], level: float) -> Gap | None:
        """The largest difference between two subgroups, with an interval of that level that has looked at all pairs.

        None with fewer than two subgroups of which most resamplings have a figure. The bound is the studentised
        maximum over pairs of how far a resampled difference is from the measured one (the bootstrap form of Tukey's
        range), widened by t for the subgroup of the fewest effective units.
        """
        if len(members) < 2:
            return None
        records, seed, resamples = self.records[who], self.how.seed, self.how.resamples
        drawn = draws_of(self.metric, records, self.units, list(members.values()), seed, resamples, self.weights)
        kept = np.isfinite(drawn).mean(axis=1) >= 1 - LOST
        members = {name: mask for (name, mask), keep in zip(members.items(), kept, strict=True) if keep}
        masks, drawn = list(members.values()), drawn[kept]
        if len(masks) < 2:
            return None
        values = [float(self.metric.summarise(records[m], self.weights[None, m])[0]) for m in masks]
        at = Scale.of(self.metric, values[0])
        figures, drawn = at.into(np.array(values)), at.into(drawn)
        pairs = list(combinations(range(len(masks)), 2))
        first, second = (np.array(side) for side in zip(*pairs, strict=True))
        found = figures[first] - figures[second]
        apart = drawn[first] - drawn[second]
        apart = apart[:, np.isfinite(apart).all(axis=0)]
        spread = np.std(apart, axis=1, ddof=1)
        spread = np.where(spread > 0, spread, np.inf)  # nothing varies: nothing can be told of this pair
        furthest = np.quantile(np.max(np.abs(apart - found[:, None]) / spread[:, None], axis=0), level)
        fewest = min(self.effective(mask) for mask in masks)  # one heavy unit among light ones tells less than equals
        wider = critical(fewest - 1, level) / critical(math.inf, level)
        widened = furthest * wider * math.sqrt(fewest / (fewest - 1))
        widest = int(np.argmax(np.abs(found)))
        i, j = pairs[widest]
        better, worse = (i, j) if (values[i] >= values[j]) == self.metric.higher_is_better else (j, i)
        half = widened * spread[widest] if np.isfinite(spread[widest]) else abs(found[widest])
        size, away = abs(float(found[widest])), float(half)
        # A ratio is told from the lower of the two figures.
        at = Scale.of(self.metric, min(values[i], values[j]))
        names = list(members)
        return Gap(names[better], names[worse], at.change(size), at.change(size - away), at.change(size + away))


def _holm(groups: Measured) -> list[Subgroup]:
    """The subgroups, those no longer called worse that do not survive Holm's correction (Holm 1979)."""
    measured = [number for number, (group, _) in enumerate(groups) if group.tuned is not None]
    kept = [group for group, _ in groups]
    for number, p in zip(measured, adjusted([groups[number][1] for number in measured]), strict=True):
        kept[number] = replace(kept[number], worse=kept[number].worse and p <= 1 - LEVEL + 1e-12)
    return kept


def slice_sentences(tables: Sequence[SliceTable]) -> list[str]:
    """The largest gap of each slice, and subgroups that got worse, in plain words."""
    said = []
    for table in tables:
        gap = table.gaps.get("tuned")
        told = {group.value: group for group in table.groups}
        if gap is None:
            said.append(
                f"By {table.slice}: the largest gap is not measured, fewer than two subgroups have {MIN_UNITS} units, "
                f"of which weights leave {MIN_EFFECTIVE:.0f} effective ones, and a figure in nearly every resampling."
            )
        else:
            best, worst = told[gap.best].tuned, told[gap.worst].tuned
            proven = "" if gap.low > 0 else ", so it may be chance"
            said.append(
                f"By {table.slice}, {table.metric} of the tuned model differs most between {gap.best} ({best:.3f}) and "
                f"{gap.worst} ({worst:.3f}): {gap.value:.3g} (95 % interval {gap.low:+.3g} to {gap.high:+.3g}, all "
                f"pairs of all groupings reckoned with{proven})."
            )
        worse = [group.value for group in table.groups if group.worse]
        if worse:
            said.append(f"Tuned is worse than the base where {table.slice} is {', '.join(worse)} ({table.metric}).")
    return said


def slice_blocks(tables: Sequence[SliceTable]) -> list[Block]:
    """A chart of changes and a table for each slice and metric, and a table of the largest gaps."""
    found: list[Block] = []
    for table in tables:
        rows: list[list[Cell]] = [
            [g.value, g.rows, g.units, g.base, g.tuned, g.difference, _interval(g.low, g.high)] for g in table.groups
        ]
        found += _changes(table)
        better = "higher" if table.higher_is_better else "lower"
        note = (
            f"{name_of(table.metric)}, {better} is better. The interval is that of the change, of this subgroup alone. "
            f"Subgroups with fewer than {MIN_UNITS} units are not measured."
        )
        note += f" {table.left_out} rarer values are left out." if table.left_out else ""
        columns = [table.slice, "rows", "units", "base", "tuned", "change", "95 % interval"]
        title = f"By {table.slice}: {name_of(table.metric)}"
        found.append(Table(title=title, note=note, section="groups", columns=columns, rows=rows))
    gaps: list[list[Cell]] = [
        [t.slice, name_of(t.metric), who, gap.best, gap.worst, gap.value, _interval(gap.low, gap.high)]
        for t in tables
        for who, gap in t.gaps.items()
    ]
    if gaps:
        note = (
            "The interval has looked at all pairs of subgroups of all groupings and measures, so the choice of the "
            "widest one does not flatter it. "
        )
        note += (
            f"Subgroups whose weights leave fewer than {MIN_EFFECTIVE:.0f} effective units, or whose figure is lost in "
            "more than a resampling in a hundred, are not looked at."
        )
        columns = ["by", "measure", "model", "best for", "worst for", "gap", "95 % interval"]
        found.append(Table(title="Largest gaps", note=note, section="groups", columns=columns, rows=gaps))
    return found


def _changes(table: SliceTable) -> list[Block]:
    """What tuning did for each subgroup, as a chart; nothing with fewer than two that were measured."""
    bars = [
        Bar(label=g.value, value=g.difference, low=g.low, high=g.high, role="tuned")
        for g in table.groups
        if g.difference is not None
    ]
    if len(bars) < 2:
        return []
    better = "Right of 0" if table.higher_is_better else "Left of 0"
    note = f"Tuned minus base. {better} tuning helped; an interval that crosses 0 proves neither help nor harm."
    title = f"What tuning changed by {table.slice}: {name_of(table.metric)}"
    return [Bars(title=title, note=note, section="groups", unit="change", bars=bars)]


def slice_figures(tables: Sequence[SliceTable]) -> list[dict[str, Any]]:
    """As JSON, for `evaluations/slices.json`."""
    return [asdict(table) for table in tables]


def _interval(low: float | None, high: float | None) -> Cell:
    return "not measured" if low is None or high is None else interval(low, high)
