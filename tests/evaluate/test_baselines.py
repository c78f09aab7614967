import json
from dataclasses import replace

import numpy as np
import pytest

from tunewright.core.errors import UserError
from tunewright.core.plugins import everything
from tunewright.core.records import Example, Turn, text_part
from tunewright.data.pool import pooled
from tunewright.evaluate.baselines._text import question
from tunewright.evaluate.baselines.majority import Majority
from tunewright.evaluate.baselines.prior import Prior
from tunewright.evaluate.baselines.tfidf import Tfidf
from tunewright.evaluate.closed import probabilities
from tunewright.evaluate.contracts import Baseline
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.ece import Ece

from .made import LABELS, example, records_of, summary

BASELINES = [plugin() for plugin in everything("baselines") if plugin.applies is Baseline.applies]
"""Those for any labelled rows; the others are tested on careers (test_careers.py)."""
BY_NAME = pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: b.plugin_name())
WORDS = {"bad": ["awful", "broken"], "fine": ["okay", "usual"], "good": ["lovely", "superb"]}


def reviews(n: int, seed: int, unit: bool = False) -> list[Example]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = str(rng.choice(LABELS, p=[0.2, 0.3, 0.5]))
        filler = " ".join(rng.choice(["the", "film", "was", "quite", "a", "thing"], 6))
        text = f"{filler} {rng.choice(WORDS[label])}"
        rows.append(example(f"{seed}-{i}", label, text, unit=f"u{i // 2}" if unit else None))
    return rows


@BY_NAME
def test_every_baseline_answers_every_test_row_with_log_probabilities(baseline):
    test = reviews(30, 1)
    found = baseline.outcomes(reviews(90, 0), test, LABELS)
    assert [outcome.example for outcome in found] == test
    for outcome in found:
        assert np.exp(outcome.choices).sum() == pytest.approx(1)
        json.dumps(outcome.choices.tolist(), allow_nan=False)


@BY_NAME
def test_no_baseline_reads_the_answers_of_the_test(baseline):
    train, test = reviews(90, 0), reviews(30, 1)
    blind = [example(row.id, "bad", row.prompt_text) for row in test]
    seen = [outcome.choices for outcome in baseline.outcomes(train, test, LABELS)]
    assert np.allclose(seen, [outcome.choices for outcome in baseline.outcomes(train, blind, LABELS)])


@BY_NAME
def test_survey_weights_that_are_all_alike_change_nothing_and_rows_of_none_are_none(baseline):
    train, test = reviews(90, 0), reviews(9, 1)
    plain = np.array([o.choices for o in baseline.outcomes(train, test, LABELS)])
    alike = [replace(row, survey_weight=7.0) for row in train]
    assert np.allclose([o.choices for o in baseline.outcomes(alike, test, LABELS)], plain)
    silent = [replace(row, survey_weight=0.0) for row in reviews(60, 2)]
    found = [o.choices for o in baseline.outcomes([*train, *silent], test, LABELS)]
    assert np.allclose(found, plain)


def test_the_text_classifier_counts_what_rows_stand_for():
    """Of equal texts with two answers the heavier is the likelier, and a weight is the row written so often."""
    train = [example(f"{n}", LABELS[n % 3], f"{WORDS[LABELS[n % 3]][0]} film") for n in range(12)]
    train += [example(f"x{n}", "good" if n % 4 else "bad", "unheard of") for n in range(12)]
    heavy = [
        replace(row, survey_weight=9.0 if row.id.startswith("x") and row.answer.text == "bad" else 1.0) for row in train
    ]
    asked = [example("t", "good", "unheard of")]

    def said(rows):
        return LABELS[int(Tfidf().outcomes(rows, asked, LABELS)[0].choices.argmax())]

    assert (said(train), said(heavy)) == ("good", "bad")


@BY_NAME
def test_the_same_twice(baseline):
    one, other = ([o.choices for o in baseline.outcomes(reviews(90, 0), reviews(9, 1), LABELS)] for _ in range(2))
    assert np.array_equal(one, other)


