"""`compare`: runs on the same test rows side by side, each also against the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import plugins
from tunewright.core.blocks import Bar, Bars, Block, Cell, Table
from tunewright.core.config import Plan
from tunewright.core.errors import UserError
from tunewright.core.files import require_writable
from tunewright.core.progress import Progress, silent
from tunewright.core.store import Run
from tunewright.core.words import command, figure, interval, name_of, plural, rounded_up, signed
from tunewright.evaluate.bootstrap import Paired, estimate
from tunewright.evaluate.bootstrap import compare as paired
from tunewright.evaluate.kept import RowRecords
from tunewright.pipeline.result import Result
from tunewright.report import write_page

_HEADER = (
    "run", "method", "metric", "base", "tuned", "difference", "95 % interval", "n", "decision", "to the first",
    "95 % interval",
)  # fmt: skip
_COLUMNS = [
    "measure", "run", "method", "base", "tuned", "change", "95 % interval", "n", "decision", "against the first",
    "its 95 % interval",
]  # fmt: skip
_NOTE = (
    "Each interval is over the same test rows, drawn by unit; those against the first run are each alone, so of many "
    "runs some stand out by chance."
)

Records = Mapping[str, RowRecords]
"""A run's records by metric."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One run on one metric."""

    run: str
    method: str
    metric: dict[str, Any]
    """As in verdict.json."""
    to_first: Paired | None
    """Its tuned model against that of the first run; None for the first, and where a metric was not measured there."""

    def cells(self) -> tuple[str, ...]:
        metric, first = self.metric, self.to_first
        against = ("", "") if first is None else (f"{first.difference:+.3f}", f"{first.low:+.3f} to {first.high:+.3f}")
        return (
            self.run, self.method, metric["name"] + (" *" if metric["primary"] else ""), f"{metric['base']:.3f}",
            f"{metric['tuned']:.3f}", f"{metric['difference']:+.3f}", f"{metric['low']:+.3f} to {metric['high']:+.3f}",
            str(metric["n"]), metric["decision"].replace("_", " "), *against,
        )  # fmt: skip

    def row(self) -> list[Cell]:
        """The same for a page: in words, with as many digits as the intervals deserve."""
        metric, first = self.metric, self.to_first
        against = (None, None) if first is None else (signed(first.difference), interval(first.low, first.high))
        mark = " (primary)" if metric["primary"] else ""
        return [
            name_of(metric["name"]) + mark, self.run, self.method, figure(metric["base"]), figure(metric["tuned"]),
            signed(metric["difference"]), interval(metric["low"], metric["high"]),
            plural(metric["n"], metric.get("unit", "row")), metric["decision"].replace("_", " "), *against,
        ]  # fmt: skip


def compare(folders: Sequence[Path], out: Path | None = None, progress: Progress = silent) -> Result:
    """One table: a line a run and metric, base and tuned, and the tuned model against that of the first run.

    Args:
        folders: Runs.
        out: An HTML or Markdown file that gets the table with a chart; None = none is written.
        progress: Told how far it is.

    Raises:
        UserError: A run is not evaluated, the runs were tested on different rows or among different labels, or no such
            page can be written.
        OSError: The page cannot be written there.
    """
    if out is not None:
        if out.suffix not in (".html", ".md"):
            raise UserError(f"--out {out}: found '{out.suffix}'; .html and .md can be written.")
        require_writable(out)
    runs = [Run.open(folder) for folder in folders]
    _require_evaluated(runs)
    records = [RowRecords.by_metric(run) for run in runs]
    told = [*_require_same_test(runs, records), *_private_together(runs)]
    names = _names(runs)
    lines, unlike = [], []
    for number, run in enumerate(runs):
        progress("comparing", number, len(runs))
        others = _unlike(run, runs[0])
        for metric in run.must_read("verdict.json")["metrics"]:
            apart = others.get(metric["name"].split("(")[0])
            if apart:
                unlike.append(f"{metric['name']} of {names[number]} ({apart})")
            against = _against(metric["name"], records[number], records[0]) if number and not apart else None
            lines.append(_Line(names[number], _method(run), metric, against))
    if unlike:
        told.append(f"Not set against the first run, of which they measure something else: {', '.join(unlike)}.")
    said = [*_text([_HEADER, *(line.cells() for line in lines)]), *told]
    if out is not None:
        write_page(out, f"{len(runs)} runs on the same test rows", [_NOTE, *told], _blocks(lines, names, records))
        said.append(f"Written: {out}")
    return Result(0, tuple(said))


_BY_TOKEN = ("nll", "perplexity_per_token", "loss")
"""Figures a token: of models that cut texts otherwise they measure other things."""


def _unlike(run: Run, first: Run) -> dict[str, str]:
    """Name of a metric -> why it is another figure than that of the first run; absent where it is the same."""
    settings = [Plan.load(one.plan_file).settings for one in (run, first)]
    longest = [
        (one.must_read("verdict.json").get("asked_otherwise") or {}).get(_LONGEST, its.evaluate.max_new_tokens)
        for one, its in zip((run, first), settings, strict=True)
    ]
    found: dict[str, str] = {}
    if longest[0] != longest[1]:
        # Free answers end where they are cut.
        free = [metric.plugin_name() for metric in plugins.everything("metrics") if metric.needs == "text"]
        found |= dict.fromkeys(free, f"{_LONGEST} is {longest[0]} here, {longest[1]} there")
    if settings[0].objective != settings[1].objective:
        found["loss"] = "the objective is another"
    if _may_cut_otherwise(run, first):
        found |= dict.fromkeys(_BY_TOKEN, "its tokens may be others; bits_per_byte can be compared")
    return found


_LONGEST = "evaluate.max_new_tokens"


