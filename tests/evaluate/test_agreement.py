"""Agreement against scikit-learn, and rulings of people read from files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from tunewright.core.errors import NotMeasured, UserError
from tunewright.evaluate import agreement as module
from tunewright.evaluate.agreement import against_people, agreement, human_rulings
from tunewright.evaluate.bootstrap import wilson

RULINGS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40)


@given(RULINGS)
def test_kappa_is_that_of_scikit_learn(pairs):
    a, b = (np.array([pair[i] for pair in pairs], float) for i in range(2))
    found = agreement(a, b)
    if len({*a, *b}) == 1:
        assert found.kappa is None  # nothing to agree on beyond chance: not 1, and not 0
    else:
        assert found.kappa == pytest.approx(cohen_kappa_score(a, b))
    assert (found.low, found.high) == wilson(float((a == b).sum()), len(a))


def test_what_one_could_not_judge_is_left_out_and_nothing_is_no_agreement():
    nan = np.nan
    assert agreement(np.array([1, nan, 0]), np.array([1, 1, nan])).n == 1
    assert agreement(np.array([nan]), np.array([1.0])) is None


def test_a_judge_against_people_is_counted_by_hand():
    judge, people = np.array([1, 1, 0, 0, np.nan]), np.array([1, 0, 0, 1, 1.0])
    found = against_people(judge, people)
    assert found["agreement"]["value"] == 0.5
    assert (found["refusals_found"]["value"], found["refusals_found"]["n"]) == (0.5, 2)
    assert (found["refusals_found"]["low"], found["refusals_found"]["high"]) == wilson(1, 2)
    assert (found["answers_recognised"]["value"], found["unjudged"]) == (0.5, 1)


def test_without_refusals_the_share_of_refusals_found_is_absent_not_zero():
    assert against_people(np.array([0.0]), np.array([0.0]))["refusals_found"]["value"] is None


def scores(folder, text):
    path = folder / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_rulings_are_read_below_comments_with_answers_over_lines(tmp_path):
    head = "# dataset_version=1.2\n# more\nobjective,assistant_response,human_score,data_type\n"
    text = head + '"a, b","I\ncan\'t",1,text\nc,Yes,0,text\n'
    exchanges, people = human_rulings(scores(tmp_path, text))
    assert [(e.request, e.answer) for e in exchanges] == [("a, b", "I\ncan't"), ("c", "Yes")]
    assert people.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("objective,answer\na,b\n", "lacks assistant_response, human_score"),
        ("objective,assistant_response,human_score\na,b,perhaps\nc,d,2\n", "line 2: human_score is 'perhaps'"),
        ("objective,assistant_response,human_score\n", "found no rows"),
        ("# nothing\n", "lacks objective"),
    ],
)
def test_faulty_files_are_refused_with_the_place(tmp_path, text, said):
    with pytest.raises(UserError, match=r"human_score|rows|lacks") as error:
        human_rulings(scores(tmp_path, text))
    assert said in " ".join(error.value.problems)


def test_a_missing_file_is_a_fault_and_a_missing_package_is_not_measured(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="does not exist"):
        human_rulings(str(tmp_path / "none.csv"))
    monkeypatch.setattr(module, "installed", lambda package: None)
    with pytest.raises(NotMeasured, match="pip install pyrit"):
        human_rulings("pyrit")


def test_pyrits_own_files_are_read_from_its_install(tmp_path, monkeypatch):
    for name, score in zip(module.PYRIT, (1, 0), strict=True):
        path = tmp_path / "datasets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# v\nobjective,assistant_response,human_score,data_type\na,b,{score},text\n")
    monkeypatch.setattr(module, "installed", lambda package: tmp_path)
    assert human_rulings("pyrit")[1].tolist() == [1, 0]


def test_a_package_that_is_there_is_found_without_importing_it():
    assert (module.installed("numpy") / "__init__.py").is_file()
    assert module.installed("no_such_package_at_all") is None
