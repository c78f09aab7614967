"""The evaluate stage: base and tuned answer the same unseen rows; probes; comparison, verdict, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tunewright.core import plugins
from tunewright.core.blocks import dumped
from tunewright.core.config import Plan
from tunewright.core.files import write_atomic
from tunewright.core.progress import Progress, silent
from tunewright.core.records import unit_of
from tunewright.core.settings import LOGITS, TRAINED_BASELINES, PlanSettings
from tunewright.core.store import Run
from tunewright.core.words import command
from tunewright.evaluate.blocks import outcome_blocks
from tunewright.evaluate.closed import chosen, stated_and_right, truth
from tunewright.evaluate.compare import Answered, How, compare_outcomes, metric_name
from tunewright.evaluate.contracts import Baseline, Comparison, Figure, Metric, Outcome
from tunewright.evaluate.gates import judge_gates
from tunewright.evaluate.kept import answers_key, labels_key, outcomes_by_content, records_as_lines, rows_key
from tunewright.evaluate.probes._base import Probe
from tunewright.evaluate.suite import Suite
from tunewright.evaluate.verdict import exit_code, holm, judge
from tunewright.models.contracts import LoadedModel
from tunewright.models.opening import open_model
from tunewright.pipeline import asked, mitigate
from tunewright.pipeline.advice import trained_requests
from tunewright.pipeline.children import finish_children, questions_of
from tunewright.pipeline.discretion import nameless, without_rows
from tunewright.pipeline.embedding import embedding_outcomes
from tunewright.pipeline.looks import closer_looks
from tunewright.pipeline.prepare import Prepared
from tunewright.pipeline.probe import (
    Asked,
    ask_probe,
    compare_probe,
    planned_probes,
    tuned_identity,
    unseen_note,
    unseen_of,
)
from tunewright.pipeline.reopen import reopen
from tunewright.pipeline.result import Result
from tunewright.pipeline.rows import row_blocks
from tunewright.pipeline.scratch import scratch_outcomes
from tunewright.pipeline.under_way import under_way
from tunewright.report import write as write_report
from tunewright.runs.made import ASKING, as_made
from tunewright.runs.opening import as_answered, delete_control, open_tuned


@dataclass(frozen=True, slots=True)
class Base:
    """What the base answered, from the cache or asked now."""

    outcomes: tuple[Outcome, ...]
    probes: dict[str, Asked]


def evaluate(folder: Path, overrides: Sequence[str] = (), progress: Progress = silent) -> Result:
    """Judges a run's model again, under its own plan with `overrides` on top."""
    run = Run.open(folder)
    with run.writing():
        delete_control(run)  # of an audit that was killed, whether or not this can go on
    prepared = reopen(run, overrides, progress)
    asked.needs_test(prepared)
    with run.writing():
        tuned = open_tuned(run, prepared.dtype, prepared.model)
        base_model = as_answered(run, open_model(prepared.model.origin, prepared.dtype))
        with under_way(run, "evaluate", set=list(overrides)):
            base = ask_base(replace(prepared, model=base_model), run, progress)
            evaluate_stage(prepared, run, base, tuned, progress, _asked_otherwise(prepared, run))
            return further_runs(prepared, run, base, progress)


def suite_of(prepared: Prepared) -> tuple[Suite, list[Any]]:
    """The questions of a plan, and the metrics they serve."""
    metrics = [plugins.build("metrics", name) for name in prepared.settings.evaluate.metrics or ()]
    return asked.suite_of(prepared), metrics


