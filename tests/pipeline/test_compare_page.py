"""Where `compare` writes its page, known before the runs are read."""

from __future__ import annotations

import pytest

from tunewright.core.errors import UserError
from tunewright.pipeline.compare import compare


@pytest.mark.parametrize("name", ["c.pdf", "c", "c.htm"])
def test_other_endings_than_those_it_can_write_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"\.html and \.md can be written"):
        compare([tmp_path, tmp_path], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_is_known_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        compare([tmp_path, tmp_path], tmp_path / "file" / "c.html")
