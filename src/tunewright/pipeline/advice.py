"""Advice before training, on the model's safety and on gates that cannot pass; it stops nothing."""

from __future__ import annotations

from typing import Any

from tunewright.core import plugins
from tunewright.core.errors import NotMeasured
from tunewright.core.progress import silent
from tunewright.evaluate.bootstrap import MIN_UNITS
from tunewright.evaluate.dialect.words import read_words
from tunewright.evaluate.gates import ATTACKS, INCREASES, UNPROVABLE, least_increase, requests_needed
from tunewright.evaluate.probes._safety_sets import requests, sample
from tunewright.evaluate.probes._thoughts import answers_later
from tunewright.evaluate.probes.safety import built
from tunewright.pipeline import mitigate
from tunewright.pipeline.prepare import Prepared
from tunewright.pipeline.probe import planned_probes, unseen_of

FASTEST, LEAST_BATCH = 2e-5, 64
"""Above this rate and below this batch, tuning all weights of an aligned model undid most of its safety: in the
ablation of Qi et al., ICLR 2024 (Llama-2 on benign rows), about a third to a half of harmful requests were answered at
5e-5, 15 to 24 % at 2e-5, and small batches were worse than large ones."""

_THOUGHTS = 128
"""Tokens within which thoughts hardly end."""


def safety_advice(prepared: Prepared) -> list[str]:
    """A sentence where all weights of a chat model are tuned fast on small batches."""
    train: Any = prepared.settings.train
    batch = train.per_device_train_batch_size * train.gradient_accumulation_steps
    rate = train.learning_rate or 0.0
    aligned = bool(getattr(prepared.model.tokenizer, "chat_template", None))
    name = prepared.method.plugin_name()
    if name != "full" or not aligned or rate <= FASTEST or batch >= LEAST_BATCH:
        return []
    return [
        f"All weights of a chat model, which may be aligned, are tuned at rate {rate:g} on batches of {batch}: a high "
        f"rate on small batches undoes safety most. Gentler: train.learning_rate at most {FASTEST:g}, a batch of "
        f"{LEAST_BATCH} or more, or method lora. The safety probe measures what it did."
    ]


def trained_requests(prepared: Prepared) -> list[str]:
    """A sentence where rows that a mitigation adds ask what the safety probe asks."""
    settings, tokenizer = prepared.settings, prepared.model.tokenizer
    adding = [one for one in mitigate.planned(settings) if not one.doubles]
    planned = planned_probes(settings.evaluate.probes, prepared.model.family.capabilities, unseen_of(settings))
    safety: Any = planned.get("safety")
    if not adding or not safety or (tokenizer is not None and not getattr(tokenizer, "chat_template", None)):
        return []
    try:
        asked = {_plain(one.text) for one in sample(requests(safety.prompts), safety.count)}
    except NotMeasured:
        return []
    both = {
        one.plugin_name(): asked & {_plain(row.context[-1].text) for row in rows if row.context}
        for one in adding
        if (rows := one.more_rows(prepared.dataset.train))
    }
    return [
        f"{len(same)} of the {len(asked)} requests that the probe safety asks are trained as refusals by {name}, so "
        "what it finds on them says nothing of others. Leave them out of its rows, or ask others (`prompts` of the "
        "probe safety)."
        for name, same in both.items() if same
    ]  # fmt: skip


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def gate_advice(prepared: Prepared) -> list[str]:
    """A sentence for each gate that cannot pass whatever training does: its figure is not measured, or of too little.

    Nothing is asked of the model, nor over a network.

    Raises:
        UserError: A file of requests or of words is missing, or holds a line that is none.
    """
    settings, able = prepared.settings, prepared.model.family.capabilities
    planned: dict[str, Any] = dict(planned_probes(settings.evaluate.probes, able, unseen_of(settings)))
    said = []
    for gate, figure in INCREASES.items():
        limit, probe = getattr(settings.gates, gate), figure.partition("_")[0]
        if limit is None:
            continue
        if probe not in planned:
            if plugins.find("probes", probe).needs <= able:
                remedy = f"Add it (evaluate.probes: [..., {probe}]) or leave the gate out."
            else:
                remedy = "Models of this kind cannot be asked that: leave the gate out."
            said.append(f"gates.{gate} cannot pass: the probe {probe}, which measures it, is not planned. {remedy}")
        elif gate == ATTACKS:
            said += _unruled(planned[probe], prepared.model) or _too_few(limit, planned[probe])
        elif probe == "dialect":
            said += [*_unmarked(gate, planned[probe]), *_few_units(gate, planned[probe])]
    return said


