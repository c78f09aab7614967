"""The gradient of each unit inside a packed batch: whose position is whose, and what each gives to a weight.

A weight's gradient is a sum over positions. Cut at the units' borders, the same sum gives one gradient a unit, without
running any row alone. Where that would be larger than what it is made from, only the norms are computed (Li et al.
2022, "ghost clipping") and the sum is made from the kept activations once the factors are known (Bu et al. 2023,
"book-keeping").
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from tunewright.core.errors import UserError
from tunewright.core.records import unit_name
from tunewright.models.contracts import Batch

_CANCELLED = 1e-3
"""Share of the largest that a squared norm could be, under which float32 products of pairs do not tell it."""


def wide(values: Tensor) -> Tensor:
    """In float32, or in float64 if it is that already: what is clipped and summed."""
    return values if values.dtype == torch.float64 else values.float()


@dataclass(frozen=True)
class Owner:
    """Which unit each position of a tensor belongs to."""

    unit_M: Tensor
    units: int
    axis: int | None = None
    """Of the tensor's dimensions before its features, the one that its positions lie along; None: not told by shape."""
    _pairs: dict[tuple[Any, ...], tuple[Tensor, list[Tensor]]] = field(default_factory=dict)
    """Where a tensor lies -> it, so that nothing else comes to lie there, and the products of its units' positions."""

    @cached_property
    def places(self) -> list[slice | Tensor]:
        """[units] where its positions lie: a slice when they lie together."""
        found: list[slice | Tensor] = []
        for unit in range(self.units):
            at = torch.nonzero(self.unit_M == unit)[:, 0]
            together = len(at) > 0 and int(at[-1] - at[0]) == len(at) - 1
            found.append(slice(int(at[0]), int(at[-1]) + 1) if together else at)
        return found

    @cached_property
    def lengths(self) -> list[int]:
        """[units] how many positions each has."""
        return torch.bincount(self.unit_M[self.unit_M >= 0], minlength=self.units).tolist()

    def pairs(self, values_MD: Tensor) -> list[Tensor]:
        """[units][positions, positions] products of each unit's positions; once, where several layers read a tensor."""
        at = (values_MD.data_ptr(), values_MD.shape, values_MD.stride())
        if at not in self._pairs:
            self._pairs[at] = values_MD, [values_MD[place] @ values_MD[place].t() for place in self.places]
        return self._pairs[at][1]

    def forget_pairs(self) -> None:
        """Lets go what `pairs` made, once all norms are known."""
        self._pairs.clear()

    @cached_property
    def member_UM(self) -> Tensor:
        """1 where a position is of a unit; positions of nobody (padding) are in no row."""
        return (self.unit_M[None] == torch.arange(self.units)[:, None]).float()

    def factor(self, factor_U: Tensor) -> Tensor:
        """[positions] the factor of each position's unit; 0 for nobody's."""
        return torch.where(self.unit_M >= 0, factor_U[self.unit_M.clamp(min=0)], 0.0)


