"""The verbs. Each imports what it needs when it runs, so that help is instant and needs no torch."""

from __future__ import annotations

import json
import shutil
import sys
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewright import __version__
from tunewright.cli.lines import folded
from tunewright.cli.listing import describe_kind, kinds
from tunewright.cli.options import Sets, about_data, typed_fields
from tunewright.cli.pipes import unread
from tunewright.core.errors import UserError
from tunewright.core.words import command

if TYPE_CHECKING:
    from tunewright.core.config import Request
    from tunewright.pipeline.result import Result

app = typer.Typer(
    help="Fine-tune a model on your rows, and prove what that did: what got better, what broke, what leaked.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


class Precision(StrEnum):
    """Number types that scores can be computed in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float64 = "float64"


def _call(module: str, verb: str, *arguments: Any) -> int:
    """Calls a verb of the pipeline, shows how far it is, prints its lines and gives its exit code."""
    from tunewright.cli.progress import Progress

    with Progress.on_stderr() as progress:
        result = getattr(import_module(f"tunewright.pipeline.{module}"), verb)(*arguments, progress=progress)
    return _shown(result)


def _shown(result: Result) -> int:
    """Prints a result's lines and gives its exit code; a reader that has gone away changes nothing."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    with unread(sys.stdout):
        for line in result.lines:
            typer.echo(folded(line, width) if width else line)
        sys.stdout.flush()
    return int(result.exit_code)


@app.callback(invoke_without_command=True)
def _whole(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"tunewright {__version__}")
        raise typer.Exit


@app.command()
@about_data
def check(
    request: Request,
    show_mask: Annotated[int, typer.Option(metavar="N", min=0, help="Print N rows with what is trained marked.")] = 0,
) -> int:
    """Find what would spoil a run before it starts."""
    return _call("check", "check", request, show_mask)


@app.command()
@about_data
def plan(
    request: Request,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of plan files instead.")] = False,
) -> int:
    """Print every setting, its origin, and the cost."""
    if schema:
        from tunewright.core.config import schema as plan_schema

        typer.echo(json.dumps(plan_schema(), indent=1, ensure_ascii=False))
        return 0
    return _call("check", "plan", request)


@app.command()
@about_data
def train(request: Request) -> int:
    """Train, and no more."""
    return _call("train", "train", request)


@app.command()
@about_data
def tune(request: Request) -> int:
    """Check, train, evaluate and report, in a row."""
    return _call("tune", "tune", request)


@app.command()
def evaluate(run: RunFolder, sets: Sets = []) -> int:  # noqa: B006
    """Judge a run's tuned model against its base again."""
    return _call("evaluate", "evaluate", run, list(sets))


@app.command()
def audit(
    run: RunFolder,
    json_out: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Also write the figures here.")] = None,
    twin: Annotated[
        int, typer.Option(metavar="N", min=0, help="For a run without canaries: train it again with N, and audit that.")
    ] = 0,
    control: Annotated[
        bool, typer.Option("--control", help="For a private run: train it without privacy, to see that leaks are seen.")
    ] = False,
) -> int:
    """Measure what a run's model gives away of its rows."""
    return _call("audit", "audit", run, json_out, twin, control)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Two runs or more.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table and a chart: .html or .md.")] = None,
) -> int:
    """Set runs on the same rows side by side."""
    if len(runs) < 2:
        raise UserError(f"compare: found {len(runs)} run; needs two or more, as `tunewright compare RUN RUN`.")
    return _call("compare", "compare", list(runs), out)


@app.command()
def report(run: RunFolder) -> int:
    """Write a run's report again from its folder."""
    from tunewright.core.store import Run

    for path in import_module("tunewright.report").write(Run.open(run)):
        typer.echo(str(path))
    return 0


@app.command()
def resume(run: RunFolder) -> int:
    """Go on with an interrupted run to its end."""
    return _call("resume", "resume", run)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="What to list; without it, the kinds there are.")] = None,
) -> int:
    """List plugins of a kind with their settings."""
    for line in kinds() if kind is None else describe_kind(kind):
        typer.echo(line)
    return 0


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A known name, or an id of the Hugging Face hub.")],
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="You have read it and agree.")] = False,
) -> int:
    """Download a model or data set into the cache."""

    def say(sentence: str) -> None:
        typer.echo(sentence, err=True)

    typer.echo(str(import_module("tunewright.pipeline.fetch").fetch(name, say, accept_licence=accept_licence)))
    return 0


