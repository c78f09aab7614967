"""Protocols and values that families, methods, objectives and gradients share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunewright.core.plugins import Named, Plugin
from tunewright.core.records import Example
from tunewright.data.encoder import Encoded, Encoder

LossOn = Literal["answers", "last", "all"]
Overlength = Literal["error", "drop", "truncate-context", "split"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One row's place in a batch: positions `start:stop` of the flattened batch.

    `parent` is the number of a segment that this one may also attend to (a shared beginning).
    """

    example: int
    unit: str | None
    """The example's own: private training clips as one what has the same."""
    group: int
    start: int
    stop: int
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be predicted: explicit positions and targets, never shifted labels."""

    position_T: Tensor
    target_T: Tensor
    weight_T: Tensor
    segment_T: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded examples, collated by their family; packed end to end or padded."""

    inputs: Mapping[str, Tensor]
    segments: tuple[Segment, ...]
    targets: Targets
    ids: tuple[str, ...]
    tokens: int
    """Tokens of the rows, padding excluded, a shared beginning counted once for each row."""
    shared: tuple[Segment, ...] = ()
    """Beginnings that several segments continue: computed once, gradients exact. As a `parent` they are numbered on
    from the last of `segments`; they own no targets."""

    def attended(self) -> tuple[Segment, ...]:
        """Segments and shared beginnings in the order in which they lie, each after its parent."""
        if not self.shared:
            return self.segments
        every = (*self.segments, *self.shared)
        order = sorted(range(len(every)), key=lambda number: every[number].start)
        place: dict[int | None, int | None] = {None: None, **{number: index for index, number in enumerate(order)}}
        return tuple(replace(every[number], parent=place[every[number].parent]) for number in order)

    def spans(self, number: int) -> list[tuple[int, int]]:
        """Where a row's tokens lie, first to last: the beginnings that it shares, then its own segment."""
        every, found = (*self.segments, *self.shared), list[tuple[int, int]]()
        place: int | None = number
        while place is not None:
            found.insert(0, (every[place].start, every[place].stop))
            place = every[place].parent
        return found


@dataclass(frozen=True, slots=True)
class Loss:
    """Sums and counts per segment; averaging happens once, over the whole optimiser step."""

    sum_S: Tensor
    count_S: Tensor
    separable: bool = True
    """Whether a segment's loss depends on that segment alone."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model came from."""

    name: str
    folder: Path
    digest: str
    """Hash of the weight files and the configuration."""
    licence: str = "not stated"
    reading: str = ""
    """Hash of what reads rows for it: tokenizer or processor, chat template, how answers are generated."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An opened model: the module, its tokenizer or processor, its family and origin."""

    module: Any
    """A torch module with what its library gives it beyond `nn.Module`."""
    tokenizer: Any
    family: Family
    origin: Origin
    packs: bool = True
    """Whether packed rows were measured to equal rows alone; otherwise batches are padded."""
    answers_by_head: bool = False
    """Whether the logits were measured to be what the output head says, so that it may be read slice by slice."""
    apart: bool = False
    """Whether what rows of different units begin with alike is computed for each of them (private training)."""

    opens: bool = True
    """Whether it is given what its template opens every answer with; not where its trained answers begin otherwise."""

    def with_module(self, module: nn.Module) -> LoadedModel:
        """The same model with another module (an adapter around it)."""
        return replace(self, module=module)


@dataclass(frozen=True, slots=True)
class Generation:
    """A greedy continuation, and whether it ended by itself."""

    text: str
    stopped: bool
    within: bool = False
    """Whether it was cut within what the model thinks before its answer, so that there is none."""


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """What an encoder must know of the plan."""

    max_length: int = 1024
    on_overlong: Overlength = "error"
    loss_on: LossOn | Literal["said"] = "answers"
    """`said`: the last answer's own text, without what a template opens every answer with; what is judged."""
    labels: tuple[str, ...] = ()
    """The closed set of answers, empty when they are free."""
    free_tokens: int = 0
    """Tokens that a free answer may take when it is asked for."""
    opens: bool = True
    """Whether a model is given what its template opens every answer with; not where trained answers begin otherwise."""
    trains_opening: bool = True
    """Whether what a template opens every answer with is trained beside the answer."""
    around: tuple[str, str] | None = None
    """What stands before and after each answer in running text; None = conversations, under the model's template."""


class Family(Named, Protocol):
    """One kind of model. Capabilities say which objectives and metrics it can serve."""

    capabilities: ClassVar[frozenset[str]]
    """Some of: token_log_probs, choices, generate, blocks, denoise ..."""

    def match(self, folder: Path) -> bool:
        """Whether this family opens the model in that folder."""

    def open(self, origin: Origin, dtype: torch.dtype) -> LoadedModel:
        """Opens the model for evaluation or training, frozen."""

    def save(self, model: LoadedModel, folder: Path) -> None:
        """Writes the whole model (config.json, *.safetensors, processor) so that `open` opens it."""

    def from_scratch(self, model: LoadedModel, seed: int) -> LoadedModel:
        """The same architecture with freshly drawn weights."""

    def encoder(self, model: LoadedModel, settings: EncodeSettings) -> Encoder:
        """The one encoder for training, evaluation and prediction."""

    def collate(self, model: LoadedModel, rows: Sequence[Encoded]) -> Batch:
        """Packs or pads encoded rows into one batch."""

    def adapter_targets(self, model: LoadedModel) -> list[str]:
        """Names of the linear modules that adapters attach to (`all-linear`)."""

    def blocks(self, model: LoadedModel) -> list[str]:
        """Names of the stacked blocks, bottom to top, then of what stands above them."""

    def token_log_probs(self, model: LoadedModel, batch: Batch) -> Tensor:
        """[targets] log-probability of each target; differentiable."""

    def choices(
        self,
        model: LoadedModel,
        contexts: Sequence[Example],
        answers: Sequence[Sequence[str]],
        terminator: bool,
        settings: EncodeSettings | None = None,
    ) -> Iterator[NDArray[np.float64]]:
        """For each context, in order, the summed log-probability of each of its answers."""

    def generate(
        self,
        model: LoadedModel,
        contexts: Sequence[Example],
        max_new_tokens: int,
        settings: EncodeSettings | None = None,
    ) -> Iterator[Generation]:
        """Greedy continuation of each context, in order."""


