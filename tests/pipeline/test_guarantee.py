"""The noise of a run from its rows, and the nearest promise where rows cannot keep one."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from train.test_loop import make_job, weights
from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.core.records import Example, Turn, text_part
from tunewright.core.settings import PlanSettings, PrivacySettings, TrainSettings
from tunewright.gradients._rules import mixing
from tunewright.models import fused
from tunewright.models.contracts import LoadedModel, Origin
from tunewright.models.per_unit import Owner, Units, outer
from tunewright.pipeline.forecast import dry_step
from tunewright.pipeline.guarantee import _made_by, _of_two_units, delta_of, privacy_lines, private_job, prove
from tunewright.pipeline.mitigate import faults
from tunewright.train import accountant
from tunewright.train.job import Job


def job(units, batch=32, steps=50):
    rows = [SimpleNamespace(example=Example((), (), id=f"r{n}", unit=unit), length=9) for n, unit in enumerate(units)]
    settings = TrainSettings(per_device_train_batch_size=batch, max_steps=steps)
    model = LoadedModel(nn.Module(), None, None, Origin("none", None, ""))
    return Job(model, None, None, build("gradients", "plain"), rows, (), settings, 0)


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
        (
            [f"P{n}" for n in range(100)] + ["p 7", "P007", "P07 7"],
            {"unit": "patient"},
            "5 names in column 'patient' differ from another one in case, spaces or leading zeros alone",
        ),
        (
            [f"P{n}" for n in range(100)] + [f"pool/P{n}" for n in range(98, 120)],
            {"unit": "patient"},
            "4 names in column 'patient' differ .* or stand in data.pool as well",
        ),
        ([None] * 12, {}, "12 training units.*Give 20 or more"),
        ([None] * 200, {"delta": 1e-15}, "below 1e-12 no epsilon.*Use auto"),
        ([None] * 200, {"delta": 0.01}, "too large for 200 units.*Use auto"),
        ([None] * 60, {"target_epsilon": 0.02}, "The strictest here is"),
        ([None] * 60, {"target_epsilon": 0.0005}, "The strictest here is"),
    ],
)
def test_rows_that_cannot_keep_the_promise_are_told_the_nearest(units, privacy, sentence):
    with pytest.raises(UserError, match=sentence):
        private_job(job(units, batch=8), PrivacySettings(**{"target_epsilon": 3, **privacy}))


def test_somebody_spelt_otherwise_among_the_held_out_rows_is_told_too():
    own, privacy = job([f"P{n}" for n in range(100)]), PrivacySettings(target_epsilon=3, unit="patient")
    private_job(own, privacy, [Example((), (), id=name, unit=name) for name in ("P7", "Q7", "q7")])
    with pytest.raises(UserError, match="2 names in column 'patient' differ from another one in case"):
        private_job(own, privacy, [Example((), (), id="t", unit="p7")])


def test_the_nearest_promise_is_kept_when_it_is_asked_for():
    with pytest.raises(UserError) as told:
        private_job(job([None] * 60, batch=8), PrivacySettings(target_epsilon=0.02))
    nearest = float(str(told.value).split("strictest here is ")[1].split(";")[0])
    made = private_job(job([None] * 60, batch=8), PrivacySettings(target_epsilon=nearest))
    assert made.gradients.sigma <= 8.1


def test_the_nearest_promise_is_kept_where_every_unit_comes_into_each_of_many_steps():
    many = job([None] * 20, batch=20)
    many = replace(many, settings=many.settings.model_copy(update={"max_steps": 400}))
    assert many.steps == 400
    with pytest.raises(UserError, match=r"privacy\.target_epsilon: 1 over 400 steps") as told:
        private_job(many, PrivacySettings(target_epsilon=1, delta=1e-5))
    assert str(told.value).count("strictest") == 1
    nearest = float(str(told.value).split("strictest here is ")[1].split(";")[0])
    assert nearest > 4
    private_job(many, PrivacySettings(target_epsilon=nearest, delta=1e-5))
    with pytest.raises(UserError, match=f"strictest here is {nearest:g};"):
        private_job(many, PrivacySettings(target_epsilon=nearest - 0.1, delta=1e-5))


def test_delta_is_far_below_one_over_the_units():
    assert delta_of(PrivacySettings(target_epsilon=1), 1000) == pytest.approx(1000**-1.1)
    assert delta_of(PrivacySettings(target_epsilon=1, delta=1e-6), 1000) == 1e-6


def test_rows_that_a_mitigation_adds_are_nobodys(monkeypatch):
    monkeypatch.setattr(accountant, "sigma_for", lambda *_: 1.0)
    own = job([f"p{n // 2}" for n in range(400)] + [None] * 12)
    made = private_job(replace(own, woven_by=("safety_mix",) * 12), PrivacySettings(target_epsilon=3, unit="patient"))
    assert made.sampler.units == 212


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
@pytest.mark.parametrize("nested", [False, True])
def test_positions_that_a_long_row_turns_for_all_are_refused(kind, nested):
    rope = {"rope_type": kind, "original_max_position_embeddings": 512}
    config = SimpleNamespace(rope_parameters={"full_attention": rope} if nested else rope)
    long = job([None] * 200)
    long.model.module.config = config
    with pytest.raises(UserError, match=r"found 1024; .*set train.max_length to 512 or less"):
        private_job(long, PrivacySettings(target_epsilon=3))
    short = replace(long, settings=long.settings.model_copy(update={"max_length": 512}))
    assert private_job(short, PrivacySettings(target_epsilon=3)).private


def test_dropout_is_off_where_units_must_not_depend_on_one_another(open_tiny):
    private = proven(open_tiny)
    private.wake()
    assert not any(part.training for part in private.model.module.modules())
    private.model.module.train()
    dry_step(private, 0)  # the forecast's step is one of private rows too
    assert not any(part.training for part in private.model.module.modules())
    plain = replace(private, gradients=build("gradients", "plain"))
    plain.wake()
    assert all(part.training for part in plain.model.module.modules())


def proven(open_tiny, units=None, **fields):
    """A job on a tiny model, its rows of the given units (else each its own)."""
    whole = make_job(open_tiny)
    rows = [
        replace(row, example=replace(row.example, unit=units(number) if units else None))
        for number, row in enumerate(whole.train)
    ]
    how = build("gradients", {"name": "private", "sigma": 0.0, "expected": 1.0})
    shared = {"train": tuple(rows), "model": replace(whole.model, apart=True), "gradients": how}
    return replace(whole, **shared | fields)


def test_sound_gradients_are_proven_and_the_weights_stay_as_they_were(open_tiny):
    for units in (None, lambda number: "ab"[number > 5]):
        sound = proven(open_tiny, units)
        before = weights(sound)
        prove(sound)
        assert all(torch.equal(before[name], value) for name, value in weights(sound).items())
        assert all(weight.grad is None for weight in sound.method.trained(sound.model).values())


def test_units_that_are_not_told_apart_are_found_though_the_first_rows_are_of_one(open_tiny, monkeypatch):
    monkeypatch.setattr(
        Units, "_owner", lambda self, leading, _: Owner(torch.arange(prod(leading)) % len(self.names), len(self.names))
    )
    with pytest.raises(UserError, match="not those of the definition"):
        prove(proven(open_tiny, lambda number: "ab"[number > 5]))


@pytest.mark.parametrize("name", ["private", "private_reference"])
def test_rows_that_influence_one_another_are_found(open_tiny, name):
    """Both ways share a forward pass, so they agree with one another about what no unit gave alone."""
    mixed = proven(open_tiny, gradients=build("gradients", {"name": name, "sigma": 0.0, "expected": 1.0}))
    prove(mixed)
    (norm,) = (part for name, part in mixed.model.module.named_modules() if name.endswith("model.norm"))
    norm.register_forward_hook(lambda part, given, out: out + out.mean(1, keepdim=True))
    with pytest.raises(UserError, match="rows of a batch influence one another"):
        prove(mixed)


def test_a_loss_that_is_not_separable_is_refused_in_a_sentence(open_tiny):
    class Batchwise:
        def loss(self, model, batch, seed):
            return replace(build("objectives", "next_token").loss(model, batch, seed), separable=False)

    with pytest.raises(UserError, match=r"is not separable.*Use objective next_token"):
        prove(proven(open_tiny, objective=Batchwise()))


def test_what_will_not_be_private_is_told_before_training_and_so_is_a_base_that_a_run_made(tmp_path):
    told = {
        "private": False, "why_not": "privacy.noise_seed was given", "made_up_units": 0, "units": 200, "unit": "row",
        "epsilon": {"prv": 2.9, "rdp": 3.3}, "delta": 1e-3, "sigma": 1.0, "q": 0.1, "steps": 9, "expected_units": 20.0,
        "trained": 5, "base_run": "",
    }  # fmt: skip
    assert privacy_lines(told)[0].startswith("This run will NOT be private: privacy.noise_seed was given. Privacy: ")
    (line,) = privacy_lines({**told, "private": True})
    assert line.startswith("Privacy: epsilon 2.9 ")
    (tmp_path / "first" / "model").mkdir(parents=True)
    assert _made_by(tmp_path / "first" / "model") == ""
    (tmp_path / "first" / "plan.yaml").write_text("")
    assert _made_by(tmp_path / "first" / "model") == "first"
    assert "the run first" in privacy_lines({**told, "base_run": "first"})[1]


def test_the_rows_that_are_compared_are_some_of_each_of_two_units():
    def of(*units):
        rows = [SimpleNamespace(example=Example((), (), id=f"r{n}", unit=unit)) for n, unit in enumerate(units)]
        return [row.example.id for row in _of_two_units(rows)]

    assert of("a", "b", "c", "a", "b", "b", "a") == ["r0", "r3", "r1", "r4"]
    assert of("a", "a", "a", "b") == ["r0", "r1", "r3"]
    assert of(*["a"] * 2_000, "b") == ["r0", "r1", "r2000"], "rows of one unit would not show that units are told apart"


def test_a_model_that_keeps_statistics_of_rows_is_refused():
    """They would be saved with it, without noise."""
    assert mixing(nn.Sequential(nn.InstanceNorm2d(3))) == []
    assert "InstanceNorm2d" in mixing(nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True)))[0]


def test_a_wrong_rule_for_the_half_of_an_adapter_that_has_no_gradient_at_first_is_found(open_tiny, monkeypatch):
    low = build("methods", {"name": "lora", "r": 4}).r
    monkeypatch.setattr(
        fused, "outer", lambda out, into, owner: outer(out * (2.0 if out.shape[-1] == low else 1.0), into, owner)
    )
    with pytest.raises(UserError, match="lora_A"):
        prove(proven(open_tiny))


def test_an_objective_that_reads_more_than_the_batch_is_told_and_trains_by_the_definition(open_tiny):
    wider = build("objectives", "guise_consistency")
    with pytest.raises(UserError, match=r"guise_consistency.*mode=reference"):
        prove(proven(open_tiny, objective=wider))
    how = build("gradients", {"name": "private_reference", "sigma": 0.0, "expected": 1.0})
    prove(proven(open_tiny, objective=wider, gradients=how))


@pytest.mark.parametrize(
    ("train", "objective", "sentence"),
    [({"mitigations": ("counterfactual",)}, "next_token", "a second time"), ({}, "constrained", "kept on disk")],
)
def test_what_would_say_a_row_twice_or_keep_it_is_refused(train, objective, sentence):
    rows = [Example((Turn("user", (text_part("He is working today."),)),), (), id="r")]
    built, method = build("objectives", objective), build("methods", "lora")
    for privacy in (PrivacySettings(), PrivacySettings(target_epsilon=3)):
        settings = PlanSettings(train=TrainSettings(**train), privacy=privacy)
        found = faults(settings, rows, SimpleNamespace(), method, built)
        assert len(found) == privacy.on
        assert not privacy.on or sentence in found[0]
