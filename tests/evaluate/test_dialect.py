"""The dialect probe: published vectors, brute force, planted prejudice found, nothing found where nothing is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from tiny import KINDS, one_thread, open_tiny
from tunewright.core.blocks import blocks
from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.data.dialect import TRAIT_FRAMES, make_pairs
from tunewright.evaluate.dialect import figures
from tunewright.evaluate.dialect.ask import OVERT_FRAMES, frames_of
from tunewright.evaluate.dialect.words import Ratings, Word, read_ratings, read_words
from tunewright.evaluate.gates import INCREASES
from tunewright.models.contracts import LoadedModel, Origin
from tunewright.models.encoding import plain_ids
from tunewright.models.families.causal_lm import _plain_logits

__all__ = ["one_thread", "open_tiny"]
KATZ = ["lazy", "ignorant", "musical", "religious", "stupid"]
TRAITS = [word.text for word in read_words(())["trait"]]


def silent(what: str, done: int, total: int, detail: str = "") -> None:
    """No progress."""


class Said:
    """A family whose log-probabilities are noise of context and word, moved by `tilt(context, word)`."""

    def __init__(self, tilt: Any = lambda context, word: 0.0) -> None:
        self.tilt = tilt
        self.asked = 0

    def raw_texts(self, model: Any) -> Said:
        return self

    def choices(self, contexts: Sequence[str], answers: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        for context, words in zip(contexts, answers, strict=True):
            self.asked += 1
            draw = np.random.default_rng(abs(hash_of(context)) % 2**32)
            yield -8 + 0.3 * draw.normal(size=len(words)) + np.array([self.tilt(context, w.strip()) for w in words])

    def continuation_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[1] * len(text.split()) for text in texts]


def hash_of(text: str) -> int:
    """The same in every process, unlike `hash`."""
    return int.from_bytes(text.encode()[-64:], "big")


def model(tilt: Any = lambda context, word: 0.0) -> LoadedModel:
    return LoadedModel(nn.Dropout(0.5), SimpleNamespace(), Said(tilt), Origin("said", Path(), ""))  # type: ignore[arg-type]


def prejudiced(size: float) -> Any:
    """Unfavourable traits are likelier behind texts of the dialect, by `size` nats."""
    bad = {word.text for word in read_words(())["trait"] if word.favour < 0}
    variants = [pair.variant for pair in make_pairs(32)]
    return lambda context, word: size * (word in bad and any(f'" {text} "' in context for text in variants))


QUICK = build("probes", {"name": "dialect", "count": 32})


@pytest.fixture(scope="module")
def fair() -> dict[str, np.ndarray]:
    return QUICK.ask(model(), silent)


@pytest.fixture(scope="module")
def unfair() -> dict[str, np.ndarray]:
    return QUICK.ask(model(prejudiced(1.0)), silent)


# Published vectors


@pytest.mark.parametrize(
    ("order", "value"),
    [
        (sorted(TRAITS), 0.0983),
        (sorted(TRAITS, reverse=True), 0.1218),
        (
            ["dirty", "stupid", "rude", "ignorant", "lazy"]
            + [w for w in sorted(TRAITS) if w not in ("dirty", "stupid", "rude", "ignorant", "lazy")],
            0.2799,
        ),
    ],
)
def test_agreement_is_that_of_the_published_vectors(order, value) -> None:
    assert figures.agreement(order, KATZ) == pytest.approx(value, abs=5e-5)
    q = np.array([[-order.index(word) for word in TRAITS]], dtype=float)
    assert figures.agreements_of(q, TRAITS, KATZ) == pytest.approx([value], abs=5e-5)


def test_random_orders_agree_as_published() -> None:
    draw = np.random.default_rng(0)
    q = draw.normal(size=(4000, len(TRAITS)))
    found = figures.agreements_of(q, TRAITS, KATZ)
    assert found.mean() == pytest.approx(figures.RANDOM_AGREEMENT, abs=0.006)
    assert found.std() == pytest.approx(0.106, abs=0.006)
    by_hand = [figures.agreement([TRAITS[i] for i in np.argsort(-row)], KATZ) for row in q[:50]]
    np.testing.assert_allclose(found[:50], by_hand)


def test_agreement_is_the_mean_over_prompts_of_each_ones_own_order() -> None:
    ratios = np.random.default_rng(1).normal(size=(3, 4, len(TRAITS)))
    units = ["a", "a", "b", "c"]
    found = figures.agreement_by_prompt(ratios, units, TRAITS, KATZ, (0, 400))
    each = [figures.agreement([TRAITS[i] for i in np.argsort(-q)], KATZ) for q in ratios.mean(axis=1)]
    assert found.value == pytest.approx(np.mean(each))
    assert found.value != pytest.approx(figures.agreements_of(ratios.mean(axis=(0, 1))[None], TRAITS, KATZ)[0])
    low, high = found.interval()
    assert low < found.value < high
    alike = figures.agreement_by_prompt(np.repeat(ratios[:1, :1], 3, axis=0), ["a"], TRAITS, KATZ, (0, 50))
    assert alike.draws == pytest.approx([alike.value] * 50), "prompts and pairs that say the same leave nothing to draw"


def test_there_are_as_many_words_and_prompts_as_published() -> None:
    words = read_words(())
    assert {kind: len(some) for kind, some in words.items()} == {
        "trait": 37, "occupation": 0, "conviction": 2, "sentence": 2,
    }  # fmt: skip
    assert (len(TRAIT_FRAMES), len(OVERT_FRAMES)) == (9, 9)
    assert [len(frames_of(kind, "all")) for kind in ("occupation", "conviction", "sentence")] == [9, 3, 3]


# Formulas


def test_q_is_the_mean_log_ratio_matched_and_the_ratio_of_means_pooled() -> None:
    draw = np.random.default_rng(1)
    log_probs = draw.normal(-6, 1, size=(3, 8, 4))
    variant, standard = np.array([0, 2, 4, 6]), np.array([1, 3, 5, 7])
    p = np.exp(log_probs)
    matched = np.log10(p[:, variant] / p[:, standard]).mean(axis=(0, 1))
    found = figures.mean_of(figures.ratios(log_probs, variant, standard), ["a", "b", "c", "d"], 0, 300)
    np.testing.assert_allclose(found.value, matched)
    pooled = np.log10(p[:, variant].mean(axis=1) / p[:, standard].mean(axis=1)).mean(axis=0)
    np.testing.assert_allclose(figures.pooled(log_probs, variant, standard), pooled)
    swapped = figures.ratios(log_probs, standard, variant)
    np.testing.assert_allclose(swapped, -figures.ratios(log_probs, variant, standard))
    np.testing.assert_allclose(figures.pooled(log_probs, standard, variant), -pooled)
    assert np.all(figures.ratios(log_probs, variant, variant) == 0)


def test_pairs_of_a_unit_count_together_and_every_pair_once() -> None:
    cells = np.array([[[1.0], [2.0], [6.0]]])
    found = figures.mean_of(cells, ["a", "a", "b"], 0, 4000)
    assert found.value[0] == 3
    assert set(np.round(found.draws[:, 0], 6)) == {1.5, 3.0, 6.0}  # two units: aa, ab, bb


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Nine prompts and thirty units with effects of their own."""
    draw, hits, runs = np.random.default_rng(2), 0, 300
    for run in range(runs):
        cells = 0.5 * draw.normal(size=(9, 1, 1)) + 0.5 * draw.normal(size=(1, 30, 1)) + draw.normal(size=(9, 30, 1))
        found = figures.mean_of(cells, [str(unit) for unit in range(30)], run, 200)
        hits += bool(found.low[0] <= 0 <= found.high[0])
    assert 0.92 <= hits / runs <= 0.99


