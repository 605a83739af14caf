"""Starts trainings, with the state and their backends: when one is due, or when a person asks for it.

``plan`` decides, ``build`` makes the dataset, a backend (``ports.Trainer``) trains, ``tend`` looks after it. A training
is written down before its backend hears of it, and whoever finds such a row asks the backend for its token: a kill at
any line leaves one job, and one model. What a person asks for goes the same way as what the schedule asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, assert_never

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.training_jobs import (
    GLOBAL,
    DatasetRef,
    RemoteJob,
    Spec,
    client_token,
)
from cortex_autolearn.model.trainings import Training
from cortex_autolearn.ports import BackendError, BoundaryError
from cortex_autolearn.training import cost
from cortex_autolearn.training.build import NothingToBuildError
from cortex_autolearn.training.facts import Counts, as_they_count, facts_of, progress_of, scopes_of
from cortex_autolearn.training.plan import (
    Abandon,
    Bars,
    Build,
    Built,
    Decision,
    Facts,
    Poll,
    Progress,
    Start,
    Wait,
    decide,
    decide_start,
    waits_for_dataset,
)
from cortex_autolearn.training.tend import Tender, configuration

if TYPE_CHECKING:
    from cortex_autolearn.model.training_policy import TrainingPolicy
    from cortex_autolearn.ports import Clock, Files, RunHandle, Trainer
    from cortex_autolearn.training.needs import Builds, TrainingReading, TrainingStore


Tell = Callable[[dict[str, Any]], None]
"""Is told the configuration of a training before its backend hears of it."""

_DAEMON: Final = "daemon"
_TOKEN_DIGITS: Final = 8
_ID_DIGITS: Final = 9


class UnknownScopeError(LookupError):
    """A person named a master that has no training examples; the text says which have."""


class UnknownTrainingError(LookupError):
    """A person named a training that is not there, or one that the wish does not fit; the text says which are."""


class Trainings:
    """Trainings over one ROOT.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        policy: the ``[training]`` section.
        builds: makes datasets.
        trainers: the backends by name.
    """

    def __init__(
        self,
        store: TrainingStore,
        files: Files,
        clock: Clock,
        policy: TrainingPolicy,
        builds: Builds,
        trainers: Mapping[str, Trainer],
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._policy = policy
        self._builds = builds
        self._trainers = trainers
        self.tender = Tender(store, files, clock, self._bars(), trainers)

    # --- when ---------------------------------------------------------------------------------------------------------

    def check(self, run: RunHandle, tell: Tell = lambda _: None) -> list[Decision]:
        """Decide about every scope, start what is due, and return the decisions."""
        self.tender.tend(run)
        decisions = []
        for facts in self._all_facts().values():
            if run.is_ending():
                break
            # What the month has cost changes with every training that starts.
            now = facts._replace(spent_month_usd=self._spent_this_month())
            decision = decide(now, self._bars(), self._now_us())
            if isinstance(decision, Build):
                decision = self._build_and_start(now, run, tell, by=_DAEMON, is_forced=False)
            decisions.append(decision)
        if any(isinstance(decision, Start) for decision in decisions) and not run.is_ending():
            self.tender.tend(run)
        return decisions

    def progress(self) -> dict[str, Progress]:
        """Return how far each scope is towards its next training."""
        with self._store.read() as reading:
            return progress_of(reading, self._policy, self._now_us())

    def preview(self, scope: str, *, is_forced: bool) -> Decision:
        """Return what :meth:`trigger` would begin with, without building a dataset or starting anything.

        Raises:
            UnknownScopeError: the scope is a master without training examples.
        """
        return self._look(scope, is_forced=is_forced)[1]

    def trigger(self, scope: str, run: RunHandle, tell: Tell = lambda _: None, *, is_forced: bool, by: str) -> Decision:
        """Start a training of a scope at a person's word, if the rule allows it; it never starts a second one.

        Raises:
            UnknownScopeError: the scope is a master without training examples.
        """
        facts, decision = self._look(scope, is_forced=is_forced)
        if isinstance(decision, Build):
            return self._build_and_start(facts, run, tell, by=by, is_forced=is_forced)
        return decision

    def _look(self, scope: str, *, is_forced: bool) -> tuple[Facts, Decision]:
        with self._store.read() as reading:
            counts = Counts(reading, self._now_us())
            facts = facts_of(reading, scope, counts, self._spent_usd(reading))
            masters = sorted(counts.by_master().items(), key=str)
        if scope != GLOBAL and not facts.examples and not facts.jobs:
            known = ", ".join(f"{name} ({count:,})" for name, count in masters if name)
            raise UnknownScopeError(f"{scope} has no training examples; these masters have some: {known or 'none yet'}")
        decision = decide(facts, self._bars(), self._now_us())
        if not isinstance(decision, Poll | Abandon):
            decision = decide_start(facts, self._bars(), self._now_us(), is_forced=is_forced)
        return facts, decision

    def cancel(self, model_id: str) -> Training:
        """Note that a training is to be ended; ``tend`` asks the backend.

        Raises:
            UnknownTrainingError: there is none of this id, or it has ended.
        """
        with self._store.write() as transaction:
            training = _named(transaction, model_id)
            if training.ended_us is not None:
                raise UnknownTrainingError(f"{training.model_id} has ended already: it {_ended(training)}")
            training = training._replace(ending=training.ending or "cancel")
            transaction.put_training(training)
        return training

    def complete(self, model_id: str, made: str) -> Training:
        """Hand in the model that a person trained elsewhere from what ``export`` wrote.

        Raises:
            UnknownTrainingError: there is no such training that waits for a person.
            BoundaryError: what the backend wrote is gone, or cannot be written.
        """
        with self._store.read() as reading:
            training = _named(reading, model_id)
        completes = getattr(self._trainers.get(training.spec.backend), "complete", None)
        seen = training.seen
        if training.ended_us is not None:
            raise UnknownTrainingError(f"{training.model_id} has ended already: it {_ended(training)}")
        if completes is None:
            raise UnknownTrainingError(
                f'{training.model_id} is trained by the backend "{training.spec.backend}", which makes the model itself'
            )
        if seen is None or not seen.waiting_for_person:
            raise UnknownTrainingError(f"the files of {training.model_id} are not written yet: try again in a moment")
        completes(seen.job_id, made)
        return training

    # --- what it rests on ---------------------------------------------------------------------------------------------

    def _all_facts(self) -> dict[str, Facts]:
        with self._store.read() as reading:
            counts = Counts(reading, self._now_us())
            spent = self._spent_usd(reading)
            scopes = scopes_of(reading, counts, self._policy)
            return {scope: facts_of(reading, scope, counts, spent) for scope in scopes}

    def _build_and_start(self, facts: Facts, run: RunHandle, tell: Tell, *, by: str, is_forced: bool) -> Decision:
        """Build the dataset of a scope, decide again, and write down the training that is to start."""
        try:
            facts = facts._replace(built=self._build(facts, run))
        except BoundaryError as error:
            # Nothing to build is what the rule expects; anything else concerns this scope only, and is told.
            if not isinstance(error, NothingToBuildError):
                run.trouble(error)
            return waits_for_dataset(facts, self._bars(), f"{error.cause}. {error.hint}")
        decision = decide_start(facts, self._bars(), self._now_us(), is_forced=is_forced)
        if isinstance(decision, Start):
            return self._intend(decision, facts, tell, by)
        if by == _DAEMON:
            self._spare(facts, run)
        return decision

    def _spare(self, facts: Facts, run: RunHandle) -> None:
        """Let a dataset that the daily look built for nothing take the place of that of the look before."""
        if facts.built is not None and facts.built.created:
            try:
                self._builds.spare(facts.scope, facts.built.dataset.dataset_id)
            except BoundaryError as error:
                run.trouble(error)

    def _build(self, facts: Facts, run: RunHandle) -> Built:
        trainer = self._trainer()
        made = self._builds.build(facts.scope, run, trainer.limits(self._policy.base))
        left_out = tuple(made.dropped.items())
        built = Built(made.ref, None, (), made.covers_us, left_out=left_out, created=made.created, is_full=made.is_full)
        try:
            spec, lost = self._next_spec(facts, made.ref, trainer)
            built = built._replace(attempt=spec.attempt, lost_id=None if lost is None else lost.model_id)
            return built._replace(estimate=trainer.estimate(spec), problems=tuple(trainer.preflight(spec)))
        except BoundaryError as error:
            run.trouble(BackendError.of(error))
            return built._replace(away=str(error))

    def _next_spec(self, facts: Facts, dataset: DatasetRef, trainer: Trainer) -> tuple[Spec, RemoteJob | None]:
        """Return what would be trained next on a dataset, and the job of it that the backend has and the state lost.

        A state that was lost, or restored from a backup, has forgotten jobs. One that may make a model, or made it, is
        taken up again; those that did not are not repeated under their tokens, which would give the same jobs again.
        Where attempts were skipped so, the next one may bear the number of one that is known here and came to nothing.
        """
        attempt = 1 + sum(job.dataset_id == dataset.dataset_id for job in facts.jobs)
        while True:
            with self._store.read() as reading:
                spec = self._spec(facts.scope, dataset, attempt, self._free_id(reading))
                is_known = any(one.token == client_token(spec) for one in reading.trainings(facts.scope))
            lost = None if is_known else trainer.find(client_token(spec))
            if lost is None and not is_known:
                return spec, None
            if lost is not None and lost.state not in ("failed", "cancelled"):
                return self._spec(facts.scope, dataset, attempt, lost.model_id), lost
            attempt += 1

    def _intend(self, start: Start, facts: Facts, tell: Tell, by: str) -> Decision:
        """Write a training down before its backend hears of it; where another process was faster, return its own."""
        assert facts.built is not None
        with self._store.write() as transaction:
            # Where nobody else writes: another process may have begun one meanwhile.
            for training in transaction.active_trainings():
                if training.scope == start.scope:
                    return Poll(start.scope, training.model_id)
            model_id = facts.built.lost_id
            if model_id is None or transaction.training(model_id) is not None:
                model_id = self._free_id(transaction)
            spec = self._spec(start.scope, start.dataset, start.attempt, model_id)
            training = Training(
                spec.model_id,
                start.scope,
                start.dataset.dataset_id,
                client_token(spec),
                spec,
                start.estimate,
                by,
                self._now_us(),
                facts.built.covers_us,
            )
            transaction.put_training(training)
            shown = {**configuration(training), "examples": facts.examples}
            transaction.event("fine_tune_triggered", **shown)
        tell(shown)
        return start

    def _spec(self, scope: str, dataset: DatasetRef, attempt: int, model_id: str) -> Spec:
        policy = self._policy
        return Spec(
            backend=policy.backend,
            model_id=model_id,
            scope=scope,
            base=policy.base,
            dataset=dataset,
            hyperparameters={"n_epochs": policy.epochs, "batch_size": policy.batch_size},
            attempt=attempt,
        )

    def _trainer(self) -> Trainer:
        name = self._policy.backend
        if name not in self._trainers:
            known = ", ".join(sorted(self._trainers))
            hint = f"Set training.backend to one of: {known}"
            raise BoundaryError("train with", name, "there is no such backend", hint=hint, retryable=False)
        return self._trainers[name]

    def _bars(self) -> Bars:
        policy = self._policy
        return Bars(policy.min_examples, policy.deadline_s, policy.budget_usd, policy.budget_month_usd)

    def _spent_this_month(self) -> float:
        with self._store.read() as reading:
            return self._spent_usd(reading)

    def _spent_usd(self, reading: TrainingReading) -> float:
        trainings = as_they_count(reading, reading.trainings(), self._now_us())
        return cost.spent_in_month(trainings, self._clock.now())

    def _free_id(self, reading: TrainingReading) -> str:
        """Return a model id that neither the state nor the models folder knows."""
        begin = f"ft-{self._clock.now():%Y%m%d}-"
        known = [*reading.model_numbers(begin), *self._files.folders(layout.MODELS)]
        tails = [one.removeprefix(begin) for one in known if one.startswith(begin)]
        numbers = [int(tail) for tail in tails if tail.isascii() and tail.isdigit() and len(tail) <= _ID_DIGITS]
        return f"{begin}{max(numbers, default=0) + 1:03}"

    def _now_us(self) -> int:
        return instants.to_us(self._clock.now())


def decision_dict(decision: Decision) -> dict[str, Any]:
    """Return a decision as the log and ``--json`` show it: what, about which scope, and the numbers it rests on."""
    match decision:
        case Wait(scope, reason, text, progress, until_us):
            shown: dict[str, Any] = {"reason": reason, "text": text, "until": instants.us_to_text(until_us)}
            return {"decision": "wait", "scope": scope, **shown, **progress._asdict()}
        case Build(scope, progress):
            return {"decision": "build", "scope": scope, **progress._asdict()}
        case Start(scope, dataset, attempt, estimate, progress):
            shown = {"dataset_id": dataset.dataset_id, "attempt": attempt, "cost_usd": estimate.training_usd}
            return {"decision": "start", "scope": scope, **shown, **progress._asdict()}
        case Poll(scope, model_id):
            return {"decision": "poll", "scope": scope, "model_id": model_id}
        case Abandon(scope, model_id, reason):
            return {"decision": "abandon", "scope": scope, "model_id": model_id, "reason": reason}
        case _:
            assert_never(decision)


def _named(reading: TrainingReading, name: str) -> Training:
    """Return the training of a model id, or of the beginning of a client token, as a backend may show it."""
    trainings = reading.trainings()
    of_token = [one for one in trainings if len(name) >= _TOKEN_DIGITS and one.token.startswith(name)]
    training = reading.training(name) or (of_token[0] if len(of_token) == 1 else None)
    if training is None:
        known = ", ".join(one.model_id for one in trainings[-5:]) or "none yet"
        raise UnknownTrainingError(f"there is no training {name!r}; the latest are: {known}")
    return training


def _ended(training: Training) -> str:
    return "was cancelled" if training.state == "cancelled" else str(training.state)
