"""Metrics over a closed set of labels against brute force, scikit-learn and published figures."""

import math
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.evaluate.bootstrap import compare, effective_units
from tunewright.evaluate.compare import metric_name
from tunewright.evaluate.contracts import Outcome
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.auroc import Auroc
from tunewright.evaluate.metrics.brier import Brier
from tunewright.evaluate.metrics.coverage_area import CoverageArea
from tunewright.evaluate.metrics.ece import Ece
from tunewright.evaluate.metrics.ece_platt import EcePlatt, platt
from tunewright.evaluate.metrics.ece_width import EceWidth
from tunewright.evaluate.metrics.perplexity import Perplexity
from tunewright.evaluate.metrics.perplexity_per_token import PerplexityPerToken
from tunewright.evaluate.metrics.perplexity_renormalised import PerplexityRenormalised
from tunewright.evaluate.metrics.selective_accuracy import SelectiveAccuracy
from tunewright.evaluate.metrics.top_k import TopK

from .made import LABELS, example, records_of, summary


def drawn(n: int, seed: int = 0, digits: int = 1, units: int | None = None) -> list[Outcome]:
    """Outcomes whose scores know something of the truth, with ties."""
    rng = np.random.default_rng(seed)
    outcomes = []
    for row in range(n):
        true = int(rng.integers(3))
        scores = np.round(rng.normal(size=3) + 1.2 * np.eye(3)[true], digits)
        unit = None if units is None else f"u{row % units}"
        outcomes.append(Outcome(example(f"r{row}", LABELS[true], unit=unit), choices=scores))
    return outcomes


def softmax(choices):
    raised = np.exp(choices - choices.max())
    return raised / raised.sum()


def true_index(outcome: Outcome) -> int:
    return LABELS.index(outcome.example.answer.text)


@pytest.mark.parametrize("seed", range(3))
def test_auroc_equals_scikit_learn_with_ties_and_weights(seed):
    outcomes = drawn(80, seed)
    weights = np.random.default_rng(seed).integers(0, 4, 80).astype(float)
    true = np.array([true_index(o) for o in outcomes])
    said = np.array([softmax(o.choices) for o in outcomes])
    wanted = np.mean([roc_auc_score(true == k, said[:, k], sample_weight=weights) for k in range(3)])
    assert summary(Auroc(), records_of(Auroc(), outcomes), weights) == pytest.approx(wanted, abs=1e-12)


def test_auroc_of_guessing_is_a_half_and_of_one_label_alone_is_nothing():
    same = [replace(outcome, choices=np.array([0.1, 0.2, 0.3])) for outcome in drawn(30)]
    assert summary(Auroc(), records_of(Auroc(), same)) == pytest.approx(0.5)
    only = [Outcome(example(str(i), "good"), choices=np.array([0.0, 0.0, float(i)])) for i in range(5)]
    assert math.isnan(summary(Auroc(), records_of(Auroc(), only)))


def test_auroc_looks_at_more_rows_of_a_label_than_fit_at_once(monkeypatch):
    outcomes = drawn(60)
    wanted = summary(Auroc(), records_of(Auroc(), outcomes))
    monkeypatch.setattr("tunewright.evaluate.metrics.auroc._PAIRED", 7)
    assert summary(Auroc(), records_of(Auroc(), outcomes)) == pytest.approx(wanted, abs=1e-14)


def test_top_k_counts_the_first_k_places_and_equals_by_their_chance():
    row = Outcome(example("a", "good"), choices=np.array([3.0, 2.0, 2.0]))
    assert [TopK(k=k).record(row, LABELS) for k in (1, 2, 3)] == [(0.0,), (0.5,), (1.0,)]
    assert TopK(k=3).record(Outcome(example("a", "splendid"), choices=np.zeros(3)), LABELS) == (0.0,)
    outcomes = drawn(50)
    for k in (1, 2, 3):  # the mean over the orders in which the labels could stand
        wanted = np.mean([
            true_index(o) in sorted(order, key=lambda i: -o.choices[i])[:k]
            for o in outcomes
            for order in permutations(range(3))
        ])  # fmt: skip
        assert summary(TopK(k=k), records_of(TopK(k=k), outcomes)) == pytest.approx(wanted)


@pytest.mark.parametrize("label", LABELS)
def test_the_order_of_the_labels_decides_nothing_where_all_are_alike(label):
    row = Outcome(example("a", label), choices=np.zeros(3))
    assert Accuracy().record(row, LABELS) == pytest.approx((1 / 3,))
    assert TopK(k=2).record(row, LABELS) == pytest.approx((2 / 3,))


