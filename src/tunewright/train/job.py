"""What is trained, on what, how long: all that the loop needs to know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch

from tunewright.core.settings import TrainSettings
from tunewright.data.encoded_rows import lengths
from tunewright.data.encoder import Encoded
from tunewright.models.collate import WORTH_SHARING
from tunewright.models.contracts import Gradients, LoadedModel, Method, Minimised
from tunewright.models.fused import keeps_half
from tunewright.train.order import MICRO_TOKENS, Order, common_beginning, equal_prompts
from tunewright.train.poisson import Poisson
from tunewright.train.schedule import Schedule


@dataclass(frozen=True)
class Job:
    """What is trained, on what, how long."""

    model: LoadedModel
    method: Method
    objective: Minimised
    gradients: Gradients
    train: Sequence[Encoded]
    valid: Sequence[Encoded]
    settings: TrainSettings
    seed: int
    woven_by: tuple[str, ...] = ()
    """Which mitigation added each of the rows at the end of `train`, which are placed evenly beside the others."""
    sampler: Poisson | None = None
    """Draws the units of each step, in private training."""
    hidden: bool = False
    """Whether the rows are private though training is not, as in an audit's control."""
    products: torch.dtype | None = None
    """In which weights are multiplied though they are kept in another dtype; None = in their own."""

    @property
    def woven(self) -> int:
        """How many rows mitigations added."""
        return len(self.woven_by)

    @cached_property
    def order(self) -> Order | Poisson:
        """Rows of each step."""
        if self.sampler is not None:
            return self.sampler
        rows_a_step = self.settings.per_device_train_batch_size * self.settings.gradient_accumulation_steps
        own = len(self.train) - self.woven
        length_R, prompts = lengths(self.train), equal_prompts(islice(self.train, own))
        common, padded = self._common(own), not self.model.packs
        plain = Order(
            own, rows_a_step, self.seed, None, self.woven, length_R,
            common=common, padded=padded, micro_tokens=self.micro_tokens,
        )  # fmt: skip
        if prompts is None:
            return plain
        own_R = np.ceil(length_R[:own] * prompts.share_R).astype(np.int32)
        return replace(plain, prompt_R=prompts.number_R, own_R=own_R)

    def _common(self, own: int) -> int:
        """Tokens that the rows begin with alike, where a batch computes such beginnings once."""
        if not own or not self.model.packs or self.model.apart or "input_ids" not in self.train[0].inputs:
            return 0
        return common_beginning(self.train, own, WORTH_SHARING)

    @property
    def micro_rows(self) -> int:
        """Most rows of a micro-batch: a batch of the plan is shared out among the processes."""
        return math.ceil(self.settings.per_device_train_batch_size / self.settings.processes)

    @property
    def micro_tokens(self) -> int:
        """Most tokens of a micro-batch: twice as many where each takes half the memory, or hardly more than that."""
        return MICRO_TOKENS * 4 // (self.number_bytes if self.products is None else self.products.itemsize)

    @property
    def number_bytes(self) -> int:
        """Of a number that a layer keeps for its gradient; a private step keeps float32 of what it is given."""
        return 2 if keeps_half(self.model.module) and not self.private else 4

    @property
    def private(self) -> bool:
        """Whether training keeps privacy, so that nothing but its noisy sums may steer it."""
        return self.gradients.private

    @property
    def discreet(self) -> bool:
        """Whether nothing of single rows may be shown."""
        return self.private or self.hidden

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        if self.settings.max_steps is not None:
            return self.settings.max_steps
        return max(1, _up((self.settings.num_train_epochs or 1) * self.order.steps_an_epoch))

    @property
    def schedule(self) -> Schedule:
        """Learning rate by step."""
        s = self.settings
        warmup = s.warmup_steps if s.warmup_steps is not None else _up(s.warmup_ratio * self.steps)
        return Schedule(s.lr_scheduler_type, s.learning_rate or 1e-4, warmup, self.steps)

    @property
    def eval_every(self) -> int:
        """Steps between validations: about eight a run unless set."""
        return self.settings.eval_steps or max(1, math.ceil(self.steps / 8))

    @property
    def save_every(self) -> int:
        """Steps between checkpoints: about ten a run unless set."""
        return self.settings.save_steps or max(1, math.ceil(self.steps / 10))

    @property
    def epochs(self) -> float:
        """Passes over the training rows."""
        return self.steps / self.order.steps_an_epoch

    @property
    def validations(self) -> int:
        """Passes over the validation rows; none in private training, which they must not steer."""
        return math.ceil(self.steps / self.eval_every) if self.valid and not self.private else 0

    def multiplying(self) -> AbstractContextManager[None]:
        """Within it the model's products are made in `products`: weights are rounded for them, sums and all that lies
        between them stay as they are."""
        found: AbstractContextManager[None] = (
            nullcontext() if self.products is None else torch.autocast("cpu", self.products)
        )
        return found

    def wake(self) -> None:
        """The model as it trains: with its dropout, but for private training.

        A mask belongs to a place in the micro-batch, so one unit would change the gradients of all that lie behind it.
        """
        self.model.module.train(not self.private)

    def repeated(self) -> list[tuple[Sequence[Encoded], float]]:
        """Rows that are read more than once, and how often: validation rows, then training rows."""
        read = [(self.valid, float(self.validations)), (self.train, self.epochs)]
        return [(rows, passes) for rows, passes in read if passes > 1]


def _up(number: float) -> int:
    """The next whole number, not counting what floating point added: 0.7 epochs of 10 steps are 7 steps."""
    return math.ceil(round(number, 6))
