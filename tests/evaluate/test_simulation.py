"""The promises of the verdict on a few hundred simulated pairs; the benchmark runs 2,000 of more kinds."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

_FILE = Path(__file__).parents[2] / "benchmarks" / "verdict_simulation.py"
_SPEC = importlib.util.spec_from_file_location("verdict_simulation", _FILE)
simulation = importlib.util.module_from_spec(_SPEC)
sys.modules["verdict_simulation"] = simulation
_SPEC.loader.exec_module(simulation)

PAIRS = 400
CASES = [case for case in simulation.CASES if case.units == 25 and "8 %" not in case.name]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case_and_equal(request):
    return request.param, simulation.simulate(request.param, PAIRS, resamples=200)


def test_equal_models_are_rarely_called_and_intervals_cover(case_and_equal):
    _, equal = case_and_equal
    slack = 3 * np.sqrt(0.05 * 0.95 / PAIRS)
    covers = np.mean([result.low <= 0 <= result.high for result in equal])
    assert 0.95 - slack <= covers <= 0.95 + slack
    assert np.mean([result.decision != "cannot_tell" for result in equal]) <= 0.05 + slack


def test_what_is_stated_as_detectable_is_detected_in_80_percent(case_and_equal):
    case, equal = case_and_equal
    found = simulation.simulate(case, PAIRS, simulation.stated(equal), resamples=200)
    assert simulation.found_share(found) == pytest.approx(0.8, abs=0.1)


def test_twelve_units_find_in_80_percent_what_they_state_and_state_nothing_where_one_outweighs_all():
    case = next(case for case in simulation.CASES if case.name == "nll, 12 units")
    equal = simulation.simulate(case, PAIRS, resamples=200)
    found = simulation.simulate(case, PAIRS, simulation.stated(equal), resamples=200)
    assert simulation.found_share(found) == pytest.approx(0.8, abs=0.06)
    assert {r.decision for r in (*equal, *found) if r.smallest_detectable is None} == {"cannot_tell"}


def test_a_bootstrap_that_ignores_units_would_fail_here():
    """The planted fault: rows taken for units cover too rarely, so the test above can fail."""
    case = next(case for case in CASES if case.name.startswith("nll"))
    covers = []
    for pair in range(200):
        base, tuned, _ = case.draw(np.random.default_rng(pair), case, 0.0)
        result = simulation.compare(case.metric, base, tuned, [str(row) for row in range(len(base))], pair, 200)
        covers.append(result.low <= 0 <= result.high)
    assert np.mean(covers) < 0.95 - 3 * np.sqrt(0.05 * 0.95 / PAIRS)