def test_brier_is_the_squared_distance_from_the_truth():
    outcomes = drawn(40)
    wanted = np.mean([((softmax(o.choices) - np.eye(3)[true_index(o)]) ** 2).sum() for o in outcomes])
    assert summary(Brier(), records_of(Brier(), outcomes)) == pytest.approx(wanted)
    sure = np.array([-500.0, -500.0, 0.0])
    assert Brier().record(Outcome(example("a", "bad"), choices=sure), LABELS) == pytest.approx((2.0,))
    assert Brier().record(Outcome(example("a", "splendid"), choices=sure), LABELS) == pytest.approx((2.0,))


def test_labels_that_are_equally_likely_have_the_perplexity_of_their_number():
    choices = np.log(np.full(3, 0.1))  # 70 % of the probability lies outside the set
    row = Outcome(example("a", "good"), -math.log(10), 2, 4, choices=choices)
    for metric, wanted in ((Perplexity(), 10.0), (PerplexityRenormalised(), 3.0), (PerplexityPerToken(), 10**0.5)):
        assert summary(metric, records_of(metric, [row])) == pytest.approx(wanted)
    baseline = Outcome(row.example, choices=choices)  # a baseline scores labels alone
    assert Perplexity().record(baseline, LABELS) == pytest.approx((math.log(10),))


def test_perplexity_is_the_exponential_of_a_mean_not_a_mean_of_exponentials():
    rows = [Outcome(example(str(i)), -nats, 1, 4) for i, nats in enumerate((0.0, 2.0))]
    assert summary(Perplexity(), records_of(Perplexity(), rows)) == pytest.approx(math.e)


def test_a_huge_perplexity_is_beaten_by_a_small_one():
    """On the scale of perplexity itself the spread of the huge one would hide any difference."""
    rng = np.random.default_rng(0)
    guess = rng.choice([0.0, 30.0], 200, p=[0.3, 0.7])[:, None]
    good = rng.gamma(2.0, 0.5, 200)[:, None]
    found = compare(Perplexity(), guess, good, [f"r{i}" for i in range(200)], seed=0, resamples=500)
    assert found.decision == "better"
    assert found.low <= found.difference <= found.high < 0
    assert found.difference == pytest.approx(found.tuned - found.base)


@pytest.mark.parametrize(("bins", "wanted"), [(10, 0.25), (1, 0.0)])
def test_published_vector_of_the_calibration_error(bins, wanted):
    records = [[(i + 0.5) / 20, i % 2] for i in range(20)]
    assert summary(Ece(bins=bins), records) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", [Ece(), EceWidth()], ids=["mass", "width"])
def test_a_constant_confidence_misses_by_its_distance(metric):
    assert summary(metric, [[0.9, float(i < 70)] for i in range(100)]) == pytest.approx(0.2)


def test_bins_of_equal_width_hold_their_upper_edge():
    rng = np.random.default_rng(4)
    records = np.column_stack([np.r_[rng.random(60), np.arange(1, 11) / 10, 0.1 + 0.2], rng.integers(0, 2, 71)])
    edges = np.arange(11) / 10
    wanted = 0.0
    for low, high in pairwise(edges):
        inside = (records[:, 0] > low + 1e-9) & (records[:, 0] <= high + 1e-9)
        wanted += abs((records[inside, 1] - records[inside, 0]).sum()) / 71
    assert summary(EceWidth(), records) == pytest.approx(wanted)


@pytest.mark.parametrize("coverage", [0.1, 0.35, 0.8, 1.0])
def test_selective_accuracy_equals_rows_cut_fine(coverage):
    rng = np.random.default_rng(1)
    records = np.column_stack([np.round(rng.random(20), 1), rng.integers(0, 2, 20)])
    means = {c: records[records[:, 0] == c, 1].mean() for c in records[:, 0]}
    fine = np.repeat([means[c] for c in sorted(records[:, 0], reverse=True)], 1000)
    wanted = fine[: round(coverage * len(fine))].mean()
    assert summary(SelectiveAccuracy(coverage=coverage), records) == pytest.approx(wanted)


