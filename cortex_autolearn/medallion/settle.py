"""Which record of a task stands, and what follows from it: the two intakes of the medallion.

:class:`Refining` takes bronze and writes silver lines, :class:`Adopting` takes silver that Cortex wrote and only notes
its tasks; what is broken goes to the quarantine from either. Both settle a step inside the transaction that moves the
cursor.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.jsonstream import Broken
from cortex_autolearn.medallion import bronze, silver
from cortex_autolearn.medallion.lines import Lines
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.ledger import BRONZE_ORIGIN, SILVER_ORIGIN
from cortex_autolearn.model.quarantine import content_digest, quarantine_line
from cortex_autolearn.model.records import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cortex_autolearn.canonical import Readers, TaskReader
    from cortex_autolearn.jsonstream import Object
    from cortex_autolearn.medallion.follow import Counts
    from cortex_autolearn.medallion.silver import Refined, Unfit
    from cortex_autolearn.model.ledger import Source, Standing, TaskRow
    from cortex_autolearn.model.records import Task
    from cortex_autolearn.ports import Clock, Files, RefiningTransaction


_LINE: Final = itemgetter(5)


class _Taken(NamedTuple):
    """A task in a silver file of Cortex's, and where it stands."""

    offset: int
    length: int
    task: Task


class Refining:
    """Settles one run's steps of bronze: which record stands, where its line goes, what is quarantined."""

    def __init__(self, clock: Clock, counts: Counts, readers: Readers, files: Files) -> None:
        now = clock.now()
        self._refiner = silver.Refiner(instants.to_text(now))
        self._today = instants.day_number(now)
        self._counts = counts
        self._readers = readers
        self._files = files
        self._names: dict[int, str] = {}
        self._began: dict[int, int] = {}

    def batch(self, path: str) -> _Records:
        """Begin to take records of a file."""
        return _Records(self, path)

    def refine(self, path: str, items: list[Object | Broken]) -> tuple[list[Refined], list[Unfit]]:
        """Make silver lines of a file's next objects."""
        return self._refiner.refine(items, self._readers.of(path))

    def settle(
        self, transaction: RefiningTransaction, source: Source, refined: list[Refined], unfit: list[Unfit]
    ) -> None:
        """Append the silver lines of a batch and note their tasks."""
        standing = silver.latest(refined)
        counts = self._counts
        counts.quarantined += len(unfit)
        _quarantine(transaction, source.path, unfit, self._today)
        objects = sum(one.is_object for one in unfit)
        counts.quarantined_objects += objects
        counts.objects += len(refined) + objects
        counts.superseded += len(refined) - len(standing)
        if standing:
            self._place(transaction, source, standing)

    def _place(self, transaction: RefiningTransaction, source: Source, standing: dict[str, Refined]) -> None:
        before = transaction.standing(standing)
        replaced: list[Standing] = []
        by_day: dict[int, list[Refined]] = {}
        undated: dict[str, int] | None = None
        for task_id, one in standing.items():
            if before and (old := before.get(task_id)) is not None:
                if not self._supersedes(transaction, source, one, old):
                    self._counts.superseded += 1
                    continue
                replaced.append(old)
            day = one[3]
            if day is None:
                undated = self._undated(transaction, source, standing) if undated is None else undated
                day = undated[task_id]
            lines = by_day.get(day)
            if lines is None:
                by_day[day] = [one]
            else:
                lines.append(one)
        self._bury(transaction, replaced)
        self._append(transaction, source, by_day, [old.id for old in replaced])

    def _append(
        self, transaction: RefiningTransaction, source: Source, by_day: dict[int, list[Refined]], replaced: list[int]
    ) -> None:
        rows: list[TaskRow] = []
        for day, placed in by_day.items():
            path = layout.silver_file(day)
            if day not in self._began:
                self._began[day] = transaction.output_length(path)
            position = transaction.append(path, list(map(_LINE, placed)))
            for task_id, final, rank_us, _, offset, line, facts in placed:
                length = len(line)
                rows.append((task_id, BRONZE_ORIGIN, final, rank_us, source.id, offset, day, position, length, *facts))
                position += length
        first, _ = transaction.add_tasks(rows, replaced)
        for day, placed in by_day.items():
            transaction.extend_day(day, first, first + len(placed) - 1)
            transaction.order_day(day, source.path, placed[0][4], placed[-1][4])
            first += len(placed)
        transaction.touch_other_days((row[0] for row in rows), BRONZE_ORIGIN)
        self._counts.silver += len(rows)
        self._counts.days.update(by_day)

    def _bury(self, transaction: RefiningTransaction, replaced: list[Standing]) -> None:
        """Note that lines are dead; one that this very run wrote counts as superseded, not as silver."""
        dead: dict[int, int] = {}
        for old in replaced:
            dead[old.day] = dead.get(old.day, 0) + old.length
            if old.length and old.position >= self._began.get(old.day, 1 << 62):
                self._counts.silver -= 1
                self._counts.superseded += 1
        transaction.bury(dead)
        self._counts.days.update(dead)

    def _supersedes(self, transaction: RefiningTransaction, source: Source, one: Refined, old: Standing) -> bool:
        new_key, old_key = one[1:3], (bool(old.final), old.rank_us)
        if new_key != old_key:
            return new_key > old_key
        if old.source != source.id:
            if old.source not in self._names:
                self._names = transaction.source_names()
            return source.path > self._names[old.source]
        if old.source_offset != one[4]:
            return True  # further on in the file, or the file was written anew and this is where it stands now
        # The same place, read again: nothing new, unless the file was written anew in between.
        with Lines(self._files, layout.silver_file(old.day)) as lines:
            return not silver.same_line(one[5], lines.at(old.position, old.length), self._refiner.processed_at)

    def _undated(
        self, transaction: RefiningTransaction, source: Source, standing: dict[str, Refined]
    ) -> dict[str, int]:
        """Return the days of the records without a date: the one in the file's name, else the day first read."""
        task_ids = [task_id for task_id, one in standing.items() if one[3] is None]
        if not task_ids:
            return {}
        named = bronze.day_in_name(source.path)
        if named is not None:
            return dict.fromkeys(task_ids, named)
        return transaction.first_read_days(task_ids, self._today)