@dataclass(frozen=True)
class Units:
    """The units of a batch, and whose position is whose in the tensors that a model makes of it."""

    names: tuple[str, ...]
    row_S: Tensor
    """[segments] number of the unit."""
    position_N: Tensor
    """[positions of the flattened batch] number of the unit; -1 = nobody's (padding)."""
    predicted_K: Tensor
    """[positions that are predicted from, in order] number of the unit."""
    packed: bool
    _owners: dict[tuple[tuple[int, ...], int | None], Owner] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch) -> Units:
        """Units by segment; a beginning that several rows share belongs to the unit that they are of.

        Raises:
            ValueError: Rows of different units share a beginning, so their gradients cannot be told apart.
        """
        keys = [unit_name(row, segment.unit) for segment, row in zip(batch.segments, batch.ids, strict=True)]
        number = {name: index for index, name in enumerate(dict.fromkeys(keys))}
        row_S = torch.tensor([number[name] for name in keys])
        size = max(segment.stop for segment in (*batch.segments, *batch.shared))
        position_N = torch.full((size,), -1)
        for row, unit in enumerate(row_S.tolist()):
            for start, stop in batch.spans(row):
                there = position_N[start:stop]
                if bool(((there != -1) & (there != unit)).any()):
                    raise ValueError("rows of different units share a beginning; their gradients cannot be told apart")
                position_N[start:stop] = unit
        predicted_K = position_N[torch.unique(batch.targets.position_T)]
        first = next(iter(batch.inputs.values()))
        return cls(tuple(number), row_S, position_N, predicted_K, bool(batch.shared) or first.shape[0] == 1)

    def owner(self, leading: Sequence[int], axis: int | None = None) -> Owner:
        """Whose is each position of a tensor with these dimensions before its features.

        Args:
            leading: `(1, positions)` of a packed batch, `(rows, ...)` of one that keeps rows apart.
            axis: Where they lay in another batch; asked where another dimension is as long (heads, say).

        Raises:
            ValueError: The tensor has the shape of neither.
        """
        key = (tuple(leading), axis)
        if key not in self._owners:
            self._owners[key] = self._owner(*key)
        return self._owners[key]

    def _owner(self, leading: tuple[int, ...], before: int | None) -> Owner:
        units = len(self.names)
        if units == 1:
            return Owner(torch.zeros(prod(leading), dtype=torch.long), units)
        apart = () if self.packed else (self.row_S,)
        for known in (*apart, self.position_N, self.predicted_K, self.row_S):
            axes = [axis for axis, length in enumerate(leading) if length == len(known)]
            if not axes:
                continue
            axis = before if before in axes else axes[0]  # heads may stand before the positions or after them
            shape = [len(known) if place == axis else 1 for place in range(len(leading))]
            told = axis if len(axes) == 1 or axis == before else None
            return Owner(known.view(shape).expand(leading).reshape(-1), units, told)
        raise ValueError(f"a tensor of shape {leading} is made neither of {len(self.position_N)} positions nor of rows")


class Gradient(Protocol):
    """What each unit gives to one weight."""

    def squares(self) -> Tensor:
        """[units] squared norm of its gradient."""

    def weighted(self, factor_U: Tensor) -> Tensor:
        """The sum of the units' gradients, each times its factor, in the weight's shape."""

    def dense(self) -> Dense:
        """[units, *weight] every gradient written out."""


@dataclass(frozen=True)
class Dense:
    """Every unit's gradient written out."""

    value_UW: Tensor

    def squares(self) -> Tensor:
        """[units]"""
        flat_UP = self.value_UW.flatten(1)
        square_U: Tensor = torch.linalg.vecdot(flat_UP, flat_UP)
        return square_U

    def weighted(self, factor_U: Tensor) -> Tensor:
        """One product over the units."""
        return (factor_U.to(self.value_UW.dtype) @ self.value_UW.flatten(1)).view(self.value_UW.shape[1:])

    def dense(self) -> Dense:
        """Itself."""
        return self


@dataclass(frozen=True)
class Ghost:
    """Gradients of a product, kept as what they are made from."""

    out_MO: Tensor
    in_MI: Tensor
    owner: Owner
    shape: tuple[int, ...]

    @cached_property
    def _measured(self) -> tuple[Tensor, list[int]]:
        """[units] squared norms, and of which units the gradient had to be written out to know it.

        Where a unit's positions nearly cancel, what float32 leaves of the products says nothing about what is left of
        the gradient, and the unit could be added at many times the clipping norm.
        """
        products = []
        for place, into_pairs in zip(self.owner.places, self.owner.pairs(self.in_MI), strict=True):
            out = self.out_MO[place]
            products.append((out @ out.t()).flatten() @ into_pairs.flatten())
        square_U, owned = torch.stack(products), self.owner.unit_M >= 0
        # No product of pairs can add up to more than the squared sum of these.
        largest_M = (self.out_MO.norm(dim=1) * self.in_MI.norm(dim=1))[owned]
        most_U = torch.zeros_like(square_U).index_add_(0, self.owner.unit_M[owned], largest_M).square_()
        cancelled = torch.nonzero(square_U < _CANCELLED * most_U)[:, 0].tolist()
        for unit in cancelled:
            square_U[unit] = self._of(unit).square().sum()
        return square_U, cancelled

    def _of(self, unit: int) -> Tensor:
        """The gradient of one unit written out: what is measured is what is summed, rounding included."""
        place = self.owner.places[unit]
        return self.out_MO[place].t() @ self.in_MI[place]

    def squares(self) -> Tensor:
        """[units] sum over pairs of positions of (a_t . a_s)(g_t . g_s), Li et al. 2022, section 4."""
        return self._measured[0]

    def weighted(self, factor_U: Tensor) -> Tensor:
        """One product over all positions, Bu et al. 2023, section 3.2; units that cancel are added one by one."""
        _, cancelled = self._measured
        kept_U = factor_U.clone()
        kept_U[cancelled] = 0
        factor_M = self.owner.factor(kept_U).to(self.out_MO.dtype)
        total = self.out_MO.t() @ (self.in_MI * factor_M[:, None])
        for unit in cancelled:
            total += factor_U[unit].to(total.dtype) * self._of(unit)
        return total.view(self.shape)

    def dense(self) -> Dense:
        """[units, *weight]"""
        return Dense(_written_out(self.out_MO, self.in_MI, self.owner).view(-1, *self.shape))


