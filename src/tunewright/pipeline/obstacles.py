"""What stands in the way of a plan, told before training: a sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from tunewright.core import plugins
from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.settings import FORMS, TRAINED_BASELINES, PlanSettings, TrainSettings
from tunewright.data.dataset import Dataset
from tunewright.evaluate.contracts import NEEDS
from tunewright.models.contracts import LoadedModel, Method, Objective
from tunewright.pipeline.probe import planned_probes, unseen_of


def beyond(model: LoadedModel, settings: PlanSettings, method: Method, objective: Objective) -> list[str]:
    """A sentence for each part of the plan that needs what models of this family cannot do."""
    planned = [
        ("objective", objective.plugin_name(), objective.needs),
        ("method", method.plugin_name(), method.needs),
    ]
    for name in settings.evaluate.metrics or ():
        need = NEEDS.get(plugins.build("metrics", name).needs)
        planned.append(("metric", name, frozenset({need} if need else ())))
    for name in settings.evaluate.baselines or ():
        if name not in TRAINED_BASELINES:
            planned.append(("baseline", name, plugins.find("baselines", name).needs))
    for word in settings.evaluate.probes:
        name = word["name"] if isinstance(word, dict) else plugins.read(word)["name"]
        if name not in FORMS:  # a form stands for the probes that can be asked
            planned.append(("probe", name, plugins.find("probes", name).needs))
    family, able = model.family.plugin_name(), model.family.capabilities
    return [
        f"{what.capitalize()} '{name}' needs {', '.join(sorted(needs - able))}, which models of family '{family}' "
        f"don't have. Choose another {what} or model."
        for what, name, needs in planned
        if needs - able
    ]


def unreadable(settings: PlanSettings, model: LoadedModel) -> list[str]:
    """Faults in the files of probes, which are asked last of all."""
    found = []
    for probe in planned_probes(settings.evaluate.probes, model.family.capabilities, unseen_of(settings)).values():
        with suppress(NotMeasured):
            try:
                probe.read_files()
            except UserError as error:
                found += error.problems
    return found


def counting(model: LoadedModel) -> list[str]:
    """A sentence where a model learns beside its weights: no checkpoint, adapter or second process would have that."""
    counting = [name for name, part in model.module.named_modules() if getattr(part, "track_running_stats", False)]
    if not counting:
        return []
    return [
        f"model: {counting[0]} of {model.origin.name} keeps running statistics of the rows it sees. They are no "
        "trained weights, so what goes on or is opened again would be another model. Allowed: norms without them "
        "(group or layer norms, or batch norms with track_running_stats=False)."
    ]


def shared_out(train: TrainSettings) -> list[str]:
    """What stands in the way of several processes."""
    rows = train.per_device_train_batch_size * train.gradient_accumulation_steps
    if 1 <= train.processes <= rows:
        return []
    return [f"train.processes: found {train.processes}, but a step has {rows} rows to share out. Allowed: 1 to {rows}."]


def learned_twice(dataset: Dataset, objective: Objective) -> list[str]:
    """A sentence where what is trained of a row would be validation of another."""
    if not dataset.facts.get("by_time") or not dataset.valid or objective.loss_on != "all":
        return []
    return [
        "objective.loss_on is 'all' and splits go by year: the lines of earlier years stand in the rows of later ones, "
        "so validation would be mostly what was trained on. Use 'answers', or split by person."
    ]


def unlabelled(settings: PlanSettings, labels: Sequence[str] | None) -> list[str]:
    """Baselines that answer by labels, where the rows have no closed set of them; told before training."""
    named = [name for name in settings.evaluate.baselines or () if name != "scratch"]
    if labels or not named:
        return []
    return [
        f"evaluate.baselines: {', '.join(named)} answer by the labels of training rows, and these rows have no closed "
        "set of labels. Allowed here: scratch, or none. Leave them out, or check the label column."
    ]
