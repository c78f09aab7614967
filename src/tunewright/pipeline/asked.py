"""What a plan's evaluation asks, counted before it is asked: base, tuned, probes, validation rows, baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tunewright.core import plugins
from tunewright.core.errors import UserError
from tunewright.core.records import Example
from tunewright.core.settings import LOGITS
from tunewright.data.formats import few
from tunewright.evaluate.baselines._labels import targets
from tunewright.evaluate.contracts import Need, Outcome
from tunewright.evaluate.kept import is_kept
from tunewright.evaluate.probes._base import Probe
from tunewright.evaluate.suite import Suite
from tunewright.models.contracts import LoadedModel
from tunewright.models.features import last_hidden
from tunewright.pipeline.prepare import Prepared
from tunewright.pipeline.probe import base_identity, planned_probes, probe_key, unseen_of
from tunewright.pipeline.work import Size, Work, countable, of_contexts, of_probe, of_suite
from tunewright.train.job import Job


def suite_of(prepared: Prepared) -> Suite:
    """The questions of a plan."""
    settings = prepared.settings.evaluate
    needs: set[Need] = {plugins.build("metrics", name).needs for name in settings.metrics or ()}
    return Suite(
        frozenset(needs),
        prepared.dataset.labels or (),
        prepared.encode,
        prepared.objective,
        settings.generated_rows,
        settings.max_new_tokens,
    )


def needs_test(prepared: Prepared) -> None:
    """Whether there is something to judge on.

    Raises:
        UserError: There are no test rows, or they could not tell whether anything was learned.
    """
    if problems := untested(prepared):
        raise UserError(problems)
    if not prepared.test:
        raise UserError(
            "There are no test rows, so nothing can be judged. Give some (data.splits, or a folder with a test file), "
            "or train alone: tunewright train"
        )


def untested(prepared: Prepared) -> list[str]:
    """Why test rows could not tell whether anything was learned; empty when they can, or when none were given."""
    facts, count = prepared.dataset.facts, len(prepared.test)
    dropped = (prepared.data["encoding"].get("overlong_dropped") or {}).get("test", 0)
    if dropped and not count:
        return [
            f"All {dropped} test rows are over train.max_length and were dropped (data.on_overlong: drop), so nothing "
            "would be tested. Raise train.max_length, or give shorter test rows."
        ]
    if not count:
        return []
    if facts.get("test_rows_of_unseen_labels", 0) < count:
        return _valueless(prepared)
    unseen = facts["labels_unseen_in_train"]
    trained = [label for label in facts["labels"] if label not in set(unseen)]
    return [
        f"None of the {count} test rows has a label that is trained on: the test has {few(unseen)}, training has "
        f"{few(trained)}. Give training rows of the tested labels, or test rows of the trained ones; where one label "
        "is written in two ways, write it in one."
    ]


def _answered_freely(prepared: Prepared) -> bool:
    return prepared.settings.evaluate.generated_rows > 0 and any(example.context for example in prepared.test)


def _valueless(prepared: Prepared) -> list[str]:
    """Metrics that are to decide and have no value on the test rows, whatever a model will answer."""
    labels = prepared.dataset.labels or ()
    alike = [Outcome(example, choices=np.zeros(len(labels))) for example in prepared.test]
    found = []
    for name in prepared.settings.evaluate.primary or ():
        metric = plugins.build("metrics", name)
        if metric.needs == "text" and not _answered_freely(prepared):
            found.append(
                f"evaluate.primary: {name} compares free answers, and none is asked for (evaluate.generated_rows is "
                f"{prepared.settings.evaluate.generated_rows}, and a test row must ask something). Ask for some, or "
                "choose another."
            )
        if metric.needs != "choices":
            continue
        if not labels:
            found.append(
                f"evaluate.primary: {name} compares the labels of a closed set, and these rows have none. Choose "
                "another (nll), or give rows with labels (columns `text` and `label`)."
            )
            continue
        rows = [(o.example.survey_weight, r) for o in alike if (r := metric.record(o, labels)) is not None]
        weights, records = np.array([w for w, _ in rows]), np.array([r for _, r in rows])
        if not rows:
            found.append(
                f"evaluate.primary: {name} is of none of these {len(alike)} test rows (those of moves and stays need "
                "careers). Take it out of evaluate.primary."
            )
        elif np.isnan(metric.summarise(records[weights > 0], weights[None, weights > 0])[0]):
            found.append(
                f"evaluate.primary: {name} has no value on these {len(rows)} test rows, whatever is answered: they "
                "may all have one label, all stay, or fall into one half. Give more test rows, or take it out of "
                "evaluate.primary."
            )
    return found


def identity_of(prepared: Prepared) -> tuple[Any, ...]:
    """What base answers depend on beside the questions."""
    return base_identity(prepared.model, prepared.dtype)


def without_texts(suite: Suite) -> Suite:
    """The same questions, none answered freely."""
    return replace(suite, needs=suite.needs - {"text"})


def only(suite: Suite, need: Need) -> Suite:
    """One kind of the questions; none where the plan does not ask it."""
    return replace(suite, needs=suite.needs & {need})


def work_of(prepared: Prepared, model: LoadedModel, suite: Suite, rows: Sequence[Example]) -> Work:
    """What a suite asks of a model on these rows; of a family that cannot be counted, one forward of each row."""
    if countable(model):
        return of_suite(model, suite, rows)
    few = [prepared.train[row].length for row in range(min(200, len(prepared.train)))]
    return Work(positions=len(rows) * sum(few) / max(1, len(few)))


def work(prepared: Prepared, job: Job, base: bool) -> dict[str, Work]:
    """By what for: what is asked of base, of tuned, by probes of both, of validation rows and by baselines.

    Args:
        prepared: What the plan was made into.
        job: Its training, with the model as it is trained.
        base: Whether the base is still to be asked; what it answered earlier is not asked again.
    """
    suite, model = suite_of(prepared), job.model
    read, free = work_of(prepared, model, without_texts(suite), prepared.test), only(suite, "text")
    ended = replace(free, max_new_tokens=min(suite.max_new_tokens, _answer_tokens(prepared)))
    probes = _probes(prepared, model)
    found = {"tuned": read + _answering(model, ended, prepared.test)}
    found["probes of tuned"] = sum((cost for _, cost in probes), Work())
    if base:
        identity = identity_of(prepared)
        kept = not prepared.settings.privacy.on and is_kept(f"{suite.key(prepared.test, *identity)}.jsonl")
        found["base"] = Work() if kept else read + _answering(model, free, prepared.test)
        fresh = [cost for probe, cost in probes if not is_kept(f"{probe_key(probe, identity)}.npz")]
        found["probes of base"] = sum(fresh, Work())
    if "choices" in suite.needs and suite.labels and prepared.valid and not prepared.settings.privacy.on:
        found["validation rows"] = work_of(prepared, model, only(suite, "choices"), prepared.dataset.valid)
    logits = [name for name in prepared.settings.evaluate.baselines or () if name in LOGITS]
    if logits and countable(model):
        found["baselines"] = _features(prepared, model).times(len(logits))
    return found


def scratch_operations(prepared: Prepared, size: Size, steps: Work) -> float:
    """The twin from random weights: as many steps, and every weight trains."""
    if "scratch" not in (prepared.settings.evaluate.baselines or ()):
        return 0.0
    whole = replace(size, trained=size.body)
    return whole.forward(steps) + whole.backward(steps)


def _answer_tokens(prepared: Prepared) -> int:
    """Most tokens of an answer among the first training rows: the tuned model stops where those did."""
    few = [prepared.train[row] for row in range(min(200, len(prepared.train)))]
    return max((len(row.targets) for row in few), default=1)


def _answering(model: LoadedModel, suite: Suite, rows: Sequence[Example]) -> Work:
    return of_suite(model, suite, rows) if countable(model) and suite.needs else Work()


def _probes(prepared: Prepared, model: LoadedModel) -> list[tuple[Probe, Work]]:
    """What each planned probe asks."""
    settings = prepared.settings
    planned = planned_probes(settings.evaluate.probes, model.family.capabilities, unseen_of(settings))
    return [(probe, of_probe(model, probe)) for probe in planned.values()] if countable(model) else []


def _features(prepared: Prepared, model: LoadedModel) -> Work:
    """Reading every row once, for the logit on what the model holds of it."""
    encoder: Any = model.family.encoder(model, prepared.encode)
    learned = targets(prepared.dataset.train)
    every = Work()
    for rows in (learned, prepared.dataset.valid, prepared.test):
        few = [encoder.context_ids(rows[number]) for number in range(min(192, len(rows)))]
        if few:
            every += of_contexts(model, few, last_hidden).times(len(rows) / len(few))
    return every
