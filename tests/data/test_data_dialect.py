"""Pairs of two varieties: made evenly, read with all faults at once, and rewriting that keeps the meaning."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tunewright.core.errors import UserError
from tunewright.data.dialect import (
    FEATURES,
    HELD_OUT_FRAMES,
    TRAIT_FRAMES,
    counterfactual,
    frames,
    has_verb,
    make_pairs,
    most_pairs,
    read_pairs,
    verbs,
)


@pytest.mark.parametrize("portion", ["all", "trained", "held_out"])
def test_all_pairs_differ_and_the_first_of_many_are_those_of_few(portion) -> None:
    every = make_pairs(most_pairs(portion), portion)
    assert len({(pair.variant, pair.standard) for pair in every}) == len(every) > 8000
    assert all(pair.variant != pair.standard for pair in every)
    assert every[:100] == make_pairs(100, portion)
    assert {pair.unit for pair in every} == set(verbs(portion))


def test_features_verbs_and_speakers_are_spread_evenly() -> None:
    pairs = make_pairs(672)
    features = Counter(pair.feature for pair in pairs)
    assert features == dict.fromkeys(FEATURES, 84)
    speakers = Counter(pair.standard.split()[0].split("'")[0] for pair in pairs)
    assert set(speakers) == {"he", "she", "they"}
    assert min(speakers.values()) > 200
    used = Counter(pair.unit for pair in pairs)
    assert max(used.values()) - min(used.values()) <= 1


def test_the_features_are_spelt_right() -> None:
    pairs = {(pair.feature, pair.standard): pair.variant for pair in make_pairs(3048)}
    assert pairs["habitual_be", "he's usually working"] == "he be working"
    assert pairs["copula", "they're running"] == "they running"
    assert pairs["g_dropping", "she's lying"] == "she's lyin"
    assert pairs["aint", "they aren't knitting"] == "they ain't knitting"
    assert pairs["finna", "he's about to study"] == "he finna study"
    assert pairs["been", "they've been dancing"] == "they been dancing"
    assert pairs["stay", "she's always cooking"] == "she stay cooking"
    assert pairs["inflection", "he studies"] == "he study"
    assert pairs["inflection", "they were bragging"] == "they was bragging"


def test_more_pairs_than_there_are_is_told_with_the_number() -> None:
    with pytest.raises(UserError, match=str(most_pairs())):
        make_pairs(most_pairs() + 1)


def test_portions_of_verbs_and_prompts_share_nothing() -> None:
    assert not set(verbs("trained")) & set(verbs("held_out"))
    assert sorted([*verbs("trained"), *verbs("held_out")]) == sorted(verbs())
    assert frames("trained") + frames("held_out") == TRAIT_FRAMES
    assert len(frames("held_out")) == len(HELD_OUT_FRAMES)


def test_every_pair_has_a_verb_of_its_portion_and_none_of_the_other() -> None:
    for portion, other in (("trained", "held_out"), ("held_out", "trained")):
        for pair in make_pairs(2000, portion):
            bare = pair.standard.replace("shop", "") if pair.unit != "shop" else pair.standard
            assert has_verb(pair.standard, portion)
            assert has_verb(pair.variant, portion)
            assert not has_verb(bare, other)


def test_a_file_of_pairs_is_read_and_its_faults_are_told_together(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("\ufeffI dinnae ken\tI don't know\n\nwee\tsmall\tsize\n", encoding="utf-8")
    pairs = read_pairs(file)
    assert [(p.variant, p.standard, p.unit) for p in pairs] == [
        ("I dinnae ken", "I don't know", "pairs.tsv:1"), ("wee", "small", "size"),
    ]  # fmt: skip
    file.write_text("one column\na\tb\n\tempty\na\tb\tc\td\n")
    with pytest.raises(UserError) as caught:
        read_pairs(file)
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["1", "3", "4"]
    file.write_text("a\tb\nc\td\na\tb\tann\nsame\tsame\n")
    with pytest.raises(UserError) as caught:
        read_pairs(file)
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["3", "4"]
    assert "the pair of line 1 again" in caught.value.problems[0]
    file.write_text("a\tb\n")
    with pytest.raises(UserError, match="at least 2"):
        read_pairs(file)
    file.write_text("a\tb\tann\nc\td\tann\n")
    with pytest.raises(UserError, match=r"all 2 pairs are of one unit \('ann'\).*at least 2 units"):
        read_pairs(file)
    with pytest.raises(UserError, match="does not exist"):
        read_pairs(tmp_path / "nothing")


def test_an_empty_unit_is_none_and_a_number_is_not_taken_for_a_line(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("one\teins\t\ntwo\tzwei\t\nthree\tdrei\t2\nfour\tvier\t2\n")
    assert [pair.unit for pair in read_pairs(file)] == ["pairs.tsv:1", "pairs.tsv:2", "2", "2"]


def test_pairs_that_differ_in_who_it_is_said_of_are_one_unit(tmp_path: Path) -> None:
    """As in the published file: 233 verbs, each of he, she and they."""
    file = tmp_path / "pairs.tsv"
    verbs = ("cooking", "singing")
    lines = [f"{who} be {verb}\t{who} usually {verb}" for verb in verbs for who in ("he", "she", "they")]
    file.write_text("\n".join([*lines, "hers be gone\thers is gone"]))
    told = [*["... be cooking"] * 3, *["... be singing"] * 3, "pairs.tsv:7"]
    assert [pair.unit for pair in read_pairs(file)] == told
    file.write_text("\n".join(lines[:3]))
    with pytest.raises(UserError, match=r"alike but for the pronoun in front .* one together"):
        read_pairs(file)


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_bytes("allé\taller\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"pairs\.tsv is not in UTF-8 \(byte 4"):
        read_pairs(file)


@pytest.mark.parametrize(
    "text",
    [
        "Run logging.info(x) or `testing`, see http://www.booking.com/trading and me@parking.org.",
        "```\nrunning = being\n``` he_is_working and/or being\\going",
    ],
)
def test_code_and_addresses_are_left_as_they_are(text) -> None:
    assert counterfactual(text) == text


def test_answers_to_choose_from_are_left_as_they_are() -> None:
    text = "She is choosing: marketing, Engineering or accounting?"
    labels = frozenset({"marketing", "engineering", "accounting"})
    assert counterfactual(text, labels) == "She choosin: marketing, Engineering or accounting?"
    assert counterfactual(text, own=["engineering or"]) == "She choosin: marketin, Engineering or accountin?"
    assert counterfactual("The remarketing is working", labels) == "The remarketin is workin"


def test_long_runs_without_a_space_are_read_once() -> None:
    """A pattern that begins anew at every letter would take minutes here."""
    text = "She is working. " + "0123456789abcdef" * 20_000
    started = time.perf_counter()
    assert counterfactual(text).startswith("She workin. 0123")
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        ("He is working and she isn't.", "He workin and she ain't."),
        ("They're usually late because of the morning.", "They be late cause of the morning."),
        ("She has been waiting for something.", "She been waitin for something."),
        ("Is not that so? We were right.", "Ain't that so? We was right."),
        ("The thesis is done.", "The thesis is done."),
        ("That is who she is.", "That is who she is."),
        ("They are what they are.", "They are what they are."),
        (
            "I wonder where they are now and how tall he is today.",
            "I wonder where they are now and how tall he is today.",
        ),
        ("She is, they say, here. If you are sure, they are late.", "She is, they say, here. If you sure, they late."),
        ("I live in Beijing. Beijing is big.", "I live in Beijing. Beijing is big."),
        ("Working hard? offspring and hamstring sting.", "Workin hard? offspring and hamstring sting."),
        ("The story is about to end", "The story is about to end"),
        ("He is about to end it and my friends are about to go.", "He finna end it and my friends finna go."),
        ("We aren't going to sing, going to the shop.", "We ain't gonna sing, going to the shop."),
    ],
)
def test_rewriting_keeps_what_no_rule_means(text, variant) -> None:
    assert counterfactual(text) == variant
