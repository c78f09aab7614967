"""What the user came for: rows in, the same rows out with prediction, probability and abstention."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from tunewright.core import plugins
from tunewright.core.config import Plan
from tunewright.core.errors import UserError, nearest
from tunewright.core.plan_text import read_map
from tunewright.core.progress import Progress, silent
from tunewright.core.records import Example
from tunewright.core.settings import DataSettings
from tunewright.core.store import Run
from tunewright.core.words import command
from tunewright.data.encoder import Unencodable
from tunewright.data.formats import counted
from tunewright.data.named_columns import CARRIED
from tunewright.data.readers import Bad
from tunewright.data.reading import open_rows
from tunewright.evaluate.bootstrap import wilson
from tunewright.evaluate.closed import probabilities, usable
from tunewright.evaluate.history import previous
from tunewright.models.contracts import EncodeSettings, LoadedModel
from tunewright.models.precision import resolve as resolve_dtype
from tunewright.pipeline.machine import fix_threads
from tunewright.pipeline.predicted import ADDED, Given, Output, Standing, Tally
from tunewright.pipeline.prepare import encode_settings
from tunewright.pipeline.probe import run_digest
from tunewright.pipeline.result import Result
from tunewright.runs.opening import open_tuned

_RANKED_A_TIME, _WRITTEN_A_TIME = 32, 128
"""Rows that are answered and then written to the file; of free answers more, since one that ends makes place for the
next, and the last ones of a group leave places empty."""
_NO_PAST = "no record before it to foresee it from"
EVERY = "probabilities"
"""Column with the probability of each label, as JSON, where it is asked for."""
_PLANNED = ("train.max_length", "data.options")
"""Keys of the plan that sentences about rows advise to change; a finished run keeps its own."""
Asked = tuple[dict[str, Any], Example | Bad]
"""A row's columns, and what is asked of the model, or why nothing can be."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """A run's model, ready to answer rows."""

    model: LoadedModel
    labels: tuple[str, ...]
    encode: EncodeSettings
    max_new_tokens: int
    threshold: float
    """Abstains below this probability."""
    every: bool = False
    """Whether each label's probability is told."""

    def answer(self, examples: Sequence[Example]) -> Iterator[dict[str, Any]]:
        """For each example the added columns."""
        family = self.model.family
        if not self.labels:
            for answer in family.generate(self.model, examples, self.max_new_tokens, self.encode):
                note = "" if answer.stopped and not answer.within else "unfinished"
                yield {"prediction": answer.text, "probability": None, "abstain": False, "prediction_note": note}
            return
        every = family.choices(self.model, examples, [self.labels] * len(examples), True, self.encode)
        for example, scores in zip(examples, every, strict=True):
            if not usable(scores):
                raise Unencodable("the model gives no finite probabilities; its weights may be damaged, or overflow")
            shares = probabilities(scores)
            best, note = int(shares.argmax()), _NO_PAST if example.running and previous(example) is None else ""
            sure = float(shares[best])
            added = {"prediction": self.labels[best], "probability": round(sure, 6), "abstain": sure < self.threshold}
            if self.every:
                added[EVERY] = {label: round(float(share), 6) for label, share in zip(self.labels, shares, strict=True)}
            yield {**added, "prediction_note": note}

    def cut(self, examples: Sequence[Example]) -> int:
        """How many of the examples have a context that is cut to be answered."""
        fitted: Any = self.model.family.encoder(self.model, self.encode)
        whole: Any = self.model.family.encoder(self.model, replace(self.encode, on_overlong="error"))
        if not hasattr(fitted, "context_ids"):  # pictures have no length
            return 0
        return sum(len(fitted.context_ids(one)) < len(whole.context_ids(one)) for one in examples)