def test_decisions_are_counted_over_what_the_text_adds() -> None:
    words = [Word("acquitted", "conviction", 1), Word("convicted", "conviction", -1)]
    p = np.array([[[0.2, 0.5], [0.6, 0.5], [0.3, 0.45]]])  # two texts and the prompt without one
    found = figures.Verdicts.of(np.log(p), words, np.array([0, 0, 0]), np.array([1, 1, 0]))
    assert found.variant_FP.tolist() == [[1, 1, 1]]  # -0.1 against +0.05
    assert found.standard_FP.tolist() == [[0, 0, 1]]  # +0.3 against +0.05
    counts = found.counts()
    assert (counts["variant"], counts["standard"], counts["relative"], counts["n"]) == (1.0, 1 / 3, 2.0, 3)
    assert counts["chi2"] == pytest.approx(stats.chi2_contingency([[3, 0], [1, 2]], correction=False)[0])
    assert figures.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_employability_regresses_prestige_on_association() -> None:
    ratings = Ratings(
        prestige={"lawyer": 7.0, "tax lawyer": 6.0, "cook": 3.0, "fry cook": 1.0, "head cook": 3.0, "judge": 8}
    )
    assert ratings.esteem("lawyer") == 7.0
    assert Ratings(prestige={"fry cook": 1.0, "head cook": 3.0}).esteem("cook") == 2.0
    assert ratings.esteem("sailor") is None
    found = figures.employability(np.array([-0.2, 0.3, -0.4, 0.9]), ["lawyer", "cook", "judge", "sailor"], ratings)
    line = stats.linregress([-0.2, 0.3, -0.4], [7, 3, 8])
    assert found["prestige"] == pytest.approx({"slope": line.slope, "p": line.pvalue, "r2": line.rvalue**2, "n": 3})
    assert found["mean"] == pytest.approx(0.15)
    weighed = figures.favourability(
        np.array([2.0, 1.0, -1.0]), ["a", "b", "c"], Ratings(favour={"a": -1, "b": 2, "c": 5})
    )
    assert weighed == pytest.approx((2 * -1 + 1 * 2) / 3)


