"""Rows a second of preparation: ours against TRL's `datasets.map` row by row, same rows, same tokenizer.

    python -m benchmarks.preparation [--model FOLDER] --peer PEER_PYTHON [--rows 4000] [--turns 1]

PEER_PYTHON is the interpreter of an environment with trl and datasets. Both sides run in processes of their own, in
turn, five times, first with all cores for the tokenizers (as they are by themselves; only many texts at a time make
use of them), then with one thread for each (TOKENIZERS_PARALLELISM=false), then with as many processes of the peer as
there are cores (`dataset_num_proc`). The peer's figure is TRL's own
`SFTTrainer._prepare_dataset` (chat template of the prompt and of the whole conversation, completion mask, labels,
truncation) with its cache off; ours is `encode_all`, as `prepare` calls it. Both begin with lists of messages in
memory and end with rows on disk: ours packed by `EncodedRows`, the peer's written as Arrow by `datasets.map`. Both
find the same tokens and mask, but for what a template writes after the stop token (SmolLM2: a line end), which the
peer trains and ours leaves out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def conversations(count: int, turns: int, words: Sequence[str]) -> list[list[dict[str, str]]]:
    """Chats: a system turn, then `turns` questions with their answers, each 5 to 120 words of running text.

    Of a text with as many words as texts have: of a few dozen, a tokenizer would know all by heart.
    """
    rng = random.Random(7)
    rows = []
    for _ in range(count):
        row = [{"role": "system", "content": "You are a careful assistant."}]
        for _ in range(turns):
            for role in ("user", "assistant"):
                length = rng.randint(5, 120)
                start = rng.randrange(len(words) - length)
                row.append({"role": role, "content": " ".join(words[start : start + length])})
        rows.append(row)
    return rows


def ours(model: Path, rows: list[list[dict[str, str]]]) -> tuple[float, list[Any]]:
    """Seconds until the rows are on disk, and tokens and trained tokens of each."""
    from transformers import AutoTokenizer

    from tunewright.core.records import Answer, Example, Turn, text_part
    from tunewright.data.encoded_rows import EncodedRows
    from tunewright.data.encoder import Unencodable, encode_all
    from tunewright.models.chat import Chat
    from tunewright.models.contracts import EncodeSettings
    from tunewright.models.encoding import TextEncoder

    encoder = TextEncoder(Chat(AutoTokenizer.from_pretrained(model)), EncodeSettings(max_length=4096))
    started = time.perf_counter()
    examples = [
        Example(
            tuple(Turn(turn["role"], (text_part(turn["content"]),)) for turn in row[:-1]),
            (Answer((text_part(row[-1]["content"]),)),),
        )
        for row in rows
    ]
    found = EncodedRows(examples)
    for number, pieces in enumerate(encode_all(encoder, examples)):
        for piece in () if isinstance(pieces, Unencodable) else pieces:
            found.append(number, piece)
    seconds = time.perf_counter() - started
    return seconds, [(piece.inputs["input_ids"].tolist(), len(piece.targets)) for piece in found]


def peer(model: Path, rows: list[list[dict[str, str]]]) -> tuple[float, list[Any]]:
    """As `ours`, by TRL."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_caching()
    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = SFTTrainer.__new__(SFTTrainer)  # the preparation alone: no model is needed for it
    trainer._tokenizer, trainer.chat_template, trainer.completion_only_loss = tokenizer, None, True
    processes = int(os.environ.get("BENCH_PROCESSES", "0")) or None
    settings = SFTConfig(
        output_dir="unused", max_length=4096, bf16=False, use_cpu=True, report_to="none", dataset_num_proc=processes
    )
    started = time.perf_counter()
    table = datasets.Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])
    done = trainer._prepare_dataset(table, tokenizer, settings, False, None, "train")
    seconds = time.perf_counter() - started
    return seconds, [(row["input_ids"], sum(label != -100 for label in row["labels"])) for row in done]


def main() -> None:
    """Runs one side, or both in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a folder; the embedded model if not given")
    parser.add_argument("--peer", default=os.environ.get("BENCH_PEER", ""))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--text", type=Path, help="what the rows are cut from; the licences if not given")
    parser.add_argument("--side", choices=("ours", "peer"))
    asked = parser.parse_args()
    if asked.model is None:
        from tunewright.models.embedded import resolve_model

        asked.model = resolve_model("smollm2").folder
    if asked.text is None:
        from tunewright.pipeline.prepare import data_path

        asked.text = data_path("licences")
    if asked.side:
        run = ours if asked.side == "ours" else peer
        with open(asked.text, encoding="utf-8", newline="") as file:
            words = [word for row in csv.DictReader(file) for word in row["text"].split()]
        rows = conversations(asked.rows, asked.turns, words)
        run(asked.model, rows[:64])
        seconds, found = run(asked.model, rows)
        counts = [sum(len(ids) for ids, _ in found), sum(trained for _, trained in found)]
        print(json.dumps({"rows": asked.rows / seconds, "tokens": counts[0], "trained": counts[1]}))
        return
    several = {"TOKENIZERS_PARALLELISM": "true"}
    ratios = {
        "ratio": compared(asked, several),
        "one_thread_ratio": compared(asked, {"TOKENIZERS_PARALLELISM": "false"}),
        "processes_ratio": compared(asked, {**several, "BENCH_PROCESSES": str(len(os.sched_getaffinity(0)))}),
    }
    if asked.json:
        print(json.dumps(ratios))


def compared(asked: argparse.Namespace, settings: dict[str, str]) -> list[float]:
    """Ours over the peer's rows a second, pair by pair."""
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    alike = {**os.environ, **settings}
    counts = set[tuple[int, int]]()
    speeds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(5):
        for side, python in (("ours", sys.executable), ("peer", asked.peer)):
            command = [python, __file__, "--model", str(asked.model), "--side", side]
            command += ["--rows", str(asked.rows), "--turns", str(asked.turns), "--text", str(asked.text)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=alike)
            result = json.loads(done.stdout.splitlines()[-1])
            speeds[side].append(result["rows"])
            # A line end behind the stop token, which the peer trains and ours leaves out.
            behind = asked.rows if side == "peer" else 0
            counts.add((result["tokens"] - behind, result["trained"] - behind))
            print(side, result, flush=True)
    if len(counts) > 1:
        raise SystemExit(f"The two sides made other rows: {sorted(counts)} tokens and trained ones.")
    middle = {side: statistics.median(found) for side, found in speeds.items()}
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["peer"], strict=True)]
    print(f"rows a second: ours {middle['ours']:.0f}, TRL {middle['peer']:.0f}")
    print(f"ratio: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    return ratios


if __name__ == "__main__":
    main()
