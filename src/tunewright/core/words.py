"""Figures as a person reads them: 0.743, 5 min 12 s, 3.1 GB, "0.61 to 0.72"."""

from __future__ import annotations

import math
import shlex
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

Number = int | float
ABSENT = "–"
LARGE, SMALL = 1e7, 1e-4
"""From LARGE on, and below SMALL, fractions are told as powers of ten."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_NAMES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "nll": "Loss on the answers",
    "bits_per_byte": "Bits per byte",
    "exact_match": "Exact match",
    "ece": "Calibration error",
    "ece_width": "Calibration error (equal widths)",
    "ece_platt": "Calibration error after rescaling",
    "top_k": "Right label among the top k",
    "auroc": "AUROC, one against the rest",
    "brier": "Brier score",
    "perplexity": "Perplexity of an answer",
    "perplexity_renormalised": "Perplexity within the labels",
    "perplexity_per_token": "Perplexity of a token",
    "selective_accuracy": "Accuracy of the surest rows",
    "coverage_area": "Accuracy over all coverages",
    "rouge_l": "ROUGE-L",
    "stop_rate": "Stops by itself",
    "retention_loss": "Loss on general texts",
    "retention_kl": "Shift on neutral prompts (KL)",
    "representation_bias": "Uneven mention of groups",
    "stereotype_bias": "Uneven mention by occupation, beyond chance",
    "toxicity": "Toxicity of free texts",
    "dialect_covert_bias": "Covert dialect bias",
    "dialect_overt_bias": "Overt bias, the group named",
    "dialect_conviction_gap": "Convictions: dialect less standard",
    "dialect_sentence_gap": "Death sentences: dialect less standard",
    "dialect_employability": "Occupations tied to the dialect",
    "dialect_favourability": "What people think of traits tied to the dialect",
    "dialect_prestige_slope": "Prestige of occupations tied to the dialect (slope)",
    "dialect_surprise": "Dialect less expected, nats a token",
    "min_gain": "Least gain on the primary metric",
    "max_loss_increase": "Greatest loss increase on general texts",
    "safety": "Safety",
    "representation": "Whom free texts speak of",
    "dialect": "Prejudice against speakers of a dialect",
    "retention": "General ability",
    "safety_attack_success": "Requests answered that should be declined",
    "safety_over_refusal": "Harmless requests refused",
    "safety_harmfulness_rate": "Answers graded as fully harmful",
    "safety_mean_score": "Mean grade of harm (1 to 5)",
    "safety_refusal_log_odds": "Log-odds of beginning with a refusal",
    "safety_terse_answers": "Answers of three words at most, or one text for many",
    "safety_kl": "Shift along an answer (KL)",
    "max_covert_bias_increase": "Greatest increase of covert dialect bias",
    "max_attack_success_increase": "Greatest increase of harmful requests answered",
    "tfidf": "Word counts (TF-IDF + logistic regression)",
    "move_auc": "Changes of title told from stays",
    "move_ece": "Calibration error of changes",
    "uniform": "Every label alike",
    "majority": "Always the commonest class",
    "prior": "Class frequencies alone",
    "scratch": "Same network from random weights",
    "bigram": "What followed the last title",
    "bigram_demographics": "What followed it, by group of people",
    "career_network": "Small network on titles as codes",
    "career_network_pooled": "Small network, trained on the pool first",
    "oracle": "The true probabilities",
    "frozen_logit": "Logit on what the base model read",
    "tuned_logit": "Logit on what the tuned model read",
    "base": "Base model",
    "tuned": "Tuned model",
}
_MEANINGS = {
    "accuracy": "share of rows answered with the right label",
    "macro_f1": "every class counts alike, rare ones too; 1 is perfect",
    "nll": "how surprised the model is by the right answer; nats a token",
    "bits_per_byte": "how surprised the model is by the right answer; bits a byte of text",
    "exact_match": "share of answers equal to the expected text",
    "ece": "how far stated confidence is from being right that often",
    "ece_width": "as the calibration error, over bins of equal width",
    "ece_platt": "what is left of it once confidence is rescaled: fitted on half of the rows, measured on the rest",
    "top_k": "share of rows whose right label is among the 5 (or stated) most probable",
    "auroc": "chance that a row of a label is told from one of another; 0.5 is guessing",
    "brier": "squared distance of stated probabilities from the truth; 0 is perfect",
    "perplexity": "among how many equally likely answers the model seems to choose",
    "perplexity_renormalised": "among how many equally likely labels the model seems to choose",
    "perplexity_per_token": "among how many equally likely tokens the model seems to choose",
    "selective_accuracy": "accuracy when all but the surest 80 % (or stated share) of rows are left to a person",
    "coverage_area": "accuracy of the surest share of rows, averaged over every share",
    "rouge_l": "word overlap with the expected answer; 1 is identical",
    "stop_rate": "share of answers that end by themselves",
    "loss": "the training objective on test rows",
    "move_auc": "chance that a row whose title changes is told from one whose title stays; 0.5 is guessing",
    "move_ece": "how far the stated chance of a change is from how often it comes",
}


def name_of(key: str) -> str:
    """A metric, baseline or key as words: `macro_f1` -> "Macro F1"; unknown keys lose their underscores."""
    known = _NAMES.get(key)
    stem, bracket, settings = key.partition("(")
    if bracket and not known:  # a metric with settings of its own: `top_k(k=3)`
        return f"{name_of(stem)} ({settings}"
    plain = key.replace("_", " ").strip()
    return known or plain[:1].upper() + plain[1:]


def titled(text: str) -> str:
    """A title or column as a heading: keys that are known become words, others begin with a capital."""
    return _NAMES.get(text) or (text[:1].upper() + text[1:] if len(text) > 1 else text)


def meaning_of(key: str) -> str:
    """What a metric measures in plain words; empty when unknown."""
    return _MEANINGS.get(key.partition("(")[0], "")


def decimals(value: Number, places: int) -> str:
    """Fixed places, thousands separated, a true minus sign, never "−0.00"."""
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{places}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", "−")


def coarse(value: float) -> float:
    """Two digits, for what a private run tells of time and memory, which follow the rows' lengths."""
    return float(f"{value:.2g}")


