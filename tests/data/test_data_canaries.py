"""Canaries: drawn from the key alone, half of them in, nothing of a row in them, for their owner's eyes only."""

from __future__ import annotations

import stat

import numpy as np
import pytest

from tunewright.core.errors import UserError
from tunewright.core.records import Answer, Example, Part, Turn, text_part
from tunewright.data.canaries import FILE, Canaries, Mould

SECRET = "patient Zebedee"


def _row(*parts: Part, answer: str = "yes") -> Example:
    return Example((Turn("system", (text_part(SECRET),)), Turn("user", parts)), (Answer((text_part(answer),)),))


def test_coins_are_fair_and_fresh() -> None:
    first, second = Canaries.draw(2000), Canaries.draw(2000)
    assert 850 < sum(first.coins) < 1150  # 6.7 standard deviations
    assert first.key != second.key
    assert first.coins != second.coins


def test_a_canary_is_a_function_of_key_and_number_and_the_coins_only_choose() -> None:
    canaries = Canaries.draw(40)
    mould = Mould(labels=("a", "b"))
    rows = canaries.rows(mould)
    assert rows == Canaries(canaries.key, canaries.coins[::-1]).rows(mould)
    assert canaries.included(mould) == tuple(r for r, coin in zip(rows, canaries.coins, strict=True) if coin)
    assert len({row.id for row in rows}) == len({row.unit for row in rows}) == len({r.prompt_text for r in rows}) == 40
    assert {row.answer.text for row in rows} == {"a", "b"}


@pytest.mark.parametrize("labels", [(), ("yes", "no")])
def test_nothing_of_a_row_is_in_a_canary(labels: tuple[str, ...]) -> None:
    mould = Mould.of(_row(text_part(SECRET), answer=SECRET), labels, "Answer yes or no.")
    for row in Canaries.draw(16).rows(mould):
        assert SECRET not in row.prompt_text + row.answer.text
        assert row.prompt_text.startswith("Answer yes or no.\n\n")
        assert row.label == bool(labels)


def test_free_answers_are_secrets_that_differ() -> None:
    rows = Canaries.draw(100).rows(Mould())
    assert len({row.answer.text for row in rows}) == 100
    assert all(len(row.answer.text.replace(" ", "")) == 16 and row.answer.text[0].isdigit() for row in rows)


def test_plain_text_has_no_context() -> None:
    mould = Mould.of(Example((), (Answer((text_part("a text"),)),)), ())
    assert all(not row.context and row.answer.text for row in Canaries.draw(16).rows(mould))


@pytest.mark.parametrize(("dtype", "most"), [("uint8", 255), ("float32", 1)])
def test_pictures_are_noise_of_the_rows_shape(dtype: str, most: int) -> None:
    picture = Part("image", np.zeros((4, 5, 3), dtype))
    rows = Canaries.draw(20).rows(Mould.of(_row(picture, answer="cat"), ("cat", "dog")))
    pixels = np.stack([row.context[0].parts[0].value for row in rows])
    assert (pixels.shape, pixels.dtype) == ((20, 4, 5, 3), np.dtype(dtype))
    assert 0 <= pixels.min() < 0.1 * most < 0.9 * most < pixels.max() <= most


def test_rows_of_sounds_are_refused() -> None:
    with pytest.raises(UserError, match="audio"):
        Mould.of(_row(Part("audio", np.zeros(3))), ())


def test_too_few_prove_nothing_and_are_refused() -> None:
    assert Canaries.draw(0) == Canaries()
    with pytest.raises(UserError, match="16 and more"):
        Canaries.draw(15)


def test_they_are_kept_for_their_owner_alone(tmp_path) -> None:
    canaries = Canaries.draw(16)
    canaries.write(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert Canaries.read(tmp_path) == canaries


@pytest.mark.parametrize("damage", ["{", "{}", None])
def test_a_lost_file_is_told(tmp_path, damage: str | None) -> None:
    if damage:
        (tmp_path / FILE).write_text(damage)
    with pytest.raises(UserError, match=r"canaries\.json is gone or damaged"):
        Canaries.read(tmp_path)
