"""What single programs of the benchmarks measure, on tiny models or none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from tiny import save_tiny

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import medical, preparation, rows_memory, stored_layers  # noqa: E402
from benchmarks.ours import train as ours  # noqa: E402
from benchmarks.table import scripts  # noqa: E402
from tunewright.data.encoded_rows import EncodedRows  # noqa: E402
from tunewright.methods.lora import Lora  # noqa: E402
from tunewright.pipeline import forecast  # noqa: E402


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny("qwen2", tmp_path_factory.mktemp("qwen2"))


CHATS = [
    [{"role": "user", "content": f"Say {number}."}, {"role": "assistant", "content": f"{number} it is."}]
    for number in range(12)
]


def test_a_cold_first_step_comes_without_a_dry_step_and_adapters_are_the_round_s(tiny, tmp_path, monkeypatch):
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in CHATS))
    monkeypatch.setattr(ours, "FOLDER", tmp_path)
    monkeypatch.setattr(ours, "CHAT_SETTINGS", (f"model={tiny}", "data.splits=[1,0,0]", "train.threads=1"))
    monkeypatch.setattr(forecast, "dry_step", lambda *_: pytest.fail("the process was warmed"))
    monkeypatch.setenv("BENCH_STARTED", "0")
    monkeypatch.setenv("BENCH_ROUND", "3")
    seeds, attach = [], Lora.attach
    monkeypatch.setattr(Lora, "attach", lambda self, model, seed: seeds.append(seed) or attach(self, model, seed))
    asked = SimpleNamespace(processes=1, method="lora", steps=1, precision="float32", cold=True)
    found = ours.run(asked, tmp_path / "run")
    assert seeds[0] == 3
    assert found["first_step_seconds"] > 0
    assert len(found["losses"]) == 1


def test_preparation_ends_with_rows_on_disk_on_both_sides_under_like_threads(tiny, monkeypatch, capsys):
    kept, append = [], EncodedRows.append
    monkeypatch.setattr(
        EncodedRows, "append", lambda self, number, piece: kept.append(number) or append(self, number, piece)
    )
    _, found = preparation.ours(tiny, CHATS)
    assert kept == list(range(len(CHATS)))
    assert all(tokens and trained for tokens, trained in found)

    threads, behind = [], 4000

    def run(command, env, **_):
        threads.append((env["TOKENIZERS_PARALLELISM"], "BENCH_PROCESSES" in env))
        told = {
            "rows": 2.0,
            "tokens": 9000 + behind * ("peer" in command),
            "trained": 500 + behind * ("peer" in command),
        }
        return subprocess.CompletedProcess(command, 0, json.dumps(told))

    monkeypatch.setattr(preparation.subprocess, "run", run)
    arguments = ["--model", str(tiny), "--peer", "python", "--text", "rows.csv", "--json"]
    monkeypatch.setattr(sys, "argv", ["preparation", *arguments])
    preparation.main()
    assert threads == [("true", False)] * 10 + [("false", False)] * 10 + [("true", True)] * 10
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found == {key: [1.0] * 5 for key, *_ in scripts.SCRIPTS["preparation"][1]}
    behind = 4001
    with pytest.raises(SystemExit, match="made other rows"):
        preparation.main()


def test_rows_memory_gives_what_the_table_asks_of_every_verb(monkeypatch, capsys):
    asked = []

    def measure(model, count, verb):
        asked.append((verb, count))
        return 1e8 + {"check": 30.0, "begin": 40.0, "train": 500.0}[verb] * count, 1.0

    monkeypatch.setattr(rows_memory, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["rows_memory", "--json", "--model", "tiny"])
    rows_memory.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    what, figures = scripts.SCRIPTS["rows_memory"]
    assert found.keys() == {key for key, *_ in figures}
    assert [found[f"{verb}_bytes"] for verb in ("check", "begin", "train")] == [30.0, 40.0, 500.0]
    assert asked == [
        ("check", 10_000), ("check", 1_000_000), ("begin", 10_000), ("begin", 1_000_000), ("train", 2_000),
        ("train", 50_000),
    ]  # fmt: skip
    assert all(f"{count:,}" in what for _, count in asked)


def test_of_the_generated_rows_a_tenth_of_the_chats_ask_alike_and_labelled_ones_hardly():
    chats = Counter(row["messages"][0]["content"] for row in rows_memory.rows(1000, "train"))
    assert sum(chats.values()) - len(chats) == 100
    assert len({row["messages"][1]["content"] for row in rows_memory.rows(1000, "train")}) > 990
    assert len({row["text"] for row in rows_memory.rows(1000, "check")}) > 990


def test_its_tiny_model_is_made_on_the_spot(tmp_path):
    rows_memory.make_model(tmp_path)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in tmp_path.iterdir()}


def test_attention_counts_among_the_operations_of_stored_layers():
    q = torch.randn(1, 4, 10, 8, requires_grad=True)
    k = torch.randn(1, 2, 10, 8, requires_grad=True)

    def attend():
        torch.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True).sum().backward()

    assert stored_layers.operations(attend) == (2 + 5) * 2 * 4 * 10 * 10 * 8


def test_the_medical_row_tunes_the_shipped_plan_with_the_passes_that_it_promises(monkeypatch):
    ran = []
    monkeypatch.setattr(medical, "cache_apart", lambda folder: folder)
    monkeypatch.setattr(
        medical.subprocess, "run", lambda command, **_: ran.append(command) or SimpleNamespace(returncode=1)
    )
    with pytest.raises(SystemExit):
        medical.main()
    plan = yaml.safe_load(Path(ran[0][ran[0].index("--plan") + 1]).read_text(encoding="utf-8"))
    assert "--set" not in ran[0]
    assert f"{plan['train']['num_train_epochs']} passes" in scripts.SCRIPTS["medical"][0]


def test_the_audit_s_row_names_the_canaries_that_the_audit_plants():
    text = (ROOT / "benchmarks" / "audit.py").read_text(encoding="utf-8")
    planted = {
        kind: re.search(rf'^{kind} = \("audit.canaries=(\d+)"', text, re.M)[1] for kind in ("CONTROL", "PRIVATE")
    }
    what = scripts.SCRIPTS["audit"][0]
    assert f"by {int(planted['CONTROL']):,} canaries" in what
    assert f"private runs by {planted['PRIVATE']}" in what