@BY_NAME
@pytest.mark.parametrize("train", [[], [example("a", "splendid")]], ids=["none", "other labels"])
def test_training_rows_without_labels_are_refused(baseline, train):
    with pytest.raises(UserError, match=rf"None of {len(train)} training rows"):
        baseline.outcomes(train, reviews(3, 1), LABELS)


@BY_NAME
def test_a_single_label_an_empty_text_and_no_test_rows_are_answered(baseline):
    only = [example(str(i), "fine", "") for i in range(5)]
    if baseline.plugin_name() != "uniform":  # to which all labels are alike
        assert [int(np.argmax(o.choices)) for o in baseline.outcomes(only, only, LABELS)] == [1] * 5
    assert baseline.outcomes(only, [], LABELS) == []


def test_majority_and_prior_choose_alike_and_only_prior_is_calibrated():
    train, test = reviews(400, 0), reviews(400, 1)
    majority, prior = (baseline.outcomes(train, test, LABELS) for baseline in (Majority(), Prior()))
    assert records_of(Accuracy(), majority).tolist() == records_of(Accuracy(), prior).tolist()
    assert summary(Ece(), records_of(Ece(), prior)) < 0.1 < summary(Ece(), records_of(Ece(), majority))
    shares = [np.mean([row.answer.text == label for row in train]) for label in LABELS]
    assert probabilities(prior[0].choices) == pytest.approx(shares, abs=0.01)


def test_majority_and_prior_break_a_tie_alike():
    train = [example("a", "good"), example("b", "bad")]
    chosen = {int(np.argmax(b.outcomes(train, train, LABELS)[0].choices)) for b in (Majority(), Prior())}
    assert chosen == {0}


def test_trivial_are_those_that_do_not_read():
    assert {b.plugin_name() for b in BASELINES if b.trivial} == {"majority", "prior", "uniform"}


def test_tfidf_learns_words_and_leaves_unseen_labels_improbable():
    train = [row for row in reviews(200, 0) if row.answer.text != "fine"]
    test = [row for row in reviews(60, 1) if row.answer.text != "fine"]
    found = Tfidf().outcomes(train, test, LABELS)
    assert summary(Accuracy(), records_of(Accuracy(), found)) == 1.0
    assert all(outcome.choices[1] == -30 for outcome in found)


def test_tfidf_reads_scripts_without_spaces():
    kinds = [("bad", "糟糕"), ("good", "好看")]
    train = [example(str(i), kinds[i % 2][0], f"第{i}部电影很{kinds[i % 2][1]}啊") for i in range(40)]
    found = Tfidf().outcomes(train, [example("a", "good", "这本书好看"), example("b", "bad", "这本书糟糕")], LABELS)
    assert [int(np.argmax(o.choices)) for o in found] == [2, 0]


def test_a_text_baseline_reads_all_that_the_model_is_asked():
    turns = [("system", "Be brief."), ("user", "one"), ("assistant", "two"), ("user", "three")]
    asked = Example(tuple(Turn(role, (text_part(text),)) for role, text in turns), ())
    assert question(asked) == "Be brief.\none\ntwo\nthree"
    assert question(Example((Turn("system", (text_part("alone"),)),), ())) == "alone"


@pytest.mark.parametrize("baseline", [Prior(), Majority(), Tfidf()], ids=lambda b: b.plugin_name())
def test_rows_of_a_pool_do_not_move_what_a_model_must_beat(baseline):
    train, test = reviews(60, 0), reviews(9, 1)
    skewed = [pooled(example(f"p{number}", "bad", "lovely film")) for number in range(200)]
    wanted = [outcome.choices for outcome in baseline.outcomes(train, test, LABELS)]
    found = [outcome.choices for outcome in baseline.outcomes([*skewed, *train], test, LABELS)]
    np.testing.assert_array_equal(found, wanted)
