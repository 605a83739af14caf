"""Looks after trainings that are under way: submits them, asks how far they are, ends them, and tells of it.

Each look asks the backend first and then commits what it said with the events of what is new, so that a kill between
the two costs one more question. A training that was written down and not submitted is looked for by its token; where
its backend has none, the budgets are asked again before it is submitted, as the settings may have changed meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.training_jobs import JobState, RemoteJob
from cortex_autolearn.model.trainings import Model, Training
from cortex_autolearn.ports import BackendError, BoundaryError
from cortex_autolearn.training import cost
from cortex_autolearn.training.facts import as_they_count, tried
from cortex_autolearn.training.plan import Abandon, Bars, Facts, beyond_budget, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cortex_autolearn.ports import Clock, Files, RunHandle, Trainer
    from cortex_autolearn.training.needs import TrainingStore, TrainingTransaction

_OURS: Final = "cortex-autolearn"
_TRIGGER_BYTES: Final = 65_536
_TOLD_STEP_PERCENT: Final = 10


class Tender:
    """Looks after the trainings over one ROOT.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        bars: the limits of the ``[training]`` section.
        trainers: the backends by name.
    """

    def __init__(
        self, store: TrainingStore, files: Files, clock: Clock, bars: Bars, trainers: Mapping[str, Trainer]
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._bars = bars
        self._trainers = trainers

    def tend(self, run: RunHandle) -> dict[str, int]:
        """Bring every training that has not ended as far as its backend is; return how many there were, by state."""
        counts: dict[str, int] = {}
        with self._store.read() as reading:
            active = reading.active_trainings()
        self.show_trigger(run)
        for number, training in enumerate(active):
            if number and run.is_ending():
                break
            try:
                state = self._advance(training, run)
            except BoundaryError as error:
                run.trouble(BackendError.of(error))
                state = self._note(training.model_id, polled_us=self._now_us()).state
            counts[state or "not submitted"] = counts.get(state or "not submitted", 0) + 1
        if active:
            self.show_trigger(run)
        return counts

    def give_up(self, model_id: str, run: RunHandle) -> None:
        """End a training here, whatever its backend is doing; one that has ended stays as it is.

        One of which its backend never told may have been taken when it was written down, and may run and cost there.
        """
        with self._store.write() as transaction:
            training = transaction.training(model_id)
            if training is None or training.ended_us is not None:
                return
            taken_us = training.submitted_us or training.asked_us
            ended = training._replace(
                state="cancelled", ending="cancel", ended_us=self._now_us(), submitted_us=taken_us
            )
            self._tell_end(transaction, ended)
            transaction.put_training(ended)
        self.show_trigger(run)

    def show_trigger(self, run: RunHandle) -> None:
        """Write ``.fine_tune_trigger`` while a training is under way, and clear it after.

        It tells of the newest of our trainings, whoever wrote it before. While there is none, another's is left alone.
        """
        with self._store.read() as reading:
            active = reading.active_trainings()
        try:
            noted = self._noted_trigger()
            if active:
                shown = _trigger_of(active[-1])
                if noted != shown:
                    self._files.replace(layout.FINE_TUNE_TRIGGER, msgspec.json.encode(shown) + b"\n")
            elif noted is not None:
                self._files.remove(layout.FINE_TUNE_TRIGGER)
        except BoundaryError as error:  # it only tells of trainings: they go on without it
            run.trouble(error)

    def _advance(self, training: Training, run: RunHandle) -> str | None:
        trainer = self._trainers.get(training.spec.backend)
        if trainer is None and training.ending is not None:
            return self._record(training, None, is_working=False).state  # nobody is left to ask
        if trainer is None:
            raise BoundaryError(
                "look after",
                f"the training of {training.model_id}",
                f"there is no backend {training.spec.backend!r}",
                hint=f"Install what it needs, or end it with: fine-tune cancel {training.model_id}",
                retryable=False,
            )
        while True:
            before = training.seen
            found = _ask(training, trainer, self._check_budgets)
            training = self._record(training, found, is_working=trainer.trains_here)
            # Asked first: after days without an answer it may be late and done.
            if training.ending is None and training.ended_us is None and _is_late(training, self._bars, self._now_us()):
                training = self._note(training.model_id, ending="deadline")
                found = _ask(training, trainer, self._check_budgets)
                training = self._record(training, found, is_working=trainer.trains_here)
            if training.ended_us is not None:
                return training.state
            if before is not None and not trainer.trains_here:
                return (
                    training.state
                )  # one that was submitted just now is looked at once more: it may wait for a person
            if training.seen == before:  # another process works on it, as none but a lost lock allows
                return self._note(training.model_id, polled_us=self._now_us()).state
            if run.is_ending():
                return training.state

    def _check_budgets(self, training: Training) -> None:
        """Make sure that there is money for a training that is about to be submitted.

        Raises:
            BackendError: there is none; it waits for it.
        """
        with self._store.read() as reading:
            trainings = as_they_count(reading, reading.trainings(), self._now_us())
        # Of others that wait to be submitted those count that were asked for before: else two would hold each other.
        # One that would be held without any other is not about to cost anything.
        first = [one.model_id for one in trainings].index(training.model_id)
        counted = [
            one
            for at, one in enumerate(trainings)
            if one.submitted_us is not None
            or (at < first and beyond_budget(one.estimate.training_usd, 0.0, self._bars) is None)
        ]
        spent_usd = cost.spent_in_month(counted, self._clock.now())
        found = beyond_budget(training.estimate.training_usd, spent_usd, self._bars)
        if found is not None:
            hint = (
                "Raise training.budget_usd, or training.budget_month_usd (or wait for the next month where that is the "
                f"cause), or end it with: fine-tune cancel {training.model_id}"
            )
            raise BackendError("submit", f"the training of {training.model_id}", found[1], hint=hint, retryable=True)

    def _record(self, before: Training, found: RemoteJob | None, *, is_working: bool) -> Training:
        """Store what the backend told, with the events of what is new, and the model if it made one.

        ``is_working`` tells that the work is done in the asking: whoever comes next goes on with it at once.
        """
        now_us = self._now_us()
        with self._store.read() as reading:
            (before,) = as_they_count(reading, [before], now_us)
        after = before._replace(polled_us=None if is_working else now_us)
        if found is not None:
            after = after._replace(state=found.state, seen=found, submitted_us=before.submitted_us or now_us)
        state = _end_state(after, found, is_waited_out=self._is_waited_out(after, now_us))
        if state is not None:
            after = after._replace(state=state, ended_us=now_us, polled_us=now_us)
        percent = int(100 * (found.progress or 0.0)) if found is not None else 0
        with self._store.write() as transaction:
            asked = transaction.training(after.model_id)
            assert asked is not None
            if asked.ended_us is not None:
                return asked  # another process was told first
            if after.ended_us is None:
                after = after._replace(ending=asked.ending)  # a person may have cancelled it meanwhile
            if after.ended_us is not None:
                self._tell_end(transaction, after)
            elif percent >= before.told_percent + _TOLD_STEP_PERCENT:
                after = after._replace(told_percent=percent)
                transaction.event("fine_tune_progress", **_keys(after), percent=percent, metrics=_metrics(after))
            transaction.put_training(after)
        return after

    def _tell_end(self, transaction: TrainingTransaction, training: Training) -> None:
        seen = training.seen
        if training.state == "succeeded" and seen is not None and seen.model is not None:
            transaction.put_model(
                Model(
                    seen.model,
                    training.scope,
                    training.dataset_id,
                    training.spec.backend,
                    seen.metrics,
                    training.ended_us or 0,
                )
            )
            transaction.event("fine_tune_completed", **_keys(training), metrics=seen.metrics)
        else:
            transaction.event("fine_tune_failed", **_keys(training), state=training.state, reason=_reason(training))

    def _note(self, model_id: str, **changes: Any) -> Training:  # noqa: ANN401 - fields of a training
        with self._store.write() as transaction:
            training = transaction.training(model_id)
            assert training is not None
            training = training._replace(**changes)
            transaction.put_training(training)
        return training

    def _is_waited_out(self, training: Training, now_us: int) -> bool:
        """Tell whether a training that was to end by its deadline has had as long again for that."""
        waited_us = now_us - (training.submitted_us or now_us)
        return waited_us > 2 * self._bars.deadline_s * instants.SECOND_US

    def _noted_trigger(self) -> dict[str, Any] | None:
        """Return the trigger file that we wrote; None where there is none, or where it is somebody else's."""
        found = read_trigger(self._files)
        return found if found is not None and is_ours(found) else None

    def _now_us(self) -> int:
        return instants.to_us(self._clock.now())


