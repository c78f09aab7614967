"""What the report shows of base and tuned on the test rows: figures, classes, confusion, calibration, examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.core.blocks import Bar, Bars, Bin, Block, Cell, Pair, Pairs, Reliability, Table
from tunewright.core.records import unit_of
from tunewright.core.words import name_of
from tunewright.evaluate.bootstrap import estimate, wilson
from tunewright.evaluate.closed import chosen, probabilities, truth
from tunewright.evaluate.compare import Answered, How, metric_name, weights_of
from tunewright.evaluate.contracts import Floats, Metric, Outcome
from tunewright.evaluate.metrics._moves import move
from tunewright.evaluate.units import effective, units_of

Models = Mapping[str, Sequence[Outcome]]
"""Outcomes by who answered: `base`, `tuned`; the same examples in the same order."""
SHOWN = 8
"""Examples in each direction."""
CONFUSIONS = 15
"""Most rows of the confusion table."""
BINS = 10


def outcome_blocks(answered: Answered, how: How) -> list[Block]:
    """All blocks that the outcomes allow.

    Raises:
        UserError: A figure is not finite.
    """
    base, tuned, labels = answered.base, answered.tuned, answered.labels
    found: list[Block] = []
    primary = [metric for metric in answered.metrics if how.decides(metric)]
    models = {"base": base, "tuned": tuned}
    for metric in primary:
        found += figure_bars({**models, **answered.baselines}, metric, labels, how)
    if labels and all(chosen(outcome) is not None for outcome in (*base, *tuned)):
        found += [per_class_table(base, tuned, labels), *confusion_tables(models, labels), reliability(models, labels)]
        found += move_reliability(models, labels)
    if primary:
        found += changed_examples(base, tuned, primary[0], labels)
    return found


def figure_bars(models: Models, metric: Metric, labels: Sequence[str], how: How) -> list[Block]:
    """Base, tuned and baselines on one metric with their own 95 % intervals; nothing where no row has it."""
    bars = []
    for name, outcomes in models.items():
        records = [(outcome, metric.record(outcome, labels)) for outcome in outcomes]
        kept = [(outcome, record) for outcome, record in records if record is not None]
        if not kept:
            continue
        units = [unit_of(outcome.example) for outcome, _ in kept]
        numbers = np.array([record for _, record in kept])
        weights = weights_of([outcome for outcome, _ in kept])
        value, low, high = estimate(metric, numbers, units, how.seed, how.resamples, weights)
        role: Literal["base", "tuned", "baseline"] = (
            "base" if name == "base" else "tuned" if name == "tuned" else "baseline"
        )
        bars.append(Bar(label=name_of(name), value=value, low=low, high=high, role=role))
    direction = "Higher" if metric.higher_is_better else "Lower"
    note = f"{direction} is better. Each interval is of one model alone; the verdict rests on the paired difference."
    return [Bars(title=metric_name(metric), note=note, section="result", bars=bars)] if bars else []


def per_class_table(base: Sequence[Outcome], tuned: Sequence[Outcome], labels: Sequence[str]) -> Table:
    """Sensitivity and specificity of each label with Wilson intervals, base and tuned; n = rows that truly have it."""
    rows: list[list[Cell]] = []
    weights, unit_N = weights_of(base), units_of(base)
    true = np.array([truth(outcome, labels) for outcome in base])
    said = [np.array([chosen(outcome) for outcome in outcomes]) for outcomes in (base, tuned)]
    for index, label in enumerate(labels):
        is_true = true == index
        cells: list[Cell] = [label, int((is_true & (weights > 0)).sum())]
        for answers in said:
            cells.append(_share((answers == index)[is_true], weights[is_true], unit_N[is_true]))
            cells.append(_share((answers != index)[~is_true], weights[~is_true], unit_N[~is_true]))
        rows.append(cells)
    columns = ["label", "n", *(f"{who} {what}" for who in ("base", "tuned") for what in ("sensitivity", "specificity"))]
    return Table(
        title="By label",
        note="Sensitivity: of rows with the label, how many got it. Specificity: of the others, how many did not. "
        "In brackets the 95 % interval (Wilson), as if the rows of a unit said the same.",
        section="classes",
        columns=columns,
        rows=rows,
    )


def confusion_tables(models: Models, labels: Sequence[str]) -> list[Block]:
    """The pairs (true, given) that are confused most by tuned, with how often base confused them."""
    counts = {
        name: Counter((truth(o, labels), chosen(o)) for o in outcomes if truth(o, labels) != chosen(o))
        for name, outcomes in models.items()
    }
    confused = {pair for count in counts.values() for pair in count}
    either = sorted(confused, key=lambda pair: (-counts["tuned"][pair], -counts["base"][pair], pair))
    names = [*labels, "(not in the label list)"]
    rows: list[list[Cell]] = [
        [names[true], names[said], counts["base"][true, said], counts["tuned"][true, said]]
        for true, said in either[:CONFUSIONS]
        if said is not None
    ]
    columns = ["true label", "answered", "base", "tuned"]
    some = f"; the {CONFUSIONS} commonest of {len(either)} pairs" if len(either) > CONFUSIONS else ""
    note = f"Rows answered wrongly, by pair of labels{some}."
    return [Table(title="Confused labels", note=note, section="classes", columns=columns, rows=rows)] if rows else []


def reliability(models: Models, labels: Sequence[str]) -> Reliability:
    """Stated confidence against how often it was right, in bins of equal numbers (weights) of rows."""
    series: dict[str, list[Bin]] = {}
    for name, outcomes in models.items():
        asked = [o for o in outcomes if o.choices is not None and o.example.survey_weight > 0]
        stated = np.array([probabilities(o.choices).max() for o in asked if o.choices is not None])
        right = np.array([chosen(o) == truth(o, labels) for o in asked])
        series[name] = _bins(stated, right, asked)
    return Reliability(
        title="Is the stated confidence right?",
        note="On the diagonal, what is said with 80 % confidence is right in 80 % of rows; below it is overconfidence. "
        "Each point is a tenth of the rows, its line the 95 % interval (Wilson), as if rows of a unit said the same.",
        section="classes",
        series=series,
    )


def move_reliability(models: Models, labels: Sequence[str]) -> list[Block]:
    """Stated probability that a title changes against how often it did; nothing where rows have no title before."""
    series: dict[str, list[Bin]] = {}
    for name, outcomes in models.items():
        found = [(o, told) for o in outcomes if o.example.survey_weight > 0 and (told := move(o, labels)) is not None]
        if not found:
            return []
        stated, moved = np.array([told for _, told in found]).T
        series[name] = _bins(stated, moved == 1, [o for o, _ in found])
    note = "On the diagonal, of rows given an 80 % chance of a change 80 % change. Bins and lines as above."
    return [
        Reliability(
            title="Are moves as frequent as foreseen?",
            note=note,
            section="classes",
            series=series,
            x_label="Stated chance that the title changes",
            y_label="How often it changed",
        )
    ]


def _bins(stated: Floats, right: NDArray[np.bool_], outcomes: Sequence[Outcome]) -> list[Bin]:
    """Tenths of the rows by what was stated."""
    weights, unit_N = weights_of(outcomes), units_of(outcomes)
    order = np.argsort(stated, kind="stable")
    mass = np.cumsum(weights[order])
    place = np.searchsorted(mass[-1:] * np.arange(1, BINS) / BINS, mass - weights[order] / 2)
    return [
        Bin(
            confidence=float(np.average(stated[part], weights=weights[part])),
            accuracy=found[0],
            count=len(part),
            mass=float(weights[part].sum()),
            low=found[1],
            high=found[2],
        )
        for part in (order[place == number] for number in range(BINS))
        if len(part) and (found := _weighted_share(right[part], weights[part], unit_N[part])) is not None
    ]


def changed_examples(
    base: Sequence[Outcome], tuned: Sequence[Outcome], metric: Metric, labels: Sequence[str]
) -> list[Block]:
    """The examples on which a metric rose and fell most, `SHOWN` of each."""
    gains = _gains(base, tuned, metric, labels)
    sign = 1 if metric.higher_is_better else -1
    ranked = sorted((row for row in gains if gains[row]), key=lambda row: (-sign * gains[row], base[row].example.id))
    found: list[Block] = []
    for title, rows in (
        ("What got better", [row for row in ranked if sign * gains[row] > 0][:SHOWN]),
        ("What got worse", [row for row in reversed(ranked) if sign * gains[row] < 0][:SHOWN]),
    ):
        if rows:
            name = name_of(metric_name(metric))
            note = f"Test rows on which it changed most: {name}."
            pairs = [_pair(base[row], tuned[row], labels, f"{name} {gains[row]:+.3g}") for row in rows]
            found.append(Pairs(title=title, note=note, section="examples", pairs=pairs))
    return found


def _gains(
    base: Sequence[Outcome], tuned: Sequence[Outcome], metric: Metric, labels: Sequence[str]
) -> dict[int, float]:
    """Row -> tuned minus base, each example summarised alone."""
    gains = {}
    for row, pair in enumerate(zip(base, tuned, strict=True)):
        figures = [
            float(metric.summarise(np.array([record]), np.ones((1, 1)))[0])
            for outcome in pair
            if (record := metric.record(outcome, labels)) is not None
        ]
        if len(figures) == 2:
            gains[row] = figures[1] - figures[0]
    return gains


def _pair(base: Outcome, tuned: Outcome, labels: Sequence[str], note: str) -> Pair:
    example = base.example
    return Pair(
        id=example.source or example.id,
        context=example.prompt_text,
        expected=example.answer.text,
        base=_said(base, labels),
        tuned=_said(tuned, labels),
        note=note,
    )


def _said(outcome: Outcome, labels: Sequence[str]) -> str:
    """What the model answered: its text, its label with probability, how likely the wanted answer was, or its loss."""
    choice = chosen(outcome)
    if choice is not None and outcome.choices is not None and labels:
        return f"{labels[choice]} ({100 * probabilities(outcome.choices)[choice]:.0f} %)"
    if outcome.text is not None:
        return outcome.text
    if outcome.answer_log_prob is not None and outcome.answer_tokens:
        return f"{-outcome.answer_log_prob / outcome.answer_tokens:.2f} nats a token on the wanted answer"
    if outcome.loss_sum is not None and outcome.loss_count:
        return f"loss {outcome.loss_sum / outcome.loss_count:.3g}"
    return "(not asked)"


def _share(right: NDArray[np.bool_], weights: Floats, unit_N: NDArray[np.intp]) -> Cell:
    found = _weighted_share(right, weights, unit_N)
    return None if found is None else "{:.2f} ({:.2f} to {:.2f})".format(*found)


def _weighted_share(
    right: NDArray[np.bool_], weights: Floats, unit_N: NDArray[np.intp]
) -> tuple[float, float, float] | None:
    """A share with the Wilson interval of the effective number of units (Kish 1965), as if rows of one were alike."""
    total = float(weights.sum())
    if total <= 0:
        return None
    share = float(weights @ right) / total
    units = effective(unit_N, weights)
    return share, *wilson(share * units, units)
