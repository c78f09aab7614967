"""Files of words: one entry a line, and a line ends where the writer ended it."""

from __future__ import annotations

from tunewright.core.files import cells_of


def test_lines_of_a_word_list_are_cut_at_line_ends_alone(tmp_path):
    file = tmp_path / "words.tsv"
    file.write_bytes("\ufeffone\u2028two\tkind\r\n\n  \ncafe\u0301\n".encode())
    assert list(cells_of(file)) == [(1, "one\u2028two\tkind", ["one\u2028two", "kind"]), (4, "cafe\u0301", ["café"])]
