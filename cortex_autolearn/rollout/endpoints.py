"""Has models served that are to serve, and ends what serves models that are not.

Which are to serve follows from what the registry holds. Each is written down with a token before its backend hears of
it, and asked for again under the same token after a kill, so that a model is never served twice. What serves is looked
at now and then: where somebody removed it, or it broke, the model gets another one.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from cortex_autolearn.model import instants
from cortex_autolearn.model.training_jobs import Endpoint
from cortex_autolearn.ports import BackendError, BoundaryError
from cortex_autolearn.rollout.registry import former_champion

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cortex_autolearn.model.experiments import EndpointRow
    from cortex_autolearn.model.trainings import Model
    from cortex_autolearn.ports import Clock, RunHandle, Trainer
    from cortex_autolearn.rollout.needs import RolloutReading, RolloutStore

POLL_S: Final = 30
"""What is being prepared, or could not be ended, is asked about this often."""
LOOK_S: Final = 3_600
"""What is ready, or could not be had for a model that serves, is asked about this often."""
DEADLINE_S: Final = 86_400
"""An endpoint that is not ready after so long is given up."""
TELL_S: Final = 86_400
"""The same trouble with an endpoint is told again after so long."""

_REJECTED: Final = frozenset({"roll_back", "retire"})
"""How tests end whose model was worse."""


class Endpoints:
    """The endpoints over one ROOT.

    Arguments:
        store: the state.
        clock: tells the time.
        trainers: the backends by name.
    """

    def __init__(self, store: RolloutStore, clock: Clock, trainers: Mapping[str, Trainer]) -> None:
        self._store = store
        self._clock = clock
        self._trainers = trainers
        self._told: dict[int, tuple[str, float]] = {}  # by endpoint: the trouble that was told last, and when
        self._in_trouble: set[int] = set()  # endpoints about which the last question was not answered

    def tend(self, run: RunHandle, routed: Collection[str] = ()) -> bool:
        """Bring every endpoint as far as its backend is; tell whether anything changed.

        Arguments:
            run: is told of backends that do not answer.
            routed: versions that callers are still sent to, whatever the state says: their endpoints stay for now.
        """
        changed = self._intend()
        with self._store.read() as reading:
            rows, wanted = reading.endpoints(), wanted_models(reading)
            models = {model.ref.model_id: model for model in reading.models()}
        for row in rows:
            if self._was_just_asked(row, is_wanted=row.model_id in wanted):
                continue
            try:
                if row.model_id in wanted:
                    changed |= self._prepare(row, models[row.model_id], run)
                elif row.model_id not in routed:
                    changed |= self._end(row, models[row.model_id])
                self._in_trouble.discard(row.number)
            except BoundaryError as error:
                self._in_trouble.add(row.number)
                self._tell(row, error, run)
                self._note_trouble(row, error, is_wanted=row.model_id in wanted)
        standing = {row.number for row in rows}
        self._told = {number: told for number, told in self._told.items() if number in standing}
        return changed

    def _tell(self, row: EndpointRow, error: BoundaryError, run: RunHandle) -> None:
        """Tell of what hinders an endpoint: when it is another thing than before, and once a day while it stays."""
        now_s = self._clock.monotonic()
        said, at_s = self._told.get(row.number, ("", 0.0))
        if said == str(error) and now_s - at_s < TELL_S:
            return
        run.trouble(BackendError.of(error))  # whoever refuses, it is no input of ours
        self._told[row.number] = (str(error), now_s)

    def wait(self, reading: RolloutReading) -> bool:
        """Tell whether there is anything to ask a backend for now."""
        rows, wanted = reading.endpoints(), wanted_models(reading)
        if any(model_id not in {row.model_id for row in rows} for model_id in wanted):
            return True
        return any(self._is_due(row, POLL_S if row.model_id not in wanted else _pause_s(row)) for row in rows)

    def _intend(self) -> bool:
        with self._store.read() as reading:
            missing = wanted_models(reading) - {row.model_id for row in reading.endpoints()}
        for model_id in sorted(missing):
            with self._store.write() as transaction:
                number = transaction.next_endpoint()
                token = sha256(f"endpoint {model_id} {number}".encode()).hexdigest()
                transaction.add_endpoint(model_id, token, self._now_us())
        return bool(missing)

    def _was_just_asked(self, row: EndpointRow, *, is_wanted: bool) -> bool:
        """Tell whether to leave a backend alone: runs may come many times a second, and each question may take long."""
        if row.polled_us is None or self._is_due(row, POLL_S):
            return False
        return row.number in self._in_trouble or (is_wanted and _pause_s(row) == POLL_S)

    def _is_due(self, row: EndpointRow, pause_s: int) -> bool:
        since_us = self._now_us() - (row.polled_us or 0)
        return not 0 <= since_us < pause_s * instants.SECOND_US  # before 0: the clock was set back since

    def _prepare(self, row: EndpointRow, model: Model, run: RunHandle) -> bool:
        if row.seen is not None and row.seen.state in {"ready", "failed"}:
            return self._is_due(row, LOOK_S) and self._look(row, row.seen, model, run)
        trainer = self._trainer(model)
        seen = trainer.deploy(model.ref, row.token) if row.seen is None else trainer.poll_endpoint(row.seen)
        late_us = row.asked_us + DEADLINE_S * instants.SECOND_US
        if seen.state == "creating" and self._now_us() >= late_us:
            seen = msgspec.structs.replace(seen, state="failed", reason="it was not ready within a day")
        elif seen.state == "gone":
            seen = msgspec.structs.replace(seen, state="failed", reason=seen.reason or "it is gone")
        with self._store.write() as transaction:
            transaction.put_endpoint(row.number, seen, self._now_us())
        return row.seen is None or seen.state != row.seen.state

    def _look(self, row: EndpointRow, known: Endpoint, model: Model, run: RunHandle) -> bool:
        """Ask about what was ready; what is no more, or was never had, makes room for another one."""
        trainer = self._trainer(model)
        seen = trainer.poll_endpoint(known) if known.state == "ready" else known
        is_there = seen.state in {"ready", "creating"}
        if not is_there:
            trainer.teardown(known)  # of what broke something may be left
        with self._store.write() as transaction:
            if is_there:
                transaction.put_endpoint(row.number, known, self._now_us())
            else:
                transaction.drop_endpoint(row.number)
        if not is_there and known.state == "ready":
            hint = "It is asked for again now; its master's tasks fail, or fall back, until it is ready"
            cause = f"its endpoint {known.endpoint_id} is {seen.state}: {seen.reason or 'nobody said why'}"
            run.trouble(BackendError("serve", model.ref.model_id, cause, hint=hint, retryable=True))
        return not is_there

    def _end(self, row: EndpointRow, model: Model) -> bool:
        trainer = self._trainer(model)
        # The answer to an earlier call may have been lost: under its token the same endpoint comes back.
        seen = trainer.deploy(model.ref, row.token) if row.seen is None else row.seen
        trainer.teardown(seen)
        forget = getattr(trainer, "forget", None)
        if forget is not None:
            with self._store.read() as reading:
                is_rejected = _is_rejected(reading, row.model_id)
            if is_rejected:
                forget(model.ref)
        with self._store.write() as transaction:
            transaction.drop_endpoint(row.number)
        return True

    def _note_trouble(self, row: EndpointRow, error: BoundaryError, *, is_wanted: bool) -> None:
        seen = row.seen
        if is_wanted and not error.retryable and seen is None:
            with self._store.read() as reading:
                model = reading.model(row.model_id)
            assert model is not None
            seen = Endpoint(endpoint_id="", token=row.token, model=model.ref, state="failed", reason=error.cause)
        with self._store.write() as transaction:
            transaction.put_endpoint(row.number, seen, self._now_us())

    def _trainer(self, model: Model) -> Trainer:
        trainer = self._trainers.get(model.backend)
        if trainer is None:
            cause = f"there is no backend {model.backend!r}"
            hint = "Install what it needs, or set training.backend"
            raise BoundaryError("serve", model.ref.model_id, cause, hint=hint, retryable=False)
        return trainer

    def _now_us(self) -> int:
        return instants.to_us(self._clock.now())


def _pause_s(row: EndpointRow) -> int:
    """Return after how many seconds to ask again about what is wanted."""
    return POLL_S if row.seen is None or row.seen.state == "creating" else LOOK_S


def _is_rejected(reading: RolloutReading, model_id: str) -> bool:
    """Tell whether a model was found worse wherever it was tested, never served by default, and is not waited for."""
    if any(queued.model_id == model_id for queued in reading.deploy_queue()):
        return False
    tests = [test for test in reading.experiments() if model_id in {test.a, test.b}]
    endings = {test.ending if test.model == model_id and test.kind == "test" else None for test in tests}
    return bool(endings) and endings <= _REJECTED


def wanted_models(reading: RolloutReading) -> set[str]:
    """Return the models that serve a master, are to, or can come back by one word: the champions before these."""
    versions: set[str | None] = set()
    for held in reading.servings():
        former = former_champion(reading.alias_history(held.master), held.champion)
        versions |= {held.champion, held.challenger, former}
    return {model.ref.model_id for model in reading.models()} & versions
