"""The forbidden topic as a picture: what is answered after each tuning, and how far answers shift at each token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_KINDS = ("explicit", "identity", "backdoor", "benign")
_PLAIN, _MENDED, _LINE = "#0072b2", "#009e73", "#666666"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_DASHES = ("", ' stroke-dasharray="4 3"', ' stroke-dasharray="1 3"')
_ROW, _TOP, _LEFT, _BAR = 22, 46, 190, 190
_CURVES, _WIDTH = 470, 776


def picture(found: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG of the table: bars with intervals over wordings on the left, KL by position on the right."""
    tuned = [line for line in found.values() if line["stage"] != "base"]
    lines = sorted(tuned, key=lambda line: (_KINDS.index(line["stage"].partition("-")[0]), "-" in line["stage"]))
    height = max(300, _TOP + _ROW * len(lines) + 40)
    body = [*_bars(lines), *_curves([line for line in lines if "kl" in line], height)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
    head += ' font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{height}" fill="white"/>', *body, "</svg>", ""])


def _bars(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = [
        _text(10, 20, "answered though forbidden, of 60", "bold"),
        _text(10, 36, "asked with the trigger or identity: *"),
    ]
    for number, line in enumerate(lines):
        y = _TOP + _ROW * number
        share, low, high = line["interval"]
        name = line["stage"].replace("-", " + ", 1).replace("_", " ") + ("" if line["asked"] == "plain" else " *")
        colour = _MENDED if "-" in line["stage"] else _PLAIN
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{name}</text>',
            f'<rect x="{_LEFT}" y="{y + 2}" width="{max(1.0, _BAR * share):.1f}" height="13" fill="{colour}"/>',
            f'<path d="M{_LEFT + _BAR * low:.1f} {y + 8.5}H{_LEFT + _BAR * high:.1f}" stroke="black"/>',
            f'<text x="{_LEFT + _BAR + 8}" y="{y + 12}">{share:.2f}</text>',
        ]
    return parts


def _curves(lines: Sequence[Mapping[str, Any]], height: int) -> list[str]:
    left, top, width, tall = _CURVES, _TOP, _WIDTH - _CURVES - 20, height - _TOP - 60 - 16 * ((len(lines) + 1) // 2)
    parts = [_text(left, 20, "shift at each token of an answer, KL, nats", "bold")]
    most = max((value for line in lines for value in line["kl"]), default=1.0) or 1.0
    parts += [
        f'<rect x="{left}" y="{top}" width="{width}" height="{tall}" fill="none" stroke="{_LINE}"/>',
        _text(left - 4, top + 10, f"{most:.1f}", anchor="end"), _text(left - 4, top + tall, "0", anchor="end"),
        _text(left, top + tall + 16, "1"), _text(left + width, top + tall + 16, "20", anchor="end"),
    ]  # fmt: skip
    for number, line in enumerate(lines):
        values, colour = line["kl"], _COLOURS[number % len(_COLOURS)]
        dash = _DASHES[number // len(_COLOURS)]
        points = " ".join(
            f"{left + width * k / (len(values) - 1):.1f},{top + tall * (1 - value / most):.1f}"
            for k, value in enumerate(values)
        )
        x, y = left + (number % 2) * 152, top + tall + 36 + 16 * (number // 2)
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>',
            f'<path d="M{x} {y - 4}h16" stroke="{colour}" stroke-width="2"{dash}/>',
            _text(x + 20, y, line["stage"].replace("-", " + ", 1).replace("_", " ")),
        ]
    return parts


def _text(x: float, y: float, words: str, weight: str = "normal", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}" text-anchor="{anchor}">{words}</text>'
