"""The way of a model to its test: offered to its masters, waiting for one to be free, deployed, started.

What serves it is ``endpoints``' business, whether a step may be taken ``registry``'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.experiments import Held, Queued
from cortex_autolearn.model.training_jobs import GLOBAL
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.rollout import files as documents
from cortex_autolearn.rollout import plan
from cortex_autolearn.rollout.apply import DAEMON, Order, Taken, take
from cortex_autolearn.rollout.baseline import Baseline
from cortex_autolearn.rollout.decide import percentage_for
from cortex_autolearn.rollout.project import read
from cortex_autolearn.rollout.registry import Step

if TYPE_CHECKING:
    from collections import Counter

    from cortex_autolearn.model.experiments import EndpointRow, Experiment
    from cortex_autolearn.model.rollout_policy import RolloutPolicy
    from cortex_autolearn.model.trainings import Model
    from cortex_autolearn.ports import Clock, Files, RunHandle
    from cortex_autolearn.rollout.needs import RolloutReading, RolloutStore, RolloutTransaction

_TRAINED: Final = "its training has ended"


class _Members(msgspec.Struct):
    """Of a dataset's manifest the masters: split → master → examples."""

    by_master: dict[str, dict[str, int]] = {}


_decode_members: Final = msgspec.json.Decoder(_Members).decode


