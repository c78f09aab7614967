"""Subgroups: each as if alone, gaps with an interval that has looked at all pairs, nothing said of few units."""

from dataclasses import replace

import numpy as np
import pytest

from tunewright.evaluate.bootstrap import MIN_UNITS, compare
from tunewright.evaluate.compare import Answered, How
from tunewright.evaluate.contracts import Outcome
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.auroc import Auroc
from tunewright.evaluate.metrics.nll import Nll
from tunewright.evaluate.metrics.perplexity import Perplexity
from tunewright.evaluate.slices import NOT_STATED, _Rows, slice_blocks, slice_sentences, slice_tables

from .made import LABELS, example, records_of

HOW = How(primary=("accuracy",), resamples=300)


def tables_of(base, tuned, metrics, how):
    return slice_tables(Answered(base, tuned, {}, metrics, LABELS), how)


def outcomes(right: np.ndarray, group, units=None, weights=None) -> list[Outcome]:
    """Rows that are right or wrong, each of a group."""
    found = []
    for row, hit in enumerate(right):
        unit = None if units is None else f"u{units[row]}"
        one = replace(example(f"r{row}", "good", unit=unit), slices={"gender": str(group[row])} if group[row] else {})
        one = replace(one, survey_weight=1.0 if weights is None else float(weights[row]))
        scores = np.array([0.0, 0.0, 1.0 if hit else -1.0])
        found.append(Outcome(one, -float(2 - hit), 1, 4, choices=scores))
    return found


def made(seed: int, chances: dict[str, float], each: int, base: float = 0.5):
    rng = np.random.default_rng(seed)
    group = np.repeat(list(chances), each)
    right = rng.random(len(group)) < np.repeat(list(chances.values()), each)
    return outcomes(rng.random(len(group)) < base, group), outcomes(right, group)


def test_a_subgroup_is_what_its_rows_alone_would_be():
    base, tuned = made(0, {"women": 0.7, "men": 0.6}, 60)
    (table,) = tables_of(base, tuned, [Accuracy(), Nll()], HOW)
    assert (table.slice, table.metric) == ("gender", "accuracy")
    for group, rows in zip(table.groups, (range(60, 120), range(60)), strict=True):
        mine = [records_of(Accuracy(), [side[row] for row in rows]) for side in (base, tuned)]
        alone = compare(Accuracy(), *mine, [f"row r{row}" for row in rows], 0, 300)
        assert (group.rows, group.units, group.value) == (60, 60, "women" if rows[0] == 0 else "men")
        assert (group.base, group.tuned, group.low, group.high) == (alone.base, alone.tuned, alone.low, alone.high)


def test_few_units_are_not_measured_and_a_missing_value_is_a_group_of_its_own():
    base, tuned = made(1, {"women": 0.7, "": 0.7, "men": 0.6}, MIN_UNITS)
    less = [side[:-1] for side in (base, tuned)]
    (table,) = tables_of(*less, [Accuracy()], HOW)
    told = {group.value: group for group in table.groups}
    assert told.keys() == {"women", NOT_STATED, "men"}
    assert told["men"].tuned is None
    assert told["men"].rows == MIN_UNITS - 1
    assert told[NOT_STATED].tuned is not None
    chart, shown = slice_blocks([table])[:2]
    assert shown.title == "By gender: Accuracy"
    assert "not measured" in str(shown.rows)
    assert {bar.label for bar in chart.bars} == {"women", NOT_STATED}  # the group of too few units has no bar
    assert all(bar.low <= bar.value <= bar.high for bar in chart.bars)
    assert {gap.best for gap in table.gaps.values()} | {gap.worst for gap in table.gaps.values()} == {
        "women",
        NOT_STATED,
    }


