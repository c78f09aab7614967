"""Text examples as token arrays with explicit targets; over-long rows by an explicit choice, an answer never cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np

from tunewright.core.blocks import Span
from tunewright.core.records import Example, Part, Turn
from tunewright.data.encoder import Encoded, Overlong, Unencodable
from tunewright.models.chat import Chat, Piece
from tunewright.models.contracts import EncodeSettings

_PROBE = " Một người hỏi:\n\n  'Is 1,024\tenough?' "
"""What a compiled tokenizer is compared with its wrapper on, beside the special tokens."""
_MARGIN = 8
"""Extra tokens taken out at each try, since cutting text may change how its end is tokenised."""


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """Encodes examples for causal language models."""

    chat: Chat
    settings: EncodeSettings

    def encode(self, example: Example) -> Sequence[Encoded]:
        """See `Encoder.encode`; one piece, none if dropped, several if split."""
        (found,) = self.encode_many([example])
        if isinstance(found, Unencodable):
            raise found
        return found

    def encode_many(self, examples: Sequence[Example]) -> list[Sequence[Encoded] | Unencodable]:
        """As `encode` for each, or why not; the template and the tokenizer are called once for all of them."""
        found: list[Sequence[Encoded] | Unencodable] = []
        pieces = [_not_text(example) or one for example, one in zip(examples, self.chat.full(examples), strict=True)]
        tokens = iter(self._tokenised([one for one in pieces if not isinstance(one, Unencodable)]))
        for example, one in zip(examples, pieces, strict=True):
            try:
                found.append(one if isinstance(one, Unencodable) else self._fitted(example, one, next(tokens)))
            except Unencodable as error:
                found.append(error)
        return found

    def context_ids(self, example: Example, room: int = 0) -> list[int]:
        """The tokens of the context, cut as in training; at least `room` tokens of answer fit after it."""
        budget = self.settings.max_length - max(room, _room(self))
        ids = self._ids(self.chat.context(example))
        if len(ids) > budget and self.settings.on_overlong == "truncate-context":
            shorter, _ = self._cut(example, len(ids), budget)
            ids = self._ids(self.chat.context(shorter))
        if not ids:
            raise Unencodable("an empty context; nothing to answer to")
        return ids

    def opens(self, examples: Sequence[Example]) -> bool:
        """Whether answers to these begin with what the template opens answers with, rather than with thoughts."""
        asked = replace(self.chat, opens=True)
        rows = [row for row in asked.full([one for one in examples if one.context]) if not isinstance(row, Unencodable)]
        return all(any(piece.opening for piece in row) for row in rows) or not asked.opening

    def prompt_ids(self, example: Example) -> list[int]:
        """The tokens of the turns and the generation prompt alone, of any length."""
        return self._ids(self.chat.prompt(example))

    def text_ids(self, text: str) -> list[int]:
        """The tokens of a text as it stands, without a start token."""
        return self._tokens([text])[0]

    def answer_ids(self, text: str, terminator: bool) -> list[int]:
        """The tokens of an alternative answer, tokenised by itself."""
        if not self.chat.around:
            return self._tokens([self.chat.answer_text(text, terminator)])[0]
        said = self._tokens([self.chat.answer_text(text, terminator=False)])[0]
        return said + self.stop_ids() if terminator else said

    def stop_ids(self) -> list[int]:
        """The tokens that end an answer."""
        return self._tokens([self.chat.stop_text])[0]

    def render(self, encoded: Encoded) -> list[Span]:
        """The tokens as text, runs of trained and untrained apart."""
        ids = encoded.inputs["input_ids"]
        trained = np.zeros(len(ids), dtype=bool)
        trained[encoded.positions[encoded.weights > 0] + 1] = True
        bounds = [0, *(np.flatnonzero(np.diff(trained)) + 1).tolist(), len(ids)]
        decode = self.chat.tokenizer.decode
        return [Span(text=decode(ids[a:b].tolist()), trained=bool(trained[a])) for a, b in pairwise(bounds) if b > a]

    def _tokenised(self, rows: Sequence[Sequence[Piece]]) -> list[list[list[int]]]:
        """The tokens of each piece of each row; a tokenizer takes many texts in a fraction of the time of each."""
        begun = [(row, int(bool(row) and self._starts(row[0]))) for row in rows]
        firsts = iter(self._tokens([row[0].text for row, start in begun if start], start=True))
        others = iter(self._tokens([piece.text for row, start in begun for piece in row[start:]]))
        return [[*islice(firsts, start), *islice(others, len(row) - start)] for row, start in begun]

    def _starts(self, first: Piece) -> bool:
        """Whether the tokenizer's start token comes before it: a template writes its own, but around no bare text."""
        bare = first.answer or not self.chat.has_template
        start = _marks(self.chat).start
        return bare and not (start and first.text.startswith(start))

    def _tokens(self, texts: Sequence[str], *, start: bool = False) -> list[list[int]]:
        if not texts:
            return []
        if bare := _bare(self.chat):
            found = [one.ids for one in bare.encode_batch_fast(list(texts), add_special_tokens=start)]
        else:
            found = _by_wrapper(self.chat.tokenizer, texts, start)
        return [ids[:-1] for ids in found] if start and _marks(self.chat).adds_end else found

    def _ids(self, pieces: Sequence[Piece]) -> list[int]:
        (tokens,) = self._tokenised([pieces])
        return list(chain.from_iterable(tokens))

    def _fitted(self, example: Example, pieces: Sequence[Piece], tokens: Sequence[Sequence[int]]) -> Sequence[Encoded]:
        """The row within the allowed length, by the planned choice."""
        encoded = self._encoded(example, pieces, tokens)
        allowed, choice = self.settings.max_length, self.settings.on_overlong
        if choice == "truncate-context" and example.context:
            context = int(encoded.notes["answer_start"])
            budget = allowed - max(encoded.length - context, _room(self))
            return [encoded if context <= budget else self._truncated(example, context, budget)]
        if encoded.length <= allowed:
            return [encoded]
        if choice == "drop":
            return []
        if choice == "split" and not example.context:
            return _split(encoded, allowed)
        raise Overlong(encoded.length, allowed)

    def _encoded(self, example: Example, pieces: Sequence[Piece], tokens: Sequence[Sequence[int]]) -> Encoded:
        ids = list(chain.from_iterable(tokens))
        ids_N = np.array(ids, dtype=np.int64)
        lengths = [len(its) for its in tokens]
        weight_N = np.repeat(np.array(self._weights(example, pieces), dtype=np.float32), lengths)
        places = [i for i, piece in enumerate(pieces) if piece.answer] or [0]
        answer_start, answer_end = sum(lengths[: places[0]]), sum(lengths[: places[-1] + 1])
        trained = np.flatnonzero(weight_N[1:] > 0)
        bos = _marks(self.chat).start_id
        stop = _stop_ids(self) if example.context else _marks(self.chat).end_ids
        return Encoded(
            example=example,
            inputs={"input_ids": ids_N},
            length=len(ids),
            positions=trained.astype(np.int64),
            targets=ids_N[trained + 1],
            weights=weight_N[trained + 1],
            notes={
                "stop_trained": bool(stop)
                and ids[answer_end - len(stop) : answer_end] == stop
                and bool(weight_N[answer_end - 1] > 0),
                "double_bos": bos is not None and ids[:2] == [bos, bos],
                "answer_bytes": self._bytes(pieces) - (0 if answer_start else self._given(ids)),
                "answer_start": max(answer_start, 1),
            },
        )

    def _weights(self, example: Example, pieces: Sequence[Piece]) -> list[float]:
        match self.settings.loss_on:
            case "all":
                row = max((example.answer.weight, *(turn.weight for turn in example.context)))
                return [row] * len(pieces)
            case "last":
                return [self._own(piece) if piece.answer or piece.opening else 0.0 for piece in pieces]
            case "said":
                return [piece.weight if piece.answer else 0.0 for piece in pieces]
            case _:
                return [self._own(piece) for piece in pieces]

    def _own(self, piece: Piece) -> float:
        return piece.weight if self.settings.trains_opening or not piece.opening else 0.0

    def _bytes(self, pieces: Sequence[Piece]) -> int:
        """Of all that the answer says, calls of tools included, less what ends it."""
        said = "".join(piece.text for piece in pieces if piece.answer)
        return len(said.removesuffix(self.chat.stop_text if len(pieces) > 1 else _marks(self.chat).end).encode())

    def _given(self, ids: Sequence[int]) -> int:
        """Bytes of a first token that nothing predicts: a bare text's, where no start token stands before it."""
        first = ids[:1]
        if not first or first[0] == _marks(self.chat).start_id:
            return 0
        text = self.chat.tokenizer.decode(first)
        if "\ufffd" in text:  # part of a letter, which tokenizers of bytes write as a letter a byte
            return len(self.chat.tokenizer.convert_ids_to_tokens(first)[0])
        return len(text.encode())

    def _truncated(self, example: Example, length: int, budget: int) -> Encoded:
        """The row with `length` tokens before its answer cut to at most `budget`."""
        shorter, cut = self._cut(example, length, budget)
        (pieces,) = self.chat.full([shorter])
        if isinstance(pieces, Unencodable):
            raise pieces
        encoded = self._encoded(example, pieces, *self._tokenised([pieces]))
        return replace(encoded, notes={**encoded.notes, "cut": cut})

    def _cut(self, example: Example, length: int, budget: int) -> tuple[Example, int]:
        """The example with a context of `length` tokens cut to at most `budget`, and how many were taken off."""
        cut, shorter = 0, example
        while length > budget:
            cut += length - budget + _MARGIN
            shorter = _shortened(example, cut, self.chat)
            length = len(self._ids(self.chat.context(shorter)))
        return shorter, cut


