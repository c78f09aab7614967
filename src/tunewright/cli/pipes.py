"""A reader that goes away (`| head`, a terminal that is closed) ends what is shown, never what is done or how it is
said to have ended."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def unread(stream: TextIO | None) -> Iterator[None]:
    """Within it writing to a stream without a reader ends the block; all that follows on that stream is dropped."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and not (error.errno == errno.EIO and _is_terminal(stream)):
            raise
        if stream is not None:  # also what lies in its buffer, which Python writes when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether it is one, or was: one that is closed says no more that it is."""
    return stream is not None and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
