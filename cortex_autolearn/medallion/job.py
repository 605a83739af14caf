"""The medallion with real files: what is new in bronze becomes silver, changed days become gold.

Every step commits together what belongs together, so a kill at any line loses nothing and the next run continues
there. Silver that Cortex wrote itself is taken in here as well, as it stands: only its tasks are noted.
"""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import orjson

from cortex_autolearn.medallion import bronze, gold, silver
from cortex_autolearn.medallion.follow import Counts, Follower
from cortex_autolearn.medallion.lines import Lines
from cortex_autolearn.medallion.settle import Adopting, Refining
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.quarantine import content_digest
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from cortex_autolearn.canonical import Readers
    from cortex_autolearn.model.policy import MedallionPolicy
    from cortex_autolearn.ports import Clock, Files, RefiningReading, RefiningStore, RefiningTransaction, RunHandle

_MOVES_AT_ONCE: Final = 10_000


class Medallion:
    """The medallion over one ROOT.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        policy: the ``[medallion]`` section.
        readers: gives the reader of a file's records.
    """

    def __init__(
        self, store: RefiningStore, files: Files, clock: Clock, policy: MedallionPolicy, readers: Readers
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._readers = readers
        self._max_record_bytes = policy.max_record_bytes
        limits = {"tail_grace_s": policy.tail_grace_s, "max_object_bytes": policy.max_record_bytes}
        self._bronze = Follower(store, files, clock, folder=layout.BRONZE, wanted=lambda _: True, **limits)
        self._foreign = Follower(store, files, clock, folder=layout.SILVER, wanted=_is_foreign, **limits)

    def follow(self, run: RunHandle) -> Counts:
        """Refine what is new in bronze into silver."""
        self.mend()
        self._readers.refresh()
        counts = Counts()
        refining = Refining(self._clock, counts, self._readers, self._files)
        self._bronze.run(run, counts, refining)
        return counts

    def adopt(self, run: RunHandle) -> Counts:
        """Take note of the tasks in silver files that Cortex wrote."""
        self._readers.refresh()
        counts = Counts()
        adopting = Adopting(self._clock, counts, self._readers)
        self._foreign.run(run, counts, adopting)
        return counts

    def taken_in_us(self) -> int:
        """Return the instant up to which what the fleet wrote is known here: now, while nothing waits to be read."""
        known_us = now_us = instants.to_us(self._clock.now())
        for follower, jobs in ((self._bronze, ("silver", "medallion")), (self._foreign, ("collection",))):
            try:
                is_behind = follower.has_unread()
            except BoundaryError:
                is_behind = True  # the job that reads it tells of it
            if is_behind:
                with self._store.read() as reading:
                    known_us = min(known_us, reading.last_success_us(jobs, now_us) or 0)
        return known_us

    def rebuild(self, run: RunHandle) -> Counts:
        """Read bronze from its beginning again and replace silver and quarantine; gold follows with the next step.

        What cannot be read again stays as it is: records of files that are gone (by ``retention.bronze_days``, say),
        were cut, replaced, or cannot be read now.
        """
        self._readers.refresh()
        with self._store.read() as reading:  # as long as reading all of bronze: nobody else may have to wait for that
            kept = self._unrepeatable(reading)
        with self._store.write() as transaction:
            transaction.drop_refined(kept)
            transaction.rewind_sources(layout.BRONZE)
            for path in transaction.outputs(layout.SILVER):
                self._compact_day(transaction, layout.day_of_file(path))
            for path in transaction.outputs(layout.QUARANTINE):
                with Lines(self._files, path) as lines:
                    transaction.stage(path, self._kept(transaction, lines))
        return self.follow(run)

    def _unrepeatable(self, reading: RefiningReading) -> set[int]:
        """Return the rows whose record does not stand where it stood when it was read."""
        refiner = silver.Refiner(instants.to_text(self._clock.now()))
        kept: set[int] = set()
        for path, rows in groupby(reading.bronze_records(), key=itemgetter(2)):
            try:
                records = Lines(self._files, path, self._max_record_bytes)
            except BoundaryError:
                kept.update(row_id for row_id, *_ in rows)
                continue
            with records:
                reader = self._readers.of(path)
                kept.update(
                    row_id
                    for row_id, task_id, _, offset in rows
                    if not records.refine(offset, task_id, reader, refiner)
                )
        return kept

    def _kept(self, transaction: RefiningTransaction, lines: Lines) -> Iterator[bytes]:
        """Yield the quarantine lines that a rebuild keeps, and note them: what is read again is not kept twice."""
        for line in lines:
            found = silver.quarantined(line)
            if found is not None and self._is_unrepeatable(found):
                digest = content_digest(found.text)
                transaction.note_quarantined(found.path, found.offset, found.length, found.reason, digest)
                yield line

    def _is_unrepeatable(self, found: silver.Quarantined) -> bool:
        """Tell whether what a quarantine line keeps does not stand in its file any more, or may not."""
        if not found.path.startswith(f"{layout.BRONZE}/"):
            return True  # another room's, which does not read it again
        if found.text is None or len(found.text) != found.length:
            return True
        try:
            with Lines(self._files, found.path) as lines:
                return lines.at(found.offset, found.length) != found.text
        except BoundaryError:
            return True

    def compact(self, run: RunHandle) -> list[int]:
        """Take superseded lines out of our silver files and put them in the order of their sources.

        Returns:
            the days whose file was written anew.
        """
        with self._store.read() as reading:
            days = reading.days_to_compact()
        for done, day in enumerate(days):
            with self._store.write() as transaction:
                self._compact_day(transaction, day)
            run.progress(done + 1, len(days))
        return days

    def write_gold(self, run: RunHandle, days: Sequence[int] | None = None) -> list[int]:
        """Write analytics and reports of the days that changed, or of the given days, and the KPIs up to today.

        Returns:
            the days that were written.
        """
        generated_at = instants.to_text(self._clock.now())
        with self._store.read() as reading:
            known = reading.gold_of_days()
        sizes = self._gold_bytes()
        due = [day for day, (changes, size) in known.items() if changes or sizes.get(day, 0) != size]
        chosen = due if days is None else sorted(days)
        for done, day in enumerate(chosen):
            self._write_day(day, generated_at)
            run.progress(done + 1, len(chosen))
        if chosen:
            sizes = self._gold_bytes()
            with self._store.write() as transaction:
                transaction.gold_written({day: (known.get(day, (0, 0))[0], sizes.get(day, 0)) for day in chosen})
        today = self._clock.now().date()
        if days is None:
            first = today - timedelta(days=gold.KPI_DAYS - 1)
            self.write_kpis(int(f"{first:%Y%m%d}"), int(f"{today:%Y%m%d}"))
        elif chosen:
            self.write_kpis(chosen[0], chosen[-1])
        return chosen

    def write_kpis(self, start: int, end: int) -> None:
        """Write the KPIs over a range of days, both YYYYMMDD and included."""
        with self._store.read() as reading:
            totals = reading.range_totals(start, end)
        content = gold.kpis(start, end, totals, instants.to_text(self._clock.now()))
        self._files.replace(layout.kpis_file(start, end), _pretty(content))

    def mend(self, damaged: str | None = None) -> list[int]:
        """Write silver files again that were removed or cut by somebody else, from the bronze they came from.

        Of quarantine files what is left of them is kept.

        Arguments:
            damaged: a silver file that was found not to hold what was written, whatever its size.

        Returns:
            the days that were mended.
        """
        with self._store.read() as reading:
            torn = self._short(reading.outputs(layout.QUARANTINE))
            suspects = self._short(reading.outputs(layout.SILVER), damaged)
        for path in torn:
            with self._store.write() as transaction, Lines(self._files, path) as lines:
                if self._files.size(path) < transaction.output_length(path):
                    transaction.stage(path, (line for line in lines if silver.quarantined(line) is not None))
        mended = []
        for path in suspects:
            with self._store.write() as transaction:
                # Looked at again where nobody else writes: another process may have just replaced it.
                if path == damaged or self._files.size(path) < transaction.output_length(path):
                    self._restore_day(transaction, layout.day_of_file(path))
                    mended.append(layout.day_of_file(path))
        return mended

    def _short(self, outputs: Mapping[str, int], damaged: str | None = None) -> list[str]:
        return [path for path, length in outputs.items() if path == damaged or self._files.size(path) < length]

    def _compact_day(self, transaction: RefiningTransaction, day: int) -> None:
        path = layout.silver_file(day)
        if self._files.size(path) < transaction.output_length(path):
            self._restore_day(transaction, day)  # which leaves it compact
            return
        moves: list[tuple[int, int, int]] = []
        with Lines(self._files, path) as lines:
            transaction.stage(path, lines.gather(_moving(transaction, day, moves)))
        transaction.move_lines(moves)
        transaction.settle_day(day)

    def _restore_day(self, transaction: RefiningTransaction, day: int) -> None:
        """Make a day's silver file anew: of the lines that are left, else of bronze; of neither, without that line."""
        self._readers.refresh()
        refiner = silver.Refiner(instants.to_text(self._clock.now()))
        path = layout.silver_file(day)
        moves: list[tuple[int, int, int]] = []

        def lines() -> Generator[bytes, None, None]:
            target = 0
            with Lines(self._files, path) as left:
                for source, rows in groupby(transaction.bronze_positions(day), key=lambda row: row[2]):
                    with Lines(self._files, source, self._max_record_bytes) as records:
                        for row_id, task_id, _, offset, position, length in rows:
                            line = left.at(position, length)
                            if not silver.is_line_of(line, task_id):
                                line = records.refine(offset, task_id, self._readers.of(source), refiner)
                            moves.append((target, len(line), row_id))
                            target += len(line)
                            yield line

        with closing(lines()) as made:
            transaction.stage(path, made)
        transaction.move_lines(moves)
        transaction.settle_day(day)

    def _gold_bytes(self) -> dict[int, int]:
        """Return for each day how many bytes of analytics and reports there are: some are missing when that changes."""
        sizes: dict[int, int] = {}
        for folder in (layout.ANALYTICS, layout.REPORTS):
            for entry in self._files.entries(folder, ".json"):
                day = bronze.day_in_name(entry.relative[-13:])
                if day is not None:
                    sizes[day] = sizes.get(day, 0) + entry.size
        return sizes

    def _write_day(self, day: int, generated_at: str) -> None:
        name = layout.day_text(day)
        written = set()
        with self._store.read() as reading:
            totals, durations = reading.day_sums(day)
            sums = gold.Day(day, totals)
            for master, tasks in groupby(reading.day_tasks(day), key=itemgetter(0)):
                path = layout.report_file(master, day)
                self._files.replace(path, gold.report_bytes(sums.report_head(master, generated_at), tasks))
                written.add(path)
            analytics = sums.analytics(durations, generated_at)
        for entry in self._files.entries(layout.REPORTS, f"-{name}.json"):
            if entry.relative not in written and self._is_our_report(entry.relative, day):
                self._files.remove(entry.relative)
        self._files.replace(layout.analytics_file(day), _pretty(analytics))

    def _is_our_report(self, path: str, day: int) -> bool:
        """Tell whether a report is one that we wrote; what cannot be read is left alone."""
        try:
            with Lines(self._files, path) as lines:
                return gold.is_report(lines.at(0, gold.REPORT_HEAD_BYTES), path, day)
        except (BoundaryError, OSError):
            return False


def _moving(transaction: RefiningTransaction, day: int, moves: list[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Yield where a day's living lines stand, and note where each one moves to."""
    target = 0
    for row_id, position, length in transaction.silver_lines(day):
        if position != target:
            moves.append((target, length, row_id))
            if len(moves) >= _MOVES_AT_ONCE:
                transaction.move_lines(moves)
                moves.clear()
        target += length
        yield position, length


def _pretty(content: object) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _is_foreign(path: str) -> bool:
    return not path.endswith(layout.OWN_SILVER_SUFFIX)
