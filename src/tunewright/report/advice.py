"""How to use the model, and what this report does not show."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from typing import Any

from tunewright.core.blocks import Block, Code, Text
from tunewright.core.store import Run
from tunewright.core.words import plural

_ADAPTER = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer{settings}

model = AutoPeftModelForCausalLM.from_pretrained({folder!r})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
"""
_WHOLE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({folder!r})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
"""
_TURN = """\
turns = [{{"role": "user", "content": "..."}}]
inputs = tokenizer.apply_chat_template(
    turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
"""
_PLAIN = """\
inputs = tokenizer("...{line}", return_tensors="pt")
"""
_ENDS = """\
ends = GenerationConfig.from_pretrained({folder!r}).eos_token_id
"""
_ANSWER = """\
answer = model.generate(**inputs, {ends}max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""
_ABSTAINING = " --min-accuracy 0.9 abstains on rows that the model is too unsure about."


def use_blocks(
    run: Run, chat: bool = True, capabilities: Collection[str] | None = None, asks: bool = True
) -> list[Block]:
    """Commands and code to answer new rows; nothing before there is a model.

    Args:
        run: The run.
        chat: Whether the model answers a turn; else it goes on with plain text.
        capabilities: Of the model's family; None = those of a text model.
        asks: Whether its rows ask something; plain texts do not, so there is nothing to answer.
    """
    if not run.model.is_dir():
        return []
    # As seen from where `runs` lies, else from beside the run: its own place may tell a stranger too much. A name alone
    # with a word behind it could be read as a model of the hub.
    folder = f"runs/{run.name}" if run.folder.resolve().parent.name == "runs" else f"./{run.name}"
    quoted = shlex.quote(folder)
    adapter = (run.model / "adapter_config.json").is_file()
    # An adapter's own file says where its answers end; its base may say otherwise.
    ends = adapter and (run.model / "generation_config.json").is_file()
    code = (_ADAPTER if adapter else _WHOLE) + (_TURN if chat else _PLAIN) + (_ENDS if ends else "") + _ANSWER
    words = {"folder": f"{folder}/model", "line": "\\n" if asks else "", "ends": "eos_token_id=ends, " if ends else ""}
    words["settings"] = ", GenerationConfig" if ends else ""
    kind = "an adapter of its base model, in PEFT's layout" if adapter else "a whole model, in transformers' layout"
    blocks: list[Block] = [
        Code(
            title="Answer a table of rows", section="use",
            code=f"tunewright predict {quoted} rows.csv --out predictions.csv",
            note=f"To be typed in the folder that holds {folder}. The same rows come back with prediction, "
            f"probability, abstain and a note.{_ABSTAINING if run.read('evaluations/validation.json') else ''}",
        ),
        Code(
            title="From Python", section="use", code=code.format(**words),
            note=f"The folder model/ is {kind}.{' Only predict prepares rows as this report did.' if asks else ''}",
        ),
    ]  # fmt: skip
    can = {"choices", "generate", "text"} if capabilities is None else set(capabilities)
    opens = adapter or (run.model / "config.json").is_file()  # a sparse change is opened by `predict` alone
    answers, text = asks and can & {"choices", "generate"}, "text" in can and opens
    return [block for block, fits in zip(blocks, (answers, text), strict=True) if fits]


def limit_blocks(facts: Mapping[str, Any]) -> list[Block]:
    """What must be known before anybody relies on the model.

    Args:
        facts: `use`, `licence`, `data_licence`, `test` (n, unit), `slices`, `missing` (what was not measured).
    """
    said: list[str] = []
    if facts.get("use"):
        said.append(f"Limit of use stated for this data: {facts['use']}.")
    else:
        said.append("No limit of use was stated for this data. That is not a permission: ask whoever provided it.")
    if facts.get("test"):
        n, unit = facts["test"]
        said.append(
            f"The verdict rests on {plural(n, unit)}. It holds for rows that come from where these came from, asked in "
            "the same way; other sources, languages or years may behave otherwise."
        )
    said.append(
        f"Licence of the base model: {facts.get('licence') or 'not stated'}. "
        f"Licence of the data: {facts.get('data_licence') or 'not stated'}."
    )
    if facts.get("slices"):
        said.append("Only the subgroups shown (data.slices names others) were looked at, and those of enough units.")
    else:
        said.append("No subgroups were named (data.slices): whether it serves everybody equally well was not measured.")
    if not facts.get("seeds"):
        said.append("One seed: the intervals cover the choice of test rows, not that another seed gives other weights.")
    if facts.get("missing"):
        said.append(f"Not measured: {'; '.join(facts['missing'])}.")
    return [Text(title="Before you rely on it", section="limits", paragraphs=said, tone="unsure")]
