import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.settings import GateSettings
from tunewright.evaluate.contracts import Comparison, Figure
from tunewright.evaluate.gates import INCREASES, Gate, judge_gates, least_increase, requests_needed
from tunewright.evaluate.proportions import paired_difference
from tunewright.evaluate.verdict import exit_code, holm, judge, sentence

BETTER = Comparison(
    "accuracy",
    0.5,
    0.7,
    0.2,
    0.1,
    0.3,
    100,
    "row",
    True,
    0.14,
    0.0001,
    "better",
    True,
    {"majority": 0.6},
    {"majority": (0.02, 0.18)},
)
WORSE = replace(BETTER, name="macro_f1", tuned=0.3, difference=-0.2, low=-0.3, high=-0.1, decision="worse")
UNSURE = replace(BETTER, name="ece", difference=0.02, low=-0.1, high=0.14, p_value=0.7, decision="cannot_tell")


@pytest.mark.parametrize(
    ("decisions", "wanted"),
    [
        ((BETTER,), "better"),
        ((BETTER, UNSURE), "better"),
        ((WORSE,), "worse"),
        ((WORSE, UNSURE), "worse"),
        ((BETTER, WORSE), "mixed"),
        ((UNSURE,), "cannot_tell"),
        ((), "cannot_tell"),
        ((replace(BETTER, primary=False),), "cannot_tell"),
        ((BETTER, replace(WORSE, primary=False)), "better"),
        ((UNSURE, replace(BETTER, primary=False)), "cannot_tell"),
    ],
)
def test_the_verdict_looks_at_primary_metrics_alone(decisions, wanted):
    assert judge(decisions)["verdict"] == wanted


def test_verdict_json_has_exactly_the_promised_keys():
    found = judge([BETTER], [Gate("min_gain", "passed", 0.1, 0.05)])
    assert set(found) == {"verdict", "metrics", "gates", "sentences"}
    assert list(found["metrics"][0]) == [
        "name",
        "base",
        "tuned",
        "difference",
        "low",
        "high",
        "n",
        "unit",
        "higher_is_better",
        "smallest_detectable",
        "decision",
        "primary",
        "baselines",
    ]
    assert found["gates"] == [{"name": "min_gain", "state": "passed", "value": 0.1, "limit": 0.05}]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_holm_withdraws_what_one_of_two_metrics_would_have_passed_alone():
    close = replace(BETTER, p_value=0.03)
    assert judge([close])["verdict"] == "better"
    assert judge([close, UNSURE])["verdict"] == "cannot_tell"
    assert judge([close, replace(UNSURE, primary=False)])["verdict"] == "better"


def brute_holm(p_values):
    """Rejected by closed testing with Bonferroni: every subset holding it is rejected."""
    n = len(p_values)
    subsets = [[i for i in range(n) if mask >> i & 1] for mask in range(1, 2**n)]
    refused = [s for s in subsets if min(p_values[i] for i in s) <= 0.05 / len(s) + 1e-12]
    return [all(s in refused for s in subsets if i in s) for i in range(n)]


P_VALUES = [0.0, 0.001, 0.012, 0.0167, 0.02, 0.025, 0.03, 0.05, 0.051, 1.0]


@given(st.lists(st.sampled_from(P_VALUES), min_size=1, max_size=5))
def test_holm_equals_closed_testing(p_values):
    decided = holm([replace(BETTER, p_value=p) for p in p_values])
    assert [c.decision == "better" for c in decided] == brute_holm(p_values)


def test_holm_never_makes_a_decision_and_keeps_the_order():
    certain = replace(UNSURE, p_value=0.0)
    assert [c.decision for c in holm([certain, BETTER])] == ["cannot_tell", "better"]
    assert [c.name for c in holm([UNSURE, BETTER])] == ["ece", "accuracy"]


@pytest.mark.parametrize(
    ("low", "high", "limit", "state"),
    [
        (0.1, 0.3, 0.05, "passed"),
        (0.1, 0.3, 0.1, "passed"),
        (0.1, 0.3, 0.2, "cannot_tell"),
        (0.1, 0.3, 0.31, "failed"),
        (-0.3, -0.1, 0.0, "failed"),
        (-0.01, 0.3, -0.02, "passed"),
    ],
)
@pytest.mark.parametrize("higher", [True, False])
def test_min_gain_looks_at_the_lower_bound_of_the_gain(low, high, limit, state, higher):
    bounds = (low, high) if higher else (-high, -low)
    comparison = replace(BETTER, low=bounds[0], high=bounds[1], higher_is_better=higher)
    (gate,) = judge_gates(GateSettings(min_gain=limit), [comparison, replace(WORSE, primary=False)])
    assert (gate.name, gate.state, gate.limit, gate.value) == ("min_gain", state, limit, pytest.approx(low))


