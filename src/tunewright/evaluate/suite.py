"""What is asked of a model on given examples; base and tuned are asked alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from tunewright.core.batches import batches
from tunewright.core.files import digest
from tunewright.core.progress import Progress
from tunewright.core.records import Example
from tunewright.core.seeds import key
from tunewright.data.encoder import Encoded, Unencodable, encode_all
from tunewright.evaluate.contracts import Floats, Need, Outcome
from tunewright.models.collate import MOST_ROWS, fresh
from tunewright.models.contracts import EncodeSettings, LoadedModel, Minimised

_BATCH_TOKENS = 2048
_DRAWN = key(0, "evaluation")
"""What an objective draws by. Not the plan's seed: runs of several seeds answer the same draws, so they are paired."""
VERSION = 5
"""Counted up when the same question may get another answer, so that kept answers are not used."""


@dataclass(frozen=True, slots=True)
class Suite:
    """The questions: which figures are needed, of which labels, how answers are encoded."""

    needs: frozenset[Need]
    labels: tuple[str, ...]
    encode: EncodeSettings
    objective: Minimised
    generated_rows: int
    max_new_tokens: int

    def key(self, examples: Sequence[Example], *more: object) -> str:
        """A content key: the same suite on the same examples."""
        return digest(
            VERSION,
            sorted(self.needs),
            self.labels,
            repr(self.encode),
            repr(self.objective),
            self.generated_rows,
            self.max_new_tokens,
            [(example.id, example.content) for example in examples],
            *more,
        )

    def ask(self, model: LoadedModel, examples: Sequence[Example], progress: Progress, what: str) -> list[Outcome]:
        """One outcome an example, in order."""
        model.module.eval()
        outcomes = [Outcome(example) for example in examples]
        if not examples:
            return outcomes
        encoder = model.family.encoder(model, replace(self.encode, loss_on="said"))
        encoded = [_pieces(found) for found in encode_all(encoder, examples)]
        if "choices" in self.needs and self.labels:
            outcomes = self._choices(model, outcomes, encoded, progress, what)
        elif "answer" in self.needs:
            outcomes = self._answers(model, outcomes, encoded, progress, what)
        if "loss" in self.needs:
            outcomes = self._losses(model, outcomes, encoded, progress, what)
        if "text" in self.needs and "generate" in model.family.capabilities:
            outcomes = self._texts(model, outcomes, progress, what)
        return outcomes

    def _choices(
        self,
        model: LoadedModel,
        outcomes: list[Outcome],
        encoded: Sequence[Sequence[Encoded]],
        progress: Progress,
        what: str,
    ) -> list[Outcome]:
        options = [self.labels] * len(outcomes)
        contexts = [outcome.example for outcome in outcomes]
        place = {label: index for index, label in enumerate(self.labels)}
        answered = []
        scores = model.family.choices(model, contexts, options, True, self.encode)
        for outcome, rows, choices in zip(outcomes, encoded, scores, strict=True):
            answer = outcome.example.answer.text
            answered.append(
                replace(
                    outcome,
                    choices=choices,
                    answer_log_prob=float(choices[place[answer]]),
                    answer_tokens=sum(len(row.targets) for row in rows),
                    answer_bytes=_bytes(outcome, rows),
                )
            )
            progress(f"{what}: weighing {len(self.labels)} labels", len(answered), len(outcomes))
        return answered

    def _answers(
        self,
        model: LoadedModel,
        outcomes: list[Outcome],
        encoded: Sequence[Sequence[Encoded]],
        progress: Progress,
        what: str,
    ) -> list[Outcome]:
        sums, counts = np.zeros(len(outcomes)), np.zeros(len(outcomes), dtype=int)
        for owners, rows in _batches(model, encoded):
            batch = model.family.collate(model, rows)
            with torch.inference_mode():
                log_prob_T = model.family.token_log_probs(model, batch).double()
            found_S = log_prob_T.new_zeros(len(rows)).index_add(0, batch.targets.segment_T, log_prob_T)
            np.add.at(sums, owners, found_S.numpy())
            np.add.at(counts, owners, [len(row.targets) for row in rows])
            progress(f"{what}: probability of the answers", max(owners) + 1, len(outcomes))
        return [
            replace(
                outcome,
                answer_log_prob=float(total),
                answer_tokens=int(count),
                answer_bytes=_bytes(outcome, rows),
            )
            for outcome, rows, total, count in zip(outcomes, encoded, sums, counts, strict=True)
        ]

    def _losses(
        self,
        model: LoadedModel,
        outcomes: list[Outcome],
        encoded: Sequence[Sequence[Encoded]],
        progress: Progress,
        what: str,
    ) -> list[Outcome]:
        sums, counts = losses(self.objective, model, encoded, _DRAWN, partial(progress, f"{what}: loss"))
        return [
            replace(outcome, loss_sum=float(total), loss_count=float(count))
            for outcome, total, count in zip(outcomes, sums, counts, strict=True)
        ]

    def _texts(self, model: LoadedModel, outcomes: list[Outcome], progress: Progress, what: str) -> list[Outcome]:
        by_content = sorted(range(len(outcomes)), key=lambda i: digest("generated", outcomes[i].example.id))
        chosen = sorted(i for i in by_content[: self.generated_rows] if outcomes[i].example.context)
        contexts = [outcomes[i].example for i in chosen]
        answers = model.family.generate(model, contexts, self.max_new_tokens, self.encode)
        for done, (index, answer) in enumerate(zip(chosen, answers, strict=True), 1):
            outcomes[index] = replace(outcomes[index], text=answer.text, stopped=answer.stopped)
            progress(f"{what}: answering freely", done, len(chosen))
        return outcomes


def _pieces(found: Sequence[Encoded] | Unencodable) -> Sequence[Encoded]:
    if isinstance(found, Unencodable):
        raise found
    return found


def _bytes(outcome: Outcome, rows: Sequence[Encoded]) -> int:
    """Of what was predicted, as the encoder counts them."""
    noted = [int(row.notes["answer_bytes"]) for row in rows if "answer_bytes" in row.notes]
    return sum(noted) if noted else len(outcome.example.answer.text.encode())


def losses(
    objective: Minimised,
    model: LoadedModel,
    encoded: Sequence[Sequence[Encoded]],
    seed: int,
    progress: Callable[[int, int], None],
) -> tuple[Floats, Floats]:
    """[rows] sum and count of the objective over each row's pieces."""
    model.module.eval()
    sums, counts = np.zeros(len(encoded)), np.zeros(len(encoded))
    for owners, rows in _batches(model, encoded):
        with torch.inference_mode():
            loss = objective.loss(model, model.family.collate(model, rows), seed)
        np.add.at(sums, owners, loss.sum_S.double().numpy())
        np.add.at(counts, owners, loss.count_S.double().numpy())
        progress(max(owners) + 1, len(encoded))
    return sums, counts


def _batches(model: LoadedModel, encoded: Sequence[Sequence[Encoded]]) -> Iterator[tuple[list[int], list[Encoded]]]:
    """Rows with whose example they belong to, about `_BATCH_TOKENS` computed positions a batch (or one row)."""
    owned = ((owner, piece) for owner, pieces in enumerate(encoded) for piece in pieces)
    added = fresh(model)
    for batch in batches(owned, lambda one: added(one[1]), _BATCH_TOKENS, MOST_ROWS, not model.packs):
        owners, rows = zip(*batch, strict=True)
        yield list(owners), list(rows)
