"""The order: a permutation without equal prompts; with them, prompts stay whole and are shuffled honestly."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter, defaultdict
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tunewright.core import seeds
from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.core.settings import TrainSettings
from tunewright.data.encoder import Encoded
from tunewright.models.contracts import EncodeSettings
from tunewright.train.job import Job
from tunewright.train.order import MICRO_TOKENS, Order, common_beginning, equal_prompts

prompts = st.lists(st.integers(0, 8), min_size=1, max_size=60)


def order_of(numbers, rows_a_step, seed=0):
    return Order(len(numbers), rows_a_step, seed, np.array(numbers))


def encoded(*texts):
    nothing = np.zeros(0, np.int64)
    return [
        Encoded(
            Example((Turn("user", (text_part(text),)),) if text else (), (Answer((text_part("yes"),)),)),
            {"input_ids": nothing}, 0, nothing, nothing, np.zeros(0, np.float32),
        )
        for text in texts
    ]  # fmt: skip


def test_rows_of_one_prompt_are_found_and_texts_without_a_prompt_are_not_one():
    assert equal_prompts(encoded("a", "b", "a", "c", "b")).number_R.tolist() == [0, 1, 0, 3, 1]
    assert equal_prompts(encoded("a", "b", "", "")) is None
    one, two, three, again = equal_prompts(encoded("a", "", "", "a")).number_R
    assert one == again
    assert len({one, two, three}) == 3


def test_without_equal_prompts_the_order_is_what_it_always_was():
    order = Order(rows=11, rows_a_step=4, seed=3)
    assert [order.step(k) for k in range(4)] == [[0, 2, 3, 1], [8, 4, 9, 5], [6, 10, 7], [10, 5, 6, 4]]
    assert list(order.micro_batches(0, 3)) == [[0, 2, 3], [1]]


@settings(max_examples=100, deadline=None)
@given(prompts, st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_visits_each_row_once_and_keeps_prompts_whole(numbers, rows_a_step, epoch):
    order = order_of(numbers, rows_a_step)
    first = epoch * order.steps_an_epoch
    steps = [order.step(k) for k in range(first, first + order.steps_an_epoch)]
    assert sorted(row for rows in steps for row in rows) == list(range(len(numbers)))
    assert all(0 < len(rows) <= rows_a_step for rows in steps)
    assert steps == [order_of(numbers, rows_a_step).step(k) for k in range(first, first + order.steps_an_epoch)]
    for number, count in Counter(numbers).items():
        visited = [sum(numbers[row] == number for row in rows) for rows in steps]
        assert sum(visited_here > 0 for visited_here in visited) == -(-count // rows_a_step)


def by_lists(order, epoch):
    """[steps][prompts][rows] of an epoch, as it was first written: lists of rows, handed out one after the other."""
    most, numbers, draw = order.rows_a_step, order.prompt_R.tolist(), seeds.stream(order.seed, "steps", epoch)
    counts = np.unique(order.prompt_R, return_counts=True)[1].tolist()
    sizes = [part for size in counts for part in (*[most] * (size // most), size % most) if part]
    fillings, with_room = [], [[] for _ in range(most + 1)]
    for size in sorted(sizes, reverse=True):
        room = next((room for room in range(size, most) if with_room[room]), most)
        step = with_room[room].pop() if with_room[room] else []
        if not step:
            fillings.append(step)
        step.append(size)
        with_room[room - size].append(step)
    members, waiting = defaultdict(list), defaultdict(list)
    for row in seeds.stream(order.seed, "order", epoch).permutation(order.rows).tolist():
        members[numbers[row]].append(row)
    parts = [rows[start : start + most] for rows in members.values() for start in range(0, len(rows), most)]
    for place in draw.permutation(len(parts)):
        waiting[len(parts[place])].append(parts[place])
    steps = [[waiting[size].pop() for size in filling] for filling in fillings]
    return [steps[place] for place in draw.permutation(len(steps))]


@settings(max_examples=200, deadline=None)
@given(prompts, st.integers(1, 9), st.integers(0, 3), st.integers(0, 2))
def test_prompts_meet_in_the_order_of_a_plain_loop(numbers, rows_a_step, seed, epoch):
    order = order_of(numbers, rows_a_step, seed)
    expected = by_lists(order, epoch)
    assert order.steps_an_epoch == len(expected)
    assert [order._groups(epoch * len(expected) + k) for k in range(len(expected))] == expected


def test_one_repeated_prompt_costs_tens_of_bytes_a_row():
    numbers = np.arange(20_000, dtype=np.int32)
    numbers[9] = 3
    tracemalloc.start()
    try:
        order = Order(len(numbers), 8, 0, numbers)
        for epoch in (0, 1):
            order.step(epoch * order.steps_an_epoch)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50 * len(numbers)
    assert peak < 130 * len(numbers)


@settings(max_examples=100, deadline=None)
@given(prompts, st.integers(1, 9), st.integers(1, 9))
def test_micro_batches_are_the_step_and_cut_no_prompt_that_fits(numbers, rows_a_step, size):
    order = order_of(numbers, rows_a_step)
    for k in range(order.steps_an_epoch):
        batches = list(order.micro_batches(k, size))
        assert sorted(row for batch in batches for row in batch) == sorted(order.step(k))
        assert all(0 < len(batch) <= size for batch in batches)
        for number, count in Counter(numbers[row] for row in order.step(k)).items():
            holders = sum(any(numbers[row] == number for row in batch) for batch in batches)
            assert count > size or holders == 1


def test_steps_are_as_few_as_without_prompts_when_prompts_fill_them():
    numbers = [row // 2 for row in range(40)] + list(range(100, 124))
    assert order_of(numbers, 8).steps_an_epoch == Order(len(numbers), 8, 0).steps_an_epoch


def test_every_prompt_meets_others_and_comes_at_any_time():
    numbers = [row // 3 for row in range(15)] + list(range(100, 121))  # steps of prompts, of both and of single rows
    order = order_of(numbers, 8)
    partners, places = {number: set() for number in numbers}, {number: Counter() for number in numbers}
    epochs = 300
    for k in range(epochs * order.steps_an_epoch):
        here = {numbers[row] for row in order.step(k)}
        for number in here:
            partners[number] |= here - {number}
            places[number][k % order.steps_an_epoch] += 1
    for number in places:
        assert len(partners[number]) == len(partners) - 1
        assert min(places[number].values()) > epochs / order.steps_an_epoch / 2
        assert len(places[number]) == order.steps_an_epoch


def test_answers_to_a_prompt_with_more_than_a_step_are_mixed_anew():
    order = order_of([0] * 24, 8)
    first, second = ({frozenset(order.step(k)) for k in range(epoch * 3, epoch * 3 + 3)} for epoch in (0, 1))
    assert not first & second


def test_long_rows_meet_in_micro_batches_of_bounded_tokens():
    lengths = np.array([900, 30, 400, 700, 2000, 10, 10, 10], dtype=np.int32)
    order = Order(8, 8, 1, length_R=lengths)
    batches = list(order.micro_batches(0, 8))
    assert sorted(row for batch in batches for row in batch) == sorted(order.step(0))
    assert all(lengths[batch].sum() <= MICRO_TOKENS or len(batch) == 1 for batch in batches)
    pairs = itertools.combinations(batches, 2)
    assert all(lengths[one + other].sum() > MICRO_TOKENS for one, other in pairs), "cut in vain"
    assert len(batches) == 4


def test_with_room_for_twice_the_tokens_micro_batches_are_half_as_many():
    lengths = np.full(8, 500, dtype=np.int32)
    assert [len(batch) for batch in Order(8, 8, 1, length_R=lengths).micro_batches(0, 8)] == [2, 2, 2, 2]
    assert [len(batch) for batch in Order(8, 8, 1, length_R=lengths, micro_tokens=2000).micro_batches(0, 8)] == [4, 4]


@pytest.mark.parametrize("seed", range(6))
def test_the_longest_rows_come_first_so_that_micro_batches_are_few(seed):
    order = Order(4, 4, seed, length_R=np.array([300, 400, 700, 624], dtype=np.int32))
    assert sorted(map(sorted, order.micro_batches(0, 4))) == [[0, 2], [1, 3]]


def test_rows_of_one_prompt_stay_in_one_micro_batch_whatever_their_length():
    order = Order(6, 6, 1, np.array([0, 0, 0, 3, 3, 5]), length_R=np.full(6, 700, dtype=np.int32))
    assert sorted(map(sorted, order.micro_batches(0, 6))) == [[0, 1, 2], [3, 4], [5]]


def test_long_answers_to_one_prompt_are_cut_by_what_they_have_beyond_it():
    """A prompt of 512 tokens with answers of 64 stays whole; one of 12 with answers of 1,000 would fill the memory."""
    prompts, alike = np.zeros(8, dtype=np.int32), np.full(8, 576, dtype=np.int32)
    assert len([*Order(8, 8, 1, prompts, 0, alike, alike - 512).micro_batches(0, 8)]) == 1
    long = np.full(8, 1012, dtype=np.int32)
    assert len([*Order(8, 8, 1, prompts, 0, long, long - 12).micro_batches(0, 8)]) == 8


def test_what_all_rows_begin_with_is_counted_once_in_a_micro_batch():
    """Eight rows of 100 tokens under a system prompt of 600 are one batch of 1,400 positions, not eight of 700."""
    lengths = np.full(8, 700, dtype=np.int32)
    assert len([*Order(8, 8, 1, length_R=lengths).micro_batches(0, 8)]) == 8
    assert len([*Order(8, 8, 1, length_R=lengths, common=600).micro_batches(0, 8)]) == 1
    longer = np.full(8, 1100, dtype=np.int32)
    batches = [*Order(8, 8, 1, length_R=longer, common=600).micro_batches(0, 8)]
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]  # 500 own tokens each, at most 1,024 together


def test_rows_that_mitigations_added_begin_otherwise_and_are_counted_in_full():
    order = Order(4, 4, 1, woven=2, length_R=np.full(6, 700, dtype=np.int32), common=600)
    batches = [*order.micro_batches(0, 8)]
    assert sorted(row for batch in batches for row in batch) == [*range(6)]
    assert not any({4, 5} <= set(batch) for batch in batches)
    assert len([*Order(4, 4, 1, length_R=np.full(4, 700, dtype=np.int32), common=600).micro_batches(0, 8)]) == 1


def of_ids(*ids):
    ids_N = np.array(ids, np.int64)
    example = Example((Turn("user", (text_part(str(ids)),)),), (Answer((text_part("x"),)),))
    return Encoded(example, {"input_ids": ids_N}, len(ids), ids_N[:0], ids_N[:0], np.zeros(0, np.float32))


@pytest.mark.parametrize(
    ("rows", "count", "found"),
    [
        ([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 6, 7]], 3, 3),
        ([[1, 2, 3, 4], [1, 2, 3, 4]], 2, 3),  # each keeps one of its own
        ([[1, 2, 3, 4], [1, 2, 3]], 2, 2),
        ([[1, 2, 3, 4], [1, 9, 3, 4]], 2, 0),  # fewer than are worth it
        ([[1, 2, 3, 4], [1, 2, 3, 5], [8, 8, 8]], 2, 3),  # what lies behind the first two is not looked at
    ],
)
def test_how_many_tokens_rows_begin_with_alike(rows, count, found):
    assert common_beginning([of_ids(*row) for row in rows], count, worth=2) == found


def test_a_system_prompt_is_computed_once_for_all_rows_of_a_micro_batch(open_tiny):
    model = open_tiny("llama")
    encoder = model.family.encoder(model, EncodeSettings())
    asked = [Turn("system", (text_part("bread " * 200),))]
    rows = []
    for n in range(8):
        turns = (*asked, Turn("user", (text_part(f"{n} or {n + 1}?"),)))
        rows += encoder.encode(Example(turns, (Answer((text_part("warm"),)),), id=f"r{n}"))
    settings = TrainSettings(per_device_train_batch_size=8)
    job = Job(model, None, None, build("gradients", "plain"), rows, (), settings, 0)
    assert rows[0].length * 2 > MICRO_TOKENS
    (batch,) = job.order.micro_batches(0, 8)
    computed = model.family.collate(model, [rows[i] for i in batch]).inputs["input_ids"].numel()
    assert job.order.common <= computed <= job.order.common + sum(row.length - job.order.common for row in rows)
    apart = replace(job, model=replace(model, apart=True))
    assert len([*apart.order.micro_batches(0, 8)]) == 8


@pytest.mark.parametrize(("epochs", "steps"), [(0.7, 7), (1.1, 11), (0.71, 8), (2, 20), (0.01, 1)])
def test_parts_of_epochs_are_no_step_longer_than_they_say(epochs, steps):
    rows = [SimpleNamespace(example=Example((), (), id=f"r{n}"), length=3) for n in range(20)]
    settings = TrainSettings(num_train_epochs=epochs, per_device_train_batch_size=2)
    model = SimpleNamespace(packs=False, module=nn.Module())
    job = Job(model, None, None, build("gradients", "plain"), rows, (), settings, 0)
    assert job.steps == steps
    longer = replace(job, settings=TrainSettings(max_steps=100, warmup_ratio=0.07))
    assert longer.schedule.warmup == 7


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=40), st.integers(1, 16))
def test_padded_micro_batches_hold_as_many_positions_as_packed_ones(lengths, size):
    """A row of 900 tokens beside seven of 15 is 7,200 positions where each takes as much as the longest."""
    order = Order(len(lengths), len(lengths), 0, length_R=np.array(lengths), padded=True)
    parts = list(order.micro_batches(0, size))
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) <= size
        assert len(part) == 1 or len(part) * max(lengths[row] for row in part) <= MICRO_TOKENS
