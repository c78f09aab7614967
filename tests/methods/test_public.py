"""Policy gradient: coordinates by the mean square of the gradient of public rows, of texts and of pictures."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.models.contracts import Origin
from tunewright.models.families.image_classifier import ImageClassifier, Shape

TEXTS = "The baker bakes bread before dawn.\nA nurse writes down what the patient said.\n"


@pytest.fixture
def network(tmp_path):
    folder = ImageClassifier().fresh(tmp_path / "model", Shape(("cat", "dog", "owl"), 8, 1, 4, 2), 0)
    return ImageClassifier().open(Origin("tiny", folder, ""), torch.float32)


@pytest.fixture
def pictures(tmp_path):
    """Of other things than the network's labels, or of nothing that is named."""
    draw = np.random.default_rng(0)
    rows = [{"image": draw.integers(0, 256, (8, 8)).tolist(), "label": "whale"} for _ in range(8)]
    del rows[0]["label"]
    path = tmp_path / "public.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def taken(method, model, seed: int = 1) -> dict[str, torch.Tensor]:
    model = method.attach(model, seed)
    return {p: m.sparse_change.coordinate_K for p, m in model.module.named_modules() if hasattr(m, "sparse_change")}


def sparse(public, share: float = 0.1):
    return build("methods", {"name": "sparse", "policy": "gradient", "share": share, "public": str(public)})


def add_squares(module, squares):
    return {name: total + module.get_parameter(f"{name}.weight").grad ** 2 for name, total in squares.items()}


def of_largest(wanted_OI: torch.Tensor, coordinate_K: torch.Tensor) -> bool:
    """Whether none that was left has a larger one; equal ones, up to rounding, are as good as another."""
    least = wanted_OI.flatten()[coordinate_K].min()
    left = wanted_OI.flatten().index_fill(0, coordinate_K, 0.0)
    return bool(left.max() <= least * 1.0001)


def test_of_texts_the_coordinates_of_largest_mean_square_gradient_are_chosen(open_tiny, tmp_path):
    public = tmp_path / "public.txt"
    public.write_text(TEXTS)
    model = open_tiny("llama")
    plain = AutoModelForCausalLM.from_pretrained(model.origin.folder, dtype=torch.float32)
    found = taken(sparse(public), model)
    assert found
    squares = dict.fromkeys(found, 0.0)
    for text in TEXTS.splitlines():
        plain.zero_grad()
        ids = torch.tensor([[*model.tokenizer(text).input_ids, model.tokenizer.eos_token_id]])
        (plain(input_ids=ids, labels=ids).loss * (ids.shape[1] - 1)).backward()
        squares = add_squares(plain, squares)
    for name, coordinate_K in found.items():
        assert of_largest(squares[name], coordinate_K), name


def test_of_pictures_labels_are_drawn_from_what_the_model_holds_likely(network, pictures):
    with torch.no_grad():  # one label is all but certain, so that every draw gives it
        network.module.head.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    plain = copy.deepcopy(network.module).requires_grad_(True)
    found = taken(sparse(pictures), network)
    squares = dict.fromkeys(found, 0.0)
    for line in pictures.read_text().splitlines():
        plain.zero_grad()
        image = torch.tensor(json.loads(line)["image"])[None, None] / 255
        (-plain(image)[0, 1]).backward()
        squares = add_squares(plain, squares)
    assert set(found) == {"body.0.0", "body.1.0", "head"}
    for name, coordinate_K in found.items():
        assert of_largest(squares[name], coordinate_K), name


def test_the_draw_of_labels_is_the_seeds(network, pictures):
    first, again, other = (taken(sparse(pictures, 0.05), fresh(network), seed)["head"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def fresh(network):
    return ImageClassifier().open(network.origin, torch.float32)


def test_what_is_no_public_file_is_refused_with_what_is_needed(open_tiny, network, tmp_path):
    for model, kind in ((open_tiny("llama"), "public texts"), (network, "public pictures")):
        for given in ("", tmp_path / "absent"):
            with pytest.raises(UserError, match=kind):
                sparse(given).attach(model, 1)
    with pytest.raises(UserError, match="public texts"):
        sparse(tmp_path).attach(open_tiny("llama"), 1)


def test_a_row_that_is_no_picture_is_told_with_its_line(network, pictures):
    pictures.write_text(pictures.read_text() + json.dumps({"image": [[1, 2], [3]]}) + "\n")
    with pytest.raises(UserError, match=r"method\.public: .*line 9.*equally long rows"):
        sparse(pictures).attach(network, 1)
