"""What the report says, what it never does, and that it says something about every run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunewright.core.blocks import Table
from tunewright.core.store import Run
from tunewright.data.checks import measure_encoding
from tunewright.report import gather, write, write_page
from tunewright.report.contracts import TITLES
from tunewright.report.html import render_html
from tunewright.report.markdown import render_markdown

from .sample import events, verdict, write_sample
from .sample_blocks import EVIL, USE

VOID = {"meta", "link", "br", "img", "line", "rect", "circle", "polyline"}
FILES = [
    "verdict.json", "evaluations/comparison.json", "evaluations/probe_retention.json", "events.jsonl", "data.json",
    "evaluations/audit.json",
    "forecast.json", "info.json", "plan.yaml", "rows.json",
]  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "n", "low", "histogram", "kind"]), inner)
    ),
    max_leaves=8,
)
BROKEN = ["{", "[1, 2]", '"text"', '{"blocks": [{"kind": "hologram"}], "verdict": 3}', "\x00"]


class Page(HTMLParser):
    """Tags, attributes, headings and visible text of a page; complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def names(self) -> list[str]:
        return [tag for tag, _ in self.tags]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = write_sample(tmp_path_factory.mktemp("report") / "sample")
    write(run)
    return run


@pytest.fixture(scope="module")
def html(run: Run) -> str:
    return (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def markdown(run: Run) -> str:
    return (run.folder / "report.md").read_text(encoding="utf-8")


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    shutil.copytree(run.folder, tmp_path / "sample")
    return Run(tmp_path / "sample")


def test_a_whole_run_fills_every_chapter_in_order(run: Run) -> None:
    assert [section.name for section in gather(run).sections] == [
        name
        for name in TITLES
        if name != "privacy"  # the sample is no private run
    ]


def test_the_page_loads_nothing_and_runs_nothing(html: str) -> None:
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "image", "use"} & set(page.names())
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "srcset", "data", "xlink:href", "action", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, name)
    style = "".join(page.text["style"])
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


def test_rows_with_markup_stay_text(html: str, markdown: str) -> None:
    page = Page(html)
    assert EVIL in "".join(page.text["p"])  # an input of an example
    assert EVIL in page.text["dd"]  # an answer
    assert EVIL in page.text["td"]  # a cell of rows to look at
    assert "<script" not in markdown
    assert not re.search(r"<(?!br>)[a-zA-Z/]", re.sub(r"```.*?```", "", markdown, flags=re.S))
    assert "\\*bold\\*" in markdown


def test_headings_go_down_one_level_at_a_time_and_ids_are_unique(html: str) -> None:
    page = Page(html)
    levels = [int(tag[1]) for tag in page.names() if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 5
    anchors = [str(a["href"])[1:] for t, a in page.tags if t == "a"]
    assert set(anchors) <= set(ids)


def test_every_picture_is_named_or_hidden_from_screen_readers(html: str) -> None:
    charts = re.findall(r"<svg ([^>]*)>(<title>[^<]+</title><desc>[^<]+</desc>)?", html)
    outer = [(attributes, named) for attributes, named in charts if "viewBox" not in attributes]
    assert len(outer) > 8
    for attributes, named in outer:
        assert ('role="img"' in attributes and named) or 'aria-hidden="true"' in attributes
    assert Page(html).tags[0] == ("html", {"lang": "en"})


def test_the_report_is_a_function_of_the_folder(run: Run, html: str, markdown: str) -> None:
    write(run)
    assert (run.folder / "report.html").read_text(encoding="utf-8") == html
    assert (run.folder / "report.md").read_text(encoding="utf-8") == markdown
    assert not list(run.folder.glob(".*.tmp"))


def test_another_process_writes_the_same_without_torch_or_the_layers_that_made_the_facts(copy: Run, html: str) -> None:
    (copy.folder / "report.html").unlink()
    code = (
        "import sys; from pathlib import Path; from tunewright.core.store import Run;"
        "from tunewright.report import write; write(Run(Path(sys.argv[1]))); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy.folder)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    loaded = set(done.stdout.split())
    layers = {f"tunewright.{name}" for name in ("data", "models", "evaluate", "train", "methods", "recipes", "runs")}
    assert "tunewright.report" in loaded
    assert not loaded & ({"torch", "transformers", "numpy", "peft"} | layers)
    assert (copy.folder / "report.html").read_text(encoding="utf-8") == html


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_only_costs_its_own_chapter(copy: Run, name: str) -> None:
    before = {section.name for section in gather(copy).sections}
    (copy.folder / name).unlink()
    report = gather(copy)
    assert len(before - {section.name for section in report.sections}) <= 3
    assert not [block for section in report.sections for block in section.blocks if "could not be read" in block.title
                and section.name == "result"]  # fmt: skip
    assert all(path.stat().st_size > 500 for path in write(copy))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_is_told_and_never_ends_the_report(copy: Run, name: str, content: str) -> None:
    (copy.folder / name).write_text(content, encoding="utf-8")
    report = gather(copy)
    write(copy)
    if content == "{" and name != "events.jsonl":  # a torn last line of events is left out by design
        told = [block for block in report.sections[0].blocks if block.title == "Files that could not be read"]
        assert name in str(told)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), content=JSON, data=st.data())
