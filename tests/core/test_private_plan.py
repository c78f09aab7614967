"""What privacy asks of a plan: derived values, and a sentence for each that it cannot have."""

from __future__ import annotations

import pytest

from tunewright.core.config import resolve
from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.core.settings import PlanSettings

ROWS = {"data.path": "rows.csv"}


def test_privacy_is_off_unless_an_epsilon_is_asked_for():
    assert not resolve(ROWS).settings.privacy.on
    assert not PlanSettings.model_validate({"privacy": None}).privacy.on  # as older plans have it


def test_a_table_with_two_uses_freezes_under_privacy_unless_told_otherwise():
    private = {"privacy.target_epsilon": 3, "method": "full"}
    plan = resolve(private)
    assert plan.settings.method["tied"] == "freeze"
    assert plan.origins["method.tied"].startswith("derived: privacy")
    assert resolve({**private, "method.tied": "train"}).settings.method["tied"] == "train"
    assert resolve({"method": "full"}).settings.method["tied"] == "train"
    assert "tied" not in resolve({"privacy.target_epsilon": 3}).settings.method


def test_what_would_use_private_rows_without_noise_is_switched_off_and_says_why():
    plan = resolve({**ROWS, "privacy": {"target_epsilon": 3, "unit": "patient"}})
    assert plan.settings.train.early_stopping_patience == 0
    assert plan.settings.train.stored_gb == 0
    assert plan.settings.data.unit == "patient"
    assert plan.origins["train.early_stopping_patience"].startswith("derived: privacy")
    assert plan.origins["data.unit"] == "derived: privacy.unit"


def public(file):
    return {"name": "sparse", "policy": "gradient", "public": file}


CONSTANT = ("majority", "prior")
AT_HOME = {"data.path": "~/records", "privacy.target_epsilon": 3}


@pytest.mark.parametrize(
    ("recipe", "kept"), [("classify", CONSTANT), ("pictures", CONSTANT), ("chat", ()), ("text", ())]
)
def test_of_a_recipes_baselines_those_stay_that_need_no_training_row(recipe, kept):
    plan = resolve({**ROWS, "privacy.target_epsilon": 3}, recipe=build("recipes", recipe))
    assert plan.settings.evaluate.baselines == kept


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"privacy.target_epsilon": 0}, "must be above 0"),
        ({"privacy.target_epsilon": -3.0}, "must be above 0"),
        ({"privacy.target_epsilon": 500.0}, "loosest allowed is 50"),
        ({"privacy.target_epsilon": 3, "privacy.delta": 1.5}, "between 0 and 1"),
        ({"privacy.target_epsilon": 3, "privacy.clip": 0.0}, "above 0, or automatic"),
        ({"privacy.target_epsilon": 3, "privacy.sampler": "shuffle"}, "too low for shuffled rows"),
        ({"privacy.target_epsilon": 3, "train.early_stopping_patience": 2}, "Set 0"),
        ({"privacy.target_epsilon": 3, "train.stored_gb": 1.0}, "kept on disk"),
        ({"privacy.target_epsilon": 3, "method": {"name": "lora", "lora_dropout": 0.1}}, "dropout is off"),
        ({"data.path": "rows.csv", "privacy.target_epsilon": 3, "method": public("./rows.csv")}, "among the private"),
        ({"data.path": "rows", "privacy.target_epsilon": 3, "method": public("rows/train.csv")}, "among the private"),
        ({"privacy.target_epsilon": 3, "evaluate.baselines": ["tfidf"]}, "without noise"),
        ({"privacy.target_epsilon": 3, "privacy.unit": "patient", "data.unit": "ward"}, "Name the same column"),
        ({"privacy.target_epsilon": 3, "data.options": {"test_from": 1986}}, "rows are split by person"),
        ({"privacy.noise_seed": 3}, "no privacy.target_epsilon"),
        ({"privacy.unit": "patient"}, "no privacy.target_epsilon, so nothing would be promised"),
        ({"privacy.delta": 1e-5}, "no privacy.target_epsilon, so nothing would be promised"),
        ({**AT_HOME, "method": public("~/records/rows.csv")}, "among the private"),
        ({**AT_HOME, "train.mitigations": [{"name": "safety_mix", "rows": "~/records/r.jsonl"}]}, "counts as nobody's"),
        ({**AT_HOME, "train.mitigations": ["safety_mix(rows=~/records/r.jsonl)"]}, "counts as nobody's"),
        ({**AT_HOME, "train.mitigations": [{"name": "safety_mix", "rows": 5}]}, "safety_mix|rows"),
        ({"privacy.target_epsilon": 3, "privacy.clipping": "flat"}, "unknown key"),
    ],
)
def test_what_cannot_be_is_told_with_what_can(asked, sentence):
    with pytest.raises(UserError, match=sentence):
        resolve({**ROWS, **asked})
