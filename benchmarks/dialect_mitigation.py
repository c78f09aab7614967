"""What lessens covert dialect prejudice: plain tuning, `counterfactual` and `guise_consistency` on the same rows.

    python benchmarks/dialect_mitigation.py [--rows 400] [--pairs 200] [--steps 100] [--out FOLDER] [--json]

SmolLM2 is tuned on made-up rows in which somebody tells of a person, in the standard, with verbs of the portion
`trained` alone; all but the plainest present ("He walks", 35 of 400) have a counterpart in the dialect. Base and tuned
are then asked by verbs and prompts that no training saw (`portion: held_out`): the change of covert bias, of overt bias
and of the surprise at the dialect, each with its 95 % interval. Runs and answers that are there are read, not made
again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tunewright.core.config import ProbeRequest, Request
from tunewright.core.progress import silent
from tunewright.data.dialect import make_pairs
from tunewright.pipeline.probe import probe
from tunewright.pipeline.resume import resume
from tunewright.pipeline.train import train

WAYS: dict[str, tuple[str, ...]] = {
    "plain": (),
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


def figures(way: str, rows: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """What the probe finds on base and tuned of one way."""
    run, out = asked.out / way, asked.out / f"{way}.json"
    if not (run / "model").is_dir():
        sets = (f"train.max_steps={asked.steps}", f"train.eval_steps={asked.steps}", "evaluate.probes=[]", *WAYS[way])
        if (run / "plan.yaml").is_file():
            resume(run)
        else:
            train(Request(str(rows), None, sets, (), run, None, "smollm2"), silent)
    if not out.is_file():
        fields = {"count": [str(asked.pairs)], "portion": ["held_out"]}
        probe(ProbeRequest("dialect", None, run, out, "full", "float32", fields))
    changes = {one["name"]: one for one in json.loads(out.read_text(encoding="utf-8"))["change"]}
    return {name: changes[name] for name in TOLD if name in changes}


def main() -> None:
    """Prints a line a figure and way."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rows", type=int, default=400)
    words.add_argument("--pairs", type=int, default=200)
    words.add_argument("--steps", type=int, default=100)
    words.add_argument("--out", type=Path, default=Path("runs/dialect-mitigation"))
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    rows = write_rows(asked.out / "rows.jsonl", asked.rows)
    found: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        found[way] = figures(way, rows, asked)
        for name, one in found[way].items():
            change = f"{one['low']:+.3f} to {one['high']:+.3f}"
            print(f"{way}: {name} {one['base']:.3f} to {one['tuned']:.3f} ({change})", flush=True)
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
