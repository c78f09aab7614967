"""`probe`: asks one model, or the base and the tuned one of a run; and what every evaluation needs of probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from tunewright.core import plugins
from tunewright.core.blocks import Text, dumped
from tunewright.core.config import Plan, ProbeRequest
from tunewright.core.errors import NotMeasured, UserError, unknown
from tunewright.core.files import digest, file_digest, require_writable, write_json
from tunewright.core.progress import Progress, silent
from tunewright.core.settings import FORMS, PlanSettings
from tunewright.core.store import Run
from tunewright.core.words import name_of
from tunewright.evaluate.contracts import Figure
from tunewright.evaluate.kept import arrays_by_content
from tunewright.evaluate.probes._base import Answers, Probe
from tunewright.evaluate.suite import VERSION
from tunewright.models.contracts import LoadedModel
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model
from tunewright.models.precision import resolve as resolve_dtype
from tunewright.pipeline import mitigate
from tunewright.pipeline.machine import fix_threads, surroundings
from tunewright.pipeline.result import Result
from tunewright.runs.opening import as_answered, open_tuned, require_same_model

Asked = Answers | NotMeasured
"""A model's answers, or why there are none."""
SEED, RESAMPLES = 0, 2000
"""Of the intervals under the verb."""


def probe(question: ProbeRequest, progress: Progress = silent) -> Result:
    """Writes what a probe finds in a model; of a run, what it finds in base and tuned, and what changed."""
    if (question.model is None) == (question.run is None):
        raise UserError("probe: give either --model M or --run RUN.")
    run = Run.open(question.run) if question.run else None
    settings = Plan.load(run.plan_file).settings if run else None
    apart = unseen_of(settings).get(question.name) if settings else None
    asked = _built(question, apart)
    require_writable(question.out)
    fix_threads(run.must_read("info.json")["threads"] if run else None)
    dtype = resolve_dtype(question.precision)
    name = settings.model if settings else str(question.model)
    base = open_model(resolve_model(name), dtype)
    if run:
        require_same_model(run, base.origin, name)
        base = as_answered(run, base)
    if asked.needs - base.family.capabilities:
        lacks = ", ".join(sorted(asked.needs - base.family.capabilities))
        raise UserError(f"Probe '{question.name}' needs {lacks}, which {name} doesn't have.")
    identity = base_identity(base, dtype)
    first = _answers(ask_probe(asked, base, identity, progress))
    written: dict[str, Any] = {
        "probe": {"name": question.name, "version": asked.version, "settings": _settings(asked)},
        "model": str(run.folder) if run else name,
        "precision": str(dtype).removeprefix("torch."),
    }
    if run is None:
        written |= asked.describe(first, SEED, RESAMPLES)
        lines = [*written.get("sentences", ()), f"{question.name}: written to {question.out}."]
    else:
        tuned = open_tuned(run, dtype, base)
        second = _answers(ask_probe(asked, tuned, tuned_identity(run, dtype), progress, run.evaluations / "kept"))
        result = asked.compare(first, second, SEED, RESAMPLES)
        written |= asked.describe(second, SEED, RESAMPLES)
        written["base"] = asked.describe(first, SEED, RESAMPLES)
        written["change"] = [asdict(figure) for figure in result.figures]
        written["details"] = dict(result.details)
        lines = [result.sentence, f"{question.name}: base, tuned and what changed are in {question.out}."]
        lines += [
            *(mitigate.served_note(settings) if settings else ()),
            *([] if apart is None else [unseen_note(asked, apart)]),
        ]
    write_json(question.out, written)
    return Result(0, tuple(lines))


def base_identity(model: LoadedModel, dtype: torch.dtype) -> tuple[Any, ...]:
    """What answers of an untuned model depend on beside the questions."""
    origin, family = model.origin, model.family.plugin_name()
    laid = (model.opens, model.packs)
    return origin.digest, origin.reading, family, str(dtype), torch.get_num_threads(), *laid, *_libraries()


def _libraries() -> tuple[str, ...]:
    """Versions of what computes answers: of another one they may be others."""
    return tuple(f"{name} {version}" for name, version in surroundings()["versions"].items())


def tuned_identity(run: Run, dtype: torch.dtype) -> tuple[Any, ...]:
    """The same of a run's tuned model."""
    return run_digest(run), str(dtype), torch.get_num_threads(), *_libraries()


@dataclass(frozen=True, slots=True)
class Apart:
    """How a probe leaves out what training saw."""

    fields: Mapping[str, Any]
    """Settings of the probe."""
    all_of_it: bool = True
    """False where a part of the plan trains on whatever the probe may ask."""


Unseen = Mapping[str, Apart]
"""By a probe's name, where training saw anything of what it asks."""


def unseen_of(settings: PlanSettings) -> dict[str, Apart]:
    """What the plan's objective and mitigations want of probes, so that nothing is judged by what it trained on."""
    mitigations = (plugins.build("mitigations", word) for word in settings.train.mitigations)
    found: dict[str, Apart] = {}
    for one in (plugins.build("objectives", settings.objective), *mitigations):
        for name, fields in one.unseen.items():
            before = found.get(name, Apart({}))
            found[name] = Apart({**before.fields, **fields}, before.all_of_it and bool(fields))
    return found


