"""Careers on the made-up market and on the real panel: perplexity of the next title, seed by seed, as one table.

`python benchmarks/careers.py [--seeds 0,1,2] [--only baselines,market,pooled,panel,...] [--pool FILE] [--out FOLDER]
[--json]`

`smollm2`, `labour-market` and `wage-panel` must be fetched, for `larger` also `gemma3-270m` (its own licence). Runs
that are there are read, not run again. Beside each baseline stands the 95 % interval, over people, of how far the tuned
model is from it.

market  480 people, 2,080 test transitions: oracle <= tuned < bigram < untuned, and how much of the way from the bigram
        to the oracle the tuned model goes, in nats a transition (`closed`) and in perplexity
whole   the same with all weights trained instead of adapters
pooled  the same with 960 people of another, skewed population in training: by-person interval against target alone
logits  the runs of market again, with multinomial logits on what the untuned and the tuned model hold of a context
codes, plain, history  the market with titles as numbers, without demographics, with one earlier record: by-person
        interval against market
larger  a model of twice the size on the target alone, and the smaller one with the pool against it: by-person interval
baselines  what stands beside the model on either table, without any model: a minute
panel   545 men, 1980 to 1987: tuned against the bigrams and the small network from scratch, with intervals, and against
        the network that first reads other people's careers. None come with the panel, so these are of the made-up
        market under the panel's nine titles, unless --pool names a table of the same columns and titles
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.files import digest, file_digest
from tunewright.core.plugins import build
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import Dataset, open_dataset
from tunewright.evaluate.bootstrap import compare
from tunewright.pipeline.example_data import EXAMPLES
from tunewright.pipeline.prepare import data_path
from tunewright.recipes.careers import Careers

FIGURE = "perplexity_renormalised"
COMMON = ["--recipe", "careers", "--set", "method.r=16", "--set", "method.lora_alpha=32"]
WHOLE = ["--recipe", "careers", "--set", "method=full", "--set", "train.learning_rate=1e-4"]
SMALL, LARGE = ["--model", "smollm2"], ["--model", "gemma3-270m"]
POOLED_ROWS = 960 * 9
PLAN = Path(__file__).parents[1] / "examples" / "careers.yaml"


def tunewright(*words: str) -> None:
    """The command, in a process of its own."""
    start = "import sys; from tunewright.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", start, *words], check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)


def figure(run: Path) -> dict[str, Any]:
    """The metric of the table of a run, with its margins to the baselines."""
    compared = json.loads((run / "evaluations" / "comparison.json").read_text(encoding="utf-8"))
    return next(metric for metric in compared["metrics"] if metric["name"] == FIGURE)


def tune(words: list[str], out: Path) -> dict[str, Any]:
    """As `line`; the run is made unless it is there. One that was made under other words or rows is refused."""
    files = [Path(word.partition("=")[2] or word) for word in words]
    asked = digest(words, file_digest(path for path in files if path.is_file()))
    note = out.with_name(f"{out.name}.asked")
    if out.is_dir() and (not note.is_file() or note.read_text(encoding="utf-8") != asked):
        raise SystemExit(f"{out} was made under other settings or rows. Remove it, or give another --out.")
    note.write_text(asked, encoding="utf-8")
    if not (out / "verdict.json").is_file():
        tunewright(*(["resume", str(out)] if (out / "plan.yaml").is_file() else ["tune", *words, "--out", str(out)]))
    return line(out)


def line(run: Path) -> dict[str, Any]:
    """One run as figures: base, tuned and every baseline, the margins to them, and the share of the gap closed."""
    found = figure(run)
    row = {"run": run.name, "untuned": found["base"], "tuned": found["tuned"], **found["baselines"]}
    row["margins"] = found["margins"]
    verdict = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    row["others"] = {one["name"]: one for one in verdict["metrics"] if one["name"] != FIGURE}
    if "oracle" in row:
        gap = math.log(row["bigram"] / row["oracle"])
        row["closed"] = math.log(row["bigram"] / row["tuned"]) / gap
        row["closed in perplexity"] = (row["bigram"] - row["tuned"]) / (row["bigram"] - row["oracle"])
        row["in order"] = row["oracle"] <= row["tuned"] < row["bigram"] < row["untuned"]
    return row


def records(run: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Ids, nats and persons of the tuned model's test rows."""
    lines = [json.loads(text) for text in (run / "evaluations" / "tuned.jsonl").read_text().splitlines()]
    found = sorted((line for line in lines if line["metric"] == FIGURE), key=lambda line: line["id"])
    nats = np.array([line["record"] for line in found], dtype=float)
    return [line["id"] for line in found], nats, [line["unit"] for line in found]


