"""The sections of a plan: what may be set, with which default, checked strictly."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

LOGITS = ("frozen_logit", "tuned_logit")
"""Words of `evaluate.baselines`: a logit on the base model's features, and on the tuned model's."""
TRAINED_BASELINES = {
    "scratch": "The same architecture from random weights, with the same rows and steps: what pre-training bought.",
    "frozen_logit": "A multinomial logit on what the base model holds of a row.",
    "tuned_logit": "The same on what the tuned model holds of it.",
}
"""Words of `evaluate.baselines` that are no plugin but made with the run's model, and what each is."""
FORMS = ("quick", "full")
"""Words of `evaluate.probes` that stand for every probe that has such a form."""


class Section(BaseModel):
    """Strict and frozen: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DataSettings(Section):
    """Where the rows are and how they are read."""

    path: str = ""
    """File, or folder with train/valid/test files."""
    format: str = "auto"
    """A format plugin's name; auto = detected from the rows."""
    map: dict[str, str] = Field(default_factory=dict)
    """Our field = your column: text=review,label=score."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the format, as its page names them: {history: 3}."""
    pool: str | None = None
    """Another table of the same format (other people) whose rows are added to the training rows alone."""
    instruction: str = ""
    """Put before the text of label rows; empty = the recipe's own."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """Rows that cannot be read: stop and list them, or leave them out and count them."""
    on_overlong: Literal["error", "drop", "truncate-context", "split"] = "error"
    """Rows over train.max_length; an answer is never cut."""
    on_overlap: Literal["error", "drop"] = "error"
    """Rows of train that also stand in validation or test, where the user gave the splits; drop leaves them out."""
    splits: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Shares of train, validation, test by unit, when the user gives no splits."""
    max_test_units: int = Field(1000, gt=0)
    """Most units in a test that is made of the rows; more would buy little."""
    max_train_rows: int | None = Field(None, gt=0)
    """Take at most so many training rows (by content hash; where rows have units, unit by unit)."""
    unit: str | None = None
    """Column that says whom a row belongs to; `unit` is found by itself."""
    slices: tuple[str, ...] = ()
    """Columns kept for tables by subgroup."""
    survey_weight: str | None = None
    """Column of weights that say how much a row counts in figures and intervals; training weights are `weight`."""
    split_seed: int | None = Field(None, ge=0)
    """Moves which units are held out; None = the seed of the plan."""
    source: str | None = None
    """Where the rows are from; this and the next three are carried into the report."""
    licence: str | None = None
    """Of the rows."""
    consent: str | None = None
    """Of the people they are about."""
    use: str | None = None
    """A limit of use to print in the report, as 'not for clinical use'."""


class TrainSettings(Section):
    """The loop, under Hugging Face's names. None = chosen by the recipe from the number of rows."""

    learning_rate: float | None = Field(None, gt=0)
    """Peak rate; None = by recipe and method."""
    num_train_epochs: float | None = Field(None, gt=0)
    """Passes over the training rows."""
    max_steps: int | None = Field(None, gt=0)
    """Ends training early or late, whatever the passes say."""
    per_device_train_batch_size: int = Field(8, gt=0)
    """Rows of a micro-batch."""
    gradient_accumulation_steps: int = Field(1, gt=0)
    """Micro-batches of a step; 8 x 1 gives the step of 1 x 8."""
    max_length: int = Field(1024, gt=1)
    """Most tokens of a row."""
    save_steps: int | None = Field(None, gt=0)
    """None = about ten checkpoints a run."""
    save_total_limit: int = Field(2, ge=1)
    """Checkpoints that are kept."""
    eval_steps: int | None = Field(None, gt=0)
    """None = about eight validations a run."""
    warmup_ratio: float = Field(0.05, ge=0, le=1)
    """Share of the steps in which the rate rises from 0."""
    warmup_steps: int | None = Field(None, ge=0)
    """The same in steps; stands before the share."""
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after that."""
    weight_decay: float = Field(0.0, ge=0)
    """Of matrices; norms and biases have none."""
    max_grad_norm: float = Field(1.0, gt=0)
    """A step's gradient is cut to this norm; without effect under privacy, which clips each unit."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Share of the mean gradient that stays from step to step."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """The same of the mean squared gradient."""
    adam_epsilon: float = Field(1e-8, gt=0)
    """Added below the fraction of the two."""
    early_stopping_patience: int = Field(3, ge=0)
    """Validations without a better loss before stopping; 0 = never. On when there is a validation split."""
    packing: bool = True
    """Rows lie end to end without seeing one another, where the model can; false = padded rows."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of frozen weights, and, under method full without privacy, of products with packed rows; trained weights are
    float32. auto = bfloat16 where measured to be faster."""
    threads: int | None = Field(None, gt=0, le=1024)
    """None = one a core, of a container as many as its share of time pays for. Far more than the machine can start end
    the process without a word."""
    processes: int = Field(1, gt=0, le=256)
    """That compute the micro-batches of a step side by side, on this machine; a step has the same rows with any
    number. Each holds the model, and they share the threads."""
    stored_gb: float = Field(2.0, ge=0)
    """Most disk, while training, for what frozen layers at the bottom make of rows that are read again; 0 = none."""
    mitigations: tuple[str | dict[str, Any], ...] = ()
    """Plugins that keep tuning from undoing a model's safety, by name or with settings."""


