"""A run's own rows, seen and unseen: can they be told apart, and read out of the model?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tunewright.core.progress import Progress
from tunewright.core.records import Example, unit_of
from tunewright.core.seeds import key
from tunewright.core.store import Run
from tunewright.data.canaries import Canaries
from tunewright.data.encoder import Encoded, Unencodable, encode_all
from tunewright.evaluate import leaks
from tunewright.evaluate.exposure import extracted
from tunewright.evaluate.leaks import Extraction, Losses
from tunewright.evaluate.membership import Share
from tunewright.evaluate.suite import losses
from tunewright.models.contracts import LoadedModel
from tunewright.models.generation import greedy
from tunewright.models.opening import open_model
from tunewright.pipeline.prepare import Prepared, mould_of
from tunewright.runs.opening import open_trained, open_tuned

MOST_ROWS = 1_000
"""Units of each side that membership is inferred of."""
MOST_SECRETS = 32
"""Secrets of each side that the model is asked to continue."""
_SECRET_LETTERS, _SECRET_TOKENS = 48, 48


@dataclass(frozen=True, slots=True)
class OwnRows:
    """A run's own rows, seen and unseen, one of each unit so that they are independent."""

    prepared: Prepared
    run: Run
    progress: Progress
    members: tuple[Example, ...]
    others: tuple[Example, ...]

    @classmethod
    def of(cls, prepared: Prepared, run: Run, progress: Progress) -> OwnRows:
        """As many of each as are asked; rows come in the order of their content, so these are any rows."""
        seen, unseen = one_a_unit(prepared.dataset.train), one_a_unit(prepared.test)
        return cls(prepared, run, progress, tuple(seen), tuple(unseen))

    def membership(self) -> leaks.Membership | None:
        """None when one side has no row."""
        encoded = [
            [pieces for pieces in encode_all(self.prepared.encoder, rows) if not isinstance(pieces, Unencodable)]
            for rows in (self.members, self.others)
        ]
        if not all(encoded):
            return None
        return leaks.of_members(*fallen(self.prepared, self.run, encoded, self.progress))

    def extractions(self, audited: Run) -> list[Extraction]:
        """Of canaries and of long answers, or second halves of plain texts, where the model writes freely.

        Args:
            audited: The run whose canaries are asked: this one, or a twin of it.
        """
        needed = {"generate"} if self._asks else {"generate", "text"}
        if self.prepared.dataset.labels or not needed <= self.prepared.model.family.capabilities:
            return []
        tuned = open_trained(self.run, self.prepared.dtype)  # who reads out leaves out a safety prompt
        what = "long answers of rows" if self._asks else "second halves of rows"
        found = self._extraction(what, tuned, [*filter(self._long, self.members)], [*filter(self._long, self.others)])
        if audited.read("canaries.json") is None:
            return found
        canaries = Canaries.read(audited.folder)
        rows = canaries.rows(mould_of(self.prepared))
        inside, left_out = (
            [row for row, coin in zip(rows, canaries.coins, strict=True) if coin is side] for side in (True, False)
        )
        if audited != self.run:
            tuned = open_trained(audited, self.prepared.dtype)
        return [*self._extraction("canaries", tuned, inside, left_out), *found]

    @property
    def _asks(self) -> bool:
        """Whether rows have something that an answer follows; else they are plain texts."""
        return bool(self.prepared.dataset.train[0].context)

    def _long(self, row: Example) -> bool:
        return len(row.answer.text) >= _SECRET_LETTERS * (1 if self._asks else 2)

    def _extraction(
        self, what: str, tuned: LoadedModel, seen: Sequence[Example], unseen: Sequence[Example]
    ) -> list[Extraction]:
        """None where a side has no row."""
        if not seen or not unseen:
            return []
        said = self._answered if self._asks else self._continued
        return [Extraction(what, said(tuned, seen[:MOST_SECRETS]), said(tuned, unseen[:MOST_SECRETS]))]

    def _answered(self, tuned: LoadedModel, rows: Sequence[Example]) -> Share:
        """Answers whose first letters the model says, spaces aside."""
        answers = tuned.family.generate(tuned, rows, _SECRET_TOKENS, self.prepared.encode)
        said = [answer.text for answer in answers]
        return extracted([row.answer.text[:_SECRET_LETTERS] for row in rows], said)

    def _continued(self, tuned: LoadedModel, rows: Sequence[Example]) -> Share:
        """Texts whose next letters the model says, spaces aside, given their first half."""
        encoder: Any = self.prepared.encoder
        end = tuned.tokenizer.eos_token_id
        ends = [encoder.stop_ids(), [] if end is None else [end]]
        texts = [[int(token) for token in encoder.encode(row)[0].inputs["input_ids"]] for row in rows]
        befores = [ids[: len(ids) // 2] for ids in texts]
        said = [answer.text for answer in greedy(tuned, befores, ends, _SECRET_TOKENS)]
        rests = [ids[len(before) :][:_SECRET_TOKENS] for ids, before in zip(texts, befores, strict=True)]
        secrets = [tuned.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in rests]
        return extracted([secret[:_SECRET_LETTERS] for secret in secrets], said)


def fallen(
    prepared: Prepared, run: Run, groups: Sequence[Sequence[Sequence[Encoded]]], progress: Progress
) -> list[Losses]:
    """The loss of each row of each group under base and tuned, from the rows' pieces."""
    tuned = open_tuned(run, prepared.dtype, open_model(prepared.model.origin, prepared.dtype))
    seed = key(prepared.settings.seed, "audit")
    base, after = (
        [losses(prepared.objective, model, rows, seed, partial(progress, f"{what}: loss of rows")) for rows in groups]
        for what, model in (("base", prepared.model), ("tuned", tuned))
    )
    return [Losses(before[0], now[0], now[1]) for before, now in zip(base, after, strict=True)]


def one_a_unit(rows: Sequence[Example]) -> list[Example]:
    """The first row of each unit, at most `MOST_ROWS`; a row without a unit stands for itself."""
    found: dict[str, Example] = {}
    for row in rows:
        found.setdefault(unit_of(row), row)
        if len(found) == MOST_ROWS:
            break
    return [*found.values()]
