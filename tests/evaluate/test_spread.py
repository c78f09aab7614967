"""Several seeds: what is told of them."""

import pytest

from tunewright.evaluate.spread import spread, spread_blocks, spread_sentences


def metric(name: str, tuned: float, decision: str, primary: bool = True):
    return {"name": name, "tuned": tuned, "decision": decision, "primary": primary}


def test_spread_holds_values_mean_and_deviation_of_each_metric():
    runs = {
        4: [metric("accuracy", 0.7, "better"), metric("nll", 1.0, "better", False)],
        5: [metric("accuracy", 0.8, "better"), metric("nll", 0.9, "better", False)],
        6: [metric("accuracy", 0.6, "cannot_tell")],
    }
    found = spread(runs)
    assert found["accuracy"]["values"] == {"4": 0.7, "5": 0.8, "6": 0.6}
    assert (found["accuracy"]["mean"], found["accuracy"]["deviation"]) == pytest.approx((0.7, 0.1))
    assert (found["accuracy"]["lowest"], found["accuracy"]["highest"]) == (0.6, 0.8)
    assert found["nll"]["values"] == {"4": 1.0, "5": 0.9}
    assert (found["accuracy"]["missing"], found["nll"]["missing"]) == ([], ["6"])
    (said,) = spread_sentences(found)
    assert "0.700, 0.800, 0.600" in said
    assert "2 better, 1 cannot tell" in said
    assert "seed 4" in said
    table = spread_blocks(found)[0]
    assert table.columns[1:4] == ["seed 4", "seed 5", "seed 6"]
    assert table.rows[1][3] is None
    assert [row[0] for row in table.rows] == ["Accuracy", "Loss on the answers"]


def test_one_measured_seed_has_no_deviation():
    found = spread({0: [metric("accuracy", 0.7, "better")], 1: []})
    assert found["accuracy"]["deviation"] is None
    assert "Not measured under seed 1" in spread_sentences(found)[0]
