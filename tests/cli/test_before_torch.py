"""What the command line sets before torch starts."""

from __future__ import annotations

import os

import pytest

from tunewright.core.threads import BEFORE_TORCH, settle, settled


@pytest.fixture
def unset(monkeypatch):
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if name not in BEFORE_TORCH})


def test_waiting_threads_spin_a_little_unless_there_are_more_than_cores(unset):
    settle()
    assert os.environ["OMP_WAIT_POLICY"] == BEFORE_TORCH["OMP_WAIT_POLICY"] == "passive"
    assert os.environ["GOMP_SPINCOUNT"] == BEFORE_TORCH["GOMP_SPINCOUNT"]
    assert settled()


@pytest.mark.parametrize("name", BEFORE_TORCH)
def test_what_the_user_says_of_waiting_threads_stands_alone(unset, name):
    os.environ[name] = "active" if name == "OMP_WAIT_POLICY" else "7"
    before = dict(os.environ)
    settle()
    assert os.environ == before
    assert not settled()
