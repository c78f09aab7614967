"""Who was in a step's batch, from the noisy sum: against the ratio worked out the long way, and planted faults."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.evaluate import in_batch
from tunewright.evaluate.in_batch import scores, step_ratios
from tunewright.evaluate.one_run_audit import audit
from tunewright.train.accountant import sigma_for

RATE, STEPS, EPSILON, DELTA = 0.1, 25, 1.0, 1e-5
PROMISED = sigma_for(EPSILON, DELTA, RATE, STEPS)


def _step(draw: np.random.Generator, units: int, sizes: tuple[int, ...], noise: float, scale: float = 1.0):
    """Random gradients of norm 1 over all weights, who came, and the noisy sum; `scale` is a fault of weight 0."""
    whole_UD = draw.normal(size=(units, sum(sizes)))
    whole_UD /= np.linalg.norm(whole_UD, axis=1, keepdims=True)
    parts = np.split(whole_UD.astype(np.float32), np.cumsum(sizes)[:-1], axis=1)
    came_U = draw.random(units) < RATE
    gradients = {str(number): part for number, part in enumerate(parts)}
    released = {
        name: ((scale if name == "0" else 1.0) * came_U @ part + draw.normal(0, noise, part.shape[1])).astype(
            np.float32
        )
        for name, part in gradients.items()
    }
    return gradients, released, came_U


def test_the_closed_form_is_the_ratio_worked_out_unit_by_unit() -> None:
    draw, noise = np.random.default_rng(0), 0.3
    gradients, released, _ = _step(draw, 8, (6,), noise)
    found, _ = step_ratios(gradients, released, noise, RATE)
    gradient_UD, y_D = gradients["0"].astype(float), released["0"].astype(float)
    for unit in range(8):
        others = np.delete(gradient_UD, unit, axis=0)
        inverse = np.linalg.inv(noise**2 * np.eye(6) + RATE * others.T @ others)
        own = gradient_UD[unit]
        wanted = own @ inverse @ y_D - own @ inverse @ own / 2
        assert found[unit] == pytest.approx(wanted, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("noise", [0.05, 0.5, 2.0])
def test_the_noise_is_found_whatever_the_units_gave(noise: float) -> None:
    gradients, released, _ = _step(np.random.default_rng(1), 50, (2000, 100), noise)
    assert step_ratios(gradients, released, 1.0, RATE)[1] == pytest.approx(noise, rel=0.06)
    few, sums, _ = _step(np.random.default_rng(1), 50, (40, 20), noise)
    assert step_ratios(few, sums, 1.0, RATE)[1] is None  # too few coordinates to tell


def test_a_weight_to_which_nobody_gives_anything_is_noise_and_tells_nothing(monkeypatch) -> None:
    """The first step of LoRA: its second matrices are 0, so no gradient reaches the first."""
    gradients, released, _ = _step(np.random.default_rng(2), 20, (400, 50), 0.5)
    gradients["0"] = np.zeros_like(gradients["0"])
    released["0"] = np.random.default_rng(3).normal(0, 0.5, 400).astype(np.float32)
    ratios, noise = step_ratios(gradients, released, 0.5, RATE)
    assert noise == pytest.approx(0.5, rel=0.1)
    monkeypatch.setattr(in_batch, "_noise", lambda *_: noise)  # the one that was found, in both
    alone, _ = step_ratios({"1": gradients["1"]}, {"1": released["1"]}, noise, RATE)
    assert ratios == pytest.approx(alone)


def test_ratios_add_up_over_steps_and_a_unit_that_never_came_falls_behind() -> None:
    ratio_TU = np.array([[5.0, -1.0], [-1.0, -1.0]])
    found = scores(ratio_TU, RATE)
    assert found[0] > 0 > found[1]
    by_hand = [np.log(np.prod([1 - RATE + RATE * np.exp(one) for one in ratio_TU[:, unit]])) for unit in (0, 1)]
    assert found == pytest.approx(by_hand)
    assert np.isfinite(scores(np.array([[800.0, -800.0]]), 1.0)).all()


def _bound(seed: int, noise: float, scale: float = 1.0) -> float:
    """The bound for 200 canaries over all steps, 60 other units beside them that all belong to the rows."""
    draw = np.random.default_rng(seed)
    coins, ratios = draw.random(200) < 0.5, []
    for _ in range(STEPS):
        gradients, released, came_U = _step(draw, 260, (700, 200), noise, scale)
        out = np.flatnonzero(~np.append(coins, np.ones(60, bool)) & came_U)  # were not among the rows at all
        for name, part in gradients.items():
            released[name] -= (scale if name == "0" else 1.0) * part[out].sum(0)
        ratios.append(step_ratios(gradients, released, PROMISED, RATE)[0][:200])
    return audit(scores(np.array(ratios), RATE), coins, DELTA).epsilon


def test_too_little_noise_and_a_layer_left_unclipped_are_seen_and_a_sound_run_is_not() -> None:
    assert _bound(2, PROMISED) < EPSILON
    assert _bound(3, PROMISED / 10) > EPSILON
    assert _bound(4, PROMISED, scale=100.0) > EPSILON
