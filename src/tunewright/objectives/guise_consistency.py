"""Next-token training that also asks for the same judgement of a speaker in either variety."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, cast

from pydantic import Field
from torch import Tensor

from tunewright.core import plugins
from tunewright.core.records import Example
from tunewright.core.seeds import stream
from tunewright.data.dialect import Pair, frames, make_pairs
from tunewright.models.contracts import Batch, LoadedModel, Loss, LossOn, Objective

_PAIRS = 1344


class GuiseConsistency(Objective):
    """Next-token loss, and KL between what follows a speaker's words in the standard and in a dialect.

    With every row goes one pair of equal meaning in one prompt; KL(p(. | standard) || p(. | dialect)) of the next
    token, the standard's side without a gradient, is added to the row's loss. Pairs and prompts are of the portion
    `trained`; a run that has this objective is judged by the others (`portion: held_out` of the dialect probe).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"token_log_probs", "raw_texts"})
    unseen: ClassVar[Mapping[str, Mapping[str, Any]]] = {"dialect": {"portion": "held_out"}}

    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    """How much a nat of divergence counts against a nat a token of the rows' loss."""

    def check(self, examples: Sequence[Example]) -> list[str]:
        """As the next-token objective."""
        return list(_plain(self.loss_on).check(examples))

    def loss(self, model: LoadedModel, batch: Batch, seed: int) -> Loss:
        """The next-token loss, with weight x divergence added for every unit that a segment counts.

        Returns:
            `sum_S` and `count_S` [segments], as of next_token; pairs are keyed by seed and the row's id.
        """
        rows: Loss = _plain(self.loss_on).loss(model, batch, seed)
        apart_S = self.apart(model, batch.ids, seed).to(rows.sum_S)
        return Loss(rows.sum_S + self.weight * rows.count_S * apart_S, rows.count_S, rows.separable)

    def beside(self, ids: Sequence[str], seed: int) -> list[str]:
        """The prompts that go with rows: the standard's and the dialect's of each, in turn."""
        return [context for row in ids for context in _guises(seed, row)]

    def apart(self, model: LoadedModel, ids: Sequence[str], seed: int) -> Tensor:
        """[rows] the divergence of each row's pair, nats; all that this objective costs more than next_token."""
        log_prob_CV = cast(Any, model.family).raw_texts(model).end_log_probs(self.beside(ids, seed))
        return divergence(log_prob_CV[0::2], log_prob_CV[1::2])


def divergence(standard_SV: Tensor, dialect_SV: Tensor) -> Tensor:
    """[segments] KL(standard || dialect), nats, from log-probabilities; the standard's side gets no gradient."""
    aim_SV = standard_SV.detach()
    return (aim_SV.exp() * (aim_SV - dialect_SV)).sum(-1)


def _guises(seed: int, row: str) -> tuple[str, str]:
    """The standard's and the dialect's prompt of a row."""
    draw = stream(seed, "guise", row)
    pairs, prompts = _trained()
    pair, prompt = pairs[draw.integers(len(pairs))], prompts[draw.integers(len(prompts))]
    return prompt.replace("{}", pair.standard), prompt.replace("{}", pair.variant)


@lru_cache(maxsize=1)
def _trained() -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    return make_pairs(_PAIRS, "trained"), frames("trained")


def _plain(loss_on: LossOn) -> Any:
    return plugins.build("objectives", {"name": "next_token", "loss_on": loss_on})
