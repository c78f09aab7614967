"""What storing the activations under the first trained layer buys: foretold from layer costs, and measured.

SmolLM2 with its top 3 of 30 layers trained, the same rows for several epochs, with and without the store in turn. The
foretold ratio counts the floating-point operations of all matrix products and attention, forward and backward. It and
the measured one are of all epochs, filling the store included.

    python -m benchmarks.stored_layers [epochs] [rows] [rounds]
"""

from __future__ import annotations

import json
import math
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

import benchmarks.ours  # noqa: F401  (threads wait as the command line has them wait)
from tunewright.core import plugins
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.core.settings import TrainSettings
from tunewright.core.store import Run
from tunewright.data.encoder import Encoded
from tunewright.models.contracts import EncodeSettings, LoadedModel
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model
from tunewright.train.below import Below, passable
from tunewright.train.job import Job
from tunewright.train.loop import train
from tunewright.train.share import loss_of
from tunewright.train.stopping import StopRequest

WORDS = ["the", "patient", "came", "with", "fever", "and", "cough", "before", "nurse", "asked", "for", "blood", "test"]
LAYERS = 3
_HERE = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACK = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
ATTENTION = {
    _HERE: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),  # type: ignore[no-untyped-call]
    _BACK: lambda out, q, k, v, *_, **__: sdpa_backward_flop_count(out, q, k, v),  # type: ignore[no-untyped-call]
}
"""Of attention as a processor computes it, torch counts nothing by itself."""


def rows_of(model: LoadedModel, count: int) -> tuple[Encoded, ...]:
    """Chat rows of 30 to 400 tokens, an answer of 3 to 30 words each."""
    encoder, draw = model.family.encoder(model, EncodeSettings()), random.Random(0)

    def words(fewest: int, most: int) -> str:
        return " ".join(draw.choices(WORDS, k=round(math.exp(draw.uniform(math.log(fewest), math.log(most))))))

    examples = [
        Example((Turn("user", (text_part(words(10, 330)),)),), (Answer((text_part(words(3, 30)),)),), id=f"row {n}")
        for n in range(count)
    ]
    return tuple(piece for example in examples for piece in encoder.encode(example))


def job_of(epochs: int, rows: int) -> Job:
    """The job with the store."""
    model = open_model(resolve_model("smollm2"), torch.float32)
    method = plugins.build("methods", {"name": "last", "layers": LAYERS})
    settings = TrainSettings(learning_rate=1e-4, num_train_epochs=epochs, save_steps=10**6)
    objective, gradients = plugins.build("objectives", "next_token"), plugins.build("gradients", "plain")
    encoded = rows_of(model, rows)
    return Job(method.attach(model, 0), method, objective, gradients, encoded, (), settings, 0)


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of the products in it."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        work()
    return int(counter.get_total_flops())


def costs(job: Job) -> tuple[int, int, int]:
    """Operations of one pass over the rows without the store, of one with it, and of filling it."""
    layers = passable(job)
    with tempfile.TemporaryDirectory() as folder:
        below = Below.of(job.model, layers, Path(folder) / "stored")
        fill = operations(lambda: below.fill(job.train, len(job.train), lambda *_: None, StopRequest()))

        def a_pass(stored: bool) -> None:
            with job.gradients.begin(job.model, job.method.trained(job.model), "") as making:
                for step in range(job.order.steps_an_epoch):
                    rows = [job.train[i] for i in job.order.step(step)]
                    batch, loss = loss_of(job, rows, 0, below if stored else None)
                    making.accumulate(loss, 1.0, batch)

        found = operations(lambda: a_pass(False)), operations(lambda: a_pass(True)), fill
    for weight in job.method.trained(job.model).values():
        weight.grad = None
    return found


def seconds(job: Job) -> tuple[float, float, list[float]]:
    """Seconds of filling, seconds of all steps, and each step's loss; the model is left as it was."""
    trained = job.method.trained(job.model)
    before = {name: weight.detach().clone() for name, weight in trained.items()}
    folder = Path(tempfile.mkdtemp())
    run = Run(folder)
    train(job, run, lambda *_: None, StopRequest())
    steps, stored = run.events("step"), run.events("stored")
    shutil.rmtree(folder)
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(before[name])
            weight.grad = None
    losses = [event["loss_sum"] / event["count"] for event in steps]
    return sum(event["seconds"] for event in stored), sum(event["seconds"] for event in steps), losses


def main(epochs: int = 5, rows: int = 24, rounds: int = 5) -> dict[str, list[float]]:
    """Prints the ratios; gives what the table shows, a figure a round."""
    stored = job_of(epochs, rows)
    plain = replace(stored, settings=stored.settings.model_copy(update={"stored_gb": 0.0}))
    whole, above, fill = costs(stored)
    foretold, steady = epochs * whole / (fill + epochs * above), whole / above
    ratios, later, apart = [], [], list[float]()
    for _ in range(rounds):
        _, without, expected = seconds(plain)
        filling, with_store, losses = seconds(stored)
        ratios.append(without / (filling + with_store))
        later.append(without / with_store)
        apart.append(max(abs(a - b) / abs(a) for a, b in zip(expected, losses, strict=True)))
        print(f"without {without:.1f} s; filling {filling:.1f} s, then {with_store:.1f} s")
    tokens = sum(row.length for row in stored.train)
    print(
        f"{len(stored.train)} rows, {tokens} tokens, {epochs} epochs, top {LAYERS} layers, "
        f"{torch.get_num_threads()} threads"
    )
    for what, wanted, found in (("all epochs", foretold, ratios), ("a pass once stored", steady, later)):
        median = statistics.median(found)
        spread = f"{min(found):.2f} to {max(found):.2f}"
        print(f"{what}: foretold {wanted:.2f}, measured {median:.2f} ({spread}), share {median / wanted:.2f}")
    print(f"largest relative difference of a step's loss: {max(apart):.1e}")
    return {"ratio": ratios, "share": [ratio / foretold for ratio in ratios], "loss_difference": apart}


if __name__ == "__main__":
    figures = main(*map(int, [word for word in sys.argv[1:] if word != "--json"]))
    if "--json" in sys.argv:
        print(json.dumps(figures))
