"""Opened tiny models for the tests of methods; nothing here may reach the network."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny import save_tiny

from tunewright.core.plugins import build
from tunewright.models.contracts import LoadedModel, Origin

Open = Callable[..., LoadedModel]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny products are faster alone than shared out among threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a method went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def open_tiny(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Opens a fresh copy of a tiny model; its folder is written once."""
    folders: dict[str, Path] = {}

    def opened(kind: str, dtype: torch.dtype = torch.float32) -> LoadedModel:
        if kind not in folders:
            folders[kind] = save_tiny(kind, tmp_path_factory.mktemp(kind))
        return build("families", "causal_lm").open(Origin(f"tiny {kind}", folders[kind], "none"), dtype)

    return opened
