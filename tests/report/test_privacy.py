"""The chapter on privacy."""

from __future__ import annotations

import json

from tunewright.core.store import Run
from tunewright.report import write
from tunewright.report.privacy import privacy_blocks

FOUND = {
    "private": True, "why_not": "", "target_epsilon": 3.0, "epsilon": {"prv": 2.9871, "rdp": 3.5}, "delta": 2.9e-3,
    "sigma": 0.93, "clip": "automatic", "q": 0.08, "steps": 50, "units": 200, "unit": "patient", "rows_per_unit": 8,
    "expected_units": 16.0, "sampler": "poisson", "accountant": "prv-accountant 0.2.0", "trained": 12345,
}  # fmt: skip


def test_the_paragraph_states_who_is_protected_how_much_and_why_it_holds():
    text, table = privacy_blocks(FOUND)
    said = text.paragraphs[0]
    for figure in ("2.99", "2.9e-03", "every unit (column patient)", "200", "50", "0.93", "prv-accountant"):
        assert figure in said
    assert ["Trained coordinates", 12345] in table.rows


def test_given_noise_is_told_in_red():
    text, _ = privacy_blocks({**FOUND, "private": False, "why_not": "the noise was given"})
    assert text.tone == "bad"
    assert "NOT private" in text.paragraphs[0]


def test_it_stands_in_the_report_of_a_private_run_alone(tmp_path):
    for name, found in (("private", FOUND), ("plain", None)):
        folder = tmp_path / name
        folder.mkdir()
        if found:
            (folder / "privacy.json").write_text(json.dumps(found))
        write(Run(folder))
        assert ("The guarantee in figures" in (folder / "report.md").read_text()) == bool(found)
