"""Canaries: made-up rows, each put into training or left out by its own coin, so that leaks can be measured.

Nothing of a real row is in them: their words are drawn from a fixed list, their pictures are noise. Each is a unit of
its own. The coins and the key that all is drawn from come from the operating system.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunewright.core.errors import UserError
from tunewright.core.files import read_json, write_atomic
from tunewright.core.records import Answer, Example, Part, Turn, text_part
from tunewright.core.seeds import stream
from tunewright.data.encoder import Encoder, Overlong, Unencodable, encode_all

FILE = "canaries.json"
"""In the run folder, for its owner alone, until the run is deleted."""
FEWEST = 16
"""Fewer could prove nothing."""
_LIST = """
amber anvil apron basin beech birch bison brick cabin candle canvas cedar chalk cider cinder clover cobalt copper
coral cotton crane crater daisy dune ember fabric falcon fennel ferry fiddle flint forest fossil galaxy garnet ginger
glacier granite gravel hazel heron honey indigo ivory jasper juniper kettle lagoon lantern laurel lemon lilac linen
lobster magnet maple marble meadow mirror mosaic nettle oasis olive onyx orchid otter paddle parsley pebble pepper
pewter pigeon pilot planet plaster poplar prairie quartz quiver raven reed ribbon river saddle saffron salmon satin
shovel silver slate sparrow spruce tangle temple thistle timber topaz tulip tundra turnip valley velvet violet walnut
willow winter yarrow zephyr
"""
_WORDS = _LIST.split()
_PROMPT_WORDS, _SECRET_GROUPS = 8, 4


@dataclass(frozen=True, slots=True)
class Mould:
    """What a canary must look like to pass as a row: its labels, whether something is asked, the shape of pictures."""

    labels: tuple[str, ...] = ()
    asks: bool = True
    instruction: str = ""
    picture: tuple[tuple[int, ...], str] | None = None
    """Shape and number type of the pictures, for rows that hold one."""

    @classmethod
    def of(cls, row: Example, labels: tuple[str, ...], instruction: str = "") -> Mould:
        """The mould of rows like this one; of its content nothing is taken.

        Raises:
            UserError: The rows hold what no canary can be made of.
        """
        asked = [part for turn in row.context for part in turn.parts]
        other = sorted({part.kind for part in (*asked, *row.answer.parts)} - {"text", "image"})
        pictures = [part for part in asked if part.kind == "image"]
        if other or any(part.kind != "text" for part in row.answer.parts):
            raise UserError(
                f"audit.canaries: canaries are made for rows of text or pictures with text answers, and these hold "
                f"{', '.join(other) or 'pictures as answers'}. Set audit.canaries: 0."
            )
        picture = (tuple(pictures[0].value.shape), str(pictures[0].value.dtype)) if pictures else None
        return cls(labels, bool(row.context), instruction, picture)


@dataclass(frozen=True, slots=True)
class Canaries:
    """The coins of a run's canaries, and the key that their content is drawn from."""

    key: str = ""
    coins: tuple[bool, ...] = ()
    """True = in the training rows."""

    @classmethod
    def draw(cls, count: int) -> Canaries:
        """So many canaries with fresh coins.

        Raises:
            UserError: So few could prove nothing.
        """
        if not count:
            return cls()
        if count < FEWEST:
            raise UserError(
                f"audit.canaries: found {count}; with fewer than {FEWEST} nothing can be proven. Allowed: 0, or "
                f"{FEWEST} and more; 200 to 1,000 are usual."
            )
        return cls(secrets.token_hex(16), tuple(bool(secrets.randbits(1)) for _ in range(count)))

    @classmethod
    def read(cls, folder: Path) -> Canaries:
        """The canaries of a run.

        Raises:
            UserError: The file is gone or damaged; without it neither training nor the audit can go on.
        """
        try:
            found = read_json(folder / FILE)
            return cls(str(found["key"]), tuple(coin == "1" for coin in found["coins"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{folder / FILE} is gone or damaged, so it can't be known which canaries were trained on. "
                "Put it back, or start a new run."
            ) from None

    def write(self, folder: Path) -> None:
        """Keeps them in the run folder, for its owner alone."""
        coins = "".join("01"[coin] for coin in self.coins)
        write_atomic(folder / FILE, json.dumps({"key": self.key, "coins": coins}), mode=0o600)

    def rows(self, mould: Mould) -> tuple[Example, ...]:
        """All canaries, in and out, as rows; canary k is a function of the key and k alone."""
        return tuple(self._row(number, mould) for number in range(len(self.coins)))

    def included(self, mould: Mould) -> tuple[Example, ...]:
        """Those that are trained on."""
        return tuple(row for row, coin in zip(self.rows(mould), self.coins, strict=True) if coin)

    def require_encodable(self, encoder: Encoder, mould: Mould) -> None:
        """All of them, in and out, must become rows: one that did not would be counted as trained on, and was not.

        Raises:
            UserError: Some are too long, or the model's template refuses them.
        """
        rows = self.rows(mould)
        wanting = [found for found in encode_all(encoder, rows) if isinstance(found, Unencodable) or not found]
        other = [str(found) for found in wanting if isinstance(found, Unencodable) and not isinstance(found, Overlong)]
        if other:
            raise UserError(f"audit.canaries: a canary cannot be encoded: {other[0]}. Or set audit.canaries: 0.")
        if wanting:
            raise UserError(
                f"audit.canaries: {len(wanting)} of {len(rows)} canaries are longer than train.max_length, so they "
                "could not be trained on. Raise it, or set audit.canaries: 0."
            )

    def _row(self, number: int, mould: Mould) -> Example:
        draw = stream(self.key, "canary", number)
        words = " ".join(draw.choice(_WORDS, _PROMPT_WORDS))
        secret = " ".join(f"{value:04d}" for value in draw.integers(0, 10_000, _SECRET_GROUPS))
        parts = [text_part(f"{mould.instruction}\n\n{words}" if mould.instruction else words)]
        if mould.picture:
            shape, dtype = mould.picture
            noise = draw.random(shape)
            pixels = (noise * 255).round() if np.issubdtype(np.dtype(dtype), np.integer) else noise
            parts = [Part("image", pixels.astype(dtype))]
        answer = str(draw.choice(mould.labels)) if mould.labels else secret
        return Example(
            (Turn("user", tuple(parts)),) if mould.asks else (),
            (Answer((text_part(answer if mould.asks else f"{words} {answer}"),)),),
            id=f"canary-{number}",
            source=f"canary {number}",
            unit=f"canary-{number}",
            label=bool(mould.labels),
        )
