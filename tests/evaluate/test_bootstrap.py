import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tunewright.core.errors import NotMeasured, UserError
from tunewright.evaluate import bootstrap
from tunewright.evaluate.bootstrap import MIN_DIFFERING, MIN_UNITS, compare, estimate, wilson
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.ece import Ece
from tunewright.evaluate.metrics.macro_f1 import MacroF1
from tunewright.evaluate.metrics.nll import Nll
from tunewright.evaluate.metrics.perplexity import Perplexity

Z2 = stats.norm.ppf(0.975) ** 2


def column(*values):
    return np.array(values, float)[:, None]


def right(n: int, better: int = 0, worse: int = 0):
    """Base and tuned right-or-wrong of n rows, so many of which tuned gains or loses."""
    base, tuned = np.ones(n), np.ones(n)
    base[:better] = 0
    tuned[better : better + worse] = 0
    return base[:, None], tuned[:, None]


def rows(n: int):
    return [f"r{i:04}" for i in range(n)]


@pytest.mark.parametrize("n", [MIN_UNITS, 80])
def test_equal_units_give_the_paired_t_interval(n):
    rng = np.random.default_rng(0)
    base, gain = rng.gamma(2, size=n), rng.normal(0.1, 1, n)
    ones = np.ones(n)
    found = compare(Nll(), np.column_stack([base, ones]), np.column_stack([base + gain, ones]), rows(n), 0, 20000)
    low, high = stats.ttest_1samp(gain, 0).confidence_interval(0.95)
    assert found.difference == pytest.approx(gain.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01 * (high - low))
    assert found.high - found.low == pytest.approx(high - low, rel=0.015)
    assert found.p_value == pytest.approx(stats.ttest_1samp(gain, 0).pvalue, abs=0.02)


@pytest.mark.parametrize("n", [MIN_UNITS, 80])
def test_the_smallest_detectable_difference_has_80_percent_power(n):
    """Oracle: the noncentral t distribution."""
    gain = np.random.default_rng(1).normal(0, 1, n)
    records = np.column_stack([np.full(n, 9.0), np.ones(n)])
    found = compare(Nll(), records, records + np.column_stack([gain, np.zeros(n)]), rows(n), 0, 20000)
    unbiased = gain.std(ddof=1) / math.sqrt(n) / (1 - 1 / (4 * (n - 1)))
    power = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, found.smallest_detectable / unbiased)
    assert power == pytest.approx(0.8, abs=0.015)


def test_unequal_units_have_the_freedom_of_their_effective_number():
    sizes = [30, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    units = np.repeat([f"u{i:02}" for i in range(len(sizes))], sizes)
    grouped = bootstrap._group(Accuracy(), [np.ones((len(units), 1))], list(units), None)[1]
    assert grouped.effective == pytest.approx(44**2 / (900 + 14))
    assert grouped.freedom == pytest.approx(grouped.effective - 1)


def test_unequal_units_give_the_linearised_error_of_a_ratio():
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 9, 200)
    unit = np.repeat(np.arange(200), sizes)
    lean = rng.normal(0, 0.3, 200)[unit]
    base = (rng.random(len(unit)) < 0.5).astype(float)
    tuned = (rng.random(len(unit)) < 0.6 + lean).astype(float)
    gain = tuned - base
    left = np.bincount(unit, weights=gain - gain.mean())
    found = compare(Accuracy(), base[:, None], tuned[:, None], [str(u) for u in unit], 0, 5000)
    half = stats.norm.ppf(0.975) * math.sqrt((left**2).sum()) / len(unit)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    alone = compare(Accuracy(), base[:, None], tuned[:, None], rows(len(unit)), 0, 5000)
    assert alone.high - alone.low < 0.9 * (found.high - found.low), "rows of a unit were taken as independent"


@pytest.mark.parametrize("metric", [Accuracy(), MacroF1(), Ece(), Nll()], ids=lambda m: m.plugin_name())
def test_identical_answers_differ_by_exactly_nothing(metric):
    rng = np.random.default_rng(2)
    records = np.column_stack([rng.integers(0, 2, 40), rng.integers(1, 2, 40)]).astype(float)
    records = records[:, :1] if isinstance(metric, Accuracy) else records
    found = compare(metric, records, records.copy(), rows(40), 0, 300)
    assert (found.difference, found.decision) == (0.0, "cannot_tell")
    open_by = 0.0 if isinstance(metric, Nll) else Z2 / (40 + Z2)  # as Tango's interval where no case turned
    assert (found.low, found.high) == pytest.approx((-open_by, open_by))
    assert found.p_value == 1.0
    assert found.smallest_detectable > 0, "nothing was seen is not: anything would have been seen"


def test_the_same_change_in_every_row_is_certain():
    base, tuned = right(20, better=20)
    found = compare(Accuracy(), base, tuned, rows(20), 0, 300)
    assert (found.difference, found.high, found.decision) == (1.0, 1.0, "better")
    assert found.low == pytest.approx(1 - Z2 / (20 + Z2)), "no resample shows what no unit had"
    assert compare(Accuracy(), tuned, base, rows(20), 0, 300).decision == "worse"