def test_many_rows_of_few_people_are_few():
    rng = np.random.default_rng(0)
    right, group = rng.random(200) < 0.6, np.repeat(["women", "men"], 100)
    sides = [outcomes(right, group, units=np.arange(200) // 20) for _ in range(2)]
    (table,) = tables_of(*sides, [Accuracy()], HOW)
    assert all(g.tuned is None for g in table.groups)
    assert table.gaps == {}
    assert "not measured" in slice_sentences([table])[0]


def test_a_true_gap_is_found_and_the_right_way_round():
    base, tuned = made(2, {"a": 0.9, "b": 0.85, "c": 0.4}, 80)
    (table,) = tables_of(base, tuned, [Accuracy()], HOW)
    gap = table.gaps["tuned"]
    assert (gap.best, gap.worst) == ("a", "c")
    assert gap.low > 0.25
    assert gap.low < gap.value < gap.high
    assert "differs most between a" in slice_sentences([table])[0]
    nats = tables_of(base, tuned, [Nll(), Perplexity()], replace(HOW, primary=("nll", "perplexity")))
    for one in nats:
        assert (one.gaps["tuned"].best, one.gaps["tuned"].worst) == ("a", "c")
        figures = {g.value: g.tuned for g in one.groups}
        assert one.gaps["tuned"].value == pytest.approx(figures["c"] - figures["a"])
        assert 0 < one.gaps["tuned"].low < one.gaps["tuned"].value < one.gaps["tuned"].high


def test_of_six_equal_subgroups_the_widest_gap_is_rarely_called_one():
    """One pair of six groups alone would be called in about a third of tests."""
    low = []
    for seed in range(120):
        base, tuned = made(seed, dict.fromkeys("abcdef", 0.7), 50)
        (table,) = tables_of(base, tuned, [Accuracy()], replace(HOW, resamples=200))
        low.append(table.gaps["tuned"].low)
    assert np.mean(np.array(low) > 0) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)
    assert np.mean(np.array(low) > -0.15) > 0.5  # and it is no interval that is always wide


def test_getting_worse_is_told_only_of_proven_subgroups():
    rng = np.random.default_rng(3)
    group = np.repeat(["a", "b"], 100)
    base = outcomes(rng.random(200) < 0.8, group)
    tuned = outcomes(rng.random(200) < np.repeat([0.85, 0.3], 100), group)
    (table,) = tables_of(base, tuned, [Accuracy()], HOW)
    assert [g.value for g in table.groups if g.worse] == ["b"]
    assert "worse than the base where gender is b" in slice_sentences([table])[1]


def test_weights_count_in_subgroups_and_gaps():
    rng = np.random.default_rng(4)
    weights = rng.integers(0, 4, 120)
    group, right = np.repeat(["a", "b"], 60), rng.random((2, 120)) < 0.6
    rows = np.repeat(np.arange(120), weights)
    light = [outcomes(side, group, units=np.arange(120), weights=weights) for side in right]
    heavy = [outcomes(side[rows], group[rows], units=rows) for side in right]
    one, other = (tables_of(*sides, [Accuracy()], HOW)[0] for sides in (light, heavy))
    for ours, theirs in zip(
        one.groups, sorted(other.groups, key=lambda g: [x.value for x in one.groups].index(g.value)), strict=True
    ):
        assert (ours.tuned, ours.low, ours.units) == pytest.approx((theirs.tuned, theirs.low, theirs.units))
    assert one.gaps["tuned"].value == pytest.approx(other.gaps["tuned"].value)
    assert one.gaps["tuned"].low == pytest.approx(other.gaps["tuned"].low, rel=1e-6)


def test_without_slices_there_is_no_table():
    base, tuned = made(0, {"": 0.7}, 30)
    assert tables_of(base, tuned, [Accuracy()], HOW) == []


def heavy(by: float, each: int = 20, few: int = 3) -> np.ndarray:
    """Weights of two subgroups: a few heavy units in each, all others 1."""
    return np.where(np.arange(2 * each) % each < few, by, 1.0)


def test_heavy_units_make_no_gap_of_equal_subgroups():
    """By the raw count of units it would be called in 12 % of these; 7 of 20 are effective."""
    random, first = np.random.default_rng(0), np.repeat([True, False], 20)
    called = []
    for seed in range(300):
        nats = np.column_stack([random.normal(5, 1, 40), np.ones(40)])
        how = How(seed=seed, resamples=200)
        rows = _Rows(Nll(), {"base": nats, "tuned": nats}, [f"u{i}" for i in range(40)], heavy(10), how)
        called.append(rows.gap("tuned", {"a": first, "b": ~first}, 0.95).low > 0)
    assert rows.effective(first) == pytest.approx(47**2 / 317)
    assert np.mean(called) <= 0.05


def test_a_unit_that_holds_nearly_all_weight_gives_no_gap():
    right = np.repeat([True, False], 20)
    sides = [outcomes(right, np.repeat(["a", "b"], 20), weights=heavy(60, few=1)) for _ in range(2)]
    (table,) = tables_of(*sides, [Accuracy()], HOW)
    assert [group.tuned for group in table.groups] == [1.0, 0.0]
    assert table.gaps == {}
    assert "the largest gap is not measured" in slice_sentences([table])[0]


@pytest.mark.parametrize(("positives", "told"), [(1, False), (6, True)])
def test_a_gap_rests_on_no_handful_of_resamplings(positives, told):
    """Clinics with one positive each lose it in a third of the draws, and all keep it in hardly any."""
    rng = np.random.default_rng(0)
    rows = []
    for clinic in range(25):
        for patient in range(12):
            one = example(f"{clinic}-{patient}", "good" if patient < positives else "bad")
            one = replace(one, slices={"clinic": f"c{clinic:02}"})
            rows.append(Outcome(one, -1.0, 1, 4, choices=np.log(rng.dirichlet(np.ones(len(LABELS))))))
    (table,) = tables_of(rows, rows, [Auroc()], How(primary=("auroc",), resamples=400))
    assert sum(group.tuned is not None for group in table.groups) == 25
    assert set(table.gaps) == ({"base", "tuned"} if told else set())
    assert ("and a figure in nearly every resampling" in " ".join(slice_sentences([table]))) != told


def test_more_groupings_are_more_looks():
    """A gap among two groups that one grouping would just tell is not told beside seven others."""
    base, tuned = made(3, {"women": 0.8, "men": 0.55}, 60)
    (alone,) = tables_of(base, tuned, [Accuracy()], HOW)
    rng = np.random.default_rng(1)
    for name in "bcdefgh":
        for row, value in enumerate(rng.choice(["x", "y"], len(base))):
            for side in (base, tuned):
                one = side[row].example
                side[row] = replace(side[row], example=replace(one, slices={**one.slices, name: str(value)}))
    among = next(table for table in tables_of(base, tuned, [Accuracy()], HOW) if table.slice == "gender")
    one, many = alone.gaps["tuned"], among.gaps["tuned"]
    assert one.value == many.value
    assert many.low < one.low
    assert many.high > one.high


def test_a_subgroup_that_got_worse_is_held_against_those_of_all_groupings():
    """p is about 0.01 here: enough for two subgroups, not for sixteen."""
    group = np.repeat(["women", "men"], 60)
    was = np.ones(120)
    now = was.copy()
    now[:7] = 0
    sides = [outcomes(was, group), outcomes(now, group)]
    (alone,) = tables_of(*sides, [Accuracy()], HOW)
    assert [one.value for one in alone.groups if one.worse] == ["women"]
    for name in "bcdefghijk":
        for row in range(120):
            for side in sides:
                one = side[row].example
                side[row] = replace(side[row], example=replace(one, slices={**one.slices, name: "xy"[row % 2]}))
    among = next(table for table in tables_of(*sides, [Accuracy()], HOW) if table.slice == "gender")
    assert not [one.value for one in among.groups if one.worse]
