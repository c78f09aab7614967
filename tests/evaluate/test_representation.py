"""The representation probe: total variation of known counts, whom texts speak of, chance, what is not measured."""

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
from tunewright.core.files import digest
from tunewright.core.plugins import build
from tunewright.core.records import Example
from tunewright.evaluate.probes.representation import (
    Representation,
    _lists,
    by_chance,
    counted,
    stereotype,
    total_variation,
)
from tunewright.models.contracts import Generation, LoadedModel, Origin

PROBE = build("probes", "representation")
PROMPTS = 8
EVEN = np.array([10.0, 10.0])


class Writes:
    """A family that writes what a function says of the subject, or of subject and prompt."""

    def __init__(self, say: Any, hears_prompts: bool) -> None:
        self.say, self.hears_prompts = say, hears_prompts

    def generate(self, model: Any, contexts: Sequence[Example], most: int) -> Iterator[Generation]:
        for context in contexts:
            told = (context.context[0].text,) if self.hears_prompts else ()
            yield Generation(self.say(context.id, *told), True)


def asked(say: Any, probe: Any = PROBE, hears_prompts: bool = False) -> dict[str, np.ndarray]:
    model = LoadedModel(nn.Identity(), SimpleNamespace(), Writes(say, hears_prompts), Origin("writes", Path(), ""))  # type: ignore[arg-type]
    found: dict[str, np.ndarray] = probe.ask(model, lambda *_: None)
    return found


def of_one_group(subject: str, prompt: str) -> str:
    """Each text is of one group, which the occupation does not decide."""
    return "She smiled." if int.from_bytes(digest(subject, prompt).encode(), "big") % 2 else "He smiled."


@pytest.mark.parametrize(("sizes", "value"), [((10, 10), 0.2), ((15, 10), 0.2778)])
def test_total_variation_is_that_of_the_published_vectors(sizes, value) -> None:
    assert total_variation(np.array([30.0, 70.0]), np.array(sizes, dtype=float)) == pytest.approx(value, abs=5e-5)


def test_total_variation_is_even_at_0_and_one_sided_at_a_half_and_nothing_where_nothing_is() -> None:
    assert total_variation(np.array([4.0, 4.0]), EVEN) == 0
    assert total_variation(np.array([4.0, 0.0]), EVEN) == 0.5
    assert np.isnan(total_variation(np.zeros(2), EVEN))
    assert stereotype(np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), EVEN) == 0.5


def test_words_are_counted_whole_and_in_any_case() -> None:
    lists = {"female": frozenset({("she",), ("her",)}), "male": frozenset({("he",)})}
    assert counted("She said HER theme was there; he left. shell", lists) == [2.0, 1.0]


def test_phrases_and_words_of_any_script_are_found(tmp_path: Path) -> None:
    entries = {"old": ["old people", "non-binary"], "hindi": ["माँ", "बेटी"], "chinese": ["女人"]}
    lines = [f"{word}\t{group}" for group, some in entries.items() for word in some]
    file = tmp_path / "words.tsv"
    file.write_text("\n".join(["nurse\tsubject", "judge\tsubject", *lines]), encoding="utf-8")
    probe = Representation(words=file)
    answers = {"texts": np.zeros(0, np.uint8), "ends": np.zeros(2, np.int64), "asked": np.array(probe.version)}
    assert probe._counts(answers)[2] == list(entries)
    text = "Old people and a non-binary person: माँ और बेटी। 那个女人走了. People old."
    assert counted(text, _lists(file)[1]) == [2.0, 2.0, 1.0]
    file.write_text(file.read_text(encoding="utf-8").replace("女人", "男人"), encoding="utf-8")
    _lists.cache_clear()
    with pytest.raises(UserError, match="have changed since the model was asked"):
        probe._counts(answers)


def test_an_entry_that_no_text_can_say_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "words.tsv"
    file.write_text("nurse\tsubject\njudge\tsubject\n--\told\nhe\tmale\nshe\tfemale", encoding="utf-8")
    with pytest.raises(UserError, match=r"words\.tsv:3: found '--'"):
        _lists(file)


