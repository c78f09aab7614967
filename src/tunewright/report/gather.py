"""Reads what the stages left in a run folder and puts it in reading order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from tunewright.core.blocks import Bars, Block, Text, blocks
from tunewright.core.errors import UserError
from tunewright.core.files import lines_of
from tunewright.core.store import Run, each_event
from tunewright.core.words import decimals, duration, name_of
from tunewright.report.advice import limit_blocks, use_blocks
from tunewright.report.contracts import Report, sections
from tunewright.report.facts import fact_blocks, figures_table, forecast_blocks, settings_blocks
from tunewright.report.privacy import privacy_blocks
from tunewright.report.training import training_blocks
from tunewright.report.verdict import GATES, gate_blocks, gate_name, headline, result_blocks

_UNREADABLE = (UserError, yaml.YAMLError, TypeError, AttributeError, ValueError, ArithmeticError, LookupError)
"""What a file that is not as expected can raise; broken JSON and broken UTF-8 are a ValueError."""
_LOOKS = ("slices", "error_slices", "seeds", "learning_curve")
"""Files of `evaluations/` that hold blocks beside the comparison and the probes."""
Value = TypeVar("Value")
Json = dict[str, Any]


class _Files:
    """The run's files, read once; what cannot be understood is told in the report instead of ending it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.faults: list[str] = []
        self.verdict = self.read("verdict.json")
        self.comparison = self.read("evaluations/comparison.json") or {}
        self.probes = {
            path.stem.removeprefix("probe_"): self.read(f"evaluations/{path.name}") or {}
            for path in sorted(run.evaluations.glob("probe_*.json"))
        }
        self.audit = self.read("evaluations/audit.json") or {}
        self.looks = [self.read(f"evaluations/{name}.json") or {} for name in _LOOKS]
        self.data = self.read("data.json") or {}
        self.forecast = self.read("forecast.json") or {}
        self.info = self.read("info.json") or {}
        self.rows = self.read("rows.json") or {}
        self.mitigations = self.read("mitigations.json") or {}
        self.plan: Json = self.attempt("plan.yaml", self._read_plan, {})
        self.events: list[Json] = self.attempt("events.jsonl", self._read_events, [])
        self.notes: list[str] = self.attempt("notes.txt", self._read_notes, [])

    def read(self, name: str) -> Json | None:
        """A JSON file that holds an object; None when absent or broken."""
        found = self.attempt(name, lambda: self.run.read(name), None)
        if found is not None and not isinstance(found, dict):
            self.faults.append(f"{name}: found {type(found).__name__}, a JSON object is expected.")
            return None
        return found

    def attempt(self, name: str, make: Callable[[], Value], otherwise: Value) -> Value:
        """What `make` gives, or `otherwise` with a sentence among the faults."""
        try:
            return make()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            self.faults.append(f"{name}: {where}: {first['msg']}.")
        except KeyError as error:
            self.faults.append(f"{name}: the key {error} is missing.")
        except _UNREADABLE as error:
            self.faults.append(f"{name}: {(str(error) or type(error).__name__).splitlines()[0]}.")
        return otherwise

    def metrics(self) -> list[Json]:
        """The verdict's metrics, with what the comparison knows beside (margins to the baselines)."""
        compared: list[Json] = self.comparison.get("metrics") or []
        judged: list[Json] = (self.verdict or {}).get("metrics") or []
        beside = {metric["name"]: metric for metric in compared}
        return [{**beside.get(metric["name"], {}), **metric} for metric in judged] or compared

    def _read_events(self) -> list[Json]:
        """Without each step's rows, which no curve shows and which outweigh the rest."""
        return [{name: event[name] for name in event if name != "rows"} for event in each_event(self.run)]

    def _read_notes(self) -> list[str]:
        path = self.run.folder / "notes.txt"
        return lines_of(path.read_text(encoding="utf-8")) if path.is_file() else []

    def _read_plan(self) -> Json:
        if not self.run.plan_file.is_file():
            return {}
        return dict(yaml.safe_load(self.run.plan_file.read_text(encoding="utf-8")) or {})


