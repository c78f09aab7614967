"""Lines that fit a terminal."""

from __future__ import annotations

import pytest

from tunewright.cli.lines import folded

SAID = (
    "accuracy: better. Base 0.104, tuned 0.748, difference +0.644 (95 % interval +0.59 to +0.697, 385 rows). Baselines "
    "on the same rows, accuracy: majority 0.143 (tuned +0.55 to +0.66)."
)


def test_a_sentence_is_broken_between_words_and_loses_none() -> None:
    lines = folded(SAID, 80).splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    assert " ".join(line.strip() for line in lines) == SAID
    assert all(line.startswith("  ") for line in lines[1:])


@pytest.mark.parametrize("line", [
    "Use it: tunewright predict runs/a-run-with-a-long-name rows.csv --out predictions.csv --min-accuracy 0.9",
    f"Report: /a/{'long/' * 20}report.html",
    f"run       method  {'metric  ' * 12}end.",
    SAID[:79] + ".",
])  # fmt: skip
def test_commands_paths_tables_and_short_lines_stay_in_one_piece(line: str) -> None:
    assert folded(line, 80) == line


def test_a_command_within_a_sentence_stays_in_one_piece() -> None:
    path = "/a/" + "long" * 30
    assert path in folded(f"{SAID} Asked again by evaluate {path} and no more.", 80)
