"""What the command line sets before torch starts."""

from __future__ import annotations

import os

from tunewright.cli import BEFORE_TORCH, settle


def test_what_the_user_has_set_is_kept(monkeypatch):
    for name in BEFORE_TORCH:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    settle()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == BEFORE_TORCH["THP_MEM_ALLOC_ENABLE"]
