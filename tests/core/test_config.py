"""Plans: layers, aliases, faults, derived values, and the way back from plan.yaml."""

import json
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core import aliases, plan_text, plugins
from tunewright.core.config import DataShape, Plan, Request, override, plan_of, resolve, schema
from tunewright.core.errors import UserError
from tunewright.core.plan_layers import LEAVES
from tunewright.core.settings import PlanSettings
from tunewright.recipes import choose_recipe
from tunewright.recipes.chat import Chat
from tunewright.recipes.classify import Classify
from tunewright.recipes.text import Text

METHODS = {
    "lora": "r: int = Field(16, gt=0)\n    lora_alpha: float = 32\n    lora_dropout: float = Field(0.0, ge=0, lt=1)\n"
    "    target_modules: str | list[str] = 'all-linear'\n    rank_pattern: dict[str, int] = {}",
    "full": "",
    "norm": "",
    "last": "layers: int = 2",
}
OBJECTIVES = {"next_token": "loss_on: Literal['answers', 'last', 'all'] = 'answers'", "odds": "beta: float = 0.1"}
LABELS = ("bad", "good")


@pytest.fixture(scope="module", autouse=True)
def light_plugins(tmp_path_factory):
    """Methods and objectives with the shipped names and fields, but without torch, and nothing from outside."""
    root = tmp_path_factory.mktemp("light")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        for kind, found in (("methods", METHODS), ("objectives", OBJECTIVES)):
            package = root / f"light_{kind}"
            package.mkdir()
            (package / "__init__.py").touch()
            for name, fields in found.items():
                (package / f"{name}.py").write_text(
                    "from typing import Literal\nfrom pydantic import Field\nfrom tunewright.core.plugins import Plugin\n"
                    f"class {name.title().replace('_', '')}(Plugin):\n    'A light one.'\n    {fields}\n"
                )
            patch.setitem(plugins.KINDS, kind, package.name)
        patch.setattr(plugins, "entry_points", lambda group: [])  # reads the metadata of all that is installed
        yield


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
        "method": {"name": "lora", "r": 16, "lora_alpha": 32.0, "lora_dropout": 0.0, "target_modules": "all-linear",
                   "rank_pattern": {}},
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


INTEGERS = ("train.max_steps", "train.max_length", "train.save_steps", "evaluate.resamples", "seed", "data.max_test_units")
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
    plan = resolve({"train.learning_rate": None, "metrics": None}, {"learning_rate": 1.0, "metrics": "nll"}, "f",
                   Classify())
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
    plan = asked_on_line("evaluate.metrics=accuracy,nll", "data.splits=0.8,0.1,0.1", "data.unit=2024",
                         "data.map.text=0")
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


# Names of other tools


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, others in aliases.SAME.items() for name in others])
def test_other_names_are_the_same_as_ours(key, name):
    value = {"train.packing": False, "train.lr_scheduler_type": "linear", "train.precision": "float32",
             "objective.loss_on": "all", "model": "m", "data.path": "p"}.get(key, 2)
    if key in ("method.lora_dropout", "train.learning_rate"):
        value = 0.5
    if key in ("method.use_dora", "method.use_rslora"):
        assert faults({name: True})[0].startswith(f"{key}: unknown key.")
        return
    plan = resolve({name: value})
    assert plan.settings == resolve({key: value}).settings != resolve({}).settings
    assert plan.notes == (f"{name} is read as {key}",)
    assert resolve({key: value}).notes == ()


