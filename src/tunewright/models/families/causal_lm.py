"""Causal language models of any architecture that transformers opens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as hf_logging

from tunewright.core.batches import batches
from tunewright.core.errors import UserError
from tunewright.core.plugins import Plugin
from tunewright.core.records import Example
from tunewright.core.seeds import key
from tunewright.data.encoder import Encoded
from tunewright.models import chunked, collate, head, scoring
from tunewright.models.attention import NAME, Layout, attention, packed_logits, plain_attention
from tunewright.models.chat import Chat
from tunewright.models.contracts import Batch, EncodeSettings, Generation, LoadedModel, Origin, Segment
from tunewright.models.encoding import TextEncoder, continued_ids, plain_ids
from tunewright.models.fused import fuse
from tunewright.models.generation import greedy
from tunewright.models.whole import lacks

PACKED_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference of a log-probability, packed against alone, at which a model counts as able to pack."""
PACKED_SHARE = 1e-2
"""In a rounded dtype, the same as a share of what rows that see one another differ by (divergence, largest position).
SmolLM2 in bfloat16 comes to 0.002 by rounding alone, a sibling that is seen to 0.04 at the least."""
_PROMPT_TOKENS = 4096
_POSITIONS = 64
"""Positions whose whole distribution is held at once."""

hf_logging.disable_progress_bar()  # our own progress is enough
hf_logging.set_verbosity_error()


