"""Survey weights: a row of weight w counts as w rows of its unit, in every figure, interval, table and chart."""

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tunewright.core.errors import UserError
from tunewright.core.records import unit_of
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import open_dataset
from tunewright.evaluate.blocks import figure_bars, per_class_table, reliability
from tunewright.evaluate.bootstrap import compare, estimate, wilson
from tunewright.evaluate.compare import Answered, How, compare_outcomes
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.ece_platt import EcePlatt
from tunewright.evaluate.metrics.macro_f1 import MacroF1
from tunewright.evaluate.metrics.nll import Nll
from tunewright.evaluate.metrics.perplexity import Perplexity

from .made import LABELS, records_of
from .test_closed_set import drawn
from .test_metrics import IDS, METRICS


def scored(seed: int, n: int = 90):
    """Outcomes of both models with everything that metrics ask for; units of several rows."""
    rng = np.random.default_rng(seed)
    return [
        replace(
            outcome,
            answer_log_prob=-float(rng.gamma(2)),
            answer_tokens=int(rng.integers(1, 9)),
            answer_bytes=int(rng.integers(1, 30)),
            text=str(rng.choice(LABELS)),
            stopped=bool(rng.random() < 0.5),
            loss_sum=float(rng.gamma(2)),
            loss_count=float(rng.integers(1, 5)),
        )
        for outcome in drawn(n, seed, units=30)
    ]


def weighted(outcomes, weights):
    return [
        replace(o, example=replace(o.example, survey_weight=float(w))) for o, w in zip(outcomes, weights, strict=True)
    ]


def written_out(outcomes, weights):
    return [o for o, w in zip(outcomes, weights, strict=True) for _ in range(int(w))]


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_a_weight_is_the_row_written_so_often_within_its_unit(metric):
    base, tuned = (records_of(metric, scored(7, 90)), records_of(metric, scored(8, 90)))
    units = [f"u{row % 30}" for row in range(90)]
    weights = np.random.default_rng(1).integers(0, 4, 90)
    found = compare(metric, base, tuned, units, 3, 300, weights)
    rows = np.repeat(np.arange(90), weights)
    wanted = compare(metric, base[rows], tuned[rows], [units[row] for row in rows], 3, 300)
    assert (found.n, found.decision) == (wanted.n, wanted.decision)
    near = {"rel": 2e-3, "abs": 1e-3} if metric == EcePlatt() else {"rel": 1e-6, "abs": 1e-7}  # fitted: not exact
    for name in ("base", "tuned", "difference", "low", "high", "smallest_detectable", "p_value"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), **near), name
    alone = estimate(metric, base, units, 3, 300, weights)
    assert alone == pytest.approx(estimate(metric, base[rows], [units[row] for row in rows], 3, 300), **near)


@pytest.mark.parametrize(
    "metric", [Accuracy(), MacroF1(), Nll(), Perplexity()], ids=lambda metric: metric.plugin_name()
)
def test_the_interval_is_that_of_a_weighted_bootstrap_done_by_hand(metric):
    base, tuned = records_of(metric, scored(1, 150)), records_of(metric, scored(2, 150))
    units = np.arange(150) % 30
    weights = np.random.default_rng(0).lognormal(0, 0.8, 150)
    found = compare(metric, base, tuned, [f"u{u:02}" for u in units], 0, 4000, weights)
    rng = np.random.default_rng(99)
    draws = []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(units == u) for u in rng.integers(30, size=30)])
        pair = [metric.summarise(r[rows], weights[rows][None])[0] for r in (base, tuned)]
        draws.append(np.log(pair[1] / pair[0]) if metric == Perplexity() else pair[1] - pair[0])
    totals = np.bincount(units, weights=weights * (base[:, 1] if metric == Nll() else 1.0))
    effective = totals.sum() ** 2 / (totals**2).sum()
    half = stats.t.ppf(0.975, effective - 1) * np.std(draws) * np.sqrt(effective / (effective - 1))
    low, high = found.low, found.high
    if metric == Perplexity():
        low, high = np.log1p(low / found.base), np.log1p(high / found.base)
    assert (high - low) / 2 == pytest.approx(half, rel=0.06)


def test_a_heavy_row_leaves_few_effective_rows_and_a_wider_interval():
    base, tuned = records_of(Accuracy(), scored(1)), records_of(Accuracy(), scored(2))
    units = [f"u{row}" for row in range(90)]
    equal = compare(Accuracy(), base, tuned, units, 0, 500)
    heavy = compare(Accuracy(), base, tuned, units, 0, 500, np.r_[np.full(5, 60.0), np.ones(85)])
    assert heavy.high - heavy.low > 1.5 * (equal.high - equal.low)
    with pytest.raises(UserError, match="no row to compare"):
        compare(Accuracy(), base, tuned, units, 0, 500, np.zeros(90))


