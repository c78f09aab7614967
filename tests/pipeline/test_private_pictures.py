"""Private training of pictures by few weights: the fast way and the definition train the same model."""

from __future__ import annotations

import pytest
import torch

from tunewright.core.config import Request
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.models.embedded import resolve_model
from tunewright.models.families.image_classifier import ImageClassifier
from tunewright.models.opening import open_model
from tunewright.pipeline.digits import shape, write_digits
from tunewright.pipeline.train import train
from tunewright.runs.opening import open_tuned

SETS = (
    "train.max_steps=3", "train.threads=1", "train.learning_rate=0.01", "privacy.target_epsilon=8",
    "privacy.noise_seed=1", "data.splits=[0.8, 0.0, 0.2]",
)  # fmt: skip


@pytest.mark.parametrize("method", ["sparse", "norm_head"])
def test_few_weights_of_convolutions_train_as_by_the_definition(tmp_path, monkeypatch, method):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(write_digits(tmp_path / "all.jsonl", range(5, 10)).read_text().splitlines()[:80]))
    ImageClassifier().fresh(tmp_path / "network", shape("56789"), 0)
    trained = {}
    for mode in ("packed", "reference"):
        sets = (*SETS, f"method={method}", f"privacy.mode={mode}")
        train(Request(str(rows), None, sets, (), tmp_path / mode, None, str(tmp_path / "network")), silent)
        module = open_tuned(Run.open(tmp_path / mode), torch.float32).module
        trained[mode] = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    start = {n: w.detach() for n, w in open_start(tmp_path / "network").items()}
    moved = [n for n, weight in trained["packed"].items() if weight.ndim == 4 and not torch.equal(weight, start[n])]
    assert moved, "no convolution trained"
    for name, weight in trained["reference"].items():
        assert torch.allclose(trained["packed"][name], weight, atol=1e-5), name


def open_start(folder):
    return dict(open_model(resolve_model(str(folder)), torch.float32).module.named_parameters())
