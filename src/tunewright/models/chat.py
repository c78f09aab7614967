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

from tunewright.core.records import Example, Turn, text_part
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
    opening: bool = False
    """True for what a template itself writes before that answer, such as an empty block of thoughts."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One rendering: these turns, and whether the head of the next answer follows."""

    turns: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...]
    prompt: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is written around the text of an answer."""

    stop: str
    opening: str = ""
    """A block that no generation prompt has, such as an empty block of thoughts."""
    before: str = ""
    """White space between that and the text."""
    after: str = ""
    """What stands between the text and the stop token."""
    trims_before: bool = False
    """Whether white space at the start of the text is taken off."""
    trims_after: bool = False
    """The same at its end."""


@dataclass(frozen=True, slots=True)
class Chat:
    """Renders examples with a tokenizer's template, or plainly when it has none."""

    tokenizer: Any
    around: tuple[str, str] | None = None
    """What stands before and after each answer in running text, which no template is asked for."""
    opens: bool = True
    """Whether a context ends with what the template opens every answer with."""

    @property
    def has_template(self) -> bool:
        """Whether rows are rendered by the tokenizer's own chat template."""
        return self.around is None and bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def stop_text(self) -> str:
        """What ends an assistant's turn: the template's end-of-turn token, else the end-of-sequence token.

        In running text it is what follows every answer.
        """
        return self.around[1] if self.around else self._frame.stop

    @property
    def opening(self) -> str:
        """What the template opens an answer with that has no thoughts; empty where it opens none."""
        return self._frame.opening

    def said(self, text: str, asked: Example) -> str:
        """What a model wrote, without its thoughts: all up to where they end, or everything where they do not.

        Where the wanted answer holds them too, they stay.
        """
        marks = self.opening.split()
        wanted = any(answer.text.lstrip().startswith(marks[0]) for answer in asked.answers) if marks else False
        if self.opens or not marks or wanted or not text.startswith(marks[0]):
            return text
        return text.partition(marks[-1])[2].strip()

    def thinks_on(self, text: str) -> bool:
        """Whether a model that is asked where it thinks has not come to its answer in what it wrote."""
        marks = self.opening.split()
        return not self.opens and bool(marks) and text.startswith(marks[0]) and marks[-1] not in text

    @property
    def _frame(self) -> _Frame:
        return _framed(self, str(getattr(self.tokenizer, "chat_template", None)))

    def context(self, example: Example) -> list[Piece]:
        """Everything before the text of the answer: the prompt, and what the template opens every answer with.

        Raises:
            Unencodable: As `prompt`.
        """
        opening = self._frame.opening if example.context and self.opens else ""
        return [*self.prompt(example), *([Piece(opening, opening=True)] if opening else [])]

    def prompt(self, example: Example) -> list[Piece]:
        """The turns, and the template's generation prompt.

        Raises:
            Unencodable: The template cannot render it, or what is trained cannot be found in it.
        """
        if not example.context:
            return []
        if self.around:
            return [piece for turn in example.context for piece in self._running(turn)]
        if not self.has_template:
            return self._lines(example)
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
        if self.around:
            return self.around[0] + text + (self.stop_text if terminator else "")
        frame = self._frame
        text = text.lstrip() if frame.trims_before else text
        text = text.rstrip() if frame.trims_after else text
        return frame.before + text + (frame.after + frame.stop if terminator else "")

    def _lines(self, example: Example) -> list[Piece]:
        """Where there is no template: a turn a line; turns that train end as answers end."""
        pieces, text = [], ""
        for turn in example.context:
            if turn.role == "assistant" and turn.weight != 0:
                pieces += [Piece(text), Piece(turn.text + self.stop_text, turn.weight)]
                text = _PLAIN_JOIN
            else:
                text += turn.text + _PLAIN_JOIN
        return [piece for piece in (*pieces, Piece(text)) if piece.text]

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
            return _unwritable(example) or [*self.prompt(example), *self._closed(example)]
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
        written, opening = _ended(after[len(before) :], self.stop_text), self._frame.opening
        if example.label and written != opening + self.answer_text(answer.text, terminator=True):
            return Unencodable(
                f"the chat template writes the label {answer.text!r} as {written!r} here, and otherwise where labels "
                "are compared; use a template that writes every answer alike"
            )
        if not (opening and written.startswith(opening)):
            return [*pieces, Piece(written, answer.weight, answer=True)]
        opened = Piece(opening, answer.weight, opening=True)
        return [*pieces, opened, Piece(written[len(opening) :], answer.weight, answer=True)]

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
            ended = _ended(stop[len(start) :], self.stop_text)
            if not whole.startswith(ended, len(start)):
                ended = ended.removeprefix(self._frame.opening)  # which some templates write in the last turn alone
            if not whole.startswith(ended, len(start)):
                raise Unencodable(
                    f"the chat template renders turn {index + 1} differently in the whole conversation; train on the "
                    "last answer only (message weight 0)"
                )
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
        tools = list(asked[0].tools) or None
        template = self.tokenizer.get_chat_template(None, tools)
        texts: list[str] = self.tokenizer.apply_chat_template(
            [[{"role": turn.role, "content": turn.text, **turn.extra} for turn in one.turns] for one in asked],
            chat_template=_dated(template),
            tools=tools,
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
    """The rendering, if every turn, tool and call stands in it."""
    for turn in asked.turns:
        said = turn.text.strip()
        if said and said not in rendered and not (turn.role == "tool" and turn.extra):
            return Unencodable(
                f"the model's chat template leaves out the turn of role '{turn.role}'"
                f"{' beside its tool calls' if turn.extra.get('tool_calls') else ''}; use a role it renders"
            )
    if not asked.tools and not any(turn.extra for turn in asked.turns):
        return rendered
    called = [call for turn in asked.turns for call in turn.extra.get("tool_calls", ())]
    absent = [name for name in map(_function, (*asked.tools, *called)) if name not in rendered]
    if absent:
        return Unencodable(
            f"the model's chat template does not write tools or their calls ({absent[0]} is left out); use a model "
            "whose template does, or write them in the text"
        )
    thought = "" if asked.prompt or not asked.turns else str(asked.turns[-1].extra.get("reasoning_content", ""))
    if thought.strip() not in rendered:
        return Unencodable(
            "the model's chat template leaves out reasoning_content of the answer; write it in the content, or leave "
            "it out"
        )
    return rendered


def _function(tool: Mapping[str, Any]) -> str:
    """The name of a tool, or of what is called."""
    inner = tool.get("function", tool)
    return str(inner.get("name", "")) if isinstance(inner, Mapping) else ""


def _unwritable(example: Example) -> Unencodable | None:
    """Why a row cannot be written without a chat template."""
    extras = (example.answer.extra, *(turn.extra for turn in example.context))
    if example.tools or any(extra.get(key) for extra in extras for key in ("tool_calls", "reasoning_content")):
        return Unencodable(
            "tools, tool calls or reasoning_content, which only a chat template could write; use a model that has one, "
            "and rows that ask something, or write them in the text"
        )
    return None


def _ended(text: str, stop: str) -> str:
    """Cuts what a template writes after the stop token; adds the stop token where it writes none."""
    found = text.rfind(stop) if stop else -1
    if found < 0:
        return text.rstrip("\n") + stop
    return text[: found + len(stop)]


@lru_cache(maxsize=64)
def _dated(template: str) -> str:
    """The template with one fixed date in place of today's: a run that goes on tomorrow must read the same text.

    The date is that which Llama 3's template takes where it cannot ask for today's.
    """
    if "strftime_now" not in template:
        return template
    replaced = "".join(f" | replace('{code}', '{said}')" for code, said in _DATE.items())
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro %}}\n{template}"


