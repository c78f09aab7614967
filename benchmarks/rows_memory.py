"""Peak memory by the number of rows: `tunewright check`, `train` for 20 steps and for one epoch, on generated rows.

    python -m benchmarks.rows_memory [--verb check|begin|train] [--rows 10000 1000000] [--model NAME]
    python -m benchmarks.rows_memory --json     # all three at the sizes of the table

`check` reads rows with a label, hardly two alike; `begin` (a training with everything before it, of 20 steps) and
`train` (one epoch) read chats of two turns, every tenth of which asks what another one did. Texts are 4 to 24 words.
The peak is that of the command's own process (`ru_maxrss`), the libraries and the model included; a tiny random model,
made on the spot unless one is named, keeps the time to that of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LABELS = ("cardiology", "neurology", "oncology", "surgery")
SIZES = {"check": (10_000, 1_000_000), "begin": (10_000, 1_000_000), "train": (2_000, 50_000)}
"""Of the table. On a busy core a row took 1.3 ms to check and 5 ms to train, so a million trained would take hours."""
EQUAL = 10
"""One in so many chats asks what the chat before it did."""
TRAINING = ("train.per_device_train_batch_size=32", "data.splits=[1,0,0]")
LASTING = {"begin": "train.max_steps=20", "train": "train.num_train_epochs=1"}


def rows(count: int, verb: str) -> Iterator[dict[str, Any]]:
    """Generated rows, the same for the same count."""
    rng, asked = random.Random(count), ""

    def text() -> str:
        return " ".join(f"w{rng.randrange(50_000)}" for _ in range(rng.randint(4, 24)))

    for number in range(count):
        if verb == "check":
            yield {"text": text(), "label": rng.choice(LABELS)}
        else:
            asked = asked if number % EQUAL == EQUAL - 1 else text()
            yield {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": text()}]}


def make_model(folder: Path) -> None:
    """A random Llama of two narrow layers with a tokenizer of bytes and words such as those of the rows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|turn|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator((json.dumps(row) for row in rows(2000, "check")), trainer)
    template = (
        "{%- for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor -%}"
        "{%- if add_generation_prompt %}<|turn|>assistant\n{% endif -%}"
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=special[3:], chat_template=template,
    ).save_pretrained(folder)  # fmt: skip
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=2048, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    ).save_pretrained(folder)  # fmt: skip


def measure(model: str, count: int, verb: str) -> tuple[float, float]:
    """Peak memory in bytes and seconds of one command."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        with open(data, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(count, verb))
        start = "import sys; from tunewright.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", start, "check" if verb == "check" else "train", str(data)]
        settings = (f"model={model}", *(() if verb == "check" else (*TRAINING, LASTING[verb])))
        command += [word for setting in settings for word in ("--set", setting)]
        command += [] if verb == "check" else ["--out", f"{folder}/run"]
        started = time.perf_counter()
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            if status:
                raise SystemExit(f"{' '.join(command)} failed: {said.read()[-2000:]}")
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), time.perf_counter() - started


def growth(model: str, verb: str, sizes: list[int]) -> tuple[float, float]:
    """Prints a line a size; the last peak over the first, and the bytes a row between them."""
    peaks: list[float] = []
    for count in sizes:
        peak, seconds = measure(model, count, verb)
        peaks.append(peak)
        print(f"{verb} {count:9,} rows: {peak / 1e6:6.0f} MB, {seconds:5.0f} s", flush=True)
    a_row = (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0])
    print(f"{verb}: {a_row:.0f} bytes a row")
    return peaks[-1] / peaks[0], a_row


def main() -> None:
    """One verb, or with --json all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="a folder or a fetched model; a tiny one is made if not given")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, nargs=2)
    parser.add_argument("--verb", choices=tuple(SIZES), default="check")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        make_model(asked.make)
        return
    with tempfile.TemporaryDirectory() as place:
        if not asked.model:  # in a process of its own: a child's peak is never below its parent's
            command = [sys.executable, "-m", "benchmarks.rows_memory", "--make", place]
            subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
        found = {
            verb: growth(asked.model or place, verb, asked.rows or list(SIZES[verb]))
            for verb in (SIZES if asked.json else (asked.verb,))
        }
    if asked.json:
        print(json.dumps({f"{verb}_{what}": figure for verb, both in found.items()
                          for what, figure in zip(("ratio", "bytes"), both, strict=True)}))  # fmt: skip


if __name__ == "__main__":
    main()