def _by_wrapper(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    found: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=special, return_attention_mask=False, return_token_type_ids=False
    )["input_ids"]
    return found


def _bare(chat: Chat) -> Any | None:
    """The compiled tokenizer within the wrapper, where it finds the same tokens by itself.

    It takes two thirds of the time, since nobody asks it where in a text each token stood. A wrapper may set it to pad
    or to cut at any time.
    """
    bare = _compiled(chat)
    return bare if bare is not None and not (bare.padding or bare.truncation) else None


@lru_cache(maxsize=64)
def _compiled(chat: Chat) -> Any | None:
    tokenizer, bare = chat.tokenizer, getattr(chat.tokenizer, "backend_tokenizer", None)
    if bare is None or not hasattr(bare, "encode_batch_fast"):
        return None
    words = [_PROBE, *(str(token) for token in tokenizer.all_special_tokens)]
    for special in (False, True):
        wrapped = _by_wrapper(tokenizer, words, special)  # first: it takes off what pads or cuts
        if [found.ids for found in bare.encode_batch_fast(words, add_special_tokens=special)] != wrapped:
            return None
    return bare


@dataclass(frozen=True, slots=True)
class _Marks:
    """What a tokenizer sets around a bare text; what ends a turn may be another token than what ends a text."""

    start: str
    start_id: int | None
    end: str
    end_ids: list[int]
    adds_end: bool
    """Whether it adds an end token by itself, as some do beside the start token; in a row it would end what goes on."""


