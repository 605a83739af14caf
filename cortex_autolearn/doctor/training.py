"""Looks at trainings: is one due and does it start, do those under way go on, can the backend do what is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cortex_autolearn import wiring
from cortex_autolearn.adapters.clock import SystemClock
from cortex_autolearn.doctor.check import Check, Patient, Verdict, ago, counted
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.training_jobs import GLOBAL, DatasetRef, Hyperparameter, Spec
from cortex_autolearn.model.training_problems import (
    AccessRefused,
    DatasetUnreadable,
    ExampleTooLong,
    TooFewRecords,
    TooManyRecords,
)
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.training.facts import progress_of
from cortex_autolearn.training.tend import is_ours, read_trigger

if TYPE_CHECKING:
    from cortex_autolearn.adapters.store.database import Reading
    from cortex_autolearn.model.training import DatasetRow
    from cortex_autolearn.model.training_policy import TrainingPolicy
    from cortex_autolearn.model.trainings import Training

_MISSED_LOOKS: Final = 3
_LOOK_S: Final = 120.0
"""A look may take so long, and the daemon's heartbeat comes between."""
_LOOKING: Final = ("training", "readiness")
_NO_ID: Final = "ft-00000000-000"
_OF_DATA: Final = (DatasetUnreadable, ExampleTooLong, TooFewRecords, TooManyRecords)
_REASONS: Final = {
    "too_few_after_cleaning": "See what is left out, and why: cortex-autolearn dataset build",
    "backing_off": "See why: cortex-autolearn fine-tune jobs; not to wait: cortex-autolearn fine-tune trigger --force",
    "same_data_failed": "See why: cortex-autolearn fine-tune jobs; other outcomes, or --force, start the next",
    "budget_exhausted": "Wait for the next month, or raise training.budget_usd or training.budget_month_usd",
    "price_unknown": "Declare the price of training.base_model with [[training.prices]]",
    "not_possible": "Mend that, or choose another training.backend",
    "backend_away": "See the log for its answer; to try again now: cortex-autolearn fine-tune trigger",
    "no_dataset": "Mend that, then: cortex-autolearn fine-tune trigger",
}


def _readiness(patient: Patient) -> Iterator[Check]:
    """Say how far each scope is, and of one that has enough why it is not trained."""
    reading = patient.reading
    if reading is None:
        return
    active = {training.scope for training in reading.active_trainings()}
    now_us = patient.now_us
    last = reading.last_run("readiness", now_us)
    decided = {} if last is None else {one["scope"]: one for one in last.counts.get("decisions", [])}
    at = "" if last is None or last.ended_us is None else ago(patient.now - instants.from_us(last.ended_us))
    for scope, progress in progress_of(reading, patient.settings.training, now_us).items():
        if scope in active:
            continue
        found = f"{scope}: {progress.new:,} of {progress.needed:,} new examples"
        decision = decided.get(scope)
        if progress.new < progress.needed:
            yield Check("readiness", "ok", found)
        elif decision is not None and decision.get("reason") in _REASONS:
            yield Check("readiness", "warn", f"{found}; not started {at}: {decision['text']}", _remedy(decision))
        else:
            seen = "nobody looked yet" if decision is None else f"there were fewer at the last look, {at}"
            when = f"The daemon looks every day at {patient.settings.schedule.readiness_at}"
            yield Check("readiness", "warn", f"{found}; {seen}", f"{when}; now: cortex-autolearn fine-tune trigger")


def _remedy(decision: dict[str, Any]) -> str:
    until = f"It is tried again after {decision['until']}. " if decision.get("until") else ""
    return until + _REASONS[decision["reason"]]


def _training(patient: Patient) -> Iterator[Check]:
    """Say how those under way are."""
    reading = patient.reading
    if reading is None:
        return
    for training in reading.active_trainings():
        yield _under_way(patient, training, _trouble(reading, patient.now_us))
    done = reading.trainings()
    if done and done[-1].state == "failed":
        reason = done[-1].seen.reason if done[-1].seen is not None else ""
        found = f"the last one, {done[-1].model_id}, failed: {reason or 'it took too long'}"
        yield Check(
            "training", "warn", found, "Mend that; it is tried again by itself: cortex-autolearn fine-tune jobs"
        )


def _under_way(patient: Patient, training: Training, trouble: str) -> Check:
    name, seen = training.model_id, training.seen
    found = f"{name} ({training.scope}, {training.spec.backend})"
    cancel = f"cortex-autolearn fine-tune cancel {name}"
    if seen is not None and seen.waiting_for_person and training.ending is None:
        if training.spec.backend != "export":
            return Check("training", "warn", f"{found} waits for a person: {seen.reason}", f"Do so; or: {cancel}")
        remedy = f"Train with them, then: cortex-autolearn fine-tune complete {name} --model ID; or: {cancel}"
        return Check("training", "warn", f"{found} waits for a person; its files are in {layout.MODELS}/{name}", remedy)
    away = f"; {trouble}" if trouble else ""
    late = _delay(patient, training)
    if late:
        remedy = f"Look now: cortex-autolearn run-once training; if its backend does not answer: {cancel} --give-up"
        return Check("training", "fail", f"{found} {late}{away}", remedy)
    if trouble or training.ending is not None:
        why = " is to end, and its backend has not ended it yet" if training.ending is not None else ""
        remedy = f"It is asked again by itself; to end it here whatever it does there: {cancel} --give-up"
        return Check("training", "warn", f"{found}{why}{away}", remedy)
    progress = "" if seen is None or seen.progress is None else f", {seen.progress:.0%}"
    return Check("training", "ok", f"{found}: {training.state or 'not submitted yet'}{progress}")


