"""Rows that are one script each, `benchmarks/NAME.py`: it compares by itself and prints its figures as JSON.

`python -m benchmarks.NAME --json` ends with a line `{"KEY": value, ...}`; the keys and their reaches stand here. The
peers' interpreter is in BENCH_PEER. A script that is not there yet, or has no `--json`, is a row not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.table.child import ROOT
from benchmarks.table.row import Figure, Round, Row, Side

SCRIPTS: dict[str, tuple[str, tuple[tuple[str, str, float | None, bool], ...]]] = {
    "shared_prefix": (
        "Rows that share a 512-token prompt, two answers of 64 tokens each: against our own speed without sharing.",
        (
            ("ratio", "speed over no sharing (ideal 1.8)", 1.5, False),
            ("system_ratio", "8 rows of 50 to 150 tokens under one system prompt of 600", None, False),
            ("medical_ratio", "the same, the medical example's instruction", None, False),
        ),
    ),
    "stored_layers": (
        "The top 3 of 30 layers trained for 5 epochs with the activations under them stored, filling included, over "
        "the same without the store.",
        (
            ("share", "share of the ratio computed from layer costs", 0.85, False),
            ("ratio", "speed, all epochs", 2, False),
            ("loss_difference", "largest difference of a loss", 1e-5, True),
        ),
    ),
    "preparation": (
        "Conversations in memory to encoded rows on disk, rows a second: against TRL's datasets.map, which renders row "
        "by row and writes Arrow. No side reads a file. Tokenizers may use all cores on both sides, which they do only "
        "for many texts at a time; then one thread each.",
        (
            ("ratio", "speed over datasets.map, all cores", 3, False),
            ("one_thread_ratio", "speed over datasets.map, one thread", None, False),
            ("processes_ratio", "speed over datasets.map in as many processes as cores", None, False),
        ),
    ),
    "rows_memory": (
        "A tiny random model, each command in a process of its own, the libraries included: `check` on 10,000 and "
        "1,000,000 rows with a label, hardly two alike; `train` on chats, every tenth of which asks what another did, "
        "for 20 steps of 10,000 and 1,000,000 and for one epoch of 2,000 and 50,000. An epoch of a million would take "
        "hours.",
        (
            ("check_ratio", "check: peak memory, 1,000,000 rows over 10,000", 1.1, True),
            ("check_bytes", "check: bytes a row between them", None, True),
            ("begin_ratio", "train, 20 steps: peak memory, 1,000,000 rows over 10,000", 1.1, True),
            ("begin_bytes", "train, 20 steps: bytes a row between them", None, True),
            ("train_ratio", "train: peak memory, 50,000 rows over 2,000", None, True),
            ("train_bytes", "train: bytes a row between them", None, True),
        ),
    ),
    "dialect_speed": (
        "12,096 dialect prompts over the traits by the probe, against one plain forward a prompt of the same model, "
        "which is timed on 200 of them.",
        (
            ("times_faster", "speed over row by row", 5, False),
            ("seconds", "seconds of the whole probe's traits", None, True),
            ("peak_memory_bytes", "peak bytes", None, True),
            ("largest_difference_nats", "largest difference of a log-probability", 1e-3, True),
        ),
    ),
    "quick_probes": (
        "The probes that every `tune` of a chat model asks of base and of tuned, in their quick form, SmolLM2.",
        (
            ("together", "seconds a model, all of them", 60, True),
            ("safety", "seconds, safety", None, True),
            ("dialect", "seconds, dialect", None, True),
            ("retention", "seconds, retention", None, True),
        ),
    ),
    "audit": (
        "Audits of handwritten digits, 20 seeds a kind of run: controls without privacy by 1,200 canaries, private "
        "runs by 200; faults are planted where training is blind.",
        (
            ("control", "controls without privacy whose bound is 2 or more", 20, False),
            ("above", "private runs bounded above their epsilon of 1", 0, True),
            ("layer", "caught: one layer left unclipped", 18, False),
            ("sigma", "caught: a tenth of the noise", 18, False),
        ),
    ),
    "private_step": (
        "A private step over its non-private twin, 8 rows of 128 tokens that begin differently, pair by pair; Opacus "
        "over its own twin beside it. What rows begin with alike the twin computes once, and a private step once for "
        "each person: so the last figure, with the 24 tokens that conversations begin with under SmolLM2's template.",
        (
            ("lora_wall_ratio", "LoRA, time", 1.1, True),
            ("norm_wall_ratio", "norms and biases, time", 1.1, True),
            ("full_wall_ratio", "all weights but the tied table, time", 1.5, True),
            ("lora_memory_ratio", "LoRA, peak memory", 1.1, True),
            ("norm_memory_ratio", "norms and biases, peak memory", 1.1, True),
            ("opacus_lora_wall_ratio", "Opacus, LoRA, time", None, True),
            ("opacus_lora_memory_ratio", "Opacus, LoRA, peak memory", None, True),
            ("template_lora_wall_ratio", "LoRA, time, conversations under a template", None, True),
        ),
    ),
    "private_utility": (
        "Digits 5-9 tuned privately on a body that has seen 0-4: which weights train, against all of them; 5 seeds.",
        (("gain", "accuracy at epsilon 3, best sparse or adapter policy minus all weights", 0, False),),
    ),
    "forecast": (
        "The shipped examples, planned and then tuned: the larger of foreseen and found over the smaller, by `plan` "
        "before anything ran and by the dry step.",
        tuple(
            (f"{name}_{which}_{what}", f"{name}: {said}, {what}", 1.25, True)
            for name in ("medical", "legal", "careers")
            for which, said in (("plan", "plan"), ("dry_step", "dry step"))
            for what in ("time", "memory")
        ),
    ),
    "medical": (
        "The tune of `make run`: 1,600 rows, 3 passes, nothing kept from before.",
        (("minutes", "minutes of the whole run", 10, True), ("accuracy", "accuracy on unseen rows", None, False)),
    ),
}
"""Script -> what it compares; and of each figure: key, name, reach, whether that is an upper limit."""


def rows_of_scripts() -> list[Row]:
    """A row for each script of the list, which runs once: it repeats by itself what should be, and can be."""
    return [
        Row(
            name,
            what,
            (Side("script", f"benchmarks.{name}", ("--json",)),),
            tuple(_figure(*one) for one in figures),
            1,
        )
        for name, (what, figures) in SCRIPTS.items()
    ]


def is_there(row: Row) -> bool:
    """Whether a row's script is there yet and speaks JSON; rows that are no scripts always are."""
    path = ROOT / "benchmarks" / f"{row.name}.py"
    return row.name not in SCRIPTS or (path.is_file() and "--json" in path.read_text(encoding="utf-8"))


def _figure(key: str, name: str, reach: float | None, at_most: bool) -> Figure:
    return Figure(name, _values(key), reach, at_most)


def _values(key: str) -> Callable[[Sequence[Round]], list[float]]:
    """A script gives a figure, or one for each of its own rounds."""

    def values(rounds: Sequence[Round]) -> list[float]:
        found = [one["script"][key] for one in rounds if key in one["script"]]
        return [float(value) for one in found for value in (one if isinstance(one, list) else [one])]

    return values


PLAIN = ("broken_tour", "slice_simulation", "verdict_simulation")
"""Scripts beside the table that only print: run, not tabled. They need nothing that was fetched, and end by themselves;
the others of this folder write files, take folders or want more models, and are for whoever asks for them by name."""
