"""Gates that cannot pass are told before training, and nothing is asked over a network to find out."""

from __future__ import annotations

import json
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from tunewright.core.settings import PlanSettings
from tunewright.evaluate.probes import _safety_sets as sets
from tunewright.pipeline.advice import gate_advice, trained_requests

ABLE = frozenset({"generate", "choices", "next_log_probs", "raw_texts", "token_log_probs"})
RUBRIC = {"name": "rubric", "endpoint": "http://127.0.0.1:9/v1", "model": "m"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked over a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def prepared(settings: Any, template: str | None = "{{ messages }}", rows: int = 0) -> Any:
    model = SimpleNamespace(
        opens=True,
        tokenizer=SimpleNamespace(chat_template=template, apply_chat_template=lambda *_, **__: "Hello"),
        family=SimpleNamespace(capabilities=ABLE),
    )
    dataset = SimpleNamespace(train=[None] * rows)
    return SimpleNamespace(settings=PlanSettings.model_validate(settings), model=model, dataset=dataset)


def advice(gate: str, *probes: Any, template: str | None = "{{ messages }}") -> list[str]:
    return gate_advice(prepared({"gates": {gate: 0.1}, "evaluate": {"probes": list(probes)}}, template))


def safety(*judges: Any) -> dict[str, Any]:
    return {"name": "safety", "judges": list(judges)}


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        (safety("rubric", "phrases"), "first judge, rubric, and no endpoint and model are named"),
        (safety(RUBRIC | {"key_file": "/no/such/key"}), "the key file /no/such/key is not there"),
        (safety("classifier"), "first judge, classifier, and no classifier lies in ''"),
        (safety({"name": "classifier", "folder": "/no/such"}), "no classifier lies in '/no/such'"),
        (safety("phrases", "rubric"), ""),
        (safety(RUBRIC), ""),
        (safety("log_odds"), ""),
    ],
)
def test_a_first_judge_that_cannot_rule_here_is_told(probe, said):
    found = advice("max_attack_success_increase", probe)
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_a_model_without_a_chat_template_cannot_pass_the_gate_on_attacks():
    (said,) = advice("max_attack_success_increase", "full", template=None)
    assert "max_attack_success_increase cannot pass: the model has no chat template" in said
    assert advice("max_attack_success_increase", "full") == []


@pytest.mark.parametrize(
    ("words", "told"),
    [("kind\nrude\n", True), ("kind\ttrait\t1\nodd\n", True), ("kind\ttrait\t1\nrude\ttrait\t-1\n", False),
     ("baker\toccupation\n", False)],
)  # fmt: skip
def test_traits_that_nobody_marked_cannot_pass_the_gate_on_covert_bias(tmp_path, words, told):
    (tmp_path / "words.txt").write_text(words)
    found = advice("max_covert_bias_increase", {"name": "dialect", "attributes": [str(tmp_path / "words.txt")]})
    assert ["covert bias is told by traits marked 1 (favourable) and -1" in said for said in found] == [True] * told
    assert advice("max_covert_bias_increase", "dialect") == []


def test_a_gate_on_covert_bias_wants_pairs_of_so_many_units(tmp_path):
    (said,) = advice("max_covert_bias_increase", {"name": "dialect", "count": 8})
    assert "max_covert_bias_increase cannot pass: the pairs of the probe dialect are of 8 units, and 12" in said
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"he be {k}\the is {k}\tspeaker {k % 11}\n" for k in range(40)))
    (said,) = advice("max_covert_bias_increase", {"name": "dialect", "pairs": file})
    assert "are of 11 units" in said
    assert advice("max_covert_bias_increase", "quick") == []


def test_refusals_that_are_trained_and_asked_are_told(tmp_path):
    asked = [one.text for one in sets.requests("shipped")[:3]]
    file = tmp_path / "refusals.jsonl"
    pairs = [*((f" {text.upper()}  ", "No.") for text in asked), ("Something else.", "No.")]
    file.write_text("".join(json.dumps({"prompt": one, "completion": said}) + "\n" for one, said in pairs))

    def told(*probes: Any, rows: str = str(file)) -> list[str]:
        mix = {"name": "safety_mix", "share": 1.0, "rows": rows}
        train = {"mitigations": [mix, "counterfactual"]}
        return trained_requests(prepared({"train": train, "evaluate": {"probes": list(probes)}}, rows=80))

    (said,) = told("full")
    assert "3 of the 200 requests that the probe safety asks are trained as refusals by safety_mix" in said
    assert told() == told("retention") == told("full", rows="") == []


def test_a_first_judge_that_reads_the_prompts_end_is_told_where_the_template_begins_thoughts():
    class Thinks:
        chat_template = "yes"

        def apply_chat_template(self, *_: Any, **__: Any) -> str:
            return "Hello<think>\n"

    given = prepared({"gates": {"max_attack_success_increase": 0.1}, "evaluate": {"probes": [safety("log_odds")]}})
    assert gate_advice(given) == []
    given.model.tokenizer = Thinks()
    (said,) = gate_advice(given)
    trained = prepared({"gates": {"max_attack_success_increase": 0.1}, "evaluate": {"probes": [safety("phrases")]}})
    assert gate_advice(trained) == []
    trained.model.opens = False
    assert "can hardly pass: the model thinks before it answers, and 24 tokens are read" in gate_advice(trained)[0]
    assert "log_odds, which reads what follows the prompt, and there the model thinks" in said
