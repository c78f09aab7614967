"""Figures that the pages state are those of the code."""

from __future__ import annotations

import re

import pytest

from docs.pages import text_of
from tunewright.core import plugins
from tunewright.core.settings import DataSettings, TrainSettings
from tunewright.data.checks import STOP_SHARE
from tunewright.evaluate.bootstrap import LEVEL, MIN_UNITS, POWER
from tunewright.evaluate.probes.retention import passages, prompts

WORDS = {3: "three", 7: "seven", 8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve"}
FORMATS = len([p for p in plugins.everything("formats") if p.__module__.startswith("tunewright.")])
SHARES = "/".join(f"{share * 100:.0f}" for share in DataSettings().splits)
STATED = [
    ("README.md", rf"{len(passages())} general passages and {len(prompts())} neutral prompts"),
    ("README.md", rf"Intervals are {LEVEL * 100:.0f} %"),
    ("README.md", rf"{WORDS[FORMATS - 1]} more shapes of rows"),
    ("CHANGELOG.md", rf"{WORDS[FORMATS].capitalize()} formats of rows"),
    ("docs/formats.md", rf"rows are split {SHARES} by unit"),
    ("docs/footguns.md", rf"Fewer than {MIN_UNITS} units give no decision"),
    ("docs/footguns.md", rf"trained in {STOP_SHARE * 100:.0f} % of rows"),
    ("docs/glossary.md", rf"find in {POWER * 10:.0f} of 10 cases"),
    ("docs/decisions/validation-picks.md", rf"after {WORDS[TrainSettings().early_stopping_patience]} validations"),
    ("docs/decisions/retention-texts.md", rf"{len(passages())} passages and {len(prompts())} prompts"),
    (
        "docs/decisions/dropout-keys.md",
        rf"\(`method.lora_dropout` is {plugins.build('methods', 'lora').lora_dropout:g}\)",
    ),
]


@pytest.mark.parametrize(("page", "figure"), STATED)
def test_a_stated_figure_is_that_of_the_code(page: str, figure: str) -> None:
    assert re.search(figure.replace(" ", r"\s+"), text_of(page))
