"""What a plan asks of its model, counted before anything is asked: forwards, positions, predictions, attention.

The evaluation's own code is run on a model that answers zeros at once and writes down what it was asked to compute. So
common beginnings, tries, batches and probes of any kind are counted as they will be computed, not described again here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.progress import silent
from tunewright.core.records import Example
from tunewright.data.encoded_rows import lengths
from tunewright.data.encoder import Encoded
from tunewright.evaluate.probes._base import Probe
from tunewright.evaluate.suite import Suite
from tunewright.models.attention import Layout
from tunewright.models.chunked import KEPT, QUERIES
from tunewright.models.contracts import Batch, LoadedModel
from tunewright.models.head import SLICE, sliced_head

NARROW = 32
"""Positions up to which a forward costs the reading of the weights, and hardly more with each position."""
_LOOKED_AT = 96
"""Rows that are counted; more are taken to be like them."""
_STEPS = 48
"""Optimiser steps that are counted; the others are taken to be like them."""


@dataclass(frozen=True, slots=True)
class Work:
    """A stretch of work; sums over its forwards, but for the three largest."""

    positions: float = 0.0
    """That go through the layers."""
    predicted: float = 0.0
    """Positions at which the head is computed."""
    pairs: float = 0.0
    """Of a query and a key in one head of one layer."""
    forwards: float = 0.0
    narrow: float = 0.0
    """Forwards of at most `NARROW` positions."""
    widest: int = 0
    """Most positions of a forward."""
    most_predicted: int = 0
    """Most positions of a forward at which the head is computed."""
    most_kept: float = 0.0
    """Most pairs of a forward whose weights attention by runs of queries keeps for the backward pass."""

    def __add__(self, other: Work) -> Work:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)[:5]}
        return Work(**sums, **{f.name: max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)[5:]})

    def times(self, factor: float) -> Work:
        """So much work of the same kind."""
        return replace(self, **{f.name: getattr(self, f.name) * factor for f in fields(self)[:5]})

    @classmethod
    def of(cls, positions: int, predicted: int, pairs: float) -> Work:
        """One forward's."""
        return cls(positions, predicted, pairs, 1.0, float(positions <= NARROW), positions, predicted)


class Counter(nn.Module):
    """Stands for a causal language model: knows its configuration, answers zeros, and adds up `work`."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.config = module.config
        self.vocabulary = int(module.get_input_embeddings().weight.shape[0])
        self.work = Work()

    def forward(self, input_ids: Tensor, logits_to_keep: Tensor | None = None, **given: Any) -> Any:
        """Zeros where logits are asked for, and for hidden states."""
        rows, length = input_ids.shape
        kept = rows * length if logits_to_keep is None else len(logits_to_keep)
        self.work += Work.of(rows * length, kept, _pairs(given.get("layout"), rows, length))
        shape = (rows, length, self.vocabulary) if logits_to_keep is None else (1, kept, self.vocabulary)
        states = torch.zeros(1, 1, 1).expand(rows, length, int(getattr(self.config, "hidden_size", 1)))
        return SimpleNamespace(logits=torch.zeros(1, 1, 1).expand(shape), hidden_states=(states,))

    def generate(self, input_ids: Tensor, generation_config: Any, **given: Any) -> Tensor:
        """The library's generation, to the last token that is allowed: the way of models that cannot pack."""
        rows, length = input_ids.shape
        new = int(generation_config.max_new_tokens)
        self.work += Work.of(rows * length, rows, rows * length**2)
        self.work += Work.of(rows, rows, rows * (length + new / 2)).times(new - 1)
        return torch.cat([input_ids, torch.zeros(rows, new, dtype=input_ids.dtype)], 1)


def _pairs(layout: Any, rows: int, length: int) -> float:
    """Of a packed forward, by its blocks; of a padded one, all of each row; of answers going on, next to nothing."""
    if layout is None:
        return float(rows * length**2)
    if not isinstance(layout, Layout):
        return 0.0
    return float(sum(own * (before + own) for own, before in _blocks(layout)))