@pytest.mark.parametrize(
    ("name", "value", "key", "ours"),
    [
        ("train_on_inputs", False, "objective.loss_on", "answers"),
        ("train_on_inputs", True, "objective.loss_on", "all"),
        ("mask_prompt", True, "objective.loss_on", "answers"),
        ("completion_only_loss", False, "objective.loss_on", "all"),
        ("mask_history", True, "objective.loss_on", "last"),
        ("finetuning_type", "freeze", "method.name", "last"),
        ("adapter", "lora", "method.name", "lora"),
        ("use_peft", False, "method.name", "full"),
        ("stage", "sft", "objective.name", "next_token"),
        ("bf16", True, "train.precision", "bfloat16"),
        ("bf16", False, "train.precision", "float32"),
        ("torch_dtype", "float32", "train.precision", "float32"),
        ("truncation_strategy", "delete", "data.on_overlong", "drop"),
        ("excess_length_strategy", "truncate", "data.on_overlong", "truncate-context"),
        ("lora_target", "all", "method.target_modules", "all-linear"),
        ("lora_target_modules", ["q_proj"], "method.target_modules", ["q_proj"]),
        ("warmup_steps", 0.1, "train.warmup_ratio", 0.1),
        ("warmup_steps", 10, "train.warmup_steps", 10),
        ("learning_rate", 0.5, "train.learning_rate", 0.5),
    ],
)
def test_their_values_become_ours(name, value, key, ours):
    plan = resolve({name: value})
    assert dict(plan_text.flatten(plan.settings.model_dump(mode="json")))[key] == ours
    assert len(plan.notes) == 1
    assert plan.notes[0].startswith(f"{name} is read as {key}")


def test_every_alias_leads_to_a_key_and_none_hides_one():
    targets = {*aliases.SAME, *(key for key, _ in aliases.VALUES.values())}
    assert [key for key in targets if key not in LEAVES and not key.startswith(("method.", "objective."))] == []
    assert [name for name in (*aliases.names(), *aliases.REFUSED) if name in LEAVES] == []
    assert set(aliases.names()) & set(aliases.REFUSED) == set()
    assert len(aliases.names()) == len(set(aliases.names()))


def test_last_words_of_keys_are_unique_or_settled_by_the_table():
    last = [key.rsplit(".", 1)[-1] for key in LEAVES]
    assert {word for word in last if last.count(word) > 1} <= set(aliases.names())


@pytest.mark.parametrize("name", aliases.REFUSED)
def test_a_name_without_counterpart_is_refused_with_what_to_do(name):
    [fault] = faults({name: 1})
    assert fault.startswith(f"{name}: is not a setting here. {aliases.REFUSED[name]}")


# Faults


def test_all_faults_are_told_at_once_with_their_source(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("train: {learning_rat: 1, max_length: short}\nmethod: {name: lora, r: 0, rr: 2}\nfp16: true\n"
                    "evaluate: {metrics: [acuracy]}\n")
    with pytest.raises(UserError) as error:
        plan_of(Request(plan_file=file, sets=("lr=-1", "broken", "objective.loss_on=some", "gates.min_gain=[")),)
    text = "\n".join(error.value.problems)
    expected = {
        "learning_rat:": "Did you mean 'train.learning_rate'?",
        "train.max_length: found 'short'": f"(plan file {file}, 'train.max_length')",
        "method.r: found 0": f"(plan file {file}, 'method.r')",
        "method.rr: unknown key": f"(plan file {file}, 'method.rr')",
        "fp16: is not a setting": "float16",
        "evaluate.metrics: Unknown metric 'acuracy'": "Did you mean 'accuracy'?",
        "train.learning_rate: found -1": "(command line, 'lr')",
        "--set broken": "key=value",
        "objective.loss_on: found 'some'": "(command line, 'objective.loss_on')",
        "--set gates.min_gain=[": "line 1",
        "No data": "after the verb",
    }
    for start, more in expected.items():
        line = next((line for line in text.splitlines() if start in line), "")
        assert more in line, (start, text)
    assert len(error.value.problems) == len(expected)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", True), ("seed", "3"), ("seed", 1.5), ("seed", -1), ("train.max_steps", True), ("train.packing", 1),
        ("train.packing", "no"), ("train.learning_rate", float("nan")), ("train.learning_rate", float("inf")),
        ("train.learning_rate", [1e-3]), ("train.warmup_ratio", 1.1), ("data.splits", [0.5, 0.5]),
        ("data.splits", [0.5, 0.1, 0.1]), ("data.splits", [1.2, -0.1, -0.1]), ("data.splits", [0, 0.5, 0.5]),
        ("data.map", 3), ("data.map.text", None), ("model", None), ("evaluate.metrics", 3),
        ("evaluate.primary", [3]), ("privacy", 1), ("seeds", 2), ("method", 3), ("method", None), ("method.r", "x"),
        ("train", 3), ("lr_scheduler_type", "cosin"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_a_users_fault_and_names_its_key(key, value):
    found = faults({key: value})
    assert any(key.split(".")[-1] in fault and "command line" in fault for fault in found), found


def test_a_map_that_is_none_is_a_users_fault():
    assert faults({"data.map": "text"}) == [
        "data.map text: must be ours=column[,ours=column], as text=review,label=score."]


def test_a_key_given_twice_must_be_given_once():
    [fault] = faults({"epochs": 2, "train.num_train_epochs": 3})
    assert fault == ("train.num_train_epochs: given twice, 2 (command line, 'epochs') and 3 "
                     "(command line, 'train.num_train_epochs'). Give it once.")
    assert resolve({"epochs": 2, "num_train_epochs": 2}).settings.train.num_train_epochs == 2
    with pytest.raises(UserError, match="seed: given twice"):
        asked_on_line("seed=1", "seed=2")
    with pytest.raises(UserError, match="given twice"):
        asked_on_line("data.map.text=a", maps=("text=b",))


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("trian.max_steps", "train.max_steps"), ("train.max_step", "train.max_steps"), ("lerning_rate", "learning_rate"),
     ("metod", "method"), ("num_epoch", "num_epochs"), ("gates.min_gian", "gates.min_gain")],
)
def test_an_unknown_key_names_the_nearest(word, nearest):
    [fault] = faults({word: 1})
    assert f"Did you mean '{nearest}'?" in fault