@lru_cache(maxsize=64)
def _marks(chat: Chat) -> _Marks:
    """Looked up once: a tokenizer looks them up anew each time it is asked, which took a tenth of encoding a row."""
    tokenizer = chat.tokenizer
    (ids,), end = _by_wrapper(tokenizer, [_PROBE], True), tokenizer.eos_token or ""
    return _Marks(
        tokenizer.bos_token or "",
        tokenizer.bos_token_id,
        end,
        _by_wrapper(tokenizer, [end], False)[0] if end else [],
        bool(ids) and ids[-1] == tokenizer.eos_token_id,
    )


@lru_cache(maxsize=64)
def _stop_ids(encoder: TextEncoder) -> list[int]:
    return encoder.stop_ids()


@lru_cache(maxsize=64)
def _room(encoder: TextEncoder) -> int:
    """Tokens kept free for any answer where contexts are cut.

    Were only a row's own answer left room, the place of the cut would tell how long the answer is, and a model would
    learn to read it off.
    """
    settings = encoder.settings
    longest = max((len(encoder.answer_ids(label, terminator=True)) for label in settings.labels), default=0)
    return longest or min(settings.free_tokens, settings.max_length // 2)


def _not_text(example: Example) -> Unencodable | None:
    """Why a row with sounds, pictures or numbers in it cannot be read."""
    every = chain(example.answer.parts, *(turn.parts for turn in example.context))
    kinds = (part.kind for part in every if part.kind != "text")
    return next((Unencodable(f"a part of kind '{kind}'; this model reads text only") for kind in kinds), None)


def _shortened(example: Example, tokens: int, chat: Chat) -> Example:
    """The example with `tokens` tokens less at the end of its longest context turn.

    Raises:
        Unencodable: No turn is long enough: what is left would still be too long.
    """
    if example.running:
        raise Unencodable(
            "a running text that is too long, which is not cut; raise train.max_length, or keep less of it (of "
            "careers: data.options.history)"
        )
    longest = max(range(len(example.context)), key=lambda i: len(example.context[i].text))
    turn = example.context[longest]
    ids = chat.tokenizer(turn.text, add_special_tokens=False)["input_ids"]
    if len(ids) <= tokens:
        raise Unencodable("too long even without its context; raise train.max_length or drop the row")
    kept = chat.tokenizer.decode(ids[: len(ids) - tokens], skip_special_tokens=False)
    shorter: Turn = replace(turn, parts=(Part("text", kept),))
    return replace(example, context=(*example.context[:longest], shorter, *example.context[longest + 1 :]))


def _split(encoded: Encoded, allowed: int) -> list[Encoded]:
    """Consecutive pieces of a plain text; every token but the first of the text stays trained exactly once."""
    pieces = []
    ids = encoded.inputs["input_ids"]
    for start in range(0, encoded.length - 1, allowed - 1):
        stop = min(start + allowed, encoded.length)
        own = (encoded.positions >= start) & (encoded.positions < stop - 1)
        pieces.append(
            replace(
                encoded,
                inputs={"input_ids": ids[start:stop]},
                length=stop - start,
                positions=encoded.positions[own] - start,
                targets=encoded.targets[own],
                weights=encoded.weights[own],
                notes={
                    **encoded.notes,
                    "stop_trained": stop == encoded.length and bool(encoded.notes["stop_trained"]),
                    "answer_bytes": 0 if start else encoded.notes["answer_bytes"],
                },
            )
        )
    return pieces


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text that goes on: with the start token where the tokenizer sets one, never with an end."""
    started = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
    ids: list[int] = tokenizer(text, add_special_tokens=not started)["input_ids"]
    return (
        ids[:-1]
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token)
        else ids
    )


def continued_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text as it goes on after a word, which some tokenizers cut otherwise than at a start."""
    word, whole = (tokenizer(start, add_special_tokens=False)["input_ids"] for start in ("is", f"is{text}"))
    if whole[: len(word)] == word and len(whole) > len(word):
        return list(whole[len(word) :])
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
