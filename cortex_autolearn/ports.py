"""What the rooms ask of the outside world, and how the outside world says no.

Protocols are implemented by ``adapters`` and, for tests and demos, by ``testing``. Nothing is imported from either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager
    from datetime import datetime

    from cortex_autolearn.model.judgement import Answer, Ask, Batch, ModelLife, Refusal
    from cortex_autolearn.model.judging import Judged
    from cortex_autolearn.model.ledger import Collected, DayTask, Line, Source, Standing, TaskRow, Ungated
    from cortex_autolearn.model.training_jobs import (
        Endpoint,
        Estimate,
        Limits,
        ModelRef,
        RemoteJob,
        Spec,
    )
    from cortex_autolearn.model.training_problems import Problem


class BoundaryError(Exception):
    """A failure at a boundary: a file, the database, a provider.

    Arguments:
        operation: what was attempted, as a verb phrase ("append to silver").
        subject: what it was done to (a path, a URL, a table).
        cause: what came back, in the words of whoever refused.
        hint: what a person can do about it.
        retryable: whether the same call may succeed later without a person's help.

    ``is_free`` is of interest where the provider takes money for answers: it tells that nothing can have been charged.
    """

    is_free = True

    def __init__(self, operation: str, subject: str, cause: str, *, hint: str, retryable: bool) -> None:
        super().__init__(f"cannot {operation}: {subject}: {cause}. {hint}")
        self.operation = operation
        self.subject = subject
        self.cause = cause
        self.hint = hint
        self.retryable = retryable


class OutputDamagedError(BoundaryError):
    """A committed file is shorter than what was committed: somebody removed or cut it.

    ``relative`` is its path below ROOT.
    """

    def __init__(self, relative: str, committed: int, found: int) -> None:
        super().__init__(
            "append to",
            relative,
            f"it holds {found} of {committed} committed bytes",
            hint="Another program removed or cut it; the next run writes it again from its sources",
            retryable=True,
        )
        self.relative = relative


class Clock(Protocol):
    """The one door to time. The real clock and ``testing.FakeClock`` implement it."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never step, from an arbitrary start."""


