"""What this process has begun, for whoever must say how a stopped command is gone on with."""

from __future__ import annotations

from pathlib import Path

WRITTEN: list[Path] = []
"""Run folders that were written to, the first one first; what lies inside a run comes after it."""
