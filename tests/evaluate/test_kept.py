"""What is kept of answers: read whole whatever stands in it, and written whole whoever else writes."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.store import Run
from tunewright.evaluate import kept
from tunewright.evaluate.kept import RowRecords, dump, load, records_as_lines
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.nll import Nll

from .made import LABELS, chooses


@pytest.mark.parametrize("name", ["r\u2028", "r\x85"])
def test_rows_whose_ids_hold_a_foreign_line_mark_are_found_again(tmp_path, name):
    outcomes = [chooses(f"{name}{n}", "good", "good") for n in range(3)]
    found = load(dump(outcomes), [one.example for one in outcomes])
    assert found is not None
    assert [one.choices.tolist() for one in found] == [one.choices.tolist() for one in outcomes]
    run = Run(tmp_path)
    run.evaluations.mkdir()
    (run.evaluations / "tuned.jsonl").write_text(records_as_lines(outcomes, [Accuracy(), Nll()], LABELS))
    every = RowRecords.by_metric(run)
    assert every["accuracy"].ids == [one.example.id for one in outcomes]
    for metric, records in every.items():
        np.testing.assert_array_equal(records.records, RowRecords.of_run(run, metric).records)
    assert RowRecords.of_run(run, "ece").ids == []


def test_two_who_keep_the_same_answers_at_once_do_not_hinder_one_another(monkeypatch):
    save, other = np.savez, {"a": np.arange(3)}

    def overtaken(where, **arrays):
        save(where, **arrays)
        if len(arrays["a"]) == 2:
            kept.arrays_by_content("twice", lambda part: other)

    monkeypatch.setattr(np, "savez", overtaken)
    _, path = kept.arrays_by_content("twice", lambda part: {"a": np.arange(2)})
    with np.load(path) as file:
        assert file["a"].tolist() == [0, 1]
