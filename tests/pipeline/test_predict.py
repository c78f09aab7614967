"""Rows that come back: every column, every row, why a row has no answer, and nothing half-written."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from tiny import save_tiny
from tunewright.cli import main
from tunewright.core.config import Request
from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.progress import silent
from tunewright.core.records import Example
from tunewright.core.store import Run
from tunewright.data.encoder import Unencodable
from tunewright.models.contracts import Generation
from tunewright.models.families import causal_lm
from tunewright.models.families.causal_lm import CausalLM
from tunewright.pipeline import evaluate as evaluation
from tunewright.pipeline import predict as module
from tunewright.pipeline.predict import predict
from tunewright.pipeline.train import train
from tunewright.pipeline.tune import tune

ADDED = ["prediction", "probability", "abstain", "prediction_note"]
QUICK = ("train.threads=1", "train.max_steps=1", "evaluate.max_new_tokens=4")
LABELS = ("red", "blue")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    save_tiny("qwen2", folder / "model")
    return folder


def trained(place: Path, name: str, rows: list[dict[str, str]], *sets: str, maps: tuple[str, ...] = ()) -> Path:
    path = place / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = Request(str(path), None, (*QUICK, *sets), maps, place / name, None, str(place / "model"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWRIGHT_CACHE", str(place / "cache"))
        train(request, silent)
    return place / name


@pytest.fixture(scope="module")
def labelled(place: Path) -> Path:
    rows = [{"text": f"thing {k} of {LABELS[k % 2]}", "label": LABELS[k % 2]} for k in range(60)]
    return trained(place, "labelled", rows, "train.max_length=64", "data.on_overlong=truncate-context")


@pytest.fixture(scope="module")
def plain(place: Path) -> Path:
    return trained(place, "plain", [{"text": f"The lessee {k} returns room {k * k}."} for k in range(40)])


def test_the_threshold_counts_what_validation_rows_stand_for(tmp_path: Path) -> None:
    """The sure rows are right; of the others the many light ones are right too, the few that stand for many are not."""
    sure = [{"probability": 0.9, "correct": True, "weight": 1.0}] * 60
    light = [{"probability": 0.6, "correct": True, "weight": 1.0}] * 60
    heavy = [{"probability": 0.5, "correct": False, "weight": 20.0}] * 3
    run = Run(tmp_path)
    (tmp_path / "evaluations").mkdir()

    def threshold(rows: list[dict[str, object]]) -> tuple[float, str]:
        run.write("evaluations/validation.json", {"labels": ["a", "b"], "rows": rows})
        return module.threshold_for(run, 0.9)

    found, said = threshold([*sure, *light, *heavy])
    assert (found, "67% of rows" in said) == (0.6, True)
    unweighted = [{key: value for key, value in row.items() if key != "weight"} for row in (*sure, *light, *heavy)]
    assert threshold(unweighted)[0] == 0.5  # as rows of an older version: one each
    few = [{"probability": 0.9, "correct": True, "weight": 1000.0}, *sure]
    with pytest.raises(UserError, match="No threshold reaches"):
        threshold(few)  # one row that stands for nearly all tells what one row tells


def test_the_threshold_counts_rows_of_one_unit_as_one(tmp_path: Path) -> None:
    """320 right answers of 8 patients tell what 8 tell."""
    run = Run(tmp_path)
    (tmp_path / "evaluations").mkdir()
    rows = [{"probability": 0.9, "correct": True, "weight": 1.0, "unit": f"u{n % 8}"} for n in range(320)]
    run.write("evaluations/validation.json", {"labels": ["a", "b"], "rows": rows})
    with pytest.raises(UserError, match="No threshold reaches"):
        module.threshold_for(run, 0.9)
    assert module.threshold_for(run, 0.6)[0] == 0.9


def test_scores_that_are_no_numbers_give_no_answer(labelled, tmp_path, monkeypatch):
    def broken(self, model, contexts, answers, terminator, settings=None):
        return (np.array([math.nan, 0.0]) for _ in contexts)

    monkeypatch.setattr(CausalLM, "choices", broken)
    rows = tmp_path / "new.jsonl"
    rows.write_text('{"text": "a red thing"}\n')
    with pytest.raises(UserError, match="no finite probabilities"):
        predict(labelled, rows, tmp_path / "out.jsonl")


def thinking(place: Path) -> list[dict[str, object]]:
    """Rows whose answers begin with thoughts, and a model whose template writes something in place of them."""
    folder = save_tiny("qwen2", place / "model")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% else %}<think>\n{{ m.reasoning_content }}"
        "\n</think>\n\n{{ m.content }}</s>{% endif %}{% endfor %}"
    )
    answer = {"role": "assistant", "content": "So.", "reasoning_content": "Owls fly."}
    return [{"messages": [{"role": "user", "content": f"Why {k}?"}, answer]} for k in range(40)]


def test_a_model_that_was_trained_to_think_is_asked_where_it_thinks(tmp_path, monkeypatch):
    """What a template writes in place of thoughts would close them; and what is given back is the answer."""
    rows = thinking(tmp_path)
    run = trained(tmp_path, "thinks", rows)
    assert json.loads((run / "info.json").read_text())["opens"] is False
    asked = []

    def wrote(model, contexts, stops, limit):
        asked.extend(model.tokenizer.decode(list(ids)) for ids in contexts)
        return (Generation("<think>\nOwls fly.\n</think>\n\nSo.", True) for _ in contexts)

    monkeypatch.setattr(causal_lm, "greedy", wrote)
    new = tmp_path / "new.jsonl"
    new.write_text('{"messages": [{"role": "user", "content": "Why?"}]}\n')
    predict(run, new, tmp_path / "out.jsonl")
    assert asked == ["[Why?]"]
    assert json.loads((tmp_path / "out.jsonl").read_text())["prediction"] == "So."
    monkeypatch.setattr(causal_lm, "greedy", lambda *_: iter([Generation("<think>\nOwls", True)]))
    predict(run, new, tmp_path / "cut.jsonl")
    cut = json.loads((tmp_path / "cut.jsonl").read_text())
    assert (cut["prediction"], cut["prediction_note"]) == ("", "unfinished")


def test_probes_ask_base_and_tuned_alike_where_rows_begin_with_thoughts(tmp_path, monkeypatch):
    path, asked = tmp_path / "rows.jsonl", []
    path.write_text("".join(json.dumps(row) + "\n" for row in thinking(tmp_path)))

    def heard(probe, model, identity, *_):
        asked.append((model.opens, identity))
        return NotMeasured("not asked here")

    monkeypatch.setattr(evaluation, "ask_probe", heard)
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    sets = (*QUICK, "evaluate.probes=[retention]")
    tune(Request(str(path), None, sets, (), tmp_path / "run", None, str(tmp_path / "model")))
    evaluation.evaluate(tmp_path / "run")
    assert [opens for opens, _ in asked] == [False] * 4
    assert asked[0][1] == asked[2][1], "the base is known again"
    assert {identity[5] for _, identity in (asked[0], asked[2])} == {False}, "answers of opened ones are not taken"


def test_two_at_once_do_not_write_one_output(labelled, tmp_path, monkeypatch):
    rows, out = tmp_path / "new.jsonl", tmp_path / "out.jsonl"
    rows.write_text('{"text": "a red thing"}\n')
    first = module.Output(out, module.Given.read(rows), {})
    with pytest.raises(UserError, match="being written by another process"):
        predict(labelled, rows, out)
    with first:
        pass
    predict(labelled, rows, out)
    assert len(out.read_text().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.jsonl", "out.jsonl"]


def test_what_another_model_in_the_same_folder_began_is_not_gone_on_with(labelled, tmp_path, monkeypatch):
    rows, out = tmp_path / "new.jsonl", tmp_path / "out.jsonl"
    rows.write_text('{"text": "a red thing"}\n' * 3)
    monkeypatch.setattr(module, "_RANKED_A_TIME", 1)

    def killed(self, rows, answers, cut, write=module.Output.write):
        write(self, rows, answers, cut)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.Output, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            predict(labelled, rows, out)
    done = []
    monkeypatch.setattr(module, "run_digest", lambda run: "another")
    monkeypatch.setattr(
        module.Output, "write", lambda self, r, a, c, w=module.Output.write: done.append(r) or w(self, r, a, c)
    )
    predict(labelled, rows, out)
    assert len(done) == 3, "all rows are answered anew"


def test_answers_are_not_those_of_another_base_under_the_same_name(place, tmp_path):
    run = trained(place, "moved", [{"text": f"thing {k}", "label": LABELS[k % 2]} for k in range(40)])
    model = tmp_path / "kept"
    (place / "model").rename(model)
    try:
        save_tiny("qwen2", place / "model", seed=7)
        rows = tmp_path / "new.jsonl"
        rows.write_text('{"text": "a red thing"}\n')
        with pytest.raises(UserError, match="is another one than"):
            predict(run, rows, tmp_path / "out.jsonl")
    finally:
        shutil.rmtree(place / "model")
        model.rename(place / "model")


def answered(run: Path, rows: Path, text: str | bytes, out: str = "out.csv", **more) -> tuple[list[dict], list[str]]:
    """The rows that come back, and the lines that are printed."""
    rows.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = predict(run, rows, rows.with_name(out), **more)
    assert result.exit_code == 0
    assert sorted(path.name for path in rows.parent.iterdir()) == sorted([rows.name, out])
    with open(rows.with_name(out), newline="", encoding="utf-8") as file:
        if out.endswith(".csv"):
            parted = ";" if rows.suffix == ".csv" and b";" in rows.read_bytes().split(b"\n")[0] else ","
            found = list(csv.DictReader(file, delimiter=parted))
        else:
            found = [json.loads(line) for line in file]
    return found, list(result.lines)


def test_a_ragged_first_row_costs_no_column_and_keeps_its_cells(labelled, tmp_path):
    found, lines = answered(labelled, tmp_path / "rows.csv", "id,text\n7\n8,alpha cat\n9,beta, gamma\n10,dog\n")
    assert list(found[0]) == ["id", "text", *ADDED]
    assert [(row["id"], row["text"]) for row in found] == [
        ("7", ""), ("8", "alpha cat"), ("9", "beta, gamma"), ("10", "dog"),
    ]  # fmt: skip
    assert [row["prediction"] in LABELS for row in found] == [False, True, False, True]
    assert [row["abstain"] for row in found] == ["true", "false", "true", "false"]
    assert "line 2" in found[0]["prediction_note"]
    assert lines[0] == f"2 rows answered in {tmp_path / 'out.csv'}, 2 not: column prediction_note says why."


def test_cells_of_a_bad_row_are_found_under_another_separator_and_behind_quoted_line_ends(labelled, tmp_path):
    text = 'id;text\n1;"two\nlines"\n2;"three\n\nlines";more\n3;x\0y\n4;end\n'
    found, _ = answered(labelled, tmp_path / "rows.csv", text)
    assert [(row["id"], row["text"]) for row in found] == [
        ("1", "two\nlines"), ("2", "three\n\nlines;more"), ("3", "x\0y"), ("4", "end"),
    ]  # fmt: skip
    assert [bool(row["prediction"]) for row in found] == [True, False, False, True]


def test_a_table_that_a_spreadsheet_wrote_comes_back_as_that_spreadsheet_opens_it(labelled, tmp_path):
    """A German one parts cells by semicolons, and knows UTF-8 by the mark at the beginning."""
    text = "\ufeffid;text\r\n1;r\u00f6tlich, sehr\r\n2;blau\r\n"
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_bytes(text.encode())
    predict(labelled, rows, out)
    assert out.read_bytes().startswith("\ufeffid;text;prediction;".encode())
    with open(out, newline="", encoding="utf-8-sig") as file:
        found = list(csv.DictReader(file, delimiter=";"))
    assert [row["text"] for row in found] == ["r\u00f6tlich, sehr", "blau"]
    assert out.read_text().count("\ufeff") == 1


def test_an_answer_that_stands_in_a_row_need_not_be_a_good_one(labelled, tmp_path):
    found, _ = answered(labelled, tmp_path / "rows.jsonl", '{"text": "a", "label": []}\n{"text": "b", "label": " "}\n')
    assert [row["prediction"] in LABELS for row in found] == [True, True]
    assert [row["label"] for row in found] == ["[]", " "]


@pytest.mark.parametrize("out", ["out.csv", "out.jsonl"])
def test_rows_of_other_keys_and_broken_lines_come_back_whole(labelled, tmp_path, out):
    lines = ['{"text": "a", "id": 1}', '{"text": "b", "note": ["x"]}', '{"text": "c", ', "[1, 2]", '{"id": 5}']
    found, said = answered(labelled, tmp_path / "rows.jsonl", "\n".join(lines) + "\n", out)
    if out == "out.csv":
        assert list(found[0]) == ["text", "id", "note", "unread", *ADDED]
        assert found[1]["note"] == '["x"]'
    else:
        assert found[1]["note"] == ["x"]
    assert [row.get("unread") for row in found[2:4]] == lines[2:4]
    assert str(found[4]["id"]) == "5"
    assert "'text'" in found[4]["prediction_note"]
    assert said[0].startswith("2 rows answered in")
    assert ", 3 not: column prediction_note" in said[0]


@pytest.mark.parametrize("first", [True, False])
def test_rows_of_empty_cells_come_back_in_their_place(labelled, tmp_path, first):
    lines = ["id,text", ",", "8,alpha cat", ",", "10,dog", ","]
    found, said = answered(
        labelled, tmp_path / "rows.csv", "\n".join(lines if first else [lines[0], *lines[2:]]) + "\n"
    )
    assert [row["id"] for row in found] == ["", "8", "", "10", ""][0 if first else 1 :]
    assert [bool(row["prediction"]) for row in found] == [False, True, False, True, False][0 if first else 1 :]
    assert all(row["prediction_note"] and row["abstain"] == "true" for row in found if not row["id"])
    assert said[0].startswith("2 rows answered")


def test_an_empty_cell_alone_on_its_line_is_a_row(labelled, tmp_path):
    found, _ = answered(labelled, tmp_path / "rows.csv", "text\nalpha\n\nbeta\n")
    assert [row["text"] for row in found] == ["alpha", "", "beta"]
    assert [bool(row["prediction"]) for row in found] == [True, False, True]


def test_a_table_that_is_whole_has_no_column_more(labelled, tmp_path):
    found, said = answered(labelled, tmp_path / "rows.jsonl", '{"text": "a"}\n')
    assert list(found[0]) == ["text", *ADDED]
    assert said == [f"1 row answered in {tmp_path / 'out.csv'}."]


def test_what_became_of_rows_is_counted_over_all_starts(labelled, tmp_path, monkeypatch):
    rows = tmp_path / "rows.csv"
    long = "very " * 100
    text = "id,text\n1\n" + "".join(f"{k},{long if k == 5 else 'x'}\n" for k in range(2, 80))
    whole, said = answered(labelled, rows, text, "whole.csv")
    (tmp_path / "whole.csv").unlink()

    class Killed(Exception):
        pass

    def stop(what, done, total, detail=""):
        if done == 64:
            raise Killed

    with pytest.raises(Killed):
        predict(labelled, rows, tmp_path / "out.csv", progress=stop)
    assert (tmp_path / ".out.csv.partial").stat().st_size > 0
    for name in (".out.csv.partial", ".out.csv.state.json"):
        assert (tmp_path / name).is_file()
    found, again = answered(labelled, rows, text)
    assert found == whole
    assert [line.replace("out.csv", "whole.csv") for line in again] == said
    assert said[0].startswith("78 rows answered")
    assert "1 row did not fit train.max_length (64 tokens" in said[1]


def test_contexts_that_are_cut_are_counted_and_no_others(labelled, tmp_path):
    text = "text\n" + "short\n" + "long " * 80 + "\n" + "longer " * 200 + "\n"
    found, said = answered(labelled, tmp_path / "rows.csv", text)
    assert all(row["prediction"] in LABELS for row in found)
    assert said[1].startswith("2 rows did not fit train.max_length (64 tokens")
    _, said = answered(labelled, tmp_path / "rows.csv", "text\nshort\n")
    assert len(said) == 1


def test_a_free_answer_that_did_not_end_is_noted_and_abstains_from_nothing(place, tmp_path):
    rows = [{"prompt": f"What is room {k}?", "completion": f"Room {k * k} of the house"} for k in range(40)]
    run = trained(place, "free", rows)
    found, _ = answered(run, tmp_path / "rows.jsonl", '{"prompt": "What is room 7?"}\n', "out.jsonl")
    assert list(found[0]) == ["prompt", *ADDED]
    assert (found[0]["probability"], found[0]["abstain"], found[0]["prediction_note"]) == (None, False, "unfinished")


def test_a_run_on_plain_text_is_refused_with_what_it_can_do(plain, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text("text\nThe lessee\n")
    assert main(["predict", str(plain), str(tmp_path / "rows.csv"), "--out", str(tmp_path / "out.csv")]) == 2
    said = capsys.readouterr().err
    assert "plain text" in said
    assert "tunewright score --run" in said
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_when_no_row_could_be_answered_that_is_an_error_and_nothing_is_left(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(module.Predictor, "answer", lambda self, examples: (_ for _ in ()).throw(
        module.Unencodable("too long even without its context; raise train.max_length or drop the row")))  # fmt: skip
    (tmp_path / "rows.csv").write_text("text\na\nb\n")
    with pytest.raises(UserError) as error:
        predict(labelled, tmp_path / "rows.csv", tmp_path / "out.csv")
    first, *reasons, last = error.value.problems
    assert first.startswith("None of the 2 rows could be answered")
    assert [reason.split(":")[1] for reason in reasons] == ["2", "3"]
    assert "those of the run" in last
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


REFUSED = {
    "columns.csv": (b"note,other\na,b\n", "--map text=YOUR_COLUMN"), "empty.csv": (b"", "empty"),
    "header.csv": (b"text\n", "only a header"), "nul.csv": (b"text\nx\0y\n", "None of the 1 rows"),
    "latin.csv": ("text\ngut\nschön\n".encode("latin1"), "iconv"), "ragged.csv": (b"id,text\n1\n2\n", "None of the 2"),
    "quote.csv": (b'text\na\n"b\nc\n', "No row was answered"), "kind.xlsx": (b"PK\x03\x04", "unknown kind"),
    "broken.jsonl": (b'{"text"\n', "broken JSON"), "keys.jsonl": (b"{}\n", "--map text=YOUR_COLUMN"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused_leaves_nothing_and_is_advised_what_predict_takes(labelled, tmp_path, monkeypatch, name):
    monkeypatch.setattr(module, "_open", lambda *_: pytest.fail("a model was opened"))
    content, said = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        predict(labelled, tmp_path / name, tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    for impossible in ("--format", "on_bad_row", "--set"):
        assert impossible not in str(error.value)


def test_rows_that_are_no_file_are_the_users_matter(labelled, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text("text\na\n")
    (tmp_path / "folder" / "red").mkdir(parents=True)
    (tmp_path / "folder" / "red" / "a.png").write_bytes(b"x")
    for name, said in (
        ("rowz.csv", "Did you mean 'rows.csv'?"),
        ("folder", "is a folder"),
        ("no/rows.csv", "not exist"),
    ):
        assert main(["predict", str(labelled), str(tmp_path / name), "--out", str(tmp_path / "o.csv")]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("folder.csv", "it is a folder"), ("rows.csv/o.csv", "rows.csv is a file"), ("rows.csv/no/o.csv", "is a file"),
        ("/proc/none/o.csv", "may write to"), ("o.xlsx", "can be written"),
    ],
)  # fmt: skip
def test_an_output_that_cannot_be_written_is_told_before_a_model_is_opened(labelled, tmp_path, monkeypatch, out, said):
    monkeypatch.setattr(module, "_open", lambda *_: pytest.fail("a model was opened"))
    (tmp_path / "rows.csv").write_text("text\na\n")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=said):
        predict(labelled, tmp_path / "rows.csv", tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "rows.csv"]


def test_nothing_of_the_users_is_overwritten(labelled, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("text,prediction\nalpha cat,mine\n")
    with pytest.raises(UserError, match="would overwrite: prediction"):
        predict(labelled, rows, tmp_path / "out.csv")
    with pytest.raises(UserError, match="is the file of rows itself"):
        predict(labelled, rows, tmp_path / "." / "rows.csv")
    assert rows.read_text() == "text,prediction\nalpha cat,mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_progress_counts_rows_and_ends_with_all_of_them(labelled, tmp_path):
    told = []
    text = 'text\n"a\nb"\n' + "c\n" * 40
    answered(labelled, tmp_path / "rows.csv", text, progress=lambda what, done, total: told.append((done, total)))
    assert told == [(32, 41), (41, 41)]


def test_columns_are_named_by_map_and_those_of_the_run_need_not_be_there(place, tmp_path):
    rows = [{"body": f"thing {k}", "colour": LABELS[k % 2]} for k in range(60)]
    run = trained(place, "mapped", rows, maps=("text=body,label=colour",))
    found, _ = answered(run, tmp_path / "rows.csv", "body\na\n")
    under_ours, _ = answered(run, tmp_path / "rows.csv", "text\na\n")
    typed, _ = answered(run, tmp_path / "rows.csv", "words\na\n", maps=("text=words",))
    assert found[0]["probability"] == under_ours[0]["probability"] == typed[0]["probability"] != ""
    assert list(typed[0]) == ["words", *ADDED]
    with pytest.raises(UserError, match=r"Did you mean 'words'\?"):
        predict(run, tmp_path / "rows.csv", tmp_path / "out.csv", maps=("text=wordz",))
    with pytest.raises(UserError, match="must be ours=column"):
        predict(run, tmp_path / "rows.csv", tmp_path / "out.csv", maps=("text",))
    assert Run.open(run).must_read("data.json")["facts"]["labels"]


def test_a_full_disk_names_the_output_and_leaves_no_lock(labelled, tmp_path, monkeypatch, capsys):
    rows, out = tmp_path / "new.jsonl", tmp_path / "out.jsonl"
    rows.write_text('{"text": "a red thing"}\n' * 3)

    begun = module.Output._begun

    def full(output):
        begun(output).close()
        return open("/dev/full", "w", encoding="utf-8")  # writes and closing fail, as on a disk that is full

    monkeypatch.setattr(module.Output, "_begun", full)
    assert main(["predict", str(labelled), str(rows), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/.out.jsonl.partial cannot be used: the disk is full" in said
    assert "Give the same command again to go on." in said
    monkeypatch.undo()
    assert main(["predict", str(labelled), str(rows), "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 3


def test_a_row_that_cannot_be_encoded_is_found_by_halves():
    asked: list[int] = []

    class Answers:
        def answer(self, rows):
            asked.append(len(rows))
            if any(row.id == "bad" for row in rows):
                raise Unencodable("too long")
            return [{"prediction": row.id} for row in rows]

    rows = [Example((), (), id="bad" if n == 40 else f"r{n}", source=f"rows:{n}") for n in range(64)]
    found = module._each_answer(Answers(), rows)
    assert [one if isinstance(one, str) else one["prediction"] for one in found] == [
        "rows:40: too long" if n == 40 else f"r{n}" for n in range(64)
    ]
    assert sum(asked) <= 4 * 64
