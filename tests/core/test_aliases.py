"""Names that other tools use."""

import pytest

from tunewright.core import aliases, plan_text
from tunewright.core.config import resolve
from tunewright.core.errors import UserError
from tunewright.core.plan_layers import LEAVES

pytestmark = pytest.mark.usefixtures("light_plugins")


def faults(*args, **words) -> list[str]:
    with pytest.raises(UserError) as error:
        resolve(*args, **words)
    return error.value.problems


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, others in aliases.SAME.items() for name in others])
def test_other_names_are_the_same_as_ours(key, name):
    value = {
        "train.packing": False,
        "train.lr_scheduler_type": "linear",
        "train.precision": "float32",
        "objective.loss_on": "all",
        "model": "m",
        "data.path": "p",
    }.get(key, 2)
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


def test_their_names_are_taken_behind_our_section_too():
    assert resolve({"train.bf16": True}).settings.train.precision == "bfloat16"
    assert resolve({"train": {"lr": 0.5}}).settings.train.learning_rate == 0.5
    with pytest.raises(UserError, match="The optimiser is AdamW"):
        resolve({"train.optim": "adafactor"})
    with pytest.raises(UserError, match="unknown key"):
        resolve({"data.bf16": True})


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