def ask_base(prepared: Prepared, run: Run, progress: Progress) -> Base:
    """The base model's answers; `prepared.model` must be the base, nothing attached."""
    suite, _ = suite_of(prepared)
    identity = asked.identity_of(prepared)
    if prepared.settings.privacy.on:  # nothing made of private rows outlives the run, and what does lies in its folder
        outcomes, kept = suite.ask(prepared.model, prepared.test, progress, "base"), list[str]()
    else:
        outcomes, path = outcomes_by_content(
            suite.key(prepared.test, *identity),
            prepared.test,
            lambda: suite.ask(prepared.model, prepared.test, progress, "base"),
        )
        kept = [str(path.resolve())]
    # What `delete` must remove beside the run, of every question that it was ever asked.
    run.write("evaluations/kept.json", list(dict.fromkeys([*(run.read("evaluations/kept.json") or ()), *kept])))
    answers = {name: ask_probe(probe, prepared.model, identity, progress) for name, probe in _planned(prepared).items()}
    return Base(tuple(outcomes), answers)


def _planned(prepared: Prepared) -> dict[str, Probe]:
    settings = prepared.settings
    return planned_probes(settings.evaluate.probes, prepared.model.family.capabilities, unseen_of(settings))


def how_of(settings: PlanSettings) -> How:
    """How a plan's outcomes are compared."""
    primary = tuple(metric_name(plugins.build("metrics", name)) for name in settings.evaluate.primary or ())
    return How(primary, settings.seed, settings.evaluate.resamples)


def evaluate_stage(
    prepared: Prepared,
    run: Run,
    base: Base,
    tuned: LoadedModel,
    progress: Progress,
    otherwise: Mapping[str, Any] = MappingProxyType({}),
) -> Result:
    """Asks the tuned model, compares, judges, reports.

    Args:
        prepared: The run's rows and settings.
        run: Where.
        base: What the base answered.
        tuned: As opened from disk.
        progress: Told what is going on.
        otherwise: Settings under which it is judged that are not those of its plan.
    """
    suite, metrics = suite_of(prepared)
    settings, labels = prepared.settings, prepared.dataset.labels or ()
    outcomes = suite.ask(tuned, prepared.test, progress, "tuned")
    baselines, trivial = _baselines(prepared, metrics, run, suite, tuned, progress)
    how = replace(how_of(settings), trivial=trivial)
    answered = Answered(base.outcomes, outcomes, baselines, metrics, labels)
    compared = compare_outcomes(answered, how)
    comparisons = compared.comparisons
    figures = _probe(prepared, run, base, tuned, progress)
    gates = judge_gates(settings.gates, comparisons, figures)
    verdict = judge(comparisons, gates)
    verdict["exit_code"] = exit_code(verdict, settings.gates.require)
    verdict["sentences"] = [*verdict["sentences"], *_baseline_sentences(comparisons), *_probe_sentences(run)]
    verdict["sentences"] += [*compared.unmeasured, *_reservations(settings, base, otherwise)]
    if otherwise:
        verdict["asked_otherwise"] = dict(otherwise)
    private = settings.privacy.on
    verdict["sentences"] += closer_looks(run, answered, how, private)
    blocks = outcome_blocks(answered, how)
    if private:
        blocks = without_rows(blocks)
    else:
        _keep_validation(prepared, run, suite, tuned, progress)
    for name, answers in (("base", base.outcomes), ("tuned", outcomes)):
        told = nameless(answers) if private else answers
        write_atomic(run.evaluations / f"{name}.jsonl", records_as_lines(told, metrics, labels))
    run.write(
        "evaluations/comparison.json",
        {
            **_what_was_asked(prepared),
            "metrics": [asdict(comparison) for comparison in holm(comparisons)],
            "blocks": dumped(blocks),
        },
    )
    shown = [] if private else row_blocks(prepared, run)
    run.write("rows.json", {"blocks": dumped(shown)})
    for earlier in ("seeds", "learning_curve"):  # of an earlier judgement; further runs write theirs anew
        (run.evaluations / f"{earlier}.json").unlink(missing_ok=True)
    run.write("verdict.json", verdict)
    write_report(run)
    return standing(run)


