"""Tiny models, one thread."""

from tiny import one_thread, open_tiny

__all__ = ["one_thread", "open_tiny"]
