"""Frozen layers at the bottom of a model: what they are, what they make of rows, and passing them over.

The library's module stays whole: its layers are caught or passed over by hooks, so embeddings, masks, rotary tables,
the final norm and the head are its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from tunewright.data.encoder import Encoded
from tunewright.models.contracts import Batch, LoadedModel


class _Reached(Exception):
    """No error: it ends a forward at a layer."""

    def __init__(self, states: Any) -> None:
        self.states = states


def layer_names(model: LoadedModel) -> list[str]:
    """The stacked blocks of a family that has `blocks`, bottom to top."""
    return [name for name in model.family.blocks(model) if re.search(r"\.\d+$", name)]


def frozen_below(model: LoadedModel, trained: Iterable[nn.Parameter]) -> tuple[nn.Module, ...]:
    """The layers under the first trained one; none when a weight trains at the bottom or outside of the stack."""
    if "blocks" not in model.family.capabilities:
        return ()
    ids = {id(weight) for weight in trained}
    names = layer_names(model)
    layers = [model.module.get_submodule(name) for name in names]
    free = [not any(id(weight) in ids for weight in layer.parameters()) for layer in layers]
    below = names[: [*free, False].index(False)]
    above = tuple(f"{name}." for name in model.family.blocks(model) if name not in below)
    everywhere = model.module.named_parameters(remove_duplicate=False)
    if any(id(weight) in ids for name, weight in everywhere if not name.startswith(above)):
        return ()
    return tuple(layers[: len(below)])


def states_after(model: LoadedModel, layers: Sequence[nn.Module], rows: Sequence[Encoded]) -> list[Tensor]:
    """What the layers, counted from the bottom, make of each row; nothing above them is computed.

    Returns:
        [length, width] for each row, without gradient, in the dtype of the layers.

    Raises:
        NotImplementedError: A layer gives on more than hidden states.
    """

    def caught(layer: nn.Module, inputs: Any, output: Any) -> NoReturn:
        raise _Reached(output)

    batch = model.family.collate(model, rows)
    handle = layers[-1].register_forward_hook(caught)
    try:
        with torch.no_grad():
            model.family.token_log_probs(model, batch)
        raise NotImplementedError("the model answers without its layers")
    except _Reached as reached:
        states = reached.states
    finally:
        handle.remove()
    if not isinstance(states, Tensor):
        raise NotImplementedError(f"a layer gives on {type(states).__name__}, not hidden states")
    flat_ND = states.flatten(0, 1)
    return [torch.cat([flat_ND[a:b] for a, b in batch.spans(number)]) for number in range(len(batch.segments))]


@contextmanager
def passed_over(layers: Sequence[nn.Module], batch: Batch, states: Sequence[Tensor]) -> Iterator[None]:
    """Within it the layers, counted from the bottom, are not computed: the batch has these states after them.

    Args:
        layers: Without gaps, from the first on.
        batch: The one that is given to the model meanwhile, and no other.
        states: [length, width] for each row of the batch, as `states_after` gives them.
    """

    def unchanged(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states

    def entered(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        found = torch.zeros_like(hidden_states, dtype=states[0].dtype)
        flat_ND = found.view(-1, found.shape[-1])
        for number, state_LD in enumerate(states):
            spans = batch.spans(number)
            pieces = torch.split(state_LD, [stop - start for start, stop in spans])
            for (start, stop), piece in zip(spans, pieces, strict=True):
                flat_ND[start:stop] = piece  # of a shared beginning, what its last row has
        return found

    before = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            layer.forward = entered if layer is layers[-1] else unchanged
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                vars(layer).pop("forward", None)
            else:
                layer.forward = own