def _reservations(settings: PlanSettings, base: Base, otherwise: Mapping[str, Any]) -> list[str]:
    """What a reader of the verdict must know of how it was come by."""
    said = []
    if "retention" not in base.probes:
        why = "no probe is asked" if not settings.evaluate.probes else "such models cannot be asked about texts"
        said.append(f"What the model forgot was not measured: {why}.")
    said += mitigate.served_note(settings)
    if otherwise:
        keys = ", ".join(f"{key} {value}" for key, value in otherwise.items())
        said.append(f"Judged under other settings than it was trained with: {keys}.")
    return said


def _asked_otherwise(prepared: Prepared, run: Run) -> dict[str, Any]:
    """Dotted keys -> values that the run's own plan does not have: whoever reads a verdict must know of them."""
    planned = run.must_read("info.json").get("settings") or as_made(Plan.load(run.plan_file).settings)
    now, found = as_made(prepared.settings), dict[str, Any]()
    for section in ASKING:
        was = planned[section]
        found |= {f"{section}.{key}": value for key, value in now[section].items() if value != was.get(key, value)}
    return found


def _what_was_asked(prepared: Prepared) -> dict[str, str]:
    """By what `compare` knows the same test, and `finish_children` the same questions."""
    return {
        "test": rows_key(prepared.test),
        "answers": answers_key(prepared.test),
        "labels": labels_key(prepared.dataset.labels or ()),
        "questions": questions_of(prepared.settings),
    }


def standing(run: Run) -> Result:
    """What a judged run ends with, however long ago it was judged."""
    verdict, data = run.must_read("verdict.json"), run.must_read("data.json")
    lines = [*verdict["sentences"], f"Report: {run.folder / 'report.html'}"]
    asks = data["facts"]["format"] != "text"  # plain texts have no question that could be answered
    if asks and {"choices", "generate"} & set(run.must_read("info.json")["capabilities"]):
        lines.append(f"Use it: {command('predict', run.folder, 'rows.csv', '--out', 'predictions.csv')}")
    if (code := verdict.get("exit_code")) is None:  # judged by an older version
        code = exit_code(verdict, Plan.load(run.plan_file).settings.gates.require)
    return Result(code, tuple(lines), run.folder)


def further_runs(prepared: Prepared, run: Run, base: Base, progress: Progress) -> Result:
    """The runs that the plan asks for inside this one (seeds, learning curve), those that are not finished yet."""

    def judged(own: Prepared, inside: Run, tuned: LoadedModel, told: Progress) -> None:
        evaluate_stage(own, inside, base, tuned, told, _asked_otherwise(own, inside))

    if finish_children(prepared, run, judged, progress):
        write_report(run)
    return standing(run)


def _probe(prepared: Prepared, run: Run, base: Base, tuned: LoadedModel, progress: Progress) -> list[Figure]:
    figures: list[Figure] = []
    settings = prepared.settings
    identity = tuned_identity(run, prepared.dtype)
    for path in run.evaluations.glob("probe_*.json"):  # of an evaluation under another plan
        path.unlink()
    unseen = unseen_of(settings)
    for name, probe in _planned(prepared).items():
        if name not in base.probes:
            continue
        if name in unseen:
            run.note(unseen_note(probe, unseen[name]))
        answers = ask_probe(probe, tuned, identity, progress, run.evaluations / "kept")
        found, result = compare_probe(probe, base.probes[name], answers, settings.seed, settings.evaluate.resamples)
        figures += found
        if name == "safety" and found:
            for sentence in trained_requests(prepared):
                run.note(sentence)
        run.write(f"evaluations/probe_{name}.json", result)
    return figures


def _baseline_sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """What cheaper means reach on the same rows, and by how much the tuned model is above them."""
    return [
        f"Baselines on the same rows, {c.name}: "
        + ", ".join(f"{name} {c.baselines[name]:.3f} (tuned {low:+.3f} to {high:+.3f})" for name, (low, high) in found)
        + "."
        for c in comparisons
        if c.primary and (found := list(c.margins.items()))
    ]


