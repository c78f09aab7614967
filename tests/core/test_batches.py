"""Items taken as many at a time as fit."""

from __future__ import annotations

from itertools import zip_longest

from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.batches import batches


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 60), st.integers(1, 8), st.booleans())
def test_batches_keep_the_order_and_hold_no_more_than_they_may(sizes, most, count, padded):
    found = list(batches(sizes, lambda size: size, most, count, padded))
    assert [size for batch in found for size in batch] == sizes
    for batch, following in zip_longest(found, found[1:]):
        held = len(batch) * max(batch) if padded else sum(batch)
        assert len(batch) == 1 or (len(batch) <= count and held <= most)
        if following:  # and no fewer
            more = [*batch, following[0]]
            assert len(more) > count or (len(more) * max(more) if padded else sum(more)) > most
