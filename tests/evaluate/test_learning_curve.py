"""The forecast of what twice the data buys: its interval covers the truth, and noise is not told as a trend."""

import math

import numpy as np
import pytest
from scipy import stats

from tunewright.evaluate import learning_curve
from tunewright.evaluate.learning_curve import Luck, curve_blocks, curve_sentence, forecast, next_gain
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.perplexity import Perplexity


def drawn(random, gain: float, ratio: float, noise: float):
    """Two measured gains along a power law, and their covariance; each of three models errs by `noise`."""
    errors = noise**2 * np.array([[2.0, -1.0], [-1.0, 2.0]])
    return (*random.multivariate_normal([gain, ratio * gain], errors), errors)


def test_the_interval_covers_what_the_power_law_truly_brings():
    random = np.random.default_rng(0)
    told, covered, width = 0, 0, []
    for _ in range(500):
        gain, ratio, noise = random.uniform(0.02, 0.15), random.uniform(0.5, 1.0), random.uniform(0.002, 0.03)
        middle, low, high, sure, why = next_gain(*drawn(random, gain, ratio, noise))
        assert low <= middle <= high
        assert sure == (why == "")
        if sure:
            told += 1
            covered += low <= ratio**2 * gain <= high
            width.append(high - low)
    assert told > 250
    assert covered / told >= 0.93
    assert np.median(width) < 0.1  # and it says something


def test_noise_alone_is_not_told_as_a_trend():
    random = np.random.default_rng(1)
    told = [next_gain(*drawn(random, 0.0, 0.0, 0.02))[3] for _ in range(400)]
    assert np.mean(told) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def over_seeds(random, truth, luck: float, noise: float, seeds: int):
    """What is forecast of three models, the luck of training measured over seeds: `next_gain`."""
    test = noise**2 * np.array([[2.0, -1.0], [-1.0, 2.0]])
    figures = truth + random.normal(0, luck, 3) + random.normal(0, noise, 3)
    measured = float(np.std(random.normal(0, luck, seeds), ddof=1))
    return next_gain(figures[1] - figures[0], figures[2] - figures[1], test, Luck(measured, seeds))


@pytest.fixture
def coarse(monkeypatch):
    """Fewer steps, for simulations; the interval is as wide."""
    for name, steps in {"_GAINS": 101, "_FAR_GAINS": 25, "_RATIOS": 25, "_DEVIATIONS": 21}.items():
        monkeypatch.setattr(learning_curve, name, steps)


@pytest.mark.parametrize("noise", [0.0005, 0.015])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_luck_of_few_seeds_is_not_told_as_a_trend(monkeypatch, seeds, noise):
    """As if the measured deviation were the true one, it was in 15 %, 9.5 % and 6.4 %."""
    monkeypatch.setattr(learning_curve, "_weighed", lambda *_: (np.zeros(1), np.ones(1)))  # the interval is not asked
    random = np.random.default_rng(seeds)
    told = [over_seeds(random, np.zeros(3), 0.03, noise, seeds)[3] for _ in range(1500)]
    assert np.mean(told) <= 0.035


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_covers_with_the_luck_of_few_seeds(coarse, seeds):
    """As if the measured deviation were the true one, it did in 77 %, 85 % and 94 %."""
    random = np.random.default_rng(10 + seeds)
    found = [over_seeds(random, np.array([0, 0.1, 0.17]), 0.03, 0.0005, seeds) for _ in range(300)]
    assert np.mean([low <= 0.049 <= high for _, low, high, *_ in found]) >= 0.93


def test_more_seeds_are_surer():
    test = np.eye(2) * 1e-6
    found = [next_gain(0.1, 0.07, test, Luck(0.01, seeds)) for seeds in (2, 3, 5, 20)]
    found.append(next_gain(0.1, 0.07, test + 0.01**2 * np.array([[2.0, -1.0], [-1.0, 2.0]])))
    widths = [high - low for _, low, high, *_ in found]
    assert widths == sorted(widths, reverse=True)
    assert widths[-2] == pytest.approx(widths[-1], rel=0.2)
    assert [told for *_, told, _ in found] == [False, True, True, True, True]


def test_seeds_that_agree_wholly_add_no_luck():
    for test in (np.eye(2) * 1e-4, np.full((2, 2), 1e-4)):
        found, known = (next_gain(0.1, 0.07, test, luck) for luck in (Luck(0.0, 2), None))
        assert found[:3] == pytest.approx(known[:3], rel=0.02)
        assert found[3:] == known[3:] == (True, "")


def test_exact_gains_give_the_next_one():
    for ratio in (0.5, 0.8, 1.0):
        middle, low, high, told, _ = next_gain(0.1, 0.1 * ratio, np.eye(2) * 1e-10)
        assert told
        assert (middle, low, high) == pytest.approx((0.1 * ratio**2,) * 3, abs=2e-3)


