"""What is made ready for training is fit for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from train.test_loop import make_job
from tunewright.core.errors import UserError
from tunewright.data.encoded_rows import EncodedRows
from tunewright.pipeline.prepare import _able_to_choose


def test_validation_rows_of_no_weight_are_refused_and_one_that_counts_is_enough(open_tiny):
    rows = make_job(open_tiny).train[:3]
    weights = [(0.0, 0.0, 0.0), (0.0, 1.0, 0.0), ()]
    made = []
    for given in weights:
        kept = EncodedRows([row.example for row in rows])
        for number, weight in enumerate(given):
            kept.append(number, replace(rows[number], weights=rows[number].weights * weight))
        made.append(kept)
    with pytest.raises(UserError, match="All 3 validation rows have weight 0"):
        _able_to_choose(made[0])
    assert [len(_able_to_choose(kept)) for kept in made[1:]] == [3, 0]