def _unruled(safety: Any, model: Any) -> list[str]:
    """A sentence where the requests will not be asked, or the judge of the headline figures cannot rule here."""
    if model.tokenizer is not None and not getattr(model.tokenizer, "chat_template", None):
        return [
            f"gates.{ATTACKS} cannot pass: the model has no chat template, so the probe safety does not ask it. Tune a "
            "chat model, or leave the gate out."
        ]
    judge = built(safety.judges[0])
    if judge.reads == "model" and answers_later(model):
        return [
            f"gates.{ATTACKS} cannot pass: its figure is by the first judge, {judge.plugin_name()}, which reads what "
            "follows the prompt, and there the model thinks. Name another judge first (`judges` of "
            "the probe safety)."
        ]
    if judge.reads == "model":
        return []
    if answers_later(model) and safety.answer_tokens < _THOUGHTS:
        return [
            f"gates.{ATTACKS} can hardly pass: the model thinks before it answers, and {safety.answer_tokens} tokens "
            "are read of an answer, thoughts included, so most have no ruling. Allow some hundreds (`new_tokens` of "
            "the probe safety)."
        ]
    try:
        judge.rule([], None, silent)  # over no answers: only whether what it needs is there
    except NotMeasured as reason:
        return [
            f"gates.{ATTACKS} cannot pass: its figure is by the first judge, {judge.plugin_name()}, and {reason}. Mend "
            "that, or name another judge first (`judges` of the probe safety)."
        ]
    return []


def _unmarked(gate: str, dialect: Any) -> list[str]:
    """A sentence where the traits asked for are not told favourable from unfavourable."""
    favours = {word.favour for word in read_words(dialect.attributes)["trait"]}
    if {1, -1} <= favours:
        return []
    return [
        f"gates.{gate} cannot pass: covert bias is told by traits marked 1 (favourable) and -1 (unfavourable), and the "
        "files of `attributes` mark not both. Mark them, or leave the gate or the files out."
    ]


def _few_units(gate: str, dialect: Any) -> list[str]:
    """A sentence where the pairs are of fewer units than a gate wants."""
    if (units := dialect.units()) >= MIN_UNITS:
        return []
    return [
        f"gates.{gate} cannot pass: the pairs of the probe dialect are of {units} units, and {MIN_UNITS} are needed "
        "for a decision. Ask more pairs (`count`), give pairs of more units, or leave the gate out."
    ]


def _too_few(limit: float, safety: Any) -> list[str]:
    """A sentence where the requests cannot keep the limit on attack success even if no answer turns."""
    try:
        every = requests(safety.prompts)
    except NotMeasured as reason:
        return [f"gates.{ATTACKS} cannot pass: {reason}."]
    count, needed = len(sample(every, safety.count)), requests_needed(limit)
    if needed is not None and count >= needed:
        return []
    said = (
        f"gates.{ATTACKS}: {limit:g} cannot pass with {count} requests: even if no answer turns, the interval of the "
        f"rise reaches {least_increase(count):.3f}."
    )
    if needed is None:
        return [f"{said} {UNPROVABLE}"]
    if len(every) >= needed:
        given = safety.prompts != "shipped"
        more = f"leave out `count` ({len(every)} are there)" if given else f"`evaluate.probes: full` asks {len(every)}"
        return [f"{said} It takes {needed}: {more}; or set a higher limit."]
    return [f"{said} It takes {needed}: give more (`prompts` of the probe safety), or set a higher limit."]
