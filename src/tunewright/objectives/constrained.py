"""Next-token training that holds the first tokens of an answer to what the model said before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from tunewright.core import plugins
from tunewright.core.errors import UserError
from tunewright.core.records import Example
from tunewright.models.contracts import Batch, LoadedModel, Loss, LossOn, Objective
from tunewright.models.reference import Reference
from tunewright.objectives._likelihood import likelihood_loss, log_probs

_LEAST = 1e-3


class Constrained(Objective):
    """Token-wise constrained loss: how far a token may move from the untuned model falls with its place.

    Qi et al., ICLR 2025, "Safety Alignment Should Be Made More Than Just a Few Tokens Deep", section 4: token t weighs
    2 (1 - sigmoid(beta_t (log p - log p_before))), without a gradient, at least 0.001. A large beta lets go of a token
    as soon as it is likelier than before; safety lives in the first few, so these have large ones.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"token_log_probs"})
    trains_opening: ClassVar[bool] = False
    """An empty block of thoughts that a template writes before an answer would be counted as its first tokens."""

    loss_on: LossOn = "answers"
    """`answers`: all assistant turns that carry weight; `last`: the last answer alone; `all` is refused."""
    beta: float = Field(0.1, gt=0, allow_inf_nan=False)
    """Of every token after the early ones."""
    first_factor: float = Field(5.0, gt=0, allow_inf_nan=False)
    """Of the first token: beta times this."""
    early_factor: float = Field(20.0, gt=0, allow_inf_nan=False)
    """Of the other early tokens: beta times this."""
    early: int = Field(5, ge=1)
    """How many tokens of an answer are early."""

    @property
    def plain(self) -> Objective:
        """The objective without its hold: what a model is trained by that has no answers from before."""
        unheld: Objective = plugins.build("objectives", {"name": "next_token", "loss_on": self.loss_on})
        return unheld

    def check(self, examples: Sequence[Example]) -> list[str]:
        """As the next-token objective; beside, the tokens that are trained must tell where answers begin."""
        faults = list(self.plain.check(examples))
        if self.loss_on == "all":
            faults.append(
                "objective.loss_on is 'all': 'constrained' holds the first tokens of each answer, and where prompts "
                "are trained as well, it would hold those of the prompt. Use 'answers' or 'last', or next_token."
            )
        return faults

    def loss(self, model: LoadedModel, batch: Batch, seed: int) -> Loss:
        """Cannot be computed without what the model said before.

        Raises:
            UserError: Always; see `against`.
        """
        raise UserError(
            "Objective 'constrained' compares with what the model said before training, which is known of training and "
            "validation rows alone. Leave the metric 'loss' out; `nll` measures the same rows."
        )

    def against(self, reference: Reference) -> ConstrainedTo:
        """The objective that can be minimised."""
        return ConstrainedTo(self, reference)

    def beta_T(self, batch: Batch) -> Tensor:
        """[targets] beta of each target, by its place in its answer; every trained turn begins anew."""
        place_T = places(batch)
        beta_T = torch.full(place_T.shape, self.beta)
        beta_T[place_T <= self.early] = self.beta * self.early_factor
        beta_T[place_T == 1] = self.beta * self.first_factor
        return beta_T


class ConstrainedTo:
    """The objective with its reference."""

    def __init__(self, objective: Constrained, reference: Reference) -> None:
        self.objective, self.reference = objective, reference
        self.needs = objective.needs

    def __repr__(self) -> str:
        return repr(self.objective)

    def plugin_name(self) -> str:
        """As the objective."""
        return self.objective.plugin_name()

    def loss(self, model: LoadedModel, batch: Batch, seed: int) -> Loss:
        """Weighted negative log-probability summed over each segment's targets; nothing here is random.

        Returns:
            `sum_S` and `count_S` [segments]; `count_S` is the sum of the targets' own weights, as in next_token.
        """
        log_prob_T = log_probs(model, batch)
        before_T = self.reference.log_probs(batch).to(log_prob_T)
        held_T = weights(log_prob_T.detach() - before_T, self.objective.beta_T(batch).to(log_prob_T))
        return likelihood_loss(batch, log_prob_T, held_T)


def weights(rise_T: Tensor, beta_T: Tensor) -> Tensor:
    """[targets] what each token weighs, from how much likelier it is than before."""
    return (2 * (1 - torch.sigmoid(beta_T * rise_T))).clamp(min=_LEAST)


def places(batch: Batch) -> Tensor:
    """[targets] the place of each target in its answer, from 1: a run of positions that follow one another.

    What stands before an answer is no target (`check` sees to that), so a run begins with its answer.
    """
    row_T = torch.empty_like(batch.targets.position_T)
    for number in range(len(batch.segments)):
        own = batch.targets.segment_T == number
        lie = torch.cat([torch.arange(start, stop) for start, stop in batch.spans(number)])
        row_T[own] = torch.searchsorted(lie, batch.targets.position_T[own])
    index_T = torch.arange(len(row_T))
    new_T = torch.ones(len(row_T), dtype=torch.bool)
    new_T[1:] = (row_T[1:] != row_T[:-1] + 1) | (batch.targets.segment_T[1:] != batch.targets.segment_T[:-1])
    start_T = torch.where(new_T, index_T, torch.zeros_like(index_T)).cummax(0).values
    return index_T - start_T + 1
