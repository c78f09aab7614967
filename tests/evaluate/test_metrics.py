import math
import random
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from sklearn.metrics import accuracy_score, f1_score

from tunewright.core.plugins import everything, find
from tunewright.core.records import Answer, text_part
from tunewright.evaluate.contracts import Outcome
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.bits_per_byte import BitsPerByte
from tunewright.evaluate.metrics.ece import Ece
from tunewright.evaluate.metrics.exact_match import ExactMatch
from tunewright.evaluate.metrics.loss import ObjectiveLoss
from tunewright.evaluate.metrics.macro_f1 import MacroF1
from tunewright.evaluate.metrics.nll import Nll
from tunewright.evaluate.metrics.rouge_l import RougeL
from tunewright.evaluate.metrics.stop_rate import StopRate
from tunewright.evaluate.metrics.top_k import TopK
from tunewright.evaluate.words import words

from .made import LABELS, chooses, example, records_of, summary

OF_CAREERS = ("move_auc", "move_ece")
"""These look at the title before as well; they are tested on careers (test_careers.py)."""
METRICS = [
    plugin(k=1) if plugin is TopK else plugin()  # 3 labels: 5 always hit
    for plugin in everything("metrics")
    if plugin.plugin_name() not in OF_CAREERS
]
SIDES = ("good", "bad")
IDS = [metric.plugin_name() for metric in METRICS]


DIRECTED = [metric for metric in METRICS if metric.plugin_name() != "ece_platt"]
"""Platt scaling forgives what was stated before it, so that better answers need not be better there."""


def answered(id: str, quality: float, label: str = "good") -> Outcome:
    """An outcome with everything filled in; quality 0 = all wrong, 1 = perfect."""
    wanted = "it was good"
    choices = np.array([1.0 - quality, 0.0, quality]) * 30
    return Outcome(
        replace(example(id), answers=(Answer((text_part(label),)),)),
        answer_log_prob=-5.0 * (1.1 - quality),
        answer_tokens=4,
        answer_bytes=11,
        choices=choices if label == "good" else choices[::-1],
        text=label if quality == 1 else wanted if quality > 0 else "bad",
        stopped=quality > 0,
        loss_sum=7.0 - quality,
        loss_count=4.0,
    )


def drawn_records(metric, seed: int, n: int = 40):
    rng = np.random.default_rng(seed)
    outcomes = []
    for row in range(n):
        outcome = answered(str(row), float(rng.choice([0, 0.3, 1])))
        outcomes.append(
            replace(
                outcome,
                example=example(str(row), str(rng.choice(LABELS))),
                answer_log_prob=-float(rng.gamma(2)),
                answer_tokens=int(rng.integers(1, 9)),
                answer_bytes=int(rng.integers(1, 30)),
                choices=rng.normal(size=3),
                loss_count=float(rng.integers(1, 5)),
            )
        )
    return records_of(metric, outcomes)


def caught_by_direction(metric) -> bool:
    """Whether better answers lower a figure that should rise (or raise one that should fall)."""
    figures = [
        summary(
            metric, records_of(metric, [answered(f"{i} {n}", q, n) for i, q in enumerate(qualities) for n in SIDES])
        )
        for qualities in ([0, 0, 0.3], [0, 0.3, 1], [1, 1, 1])
    ]
    steps = np.diff(figures) * (1 if metric.higher_is_better else -1)
    return bool((steps < -1e-12).any() or steps.sum() <= 0)


@pytest.mark.parametrize("metric", DIRECTED, ids=lambda metric: metric.plugin_name())
def test_better_answers_never_make_a_figure_worse(metric):
    assert not caught_by_direction(metric)


