"""Greedy answers: batched with padding as alone, and the stop is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from tiny import ALL_KINDS, save_tiny
from tunewright.core.plugins import build
from tunewright.core.records import Example, Turn, text_part
from tunewright.models import generation
from tunewright.models.attention import attention, plain_attention
from tunewright.models.contracts import EncodeSettings, Origin
from tunewright.models.generation import greedy
from tunewright.models.held import Held


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_batched_answers_equal_answers_alone(open_tiny, kind):
    model = open_tiny(kind, torch.float32)
    asked = [Example((Turn("user", (text_part(text),)),), ()) for text in ("Which code?", "bread " * 9, "a")]
    together = list(model.family.generate(model, asked, 6))
    alone = [next(iter(model.family.generate(model, [one], 6))) for one in asked]
    assert together == alone
    assert len(together) == 3


def test_next_log_probs_are_those_of_the_first_answer_token(open_tiny):
    model = open_tiny("llama", torch.float32)
    asked = [Example((Turn("user", (text_part(text),)),), ()) for text in ("Which code?", "bread " * 9)]
    found = list(model.family.next_log_probs(model, asked))
    for example, row in zip(asked, found, strict=True):
        (alone,) = model.family.next_log_probs(model, [example])
        assert abs(row - alone).max() < 1e-4
        assert abs(float(torch.from_numpy(row).exp().sum()) - 1) < 1e-4


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if "mamba" not in kind])
def test_answers_that_come_and_go_are_those_of_the_library(open_tiny, kind, monkeypatch):
    """Prompts of mixed lengths, some alike or beginning alike, some answers short, places for all or for fewer: each as
    `model.generate` writes it alone."""
    model = open_tiny(kind, torch.float64)
    vocabulary = model.module.get_input_embeddings().weight.shape[0]
    draw = torch.Generator().manual_seed(3)
    contexts = [
        torch.randint(vocabulary, (int(length),), generator=draw).tolist()
        for length in torch.randint(1, 40, (21,), generator=draw)
    ]
    head = torch.randint(vocabulary, (12,), generator=draw).tolist()
    contexts[2::3] = [[*head, *row] for row in contexts[2::3]]
    contexts[6], contexts[9] = contexts[5], contexts[8][:-1]
    with attention(model.module, plain_attention(model.module)), torch.inference_mode():
        ids = [
            model.module.generate(
                torch.tensor([row]), attention_mask=torch.ones(1, len(row)), do_sample=False, max_new_tokens=9,
                eos_token_id=None, pad_token_id=0,
            )[0, len(row) :].tolist()
            for row in contexts
        ]  # fmt: skip
    stop = [ids[0][4], ids[3][2]]  # tokens that do come, so that places are left and filled again
    expected = [row[: next((i for i, token in enumerate(row) if token in stop), 9)] for row in ids]
    texts = [model.tokenizer.decode(row, skip_special_tokens=True).strip() for row in expected]
    for held in (generation._HELD, 1):  # room for all, and for the fewest
        monkeypatch.setattr(generation, "_HELD", held)
        found = list(greedy(model, contexts, [[token] for token in stop], 9))
        assert [one.text for one in found] == texts
        assert [one.stopped for one in found] == [len(row) < 9 for row in expected]
        assert 1 < sum(one.stopped for one in found) < len(found)


def test_no_context_gives_no_answer(open_tiny):
    assert list(greedy(open_tiny("llama", torch.float32), [], [[0]], 4)) == []


def test_a_stop_of_several_tokens_is_all_of_them_in_order(open_tiny):
    model = open_tiny("llama", torch.float32)
    draw = torch.Generator().manual_seed(0)
    asked = [torch.randint(3, 300, (length,), generator=draw).tolist() for length in range(2, 14)]
    free = [list(answer) for answer in generation._packed(model, asked, [], 12)]
    stop = next(row[at : at + 2] for row in free for at in range(3, 9) if row[at] != row[at + 1])
    for model_ in (model, replace(model, packs=False)):
        for row, found in zip(free, greedy(model_, asked, [stop], 12), strict=True):
            ends = [end for end in range(2, 13) if row[end - 2 : end] == stop]
            wanted = row[: ends[0] - 2] if ends else row
            assert found.text == model.tokenizer.decode(wanted, skip_special_tokens=True).strip()
            assert found.stopped == bool(ends)


def test_answers_end_where_the_models_own_settings_end_them_too(open_tiny):
    model = open_tiny("llama", torch.float32)
    asked = [Example((Turn("user", (text_part("Which code?"),)),), ())]
    (ids,) = generation._packed(model, [model.family.encoder(model, EncodeSettings()).context_ids(asked[0])], [], 6)
    config = model.module.generation_config
    config.eos_token_id = [2, ids[2]]
    (found,) = model.family.generate(model, asked, 6)
    assert found.stopped
    assert found.text == model.tokenizer.decode(ids[: ids.index(ids[2])], skip_special_tokens=True).strip()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_saved_model_says_that_it_ends_where_it_was_trained_to(open_tiny, tmp_path, method):
    folder = save_tiny("gemma3", tmp_path / "base")
    # As many bases say it: the library saves it as long as nobody changed it, and refuses it from then on.
    (folder / "generation_config.json").write_text('{"eos_token_id": 2, "temperature": 0.6, "top_p": 0.9}')
    model = build("families", "causal_lm").open(Origin("tiny", folder, ""), torch.float32)
    attached = build("methods", method).attach(model, 0)
    build("methods", method).save(attached, tmp_path / "out")
    found = GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id
    assert found == [2, model.tokenizer.convert_tokens_to_ids("<|end|>")]


def test_keys_and_values_of_unlike_widths_are_both_held():
    """As models with latent attention have them."""
    held = Held(2, 5)
    layer = nn.Module()
    keys, values = held.of(layer, torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 4, 6))
    assert (keys.shape, values.shape) == ((2, 3, 5, 8), (2, 3, 5, 6))
    assert held.of(layer, keys, values)[1] is values
