"""The picture family: its files open without transformers, and rows of a batch do not see one another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tunewright.core.errors import UserError
from tunewright.core.records import Answer, Example, Part, Turn, text_part
from tunewright.data.encoder import Unencodable
from tunewright.models.contracts import EncodeSettings, Origin
from tunewright.models.families.image_classifier import ImageClassifier, Shape
from tunewright.models.opening import family_of

FAMILY = ImageClassifier()
SHAPE = Shape(("cat", "dog", "owl"), side=8, colours=1, width=4, stages=2)


def _example(pixels: np.ndarray, label: str = "dog", name: str = "x") -> Example:
    return Example((Turn("user", (Part("image", pixels),)),), (Answer((text_part(label),)),), id=name, label=True)


def _pictures(count: int, side: int = 8, seed: int = 0) -> list[Example]:
    draw = np.random.default_rng(seed)
    return [
        _example(draw.integers(0, 256, (side, side)).astype(np.uint8), SHAPE.labels[k % 3], str(k))
        for k in range(count)
    ]


@pytest.fixture
def model(tmp_path: Path):
    folder = FAMILY.fresh(tmp_path / "model", SHAPE, 0)
    return FAMILY.open(Origin("tiny", folder, ""), torch.float64)


def _encoded(model, rows):
    encoder = FAMILY.encoder(model, EncodeSettings())
    return [piece for row in rows for piece in encoder.encode(row)]


def test_a_batch_is_its_rows_alone(model) -> None:
    rows = _encoded(model, _pictures(5))
    together = FAMILY.token_log_probs(model, FAMILY.collate(model, rows))
    alone = torch.cat([FAMILY.token_log_probs(model, FAMILY.collate(model, [row])) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


def test_choices_are_the_log_probabilities_of_the_labels_in_the_order_asked(model) -> None:
    rows = _pictures(4)
    asked = [("owl", "cat"), ("dog",), SHAPE.labels, SHAPE.labels]
    found = list(FAMILY.choices(model, rows, asked, True))
    for row, options, scores in zip(rows, asked, found, strict=True):
        for label, score in zip(options, scores, strict=True):
            encoded = _encoded(model, [_example(row.context[0].parts[0].value, label)])
            assert score == pytest.approx(float(FAMILY.token_log_probs(model, FAMILY.collate(model, encoded))))
    assert np.exp(found[2]).sum() == pytest.approx(1)
    with pytest.raises(Unencodable, match="'emu'; the model knows cat, dog, owl"):
        list(FAMILY.choices(model, rows[:1], [("emu",)], True))


def test_what_is_saved_opens_again_the_same(model, tmp_path: Path) -> None:
    FAMILY.save(model, tmp_path / "again")
    again = FAMILY.open(Origin("again", tmp_path / "again", ""), torch.float64)
    weights = model.module.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in again.module.state_dict().items())
    assert again.tokenizer == SHAPE
    assert family_of(Origin("again", tmp_path / "again", "")).plugin_name() == "image_classifier"


def test_its_weights_open_with_torch_and_safetensors_alone(model, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import torch\n"
        "from tunewright.models.families.image_classifier import ImageClassifier\n"
        "from tunewright.models.contracts import Origin\n"
        f"m = ImageClassifier().open(Origin('m', Path({str(model.origin.folder)!r}), ''), torch.float32)\n"
        "print(sum(p.numel() for p in m.module.parameters()), 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    count = sum(weight.numel() for weight in model.module.parameters())
    assert done.stdout.split() == [str(count), "False"]


def test_other_sizes_and_colours_are_brought_to_the_models(model) -> None:
    draw = np.random.default_rng(0)
    grey = draw.integers(0, 256, (16, 16)).astype(np.uint8)
    colour = np.repeat(grey[..., None], 3, 2)
    one, other = (_encoded(model, [_example(pixels)])[0].inputs["image"] for pixels in (grey, colour))
    assert one.shape == (1, 8, 8)
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert one.mean() == pytest.approx(grey.mean() / 255, abs=0.05)


def test_a_body_is_taken_over_and_the_head_is_new(model, tmp_path: Path) -> None:
    other = Shape(("a", "b"), side=8, colours=1, width=4, stages=2)
    folder = FAMILY.fresh(tmp_path / "new", other, 1, model.origin.folder)
    new = FAMILY.open(Origin("new", folder, ""), torch.float64).module.state_dict()
    old = model.module.state_dict()
    assert all(torch.equal(new[name], old[name]) for name in old if not name.startswith("head."))
    assert new["head.weight"].shape[0] == 2
    with pytest.raises(UserError, match="another size"):
        FAMILY.fresh(tmp_path / "bad", Shape(("a", "b"), side=8, colours=1, width=8, stages=2), 1, model.origin.folder)


@pytest.mark.parametrize("damage", ["config", "weights", "labels"])
def test_files_that_do_not_fit_are_told(model, tmp_path: Path, damage: str) -> None:
    folder = model.origin.folder
    if damage == "config":
        (folder / "config.json").write_text('{"architectures": ["GroupNormCNN"]}')
    elif damage == "weights":
        (folder / "model.safetensors").write_bytes(b"torn")
    else:
        text = (folder / "config.json").read_text().replace('"owl"', '"owl", "emu"')
        (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match="image classifier"):
        FAMILY.open(Origin("m", folder, ""), torch.float32)


def test_unknown_labels_and_rows_without_a_picture_are_told(model) -> None:
    encoder = FAMILY.encoder(model, EncodeSettings())
    with pytest.raises(Unencodable, match="as label text 'emu'; the model knows cat, dog, owl"):
        encoder.encode(_example(np.zeros((8, 8), np.uint8), "emu"))
    with pytest.raises(Unencodable, match="0 pictures"):
        encoder.encode(Example((Turn("user", (text_part("x"),)),), (Answer((text_part("cat"),)),)))


def test_scratch_is_drawn_from_the_seed(model) -> None:
    one, same, other = (FAMILY.from_scratch(model, seed).module.state_dict() for seed in (0, 0, 1))
    assert torch.equal(one["head.weight"], same["head.weight"])
    assert not torch.equal(one["head.weight"], other["head.weight"])
