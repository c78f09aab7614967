"""Greedy answers, the same decoding for base and tuned.

A model that packs reads several prompts in one forward without padding, what they begin with alike once, and answers up
to `MOST` of them at a time: a place that an answer has left is given to the next prompt, and a step computes only
answers that still go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

import torch
from torch import Tensor
from transformers import GenerationConfig

from tunewright.models.attention import Layout, attention, packed_logits, plain_attention
from tunewright.models.contracts import Generation, LoadedModel
from tunewright.models.head import best
from tunewright.models.held import Continuing, Filling, Held
from tunewright.models.scoring import Laid

FEWEST, MOST = 8, 32
"""Answers written at a time. A step reads every weight once, however many answers it serves."""
_AHEAD = 64
"""Contexts among which some of one length are looked for, where rows cannot be packed."""
_HELD = 8192
"""Tokens whose keys and values are held: of long prompts fewer than `MOST` are answered at a time."""


def greedy(
    model: LoadedModel, contexts: Sequence[Sequence[int]], stops: Sequence[Sequence[int]], max_new_tokens: int
) -> Iterator[Generation]:
    """Continues each context greedily until it has said what ends an answer, or to the limit, in order.

    Args:
        model: An opened causal language model.
        contexts: Token ids of each context.
        stops: What ends an answer: token ids, each a row of one or more.
        max_new_tokens: The most tokens an answer may have.
    """
    found = _packed if model.packs else _padded
    ends = [list(stop) for stop in stops if stop]
    for answer in found(model, contexts, ends, max_new_tokens):
        end = _end(answer, ends)
        text = model.tokenizer.decode(answer[: len(answer) - end], skip_special_tokens=True)
        yield Generation(text.strip(), end > 0)


def _end(answer: Sequence[int], stops: Sequence[Sequence[int]]) -> int:
    """How many of the last tokens end the answer; 0 where it goes on."""
    return max((len(stop) for stop in stops if answer[-len(stop) :] == stop), default=0)


@dataclass(slots=True)
class _Answer:
    """One that is being written."""

    number: int
    context: Sequence[int]
    tokens: list[int] = field(default_factory=list)


def _packed(
    model: LoadedModel, contexts: Sequence[Sequence[int]], stops: Sequence[Sequence[int]], max_new_tokens: int
) -> Iterator[list[int]]:
    """Answers in order, with what ends them; each is given out as soon as those before it are."""
    length = max((len(ids) for ids in contexts), default=0) + max_new_tokens
    held = Held(min(len(contexts), max(FEWEST, min(MOST, _HELD // length))), length)
    waiting = [_Answer(number, ids) for number, ids in enumerate(contexts)][::-1]
    going: list[_Answer] = []
    done: dict[int, list[int]] = {}
    given = 0
    while waiting or going:
        for answer in _step(
            model, held, waiting, going, lambda ids: bool(_end(ids, stops)) or len(ids) == max_new_tokens
        ):
            done[answer.number] = answer.tokens
        while given in done:
            yield done.pop(given)
            given += 1


@torch.inference_mode()
def _step(
    model: LoadedModel, held: Held, waiting: list[_Answer], going: list[_Answer], ended: Callable[[list[int]], bool]
) -> list[_Answer]:
    """Reads as many prompts as there are free places, or else writes a token more; gives answers that ended."""
    if waiting and len(going) < held.rows:
        fresh = [waiting.pop() for _ in range(min(held.rows - len(going), len(waiting)))]
        _read(model, held, fresh, len(going))
        going += fresh
    else:
        _continue(model, held, going)
    finished = []
    for row in reversed(range(len(going))):
        if ended(going[row].tokens):
            finished.append(going[row])
            held.move(len(going) - 1, row)
            going[row] = going[-1]
            going.pop()
    return finished


def _read(model: LoadedModel, held: Held, fresh: Sequence[_Answer], first_row: int) -> None:
    """Reads prompts in one forward, common beginnings once, and writes the first token of their answers."""
    laid = Laid()
    ends = laid.contexts([answer.context for answer in fresh])
    layout = Layout.of(laid.segments)
    last_K = torch.tensor([laid.segments[end].stop - 1 for end in ends])
    reading = Filling(held, layout, [laid.tokens(end) for end in ends], first_row)
    _write(model, torch.tensor(laid.ids), layout.position_N, reading, last_K, fresh)


def _continue(model: LoadedModel, held: Held, going: Sequence[_Answer]) -> None:
    """One token more of every answer."""
    ids_B = torch.tensor([answer.tokens[-1] for answer in going])
    position_B = torch.tensor([len(answer.context) + len(answer.tokens) - 1 for answer in going])
    _write(model, ids_B, position_B, Continuing(held, position_B), torch.arange(len(going)), going)


def _write(
    model: LoadedModel, ids: Tensor, position: Tensor, layout: Filling | Continuing, keep: Tensor, to: Sequence[_Answer]
) -> None:
    tokens = best(model, lambda: packed_logits(model.module, ids, position, layout, keep)).tolist()
    for answer, token in zip(to, tokens, strict=True):
        answer.tokens.append(token)


def _padded(
    model: LoadedModel, contexts: Sequence[Sequence[int]], stops: Sequence[Sequence[int]], max_new_tokens: int
) -> Iterator[list[int]]:
    """By the library, contexts of one length at a time: models that carry a state read padding too."""
    single = [stop[0] for stop in stops if len(stop) == 1] or [-1]  # with none given the library takes the model's own
    pad = model.tokenizer.pad_token_id if model.tokenizer.pad_token_id is not None else 0
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=single, pad_token_id=pad, use_cache=True
    )
    for start in range(0, len(contexts), _AHEAD):
        part = contexts[start : start + _AHEAD]
        found: dict[int, list[int]] = {}
        for numbers in _of_one_length(part):
            ids = torch.tensor([list(part[number]) for number in numbers])
            with torch.inference_mode(), attention(model.module, plain_attention(model.module)):
                out = model.module.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
                )
            found |= dict(zip(numbers, out[:, ids.shape[1] :].tolist(), strict=True))
        for number in range(len(part)):
            row = found[number]
            ends = (end for end in range(1, len(row) + 1) if _end(row[:end], stops))
            yield row[: next(ends, len(row))]


def _of_one_length(contexts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Numbers of contexts of one length, at most `FEWEST` at a time."""
    order = sorted(range(len(contexts)), key=lambda number: len(contexts[number]))
    for _, group in groupby(order, key=lambda number: len(contexts[number])):
        while numbers := [*islice(group, FEWEST)]:
            yield numbers
