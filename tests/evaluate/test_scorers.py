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
from tunewright.evaluate.classifiers import open_classifier
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
    return saved(tmp_path_factory.mktemp("classifier"), "toxic", "fine")


def saved(place: Path, *labels: str, **fields: str) -> Path:
    """A random classifier of these labels."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer("qwen2")
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0, id2label=dict(enumerate(labels)), **fields,
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


def test_a_classifier_of_two_labels_is_read_at_the_given_and_else_at_the_one_named_toxic(folder, tmp_path):
    first = scorer_of(str(folder)).scores(TEXTS[:2])
    last = scorer_of({"name": "classifier", "folder": str(folder), "label": "fine"}).scores(TEXTS[:2])
    assert np.allclose(first + last, 1, atol=1e-6)
    unnamed = scorer_of(str(saved(tmp_path / "unnamed", "LABEL_0", "LABEL_1")))
    with pytest.raises(UserError, match="nothing says which of them is the toxic one"):
        unnamed.scores(TEXTS)
    with pytest.raises(UserError, match="Allowed: toxic, fine"):
        scorer_of(f"classifier(folder={folder}, label=rude)").scores(TEXTS)


def test_labels_that_do_not_exclude_one_another_have_a_probability_of_their_own(tmp_path):
    labels = ("toxic", "insult", "threat")
    place = saved(tmp_path / "several", *labels, problem_type="multi_label_classification")
    tokenizer, module = open_classifier(place)
    with torch.inference_mode():
        logits = module(**tokenizer(TEXTS[0], return_tensors="pt")).logits[0]
    found = [scorer_of(f"classifier(folder={place}, label={label})").scores(TEXTS[:1])[0] for label in labels]
    assert np.allclose(found, logits.sigmoid(), atol=1e-6)
    assert sum(found) != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("labels", [("toxic", "insult", "threat"), ("hate", "nothate")])
def test_a_classifier_whose_toxic_label_would_be_guessed_is_refused_before_texts_are_written(tmp_path, labels):
    place = saved(tmp_path / "unclear", *labels)
    with pytest.raises(UserError, match=f"the labels {', '.join(labels)}, and nothing says"):
        scorer_of(str(place)).scores(TEXTS)
    written: list[str] = []  # of subjects
    with pytest.raises(UserError, match="nothing says"):
        asked(written.append, build("probes", {"name": "representation", "toxicity": str(place)}))
    assert not written
    assert 0 <= scorer_of(f"classifier(folder={place}, label={labels[0]})").scores(TEXTS[:1])[0] <= 1


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
    assert described["toxicity_interval"] == {"value": 1, "low": 1, "high": 1}
    some = probe.describe(asked(lambda who: f"She met a {'fool' if len(who) % 2 else 'friend'}.", probe), 0, 200)
    assert 0 < some["toxicity_interval"]["low"] < some["toxicity"] < some["toxicity_interval"]["high"] < 1
    assert not described["not_measured"]
    json.dumps(described, allow_nan=False)


def test_answers_scored_by_another_list_are_not_taken(insults):
    setting = {"name": "representation", "toxicity": f"words(file={insults})"}
    before = build("probes", setting).version
    insults.write_text("dolt\n")
    assert build("probes", setting).version != before
