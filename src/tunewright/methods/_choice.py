"""Which coordinates of a matrix change: by public knowledge alone, so that the choice costs no privacy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from tunewright.core.errors import UserError
from tunewright.core.files import lines_of
from tunewright.core.records import Answer, Example, text_part
from tunewright.core.seeds import key
from tunewright.data.encoder import Encoded, Unencodable
from tunewright.models.contracts import EncodeSettings, LoadedModel

Policy = Literal["magnitude", "random", "gradient"]
_PUBLIC_ROWS = 64
_AT_ONCE = 4


def chosen(weights: Mapping[str, nn.Parameter], share: float, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The coordinates of highest score in each matrix, sorted.

    Args:
        weights: Matrices by name.
        share: Of each matrix; at least one coordinate.
        scores: Of each matrix, in its shape.
    """
    return {
        name: scores[name].flatten().topk(max(1, math.ceil(share * weight.numel()))).indices.sort().values
        for name, weight in weights.items()
    }


def scores(
    policy: Policy, model: LoadedModel, weights: Mapping[str, nn.Parameter], seed: int, public: str
) -> dict[str, Tensor]:
    """How much each coordinate is wanted.

    `magnitude`: size of the public weight (Luo et al. 2021). `random`: all alike (Adamczewski and Park 2023 find it on
    par). `gradient`: size of the loss's gradient on public texts.

    Raises:
        UserError: `gradient` without public texts, or with a model that has no loss on texts.
    """
    if policy == "magnitude":
        return {name: weight.detach().abs() for name, weight in weights.items()}
    if policy == "random":
        drawn = {name: torch.Generator().manual_seed(key(seed, "sparse", name)) for name in weights}
        return {name: torch.rand(weight.shape, generator=drawn[name]) for name, weight in weights.items()}
    return _by_gradient(model, weights, _texts(public))


def _texts(public: str) -> list[str]:
    if not public or not Path(public).is_file():
        raise UserError(
            f"method.public: found '{public}'; policy gradient needs a file of public texts, one a line, that nobody "
            "has to be protected from. Name it, or use policy magnitude or random."
        )
    lines = lines_of(Path(public).read_text(encoding="utf-8"))
    found = [line.strip() for line in lines if line.strip()][:_PUBLIC_ROWS]
    if not found:
        raise UserError(f"method.public: {public} holds no text. Write one a line.")
    return found


def _by_gradient(model: LoadedModel, weights: Mapping[str, nn.Parameter], texts: list[str]) -> dict[str, Tensor]:
    if "token_log_probs" not in model.family.capabilities:
        raise UserError("method.policy: gradient needs a model of texts. Use magnitude or random.")
    encoder = model.family.encoder(model, EncodeSettings(on_overlong="split", loss_on="all"))
    rows: list[Encoded] = []
    for text in texts:
        try:
            rows += encoder.encode(Example((), (Answer((text_part(text),)),), id=text))
        except Unencodable as error:
            raise UserError(f"method.public: a text cannot be encoded: {error}.") from None
    trains = {name: weight.requires_grad for name, weight in weights.items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        total: dict[str, Tensor] = {}
        for start in range(0, len(rows), _AT_ONCE):
            log_prob_T = model.family.token_log_probs(
                model, model.family.collate(model, rows[start : start + _AT_ONCE])
            )
            grads = torch.autograd.grad(-log_prob_T.sum(), list(weights.values()), materialize_grads=True)
            for name, grad in zip(weights, grads, strict=True):
                total[name] = total[name].add_(grad) if name in total else grad
    finally:
        for name, weight in weights.items():
            weight.requires_grad_(trains[name])
    return {name: grad.abs() for name, grad in total.items()}