class CausalLM(Plugin):
    """Text models that predict the next token (Llama, GPT-2, Qwen, Gemma, Mamba ...)."""

    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"token_log_probs", "choices", "generate", "blocks", "next_log_probs", "text", "hidden", "raw_texts"}
    )

    def match(self, folder: Path) -> bool:
        """Any folder whose configuration names a causal language model."""
        config = folder / "config.json"
        if not config.is_file():
            return False
        names = json.loads(config.read_text(encoding="utf-8")).get("architectures") or []
        return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names)

    def open(self, origin: Origin, dtype: torch.dtype) -> LoadedModel:
        """Opens the folder offline, and probes once whether rows may be packed."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(origin.folder, local_files_only=True)
            module, loaded = AutoModelForCausalLM.from_pretrained(
                origin.folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise UserError(f"{origin.folder} does not open as a causal language model: {error}") from None
        except SafetensorError as error:
            raise UserError(
                f"A weight file (*.safetensors) in {origin.folder} is cut or damaged: {error}. Copy or fetch it again."
            ) from None
        if fault := lacks(origin.folder, loaded):
            raise UserError(fault)
        return self._ready(module, tokenizer, origin)

    def save(self, model: LoadedModel, folder: Path) -> None:
        """Model and tokenizer in Hugging Face layout."""
        model.module.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)

    def from_scratch(self, model: LoadedModel, seed: int) -> LoadedModel:
        """The architecture of the model with weights drawn anew from the seed."""
        config = AutoConfig.from_pretrained(model.origin.folder, local_files_only=True)
        with torch.random.fork_rng():
            torch.manual_seed(key(seed, "scratch"))
            module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        return self._ready(module, model.tokenizer, model.origin)

    def encoder(self, model: LoadedModel, settings: EncodeSettings) -> TextEncoder:
        """Text through the tokenizer's own template, or running text as it stands."""
        return TextEncoder(Chat(model.tokenizer, settings.around, settings.opens and model.opens), settings)

    def collate(self, model: LoadedModel, rows: Sequence[Encoded]) -> Batch:
        """Packed where the model was measured to keep rows apart, else padded."""
        if not model.packs:
            return collate.padded(rows, model.tokenizer.pad_token_id or 0)
        return collate.packed(rows, apart=model.apart)

    def adapter_targets(self, model: LoadedModel) -> list[str]:
        """Every linear module but the output head."""
        head = model.module.get_output_embeddings()
        return [
            name
            for name, part in model.module.named_modules()
            if isinstance(part, nn.Linear | Conv1D) and part is not head
        ]

    def blocks(self, model: LoadedModel) -> list[str]:
        """The decoder layers, then the modules above them (the final norm, an untied head)."""
        module = model.module
        stacks = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.ModuleList) and len(m) > 0]
        if not stacks:
            raise UserError(f"{type(module).__name__} has no stack of layers; use method lora, norm or full.")
        name, stack = max(stacks, key=lambda item: sum(p.numel() for p in item[1].parameters()))
        layers = [f"{name}.{index}" for index in range(len(stack))]
        body = module.get_submodule(name.rpartition(".")[0])
        embedding, head = module.get_input_embeddings(), module.get_output_embeddings()
        siblings = [n for n, m in body.named_children() if m is not stack and m is not embedding]
        after = siblings[[*dict(body.named_children())].index(name.rpartition(".")[2]) - 1 :]
        top = [f"{name.rpartition('.')[0]}.{n}" for n in after if any(True for _ in body.get_submodule(n).parameters())]
        if head is not None and head.weight is not embedding.weight:
            top += [n for n, m in module.named_modules() if m is head]
        return [*layers, *top]

    def token_log_probs(self, model: LoadedModel, batch: Batch) -> Tensor:
        """[targets] float32 log-probabilities, differentiable."""
        targets = batch.targets
        keep_K, row_T = torch.unique(targets.position_T, return_inverse=True)

        def logits() -> Tensor:
            if model.packs:
                return _packed_logits(model.module, batch.inputs["input_ids"], batch.attended(), keep_K)
            return _padded_logits(model.module, batch, keep_K)

        return head.picked(model, logits, row_T, targets.target_T)

    def choices(
        self,
        model: LoadedModel,
        contexts: Sequence[Example],
        answers: Sequence[Sequence[str]],
        terminator: bool,
        settings: EncodeSettings | None = None,
    ) -> Iterator[NDArray[np.float64]]:
        """Exact closed-set scores; see `tunewright.models.scoring`."""
        encoder = self.encoder(model, settings or EncodeSettings(max_length=_limit(model)))
        tokenised: dict[tuple[str, ...], list[list[int]]] = {}
        choices = []
        for options in answers:
            if tuple(options) not in tokenised:
                tokenised[tuple(options)] = [encoder.answer_ids(text, terminator) for text in options]
            choices.append(tokenised[tuple(options)])
        room = [max(len(ids) for ids in option) for option in choices]
        ids = [encoder.context_ids(example, longest) for example, longest in zip(contexts, room, strict=True)]
        return score_ids(model, ids, choices)

    def generate(
        self,
        model: LoadedModel,
        contexts: Sequence[Example],
        max_new_tokens: int,
        settings: EncodeSettings | None = None,
    ) -> Iterator[Generation]:
        """Greedy continuation until the end of the turn."""
        encoder = self.encoder(model, settings or EncodeSettings(max_length=_limit(model)))
        ids = [encoder.context_ids(example) for example in contexts]
        stops = [encoder.stop_ids()]
        if not encoder.chat.around:  # the model's own too: a base may end otherwise than the template does
            stops += [[token] for token in _ends(model.module)]
        answers, chat = greedy(model, ids, stops, max_new_tokens), encoder.chat
        return (
            replace(answer, text=chat.said(answer.text, example), within=chat.thinks_on(answer.text))
            for answer, example in zip(answers, contexts, strict=True)
        )

    def next_log_probs(
        self, model: LoadedModel, contexts: Sequence[Example], after: str = "", positions: int = 1
    ) -> Iterator[NDArray[np.float32]]:
        """[vocabulary] log-probabilities of the first token of each answer; or of each of its first `positions` tokens,
        where the answer is `after`."""
        encoder = self.encoder(model, EncodeSettings(max_length=_limit(model)))
        given = encoder.answer_ids(after, terminator=False)[: positions - 1]
        if len(given) < positions - 1:
            raise ValueError(f"{positions} positions are asked for, the answer has {len(given)} tokens")
        ids = [[*encoder.context_ids(example, positions), *given] for example in contexts]
        for rows in batches(ids, len, scoring.TOKENS_A_BATCH, max(1, _POSITIONS // positions)):
            if not model.packs:
                for row in rows:
                    yield from _plain_logits(model.module, row)[-positions:].float().log_softmax(-1).numpy()
                continue
            laid = scoring.Laid()
            keep = torch.cat([laid.tokens(end)[-positions:] for end in laid.contexts(rows)])
            with torch.inference_mode():
                logits = _packed_logits(model.module, torch.tensor([laid.ids]), laid.segments, keep)
            yield from logits.float().log_softmax(-1).numpy()

    @property
    def raw_texts(self) -> type[RawTexts]:
        """What follows texts that are taken as they stand."""
        return RawTexts

    def _ready(self, module: Any, tokenizer: Any, origin: Origin) -> LoadedModel:
        module.eval()
        module.requires_grad_(False)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
        _end_as_template(module, tokenizer)
        by_head = head.answers_by_head(module)
        model = LoadedModel(module, tokenizer, self, origin, packs=_packs(module), answers_by_head=by_head)
        if model.packs:
            _use_packed(module)
        fuse(module)
        return model


@dataclass(frozen=True, slots=True)
class RawTexts:
    """Texts as they stand: no template, no terminator."""

    model: LoadedModel

    def end_log_probs(self, contexts: Sequence[str]) -> Tensor:
        """[contexts, vocabulary] float32 log-probabilities of what follows each text as it stands; differentiable."""
        ids = [plain_ids(self.model.tokenizer, context) for context in contexts]
        if not self.model.packs:
            with attention(self.model.module, plain_attention(self.model.module)):
                rows = [self.model.module(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1] for row in ids]
            logits_CV = torch.stack(rows)
        else:
            laid = scoring.Laid()
            ends = torch.tensor([laid.segments[end].stop - 1 for end in laid.contexts(ids)])  # prompts begin alike
            keep_K, row_C = torch.unique(ends, return_inverse=True)
            logits_CV = _packed_logits(self.model.module, torch.tensor([laid.ids]), laid.segments, keep_K)[row_C]
        return (logits_CV if logits_CV.dtype == torch.float64 else logits_CV.float()).log_softmax(-1)

    def choices(self, contexts: Sequence[str], answers: Sequence[Sequence[str]]) -> Iterator[NDArray[np.float64]]:
        """For each context, in order, the summed log-probability of each of its answers right behind it.

        Both are taken as they stand: no template, no terminator. Holds all contexts, and shares what they begin with.
        """
        every = [tuple(options) for options in answers]
        kinds = {options: self.continuation_ids(options) for options in dict.fromkeys(every)}
        ids = [plain_ids(self.model.tokenizer, context) for context in contexts]
        most = positions_of(self.model)
        for context, before, options in zip(contexts, ids, every, strict=True):
            taken = len(before) + max(map(len, kinds[options])) - 1  # nothing is predicted from an answer's last token
            if most is not None and taken > most:
                raise UserError(
                    f"A text takes {taken} tokens with what is asked behind it, and the model has {most} positions: "
                    f"'{context[:60]}...'. Give a shorter one."
                )
        order = sorted(range(len(ids)), key=lambda index: ids[index])
        scores = score_ids(self.model, [ids[index] for index in order], [kinds[every[index]] for index in order])
        found = dict(zip(order, scores, strict=True))
        yield from (found[index] for index in range(len(ids)))

    def continuation_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text as it goes on after a word."""
        return [continued_ids(self.model.tokenizer, text) for text in texts]


def score_ids(
    model: LoadedModel, contexts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]]
) -> Iterator[NDArray[np.float64]]:
    """As `choices`, on token ids."""

    def picked(ids_N: Tensor, segments: tuple[Segment, ...], keep_K: Tensor, row_T: Tensor, target_T: Tensor) -> Tensor:
        with torch.inference_mode():
            return head.picked(
                model, lambda: _packed_logits(model.module, ids_N[None], segments, keep_K), row_T, target_T
            )

    if model.packs:
        yield from scoring.score(contexts, answers, picked)
        return
    for context, options in zip(contexts, answers, strict=True):
        yield _alone(model, context, options)


def positions_of(model: LoadedModel) -> int | None:
    """How many positions the model has learnt one by one (GPT-2); None where it computes them, for any length."""
    module: Any = model.module
    stated: int | None = getattr(module.config, "max_position_embeddings", None)
    words = getattr(module, "get_input_embeddings", lambda: None)()  # what counts work in a model's place has none
    tables = [part for part in module.modules() if isinstance(part, nn.Embedding) and part is not words]
    # OPT's table has two rows more than it has positions.
    return stated if stated and any(0 <= table.num_embeddings - stated <= 2 for table in tables) else None


def _ends(module: Any) -> list[int]:
    """Tokens that end what the model writes, by its own settings."""
    found = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
    return [] if found is None else [found] if isinstance(found, int) else list(found)


def _end_as_template(module: Any, tokenizer: Any) -> None:
    """Whoever opens the saved model must stop where answers were trained to end, which may be another token."""
    stop, ends = TextEncoder(Chat(tokenizer), EncodeSettings()).stop_ids(), _ends(module)
    config = getattr(module, "generation_config", None)
    if config is None or len(stop) != 1 or stop[0] in ends:
        return
    as_opened = getattr(config, "_original_object_hash", None) == hash(config)
    config.eos_token_id = [*ends, *stop] if ends else stop[0]
    if as_opened:  # the library refuses to save settings that it finds faulty, once somebody changed any of them
        config._original_object_hash = hash(config)


def _limit(model: LoadedModel) -> int:
    return int(getattr(model.module.config, "max_position_embeddings", None) or _PROMPT_TOKENS)


def _use_packed(module: nn.Module) -> None:
    for part in module.modules():
        config = getattr(part, "config", None)
        if config is not None and hasattr(config, "_attn_implementation"):
            config._attn_implementation = NAME


def _packed_logits(module: nn.Module, ids: Tensor, segments: Sequence[Segment], keep_K: Tensor) -> Tensor:
    layout = Layout.of(segments)
    return packed_logits(module, ids[0], layout.position_N, layout, keep_K)


def _padded_logits(module: nn.Module, batch: Batch, keep_K: Tensor) -> Tensor:
    with attention(module, plain_attention(module)):
        out = module(
            input_ids=batch.inputs["input_ids"], attention_mask=batch.inputs["attention_mask"], use_cache=False
        )
    logits: Tensor = out.logits.flatten(0, 1)[keep_K]
    return logits


def _plain_logits(module: nn.Module, ids: Sequence[int]) -> Tensor:
    with torch.inference_mode(), attention(module, plain_attention(module)):
        logits: Tensor = module(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return logits


def _alone(model: LoadedModel, context: Sequence[int], options: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """One plain forward for all options of one token, one for each longer: the slow path of what cannot pack."""
    scores = np.empty(len(options))
    single = [number for number, option in enumerate(options) if len(option) == 1]
    if single:
        log_prob_V = _plain_logits(model.module, context)[-1].float().log_softmax(-1).double().numpy()
        scores[single] = log_prob_V[[options[number][0] for number in single]]
    for number in set(range(len(options))) - set(single):
        option = options[number]
        logits = _plain_logits(model.module, [*context, *option])[len(context) - 1 : -1].float()
        scores[number] = logits.log_softmax(-1)[torch.arange(len(option)), torch.tensor(option)].double().sum()
    return scores


def _packs(module: Any) -> bool:
    """Whether rows packed end to end, two with a shared beginning, get the same logits as rows alone."""
    vocabulary = int(module.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(0)
    alone, root, left, right = (torch.randint(vocabulary, (n,), generator=generator).tolist() for n in (7, 11, 5, 6))
    segments = (
        Segment(0, None, 0, 0, 7),
        Segment(1, None, 1, 7, 18),
        Segment(2, None, 2, 18, 23, parent=1),
        Segment(3, None, 3, 23, 29, parent=1),
    )
    flat = torch.tensor([[*alone, *root, *left, *right]])
    try:
        with torch.inference_mode(), attention(module, NAME), chunked.everywhere():
            together = _packed_logits(module, flat, segments, torch.arange(29)).float().log_softmax(-1)
    except (NotImplementedError, TypeError, ValueError, RuntimeError, IndexError):
        return False
    rows = [_plain_logits(module, row) for row in (alone, [*root, *left], [*root, *right])]
    apart = torch.cat([*rows[:2], rows[2][len(root) :]]).float().log_softmax(-1)
    if module.dtype in PACKED_TOLERANCE:
        return bool((together - apart).abs().max() < PACKED_TOLERANCE[module.dtype])
    leaking = _plain_logits(module, flat[0].tolist()).float().log_softmax(-1)
    return _most_apart(apart, together) < PACKED_SHARE * _most_apart(apart, leaking)


def _most_apart(wanted_NV: Tensor, found_NV: Tensor) -> float:
    """Largest divergence of a position (Kullback-Leibler), which unlikely words hardly move."""
    return float((wanted_NV.exp() * (wanted_NV - found_NV)).sum(-1).max())