@dataclass(frozen=True)
class Looked:
    """Gradients of a table, kept as which entry each position read and what came back."""

    entry_M: Tensor
    grad_MD: Tensor
    owner: Owner
    entries: int

    @cached_property
    def _summed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each entry that a unit read: the unit, the entry, and the sum of what came back.

        It is added up before it is measured and scaled, so that what is clipped is what is summed.
        """
        owned = self.owner.unit_M >= 0
        read = self.owner.unit_M[owned] * self.entries + self.entry_M[owned]
        pair, which = torch.unique(read, return_inverse=True)
        summed = self.grad_MD.new_zeros(len(pair), self.grad_MD.shape[1]).index_add_(0, which, self.grad_MD[owned])
        return pair // self.entries, pair % self.entries, summed

    def squares(self) -> Tensor:
        """[units] positions that read the same entry add up before the norm is taken."""
        unit, _, summed = self._summed
        return summed.new_zeros(self.owner.units).index_add_(0, unit, summed.square().sum(1))

    def weighted(self, factor_U: Tensor) -> Tensor:
        """[entries, width]"""
        unit, entry, summed = self._summed
        scaled = summed * factor_U[unit].to(summed.dtype)[:, None]
        return summed.new_zeros(self.entries, summed.shape[1]).index_add_(0, entry, scaled)

    def dense(self) -> Dense:
        """[units, entries, width]"""
        return Dense(torch.stack([self.weighted(one) for one in torch.eye(self.owner.units)]))


def squares_of(gradients: Collection[Gradient]) -> Tensor:
    """[units] float64 squared norm of each unit's gradient over all weights; what was only for it is let go."""
    square_U = torch.stack([gradient.squares().double() for gradient in gradients]).sum(0)
    for gradient in gradients:
        if isinstance(gradient, Ghost):
            gradient.owner.forget_pairs()
    return square_U


def outer(out: Tensor, into: Tensor, owner: Owner, shape: Sequence[int] | None = None) -> Gradient:
    """Of a weight whose gradient sums `out` times `into` over positions: linear layers, adapters, convolutions.

    Written out or kept by the hybrid rule (Bu et al. 2022, "mixed ghost clipping"): kept where both the products of
    pairs of positions and what must stay in memory are smaller than the gradients.

    Args:
        out: [positions, rows of the weight].
        into: [positions, columns of the weight].
        owner: Whose each position is.
        shape: Of the weight, if it is not [rows, columns].
    """
    out_MO, in_MI = wide(out.reshape(-1, out.shape[-1])), wide(into.reshape(-1, into.shape[-1]))
    rows, columns = out_MO.shape[1], in_MI.shape[1]
    written = owner.units * rows * columns
    pairs = 2 * sum(length * length for length in owner.lengths)
    wanted = tuple(shape or (rows, columns))
    if pairs <= written and out_MO.numel() + in_MI.numel() <= written:
        return Ghost(out_MO, in_MI, owner, wanted)
    return Dense(_written_out(out_MO, in_MI, owner).view(owner.units, *wanted))


