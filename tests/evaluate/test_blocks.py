from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import recall_score

from tunewright.core.blocks import Bars, Pairs, Reliability, Table, blocks
from tunewright.evaluate.blocks import SHOWN, changed_examples, outcome_blocks, per_class_table, reliability
from tunewright.evaluate.compare import Answered, How
from tunewright.evaluate.contracts import Outcome
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.nll import Nll

from .made import LABELS, chooses, example


def answered(seed: int, right: float, n: int = 80):
    rng = np.random.default_rng(9)
    truths = rng.choice(LABELS, n)
    rng = np.random.default_rng(seed)
    said = [truth if rng.random() < right else rng.choice(LABELS) for truth in truths]
    return [
        chooses(f"r{i:02}", str(said[i]), str(truth), sure=float(rng.uniform(1, 4))) for i, truth in enumerate(truths)
    ]


BASE, TUNED = answered(0, 0.3), answered(1, 0.8)
ACCURACY = (Accuracy(),)


def shown(base=BASE, tuned=TUNED, metrics=ACCURACY, labels=LABELS, **how):
    answers = Answered(base, tuned, {"majority": answered(2, 0.0)}, metrics, labels)
    return outcome_blocks(answers, How(**{"primary": {"accuracy"}, "resamples": 300, **how}))


def test_all_blocks_are_valid_and_in_their_chapters():
    found = shown()
    assert blocks.validate_python(blocks.dump_python(found)) == found
    assert [(block.kind, block.section) for block in found] == [
        ("bars", "result"),
        ("table", "classes"),
        ("table", "classes"),
        ("reliability", "classes"),
        ("pairs", "examples"),
        ("pairs", "examples"),
    ]


def test_bars_have_each_model_with_its_own_interval():
    bars = next(block for block in shown() if isinstance(block, Bars)).bars
    assert [(bar.label, bar.role) for bar in bars] == [
        ("Base model", "base"), ("Tuned model", "tuned"), ("Always the commonest class", "baseline"),
    ]  # fmt: skip
    assert all(bar.low < bar.value < bar.high for bar in bars)


def test_sensitivity_is_recall_and_intervals_are_wilson():
    table = per_class_table(BASE, TUNED, LABELS)
    assert table.columns == [
        "label",
        "n",
        "base sensitivity",
        "base specificity",
        "tuned sensitivity",
        "tuned specificity",
    ]
    true = [outcome.example.answer.text for outcome in TUNED]
    said = [LABELS[int(np.argmax(outcome.choices))] for outcome in TUNED]
    recall = recall_score(true, said, labels=LABELS, average=None)
    for row, label, wanted in zip(table.rows, LABELS, recall, strict=True):
        n = true.count(label)
        assert row[:2] == [label, n]
        low, high = stats.binomtest(round(wanted * n), n).proportion_ci(method="wilson")
        assert row[4] == f"{wanted:.2f} ({low:.2f} to {high:.2f})"
        others = [s != label for s, t in zip(said, true, strict=True) if t != label]
        assert row[5].startswith(f"{np.mean(others):.2f} (")


def test_a_label_without_rows_has_no_sensitivity():
    table = per_class_table(BASE, TUNED, [*LABELS, "never"])
    assert table.rows[3][1:3] == [0, None]
    assert table.rows[3][4] is None


def test_confusions_are_counted_by_pair_commonest_first():
    table = next(block for block in shown() if isinstance(block, Table) and block.title == "Confused labels")
    wrong = [o for o in TUNED if LABELS[int(np.argmax(o.choices))] != o.example.answer.text]
    assert sum(row[3] for row in table.rows) == len(wrong)
    assert [row[3] for row in table.rows] == sorted((row[3] for row in table.rows), reverse=True)
    assert all(row[0] != row[1] for row in table.rows)
    assert table.columns == ["true label", "answered", "base", "tuned"]
    assert table.note.startswith("Rows answered wrongly, by pair of labels")


