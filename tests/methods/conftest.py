"""What the tests of methods share: tiny models, and no network."""

from __future__ import annotations

import socket

import pytest

from tiny import one_thread, open_tiny

__all__ = ["one_thread", "open_tiny"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a method went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