class Entry(Protocol):
    """A regular file that a scan found; sizes in bytes, times in nanoseconds since 1970."""

    @property
    def relative(self) -> str: ...
    @property
    def device(self) -> int: ...
    @property
    def inode(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...


class Files(Protocol):
    """The tree below ROOT, addressed by the relative paths of ``model.layout``."""

    def open_input(self, relative: str) -> BinaryIO | None:
        """Open a regular file for reading; None when there is none. Raises BoundaryError for anything else."""

    def entries(self, folder: str, suffix: str) -> Sequence[Entry]:
        """List the regular files of a folder by name."""

    def entry(self, relative: str) -> Entry | None:
        """Look at one regular file; None when there is none. Raises BoundaryError for anything else."""

    def folders(self, folder: str) -> Sequence[str]:
        """List the names of the folders in a folder."""

    def replace(self, relative: str, data: bytes | Iterable[bytes]) -> None:
        """Replace a file whole, atomically."""

    def size(self, relative: str) -> int:
        """Return a regular file's size in bytes; 0 where there is none."""

    def remove(self, relative: str) -> None:
        """Remove a file; that it is gone already is no error."""

    def remove_folder(self, relative: str) -> None:
        """Remove a folder and the files in it; that it is gone already is no error."""


class Outlet(Protocol):
    """What every transaction can do besides changing rows."""

    def append(self, relative: str, data: bytes | Sequence[bytes]) -> int:
        """Append bytes or lines to an output file and return their offset; committed with the transaction."""

    def stage(self, relative: str, data: Iterable[bytes]) -> None:
        """Write the successor of an output file; it takes its place when the transaction has committed."""

    def output_length(self, relative: str) -> int:
        """Return an output file's committed length plus what this transaction appended to it."""

    def outputs(self, folder: str) -> Mapping[str, int]:
        """Return the committed output files of a folder and their lengths."""

    def event(self, event: str, **body: Any) -> int:
        """Record that something happened, in this transaction; returns its sequence number."""

    def count_run(self, run_id: str, counts: dict[str, Any]) -> None:
        """Store what a run did so far."""


class RefiningReading(Protocol):
    """What the medallion asks of the state."""

    def sources(self, folder: str) -> list[Source]: ...
    def source_names(self) -> dict[int, str]: ...
    def day_sums(self, day: int) -> tuple[list[tuple[str | None, str, int, float, int]], Sequence[float]]: ...
    def day_tasks(self, day: int) -> Iterator[DayTask]: ...
    def range_totals(self, start: int, end: int) -> list[tuple[int, int, int, int, float, int]]: ...
    def gold_of_days(self) -> dict[int, tuple[int, int]]: ...
    def days_to_compact(self) -> list[int]: ...
    def bronze_records(self) -> Iterator[tuple[int, str, str, int]]: ...
    def last_success_us(self, jobs: Sequence[str], until_us: int) -> int | None: ...
    def outputs(self, folder: str) -> Mapping[str, int]: ...


class RefiningTransaction(RefiningReading, Outlet, Protocol):
    """What the medallion changes in the state."""

    def add_source(self, path: str, identity: str, now_us: int) -> Source: ...
    def save_source(self, source: Source) -> None: ...
    def rename_sources(self, renamed: Iterable[Source]) -> None: ...
    def rewind_sources(self, folder: str) -> None: ...
    def standing(self, task_ids: Iterable[str], origin: int = 0) -> dict[str, Standing]: ...
    def add_tasks(self, rows: Sequence[TaskRow], replaced: Sequence[int] = ()) -> tuple[int, int]: ...
    def first_read_days(self, task_ids: Sequence[str], today: int) -> dict[str, int]: ...
    def note_quarantined(self, path: str, position: int, length: int, reason: str, digest: bytes) -> bool: ...
    def bury(self, dead: Mapping[int, int]) -> None: ...
    def touch_other_days(self, task_ids: Iterable[str], origin: int) -> None: ...
    def extend_day(self, day: int, first_id: int, last_id: int) -> None: ...
    def order_day(self, day: int, source: str, first_offset: int, last_offset: int) -> None: ...
    def silver_lines(self, day: int) -> Iterator[tuple[int, int, int]]: ...
    def bronze_positions(self, day: int) -> Iterator[tuple[int, str, str, int, int, int]]: ...
    def move_lines(self, moved: Iterable[tuple[int, int, int]]) -> None: ...
    def settle_day(self, day: int) -> None: ...
    def gold_written(self, days: Mapping[int, tuple[int, int]]) -> None: ...
    def drop_refined(self, kept: AbstractSet[int]) -> None: ...


class RefiningStore(Protocol):
    """The state, as the medallion uses it."""

    def write(self) -> AbstractContextManager[RefiningTransaction]: ...
    def read(self) -> AbstractContextManager[RefiningReading]: ...


class CollectingReading(Protocol):
    """What the collector asks of the state without changing it."""

    def outputs(self, folder: str) -> Mapping[str, int]: ...


class CollectingTransaction(Outlet, Protocol):
    """What the collector asks of the state and changes in it."""

    def gated(self) -> int: ...
    def set_gated(self, row_id: int) -> None: ...
    def last_task(self) -> int: ...
    def final_tasks(self, after: int, until: int, limit: int, day: int | None = None) -> list[Ungated]: ...
    def lines(self, row_ids: Iterable[int]) -> list[Line]: ...
    def line_of(self, task_id: str) -> Line | None: ...
    def outranked(self, row_ids: Iterable[int]) -> set[int]: ...
    def final_tasks_of(self, task_ids: Iterable[str], until: int) -> list[Ungated]: ...
    def has_scores(self) -> bool: ...
    def labels_of(self, task_ids: Iterable[str]) -> dict[str, float]: ...
    def judged(self, task_ids: Iterable[str]) -> dict[str, Judged]: ...
    def move_score(self, task_id: str, source: int, source_offset: int) -> None: ...
    def to_regate(self, limit: int) -> list[str]: ...
    def regated(self, task_ids: Iterable[str]) -> None: ...
    def any_collected(self) -> bool: ...
    def collected(self, task_ids: Iterable[str]) -> dict[str, Collected]: ...
    def collected_in(self, split: str, day: int) -> list[Collected]: ...
    def put_collected(self, rows: Sequence[Collected]) -> None: ...
    def withdraw(self, task_ids: Iterable[str]) -> None: ...
    def move_collected(self, moved: Iterable[tuple[int, int, str]]) -> None: ...


class CollectingStore(Protocol):
    """The state, as the collector uses it."""

    def write(self) -> AbstractContextManager[CollectingTransaction]: ...
    def read(self) -> AbstractContextManager[CollectingReading]: ...


class RunHandle(Protocol):
    """The run that a job is part of."""

    @property
    def run_id(self) -> str: ...

    def progress(self, done: int, total: int) -> None:
        """Tell how far the run is; the unit is the job's own."""

    def trouble(self, error: BoundaryError) -> None:
        """Tell of a failure that concerns one input and stops nothing."""

    def is_ending(self) -> bool:
        """Tell whether the process is to end, so that nothing new should be begun."""


class BackendError(BoundaryError):
    """A backend of trainings refuses, or does not answer; what it is doing stays as it is known."""

    @classmethod
    def of(cls, error: BoundaryError) -> BackendError:
        """Return what a backend's own error says."""
        return cls(error.operation, error.subject, error.cause, hint=error.hint, retryable=error.retryable)


class JudgeAuthError(BoundaryError):
    """The judge's provider refuses the key, its rights or its account: no call succeeds before a person acts."""

    def __init__(self, operation: str, subject: str, cause: str, *, hint: str) -> None:
        super().__init__(operation, subject, cause, hint=hint, retryable=False)


class JudgeBusyError(BoundaryError):
    """The judge's provider had no answer for as long as is worth waiting in one run.

    ``retry_after_s`` is what it asked for, in seconds; None when it did not say. ``is_free`` tells that nothing can
    have been charged: each try got an error for an answer, or was never sent. Else a connection broke over an ask that
    was sent and has not been answered, and its answer may have been made, and charged, for nobody.
    """

    def __init__(  # noqa: PLR0913 - what is known of a failure, each by its name
        self,
        operation: str,
        subject: str,
        cause: str,
        *,
        retry_after_s: float | None,
        is_free: bool = True,
        hint: str = "The next run tries again",
    ) -> None:
        super().__init__(operation, subject, cause, hint=hint, retryable=True)
        self.retry_after_s = retry_after_s
        self.is_free = is_free


class JudgeMissingError(BoundaryError):
    """The judge's provider does not know a model or a batch, or has the batch's results no more."""

    def __init__(self, operation: str, subject: str, cause: str, *, hint: str) -> None:
        super().__init__(operation, subject, cause, hint=hint, retryable=False)


class JudgeUnsureError(BoundaryError):
    """A batch was sent and no answer came: it may have been taken, so ask ``Judge.recent`` before sending again."""

    def __init__(self, operation: str, subject: str, cause: str) -> None:
        hint = "It may have been taken all the same: the next run looks for it before it sends anything"
        super().__init__(operation, subject, cause, hint=hint, retryable=True)


class Judge(Protocol):
    """Who scores the work of tasks; used within one event loop.

    Every method that asks the provider raises JudgeAuthError, JudgeBusyError, JudgeMissingError or, for anything else,
    BoundaryError.
    """

    async def life(self, model: str) -> ModelLife:
        """Tell where a model is in its life; a name that nobody knows is ``unknown``, no error."""

    def ask_bytes(self, ask: Ask, *, model: str) -> int:
        """Return how many bytes one ask takes in a batch at most; a request is at most their sum plus 64.

        Raises:
            ValueError: the text cannot be sent: it holds half of a surrogate pair.
        """

    def ask(self, asks: Iterable[Ask], *, model: str, concurrency: int) -> AsyncGenerator[Answer | Refusal, None]:
        """Put questions one by one, so many at a time; answers come as they come, each ask's once.

        The asks are taken only as fast as they are answered. What concerns one ask is its Refusal. When the provider
        refuses or fails them all, no further ask is taken, those under way are still answered, for they are paid for,
        and then the error is raised. Leaving early cancels what is under way: use ``contextlib.aclosing``.
        """

    async def submit(self, asks: Sequence[Ask], *, model: str) -> Batch:
        """Send a batch, once: no failure sends it again.

        ``asks`` is counted and gone through twice, to measure and to send: it need not hold its texts in memory.

        Raises:
            ValueError: a key is malformed or used twice, there are no asks or too many, or they are too large.
            JudgeBusyError: it was refused for now, and not taken.
            JudgeUnsureError: it may or may not have been taken.
        """

    def recent(self, since_us: int) -> AsyncGenerator[Batch, None]:
        """Yield the batches created at or after an instant, the latest first; to find one whose id was lost."""

    async def batch(self, batch_id: str) -> Batch:
        """Look at a batch."""

    def results(self, batch_id: str) -> AsyncGenerator[Answer | Refusal, None]:
        """Yield the results of a batch that has ended, in any order, each as it is read."""

    async def cancel(self, batch_id: str) -> None:
        """Ask for the end of a batch; what was answered by then is charged and can be read. Ended already: no error."""

    async def close(self) -> None:
        """Let go of connections."""


class Trainer(Protocol):
    """A backend that makes models. Every call may block; they come from one job's thread at a time.

    An expected refusal is a value: a ``model.training_problems.Problem`` before a job is submitted, a failed job or
    endpoint after. :class:`BoundaryError` means that the answer is not known; ``retryable`` says whether asking again
    may help. After one from ``submit`` or ``deploy`` the job or endpoint may exist or not: asking again with the same
    token is right in either case.
    """

    @property
    def name(self) -> str:
        """What ``training.backend`` calls it."""

    @property
    def trains_here(self) -> bool:
        """Whether ``poll`` does the work of the training, so that it is worth asking again at once."""

    def limits(self, base: str) -> Limits:
        """Return how many examples, and how long ones, the backend takes; asks nobody."""

    def preflight(self, spec: Spec) -> Sequence[Problem]:
        """Return what stands in the way of a spec, before anything is spent or sent."""

    def estimate(self, spec: Spec) -> Estimate:
        """Return what the job will cost and how long it will take."""

    def find(self, token: str) -> RemoteJob | None:
        """Return the job that was submitted under a client token, in whichever state; None when there is none."""

    def submit(self, spec: Spec, token: str) -> RemoteJob:
        """Start a job under a client token, or return the one that was: one token is one job for ever."""

    def poll(self, job_id: str) -> RemoteJob:
        """Return how far a job is. A backend that trains in this process does a part of the work here."""

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job; of one that has ended it changes nothing."""

    def deploy(self, model: ModelRef, token: str) -> Endpoint:
        """Have a model served under a client token, or return the endpoint that was."""

    def poll_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Return how an endpoint stands now; ``gone`` when it is not there."""

    def teardown(self, endpoint: Endpoint) -> None:
        """End an endpoint and what it costs; that it is gone already is no error."""