def test_no_content_of_a_file_ends_the_report(copy: Run, name: str, content: object, data: st.DataObject) -> None:
    keys = (
        "metrics",
        "gates",
        "verdict",
        "blocks",
        "figures",
        "facts",
        "encoding",
        "forecast",
        "resolved",
        "origins",
        "model",
    )
    drawn = {key: data.draw(JSON) for key in data.draw(st.sets(st.sampled_from(keys)))} or content
    path = copy.folder / name
    kept = path.read_bytes()
    path.write_text(json.dumps(drawn), encoding="utf-8")
    try:
        report = gather(copy)
        Page(render_html(report))
        render_markdown(report)
    finally:
        path.write_bytes(kept)


def test_bytes_that_are_not_utf8_are_told(copy: Run) -> None:
    (copy.folder / "events.jsonl").write_bytes(b"\xff\xfe\x00")
    assert "events.jsonl" in str(gather(copy).sections[0].blocks[0])


def test_half_a_surrogate_in_a_row_does_not_end_the_report(copy: Run) -> None:
    block = '{"kind": "text", "title": "t", "paragraphs": ["before \\ud800 after"]}'
    (copy.folder / "rows.json").write_text(f'{{"blocks": [{block}]}}', encoding="utf-8")
    assert all("before ? after" in path.read_text(encoding="utf-8") for path in write(copy))