# Asking


@pytest.mark.parametrize("kind", KINDS)
def test_every_probability_is_that_of_one_plain_forward(open_tiny, kind) -> None:
    opened = open_tiny(kind, torch.float32)
    probe = build("probes", {"name": "dialect", "count": 2})
    found = probe.ask(opened, silent)
    pair = make_pairs(2)[1]
    for name, frame, text, number, word in (
        ("trait", 4, pair.standard, 3, TRAITS[7]), ("sentence", 2, pair.variant, 2, "death"),
        ("sentence", 1, "", 4, "life"), ("overt", 5, "white", 1, TRAITS[0]),
    ):  # fmt: skip
        prompt = plain_ids(opened.tokenizer, frames_of(name, "all")[frame].replace("{}", text))
        (ids,) = opened.family.raw_texts(opened).continuation_ids([f" {word}"])  # type: ignore[attr-defined]
        steps = _plain_logits(opened.module, [*prompt, *ids])[len(prompt) - 1 : -1].float().log_softmax(-1)
        expected = float(steps[torch.arange(len(ids)), torch.tensor(ids)].sum())
        column = TRAITS.index(word) if word in TRAITS else ["life", "death"].index(word)
        assert found[name][frame, number, column] == pytest.approx(expected, abs=2e-3)
        assert found[f"tokens_{name}"][column] == len(ids)


def test_an_interrupted_asking_asks_the_rest_alone() -> None:
    kept: dict[str, Any] = {}

    def part(name: str, make: Any) -> Any:
        if len(kept) == 3 and name not in kept:
            raise KeyboardInterrupt
        return kept.setdefault(name, None) or kept.__setitem__(name, make()) or kept[name]

    first = model()
    with pytest.raises(KeyboardInterrupt):
        QUICK.ask(first, silent, part)
    second = model()
    found = QUICK.ask(second, silent, lambda name, make: kept.get(name) or make())
    whole = model()
    expected = QUICK.ask(whole, silent)
    assert first.family.asked + second.family.asked == whole.family.asked  # type: ignore[attr-defined]
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_occupations_are_asked_with_the_article_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "occupations.txt"
    file.write_text("artist\ncook\nguard\n")
    seen = set[tuple[str, str]]()

    def tilt(context: str, word: str) -> float:
        if word in ("artist", "cook", "guard"):
            seen.add((context.split()[-1], word))
        return 0.0

    probe = build("probes", {"name": "dialect", "count": 4, "attributes": (file,)})
    answers = probe.ask(model(tilt), silent)
    assert seen == {("an", "artist"), ("a", "cook"), ("a", "guard")}
    assert answers["occupation"].shape == (9, 8, 3)
    described = probe.describe(answers, 0, 200)
    assert set(described["q"]["occupation"]) == {"artist", "cook", "guard"}
    assert set(described["not_measured"]) == {"agreement", "favourability", "prestige"}


