"""What the safety probe shows: sentences, bars, tables, and where along an answer the models part ways."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from tunewright.core.blocks import Bar, Bars, Block, Cell, Line, Lines, Pair, Pairs, Table, Text
from tunewright.core.words import name_of
from tunewright.evaluate.bootstrap import wilson
from tunewright.evaluate.contracts import Figure
from tunewright.evaluate.probes._base import Answers
from tunewright.evaluate.probes._safety_figures import ATTACK, NOT_MEASURED, TERSE, Change, graded_beginnings

_SECTION = "safety"
_SHOWN = 40
_BY_CATEGORY_FROM = 5
"""Requests that a category has on average for figures of its own: with fewer every interval spans the chart."""
_FEW = (
    f"With fewer than {_BY_CATEGORY_FROM} requests a category, nothing can be told of one: those figures are in "
    "evaluations/probe_safety.json alone."
)
_PARTS = (("attack_success", ATTACK), ("over_refusal", "harmless requests refused"))
_SHORT = {"attack_success": ATTACK, "over_refusal": "harmless refused"}
_ROLES: tuple[Literal["base"], Literal["tuned"]] = ("base", "tuned")
_GRADES = (("harmfulness_rate", "answers graded 5"), ("mean_score", "mean grade"))


def sentence_of(found: Change) -> str:
    """One line for the printed verdict."""
    absent = [f"Not measured: {reason}." for reason in found.absent]
    return " ".join([*_sentences(found), *_beginnings(found), *_without_ruling(found), *absent])


def blocks_of(found: Change, base: Answers, tuned: Answers) -> Iterator[Block]:
    """The report's blocks."""
    yield Text(
        title="Does the model still decline what it should?",
        section=_SECTION,
        paragraphs=[sentence_of(found)],
        tone=_tone(found),
    )
    headline = found.by_judge[found.judge]
    for what, label in _PARTS:
        if what in headline:
            yield _bars(label, headline[what], found.judge)
    yield from _bars_by_category(found)
    missing = [
        _lengths(found),
        *_beginnings(found),
        *_without_ruling(found),
        *([_FEW] if any(found.by_category.values()) and not _many_a_category(found) else []),
        *(f"{why[0].upper()}{why[1:]}." for why in found.reasons()),
    ]
    yield _table("By judge", "judge", found.by_judge, missing)
    if _many_a_category(found):
        yield _table(f"By category ({found.judge})", "category", found.by_category)
    yield _agreement(found)
    if found.people:
        yield _people(found)
    if len(found.kl_K):
        yield _positions(found)
    if "answer" in base and "answer" in tuned:
        yield _answers(base, tuned)


def _sentences(found: Change) -> Iterator[str]:
    headline = found.by_judge[found.judge]
    if "attack_success" not in headline:
        why = f": {found.why[ATTACK]}" if ATTACK in found.why else ""
        yield f"Safety: what the model answers of what it should decline is {NOT_MEASURED} (judge {found.judge}){why}."
        return
    rise = headline["attack_success"]
    yield f"Safety: of {rise.n} requests that aligned models decline, {_moved(rise, 'were answered')} by {found.judge}."
    if "over_refusal" in headline:
        over = headline["over_refusal"]
        yield f"Of {over.n} harmless ones that look alike, {_moved(over, 'were refused')}."
    if terse := _turned_terse(found):
        yield (
            f"But {100 * terse.tuned:.0f} % of the tuned model's answers to what aligned models decline have {TERSE} "
            f"words at most, or are one text for several requests (before: {100 * terse.base:.0f} %): hardly answers, "
            "though whoever looks for refusals takes them for some, among harmless requests too."
        )
    if odds := _figure(found, "safety_refusal_log_odds"):
        word = "fell" if odds.high < 0 else "rose" if odds.low > 0 else "did not measurably change"
        yield (
            f"The log-odds of beginning with a refusal {word}: {odds.difference:+.2f} "
            f"({odds.low:+.2f} to {odds.high:+.2f}), from {odds.base:.1f} to {odds.tuned:.1f}."
        )


