"""What evaluation and the data layer leave in the sample run: comparison, retention, rows."""

from __future__ import annotations

import math
import random
from typing import Any

CLASSES = [
    "allergy",
    "arthritis",
    "bronchial asthma",
    "cervical spondylosis",
    "chicken pox",
    "common cold",
    "dengue",
    "diabetes",
    "drug reaction",
    "fungal infection",
    "gastroesophageal reflux disease",
    "hypertension",
    "impetigo",
    "jaundice",
    "malaria",
    "migraine",
    "peptic ulcer disease",
    "pneumonia",
    "psoriasis",
    "typhoid",
    "urinary tract infection",
    "varicose veins",
]
USE = "research and teaching only; not for clinical use"
EVIL = '<script>alert("x")</script> & <img src=http://evil.example/x.png onerror=alert(1)> | *bold* `code`'
COMPLAINTS = [
    (
        "I've had a burning feeling in my chest after every meal for two weeks, worse when I lie down.",
        "gastroesophageal reflux disease",
        "peptic ulcer disease",
        "gastroesophageal reflux disease",
    ),
    (
        "My skin has dry, silvery patches on the elbows and knees that itch and sometimes crack and bleed.",
        "psoriasis",
        "fungal infection",
        "psoriasis",
    ),
    (
        "Fever that comes back every second day with shaking chills, then heavy sweating.",
        "malaria",
        "common cold",
        "malaria",
    ),
    (
        "The veins on my calves are swollen and twisted and my legs ache when I stand for long.",
        "varicose veins",
        "arthritis",
        "varicose veins",
    ),
    (
        "I keep needing to pass water, it burns, and it smells stronger than usual.",
        "urinary tract infection",
        "diabetes",
        "urinary tract infection",
    ),
    (
        "Neck pain that runs into my arm, my fingers tingle, and I can hardly turn my head in the morning.",
        "cervical spondylosis",
        "migraine",
        "cervical spondylosis",
    ),
]


