"""Figures for people, the verdict's sentences, the reading of curves, axes and colours."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tunewright.report
from tunewright.core import words
from tunewright.core.blocks import Bar, Bars
from tunewright.report import charts
from tunewright.report.training import reading, training_blocks
from tunewright.report.verdict import explain, headline, sentence

from .sample import events, verdict

finite = st.floats(-1e9, 1e9, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-9)


@pytest.mark.parametrize(("value", "text"), [
    (0.743, "0.743"), (0.7, "0.700"), (-0.0213, "−0.021"), (12.345, "12.35"), (123.45, "123.5"), (12345.6, "12,346"),
    (0, "0"), (12345, "12,345"), (0.0012, "0.0012"), (0.00002, "2×10⁻⁵"), (None, "–"), (1.0, "1.000"), (True, "yes"),
    (3_993_243_274_158.3, "3.99×10¹²"), (-2.5e9, "−2.5×10⁹"), (float("nan"), "not a number"), (float("inf"), "∞"),
    (-0.0, "0"), (135_000_000, "135,000,000"),
])  # fmt: skip
def test_figures(value: float | None, text: str) -> None:
    assert words.figure(value) == text


@pytest.mark.parametrize(("value", "text"), [
    (0.4, "0.4 s"), (59.7, "1 min 00 s"), (312, "5 min 12 s"), (3599.6, "1 h 00 min"), (11100, "3 h 05 min"),
    (187200, "2 d 4 h"), (9.97, "10 s"), (86399.9, "1 d 0 h"),
])  # fmt: skip
def test_durations(value: float, text: str) -> None:
    assert words.duration(value) == text


@pytest.mark.parametrize(("value", "text"), [
    (0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (999_999, "1.0 MB"), (3_100_000_000, "3.1 GB"),
    (250_000_000, "250 MB"),
])  # fmt: skip
def test_sizes(value: float, text: str) -> None:
    assert words.size(value) == text


def test_intervals_have_the_digits_that_their_width_deserves() -> None:
    assert words.interval(0.6112, 0.7189) == "0.61 to 0.72"
    assert words.interval(0.01512, 0.02711) == "0.015 to 0.027"
    assert words.interval(-0.042, 0.081) == "−0.04 to 0.08"
    assert words.interval(0.0, 0.0) == "0 to 0"
    assert words.interval(None, 1.0) == "–"
    assert words.interval(0.004, 0.42) == "0.0040 to 0.42", "a bound that is not 0 does not read as 0"
    assert words.interval(1.4e-17, 0.24) == "0.00 to 0.24", "rounding is no bound"
    assert words.interval(-0.42, -0.004) == "−0.42 to −0.0040"
    assert words.interval(6.1e9, 2.62e15) == "6.1×10⁹ to 2.62×10¹⁵"


def number(text: str) -> float:
    plain = text.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-", ",")).replace("×10", "e")
    return float(plain)


@given(low=st.floats(-9e6, 9e6).filter(lambda x: x == 0 or abs(x) > 1e-9), width=st.floats(1e-6, 1e6))
def test_a_printed_interval_is_near_the_true_one(low: float, width: float) -> None:
    high = low + width
    printed = [number(part) for part in words.interval(low, high).split(" to ")]
    assert abs(printed[0] - low) + abs(printed[1] - high) <= 0.2 * width + 1e-6


@given(values=st.lists(finite, min_size=1, max_size=8), wide=st.booleans())
def test_an_axis_holds_its_values_and_names_every_tick_differently(values: list[float], wide: bool) -> None:
    axis = charts.scale(values, wide=wide)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values) <= max(values) <= axis.high + slack
    assert 1 <= len(axis.ticks) <= 9
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in axis.ticks)
    assert all(0 <= axis.at(value) <= 1 for value in values)
    if max(values) - min(values) > 1e-6 * max(map(abs, values)):
        assert len({axis.name(tick) for tick in axis.ticks}) == len(axis.ticks)


def test_bars_start_at_zero_and_reach_their_value() -> None:
    block = Bars(title="t", bars=[Bar(label="a", value=0.25), Bar(label="b", value=-0.5)], maximum=1.0)
    axis = charts.bars_scale(block)
    zero = axis.at(0.0) * 100
    for bar in block.bars:
        found = re.search(r'class="bar baseline" x="([\d.]+)%" y="3" width="([\d.]+)%"', charts.bar_svg(bar, axis))
        assert found is not None
        left, width = map(float, found.groups())
        ends = sorted((zero, axis.at(bar.value) * 100))
        assert (left, left + width) == pytest.approx(ends, abs=0.02)


@pytest.mark.parametrize(("kind", "title", "tone", "meaning"), [
    ("better", "Better than the base model", "good", "about 62 more are answered rightly (57 to 68)"),
    ("worse", "Worse than the base model", "bad", "about 6 fewer are answered rightly (2 to 10)"),
    ("mixed", "Mixed: better in one way, worse in another", "unsure", "0.795 times as likely as before"),
    ("cannot_tell", "Cannot tell with this many rows", "unsure", "about 0.074 or more would have been found"),
])  # fmt: skip
def test_each_verdict_in_plain_words(kind: str, title: str, tone: str, meaning: str) -> None:
    text = headline(verdict(kind), trained=True)
    assert (text.title, text.tone) == (title, tone)
    assert meaning in text.paragraphs[-1]
    metric = verdict(kind)["metrics"][0]
    first = text.paragraphs[0]
    direction = "fell" if kind == "worse" else "rose"
    assert f"{direction} from {metric['base']} to {metric['tuned']} on 421 rows" in first
    assert words.interval(metric["low"], metric["high"]) in first
    assert len(text.paragraphs) == (3 if kind == "mixed" else 2)


def test_no_change_is_not_called_a_rise() -> None:
    metric = verdict()["metrics"][0] | {"tuned": 0.118, "difference": 0.0, "low": 0.0, "high": 0.0}
    assert "stayed at 0.118" in sentence(metric)


def test_a_gate_that_did_not_pass_is_in_the_headline() -> None:
    failed = verdict()
    failed["gates"][0] |= {"name": "min_gain (accuracy)", "state": "cannot_tell"}
    text = headline(failed, trained=True)
    assert text.title == "Better than the base model, but a gate did not pass"
    assert text.tone == "unsure"
    assert "Least gain on the primary metric (Accuracy): cannot tell" in text.paragraphs[-1]


def metric_of(**changes: Any) -> dict[str, Any]:
    return verdict("cannot_tell")["metrics"][0] | changes


def test_a_gain_that_only_learnt_the_form_of_the_answer_is_told() -> None:
    margins = {"majority": (-0.1, 0.2), "prior": (0.1, 0.2), "tfidf": (-0.3, -0.1)}
    metric = metric_of(low=0.01, high=0.3, margins=margins, unbeaten=("majority",))
    assert "not proven better than always the commonest class. So" in explain(metric)
    assert "learnt the form of the answer" in explain(metric)
    assert "A simpler answerer is better than the tuned model on the same rows: Word counts" in explain(metric)
    level = explain(metric | {"margins": margins | {"tfidf": (-0.3, 0.1)}})
    assert "not proven better than a simpler answerer on the same rows: Word counts" in level
    assert "is better than the tuned model" not in level


def test_a_gain_withheld_for_another_reason_is_not_blamed_on_baselines() -> None:
    margins = {"majority": (0.1, 0.2), "prior": (0.1, 0.2)}
    metric = metric_of(low=0.01, high=0.3, margins=margins, baselines={"majority": 0.1})
    assert "all primary measures" in explain(metric)
    assert "form of the answer" not in explain(metric)
    without = metric_of(name="nll", higher_is_better=False, low=-0.3, high=-0.01, difference=-0.2, margins={})
    assert "all primary measures" in explain(without), "a measure without trivial answers has none to beat"
    assert "form of the answer" not in explain(without)


def test_a_loss_that_is_withheld_is_told_as_one_and_few_units_are_named() -> None:
    metric = metric_of(low=-0.3, high=-0.01, difference=-0.2, margins={})
    assert "It moved in the wrong direction, but this does not stand once all primary measures" in explain(metric)
    assert "would have been found" not in explain(metric)
    few = metric_of(low=-0.1, high=0.3, smallest_detectable=None, margins={})
    assert "hangs on a few rows" in explain(few)


def test_the_headline_of_a_gain_that_a_trivial_answer_reaches_does_not_speak_of_chance() -> None:
    told = verdict("cannot_tell")
    told["metrics"][0] |= {"low": 0.28, "high": 0.36, "difference": 0.32, "unbeaten": ("majority",)}
    text = headline(told, trained=True)
    assert text.title == "Not proven better than a trivial answer"
    assert "could be chance" not in " ".join(text.paragraphs)
    assert "not proven better than always the commonest class" in text.paragraphs[-1]


def test_lower_is_better_is_respected_against_baselines() -> None:
    worse = {"name": "nll", "higher_is_better": False, "tuned": 0.5, "baselines": {"tfidf": 0.4}, "decision": "worse"}
    better = worse | {"tuned": 0.3}
    assert "simpler answerer" in explain(metric_of(**worse, margins={}, difference=0.0))
    assert "simpler answerer" not in explain(metric_of(**better, margins={}, difference=0.0))


def test_a_handful_of_rows_promises_no_power() -> None:
    assert "at least 12 rows are needed" in explain(metric_of(n=8))
    assert "would have been found" not in explain(metric_of(n=8))


def curve(shape: str) -> list[tuple[float, float]]:
    return [(event["step"], event["loss"]) for event in events(shape) if event["type"] == "validation"]


def test_curves_are_read_in_plain_words() -> None:
    assert "still falling" in reading(curve("falling"))
    assert "levelled" in reading(curve("levelled"))
    assert "lowest at step 276" in reading(curve("rising"))
    assert "overfitting" in reading(curve("rising"))
    assert "Too few" in reading(curve("rising")[:3])


@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=12))
def test_a_curve_that_ends_at_its_best_is_never_called_overfitting(losses: list[float]) -> None:
    falling = sorted(losses, reverse=True)
    assert "overfitting" not in reading([(float(step), loss) for step, loss in enumerate(falling)])


def test_the_training_curve_weighs_steps_by_their_count() -> None:
    steps = [
        {"type": "step", "step": step, "loss_sum": total, "count": count, "seconds": 1.0, "tokens": 1}
        for step, (total, count) in enumerate([(100.0, 10), (1.0, 90)] * 60, start=1)
    ]  # fmt: skip
    line = training_blocks(steps)[1].lines[0]  # type: ignore[union-attr]
    assert len(line.y) == 60
    assert line.y == pytest.approx([1.01] * 60)  # the mean of means would be 5.005


def test_kept_weights_and_early_stopping_are_told() -> None:
    end = {"type": "end", "step": 300, "reason": "early_stopping", "best_step": 240}
    said = training_blocks([*events()[:-1], end])[0].paragraphs[-1]  # type: ignore[union-attr]
    assert said == (
        "It stopped early at step 300: validation no longer improved. The weights of step 240, where validation loss "
        "was lowest, were kept."
    )
    assert "not ended" in training_blocks(events()[:-1])[0].paragraphs[-1]  # type: ignore[union-attr]


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return math.fsum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_meet_wcag_aa_in_light_and_dark() -> None:
    style = (Path(tunewright.report.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    parts = re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    schemes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", part)) for part in parts]
    assert len(schemes) == 2
    for scheme in schemes:
        for text in ("ink", "quiet", "link", "good", "bad", "unsure"):
            assert contrast(scheme[text], scheme["paper"]) >= 4.5, text
        assert contrast(scheme["ink"], scheme["mark"]) >= 4.5
        assert contrast(scheme["ink"], scheme["raised"]) >= 4.5
        for shape in ("tuned", "base", "s0", "s1", "s2", "s3"):
            assert contrast(scheme[shape], scheme["paper"]) >= 3, shape
