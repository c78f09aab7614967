"""Units come by their own coins, together, and in micro-batches of bounded size."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tunewright.core.records import Example
from tunewright.train.poisson import Poisson, poisson


def made(rows=(3, 1, 2, 1, 5), q=0.5, most=3, secret="s"):
    return Poisson(np.repeat(np.arange(len(rows)), rows), q, most, secret)


def test_each_unit_comes_with_chance_q_whatever_the_others_do():
    sampler = Poisson(np.arange(40), 0.3, 1, "coin")
    came = np.zeros((2000, 40))
    for step in range(2000):
        came[step, sampler.step(step)] = 1
    assert abs(came.mean() - 0.3) < 5 * (0.21 / came.size) ** 0.5
    assert np.abs(came.mean(0) - 0.3).max() < 5 * (0.21 / 2000) ** 0.5
    together = np.corrcoef(came.T) - np.eye(40)
    assert np.abs(together).max() < 5 / 2000**0.5
    size = came.sum(1)
    assert size.var() == pytest.approx(40 * 0.21, rel=0.2)  # shuffled batches would have no variance


def test_steps_are_a_function_of_the_secret_and_the_step():
    assert made().step(3) == made().step(3)
    drawn = [made(secret=str(n)).step(3) for n in range(20)]
    assert len({tuple(rows) for rows in drawn}) > 5
    assert len({tuple(made().step(n)) for n in range(20)}) > 5


def test_a_unit_comes_whole_up_to_its_most_and_is_never_torn_apart():
    sampler = made()
    for step in range(60):
        rows = sampler.step(step)
        units = sampler.unit_R[rows]
        for unit in set(units.tolist()):
            assert (units == unit).sum() == min(3, len(sampler.rows_U[unit]))
        batches = list(sampler.micro_batches(step, 3))
        assert [row for batch in batches for row in batch] == rows
        assert all(len(batch) <= 3 for batch in batches)
        for unit in set(units.tolist()):
            assert sum(unit in sampler.unit_R[batch] for batch in batches) == 1


def test_a_step_may_be_empty():
    sampler = made(q=0.05)
    empty = [step for step in range(100) if not sampler.step(step)]
    assert len(empty) > 50
    assert list(sampler.micro_batches(empty[0], 4)) == []


def test_micro_batches_are_bounded_by_tokens_too_and_a_long_unit_comes_alone():
    length_R = np.array([300, 300, 300, 200, 900, 900, 10, 10], dtype=np.int32)
    sampler = Poisson(np.array([0, 1, 2, 3, 4, 4, 5, 6]), 1.0, 2, "s", length_R)
    assert list(sampler.micro_batches(0, 8)) == [[0, 1, 2], [3], [4, 5], [6, 7]]
    rows = [SimpleNamespace(example=Example((), (), id=f"r{n}"), length=600) for n in range(3)]
    assert list(poisson(rows, 3, 1).keyed("s").micro_batches(0, 8)) == [[0], [1], [2]]
