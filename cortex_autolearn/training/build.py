"""Makes a dataset with the state and real files.

``gather`` reads outcomes once, file by file; what they become waits in a temporary file, so that memory holds a few
hundred bytes of each. Then ``dataset`` chooses, ``leakage`` looks again, and ``freeze`` keeps what was chosen.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cortex_autolearn.model.training_jobs import Limits
from cortex_autolearn.model.training_policy import system_prompt_of
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.redact import redact
from cortex_autolearn.training import dataset
from cortex_autolearn.training.chosen import Chosen
from cortex_autolearn.training.dataset import Bounds, HeldOut, Selection
from cortex_autolearn.training.freeze import Built, Freezer
from cortex_autolearn.training.gather import Gathered, Kept, Outcomes
from cortex_autolearn.training.leakage import leaks
from cortex_autolearn.training.nearness import Nearness, method
from cortex_autolearn.training.rare import Rarity
from cortex_autolearn.training.scratch import Scratch, Triples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cortex_autolearn.model.training import Validated
    from cortex_autolearn.model.training_policy import DatasetPolicy, TrainingPolicy
    from cortex_autolearn.ports import Clock, Files, RunHandle
    from cortex_autolearn.training.needs import DatasetStore

_TRIES: Final = 3
_BYTES_PER_TRIPLE: Final = 7


class NothingToBuildError(BoundaryError):
    """There is no example to make a dataset of; an expected end, in words."""

    def __init__(self, scope: str, cause: str, hint: str) -> None:
        super().__init__("build a dataset", scope, cause, hint=hint, retryable=False)


class LeakageError(BoundaryError):
    """A training split gives validation examples away, so that nothing was written."""

    def __init__(self, scope: str, tasks: list[str]) -> None:
        shown = ", ".join(tasks[:3])
        cause = f"{len(tasks)} training examples give validation examples away, such as {shown}"
        super().__init__("build a dataset", scope, cause, hint="This is a bug: please report it", retryable=False)


class Builder:
    """Makes datasets below one ROOT.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        scratch: opens an empty file that ends with the process.
        lock: keeps a second build out, in whichever process, for as long as its context lasts.
        training: the ``[training]`` section.
        policy: the ``[dataset]`` section.
    """

    def __init__(  # noqa: PLR0913 - what a room is given
        self,
        *,
        store: DatasetStore,
        files: Files,
        clock: Clock,
        scratch: Callable[[], BinaryIO],
        lock: Callable[[], AbstractContextManager[object]],
        training: TrainingPolicy,
        policy: DatasetPolicy,
    ) -> None:
        self._store = store
        self._files = files
        self._freezer = Freezer(store, files, clock)
        self._scratch = scratch
        self._lock = lock
        self._training = training
        self._policy = policy

    def build(self, scope: str, run: RunHandle, limits: Limits | None = None, *, is_to_stay: bool = False) -> Built:
        """Make the dataset of a scope from what is collected now.

        Arguments:
            scope: ``global`` or a master.
            run: is told how far it is.
            limits: of the backend that will train on it; they make those of the settings narrower.
            is_to_stay: a person asks for it, so that :meth:`spare` never removes it, whoever had it built first.

        Raises:
            NothingToBuildError: there is no training example.
            LeakageError: it would give validation examples away.
            BoundaryError: a file or the state refused.
        """
        bounds = self._bounds(limits or Limits())
        with self._lock(), ExitStack() as stack:
            self._freezer.clear_unfinished()
            shelves = [stack.enter_context(Scratch(self._scratch())) for _ in range(3)]
            steps = _Progress(run)
            gathered = self._gather(scope, bounds, Kept(shelves[0], Triples(shelves[1])), steps)
            with self._store.read() as reading:
                held_out = _held_out(reading.validated())
            selection = _select(gathered, held_out, bounds, steps)
            chosen = Chosen(gathered, selection)
            _require_examples(scope, chosen)
            self._require_no_leak(scope, chosen, bounds, Triples(shelves[2]))
            steps.advance(gathered.considered)
            built = self._freezer.freeze(scope, chosen, self._configuration(bounds), bounds.max_train)
            if is_to_stay:
                with self._store.write() as transaction:
                    transaction.keep_dataset(scope, built.row.dataset_id)
            return built

    def spare(self, scope: str, dataset_id: str) -> None:
        """Keep a dataset that was built for a training that did not start instead of the one that was kept so before.

        Raises:
            BoundaryError: the state refused, or a file cannot be removed.
        """
        with self._lock(), self._store.write() as transaction:
            before = transaction.spare_dataset(scope, dataset_id)
            if before is not None:
                self._freezer.remove(before)

    def _bounds(self, limits: Limits) -> Bounds:
        policy = self._policy
        return Bounds(
            near_duplicate_threshold=policy.near_duplicate_threshold,
            max_share=policy.max_share,
            max_train=_least(policy.max_train, limits.max_train),
            max_validation=_least(policy.max_validation, limits.max_validation),
            max_example_chars=_least(policy.max_example_chars, limits.max_example_chars),
            max_example_tokens=policy.max_example_tokens,
            seed=policy.seed,
        )

    def _gather(self, scope: str, bounds: Bounds, kept: Kept, steps: _Progress) -> Gathered:
        """Read every outcome and make of it what may be sent; again where the collector came between."""
        for _ in range(_TRIES):
            with self._store.read() as reading:
                totals = reading.collected_totals()
                count = sum(total for total, _ in totals.values())
                text_bytes = sum(size for _, size in totals.values())
                steps.begin(count)
                gathered = Gathered(kept, Rarity(text_bytes // _BYTES_PER_TRIPLE))
                with Outcomes(self._files, scope, bounds, self._prompt) as reader:
                    for done, place in enumerate(reading.outcome_places()):
                        reader.take(place, gathered)
                        steps.at(done)
            if not gathered.torn:
                steps.advance(count)
                if not gathered.considered:
                    self._say_what_lacks(scope, gathered)
                return gathered
        hint = "It changes all the time, or another program cut it: cortex-autolearn collect mends it"
        cause = "it does not hold what the state says"
        raise BoundaryError("read the outcomes", gathered.torn, cause, hint=hint, retryable=True)

    def _prompt(self, master: str | None) -> str:
        return redact(system_prompt_of(master, self._training, self._policy)).text

    def _say_what_lacks(self, scope: str, gathered: Gathered) -> None:
        if gathered.others:
            names = ", ".join(sorted(name or "none" for name in gathered.others))
            raise NothingToBuildError(scope, "no outcome of this master is collected", f"There are some of: {names}")
        hint = "Run: cortex-autolearn medallion, then: cortex-autolearn collect"
        raise NothingToBuildError(scope, "nothing is collected yet", hint)

    def _require_no_leak(self, scope: str, chosen: Chosen, bounds: Bounds, shelf: Triples) -> None:
        leaking = leaks(
            lambda: chosen.lines("train"),
            lambda: chosen.lines("validation"),
            bounds.near_duplicate_threshold,
            shelf,
            chosen.gathered.rarity.mask // 2,
        )
        tasks = [chosen.candidates("train", [number])[0].task_id for number in leaking]
        if tasks:
            raise LeakageError(scope, tasks)

    def _configuration(self, bounds: Bounds) -> dict[str, Any]:
        own = {one.master: redact(one.prompt).text for one in self._policy.system_prompts}
        return {
            **bounds._asdict(),
            "near_duplicate_method": method(),
            "system_prompt": redact(self._training.system_prompt).text,
            "system_prompts": own,
        }


class _Progress:
    """Tells how far a build is: three rounds over the outcomes."""

    _EVERY: Final = 500

    def __init__(self, run: RunHandle) -> None:
        self._run = run
        self._before = 0
        self._total = 0

    def begin(self, count: int) -> None:
        """Begin the first round, maybe again."""
        self._total = 3 * count

    def at(self, done: int) -> None:
        """Tell how far this round is."""
        if not done % self._EVERY:
            self._run.progress(self._before + done, self._total)

    def advance(self, count: int) -> None:
        """End a round."""
        self._before += count
        self._run.progress(min(self._before, self._total), self._total)


def _select(gathered: Gathered, held_out: HeldOut, bounds: Bounds, steps: _Progress) -> Selection:
    threshold, expected = bounds.near_duplicate_threshold, len(gathered.candidates)
    nearness = Nearness(threshold, gathered.rarity, gathered.triples, expected=expected)

    def near(number: int) -> int | None:
        sketch = nearness.sketch(gathered.triples(number))
        other = nearness.near(sketch)
        if other is None:
            nearness.keep(number, sketch)
        return other

    selection = dataset.select(gathered.candidates, near, held_out, bounds, lambda done, _total: steps.at(done))
    steps.advance(gathered.considered)
    return selection


def _require_examples(scope: str, chosen: Chosen) -> None:
    if chosen.numbers["train"]:
        return
    why = ", ".join(f"{reason}: {count}" for reason, count in chosen.dropped.items()) or "all are for validation"
    hint = "Collect more, or look at the limits in [dataset]"
    raise NothingToBuildError(scope, f"no training example is left ({why})", hint)


def _held_out(rows: Iterator[Validated]) -> HeldOut:
    tasks, plain, masked = set(), set(), set()
    for row in rows:
        tasks.add(row.task_id)
        plain.add(row.plain)
        masked.add(row.masked)
    return HeldOut(tasks, plain, masked)


def _least(setting: int, limit: int | None) -> int:
    return setting if limit is None else min(setting, limit)
