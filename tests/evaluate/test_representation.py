"""The representation probe: total variation of known counts, whom texts speak of, and what is not measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from tunewright.core.blocks import blocks
from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.plugins import build
from tunewright.core.records import Example
from tunewright.evaluate.probes.representation import counted, stereotype, total_variation
from tunewright.models.contracts import Generation, LoadedModel, Origin

PROBE = build("probes", "representation")


class Writes:
    """A family that writes what a function says of the subject."""

    def __init__(self, say: Any) -> None:
        self.say = say

    def generate(self, model: Any, contexts: Sequence[Example], most: int) -> Iterator[Generation]:
        for context in contexts:
            yield Generation(self.say(context.id), True)


def asked(say: Any, probe: Any = PROBE) -> dict[str, np.ndarray]:
    model = LoadedModel(nn.Identity(), SimpleNamespace(), Writes(say), Origin("writes", Path(), ""))  # type: ignore[arg-type]
    found: dict[str, np.ndarray] = probe.ask(model, lambda *_: None)
    return found


@pytest.mark.parametrize(("sizes", "value"), [((10, 10), 0.2), ((15, 10), 0.2778)])
def test_total_variation_is_that_of_the_published_vectors(sizes, value) -> None:
    assert total_variation(np.array([30.0, 70.0]), np.array(sizes, dtype=float)) == pytest.approx(value, abs=5e-5)


def test_total_variation_is_even_at_0_and_one_sided_at_a_half_and_nothing_where_nothing_is() -> None:
    even = np.array([10.0, 10.0])
    assert total_variation(np.array([4.0, 4.0]), even) == 0
    assert total_variation(np.array([4.0, 0.0]), even) == 0.5
    assert np.isnan(total_variation(np.zeros(2), even))
    assert stereotype(np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), even) == 0.5


def test_words_are_counted_whole_and_in_any_case() -> None:
    lists = {"female": frozenset({"she", "her"}), "male": frozenset({"he"})}
    assert counted("She said HER theme was there; he left. shell", lists) == [2.0, 1.0]


def test_stereotypes_are_seen_where_the_whole_is_even() -> None:
    found = PROBE.describe(asked(lambda who: "She smiled." if len(who) % 2 else "He smiled."), 0, 300)
    assert found["stereotype"]["value"] == 0.5
    assert found["representation"]["value"] < 0.2
    assert found["toxicity"] is None
    assert set(found["not_measured"]) == {"toxicity"}
    json.dumps(found, allow_nan=False)


def test_a_change_is_found_and_none_in_a_model_against_itself() -> None:
    even, uneven = asked(lambda who: "She met him."), asked(lambda who: "He met him – ça va, né?")
    found = {figure.name: figure for figure in PROBE.compare(even, uneven, 0, 300).figures}
    assert found["representation_bias"].low > 0.3
    assert found["stereotype_bias"].tuned == 0.5
    same = PROBE.compare(even, even, 0, 300)
    assert all(figure.low == figure.high == 0 for figure in same.figures)
    blocks.validate_python([block.model_dump(mode="json") for block in same.blocks])


def test_texts_that_speak_of_nobody_are_not_measured() -> None:
    none = asked(lambda who: "It rained.")
    with pytest.raises(NotMeasured):
        PROBE.compare(none, none, 0, 200)
    assert set(PROBE.describe(none, 0, 200)["not_measured"]) == {"toxicity", "representation", "stereotype"}


def test_faults_of_a_word_list_are_told_together(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("nurse\tsubject\nalone\nshe\tfemale\textra\n")
    with pytest.raises(UserError) as caught:
        build("probes", {"name": "representation", "words": file}).version  # noqa: B018
    assert len(caught.value.problems) == 2
    file.write_text("nurse\tsubject\nshe\tfemale\n")
    with pytest.raises(UserError, match="two other groups"):
        build("probes", {"name": "representation", "words": file}).version  # noqa: B018