def _delay(patient: Patient, training: Training) -> str:
    """Say how a training is late: past its deadline, or not looked at; nothing where it is not."""
    policy = patient.settings.training
    if training.submitted_us is not None:
        taken = patient.now - instants.from_us(training.submitted_us)
        if taken > timedelta(seconds=policy.deadline_s):
            return f"is past its deadline: it was submitted {ago(taken)}"
    since = patient.now - instants.from_us(training.polled_us or training.submitted_us or training.asked_us)
    is_missed = since.total_seconds() > _MISSED_LOOKS * policy.poll_s + _LOOK_S
    if is_missed and patient.reading is not None and not any(map(patient.reading.unfinished_runs, _LOOKING)):
        return f"was last looked at {ago(since)}"
    return ""


def _trouble(reading: Reading, now_us: int) -> str:
    """Return what the latest look at trainings met with; nothing where all answered."""
    runs = [run for job in _LOOKING if (run := reading.last_run(job, now_us)) is not None]
    latest = max(runs, key=lambda run: run.started_us, default=None)
    troubles = [] if latest is None else latest.counts.get("troubles", [])
    return str(troubles[0]) if troubles else ""


def _backend(patient: Patient) -> Iterator[Check]:
    """Say what stands in the way of a training with the newest dataset; a provider that trains is asked."""
    if patient.reading is None:
        return
    policy = patient.settings.training
    backend = wiring.trainers(patient.settings, patient.tree, SystemClock(), environ=patient.environ)[policy.backend]
    scopes = [GLOBAL] if policy.scope == "global" else list(progress_of(patient.reading, policy, patient.now_us))
    rows = [row for scope in scopes if (row := patient.reading.latest_dataset(scope)) is not None]
    name = f"{policy.backend} on {policy.base or 'no base'}"
    found = []
    for row in (*rows, None)[: len(rows) or 1]:
        try:
            problems = backend.preflight(_spec(policy, row))
        except BoundaryError as error:
            found.append(Check("backend", "fail", f"{name}: {error.cause}", error.hint))
            break
        for problem in problems:
            if problem.remedy and (row is not None or not isinstance(problem, _OF_DATA)):
                # Credentials are an environment's: a daemon may have others, and tells of them in its own looks.
                is_ours = patient.is_alive and isinstance(problem, AccessRefused)
                verdict: Verdict = "fail" if problem.blocks and not is_ours else "warn"
                text = f"{name}: {problem.text}{' (seen from here; the daemon may see more)' if is_ours else ''}"
                found.append(Check("backend", verdict, text, problem.remedy))
    if found:
        yield from dict.fromkeys(found)  # of all scopes the same is said once
    elif rows:
        yield Check("backend", "ok", f"{name} can be trained on {counted(len(rows), 'dataset')}")
    else:
        yield Check("backend", "ok", f"{name}; no dataset was built to look at yet")


def _spec(policy: TrainingPolicy, row: DatasetRow | None) -> Spec:
    """Return what would be trained on a dataset; without one, what all trainings have in common."""
    ref = DatasetRef("", "", 0, 0)
    if row is not None:
        ref = DatasetRef(row.dataset_id, layout.dataset_folder(row.dataset_id), row.train, row.validation)
    knobs: dict[str, Hyperparameter] = {"n_epochs": policy.epochs, "batch_size": policy.batch_size}
    return Spec(
        backend=policy.backend,
        model_id=_NO_ID,
        scope=GLOBAL if row is None else row.scope,
        base=policy.base,
        dataset=ref,
        hyperparameters=knobs,
    )


def _trigger(patient: Patient) -> Iterator[Check]:
    """Say whether the trigger file tells of what is under way."""
    noted = read_trigger(patient.tree)
    active = [] if patient.reading is None else patient.reading.active_trainings()
    look = "cortex-autolearn run-once training"
    if noted is None:
        if active:
            found = f"{layout.FINE_TUNE_TRIGGER} is not there, though {active[-1].model_id} is under way"
            yield Check("trigger", "warn", found, f"The next look at it writes the file: {look}")
        return
    names = ", ".join(f"{key} {noted[key]}" for key in ("model", "job", "time") if isinstance(noted.get(key), str))
    if is_ours(noted):
        if noted.get("model") not in [training.model_id for training in active]:
            found = f"{layout.FINE_TUNE_TRIGGER} is stale: it tells of a training that is not under way ({names})"
            yield Check("trigger", "warn", found, f"A kill left it; the next look at trainings clears it: {look}")
        else:
            yield Check("trigger", "ok", f"it tells of {noted['model']}")
        return
    found = f"{layout.FINE_TUNE_TRIGGER} is not ours ({names or 'it names no model'})"
    remedy = "It keeps nothing from being trained; if the program that wrote it is not training any more, remove it"
    yield Check("trigger", "warn", found, remedy)


LOOKS: Final[tuple[Callable[[Patient], Iterator[Check]], ...]] = (_readiness, _training, _backend, _trigger)