def test_comparison_baselines_tables_and_charts_all_count_by_weight():
    base, tuned, guess = scored(1), scored(2), scored(3)
    weights = np.random.default_rng(2).integers(0, 4, 90)
    how = How(["accuracy"], resamples=300)
    light = [weighted(side, weights) for side in (base, tuned, guess)]
    heavy = [written_out(side, weights) for side in (base, tuned, guess)]

    def told(sides):
        (one,) = compare_outcomes(Answered(*sides[:2], {"prior": sides[2]}, [Accuracy()], LABELS), how).comparisons
        bars = figure_bars({"base": sides[0], "prior": sides[2]}, Accuracy(), LABELS, how)[0].bars
        return one, [(bar.value, bar.low, bar.high) for bar in bars]

    (one, bars), (other, bars_out) = told(light), told(heavy)
    assert one.baselines == pytest.approx(other.baselines)
    assert one.margins["prior"] == pytest.approx(other.margins["prior"])
    assert (one.difference, one.low, one.high) == pytest.approx((other.difference, other.low, other.high))
    assert np.array(bars) == pytest.approx(np.array(bars_out))
    shares = [[cell.split()[0] for cell in row[2:]] for row in per_class_table(light[0], light[1], LABELS).rows]
    assert shares == [[cell.split()[0] for cell in row[2:]] for row in per_class_table(*heavy[:2], LABELS).rows]


def test_the_interval_of_a_class_is_that_of_its_effective_units():
    outcomes = [o for o in scored(1) if o.example.answer.text == "good"]
    weights = np.r_[10.0, np.ones(len(outcomes) - 1)]
    cell = per_class_table(weighted(outcomes, weights), outcomes, LABELS).rows[2][2]
    right = records_of(Accuracy(), outcomes)[:, 0]
    share = weights @ right / weights.sum()
    of_unit: dict[str, float] = defaultdict(float)
    for outcome, weight in zip(outcomes, weights, strict=True):
        of_unit[unit_of(outcome.example)] += weight
    assert len(of_unit) < len(outcomes)
    effective = weights.sum() ** 2 / sum(total**2 for total in of_unit.values())
    assert cell == "{:.2f} ({:.2f} to {:.2f})".format(share, *wilson(share * effective, effective))


def test_bins_of_the_diagram_hold_equal_mass_and_an_interval():
    outcomes = scored(1, 300)
    plain = reliability({"base": outcomes, "tuned": outcomes}, LABELS).series["base"]
    assert [one.count for one in plain] == [30] * 10
    assert all(one.low < one.accuracy < one.high or one.accuracy in (0, 1) for one in plain)
    weights = np.random.default_rng(3).uniform(0.5, 3, 300)
    bins = reliability({"base": weighted(outcomes, weights)}, LABELS).series["base"]
    by_id = dict(zip([o.example.id for o in outcomes], weights, strict=True))
    stated = sorted(outcomes, key=lambda o: np.exp(o.choices - o.choices.max()).sum(), reverse=True)
    start = 0
    for one in bins:
        mass = sum(by_id[o.example.id] for o in stated[start : start + one.count])
        assert mass == pytest.approx(weights.sum() / 10, abs=3)
        start += one.count
    assert start == 300


def test_the_half_of_platt_scaling_knows_no_weight():
    one, *_ = scored(1)
    assert EcePlatt().record(one, LABELS) == EcePlatt().record(weighted([one], [7])[0], LABELS)


def rows_file(path, weights):
    rows = [
        {"text": f"row {i} {'good' if i % 2 else 'bad'}", "label": "ab"[i % 2], "unit": f"u{i}", "pop": w}
        for i, w in enumerate(weights)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSettings(path=str(path), survey_weight="pop")


def test_the_column_is_read_and_moves_neither_splits_nor_order_nor_training(tmp_path):
    heavy = open_dataset(rows_file(tmp_path / "rows.jsonl", [1 + i % 5 for i in range(60)]))
    plain = open_dataset(DataSettings(path=str(tmp_path / "rows.jsonl")))
    for ours, theirs in zip((heavy.train, heavy.test), (plain.train, plain.test), strict=True):
        assert [e.source for e in ours] == [e.source for e in theirs]
        assert all(e.answer.weight == 1.0 for e in ours)
    assert {e.survey_weight for e in heavy.test} > {1.0}
    assert {e.survey_weight for e in plain.test} == {1.0}
    assert heavy.fingerprint == plain.fingerprint


@pytest.mark.parametrize("wrong", [-1, "heavy", None, True])
def test_a_weight_that_is_no_weight_is_told_with_its_row(tmp_path, wrong):
    with pytest.raises(UserError, match=r"rows\.jsonl, line 3.*pop") as caught:
        open_dataset(rows_file(tmp_path / "rows.jsonl", [1, 1, wrong, *[1] * 40]))
    assert "train" not in str(caught.value).split("To mend")[-1]
    with pytest.raises(UserError, match=r"data\.survey_weight names the column 'people'"):
        open_dataset(DataSettings(path=str(tmp_path / "rows.jsonl"), survey_weight="people"))