class EvaluateSettings(Section):
    """What is asked of base and tuned."""

    metrics: tuple[str, ...] | None = None
    """None = the recipe's."""
    primary: tuple[str, ...] | None = None
    """Metrics that decide the verdict; None = the recipe's."""
    probes: tuple[str | dict[str, Any], ...] = ("quick",)
    """`quick`: every probe that has a quick form, in that form; `full`: likewise in full; or names of probes, each with
    its settings if need be: [quick, {name: dialect, count: 600}]. What stands later counts."""
    baselines: tuple[str, ...] | None = None
    """None = the recipe's; `scratch` adds the same architecture from random weights, same rows and steps;
    `frozen_logit` and `tuned_logit` a multinomial logit on what base and tuned model hold of a context."""
    resamples: int = Field(2000, ge=200)
    """Of the bootstrap."""
    max_new_tokens: int = Field(64, gt=0)
    """Longest free answer."""
    learning_curve: bool = False
    """Train on a quarter and on half of the rows too, and say what twice the data would buy."""
    generated_rows: int = Field(32, ge=0)
    """Test rows (chosen by content) that are answered freely: stop rate, exact match, ROUGE-L."""


class GateSettings(Section):
    """Limits that the result must keep; no gate unless planned. A gate looks at the interval's bound."""

    min_gain: float | None = None
    """Least gain of each primary metric, in its own unit."""
    max_loss_increase: float | None = Field(None, ge=0)
    """On general texts, nats a token (probe `retention`)."""
    max_covert_bias_increase: float | None = Field(None, ge=0)
    """Of the tie between a dialect and unfavourable traits, powers of ten (probe `dialect`)."""
    max_attack_success_increase: float | None = Field(None, ge=0)
    """Share of harmful requests that are answered (probe `safety`)."""
    require: Literal["better", "not_worse"] = "better"
    """What the verdict must be for exit code 0; not_worse also lets "cannot tell" pass."""


class AuditSettings(Section):
    """What is put into training so that leaks can be measured."""

    canaries: int = Field(0, ge=0)
    """Made-up rows, each put in or left out by a coin, so that `tunewright audit` can bound epsilon from below."""
    steps: int = Field(64, gt=0)
    """Steps of a private run with canaries, evenly spread, kept for the audit: weights and what was released."""


class PrivacySettings(Section):
    """Differential privacy: what the trained model can reveal of any one unit of the training rows."""

    target_epsilon: float | None = None
    """The guarantee to keep; lower is stricter, 1 to 8 is usual. None = no privacy."""
    delta: Literal["auto"] | float = "auto"
    """Chance that the guarantee fails; auto = 1/n^1.1 over n training units."""
    clip: Literal["automatic"] | float = "automatic"
    """Most that a unit may add to a step: a norm, or automatic (every unit's gradient is brought to about 1)."""
    unit: str = "row"
    """Whom the guarantee is for: row, or the column that names the person a row belongs to."""
    rows_per_unit: int | None = Field(None, gt=0)
    """Most rows of a unit in one step; None = train.per_device_train_batch_size."""
    sampler: str = "poisson"
    """Each unit comes into each step by its own coin; no other sampler has the epsilon that is computed."""
    mode: Literal["packed", "reference"] = "packed"
    """reference = one backward pass a unit: the definition, many times slower."""
    noise_seed: int | None = None
    """Noise that can be drawn again, for tests: the run is then marked as not private."""

    @property
    def on(self) -> bool:
        """Whether the plan asks for privacy."""
        return self.target_epsilon is not None


class PlanSettings(Section):
    """A whole plan. `method` and `objective` name plugins."""

    model: str = "smollm2"
    """A folder in Hugging Face layout, a name of `tunewright list models`, or a hub id; the last two after `fetch`."""
    data: DataSettings = DataSettings()
    recipe: str | None = None
    """Which settings fit the rows; None = the recipe for rows of their kind."""
    method: dict[str, Any] | str = "lora"
    """What trains: a name of `tunewright list methods`, or with settings: {name: lora, r: 8}."""
    objective: dict[str, Any] | str = "next_token"
    """What is minimised, likewise: {name: next_token, loss_on: all}."""
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gates: GateSettings = GateSettings()
    audit: AuditSettings = AuditSettings()
    privacy: PrivacySettings = PrivacySettings()
    seed: int = Field(0, ge=0)
    """Of first weights, order, dropout, splits and resampling."""
    seeds: int = Field(1, gt=0, le=20)
    """Train under so many seeds on the same splits; all beyond the first are runs below `children/`."""

    @field_validator("privacy", mode="before")
    @classmethod
    def _none_is_off(cls, value: Any) -> Any:
        return PrivacySettings() if value is None else value
