"""Members made when asked for are those of a list, whatever the index."""

from __future__ import annotations

import pytest

from tunewright.data.sequences import Joined, OnDemand

PLAIN = [place * place for place in range(7)]


class Squares(OnDemand[int]):
    def __init__(self):
        self.made = []

    def __len__(self):
        return len(PLAIN)

    def at(self, place):
        self.made.append(place)
        return place * place


@pytest.mark.parametrize("index", [0, 6, -1, -7, slice(2, 5), slice(None, None, -2), slice(5, 99), slice(3, 3)])
def test_indices_and_slices_are_those_of_a_list(index):
    assert Squares()[index] == PLAIN[index]


@pytest.mark.parametrize("index", [7, -8])
def test_a_place_outside_is_no_place(index):
    with pytest.raises(IndexError):
        Squares()[index]


def test_only_what_is_asked_for_is_made():
    squares = Squares()
    assert squares[1:3] == [1, 4]
    assert squares.made == [1, 2]
    assert list(squares) == PLAIN


@pytest.mark.parametrize("cut", [0, 3, 7])
def test_two_joined_sequences_are_those_of_a_list(cut):
    joined = Joined(PLAIN[:cut], PLAIN[cut:])
    assert list(joined) == PLAIN
    assert [joined[-1], joined[2:6], len(joined)] == [PLAIN[-1], PLAIN[2:6], len(PLAIN)]
