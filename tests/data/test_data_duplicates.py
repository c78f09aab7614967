"""What counts as the same text, and what does not."""

from __future__ import annotations

import random

import pytest

from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data.duplicates import contradictions, identify, near_groups, normal, shingles, similarity


def example(prompt: str, answer: str, label: bool = False, system: str = "") -> Example:
    turns = [Turn("system", (text_part(system),))] if system else []
    return Example((*turns, Turn("user", (text_part(prompt),))), (Answer((text_part(answer),)),), label=label)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Type 1 diabetes, with coma.", "type 1  diabetes with coma", True),
        ("Type 1 diabetes with coma", "Type 2 diabetes with coma", False),
        ("J45.0", "J45.1", False),
        ("2 + 2", "2 - 2", False),
        ("Straße", "STRASSE", True),
        ("!!!", "???", False),
        ("left eye", "right eye", False),
    ],
)
def test_normal_form(one: str, other: str, same: bool) -> None:
    assert (normal(one) == normal(other)) is same


def test_short_texts_that_differ_in_a_word_stay_apart() -> None:
    texts = [normal(f"Type {n} diabetes mellitus with hyperosmolarity and coma") for n in range(30)]
    assert len(near_groups(texts)[0].members()) == 30


def test_long_texts_join_exactly_when_brute_force_says_so() -> None:
    rng = random.Random(3)
    texts = []
    for _ in range(12):
        base = [f"v{rng.randrange(500)}" for _ in range(rng.randint(25, 200))]
        texts.append(" ".join(base))
        for changes in (1, 2, 5, 12, 40):
            changed = list(base)
            for _ in range(changes):
                changed[rng.randrange(len(changed))] = f"v{rng.randrange(500)}"
            texts.append(" ".join(changed))
    groups, coverage = near_groups(texts)
    sets = [shingles(text) for text in texts]
    near = [(i, j) for i in range(len(texts)) for j in range(i) if similarity(sets[i], sets[j]) >= 0.9]
    assert 5 < len(near) < len(texts) * 5
    assert all(groups.root(i) == groups.root(j) for i, j in near)
    linked = {frozenset(pair) for pair in near}
    for members in groups.members():
        if len(members) > 1:
            assert all(any(frozenset((i, j)) in linked for j in members if j != i) for i in members)
    assert coverage == 1


def test_a_sample_states_its_coverage() -> None:
    texts = [" ".join(f"t{n}x{k}" for k in range(25)) for n in range(10)] + ["short"] * 10
    assert near_groups(texts, limit=4)[1] == pytest.approx(0.7)


def test_a_shared_template_is_no_likeness() -> None:
    template = "\n".join("please answer the following question with great care and many kind words " + w for w in "ab")
    rows = identify([example(f"{template}\nquestion {n}", str(n)) for n in range(40)])
    assert len(near_groups([row.near for row in rows])[0].members()) == 40


def test_many_copies_of_one_text_are_no_template() -> None:
    lines = [" ".join(f"l{k}w{n}" for n in range(12)) for k in range(10)]
    copies = [example("\n".join([*lines[:9], f"{lines[9]} copy {n}"]), "x") for n in range(18)]
    others = [example(" ".join(f"o{n}w{k}" for k in range(30)), "x") for n in range(22)]
    rows = identify([*copies, *others])
    assert len(near_groups([row.near for row in rows])[0].members()) == 23


def test_the_instruction_does_not_move_content() -> None:
    plain = identify([example("Asthma", "J45", label=True)])
    assert identify([example("Which?\n\nAsthma", "J45", label=True)], "Which?") == plain


def test_content_tells_apart_what_is_learned() -> None:
    one = Example((), (Answer((text_part("x"),)),))
    others = [
        Example((), (Answer((text_part("x"),), weight=0.5),)),
        Example((), (Answer((text_part("x"),)),), unit="u"),
        Example((), (Answer((text_part("X"),)),)),
        Example((Turn("user", (text_part("q"),)),), (Answer((text_part("x"),)),)),
    ]
    contents = [row.content for row in identify([one, *others])]
    assert len(set(contents)) == len(contents)


def test_planted_contradictions_are_found_and_no_others() -> None:
    rows = [example("Asthma", "J45"), example("Gout", "M10"), example("asthma.", "J46"), example("Gout", "m10")]
    assert contradictions(identify(rows)) == [[0, 2]]


def test_another_system_turn_is_another_prompt() -> None:
    rows = [example("Hello", "Hallo", system="German"), example("Hello", "Bonjour", system="French")]
    assert contradictions(identify(rows)) == []
