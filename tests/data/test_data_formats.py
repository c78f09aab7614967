"""One contract over every format plugin, and what each makes of its rows."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core import plugins
from tunewright.core.records import Example
from tunewright.data.formats import Flaw, How

EVERY = plugins.everything("formats")
FORMATS = [plugin for plugin in EVERY if hasattr(plugin, "parse")]
"""Those whose examples are made of one row; tables have tests of their own (test_data_careers.py)."""
NAMES = [plugin.plugin_name() for plugin in FORMATS]
SAMPLES: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]},
    "alpaca": {"instruction": "Hi", "input": "", "output": "Yes"},
    "completion": {"prompt": "Hi", "completion": "Yes"},
    "question": {"question": "Hi", "answer": "Yes"},
    "text": {"text": "Yes"},
    "label": {"text": "Hi", "label": "Yes"},
    "picture": {"image": [[0, 255], [7, 8]], "label": "Yes"},
    "preference": {"prompt": "Hi", "chosen": "Yes", "rejected": "No"},
}
ASKED = {"text": "", "picture": "<image "}
"""What stands before the answer where it is not the text `Hi`."""
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "from", "value", "weight", "tool_calls", "function", "name", "arguments"]
            ),
            inner | st.sampled_from(["user", "assistant", "gpt"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)


def parse(name: str, row: dict[str, Any], **how: Any) -> Example:
    example: Example = plugins.build("formats", name).parse(row, How(**how))
    return example


def test_every_format_has_a_sample() -> None:
    assert sorted(SAMPLES) == NAMES


@pytest.mark.parametrize("plugin", FORMATS, ids=NAMES)
class TestContract:
    def test_knows_its_own_rows_best(self, plugin: type[Any]) -> None:
        row = SAMPLES[plugin.plugin_name()]
        scores = {other.plugin_name(): other().detect(set(row), row) for other in EVERY}
        assert max(scores, key=lambda name: scores[name]) == plugin.plugin_name()
        assert sorted(scores.values())[-2] < scores[plugin.plugin_name()] <= 1

    def test_scores_nothing_for_strange_columns(self, plugin: type[Any]) -> None:
        assert plugin().detect({"stars", "review"}, {"stars": 1, "review": "x"}) == 0

    def test_first_answer_is_the_wanted_one(self, plugin: type[Any]) -> None:
        example = plugin().parse(SAMPLES[plugin.plugin_name()], How())
        assert example.answer.text == "Yes"
        assert example.answer.weight == 1
        assert ASKED.get(plugin.plugin_name(), "Hi") in example.prompt_text
        assert bool(example.prompt_text) == bool(example.context)

    @pytest.mark.parametrize("empty", ["", " \n", None])
    def test_refuses_an_empty_answer(self, plugin: type[Any], empty: str | None) -> None:
        row = json.loads(json.dumps(SAMPLES[plugin.plugin_name()]).replace('"Yes"', json.dumps(empty)))
        with pytest.raises(Flaw, match=r"To mend: "):
            plugin().parse(row, How())

    def test_composes_characters(self, plugin: type[Any]) -> None:
        decomposed = "cafe\u0301"
        row = json.loads(json.dumps(SAMPLES[plugin.plugin_name()]).replace("Yes", decomposed).replace("Hi", decomposed))
        example = plugin().parse(row, How())
        texts = [example.answer.text, *([] if plugin.plugin_name() in ASKED else [example.prompt_text])]
        assert texts == [unicodedata.normalize("NFC", decomposed)] * len(texts)

    def test_may_lack_its_answer_when_rows_are_to_be_answered(self, plugin: type[Any]) -> None:
        row = {k: v for k, v in SAMPLES[plugin.plugin_name()].items() if k not in plugin.answers}
        example = plugin().parse(row, How(answers_needed=False))
        assert (example.answers == ()) == bool(plugin.answers)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_row_is_an_example_or_a_flaw(self, plugin: type[Any], data: st.DataObject) -> None:
        names = sorted({*plugin.columns, *plugin.optional, *(n for o in plugin.columns.values() for n in o)})
        row = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(names, json_values)))
        assert 0 <= plugin().detect(set(row), row) <= 1
        for needed in (True, False):
            try:
                example = plugin().parse(row, How(answers_needed=needed))
            except Flaw:
                continue
            assert example.context or example.answers
            assert all(turn.weight == 0 or turn.role == "assistant" for turn in example.context)
            if needed:
                assert example.answer.text.strip() or "tool_calls" in example.answer.extra


class TestMessages:
    def test_earlier_answers_train_unless_weighed_otherwise(self) -> None:
        chat = [
            {"role": "developer", "content": "Be kind."},
            {"role": "human", "content": "a"},
            {"role": "model", "content": "b"},
            {"role": "user", "content": "c"},
            {"role": "bot", "content": "d", "weight": 0},
            {"role": "user", "content": "e"},
            {"role": "gpt", "content": "f", "weight": 0.5},
        ]
        example = parse("messages", {"messages": chat})
        assert [turn.role for turn in example.context] == [
            "developer",
            "user",
            "assistant",
            "user",
            "assistant",
            "user",
        ]
        assert [turn.weight for turn in example.context] == [0, 0, 1, 0, 0, 0]
        assert (example.answer.text, example.answer.weight) == ("f", 0.5)

    @pytest.mark.parametrize("as_text", [False, True])
    def test_tools_come_as_json_or_as_a_string(self, as_text: bool) -> None:
        tools = [{"type": "function", "function": {"name": "add"}}]
        calls = [{"id": "1", "function": {"name": "add", "arguments": '{"a": 1}'}}]
        chat = [
            {"role": "user", "content": "1+1"},
            {"role": "assistant", "content": None, "tool_calls": json.dumps(calls) if as_text else calls},
            {"role": "ipython", "content": "2", "tool_call_id": "1", "name": "add"},
            {"role": "assistant", "content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "2"}]},
        ]
        row = {"messages": json.dumps(chat) if as_text else chat, "tools": json.dumps(tools) if as_text else tools}
        example = parse("messages", row)
        assert example.tools == tuple(tools)
        called, result = example.context[1:]
        assert called.extra["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1}}
        assert called.weight == 1
        assert (result.role, dict(result.extra)) == ("tool", {"tool_call_id": "1", "name": "add"})
        assert example.answer.text == "It is 2"

    def test_mapped_keys_inside_messages(self) -> None:
        chat = [{"who": "user", "said": "a"}, {"who": "assistant", "said": "b"}]
        assert parse("messages", {"messages": chat}, names={"role": "who", "content": "said"}).answer.text == "b"


def test_alpaca_puts_input_under_the_instruction_and_history_before() -> None:
    row = {"instruction": "Add", "input": "1 2", "output": "3", "system": "Sums", "history": [["hi", "hello"]]}
    example = parse("alpaca", row)
    assert [turn.role for turn in example.context] == ["system", "user", "assistant", "user"]
    assert example.context[-1].text == "Add\n\n1 2"
    assert not any(turn.weight for turn in example.context)


def test_label_keeps_the_label_and_puts_the_instruction_first() -> None:
    example = parse("label", {"text": "Asthma", "label": " J45 "}, instruction="Which?")
    assert (example.prompt_text, example.answer.text, example.label) == ("Which?\n\nAsthma", " J45 ", True)
    assert parse("label", {"text": "x", "label": 3}).answer.text == "3"
    assert parse("label", {"text": "x", "label": False}).answer.text == "false"
    with pytest.raises(Flaw):
        parse("label", {"text": "x", "label": float("nan")})


@pytest.mark.parametrize(("asked", "answered"), [("query", "response"), ("problem", "solution")])
def test_question_has_other_names(asked: str, answered: str) -> None:
    row = {asked: "Why?", answered: "So."}
    assert parse("question", row) == parse("question", {"question": "Why?", "answer": "So."})


def test_preference_finds_the_shared_prompt() -> None:
    start = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    row = {
        "chosen": [*start, {"role": "assistant", "content": "good"}],
        "rejected": [*start, {"role": "gpt", "content": "bad"}],
    }
    example = parse("preference", row)
    assert [turn.text for turn in example.context] == ["a", "b", "c"]
    assert [(answer.text, answer.rank) for answer in example.answers] == [("good", 0), ("bad", 1)]
    assert not any(turn.weight for turn in example.context)
    row["rejected"][0] = {"role": "user", "content": "other"}
    with pytest.raises(Flaw, match="differ before their last message"):
        parse("preference", row)


def test_completion_takes_messages_too() -> None:
    row = {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}
    assert parse("completion", row) == parse("completion", {"prompt": "a", "completion": "b"})
