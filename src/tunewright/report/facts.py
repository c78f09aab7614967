"""Tables of whatever a stage noted down: nested facts become blocks without knowing who wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunewright.core.blocks import Bar, Bars, Block, Cell, Table
from tunewright.core.words import ABSENT, decimals, duration, figure, interval, name_of, plural, signed, size

Facts = Mapping[str, Any]

LISTED = 12
"""At most so many items of a list are spelt out in a cell."""
CELL, BARS = 6, 40
"""A distribution of more values than CELL is drawn; of more than BARS, it is a table."""

_LABELS = {
    "bad_rows": "Rows that could not be read",
    "bad": "Rows that could not be read",
    "counts": "Rows in each split",
    "rows": "Rows",
    "units": "Units (workers, speakers, patients)",
    "duplicates": "Duplicates",
    "contradictions": "Same input, different answers",
    "overlap": "Rows shared between training and the other splits",
    "identifiers": "Rows with likely identifiers of persons (counted, never shown)",
    "files": "Files",
    "licence": "Licence",
    "safety": "Rows that may undo safety training",
    "source": "Source",
    "consent": "Consent",
    "sha256": "SHA-256",
    "length_histogram": "Length of the rows in tokens",
    "double_bos": "Rows with a doubled start token",
    "stop_trained": "Share of rows whose stop token is trained on",
    "stop_not_trained": "Rows whose stop token is not trained on",
    "max_length": "Most tokens allowed in a row",
    "label_counts": "How often each label occurs",
    "duplicate_rows": "Rows that are the same or nearly so",
    "contradiction_rows": "Same input, different answers: the rows",
    "overlap_given": "The same, in the splits as they were given",
    "splits_made": "Splits that were made from the rows",
    "by_time": "Split by year, with people on both sides",
    "labels_unseen_in_train": "Labels that no training row has",
    "splits_given": "Splits given by the user",
    "dropped": "Rows left out",
    "over_max_length": "Rows longer than allowed",
    "over_max_length_rows": "Rows longer than allowed, and how long",
    "cut_rows": "Rows whose context was cut",
    "overlong_dropped": "Rows left out as too long",
    "dropped_rows": "Training rows left out as too long",
    "dropped_valid_rows": "Validation rows left out as too long",
    "dropped_test_rows": "Test rows left out as too long",
    "test_rows_of_unseen_labels": "Test rows of labels that no training row has",
    "valid_rows_of_unseen_labels": "Validation rows of labels that no training row has",
    "unread": "Columns that are not read",
    "contradicting_rows": "Rows with different answers to the same input",
    "unit": "Kept together in one split, by",
    "fingerprint": "Fingerprint of all rows",
    "trained_share": "Share of tokens that is trained on",
}
_FORECAST = {
    "seconds": ("Time", duration),
    "training_seconds": ("Training", duration),
    "evaluation_seconds": ("Evaluation", duration),
    "memory_bytes": ("Memory", size),
    "disk_bytes": ("Disk", size),
}


def label_of(key: str) -> str:
    """A key of a facts file as words."""
    return _LABELS.get(key) or name_of(key)


def value_of(key: str, value: Any) -> str:
    """One value as a person reads it; the key tells seconds, bytes and hashes from plain numbers."""
    if isinstance(value, bool | None):
        return {True: "yes", False: "no", None: ABSENT}[value]
    if isinstance(value, int | float):
        if key.endswith("seconds"):
            return duration(value)
        return size(value) if key.endswith("bytes") else figure(value)
    if isinstance(value, list | tuple):
        shown = ", ".join(value_of("", item) for item in value[:LISTED])
        return f"{len(value)}: {shown} …" if len(value) > LISTED else shown or "none"
    if isinstance(value, Mapping):
        return " · ".join(f"{_name(str(k))} {value_of(str(k), v)}" for k, v in value.items()) or "none"
    text = str(value) or ABSENT
    return f"{text[:16]}…" if len(text) >= 40 and all(c in "0123456789abcdef" for c in text) else text


def _name(key: str) -> str:
    """A key before its value; one that ends in a number is told from it by a colon."""
    words = key.replace("_", " ")
    return f"{words}:" if words[-1:].isdigit() else words


def fact_blocks(title: str, facts: Facts, section: str) -> list[Block]:
    """Single values in one table; records, distributions and groups of rows in blocks of their own."""
    single: list[list[Cell]] = []
    nested: list[Block] = []
    for key, value in facts.items():
        own = _own_block(key, value, section)
        if own is not None:
            nested.append(own)
        elif isinstance(value, Mapping) and value:
            inner = {k: v for k, v in value.items() if not isinstance(v, Mapping | list)}
            single += [[label_of(key), value_of(key, inner)]] if inner else []
            nested += fact_blocks(label_of(key), {k: v for k, v in value.items() if k not in inner and v}, section)
        else:
            single.append([label_of(key), value_of(key, value)])
    first = [Table(title=title, section=section, columns=["What", "Value"], rows=single)] if single else []
    return [*first, *nested]


def _own_block(key: str, value: Any, section: str) -> Block | None:
    """A block for a value that is too much for a cell; None where a cell will do."""
    title = label_of(key)
    if isinstance(value, Mapping) and len(value) > CELL and _all_numbers(value):
        bars = [Bar(label=str(name), value=float(count)) for name, count in value.items()]
        return Bars(title=title, section=section, bars=bars, unit="rows") if len(bars) <= BARS else pairs_table(
            title, value, section, written=str
        )  # fmt: skip
    if not isinstance(value, list) or not value:
        return None
    return _records(title, value, section) if all(isinstance(item, Mapping) for item in value) else None


def pairs_table(
    title: str, values: Facts, section: str, note: str = "", written: Callable[[str], str] = label_of
) -> Table:
    """Nested values as "a · b" against value; keys that are the user's own words are `written` as they are."""
    rows: list[list[Cell]] = [[name, value_of(key, value)] for name, key, value in _flat(values, written)]
    return Table(title=title, section=section, columns=["What", "Value"], rows=rows, note=note)