def _kept_pairs(layout: Layout) -> float:
    """Of the blocks whose weights are kept; a run of queries sees what lies before it, and itself."""
    kept = [(own, before) for own, before in _blocks(layout) if before + own <= KEPT]
    return float(sum(own * (before + (own + min(own, QUERIES)) / 2) for own, before in kept))


def _blocks(layout: Layout) -> Iterator[tuple[int, int]]:
    """Of each block its own positions, and those of its ancestors."""
    for block in layout.blocks:
        yield block.stop - block.start, sum(stop - start for start, stop in block.ancestors)


def countable(model: LoadedModel) -> bool:
    """Whether models of this family can be stood for: those that read tokens and say what comes next."""
    return "next_log_probs" in model.family.capabilities and hasattr(model.module, "get_input_embeddings")


@contextmanager
def counted(model: LoadedModel) -> Iterator[tuple[LoadedModel, Counter]]:
    """A model that only counts, in place of this one."""
    counter = Counter(model.module)
    yield model.with_module(counter), counter


def of_suite(model: LoadedModel, suite: Suite, examples: Sequence[Example]) -> Work:
    """What a suite asks of a model; free answers are taken to be as long as they may be.

    The first examples are counted, together, since neighbours share what they begin with.
    """
    few = [examples[row] for row in range(min(_LOOKED_AT, len(examples)))]
    if not few:
        return Work()
    with counted(model) as (stand_in, counter):
        replace(suite, needs=suite.needs - {"text"}).ask(stand_in, few, silent, "")
        read = counter.work.times(len(examples) / len(few))
    asked = min(len(few), suite.generated_rows)
    if "text" not in suite.needs or not asked:
        return read
    with counted(model) as (stand_in, counter):
        replace(suite, needs=frozenset({"text"})).ask(stand_in, few[:asked], silent, "")
        return read + counter.work.times(min(len(examples), suite.generated_rows) / asked)


def of_probe(model: LoadedModel, probe: Probe) -> Work:
    """What a probe asks of a model; nothing where it cannot be asked. Judges beside the model are not counted."""
    with counted(model) as (stand_in, counter):
        with suppress(NotMeasured, UserError):
            probe.costing().ask(stand_in, silent)
        return counter.work


def of_contexts(model: LoadedModel, contexts: Sequence[Sequence[int]], read: Any) -> Work:
    """What reading contexts once costs, `read` being how."""
    few = contexts[:_LOOKED_AT]
    if not few:
        return Work()
    with counted(model) as (stand_in, counter):
        for _ in read(stand_in, few):
            pass
        return counter.work.times(len(contexts) / len(few))


def of_batch(batch: Batch) -> Work:
    """One forward over a batch as it was collated."""
    ids = batch.inputs.get("input_ids")
    positions = batch.tokens if ids is None else ids.numel()
    packed = ids is not None and "attention_mask" not in batch.inputs
    layout = Layout.of(batch.attended()) if packed else None
    pairs = _pairs(layout, *(ids.shape if ids is not None else (1, 0)))
    work = Work.of(positions, len(torch.unique(batch.targets.position_T)), pairs)
    return work if layout is None else replace(work, most_kept=_kept_pairs(layout))