def predict(
    folder: Path,
    rows: Path,
    out: Path,
    min_accuracy: float | None = None,
    maps: Sequence[str] = (),
    every: bool = False,
    progress: Progress = silent,
) -> Result:
    """Answers every row of a file, streaming; started again with the same files it goes on where it stopped.

    Args:
        folder: The run.
        rows: The file of rows.
        out: Where the same rows are written with what is answered.
        min_accuracy: Abstains where so many right answers cannot be expected.
        maps: Which column is what, where it is not the run's.
        every: Adds a column with the probability of each label.
        progress: Told how far it is.

    Raises:
        UserError: The run answers no rows, the file or the output is of no use, or not one row could be answered.
    """
    run = Run.open(folder)
    plan = Plan.load(run.plan_file)
    threshold, sentence = threshold_for(run, min_accuracy)
    given = Given.read(rows)
    data = _data(run, plan, given, maps)
    asked, standing = _asked(run, given, data), Standing(given)
    base = run.must_read("info.json")["model"]["digest"]
    identity = {"run": str(run.folder.resolve()), "threshold": threshold, "map": data.map}
    identity |= {"model": [base, run_digest(run)]}  # another one may lie in the same folder by now
    if every:
        _require_labels(run)
        identity["every"] = True
    with Output(out, given, identity, (*ADDED, EVERY) if every else ADDED) as output:
        predictor = replace(_open(run, plan, threshold), every=every)
        for _ in islice(asked, output.tally.done):
            pass
        while batch := list(islice(asked, _RANKED_A_TIME if predictor.labels else _WRITTEN_A_TIME)):
            answers = _answers(predictor, [one for _, one in batch])
            answered = [
                one
                for (_, one), answer in zip(batch, answers, strict=True)
                if isinstance(one, Example) and not isinstance(answer, str)
            ]
            shown = [standing.row(one) if isinstance(one, Bad) and not row else row for row, one in batch]
            output.write(shown, answers, predictor.cut(answered))
            progress("predicting", output.tally.done, given.count)
        lines = _told(run, out, output.tally, predictor.encode.max_length)
        if not output.tally.answered:
            raise UserError(lines)
        output.finish()
    return Result(0, tuple(line for line in (lines[0], sentence, *lines[1:]) if line), folder)


def _told(run: Run, out: Path, tally: Tally, max_length: int) -> list[str]:
    """How many rows were answered, how many cut, and why the others were not."""
    left = tally.done - tally.answered
    if not tally.answered:
        first = f"None of the {counted(tally.done, 'row')} could be answered, and {out} was not written:"
    elif left:
        first = f"{counted(tally.answered, 'row')} answered in {out}, {left} not: column prediction_note says why."
    else:
        first = f"{counted(tally.answered, 'row')} answered in {out}."
    lines = [first]
    if tally.cut:
        lines.append(
            f"{counted(tally.cut, 'row')} did not fit train.max_length ({max_length} tokens, the answer included) and "
            "had the context cut."
        )
    lines += tally.reasons
    if left > len(tally.reasons):
        lines.append(f"... and {counted(left - len(tally.reasons), 'more row')}.")
    return _with_what_is_fixed(run, lines, tally.reasons)


def _with_what_is_fixed(run: Run, lines: list[str], reasons: Sequence[str]) -> list[str]:
    """The lines, and a sentence more when a reason advises what `predict` cannot do."""
    if not any(key in reason for key in _PLANNED for reason in reasons):
        return lines
    return [
        *lines,
        f"Keys such as {' and '.join(_PLANNED)} are those of the run: change the rows, or tune another run "
        f"(`{command('tune', '--plan', run.plan_file, '--set', 'KEY=VALUE')}`).",
    ]


def _data(run: Run, plan: Plan, given: Given, maps: Sequence[str]) -> DataSettings:
    """How the rows are read: as those of the run, under the column names that this file has.

    Raises:
        UserError: The run learned plain text, or `--map` names a column that is not there.
    """
    learnt = run.must_read("data.json")["facts"]["format"]
    if learnt == "text":
        scored = command("score", "--run", run.folder, "--rows", "FILE", "--json", "OUT")
        raise UserError(
            f"{run.folder} learned plain text, which asks nothing, so predict has nothing to answer. How probable it "
            f"finds continuations is said by `{scored}`; to have "
            f"text written, open {run.model} with transformers. For answers, tune on rows that have a question."
        )
    kind, faults = plugins.find("formats", learnt), list[str]()
    fields = {*kind.columns, *kind.optional, *CARRIED}  # other mapped names are keys inside messages
    typed = {key.rpartition(".")[2]: str(column) for key, column in read_map(maps, faults)}
    faults += [
        f"--map {ours}={theirs}: {given.path} has no column '{theirs}'.{nearest(theirs, given.columns)} "
        f"Found: {', '.join(given.columns)}. Correct the name."
        for ours, theirs in typed.items()
        if ours in fields and theirs not in given.columns
    ]
    if faults:
        raise UserError(faults)
    planned = {o: t for o, t in plan.settings.data.map.items() if o not in fields or t in given.columns}
    return plan.settings.data.model_copy(update={"format": learnt, "map": {**planned, **typed}})


def _asked(run: Run, given: Given, data: DataSettings) -> Iterator[Asked]:
    """The rows in order; the first is read at once, so that wrong columns are told before a model is opened.

    Raises:
        UserError: Columns that the run's format needs are missing.
    """
    rows = open_rows(given.path, data)
    try:
        first = next(rows, None)
        if first is None:
            raise UserError(f"{given.path} holds nothing that could be answered.")
        return chain([first], rows)
    except UserError as error:
        raise UserError(_with_what_is_fixed(run, error.problems, error.problems)) from None


