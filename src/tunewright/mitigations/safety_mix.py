"""Refusals mixed in evenly."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from tunewright.core.errors import UserError
from tunewright.core.files import digest, lines_of, read_text
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data.formats import shown
from tunewright.mitigations._base import Mitigation
from tunewright.models.contracts import LoadedModel

_SHIPPED = Path(__file__).with_name("_refusals.jsonl")


class SafetyMix(Mitigation):
    """Trains on a few refusals beside the rows, placed evenly in every epoch.

    Bianchi et al., ICLR 2024, "Safety-Tuned LLaMAs": about 3 % of such rows bring most of the safety back, too many
    make a model that refuses what is harmless. The rows' own batches stay as they are: refusals are added to steps.
    """

    share: float = Field(0.03, gt=0, le=1)
    """Refusals a training row."""
    rows: str = ""
    """File with `prompt` and `completion` a line (JSON); empty = the 80 that are shipped. Fewer than the share asks for
    are added once each, and told before training."""

    def check(self, train: Sequence[Example], model: LoadedModel, method: str) -> list[str]:
        """Faults of the file; that it holds too few refusals is none, and told as a warning."""
        try:
            short = self.shortfall(train)
        except UserError as error:
            return error.problems
        if short:
            logging.getLogger("tunewright").warning(short)
        return []

    def shortfall(self, train: Sequence[Example]) -> str:
        """Where there are fewer refusals than the share asks for."""
        given, wanted = len(self.more_rows(train)), self._wanted(train)
        if given == wanted:
            return ""
        return (
            f"safety_mix: {given} of {wanted} refusals asked for (share {self.share:g} of {len(train)} rows), so "
            f"{given / len(train):.1%} of the rows; there are no more. Give more with rows: FILE."
        )

    def _wanted(self, train: Sequence[Example]) -> int:
        return math.ceil(self.share * len(train))

    def more_rows(self, train: Sequence[Example]) -> list[Example]:
        """As many refusals as the share asks for, at most as many as there are, a fixed choice by content.

        Raises:
            UserError: The file is missing, or a line is no pair.
        """
        known = refusals(Path(self.rows).expanduser() if self.rows else _SHIPPED)
        chosen = sorted(known, key=lambda pair: digest("mix", *pair))[: self._wanted(train)]
        return [
            Example(
                (Turn("user", (text_part(prompt),)),),
                (Answer((text_part(answer),)),),
                id=f"refusal-{digest(prompt, answer)}",
                source=f"{self.plugin_name()}:{number + 1}",
            )
            for number, (prompt, answer) in enumerate(chosen)
        ]


def refusals(path: Path) -> list[tuple[str, str]]:
    """Pairs of request and refusal.

    Raises:
        UserError: The file is missing, or a line is no pair; all faults at once.
    """
    if not path.is_file():
        raise UserError(
            f"safety_mix.rows: {path} does not exist. Give a file of JSON lines with prompt and completion."
        )
    pairs, faults = [], []
    for number, line in enumerate(lines_of(read_text(path)), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            pair = row["prompt"], row["completion"]
        except (ValueError, KeyError, TypeError):
            pair = "", ""
        if all(isinstance(text, str) and text.strip() for text in pair):
            pairs.append(pair)
        else:
            faults.append(
                f'{path}, line {number}: found {shown(line)}; expected {{"prompt": text, "completion": text}}.'
            )
    if not pairs and not faults:
        faults.append(f"safety_mix.rows: {path} holds no rows.")
    if faults:
        raise UserError(faults)
    return pairs