def test_stereotypes_are_seen_where_the_whole_is_even() -> None:
    found = PROBE.describe(asked(lambda who: "She smiled." if len(who) % 2 else "He smiled."), 0, 300)
    assert [sentence.partition(":")[0] for sentence in found["sentences"]] == [
        "Uneven mention of groups", "Uneven mention by occupation", "Toxicity of free texts"
    ]  # fmt: skip
    assert "not measured; needs a scorer" in found["sentences"][-1]
    assert found["stereotype"]["value"] == 0.5
    assert found["stereotype_by_chance"]["high"] < 0.3
    assert (found["subjects"], found["texts"]) == (30, 30 * PROMPTS)
    assert found["representation"]["value"] < 0.2
    assert found["toxicity"] is None
    assert set(found["not_measured"]) == {"toxicity"}
    json.dumps(found, allow_nan=False)


def test_texts_of_one_group_each_are_no_stereotype_unless_the_occupation_decides_which() -> None:
    found = PROBE.describe(asked(of_one_group, hears_prompts=True), 0, 500)
    chance = found["stereotype_by_chance"]
    assert chance["low"] <= found["stereotype"]["value"] <= chance["high"]
    # |share - 1/2| of eight fair coins is 0.137 on average.
    assert chance["value"] == pytest.approx(0.137, abs=0.02)


def test_a_prompt_that_calls_for_one_group_whoever_it_is_about_is_no_stereotype_and_hides_none() -> None:
    """Each prompt has a group of its own; one subject in two then goes against it in one prompt of eight."""
    groups = np.arange(PROMPTS) % 2
    counts_SPG = np.tile(np.eye(2)[groups], (30, 1, 1))
    assert by_chance(counts_SPG, EVEN, 0, 50) == {"value": 0.0, "low": 0.0, "high": 0.0}
    counts_SPG[::2, 0] = counts_SPG[::2, 0, ::-1]
    chance = by_chance(counts_SPG, EVEN, 0, 300)
    assert chance is not None
    assert chance["high"] == pytest.approx(stereotype(counts_SPG.sum(axis=1), EVEN)), "one prompt shows no more"
    counts_SPG[1::2, 1] = counts_SPG[1::2, 1, ::-1]
    chance = by_chance(counts_SPG, EVEN, 0, 300)
    assert chance is not None
    assert chance["high"] < stereotype(counts_SPG.sum(axis=1), EVEN)


def test_fewer_words_are_no_rise_of_stereotypes() -> None:
    """Neither model's words follow the occupation; the tuned one says one of them a text in place of nine."""

    def many(subject: str, prompt: str) -> str:
        return " ".join(of_one_group(subject, f"{prompt} {number}") for number in range(9))

    base = asked(many, hears_prompts=True)
    tuned = asked(of_one_group, hears_prompts=True)
    (figure,) = (f for f in PROBE.compare(base, tuned, 0, 500).figures if f.name == "stereotype_bias")
    assert figure.low < 0 < figure.high
    assert (
        PROBE.describe(tuned, 0, 100)["stereotype"]["value"] > 2 * PROBE.describe(base, 0, 100)["stereotype"]["value"]
    )


def test_one_text_an_occupation_shows_what_chance_shows() -> None:
    counts_SPG = np.array([[[1.0, 0.0]], [[0.0, 3.0]], [[1.0, 1.0]], [[0.0, 0.0]]])
    chance = by_chance(counts_SPG, EVEN, 0, 50)
    assert chance == pytest.approx(dict.fromkeys(("value", "low", "high"), stereotype(counts_SPG[:, 0], EVEN)))
    assert by_chance(np.zeros((3, 2, 2)), EVEN, 0, 50) is None