@pytest.mark.parametrize("metric", DIRECTED, ids=lambda metric: metric.plugin_name())
def test_a_metric_with_its_sign_swapped_is_caught(metric):
    class Swapped:
        higher_is_better = not metric.higher_is_better
        record = staticmethod(metric.record)
        summarise = staticmethod(metric.summarise)

    assert caught_by_direction(Swapped())


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_weight_is_the_row_written_so_often(metric, seed):
    records = drawn_records(metric, seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(records))
    assert summary(metric, records, weights) == pytest.approx(summary(metric, np.repeat(records, weights, axis=0)))


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_order_and_scale_of_weights_change_nothing(metric):
    records = drawn_records(metric, 5)
    weights = np.random.default_rng(6).integers(0, 4, len(records)).astype(float)
    order = np.random.default_rng(7).permutation(len(records))
    wanted = summary(metric, records, weights)
    assert summary(metric, records[order], weights[order]) == pytest.approx(wanted)
    assert summary(metric, records, weights * 3) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_many_weightings_at_once_equal_one_by_one(metric):
    records = drawn_records(metric, 1)
    weights = np.random.default_rng(2).integers(0, 4, (7, len(records))).astype(float)
    together = metric.summarise(records, weights)
    assert together.shape == (7,)
    assert together == pytest.approx([summary(metric, records, row) for row in weights])


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_what_was_not_asked_gives_no_record(metric):
    assert metric.record(Outcome(example("a")), LABELS) is None


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_what_is_needed_suffices(metric):
    full = answered("a", 0.3)
    fields = {
        "answer": ("answer_log_prob", "answer_tokens", "answer_bytes"),
        "choices": ("choices",),
        "text": ("text", "stopped"),
        "loss": ("loss_sum", "loss_count"),
    }[metric.needs]
    only = Outcome(full.example, **{name: getattr(full, name) for name in fields})
    assert metric.record(only, LABELS) == metric.record(full, LABELS)


def test_the_folder_holds_the_promised_metrics():
    assert set(IDS) >= {
        "nll",
        "bits_per_byte",
        "exact_match",
        "accuracy",
        "macro_f1",
        "ece",
        "rouge_l",
        "stop_rate",
        "loss",
    }
    assert find("metrics", "loss") is ObjectiveLoss


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_accuracy_and_macro_f1_equal_scikit_learn(rows):
    true, said, weight = (np.array(column) for column in zip(*rows, strict=True))
    if not weight.sum():
        weight = weight + 1
    outcomes = [chooses(str(i), LABELS[s], LABELS[t]) for i, (t, s) in enumerate(zip(true, said, strict=True))]
    true_w, said_w = np.repeat(true, weight), np.repeat(said, weight)
    accuracy = summary(Accuracy(), records_of(Accuracy(), outcomes), weight)
    assert accuracy == pytest.approx(accuracy_score(true_w, said_w))
    wanted = f1_score(true_w, said_w, average="macro", zero_division=0.0)
    assert summary(MacroF1(), records_of(MacroF1(), outcomes), weight) == pytest.approx(wanted)


def test_a_label_that_is_not_in_the_list_is_never_right():
    outcome = chooses("a", "good", answer="splendid")
    assert Accuracy().record(outcome, LABELS) == (0.0,)
    assert summary(MacroF1(), records_of(MacroF1(), [outcome])) == 0.0


def test_labels_are_compared_in_nfc():
    labels = ["cafe\u0301", "tea"]
    outcome = Outcome(example("a", "caf\u00e9"), choices=np.array([1.0, 0.0]))
    assert Accuracy().record(outcome, labels) == (1.0,)


@pytest.mark.parametrize("metric", [Accuracy(), MacroF1(), Ece()], ids=lambda metric: metric.plugin_name())
@pytest.mark.parametrize("bad", [[math.nan, 0.0, 1.0], [-math.inf] * 3, [math.inf, 0.0, 0.0]])
def test_scores_that_do_not_rank_are_not_taken_for_an_answer(metric, bad):
    record = metric.record(Outcome(example("a"), choices=np.array(bad)), LABELS)
    assert not np.isfinite(record).all()


@pytest.mark.parametrize("metric", [Accuracy(), MacroF1(), Ece()], ids=lambda metric: metric.plugin_name())
def test_an_impossible_label_is_a_fair_score(metric):
    assert np.isfinite(metric.record(Outcome(example("a"), choices=np.array([-math.inf, 0.0, 1.0])), LABELS)).all()


