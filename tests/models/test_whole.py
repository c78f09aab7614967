"""A folder that lacks weights is refused: the library would draw them at random and say nothing."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny import save_tiny
from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.evaluate.classifiers import open_classifier
from tunewright.models.contracts import Origin


def opened(folder):
    return build("families", "causal_lm").open(Origin("tiny", folder, ""), torch.float32)


def renamed(folder, name):
    file = folder / "model.safetensors"
    save_file({name(key): tensor for key, tensor in load_file(file).items() if name(key)}, file, {"format": "pt"})


def test_a_missing_head_is_named(tmp_path):
    folder = save_tiny("llama", tmp_path / "model")
    renamed(folder, lambda key: "" if key == "lm_head.weight" else key)
    with pytest.raises(UserError, match=r"1 weights of the model are not in its files \(the first is lm_head.weight\)"):
        opened(folder)


def test_weights_under_other_names_are_named(tmp_path):
    folder = save_tiny("llama", tmp_path / "model")
    renamed(folder, lambda key: f"_orig_mod.{key}")
    with pytest.raises(UserError, match=r"drawn at random\. Found under names .*: _orig_mod\."):
        opened(folder)


def test_a_tied_head_is_not_missed(tmp_path):
    folder = save_tiny("qwen2", tmp_path / "model")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    opened(folder)


def test_a_language_model_is_no_classifier(tmp_path):
    with pytest.raises(ValueError, match="score"):
        open_classifier(save_tiny("llama", tmp_path / "model"))