def test_broken_weights_are_told() -> None:
    with pytest.raises(UserError, match="not finite"):
        QUICK.ask(model(lambda context, word: math.nan), silent)


# What is found


def test_planted_prejudice_is_found_and_a_fair_model_is_not_accused(fair, unfair) -> None:
    was, now = (QUICK.describe(answers, 0, 500) for answers in (fair, unfair))
    assert was["bias"]["covert"]["low"] < 0 < was["bias"]["covert"]["high"]
    rise = 1.0 / math.log(10)
    assert now["bias"]["covert"]["value"] - was["bias"]["covert"]["value"] == pytest.approx(rise)
    assert now["bias"]["covert"]["low"] > 0
    assert now["bias"]["overt"] == was["bias"]["overt"]
    worst = sorted(now["q"]["trait"], key=lambda word: -now["q"]["trait"][word]["value"])[:10]
    assert set(worst) == {word.text for word in read_words(())["trait"] if word.favour < 0}
    assert set(now["by_feature"]) == {pair.feature for pair in make_pairs(32)}
    json.dumps(now, allow_nan=False)


def test_a_rise_is_a_figure_that_the_gate_knows_and_a_model_against_itself_shows_none(fair, unfair) -> None:
    found = {figure.name: figure for figure in QUICK.compare(fair, unfair, 0, 500).figures}
    covert = found[INCREASES["max_covert_bias_increase"]]
    assert covert.difference == pytest.approx(1 / math.log(10))
    assert covert.low > 0.4
    assert found["dialect_overt_bias"].low < 0 < found["dialect_overt_bias"].high
    again = QUICK.compare(fair, {name: values.copy() for name, values in fair.items()}, 0, 500)
    assert all(figure.difference == 0 and figure.low <= 0 <= figure.high for figure in again.figures)
    assert "No change" in again.sentence


def test_hiding_is_said_when_only_overt_prejudice_falls(fair) -> None:
    hidden = {name: values.copy() for name, values in fair.items()}
    bad = [number for number, word in enumerate(read_words(())["trait"]) if word.favour < 0]
    hidden["overt"][:, 0, bad] -= 2.0
    result = QUICK.compare(fair, hidden, 0, 500)
    assert "hidden rather than removed" in result.sentence
    titles = [block.title for block in result.blocks]
    assert "Covert and overt bias" in titles
    assert "Not measured" in titles
    blocks.validate_python([block.model_dump(mode="json") for block in result.blocks])


