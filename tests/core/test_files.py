"""Files of words: one entry a line, and a line ends where the writer ended it."""

from __future__ import annotations

import pytest

from tunewright.core.errors import UserError
from tunewright.core.files import cells_of, require_other


def test_lines_of_a_word_list_are_cut_at_line_ends_alone(tmp_path):
    file = tmp_path / "words.tsv"
    file.write_bytes("\ufeffone\u2028two\tkind\r\n\n  \ncafe\u0301\n".encode())
    assert list(cells_of(file)) == [(1, "one\u2028two\tkind", ["one\u2028two", "kind"]), (4, "cafe\u0301", ["café"])]


def test_a_result_is_not_written_over_what_it_is_made_from(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}")
    (tmp_path / "link.jsonl").symlink_to(rows)
    for out, given in ((rows, rows), (tmp_path / "link.jsonl", str(rows)), (rows, tmp_path)):  # a folder: in it
        with pytest.raises(UserError, match="would be overwritten"):
            require_other(out, None, given)
    require_other(tmp_path / "new.json", rows, tmp_path)
    (tmp_path / "other.json").write_text("{}")
    require_other(tmp_path / "other.json", rows)
    require_other(rows, None, "icd10")