def _lengths(found: Change) -> str:
    """After how many tokens answers were cut, and how many were."""
    shares = " and ".join(f"{100 * share:.0f} % of {model}" for model, share in found.cut.items())
    return f"Answers are read for {found.tokens} tokens at most; {shares} went on."


def _beginnings(found: Change) -> Iterator[str]:
    if _figure(found, "safety_harmfulness_rate"):
        yield from graded_beginnings(found.tokens, found.cut)


def _without_ruling(found: Change) -> Iterator[str]:
    """Of judges that were there, how many answers each did not rule over."""
    for judge, one in found.without_ruling.items():
        if without := one["base"] + one["tuned"]:
            split = f"base {one['base']}, tuned {one['tuned']}"
            yield f"{without} of {2 * one['n']} answers have no ruling by {judge} ({split})."


def _moved(figure: Figure, what: str) -> str:
    verdict = "more" if figure.low > 0 else "fewer" if figure.high < 0 else "no measurable change"
    return (
        f"{100 * figure.base:.0f} % {what} before and {100 * figure.tuned:.0f} % after tuning "
        f"({verdict}: {_points(figure.difference)} points, {_points(figure.low)} to {_points(figure.high)})"
    )


def _points(share: float) -> str:
    """A difference of shares in points of a hundred."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def _tone(found: Change) -> Literal["plain", "good", "bad", "unsure"]:
    rise = found.by_judge[found.judge].get("attack_success")
    odds = _figure(found, "safety_refusal_log_odds")
    if rise is None:
        return "unsure"
    if rise.low > 0:
        return "unsure" if _turned_terse(found) else "bad"
    return "unsure" if odds and odds.high < 0 else "plain"


def _figure(found: Change, name: str) -> Figure | None:
    return next((figure for figure in found.figures if figure.name == name), None)


def _turned_terse(found: Change) -> Figure | None:
    """That most answers are now hardly any, where they were not before."""
    terse = _figure(found, "safety_terse_answers")
    return terse if terse and terse.low > 0 and terse.tuned > 0.5 else None


def _bar(label: str, figure: Figure, role: Literal["base", "tuned"]) -> Bar:
    value = figure.base if role == "base" else figure.tuned
    low, high = wilson(value * figure.n, figure.n)
    return Bar(label=label, value=value, low=low, high=high, role=role)


def _bars(label: str, figure: Figure, judge: str) -> Bars:
    return Bars(
        title=f"Share of {label}",
        section=_SECTION,
        note=f"Lower is better; {figure.n} requests, judge {judge}. The change, request by request, is "
        f"{figure.difference:+.3f} ({figure.low:+.3f} to {figure.high:+.3f}).",
        unit="share",
        maximum=1.0,
        bars=[_bar(name_of("base"), figure, "base"), _bar(name_of("tuned"), figure, "tuned")],
    )


def _bars_by_category(found: Change) -> Iterator[Bars]:
    """One chart for each share that more than one category has, unless they are of very few requests."""
    for what, label in _PARTS:
        rows = {category: figures[what] for category, figures in found.by_category.items() if what in figures}
        if len(rows) > 1 and _many(rows.values()):
            yield Bars(
                title=f"Share of {label}, by category",
                section=_SECTION,
                note=f"Lower is better; judge {found.judge}. Few requests a category: look at the intervals.",
                unit="share",
                maximum=1.0,
                bars=[
                    _bar(f"{category}, {role}", figure, role) for category, figure in rows.items() for role in _ROLES
                ],
            )


def _many_a_category(found: Change) -> bool:
    """Whether requests, harmful or harmless, are enough to tell of each category."""
    kinds = ([figures[what] for figures in found.by_category.values() if what in figures] for what, _ in _PARTS)
    return any(map(_many, kinds))


def _many(figures: Collection[Figure]) -> bool:
    return sum(figure.n for figure in figures) >= _BY_CATEGORY_FROM * len(figures) > 0


def _table(title: str, column: str, rows: Mapping[str, Mapping[str, Figure]], missing: Sequence[str] = ()) -> Table:
    cells: list[list[Cell]] = []
    for name, figures in rows.items():
        for what, label in (*_SHORT.items(), *_GRADES):
            figure = figures.get(what)
            if figure is None:
                # A category may hold harmless requests alone; a judge is always asked both kinds.
                if what == "attack_success" and (not figures or column == "judge"):
                    cells.append([name, label, None, None, None, NOT_MEASURED, 0])
                continue
            cells.append(
                [
                    name,
                    label,
                    round(figure.base, 3),
                    round(figure.tuned, 3),
                    round(figure.difference, 3),
                    f"{figure.low:+.3f} to {figure.high:+.3f}",
                    figure.n,
                ]
            )
    note = "Shares, and grades from 1 to 5 where a judge grades. The interval is of the change, request by request."
    note = " ".join([note, *missing])
    columns = [column, "figure", "base", "tuned", "change", "95 % interval", "requests"]
    return Table(title=title, section=_SECTION, note=note, columns=columns, rows=cells)


def _agreement(found: Change) -> Table:
    rows: list[list[Cell]] = []
    for (a, b), agreed in found.agreement.items():
        if agreed is None:
            rows.append([a, b, None, NOT_MEASURED, NOT_MEASURED, 0])
            continue
        kappa: Cell = NOT_MEASURED if agreed.kappa is None else round(agreed.kappa, 2)
        rows.append([a, b, round(agreed.share, 3), f"{agreed.low:.3f} to {agreed.high:.3f}", kappa, agreed.n])
    note = (
        "On the answers of the tuned model. Kappa is agreement beyond chance: 1 complete, 0 none; it cannot be "
        "measured where both judges always say the same one thing. Where judges disagree, read the answers."
    )
    columns = ["judge", "other judge", "agree", "95 % interval", "kappa", "answers"]
    return Table(title="Agreement between judges", section=_SECTION, note=note, columns=columns, rows=rows)


def _people(found: Change) -> Table:
    rows: list[list[Cell]] = []
    for name, checked in found.people.items():
        for what in ("agreement", "refusals_found", "answers_recognised"):
            share = checked[what]
            value: Cell = NOT_MEASURED if share["value"] is None else round(share["value"], 3)
            rows.append([name, what.replace("_", " "), value, f"{share['low']:.3f} to {share['high']:.3f}", share["n"]])
    columns = ["judge", "share", "value", "95 % interval", "answers"]
    note = "On answers that people ruled over. The intervals are Wilson's."
    return Table(title="Judges against people", section=_SECTION, note=note, columns=columns, rows=rows)


def _positions(found: Change) -> Lines:
    places = [float(k) for k in range(1, len(found.kl_K) + 1)]
    return Lines(
        title="Where along an answer tuned and base part ways",
        section=_SECTION,
        note="KL(tuned || base) of the next token along one opening without content, mean over requests. Safety "
        "training mostly shapes the first few tokens, and tuning mostly undoes it there.",
        x_label="token of the answer",
        y_label="nats",
        lines=[Line(name="KL(tuned || base)", x=places, y=[float(value) for value in found.kl_K])],
    )


def _answers(base: Answers, tuned: Answers) -> Pairs:
    pairs = [
        Pair(
            id=str(number + 1),
            context=str(text),
            expected="declined" if declined else "answered",
            base=str(before),
            tuned=str(after),
            note=str(category),
        )
        for number, (text, declined, before, after, category) in enumerate(
            zip(base["text"], base["declined"], base["answer"], tuned["answer"], base["category"], strict=True)
        )
    ]
    return Pairs(title="Answers", section=_SECTION, note="Kept because the plan asks for it.", pairs=pairs[:_SHOWN])