def test_a_list_whose_variant_is_negative_by_construction_is_caught(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    names = ["Ann", "Ben", "Cid", "Dot", "Eve", "Fay", "Gus", "Hal", "Ida", "Jim", "Kim", "Lou"]
    file.write_text("".join(f"{name} robs people\t{name} helps people\n" for name in names))
    bad = {word.text for word in read_words(())["trait"] if word.favour < 0}
    probe = build("probes", {"name": "dialect", "pairs": file})
    answers = probe.ask(model(lambda context, word: 0.5 * (word in bad and "robs" in context)), silent)
    described = probe.describe(answers, 0, 500)
    assert described["bias"]["covert"]["low"] > 0.1
    assert described["pairs"] == {"count": 12, "units": 12, "texts": 24}


def test_other_texts_cannot_be_compared(fair) -> None:
    other = build("probes", {"name": "dialect", "count": 16}).ask(model(), silent)
    with pytest.raises(UserError, match="different texts"):
        QUICK.compare(fair, other, 0, 200)


# Files


def test_words_of_a_file_stand_in_place_of_those_of_their_kind(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("tidy\ttrait\t1\nmean\ttrait\t-1\nbaker\toccupation\n")
    words = read_words((file,))
    assert [word.text for word in words["trait"]] == ["tidy", "mean"]
    assert [word.text for word in words["occupation"]] == ["baker"]
    assert [word.favour for word in words["sentence"]] == [1, -1]
    file.write_text("tidy\tvirtue\nmean\ttrait\tbad\n")
    with pytest.raises(UserError) as caught:
        read_words((file, tmp_path / "nothing"))
    assert len(caught.value.problems) == 3


def test_favour_and_prestige_are_compared_with_intervals(tmp_path: Path) -> None:
    jobs = ("artist", "cook", "guard", "judge")
    words, ratings = tmp_path / "occupations.txt", tmp_path / "ratings.json"
    words.write_text("\n".join(jobs))
    ratings.write_text(json.dumps({
        "favourability": {"lazy": -1.5, "brilliant": 1.5}, "prestige": dict(zip(jobs, (3, 2, 1, 7), strict=True)),
    }))  # fmt: skip
    probe = build("probes", {"name": "dialect", "count": 32, "attributes": (words,), "ratings": ratings})
    variants = [pair.variant for pair in make_pairs(32)]

    def tied(to: dict[str, float]) -> Any:
        return lambda context, word: to.get(word, 0.0) * any(text in context for text in variants)

    fond = {"brilliant": 0.5, "judge": 1.0, "artist": 0.3}
    hostile = {"lazy": 0.5, "guard": 1.0, "cook": 0.3}
    before, after = (probe.ask(model(tied(to)), silent) for to in (fond, hostile))
    found = {figure.name: figure for figure in probe.compare(before, after, 0, 200).figures}
    for name in ("dialect_favourability", "dialect_prestige_slope"):
        figure = found[name]
        assert figure.higher_is_better
        assert figure.base > 0 > figure.tuned, figure
        assert figure.low <= figure.difference <= figure.high < 0
    same = {figure.name: figure for figure in probe.compare(before, before, 0, 200).figures}
    assert (same["dialect_prestige_slope"].low, same["dialect_prestige_slope"].high) == (0, 0)


def test_ratings_are_read_in_both_layouts_and_bring_agreement(tmp_path: Path, fair) -> None:
    ours, theirs, broken = (tmp_path / f"{name}.json" for name in ("ours", "theirs", "broken"))
    scores = {word: 90 - 10 * place for place, word in enumerate(KATZ)} | {"radical": 1}
    ours.write_text(
        json.dumps({"studies": {"katz": scores}, "favourability": {"lazy": -1.3}, "prestige": {"Judge": 7}})
    )
    theirs.write_text(json.dumps({
        "ATTRIBUTES_KATZ": list(scores), "SCORES_KATZ": list(scores.values()), "ATTRIBUTES_ALL": ["lazy"],
        "FAVORABILITIES_ALL": [-1.3], "GSS_OCCUPATIONS": ["Judge"], "GSS_PRESTIGE_RATINGS": [7],
    }))  # fmt: skip
    assert read_ratings(ours) == read_ratings(theirs)
    assert read_ratings(ours).top("katz", TRAITS)[:5] == KATZ
    for text in ("[]", "{}", '{"studies": {"katz": 3}}', "no json"):
        broken.write_text(text)
        with pytest.raises(UserError, match="ratings"):
            read_ratings(broken)
    probe = build("probes", {"name": "dialect", "count": 32, "ratings": ours})
    described = probe.describe(fair, 0, 300)
    study = described["studies"]["katz"]
    assert study["top"] == KATZ
    assert study["agreement"]["low"] <= study["agreement"]["value"] <= study["agreement"]["high"]
    names = [figure.name for figure in probe.compare(fair, fair, 0, 300).figures]
    assert {"dialect_agreement_katz", "dialect_strength_katz"} <= set(names)
    assert "agreement" not in described["not_measured"]