@app.command()
def doctor() -> int:
    """Say what works here, and how to get the rest."""
    rows = import_module("tunewright.pipeline.doctor").doctor()
    width = max((len(what) for what, _, _ in rows), default=0)
    for what, state, sentence in rows:
        typer.echo(f"{what:<{width}}  {state:<8}  {sentence}")
    return 2 if any(state == "fault" for _, state, _ in rows) else 0


@app.command()
def delete(run: RunFolder, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> int:
    """Delete a run folder with everything in it."""
    from tunewright.core.store import Run

    folder = Run.open(run).folder
    if not yes and not _agreed(f"Delete {folder} and everything in it?", folder):
        typer.echo("Nothing was deleted.")
        return 0
    return _shown(import_module("tunewright.pipeline.delete").delete(folder))


def _agreed(question: str, folder: Path) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        raise UserError(
            f"Nobody is there to answer, so nothing was deleted. To delete it unasked: "
            f"{command('delete', folder, '--yes')}"
        ) from None


@app.command()
def predict(
    run: RunFolder,
    rows: Annotated[Path, typer.Argument(metavar="ROWS", help="CSV or jsonl.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The same rows with prediction, probability, abstain, a note.")
    ],
    min_accuracy: Annotated[
        float | None,
        typer.Option(metavar="SHARE", min=0, max=1, help="Abstain where so many right answers cannot be expected."),
    ] = None,
    maps: Annotated[
        list[str], typer.Option("--map", metavar="OURS=COLUMN", help="Which column is what, where it is not the run's.")
    ] = [],  # noqa: B006  (typer copies it)
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add a column with the probability of every label, as JSON.")
    ] = False,
) -> int:
    """Answer new rows with a run's model."""
    return _call("predict", "predict", run, rows, out, min_accuracy, tuple(maps), probabilities)


@app.command()
def score(
    rows: Annotated[Path, typer.Option(metavar="FILE", help='jsonl: {"context": ..., "answers": [...]} a line.')],
    json_out: Annotated[Path, typer.Option("--json", metavar="OUT", help="Where to write the log-probabilities.")],
    model: Annotated[str | None, typer.Option(help="Model folder or name.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of a run, in place of --model.")] = None,
    terminator: Annotated[bool, typer.Option("--terminator", help="Count the stop token after each answer.")] = False,
    precision: Annotated[Precision, typer.Option(help="Of weights and cache.")] = Precision.float32,
) -> int:
    """Write the log-probability of given answers."""
    if (model is None) == (run is None):
        raise UserError("score: give either --model M or --run RUN.")
    return _call("score", "score", model, run, rows, json_out, terminator, precision.value)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def probe(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which probe; `tunewright list probes` names them.")],
    json_out: Annotated[Path, typer.Option("--json", metavar="OUT", help="Where to write what was found.")],
    model: Annotated[str | None, typer.Option(help="Model folder or name.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of a run, in place of --model: base and tuned.")] = None,
    form: Annotated[str, typer.Option(metavar="quick|full", help="The probe's quick or its full form.")] = "full",
    precision: Annotated[Precision, typer.Option(help="Of weights.")] = Precision.float32,
) -> int:
    """Ask a model what a probe asks.

    Every setting of the probe is an option too (`tunewright list probes` names them): --count 600, --pairs FILE.
    """
    if (model is None) == (run is None):
        raise UserError("probe: give either --model M or --run RUN.")
    from tunewright.core.config import ProbeRequest

    fields = typed_fields(context.args)
    return _call("probe", "probe", ProbeRequest(name, model, run, json_out, form, precision.value, fields))


@app.command()
def epsilon(
    q: Annotated[float, typer.Option("--q", metavar="Q", help="Chance of a unit to come into a step.")],
    steps: Annotated[int, typer.Option(metavar="T", help="Steps in all.")],
    delta: Annotated[float, typer.Option(metavar="D", help="Chance that the guarantee fails.")],
    sigma: Annotated[float | None, typer.Option(metavar="S", help="Noise over clipping norm; prints epsilon.")] = None,
    target_epsilon: Annotated[float | None, typer.Option(metavar="E", help="Prints the sigma it needs.")] = None,
) -> int:
    """Say what noise is worth in private training."""
    return _shown(import_module("tunewright.pipeline.epsilon").epsilon(q, sigma, steps, delta, target_epsilon))