def _ask(training: Training, trainer: Trainer, check: Callable[[Training], None]) -> RemoteJob | None:
    """Ask the backend for a training's job, submitting or ending it as it is to be; None: it never came to be."""
    found = _find(training, trainer)
    if found is None and training.ending is None:
        check(training)
        found = _submit(training, trainer)
    elif found is None:
        # Where a backend sends data ahead of the job, some may be there without one.
        discard = getattr(trainer, "discard", None)
        if discard is not None:
            discard(training.token)
    if found is not None and training.ending is not None and not found.ended:
        trainer.cancel(found.job_id)
        found = trainer.poll(found.job_id)
    return found


def _find(training: Training, trainer: Trainer) -> RemoteJob | None:
    """Return the job as it is now; None where it was never submitted, and a failed one where it is gone."""
    seen = training.seen
    if seen is None:
        return trainer.find(training.token)
    try:
        return trainer.poll(seen.job_id)
    except BoundaryError as error:
        # An error says that the answer is not known. Only where the backend itself has no such job, it has ended.
        if error.retryable or trainer.find(training.token) is not None:
            raise
        return msgspec.structs.replace(
            seen, state="failed", waiting_for_person=False, reason=f"it is gone: {error.cause}"
        )


def _submit(training: Training, trainer: Trainer) -> RemoteJob:
    try:
        return trainer.submit(training.spec, training.token)
    except BoundaryError as error:
        if error.retryable:
            raise
        found = trainer.find(training.token)
        if found is not None:
            return found
        return RemoteJob(
            job_id="",
            token=training.token,
            model_id=training.model_id,
            state="failed",
            reason=f"not taken: {error.cause}. {error.hint}",
        )


