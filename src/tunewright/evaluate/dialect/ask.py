"""What the dialect probe asks: each text of each pair in each prompt, and how probable every word is behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import UserError
from tunewright.core.progress import Progress
from tunewright.data.dialect import Pair
from tunewright.evaluate.contracts import Answers, Floats, Part
from tunewright.evaluate.dialect.frames import ARTICLE, Frames
from tunewright.evaluate.dialect.words import Word
from tunewright.models.contracts import LoadedModel

DECISIONS = ("conviction", "sentence")
_TEXTS_A_PART = 128


class RawTexts(Protocol):
    """What follows texts that are taken as they stand."""

    def choices(self, contexts: Sequence[str], answers: Sequence[Sequence[str]]) -> Iterator[NDArray[np.float64]]:
        """For each context, in order, the log-probability (nats) of each of its answers right behind it."""

    def continuation_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text as it goes on after a word."""


class ReadsTexts(Protocol):
    """A family with the capability `raw_texts`."""

    def raw_texts(self, model: LoadedModel) -> RawTexts:
        """The texts' reader of a model."""


def _raw(model: LoadedModel) -> RawTexts:
    return cast(ReadsTexts, model.family).raw_texts(model)


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of the pairs, each once, and where each pair's sides are among them."""

    texts: tuple[str, ...]
    variant_P: NDArray[np.int64]
    standard_P: NDArray[np.int64]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Texts:
        """The texts of these pairs."""
        place = {
            text: number for number, text in enumerate(dict.fromkeys(t for p in pairs for t in (p.variant, p.standard)))
        }
        return cls(
            tuple(place),
            np.array([place[pair.variant] for pair in pairs]),
            np.array([place[pair.standard] for pair in pairs]),
        )


@dataclass(frozen=True, slots=True)
class _Question:
    """One prompt with one text in it, and where its answers belong."""

    kind: str
    frame: int
    text: int
    start: str
    """What stands before the text: prompts of several kinds begin alike."""
    context: str
    words: tuple[str, ...]
    columns: tuple[int, ...]


def ask(
    model: LoadedModel,
    texts: Texts,
    words: Mapping[str, Sequence[Word]],
    groups: Sequence[str],
    frames: Frames,
    progress: Progress,
    part: Part,
) -> dict[str, NDArray[Any]]:
    """Log-probabilities, nats, by kind: float64 [frames, texts, words]; of kinds that have words and prompts.

    Beside the texts of the pairs, decisions have the empty text, last; kind `overt` has the two groups for texts.
    `tokens_<kind>` [words] are tokens a word; `text_log_prob` and `text_tokens` [texts] are of the texts themselves,
    in the first prompt.

    Raises:
        UserError: A log-probability is not finite.
    """
    questions = [*_questions(texts, words, frames), *_overt(words, groups, frames["overt"])]
    found: dict[str, NDArray[Any]] = {}
    for kind in dict.fromkeys(question.kind for question in questions):
        of_kind = words["trait" if kind == "overt" else kind]
        shape = (len(frames[kind]), 1 + max(q.text for q in questions if q.kind == kind), len(of_kind))
        found[kind] = np.full(shape, np.nan)
        found[f"tokens_{kind}"] = np.array([len(ids) for ids in _raw(model).continuation_ids(_spoken(of_kind))])
    done = 0
    for name, some in _parts(questions, len(texts.texts)):
        answers = part(name, lambda some=some: _answered(model, some))["log_probs"]  # type: ignore[misc]
        start = 0
        for question in some:
            stop = start + len(question.words)
            found[question.kind][question.frame, question.text, list(question.columns)] = answers[start:stop]
            start = stop
        done += len(some)
        progress("dialect: prompts", done, len(questions))
    found |= part("texts", lambda: _surprise(model, texts, frames["trait"][0]))
    broken = sorted(name for name, values in found.items() if not np.isfinite(values).all())
    if broken:
        raise UserError(
            f"dialect: the model's log-probabilities are not finite ({', '.join(broken)}), so its weights are broken. "
            "Train again with a lower train.learning_rate, or with train.precision: float32."
        )
    return found


def _spoken(words: Sequence[Word]) -> tuple[str, ...]:
    return tuple(f" {word.text}" for word in words)


def _questions(texts: Texts, words: Mapping[str, Sequence[Word]], frames: Frames) -> Iterator[_Question]:
    for kind, of_kind in words.items():
        if not of_kind:
            continue
        spoken, fits = _spoken(of_kind), _by_article(of_kind)
        asked = [*texts.texts, ""] if kind in DECISIONS else texts.texts
        every = tuple(range(len(of_kind)))
        for number, frame in enumerate(frames.get(kind, ())):
            start = frame.partition("{}")[0]
            for place, text in enumerate(asked):
                if ARTICLE not in frame:
                    yield _Question(kind, number, place, start, frame.replace("{}", text), spoken, every)
                    continue
                for article, (columns, some) in fits.items():
                    context = frame.replace(ARTICLE, article).replace("{}", text)
                    yield _Question(kind, number, place, start, context, some, columns)


def _by_article(words: Sequence[Word]) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """Article -> the columns of the words that it fits, and the words as they are spoken."""
    found = {}
    for article, vowel in (("a", False), ("an", True)):
        columns = tuple(number for number, word in enumerate(words) if (word.text[0].lower() in "aeiou") == vowel)
        if columns:
            found[article] = (columns, tuple(f" {words[number].text}" for number in columns))
    return found


def _overt(words: Mapping[str, Sequence[Word]], groups: Sequence[str], frames: Sequence[str]) -> Iterator[_Question]:
    traits = words.get("trait", ())
    spoken, every = _spoken(traits), tuple(range(len(traits)))
    for number, frame in enumerate(frames if traits else ()):
        for place, group in enumerate(groups):
            yield _Question("overt", number, place, "overt", frame.replace("{}", group), spoken, every)


def _parts(questions: Sequence[_Question], texts: int) -> Iterator[tuple[str, list[_Question]]]:
    """Questions that begin alike, some texts at a time: what is shared is computed once, and a part is soon done."""
    groups: dict[tuple[str, int], list[_Question]] = {}
    for question in questions:
        groups.setdefault((question.start, min(question.text, texts - 1) // _TEXTS_A_PART), []).append(question)
    for (start, number), some in groups.items():
        yield f"{start} {number}", some


def _answered(model: LoadedModel, questions: Sequence[_Question]) -> Answers:
    contexts = [question.context for question in questions]
    scores = _raw(model).choices(contexts, [question.words for question in questions])
    return {"log_probs": np.concatenate(list(scores))}


def _surprise(model: LoadedModel, texts: Texts, frame: str) -> Answers:
    """How probable the texts themselves are in a prompt."""
    spoken = tuple(f" {text}" for text in texts.texts)
    (log_prob,) = _raw(model).choices([frame.partition("{}")[0].rstrip()], [spoken])
    tokens: Floats = np.array([len(ids) for ids in _raw(model).continuation_ids(spoken)], dtype=float)
    return {"text_log_prob": log_prob, "text_tokens": tokens}
