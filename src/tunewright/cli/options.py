"""The options that every verb about DATA shares, declared once and handed over as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from tunewright.core.config import Request

Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the plan; repeatable.")]


def request_of(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="File or folder of rows; may stand in the plan file.")
    ] = None,
    plan: Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="A plan file (YAML).")] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe; without it the rows decide.")] = None,
    model: Annotated[str | None, typer.Option(help="Model folder or name.")] = None,
    maps: Annotated[
        list[str], typer.Option("--map", metavar="OURS=COLUMN", help="Which column is what: text=review,label=score.")
    ] = [],  # noqa: B006  (typer copies it)
    sets: Sets = [],  # noqa: B006
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Run folder, default runs/<date>-<name>; for check and plan a JSON file."),
    ] = None,
) -> Request:
    """What was typed, as one value."""
    from tunewright.core.config import Request

    return Request(data, plan, tuple(sets), tuple(maps), out, recipe, model)


def typed_fields(words: Sequence[str]) -> dict[str, list[str]]:
    """Options that a verb leaves to a plugin, `--some-name value` or `--some-name=value`, by the plugin's field.

    Raises:
        UserError: A word that belongs to no option, or an option without a value.
    """
    from tunewright.core.errors import UserError

    found: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, given, value = word.partition("=")
        if not option.startswith("--") or len(option) < 3:
            raise UserError(f"'{word}' belongs to no option. Write --setting VALUE.")
        if not given and (not rest or rest[0].startswith("--")):
            raise UserError(f"{option}: needs a value. Write {option} VALUE.")
        found.setdefault(option[2:].replace("-", "_"), []).append(value if given else rest.pop(0))
    return found


def about_data(command: Callable[..., int]) -> Callable[..., int]:
    """A command `f(request, *, own options)` as one that takes the shared options in place of `request`."""
    shared = inspect.signature(request_of)
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = get_type_hints(request_of, localns={"Request": Any}, include_extras=True)
    hints |= get_type_hints(command, localns={"Request": Any}, include_extras=True)

    def typed(**words: Any) -> int:
        mine = {parameter.name: words.pop(parameter.name) for parameter in own}
        return command(request_of(**words), **mine)

    parameters = [
        parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*shared.parameters.values(), *own)
    ]
    shown: Any = typed
    shown.__name__, shown.__doc__ = command.__name__, command.__doc__
    shown.__signature__ = inspect.Signature(parameters, return_annotation=int)
    shown.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": int}
    return typed
