"""What `doctor` says of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.models.embedded import EMBEDDED
from tunewright.pipeline.doctor import doctor, within
from tunewright.pipeline.example_data import EXAMPLES


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_names_the_command_for_everything_that_is_missing() -> None:
    found = doctor()
    assert len({finding.what for finding in found}) == len(found)
    missing = {finding.what: finding.sentence for finding in found if finding.state == "missing"}
    for name in EMBEDDED:
        assert f"tunewright fetch {name}" in missing[f"model {name}"]
    for name in EXAMPLES:
        assert f"tunewright fetch {name}" in missing[f"data {name}"]
    assert all(finding.state in ("ok", "missing", "warning") for finding in found)


def test_doctor_finds_a_version_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright.pipeline.doctor.version", lambda name: "4.57.1")
    (finding,) = [finding for finding in doctor() if finding.what == "transformers"]
    assert finding.state == "fault"
    assert "pip install" in finding.sentence


@given(st.tuples(*[st.integers(0, 30)] * 3), st.tuples(*[st.integers(0, 30)] * 3))
@settings(deadline=None)
def test_version_ranges_agree_with_tuples(have: tuple[int, ...], limit: tuple[int, ...]) -> None:
    written, bound = ".".join(map(str, have)), ".".join(map(str, limit))
    assert within(written, f">={bound}") == (have >= limit)
    assert within(f"{written}+cpu", f"<{bound}") == (have < limit)


def test_version_ranges_read_local_and_short_versions() -> None:
    assert within("2.13.0+cpu", "<3,>=2.4")
    assert within("6", ">=6.0")
    assert not within("6.0.0", "<6,>=5.0")
