"""Seconds that the matrix products of a training step take by themselves: `python -m benchmarks.ours.floor float32`.

The products are those that the step needs, at its own shapes and with the model's own weights: projections forward
and their input gradients (frozen weights have no other), the adapters' products forward and backward, attention of
each block of the packed batch, and the output head at the scored positions. Nothing else runs between them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ours.workload import CHAT_SETTINGS, FOLDER, order_of
from benchmarks.table.child import cores, emit, steps
from tunewright.core.config import Request
from tunewright.core.progress import silent
from tunewright.models.attention import Layout
from tunewright.models.contracts import Batch
from tunewright.models.head import SLICE
from tunewright.pipeline.prepare import Prepared, prepare, read_rows

RANK, QUERIES, REPEATS = 16, 128, 3
Product = Callable[[], Tensor]


@cache
def tensor(dtype: torch.dtype, *shape: int) -> Tensor:
    """A tensor of the given shape; products of one shape share it, or a step's would not fit into memory."""
    return torch.randn(shape, dtype=dtype)


def mm(dtype: torch.dtype, rows: int, inner: int, columns: int) -> Product:
    """A product of two matrices."""
    a, b = tensor(dtype, rows, inner), tensor(dtype, inner, columns)
    return lambda: torch.mm(a, b)


def projection(weight: Tensor, tokens: int) -> Iterator[Product]:
    """Forward and the input's gradient of a frozen linear layer, `weight` [out, in]."""
    x, gradient = tensor(weight.dtype, tokens, weight.shape[1]), tensor(weight.dtype, tokens, weight.shape[0])
    yield lambda: torch.mm(x, weight.t())
    yield lambda: torch.mm(gradient, weight)


def adapter(weight: Tensor, tokens: int) -> Iterator[Product]:
    """Two products forward and four backward, in the dtype of the layer beside which they stand."""
    columns, inner = weight.shape
    for rows, between, wide in (
        (tokens, inner, RANK),
        (tokens, RANK, columns),
        (tokens, columns, RANK),
        (tokens, RANK, inner),
        (RANK, tokens, columns),
        (RANK, tokens, inner),
    ):
        yield mm(weight.dtype, rows, between, wide)


def attention(layout: Layout, heads: int, width: int, dtype: torch.dtype) -> Iterator[Product]:
    """Two products forward and four backward for each run of queries, on the keys that the run can see."""
    for block in layout.blocks:
        before = sum(stop - start for start, stop in block.ancestors)
        length = block.stop - block.start
        for start in range(0, length, QUERIES):
            queries = min(QUERIES, length - start)
            keys = before + start + queries
            scores = tensor(dtype, heads, queries, keys)
            q, k = tensor(dtype, heads, queries, width), tensor(dtype, heads, keys, width)
            yield partial(torch.bmm, q, k.transpose(1, 2))
            yield partial(torch.bmm, scores, k)
            yield partial(torch.bmm, q, k.transpose(1, 2))
            yield partial(torch.bmm, scores, k)
            yield partial(torch.bmm, scores.transpose(1, 2), q)
            yield partial(torch.bmm, scores.transpose(1, 2), q)


def products(prepared: Prepared, batch: Batch) -> dict[str, list[Product]]:
    """The products of a step by kind, in no particular order."""
    module: Any = prepared.model.module
    tokens, scored = batch.inputs["input_ids"].numel(), len(batch.targets.position_T)
    config, head = module.config, module.get_output_embeddings()
    layers = [part for part in module.modules() if isinstance(part, nn.Linear) and part is not head]
    layout = Layout.of(batch.attended())
    attended = attention(layout, config.num_attention_heads, config.head_dim, module.dtype)
    return {
        "projections": [product for layer in layers for product in projection(layer.weight, tokens)],
        "adapters": [product for layer in layers for product in adapter(layer.weight, tokens)],
        "attention": [*attended],
        # As the product reads it: whole, its result fits no cache and the floor would lie higher.
        "head": [product for part in head.weight.split(SLICE) for product in projection(part, scored)],
    }


def seconds(timed: list[Product], times: int = 1) -> float:
    """The best of a few passes over all products."""
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        for product in timed:
            product()
        best = min(best, time.perf_counter() - started)
    return best * times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    precision = parser.parse_args().precision
    torch.set_num_threads(cores())
    sets = (*CHAT_SETTINGS, f"train.precision={precision}")
    prepared = prepare(read_rows(Request(data=str(FOLDER / "chat.jsonl"), sets=sets), silent), silent)
    order = order_of(prepared)
    layers = prepared.model.module.config.num_hidden_layers
    kinds: dict[str, float] = {}
    with torch.inference_mode():
        for step in range(1, steps()):
            for rows in order.micro_batches(step, order.rows_a_step):
                batch = prepared.model.family.collate(prepared.model, [prepared.train[i] for i in rows])
                for kind, timed in products(prepared, batch).items():
                    times = layers if kind == "attention" else 1
                    kinds[kind] = kinds.get(kind, 0.0) + seconds(timed, times)
    emit({"seconds": sum(kinds.values()), "by_kind": kinds, "precision": precision}, ["torch"])


if __name__ == "__main__":
    main()