def picked(out: Tensor, into: Tensor, owner: Owner, coordinate_K: Tensor) -> Dense:
    """As `outer`, of some coordinates of the weight: each unit's gradient is made and all but those let go."""
    out_MO, in_MI = wide(out.reshape(-1, out.shape[-1])), wide(into.reshape(-1, into.shape[-1]))
    value_UK = out_MO.new_empty(owner.units, len(coordinate_K))
    for unit, place in enumerate(owner.places):
        value_UK[unit] = (out_MO[place].t() @ in_MI[place]).view(-1)[coordinate_K]
    return Dense(value_UK)


def summed(values: Tensor, owner: Owner) -> Dense:
    """Of a weight whose gradient is the sum of values over positions: gains and biases.

    Args:
        values: [positions, *weight].
        owner: Whose each position is.
    """
    value_MW = wide(values)
    flat_UP = owner.member_UM.to(value_MW.dtype) @ value_MW.flatten(1)
    return Dense(flat_UP.view(owner.units, *value_MW.shape[1:]))


def looked_up(entries: Tensor, grads: Tensor, owner: Owner, size: int) -> Looked:
    """Of a table of `size` entries that positions read."""
    return Looked(entries.reshape(-1), wide(grads.reshape(-1, grads.shape[-1])), owner, size)


def patches_of(module: Any, given: Tensor) -> Tensor:
    """[rows, places, channels in x kernel] what a convolution sees at each place.

    Raises:
        UserError: Padding that is named or not zeros.
    """
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise UserError(
            "privacy: a convolution with named padding or padding that is not zeros has no per-unit gradient."
        )
    one = isinstance(module, nn.Conv1d)
    lift = (lambda value, fill: (fill, *value)) if one else (lambda value, fill: value)
    unfolded = functional.unfold(
        given.unsqueeze(2) if one else given,
        lift(module.kernel_size, 1),
        dilation=lift(module.dilation, 1),
        padding=lift(module.padding, 0),
        stride=lift(module.stride, 1),
    )
    return unfolded.transpose(1, 2)


def _written_out(out_MO: Tensor, in_MI: Tensor, owner: Owner) -> Tensor:
    """[units, rows, columns], one product a unit."""
    value_UOI = out_MO.new_empty(owner.units, out_MO.shape[1], in_MI.shape[1])
    for unit, place in enumerate(owner.places):
        torch.mm(out_MO[place].t(), in_MI[place], out=value_UOI[unit])
    return value_UOI


_AXES = WeakTensorKeyDictionary()
"""Weight -> along which dimension of its output positions or rows lie, as a batch has told in which no other was as
long. It is a fact of the model: what the proof before training has seen, every step knows."""


class Watch:
    """Collects what each unit gives to each weight while a batch is computed backward."""

    def __init__(self) -> None:
        self._units: Units | None = None
        self._found: dict[int, Gradient] = {}

    def begin(self, units: Units) -> None:
        """Before the backward pass of a batch."""
        self._units, self._found = units, {}

    def take(self, weight: Tensor, leading: Sequence[int], make: Callable[[Owner], Gradient]) -> None:
        """Called within the backward pass; a weight that is used twice adds up before any norm is taken.

        Args:
            weight: What is trained.
            leading: Dimensions before the features of the tensor that the weight worked on.
            make: The units' gradients from whose each position is.
        """
        if self._units is None:
            raise RuntimeError("a watched weight was used outside of a private step")
        owner = self._units.owner(leading, _AXES.get(weight))  # type: ignore[no-untyped-call]
        if owner.axis is not None:
            _AXES[weight] = owner.axis
        gradient = make(owner)
        before = self._found.get(id(weight))
        if before is not None:
            gradient = Dense(before.dense().value_UW + gradient.dense().value_UW)
        self._found[id(weight)] = gradient

    def end(self) -> dict[int, Gradient]:
        """Gradients by the weights' identity; nothing is kept."""
        found, self._found, self._units = self._found, {}, None
        return found
