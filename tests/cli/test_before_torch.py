"""What the command line sets before torch starts."""

from __future__ import annotations

import os

from tunewright.cli import BEFORE_TORCH, settle


def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    settle()
    assert os.environ["OMP_WAIT_POLICY"] == BEFORE_TORCH["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    settle()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
