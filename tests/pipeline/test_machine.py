"""How many threads a run takes, and under which name a machine's speed is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunewright.models import precision
from tunewright.pipeline import machine


@pytest.mark.parametrize(
    ("files", "count"),
    [({"cpu.max": "200000 100000\n"}, 2), ({"cpu.max": "max 100000\n"}, 64), ({"cpu.max": "50000 100000\n"}, 1),
     ({"cpu.max": "350000 100000\n"}, 3), ({"cpu.max": "9900000 100000\n"}, 64), ({}, 64),
     ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
     ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64)],
)  # fmt: skip
def test_a_container_s_share_of_time_limits_the_threads(files, count, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert machine.cores() == count


def test_a_limit_further_up_holds_too(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "cpu.max").write_text("max 100000")
    (tmp_path / "a" / "cpu.max").write_text("300000 100000")
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000")
    read = Path.read_text
    own = "1:cpu:/elsewhere\n0::/a/b\n"
    monkeypatch.setattr(
        Path, "read_text", lambda self, **how: own if str(self) == "/proc/self/cgroup" else read(self, **how)
    )
    assert [*machine._shares(tmp_path)] == [3.0]


def test_speeds_of_unlike_processors_are_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "_speed", lambda dtype: 1800.0 if "bf" in str(dtype) else 600.0)
    monkeypatch.setattr(precision, "_processor", lambda: ["", "one", "avx512_bf16"])
    assert str(precision.resolve("auto")) == "torch.bfloat16"
    monkeypatch.setattr(precision, "_speed", lambda dtype: 20.0 if "bf" in str(dtype) else 600.0)
    assert str(precision.resolve("auto")) == "torch.bfloat16", "a busy moment is no other machine"
    monkeypatch.setattr(precision, "_processor", lambda: ["", "two", "avx512"])
    assert str(precision.resolve("auto")) == "torch.float32"
