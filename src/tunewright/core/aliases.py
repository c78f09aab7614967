"""What other tools call our settings: their names, and their values where those differ.

Covers Hugging Face, TRL, PEFT, Axolotl, LLaMA-Factory, ms-swift, Unsloth, LitGPT, MLX and OpenAI. Every use is told
in one note; a name without a counterpart is refused with what to do instead, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAME: dict[str, tuple[str, ...]] = {
    "model": (
        "base_model",
        "model_name_or_path",
        "model_name",
        "checkpoint_dir",
        "pretrained_model_name_or_path",
        "model.model_name_or_path",
    ),
    "seed": ("random_seed", "data_seed", "train.seed"),
    "data.path": (
        "data",
        "dataset",
        "dataset_name",
        "train_file",
        "training_file",
        "local_dataset",
        "data_path",
        "data.train",
    ),
    "data.survey_weight": ("data.weight",),
    "data.unit": ("unit",),
    "method.r": ("r", "lora_r", "lora_rank", "rank", "lora_parameters.rank"),
    "method.lora_alpha": ("lora_alpha", "method.alpha"),
    "method.lora_dropout": ("lora_dropout", "lora_parameters.dropout", "method.dropout"),
    "method.use_dora": ("use_dora", "peft_use_dora"),
    "method.use_rslora": ("use_rslora",),
    "objective.loss_on": ("loss_on",),
    "train.num_train_epochs": ("epochs", "num_epochs", "n_epochs", "train.epochs", "train.num_epochs"),
    "train.max_steps": ("steps", "iters", "max_iters", "train.iters"),
    "train.learning_rate": ("lr", "optimizer.lr", "train.lr"),
    "train.per_device_train_batch_size": (
        "batch_size",
        "micro_batch_size",
        "per_device_batch_size",
        "train.micro_batch_size",
        "train.batch_size",
    ),
    "train.gradient_accumulation_steps": (
        "grad_accumulation_steps",
        "gradient_accumulation",
        "grad_accum",
        "accumulation_steps",
    ),
    "train.max_length": (
        "sequence_len",
        "cutoff_len",
        "max_seq_length",
        "max_seq_len",
        "model_max_length",
        "train.max_seq_length",
    ),
    "train.lr_scheduler_type": ("lr_scheduler", "lr_schedule", "scheduler"),
    "train.warmup_steps": ("lr_warmup_steps", "train.lr_warmup_steps", "lr_schedule.warmup"),
    "train.max_grad_norm": ("grad_clip", "gradient_clipping", "clip_grad_norm", "train.max_norm"),
    "train.save_steps": ("save_every", "train.save_interval"),
    "train.eval_steps": ("steps_per_eval", "eval.interval"),
    "train.early_stopping_patience": ("early_stopping_steps", "early_stop_interval"),
    "train.packing": ("sample_packing", "neat_packing", "padding_free"),
    "train.precision": ("precision",),
}
"""Our key -> what others call it, with the same values."""

_METHODS = {"freeze": "last", "sft": "lora", True: "lora", False: "full", "Lora": "lora", "Full": "full"}
_OBJECTIVES = {"sft": "next_token", "supervised": "next_token", "pt": "next_token"}
_DTYPES = {"bf16": "bfloat16", "fp32": "float32", "bf16-true": "bfloat16", "32-true": "float32"}
_CUTS = {
    "truncate": "truncate-context",
    "left": "truncate-context",
    "keep_end": "truncate-context",
    "delete": "drop",
    "raise": "error",
}
_ANSWERS_IF_TRUE = {True: "answers", False: "all"}
_ANSWERS_IF_FALSE = {True: "all", False: "answers"}

VALUES: dict[str, tuple[str, Mapping[Any, Any]]] = {
    "adapter": ("method.name", _METHODS),
    "finetuning_type": ("method.name", _METHODS),
    "tuner_type": ("method.name", _METHODS),
    "train_type": ("method.name", _METHODS),
    "training_type": ("method.name", _METHODS),
    "fine_tune_type": ("method.name", _METHODS),
    "use_peft": ("method.name", _METHODS),
    "rl": ("objective.name", _OBJECTIVES),
    "stage": ("objective.name", _OBJECTIVES),
    "rlhf_type": ("objective.name", _OBJECTIVES),
    "train_on_inputs": ("objective.loss_on", _ANSWERS_IF_FALSE),
    "train_on_prompt": ("objective.loss_on", _ANSWERS_IF_FALSE),
    "completion_only_loss": ("objective.loss_on", _ANSWERS_IF_TRUE),
    "assistant_only_loss": ("objective.loss_on", _ANSWERS_IF_TRUE),
    "train_on_completions": ("objective.loss_on", _ANSWERS_IF_TRUE),
    "mask_prompt": ("objective.loss_on", _ANSWERS_IF_TRUE),
    "mask_history": ("objective.loss_on", {True: "last", False: "answers"}),
    "excess_length_strategy": ("data.on_overlong", _CUTS),
    "truncation_strategy": ("data.on_overlong", _CUTS),
    "truncation_mode": ("data.on_overlong", _CUTS),
    "target_modules": ("method.target_modules", {"all": "all-linear"}),
    "lora_target": ("method.target_modules", {"all": "all-linear"}),
    "lora_target_modules": ("method.target_modules", {"all": "all-linear"}),
    "lora_trainable_modules": ("method.target_modules", {"all": "all-linear"}),
    "lora_parameters.keys": ("method.target_modules", {}),
    "lora_target_linear": ("method.target_modules", {True: "all-linear"}),
    "bf16": ("train.precision", {True: "bfloat16", False: "float32"}),
    "dtype": ("train.precision", _DTYPES),
    "torch_dtype": ("train.precision", _DTYPES),
}
"""Other name -> our key, and their values in our words; a value not named here is passed on and checked."""

_SPLITS = "Give data.splits as shares of train, validation and test, for example [0.7, 0.1, 0.2]."
_FOLDER = "Put train, valid and test files in one folder and give the folder as DATA."
_QUANTISED = "Frozen weights are float32 or bfloat16 (train.precision); quantised training is not supported."
_ONE_PROCESS = "Processes of one machine are train.processes. Leave the key out."
_ADAMW = "The optimiser is AdamW. Leave the key out."
_LOCAL = "Everything stays in the run folder, and nothing is sent anywhere. Leave the key out."
_OUT = "Give the folder as --out."
_LOGGED = "Every step is logged in events.jsonl. Leave the key out."

REFUSED: dict[str, str] = {
    "output_dir": _OUT,
    "out_dir": _OUT,
    "adapter_path": _OUT,
    "run_name": _OUT,
    "overwrite_output_dir": _OUT,
    "resume_from_checkpoint": "Go on with a run by `tunewright resume RUN`.",
    "val_set_size": _SPLITS,
    "val_size": _SPLITS,
    "split_dataset_ratio": _SPLITS,
    "data.val_split_fraction": _SPLITS,
    "dataset_test_split": _SPLITS,
    "eval_split": _SPLITS,
    "validation_file": _FOLDER,
    "eval_dataset": _FOLDER,
    "test_datasets": _FOLDER,
    "datasets": "Give DATA, one path.",
    "load_in_4bit": _QUANTISED,
    "load_in_8bit": _QUANTISED,
    "quantization_bit": _QUANTISED,
    "quant_bits": _QUANTISED,
    "quantize": _QUANTISED,
    "fp16": "float16 loses small gradients without loss scaling; set train.precision to bfloat16 or float32.",
    "optim": _ADAMW,
    "optimizer": _ADAMW,
    "deepspeed": _ONE_PROCESS,
    "fsdp": _ONE_PROCESS,
    "fsdp_config": _ONE_PROCESS,
    "report_to": _LOCAL,
    "push_to_hub": _LOCAL,
    "hub_model_id": _LOCAL,
    "project_name": _LOCAL,
    "logging_steps": _LOGGED,
    "steps_per_report": _LOGGED,
    "logging_dir": _LOGGED,
    "learning_rate_multiplier": "Set train.learning_rate itself.",
    "lora_parameters.scale": "Set method.lora_alpha; the scale is lora_alpha / r.",
    "train.global_batch_size": "Set train.per_device_train_batch_size and train.gradient_accumulation_steps.",
    "global_batch_size": "Set train.per_device_train_batch_size and train.gradient_accumulation_steps.",
    "load_best_model_at_end": "The checkpoint of lowest validation loss is kept by itself. Leave the key out.",
    "metric_for_best_model": "The checkpoint of lowest validation loss is kept by itself. Leave the key out.",
    "eval_strategy": "Set train.eval_steps.",
    "save_strategy": "Set train.save_steps.",
    "n_checkpoints": "Set train.save_steps.",
    "n_evals": "Set train.eval_steps.",
    "evals_per_epoch": "Set train.eval_steps.",
    "saves_per_epoch": "Set train.save_steps.",
    "template": "The model's own chat template is used. Leave the key out.",
    "chat_template": "The model's own chat template is used. Leave the key out.",
    "trust_remote_code": "Code that comes with a model is never run. Leave the key out.",
}
"""Other name -> what to do instead."""

_BY_NAME = {alias: ours for ours, others in SAME.items() for alias in others}


def translate(name: str, value: Any) -> tuple[str, Any] | None:
    """Our key and value for another tool's name; None when the name is not one.

    A Hugging Face `warmup_steps` below 1 is a ratio (transformers 5).
    """
    if name == "warmup_steps" and isinstance(value, float) and 0 < value < 1:
        return "train.warmup_ratio", value
    if name in _BY_NAME:
        return _BY_NAME[name], value
    if name in VALUES:
        key, words = VALUES[name]
        return key, words.get(value, value) if isinstance(value, str | bool) else value
    return None


def names() -> list[str]:
    """All names of other tools that are taken."""
    return [*_BY_NAME, *VALUES]