def test_more_rows_that_made_it_worse_are_no_forecast():
    *_, told, why = next_gain(-0.05, -0.04, np.eye(2) * 1e-4)
    assert not told
    assert "worse" in why


def three_models(random, n: int, rates):
    """Hits of three models on the same rows; a row that a smaller model gets right a larger one mostly does too."""
    luck = random.random(n)
    return [(luck < rate).astype(float)[:, None] for rate in rates]


def test_a_forecast_from_records_states_rows_figures_and_words():
    random = np.random.default_rng(2)
    records = three_models(random, 800, (0.5, 0.65, 0.75))
    test = {"units": [f"u{i}" for i in range(800)], "row_weights": np.ones(800), "seed": 0, "resamples": 400}
    found = forecast(Accuracy(), "accuracy", (100, 200, 400), records, **test)
    assert found.told
    assert found.figures == pytest.approx(tuple(float(one.mean()) for one in records))
    assert found.low <= found.gain <= found.high
    assert 0.02 < found.gain < 0.12
    assert "Twice the data buys about" in curve_sentence(found)
    assert curve_blocks([found])[0].lines[0].x == [100.0, 200.0, 400.0]
    surer = forecast(Accuracy(), "accuracy", (100, 200, 400), records, Luck(0.001, 3), **test)
    assert surer.luck == "seeds"
    assert surer.high - surer.low < found.high - found.low
    same = forecast(Accuracy(), "accuracy", (100, 200, 400), [records[0]] * 3, **test)
    assert same.gain == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("units", [1, 11])
def test_a_test_of_few_units_tells_nothing_of_more_rows(units):
    random = np.random.default_rng(2)
    records = three_models(random, 800, (0.5, 0.65, 0.75))
    of_rows = [f"u{i % units}" for i in range(800)]
    test = {"units": of_rows, "row_weights": np.ones(800), "seed": 0, "resamples": 400}
    found = forecast(Accuracy(), "accuracy", (100, 200, 400), records, **test)
    assert not found.told
    assert f"the test has {units} units" in curve_sentence(found)


def test_what_is_told_in_ratios_is_forecast_in_ratios():
    random = np.random.default_rng(3)
    shared = random.gamma(2.0, 0.5, 600)
    records = [(shared + more)[:, None] for more in (0.8, 0.4, 0.2)]
    test = {"units": [f"u{i}" for i in range(600)], "row_weights": np.ones(600), "seed": 0, "resamples": 300}
    found = forecast(Perplexity(), "perplexity", (100, 200, 400), records, **test)
    assert found.told
    assert found.gain == pytest.approx(found.figures[2] * (1 - math.exp(-0.1)), rel=0.05)
    by_seeds = forecast(Perplexity(), "perplexity", (100, 200, 400), records, Luck(0.02 * found.figures[2], 3), **test)
    assert by_seeds.luck == "seeds"
    assert by_seeds.high > found.high


def test_a_handful_of_answers_that_turned_is_no_trend():
    """Four of 400 rows turned right with more rows: as few as no other interval decides by."""
    right = np.ones(400)
    right[:40] = 0
    less, half = right.copy(), right.copy()
    less[40:44] = 0
    half[40:42] = 0
    test = {"units": [f"u{i}" for i in range(400)], "row_weights": np.ones(400), "seed": 0, "resamples": 400}
    records = [one[:, None] for one in (less, half, right)]
    found = forecast(Accuracy(), "accuracy", (1, 2, 4), records, Luck(1e-6, 9), **test)
    assert not found.told
    assert "4 units" in curve_sentence(found)


def test_few_units_make_the_forecast_as_wide_as_t_makes_every_interval():
    random = np.random.default_rng(2)
    records = three_models(random, 24, (0.2, 0.5, 0.9))
    test = {"units": [f"u{i}" for i in range(24)], "row_weights": np.ones(24), "seed": 0, "resamples": 6000}
    _, _, errors, _ = learning_curve._measure(Accuracy(), records, **test)
    truly = np.cov(np.diff(np.hstack(records).T, axis=0)) / 24
    wider = (stats.t.ppf(0.975, 23) / stats.norm.ppf(0.975)) ** 2
    assert np.diag(errors) == pytest.approx(np.diag(truly) * wider, rel=0.06)


def test_a_figure_that_resamplings_lack_is_not_forecast():
    """One positive row: AUROC has no value in a third of the draws."""
    true = np.zeros(60)
    true[0] = 1
    records = [np.column_stack([true, true, np.linspace(0, 1, 60)])] * 3
    few = learning_curve._few(records, np.arange(60), np.ones(60), 0.63)
    assert "lack what the figure needs" in few