def _trigger_of(training: Training) -> dict[str, Any]:
    return {
        "job": training.token,
        "model": training.model_id,
        "time": instants.us_to_text(training.asked_us),
        "by": _OURS,
    }


def configuration(training: Training) -> dict[str, Any]:
    """Return what an operator sees before a training starts."""
    spec, estimate = training.spec, training.estimate
    adjusted = {"adjusted": "; ".join(estimate.adjusted)} if estimate.adjusted else {}
    return {
        **_keys(training),
        "base": spec.base,
        "train": spec.dataset.train,
        "validation": spec.dataset.validation,
        "hyperparameters": spec.hyperparameters,
        **adjusted,
        "attempt": spec.attempt,
        "by": training.asked_by,
        "estimated_tokens": estimate.tokens,
        "estimated_cost_usd": estimate.training_usd,
        "estimated_storage_usd_per_month": estimate.storage_usd_per_month,
        "estimated_added_usd_per_task": estimate.added_usd_per_task,
        "estimated_seconds": estimate.seconds,
    }


def training_dict(training: Training) -> dict[str, Any]:
    """Return a training as JSON holds it."""
    seen = training.seen
    progress = None if seen is None or seen.progress is None else round(100 * seen.progress, 1)
    return {
        "model_id": training.model_id,
        "scope": training.scope,
        "backend": training.spec.backend,
        "base": training.spec.base,
        "dataset_id": training.dataset_id,
        "attempt": training.spec.attempt,
        "state": training.state or "not submitted",
        "is_active": training.ended_us is None,
        "waits_for_person": seen is not None and seen.waiting_for_person,
        "progress_percent": progress,
        "metrics": {} if seen is None else seen.metrics,
        "reason": "" if seen is None else seen.reason,
        "artefact": None if seen is None or seen.model is None else seen.model.artefact,
        "estimated_cost_usd": training.estimate.training_usd,
        "asked_by": training.asked_by,
        "asked_at": instants.us_to_text(training.asked_us),
        "submitted_at": instants.us_to_text(training.submitted_us),
        "ended_at": instants.us_to_text(training.ended_us),
    }


def read_trigger(files: Files) -> dict[str, Any] | None:
    """Return what ``.fine_tune_trigger`` says, whoever wrote it; empty where it is no JSON object, None without one."""
    handle = files.open_input(layout.FINE_TUNE_TRIGGER)
    if handle is None:
        return None
    with handle:
        try:
            found = msgspec.json.decode(handle.read(_TRIGGER_BYTES))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}
    return found if isinstance(found, dict) else {}


def is_ours(noted: Mapping[str, Any]) -> bool:
    """Tell whether what a trigger file says was written here."""
    return noted.get("by") == _OURS


def _keys(training: Training) -> dict[str, Any]:
    return {
        "model_id": training.model_id,
        "scope": training.scope,
        "backend": training.spec.backend,
        "dataset_id": training.dataset_id,
    }


def _metrics(training: Training) -> dict[str, Any]:
    return {} if training.seen is None else dict(training.seen.metrics)


def _reason(training: Training) -> str:
    told = "" if training.seen is None else training.seen.reason
    match training.ending:
        case "deadline":
            return "it took too long" + (f": {told}" if told else "")
        case "cancel":
            if training.seen is None or training.seen.ended:
                return "cancelled by a person"
            return "cancelled by a person, and its backend did not say that it has ended there"
        case _:
            return told or "the backend gave no reason"


def _end_state(training: Training, found: RemoteJob | None, *, is_waited_out: bool) -> JobState | None:
    """Return the state in which a training ends now; None while it goes on."""
    if found is not None and found.state == "succeeded":
        # Also where it was to be ended: that came too late, and the model is there.
        return "failed" if found.model is None else "succeeded"
    if training.ending == "deadline":
        # Its backend was asked to end it. What it was given is removed when it has ended, so that is waited for.
        return "failed" if found is None or found.ended or is_waited_out else None
    if training.ending == "cancel":
        return "cancelled" if found is None or found.ended else None
    return found.state if found is not None and found.ended else None


def _is_late(training: Training, bars: Bars, now_us: int) -> bool:
    return isinstance(decide(Facts(training.scope, 0, 0, (tried(training),), 0.0), bars, now_us), Abandon)
