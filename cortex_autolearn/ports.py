"""What the rooms ask of the outside world, and how the outside world says no.

Protocols are implemented by ``adapters`` and, for tests and demos, by ``testing``. Nothing is imported from either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager
    from datetime import datetime

    from cortex_autolearn.model.ledger import Collected, DayTask, Line, Source, Standing, TaskRow, Ungated


class BoundaryError(Exception):
    """A failure at a boundary: a file, the database, a provider.

    Arguments:
        operation: what was attempted, as a verb phrase ("append to silver").
        subject: what it was done to (a path, a URL, a table).
        cause: what came back, in the words of whoever refused.
        hint: what a person can do about it.
        retryable: whether the same call may succeed later without a person's help.
    """

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
    def extend_day(self, day: int, first_id: int, last_id: int) -> None: ...
    def order_day(self, day: int, source: str, first_offset: int, last_offset: int) -> None: ...
    def silver_lines(self, day: int) -> Iterator[tuple[int, int, int]]: ...
    def bronze_positions(self, day: int) -> Iterator[tuple[int, str, str, int, int, int]]: ...
    def move_lines(self, moved: Iterable[tuple[int, int, int]]) -> None: ...
    def settle_day(self, day: int) -> None: ...
    def gold_written(self, days: Mapping[int, tuple[int, int]]) -> None: ...
    def bronze_records(self) -> Iterator[tuple[int, str, str, int]]: ...
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