def figures_table(title: str, figures: list[Facts], section: str) -> Table:
    """A probe's figures: base, tuned, change, interval, n."""
    columns = ["Measure", "Base", "Tuned", "Change", "95 % interval", "n"]
    rows: list[list[Cell]] = [
        [
            f"{name_of(one['name'])}, {'higher' if one.get('higher_is_better') else 'lower'} is better",
            figure(one["base"]), figure(one["tuned"]), signed(one["difference"]),
            interval(one["low"], one["high"]), plural(one["n"], one.get("unit", "row")),
        ]
        for one in figures
    ]  # fmt: skip
    return Table(title=title, section=section, columns=columns, rows=rows)


def forecast_blocks(forecast: Facts) -> list[Block]:
    """What a run was expected to take, and what it took."""
    expected, actual = forecast.get("forecast") or {}, forecast.get("actual") or {}
    rows: list[list[Cell]] = []
    for key, (label, words) in _FORECAST.items():
        before, after = expected.get(key), actual.get(key)
        if before is None and after is None:
            continue
        ratio = f"{decimals(after / before * 100, 0)} %" if before and after is not None else ABSENT
        rows.append([label, words(before), words(after), ratio])
    if not rows:
        return []
    note = "" if actual else "The run has not ended, so only the forecast is known."
    columns = ["What", "Forecast", "Actual", "Actual of forecast"]
    return [Table(title="Time, memory and disk", section="forecast", columns=columns, rows=rows, note=note)]


def settings_blocks(plan: Facts, info: Facts | None, otherwise: Facts | None = None) -> list[Block]:
    """Chosen settings first, then defaults, then where it ran.

    Args:
        plan: Of plan.yaml.
        info: Of info.json.
        otherwise: Dotted keys -> values under which the run was judged again.
    """
    judged = otherwise or {}
    origins: Facts = {**(plan.get("origins") or {}), **dict.fromkeys(judged, "changed after training")}
    chosen: list[list[Cell]] = []
    defaults: list[list[Cell]] = []
    planned = {name: value for name, _, value in _flat(plan.get("resolved") or {}, str, ".")}
    for name, value in {**planned, **judged}.items():
        origin = _origin(name, origins)
        if origin == "default":
            defaults.append([name, _plain(value)])
        else:
            chosen.append([name, _plain(value), origin])
    found: list[Block] = []
    if chosen:
        columns = ["Setting", "Value", "From"]
        found.append(Table(title="Chosen or derived", section="settings", columns=columns, rows=chosen))
    if defaults:
        columns = ["Setting", "Value"]
        found.append(Table(title="Left at their defaults", section="settings", columns=columns, rows=defaults))
    if info:
        model = {key: value for key, value in (info.get("model") or {}).items() if key != "folder"}  # a private path
        info = {key: value for key, value in info.items() if key != "settings"}  # the plan, which stands above
        info |= {"model": model} if model else {}
        note = (
            "The run repeats bit for bit on the CPU of the same machine, with these versions and this thread count, "
            "unless a note of the run says that it went on with others."
        )
        found.append(pairs_table("Where it ran", info, "settings", note))
    return found


def _origin(name: str, origins: Facts) -> str:
    """The origin of a key or of the nearest key above it."""
    while name not in origins and "." in name:
        name = name.rpartition(".")[0]
    return str(origins.get(name, "default"))


def _plain(value: Any) -> str:
    """A setting as it would be written in a plan."""
    if value is None or value == "":
        return "not set"
    if isinstance(value, list | tuple | Mapping):
        return ", ".join(str(item) for item in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _records(title: str, records: list[Facts], section: str) -> Table:
    columns = list(dict.fromkeys(str(key) for record in records for key in record))
    rows: list[list[Cell]] = [[value_of(key, record.get(key)) for key in columns] for record in records]
    return Table(title=title, section=section, columns=[label_of(key) for key in columns], rows=rows)


def _all_numbers(values: Facts) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())


def _flat(
    values: Facts, written: Callable[[str], str], joint: str = " · ", above: str = ""
) -> Iterator[tuple[str, str, Any]]:
    """(full name, own key, value) of every value that is not itself a mapping."""
    for key, value in values.items():
        own = written(str(key))
        name = f"{above}{joint}{own}" if above else own
        if isinstance(value, Mapping) and value:
            yield from _flat(value, written, joint, name)
        else:
            yield name, str(key), value