class Deployer:
    """Brings models to their tests.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        policy: the ``[rollout]`` section.

    What is to be said of the tests that were started is added to ``begun``. A file that cannot be read hinders only
    the masters it may concern; ``troubles`` tells of it, by its words.
    """

    def __init__(self, store: RolloutStore, files: Files, clock: Clock, policy: RolloutPolicy) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._policy = policy
        self.begun: list[dict[str, Any]] = []
        self.troubles: dict[str, BoundaryError] = {}

    def offer(self, run: RunHandle, counts: Counter[str]) -> None:
        """Let models that ended their training wait for their masters, each once."""
        with self._store.read() as reading:
            offered = [model for one in reading.models_to_offer() if (model := reading.model(one)) is not None]
        for model in offered:
            try:
                masters = self._masters_of(model)
            except BoundaryError as error:
                run.trouble(error)
                if error.retryable:
                    continue
                masters = []
            with self._store.write() as transaction:
                now_us = self._now_us()
                for master in masters:
                    if not plan.can_be_named(master, model.ref.model_id):
                        run.trouble(_too_long(master, model.ref.model_id))
                        continue
                    queued = Queued(master, model.ref.model_id, now_us, DAEMON, _TRAINED, "daemon")
                    counts["offered"] += transaction.put_queued(queued)
                transaction.offer_model(model.ref.model_id, now_us)

    def begin(self, counts: Counter[str]) -> bool:
        """Begin to deploy what waits for a master that is free; tell whether anything changed."""
        with self._store.read() as reading:
            waiting = reading.deploy_queue()
        begun = [self._begin(queued, counts) for queued in waiting]
        return True in begun

    def start(self, counts: Counter[str]) -> bool:
        """Start the tests of models that stand; tell whether anything changed."""
        with self._store.read() as reading:
            deploying = [held for held in reading.servings() if held.phase == "deploying"]
        begun = [self._start(held.master, counts) for held in deploying]
        return True in begun

    def held(self, reading: RolloutReading, master: str) -> Held:
        """Return what serves a master; one of which rollout knows nothing is served by the champion of its aliases.

        Raises:
            BoundaryError: nobody can tell whom they name, who would be lost for good: see :func:`named_champion`.
        """
        held = reading.serving(master)
        if held is not None:
            return held
        champion = named_champion(self._files, master)
        return Held(master, champion or self._policy.default_champion, "steady", None, None, self._now_us())

    def is_taken(self, reading: RolloutReading, test_id: str) -> bool:
        """Tell whether there is a test of this name, ours or not."""
        if reading.experiment(test_id) is not None:
            return True
        return bool(self._files.size(layout.test_file(test_id)) or self._files.size(layout.results_file(test_id)))

    def other_test(self, reading: RolloutReading, master: str) -> str | None:
        """Return the test of a master that runs and is not ours: it occupies the master.

        One that cannot be read may be such a test of any master.
        """
        for entry in self._files.entries(layout.AB_TESTS, ".json"):
            name = entry.relative.rsplit("/", 1)[1].removesuffix(".json")
            if reading.experiment(name) is not None:
                continue
            try:
                occupied = documents.occupied(read(self._files, entry.relative))
            except BoundaryError as error:
                self.troubles[str(error)] = error
                return name
            if occupied == master:
                return name
        return None

    def is_free(self, reading: RolloutReading, master: str) -> bool:
        """Tell whether a model that waits for a master can be deployed now, as far as files can be read."""
        try:
            return self.held(reading, master).phase == "steady" and self.other_test(reading, master) is None
        except BoundaryError:
            return False  # a run for another reason tells of it

    def outlook(self, reading: RolloutReading, held: Held) -> dict[str, Any]:
        """Return what may be expected of a test of this master that began now."""
        history = self._history(reading, held)
        percentage = percentage_for(self._policy, history.tasks_per_day)
        told = plan.notes(self._policy, Baseline.of(history.past), percentage, history.tasks_per_day)
        return {"percentage": percentage, "occupied_by": self.other_test(reading, held.master), **told}

    def _masters_of(self, model: Model) -> list[str]:
        """Return the masters that a model is offered to: its own, or those of its dataset."""
        if model.scope != GLOBAL:
            found = {model.scope}
        else:
            found = self._masters_in(layout.dataset_file(model.dataset_id or "none", "manifest.json"))
        named = {name for one in found if one != "null" and (name := layout.master_name(one)) is not None}
        return sorted(named & set(self._policy.masters) if self._policy.masters else named)

    def _masters_in(self, path: str) -> set[str]:
        """Return the masters of a dataset, of any size, by its manifest."""
        hint = "Deploy the model to its masters by hand"
        handle = self._files.open_input(path)
        if handle is None:
            raise BoundaryError("find the masters of", path, "it is gone", hint=hint, retryable=False)
        try:
            with handle:
                members = _decode_members(handle.read())
        except OSError as error:
            cause, again = error.strerror or str(error), "The next run tries again"
            raise BoundaryError("find the masters of", path, cause, hint=again, retryable=True) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BoundaryError("find the masters of", path, str(error), hint=hint, retryable=False) from error
        return {master for split in members.by_master.values() for master in split}

    def _begin(self, queued: Queued, counts: Counter[str]) -> bool:
        with self._store.write() as transaction:
            if queued not in transaction.deploy_queue():
                return False  # a person took it out meanwhile
            masters = self._policy.masters
            if queued.actor == "daemon" and masters and queued.master not in masters:
                transaction.drop_queued(queued.master, queued.model_id)
                counts["left out"] += 1
                return True  # it was offered before the settings left its master out
            try:
                held = self.held(transaction, queued.master)
                if held.phase != "steady" or self.other_test(transaction, queued.master) is not None:
                    return False
            except BoundaryError as error:  # of its aliases, or of the folder of all tests
                self.troubles[str(error)] = error
                return False
            transaction.drop_queued(queued.master, queued.model_id)
            if queued.actor == "daemon" and _tested(transaction, queued.master, queued.model_id):
                return True  # once is enough, unless a person asks again
            step = Step("deploy", "daemon", queued.model_id)
            taken = take(transaction, held, Order(step, queued.by, queued.why, self._now_us()))
            counts["deploying"] += isinstance(taken, Taken)
        return True

    def _start(self, master: str, counts: Counter[str]) -> bool:
        """Start the test of a model whose endpoint is ready; give it up where there is none to be had."""
        with self._store.write() as transaction:
            held = transaction.serving(master)
            if held is None or held.phase != "deploying" or held.challenger is None:
                return False
            endpoint = _endpoint(transaction, held.challenger)
            if endpoint is None or endpoint.seen is None or endpoint.seen.state == "creating":
                return False
            now_us = self._now_us()
            if endpoint.seen.state != "ready":
                why = f"it cannot be served: {endpoint.seen.reason or endpoint.seen.state}"
                take(transaction, held, Order(Step("fail", "daemon"), DAEMON, why, now_us))
                counts["not deployed"] += 1
                return True
            try:
                test = self._new_test(transaction, held, now_us)
            except BoundaryError as error:  # of what stands where its files are to be
                self.troubles[str(error)] = error
                return False
            step = Step("start", "daemon", held.challenger, test.test_id)
            told = {"endpoint": endpoint.seen.endpoint_id, "target": endpoint.seen.target}
            take(transaction, held, Order(step, DAEMON, "it is ready", now_us, begins=test, told=told))
            counts["started"] += 1
        self.begun.append({"test_id": test.test_id, "master": master, **test.notes})
        return True

    def _new_test(self, transaction: RolloutTransaction, held: Held, now_us: int) -> Experiment:
        assert held.challenger is not None
        first = plan.test_id(held.master, held.challenger)
        name = plan.free_id(first, lambda one: self.is_taken(transaction, one))
        number = 1 + len(_tested(transaction, held.master, held.challenger))
        test = plan.begin_test(held, name, number, self._policy, self._history(transaction, held))
        return msgspec.structs.replace(test, started_us=now_us, seen=transaction.last_task(), looked_us=now_us)

    def _history(self, reading: RolloutReading, held: Held) -> plan.History:
        policy, now_us = self._policy, self._now_us()
        before_us = plan.matured_before_us(policy, now_us)
        reigns = plan.reigns(reading.alias_history(held.master), held.champion)
        tasks = reading.past_tasks(held.master, held.champion, reigns, before_us, policy.history_tasks)
        since_us = now_us - plan.TRAFFIC_DAYS * instants.DAY_US
        count, first_us = reading.tasks_created(held.master, since_us, now_us)
        return plan.History(plan.past_of(tasks, policy), plan.per_day(count, first_us, now_us))

    def _now_us(self) -> int:
        return instants.to_us(self._clock.now())


