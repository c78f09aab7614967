"""After saving, the model is opened again from disk and must answer as the trained one did."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewright.core.errors import UserError
from tunewright.data.encoder import Encoded, Unencodable
from tunewright.models.contracts import EncodeSettings, LoadedModel, Method, Minimised
from tunewright.models.opening import open_model

_ROWS, _LOOKED_AT = 4, 64
PEFT_TOLERANCE = 1e-3


def log_probs(model: LoadedModel, rows: Sequence[Encoded]) -> Tensor | None:
    """The log-probabilities of a few rows' targets, row by row to save memory; None for families without them."""
    if "token_log_probs" not in model.family.capabilities:
        return None
    model.module.eval()
    with torch.inference_mode():
        return torch.cat([model.family.token_log_probs(model, model.family.collate(model, [r])) for r in rows[:_ROWS]])


def answers(model: LoadedModel, objective: Minimised, rows: Sequence[Encoded]) -> Tensor:
    """What a model answers on a few rows, as numbers: log-probabilities, else the objective's loss of each row."""
    found = log_probs(model, rows)
    if found is not None:
        return found
    model.module.eval()
    with torch.inference_mode():
        return objective.loss(model, model.family.collate(model, rows[:_ROWS]), 0).sum_S


def _read_by(model: LoadedModel, rows: Sequence[Encoded], encode: EncodeSettings) -> list[Encoded]:
    """A few rows as this model's own processor reads them; none when it can't."""
    encoder = model.family.encoder(model, encode)
    try:
        return [piece for row in rows[:_ROWS] for piece in encoder.encode(row.example)]
    except Unencodable:
        return []


def verify(
    trained: LoadedModel,
    method: Method,
    objective: Minimised,
    folder: Path,
    rows: Sequence[Encoded],
    dtype: torch.dtype,
    encode: EncodeSettings,
) -> tuple[LoadedModel, dict[str, Any]]:
    """Opens base and saved change afresh and compares.

    Returns:
        The model as opened from disk, and the findings for info.json.

    Raises:
        UserError: The saved model differs from the trained one, or equals the base.
    """
    trained.module.requires_grad_(False)  # as the opened one: convolutions choose their kernel by it
    # First, so that never more than two models lie in memory.
    apart = _peft_difference(trained, method, folder, rows, dtype)
    base = replace(open_model(trained.origin, dtype), packs=trained.packs)
    asked = _read_by(trained, rows, encode)
    before = answers(base, objective, asked)
    reopened = method.load(base, folder)
    wanted, found = method.trained(trained), method.trained(reopened)
    same_weights = wanted.keys() == found.keys() and all(torch.equal(wanted[n], found[n]) for n in wanted)
    read = _read_by(reopened, rows, encode)
    after = answers(reopened, objective, read) if read else None
    if not same_weights or after is None or not torch.equal(after, answers(trained, objective, asked)):
        raise UserError(
            f"{folder} was written, but the model opened from it does not answer bit for bit as the trained one. "
            "The checkpoints are whole; please report this."
        )
    if torch.equal(before, after):
        raise UserError(
            "The tuned model answers exactly as the base: nothing was learned. Raise train.learning_rate or the number "
            "of steps, or check method.target_modules."
        )
    findings: dict[str, Any] = {"reopened_equal": True, "largest_change": float((after - before).abs().max())}
    if apart is not None:
        findings["peft_difference"] = apart
        if apart > PEFT_TOLERANCE:
            raise UserError(
                f"Opened through PEFT, {folder} differs by {apart:.2g} from our own path "
                f"(allowed {PEFT_TOLERANCE}). The adapter is not portable; please report this."
            )
    return reopened, findings


def _peft_difference(
    trained: LoadedModel, method: Method, folder: Path, rows: Sequence[Encoded], dtype: torch.dtype
) -> float | None:
    """Largest difference of a target's log-probability between PEFT alone and our path, both in float32.

    None where the result is no adapter of PEFT's. The shortest of the first rows are asked: PEFT computes all logits.
    """
    if not (folder / "adapter_config.json").is_file() or "text" not in trained.family.capabilities:
        return None
    few = sorted(rows[:_LOOKED_AT], key=lambda row: row.length)[:_ROWS]
    if dtype == torch.float32:
        ours = _each(trained, few)
    else:
        ours = _each(method.load(open_model(trained.origin, torch.float32), folder), few)
    gc.collect()
    theirs = _through_peft(folder, few)
    gc.collect()
    pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if one is not None]
    return max((float((one - other).abs().max()) for one, other in pairs), default=0.0)


def _each(model: LoadedModel, rows: Sequence[Encoded]) -> list[Tensor | None]:
    return [log_probs(model, [row]) for row in rows]


def _through_peft(folder: Path, rows: Sequence[Encoded]) -> list[Tensor]:
    """Log-probabilities of each row's targets by the adapter as PEFT opens it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base_folder = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    plain = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32, local_files_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT and transformers, of one another
        theirs = PeftModel.from_pretrained(plain, str(folder)).eval()
    found = []
    for row in rows:
        ids = torch.from_numpy(row.inputs["input_ids"])[None]
        with torch.inference_mode():
            logits = theirs(input_ids=ids).logits[0][torch.from_numpy(row.positions)].float().log_softmax(-1)
        found.append(logits.gather(1, torch.from_numpy(row.targets)[:, None].long())[:, 0])
    return found
