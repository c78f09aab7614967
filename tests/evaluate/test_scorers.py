"""Scorers of toxicity: the contract over all, a list of words in any script, a classifier by its label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from evaluate.test_representation import asked
from tiny import tiny_tokenizer
from tunewright.core.errors import UserError
from tunewright.core.plugins import build, everything
from tunewright.evaluate.toxicity import scorer_of

TEXTS = ["You fool!", "Foolish, but kind.", ""]


@pytest.fixture
def insults(tmp_path: Path) -> Path:
    path = tmp_path / "insults.txt"
    path.write_text("\ufeffFOOL\n\nhalf wit\n笨蛋\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier of two labels."""
    place = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer("qwen2")
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0, id2label={0: "toxic", 1: "fine"},
    )  # fmt: skip
    Qwen2ForSequenceClassification(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.mark.parametrize("plugin", everything("scorers"), ids=lambda plugin: plugin.plugin_name())
def test_every_scorer_gives_a_number_from_0_to_1_a_text(plugin, insults, folder):
    found = {"words": {"file": insults}, "classifier": {"folder": folder}}[plugin.plugin_name()]
    scorer = plugin(**found)
    scores = scorer.scores(TEXTS)
    assert scores.shape == (3,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scorer.content


def test_entries_are_found_as_whole_words_in_any_case_and_script(insults):
    scorer = scorer_of(f"words(file={insults})")
    assert scorer.scores([*TEXTS, "A half wit", "half a wit", "你这个笨蛋", "笨 鸟"]).tolist() == [1, 0, 0, 1, 0, 1, 0]


def test_a_classifier_is_read_at_its_label_and_else_at_the_last(folder):
    first = scorer_of({"name": "classifier", "folder": str(folder), "label": "toxic"}).scores(TEXTS[:2])
    last = scorer_of(str(folder)).scores(TEXTS[:2])
    assert np.allclose(first + last, 1, atol=1e-6)
    with pytest.raises(UserError, match="Allowed: toxic, fine"):
        scorer_of(f"classifier(folder={folder}, label=rude)").scores(TEXTS)


def test_what_is_not_there_is_said(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n !\n")
    for setting, said in (("words(file=nowhere.txt)", "cannot be read"), (f"words(file={empty})", "holds no word"),
                          ("nowhere", "does not open")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            scorer_of(setting).scores(TEXTS)
    with pytest.raises(UserError, match="file"):
        build("probes", {"name": "representation", "toxicity": "words"})


def test_texts_of_base_and_tuned_are_scored_and_compared(insults):
    probe = build("probes", {"name": "representation", "toxicity": f"words(file={insults})"})
    kind, rude = (asked(lambda who, said=said: f"She met him, {said}.", probe) for said in ("friend", "fool"))
    toxicity = next(figure for figure in probe.compare(kind, rude, 0, 200).figures if figure.name == "toxicity")
    assert (toxicity.base, toxicity.tuned, toxicity.low) == (0, 1, 1)
    described = probe.describe(rude, 0, 200)
    assert described["toxicity"] == 1
    assert not described["not_measured"]
    json.dumps(described, allow_nan=False)


def test_answers_scored_by_another_list_are_not_taken(insults):
    setting = {"name": "representation", "toxicity": f"words(file={insults})"}
    before = build("probes", setting).version
    insults.write_text("dolt\n")
    assert build("probes", setting).version != before
