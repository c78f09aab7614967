"""The forecast of what twice the data buys: its interval covers the truth, and noise is not told as a trend."""

import math

import numpy as np
import pytest

from tunewright.evaluate.learning_curve import curve_blocks, curve_sentence, forecast, next_gain
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
    surer = forecast(Accuracy(), "accuracy", (100, 200, 400), records, 0.001, **test)
    assert surer.luck == "seeds"
    assert surer.high - surer.low < found.high - found.low
    same = forecast(Accuracy(), "accuracy", (100, 200, 400), [records[0]] * 3, **test)
    assert same.gain == pytest.approx(0, abs=1e-6)


def test_what_is_told_in_ratios_is_forecast_in_ratios():
    random = np.random.default_rng(3)
    shared = random.gamma(2.0, 0.5, 600)
    records = [(shared + more)[:, None] for more in (0.8, 0.4, 0.2)]
    test = {"units": [f"u{i}" for i in range(600)], "row_weights": np.ones(600), "seed": 0, "resamples": 300}
    found = forecast(Perplexity(), "perplexity", (100, 200, 400), records, **test)
    assert found.told
    assert found.gain == pytest.approx(found.figures[2] * (1 - math.exp(-0.1)), rel=0.05)
