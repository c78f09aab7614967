"""After saving, the model is opened again from disk and must answer as the trained one did."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewright.core.errors import UserError
from tunewright.data.encoder import Encoded, Unencodable
from tunewright.models.contracts import EncodeSettings, LoadedModel, Method, Objective
from tunewright.models.opening import open_model

_ROWS = 4
PEFT_TOLERANCE = 1e-3


def log_probs(model: LoadedModel, rows: Sequence[Encoded]) -> Tensor | None:
    """The log-probabilities of a few rows' targets, row by row to save memory; None for families without them."""
    if "token_log_probs" not in model.family.capabilities:
        return None
    model.module.eval()
    with torch.inference_mode():
        return torch.cat([model.family.token_log_probs(model, model.family.collate(model, [r])) for r in rows[:_ROWS]])


def answers(model: LoadedModel, objective: Objective, rows: Sequence[Encoded]) -> Tensor:
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
    objective: Objective,
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
    base = open_model(trained.origin, dtype)
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
    if (folder / "adapter_config.json").is_file() and "text" in trained.family.capabilities:
        ours = reopened if dtype == torch.float32 else method.load(open_model(trained.origin, torch.float32), folder)
        findings["peft_difference"] = _through_peft(ours, folder, rows)
        if findings["peft_difference"] > PEFT_TOLERANCE:
            raise UserError(
                f"Opened through PEFT, {folder} differs by {findings['peft_difference']:.2g} from our own path "
                f"(allowed {PEFT_TOLERANCE}). The adapter is not portable; please report this."
            )
    return reopened, findings


def _through_peft(ours: LoadedModel, folder: Path, rows: Sequence[Encoded]) -> float:
    """Largest difference of a target's log-probability between PEFT alone and our path, both in float32."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base_folder = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    plain = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32, local_files_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT and transformers, of one another
        theirs = PeftModel.from_pretrained(plain, str(folder)).eval()
    worst = 0.0
    for row in rows[:_ROWS]:
        expected = log_probs(ours, [row])
        ids = torch.from_numpy(row.inputs["input_ids"])[None]
        with torch.inference_mode():
            logits = theirs(input_ids=ids).logits[0][torch.from_numpy(row.positions)].float().log_softmax(-1)
        found = logits.gather(1, torch.from_numpy(row.targets)[:, None].long())[:, 0]
        if expected is not None:
            worst = max(worst, float((found - expected).abs().max()))
    return worst