def test_primary_must_be_measured():
    [fault] = faults({"evaluate.primary": ["ece"], "evaluate.metrics": ["nll"]})
    assert "evaluate.primary: 'ece' is not in evaluate.metrics (nll)" in fault


def test_names_in_lists_are_known_before_anything_runs():
    found = faults({"probes": "retentoin", "baselines": "majority,tfdif,scratch", "format": "labl", "recipe": "clasify"})
    assert len(found) == 4
    assert resolve({"baselines": "scratch", "format": "auto"}).settings.evaluate.baselines == ("scratch",)


keys = st.one_of(st.sampled_from([*LEAVES, *aliases.names(), "method", "method.r", "train", "data.map.x"]), st.text())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, values, max_size=4), st.dictionaries(keys, values, max_size=4))
def test_whatever_is_asked_gives_a_plan_or_a_users_fault(asked, file):
    try:
        plan = resolve(asked, file, "f", Classify(), DataShape(5, LABELS))
    except UserError as error:
        assert error.problems
    else:
        assert yaml.safe_load(yaml.safe_dump(plan.dump()))["resolved"]["seed"] == plan.settings.seed


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_whatever_is_typed_gives_a_plan_or_a_users_fault(sets, maps):
    try:
        plan_of(Request("x", sets=tuple(sets), maps=tuple(maps)))
    except UserError as error:
        assert error.problems


# Plan files


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1e5", 1e5), (".5", 0.5), ("-2", -2), ("no", "no"), ("on", "on"), ("y", "y"), ("true", True),
     ("2026-11-30", "2026-11-30"), ("010", 10.0), ("1_000", "1_000"), ("null", None), ("12:30", "12:30"), ("", None),
     ("[a, 1]", ["a", 1]), ("'1'", "1"), ("1.", 1.0), ("nothing", "nothing"), ("5x", "5x")],
)
def test_yaml_scalars_are_those_of_yaml_1_2(text, value):
    got = plan_text.parse(text)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"seed: 1\nseed: 2\n", "line 2, column 1: 'seed' is given twice"),
        (b"train:\n  max_steps: 3\n max_length: 4\n", "line 3"),
        (b"a: [", "It must be YAML"),
        (b"- 1\n- 2\n", "holds list"),
        (b"\xff\xfe\x00x: 1", "not UTF-8"),
        (b"a: " + b"[" * 5000, "nested too deeply"),
        (b"a: !!python/object:os.system x", "could not determine a constructor"),
        (b"seed: " + b"9" * 5000, "It must be YAML"),
        (b"a: &x [*x]", "unknown key"),
        (b"a: \x00", "It must be YAML"),
    ],
)
def test_a_broken_plan_file_is_a_users_fault(tmp_path, content, said):
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        plan_of(Request("x", plan_file=file))
    assert said in str(error.value)
    assert "p.yaml" in str(error.value)


