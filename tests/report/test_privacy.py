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


def test_epsilon_and_delta_are_never_told_smaller_than_they_are():
    text, table = privacy_blocks({**FOUND, "epsilon": {"prv": 2.99012, "rdp": 3.50001}, "delta": 2.9123e-3})
    said = text.paragraphs[0]
    assert "(3, 3.0e-03)-differential" in said
    assert "e^3," in said
    assert ["Epsilon (PRV, claimed)", 2.9902] in table.rows
    assert ["Delta", "0.00292"] in table.rows
    assert "(2.99, 2.9e-03)" in privacy_blocks(FOUND)[0].paragraphs[0]


def test_it_says_what_is_given_and_what_is_public():
    said = privacy_blocks(FOUND)[0].paragraphs[1]
    assert "given the split and the rows taken for training" in said
    for public in ("of rows and of units", "rows of a unit on average", "sampling rate"):
        assert public in said


def test_that_the_base_has_not_seen_the_rows_is_not_claimed():
    said = privacy_blocks(FOUND)[0].paragraphs[1]
    assert "none of these rows is taken as given. Noise" in said
    by_run = privacy_blocks({**FOUND, "base_run": "first"})[0].paragraphs[1]
    assert "taken as given; it is the result of the run first, whose rows are not covered" in by_run


def test_that_the_key_is_deleted_is_said_only_when_it_is(tmp_path):
    (tmp_path / "privacy.json").write_text(json.dumps(FOUND))
    write(Run(tmp_path))
    assert "was deleted with the checkpoints" in (tmp_path / "report.md").read_text()
    (tmp_path / "checkpoints").mkdir()
    write(Run(tmp_path))
    said = (tmp_path / "report.md").read_text()
    assert "was deleted with the checkpoints" not in said
    assert "STILL THERE" in said
    assert privacy_blocks(FOUND, ["checkpoints/"])[0].tone == "bad"


def test_a_key_that_a_twin_left_is_told_as_the_runs_own(tmp_path):
    (tmp_path / "privacy.json").write_text(json.dumps(FOUND))
    (tmp_path / "children" / "audited" / "checkpoints").mkdir(parents=True)
    write(Run(tmp_path))
    assert "STILL THERE, in children/audited/checkpoints/" in (tmp_path / "report.md").read_text()


def test_a_twin_of_the_audit_is_part_of_what_is_signed(tmp_path):
    twin = {**FOUND, "epsilon": {"prv": 2.95, "rdp": 3.4}, "delta": 3e-3}
    for folder, promise in ((tmp_path, FOUND), (tmp_path / "children" / "audited", twin)):
        (folder / "model").mkdir(parents=True)
        (folder / "privacy.json").write_text(json.dumps(promise))
    write(Run(tmp_path))
    assert "is promised (5.94, 5.9e-03)" in (tmp_path / "report.md").read_text()
    (tmp_path / "children" / "audited" / "model").rmdir()
    write(Run(tmp_path))
    assert "For the audit a twin" not in (tmp_path / "report.md").read_text(), "it is not trained yet"


def test_a_control_that_an_audit_left_is_told_in_red(tmp_path):
    (tmp_path / "privacy.json").write_text(json.dumps(FOUND))
    for there in (True, False):
        if there:
            (tmp_path / "children" / "control").mkdir(parents=True)
        else:
            (tmp_path / "children" / "control").rmdir()
        write(Run(tmp_path))
        assert ("trained WITHOUT privacy on the same rows" in (tmp_path / "report.md").read_text()) == there
    assert [privacy_blocks(FOUND, control_there=there)[0].tone for there in (True, False)] == ["bad", "plain"]


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
