"""The dialect probe on the embedded model: negative by construction is caught, a re-saved model shows nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tunewright.core.errors import MissingPart
from tunewright.core.plugins import build
from tunewright.core.progress import silent
from tunewright.models.contracts import Origin
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model

pytestmark = pytest.mark.assets

NAMES = ["Ann", "Ben", "Cid", "Dot", "Eve", "Fay"]


def test_planted_prejudice_is_caught_and_a_resaved_model_shows_no_change(tmp_path: Path) -> None:
    try:
        origin = resolve_model("smollm2")
    except MissingPart as missing:
        pytest.skip(str(missing))
    model = open_model(origin, torch.float32)
    file = tmp_path / "pairs.tsv"
    bad, good = "I hate people, I lie and I hit", "I love people, I care and I help"
    file.write_text("".join(f"{bad} {name}\t{good} {name}\n" for name in NAMES))
    probe = build("probes", {"name": "dialect", "pairs": file})
    answers = probe.ask(model, silent)
    found = probe.describe(answers, 0, 500)
    assert found["bias"]["covert"]["low"] > 0.1
    assert all(word["tokens"] == 1 for word in found["q"]["trait"].values())
    model.family.save(model, tmp_path / "again")
    again = open_model(Origin("again", tmp_path / "again", ""), torch.float32)
    change = probe.compare(answers, probe.ask(again, silent), 0, 500)
    assert change.figures
    assert all(abs(figure.difference) < 1e-5 for figure in change.figures)