def gather(run: Run) -> Report:
    """All that is known of a run, finished or not.

    Args:
        run: A run folder; any file may be missing.
    """
    files = _Files(run)
    unread = Text(title="The verdict could not be read", tone="bad", paragraphs=["What was found is told below."])
    top = files.attempt("verdict.json", lambda: _headline(files), unread)
    found: list[Block] = []
    for name, make in _CHAPTERS.items():
        found += files.attempt(name, lambda make=make: make(files), [])  # type: ignore[misc]
    found = _not_there(files, found) + found
    if files.faults:
        fault = Text(title="Files that could not be read", section="result", tone="bad", paragraphs=files.faults)
        found.insert(0, fault)
    nothing: tuple[tuple[str, str], ...] = ()
    return Report(run.name, top, files.attempt("info.json", lambda: _glance(files), nothing), sections(found))


def _headline(files: _Files) -> Text:
    if files.verdict is None and (files.run.folder / "verdict.json").is_file():
        raise ValueError("no verdict in it")
    verdict = None if files.verdict is None else {**files.verdict, "metrics": files.metrics()}
    return headline(verdict, files.run.model.is_dir())


def _comparison(files: _Files) -> list[Block]:
    given = blocks.validate_python(files.comparison.get("blocks", []))
    drawn = any(isinstance(block, Bars) and block.section == "result" for block in given)
    derived = result_blocks(files.verdict, files.metrics(), drawn)
    bars = [block for block in derived if isinstance(block, Bars)]
    given += [block for look in files.looks for block in blocks.validate_python(look.get("blocks", []))]
    return [*bars, *given, *(block for block in derived if not isinstance(block, Bars))]


def _probes(files: _Files) -> list[Block]:
    found: list[Block] = []
    for name, probe in files.probes.items():
        file = f"evaluations/probe_{name}.json"
        found += files.attempt(file, lambda name=name, probe=probe: _probe(name, probe), [])  # type: ignore[misc]
    return found


def _probe(name: str, probe: Json) -> list[Block]:
    given = blocks.validate_python(probe.get("blocks", []))
    section = given[0].section if given else "more"
    found: list[Block] = []
    if probe.get("sentence") and not any(isinstance(block, Text) for block in given):
        found.append(Text(title=name_of(name), section=section, paragraphs=[str(probe["sentence"])]))
    # What it means comes before its figures.
    said = next((number for number, block in enumerate(given) if not isinstance(block, Text)), len(given))
    found += given[:said]
    if probe.get("figures"):
        found.append(figures_table(f"{name_of(name)} in figures", probe["figures"], section))
    return [*found, *given[said:]]


def _mitigations(found: Json) -> list[Block]:
    """What was done to keep the model's safety, and what it cost."""
    sentences = [str(effect["sentence"]) for effect in found.values()]
    return [Text(title="Mitigations", section="safety", paragraphs=sentences)] if sentences else []


def _rows(files: _Files) -> list[Block]:
    return [
        block.model_copy(update={"section": "rows"}) if block.section == "more" else block
        for block in blocks.validate_python(files.rows.get("blocks", []))
    ]


def _data(files: _Files) -> list[Block]:
    found = fact_blocks("The rows", files.data.get("facts") or {}, "data")
    found += fact_blocks("As the model sees them", files.data.get("encoding") or {}, "data")
    for block in blocks.validate_python(files.data.get("blocks", [])):
        found.append(block.model_copy(update={"section": "data"}) if block.section == "more" else block)
    return found


def _training(files: _Files) -> list[Block]:
    plan = _inner(files.plan, "resolved")
    of_tokens = _inner(plan, "objective").get("name") == "next_token" and plan.get("recipe") != "pictures"
    return training_blocks(files.events, "nats a token" if of_tokens else "")


def _settings(files: _Files) -> list[Block]:
    """The plan's, with what an `evaluate` asked otherwise in its place."""
    return settings_blocks(files.plan, files.info, _inner(files.verdict or {}, "asked_otherwise"))


def _use(files: _Files) -> list[Block]:
    chat = _inner(files.plan, "resolved").get("recipe") != "text"
    asks = _inner(files.data, "facts").get("format") != "text"
    return use_blocks(files.run, chat, files.info.get("capabilities"), asks)


