"""What rows begin with alike is laid out once, as a tree; written out along the tree, every row is itself."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.records import Answer, Example, text_part
from tunewright.data.encoder import Encoded
from tunewright.models.collate import WORTH_SHARING, fresh, packed


def row(ids, number=0):
    """A row of token ids that trains on all of them."""
    positions = np.arange(len(ids) - 1)
    weights = np.ones(len(ids) - 1, np.float32)
    example = Example((), (Answer((text_part("x"),)),), id=f"r{number}")
    return Encoded(example, {"input_ids": np.array(ids)}, len(ids), positions, np.array(ids[1:]), weights)


def batch_of(*lists):
    return packed([row(ids, number) for number, ids in enumerate(lists)])


def written_out(batch):
    """[rows] the tokens that each row's segments hold, ancestors first."""
    every, flat = (*batch.segments, *batch.shared), batch.inputs["input_ids"][0].tolist()
    for segment in batch.segments:
        tokens = flat[segment.start : segment.stop]
        while segment.parent is not None:
            segment = every[segment.parent]
            tokens = flat[segment.start : segment.stop] + tokens
        yield tokens


@st.composite
def trees(draw):
    """Rows that are the beginnings of one another, forks of them, copies and strangers."""
    rows = [draw(st.lists(st.integers(0, 2), min_size=1, max_size=40))]
    for _ in range(draw(st.integers(0, 9))):
        like = draw(st.sampled_from(rows))
        cut = draw(st.integers(0, len(like)))
        rows.append(like[:cut] + draw(st.lists(st.integers(0, 2), min_size=not cut, max_size=12)))
    return rows


@settings(max_examples=200, deadline=None)
@given(trees())
def test_every_row_is_itself_along_its_tree(rows):
    batch = batch_of(*rows)
    flat = batch.inputs["input_ids"][0]
    assert list(written_out(batch)) == rows
    assert batch.tokens == sum(len(ids) for ids in rows)
    assert flat[batch.targets.position_T].tolist() == [token for ids in rows for token in ids[:-1]]
    assert batch.targets.segment_T.bincount(minlength=len(rows)).tolist() == [len(ids) - 1 for ids in rows]
    assert all(segment.stop > segment.start for segment in batch.segments)
    lying = batch.attended()
    assert [segment.start for segment in lying] == [0, *(segment.stop for segment in lying[:-1])]
    assert all(segment.parent is None or segment.parent < index for index, segment in enumerate(lying))


@settings(max_examples=200, deadline=None)
@given(trees())
def test_nothing_worth_sharing_is_computed_twice(rows):
    batch = batch_of(*rows)
    children = {}
    for segment, tokens in zip(batch.segments, written_out(batch), strict=True):
        own = tokens[len(tokens) - (segment.stop - segment.start) : -1]
        children.setdefault(segment.parent, []).append(tuple(own[:WORTH_SHARING]))
    for own in children.values():
        long = [tokens for tokens in own if len(tokens) == WORTH_SHARING]
        assert len(set(long)) == len(long)


def test_what_rows_add_to_a_batch_in_turn_is_what_is_computed_of_them():
    model = SimpleNamespace(packs=True, apart=False)
    common = list(range(100, 100 + 4 * WORTH_SHARING))
    rows = [row([*common, own, *range(own)]) for own in (1, 5, 9)]
    assert list(map(fresh(model), rows)) == [len(common) + 2, 6, 10]
    assert sum(map(fresh(model), rows)) == len(packed(rows).inputs["input_ids"][0])
    for alone in (SimpleNamespace(packs=False, apart=False), SimpleNamespace(packs=True, apart=True)):
        assert list(map(fresh(alone), rows)) == [one.length for one in rows]
    picture = Encoded(rows[0].example, {"image": np.zeros(3)}, 7, rows[0].positions, rows[0].targets, rows[0].weights)
    assert fresh(model)(picture) == 7


def test_a_long_prompt_within_a_shared_instruction_is_nested():
    instruction, prompt = list(range(20)), list(range(100, 150))
    batch = batch_of(
        [*instruction, *prompt, 1, 2], [*instruction, 50, 51], [*instruction, *prompt, 3], [*instruction, 60]
    )
    inner, outer = batch.shared[1], batch.shared[0]
    assert (outer.start, outer.stop, outer.parent) == (0, 20, None)
    assert (inner.stop - inner.start, inner.parent) == (50, len(batch.segments))
    assert [segment.parent for segment in batch.segments] == [5, 4, 5, 4]
    assert batch.inputs["input_ids"].shape == (1, 20 + 50 + 2 + 2 + 1 + 1)


@pytest.mark.parametrize("common", [WORTH_SHARING - 1, 0])
def test_rows_with_nothing_worth_sharing_lie_in_their_order(common):
    rows = [[*range(common), 90 + n, 80, 70 + n] for n in range(4)]
    batch = batch_of(*rows)
    assert batch.shared == ()
    assert batch.attended() == batch.segments
    assert batch.inputs["input_ids"][0].tolist() == [token for ids in rows for token in ids]
