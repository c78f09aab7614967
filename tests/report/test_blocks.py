"""Every kind of block renders in both formats, whatever text it holds; a new kind cannot be forgotten."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any, Literal, get_args

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tunewright.report
from tunewright.core.blocks import Block, Media, Pairs, Table, Text, blocks
from tunewright.report import html as pages
from tunewright.report import markdown, tables

KINDS: dict[str, type[Any]] = {
    member.model_fields["kind"].default: member for member in get_args(get_args(Block)[0])
}  # fmt: skip
PIXEL = "data:image/png;base64,iVBORw0KGgo="
SAMPLES: dict[str, dict[str, Any]] = {
    "text": {"paragraphs": ["needle"], "tone": "bad"},
    "table": {"columns": ["a", "b"], "rows": [["needle", 1], [None, 0.12345]]},
    "bars": {"bars": [{"label": "needle", "value": -0.5, "low": -0.7, "high": 0.1}, {"label": "b", "value": 2.0}]},
    "lines": {"lines": [{"name": "needle", "x": [0, 1, 2], "y": [3.0, 2.0, float("nan")]}], "x_label": "step"},
    "reliability": {"series": {"needle": [{"confidence": 0.5, "accuracy": 0.4, "count": 0}]}},
    "pairs": {"pairs": [{"id": i, "context": "c", "expected": "e", "base": "needle", "tuned": "e"} for i in "123456"]},
    "mask": {"spans": [{"text": "read", "trained": False}, {"text": "needle", "trained": True}]},
    "code": {"code": "needle ``` and ````"},
    "media": {"items": [{"uri": PIXEL, "caption": "needle"}]},
}
EMPTY: dict[str, dict[str, Any]] = {
    "text": {"paragraphs": []}, "table": {"columns": ["a"], "rows": []}, "bars": {"bars": []}, "lines": {"lines": []},
    "reliability": {"series": {}}, "pairs": {"pairs": []}, "mask": {"spans": []}, "code": {"code": ""},
    "media": {"items": []},
}  # fmt: skip


def make(kind: str, fields: dict[str, Any]) -> Block:
    return blocks.validate_python([{"kind": kind, "title": "Title", **fields}])[0]


def test_there_is_a_sample_and_a_template_for_exactly_the_known_kinds() -> None:
    folder = Path(tunewright.report.__file__).parent / "templates" / "blocks"
    assert set(SAMPLES) == set(EMPTY) == set(KINDS) == {path.name.removesuffix(".html.j2") for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_renders_in_both_formats(kind: str) -> None:
    block = make(kind, SAMPLES[kind])
    assert "needle" in pages.render_block(block)
    assert "needle" in markdown.render_block(block)
    assert markdown.render_block(block).startswith("### Title\n")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_renders_empty(kind: str) -> None:
    block = make(kind, EMPTY[kind])
    assert isinstance(str(pages.render_block(block)), str)
    assert markdown.render_block(block).startswith("### Title")


@pytest.mark.parametrize("extreme", [float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324, 0.0])
def test_no_number_ends_a_chart(extreme: float) -> None:
    bar = {"label": "needle", "value": extreme, "low": extreme, "high": extreme}
    bins = [{"confidence": extreme, "accuracy": extreme, "count": -1}]
    extremes = {
        "bars": {"bars": [bar, {"label": "b", "value": -extreme}], "maximum": extreme},
        "lines": {"lines": [{"name": "needle", "x": [extreme, 1.0], "y": [extreme, -extreme]}]},
        "reliability": {"series": {"needle": bins}},
        "table": {"columns": ["a"], "rows": [["needle"], [extreme], [10**400]]},
    }
    for kind, fields in extremes.items():
        block = make(kind, fields)
        page = str(pages.render_block(block))
        assert "needle" in page
        assert not re.search(r'"(nan|-?inf)', page)
        assert "needle" in markdown.render_block(block)


def test_a_kind_without_a_renderer_fails_loudly() -> None:
    class Hologram(Text):
        kind: Literal["hologram"] = "hologram"  # type: ignore[assignment]

    class Stranger(Media.__base__):  # type: ignore[name-defined,misc]
        kind: str = "hologram"

    with pytest.raises(jinja2.TemplateNotFound):
        pages.render_block(Hologram(title="t", paragraphs=[]))
    with pytest.raises(AssertionError):
        markdown.render_block(Stranger(title="t"))


@given(text=st.text(max_size=60))
def test_any_text_survives_html_as_text(text: str) -> None:
    page = str(pages.render_block(Table(title="t", columns=["a"], rows=[[text]])))
    cell = re.search(r"<td[^>]*>(.*?)</td>", page, flags=re.S)
    assert cell is not None
    assert html.unescape(cell.group(1)) == text or "&" in text  # "&lt" without its semicolon is read leniently
    assert "<" not in cell.group(1)


@given(text=st.text(alphabet="ab1 <>&|*_`[]()!#-+=.\\~$\n", max_size=40))
def test_any_text_survives_markdown_as_one_plain_line(text: str) -> None:
    line = markdown.escape(text)
    assert "\n" not in line
    assert "<" not in line
    assert not re.search(r"(?<!\\)(\\\\)*[|*`\[\]]", line)
    assert not re.match(r"#{1,6}( |$)|[-+] |=+$|-+$|>|\d+[.)]( |$)", line)
    plain = re.sub(r"\\(.)", r"\1", line).replace("&lt;", "<").replace("&amp;", "&")
    assert plain == " ".join(text.split())


def test_cells_of_a_narrow_table_stand_one_under_another_in_a_terminal() -> None:
    lines = markdown.render_block(make("table", {"columns": ["who", "n"], "rows": [["a", 7], ["longer", 1000]]}))
    assert lines.splitlines()[2:] == [
        "| Who    |     n |", "| ------ | ----: |", "| a      |     7 |", "| longer | 1,000 |"
    ]  # fmt: skip
    wide = markdown.render_block(make("table", {"columns": ["a", "b"], "rows": [["x", "y" * 300], ["x", "y"]]}))
    assert wide.endswith("| x   | y   |")


def test_a_code_fence_is_longer_than_any_fence_inside() -> None:
    assert markdown.render_block(make("code", SAMPLES["code"])).rstrip().endswith("\n`````")


@pytest.mark.parametrize(
    "uri", ["http://evil.example/x.png", "//evil.example/x", "javascript:f()", "data:text/html,x", ""]
)
def test_media_that_is_not_held_in_the_file_is_left_out(uri: str) -> None:
    page = str(pages.render_block(Media(title="t", items=[{"uri": uri, "caption": "c"}])))
    assert "<img" not in page
    assert "<audio" not in page
    assert "Left out" in page


def test_an_answer_as_expected_is_marked_and_another_is_not() -> None:
    pair = {"id": "1", "context": "c", "expected": "malaria", "base": "dengue", "tuned": " malaria\n"}
    page = str(pages.render_block(Pairs.model_validate({"title": "t", "pairs": [pair]})))
    base, tuned = page.split("Tuned")
    assert "as expected" not in base
    assert "as expected" in tuned


def test_labels_that_are_numbers_stand_left_and_gaps_do_not_turn_a_column() -> None:
    rows = [["5", 7, "0.71 (0.45 to 0.88)"], ["6", None, ""], ["7", 1, "not measured"]]
    assert tables.numeric(["label", "n", "share"], rows) == [False, True, True]
    assert tables.numeric(["label", "note"], [["5", ""]]) == [False, False]


def test_only_more_bars_than_a_reader_takes_in_are_folded() -> None:
    for count, folded in ((24, False), (25, True)):
        bars = [{"label": f"needle {n}", "value": 0.5} for n in range(count)]
        page = str(pages.render_block(make("bars", {"bars": bars})))
        assert ("<details" in page) is folded
        assert page.count("needle") >= count


def test_long_tables_are_folded_and_figures_stand_right() -> None:
    rows: list[list[str | int | float | None]] = [["a", "0.61 to 0.72", index] for index in range(31)]
    page = str(pages.render_block(Table(title="t", columns=["x", "y", "z"], rows=rows)))
    assert "<details><summary>Show all 31 rows" in page
    assert page.count('<td dir="auto" class="number">') == 62
    assert "<details" not in str(pages.render_block(Table(title="t", columns=["x", "y", "z"], rows=rows[:5])))
