"""Advice before training that concerns the model's safety; it stops nothing."""

from __future__ import annotations

from typing import Any

from tunewright.pipeline.prepare import Prepared

FASTEST, LEAST_BATCH = 2e-5, 64
"""Above this rate and below this batch, tuning all weights of an aligned model undid most of its safety: in the
ablation of Qi et al., ICLR 2024 (Llama-2 on benign rows), about a third to a half of harmful requests were answered at
5e-5, 15 to 24 % at 2e-5, and small batches were worse than large ones."""


def safety_advice(prepared: Prepared) -> list[str]:
    """A sentence where all weights of a chat model are tuned fast on small batches."""
    train: Any = prepared.settings.train
    batch = train.per_device_train_batch_size * train.gradient_accumulation_steps
    rate = train.learning_rate or 0.0
    aligned = bool(getattr(prepared.model.tokenizer, "chat_template", None))
    name = prepared.method.plugin_name()  # type: ignore[attr-defined]  # every method is a plugin
    if name != "full" or not aligned or rate <= FASTEST or batch >= LEAST_BATCH:
        return []
    return [
        f"All weights of a chat model, which may be aligned, are tuned at rate {rate:g} on batches of {batch}: a high "
        f"rate on small batches undoes safety most. Gentler: train.learning_rate at most {FASTEST:g}, a batch of "
        f"{LEAST_BATCH} or more, or method lora. The safety probe measures what it did."
    ]