def test_the_area_is_the_mean_of_selective_accuracy_over_all_coverages():
    rng = np.random.default_rng(2)
    records = np.column_stack([np.round(rng.random(30), 1), rng.integers(0, 2, 30)])
    shares = (np.arange(4000) + 0.5) / 4000
    wanted = np.mean([summary(SelectiveAccuracy(coverage=share), records) for share in shares])
    assert summary(CoverageArea(), records) == pytest.approx(wanted, abs=1e-3)
    assert summary(CoverageArea(), np.array([[0.5, 1.0], [0.5, 0.0]])) == pytest.approx(0.5)
    sorted_well, sorted_badly = [[0.9, 1.0], [0.1, 0.0]], [[0.9, 0.0], [0.1, 1.0]]
    assert summary(CoverageArea(), sorted_well) > 0.5 > summary(CoverageArea(), sorted_badly)


@pytest.mark.parametrize("seed", range(3))
def test_platt_scaling_equals_scikit_learn_without_penalty(seed):
    rng = np.random.default_rng(seed)
    odds = rng.normal(1, 2, 300)
    right = (rng.random(300) < 1 / (1 + np.exp(-0.4 * odds + 0.7))).astype(float)
    weights = rng.integers(0, 3, 300).astype(float)
    slope, shift = platt(odds, right, weights[None])
    fitted = LogisticRegression(C=1e6, tol=1e-10, max_iter=1000).fit(odds[:, None], right, sample_weight=weights)
    assert (slope[0], shift[0]) == pytest.approx((fitted.coef_[0, 0], fitted.intercept_[0]), rel=1e-3)


@pytest.mark.parametrize("right", [np.ones(8), np.zeros(8), np.r_[np.zeros(4), np.ones(4)]], ids=["all", "none", "cut"])
def test_platt_scaling_stays_finite_where_logistic_regression_has_no_optimum(right):
    slope, shift = platt(np.linspace(-3, 25, 8), right, np.ones((2, 8)))
    assert np.isfinite([*slope, *shift]).all()


def test_rescaling_mends_overconfidence_and_is_measured_on_the_other_half():
    rng = np.random.default_rng(0)
    outcomes = []
    for row in range(1200):
        sure = rng.uniform(0.5, 1.0)
        true = "good" if rng.random() < sure else "bad"
        odds = 4 * math.log(sure / (1 - sure))  # states far more than it keeps
        outcomes.append(Outcome(example(f"r{row}", true), choices=np.array([0.0, -50.0, odds])))
    before = summary(Ece(), records_of(Ece(), outcomes))
    records = records_of(EcePlatt(), outcomes)
    assert summary(EcePlatt(), records) < before / 2
    measured = records[:, 2] == 0
    assert 0.4 < measured.mean() < 0.6
    changed = records.copy()
    changed[~measured, 1] = 1 - changed[~measured, 1]  # a scaling fitted on lies is measured on truths
    assert summary(EcePlatt(), changed) > before


def test_the_halves_of_platt_scaling_go_by_unit():
    outcomes = drawn(60, units=9)
    half = {outcome.example.unit: set() for outcome in outcomes}
    for outcome in outcomes:
        half[outcome.example.unit].add(EcePlatt().record(outcome, LABELS)[2])
    assert all(len(sides) == 1 for sides in half.values())
    assert len(set.union(*half.values())) == 2


def test_the_half_that_platt_scaling_is_fitted_on_is_no_evidence():
    outcomes = drawn(40, units=20)
    records, metric = records_of(EcePlatt(), outcomes), EcePlatt()
    of_row = np.array([int(outcome.example.unit[1:]) for outcome in outcomes])
    measured = len(set(of_row[records[:, 2] == 0]))
    assert 0 < measured < 20
    assert effective_units(metric, records, of_row, np.ones(40)) == pytest.approx(measured)


@pytest.mark.parametrize("metric", [SelectiveAccuracy(coverage=1.0), CoverageArea()])
def test_who_says_the_same_of_every_label_is_right_by_chance_whatever_their_order(metric):
    even = [replace(outcome, choices=np.zeros(3)) for outcome in drawn(50)]
    assert summary(metric, records_of(metric, even)) == pytest.approx(1 / 3)


def test_a_metric_with_settings_is_named_with_them():
    assert build("metrics", "top_k(k=3)") == TopK(k=3)
    assert metric_name(TopK(k=3)) == "top_k(k=3)"
    assert metric_name(build("metrics", "top_k(k=5)")) == "top_k"
    assert build("metrics", "selective_accuracy(coverage=0.5)") == SelectiveAccuracy(coverage=0.5)
    for wrong in ("top_k(k=0)", "top_k(n=3)", "top_q(k=3)", "top_k(k=3"):
        with pytest.raises(UserError):
            build("metrics", wrong)