def _may_cut_otherwise(run: Run, other: Run) -> bool:
    """Whether another tokenizer or template may have read the rows of two runs on texts."""
    infos = [one.must_read("info.json") for one in (run, other)]
    known = "reading" if all("reading" in info["model"] for info in infos) else "digest"
    texts = all("text" in info.get("capabilities", ("text",)) for info in infos)
    return texts and infos[0]["model"][known] != infos[1]["model"][known]


def _private_together(runs: Sequence[Run]) -> list[str]:
    """What private runs promise together, and that choosing among them is no part of it."""
    found = [promise for run in runs if (promise := run.read("privacy.json")) and promise["private"]]
    if len(found) < 2:
        return []
    epsilon, delta = (sum(values) for values in zip(*((p["epsilon"]["prv"], p["delta"]) for p in found), strict=True))
    return [
        f"{len(found)} of these runs are private. As far as they trained on the same rows, their promises add up: "
        f"whoever sees them all is promised epsilon {rounded_up(epsilon, 3):.3g} at delta {rounded_up(delta, 2):.2g}. "
        "A choice among them by this table depends on all of them, so it has that promise and no better one."
    ]


def _require_evaluated(runs: Sequence[Run]) -> None:
    faults = [
        f"{run.folder} is not evaluated yet. Run: {command('evaluate', run.folder)}"
        for run in runs
        if run.read("verdict.json") is None
    ]
    if faults:
        raise UserError(faults)


@dataclass(frozen=True, slots=True)
class _Test:
    """What a run was tested on, as hashes; None in runs of an older version."""

    rows: str | None
    answers: str | None
    """The rows without what was asked."""
    labels: str | None
    ids: set[str]

    @classmethod
    def of(cls, run: Run, records: Records) -> _Test:
        """As the run keeps it."""
        known = run.read("evaluations/comparison.json") or {}
        ids = {name for kept in records.values() for name in kept.ids}
        return cls(known.get("test"), known.get("answers"), known.get("labels"), ids)

    def like(self, other: _Test) -> bool:
        """Whether both are the same rows, asked alike."""
        if self.rows is None or other.rows is None:
            return self.ids == other.ids
        return self.rows == other.rows

    def asked_otherwise(self, other: _Test) -> bool:
        """Whether both are the same rows of the same people with the same answers, and only the question differs."""
        if self.rows is None or other.rows is None or self.like(other):
            return False
        return self.answers is not None and self.answers == other.answers


def _require_same_test(runs: Sequence[Run], records: Sequence[Records]) -> list[str]:
    """What must be told of tests that can be compared.

    Raises:
        UserError: Two runs answered other rows, or chose among other labels.
    """
    faults, told = [], []
    first, *others = map(_Test.of, runs, records)
    for run, theirs in zip(runs[1:], others, strict=True):
        if not first.like(theirs) and not first.asked_otherwise(theirs):
            faults.append(
                f"{run.folder} answered other test rows than {runs[0].folder}, so the figures cannot be compared. "
                "Compare runs of the same data and splits; data.split_seed keeps the splits while the seed changes."
            )
        elif first.labels and theirs.labels and first.labels != theirs.labels:
            faults.append(
                f"{run.folder} chose among other labels than {runs[0].folder} (the rows of a pool bring theirs), so "
                "the figures answer other questions. Leave rows with labels that the other run lacks out of the pool."
            )
        elif first.asked_otherwise(theirs):
            told.append(
                f"The rows' texts differ: {run.folder} was asked the same rows as {runs[0].folder} in other words. "
                "Answers, units and weights are equal, so the difference holds what the words are worth."
            )
    if faults:
        raise UserError(faults)
    return told


def _names(runs: Sequence[Run]) -> list[str]:
    """Short names that tell the runs apart."""
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else str(run.folder) for name, run in zip(names, runs, strict=True)]


def _method(run: Run) -> str:
    method = Plan.load(run.plan_file).settings.method
    return method if isinstance(method, str) else str(method["name"])


def _against(metric: str, run: Records, first: Records) -> Paired | None:
    """The tuned model of a run against that of the first, on the rows that both have a record of."""
    if metric not in run or metric not in first:
        return None
    ours, theirs = run[metric], first[metric]
    shared = sorted(set(ours.ids) & set(theirs.ids))
    if not shared:
        return None
    ours, theirs = ours.only(shared), theirs.only(shared)
    return paired(plugins.build("metrics", metric), theirs.records, ours.records, ours.units, 0, 2000, ours.weights)


def _blocks(lines: Sequence[_Line], names: Sequence[str], records: Sequence[Records]) -> list[Block]:
    found: list[Block] = []
    primary = {line.metric["name"]: line.metric for line in lines if line.metric["primary"]}
    for name, metric in primary.items():
        at_first = {line.metric["base"] for line in lines if line.metric["name"] == name}
        bars = [Bar(label=name_of("base"), value=at_first.pop(), role="base")] if len(at_first) == 1 else []
        for run_name, measured in zip(names, records, strict=True):
            if (kept := measured.get(name)) is not None:
                built = plugins.build("metrics", name)
                value, low, high = estimate(built, kept.records, kept.units, 0, 2000, kept.weights)
                bars.append(Bar(label=run_name, value=value, low=low, high=high, role="tuned"))
        note = f"{'Higher' if metric['higher_is_better'] else 'Lower'} is better. Each interval is of one model alone."
        found.append(Bars(title=name, note=note, section="result", bars=bars))
    order = list(dict.fromkeys([*primary, *(line.metric["name"] for line in lines)]))
    rows = [line.row() for line in sorted(lines, key=lambda line: order.index(line.metric["name"]))]
    found.append(Table(title="All measures of all runs", note=_NOTE, section="result", columns=_COLUMNS, rows=rows))
    return found


def _text(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:], "* = primary"]