def between(one: Path, other: Path, names: tuple[str, str] = ("target alone", "pooled")) -> dict[str, float]:
    """The second run's tuned model against the first's, resampled by person."""
    ids, left, persons = records(one)
    again, right, _ = records(other)
    if ids != again:
        raise SystemExit(f"{other} answered other test rows than {one}")
    found = compare(build("metrics", FIGURE), left, right, [f"unit {person}" for person in persons], 0, 2000)
    return {names[0]: found.base, names[1]: found.tuned, "low": found.low, "high": found.high}


def table(name: str, pool: str | Path | None = None, **options: Any) -> Dataset:
    """An example table, with other people's careers in training if there are some."""
    path = None if pool is None else str(data_path(str(pool)))
    return open_dataset(DataSettings(path=str(data_path(name)), format="careers", options=options, pool=path))


def foreseen(baseline: Any, rows: Dataset) -> np.ndarray | None:
    """[test rows, numbers] of the metric, as a baseline foresees them; None where it does not apply."""
    train, test, labels = list(rows.train), list(rows.test), rows.labels or ()
    if not baseline.applies(train, test):
        return None
    beside = {"valid": rows.valid} if baseline.validated else {}
    metric = build("metrics", FIGURE)
    return np.array([metric.record(answer, labels) for answer in baseline.outcomes(train, test, labels, **beside)])


def baselines(name: str, pool: str | Path | None = None, **options: Any) -> dict[str, Any]:
    """Every baseline that applies to an example table, no model asked."""
    rows, metric, found = table(name, pool, **options), build("metrics", FIGURE), {}
    for baseline in (build("baselines", one) for one in Careers().baselines):
        nats = foreseen(baseline, rows)
        if nats is not None:
            found[baseline.plugin_name()] = float(metric.summarise(nats, np.ones((1, len(nats))))[0])
    return {"run": f"{name}{' with a pool' if pool else ''}", **found}


def pool_rows(folder: Path) -> Path:
    """The first people of the skewed population."""
    whole = (EXAMPLES["labour-market"].folder / "pool.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    path = folder / "pool.csv"
    path.write_text("".join(whole[: 1 + POOLED_ROWS]), encoding="utf-8")
    return path


def market(out: Path, seed: str, model: list[str] = SMALL, name: str = "market") -> dict[str, Any]:
    """The target population alone."""
    run = out / f"{name}-{seed}"
    return tune(["labour-market", *model, *COMMON, "--set", f"seed={seed}"], run)


def whole(out: Path, seed: str) -> dict[str, Any]:
    """The target population alone, all weights trained."""
    return tune(["labour-market", *SMALL, *WHOLE, "--set", f"seed={seed}"], out / f"whole-{seed}")


def logits(out: Path, seed: str) -> dict[str, Any]:
    """The second use of a language model beside the first: a copy of the market's run is judged again."""
    market(out, seed)
    run = out / f"logits-{seed}"
    if not run.is_dir():
        shutil.copytree(out / f"market-{seed}", run)
    if "tuned_logit" not in figure(run)["baselines"]:
        tunewright("evaluate", str(run), "--set", "evaluate.baselines=[bigram, oracle, frozen_logit, tuned_logit]")
    return line(run)


def ablation(out: Path, seed: str, name: str) -> dict[str, Any]:
    """The market with less in the text, against the whole text."""
    market(out, seed)
    run = out / f"{name}-{seed}"
    less = [word for one in (*ABLATIONS[name], f"seed={seed}") for word in ("--set", one)]
    row = tune(["labour-market", *SMALL, *COMMON, *less], run)
    return row | between(out / f"market-{seed}", run, ("whole text", name))


def pooled(out: Path, seed: str) -> dict[str, Any]:
    """The target and another population, against the target alone."""
    market(out, seed)
    run = out / f"pooled-{seed}"
    more = ["--set", f"data.pool={pool_rows(out)}", "--set", f"seed={seed}"]
    row = tune(["labour-market", *SMALL, *COMMON, *more], run)
    return row | between(out / f"market-{seed}", run)


def larger(out: Path, seed: str) -> dict[str, Any]:
    """A larger model on the target alone; the smaller with the pool against it."""
    pooled(out, seed)
    row = market(out, seed, LARGE, "larger")
    return row | between(out / row["run"], out / f"pooled-{seed}", ("larger, target alone", "smaller, pooled"))


def panel(out: Path, seed: str, pool: str | None = None) -> dict[str, Any]:
    """The real panel, always split alike; and beside it the network that first reads other people's careers.

    These are real ones if there are some, and then the language model learns from them too; else made-up ones.
    """
    run = out / f"panel-{'pooled-' if pool else ''}{seed}"
    settings = ["--set", "data.split_seed=0", "--set", f"seed={seed}"]
    settings += ["--set", f"data.pool={pool}"] if pool else []
    others = None if pool else made_up_pool(out)
    row = tune(["--plan", str(PLAN), *settings], run)
    if others is None:
        return row
    rows = table("wage-panel", others, yearly=["married"])
    network = build("baselines", {"name": "career_network_pooled", "seed": int(seed)})
    answered = foreseen(network, rows)
    assert answered is not None  # the pool is there
    nats = dict(zip((example.id for example in rows.test), answered, strict=True))
    ids, tuned, persons = records(run)
    theirs = np.array([nats[one] for one in ids])
    found = compare(build("metrics", FIGURE), theirs, tuned, [f"unit {person}" for person in persons], 0, 2000)
    margins = {**row["margins"], "made-up pool": (found.low, found.high)}
    return {**row, "made-up pool": found.base, "margins": margins}


def made_up_pool(folder: Path) -> Path:
    """The men of the made-up market's pool under the panel's titles and bands of schooling; who had no job is left
    out."""
    path = folder / "panel-pool.csv"
    with open(data_path("labour-market/pool.csv"), encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["gender"] == "male" and row["occupation"] in TRADES]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["person", "year", "occupation", "schooling", "married"])
        for row in rows:
            writer.writerow([row["person"], row["year"], TRADES[row["occupation"]], BANDS[row["schooling"]], ""])
    return path