def test_changes_that_cancel_within_every_unit_are_no_difference_whatever_rounding_does():
    rng = np.random.default_rng(4)
    values = rng.gamma(2, size=(20, 3))
    base, tuned = (np.column_stack([v.ravel(), np.full(60, 0.1)]) for v in (values, values[:, ::-1]))
    found = compare(Nll(), base, tuned, [str(i // 3) for i in range(60)], 0, 300)
    assert (found.difference, found.low, found.high, found.decision) == (0.0, 0.0, 0.0, "cannot_tell")


def test_a_metric_without_a_value_is_refused_not_written():
    class Undefined(Accuracy):
        def summarise(self, records, weights):
            return np.full(len(weights), math.nan)

    with pytest.raises(UserError, match="no value on these 20 rows"):
        compare(Undefined(), *right(20, better=5), rows(20), 0, 300)


@pytest.mark.parametrize("n", [1, 2, 3, MIN_UNITS - 1])
def test_too_few_units_cannot_tell_however_large_the_difference(n):
    base, tuned = right(n, better=n)
    found = compare(Accuracy(), base, tuned, rows(n), 0, 300)
    assert found.decision == "cannot_tell"
    assert found.low <= 0 <= found.high
    assert found.p_value == 1.0
    assert all(math.isfinite(value) for value in (found.low, found.high))
    assert found.smallest_detectable is None, "nothing is ever found here, so no difference is stated as findable"


def test_a_test_in_which_one_unit_holds_nearly_all_rows_states_no_detectable_difference():
    units = [f"u{i}" for i in range(20)] + ["big"] * 300
    base, tuned = right(len(units), better=len(units))
    found = compare(Accuracy(), base, tuned, units, 0, 300)
    assert (found.decision, found.smallest_detectable) == ("cannot_tell", None)
    assert compare(Accuracy(), base, tuned, rows(len(units)), 0, 300).smallest_detectable is not None


def test_many_rows_of_few_units_are_few():
    base, tuned = right(200, better=200)
    assert compare(Accuracy(), base, tuned, [str(i % 5) for i in range(200)], 0, 300).decision == "cannot_tell"
    assert compare(Accuracy(), base, tuned, [str(i % 20) for i in range(200)], 0, 300).decision == "better"


def test_one_unit_that_holds_nearly_all_rows_is_few():
    base, tuned = right(1000, better=1000)
    found = compare(Accuracy(), base, tuned, ["giant"] * 980 + rows(20), 0, 300)
    assert (found.n, found.decision) == (21, "cannot_tell")


@pytest.mark.parametrize("n", [40, 400])
def test_changes_that_chance_alone_explains_are_no_decision(n):
    """Oracle: the exact sign test (McNemar)."""
    assert stats.binomtest(MIN_DIFFERING - 1, MIN_DIFFERING - 1).pvalue > 0.05 > stats.binomtest(6, 6).pvalue
    for better in range(MIN_DIFFERING):
        base, tuned = right(n, better=better)
        assert compare(Accuracy(), base, tuned, rows(n), 0, 1000).decision == "cannot_tell"
    base, tuned = right(n, better=MIN_DIFFERING + 2)
    assert compare(Accuracy(), base, tuned, rows(n), 0, 1000).decision == "better"


def test_lower_is_better_turns_the_decision_not_the_numbers():
    rng = np.random.default_rng(3)
    base = np.column_stack([rng.gamma(9, size=60), np.ones(60)])
    tuned = base - [1.0, 0.0] + np.column_stack([rng.normal(0, 0.1, 60), np.zeros(60)])
    found = compare(Nll(), base, tuned, rows(60), 0, 500)
    assert found.decision == "better"
    assert found.high < 0
    assert compare(Nll(), tuned, base, rows(60), 0, 500).decision == "worse"


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_the_order_of_rows_and_names_of_units_mean_nothing(seed):
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, 20, 60)
    base, tuned = (rng.random((60, 1)).round() for _ in range(2))
    order = rng.permutation(60)
    one = compare(Accuracy(), base, tuned, [f"u{u:02}" for u in unit], 4, 300)
    other = compare(Accuracy(), base[order], tuned[order], [f"v{u:02}" for u in unit[order]], 4, 300)
    assert (one.low, one.high, one.decision) == pytest.approx((other.low, other.high, other.decision), abs=1e-12)


def test_swapping_the_models_mirrors_the_interval():
    rng = np.random.default_rng(5)
    base, tuned = (rng.random((60, 1)).round() for _ in range(2))
    one, other = (compare(Accuracy(), *pair, rows(60), 0, 400) for pair in ((base, tuned), (tuned, base)))
    assert (one.low, one.high, one.p_value) == pytest.approx((-other.high, -other.low, other.p_value))


def test_the_seed_alone_decides_the_draws_and_blocks_do_not(monkeypatch):
    rng = np.random.default_rng(6)
    base, tuned = (rng.random((50, 1)).round() for _ in range(2))
    one = compare(Accuracy(), base, tuned, rows(50), 7, 401)
    assert one == compare(Accuracy(), base, tuned, rows(50), 7, 401)
    assert one != compare(Accuracy(), base, tuned, rows(50), 8, 401)
    monkeypatch.setattr(bootstrap, "_CELLS", 50 * 30)
    assert one == compare(Accuracy(), base, tuned, rows(50), 7, 401)


def test_rows_of_a_unit_are_drawn_together_and_every_draw_has_all_units():
    units = bootstrap._group(Accuracy(), [np.ones((6, 1))], ["b", "a", "b", "c", "a", "b"], None)[1]
    weights = np.concatenate(list(bootstrap._weights(units, 0, 500)))
    assert weights.shape == (500, 6)
    assert (weights[:, [0, 0, 1]] == weights[:, [2, 5, 4]]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights.mean() == pytest.approx(1, abs=0.1)


def test_tokens_not_rows_make_a_unit_large():
    records = np.column_stack([np.ones(20), np.r_[np.ones(19), 1000.0]])
    assert bootstrap._group(Nll(), [records], rows(20), None)[1].effective < 1.1
    assert bootstrap._group(Accuracy(), [records[:, :1]], rows(20), None)[1].effective == pytest.approx(20)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_figures_that_are_not_finite_are_refused_by_row(bad, side):
    base, tuned = right(20, better=5)
    {"base": base, "tuned": tuned}[side][7] = bad
    with pytest.raises(UserError, match=rf"1 of 20 rows.*{side}.*r0007"):
        compare(Accuracy(), base, tuned, rows(20), 0, 300)


def test_no_rows_are_refused_with_a_sentence():
    with pytest.raises(UserError, match="no row to compare"):
        compare(Accuracy(), np.empty((0, 1)), np.empty((0, 1)), [], 0)


def test_one_models_interval_is_that_of_a_mean():
    values = np.random.default_rng(8).random((100, 1)).round()
    value, low, high = estimate(Accuracy(), values, rows(100), 0, 5000)
    half = stats.t.ppf(0.975, 99) * values.std(ddof=1) / 10
    assert (value, high - value, value - low) == pytest.approx((values.mean(), half, half), rel=0.05)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 10), (10, 10), (47, 100)])