def test_every_occupation_is_asked_every_prompt_shipped_or_own() -> None:
    heard: list[tuple[str, str]] = []

    def say(subject: str, prompt: str) -> str:
        heard.append((subject, prompt))
        return "She met him."

    asked(say, hears_prompts=True)
    assert len(set(heard)) == 30 * PROMPTS
    assert all(subject in prompt and "{" not in prompt for subject, prompt in heard)
    heard.clear()
    own = build("probes", {"name": "representation", "prompt": "Praise the {}.", "prompts": ["Blame the {}."]})
    asked(say, own, hears_prompts=True)
    assert heard[:3] == [
        ("nurse", "Blame the nurse."), ("nurse", "Praise the nurse."), ("doctor", "Blame the doctor."),
    ]  # fmt: skip
    assert own.version != PROBE.version
    for field in ({"prompt": "Praise her."}, {"prompts": ["The {}.", "Praise her."]}):
        with pytest.raises(UserError, match="Praise her"):
            build("probes", {"name": "representation", **field})


def test_a_change_of_stereotypes_is_told_beside_what_chance_would_show() -> None:
    fair, unfair = (
        asked(of_one_group, hears_prompts=True),
        asked(lambda who: "She smiled." if len(who) % 2 else "He smiled."),
    )
    result = PROBE.compare(fair, unfair, 0, 300)
    figure = next(figure for figure in result.figures if figure.name == "stereotype_bias")
    assert figure.low > 0.25
    chance = result.details["stereotype_by_chance"]
    assert figure.base <= chance["base"]["high"]
    assert figure.tuned > chance["tuned"]["high"]
    assert f"by lot have {chance['base']['value']:.2f}" in result.sentence
    assert result.sentence in result.blocks[0].model_dump()["paragraphs"]


def test_a_change_is_found_and_none_in_a_model_against_itself() -> None:
    even, uneven = asked(lambda who: "She met him."), asked(lambda who: "He met him – ça va, né?")
    found = {figure.name: figure for figure in PROBE.compare(even, uneven, 0, 300).figures}
    assert found["representation_bias"].low > 0.3
    assert found["stereotype_bias"].tuned == 0, "whoever it is about: all of it is chance"
    same = PROBE.compare(even, even, 0, 300)
    assert all(figure.low == figure.high == 0 for figure in same.figures)
    blocks.validate_python([block.model_dump(mode="json") for block in same.blocks])


def test_texts_that_speak_of_nobody_are_not_measured() -> None:
    none = asked(lambda who: "It rained.")
    with pytest.raises(NotMeasured):
        PROBE.compare(none, none, 0, 200)
    assert set(PROBE.describe(none, 0, 200)["not_measured"]) == {"toxicity", "representation", "stereotype"}


def test_toxicity_is_kept_where_texts_speak_of_nobody(tmp_path: Path) -> None:
    (tmp_path / "insults.txt").write_text("fool")
    probe = build("probes", {"name": "representation", "toxicity": f"words(file={tmp_path / 'insults.txt'})"})
    dry, rude = (asked(lambda who, said=said: said, probe) for said in ("It rained.", "You fool."))
    result = probe.compare(dry, rude, 0, 200)
    assert [(figure.name, figure.base, figure.tuned) for figure in result.figures] == [("toxicity", 0.0, 1.0)]
    assert "no word of any group" in result.sentence
    json.dumps(result.details, allow_nan=False)


def test_faults_of_a_word_list_are_told_together(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("nurse\tsubject\nalone\nshe\tfemale\textra\n")
    with pytest.raises(UserError) as caught:
        build("probes", {"name": "representation", "words": file}).version  # noqa: B018
    assert len(caught.value.problems) == 2
    file.write_text("nurse\tsubject\nshe\tfemale\n")
    with pytest.raises(UserError, match="two other groups"):
        build("probes", {"name": "representation", "words": file}).version  # noqa: B018


def test_texts_that_are_cut_within_thoughts_are_not_measured() -> None:
    with pytest.raises(NotMeasured, match=r"32 of the first 32 texts were cut within the thoughts; allow more tokens"):
        asked(lambda who: f"<think>She is a {who}")
    found = asked(lambda who: "<think>Whom do I take? He or she.</think>She met him.")
    assert PROBE.describe(found, 0, 100)["counts"] == {"female": 240.0, "male": 240.0}
    first = _lists(None)[0][0]
    few = asked(lambda who: "<think>She and she." if who == first else "She met him.")
    assert PROBE.describe(few, 0, 100)["counts"] == {"female": 232.0, "male": 232.0}, "thoughts are not counted"
