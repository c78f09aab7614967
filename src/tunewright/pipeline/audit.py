"""`audit`: what a run's model gives away of its rows, next to what the run claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.core.errors import Interrupted, UserError
from tunewright.core.files import require_writable, write_json
from tunewright.core.progress import Progress, silent
from tunewright.core.records import Example
from tunewright.core.settings import PrivacySettings
from tunewright.core.store import Run
from tunewright.core.words import command, rounded_up
from tunewright.data.canaries import Canaries
from tunewright.data.encoder import Encoded, Unencodable, encode_all
from tunewright.evaluate import leaks, leaks_told
from tunewright.evaluate.compare import Answered, compare_outcomes
from tunewright.evaluate.contracts import Comparison
from tunewright.evaluate.leaks import Canaried, Claim, Leaks
from tunewright.evaluate.one_run_audit import negligible, provable
from tunewright.pipeline.discretion import rows_hidden
from tunewright.pipeline.evaluate import how_of, suite_of
from tunewright.pipeline.own_rows import OwnRows, fallen
from tunewright.pipeline.prepare import Prepared, mould_of
from tunewright.pipeline.reopen import reopen
from tunewright.pipeline.result import Result
from tunewright.pipeline.traced import look_inside
from tunewright.pipeline.twins import twin_of
from tunewright.pipeline.under_way import under_way
from tunewright.report import write as write_report
from tunewright.runs.opening import delete_control, open_tuned
from tunewright.train import accountant
from tunewright.train.stopping import ending

EXCEEDED = 3
_TENFOLDS = 4
"""Deltas at which a claim may be tested, each ten times the one before."""
_WITHOUT_PRIVACY = {f"privacy.{name}": value for name, value in PrivacySettings().model_dump().items()}


def audit(
    folder: Path, json_out: Path | None = None, twin: int = 0, control: bool = False, progress: Progress = silent
) -> Result:
    """Measures leaks, writes `evaluations/audit.json` and the report, and compares with the claim.

    Args:
        folder: A run whose training is finished.
        json_out: Where to write the figures beside the run.
        twin: Canaries of a twin that is trained alike, for a run without any.
        control: Also train and audit a twin without privacy, which is deleted again.
        progress: Told what is going on.

    Raises:
        UserError: The run is not finished, has changed, or does not need the twin that was asked for.
    """
    run = Run.open(folder)
    if json_out:
        require_writable(json_out)
    if not run.model.is_dir():
        raise UserError(f"{folder} has no model yet. Finish it: {command('resume', folder)}")
    if run.read("canaries.json") is not None and twin:
        raise UserError(f"--twin: {folder} has canaries of its own. Leave --twin out.")
    with run.writing():
        delete_control(run)  # of an audit that was killed, whether or not this can go on
    prepared = reopen(run, (), progress)
    claim = claim_of(run)
    if control and not claim.made:
        raise UserError(
            f"--control: {folder} was trained without privacy (or with a known noise, privacy.noise_seed), so it "
            "is its own control. Leave it out."
        )
    kept = str(json_out.resolve()) if json_out else ""
    with run.writing(), under_way(run, "audit", twin=twin, control=control, json=kept):
        audited = twin_of(run, "audited", {"audit.canaries": twin}, progress) if twin else run
        _as_many(audited, twin)
        planted = twin or len(prepared.canaries.coins)
        canaries = canaried(prepared, audited, progress) if planted else None
        beside, price = None, tuple[Comparison, ...]()
        if control:
            sets = {"audit.canaries": planted or _usual(prepared), **_WITHOUT_PRIVACY}
            with _control(run, sets, progress) as plain:
                beside = canaried(prepared, plain, progress)
                # Canaries cost something, so only with equally many does the difference tell what privacy costs.
                price = _price(prepared, audited, plain, progress) if planted else ()
        own = OwnRows.of(prepared, run, progress)
        found = Leaks(claim, canaries, own.membership(), tuple(own.extractions(audited)), beside, price, bool(twin))
        run.write(
            "evaluations/audit.json",
            {**found.to_json(), "blocks": [block.model_dump(mode="json") for block in leaks_told.blocks(found)]},
        )
        write_report(run)
    if json_out:
        write_json(json_out, found.to_json())
    lines = [*leaks_told.sentences(found), *_offer(folder, found, prepared), *_of_twins(run, audited, control)]
    lines += _no_price(folder, _usual(prepared)) if control and not planted else []
    lines += [f"Report: {run.folder / 'report.html'}"]
    return Result(EXCEEDED if canaries and canaries.broken else 0, tuple(lines), run.folder)


@contextmanager
def _control(run: Run, sets: Mapping[str, Any], progress: Progress) -> Iterator[Run]:
    """The twin without privacy. Its weights know the rows, half trained too, so it is gone however this ends, and what
    it says of its rows is hidden as in the run itself.

    Raises:
        Interrupted: It was stopped; it is trained anew when the audit goes on.
    """
    with rows_hidden(), ending():
        try:
            yield twin_of(run, run.control.name, sets, progress)
        except Interrupted:
            raise Interrupted(
                "Stopped. The control was trained without privacy on rows that are promised it, so it was deleted. "
                f"Go on with: {command('resume', run.folder)}"
            ) from None
        finally:
            delete_control(run)


def _as_many(audited: Run, twin: int) -> None:
    """A twin that is there already must have the canaries that were asked for."""
    there = len(Canaries.read(audited.folder).coins) if twin else 0
    if there != twin:
        raise UserError(
            f"--twin {twin}: {audited.folder} is there already, with {there} canaries. Give --twin {there}. (Another "
            "in its place would be one more training on the same rows: its promise adds to that of the deleted one, "
            "and no report would say so.)"
        )


def claim_of(run: Run) -> Claim:
    """What a run says of its privacy: nothing, unless it was trained privately and without a known noise."""
    found = run.read("privacy.json") or {}
    if not found.get("private"):
        return Claim()
    return Claim(float(found["epsilon"]["prv"]), float(found["delta"]))


def tested_claim(run: Run, canaries: int) -> Claim:
    """What a run's noise promises at the delta at which so many canaries can refute most.

    Noise keeps not one epsilon but one for every delta. At the delta of the claim, near 1/n, all right guesses of a
    hundred canaries may prove nothing. Which delta it is depends on noise and number alone, never on a guess.
    """
    claim, small = claim_of(run), negligible(canaries)
    if not claim.made:
        return Claim(delta=small)
    found, tests = run.must_read("privacy.json"), [claim]
    for delta in (small * 10**tens for tens in range(_TENFOLDS)):
        if delta < claim.delta:
            with suppress(accountant.TooLittleNoise):  # then that delta is left out
                tests.append(Claim(accountant.spent(found["q"], found["sigma"], found["steps"], delta).prv, delta))
    return max(tests, key=lambda test: provable(canaries, test.delta) - test.epsilon)


def _price(prepared: Prepared, run: Run, plain: Run, progress: Progress) -> tuple[Comparison, ...]:
    """The private run against its control, with as many canaries, on the primary metrics, row by row."""
    suite, metrics = suite_of(prepared)
    private, without = (
        suite.ask(open_tuned(one, prepared.dtype), prepared.test, progress, what)
        for one, what in ((run, "private"), (plain, "plain"))
    )
    answered = Answered(without, private, {}, metrics, prepared.dataset.labels or ())
    found = compare_outcomes(answered, how_of(prepared.settings))
    return tuple(one for one in found.comparisons if one.primary)


def _offer(folder: Path, found: Leaks, prepared: Prepared) -> list[str]:
    if found.canaries:
        return []
    count = _usual(prepared)
    return [
        f"To bound epsilon, train a twin with canaries: tunewright audit {folder} --twin {count}",
        f"New runs carry canaries of their own with --set audit.canaries={count}.",
    ]


def _no_price(folder: Path, canaries: int) -> list[str]:
    return [
        f"What privacy costs was not measured: the control has {canaries} canaries and {folder} has none. With "
        f"--twin {canaries} --control both sides have as many."
    ]


def _of_twins(run: Run, audited: Run, control: bool) -> list[str]:
    """What twins of a private run mean for its promise."""
    lines, own, other = [], claim_of(run), claim_of(audited)
    if own.made and audited != run:
        lines.append(
            f"{audited.folder} was trained on the same rows under the same promise: keep it in the house. Whoever has "
            f"both models knows what epsilon {rounded_up(own.epsilon + other.epsilon, 3):.3g} at delta "
            f"{rounded_up(own.delta + other.delta, 2):.2g} allows."
        )
    if control:
        lines.append("The control, trained without privacy, was deleted again once it was measured.")
    return lines


def _usual(prepared: Prepared) -> int:
    """Canaries that prove something without crowding the rows."""
    return min(500, max(100, len(prepared.dataset.train) // 4))


def canaried(prepared: Prepared, run: Run, progress: Progress) -> Canaried:
    """What the canaries of a run tell against its claim; nothing is written.

    Where training was watched, how surely each was in is told from its steps, else from the model: by that rule, never
    by which of the two proves more.

    Args:
        prepared: The run, or the one that it is a twin of, prepared again; its model is the base, nothing attached.
        run: Whose canaries are asked.
        progress: Told what is going on.
    """
    canaries = Canaries.read(run.folder)
    pieces = [_pieces(prepared, row) for row in canaries.rows(mould_of(prepared))]
    measured = fallen(prepared, run, [pieces], progress)[0]
    inside = look_inside(prepared, run, [found[0] for found in pieces], progress)
    score_C = None if inside is None else inside.score_C
    tested = tested_claim(run, len(canaries.coins))
    found = leaks.of_canaries(measured, canaries.coins, claim_of(run), score_C, tested)
    return found if inside is None else replace(found, steps=inside.steps, noise=inside.noise)


def _pieces(prepared: Prepared, row: Example) -> Sequence[Encoded]:
    (found,) = encode_all(prepared.encoder, [row])
    if isinstance(found, Unencodable) or not found:
        raise UserError(f"{row.source}: {found if found else 'longer than train.max_length'}.")
    return found
