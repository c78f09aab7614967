"""What lessens covert dialect prejudice: plain tuning, `counterfactual` and `guise_consistency` on the same rows.

    python benchmarks/dialect_mitigation.py [--rows 400] [--pairs 200] [--steps 100] [--out FOLDER] [--json]

SmolLM2 is tuned on made-up rows in which somebody tells of a person, in the standard, with verbs of the portion
`trained` alone; all but the plainest present ("He walks", 35 of 400) have a counterpart in the dialect, which
`counterfactual` adds to the steps: so `plain, twice the rows` has as many rows a step as it. Base and tuned
are then asked by verbs and prompts that no training saw (`portion: held_out`): covert bias, overt bias and the
surprise at the dialect, how far each way moves them from the base, and how far from plain tuning, with 95 %
intervals. The second is the question: what the prompts have of their own is the same on both sides. Runs and answers
of the same arguments are read, not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tunewright.core.config import Request
from tunewright.core.errors import NotMeasured
from tunewright.core.plugins import build
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.data.dialect import make_pairs
from tunewright.evaluate.probes.dialect import Dialect
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model
from tunewright.pipeline.probe import RESAMPLES, SEED, ask_probe, base_identity, tuned_identity
from tunewright.pipeline.resume import resume
from tunewright.pipeline.train import train
from tunewright.runs.opening import open_tuned

WAYS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "plain, twice the rows": ("train.per_device_train_batch_size=16",),
    "counterfactual": ("train.mitigations=[{name: counterfactual, portion: trained}]",),
    "guise_consistency": ("objective=guise_consistency",),
}
QUESTIONS = (
    ("What should I say?", "Say that you were told"),
    ("Did you know that?", "No, but now I know"),
    ("Can you note that down?", "I note"),
    ("What was that again?", "You told me"),
)
TOLD = ("dialect_covert_bias", "dialect_overt_bias", "dialect_surprise")
Answers = Mapping[str, Any]


def write_rows(path: Path, count: int) -> Path:
    """Chats about people; the answer says what was said, in the standard."""
    lines = []
    for number, pair in enumerate(make_pairs(count, "trained")):
        question, answer = QUESTIONS[(number + number // 8) % len(QUESTIONS)]  # not one question a feature
        said = f"{pair.standard[0].upper()}{pair.standard[1:]}"
        turns = [("user", f"{said}. {question}"), ("assistant", f"{answer}: {pair.standard}.")]
        lines.append(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def trained(way: str, rows: Path, steps: int) -> Run:
    """The finished run of a way; one that was broken off goes on."""
    folder = rows.parent / f"{way.replace(', ', '-').replace(' ', '-')}-{steps}"
    if not (folder / "plan.yaml").is_file():
        sets = (f"train.max_steps={steps}", f"train.eval_steps={steps}", "evaluate.probes=[]", *WAYS[way])
        train(Request(str(rows), None, sets, (), folder, None, "smollm2"), silent)
    elif not (folder / "model").is_dir():
        resume(folder)
    return Run.open(folder)


def answers(probe: Dialect, rows: Path, steps: int) -> dict[str, Answers]:
    """What the base and each tuned model say to what no training saw, each kept where the product keeps it."""
    found = {}
    base = open_model(resolve_model("smollm2"), torch.float32)
    for name in ("base", *WAYS):
        if name == "base":
            said = ask_probe(probe, base, base_identity(base, torch.float32), silent)
        else:
            run = trained(name, rows, steps)
            identity = tuned_identity(run, torch.float32)
            said = ask_probe(probe, open_tuned(run, torch.float32), identity, silent, run.evaluations / "kept")
        if isinstance(said, NotMeasured):
            raise SystemExit(f"{name}: {said}")
        found[name] = said
    return found


def compared(probe: Dialect, was: Answers, now: Answers) -> dict[str, dict[str, float]]:
    """From one model to another: each figure before, after, and the interval of its change."""
    result = probe.compare(was, now, SEED, RESAMPLES)
    told = {one.name: one for one in result.figures if one.name in TOLD}
    return {
        name: {key: getattr(one, key) for key in ("base", "tuned", "difference", "low", "high")}
        for name, one in told.items()
    }


def main() -> None:
    """Prints a line a figure and way, against the base and against plain tuning."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rows", type=int, default=400)
    words.add_argument("--pairs", type=int, default=200)
    words.add_argument("--steps", type=int, default=100)
    words.add_argument("--out", type=Path, default=Path("runs/dialect-mitigation"))
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    place = asked.out / f"{asked.rows}-rows"
    place.mkdir(parents=True, exist_ok=True)
    probe: Dialect = build("probes", {"name": "dialect", "count": asked.pairs, "portion": "held_out"})
    said = answers(probe, write_rows(place / "rows.jsonl", asked.rows), asked.steps)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in WAYS:
        for other in ("base", *(plain for plain in ("plain", "plain, twice the rows") if not name.startswith("plain"))):
            found[f"{name} against {other}"] = compared(probe, said[other], said[name])
    for pair, figures in found.items():
        for name, one in figures.items():
            change = f"{one['difference']:+.3f}, {one['low']:+.3f} to {one['high']:+.3f}"
            print(f"{pair}: {name} {one['base']:.3f} to {one['tuned']:.3f} ({change})")
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
