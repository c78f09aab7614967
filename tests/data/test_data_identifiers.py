"""Identifiers of persons are counted by kind, and no text of one comes out of anything that `check` says or writes."""

from __future__ import annotations

import sys
from itertools import pairwise
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.blocks import Span
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data._presidio import recogniser
from tunewright.data.formats import shown
from tunewright.data.identifiers import KINDS, find, identifier_facts, identifier_line, redact, redact_spans

_LETTERS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=9)
_NAMES = st.builds(lambda a, b: f"{a.title()} {b.title()}", _LETTERS, _LETTERS)


def _digits(low: int, high: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=low, max_size=high)


MADE = {
    "mail": st.builds(lambda a, b: (f"write to {a}.{b}@{b}.org soon", f"{a}.{b}@{b}.org"), _LETTERS, _LETTERS),
    "phone": st.builds(lambda a, b: (f"ring +44 {a} {b} today", f"{a} {b}"), _digits(4, 4), _digits(3, 4)),
    "date_of_birth": st.builds(
        lambda d, m, y: (f"DOB: {d:02d}/{m:02d}/{y}, seen", f"{d:02d}/{m:02d}/{y}"),
        st.integers(1, 28), st.integers(1, 12), st.integers(1920, 2020),
    ),
    "record_number": st.builds(lambda a: (f"MRN: {a} admitted", a), _digits(6, 9)),
    "name": st.builds(lambda name: (f"Seen with Mrs. {name} in the ward", name), _NAMES),
}  # fmt: skip
ANY = st.sampled_from(sorted(MADE)).flatmap(lambda kind: st.tuples(st.just(kind), MADE[kind]))


@given(ANY)
@settings(deadline=None)
def test_what_is_planted_is_found_and_redacted(planted) -> None:
    kind, (text, secret) = planted
    assert kind in {one.kind for one in find(text)}
    assert secret not in redact(text)
    assert secret not in shown(text)


@given(st.lists(ANY, min_size=1, max_size=4), st.integers(0, 60))
@settings(deadline=None)
def test_spans_are_redacted_over_their_edges(planted, cut: int) -> None:
    text = " ; ".join(sentence for _, (sentence, _) in planted)
    spans = redact_spans([Span(text=text[:cut], trained=False), Span(text=text[cut:], trained=True)])
    whole = "".join(span.text for span in spans)
    assert whole == redact(text)
    assert all(secret not in whole for _, (_, secret) in planted)
    assert [span.trained for span in spans] == [False, True]


@given(st.text())
@settings(deadline=None)
def test_found_places_are_in_order_and_apart(text: str) -> None:
    found = find(text)
    assert all(0 <= one.start < one.stop <= len(text) and one.kind in KINDS for one in found)
    assert all(a.stop <= b.start for a, b in pairwise(found))


@pytest.mark.parametrize(
    "text",
    [
        "Type 2 diabetes mellitus with chronic kidney disease, stage 3",
        "The visit was on 2021-03-04 and again on 12/05/2022.",
        "Version 1.2.3 came after 10.20.30 of the library.",
        "In 1984 the patient records of 2019 and 2020 were moved.",
        "Section 12 of the Act of 1998, paragraphs 3-5, applies to case law.",
        "A dose of 20 mg, then 40 mg; blood pressure 120/80, pulse 72.",
        "The doctor and the professor met the patient at 10:30.",
        "IBAN DE00 1234 5678 9012 3456 78 has wrong check digits",
    ],
)
def test_ordinary_words_are_no_identifiers(text: str) -> None:
    assert redact(text) == text


def test_an_account_number_with_its_check_digits_is_found() -> None:
    assert redact("pay DE89 3704 0044 0532 0130 00 now") == "pay [record_number] now"


def _example(text: str, answer: str = "yes") -> Example:
    return Example((Turn("user", (text_part(text),)),), (Answer((text_part(answer),)),))


def test_rows_are_counted_by_kind_and_once() -> None:
    rows = [_example("a@b.org and c@d.org"), _example("nothing"), _example("hello", "Dr. Jane Doe, MRN 123456")]
    facts = identifier_facts(rows)
    assert facts == {
        "rows": 2, "mail": 1, "phone": 0, "date_of_birth": 0, "record_number": 1, "name": 1, "searched_by": "patterns",
    }  # fmt: skip
    assert "2 rows (1 a mail address, 1 a record number, 1 a person's name" in identifier_line(facts)
    assert identifier_line(identifier_facts([_example("nothing")])) == ""


def test_presidio_is_asked_when_it_and_a_model_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names are translated; without a model on this machine it is not built, since it would fetch one."""
    models: list[str] = []
    analyzer, engine, spacy = (ModuleType(name) for name in ("presidio_analyzer", "nlp_engine", "spacy.util"))

    class Engine:
        def __init__(self, **words) -> None: ...

        def analyze(self, text: str, **words) -> list[SimpleNamespace]:
            at = text.find("zorro")
            end = at + (9 if "von" in text else 5)
            return [SimpleNamespace(entity_type="PERSON", start=at, end=end)] if at >= 0 else []

    analyzer.AnalyzerEngine = Engine
    engine.NlpEngineProvider = lambda nlp_configuration: SimpleNamespace(create_engine=lambda: nlp_configuration)
    spacy.get_installed_models = lambda: models
    for name, module in {"presidio_analyzer": analyzer, "presidio_analyzer.nlp_engine": engine, "spacy.util": spacy,
                         "spacy": ModuleType("spacy")}.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    rows = [_example("zorro was here"), _example("nobody was")]
    recogniser.cache_clear()
    assert identifier_facts(rows)["name"] == 0
    models.append("en_core_web_sm")
    recogniser.cache_clear()
    assert redact("ask zorro, or mail a@b.org") == "ask [name], or mail [mail]"
    assert redact("Mr. Anzorro von came") == "Mr. [name] came", "what Presidio sees further of a name is hidden too"
    facts = identifier_facts(rows)
    recogniser.cache_clear()
    assert (facts["name"], facts["rows"], facts["searched_by"]) == (1, 1, "patterns and Presidio")
