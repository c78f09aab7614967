"""One tokenising function for training, evaluation and prediction: an example becomes pieces of text.

The chat template comes from the tokenizer. What is trained is found by rendering prefixes: the conversation up to
a turn, with the generation prompt, must be the beginning of the conversation with that turn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from jinja2.exceptions import TemplateError

from tunewright.core.records import Example, Turn
from tunewright.data.encoder import Unencodable

_PLAIN_JOIN = "\n"
TEMPLATE_FAULTS = (TemplateError, TypeError, KeyError, ValueError)
"""What templates raise on turns they were not written for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text that is tokenised by itself."""

    text: str
    weight: float = 0.0
    answer: bool = False
    """True for the example's own (last) answer."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One rendering: these turns, and whether the head of the next answer follows."""

    turns: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...]
    prompt: bool


@dataclass(frozen=True, slots=True)
class Chat:
    """Renders examples with a tokenizer's template, or plainly when it has none."""

    tokenizer: Any
    around: tuple[str, str] | None = None
    """What stands before and after each answer in running text, which no template is asked for."""

    @property
    def has_template(self) -> bool:
        """Whether rows are rendered by the tokenizer's own chat template."""
        return self.around is None and bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def stop_text(self) -> str:
        """What ends an assistant's turn: the template's end-of-turn token, else the end-of-sequence token.

        In running text it is what follows every answer.
        """
        return self.around[1] if self.around else _stop_text(self)

    def context(self, example: Example) -> list[Piece]:
        """Everything before the answer, the generation prompt included.

        Raises:
            Unencodable: The template cannot render it, or what is trained cannot be found in it.
        """
        if not example.context:
            return []
        if self.around:
            return [piece for turn in example.context for piece in self._running(turn)]
        if not self.has_template:
            return [Piece(_PLAIN_JOIN.join(turn.text for turn in example.context) + _PLAIN_JOIN)]
        return self._spans(example, self._rendered(_prefixes(example)))

    def full(self, examples: Sequence[Example]) -> list[list[Piece] | Unencodable]:
        """For each example its context and answer, or why it has none; the answer ends with the stop token.

        All examples are rendered in one call: a template renders many conversations faster than one at a time.
        """
        templated = [bool(example.context) and self.has_template for example in examples]
        asked = [[*_prefixes(e), _whole(e)] if its else [] for e, its in zip(examples, templated, strict=True)]
        rendered = iter(self._rendered([one for prefixes in asked for one in prefixes]))
        return [self._pieces(e, list(islice(rendered, len(its)))) for e, its in zip(examples, asked, strict=True)]

    def answer_text(self, text: str, terminator: bool) -> str:
        """An alternative answer as it stands after a context."""
        return (self.around[0] if self.around else "") + text + (self.stop_text if terminator else "")

    def _running(self, turn: Turn) -> list[Piece]:
        """A turn of running text; what ends an answer is tokenised by itself, so that it is the same everywhere."""
        end = self.stop_text
        if turn.role != "assistant" or not turn.text.endswith(end):
            return [Piece(turn.text, turn.weight)]
        return [Piece(turn.text[: len(turn.text) - len(end)], turn.weight), Piece(end, turn.weight)]

    def _closed(self, example: Example) -> list[Piece]:
        """The answer where no template is asked, with what ends it and what the row says may follow."""
        answer = example.answer
        if not self.around:
            return [Piece(answer.text + (self.tokenizer.eos_token or ""), answer.weight, True)]
        after = [Piece(answer.extra["after"])] if answer.extra.get("after") else []
        said = [self.answer_text(answer.text, terminator=False), self.stop_text]
        return [*(Piece(text, answer.weight, True) for text in said), *after]

    def _pieces(self, example: Example, rendered: list[str | Unencodable]) -> list[Piece] | Unencodable:
        """Context and answer; `rendered` is empty where no template is asked, else its prefixes, then the whole."""
        answer = example.answer
        if not rendered:
            return [*self.context(example), *self._closed(example)]
        after = rendered.pop()
        try:
            pieces = self._spans(example, rendered)
        except Unencodable as error:
            return error
        if isinstance(after, Unencodable):
            return after
        before = "".join(piece.text for piece in pieces)
        if not after.startswith(before):
            return Unencodable(
                "the chat template changes earlier text when the answer is added, so the answer cannot be found in it; "
                "use a template that keeps prefixes"
            )
        return [*pieces, Piece(self._ended(after[len(before) :]), answer.weight, answer=True)]

    def _ended(self, text: str) -> str:
        """Cuts what a template writes after the stop token; adds the stop token where it writes none."""
        stop = self.stop_text
        found = text.rfind(stop) if stop else -1
        if found < 0:
            return text.rstrip("\n") + stop
        return text[: found + len(stop)]

    def _spans(self, example: Example, rendered: Sequence[str | Unencodable]) -> list[Piece]:
        """The rendered context, cut where weighted assistant turns begin and end; see `_prefixes`."""
        for error in rendered:
            if isinstance(error, Unencodable):
                raise error
        whole, *bounds = map(str, rendered)
        pieces: list[Piece] = []
        done = 0
        for index, start, stop in zip(_weighted(example), bounds[::2], bounds[1::2], strict=True):
            if not (whole.startswith(start) and stop.startswith(start)):
                raise Unencodable(
                    f"the chat template does not keep turn {index + 1} as it was; train on the last answer only "
                    "(objective: {name: next_token, loss_on: last}, message weight 0)"
                )
            ended = self._ended(stop[len(start) :])
            if not whole[len(start) :].startswith(ended):
                raise Unencodable(f"the chat template renders turn {index + 1} differently in the whole conversation")
            pieces += [Piece(whole[done : len(start)]), Piece(ended, example.context[index].weight)]
            done = len(start) + len(ended)
        return [piece for piece in (*pieces, Piece(whole[done:])) if piece.text]

    def _rendered(self, asked: Sequence[_Asked]) -> list[str | Unencodable]:
        """The text of each, or why it has none; those with the same tools and ending are rendered together."""
        alike: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for index, one in enumerate(asked):
            alike[repr(one.tools), one.prompt].append(index)
        found: dict[int, str | Unencodable] = {}
        for group in alike.values():
            try:
                texts = self._render([asked[index] for index in group])
                found |= {index: _complete(text, asked[index]) for index, text in zip(group, texts, strict=True)}
            except TEMPLATE_FAULTS:
                found |= {index: self._alone(asked[index]) for index in group}
        return [found[index] for index in range(len(asked))]

    def _alone(self, asked: _Asked) -> str | Unencodable:
        """One of those that could not be rendered together."""
        try:
            return _complete(self._render([asked])[0], asked)
        except TEMPLATE_FAULTS as own:
            roles = ", ".join(turn.role for turn in asked.turns)
            return Unencodable(f"the model's chat template cannot render turns of roles {roles}: {own}")

    def _render(self, asked: Sequence[_Asked]) -> list[str]:
        texts: list[str] = self.tokenizer.apply_chat_template(
            [[{"role": turn.role, "content": turn.text, **turn.extra} for turn in one.turns] for one in asked],
            tools=list(asked[0].tools) or None,
            tokenize=False,
            add_generation_prompt=asked[0].prompt,
        )
        return texts