def of_steps(job: Any) -> Work:
    """All training steps, as their micro-batches are laid out; of many steps, some from all over the first epochs."""
    steps = range(job.steps) if job.steps <= _STEPS else [k * job.steps // _STEPS for k in range(_STEPS)]
    work = Work()
    for step in steps:
        for rows in job.order.micro_batches(step, job.micro_rows):
            work += of_rows(job.model, [job.train[i] for i in rows])
    longest = int(lengths(job.train).max()) if len(job.train) else 0  # which may stand in a step that is not counted
    return replace(work.times(job.steps / len(steps)), widest=max(work.widest, longest))


def of_rows(model: LoadedModel, rows: Sequence[Encoded]) -> Work:
    """Rows in one forward."""
    return of_batch(model.family.collate(model, rows)) if rows else Work()


def of_validation(job: Any, batches: Iterator[Sequence[Encoded]]) -> Work:
    """One pass over the validation rows."""
    total, work = 0, Work()
    for rows in batches:
        work += of_rows(job.model, rows)
        total += len(rows)
        if total >= 2 * _LOOKED_AT:
            break
    return work.times(len(job.valid) / total) if total else work


@dataclass(frozen=True, slots=True)
class Size:
    """A model as work sees it."""

    body: int
    """Weights that every position passes."""
    head: int
    """Weights of the output head."""
    trained: int
    width: int
    heads: int
    layers: int
    feed_forward: int
    """Width between the two products of a feed-forward part."""
    said: int
    """Numbers a predicted position holds of the head: logits and their log-probabilities, or a slice of both."""
    weight_bytes: int
    number_bytes: int = 4
    """Of a number that a layer keeps for its gradient."""
    half_attention: bool = False
    """Whether attention is bfloat16's, which keeps its weights."""

    @classmethod
    def of(cls, model: LoadedModel, trained: int) -> Size:
        """Of a model; parts that it does not tell are guessed from its weights."""
        module = model.module
        config = getattr(module, "config", None)

        def told(name: str, other: int) -> int:
            return int(getattr(config, name, None) or other)

        every = sum(p.numel() for p in module.parameters())
        embedding = module.get_input_embeddings().weight if hasattr(module, "get_input_embeddings") else None
        output = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
        head = 0 if output is None else output.weight
        said = 0 if embedding is None else 2 * (SLICE if sliced_head(model) else int(embedding.shape[0]))
        width = told("hidden_size", max(16, math.isqrt(every) // 8))
        outside = {id(w): w.numel() for w in (embedding, head) if isinstance(w, Tensor)}
        return cls(
            body=every - sum(outside.values()),
            head=head.numel() if isinstance(head, Tensor) else 0,
            trained=trained,
            width=width,
            heads=told("num_attention_heads", 8),
            layers=told("num_hidden_layers", 4),
            feed_forward=told("intermediate_size", 4 * width),
            said=said,
            weight_bytes=sum(p.numel() * p.element_size() for p in module.parameters()),
        )

    def forward(self, work: Work) -> float:
        """Operations of forwards: two a weight and position, four a pair and unit of width."""
        return (
            2 * self.body * work.positions + 2 * self.head * work.predicted + 4 * self.width * self.layers * work.pairs
        )

    def backward(self, work: Work) -> float:
        """Operations of gradients: those of activations as many as forward (where attention computes its scores again,
        as in float32), and two a trained weight and position."""
        again = 2 * self.width * self.layers * work.pairs
        return self.forward(work) + 2 * again + 2 * self.trained * work.positions

    def activations(self, work: Work, frozen: int) -> float:
        """Bytes that the widest forward keeps for its backward.

        A layer keeps, of each position, its two inputs and their normed forms, queries, keys and values before and
        after rotation, what attention gave, and three of the feed-forward width; with what the backward itself needs
        at its height that is about 14 and 3.5 widths (measured: docs/cost.md). A head that is not read in slices keeps
        log-probabilities and their gradient. So many `frozen` layers at the bottom keep nothing. Attention by runs of
        queries, which is bfloat16's, keeps its weights.
        """
        a_layer = 14 * self.width + 3.5 * self.feed_forward
        weights = 2 * work.most_kept * self.heads if self.half_attention else 0.0
        kept = (self.number_bytes * work.widest * a_layer + weights) * (self.layers - frozen)
        return kept + 4.0 * work.most_predicted * self.said

    def logits(self, work: Work) -> float:
        """Bytes of the most logits that a forward without backward gives, and of their log-probabilities."""
        return 4.0 * work.most_predicted * self.said
