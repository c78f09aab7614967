"""A private step of Opacus against its own twin: `python benchmarks/peers/opacus_step.py MODEL [--rows 8] ...`.

The model is a folder in Hugging Face layout, with LoRA r=16 on every linear layer, in float32. Run as a script, in the
peers' environment: Opacus ships a top-level package named `benchmarks`, which hides ours. `--child plain|private` does
two steps and tells the peak memory of the process; else plain and private steps alternate. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def opened(path: str, private: bool) -> tuple[nn.Module, Any]:
    """The model with its adapters, and AdamW over them."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=LAYERS)).train()
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-4)
    if not private:
        return model, optimiser
    return GradSampleModule(model), DPOptimizer(
        optimiser, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=8, loss_reduction="sum"
    )


def step(model: nn.Module, optimiser: Any, ids: Tensor) -> tuple[float, float]:
    """Seconds by the clock and of the processor; the second half of each row is trained."""
    started, worked = time.perf_counter(), time.process_time()
    optimiser.zero_grad()
    half = ids.shape[1] // 2
    # Only what is scored goes through the head, as on our side.
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - half).logits[:, :-1]
    nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, half + 1 :].flatten(), reduction="sum").backward()
    optimiser.step()
    return time.perf_counter() - started, time.process_time() - worked


def peak(kind: str) -> int:
    """Bytes at the peak of a process of its own."""
    done = subprocess.run([sys.executable, *sys.argv, "--child", kind], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def held_at_most() -> int:
    """Bytes that this process held at its peak; `ru_maxrss` would begin with those of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def main() -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", choices=["plain", "private"])
    asked = parser.parse_args()
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(100, 40000, (asked.rows, asked.tokens), generator=draw)
    if asked.child:
        sides = opened(asked.model, asked.child == "private")
        for _ in range(2):
            step(*sides, ids)
        return {"peak_bytes": held_at_most()}
    plain, private = opened(asked.model, False), opened(asked.model, True)
    for side in (plain, private):
        step(*side, ids)
    pairs = [(step(*plain, ids), step(*private, ids)) for _ in range(asked.rounds)]
    return {
        "method": "lora",
        "wall_ratio": [own[0] / twin[0] for twin, own in pairs],
        "processor_ratio": [own[1] / twin[1] for twin, own in pairs],
        "plain_processor_seconds": statistics.median(twin[1] for twin, _ in pairs),
        "memory_ratio": peak("private") / peak("plain"),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(main()))