class _Records:
    """Records of one bronze file on their way into silver."""

    def __init__(self, refining: Refining, path: str) -> None:
        self._refining = refining
        self._path = path
        self._refined: list[Refined] = []
        self._unfit: list[Unfit] = []

    def take(self, items: list[Object | Broken]) -> None:
        """Make silver lines of the file's next objects."""
        refined, unfit = self._refining.refine(self._path, items)
        self._refined += refined
        self._unfit += unfit

    def settle(self, transaction: RefiningTransaction, source: Source) -> None:
        """Append the lines and note their tasks."""
        self._refining.settle(transaction, source, self._refined, self._unfit)


class Adopting:
    """Settles one run's steps of silver that Cortex wrote: only rows, no lines of ours but in the quarantine."""

    def __init__(self, clock: Clock, counts: Counts, readers: Readers) -> None:
        self._today = instants.day_number(clock.now())
        self._counts = counts
        self._readers = readers
        self._names: dict[int, str] = {}

    def batch(self, path: str) -> _Tasks:
        """Begin to take tasks of a file."""
        return _Tasks(self._readers.of(path), self._counts, self.settle)

    def settle(
        self, transaction: RefiningTransaction, source: Source, taken: dict[str, _Taken], unfit: list[Unfit]
    ) -> None:
        """Note the tasks of a batch, and keep what is broken."""
        _quarantine(transaction, source.path, unfit, self._today)
        before = transaction.standing(taken, SILVER_ORIGIN)
        named = bronze.day_in_name(source.path)
        rows: list[TaskRow] = []
        replaced: list[int] = []
        touched: dict[int, int] = {}
        for task_id, (offset, length, task) in taken.items():
            old = before.get(task_id)
            if old is not None:
                if not self._supersedes(transaction, source, task, old):
                    continue
                replaced.append(old.id)
                touched[old.day] = 0
            day = task.day or named or transaction.first_read_days([task_id], self._today)[task_id]
            key = (task_id, SILVER_ORIGIN, int(task.final), task.rank_us)
            rows.append((*key, source.id, offset, day, offset, length, *silver.facts(task)))
        transaction.bury(touched)
        first, _ = transaction.add_tasks(rows, replaced)
        for number, row in enumerate(rows):
            transaction.extend_day(row[6], first + number, first + number)
        transaction.touch_other_days((row[0] for row in rows), SILVER_ORIGIN)
        self._counts.days.update(touched, (row[6] for row in rows))
        self._counts.silver += len(rows)
        self._counts.superseded += len(taken) - len(rows)

    def _supersedes(self, transaction: RefiningTransaction, source: Source, task: Task, old: Standing) -> bool:
        new_key, old_key = (task.final, task.rank_us), (bool(old.final), old.rank_us)
        if new_key != old_key or old.source == source.id:
            return new_key >= old_key  # in the same file, what stands there now
        if old.source not in self._names:
            self._names = transaction.source_names()
        return source.path > self._names[old.source]


class _Tasks:
    """Tasks of one silver file that Cortex wrote, and what is broken there."""

    def __init__(
        self,
        reader: TaskReader,
        counts: Counts,
        settle: Callable[[RefiningTransaction, Source, dict[str, _Taken], list[Unfit]], None],
    ) -> None:
        self._reader = reader
        self._counts = counts
        self._settle = settle
        self._taken: dict[str, _Taken] = {}
        self._unfit: list[Unfit] = []

    def take(self, items: list[Object | Broken]) -> None:
        """Read the tasks among the file's next objects."""
        counts = self._counts
        for item in items:
            if isinstance(item, Broken):
                counts.quarantined += 1
                self._unfit.append(silver.broken(item))
                continue
            counts.objects += 1
            task = self._reader.read(item[1], item[2])
            if isinstance(task, Rejected):
                counts.quarantined += 1
                counts.quarantined_objects += 1
                self._unfit.append(silver.rejected(item, task))
                continue
            other = self._taken.get(task.canonical.task_id)
            if other is not None:
                counts.superseded += 1
            if other is None or (task.final, task.rank_us) >= (other.task.final, other.task.rank_us):
                self._taken[task.canonical.task_id] = _Taken(item[0], len(item[1]), task)

    def settle(self, transaction: RefiningTransaction, source: Source) -> None:
        """Note the tasks, and keep what is broken."""
        self._settle(transaction, source, self._taken, self._unfit)


def _quarantine(transaction: RefiningTransaction, path: str, unfit: Iterable[Unfit], today: int) -> None:
    """Keep what cannot be read, once: a file that is read again brings the same stretches again."""
    lines = [
        quarantine_line(path, one.offset, one.length, one.reason, one.text)
        for one in unfit
        if transaction.note_quarantined(path, one.offset, one.length, one.reason, content_digest(one.text))
    ]
    if lines:
        transaction.append(layout.quarantine_file(today), b"".join(lines))