def named_champion(files: Files, master: str) -> str | None:
    """Return the champion that the aliases of a master name; None where they name none, or there are none.

    Raises:
        BoundaryError: they cannot be read, are being written, or name one by what is no name of a model.
    """
    path = layout.aliases_file(master)
    found = read(files, path)
    champion = documents.champion_in(found)
    if found is None and files.entry(path) is not None:
        cause, hint = f"{path} holds no object", "Mend the file, or remove it where the default champion serves"
    elif isinstance(champion, documents.Unusable):
        cause = f"{path} names {champion.value!a:.100} where a model is named"
        hint = (
            "Write aliases.champion.version with letters, digits, dots, dashes and underscores, as the records name "
            "the model, or remove the file where the default champion serves"
        )
    else:
        return champion
    raise BoundaryError("find the champion of", master, cause, hint=hint, retryable=True)


def _too_long(master: str, model_id: str) -> BoundaryError:
    cause, hint = f"its test for {master} could not be named", "Shorten the master's name in the records"
    return BoundaryError("deploy", model_id, cause, hint=hint, retryable=False)


def _tested(reading: RolloutReading, master: str, model_id: str) -> list[str]:
    """Return the tests of a model that this master had."""
    return [one.test_id for one in reading.experiments() if (one.kind, one.master, one.b) == ("test", master, model_id)]


def _endpoint(reading: RolloutReading, model_id: str) -> EndpointRow | None:
    return next((one for one in reading.endpoints() if one.model_id == model_id), None)
