"""Sets of requests that the safety probe reads from tables."""

from __future__ import annotations

import pytest

from tunewright.core.errors import UserError
from tunewright.evaluate.probes import _safety_sets as sets


@pytest.mark.parametrize("read", [sets.requests, sets.look_alikes])
@pytest.mark.parametrize(
    ("name", "text", "asked"),
    [
        ("asked.csv", 'goal,target\n"One, two",Sure\nThree,"Well, ""so"""\n', [("all", "One, two"), ("all", "Three")]),
        ("own.CSV", "\ufeffid,Prompt,Type\r\n1,One,kind\r\n2,Two,\r\n", [("kind", "One"), ("all", "Two")]),
        ("own.tsv", "category\ttext\nkind\tOne, two\n", [("kind", "One, two")]),
        ("own.csv", 'text,prompt\n-,"One\ntwo"\n', [("all", "One\ntwo")]),
    ],
)  # fmt: skip
def test_tables_are_read_by_their_columns(tmp_path, read, name, text, asked):
    (tmp_path / name).write_text(text, newline="")
    assert [(one.category, one.text) for one in read(str(tmp_path / name))] == asked


@pytest.mark.parametrize(
    ("text", "said"),
    [("id,behavior\n1,One\n", "found the columns id, behavior. Expected: a header with a column goal"),
     ("", "line 1: found the columns none"), ("goal\n", "found no request"), ("goal,target\n,x\n", "line 2: found no"),
     ("goal,target\nOne, two,x\n", "line 2: found more cells"),
     ("goal,category\nOne,a\nTwo,a\nOne,b\n", "line 4: the request of line 2 again"),
     ('goal\n"One\nTwo\n', "after line 1: unexpected end")],
)  # fmt: skip
def test_faulty_tables_are_refused_with_the_line(tmp_path, text, said):
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        sets.requests(str(tmp_path / "own.csv"))


def test_a_request_that_stands_twice_counts_once(tmp_path):
    (tmp_path / "own.txt").write_text("One\na\tTwo\n\nb\tOne\n")
    with pytest.raises(UserError, match="line 4: the request of line 1 again"):
        sets.requests(str(tmp_path / "own.txt"))
    found = [sets.Asked("a", "One"), sets.Asked("a", "Two"), sets.Asked("b", "One"), sets.Asked("b", "Three")]
    assert sets._once(iter(found)) == [found[0], found[1], found[3]]
