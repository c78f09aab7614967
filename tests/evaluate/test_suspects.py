import numpy as np
import pytest

from tunewright.evaluate.suspects import find_suspects

from .made import LABELS, example
from .test_baselines import reviews


def flipped(rows, every: int):
    """The rows with every so-many-th label wrong, and the ids of those."""
    wrong, found = set(), []
    for i, row in enumerate(rows):
        label = row.answer.text
        if i % every == 0:
            label = LABELS[(LABELS.index(label) + 1) % 3]
            wrong.add(row.id)
        found.append(example(row.id, label, row.prompt_text, unit=row.unit))
    return found, wrong


@pytest.mark.parametrize("unit", [False, True], ids=["rows", "units"])
def test_planted_flips_are_found_and_little_else(unit):
    clean = reviews(300, 0, unit=unit)
    rows, wrong = flipped(clean, 20)
    found = find_suspects(rows, LABELS, seed=1)
    named = {suspect.id for suspect in found.rows}
    assert len(named & wrong) >= 0.9 * len(wrong)
    assert len(named - wrong) <= 2
    assert found.checked == 300
    truth = {row.id: row.answer.text for row in clean}
    for suspect in found.rows:
        if suspect.id in wrong:
            assert suspect.suspected == truth[suspect.id]
            assert suspect.given != suspect.suspected


def test_clean_rows_raise_no_suspicion():
    assert find_suspects(reviews(300, 0), LABELS).rows == ()


def test_a_row_is_judged_by_rows_of_other_units():
    """Copies of a wrong row within its unit would vouch for it if they were trained on."""
    rows = reviews(200, 0)
    copies = [example(f"copy {i}", "good", "zebra zebra zebra awful broken", unit="copier") for i in range(12)]
    named = {suspect.id for suspect in find_suspects(rows + copies, LABELS).rows}
    assert {row.id for row in copies} <= named


def test_surest_first_with_text_source_and_probability():
    rows, _ = flipped(reviews(300, 0), 15)
    found = find_suspects(rows, LABELS).rows
    assert found == find_suspects(rows, LABELS).rows
    assert [s.probability for s in found] == sorted((s.probability for s in found), reverse=True)
    assert all(0 < s.probability <= 1 and s.source == f"rows.csv:{s.id}" and s.text for s in found)


def test_rare_labels_are_left_out_with_a_note():
    rows = [row for row in flipped(reviews(300, 0), 15)[0] if row.answer.text != "bad"]
    rows += [example(f"x{i}", "bad", "awful") for i in range(4)]
    found = find_suspects(rows, LABELS)
    assert "fewer than 10 rows were not looked at: bad" in found.note
    assert found.checked == len(rows) - 4
    assert found.rows
    assert all("x" not in suspect.id for suspect in found.rows)


@pytest.mark.parametrize("rows", [[], reviews(12, 0), [example(str(i), "good", f"word {i}") for i in range(50)]])
def test_too_few_rows_are_skipped_with_a_note(rows):
    found = find_suspects(rows, LABELS)
    assert (found.rows, found.checked) == ((), 0)
    assert found.note.startswith("Not looked for")


def test_texts_without_words_raise_no_suspicion():
    rng = np.random.default_rng(0)
    rows = [example(str(i), str(rng.choice(LABELS)), "...") for i in range(90)]
    assert find_suspects(rows, LABELS).checked == 90