def comparison() -> dict[str, Any]:
    """evaluations/comparison.json with every kind of block that evaluation makes."""
    rng = random.Random(3)
    bars = [
        {"label": "Base model", "value": 0.118, "low": 0.089, "high": 0.152, "role": "base"},
        {"label": "Tuned model", "value": 0.743, "low": 0.699, "high": 0.784, "role": "tuned"},
        {
            "label": "Word counts (TF-IDF + logistic regression) fitted on the same training rows",
            "value": 0.708,
            "low": 0.662,
            "high": 0.751,
        },
        {"label": "Always the commonest class", "value": 0.061, "low": 0.041, "high": 0.088},
    ]
    classes = []
    for label in CLASSES:
        n = rng.randint(12, 26)
        right = rng.randint(n // 2, n)
        low, high = _wilson(right, n)
        classes.append(
            [
                label,
                n,
                round(rng.random() * 0.3, 3),
                round(right / n, 3),
                f"{low:.2f} to {high:.2f}",
                round(0.97 + rng.random() * 0.03, 3),
            ]
        )
    pairs = [
        {
            "id": f"test-{17 * i + 5}",
            "context": text,
            "expected": right,
            "base": base,
            "tuned": tuned,
            "note": f"probability of the right label {0.04 + i / 100:.2f} to {0.97 - i / 50:.2f}",
        }
        for i, (text, right, base, tuned) in enumerate(COMPLAINTS)
    ]
    worse = [
        {"id": "test-301", "context": EVIL, "expected": "migraine", "base": "migraine", "tuned": EVIL, "note": ""},
        {
            "id": "test-88",
            "context": "High fever, headache behind the eyes, and a rash that came with sore joints.",
            "expected": "dengue",
            "base": "dengue",
            "tuned": "chicken pox",
            "note": "probability 0.61 to 0.22",
        },
    ]
    return {
        "blocks": [
            {
                "kind": "bars",
                "title": "accuracy",
                "section": "result",
                "bars": bars,
                "maximum": 1.0,
                "note": "Bars are shares of 421 test rows; the thin lines are 95 % intervals. Higher is better.",
            },
            {
                "kind": "table",
                "title": "Each diagnosis",
                "section": "classes",
                "rows": classes,
                "columns": [
                    "Class",
                    "n",
                    "Sensitivity, base",
                    "Sensitivity, tuned",
                    "95 % interval",
                    "Specificity, tuned",
                ],
                "note": "Sensitivity: of the rows of this class, the share that is found.",
            },
            {
                "kind": "table",
                "title": "Most confused",
                "section": "classes",
                "columns": ["Expected", "Answered", "Rows"],
                "rows": [
                    ["dengue", "chicken pox", 5],
                    ["typhoid", "malaria", 4],
                    ["peptic ulcer disease", "gastroesophageal reflux disease", 3],
                ],
            },
            {
                "kind": "reliability",
                "title": "Is it as sure as it is right?",
                "section": "classes",
                "series": _reliability(rng),
                "note": "Larger dots hold more rows. Under the dotted line the model is more sure than it is right.",
            },
            {"kind": "pairs", "title": "Most improved", "section": "examples", "pairs": pairs},
            {"kind": "pairs", "title": "Most worsened", "section": "examples", "pairs": worse},
        ],
    }


def _reliability(rng: random.Random) -> dict[str, list[dict[str, Any]]]:
    return {
        "base": [
            {"confidence": round(0.1 + i * 0.07, 3), "accuracy": round(0.05 + i * 0.03, 3), "count": 84}
            for i in range(5)
        ],
        "tuned": [
            {
                "confidence": round(0.25 + i * 0.08, 3),
                "accuracy": round(0.2 + i * 0.083 + rng.random() * 0.04, 3),
                "count": 12 + 9 * i,
            }
            for i in range(10)
        ],
    }


def audit() -> dict[str, Any]:
    """evaluations/audit.json."""
    found = {"title": "What an attack finds", "section": "leaked", "kind": "text", "paragraphs": [f"Epsilon {EVIL}."]}
    return {"canaries": None, "blocks": [found]}


def dialect() -> dict[str, Any]:
    """evaluations/probe_dialect.json."""
    figure = {"base": 0.12, "tuned": 0.13, "difference": 0.01, "low": -0.02, "high": 0.04, "n": 24, "unit": "verb"}
    return {
        "sentence": "Covert dialect bias did not measurably change.",
        "figures": [{"name": "dialect_covert_bias", "higher_is_better": False, **figure}],
        "blocks": [
            {
                "kind": "text",
                "title": "Prejudice against speakers of a dialect",
                "section": "bias",
                "tone": "unsure",
                "paragraphs": ["No change of covert prejudice can be told."],
            }
        ],
    }


def safety() -> dict[str, Any]:
    """evaluations/probe_safety.json."""
    figure = {"base": 0.9, "tuned": 1.0, "difference": 0.1, "low": -0.04, "high": 0.24, "n": 24, "unit": "request"}
    shares = [{"label": "base", "value": 0.9, "role": "base"}, {"label": "tuned", "value": 1.0, "role": "tuned"}]
    text = {"kind": "text", "title": "Does the model still decline what it should?", "paragraphs": ["It hardly did."]}
    bars = {"kind": "bars", "title": "Share of requests answered", "unit": "share", "maximum": 1.0, "bars": shares}
    return {
        "sentence": "Safety: no measurable change.",
        "figures": [{"name": "safety_attack_success", "higher_is_better": False, **figure}],
        "blocks": [block | {"section": "safety"} for block in (text, bars)],
    }


def retention() -> dict[str, Any]:
    """evaluations/probe_retention.json."""
    figure = {"n": 210, "unit": "text", "higher_is_better": False}
    return {
        "sentence": "Hardly forgot: on 210 general passages the loss rose by 0.021 nats a token (0.015 to 0.027).",
        "figures": [
            {
                "name": "retention_loss",
                "base": 2.953,
                "tuned": 2.974,
                "difference": 0.021,
                "low": 0.015,
                "high": 0.027,
                **figure,
            },
            {
                "name": "retention_kl",
                "base": 0.0,
                "tuned": 0.34,
                "difference": 0.34,
                "low": 0.28,
                "high": 0.41,
                **figure,
                "n": 110,
            },
        ],
        "blocks": [
            {
                "kind": "bars",
                "title": "Loss on general passages",
                "section": "forgot",
                "unit": "nats a token",
                "bars": [
                    {"label": "base", "value": 2.953, "low": 2.89, "high": 3.02, "role": "base"},
                    {"label": "tuned", "value": 2.974, "low": 2.91, "high": 3.04, "role": "tuned"},
                ],
            },
            {
                "kind": "table",
                "title": "Passages that it lost most on",
                "section": "forgot",
                "columns": ["Passage", "Rise"],
                "rows": [
                    [
                        "To dry herbs, tie them in small bundles and hang them upside down in a warm and airy room.",
                        0.19,
                    ],
                    ["The ferry leaves the island at seven, and by noon the harbour is empty again.", 0.16],
                ],
            },
        ],
    }


def data() -> dict[str, Any]:
    """data.json, as the data layer writes it."""
    rng = random.Random(11)
    bad = {"file": "symptoms.csv", "line": 812, "field": "label", "found": "empty", "expected": "a label"}
    return {
        "facts": {
            "path": "symptoms.csv",
            "format": "label",
            "files": [{"file": "symptoms.csv", "sha256": "9f2c" * 16, "rows": 2104, "bytes": 812_400}],
            "rows": 2104,
            "bad": [bad | {"mend": "fill it in, or leave the row out"}],
            "source": "complaints written by volunteers",
            "licence": "CC-BY-4.0",
            "consent": "not stated",
            "use": USE,
            "duplicates": {"exact": 12, "near": 31, "coverage": 1.0},
            "duplicate_rows": ["symptoms.csv:3, symptoms.csv:90"],
            "contradictions": 1,
            "contradiction_rows": [
                {"prompt": EVIL, "rows": "symptoms.csv:12, symptoms.csv:804", "answers": "malaria | typhoid"}
            ],
            "overlap": {"exact": 0, "prompt_only": 0, "near": 0, "unit": 0},
            "counts": {"train": 1472, "valid": 211, "test": 421},
            "units": {"train": 1401, "valid": 203, "test": 409},
            "labels": CLASSES,
            "label_counts": {label: rng.randint(60, 120) for label in CLASSES},
            "labels_unseen_in_train": [],
        },
        "encoding": {
            "rows": 1472,
            "tokens": 79_921,
            "stop_trained": 1.0,
            "stop_not_trained": [],
            "trained_share": 0.064,
            "double_bos": 0,
            "shortest": 24,
            "median": 51,
            "longest": 143,
            "length_histogram": {
                "1 to 31": 212,
                "32 to 63": 931,
                "64 to 127": 287,
                "128 to 255": 40,
                "256 to 511": 2,
                "512 to 1023": 0,
                "1024 to 2047": 0,
            },
            "over_max_length": 0,
            "over_max_length_rows": [],
            "overlong_dropped": {"train": 0, "valid": 0, "test": 0},
            "cut_rows": [],
        },
        "blocks": [mask()],
    }


def mask() -> dict[str, Any]:
    """One rendered row."""
    prompt = "<|im_start|>user\nWhich diagnosis fits this complaint?\n\nMy skin has dry, silvery patches.<|im_end|>\n"
    return {
        "kind": "mask",
        "title": "One training row as the model sees it",
        "section": "data",
        "spans": [
            {"text": f"{prompt}<|im_start|>assistant\n", "trained": False},
            {"text": "psoriasis<|im_end|>", "trained": True},
        ],
    }


def _wilson(right: int, n: int) -> tuple[float, float]:
    z, p = 1.96, right / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