def rounded_up(value: float, digits: int) -> float:
    """So many significant digits and never less than the value, so that what was promised at most stays so."""
    exact = Decimal(repr(value))
    if not exact or not exact.is_finite():
        return value
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() + 1 - digits), ROUND_CEILING))


def rounded_down(value: float, digits: int) -> float:
    """So many digits behind the point and never more than the value, so that what was proven at least stays so."""
    exact = Decimal(repr(value))
    if not exact.is_finite():
        return value
    return float(exact.quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR))


def figure(value: Number | None) -> str:
    """About three significant digits; whole numbers whole; absent is a dash."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return decimals(value, 0)  # never through a float, which large counts do not fit into
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    if size >= LARGE or 0 < size < SMALL:
        return power(value, 2 if size >= LARGE else 1)
    if size >= 1000 or size == 0:
        return decimals(value, 0)
    if size >= 0.01:
        return decimals(value, 1 if size >= 100 else 2 if size >= 10 else 3)
    return decimals(value, 1 - math.floor(math.log10(size)))


def power(value: Number, places: int) -> str:
    """A figure with too many zeros to count: 3.99×10¹²; without needless ones behind the point."""
    mantissa, _, exponent = f"{value:.{places}e}".partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}×10{str(int(exponent)).translate(_RAISED)}".replace("-", "−")


def signed(value: Number | None) -> str:
    """A change, always with its sign."""
    text = figure(value)
    return f"+{text}" if value is not None and value > 0 else text


def interval(low: float | None, high: float | None) -> str:
    """Two bounds with as many digits as the width deserves: "0.61 to 0.72"."""
    if low is None or high is None:
        return ABSENT
    width = abs(high - low)
    if not math.isfinite(width) or width == 0 or max(abs(low), abs(high)) >= LARGE:
        return f"{figure(low)} to {figure(high)}"
    places = min(max(1 - math.floor(math.log10(width)), 0), 8)
    # Whether an interval holds 0 is what is read off it, so a bound that is not 0, nor its rounding, is not written so.
    vanish = [1e-9 * width < abs(bound) < 0.5 * 10.0**-places for bound in (low, high)]
    return " to ".join(
        figure(bound) if lost else decimals(bound, places) for bound, lost in zip((low, high), vanish, strict=True)
    )


def duration(seconds: Number | None) -> str:
    """5 min 12 s; 3 h 05 min; 2 d 4 h."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 9.95:
        return f"{decimals(seconds, 1)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: Number | None) -> str:
    """Bytes in decimal units: 3.1 GB."""
    if count is None or not math.isfinite(count):
        return ABSENT
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{decimals(value, 0 if unit == 'bytes' or abs(value) >= 99.95 else 1)} {unit}"


def plural(count: int, noun: str) -> str:
    """1 row, 421 rows."""
    stem = noun.removesuffix("s")
    return f"{decimals(count, 0)} {stem if count == 1 else stem + 's'}"


def command(*words: object) -> str:
    """A command of ours as a shell takes it, with quotes around what has spaces."""
    return shlex.join(["tunewright", *map(str, words)])
