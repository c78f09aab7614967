"""Files that cannot stand as training data, and what the sentence about each must name."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Contents = bytes | dict[str, bytes] | None


def lines(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


@dataclass(frozen=True)
class Broken:
    """One broken input: a file, a folder of files, or nothing at all (None)."""

    content: Contents
    says: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


def row(n: int, **more: Any) -> dict[str, Any]:
    return {"text": f"sample number {n}", "label": "ab"[n % 2], **more}


GOOD = [row(n) for n in range(8)]
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def chat(*messages: dict[str, Any]) -> bytes:
    return lines(CHAT, {"messages": list(messages)})


LATIN = "text,label\nDas Mädchen trägt größere Schuhe über die Brücke,a\nEin schöner Tag für Ärzte,b\n"

BROKEN: dict[str, Broken] = {
    "absent.jsonl": Broken(None, ("does not exist", "Give a file")),
    "empty.jsonl": Broken(b"", ("is empty (0 bytes)", "Put rows")),
    "blank.jsonl": Broken(b"\n\n  \n", ("has no rows", "Put at least one")),
    "header_only.csv": Broken(b"text,label\n", ("has no rows, only a header", "Put at least one")),
    "one_row.jsonl": Broken(lines({"prompt": "one", "completion": "two"}), ("1 row ", "Give more rows")),
    "one_label.jsonl": Broken(lines({"text": "only", "label": "a"}), ("one label, text 'a'", "at least two")),
    "notes.docx": Broken(b"PK\x03\x04", ("unknown kind of file '.docx'", ".jsonl", "Convert it")),
    "spreadsheet.csv": Broken(b"PK\x03\x04rest", ("spreadsheet", "export it as CSV")),
    "packed.jsonl": Broken(b"\x1f\x8b\x08rest", ("gzip", "Unpack it")),
    "utf16.csv": Broken(LATIN.encode("utf-16"), ("UTF-16", "iconv -f UTF-16 -t UTF-8")),
    "utf16_without_mark.csv": Broken(LATIN.encode("utf-16-le"), ("UTF-16LE", "iconv -f UTF-16LE")),
    "latin1.csv": Broken(LATIN.encode("latin-1"), ("byte 0xE4 in line 2", "iconv -f")),
    "one_umlaut.csv": Broken(
        "text,label\nschön,a\nplain,b\n".encode("latin-1"), ("Maybe it is cp1252", "iconv -f cp1252")
    ),
    "cyrillic.csv": Broken(
        "text,label\nДоговор аренды нежилого помещения,a\nПациент жалуется на боль в груди,b\n".encode("cp1251"),
        ("Maybe it is cp1251",),
    ),
    "random_bytes.csv": Broken(random.Random(0).randbytes(2000), ("is no text", "export it as CSV")),
    "old_mac.csv": Broken(b"text,label\ra b,c\rd e,f\r", ("CR alone", "tr '\\r' '\\n'")),
    "broken_json.jsonl": Broken(
        lines(row(0), b'{"text": "x", "label": }', row(2)), ("line 2", "broken JSON", "correct")
    ),
    "pretty.jsonl": Broken(b'{\n "text": "x",\n "label": "y"\n}\n', ("line 1", "each object on one line")),
    "not_objects.jsonl": Broken(lines(row(0), ["a", "b"], 7), ("line 2: found list", "line 3: found number 7")),
    "key_twice.jsonl": Broken(lines(row(0), b'{"text": "x", "label": "a", "label": "b"}'), ("'label' twice", "line 2")),
    "not_a_number.jsonl": Broken(lines(row(0), b'{"text": "x", "label": NaN}'), ("line 2", "NaN")),
    "half_character.jsonl": Broken(lines(row(0), b'{"text": "x\\ud83d", "label": "a"}'), ("line 2", "\\ud83d")),
    "too_deep.jsonl": Broken(lines(row(0), b"[" * 100_000), ("line 2", "nested too deeply")),
    "nul_escape.jsonl": Broken(lines(row(0), {"text": "a\0b", "label": "a"}), ("line 2, field 'text'", "NUL")),
    "nul.csv": Broken(b"text,label\nfine,a\nba\0d,b\n", ("line 3", "a NUL byte", "tr -d")),
    "ragged.csv": Broken(
        b"text,label\none,a\ntwo, with comma,b\nthree\n", ("line 3: found 3 cells", "line 4: found 1 cell;")
    ),
    "open_quote.csv": Broken(b'text,label\none,a\n"two,b\nthree,a\n', ("line 3", "close the quote")),
    "nameless.csv": Broken(b"text,,label\na,b,c\n", ("line 1", "column 2 has no name")),
    "same_names.csv": Broken(b"text,label,label\na,b,c\n", ("line 1", "column label stands more than once")),
    "null_column.csv": Broken(
        b"text,label\none,\ntwo,\n", ("line 2, field 'label': found nothing", "fill it in", "line 3")
    ),
    "empty_answer.jsonl": Broken(
        lines({"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "  "}),
        ("line 2, field 'completion': found empty text",),
    ),
    "mixed_types.jsonl": Broken(
        lines(*GOOD, {"text": "nine", "label": 1}), ("line 9, field 'label': found number 1", "expected text")
    ),
    "number_as_text.jsonl": Broken(lines(*GOOD, {"text": 5, "label": "a"}), ("line 9, field 'text'", "found number 5")),
    "list_as_label.jsonl": Broken(lines(*GOOD, {"text": "x", "label": ["a"]}), ("line 9, field 'label'", "one label")),
    "same_id.jsonl": Broken(lines(row(0, id=7), row(1, id=8), row(2, id=7)), ("line 3, field 'id'", "line 1")),
    "wrong_role.jsonl": Broken(
        chat({"role": "wizard", "content": "x"}),
        ("line 2, field 'messages[0].role'", "text 'wizard'", "system, developer, user, assistant, tool", "rename"),
    ),
    "no_answer.jsonl": Broken(
        chat({"role": "user", "content": "x"}),
        ("line 2, field 'messages[0]'", "role user as the last message", "add the answer"),
    ),
    "silent_assistant.jsonl": Broken(
        chat({"role": "user", "content": "x"}, {"role": "assistant", "content": ""}),
        ("line 2, field 'messages[1].content': found empty text",),
    ),
    "picture.jsonl": Broken(
        chat({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}),
        ("line 2, field 'messages[0].content[0]'", "keep text parts only"),
    ),
    "user_weight.jsonl": Broken(
        chat({"role": "user", "content": "x", "weight": 1}, {"role": "assistant", "content": "y"}),
        ("line 2, field 'messages[0].weight'", "assistant alone"),
    ),
    "broken_tools.jsonl": Broken(
        lines(CHAT, {**CHAT, "tools": '[{"name": '}), ("line 2, field 'tools'", "broken JSON", "correct")
    ),
    "broken_arguments.jsonl": Broken(
        chat(
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{oops"}}]},
        ),
        ("line 2, field 'messages[1].tool_calls[0].arguments'", "broken JSON"),
    ),
    "same_preference.jsonl": Broken(
        lines({"prompt": "a", "chosen": "x", "rejected": "x"}), ("line 1, field 'rejected'", "same answer as chosen")
    ),
    "negative_weight.jsonl": Broken(lines(*GOOD, row(9, weight=-1)), ("line 9, field 'weight'", "number above 0")),
    "weight_of_zero.jsonl": Broken(lines(*GOOD, row(9, weight=0)), ("line 9, field 'weight'", "leave the row out")),
    "message_weight.jsonl": Broken(
        chat({"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": -1}),
        ("line 2, field 'messages[1].weight'", "number from 0 up", "one answer of the row must be above 0"),
    ),
    "unknown_columns.csv": Broken(b"review,stars\nfine,5\n", ("review, stars", "--map text=review")),
    "missing_column.csv": Broken(
        b"review,label\nfine,5\n",
        ("format label needs the column text", "--map text=", "--set data.format=NAME"),
        {"format": "label"},
    ),
    "wrong_map.csv": Broken(
        b"review,stars\nfine,5\n", ("'revew', which is not there", "Did you mean 'review'"), {"map": {"text": "revew"}}
    ),
    "unknown_field.csv": Broken(
        b"review,stars\nfine,5\n",
        ("'txet' is not one of our fields", "Did you mean 'text'"),
        {"map": {"txet": "review"}},
    ),
    "missing_unit.jsonl": Broken(
        lines(*GOOD), ("data.unit names the column 'patient'", "Found: label, text"), {"unit": "patient"}
    ),
    "unit_not_filled.jsonl": Broken(
        lines(row(0, patient="p"), row(1, patient=None)), ("line 2, field 'patient'", "fill it in"), {"unit": "patient"}
    ),
    "wrong_split.jsonl": Broken(
        lines(row(0, split="train"), row(1, split="later")), ("line 2, field 'split'", "'later'")
    ),
    "object.json": Broken(b'{\n "rows": []\n}', ("one JSON object", "'[ ... ]'")),
    "cut.json": Broken(b'[\n {"text": "x", "label": "a"},\n {"text": "y", "la', ("line 3", "broken JSON")),
    "no_comma.json": Broken(b'[\n {"text": "x", "label": "a"}\n {"text": "y"}]', ("line 3", "',' or ']'")),
    "damaged.parquet": Broken(b"PAR1 and no more", ("parquet",)),
    "parquet.jsonl": Broken(b"PAR1 and no more", ("Rename it to parquet.parquet",)),
    "folder_without_train": Broken({"rows.jsonl": lines(*GOOD)}, ("without a train file", "rows.jsonl", "Rename")),
    "folder_twice": Broken(
        {"train.jsonl": lines(*GOOD), "train.csv": b"text,label\na,b\n", "test.jsonl": lines(*GOOD)},
        ("same split", "Leave one"),
    ),
    "folder_overlap": Broken(
        {"train.jsonl": lines(*GOOD), "val.jsonl": lines(row(20), row(21)), "test.jsonl": lines(row(30), row(3))},
        ("train.jsonl, line 4 (train) has the same row as", "test.jsonl, line 2 (test)", "on_overlap"),
    ),
    "folder_empty_test": Broken({"train.jsonl": lines(*GOOD), "test.jsonl": b""}, ("test.jsonl is empty",)),
}
"""Name -> what it holds and what must be said."""


def write(folder: Path, name: str) -> Path:
    """Builds one broken input under a folder and returns its path."""
    content, path = BROKEN[name].content, folder / name
    if isinstance(content, dict):
        path.mkdir()
        for file, held in content.items():
            (path / file).write_bytes(held)
    elif content is not None:
        path.write_bytes(content)
    return path
