"""A reader that goes away (`| head`) ends what is shown, never what is done or how it is said to have ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def unread(stream: TextIO | None) -> Iterator[None]:
    """Within it writing to a stream without a reader ends the block; all that follows on that stream is dropped."""
    try:
        yield
    except BrokenPipeError:
        if stream is not None:  # also what lies in its buffer, which Python writes when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
