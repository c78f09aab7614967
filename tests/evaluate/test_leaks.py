"""What an audit says: the numbers behind it, and the sentence for each case."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tunewright.core.blocks import blocks as as_blocks
from tunewright.evaluate.contracts import Comparison
from tunewright.evaluate.leaks import Claim, Extraction, Leaks, Losses, of_canaries, of_members
from tunewright.evaluate.leaks_told import blocks, sentences
from tunewright.evaluate.membership import found_at, share_of


def _losses(fall: np.ndarray, base: float = 5.0) -> Losses:
    return Losses(np.full(len(fall), base), base - fall, np.ones(len(fall)))


def _canaried(leak: float, claim: Claim, count: int = 200):
    draw = np.random.default_rng(0)
    coins = draw.random(count) < 0.5
    return of_canaries(_losses(coins * leak + draw.normal(0, 0.1, count)), coins.tolist(), claim)


def test_a_leak_beyond_the_claim_is_a_broken_claim() -> None:
    claim = Claim(1.0, 1e-5)
    found = _canaried(3.0, claim)
    assert found.exceeds
    assert found.exposure > found.by_chance + 3
    leaks = Leaks(claim, found, None)
    assert sentences(leaks)[0].startswith("The privacy claim is BROKEN: epsilon is at least ")
    assert blocks(leaks)[0].tone == "bad"


@pytest.mark.parametrize(("noise", "broken"), [(0.1, True), (0.49, True), (0.8, False), (1.0, False), (None, False)])
def test_half_the_promised_noise_is_a_broken_claim_whatever_the_bound_says(noise, broken) -> None:
    claim = Claim(1.0, 1e-5)
    found = replace(_canaried(0.0, claim), steps=4, noise=noise)
    assert not found.exceeds
    assert found.broken is broken
    leaks = Leaks(claim, found, None)
    assert ("BROKEN: the noise found" in sentences(leaks)[0]) is broken
    assert ("there was less noise than it says" in sentences(leaks)[0]) is (noise == 0.8)
    assert (blocks(leaks)[0].tone == "bad") is broken


@pytest.mark.parametrize(("noise", "said"), [(0.95, "as it should be"), (1.6, "no less than it should be; rows that")])
def test_what_is_not_told_from_the_noise_is_not_called_exact(noise, said) -> None:
    found = replace(_canaried(0.0, Claim(1.0, 1e-5)), steps=4, noise=noise)
    assert any(f"times the promised one: {said}" in line for line in sentences(Leaks(Claim(1.0, 1e-5), found, None)))


def test_nothing_found_breaks_nothing_and_is_no_proof() -> None:
    claim = Claim(1.0, 1e-5)
    found = _canaried(0.0, claim)
    assert not found.exceeds
    assert found.exposure == pytest.approx(found.by_chance, abs=0.4)
    leaks = Leaks(claim, found, None)
    assert "no breach of the claim was found" in sentences(leaks)[0]
    assert "proves nothing" in blocks(leaks)[1].note


def test_a_claim_that_so_few_canaries_cannot_refute_is_not_called_tested() -> None:
    claim, tested = Claim(8.0, 2.4e-3), Claim(13.1, 6.3e-6)
    draw = np.random.default_rng(0)
    coins = draw.random(80) < 0.5
    found = of_canaries(_losses(coins * 3.0 + draw.normal(0, 0.1, 80)), coins.tolist(), Claim(7.9, 2e-3), None, tested)
    assert 2.375 < found.bound.epsilon < 2.38, "rounded to the nearest, more would be claimed than was proven"
    assert found.bound.most < 13.1
    leaks = Leaks(claim, found, None)
    assert not found.broken
    assert not found.able
    said = sentences(leaks)[0]
    assert said.startswith("Epsilon is at least 2.37 at delta 6.3e-06 (")
    claimed = (
        "claimed: 8 at delta 0.0024, by the twin 7.9 at delta 0.002, which is by the same noise 13.1 at delta 6.3e-06"
    )
    assert claimed in said
    assert f"nor could be by so few canaries, which prove {found.bound.most:.2f} at most" in said
    assert blocks(leaks)[0].tone == "unsure"
    assert leaks.to_json()["canaries"]["tested"] == {"epsilon": 13.1, "delta": 6.3e-6}


def test_a_run_without_a_claim_cannot_exceed_it() -> None:
    found = _canaried(3.0, Claim())
    assert found.bound.epsilon > 2
    assert not found.exceeds
    leaks = Leaks(Claim(), found, None)
    assert "so much can be proven to leak" in sentences(leaks)[0]
    assert blocks(leaks)[0].tone == "bad"
    assert json.loads(json.dumps(leaks.to_json(), allow_nan=False))["claim"] == {"epsilon": None, "delta": 0.0}


def test_what_was_not_measured_is_said_so() -> None:
    leaks = Leaks(Claim(), None, None)
    assert sentences(leaks) == [
        "Epsilon was not bounded from below, since no canaries were trained on (nothing is claimed)."
    ]
    values = [row[1] for row in blocks(leaks)[1].rows]
    assert values == ["not measured", "not measured"]


def test_members_are_told_by_the_fall_of_the_loss_where_the_loss_alone_hides_it() -> None:
    draw = np.random.default_rng(1)
    hard_M, hard_N = draw.normal(5, 2, 300), draw.normal(5, 2, 300)
    members = Losses(hard_M, hard_M - 0.5 + draw.normal(0, 0.3, 300), np.ones(300))
    others = Losses(hard_N, hard_N + draw.normal(0, 0.3, 300), np.ones(300))
    found = of_members(members, others)
    assert found.by_fall.low > 0.8 > found.by_loss.high
    assert found.before.low < 0.5 < found.before.high
    assert found.found[0.01].value > 0.1
    assert found.found_by_loss[0.01].value < 0.1
    text = " ".join(sentences(Leaks(Claim(), None, found)))
    assert "can be told from unseen ones" in text
    assert "differ before training" not in text


def test_both_attacks_give_auc_and_members_found_at_few_false_alarms_each_with_its_interval() -> None:
    draw = np.random.default_rng(4)
    members, others = _losses(draw.normal(0.5, 0.5, 300)), _losses(draw.normal(0, 0.5, 300))
    found = of_members(members, others)
    written = json.loads(json.dumps(Leaks(Claim(), None, found).to_json()))["membership"]
    shares = [written["by_loss"], written["by_fall"]]
    for name in ("found_by_loss", "found"):
        assert list(written[name]) == ["0.01", "0.1"]
        assert 0 < written[name]["0.01"]["value"] < written[name]["0.1"]["value"]
        shares += written[name].values()
    for share in shares:
        assert share["low"] < share["value"] < share["high"]
    assert found.found_by_loss == {rate: found_at(-members.tuned, -others.tuned, rate) for rate in (0.01, 0.1)}
    rows = {row[0]: row for row in blocks(Leaks(Claim(), None, found))[1].rows}
    for attack in ("loss", "fall of the loss"):
        assert " to " in rows[f"Membership by {attack}, AUC"][2]
        for rate in (1, 10):
            assert " to " in rows[f"Members found by {attack} at {rate} % false alarms"][2]


def test_ranks_are_kept_and_their_exposures_shown_planted_against_left_out() -> None:
    coins = [True] * 3 + [False] * 7
    found = of_canaries(_losses(np.array([9.0, 8.0, -1.0, *range(7)])), coins, Claim())
    assert found.ranks == (1.0, 1.0, 8.0)
    assert found.left_out_ranks == tuple(range(1, 8))
    written = json.loads(json.dumps(Leaks(Claim(), found, None).to_json()))["canaries"]
    assert written["ranks"] == [1.0, 1.0, 8.0]
    assert np.mean(np.log2(8) - np.log2(written["ranks"])) == pytest.approx(written["exposure"])
    shown = blocks(Leaks(Claim(), found, None))[2]
    assert [bar.label for bar in shown.bars[-2:]] == ["3 bits or more, planted", "3 bits or more, left out"]
    assert [bar.value for bar in shown.bars if bar.role == "tuned"] == pytest.approx([1 / 3, 0, 0, 2 / 3])
    assert [bar.value for bar in shown.bars if bar.role != "tuned"] == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0])
    assert all(bar.low <= bar.value <= bar.high for bar in shown.bars if bar.role == "tuned")


def test_a_leak_moves_the_planted_canaries_to_high_exposure_and_the_others_stay() -> None:
    leaking, tight = (blocks(Leaks(Claim(), _canaried(leak, Claim()), None))[2] for leak in (3.0, 0.0))
    assert (len(leaking.bars), len(tight.bars)) == (14, 14)
    assert leaking.bars[-2].label == "6 bits or more, planted"
    assert leaking.bars[-2].value == 1.0
    assert tight.bars[-2].value < 0.1
    assert leaking.bars[-1].value == tight.bars[-1].value < 0.02


@pytest.mark.parametrize("coin", [True, False])
def test_without_canaries_on_both_sides_nothing_is_ranked(coin) -> None:
    found = of_canaries(_losses(np.arange(20.0)), [coin] * 20, Claim())
    assert len(blocks(Leaks(Claim(), found, None))) == 2


def test_sets_that_differ_by_themselves_are_told_of() -> None:
    draw = np.random.default_rng(2)
    one, other = _losses(draw.normal(0, 1, 100), 5.0), _losses(draw.normal(0, 1, 100), 5.0)
    shifted = Losses(one.base + draw.normal(2, 1, 100), one.tuned, one.count)
    assert "differ before training" in " ".join(sentences(Leaks(Claim(), None, of_members(shifted, other))))
    few = of_members(_losses(draw.normal(0, 1, 9)), _losses(draw.normal(0, 1, 8)))
    assert few.found == few.found_by_loss == {0.01: None, 0.1: None}


def test_every_part_is_in_the_blocks_and_they_can_be_read_again() -> None:
    claim = Claim(3.0, 1e-5)
    draw = np.random.default_rng(3)
    members = of_members(_losses(draw.normal(0, 1, 200)), _losses(draw.normal(0, 1, 200)))
    said = Extraction("canaries", share_of(3, 10), share_of(0, 10))
    price = Comparison("accuracy", 0.95, 0.8, -0.15, -0.2, -0.1, 300, "row", True, 0.05, 0.001, "worse", True)
    leaks = Leaks(claim, _canaried(0.0, claim), members, (said,), _canaried(3.0, Claim()), (price,), twin=True)
    made = blocks(leaks)
    assert as_blocks.validate_python(as_blocks.dump_python(made, mode="json")) == made
    names = [row[0] for row in made[1].rows]
    assert len(names) == len(set(names)) == 14
    text = " ".join(sentences(leaks))
    for part in (
        "of a twin trained alike",
        "The same audit of a twin trained without privacy proves epsilon of at least",
        "so it sees leaks",
        "Secrets said outright, canaries: 30.0 %",
        "What privacy costs, accuracy: 0.800, and 0.950 for the twin without it",
    ):
        assert part in text
    watched = replace(leaks, canaries=replace(_canaried(0.0, claim), steps=8))
    assert "A weaker audit, of the finished model alone, of a twin trained without" in " ".join(sentences(watched))
    assert math.isinf(Claim().epsilon)
    json.dumps(leaks.to_json(), allow_nan=False)
