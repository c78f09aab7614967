"""What a user may get wrong in a plan, and how it is told."""

from contextlib import suppress

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunewright.core import aliases, plan_text
from tunewright.core.config import DataShape, Plan, Request, plan_of, resolve
from tunewright.core.errors import UserError
from tunewright.core.plan_layers import LEAVES
from tunewright.recipes.classify import Classify

LABELS = ("bad", "good")
pytestmark = pytest.mark.usefixtures("light_plugins")


def faults(*args, **words) -> list[str]:
    with pytest.raises(UserError) as error:
        resolve(*args, **words)
    return error.value.problems


def asked_on_line(*words: str, maps: tuple[str, ...] = ()) -> Plan:
    return plan_of(Request(data="rows.csv", sets=words, maps=maps))


def test_all_faults_are_told_at_once_with_their_source(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(
        "train: {learning_rat: 1, max_length: short}\nmethod: {name: lora, r: 0, rr: 2}\nfp16: true\n"
        "evaluate: {metrics: [acuracy]}\n"
    )
    with pytest.raises(UserError) as error:
        plan_of(
            Request(plan_file=file, sets=("lr=-1", "broken", "objective.loss_on=some", "gates.min_gain=[")),
        )
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
        ("evaluate.primary", [3]), ("privacy", 1), ("seeds", 0), ("method", 3), ("method", None), ("method.r", "x"),
        ("train", 3), ("lr_scheduler_type", "cosin"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_a_users_fault_and_names_its_key(key, value):
    found = faults({key: value})
    assert any(key.split(".")[-1] in fault and "command line" in fault for fault in found), found


def test_a_map_that_is_none_is_a_users_fault():
    assert faults({"data.map": "text"}) == [
        "data.map text: must be ours=column[,ours=column], as text=review,label=score."
    ]


def test_a_key_given_twice_must_be_given_once():
    [fault] = faults({"epochs": 2, "train.num_train_epochs": 3})
    assert fault == (
        "train.num_train_epochs: given twice, 2 (command line, 'epochs') and 3 "
        "(command line, 'train.num_train_epochs'). Give it once."
    )
    assert resolve({"epochs": 2, "num_train_epochs": 2}).settings.train.num_train_epochs == 2
    with pytest.raises(UserError, match="seed: given twice"):
        asked_on_line("seed=1", "seed=2")
    with pytest.raises(UserError, match="given twice"):
        asked_on_line("data.map.text=a", maps=("text=b",))


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("trian.max_steps", "train.max_steps"),
        ("train.max_step", "train.max_steps"),
        ("lerning_rate", "learning_rate"),
        ("metod", "method"),
        ("num_epoch", "num_epochs"),
        ("gates.min_gian", "gates.min_gain"),
    ],
)
def test_an_unknown_key_names_the_nearest(word, nearest):
    [fault] = faults({word: 1})
    assert f"Did you mean '{nearest}'?" in fault


def test_a_section_nobody_knows_is_refused_though_it_is_empty():
    [fault] = faults({"evalute": {}})
    assert "Did you mean 'evaluate'?" in fault
    assert resolve({"evaluate": {}, "method": {}, "train": None}).settings == resolve({}).settings


def test_primary_must_be_measured():
    [fault] = faults({"evaluate.primary": ["ece"], "evaluate.metrics": ["nll"]})
    assert "evaluate.primary: 'ece' is not in evaluate.metrics (nll)" in fault


def test_names_in_lists_are_known_before_anything_runs():
    found = faults({"metrics": "acuracy,nll,eec", "format": "labl", "recipe": "clasify"})
    nearest = ["'accuracy'", "'ece'", "'label'", "'classify'"]
    assert [word for word in nearest if not any(f"Did you mean {word}?" in fault for fault in found)] == []
    assert len(found) == 4
    (fault,) = faults({"baselines": "scrtch"})
    assert "Did you mean 'scratch'?" in fault
    assert "frozen_logit" in fault
    assert resolve({"baselines": "scratch", "format": "auto"}).settings.evaluate.baselines == ("scratch",)


keys = st.one_of(st.sampled_from([*LEAVES, *aliases.names(), "method", "method.r", "train", "data.map.x"]), st.text())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, values, max_size=4), st.dictionaries(keys, values, max_size=4))
@example({}, {"privacy.target_epsilon": [], "adapter": []})
@example({"privacy.target_epsilon": 3, "evaluate.baselines": 5}, {})
def test_whatever_is_asked_gives_a_plan_or_a_users_fault(asked, file):
    with suppress(UserError):
        plan = resolve(asked, file, "f", Classify(), DataShape(5, LABELS))
        assert yaml.safe_load(yaml.safe_dump(plan.dump()))["resolved"]["seed"] == plan.settings.seed


@pytest.mark.parametrize(
    "name", ["08", "1e3", "7e12345", ".5", "-0", "+1", "null", "true", "0x1f", "1_000", "12:30:00"]
)
def test_a_text_that_looks_like_a_number_is_a_text_again_when_a_plan_is_read(tmp_path, name):
    plan = resolve({"data.source": name, "data.map": {"label": name}})
    plan.write(tmp_path / "plan.yaml")
    found = Plan.load(tmp_path / "plan.yaml").settings.data
    assert (found.source, found.map) == (name, {"label": name})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_whatever_is_typed_gives_a_plan_or_a_users_fault(sets, maps):
    with suppress(UserError):
        plan = plan_of(Request("x", sets=tuple(sets), maps=tuple(maps)))
        assert plan.settings.data.path == "x"


@pytest.mark.parametrize("value", ["\x1f", "accuracy,[", "accuracy,: :"])
def test_a_list_of_what_is_no_yaml_is_a_users_fault(value):
    with pytest.raises(UserError, match=r"evaluate\.metrics"):
        resolve({}, {"evaluate.metrics": value}, "f", Classify(), DataShape(5, LABELS))


# Plan files


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1e5", 1e5),
        (".5", 0.5),
        ("-2", -2),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("2026-11-30", "2026-11-30"),
        ("010", 10.0),
        ("1_000", "1_000"),
        ("null", None),
        ("12:30", "12:30"),
        ("", None),
        ("[a, 1]", ["a", 1]),
        ("'1'", "1"),
        ("1.", 1.0),
        ("nothing", "nothing"),
        ("5x", "5x"),
    ],
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
        (b"a: " + b"[" * 1200, "nested too deeply"),
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


def test_threads_that_would_end_the_process_are_refused():
    with pytest.raises(UserError, match=r"train\.threads: .*1024"):
        plan_of(Request("x", sets=("train.threads=100000",)))
    assert plan_of(Request("x", sets=("train.threads=1024",))).settings.train.threads == 1024
