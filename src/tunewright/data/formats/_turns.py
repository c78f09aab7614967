"""Messages -> turns: roles and their other names, weights, tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.records import Answer, Part, Turn, text_part
from tunewright.data.formats import Flaw, How, Row, shown
from tunewright.data.formats._common import from_json, listed, objects, said, system_of, text, user, weight

ROLES = ("system", "developer", "user", "assistant", "tool")
OTHER_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
}
_KEPT = ("name", "tool_call_id")
_THOUGHT = ("reasoning_content", "thinking", "reasoning")
"""Names under which data sets keep what an answer was thought out by; templates know the first."""
_WEIGHTS = ("weight", "loss", "train")
"""Names under which data sets say whether a message is trained on."""


def turns(found: Any, field: str, how: How, keys: tuple[str, str] = ("role", "content")) -> tuple[Turn, ...]:
    """A list of messages (or its JSON string) as turns; assistant turns weigh 1 unless they say otherwise.

    Args:
        found: The column's value.
        field: Its name, for sentences.
        how: Names of keys that the user mapped.
        keys: How this format calls the role and the content.

    Raises:
        Flaw: The first fault, with the message's number from 0.
    """
    items = from_json(found, field)
    if not isinstance(items, list) or not items:
        raise Flaw(field, shown(items), "a list of messages", 'write \'[{"role": "user", "content": "..."}, ...]\'')
    role_key, content_key = (how.names.get(key, key) for key in keys)
    return tuple(_turn(item, f"{field}[{at}]", role_key, content_key) for at, item in enumerate(items))


def _turn(item: Any, field: str, role_key: str, content_key: str) -> Turn:
    if not isinstance(item, dict):
        raise Flaw(
            field, shown(item), f"an object with '{role_key}' and '{content_key}'", "write the message as an object"
        )
    role = _role(item.get(role_key), f"{field}.{role_key}")
    if item.get("function_call"):
        raise Flaw(f"{field}.function_call", "a function_call", "tool_calls", "write it as tool_calls: [{...}]")
    calls = _tool_calls(item.get("tool_calls"), f"{field}.tool_calls")
    if calls and role != "assistant":
        raise Flaw(f"{field}.tool_calls", f"tool calls of role {role}", "them on assistant alone", "correct the role")
    extra = {key: item[key] for key in _KEPT if item.get(key) is not None}
    for key in _THOUGHT:
        if isinstance(item.get(key), str) and item[key].strip():
            extra |= {_THOUGHT[0]: item[key], key: item[key]}  # templates ask under one name or the other
            break
    if calls:
        extra["tool_calls"] = calls
    weighs = _turn_weight(item, role, field)
    return Turn(role, _parts(item.get(content_key), f"{field}.{content_key}", bool(calls), weighs > 0), weighs, extra)


def _role(found: Any, field: str) -> str:
    role = OTHER_ROLES.get(found, found) if isinstance(found, str) else found
    if role not in ROLES:
        allowed = f"one of {listed(ROLES)} (or {listed(OTHER_ROLES)})"
        raise Flaw(field, shown(found), allowed, "rename the role")
    return str(role)


def _turn_weight(item: Mapping[str, Any], role: str, field: str) -> float:
    key = next((name for name in _WEIGHTS if item.get(name) is not None), "weight")
    found = item.get(key)
    if found is None:
        return float(role == "assistant")
    number = float(found) if isinstance(found, bool) else weight(found, f"{field}.{key}")
    if number > 0 and role != "assistant":
        raise Flaw(f"{field}.{key}", f"weight {number:g} on role {role}", "weight on assistant alone", "remove it")
    return number


def _parts(found: Any, field: str, calls: bool, trained: bool) -> tuple[Part, ...]:
    """Content as parts: text, or a list of text parts; may be empty where nothing is trained or a tool is called."""
    if isinstance(found, list):
        pieces = []
        for at, part in enumerate(found):
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                allowed = '{"type": "text", "text": "..."}'
                raise Flaw(f"{field}[{at}]", shown(part), allowed, "keep text parts only")
            pieces.append(part["text"])
        found = "".join(pieces)
    if calls and not found:
        return ()
    if found == "" and not trained:
        return (text_part(""),)
    return (text_part(text(found, field)),)


def _tool_calls(found: Any, field: str) -> list[dict[str, Any]]:
    """Tool calls as chat templates want them: {type, function: {name, arguments as an object}}."""
    calls = []
    for at, call in enumerate(objects(found, field)):
        place = f"{field}[{at}]"
        function = call.get("function", {key: call[key] for key in ("name", "arguments") if key in call})
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            allowed = '{"function": {"name": ..., "arguments": {...}}}'
            raise Flaw(place, shown(call), allowed, "name the function that is called")
        arguments = from_json(function.get("arguments") or {}, f"{place}.arguments")
        kept = {"id": call["id"]} if call.get("id") is not None else {}
        calls.append({**kept, "type": "function", "function": {**function, "arguments": arguments}})
    return calls


def with_system(said_turns: Sequence[Turn], row: Row) -> tuple[Turn, ...]:
    """The turns, behind the system turn of the row's column `system` if it is filled.

    Raises:
        Flaw: They begin with a system turn of their own that says something else.
    """
    system = system_of(row)
    if not (system and said_turns and said_turns[0].role == "system"):
        return (*system, *said_turns)
    if system[0].text.strip() == said_turns[0].text.strip():
        return tuple(said_turns)
    raise Flaw("system", "a system text beside another one in the messages", "one of them", "delete one of them")


def conversation(said_turns: Sequence[Turn], field: str, how: How) -> tuple[tuple[Turn, ...], tuple[Answer, ...]]:
    """Context and answer: the last turn is the answer, earlier assistant turns train within the context.

    Raises:
        Flaw: The last turn is not the assistant's, or nothing is trained.
    """
    last = said_turns[-1]
    if last.role == "assistant":
        return tuple(said_turns[:-1]), (answer_of(last, f"{field}[{len(said_turns) - 1}]"),)
    if how.answers_needed:
        place = f"{field}[{len(said_turns) - 1}]"
        raise Flaw(place, f"role {last.role} as the last message", "assistant", "add the answer or delete the message")
    return tuple(said_turns), ()


def answer_of(turn: Turn, field: str) -> Answer:
    """An assistant turn as an answer.

    Raises:
        Flaw: It is empty.
    """
    if not turn.text.strip() and "tool_calls" not in turn.extra:
        raise Flaw(field, "empty text", "an answer that is not empty", "fill it in or delete the row")
    return Answer(turn.parts, weight=turn.weight, extra=turn.extra)


def prompt(found: Any, field: str, how: How) -> tuple[Turn, ...]:
    """A prompt given as text or as messages; its assistant turns are not trained.

    Raises:
        Flaw: It is neither, or empty.
    """
    if isinstance(found, list):
        return tuple(Turn(turn.role, turn.parts, 0.0, turn.extra) for turn in turns(found, field, how))
    return (user(text(found, field)),)


def reply(found: Any, field: str, how: How) -> Answer:
    """An answer given as text or as a list of one assistant message.

    Raises:
        Flaw: It is neither, or empty.
    """
    if not isinstance(found, list):
        return said(text(found, field))
    given = turns(found, field, how)
    if len(given) != 1 or given[0].role != "assistant":
        found_roles = listed(turn.role for turn in given)
        raise Flaw(
            field, f"messages of {found_roles}", "one assistant message", "put what comes before into the prompt"
        )
    return answer_of(given[0], field)