_DATE = {
    "%F": "2024-07-26", "%D": "07/26/24", "%x": "07/26/24", "%c": "Fri Jul 26 12:00:00 2024", "%T": "12:00:00",
    "%X": "12:00:00", "%R": "12:00", "%u": "5", "%w": "5", "%Z": "UTC", "%z": "+0000", "%-H": "12", "%-I": "12",
    "%-d": "26", "%d": "26", "%e": "26", "%-m": "7", "%m": "07", "%b": "Jul", "%h": "Jul", "%B": "July", "%Y": "2024",
    "%y": "24", "%A": "Friday", "%a": "Fri", "%H": "12", "%I": "12", "%M": "00", "%S": "00", "%p": "PM", "%j": "208",
}  # fmt: skip
_MARK, _LEFT, _RIGHT = "tunewright-answer", "  ", "   "
"""An answer, and white space around it, unlike on both sides so that the template's own is not taken for it."""


@lru_cache(maxsize=64)
def _framed(chat: Chat, template: str) -> _Frame:
    """Found by rendering an answer: what stands before, around and after its text under this template."""
    eos = str(chat.tokenizer.eos_token or "")
    if not chat.has_template:
        return _Frame(eos)
    asked, said = Turn("user", (text_part("a"),)), Turn("assistant", (text_part(f"{_LEFT}{_MARK}{_RIGHT}"),))
    try:
        (whole,) = chat._render([_Asked((asked, said), (), False)])
        (head,) = chat._render([_Asked((asked,), (), True)])
    except TEMPLATE_FAULTS:
        return _Frame(eos)
    before, tail = whole[: whole.rfind(_MARK)], whole[whole.rfind(_MARK) + len(_MARK) :]
    specials = [str(token.content) for token in chat.tokenizer.added_tokens_decoder.values() if token.special]
    stop = min((s for s in {*specials, eos} if s and s in tail), key=tail.find, default=eos)
    if not before.startswith(head):
        return _Frame(stop)
    lead, after = before[len(head) :], _ended(tail, stop).removesuffix(stop)
    trims = (not lead.endswith(_LEFT), not after.startswith(_RIGHT))
    lead, after = lead.removesuffix(_LEFT), after.removeprefix(_RIGHT)
    block = bool(lead.strip())
    return _Frame(stop, lead if block else "", "" if block else lead, after, *trims)