@pytest.mark.parametrize(
    ("low", "high", "state"), [(-0.1, 0.04, "passed"), (0.01, 0.06, "cannot_tell"), (0.06, 0.09, "failed")]
)
def test_max_loss_increase_looks_at_the_upper_bound_on_retention(low, high, state):
    figures = [Figure("kl", 0, 9, 9, 9, 9, 50), Figure("retention_loss", 2, 2.03, 0.03, low, high, 50)]
    (gate,) = judge_gates(GateSettings(max_loss_increase=0.05), [WORSE], figures)
    assert gate == Gate("max_loss_increase", state, high, 0.05)


def test_no_gate_unless_planned_and_what_was_not_measured_does_not_pass():
    assert judge_gates(GateSettings(), [BETTER]) == []
    gates = judge_gates(GateSettings(min_gain=0.0, max_loss_increase=0.1), [replace(BETTER, primary=False)])
    assert [gate.state for gate in gates] == ["not_measured", "not_measured"]
    assert exit_code(judge([BETTER], gates)) == 3


def test_a_gate_on_too_few_units_cannot_tell():
    for few in (replace(BETTER, n=5), replace(BETTER, smallest_detectable=None)):
        (gate,) = judge_gates(GateSettings(min_gain=-1.0), [few])
        assert gate.state == "cannot_tell"


@pytest.mark.parametrize(("limit", "state"), [(0.0, "cannot_tell"), (-0.02, "passed")])
def test_a_gain_of_so_few_units_that_it_may_be_chance_passes_no_gate_on_a_gain(limit, state):
    """5 of 60 gained: its interval ends just at 0 by definition; that little was lost it shows all the same."""
    chance = replace(BETTER, decision="cannot_tell", p_value=1.0, low=0.0, high=0.17)
    (gate,) = judge_gates(GateSettings(min_gain=limit), [chance])
    assert gate.state == state


@pytest.mark.parametrize(("n", "state"), [(11, "cannot_tell"), (12, "passed")])
def test_a_gate_on_an_increase_needs_as_many_units_but_for_shares_whose_interval_stays_open(n, state):
    figures = [Figure(name, 0.5, 0.5, 0, -0.01, 0.01, n) for name in INCREASES.values()]
    gates = {gate.name: gate.state for gate in judge_gates(GateSettings(**dict.fromkeys(INCREASES, 0.1)), [], figures)}
    assert gates == {**dict.fromkeys(INCREASES, state), "max_attack_success_increase": "passed"}
    above = [Figure(name, 0.5, 0.9, 0.4, 0.3, 0.5, n) for name in INCREASES.values()]
    gates = judge_gates(GateSettings(max_loss_increase=0.1), [], above)
    assert [gate.state for gate in gates] == ["cannot_tell" if n < 12 else "failed"]


def test_every_primary_metric_has_its_gain():
    gates = judge_gates(GateSettings(min_gain=0.05), [BETTER, WORSE])
    states = {gate.name: gate.state for gate in gates}
    assert states == {"min_gain (accuracy)": "passed", "min_gain (macro_f1)": "failed"}


@pytest.mark.parametrize(
    ("comparisons", "require", "code"),
    [
        ((BETTER,), "better", 0),
        ((UNSURE,), "better", 3),
        ((UNSURE,), "not_worse", 0),
        ((WORSE,), "not_worse", 3),
        ((WORSE,), "better", 3),
        ((BETTER, WORSE), "not_worse", 3),
        ((BETTER, WORSE), "better", 3),
    ],
)
def test_exit_code_0_means_proven(comparisons, require, code):
    assert exit_code(judge(comparisons), require) == code


@pytest.mark.parametrize("state", ["failed", "cannot_tell", "not_measured"])
@pytest.mark.parametrize("require", ["better", "not_worse"])
def test_a_gate_that_did_not_pass_is_exit_code_3(state, require):
    gate = Gate("max_loss_increase", state, None, 0.1)
    assert exit_code(judge([BETTER], [gate]), require) == 3


