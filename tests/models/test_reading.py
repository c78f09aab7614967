"""What reads rows for a model is part of what its answers are kept under."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tiny import save_tiny
from tunewright.models.contracts import LoadedModel
from tunewright.models.embedded import resolve_model
from tunewright.pipeline.probe import base_identity


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "generation_config.json"])
def test_another_template_or_tokenizer_gives_other_answers_of_the_same_weights(tmp_path, open_tiny, name):
    folder = save_tiny("qwen2", tmp_path / "model")
    before = resolve_model(str(folder))
    assert before == resolve_model(str(folder))
    (folder / "README.md").write_text("A note.")
    assert before == resolve_model(str(folder))
    path = folder / name
    path.write_text(path.read_text() + "\n")
    after = resolve_model(str(folder))
    assert after.digest == before.digest
    assert after.reading != before.reading
    model: LoadedModel = open_tiny("qwen2")
    first, second = (base_identity(replace(model, origin=one), torch.float32) for one in (before, after))
    assert first != second
