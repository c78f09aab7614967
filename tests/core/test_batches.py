"""Items in batches, against every way of writing it out by hand."""

from __future__ import annotations

import random
from itertools import pairwise

from tunewright.core.batches import batches


def test_batches_keep_the_order_and_are_as_full_as_may_be():
    draw = random.Random(0)
    for _ in range(300):
        items = ["x" * draw.randint(0, 6) for _ in range(draw.randint(0, 12))]
        most, count = draw.randint(1, 9), draw.randint(1, 5)
        found = list(batches(items, len, most, count))
        assert [item for batch in found for item in batch] == items
        assert all(batch for batch in found)
        assert all(len(batch) <= count and (len(batch) == 1 or sum(map(len, batch)) <= most) for batch in found)
        for batch, after in pairwise(found):  # the next item would not have fitted
            assert len(batch) == count or sum(map(len, batch)) + len(after[0]) > most


def test_an_item_larger_than_a_batch_is_a_batch_alone():
    assert list(batches([2, 9, 1, 1], int, 4)) == [[2], [9], [1, 1]]


def test_a_batch_is_given_before_the_items_after_it_are_read():
    read: list[int] = []

    def items():
        for number in range(10):
            read.append(number)
            yield number

    assert next(batches(items(), lambda item: 1, 3)) == [0, 1, 2]
    assert read == [0, 1, 2, 3]
