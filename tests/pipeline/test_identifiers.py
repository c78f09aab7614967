"""No identifier of a row comes out of `check`, whatever it says or writes."""

from __future__ import annotations

import csv
import json
import random
import re

import pytest

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.pipeline.check import check


def _rows(count: int) -> tuple[list[list[str]], set[str]]:
    draw = random.Random(0)
    rows, secrets = [], set()
    for number in range(count):
        word = "".join(draw.choices("bcdfghjklmnpqrstvwz", k=8))
        mail, name = f"{word}@{word}.example", f"{word.title()} Q{word}"
        phone = f"0{draw.randrange(1000):03d} {draw.randrange(1000):03d} {draw.randrange(10**4):04d}"
        born, record = (
            f"{draw.randrange(1, 29):02d}.{draw.randrange(1, 13):02d}.19{number % 100:02d}",
            str(draw.randrange(10**8, 10**9)),
        )
        text = f"{number} Mr. {name}, born {born}, record no. {record}, tel. {phone}, {mail}: pain {word[:2]}"
        rows.append([text, ("knee", "hip")[number % 2]])
        secrets |= {mail, name, phone, born, record}
    rows += [[rows[0][0], "hip"], [rows[1][0], "knee"]]  # contradictions, whose prompts are told
    return rows, secrets


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    save_tiny("qwen2", tmp_path / "model")
    return tmp_path


def _request(place, rows) -> Request:
    with open(place / "rows.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *rows])
    sets = ("train.threads=1", "evaluate.probes=[]")
    return Request(str(place / "rows.csv"), None, sets, (), place / "data.json", None, str(place / "model"))


def test_no_identifier_is_in_what_check_says_or_writes(place):
    rows, secrets = _rows(40)
    lines = "\n".join(check(_request(place, rows), show_mask=6).lines)
    written = (place / "data.json").read_text(encoding="utf-8")
    facts = json.loads(written)["facts"]
    assert facts["identifiers"]["rows"] == 42
    assert all(facts["identifiers"][kind] == 42 for kind in ("mail", "phone", "date_of_birth", "record_number", "name"))
    assert facts["contradictions"] == 2
    plain = re.sub(r"\x1b\[\d*m|\[\[|\]\]", "", lines)
    for text in (plain, written):
        assert [secret for secret in secrets if secret in text] == []
    assert "Likely identifiers of persons stand in 42 rows" in lines
    assert "[mail]" in written


def test_no_identifier_is_in_a_sentence_about_bad_rows(place):
    rows, secrets = _rows(6)
    with open(place / "rows.jsonl", "w") as file:
        for text, _ in rows:
            file.write(json.dumps({"text": text, "label": {"who": text}}) + "\n")
    request = _request(place, rows)
    with pytest.raises(UserError) as refused:
        check(Request(str(place / "rows.jsonl"), None, request.sets, (), None, None, request.model))
    assert "label" in str(refused.value)
    assert [secret for secret in secrets if secret in str(refused.value)] == []
