"""Trained without a safety prompt, asked with one."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from tunewright.core.records import Example
from tunewright.mitigations._base import Effect, Mitigation
from tunewright.models.chat import TEMPLATE_FAULTS
from tunewright.models.contracts import LoadedModel


class SafePrompt(Mitigation):
    """Pure tuning, safe testing: rows are trained without a safety prompt, the finished model is asked with one.

    Lyu et al. 2024 (arXiv 2402.18540). The prompt goes into the saved chat template, so that every use of the model has
    it, other libraries' too; a conversation that brings its own system turn keeps it.
    """

    prompt: str = Field(
        "You are a helpful assistant. Decline, politely and briefly, whatever is harmful, unlawful or hurtful to "
        "others; help with everything else.",
        min_length=1,
    )
    """The system turn that a conversation without one begins with."""

    def check(self, train: Sequence[Example], model: LoadedModel, method: str) -> list[str]:
        """Needs a chat template, and rows that are not trained with the same prompt."""
        if not getattr(model.tokenizer, "chat_template", None):
            return ["safe_prompt: the model has no chat template to put a prompt into. Leave it out."]
        same = sum(any(turn.role == "system" and turn.text == self.prompt for turn in row.context) for row in train)
        if same:
            return [
                f"safe_prompt: {same} of {len(train)} rows are trained with the very prompt that it adds when asking; "
                "it protects because the two differ. Take the system turn out of the rows, or choose another prompt."
            ]
        return self._untold(model)

    def _untold(self, model: LoadedModel) -> list[str]:
        """A sentence where the template refuses a system turn, or passes over it."""
        turns = [{"role": "user", "content": "Hello"}]
        try:
            text = str(
                self.serve(model).tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            )
        except TEMPLATE_FAULTS as error:
            text, why = "", f"refuses a system turn ({error})"
        else:
            why = "passes over a system turn"
        if self.prompt.strip() in text:
            return []
        return [f"safe_prompt: the model's chat template {why}, so the prompt would not be told. Leave it out."]

    def price(self, model: LoadedModel) -> Effect:
        """The tokens that every question becomes longer by."""
        tokens = len(model.tokenizer(self.prompt, add_special_tokens=False)["input_ids"])
        return Effect(
            f"A safety prompt of {tokens} tokens stands before every question that brings no system turn of its own; "
            "rows were trained without it.",
            {"tokens_a_question": tokens},
        )

    def serve(self, model: LoadedModel) -> LoadedModel:
        """The same model with the prompt in its template."""
        tokenizer = copy.deepcopy(model.tokenizer)
        templates = tokenizer.chat_template  # one, or several by name
        several = isinstance(templates, dict)
        tokenizer.chat_template = (
            {name: self._led(one) for name, one in templates.items()} if several else self._led(templates)
        )
        return replace(model, tokenizer=tokenizer)

    def _led(self, template: str) -> str:
        lead = self._lead()
        return template if template.startswith(lead) else lead + template

    def _lead(self) -> str:
        text = json.dumps(self.prompt, ensure_ascii=False)
        turn = f"{{'role': 'system', 'content': {text}}}"
        return (
            "{%- if not messages or messages[0]['role'] != 'system' %}"
            f"{{%- set messages = [{turn}] + messages %}}"
            "{%- endif %}"
        )