def test_nll_and_bits_are_ratios_of_sums_not_means_of_ratios():
    outcomes = [
        Outcome(example("a"), answer_log_prob=-8.0, answer_tokens=2, answer_bytes=4),
        Outcome(example("b"), answer_log_prob=-1.0, answer_tokens=8, answer_bytes=16),
    ]
    assert summary(Nll(), records_of(Nll(), outcomes)) == pytest.approx(0.9)
    assert summary(BitsPerByte(), records_of(BitsPerByte(), outcomes)) == pytest.approx(9 / math.log(2) / 20)


def test_exact_match_ignores_outer_space_and_normal_form_but_nothing_else():
    text = "caf\u00e9 Noir"
    for said, right in (
        (f"  {unicodedata.normalize('NFD', text)}\n", 1.0),
        (text.lower(), 0.0),
        ("caf\u00e9  Noir", 0.0),
        ("", 0.0),
    ):
        assert ExactMatch().record(Outcome(example("a", text), text=said), LABELS) == (right,)


def test_answers_of_equal_rank_are_accepted_and_lower_ones_are_not():
    both = example("a", ["yes", "yeah"])
    preference = replace(both, answers=(both.answers[0], replace(both.answers[1], rank=1)))
    for metric in (ExactMatch(), RougeL()):
        assert metric.record(Outcome(both, text="yeah"), LABELS) == (1.0,)
        assert metric.record(Outcome(preference, text="yeah"), LABELS) == (0.0,)


def test_stop_rate_counts_only_what_was_generated():
    outcomes = [Outcome(example("a"), stopped=True), Outcome(example("b"), stopped=False), Outcome(example("c"))]
    records = [StopRate().record(outcome, LABELS) for outcome in outcomes]
    assert records == [(1.0,), (0.0,), None]


def brute_ece(confidence, right, bins=10):
    """Each row split into 1/1000ths, ties shared evenly, then plain bins of equal count."""
    means = {c: np.mean([r for d, r in zip(confidence, right, strict=True) if d == c]) for c in confidence}
    fine = np.repeat(sorted(confidence), 1000)
    hits = np.array([means[c] for c in fine])
    return sum(abs(np.sum(h - c)) for c, h in zip(np.split(fine, bins), np.split(hits, bins), strict=True)) / len(fine)


@pytest.mark.parametrize("n", [1, 7, 10, 33])
def test_ece_equals_brute_force(n):
    rng = np.random.default_rng(n)
    confidence = np.round(rng.uniform(0.4, 1, n), 1)
    right = (rng.random(n) < confidence).astype(float)
    assert summary(Ece(), np.column_stack([confidence, right])) == pytest.approx(brute_ece(confidence, right))


def test_a_constant_honest_confidence_has_no_calibration_error():
    assert summary(Ece(), [[0.75, 1.0], [0.75, 1.0], [0.75, 0.0], [0.75, 1.0]]) == pytest.approx(0.0)


def test_rouge_l_equals_rouge_score_on_english():
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    draw = random.Random(0)
    vocabulary = ["the", "Cat", "sat", "on", "mat_2", "don't", "U.S.", "42%", "--", "it's", "a", "a"]
    for _ in range(200):
        target, said = (" ".join(draw.choices(vocabulary, k=draw.randint(0, 25))) for _ in range(2))
        wanted = scorer.score(target, said)["rougeL"].fmeasure
        record = RougeL().record(Outcome(example("a", target), text=said), LABELS)
        assert record == pytest.approx((wanted,)), (target, said)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("ที่ดี", ["ที่", "ดี"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("Привет, МИР", ["привет", "мир"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("GPT東京 2号", ["gpt", "東", "京", "2", "号"]),
        ("!? …", []),
    ],
)
def test_words_of_every_script_are_split(text, wanted):
    assert words(text) == wanted
    assert words(unicodedata.normalize("NFD", text)) == wanted


def test_half_of_a_chinese_answer_is_half_right():
    assert RougeL().record(Outcome(example("a", "我爱北京"), text="我爱上海"), LABELS) == pytest.approx((0.5,))