def _probe_sentences(run: Run) -> list[str]:
    found = [run.read(f"evaluations/{path.name}") for path in sorted(run.evaluations.glob("probe_*.json"))]
    return [probe["sentence"] for probe in found if probe["sentence"]]


def _baselines(
    prepared: Prepared, metrics: Sequence[Metric], run: Run, suite: Suite, tuned: LoadedModel, progress: Progress
) -> tuple[dict[str, list[Outcome]], set[str]]:
    labels = prepared.dataset.labels or ()
    # Under privacy nothing is fitted to training rows without noise: then the best constant answer to the test rows.
    fitted = prepared.test if prepared.settings.privacy.on else prepared.dataset.train
    found: dict[str, list[Outcome]] = {}
    trivial: set[str] = set()
    chosen = prepared.settings.evaluate.baselines or ()
    for name in dict.fromkeys([*chosen, *_trivial(prepared, metrics)]):
        if name == "scratch":
            found[name] = scratch_outcomes(prepared, run, suite, progress)
            continue
        if name in LOGITS:
            reader = tuned if name == "tuned_logit" else open_model(prepared.model.origin, prepared.dtype)
            found[name] = embedding_outcomes(prepared, reader, progress, f"baseline {name}", run.note)
            continue
        progress(f"baseline {name}", 0, 1)
        baseline: Baseline = plugins.build("baselines", name)
        beside: dict[str, Any] = {}
        if baseline.validated:
            baseline = baseline.model_copy(update={"seed": prepared.settings.seed})
            beside = {"valid": prepared.dataset.valid}
        if not baseline.applies(fitted, prepared.test):
            continue
        outcomes = baseline.outcomes(fitted, prepared.test, labels, **beside)
        found[name] = [_aloud(outcome, labels) for outcome in outcomes]
        if baseline.trivial:
            trivial.add(name)
    return found, trivial


def _trivial(prepared: Prepared, metrics: Sequence[Metric]) -> list[str]:
    """What a closed-set metric must beat to be called better, whatever else was chosen: the recipe's, or the usual."""
    of_labels = (metric.closed_set or metric.needs in ("choices", "text") for metric in metrics)
    if not prepared.dataset.labels or not any(of_labels):
        return []
    named = prepared.recipe.defaults().get("evaluate.baselines") or ()
    of_recipe = [n for n in named if n not in TRAINED_BASELINES and plugins.find("baselines", n).trivial]
    return of_recipe or ["majority", "prior"]


def _aloud(outcome: Outcome, labels: Sequence[str]) -> Outcome:
    """The outcome of a baseline that also says the label which it holds most probable, and stops."""
    if outcome.choices is None or not labels:
        return outcome
    return replace(outcome, text=labels[int(np.argmax(outcome.choices))], stopped=True)


def _keep_validation(prepared: Prepared, run: Run, suite: Suite, tuned: LoadedModel, progress: Progress) -> None:
    """How sure and how right the tuned model is on validation rows: what `predict --min-accuracy` chooses from."""
    if "choices" not in suite.needs or not suite.labels or not prepared.valid:
        return
    # Rows of running text train as one row of several answers, and are asked as they were read.
    rows = prepared.dataset.valid if prepared.encode.around else [row.example for row in prepared.valid]
    only_choices = replace(suite, needs=frozenset({"choices"}))
    kept = []
    for outcome in only_choices.ask(tuned, rows, progress, "validation rows"):
        stated = stated_and_right(outcome, suite.labels)
        assert stated is not None  # asked above
        right = chosen(outcome) == truth(outcome, suite.labels)  # `predict` gives the first of equals
        owner, weight = unit_of(outcome.example), outcome.example.survey_weight
        kept.append({"probability": stated[0], "correct": right, "weight": weight, "unit": owner})
    run.write("evaluations/validation.json", {"labels": list(suite.labels), "rows": kept})
