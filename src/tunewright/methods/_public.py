"""Public rows, from whose loss it is seen which coordinates matter: texts, or pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from tunewright.core.errors import UserError
from tunewright.core.files import lines_of, read_text
from tunewright.core.records import Answer, Example, text_part
from tunewright.core.seeds import stream
from tunewright.core.settings import DataSettings
from tunewright.data.encoder import Encoded, Encoder, Unencodable
from tunewright.data.reading import open_rows
from tunewright.models.contracts import EncodeSettings, LoadedModel

_ROWS = 256
"""No more are looked at; a text that is too long for the model is several."""


def public_rows(model: LoadedModel, public: str, seed: int) -> list[Encoded]:
    """The rows of a public file as the model reads them.

    A text is its own answer. A picture's label is drawn from what the model itself holds likely, so public pictures may
    show other things than its labels are, or have no label.

    Args:
        model: Opened.
        public: A file of texts, one a line; for a picture model a file or folder of pictures, as rows of `picture` are.
        seed: From which labels are drawn.

    Raises:
        UserError: There is no such file, it holds no row, a row cannot be read, or the model takes neither.
    """
    able = model.family.capabilities
    if "token_log_probs" not in able or not {"text", "choices"} & able:
        raise UserError("method.policy: gradient needs a model of texts or of pictures. Use magnitude or random.")
    texts = "text" in able
    if not public or not Path(public).exists() or (texts and not Path(public).is_file()):
        kind = "texts, one a line," if texts else "pictures"
        raise UserError(
            f"method.public: found '{public}'; policy gradient needs a file of public {kind} that nobody has to be "
            "protected from. Name it, or use policy magnitude or random."
        )
    encoder = model.family.encoder(model, EncodeSettings(on_overlong="split", loss_on="all"))
    examples = _texts(Path(public)) if texts else _pictures(model, Path(public), seed)
    rows = list(islice(_encoded(encoder, examples), _ROWS))
    if not rows:
        raise UserError(f"method.public: {public} holds no {'text. Write one a line' if texts else 'picture'}.")
    return rows


def _encoded(encoder: Encoder, examples: Iterator[Example]) -> Iterator[Encoded]:
    for example in examples:
        try:
            yield from encoder.encode(example)
        except Unencodable as error:
            raise UserError(f"method.public: a row cannot be encoded: {error}.") from None


def _texts(path: Path) -> Iterator[Example]:
    for line in lines_of(read_text(path)):
        if text := line.strip():
            yield Example((), (Answer((text_part(text),)),), id=text)


def _pictures(model: LoadedModel, path: Path, seed: int) -> Iterator[Example]:
    labels, draw = model.tokenizer.labels, stream(seed, "public", "labels")
    for _, example in open_rows(path, DataSettings(path=str(path), format="picture")):
        if not isinstance(example, Example):
            raise UserError(f"method.public: {example}")
        (log_probs,) = model.family.choices(model, [example], [labels], False)
        drawn = draw.choice(len(labels), p=np.exp(log_probs) / np.exp(log_probs).sum())
        yield replace(example, answers=(Answer((text_part(labels[drawn]),)),))
