"""The noise of a run from its rows, and the nearest promise where rows cannot keep one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.core.records import Example
from tunewright.core.settings import PrivacySettings, TrainSettings
from tunewright.pipeline.guarantee import delta_of, private_job
from tunewright.train import accountant
from tunewright.train.loop import Job


def job(units, batch=32, steps=50):
    rows = [SimpleNamespace(example=Example((), (), id=f"r{n}", unit=unit)) for n, unit in enumerate(units)]
    settings = TrainSettings(per_device_train_batch_size=batch, max_steps=steps)
    model = SimpleNamespace()
    return Job(model, None, None, build("gradients", "plain"), rows, (), settings, 0)


@pytest.fixture(autouse=True)
def plain_model(monkeypatch):
    monkeypatch.setattr("tunewright.pipeline.guarantee.replace", lambda one, **new: (
        replace(one, **new) if isinstance(one, Job) else one
    ))  # fmt: skip


def test_noise_is_solved_for_the_target_over_units():
    made = private_job(job([f"p{n // 2}" for n in range(400)]), PrivacySettings(target_epsilon=3, unit="patient"))
    assert made.sampler.units == 200
    assert made.sampler.q == pytest.approx(32 / 400)
    assert made.gradients.expected == pytest.approx(16)
    spent = accountant.spent(made.sampler.q, made.gradients.sigma, 50, 200**-1.1)
    assert 2.97 <= spent.prv <= 3


@pytest.mark.parametrize(
    ("units", "privacy", "sentence"),
    [
        ([f"p{n // 2}" for n in range(200)], {}, "200 rows belong to 100 units.*Set privacy.unit"),
        ([None] * 200, {"unit": "patient"}, "200 training rows have nothing in column 'patient'"),
        ([None] * 12, {}, "12 training units.*Give 20 or more"),
        ([None] * 200, {"delta": 0.01}, "too large for 200 units.*Use auto"),
        ([None] * 60, {"target_epsilon": 0.02}, "The strictest here is about"),
    ],
)
def test_rows_that_cannot_keep_the_promise_are_told_the_nearest(units, privacy, sentence):
    with pytest.raises(UserError, match=sentence):
        private_job(job(units, batch=8), PrivacySettings(**{"target_epsilon": 3, **privacy}))


def test_the_nearest_promise_is_kept_when_it_is_asked_for():
    with pytest.raises(UserError) as told:
        private_job(job([None] * 60, batch=8), PrivacySettings(target_epsilon=0.02))
    nearest = float(str(told.value).split("about ")[1].split(";")[0])
    made = private_job(job([None] * 60, batch=8), PrivacySettings(target_epsilon=nearest * 1.01))
    assert made.gradients.sigma <= 8.1


def test_delta_is_far_below_one_over_the_units():
    assert delta_of(PrivacySettings(target_epsilon=1), 1000) == pytest.approx(1000**-1.1)
    assert delta_of(PrivacySettings(target_epsilon=1, delta=1e-6), 1000) == 1e-6
