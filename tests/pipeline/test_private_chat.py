"""Private tuning on rows without labels: nothing that needs labels is asked of them."""

from __future__ import annotations

import json

from tiny import save_tiny
from tunewright.core.config import Request
from tunewright.pipeline.tune import tune

SETS = (
    "privacy.target_epsilon=8", "privacy.unit=row", "train.threads=1", "train.max_steps=3", "evaluate.probes=[]",
    "evaluate.generated_rows=0", "train.learning_rate=1e-3",
)  # fmt: skip


def test_a_private_run_on_conversations_ends_in_a_verdict(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": f"What is {n}?"},
                        {"role": "assistant", "content": f"It is number {n * 7}."},
                    ]
                }
            )
            + "\n"
            for n in range(90)
        )
    )
    out = tmp_path / "run"
    result = tune(Request(str(rows), None, SETS, (), out, None, str(save_tiny("qwen2", tmp_path / "model"))))
    assert result.exit_code in (0, 3)
    verdict = json.loads((out / "verdict.json").read_text())
    assert verdict["metrics"]
    assert all(not metric["baselines"] for metric in verdict["metrics"])
    assert json.loads((out / "privacy.json").read_text())["epsilon"]["prv"] <= 8