def test_absent_plan_file_and_other_faults_are_told_together(tmp_path):
    with pytest.raises(UserError) as error:
        plan_of(Request(plan_file=tmp_path / "none.yaml", sets=("sed=1",)))
    assert len(error.value.problems) == 2
    assert "does not exist" in error.value.problems[0]
    assert "Did you mean 'seed'?" in error.value.problems[1]


def test_an_empty_plan_file_and_empty_sections_ask_for_nothing(tmp_path):
    file = tmp_path / "p.yaml"
    for text in ("", "# nothing\n", "train:\ndata: {}\n"):
        file.write_text(text)
        assert plan_of(Request("x", plan_file=file)).settings == resolve({"data.path": "x"}).settings


def test_the_data_of_a_plan_file_is_enough(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("data: rows.csv\nmethod: norm\ntrain: {learning_rate: 1e-3}\n", encoding="utf-8-sig")
    plan = plan_of(Request(plan_file=file))
    assert (plan.settings.data.path, plan.settings.method) == ("rows.csv", {"name": "norm"})
    assert plan.settings.train.learning_rate == 1e-3


# There and back


def full_plan() -> Plan:
    return resolve({"lr": 3e-5, "data.map": "text=Änderung", "method.rank_pattern": {"a": 2}}, {"seed": 4}, "f",
                   Classify(), DataShape(700, LABELS))


def test_a_plan_comes_back_from_its_file(tmp_path):
    plan = full_plan()
    plan.write(tmp_path / "plan.yaml")
    back = Plan.load(tmp_path / "plan.yaml")
    assert (back.settings, back.origins, back.asked) == (plan.settings, plan.origins, plan.asked)
    assert plan.asked == {"plan file f": {"seed": 4}, "command line": {
        "lr": 3e-5, "data.map": "text=Änderung", "method.rank_pattern": {"a": 2}}}
    assert set(plan.dump()) == {"asked", "resolved", "origins"}
    json.dumps(plan.dump(), allow_nan=False)


def test_a_runs_plan_serves_as_a_plan_file(tmp_path):
    plan = full_plan()
    plan.write(tmp_path / "plan.yaml")
    again = plan_of(Request("x", plan_file=tmp_path / "plan.yaml"))
    assert again.settings == plan.settings.model_copy(
        update={"data": plan.settings.data.model_copy(update={"path": "x"})})
    assert again.notes == ()


@pytest.mark.parametrize("text", ["", "a: 1", "resolved: 3\norigins: {}\nasked: {}", "[", "- 1",
                                  "resolved: {sed: 1}\norigins: {}\nasked: {}"])
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
        "evaluate.resamples", "evaluate.probes"}
    with pytest.raises(UserError, match="Did you mean 'evaluate.resamples'"):
        override(plan, ["evaluate.resample=300"])


def test_schema_holds_every_key_and_the_fields_of_plugins():
    tree = schema()
    assert set(tree["properties"]) == set(PlanSettings.model_fields)
    lora = next(one for one in tree["properties"]["method"]["anyOf"] if "lora" in str(one.get("properties", "")))
    assert set(lora["properties"]) == {"name", "r", "lora_alpha", "lora_dropout", "target_modules", "rank_pattern"}
    assert lora["required"] == ["name"]
    json.dumps(tree)


def test_configuration_needs_no_torch():
    code = "import sys, tunewright.core.config, tunewright.recipes.classify; assert 'torch' not in sys.modules"
    import subprocess

    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