TRADES = {
    title: name
    for name, titles in {
        "Professional": ("Nurse", "Pharmacist", "Doctor", "Teacher", "Lecturer", "Accountant", "Engineer", "Programmer",
                         "Data analyst", "Technician"),
        "Manager": ("Manager", "Buyer"),
        "Sales": ("Cashier", "Shop assistant", "Sales clerk"),
        "Clerical": ("Office clerk", "Secretary", "Dispatcher"),
        "Craftsman": ("Bricklayer", "Carpenter", "Electrician", "Mechanic", "Baker", "Butcher"),
        "Operative": ("Driver",),
        "Labourer": ("Courier",),
        "Service": ("Care worker", "Childminder", "Teaching aide", "Waiter", "Cook"),
    }.items()
    for title in titles
}  # fmt: skip
"""Titles of the made-up market -> the panel's; of its farm workers there are none."""
BANDS = {"school": "12 years", "training": "13 to 15 years", "college": "16 years and more"}


def told(row: dict[str, Any]) -> str:
    """A row of the table as a line."""
    margins = row.get("margins", {})
    between = {name: f" (tuned {low:+.3f} to {high:+.3f})" for name, (low, high) in margins.items()}
    figures = [f"{name} {value:.3f}{between.get(name, '')}" for name, value in row.items() if isinstance(value, float)]
    for name, other in row.get("others", {}).items():
        beside = ", ".join(f"{baseline} {value:.3f}" for baseline, value in other["baselines"].items())
        figures.append(f"{name} {other['tuned']:.3f} (untuned {other['base']:.3f}{', ' * bool(beside)}{beside})")
    return f"{row['run']}: {', '.join(figures)}" + (f", in order: {row['in order']}" if "in order" in row else "")


ABLATIONS = {
    "codes": ["data.options.titles=codes"],
    "plain": ["data.options.demographics=false"],
    # Each year is then a row of its own: 64 of them are the 8 people of a step elsewhere, so that steps are as many.
    "history": ["data.options.history=1", "train.per_device_train_batch_size=64"],
}
STAGES: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "market": market,
    "whole": whole,
    "logits": logits,
    **{name: partial(ablation, name=name) for name in ABLATIONS},
    "pooled": pooled,
    "larger": larger,
    "panel": panel,
}


def main() -> list[dict[str, Any]]:
    """Runs what is asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="baselines,market,pooled,panel")
    parser.add_argument("--pool", help="other people's careers, beside the panel")
    parser.add_argument("--out", type=Path, default=Path("runs/careers"))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    wanted = set(asked.only.split(","))
    if unknown := wanted - {"baselines", *STAGES}:
        parser.error(f"--only knows baselines, {', '.join(STAGES)}, not {', '.join(sorted(unknown))}")
    asked.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if "baselines" in wanted:
        rows.append(baselines("labour-market"))
        rows.append(baselines("labour-market", pool=str(pool_rows(asked.out))))
        rows.append(baselines("wage-panel", asked.pool or made_up_pool(asked.out), yearly=["married"]))
    stages = STAGES | {"panel": partial(panel, pool=asked.pool)}
    for seed in asked.seeds.split(","):
        rows += [stages[stage](asked.out, seed) for stage in stages if stage in wanted]
    for row in rows:
        print(told(row))
    if asked.json:
        print(json.dumps(rows))
    return rows


if __name__ == "__main__":
    main()