def test_an_empty_run_says_that_nothing_is_finished(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.plan_file.write_text("", encoding="utf-8")
    report = gather(run)
    assert report.headline.title == "Not finished"
    assert "not ended" in report.headline.paragraphs[0]
    said = {section.name: str(section.blocks) for section in report.sections}
    assert "Not finished" in said["result"]
    assert "Not finished" in said["forgot"]
    assert "use" not in said
    assert "Not finished" in write(run)[0].read_text(encoding="utf-8")


def test_a_run_that_was_trained_but_not_compared_says_so(copy: Run) -> None:
    for name in FILES[:3]:
        (copy.folder / name).unlink()
    report = gather(copy)
    assert "Training has ended, but base and tuned have not been compared" in report.headline.paragraphs[0]
    assert {"training", "use", "data"} <= {section.name for section in report.sections}


def test_without_the_retention_probe_forgetting_is_not_measured(copy: Run) -> None:
    (copy.folder / "evaluations/probe_retention.json").unlink()
    said = {section.name: str(section.blocks) for section in gather(copy).sections}
    assert "Not measured" in said["forgot"]
    assert "Not measured: what the model forgot." in said["limits"]


def test_gates_stand_beside_what_they_guard(run: Run) -> None:
    rows = {s.name: block.rows for s in gather(run).sections for block in s.blocks if block.title == "Gates"}  # type: ignore[union-attr]
    assert [row[:2] for row in rows["result"]] == [["Least gain on the primary metric", "passed"]]
    assert [row[:2] for row in rows["forgot"]] == [["Greatest loss increase on general texts", "passed"]]


def test_gates_on_probes_stand_in_the_chapter_of_the_probe(copy: Run) -> None:
    found = verdict()
    for name in ("max_attack_success_increase", "max_covert_bias_increase", "min_gain (accuracy)"):
        found["gates"].append({"name": name, "state": "not_measured", "value": None, "limit": 0.02})
    copy.write("verdict.json", found)
    tables = [(s.name, block) for s in gather(copy).sections for block in s.blocks if block.title == "Gates"]
    rows = {name: [row[0] for row in block.rows] for name, block in tables}  # type: ignore[union-attr]
    assert {name: len(gates) for name, gates in rows.items()} == {"result": 2, "forgot": 1, "safety": 1, "bias": 1}


def test_what_a_probe_means_comes_before_its_figures_and_charts(run: Run) -> None:
    chapters = {section.name: [block.kind for block in section.blocks] for section in gather(run).sections}
    assert chapters["safety"][:3] == ["text", "table", "bars"]
    assert chapters["bias"] == ["text", "table"]


def test_a_page_of_blocks_that_are_no_runs_names_no_base(tmp_path: Path) -> None:
    for name in ("all.html", "all.md"):
        block = Table(title="All", columns=["a"], rows=[["needle"]])
        write_page(tmp_path / name, "8 runs", ["Told."], [block])
        page = (tmp_path / name).read_text(encoding="utf-8")
        assert "needle" in page
        assert "Side by side" in page
        assert "Base against tuned" not in page


def test_limits_name_the_use_the_rows_and_the_licences(markdown: str) -> None:
    limits = markdown.split("## Limits")[1].split("## ")[0] + markdown.split("### Before you rely on it")[1]
    for expected in (USE, "421 rows", "CC-BY-4.0", "Apache-2.0", "subgroups"):
        assert expected in limits


def test_settings_say_where_they_came_from_and_keep_private_paths_out(html: str, markdown: str) -> None:
    assert "| train.num_train_epochs | 3 | derived: 1,472 training rows |" in re.sub(" +", " ", markdown)
    assert markdown.index("Chosen or derived") < markdown.index("Left at their defaults")
    assert "/home/somebody" not in html + markdown


def test_use_fits_what_was_saved(copy: Run) -> None:
    page = write(copy)[1].read_text(encoding="utf-8")
    assert "AutoPeftModelForCausalLM.from_pretrained('./sample/model')" in page, "a bare name may be the hub's"
    (copy.model / "adapter_config.json").unlink()
    plan = yaml.safe_load(copy.plan_file.read_text(encoding="utf-8"))
    plan["resolved"]["recipe"] = "text"
    copy.plan_file.write_text(yaml.safe_dump(plan), encoding="utf-8")
    page = write(copy)[1].read_text(encoding="utf-8")
    assert "AutoPeft" not in page
    assert "apply_chat_template" not in page
    for code in re.findall(r"```\n(from .*?)```", page, flags=re.S):
        compile(code, "snippet", "exec")
    assert "tunewright predict ./sample rows.csv --out predictions.csv" in page


def test_a_model_of_plain_texts_gets_no_command_that_answers_rows(copy: Run) -> None:
    data = copy.read("data.json")
    copy.write("data.json", {**data, "facts": {**data["facts"], "format": "text"}})
    page = write(copy)[1].read_text(encoding="utf-8")
    assert "tunewright predict" not in page
    assert "From Python" in page


def test_a_model_that_neither_answers_nor_writes_gets_no_commands_that_would_fail(copy: Run) -> None:
    copy.write("info.json", {"capabilities": ["denoise"]})
    assert "use" not in [section.name for section in gather(copy).sections]


def test_a_run_name_that_a_shell_would_take_apart_is_quoted(tmp_path: Path) -> None:
    run = write_sample(tmp_path / "runs" / "it's; rm -rf")
    assert """tunewright predict 'runs/it'"'"'s; rm -rf' rows.csv""" in write(run)[1].read_text(encoding="utf-8")


def test_evaluation_that_drew_no_bars_gets_bars_from_the_verdict(copy: Run) -> None:
    copy.write("evaluations/comparison.json", {"metrics": verdict()["metrics"], "blocks": []})
    kinds = [block.kind for block in gather(copy).sections[0].blocks]
    assert kinds.count("bars") == 1


def test_private_training_hides_losses_and_says_so(copy: Run) -> None:
    hidden = {"loss_sum": None, "count": None, "tokens": None, "grad_norm": None}
    lines = [event | (hidden if event["type"] == "step" else {}) for event in events()]
    copy.events_file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    said = next(section for section in gather(copy).sections if section.name == "training")
    assert "not recorded" in str(said.blocks[0])
    assert "training" not in [line.name for line in said.blocks[1].lines]  # type: ignore[union-attr]


def test_the_sample_has_what_a_run_writes(tmp_path: Path) -> None:
    """Else chapters would be held to facts that nothing notes down."""
    write_sample(tmp_path)
    sample = json.loads((tmp_path / "data.json").read_text(encoding="utf-8"))["encoding"]
    assert sample.keys() <= measure_encoding([], max_length=9).facts.keys()
