import math
from dataclasses import replace

import numpy as np
import pytest

from tunewright.core.errors import NotMeasured, UserError
from tunewright.evaluate.baselines.majority import Majority
from tunewright.evaluate.baselines.prior import Prior
from tunewright.evaluate.bootstrap import compare
from tunewright.evaluate.compare import Answered, How, compare_outcomes
from tunewright.evaluate.contracts import Outcome
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.auroc import Auroc
from tunewright.evaluate.metrics.ece import Ece
from tunewright.evaluate.metrics.ece_platt import EcePlatt
from tunewright.evaluate.metrics.exact_match import ExactMatch
from tunewright.evaluate.metrics.nll import Nll
from tunewright.evaluate.metrics.stop_rate import StopRate

from .made import LABELS, chooses, example

N = 60
ACCURACY = (Accuracy(),)


def answers(right: int, answer: str = "good", wrong: str = "bad", unit=lambda i: None):
    """N rows with the same true label, the first `right` of which are answered rightly."""
    return [chooses(f"r{i}", answer if i < right else wrong, answer, unit=unit(i)) for i in range(N)]


def compared(base, tuned, baselines=None, metrics=ACCURACY, **how):
    return whole(base, tuned, baselines, metrics, **how).comparisons


def whole(base, tuned, baselines=None, metrics=ACCURACY, **how):
    return compare_outcomes(Answered(base, tuned, baselines or {}, metrics, LABELS), How(**{"resamples": 400, **how}))


def test_a_comparison_holds_what_the_bootstrap_says():
    base, tuned = answers(20), answers(45)
    (found,) = compared(base, tuned, trivial=set(), primary={"accuracy"}, seed=3)
    wanted = compare(
        Accuracy(),
        np.array([[float(i < 20)] for i in range(N)]),
        np.array([[float(i < 45)] for i in range(N)]),
        [f"row r{i}" for i in range(N)],
        3,
        400,
    )
    assert (found.base, found.tuned, found.low, found.high) == (wanted.base, wanted.tuned, wanted.low, wanted.high)
    assert (found.name, found.decision, found.primary, found.unit, found.n) == ("accuracy", "better", True, "row", N)


