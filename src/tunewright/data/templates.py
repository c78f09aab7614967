"""Templates that users write: which names stand in braces, and whether they can be filled in."""

from __future__ import annotations

import string
from collections.abc import Mapping


def braced(template: str) -> list[str]:
    """The names in braces, in order.

    Raises:
        ValueError: A brace is not closed, or closes nothing.
    """
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"It cannot be read ({error}). Double a brace that is to be written: {{{{ or }}}}") from None


def checked(template: str, allowed: Mapping[str, str | int] | None) -> list[str]:
    """The names in braces of a template that can be filled in.

    Args:
        template: As the user wrote it.
        allowed: What may stand in braces, with what it is tried on; None = any name, of a text.

    Raises:
        ValueError: Another name stands in braces, or what stands beside a name cannot be done with its value.
    """
    names = braced(template)
    if allowed is not None and not set(names) <= set(allowed):
        if not allowed:
            raise ValueError("Nothing is filled in here. Leave out what stands in braces, or double them: {{ and }}")
        raise ValueError(f"Only {listed(sorted(allowed))} may stand in braces")
    try:
        template.format(**(dict.fromkeys(names, "x") if allowed is None else allowed))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        mend = "Write the name alone, without '.', '[', ':' or '!' behind it"
        raise ValueError(f"It cannot be filled in ({error}). {mend}") from None
    return names


def listed(names: list[str]) -> str:
    """Names as they stand in a template."""
    return ", ".join(f"{{{name}}}" for name in names)
