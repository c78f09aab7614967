"""The page of settings holds every key of a plan with its default and what it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docs.pages import text_of
from tunewright.core.settings import PlanSettings, Section


def table() -> list[str]:
    """The lines of the page, one a key."""
    return [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in _keys(PlanSettings, "")]


def _keys(section: type[Section], before: str) -> Iterator[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        default: Any = field.default
        if isinstance(default, Section):
            yield from _keys(type(default), f"{name}.")
            continue
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"{before}{name}", _written(field.get_default(call_default_factory=True)), meaning


def _written(default: Any) -> str:
    if default is None or default in ("", (), {}):
        return ""
    if isinstance(default, tuple):
        return ", ".join(f"{value}" for value in default)
    return str(default).lower() if isinstance(default, bool) else f"{default}"


def test_every_key_stands_on_the_page_with_its_default_and_its_meaning():
    found = [line for line in text_of("docs/settings.md").splitlines() if line.startswith("| `")]
    assert found == table(), "\n".join(table())


def test_every_key_says_what_it_does():
    assert [line for line in table() if line.endswith("|  |")] == []
