"""Keys and values of answers that are being written, held so that each step adds one column in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.models.attention import Layout, product


class Held:
    """Room for `rows` sequences of at most `length` tokens, in every layer."""

    def __init__(self, rows: int, length: int) -> None:
        self.rows, self.length = rows, length
        self._layers: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def of(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, each [rows, kv_heads, length, its width], for such as [1, kv_heads, N, width]."""
        if layer not in self._layers:
            keys, values = ((self.rows, one.shape[1], self.length, one.shape[3]) for one in (key, value))
            self._layers[layer] = (key.new_zeros(keys), value.new_zeros(values))
        return self._layers[layer]

    def move(self, source: int, target: int) -> None:
        """A sequence goes to another place; what was there is gone."""
        if source != target:
            for held in self._layers.values():
                for tensor in held:
                    tensor[target] = tensor[source]


class Filling:
    """Prompts that are read in one forward: attended as any packed rows, and held."""

    def __init__(self, held: Held, layout: Layout, places: Sequence[Tensor], first_row: int) -> None:
        """`places` [prompts] says where each prompt's tokens lie in the packed sequence, in order."""
        self._held, self._layout, self._places, self._first = held, layout, places, first_row

    def attend(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        """Holds keys and values, then attends within each row."""
        for held, found in zip(self._held.of(module, key, value), (key, value), strict=True):
            for row, place_L in enumerate(self._places, self._first):
                held[row, :, : len(place_L)] = found[0][:, place_L]
        return self._layout.attend(module, query, key, value, options)


class Continuing:
    """One token more of the first B sequences; heads that share keys are queries of one product."""

    def __init__(self, held: Held, position_B: Tensor) -> None:
        self._held, self._position_B = held, position_B
        self._columns = int(position_B.max()) + 1
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        """Adds a column to each sequence, and attends to all of it."""
        tokens, shared, width = len(self._position_B), key.shape[1], key.shape[3]
        held = self._held.of(module, key, value)
        for whole, found in zip(held, (key, value), strict=True):
            whole[torch.arange(tokens), :, self._position_B] = found[0].transpose(0, 1)
        keys, values = (whole[:tokens, :, : self._columns] for whole in held)
        query_BHGD = query[0].transpose(0, 1).reshape(tokens, shared, -1, width)
        out = product(query_BHGD, keys, values, self._mask(options.get("sliding_window")), options)
        return out.reshape(tokens, -1, values.shape[3])[None]

    def _mask(self, window: int | None) -> Tensor:
        """[B, 1, 1, columns] which keys each sequence sees."""
        if window not in self._masks:
            back = self._position_B[:, None] - torch.arange(self._columns)[None, :]
            self._masks[window] = ((back >= 0) & (back < (window or self._columns)))[:, None, None, :]
        return self._masks[window]
