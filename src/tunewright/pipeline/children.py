"""Runs inside a run: the same plan with one thing changed, judged on the same test rows.

`seeds: 3` trains twice more under the next seeds, `evaluate.learning_curve` on a quarter and on half of the rows. Each
child is a whole run below `children/`: it can be reported, compared and used to predict, and is gone on with when it
was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tunewright.core import plugins
from tunewright.core.blocks import dumped
from tunewright.core.config import Plan
from tunewright.core.files import digest
from tunewright.core.progress import Progress, under
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run
from tunewright.evaluate.compare import metric_name
from tunewright.evaluate.kept import RowRecords
from tunewright.evaluate.learning_curve import SHARES, Forecast, Luck, curve_blocks, curve_sentence, forecast
from tunewright.evaluate.spread import spread, spread_blocks, spread_sentences
from tunewright.evaluate.suite import VERSION
from tunewright.models.contracts import LoadedModel
from tunewright.pipeline.inside import FEWEST, Child, children_of
from tunewright.pipeline.machine import multiplied_in
from tunewright.pipeline.prepare import Prepared, prepare, reread_rows
from tunewright.pipeline.train import begin_folder, train_stage
from tunewright.pipeline.under_way import gone_on_from
from tunewright.runs.opening import open_tuned

Judge = Callable[[Prepared, Run, LoadedModel, Progress], None]
"""Asks the tuned model of a child, compares it with the base, and writes its verdict and report."""


def finish_children(prepared: Prepared, run: Run, judge: Judge, progress: Progress) -> list[str]:
    """Trains and judges what the plan asks for beside the run itself, and adds to its verdict what that shows.

    What is finished is left as it is, unless other questions are asked now (then it is judged again); what was
    interrupted goes on. So this may be called any number of times.

    Returns:
        Sentences that the verdict gained.
    """
    children = children_of(prepared.settings, prepared.rows_given)
    for number, child in enumerate(children, 1):
        told = under(progress, f"run {number + 1} of {len(children) + 1} ({child.name})")
        with gone_on_from(run):
            _finish(prepared, run, child, judge, told)
    return _seeds(prepared.settings, run) + _curve(prepared, run)


def pending(run: Run) -> bool:
    """Whether what the plan asks for beside a judged run is not all there yet."""
    verdict, settings = run.must_read("verdict.json"), Plan.load(run.plan_file).settings
    return (settings.seeds > 1 and "seeds" not in verdict) or (
        settings.evaluate.learning_curve and "learning_curve" not in verdict
    )


def questions_of(settings: PlanSettings) -> str:
    """A hash of what an evaluation measures, and beside what."""
    asked = settings.evaluate
    beside = [name for name in asked.baselines or () if name != "scratch"]  # which runs inside a run do without
    return digest([VERSION, asked.metrics, asked.primary, beside, asked.max_new_tokens, asked.generated_rows])


def _finish(prepared: Prepared, run: Run, child: Child, judge: Judge, progress: Progress) -> None:
    inside = run.child(child.name)
    # A child that an older version began may have measured a precision of its own.
    begun = inside.read("info.json") or run.must_read("info.json")
    plan = _plan(prepared.plan, child, multiplied_in(begun))
    if inside.read("verdict.json") is not None:
        if _judged_alike(inside, plan.settings) or not inside.model.is_dir():
            return
        (inside.folder / "verdict.json").unlink()  # if this is interrupted, it is not finished
    own = prepare(reread_rows(plan, progress), progress, opens=prepared.encode.opens)  # asked as the base was
    inside.folder.mkdir(parents=True, exist_ok=True)
    with inside.writing():
        if not inside.plan_file.is_file():
            begin_folder(own, inside, "tune", run.must_read("info.json")["threads"])
        tuned = (
            open_tuned(inside, own.dtype, own.model)
            if inside.model.is_dir()
            else train_stage(own, inside, progress, 0.0)  # the base was asked for the run itself
        )
        judge(own, inside, tuned, progress)


def _judged_alike(inside: Run, settings: PlanSettings) -> bool:
    """Whether a child was asked what is asked now; runs of an older version were asked what their plan says."""
    known = (inside.read("evaluations/comparison.json") or {}).get("questions")
    return (known or questions_of(Plan.load(inside.plan_file).settings)) == questions_of(settings)


def _plan(plan: Plan, child: Child, precision: str) -> Plan:
    """The plan with the child's change, in the run's own precision, and nothing further to run inside it."""
    baselines = tuple(name for name in plan.settings.evaluate.baselines or () if name != "scratch")
    changed = {
        "seeds": 1,
        "audit.canaries": 0,
        "evaluate.learning_curve": False,
        "evaluate.baselines": baselines,
        "train.precision": precision,
    } | dict(child.changed)
    return plan.changed(changed, child.why)


def _seeds(settings: PlanSettings, run: Run) -> list[str]:
    """The spread over seeds, into verdict.json and `evaluations/seeds.json`."""
    if settings.seeds == 1:
        return []
    verdict = run.must_read("verdict.json")
    runs = {settings.seed: verdict["metrics"]}
    for seed in range(settings.seed + 1, settings.seed + settings.seeds):
        child = run.child(f"seed-{seed}")
        runs[seed] = child.must_read("verdict.json")["metrics"] if _judged_alike(child, settings) else []
    found = spread(runs)
    blocks = dumped(spread_blocks(found))
    run.write("evaluations/seeds.json", {"figures": found, "blocks": blocks})  # first: the verdict says it is there
    sentences = [*spread_sentences(found), *_planted(settings, "the other seeds")]
    run.write("verdict.json", _said(verdict, sentences) | {"seeds": found})
    return sentences


def _planted(settings: PlanSettings, others: str) -> list[str]:
    """What sets the run apart from those inside it beside their one change."""
    if not settings.audit.canaries:
        return []
    return [
        f"The run itself also trained on {settings.audit.canaries} canaries of the audit, {others} on none: part of "
        "what lies between them is theirs."
    ]


def _said(verdict: dict[str, Any], sentences: list[str]) -> dict[str, Any]:
    """The verdict with sentences more, each once."""
    more = [sentence for sentence in sentences if sentence not in verdict["sentences"]]
    return verdict | {"sentences": [*verdict["sentences"], *more]}


def _curve(prepared: Prepared, run: Run) -> list[str]:
    """The learning curve of each primary metric, into verdict.json and `evaluations/learning_curve.json`."""
    settings, rows = prepared.settings, prepared.rows_given
    if not settings.evaluate.learning_curve:
        return []
    if rows < FEWEST:
        few = f"Whether more data would help was not measured: {rows} training rows are too few to leave some out."
        run.write("verdict.json", _said(run.must_read("verdict.json"), [few]) | {"learning_curve": None})
        return [few]
    counts = [math.ceil(share * rows) for share in SHARES]
    runs = [*(run.child(f"rows-{count}") for count in counts), run]
    said = [_forecast(settings, run, runs, [*counts, rows], name) for name in settings.evaluate.primary or ()]
    found = [one for one in said if isinstance(one, Forecast)]
    figures = [asdict(one) for one in found]
    blocks = dumped(curve_blocks(found))
    run.write("evaluations/learning_curve.json", {"figures": figures, "blocks": blocks})
    sentences = [curve_sentence(one) if isinstance(one, Forecast) else one for one in said]
    sentences += _planted(settings, "the smaller sets")
    run.write("verdict.json", _said(run.must_read("verdict.json"), sentences) | {"learning_curve": figures})
    return sentences


def _forecast(settings: PlanSettings, run: Run, runs: list[Run], counts: list[int], named: str) -> Forecast | str:
    """The forecast on one metric, or a sentence on why there is none."""
    metric = plugins.build("metrics", named)
    name = metric_name(metric)
    kept = [RowRecords.of_run(one, name) for one in runs]
    asked = [one is run or _judged_alike(one, settings) for one in runs]
    alike = [same and bool(k.ids) and k.ids == kept[-1].ids for same, k in zip(asked, kept, strict=True)]
    if without := [one.name for one, same in zip(runs, alike, strict=True) if not same]:
        return (
            f"Whether twice the data would help was not measured in {name}: {' and '.join(without)} has no figure of "
            "it on the same questions. A run without its model cannot be judged again; delete its folder below "
            "children/ to train it anew."
        )
    seeds = run.must_read("verdict.json").get("seeds", {}).get(name, {})
    return forecast(
        metric,
        name,
        counts,
        [one.records for one in kept],
        None if seeds.get("deviation") is None else Luck(seeds["deviation"], len(seeds["values"])),
        units=kept[-1].units,
        row_weights=kept[-1].weights,
        seed=settings.seed,
        resamples=settings.evaluate.resamples,
    )