def test_wilson_equals_scipy(k, n):
    wanted = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_interval_of_one_model_stays_within_what_the_metric_can_be():
    few_right = np.array([[1.0], *[[0.0]] * 99])
    value, low, high = estimate(Accuracy(), few_right, rows(100), 0)
    assert (value, low) == (0.01, 0.0)
    assert 0.01 < high < 0.1
    assert estimate(Accuracy(), 1 - few_right, rows(100), 0)[2] == 1.0


def test_the_interval_of_a_difference_stays_within_what_can_be():
    base, tuned = right(7, better=7)
    found = compare(Accuracy(), base, tuned, rows(7), 0)
    assert (found.low, found.difference, found.high) == (pytest.approx(0, abs=1), 1, 1)
    worse = compare(Accuracy(), tuned, base, rows(7), 0)
    assert (worse.low, worse.high) == (-found.high, -found.low)
    assert found.decision == worse.decision == "cannot_tell"


def test_a_figure_is_the_less_certain_the_fewer_units_speak_for_it_and_never_the_more_for_an_error():
    """All of 60 right, 59, 58 ...: the lower end falls, and one turned row makes no comparison surer than none."""
    lows = [estimate(Accuracy(), right(60, better=wrong)[0], rows(60), 0, 2000)[1] for wrong in range(8)]
    assert lows == sorted(lows, reverse=True)
    none, one = (compare(Accuracy(), *right(60, worse=worse), rows(60), 0, 2000) for worse in (0, 1))
    assert one.low <= none.low < 0
    assert none.low == pytest.approx(-Z2 / (60 + Z2))


def test_a_difference_below_what_equal_units_leave_open_is_no_certain_one():
    class Score(Accuracy):
        bounds = (0.0, 2.0)

    base, tuned = np.full((12, 1), 1.0), np.full((12, 1), 1.1)
    found = compare(Score(), base, tuned, rows(12), 0, 300)
    assert (found.decision, found.p_value) == ("cannot_tell", 1.0)
    assert found.low < 0 < found.high


def test_one_unit_has_a_figure_and_no_interval():
    nats = np.column_stack([np.arange(20.0), np.ones(20)])
    assert estimate(Nll(), nats, ["doctor"] * 20, 0, 50) == (9.5, None, None)
    value, low, high = estimate(Nll(), nats, ["doctor", "nurse"] * 10, 0, 50)
    assert low < value < high


def test_a_figure_too_large_to_be_written_is_said_to_be_that():
    nats = column(*[800.0] * 20)
    with pytest.raises(NotMeasured, match=r"too large a number.*perplexity_per_token"):
        estimate(Perplexity(), nats, rows(20), 0, 50)
