"""What tuning made the model forget: loss on general passages, and how its answers to neutral prompts begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from tunewright.core.blocks import Bar, Bars, Block, Table, Text
from tunewright.core.errors import UserError
from tunewright.core.files import file_digest
from tunewright.core.progress import Progress
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.core.seeds import stream
from tunewright.core.words import name_of
from tunewright.data.encoder import Encoded
from tunewright.evaluate.contracts import Figure, Floats, ProbeResult
from tunewright.evaluate.probes._base import Answers, Part, PredictsNext, Probe, afresh
from tunewright.evaluate.probes._thoughts import IN_THOUGHTS, answers_later
from tunewright.models.contracts import EncodeSettings, LoadedModel
from tunewright.models.modes import evaluating

_TEXTS = Path(__file__).with_name("_texts")
_FILES = (_TEXTS / "passages.txt", _TEXTS / "prompts.txt")
_BATCH_TOKENS = 2048
_LEAST_LOG_PROB = -1e4
"""What -inf becomes: exp of it is 0, and unlike -inf it stays finite in differences and in float16."""
_SHOWN = 8

# Words only, for the sentence: nothing is decided by them. Gates have their own limits, set by the user.
_HARDLY, _MUCH = 0.03, 0.2
"""Rise of the loss in nats a token (upper bound): a perplexity 3 % and 22 % higher."""
_ALMOST_ALIKE, _DIFFERENT = 0.05, 0.5
"""Mean KL in nats (upper bound)."""


_Interval = tuple[float, float, float]
"""The figure, its lower and its upper bound."""


class Retention(Probe):
    """What the model forgot: loss on general passages, and how its answers to neutral prompts begin."""

    needs: ClassVar[frozenset[str]] = frozenset({"token_log_probs", "next_log_probs"})
    section: ClassVar[str] = "forgot"
    forms: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {}, "full": {}}
    version: ClassVar[str] = f"2-{file_digest(_FILES)}"

    def ask(self, model: LoadedModel, progress: Progress, part: Part = afresh) -> dict[str, NDArray[Any]]:
        """Loss of every passage, and the distribution of the first token after every prompt.

        Returns:
            `nll` float64 [passages], nats, summed; `tokens` float64 [passages], how many were predicted;
            `next_log_probs` float32 [prompts, vocabulary], nats, none below -10,000; no prompt where the model thinks
            before it answers, as what follows a prompt is then no answer.

        Raises:
            UserError: The model's log-probabilities are not finite.
        """
        with torch.inference_mode(), evaluating(model.module):
            nll, tokens = _losses(model, passages(), progress)
            asked = [] if answers_later(model) else prompts()
            first = _first_tokens(model, asked, progress)
        broken = int((~np.isfinite(nll)).sum()), int(np.isnan(first).any(axis=1).sum())
        if any(broken):
            raise UserError(
                f"retention: the model's log-probabilities are not finite on {broken[0]} of {len(nll)} passages and "
                f"{broken[1]} of {len(first)} prompts, so its weights are broken. Train again with a lower "
                "train.learning_rate, or with train.precision: float32."
            )
        return {"nll": nll, "tokens": tokens, "next_log_probs": np.maximum(first, np.float32(_LEAST_LOG_PROB))}

    def describe(self, answers: Answers, seed: int, resamples: int) -> dict[str, Any]:
        """`loss`, nats a token on the passages, with its 95 % interval over passages."""
        weights = _weights(seed, "passages", len(answers["tokens"]), resamples)
        value, low, high = _ratio(weights, answers["nll"], answers["tokens"])
        count = len(answers["tokens"])
        said = f"Retention: {value:.3f} nats a token ({low:.3f} to {high:.3f}) on {count} general passages."
        return {"loss": {"value": value, "low": low, "high": high}, "passages": count, "sentences": [said]}

    def compare(self, base: Answers, tuned: Answers, seed: int, resamples: int) -> ProbeResult:
        """Rise of the loss, and KL(base || tuned) of the first token; intervals by bootstrap over texts, 95 %.

        Raises:
            UserError: Base and tuned were asked different texts, or the tuned vocabulary lacks tokens of the base.
        """
        _same_questions(base, tuned)
        # Both are divided by base's count, so that the comparison holds even if tuning changed the tokenizer.
        tokens = base["tokens"]
        weights = _weights(seed, "passages", len(tokens), resamples)
        before = _ratio(weights, base["nll"], tokens)
        after = _ratio(weights, tuned["nll"], tokens)
        rise = _ratio(weights, tuned["nll"] - base["nll"], tokens)
        divergence = kl(base["next_log_probs"], tuned["next_log_probs"])
        loss = Figure("retention_loss", before[0], after[0], *rise, n=len(tokens), unit="passage")
        shift = _shift(divergence, seed, resamples)
        shown = (*_blocks(base, tuned, before, after, loss, shift), *(_shifts(divergence) if shift else ()))
        return ProbeResult((loss, shift) if shift else (loss,), shown, " ".join(_said(loss, shift)))


def passages() -> list[str]:
    """The general passages whose loss is measured."""
    return _FILES[0].read_text(encoding="utf-8").splitlines()


def prompts() -> list[str]:
    """The neutral prompts after which the next token is compared."""
    return _FILES[1].read_text(encoding="utf-8").splitlines()


def kl(base_PV: NDArray[np.floating[Any]], tuned_PV: NDArray[np.floating[Any]]) -> Floats:
    """[prompts] KL(base || tuned) in nats, from log-probabilities.

    Both are normalised again in float64, which takes away what single precision lost. Tokens that only the tuned
    model has (an extended vocabulary) have probability 0 under base: they take from the tuned model's other tokens
    and add no term of their own.
    """
    found = []
    for base_V, tuned_V in zip(base_PV, tuned_PV, strict=True):
        was = _normalised(base_V)
        now = _normalised(tuned_V)[: len(was)]
        found.append(max(0.0, float(np.exp(was) @ (was - now))))
    return np.array(found)


def _normalised(log_probs_V: NDArray[np.floating[Any]]) -> Floats:
    wide_V = log_probs_V.astype(np.float64)
    wide_V -= wide_V.max()
    return wide_V - float(np.log(np.exp(wide_V).sum()))


def _losses(model: LoadedModel, texts: Sequence[str], progress: Progress) -> tuple[Floats, Floats]:
    """[texts] summed negative log-probability, and the number of tokens it sums over."""
    encoder = model.family.encoder(model, EncodeSettings(loss_on="all"))
    examples = [Example((), (Answer((text_part(text),)),), id=str(number)) for number, text in enumerate(texts)]
    end = getattr(model.tokenizer, "eos_token_id", None)
    rows = [(k, _text_alone(row, end)) for k, example in enumerate(examples) for row in encoder.encode(example)]
    nll, tokens, done = np.zeros(len(texts)), np.zeros(len(texts)), 0
    for part in _batches(rows):
        batch = model.family.collate(model, [row for _, row in part])
        if len(batch.segments) != len(part):
            raise ValueError(f"{len(part)} rows without context came back as {len(batch.segments)} segments")
        log_probs = model.family.token_log_probs(model, batch).double().cpu().numpy()
        segment = batch.targets.segment_T.cpu().numpy()
        numbers = [number for number, _ in part]
        # A text that the encoder cut into pieces has several rows, hence add.at.
        np.add.at(nll, numbers, np.bincount(segment, weights=-log_probs, minlength=len(part)))
        np.add.at(tokens, numbers, np.bincount(segment, minlength=len(part)))
        done += len(part)
        progress("retention: passages", done, len(rows))
    return nll, tokens


def _text_alone(row: Encoded, end: int | None) -> Encoded:
    """Without the stop token: where a text ends is a matter of format, which tuning is meant to change.

    It is the stop token of an answer (the encoder's note), or the end of a text where these two differ.
    """
    last = np.argmax(row.positions)
    if not row.notes.get("stop_trained") and row.targets[last] != end:
        return row
    kept = np.arange(len(row.positions)) != last
    return replace(row, positions=row.positions[kept], targets=row.targets[kept], weights=row.weights[kept])


def _batches(rows: Sequence[tuple[int, Encoded]]) -> Iterator[list[tuple[int, Encoded]]]:
    """Rows of similar length together, so that a batch stays within its tokens even when it is padded."""
    part: list[tuple[int, Encoded]] = []
    for number, row in sorted(rows, key=lambda pair: pair[1].length):
        if part and (len(part) + 1) * row.length > _BATCH_TOKENS:
            yield part
            part = []
        part.append((number, row))
    if part:
        yield part


def _first_tokens(model: LoadedModel, texts: Sequence[str], progress: Progress) -> NDArray[np.float32]:
    """[texts, vocabulary] log-probabilities of what an answer to each prompt would begin with."""
    contexts = [Example((Turn("user", (text_part(text),)),), (), id=str(number)) for number, text in enumerate(texts)]
    found = []
    for row in cast(PredictsNext, model.family).next_log_probs(model, contexts):
        found.append(np.asarray(row, dtype=np.float32))
        progress("retention: prompts", len(found), len(contexts))
    if len(found) != len(contexts):
        raise ValueError(f"{len(contexts)} prompts were given, {len(found)} answers came back")
    return np.stack(found) if found else np.zeros((0, 1), np.float32)


def _same_questions(base: Answers, tuned: Answers) -> None:
    problems = [
        f"retention: base answered {base[name].shape[0]} {what}, tuned {tuned[name].shape[0]}; they must be the same "
        "texts. Ask both again with this version of Tunewright."
        for name, what in (("nll", "passages"), ("next_log_probs", "prompts"))
        if base[name].shape[0] != tuned[name].shape[0]
    ]
    if (has := tuned["next_log_probs"].shape[1]) < (had := base["next_log_probs"].shape[1]):
        problems.append(
            f"retention: the tuned model has {has} tokens, base {had}; a model that lost tokens cannot be compared. "
            "Compare it with the base it was tuned from."
        )
    if problems:
        raise UserError(problems)


def _weights(seed: int, what: str, count: int, resamples: int) -> Floats:
    """[resamples, count] how often each text is drawn when `count` are drawn with replacement."""
    drawn = stream(seed, "retention", what).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn.astype(np.float64)


def _ratio(weights: Floats, sums: Floats, counts: Floats) -> _Interval:
    """Sum over count, with the middle 95 % of the same over the resamples (percentile bootstrap)."""
    low, high = np.quantile((weights @ sums) / (weights @ counts), (0.025, 0.975))
    return float(sums.sum() / counts.sum()), float(low), float(high)


def _change(loss: Figure) -> str:
    if loss.low > 0:
        return f"rose by {loss.difference:.3f} nats a token ({loss.low:.3f} to {loss.high:.3f})"
    if loss.high < 0:
        return f"fell by {-loss.difference:.3f} nats a token ({-loss.high:.3f} to {-loss.low:.3f})"
    return f"did not measurably change: {loss.difference:+.3f} nats a token ({loss.low:+.3f} to {loss.high:+.3f})"


def _shift(kl_P: Floats, seed: int, resamples: int) -> Figure | None:
    """The mean over neutral prompts; None where none was asked."""
    if not (count := len(kl_P)):
        return None
    moved = _ratio(_weights(seed, "prompts", count, resamples), kl_P, np.ones(count))
    return Figure("retention_kl", 0.0, moved[0], *moved, n=count, unit="prompt")


def _said(loss: Figure, shift: Figure | None) -> tuple[str, str]:
    """What was measured, and what it means."""
    told = f"On {loss.n} general passages the loss {_change(loss)}, from {loss.base:.2f} to {loss.tuned:.2f}"
    if shift is None:
        return f"{told}.", f"{_forgot(loss)[0]}; how its answers begin is not measured: {IN_THOUGHTS}."
    kl = f"KL on {shift.n} neutral prompts {shift.tuned:.2f} ({shift.low:.2f} to {shift.high:.2f})"
    return f"{told}; {kl}.", _meaning(loss, shift)


def _forgot(loss: Figure) -> tuple[str, Literal["good", "unsure", "bad"]]:
    if loss.high < _HARDLY:
        return "The model hardly forgot", "good"
    if loss.low <= 0:
        return "These passages cannot tell whether the model forgot", "unsure"
    return ("The model forgot a little", "unsure") if loss.high < _MUCH else ("The model forgot much", "bad")


def _meaning(loss: Figure, shift: Figure) -> str:
    begins = "almost as before"
    if shift.high >= _ALMOST_ALIKE:
        begins = "somewhat differently" if shift.high < _DIFFERENT else "very differently"
    return f"{_forgot(loss)[0]}; its answers to neutral prompts begin {begins}."


def _blocks(
    base: Answers, tuned: Answers, before: _Interval, after: _Interval, loss: Figure, shift: Figure | None
) -> Iterator[Block]:
    yield Text(
        title="What the model forgot",
        section="forgot",
        paragraphs=list(_said(loss, shift)),
        tone=_forgot(loss)[1],
    )
    yield Bars(
        title="Loss on general passages",
        section="forgot",
        note="Lower is better. The intervals show how much passages differ from one another; the change itself is "
        f"measured passage by passage, and is {loss.difference:+.3f} ({loss.low:+.3f} to {loss.high:+.3f}).",
        unit="nats a token",
        bars=[
            Bar(label=name_of("base"), value=before[0], low=before[1], high=before[2], role="base"),
            Bar(label=name_of("tuned"), value=after[0], low=after[1], high=after[2], role="tuned"),
        ],
    )
    was, now = base["nll"] / base["tokens"], tuned["nll"] / base["tokens"]
    worst = [int(number) for number in np.argsort(was - now, kind="stable")[:_SHOWN] if now[number] > was[number]]
    if worst:
        texts = passages()
        yield Table(
            title="Passages whose loss rose most",
            section="forgot",
            note="Nats a token.",
            columns=["passage", "base", "tuned", "rise"],
            rows=[
                [texts[k], round(float(was[k]), 3), round(float(now[k]), 3), round(float(now[k] - was[k]), 3)]
                for k in worst
            ],
        )


def _shifts(kl_P: Floats) -> Iterator[Block]:
    """KL of each neutral prompt, the largest first."""
    texts = prompts()
    order = [int(number) for number in np.argsort(-kl_P, kind="stable")]
    note = (
        "KL(base || tuned) of the first token of the answer: 0 = it begins as before; 0.1 is hardly noticed, above 1 "
        "most answers begin otherwise."
    )
    for title, numbers in (("Neutral prompts that shifted most", order[:_SHOWN]), ("All neutral prompts", order)):
        bars = [Bar(label=texts[k], value=float(kl_P[k]), role="tuned") for k in numbers]
        yield Bars(title=title, section="forgot", note=note, unit="nats", bars=bars)
