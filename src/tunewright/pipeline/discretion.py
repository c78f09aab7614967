"""What a private run may show of its rows: counts that are public by agreement, and nothing of a single row."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from tunewright.core.blocks import Block
from tunewright.core.files import write_atomic
from tunewright.core.store import Run
from tunewright.data.formats import HIDDEN
from tunewright.evaluate.contracts import Outcome

_FACTS = (
    "path", "format", "instruction", "files", "rows", "counts", "unit", "labels", "splits_made", "splits_given",
    "source", "licence", "consent", "use",
)  # fmt: skip
_ENCODING = ("rows", "max_length")
_FILE = ("file", "rows")
"""Of each file: a hash or a size would let whoever knows all rows but one find out the last."""
_PER_ROW = ("pairs", "mask")
"""Kinds of blocks that show single rows."""
WITHHELD = (
    "Under privacy the run shows no row, no statistic of training rows beyond how many there are and were left out, "
    "and no training loss; figures on test rows are exact and stand outside the guarantee."
)


_KEPT: ContextVar[bool] = ContextVar("_KEPT", default=False)
KEY = "rows.key"
"""In the run folder, for its owner alone: what the rows are known again by, without a hash that could be guessed at."""
_KEYED = "keyed:"


@contextmanager
def rows_hidden() -> Iterator[None]:
    """Within it rows stay hidden whatever plan reads them: those of a private run do in a twin without privacy."""
    token = _KEPT.set(True)
    try:
        yield
    finally:
        _KEPT.reset(token)


def hide(private: bool) -> None:
    """Says to all who show rows whether they may, before a plan's rows are read."""
    HIDDEN.set(private or _KEPT.get())


def mark_rows(run: Run, fingerprint: str) -> str:
    """What info.json holds to know the rows again by: their fingerprint, or under privacy a keyed hash of it."""
    if not HIDDEN.get():
        return fingerprint
    key = secrets.token_hex(32)
    write_atomic(run.folder / KEY, json.dumps({"key": key}), mode=0o600)
    return _keyed(key, fingerprint)


def same_rows(run: Run, fingerprint: str) -> bool:
    """Whether rows are those that the run was made of.

    Raises:
        UserError: The key of their hash is gone.
    """
    mark = str(run.must_read("info.json")["data"])
    if not mark.startswith(_KEYED):
        return mark == fingerprint
    return hmac.compare_digest(mark, _keyed(str(run.must_read(KEY)["key"]), fingerprint))


def _keyed(key: str, fingerprint: str) -> str:
    return _KEYED + hmac.new(bytes.fromhex(key), fingerprint.encode(), "sha256").hexdigest()


def public(data: Mapping[str, Any]) -> dict[str, Any]:
    """What of data.json may be kept."""
    facts = {name: data["facts"][name] for name in _FACTS if name in data["facts"]}
    if "files" in facts:
        facts["files"] = [{name: file[name] for name in _FILE if name in file} for file in facts["files"]]
    return {
        "facts": facts,
        "encoding": {name: data["encoding"][name] for name in _ENCODING if name in data["encoding"]},
        "blocks": [],
        "withheld": WITHHELD,
    }


def without_rows(blocks: Sequence[Block]) -> list[Block]:
    """Blocks less those that show single rows."""
    return [block for block in blocks if block.kind not in _PER_ROW]


def nameless(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The same outcomes with units that are numbers, given in order: a unit's name may be a person's."""
    number: dict[str, str] = {}
    found = []
    for outcome in outcomes:
        unit = outcome.example.unit
        if unit is not None:
            unit = number.setdefault(unit, str(len(number) + 1))
        found.append(replace(outcome, example=replace(outcome.example, unit=unit)))
    return found


def lines(data: Mapping[str, Any]) -> list[str]:
    """What is told before the first step."""
    counts = data["facts"].get("counts") or {}
    splits = ", ".join(f"{count} {name}" for name, count in counts.items() if isinstance(count, int))
    return [f"Rows: {splits or data['facts']['rows']} (format {data['facts']['format']}).", WITHHELD]
