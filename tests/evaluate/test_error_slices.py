"""Error slices: nothing on noise, what is planted is named, and what was not looked at is told."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tunewright.evaluate import error_slices
from tunewright.evaluate.error_slices import error_blocks, error_sentences, find_error_slices
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.auroc import Auroc
from tunewright.evaluate.metrics.ece import Ece
from tunewright.evaluate.metrics.macro_f1 import MacroF1
from tunewright.evaluate.metrics.nll import Nll
from tunewright.evaluate.metrics.perplexity import Perplexity

_FILE = Path(__file__).parents[2] / "benchmarks" / "slice_simulation.py"
_SPEC = importlib.util.spec_from_file_location("slice_simulation", _FILE)
simulation = importlib.util.module_from_spec(_SPEC)
sys.modules["slice_simulation"] = simulation
_SPEC.loader.exec_module(simulation)
SETS = 25
LABELS = simulation.LABELS


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    """Enough for a level of 5 %, and quick."""
    monkeypatch.setattr(error_slices, "PERMUTATIONS", 199)


@pytest.fixture(scope="module")
def outcomes():
    return simulation.rows(np.random.default_rng(0), 150, 1)


@pytest.mark.parametrize("case", simulation.CASES, ids=lambda case: case[0])
def test_on_noise_hardly_anything_is_named(case):
    found = [bool(case[1](seed, 0.0).found) for seed in range(SETS)]
    assert np.mean(found) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / SETS)


@pytest.mark.parametrize("case", simulation.CASES, ids=lambda case: case[0])
def test_a_planted_word_is_found(case):
    hits = [any(simulation.PLANTED in one.name for one in case[1](900 + seed, 0.5).found) for seed in range(6)]
    assert np.mean(hits) >= 0.5


def test_looking_at_each_candidate_alone_would_fail_the_promise(monkeypatch):
    """The planted fault: p-values that have not looked at the others name something in most sets."""

    def alone(loss, share, mass, alike, random):
        return np.array([corrected(loss, one[None], mass, alike, random)[0] for one in share])

    corrected = error_slices._corrected
    monkeypatch.setattr(error_slices, "_corrected", alone)
    monkeypatch.setattr(error_slices, "PERMUTATIONS", 99)
    monkeypatch.setattr(error_slices, "MOST_WORDS", 60)
    assert np.mean([bool(simulation.looked(seed, 200, 1).found) for seed in range(6)]) > 0.5


def test_small_units_whose_losses_scatter_more_are_named_only_if_all_change_places(monkeypatch):
    """A mean of one row scatters more, and a word is in all of it or in none: together they look like a finding."""
    monkeypatch.setattr(error_slices, "PERMUTATIONS", 99)
    size, random = np.repeat([1, 16], [20, 100]), np.random.default_rng(5)
    apart, together = error_slices._size_class(size), np.zeros(120, dtype=int)
    named = {"apart": 0, "together": 0}
    for _ in range(60):
        loss = random.normal(0, size**-0.5)
        share = np.where(size == 1, random.random((40, 120)) < 0.3, 0.3).astype(float)
        named["apart"] += error_slices._corrected(loss, share, np.ones(120), apart, random).min() <= 0.05
        named["together"] += error_slices._corrected(loss, share, np.ones(120), together, random).min() <= 0.05
    assert named["apart"] <= 8  # 3 expected
    assert named["together"] > 20


def failing(outcome):
    return replace(outcome, choices=np.array([0.0, -1.0]), answer_log_prob=-4.0)


def passing(outcome):
    return replace(outcome, choices=np.array([0.0, 1.0]), answer_log_prob=-0.1)


@pytest.mark.parametrize("metric", [Accuracy(), Perplexity()], ids=["accuracy", "perplexity"])
def test_a_subgroup_and_a_length_are_named_with_what_they_cost(outcomes, metric):
    rng = np.random.default_rng(1)
    marked = [
        replace(o, example=replace(o.example, slices={"clinic": "north" if rng.random() < 0.3 else "south"}))
        for o in outcomes
    ]
    bad = [failing(o) if o.example.slices["clinic"] == "north" and rng.random() < 0.7 else passing(o) for o in marked]
    looked = find_error_slices(bad, metric, LABELS, 0)
    first = looked.found[0]
    assert first.name == "with clinic north"
    assert first.p_value <= 0.05
    assert (first.inside < first.outside) == metric.higher_is_better
    assert first.rows == sum(o.example.slices["clinic"] == "north" for o in marked)
    assert "clinic north do worse" in error_sentences(looked)[0]
    assert error_blocks(looked)[0].rows[0][0] == "with clinic north"
    long = [failing(o) if len(o.example.prompt_text.split()) >= 20 else passing(o) for o in outcomes]
    assert find_error_slices(long, metric, LABELS, 0).found[0].name.startswith("of at least")


def counting_otherwise(seed, planted=0.0):
    """Rows of survey weights that spread widely and answers of 1 to 30 tokens, whose nats go with their tokens."""
    random = np.random.default_rng(seed)
    found = []
    for o in simulation.rows(np.random.default_rng((seed, 1)), 200, 1, planted):
        tokens = int(random.integers(1, 31))
        nats = float(random.gamma(2.0, 0.3, tokens).sum()) + tokens * planted * (
            simulation.PLANTED in o.example.prompt_text
        )
        example = replace(o.example, survey_weight=float(random.lognormal(0, 1)))
        found.append(replace(o, example=example, answer_log_prob=-nats, answer_tokens=tokens))
    return found


@pytest.mark.parametrize("metric", [Accuracy(), Nll()], ids=["accuracy", "nll"])
def test_weights_and_tokens_of_noise_name_hardly_anything_and_hide_nothing(metric):
    named = [bool(find_error_slices(counting_otherwise(seed), metric, LABELS, seed).found) for seed in range(SETS)]
    assert np.mean(named) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / SETS)
    there = [find_error_slices(counting_otherwise(900 + seed, 0.6), metric, LABELS, seed).found for seed in range(6)]
    assert np.mean([any(simulation.PLANTED in one.name for one in found) for found in there]) >= 0.5


def fewer_fail_but_not_the_heavy(outcomes):
    """Most rows of the north fail, the few that stand for many do not: by weight the north does better."""
    made = []
    for number, o in enumerate(outcomes):
        north = number % 2 == 0
        heavy = number % 10 < 2
        right = heavy if north else number % 3 > 0
        example = replace(
            o.example, slices={"clinic": "north" if north else "south"}, survey_weight=40.0 if heavy else 1.0
        )
        made.append(replace((passing if right else failing)(o), example=example, answer_tokens=40 if heavy else 1))
    return made


@pytest.mark.parametrize("weighted", [True, False], ids=["survey weight", "tokens"])
def test_nothing_is_said_to_do_worse_with_figures_that_say_better(outcomes, weighted):
    rows, metric = fewer_fail_but_not_the_heavy(outcomes), Accuracy() if weighted else Nll()
    if not weighted:  # a token of the same answer is as hard as any other of it
        rows = [
            replace(
                o, answer_log_prob=o.answer_log_prob * o.answer_tokens, example=replace(o.example, survey_weight=1.0)
            )
            for o in rows
        ]
    found = find_error_slices(rows, metric, LABELS, 0).found
    assert "with clinic north" not in [one.name for one in found]
    assert all((one.inside < one.outside) == metric.higher_is_better for one in found)


def test_a_unit_is_weighed_as_its_figure_is():
    """Each unit has one heavy row: the worst unit is the one whose heavy rows fail, not the one with most failures."""
    rows = simulation.rows(np.random.default_rng(3), 40, 6)
    names = sorted({o.example.unit for o in rows if sum(p.example.unit == o.example.unit for p in rows) == 6})
    seen, made = {}, []
    for number, o in enumerate(rows):
        place = seen[o.example.unit] = seen.get(o.example.unit, -1) + 1
        bad = place > 0 if o.example.unit == names[0] else number % 5 == 0
        weight = 50.0 if o.example.unit == names[0] and place == 0 else 1.0
        o = replace(o, example=replace(o.example, survey_weight=weight))
        made.append(failing(o) if bad else passing(o))
    assert f"unit {names[0]}" not in [one.name for one in find_error_slices(made, Accuracy(), LABELS, 0).found]


def test_what_the_figures_contradict_is_not_named(outcomes, monkeypatch):
    """The last guard, whatever the test says."""
    monkeypatch.setattr(error_slices, "_corrected", lambda loss, share, *_: np.zeros(len(share)))
    for metric in (Accuracy(), Perplexity()):
        found = find_error_slices(outcomes, metric, LABELS, 0)
        assert 0 < len(found.found) < found.looked
        assert all(one.inside != one.outside for one in found.found)
        assert {one.inside < one.outside for one in found.found} == {metric.higher_is_better}


def test_a_unit_of_several_rows_is_named():
    rows = simulation.rows(np.random.default_rng(3), 40, 6)
    rng = np.random.default_rng(0)
    names = {o.example.unit for o in rows if sum(p.example.unit == o.example.unit for p in rows) == 6}
    worst = min(names)
    rows = [failing(o) if o.example.unit == worst or rng.random() < 0.1 else passing(o) for o in rows]
    found = find_error_slices(rows, Accuracy(), LABELS, 0).found
    assert f"unit {worst}" in [one.name for one in found]
    assert next(one for one in found if one.name == f"unit {worst}").inside == 0.0


def test_what_was_not_looked_for_is_told(outcomes):
    few = find_error_slices(outcomes[:20], Accuracy(), LABELS, 0)
    assert (few.found, few.looked) == ((), 0)
    assert "30 units" in few.note
    assert error_sentences(few) == []
    assert "Not looked for" in error_blocks(few)[0].note
    for metric in (Auroc(), Ece(), MacroF1()):
        assert "of many rows together" in find_error_slices(outcomes, metric, LABELS, 0).note
    perfect = find_error_slices([passing(o) for o in outcomes], Accuracy(), LABELS, 0)
    assert perfect.found == ()
    assert perfect.looked > 20
    assert "none does worse" in error_sentences(perfect)[0]


def test_a_look_is_the_same_every_time_and_in_any_order(outcomes):
    one = find_error_slices(outcomes, Accuracy(), LABELS, 4)
    assert one == find_error_slices(outcomes, Accuracy(), LABELS, 4)
    assert one.looked == find_error_slices(outcomes[::-1], Accuracy(), LABELS, 4).looked