class Method(Plugin):
    """Base of methods: which weights train.

    `attach` changes the given model in place; `trained` finds the weights by name, so it works on what `attach` and
    `load` return alike. What `load` returns is frozen and ready to answer.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Capabilities the family must have."""
    frozen_dtype: ClassVar[Literal["auto", "float32"]] = "auto"
    """In which precision to open the model. `auto`: frozen weights may be bfloat16, the method casts where it must.
    `float32`: all of it, because trained and frozen weights meet in one matrix product or one residual stream."""
    mixed: ClassVar[bool] = False
    """Whether steps may multiply trained weights, which are float32, in bfloat16 (Micikevicius et al. 2018)."""
    overwrites: ClassVar[bool] = False
    """Whether the base's own weights change. `off` then refuses, whoever needs the base opens it again from its origin,
    and `save` writes a whole model instead of a change."""

    def notes(self, model: LoadedModel) -> list[str]:
        """Sentences for the user on what was chosen, before or after `attach`."""
        return []

    @abstractmethod
    def attach(self, model: LoadedModel, seed: int) -> LoadedModel:
        """Freezes everything but the trained weights (float32); draws new ones from the seed."""

    @abstractmethod
    def trained(self, model: LoadedModel) -> dict[str, nn.Parameter]:
        """The trained weights by name, in a fixed order."""

    @abstractmethod
    def off(self, model: LoadedModel) -> AbstractContextManager[None]:
        """Within it the model answers as the base did; methods that overwrite weights refuse."""

    @abstractmethod
    def save(self, model: LoadedModel, folder: Path) -> None:
        """Writes the result in the layout of its library."""

    @abstractmethod
    def load(self, model: LoadedModel, folder: Path) -> LoadedModel:
        """Opens what `save` wrote, on a freshly opened base."""

    @abstractmethod
    def merge(self, model: LoadedModel) -> LoadedModel:
        """The plain model with the change folded in."""


class Minimised(Named, Protocol):
    """What the loop minimises: an objective, or one that was given what it compares with.

    Its `repr` says what is minimised and nothing that differs between processes: a resumed run must have the same.
    """

    @property
    def needs(self) -> frozenset[str]:
        """Capabilities the family must have."""

    def loss(self, model: LoadedModel, batch: Batch, seed: int) -> Loss:
        """The loss of each segment; what is random is keyed by the seed and the example's id."""


class Objective(Plugin):
    """Base of objectives: what is minimised, and what that asks of the rest of a run."""

    needs: ClassVar[frozenset[str]]
    """Capabilities the family must have."""
    trains_opening: ClassVar[bool] = True
    """Whether what a template opens every answer with is trained beside the answer."""
    unseen: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """By a probe's name how it asks nothing that this trains on."""

    loss_on: LossOn = "answers"
    """`answers`: all assistant turns that carry weight; `last`: the last answer alone; `all`: every token."""

    @property
    def plain(self) -> Objective:
        """What a model is trained by that has nothing to be compared with."""
        return self

    @abstractmethod
    def check(self, examples: Sequence[Example]) -> list[str]:
        """What in the data this objective cannot use; empty when all is well."""

    @abstractmethod
    def loss(self, model: LoadedModel, batch: Batch, seed: int) -> Loss:
        """The loss of each segment; what is random is keyed by the seed and the example's id."""


@runtime_checkable
class ReadsBeside(Protocol):
    """An objective that reads prompts beside the rows."""

    def beside(self, ids: Sequence[str], seed: int) -> list[str]:
        """The prompts that go with rows."""

    def apart(self, model: LoadedModel, ids: Sequence[str], seed: int) -> Tensor:
        """[rows] what they add to each row's loss: all that it costs to read them."""


class Making(Protocol):
    """Gradients in the making, from the first step of a run to its last."""

    def accumulate(self, loss: Loss, count: float, batch: Batch) -> None:
        """Adds one micro-batch; `count` is that of the whole optimiser step, known before its first forward."""

    def taken(self) -> dict[str, Tensor]:
        """What was added to the step so far, by the weight's name, and is no longer held here; without noise."""

    def add(self, name: str, part: Tensor) -> None:
        """Adds what another process took, to one weight."""

    def finish(self, step: int) -> None:
        """Called once before the optimiser step; each trained weight then has its gradient."""


class Gradients(Named, Protocol):
    """How a micro-batch becomes gradients."""

    private: ClassVar[bool]
    """Whether what a step shows of its rows is covered by a guarantee; then nothing else of them is shown."""

    def fresh_secret(self) -> str:
        """What keys a new run's noise and sampling; empty when there are none."""

    def begin(
        self, model: LoadedModel, trained: Mapping[str, nn.Parameter], secret: str
    ) -> AbstractContextManager[Making]:
        """What makes the gradients of a run; `secret` keys what must not be guessed (noise)."""
