"""The same run by TRL's SFTTrainer: `python -m benchmarks.peers.trl_train lora|full CONFIGURATION`.

Rows come tokenised, with the mask of the answers, in the order in which we take them, so both see the same tokens
and the same targets; `raw` gives conversations instead, for the time from the command to the first step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from benchmarks.table.child import cores, emit, rate, since_command, steps, this_round, workload

ROWS_A_STEP = 8
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "fp32": {"bf16": False, "gradient_checkpointing": False},
    # One row at a time: no padding at all, and the same sums, since TRL divides by the step's token count.
    "fp32-single": {
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": ROWS_A_STEP,
    },
    "bf16-single": {
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": ROWS_A_STEP,
    },
    "fp32-padding-free": {"bf16": False, "gradient_checkpointing": False, "padding_free": True, "max_length": None},
    "fp32-compiled": {"bf16": False, "gradient_checkpointing": False, "torch_compile": True},
}


class Clock(TrainerCallback):
    """Seconds of each optimiser step, and when the first ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.first_step = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)
        self.first_step = self.first_step or since_command()


def dataset(rows: dict[str, Any], raw: bool) -> Dataset:
    """The rows, tokenised or as conversations of which the answer is trained."""
    if raw:
        said = rows["messages"]
        return Dataset.from_list([{"prompt": one[:-1], "completion": one[-1:]} for one in said])
    return Dataset.from_dict({"input_ids": rows["rows"], "completion_mask": rows["trained"]})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=["lora", "full"])
    parser.add_argument("configuration", choices=list(CONFIGURATIONS))
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--steps", type=int, default=steps())
    asked = parser.parse_args()
    torch.set_num_threads(cores())
    rows, clock = workload("chat"), Clock()
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "per_device_train_batch_size": ROWS_A_STEP,
            "max_length": 1024,
            **CONFIGURATIONS[asked.configuration],
        }
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=asked.steps,
            learning_rate=2e-4,
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            completion_only_loss=True,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            dataloader_pin_memory=False,
            seed=this_round(),
            **settings,
        )
        trainer = SFTTrainer(
            rows["model"],
            args=arguments,
            train_dataset=dataset(rows, asked.raw),
            peft_config=adapter if asked.method == "lora" else None,
            callbacks=[clock],
        )
        trainer.train()
    lengths = [len(row) for row in rows["rows"]]
    tokens = [sum(lengths[k * ROWS_A_STEP : (k + 1) * ROWS_A_STEP]) for k in range(asked.steps)]
    result = {
        "tokens": tokens,
        "seconds": clock.seconds,
        "losses": [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry],
        "tokens_per_second": rate(tokens, clock.seconds),
        "first_step_seconds": clock.first_step,
        "threads": torch.get_num_threads(),
        "precision": "bfloat16 autocast" if arguments.bf16 else "float32",
    }
    emit(result, ["torch", "transformers", "peft", "trl"])


if __name__ == "__main__":
    main()