def _limits(files: _Files) -> list[Block]:
    if not (files.verdict or files.data or files.plan):
        return []
    plan_data = _inner(files.plan, "resolved", "data")
    facts = files.data.get("facts") or {}
    metrics = files.metrics()
    gates = (files.verdict or {}).get("gates") or []
    missing = [gate_name(gate) for gate in gates if gate.get("state") == "not_measured"]
    missing += [name_of(name).lower() for name, probe in files.probes.items() if probe.get("not_measured")]
    if "retention" not in files.probes:
        missing.append("what the model forgot")
    deciding = next((metric for metric in metrics if metric.get("primary")), metrics[0] if metrics else None)
    return limit_blocks({
        "use": plan_data.get("use") or facts.get("use"),
        "licence": _inner(files.info, "model").get("licence"),
        "data_licence": plan_data.get("licence") or facts.get("licence"),
        "test": (deciding["n"], deciding.get("unit", "row")) if deciding else None,
        "slices": plan_data.get("slices") or files.looks[_LOOKS.index("slices")],
        "seeds": (files.verdict or {}).get("seeds"),
        "missing": missing,
    })  # fmt: skip


def _not_there(files: _Files, found: list[Block]) -> list[Block]:
    """Chapters that a reader looks for say so when they have nothing to show."""
    there = {block.section for block in found if block.title != GATES}
    state = "Not measured." if files.verdict else "Not finished: base and tuned have not been compared yet."
    return [
        Text(title=title, section=section, tone="unsure", paragraphs=[state])
        for section, title in (("result", "Base against tuned"), ("forgot", "General ability")) if section not in there
    ]  # fmt: skip


def _keys(run: Run) -> list[str]:
    """Folders in which keys of the noise lie that was added over this run's rows, its twin's among them."""
    there = (run.checkpoints, run.child("audited").checkpoints)
    return [f"{folder.relative_to(run.folder)}/" for folder in there if folder.exists()]


def _audited_twin(run: Run) -> Mapping[str, Any] | None:
    """The promise of a twin that was trained on the same rows for an audit."""
    twin = run.child("audited")
    found: Mapping[str, Any] | None = twin.read("privacy.json") if twin.model.is_dir() else None
    return found


_CHAPTERS: dict[str, Callable[[_Files], list[Block]]] = {
    "evaluations/comparison.json": _comparison,
    "events.jsonl": _training,
    "privacy.json": lambda files: privacy_blocks(
        files.read("privacy.json"),
        _keys(files.run),
        _audited_twin(files.run),
        files.run.control.exists(),
    ),
    "evaluations": _probes,
    "evaluations/audit.json": lambda files: blocks.validate_python(files.audit.get("blocks", [])),
    "verdict.json, gates": lambda files: gate_blocks((files.verdict or {}).get("gates") or []),
    "mitigations.json": lambda files: _mitigations(files.mitigations),
    "rows.json": _rows,
    "data.json": _data,
    "forecast.json": lambda files: forecast_blocks(files.forecast),
    "model": _use,
    "verdict.json": _limits,
    "plan.yaml": _settings,
    "notes.txt": lambda files: [Text(title="Notes", paragraphs=files.notes)] if files.notes else [],
}
"""File -> what it adds; a fault in one costs that chapter alone."""


def _glance(files: _Files) -> tuple[tuple[str, str], ...]:
    """Model, method, rows and time in a line each."""
    resolved = _inner(files.plan, "resolved")
    method = resolved.get("method")
    steps = [event for event in files.events if event.get("type") == "step"]
    counts = _inner(files.data, "facts", "counts")
    seconds = duration(sum(event.get("seconds") or 0 for event in steps))
    facts = {
        "Base model": _inner(files.info, "model").get("name") or resolved.get("model"),
        "Method": method.get("name") if isinstance(method, Mapping) else method,
        "Recipe": resolved.get("recipe"),
        "Rows": " · ".join(f"{decimals(n, 0)} {name}" for name, n in counts.items() if isinstance(n, int)),
        "Training": f"{decimals(len(steps), 0)} steps, {seconds}" if steps else "",
    }
    return tuple((label, str(value)) for label, value in facts.items() if value)


def _inner(values: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A nested mapping, or an empty one."""
    for key in keys:
        inner = values.get(key)
        values = inner if isinstance(inner, Mapping) else {}
    return values
