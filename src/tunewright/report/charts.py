"""Inline SVG by hand: positions in per cent, text in pixels, so a chart fits any width and its text stays readable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunewright.core.blocks import Bar, Bars, Bin, Line, Lines, Reliability
from tunewright.core.words import ABSENT, LARGE, decimals, figure, interval

HEIGHT = 240
"""Pixels from top to bottom of a plot."""
FOLDED = 24
"""More bars than this are shown when asked for."""
_TRACK = 18
_LARGEST = 1e300  # so that the width of an axis is finite


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    places: int

    def at(self, value: float) -> float:
        """0 to 1 along the axis; what lies outside is put on its edge."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def name(self, tick: float) -> str:
        """A tick's text."""
        return figure(float(tick)) if abs(self.ticks[-1] - self.ticks[0]) >= LARGE else decimals(tick, self.places)


def scale(values: Sequence[float], count: int = 4, wide: bool = True) -> Scale:
    """An axis over the finite values.

    Args:
        values: What must fit.
        count: About how many steps between ticks.
        wide: Extend both ends to a tick; else the ends are the extreme values.
    """
    finite = [min(max(value, -_LARGEST), _LARGEST) for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-12 * max(abs(low), abs(high)) + 1e-300:
        slack = abs(low) * 0.1 if abs(low) > 1e-290 else 1.0
        low, high = low - slack if low else 0.0, high + slack
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if step / power == 2.5 else 0))
    ticks = [index * step for index in range(first, last + 1)]
    if wide:
        return Scale(ticks[0], ticks[-1], tuple(ticks), places)
    slack = step * 1e-9
    return Scale(low, high, tuple(t for t in ticks if low - slack <= t <= high + slack), places)


def bars_scale(block: Bars) -> Scale:
    """The common axis of all bars: it always holds 0, and a share's axis ends at its maximum."""
    ends = [x for bar in block.bars for x in (bar.value, bar.low, bar.high) if x is not None]
    return scale([0.0, *ends, *([block.maximum] if block.maximum is not None else [])])


def bar_value(bar: Bar) -> str:
    """The text beside a bar: value, then interval; counts without decimals."""
    whole = bar.low is None and abs(bar.value) > 1 and bar.value.is_integer()
    value = figure(int(bar.value) if whole else bar.value)
    return value if bar.low is None or bar.high is None else f"{value} ({interval(bar.low, bar.high)})"


def bar_svg(bar: Bar, axis: Scale, unit: str = "") -> Markup:
    """One bar with its whisker."""
    if not math.isfinite(bar.value):
        return Markup("")
    zero, end = axis.at(0.0) * 100, axis.at(bar.value) * 100
    parts = [_grid(axis, _TRACK), _rect(min(zero, end), abs(end - zero), f"bar {bar.role}")]
    if bar.low is not None and bar.high is not None and math.isfinite(bar.low) and math.isfinite(bar.high):
        parts.append(_whisker(axis.at(bar.low) * 100, axis.at(bar.high) * 100))
    return _svg(bar.label, f"{bar_value(bar)} {unit}".strip(), Markup("").join(parts), _TRACK, "track")


def axis_svg(axis: Scale) -> Markup:
    """The tick texts under a set of bars; decoration, since each bar says its value."""
    texts = Markup("").join(_tick_text(axis, tick, 12) for tick in axis.ticks)
    return Markup('<svg class="axis" aria-hidden="true" width="100%" height="16">{}</svg>').format(texts)


def series_class(name: str, index: int) -> str:
    """Colour and dash of a series: base and tuned look the same everywhere."""
    fixed = {"base": "base", "tuned": "tuned", "training": "base", "validation": "tuned"}
    return fixed.get(name.lower(), f"s{index % 4}")


def lines_svg(block: Lines) -> Markup:
    """A line chart; series with few points get dots."""
    points = [(x, y) for line in block.lines for x, y in zip(line.x, line.y, strict=False) if math.isfinite(x + y)]
    steps = [x for x, _ in points]
    from_zero = [0.0] if steps and 0 <= min(steps) < 0.2 * max(steps) else []
    across, up = scale([*from_zero, *steps], count=6, wide=False), scale([y for _, y in points], count=5)
    drawn = [_y_axis(up)]
    drawn += [_tick_text(across, tick, HEIGHT + 18) for tick in across.ticks]
    drawn += [_series(line, series_class(line.name, i), across, up) for i, line in enumerate(block.lines)]
    ends = "; ".join(_ends(line) for line in block.lines)
    return _svg(block.title, f"{block.y_label} by {block.x_label}. {ends}", Markup("").join(drawn), HEIGHT, "plot")


def reliability_svg(block: Reliability) -> Markup:
    """Stated confidence (across) against share right (up); the diagonal is honesty."""
    unit = Scale(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0), 2)
    drawn = [_y_axis(unit), *(_tick_text(unit, tick, HEIGHT + 18) for tick in unit.ticks)]
    drawn.append(Markup('<line class="ideal" x1="0%" y1="{}" x2="100%" y2="0"/>').format(HEIGHT))
    largest = max((_mass(one) for bins in block.series.values() for one in bins), default=1) or 1
    for index, (name, found) in enumerate(block.series.items()):
        bins = [one for one in found if math.isfinite(one.confidence + one.accuracy)]
        style = series_class(name, index)
        drawn.append(_path([(one.confidence, one.accuracy) for one in bins], style, unit, unit))
        drawn += [_upright(one, style) for one in bins]
        drawn += [_dot(one, style, 3 + 5 * math.sqrt(max(_mass(one), 0) / largest)) for one in bins]
    said = "; ".join(f"{name}: {_gap(bins)}" for name, bins in block.series.items())
    told = f"Points under the diagonal are over-confident. {said}"
    return _svg(block.title, told, Markup("").join(drawn), HEIGHT, "plot")