def unseen_note(probe: Probe, apart: Apart) -> str:
    """Whether a probe asks what training saw: only its settings can say so."""
    files = probe.replaces_ours
    if files and all(getattr(probe, name) is not None for name in files):
        return f"The probe {probe.plugin_name()} asks what stands in files; whether training saw it is not known."
    if not apart.all_of_it:
        return (
            f"The probe {probe.plugin_name()} may ask what training saw: a mitigation of this plan leaves out nothing."
        )
    kept = all(getattr(probe, key) == value for key, value in apart.fields.items())
    does, how = ("leaves out", "") if kept else ("also asks", "not ")
    words = ", ".join(f"{key}: {value}" for key, value in apart.fields.items())
    return f"The probe {probe.plugin_name()} {does} what training saw ({how}{words})."


def planned_probes(
    words: Sequence[str | dict[str, Any]], capabilities: frozenset[str], unseen: Unseen = MappingProxyType({})
) -> dict[str, Probe]:
    """The probes of `evaluate.probes` by name; a form stands for all that have it and that the family can answer.

    What was forgotten is asked whatever else is; an empty list asks nothing. All are asked as `unseen` wants them, but
    for settings that say otherwise.
    """
    found: dict[str, Probe] = {"retention": plugins.build("probes", "retention")} if words else {}
    for word in words:
        if isinstance(word, str) and word in FORMS:
            for kind in plugins.everything("probes"):
                fields = kind.forms.get(word)
                if fields is not None and kind.needs <= capabilities:
                    apart = unseen.get(kind.plugin_name(), Apart({}))
                    found[kind.plugin_name()] = kind(**{**fields, **apart.fields})
        else:
            named: Any = plugins.build("probes", word)  # a word may bear settings: `dialect(count=24)`
            own = {field: getattr(named, field) for field in named.model_fields_set}
            left_out = _left_out(type(named), own, unseen.get(named.plugin_name()))
            built: Probe = type(named)(**{**left_out, **own})
            found[built.plugin_name()] = built
    return {name: one for name, one in found.items() if one.needs <= capabilities}


def _left_out(kind: Any, own: Mapping[str, Any], apart: Apart | None) -> Mapping[str, Any]:
    """The settings that leave out what training saw; none where a file stands in place of what they choose from."""
    replaced = any(own.get(name) is not None for name in kind.replaces_ours)
    return {} if apart is None or replaced else apart.fields


def ask_probe(
    probe: Probe, model: LoadedModel, identity: Sequence[Any], progress: Progress, folder: Path | None = None
) -> Asked:
    """A model's answers, kept under its identity in the cache or in `folder`; or why it has none."""
    try:
        return arrays_by_content(probe_key(probe, identity), partial(probe.ask, model, progress), folder)[0]
    except NotMeasured as reason:
        return reason


def probe_key(probe: Probe, identity: Sequence[Any]) -> str:
    """Under which a model's answers are kept."""
    return digest("probe", VERSION, probe.plugin_name(), repr(probe), probe.version, *identity)


def compare_probe(
    probe: Probe, base: Asked, tuned: Asked, seed: int, resamples: int
) -> tuple[tuple[Figure, ...], dict[str, Any]]:
    """The figures, and what `evaluations/probe_<name>.json` holds; of what could not be measured, why."""
    try:
        result = probe.compare(_answers(base), _answers(tuned), seed, resamples)
    except NotMeasured as reason:
        sentence = f"{probe.plugin_name()}: not measured. {reason}"
        title = f"{name_of(probe.plugin_name())}: not measured"
        said = Text(title=title, section=probe.section, tone="unsure", paragraphs=[str(reason)])
        blocks = [said.model_dump(mode="json")]
        return (), {"figures": [], "blocks": blocks, "sentence": sentence, "not_measured": str(reason)}
    return result.figures, {
        "figures": [asdict(figure) for figure in result.figures],
        "blocks": dumped(result.blocks),
        "sentence": result.sentence,
        **({"details": dict(result.details)} if result.details else {}),
    }


def run_digest(run: Run) -> str:
    """A hash of the tuned model's files."""
    return file_digest(sorted(path for path in run.model.rglob("*") if path.is_file()))


def _answers(asked: Asked) -> Answers:
    if isinstance(asked, NotMeasured):
        raise asked
    return asked


def _settings(probe: Probe) -> dict[str, Any]:
    shown: dict[str, Any] = probe.model_dump(mode="json")
    return shown


def _built(question: ProbeRequest, apart: Apart | None) -> Probe:
    """The probe in its form with the settings that were typed, asking what training did not see unless they say so.

    Raises:
        UserError: Unknown probe, form or setting, or a value that is not allowed.
    """
    kind = plugins.find("probes", question.name)
    if question.form not in FORMS:
        raise unknown("form", question.form, FORMS)
    fields: dict[str, Any] = {**kind.forms.get(question.form, {})}
    fields |= _left_out(kind, question.fields, apart)
    for name, values in question.fields.items():
        known = kind.model_fields.get(name)
        several = known is not None and "tuple" in str(known.annotation)
        if len(values) > 1 and not several:
            raise UserError(f"--{name.replace('_', '-')}: given {len(values)} times; give it once.")
        fields[name] = list(values) if several else values[0]
    built: Probe = plugins.build("probes", {"name": question.name, **fields})
    return built
