"""What `score` refuses, with file and line, before anything is scored."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from tiny import save_tiny
from tunewright.cli import main
from tunewright.pipeline import score as scoring

GOOD = {"context": "The sky is", "answers": ["blue", "red"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: save_tiny(kind, folder / kind) for kind in ("gpt2", "gemma3")}


@pytest.fixture
def scored(tmp_path, monkeypatch, models, capsys):
    """`scored(content, ...)` scores a file of rows: exit code, what is said, and what was written."""
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(content, kind="gpt2", out="out.json"):
        rows = tmp_path / "rows.jsonl"
        text = content if isinstance(content, bytes) else "\n".join(map(json.dumps, content)).encode()
        rows.write_bytes(text)
        code = main(["score", "--model", str(models[kind]), "--rows", "rows.jsonl", "--json", out])
        written = tmp_path / out
        found = json.loads(written.read_text())["rows"] if written.is_file() else None
        return code, capsys.readouterr().err, found

    return run


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"context": "Straße", "answers": ["a"]}'.encode("latin-1"), "byte 0xDF in line 1"),
        (json.dumps(GOOD).encode("utf-16"), "UTF-16 byte order mark"),
        (json.dumps({**GOOD, "context": "a \ud83d"}).encode(), "rows.jsonl:1: row: found half a character (\\ud83d)"),
        (json.dumps({**GOOD, "answers": ["\ud83d"]}).encode(), "half a character"),
        (b'{"context": "a", "answers": ["b"]', "rows.jsonl:1: row: found no JSON"),
        (b"", "is empty"),
        (b"\n \n", "has no rows"),
    ],
)
def test_rows_that_are_no_text_are_told(scored, content, said):
    code, told, found = scored(content)
    assert (code, found) == (2, None)
    assert said in told


def test_all_faults_of_rows_come_at_once_and_roles_are_those_of_data(scored):
    wrong = [
        {"context": [{"role": "wizard", "content": "x"}], "answers": ["a"]},
        {"context": [{"role": "user"}], "answers": ["a"]},
        {"context": "", "answers": ["a"]},
        {"context": "x", "answers": ["a", ""]},
        {"context": "x"},
        [1],
    ]
    code, told, found = scored([GOOD, *wrong])
    assert (code, found) == (2, None)
    lines = told.splitlines()
    assert [line.split(" ")[1] for line in lines] == [f"rows.jsonl:{number}:" for number in range(2, 8)]
    assert "found text 'wizard'; expected one of system, developer, user" in lines[0]


def test_what_a_chat_template_cannot_render_is_told_with_its_line(scored):
    context = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}]
    code, told, _ = scored([GOOD, {"context": context, "answers": ["a"]}], "gemma3")
    assert code == 2
    assert "rows.jsonl:2: the model's chat template cannot render" in told


def words(tokenizer_length):
    return "0" * tokenizer_length  # a digit is a token of the tiny tokenizers


def test_contexts_fill_the_learnt_positions_and_no_more(scored):
    code, told, found = scored([{"context": words(512), "answers": ["a"]}])
    assert code == 0, told
    assert len(found) == 1
    code, told, _ = scored([GOOD, {"context": words(512), "answers": ["a", "0 0"]}, {**GOOD, "context": words(600)}])
    assert code == 2
    assert "rows.jsonl:2: found 514 tokens of context and answer; the model has 512 positions" in told
    assert "rows.jsonl:3: found 60" in told


def test_computed_positions_have_no_end(scored):
    code, told, found = scored([{**GOOD, "context": words(600)}], "gemma3")
    assert code == 0, told
    assert len(found) == 1


@pytest.mark.parametrize("out", ["folder", "file/out.json"])
def test_an_output_that_cannot_be_written_is_known_before_scoring(scored, tmp_path, monkeypatch, out):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(scoring, "open_model", lambda *words: pytest.fail("the model was opened"))
    code, told, _ = scored([GOOD], out=out)
    assert code == 2
    assert f"{out} cannot be used" in told


@pytest.mark.parametrize(("name", "said"), [(".", "is a folder"), ("absent.jsonl", "does not exist")])
def test_rows_that_are_no_file_are_told_as_what_they_are(scored, models, name, said, capsys):
    assert main(["score", "--model", str(models["gpt2"]), "--rows", name, "--json", "out.json"]) == 2
    assert f"--rows {name} {said}" in capsys.readouterr().err


def test_cut_weights_are_told_by_their_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    weights = save_tiny("gpt2", tmp_path / "cut") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    (tmp_path / "rows.jsonl").write_text(json.dumps(GOOD))
    assert main(["score", "--model", "cut", "--rows", "rows.jsonl", "--json", "out.json"]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "cut") in said
    assert "is cut or damaged" in said


def test_an_end_token_that_the_tokenizer_sets_does_not_stand_before_the_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"context": "The sky", "answers": ["blue"]}))
    found = []
    for ends in (False, True):
        folder = save_tiny("llama", tmp_path / f"model{ends:d}")
        if ends:
            file = folder / "tokenizer.json"
            core = Tokenizer.from_file(str(file))
            special = [("<s>", core.token_to_id("<s>")), ("</s>", core.token_to_id("</s>"))]
            core.post_processor = TemplateProcessing("<s> $A </s>", "<s> $A </s> $B </s>", special)
            core.save(str(file))
        assert main(["score", "--model", str(folder), "--rows", "rows.jsonl", "--json", "out.json"]) == 0
        found.append(json.loads((tmp_path / "out.json").read_text())["rows"])
    assert found[0] == found[1]


def test_a_model_without_finite_figures_is_told_with_the_row(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    file = save_tiny("llama", tmp_path / "nan") / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, file, {"format": "pt"})
    (tmp_path / "rows.jsonl").write_text(json.dumps(GOOD))
    assert main(["score", "--model", "nan", "--rows", "rows.jsonl", "--json", "out.json"]) == 2
    assert "rows.jsonl:1: the model gives log-probabilities that are not finite" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