def _weighted(example: Example) -> list[int]:
    """Turns of the context that are trained."""
    return [i for i, turn in enumerate(example.context) if turn.role == "assistant" and turn.weight != 0]


def _prefixes(example: Example) -> list[_Asked]:
    """The whole context, then for each weighted assistant turn what stands before it and what ends with it."""
    turns, tools = example.context, example.tools
    bounds = [(_Asked(turns[:i], tools, True), _Asked(turns[: i + 1], tools, False)) for i in _weighted(example)]
    return [_Asked(turns, tools, True), *(one for pair in bounds for one in pair)]


def _whole(example: Example) -> _Asked:
    """The context with the answer."""
    turn = Turn("assistant", example.answer.parts, extra=example.answer.extra)
    return _Asked((*example.context, turn), example.tools, False)


def _complete(rendered: str, asked: _Asked) -> str | Unencodable:
    """The rendering, if every turn stands in it."""
    for turn in asked.turns:
        said = turn.text.strip()
        if said and said not in rendered and not turn.extra:
            return Unencodable(
                f"the model's chat template leaves out the turn of role '{turn.role}'; use a role it renders"
            )
    return rendered


@lru_cache(maxsize=64)
def _stop_text(chat: Chat) -> str:
    tokenizer = chat.tokenizer
    eos = str(tokenizer.eos_token or "")
    if not chat.has_template:
        return eos
    marker = "tunewright-answer"
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": marker}], tokenize=False
        )
    except (TemplateError, ValueError):
        return eos
    tail = str(text)[str(text).rfind(marker) + len(marker) :]
    specials = [str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
    first = min((s for s in {*specials, eos} if s and s in tail), key=tail.find, default=eos)
    return first
