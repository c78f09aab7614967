"""The loss curves and what they say in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tunewright.core.blocks import Block, Line, Lines, Text
from tunewright.core.words import decimals, duration, figure

RISE = 0.02
"""Validation counts as rising when it ends more than 2 % above its best."""
FALL = 0.01
"""Validation counts as still falling when its last quarter took more than 1 % off."""
FEWEST = 4
"""Validations below which nothing is said about the trend."""
POINTS = 60
"""Points of the smoothed training curve."""

Event = dict[str, Any]


def training_blocks(events: Sequence[Event], unit: str = "") -> list[Block]:
    """Curves, their reading, and what happened on the way; empty when no step was taken.

    Args:
        events: Of events.jsonl.
        unit: Of the loss; empty = the objective's own.
    """
    steps = [event for event in events if event.get("type") == "step"]
    checks = [event for event in events if event.get("type") == "validation"]
    if not steps and not checks:
        return []
    train = _smoothed(steps)
    validation = [(float(e["step"]), loss) for e in checks if (loss := _loss(e)) is not None]
    said = _paragraphs(events, validation)
    found: list[Block] = [Text(title="What the curves say", section="training", paragraphs=said)]
    drawn = [
        Line(name=name, x=[x for x, _ in points], y=[y for _, y in points])
        for name, points in (("training", train), ("validation", validation)) if points
    ]  # fmt: skip
    if drawn:
        note = "Training is smoothed over neighbouring steps; validation rows are never trained on. Lower is better."
        label = f"Loss ({unit or 'the training objective'})"
        found.append(Lines(title="Loss", section="training", lines=drawn, x_label="Step", y_label=label, note=note))
    return found


def reading(validation: Sequence[tuple[float, float]]) -> str:
    """One sentence on a validation curve: still falling, levelled, rising, or too short to say.

    Args:
        validation: (step, loss), in order.
    """
    if len(validation) < FEWEST:
        return "Too few validations to say whether more training would help."
    best_step, best = min(validation, key=lambda point: point[1])
    last_step, last = validation[-1]
    span = last_step - validation[0][0]
    before = [loss for step, loss in validation if step <= last_step - span / 4]
    if last - best > RISE * abs(best):
        return (
            f"Validation loss was lowest at step {decimals(best_step, 0)} ({figure(best)}) and has risen since, to "
            f"{figure(last)}: the model began to learn the training rows by heart (overfitting). Fewer epochs, or more "
            "rows, help."
        )
    if before and before[-1] - last > FALL * abs(last):
        return f"Validation loss was still falling at the last step ({figure(last)}): longer training may help."
    return f"Validation loss has levelled at about {figure(best)}: longer training would change little."


def _paragraphs(events: Sequence[Event], validation: Sequence[tuple[float, float]]) -> list[str]:
    steps = [event for event in events if event.get("type") == "step"]
    said = [reading(validation) if validation else "There was no validation, so overfitting cannot be seen."]
    if steps:
        seconds = sum(event.get("seconds") or 0 for event in steps)
        tokens = sum(event.get("tokens") or 0 for event in steps)
        seen = f", {decimals(tokens, 0)} tokens" if tokens else ""
        said.append(f"{decimals(len(steps), 0)} steps{seen}, {duration(seconds)} of training time.")
        if all(_loss(event) is None for event in steps):
            said.append("The training loss is not recorded (private training does not reveal it).")
    return [*said, _end(events)]


def _end(events: Sequence[Event]) -> str:
    """How training ended, and which weights were kept."""
    ends = [event for event in events if event.get("type") == "end"]
    if not ends:
        return "Training has not ended; this is what it looks like so far."
    end = ends[-1]
    early = end.get("reason") == "early_stopping"
    said = f"It stopped early at step {end.get('step', '?')}: validation no longer improved." if early else (
        "It ran to its planned end."
    )  # fmt: skip
    best = end.get("best_step")
    kept = f" The weights of step {best}, where validation loss was lowest, were kept."
    return said + kept if best is not None and best != end.get("step") else said


def _loss(event: Event) -> float | None:
    """Mean loss of an event; None when absent, not finite or without count."""
    total, count = event.get("loss_sum"), event.get("count")
    loss = total / count if total is not None and count else event.get("loss")
    return float(loss) if loss is not None and math.isfinite(loss) else None


def _smoothed(steps: Sequence[Event]) -> list[tuple[float, float]]:
    """Neighbouring steps together: sum of losses over sum of counts, so that large steps weigh more."""
    usable = [event for event in steps if _loss(event) is not None and event.get("count")]
    width = max(1, math.ceil(len(usable) / POINTS))
    groups = [usable[start : start + width] for start in range(0, len(usable), width)]
    return [
        (sum(e["step"] for e in group) / len(group), sum(e["loss_sum"] for e in group) / sum(e["count"] for e in group))
        for group in groups if all(e.get("loss_sum") is not None for e in group)
    ]  # fmt: skip