def _svg(title: str, description: str, inside: Markup, height: int, style: str) -> Markup:
    return Markup(
        '<svg class="{}" role="img" width="100%" height="{}"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(style, height, title, description, inside)


def _rect(left: float, width: float, style: str) -> Markup:
    return Markup('<rect class="{}" x="{}" y="3" width="{}" height="{}"/>').format(
        style, _percent(left), _percent(width), _TRACK - 6
    )


def _whisker(low: float, high: float) -> Markup:
    middle = _TRACK / 2
    line = Markup('<line class="{}" x1="{}" x2="{}" y1="{y:g}" y2="{y:g}"/>')
    parts = [line.format(style, _percent(low), _percent(high), y=middle) for style in ("halo", "whisker")]
    cap = Markup('<line class="whisker" x1="{x}" x2="{x}" y1="{:g}" y2="{:g}"/>')
    return Markup("").join([*parts, *(cap.format(middle - 4, middle + 4, x=_percent(x)) for x in (low, high))])


def _grid(axis: Scale, height: int) -> Markup:
    line = Markup('<line class="{}" x1="{x}" x2="{x}" y1="0" y2="{}"/>')
    return Markup("").join(
        line.format("zero" if tick == 0 else "grid", height, x=_percent(axis.at(tick) * 100)) for tick in axis.ticks
    )


def _tick_text(axis: Scale, tick: float, y: int) -> Markup:
    return Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
        _percent(axis.at(tick) * 100), y, axis.name(tick)
    )


def _y_axis(axis: Scale) -> Markup:
    """Grid lines across and tick texts in the margin on the left."""
    row = Markup(
        '<line class="grid" x1="0%" x2="100%" y1="{y:g}" y2="{y:g}"/>'
        '<text class="tick" x="-8" y="{t:g}" text-anchor="end">{}</text>'
    )
    return Markup("").join(
        row.format(axis.name(tick), y=round(_up(axis, tick), 1), t=round(_up(axis, tick), 1) + 4) for tick in axis.ticks
    )


def _series(line: Line, style: str, across: Scale, up: Scale) -> Markup:
    points = [(x, y) for x, y in zip(line.x, line.y, strict=False) if math.isfinite(x + y)]
    dot = Markup('<circle class="dot {}" cx="{}" cy="{:g}" r="3"/>')
    few = points if len(points) <= 24 else []
    dots = [dot.format(style, _percent(across.at(x) * 100), round(_up(up, y), 1)) for x, y in few]
    return Markup("").join([_path(points, style, across, up), *dots])


def _path(points: Sequence[tuple[float, float]], style: str, across: Scale, up: Scale) -> Markup:
    """A line in a stretched inner picture; the stroke keeps its width."""
    spots = " ".join(f"{across.at(x) * 1000:.1f},{_up(up, y):.1f}" for x, y in points)
    return Markup(
        '<svg width="100%" height="{h}" viewBox="0 0 1000 {h}" preserveAspectRatio="none">'
        '<polyline class="line {}" points="{}" vector-effect="non-scaling-stroke"/></svg>'
    ).format(style, spots, h=HEIGHT)


def _dot(one: Bin, style: str, radius: float) -> Markup:
    return Markup('<circle class="dot {}" cx="{}" cy="{:g}" r="{:.1f}"/>').format(
        style, _percent(one.confidence * 100), round((1 - one.accuracy) * HEIGHT, 1), radius
    )


def _upright(one: Bin, style: str) -> Markup:
    """The interval of a bin's accuracy, or nothing where there is none."""
    if one.low is None or one.high is None:
        return Markup("")
    return Markup('<line class="interval {}" x1="{x}" x2="{x}" y1="{:g}" y2="{:g}"/>').format(
        style,
        round((1 - one.high) * HEIGHT, 1),
        round((1 - one.low) * HEIGHT, 1),
        x=_percent(one.confidence * 100),
    )


def _up(axis: Scale, value: float) -> float:
    return (1 - axis.at(value)) * HEIGHT


def _ends(line: Line) -> str:
    if not line.y:
        return f"{line.name}: no points"
    return f"{line.name}: from {figure(float(line.y[0]))} to {figure(float(line.y[-1]))}"


def _mass(one: Bin) -> float:
    return one.count if one.mass is None else one.mass


def _gap(bins: Sequence[Bin]) -> str:
    total = sum(map(_mass, bins))
    if not total:
        return ABSENT
    gap = sum(_mass(one) * abs(one.confidence - one.accuracy) for one in bins) / total
    return f"stated and actual differ by {figure(float(gap))} on average"


def _percent(value: float) -> str:
    return f"{value:.2f}%"