def test_the_unit_of_the_rows_is_what_is_counted():
    base, tuned = (answers(right, unit=lambda i: f"worker {i // 4}") for right in (20, 45))
    (found,) = compared(base, tuned, trivial=set())
    assert (found.n, found.unit, found.primary) == (N // 4, "unit", False)


def test_a_row_named_like_a_unit_is_not_that_unit():
    base, tuned = (answers(right, unit=lambda i: None if i < 30 else f"r{i - 30}") for right in (20, 45))
    (found,) = compared(base, tuned, trivial=set())
    assert found.n == N


@pytest.mark.parametrize("baseline", [Majority(), Prior()], ids=lambda b: b.plugin_name())
def test_learning_to_say_the_commonest_label_is_no_success(baseline):
    name = baseline.plugin_name()
    base = [chooses(f"r{i}", "bad", "good" if i < 40 else "fine") for i in range(N)]
    tuned = [chooses(f"r{i}", "good", "good" if i < 40 else "fine") for i in range(N)]
    trivial = {name: baseline.outcomes([o.example for o in base], [o.example for o in base], LABELS)}
    (found,) = compared(base, tuned, trivial, trivial={name})
    assert found.low > 0
    assert (found.decision, found.baselines[name], found.unbeaten) == ("cannot_tell", 40 / 60, (name,))
    assert found.margins[name][0] < 0 < found.margins[name][1], "60 equal answers leave open what others would show"
    real = [chooses(o.example.id, o.example.answer.text, o.example.answer.text) for o in base]
    (found,) = compared(base, real, trivial, trivial={name})
    assert found.decision == "better"
    assert found.margins[name][0] > 0


@pytest.mark.parametrize("metric", [ExactMatch(), StopRate()], ids=lambda m: m.plugin_name())
def test_free_answers_over_labels_that_are_to_decide_must_beat_who_always_says_one(metric):
    """The base chats; the tuned model has learnt to say the commonest label and stop, and nothing else."""

    def says(i: int, text: str, stopped: bool) -> Outcome:
        return replace(chooses(f"r{i}", "bad", "good" if i < 40 else "fine"), text=text, stopped=stopped)

    base = [says(i, "Well, let me think.", False) for i in range(N)]
    form = [says(i, "good", True) for i in range(N)]
    constant = {"majority": [says(i, "good", True) for i in range(N)]}
    name = metric.plugin_name()
    (found,) = compared(base, form, constant, (metric,), trivial={"majority"}, primary={name})
    assert (found.low > 0, found.decision) == (True, "cannot_tell")
    (beside,) = compared(base, form, constant, (metric,), trivial={"majority"})
    assert beside.decision == "better", "beside others it is told as it is"


def test_a_figure_that_many_resamples_lack_decides_nothing():
    """All rows of one label are of one unit: a third of the resamples have no such row, and no figure."""
    base = [chooses(f"r{i}", "bad", "good" if i < 3 else "bad", unit=f"u{max(i, 2)}") for i in range(30)]
    tuned = [chooses(o.example.id, o.example.answer.text, o.example.answer.text, unit=o.example.unit) for o in base]
    (found,) = compared(base, tuned, metrics=(Auroc(),), trivial=())
    assert (found.decision, found.smallest_detectable, found.p_value) == ("cannot_tell", None, 1.0)


def test_units_that_a_figure_is_fitted_on_are_not_counted():
    """12 patients, of whom about half only fit the scaling: too few are left to decide."""
    metric = EcePlatt()
    base = [chooses(f"r{i}", "good", "good" if i % 3 else "bad", unit=f"u{i // 5}", sure=4.0) for i in range(60)]
    tuned = [replace(o, choices=o.choices / 4) for o in base]
    (found,) = compared(base, tuned, metrics=(metric,), trivial=())
    measured = {o.example.unit for o in base if not metric.record(o, LABELS)[2]}
    assert found.n == len(measured) < 12
    assert found.decision == "cannot_tell"


def test_a_trivial_baseline_that_was_not_asked_is_not_beaten():
    assert compared(answers(0), answers(N))[0].decision == "cannot_tell"
    assert compared(answers(0), answers(N), trivial=())[0].decision == "better"


def test_a_strong_baseline_is_shown_but_does_not_decide():
    (found,) = compared(answers(20), answers(45), {"tfidf": answers(N)}, trivial=set())
    assert found.unbeaten == (), "one that reads the row withholds nothing"
    assert (found.decision, found.baselines) == ("better", {"tfidf": 1.0})
    assert found.margins["tfidf"][1] < 0


def test_worse_needs_no_baseline():
    assert compared(answers(45), answers(20))[0].decision == "worse"


def test_trivial_baselines_do_not_bind_metrics_without_a_score_to_beat():
    base, tuned = (
        [replace(o, answer_log_prob=-nats - i % 3 / 10, answer_tokens=2) for i, o in enumerate(answers(20))]
        for nats in (4.0, 2.0)
    )
    (found,) = compared(base, tuned, {"majority": answers(N)}, [Nll()], trivial={"majority"})
    assert (found.decision, found.baselines) == ("better", {})
    assert not Ece.closed_set


def test_rows_without_a_figure_are_left_out_for_both():
    base = [replace(o, text="good") for o in answers(N)]
    tuned = [replace(o, text="good" if i < 20 else None) for i, o in enumerate(answers(N))]
    (found,) = compared(base, tuned, metrics=[ExactMatch(), StopRate()])
    assert (found.name, found.n) == ("exact_match", 20)


def test_a_primary_metric_without_rows_is_an_error_that_names_what_there_is():
    with pytest.raises(UserError, match=r"stop_rate.*Measured are: accuracy"):
        compared(answers(20), answers(45), metrics=[Accuracy(), StopRate()], primary={"stop_rate"})


def test_rows_that_do_not_match_are_all_told_at_once():
    base = answers(20)
    with pytest.raises(UserError) as caught:
        compared(base, base[::-1], {"majority": base[:-1]})
    assert len(caught.value.problems) == 2
    assert "row 0 is 'r59', that of base is 'r0'" in caught.value.problems[0]
    assert "majority has 59 outcomes, base has 60" in caught.value.problems[1]


def test_a_model_that_diverged_is_named_with_its_rows():
    tuned = [replace(o, choices=np.full(3, math.nan)) if i in (4, 9) else o for i, o in enumerate(answers(45))]
    with pytest.raises(UserError, match=r"2 of 60 rows have figures of the tuned model \(accuracy\).*'r4', 'r9'"):
        compared(answers(20), tuned)
    bad = [Outcome(example("a"), answer_log_prob=-math.inf, answer_tokens=3)]
    with pytest.raises(UserError, match="'a'"):
        compared(bad, bad, metrics=[Nll()])


def test_a_metric_without_a_value_is_told_and_left_out_unless_it_is_to_decide():
    both = (Accuracy(), Auroc())
    found = whole(answers(20), answers(45), metrics=both, trivial=(), primary={"accuracy"})
    assert [(one.name, one.decision) for one in found.comparisons] == [("accuracy", "better")]
    (told,) = found.unmeasured
    assert "Auroc has no value on these 60 rows" in told
    with pytest.raises(NotMeasured, match="Auroc has no value"):
        compared(answers(20), answers(45), metrics=both, trivial=(), primary={"auroc"})


def test_a_gain_is_as_sure_as_over_the_nearest_trivial_answer():
    base, tuned, constant = answers(5), answers(45), answers(30)
    (found,) = compared(base, tuned, {"majority": constant}, trivial={"majority"}, primary={"accuracy"})
    (alone,) = compared(constant, tuned, trivial=set(), primary={"accuracy"})
    assert found.decision == "better"
    assert found.p_unbeaten == alone.p_value > found.p_value
    (unknown,) = compared(base, tuned, {}, trivial={"majority"}, primary={"accuracy"})
    assert (unknown.p_unbeaten, unknown.decision) == (1.0, "cannot_tell")
    (worse,) = compared(tuned, base, {"majority": constant}, trivial={"majority"}, primary={"accuracy"})
    assert worse.p_unbeaten == 0.0, "a loss need not beat anybody"