def test_sentences_say_what_why_and_what_to_do():
    assert "better than the base" in judge([BETTER])["sentences"][0]
    assert "0.500" in sentence(BETTER)
    assert "100 rows" in sentence(BETTER)
    assert "0.14" in sentence(UNSURE)
    assert "add test rows" in sentence(replace(UNSURE, n=4, p_value=1.0))
    assert "1 row)" in sentence(replace(UNSURE, n=1, p_value=1.0))
    unbeaten = replace(BETTER, decision="cannot_tell", unbeaten=("majority",))
    assert "not proven above the baseline majority:" in sentence(unbeaten)
    assert "not proven better than a trivial answer (accuracy)" in judge([unbeaten])["sentences"][0]
    weak, other = (replace(unbeaten, name=name, p_value=p) for name, p in (("accuracy", 0.04), ("nll", 0.5)))
    assert [one.unbeaten for one in holm([weak, other])] == [(), ()], "no gain is proven that a baseline could equal"
    assert judge([weak, other])["sentences"][0].startswith("Cannot tell")
    assert "all primary metrics" in sentence(replace(BETTER, decision="cannot_tell"))
    assert "no primary metric" in judge([])["sentences"][0]
    assert any("limit lies inside" in line for line in judge([], [Gate("g", "cannot_tell", 0.1, 0.2)])["sentences"])


@pytest.mark.parametrize("limit", [0.01, 0.02, 0.15, 0.9, 1.0])
def test_as_many_requests_as_are_said_to_be_needed_pass_where_no_answer_turns_and_one_fewer_does_not(limit):
    needed = requests_needed(limit)
    for count in (needed, needed - 1):
        if count:
            _, _, high = paired_difference(np.ones(count), np.ones(count))
            assert high == pytest.approx(least_increase(count), abs=1e-6)
            assert (high <= limit + 1e-9) == (count == needed)
    assert requests_needed(0.0) is None


def test_a_gate_on_attack_success_that_cannot_tell_says_what_would():
    said = judge([], [Gate("max_attack_success_increase", "cannot_tell", 0.138, 0.02)])["sentences"][-1]
    assert "189 requests" in said
    assert "evaluate.probes: full" in said
    assert "above 0" in judge([], [Gate("max_attack_success_increase", "cannot_tell", 0.1, 0.0)])["sentences"][-1]
    for gate in (Gate("max_attack_success_increase", "passed", 0.01, 0.02), Gate("g", "cannot_tell", 0.138, 0.02)):
        assert "requests" not in judge([], [gate])["sentences"][-1]


@pytest.mark.parametrize(("base", "told"), [(1.0, True), (0.98, True), (0.9, False)])
def test_a_gate_that_could_not_have_failed_does_not_pass_and_says_why(base, told):
    figure = Figure("safety_attack_success", base, base, 0.0, -0.02, 0.019, 200)
    (gate,) = judge_gates(GateSettings(max_attack_success_increase=0.02), [], [figure])
    assert gate.state == ("cannot_tell" if told else "passed")
    assert ("could not have failed" in judge([], [gate])["sentences"][-1]) is told


def test_a_gate_of_every_probe_looks_at_that_probes_figure():
    figures = [Figure(name, 0, 1, 1, 0.5, 2, 50) for name in INCREASES.values()]
    gates = judge_gates(GateSettings(**dict.fromkeys(INCREASES, 1.0)), [WORSE], figures)
    assert [(gate.name, gate.state) for gate in gates] == [(name, "cannot_tell") for name in INCREASES]
    for gate, figure in INCREASES.items():
        found = judge_gates(GateSettings(**{gate: 9.0}), [WORSE], [f for f in figures if f.name != figure])
        assert [g.state for g in found] == ["not_measured"]


def test_holm_knows_how_sure_a_gain_over_the_trivial_answers_is():
    """Three measures that only learnt the prior: each has its own chance to clear it, and one would do."""
    lucky = replace(BETTER, p_value=0.0, p_unbeaten=0.02)
    assert judge([lucky])["verdict"] == "better"
    short = replace(lucky, p_unbeaten=0.4, decision="cannot_tell", unbeaten=("prior",))
    found = holm([lucky, short, replace(short, name="brier")])
    assert {one.decision for one in found} == {"cannot_tell"}
    assert [one.unbeaten for one in found] == [(), ("prior",), ("prior",)], "above the base all the same"
    assert "all primary metrics" in sentence(found[0]) or "does not stand" in sentence(found[0])
    assert "not proven above the baseline prior" in sentence(found[1])
    weak = holm([replace(short, p_value=0.04), replace(short, p_value=0.045)])
    assert [one.unbeaten for one in weak] == [(), ()], "not proven above the base either"