def test_a_true_label_outside_the_list_is_named_so():
    strange = [replace(o, example=replace(o.example, answers=example("x", "odd").answers)) for o in TUNED]
    table = next(block for block in shown(strange, strange) if block.title == "Confused labels")
    assert {row[0] for row in table.rows} == {"(not in the label list)"}


def test_reliability_bins_hold_all_rows_and_their_means():
    block = reliability({"base": BASE, "tuned": TUNED}, LABELS)
    assert isinstance(block, Reliability)
    for name, outcomes in (("base", BASE), ("tuned", TUNED)):
        bins = block.series[name]
        assert sum(b.count for b in bins) == len(outcomes)
        right = np.mean([LABELS[int(np.argmax(o.choices))] == o.example.answer.text for o in outcomes])
        assert sum(b.count * b.accuracy for b in bins) / len(outcomes) == pytest.approx(right)
        assert [b.confidence for b in bins] == sorted(b.confidence for b in bins)


def test_eight_rows_of_a_person_tell_no_more_than_one_where_intervals_are_shown():
    people = [replace(o, example=replace(o.example, unit=f"p{row // 8}")) for row, o in enumerate(TUNED)]

    def widths(outcomes):
        bins = reliability({"base": outcomes, "tuned": outcomes}, LABELS).series["tuned"]
        return np.array([b.high - b.low for b in bins])

    assert (widths(people) >= widths(TUNED) - 1e-12).all()
    assert widths(people).mean() > 1.1 * widths(TUNED).mean()
    one = [replace(o, example=replace(o.example, unit=None)) for o in TUNED]
    assert widths(one) == pytest.approx(widths(TUNED))


def test_the_most_changed_examples_come_first_in_both_directions():
    nats = {f"r{i:02}": (i - 15) / 10 for i in range(40)}
    base = [Outcome(example(id), answer_log_prob=-6.0, answer_tokens=2) for id in nats]
    tuned = [replace(o, answer_log_prob=-6.0 + 2 * nats[o.example.id]) for o in base]
    better, worse = changed_examples(base, tuned, Nll(), [])
    assert [pair.id.rpartition(":")[2] for pair in better.pairs] == [f"r{i}" for i in range(39, 39 - SHOWN, -1)]
    assert [pair.id.rpartition(":")[2] for pair in worse.pairs] == [f"r{i:02}" for i in range(SHOWN)]
    assert better.pairs[0].note == "Loss on the answers -2.4"
    assert better.pairs[0].tuned == "0.60 nats a token on the wanted answer"


def test_nothing_changed_shows_no_examples():
    assert not [block for block in shown(BASE, BASE) if isinstance(block, Pairs)]


def test_free_text_has_no_class_blocks():
    base, tuned = (
        [Outcome(example(f"r{i}"), answer_log_prob=-value * (1 + i), answer_tokens=1, text="x") for i in range(20)]
        for value in (2.0, 1.0)
    )
    found = shown(base, tuned, [Nll()], [], primary={"nll"})
    assert [block.kind for block in found] == ["bars", "pairs"]
    assert found[1].pairs[0].base == "x"


def test_survey_weights_count_in_the_diagram_and_in_a_label_s_rows():
    weigh = lambda outcomes: [  # noqa: E731
        replace(one, example=replace(one.example, survey_weight=float(row % 4))) for row, one in enumerate(outcomes)
    ]
    base, tuned = weigh(BASE), weigh(TUNED)
    bins = reliability({"tuned": tuned}, LABELS).series["tuned"]
    assert sum(one.mass for one in bins) == sum(row % 4 for row in range(len(tuned)))
    table = per_class_table(base, tuned, LABELS)
    wanted = [sum(o.example.answer.text == name and o.example.survey_weight > 0 for o in tuned) for name in LABELS]
    assert [row[1] for row in table.rows] == wanted
    assert sum(wanted) < len(tuned)
