"""One tokenising function for training, evaluation and prediction: an example becomes pieces of text.

The chat template comes from the tokenizer. What is trained is found by rendering prefixes: the conversation up to
a turn, with the generation prompt, must be the beginning of the conversation with that turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2.exceptions import TemplateError

from tunewright.core.records import Example, Turn
from tunewright.data.encoder import Unencodable

_PLAIN_JOIN = "\n"


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text that is tokenised by itself."""

    text: str
    weight: float = 0.0
    answer: bool = False
    """True for the example's own (last) answer."""


@dataclass(frozen=True, slots=True)
class Chat:
    """Renders examples with a tokenizer's template, or plainly when it has none."""

    tokenizer: Any

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def stop_text(self) -> str:
        """What ends an assistant's turn: the template's end-of-turn token, else the end-of-sequence token."""
        return _stop_text(self)

    def context(self, example: Example) -> list[Piece]:
        """Everything before the answer, the generation prompt included."""
        if not example.context:
            return []
        if not self.has_template:
            return [Piece(_PLAIN_JOIN.join(turn.text for turn in example.context) + _PLAIN_JOIN)]
        return self._spans(example, example.context, example.tools)

    def full(self, example: Example) -> list[Piece]:
        """Context and answer; the answer ends with the stop token."""
        answer = example.answer
        pieces = self.context(example)
        if not example.context:
            return [Piece(answer.text + (self.tokenizer.eos_token or ""), answer.weight, answer=True)]
        if not self.has_template:
            return [*pieces, Piece(answer.text + self.stop_text, answer.weight, answer=True)]
        before = "".join(piece.text for piece in pieces)
        turn = Turn("assistant", answer.parts, extra=answer.extra)
        after = self._render([*example.context, turn], example.tools, prompt=False)
        if not after.startswith(before):
            raise Unencodable(
                "the chat template changes earlier text when the answer is added, so the answer cannot be found in it; "
                "use a template that keeps prefixes"
            )
        return [*pieces, Piece(self._ended(after[len(before) :]), answer.weight, answer=True)]

    def answer_text(self, text: str, terminator: bool) -> str:
        """An alternative answer as it would be tokenised after a context."""
        return text + (self.stop_text if terminator else "")

    def _ended(self, text: str) -> str:
        """Cuts what a template writes after the stop token; adds the stop token where it writes none."""
        stop = self.stop_text
        found = text.rfind(stop) if stop else -1
        if found < 0:
            return text.rstrip("\n") + stop
        return text[: found + len(stop)]

    def _spans(self, example: Example, turns: Sequence[Turn], tools: Sequence[Any]) -> list[Piece]:
        """The rendered context, cut where weighted assistant turns begin and end."""
        whole = self._render(turns, tools, prompt=True)
        pieces: list[Piece] = []
        done = 0
        for index, turn in enumerate(turns):
            if turn.role != "assistant" or turn.weight == 0:
                continue
            start = self._render(turns[:index], tools, prompt=True)
            stop = self._render(turns[: index + 1], tools, prompt=False)
            if not (whole.startswith(start) and stop.startswith(start)):
                raise Unencodable(
                    f"the chat template does not keep turn {index + 1} as it was; train on the last answer only "
                    "(objective: {name: next_token, loss_on: last}, message weight 0)"
                )
            ended = self._ended(stop[len(start) :])
            if not whole[len(start) :].startswith(ended):
                raise Unencodable(f"the chat template renders turn {index + 1} differently in the whole conversation")
            pieces += [Piece(whole[done : len(start)]), Piece(ended, turn.weight)]
            done = len(start) + len(ended)
        return [piece for piece in (*pieces, Piece(whole[done:])) if piece.text]

    def _render(self, turns: Sequence[Turn], tools: Sequence[Any], *, prompt: bool) -> str:
        messages = [{"role": turn.role, "content": turn.text, **turn.extra} for turn in turns]
        try:
            rendered = self.tokenizer.apply_chat_template(
                messages, tools=list(tools) or None, tokenize=False, add_generation_prompt=prompt
            )
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            roles = ", ".join(turn.role for turn in turns)
            raise Unencodable(f"the model's chat template cannot render turns of roles {roles}: {error}") from None
        if not isinstance(rendered, str):
            raise TypeError("apply_chat_template did not return text")
        for turn in turns:
            if turn.text and turn.text.strip() and turn.text.strip() not in rendered and not turn.extra:
                raise Unencodable(
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