def threshold_for(run: Run, min_accuracy: float | None) -> tuple[float, str]:
    """The smallest probability at which validation rows reach the accuracy (Wilson 95 % lower bound).

    Raises:
        UserError: The accuracy is no share, the run has no validation rows, or none reaches it.
    """
    if min_accuracy is None:
        return 0.0, ""
    if not 0 < min_accuracy < 1:
        raise UserError(f"--min-accuracy: found {min_accuracy}; a share between 0 and 1 is expected, as 0.9.")
    kept = run.read("evaluations/validation.json")
    if not kept and run.read("privacy.json") is not None:
        raise UserError(
            "--min-accuracy: how right the model is on validation rows is not kept of a private run, as the rows are "
            "covered by its promise. Leave it out."
        )
    if not kept:
        raise UserError(
            "--min-accuracy needs validation rows answered by the tuned model, and this run has none. "
            f"Run `{command('evaluate', run.folder)}` (on a closed label set with a validation split)."
        )
    rows = sorted(
        ((r["probability"], r["correct"], r.get("weight", 1.0), r.get("unit", n)) for n, r in enumerate(kept["rows"])),
        key=itemgetter(0), reverse=True,
    )  # fmt: skip
    found: float | None = None
    right = mass = squares = 0.0
    of_unit: dict[Any, float] = defaultdict(float)
    for number, (probability, correct, weight, unit) in enumerate(rows, 1):
        squares += (of_unit[unit] + weight) ** 2 - of_unit[unit] ** 2
        right, mass, of_unit[unit] = right + correct * weight, mass + weight, of_unit[unit] + weight
        tied = number < len(rows) and rows[number][0] == probability
        effective = mass * mass / squares if squares else 0.0  # units of unequal weights tell less (Kish 1965)
        if not tied and mass and wilson(right / mass * effective, effective)[0] >= min_accuracy:
            found = probability
    if found is None:
        raise UserError(
            f"No threshold reaches accuracy {min_accuracy} on the {len(rows)} validation rows (lower bound of the 95 % "
            "interval). Ask for less, or tune with more validation rows."
        )
    covered = sum(weight for probability, _, weight, _ in rows if probability >= found) / mass
    return found, (
        f"Abstains below probability {found:.3f}: there, on validation rows, at least {100 * min_accuracy:g} % are "
        f"right (95 % lower bound), and {covered:.0%} of rows are answered."
    )


def _open(run: Run, plan: Plan, threshold: float) -> Predictor:
    found = run.must_read("info.json")
    fix_threads(found["threads"])
    objective = plugins.build("objectives", plan.settings.objective)
    model = open_tuned(run, resolve_dtype(found["precision"]))
    labels = _labels(run)
    if ("choices" if labels else "generate") not in model.family.capabilities:
        raise UserError(f"Models such as {run.folder} cannot answer rows. `tunewright evaluate` measures them.")
    asked = encode_settings(plan.settings, objective, labels)
    encode = replace(asked, on_overlong="truncate-context", opens=found.get("opens", True))
    return Predictor(model, labels, encode, plan.settings.evaluate.max_new_tokens, threshold)


def _labels(run: Run) -> tuple[str, ...]:
    return tuple((run.read("data.json") or {}).get("facts", {}).get("labels") or ())


def _require_labels(run: Run) -> None:
    """Refuses to tell the probability of each label where there are none."""
    if not _labels(run):
        raise UserError(
            f"--probabilities: the answers of {run.folder} are free, so there is no list of them to tell the "
            "probability of each. Leave it out; `tunewright score` weighs answers that you give."
        )


def _answers(predictor: Predictor, asked: Sequence[Example | Bad]) -> list[dict[str, Any] | str]:
    """Answers in order; for rows that are none, or cannot be encoded, why."""
    good = [(index, one) for index, one in enumerate(asked) if isinstance(one, Example)]
    answers: list[dict[str, Any] | str] = [str(one) if isinstance(one, Bad) else "" for one in asked]
    for (index, _), answer in zip(good, _each_answer(predictor, [one for _, one in good]), strict=True):
        answers[index] = answer
    return answers


def _each_answer(predictor: Predictor, rows: Sequence[Example]) -> list[dict[str, Any] | str]:
    """Answers, or why a row cannot have one; such a row is found by halves, so that it costs the others little."""
    try:
        return list(predictor.answer(rows)) if rows else []
    except Unencodable as error:
        if len(rows) == 1:
            return [f"{rows[0].source}: {error}"]
    half = len(rows) // 2
    return [*_each_answer(predictor, rows[:half]), *_each_answer(predictor, rows[half:])]
