"""Plans: layers, aliases, faults, derived values, and the way back from plan.yaml."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core import plan_text
from tunewright.core.config import DataShape, Plan, Request, override, plan_of, resolve, schema
from tunewright.core.errors import UserError
from tunewright.core.settings import PlanSettings
from tunewright.recipes.classify import Classify
from tunewright.recipes.text import Text

LABELS = ("bad", "good")
pytestmark = pytest.mark.usefixtures("light_plugins")


def faults(*args, **words) -> list[str]:
    with pytest.raises(UserError) as error:
        resolve(*args, **words)
    return error.value.problems


def asked_on_line(*words: str, maps: tuple[str, ...] = ()) -> Plan:
    return plan_of(Request(data="rows.csv", sets=words, maps=maps))


# Layers


def test_nothing_asked_is_the_defaults():
    plan = resolve({})
    expected = PlanSettings().model_dump() | {
        "method": {
            "name": "lora",
            "r": 16,
            "lora_alpha": 32.0,
            "lora_dropout": 0.0,
            "target_modules": "all-linear",
            "rank_pattern": {},
        },
        "objective": {"name": "next_token", "loss_on": "answers"},
    }
    assert plan.settings.model_dump() == expected
    assert set(plan.origins.values()) == {"default"}
    assert plan.notes == ()


def test_each_layer_wins_over_those_below_and_says_so():
    recipe = Classify(primary=("nll",), metrics=("nll", "ece"), baselines=("majority",))
    plan = resolve(
        {"evaluate.primary": ["ece"]},
        {"evaluate": {"primary": ["nll"], "metrics": ["nll", "ece", "accuracy"]}, "seed": 3},
        "mine.yaml",
        recipe,
    )
    assert plan.settings.evaluate.primary == ("ece",)
    assert plan.settings.evaluate.metrics == ("nll", "ece", "accuracy")
    assert plan.settings.evaluate.baselines == ("majority",)
    assert plan.origins["evaluate.primary"] == "command line"
    assert plan.origins["evaluate.metrics"] == plan.origins["seed"] == "plan file mine.yaml"
    assert plan.origins["evaluate.baselines"] == "recipe classify"
    assert plan.origins["evaluate.probes"] == "default"


INTEGERS = ("train.max_steps", "train.max_length", "evaluate.resamples", "seed", "data.max_test_units")
layer = st.dictionaries(st.sampled_from(INTEGERS), st.integers(200, 10_000))


@settings(max_examples=60, deadline=None)
@given(layer, layer)
def test_the_highest_layer_that_speaks_is_heard(file, line):
    plan = resolve(line, plan_text.nest(file), "f")
    defaults = dict(plan_text.flatten(PlanSettings().model_dump()))
    got = dict(plan_text.flatten(plan.settings.model_dump()))
    assert {key: got[key] for key in INTEGERS} == {key: {**defaults, **file, **line}[key] for key in INTEGERS}
    assert {key for key, origin in plan.origins.items() if origin == "command line"} == set(line)
    assert {key for key, origin in plan.origins.items() if origin == "plan file f"} == set(file) - set(line)


def test_every_resolved_value_has_an_origin():
    plan = resolve({"data.map": "text=review,label=score"}, recipe=Classify(), rows=DataShape(10, LABELS))
    assert list(plan.origins) == [key for key, _ in plan_text.flatten(plan.settings.model_dump())]


def test_null_on_top_takes_back_what_a_lower_layer_set():
    plan = resolve(
        {"train.learning_rate": None, "metrics": None}, {"learning_rate": 1.0, "metrics": "nll"}, "f", Classify()
    )
    assert plan.settings.train.learning_rate == 1e-3
    assert plan.settings.evaluate.metrics == Classify().metrics
    assert plan.origins["evaluate.metrics"] == "recipe classify"


def test_fields_of_a_method_merge_but_another_method_starts_afresh():
    file = {"method": {"name": "lora", "r": 8, "lora_alpha": 4}}
    assert resolve({"method.r": 2}, file).settings.method["lora_alpha"] == 4
    assert resolve({"method": "lora", "r": 2}, file).settings.method["lora_alpha"] == 4
    assert resolve({"method": "norm"}, file).settings.method == {"name": "norm"}
    assert resolve({"method.name": "last", "method.layers": 3}, file).settings.method == {"name": "last", "layers": 3}


def test_a_recipes_objective_field_does_not_follow_to_another_objective():
    assert resolve({}, recipe=Text()).settings.objective == {"name": "next_token", "loss_on": "all"}
    assert resolve({"objective": "odds"}, recipe=Text()).settings.objective == {"name": "odds", "beta": 0.1}


def test_a_mapping_field_of_a_method_is_one_value():
    plan = resolve({}, {"method": {"name": "lora", "rank_pattern": {"a.b": 4}}})
    assert plan.settings.method["rank_pattern"] == {"a.b": 4}


def test_a_whole_mapping_can_be_set_at_once():
    assert asked_on_line("method={name: lora, r: 3}").settings.method["r"] == 3
    assert asked_on_line("train={max_steps: 5, seed: 7}").settings.seed == 7


def test_column_maps_merge_by_field():
    plan = plan_of(Request("x", sets=("data.map.label=score",), maps=("text=review,unit=worker",)))
    assert plan.settings.data.map == {"text": "review", "unit": "worker", "label": "score"}
    assert plan.origins["data.map.text"] == "command line"


def test_lists_may_be_words_with_commas_and_columns_may_be_numbers():
    plan = asked_on_line(
        "evaluate.metrics=accuracy,nll", "data.splits=0.8,0.1,0.1", "data.unit=2024", "data.map.text=0"
    )
    assert plan.settings.evaluate.metrics == ("accuracy", "nll")
    assert plan.settings.data.splits == (0.8, 0.1, 0.1)
    assert plan.settings.data.unit == "2024"
    assert plan.settings.data.map == {"text": "0"}


def test_options_are_keys_of_the_command_line():
    plan = plan_of(Request("rows.csv", recipe="chat", model="/m"))
    assert (plan.settings.data.path, plan.settings.recipe, plan.settings.model) == ("rows.csv", "chat", "/m")
    assert {plan.origins[key] for key in ("data.path", "recipe", "model")} == {"command line"}


def test_settings_and_plan_are_frozen():
    plan = resolve({})
    with pytest.raises(FrozenInstanceError):
        plan.notes = ()
    with pytest.raises(ValueError, match="frozen"):
        plan.settings.train.max_steps = 3


# There and back


def full_plan() -> Plan:
    return resolve(
        {"lr": 3e-5, "data.map": "text=Änderung", "method.rank_pattern": {"a": 2}},
        {"seed": 4},
        "f",
        Classify(),
        DataShape(700, LABELS),
    )


def test_a_plan_comes_back_from_its_file(tmp_path):
    plan = full_plan()
    plan.write(tmp_path / "plan.yaml")
    back = Plan.load(tmp_path / "plan.yaml")
    assert (back.settings, back.origins, back.asked) == (plan.settings, plan.origins, plan.asked)
    assert plan.asked == {
        "plan file f": {"seed": 4},
        "command line": {"lr": 3e-5, "data.map": "text=Änderung", "method.rank_pattern": {"a": 2}},
    }
    assert set(plan.dump()) == {"asked", "resolved", "origins"}
    json.dumps(plan.dump(), allow_nan=False)


def test_a_runs_plan_serves_as_a_plan_file(tmp_path):
    plan = full_plan()
    plan.write(tmp_path / "plan.yaml")
    again = plan_of(Request("x", plan_file=tmp_path / "plan.yaml"))
    assert again.settings == plan.settings.model_copy(
        update={"data": plan.settings.data.model_copy(update={"path": "x"})}
    )
    assert again.notes == ()


@pytest.mark.parametrize(
    "text",
    ["", "a: 1", "resolved: 3\norigins: {}\nasked: {}", "[", "- 1", "resolved: {sed: 1}\norigins: {}\nasked: {}"],
)
def test_a_damaged_plan_is_a_users_fault(tmp_path, text):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(UserError, match=r"plan\.yaml"):
        Plan.load(tmp_path / "plan.yaml")


def test_override_changes_what_is_asked_and_keeps_the_rest():
    plan = full_plan()
    other = override(plan, ["evaluate.resamples=300", "probes=[]"])
    assert other.settings.evaluate.resamples == 300
    assert other.settings.evaluate.probes == ()
    assert other.settings.train == plan.settings.train
    assert {key for key in plan.origins if plan.origins[key] != other.origins.get(key)} == {
        "evaluate.resamples",
        "evaluate.probes",
    }
    with pytest.raises(UserError, match=r"Did you mean 'evaluate\.resamples'"):
        override(plan, ["evaluate.resample=300"])


def test_a_run_whose_plan_names_a_unit_without_a_promise_can_still_be_asked():
    """As plans could before such a key was refused."""
    plan = full_plan()
    older = plan.settings.model_copy(update={"privacy": plan.settings.privacy.model_copy(update={"unit": "patient"})})
    assert override(replace(plan, settings=older), ["evaluate.resamples=300"]).settings.evaluate.resamples == 300


def test_schema_holds_every_key_and_the_fields_of_plugins():
    tree = schema()
    assert set(tree["properties"]) == set(PlanSettings.model_fields)
    lora = next(one for one in tree["properties"]["method"]["anyOf"] if "lora" in str(one.get("properties", "")))
    assert set(lora["properties"]) == {"name", "r", "lora_alpha", "lora_dropout", "target_modules", "rank_pattern"}
    assert lora["required"] == ["name"]
    json.dumps(tree)


def test_configuration_needs_no_torch():
    code = "import sys, tunewright.core.config, tunewright.recipes.classify; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
