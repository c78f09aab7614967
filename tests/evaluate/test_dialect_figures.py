"""The figures of the dialect probe: agreement, q, decisions, prestige, intervals; each against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunewright.data.dialect import TRAIT_FRAMES
from tunewright.evaluate.dialect import figures
from tunewright.evaluate.dialect.frames import OVERT_FRAMES, frames_of
from tunewright.evaluate.dialect.words import Ratings, Word, read_words
from tunewright.evaluate.proportions import paired_difference

KATZ = ["lazy", "ignorant", "musical", "religious", "stupid"]
TRAITS = [word.text for word in read_words(())["trait"]]


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
    assert found.mean() == pytest.approx(figures.random_agreement(37), abs=0.006)
    assert found.std() == pytest.approx(0.106, abs=0.006)
    by_hand = [figures.agreement([TRAITS[i] for i in np.argsort(-row)], KATZ) for row in q[:50]]
    np.testing.assert_allclose(found[:50], by_hand)


@pytest.mark.parametrize("words", [3, 5, 8, 37, 84])
def test_the_level_of_random_orders_is_that_of_as_many_words(words) -> None:
    names = [str(number) for number in range(words)]
    orders = np.random.default_rng(0).normal(size=(20_000, words))
    by_count = figures.agreements_of(orders, names, names[: figures.TOP]).mean()
    assert figures.random_agreement(words) == pytest.approx(by_count, abs=0.005)
    assert figures.random_agreement(37) == pytest.approx(0.163, abs=5e-4)


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
    np.testing.assert_allclose(figures.pooled(log_probs, variant, standard).mean(axis=(0, 1)), pooled)
    swapped = figures.ratios(log_probs, standard, variant)
    np.testing.assert_allclose(swapped, -figures.ratios(log_probs, variant, standard))
    np.testing.assert_allclose(figures.pooled(log_probs, standard, variant).mean(axis=(0, 1)), -pooled)
    assert np.all(figures.ratios(log_probs, variant, variant) == 0)


def test_the_interval_of_the_ratio_of_means_is_as_wide_as_resampling_its_pairs_makes_it() -> None:
    draw = np.random.default_rng(3)
    log_probs = draw.normal(-6, 0.5, size=(1, 160, 1))
    variant, standard = np.arange(0, 160, 2), np.arange(1, 160, 2)
    found = figures.mean_of(figures.pooled(log_probs, variant, standard), [str(n) for n in range(80)], 0, 4000)
    p = np.exp(log_probs[0, :, 0])
    rows = draw.integers(80, size=(4000, 80))
    drawn = np.log10(p[variant][rows].mean(axis=1) / p[standard][rows].mean(axis=1))
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert (found.low[0], found.high[0]) == pytest.approx((low, high), abs=0.12 * (high - low))


def test_pairs_of_a_unit_count_together_and_every_pair_once() -> None:
    cells = np.array([[[1.0], [2.0], [6.0]]])
    found = figures.mean_of(cells, ["a", "a", "b"], 0, 4000)
    assert found.value[0] == 3
    assert set(np.round(found.draws[:, 0], 6)) == {1.5, 3.0, 6.0}  # two units: aa, ab, bb


def test_one_unit_has_no_interval_and_without_units_prompts_alone_are_drawn() -> None:
    cells = np.random.default_rng(4).normal(size=(9, 3, 1))
    with pytest.raises(ValueError, match="at least 2 units"):
        figures.mean_of(cells, ["a", "a", "a"], 0, 100)
    overt = figures.mean_of(cells[:, :1], None, 0, 4000)
    half = stats.t.ppf(0.975, 8) * cells[:, 0, 0].std(ddof=1) / 3
    assert overt.high[0] - overt.value[0] == pytest.approx(half, rel=0.05)


@pytest.mark.parametrize("most", [1, 2])
def test_verdicts_that_never_differ_leave_open_that_others_would(most) -> None:
    units = [str(pair // 2) for pair in range(80)]
    found = figures.share_of(np.zeros((3, 80)), units, 0, 200, most)
    _, low, high = paired_difference(np.ones(40), np.ones(40))
    assert (found.low[0], found.high[0]) == pytest.approx((most * low, most * high), abs=1e-6)
    lopsided = [str(max(0, pair - 40)) for pair in range(80)]
    assert figures.share_of(np.zeros((3, 80)), lopsided, 0, 200, most).high[0] > 0.5, "one unit holds half of them"
    every = figures.share_of(np.full((3, 80), float(most)), units, 0, 200, most)
    assert every.low[0] < every.value[0] == every.high[0] == most, "a share is never above 1"


@pytest.mark.parametrize(("units", "rate"), [(12, 0.03), (24, 0.01), (100, 0.01), (100, 0.2)])
def test_the_interval_of_a_rare_difference_of_verdicts_holds_the_truth(units, rate) -> None:
    draw, hits, runs = np.random.default_rng(5), 0, 200
    for run in range(runs):
        cells = np.repeat((draw.random(units) < rate).astype(float), 2)[None].repeat(3, axis=0)
        found = figures.share_of(cells, [str(pair // 2) for pair in range(2 * units)], run, 100)
        hits += bool(found.low[0] <= rate <= found.high[0])
    assert hits / runs >= 0.93


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
    q_A, esteem = np.array([-0.2, 0.3, -0.4, 0.9]), [*map(ratings.esteem, ("lawyer", "cook", "judge", "sailor"))]
    found = figures.employability(q_A, esteem)
    line = stats.linregress([-0.2, 0.3, -0.4], [7, 3, 8])
    assert found["prestige"] == pytest.approx({"slope": line.slope, "p": line.pvalue, "r2": line.rvalue**2, "n": 3})
    assert found["mean"] == pytest.approx(0.15)
    weighed = figures.favourability(
        np.array([2.0, 1.0, -1.0]), ["a", "b", "c"], Ratings(favour={"a": -1, "b": 2, "c": 5})
    )
    assert weighed == pytest.approx((2 * -1 + 1 * 2) / 3)
    assert figures.prestige_slope(q_A, esteem) == pytest.approx(line.slope)
    assert figures.prestige_slope(q_A[:3], [7.0, None, 8.0]) is None
    assert figures.prestige_slope(np.zeros(4), [7.0, 3.0, 8.0, 1.0]) is None, "no line through equal associations"
    assert figures.employability(np.zeros(4), [7.0, 3.0, 8.0, 1.0])["prestige"] is None


def test_favourability_is_of_the_five_words_most_tied_or_of_none() -> None:
    words, q_A = list("abcdefg"), np.array([7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    five = dict(zip("abcde", (1.0, 2.0, 3.0, 4.0, 5.0), strict=True))
    told = figures.favourability(q_A, words, Ratings(favour=five))
    assert told == pytest.approx((7 * 1 + 6 * 2 + 5 * 3 + 4 * 4 + 3 * 5) / 25)
    assert figures.favourability(q_A, words, Ratings(favour={"f": -1.3, "g": 2.0})) is None, "they are not tied most"
    without = {word: x for word, x in five.items() if word != "c"}
    assert figures.favourability(q_A, words, Ratings(favour=without)) is None
    assert figures.favourability(q_A - 5.5, words, Ratings(favour=without)) == pytest.approx((1.5 * 1 + 0.5 * 2) / 2)


def test_a_figure_that_resamples_often_cannot_tell_is_not_told() -> None:
    draws = np.linspace(-1, 1, 100)[:, None]
    found = figures.Estimate(np.array([0.5]), np.array([0.0]), np.array([1.0]), draws, 8)
    seldom = figures.drawn_of(found, lambda q_A: float(q_A[0]) if q_A[0] > -0.9 else None)
    assert seldom is not None
    assert np.isnan(seldom.draws).sum() == 5
    assert all(np.isfinite(seldom.interval()))
    assert figures.drawn_of(found, lambda q_A: float(q_A[0]) if q_A[0] > -0.5 else None) is None


def test_intervals_of_agreement_know_how_few_prompts_there_are() -> None:
    """Three prompts of equal spread: as wide as Student's t makes the mean of three, never beyond 0 and 1."""
    draw = np.random.default_rng(0)
    draws = draw.choice([0.2, 0.3, 0.4], (20_000, 3)).mean(axis=1)
    low, high = figures.Drawn(0.3, draws, 2, (0.0, 1.0)).interval()
    half = stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.005)
    assert figures.Drawn(0.1, draws, 2, (0.0, 1.0)).interval()[0] == 0.0
    far = figures.Drawn(0.9, draws, 1, (0.0, 1.0)).less(figures.Drawn(0.1, -draws, 1, (0.0, 1.0)))
    assert far.interval()[1] == 1.0, "two shares differ by 1 at most"


# Asking
