"""No test reaches the network or the user's cache unless it is marked `assets`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tunewright.data.formats import HIDDEN

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that wait must not slow the other worker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs take longest and come first, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: "pipeline" not in item.path.parts)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, session_cache: Path) -> None:
    if request.node.get_closest_marker("assets") is None:
        monkeypatch.setenv("TUNEWRIGHT_CACHE", str(session_cache))


@pytest.fixture(autouse=True)
def rows_are_shown() -> None:
    """A private run tells the readers of its process; one that a test calls itself is told by nobody."""
    HIDDEN.set(False)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets to anywhere but this machine are refused, in this process."""
    if request.node.get_closest_marker("assets") is not None:
        return
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
