"""Conversion of a GGUF file, on one that is made here: tiny Llama, byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tunewright.core.errors import UserError
from tunewright.core.files import read_json
from tunewright.models._gguf import convert

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ Ġ", "h i"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
HEADS, KV_HEADS, WIDTH, LAYERS = 4, 2, 32, 2


def vocabulary() -> list[str]:
    return SPECIAL + sorted(bytes_to_unicode().values()) + [merge.replace(" ", "") for merge in MERGES]


@pytest.fixture(scope="module")
def source() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def interleaved(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """GGUF stores the two halves of each rotary pair side by side."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def write_gguf(path: Path, source: LlamaForCausalLM, pre: str = "smollm") -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(vocabulary()))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocabulary())
    writer.add_token_merges(MERGES)
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(vocabulary()) - len(SPECIAL))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    weights = {name: value.numpy() for name, value in source.state_dict().items()}
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    for layer in range(LAYERS):
        for ours, theirs in NAMES.items():
            value = weights[f"model.layers.{layer}.{ours}.weight"]
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(theirs)
            if heads:
                value = np.ascontiguousarray(interleaved(value, heads))
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, source: LlamaForCausalLM) -> Path:
    path = write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", source)
    out = tmp_path_factory.mktemp("converted")
    convert(path, out, "<|endoftext|>")
    return out


def test_the_converted_model_answers_as_the_source(folder: Path, source: LlamaForCausalLM) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, source(ids).logits, rtol=1e-5, atol=1e-5)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_it_is_no_longer_called_quantised_and_saves_again(folder: Path, tmp_path: Path) -> None:
    assert "quantization_config" not in read_json(folder / "config.json")
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    assert any(tmp_path.glob("*.safetensors"))


def test_padding_is_not_the_end_everywhere_it_is_written(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    for name in ("config.json", "generation_config.json"):
        assert (read_json(folder / name)["pad_token_id"], read_json(folder / name)["eos_token_id"]) == (0, 2)
    assert tokenizer.model_max_length == 128
    assert tokenizer.chat_template == TEMPLATE


def test_digits_are_split_off_before_byte_level(folder: Path, tmp_path: Path, source: LlamaForCausalLM) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("a  1") == ["a", "ĠĠ", "1"]
    assert tokenizer.tokenize("hi12") == ["hi", "1", "2"]
    other = tmp_path / "other"
    other.mkdir()
    convert(write_gguf(tmp_path / "other.gguf", source, pre="gpt-2"), other, "<|endoftext|>")
    assert AutoTokenizer.from_pretrained(other).tokenize("a  1") == ["a", "Ġ", "Ġ", "1"]


def test_no_token_is_put_around_a_text_and_every_text_comes_back(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in ("hi", "<|im_start|>user\nhi<|im_end|>\n", "Tiếng Việt 🎉  12", " a , b !", ""):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
    assert tokenizer("hi")["input_ids"] == tokenizer("hi", add_special_tokens=False)["input_ids"]
    assert tokenizer("<|im_end|>")["input_ids"] == [2]


@pytest.mark.parametrize("pad_token", ["<|im_end|>", "<nothing>"])
def test_a_padding_token_that_is_the_end_or_unknown_is_refused(
    tmp_path: Path, source: LlamaForCausalLM, pad_token: str
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="padding token"):
        convert(path, tmp_path / "out", pad_token)


def test_nothing_is_drawn_on_the_terminal(
    tmp_path: Path, source: LlamaForCausalLM, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source)
    (tmp_path / "out").mkdir()
    capfd.readouterr()
    convert(path, tmp_path / "out", "<|endoftext|>")
    assert capfd.readouterr() == ("", "")