# Recipes


@pytest.mark.parametrize(
    ("labels", "context", "name"),
    [(LABELS, True, "classify"), (LABELS, False, "classify"), ((), True, "chat"), ((), False, "text")],
)
def test_rows_choose_their_recipe(labels, context, name):
    assert choose_recipe(labels, context).plugin_name() == name
    assert [one.plugin_name() for one in (Classify(), Chat(), Text()) if one.match(labels, context)] == [name]


def test_a_named_recipe_is_taken_if_the_rows_serve_it():
    assert choose_recipe(LABELS, True, "chat").plugin_name() == "chat"
    with pytest.raises(UserError, match="closed set of labels"):
        choose_recipe((), True, "classify")
    with pytest.raises(UserError, match="Did you mean 'chat'"):
        choose_recipe((), True, "chatt")


@pytest.mark.parametrize(
    ("recipe", "rows", "epochs"),
    [(Classify(), 1, 4), (Classify(), 600, 4), (Classify(), 601, 3), (Classify(), 2_000, 3), (Classify(), 2_001, 2),
     (Classify(), 10_000, 2), (Classify(), 10_001, 1), (Chat(), 2_000, 3), (Chat(), 2_001, 2), (Text(), 10_001, 1)],
)
def test_epochs_follow_the_rows(recipe, rows, epochs):
    plan = resolve({}, recipe=recipe, rows=DataShape(rows))
    assert plan.settings.train.num_train_epochs == epochs
    assert plan.origins["train.num_train_epochs"] == f"derived: recipe {recipe.plugin_name()}, {rows} training rows"


@pytest.mark.parametrize(
    ("recipe", "method", "rate"),
    [(Classify(), "lora", 1e-3), (Classify(), "norm", 1e-3), (Classify(), "full", 2e-5), (Classify(), "last", 2e-5),
     (Chat(), "lora", 2e-4), (Text(), "lora", 2e-4), (Chat(), "norm", 1e-3), (Text(), "full", 2e-5)],
)
def test_learning_rate_follows_the_method(recipe, method, rate):
    plan = resolve({"method": method}, recipe=recipe)
    assert plan.settings.train.learning_rate == rate
    assert plan.origins["train.learning_rate"] == f"derived: recipe {recipe.plugin_name()}, method {method}"


def test_a_recipe_that_knows_no_rate_says_so_among_the_other_faults():
    class Fast(Classify):
        def learning_rate(self, method):
            raise UserError("No rate. Set train.learning_rate.")

    assert faults({"sed": 1}, recipe=Fast()) == [faults({"sed": 1})[0], "No rate. Set train.learning_rate."]
    assert resolve({"lr": 0.5}, recipe=Fast()).settings.train.learning_rate == 0.5


def test_what_the_user_sets_is_never_derived():
    plan = resolve({"epochs": 7, "lr": 0.5, "instruction": "Say."}, recipe=Classify(), rows=DataShape(10, LABELS))
    train = plan.settings.train
    assert (train.num_train_epochs, train.learning_rate, plan.settings.data.instruction) == (7, 0.5, "Say.")
    assert not any(origin.startswith("derived") for key, origin in plan.origins.items() if key != "recipe")


def test_the_instruction_names_the_labels_while_they_are_few():
    plan = resolve({}, recipe=Classify(), rows=DataShape(10, LABELS))
    assert plan.settings.data.instruction == "Answer with exactly one of: bad, good."
    many = Classify().instruction([f"label {i}" for i in range(500)])
    assert many == "Answer with the label alone."


@pytest.mark.parametrize("recipe", [Classify(), Chat(), Text()])
def test_a_recipe_names_only_what_exists(recipe):
    plan = resolve({}, recipe=recipe, rows=DataShape(10, LABELS))
    assert plan.settings.recipe == recipe.plugin_name()
    assert set(recipe.primary) <= set(recipe.metrics) <= set(plugins.names("metrics"))
    assert set(recipe.baselines) <= set(plugins.names("baselines"))
