"""The collector with the state and real files: every final task meets the rule once, good ones join the set.

A step takes a bounded number of tasks in the order in which they came to stand, and commits its cursor together with
the lines it wrote. A task is in the set once, for ever: a later record of it that still passes takes the place of the
line, one that does not takes the task out.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cortex_autolearn.collect import gate, outcome, score
from cortex_autolearn.collect.silver import Silver
from cortex_autolearn.collect.split import split_of
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.ledger import Collected, Line, Ungated
from cortex_autolearn.model.records import SPLITS
from cortex_autolearn.ports import BoundaryError, OutputDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from cortex_autolearn.canonical import Readers
    from cortex_autolearn.model.judging import Judged, Quality
    from cortex_autolearn.model.policy import GatePolicy
    from cortex_autolearn.ports import Clock, CollectingStore, CollectingTransaction, Files, RunHandle

_STEP_TASKS: Final = 10_000
_STEP_BYTES: Final = 16 << 20
_STEP_SCORES: Final = 1_000

_Made = tuple[Line, bytes, bytes]
"""A kept task, its outcome line, and its training example (empty when it has none)."""


@dataclass
class Tally:
    """What one run did; adds up: ``processed = high_quality + rejected + already_collected``."""

    processed: int = 0
    high_quality: int = 0
    training: int = 0
    validation: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    already_collected: int = 0
    withdrawn: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the tally as it is recorded and printed, the commonest reason first."""
        return {**vars(self), "rejected": dict(self.rejected.most_common())}


class Collector:
    """The collector over one ROOT.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        policy: the ``[collect]`` section.
        system_prompt: of the training view's examples.
        readers: gives the reader of a file's records, for silver that Cortex wrote.
    """

    def __init__(
        self,
        store: CollectingStore,
        files: Files,
        clock: Clock,
        policy: GatePolicy,
        system_prompt: str,
        readers: Readers,
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._policy = policy
        self._system_prompt = system_prompt
        self._readers = readers
        self._fresh = False  # nothing was in the set when this run began, so nothing can be replaced or withdrawn

    def run(self, run: RunHandle, *, day: int | None = None, everything: bool = False) -> Tally:
        """Let the rule decide about every final task that has not met it.

        Arguments:
            day: about the tasks of this silver day (YYYYMMDD) only, whatever was decided before.
            everything: about all tasks, whatever was decided before.
        """
        self.mend(run)
        self._readers.refresh()
        tally = Tally()
        with self._store.write() as transaction:
            gated, last = transaction.gated(), transaction.last_task()
            self._fresh = not transaction.any_collected()
        self._sweep(run, tally, 0 if everything or day is not None else gated, last, day)
        self._meet_again(run, tally)
        return tally

    def _sweep(self, run: RunHandle, tally: Tally, after: int, until: int, day: int | None) -> None:
        """Decide about the final tasks with row ids above ``after`` and at most ``until``, step by step."""
        begin = after
        while after < until:
            with self._store.write() as transaction:
                if transaction.gated() > after:
                    self._fresh = False  # another process may have collected meanwhile
                if begin and day is None:
                    after = max(after, transaction.gated())  # another process may have gone on meanwhile
                rows = _portion(transaction.final_tasks(after, until, _STEP_TASKS, day))
                after = rows[-1].id if rows else until
                if rows:
                    with _Step(self, transaction, tally) as step:
                        step.settle(rows)
                    transaction.count_run(run.run_id, tally.as_dict())
                if day is None and after > transaction.gated():
                    transaction.set_gated(after)
            run.progress(after - begin, until - begin)

    def _meet_again(self, run: RunHandle, tally: Tally) -> None:
        """Decide once more about the tasks whose score changed after the rule had met them."""
        self._fresh = False
        while True:
            with self._store.write() as transaction:
                waiting = transaction.to_regate(_STEP_SCORES)
                if not waiting:
                    return
                found = transaction.final_tasks_of(waiting, transaction.gated())
                rows = _portion(found)
                with _Step(self, transaction, tally) as step:
                    step.settle(rows)
                # The others have no final record yet, or one that the sweep is still to meet.
                put_off = {row.task_id for row in found[len(rows) :]}
                transaction.regated(task_id for task_id in waiting if task_id not in put_off)
                transaction.count_run(run.run_id, tally.as_dict())

    def mend(self, run: RunHandle) -> None:
        """Write outcome files again that were removed or cut by somebody else, from the silver they came from."""
        for split in SPLITS:
            for folder in (f"{layout.OUTCOMES}/{split}", f"{layout.TRAINING_VIEW}/{split}"):
                with self._store.read() as reading:
                    outputs = reading.outputs(folder)
                for path, length in outputs.items():
                    if self._files.size(path) < length:
                        self._restore(run, split, path)

    def _restore(self, run: RunHandle, split: str, path: str) -> None:
        with self._store.write() as transaction:
            # Looked at again where nobody else writes: another process may have just replaced it.
            if self._files.size(path) >= transaction.output_length(path):
                return
            with _Step(self, transaction, Tally()) as step:
                lost = step.rewrite(split, layout.day_of_file(path), from_silver=True)
        if lost:
            hint = "Their silver is gone as well (see [retention]): they are in the set, but without their text"
            run.trouble(BoundaryError("write again", path, f"{lost} outcomes are lost", hint=hint, retryable=False))


class _Step:
    """One transaction of a run."""

    def __init__(self, collector: Collector, transaction: CollectingTransaction, tally: Tally) -> None:
        self._files = collector._files
        self._policy = collector._policy
        self._system_prompt = collector._system_prompt
        self._transaction = transaction
        self._tally = tally
        now = collector._clock.now()
        self._now_us = instants.to_us(now)
        self._stamp = instants.to_text(now)
        self._silver = Silver(collector._files, collector._readers)
        self._source = ("", b"")
        self._qualities: dict[str, Quality] = {}
        self._fresh = collector._fresh
        self._gone: dict[tuple[str, int], set[str]] = {}

    def __enter__(self) -> _Step:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def settle(self, rows: list[Ungated]) -> None:
        """Decide about tasks and write what follows from it."""
        tally, policy = self._tally, self._policy
        verdict_of, rejected = gate.verdict, tally.rejected
        outranked = self._transaction.outranked([row.id for row in rows])
        if rows and self._transaction.to_regate(1):
            self._transaction.regated(row.task_id for row in rows if row.id not in outranked)
        rows = self._with_scores(rows, outranked)
        kept: list[int] = []
        failed: list[str] = []
        for row in rows:
            if row.id in outranked:
                continue  # the other origin's record stands for this task
            tally.processed += 1
            verdict = verdict_of(row, policy)
            if verdict is gate.KEPT:
                kept.append(row.id)
            else:
                rejected[verdict] += 1
                failed.append(row.task_id)
        self._drop(failed)
        if kept:
            self._keep(self._transaction.lines(kept))
        self._rewrite_gone({})

    def _with_scores(self, rows: list[Ungated], outranked: AbstractSet[int]) -> list[Ungated]:
        """Return tasks with the scores that count for them, and note which of these are not their own."""
        if not rows or not self._transaction.has_scores():
            return rows
        standing = {row.task_id: row for row in rows if row.id not in outranked}
        labels, judged = self._transaction.labels_of(standing), self._transaction.judged(standing)
        unsure = [standing[one].id for one in judged.keys() - labels.keys() if standing[one].quality is None]
        lines = {line.task_id: line for line in self._transaction.lines(unsure)} if unsure else {}
        for task_id in labels.keys() | lines.keys():
            judge = self._judged(judged[task_id], lines[task_id]) if task_id in lines else None
            quality = score.stands_for(labels.get(task_id), standing[task_id].quality, judge)
            if quality is not None:
                self._qualities[task_id] = quality
        qualities = self._qualities
        return [row._replace(quality=qualities[row.task_id].score) if row.task_id in qualities else row for row in rows]

    def _judged(self, judged: Judged, line: Line) -> float | None:
        """Return the judge's score of a task, if the record that stands holds what was judged."""
        if (judged.source, judged.source_offset) != (line.source, line.source_offset):
            texts = self._silver.texts(line)
            if texts is None or score.digest(texts) != judged.digest:
                return None
            self._transaction.move_score(line.task_id, line.source, line.source_offset)
        return judged.overall

    def rewrite(
        self,
        split: str,
        day: int,
        *,
        without: frozenset[str] = frozenset(),
        adding: Sequence[_Made] = (),
        from_silver: bool = False,
    ) -> int:
        """Write an outcome file and its training view anew: its old lines, or those of silver, and new ones.

        Returns:
            how many lines could not be had any more.
        """
        path = layout.outcomes_file(split, day)
        rows = [row for row in self._transaction.collected_in(split, day) if row.task_id not in without]
        moved: list[tuple[int, int, str]] = []
        with _Handle(self._files.open_input(path)) as old:

            def line_of(row: Collected) -> bytes:
                line = old.at(row.position, row.length)
                if len(line) < row.length and not from_silver:
                    raise OutputDamagedError(path, row.position + row.length, row.position + len(line))
                whole = outcome.is_line_of(line, row.task_id) or not (row.length or from_silver)
                return line if whole else self._line_again(row)

            def lines() -> Iterator[bytes]:
                position = 0
                for row in rows:
                    line = line_of(row)
                    moved.append((position, len(line), row.task_id))
                    position += len(line)
                    yield line
                yield from (line for _, line, _ in adding)

            def views() -> Iterator[bytes]:
                for line in map(line_of, rows):
                    if line:
                        yield outcome.example_line(outcome.texts_of_outcome(line), self._system_prompt)
                yield from (view for _, _, view in adding)

            # Two passes over the old lines, as a day may be too large to hold its views.
            self._transaction.stage(path, lines())
            self._transaction.stage(layout.training_view_file(split, day), views())
        self._transaction.move_collected(moved)
        self._put(split, day, sum(length for _, length, _ in moved), adding)
        return sum(not length for _, length, _ in moved)

    def close(self) -> None:
        """Close the silver file that was read last."""
        self._silver.close()

    def _drop(self, failed: list[str]) -> None:
        """Take tasks that no longer pass out of the set."""
        withdrawn = {} if self._fresh else self._transaction.collected(failed)
        for old in withdrawn.values():
            self._take_out(old)
        self._transaction.withdraw(withdrawn)
        self._tally.withdrawn += len(withdrawn)

    def _keep(self, kept: list[Line]) -> None:
        made: dict[tuple[str, int], list[_Made]] = {}
        tally = self._tally
        before = {} if self._fresh else self._transaction.collected([row.task_id for row in kept])
        for row in kept:
            old = before.get(row.task_id)
            split = split_of(row.task_id, self._policy.training_percent) if old is None else old.split
            texts = self._silver.texts(row)
            if texts is None:  # retention or Cortex took its silver away
                if old is None:
                    tally.rejected[gate.NO_OUTPUT] += 1
                else:
                    tally.already_collected += 1
                continue
            since = self._stamp if old is None else instants.us_to_text(old.collected_us) or ""
            line = self._line(row, texts, split, since)
            if old is None:
                tally.high_quality += 1
                if split == "training":
                    tally.training += 1
                else:
                    tally.validation += 1
            else:
                tally.already_collected += 1
                if self._stands(old, row, line):
                    continue
                self._take_out(old)
            view = outcome.example_line(texts, self._system_prompt)
            made.setdefault((split, row.day), []).append((row, line, view))
        self._rewrite_gone(made)
        for (split, day), lines in made.items():
            position = self._transaction.append(layout.outcomes_file(split, day), [line for _, line, _ in lines])
            self._transaction.append(layout.training_view_file(split, day), [view for _, _, view in lines])
            self._put(split, day, position, lines)

    def _rewrite_gone(self, made: dict[tuple[str, int], list[_Made]]) -> None:
        """Write the files anew that lose a line; those among ``made`` get their new lines with it."""
        gone, self._gone = self._gone, {}
        for (split, day), task_ids in gone.items():
            self.rewrite(split, day, without=frozenset(task_ids), adding=made.pop((split, day), ()))

    def _put(self, split: str, day: int, position: int, made: Sequence[_Made]) -> None:
        rows = []
        for row, line, view in made:
            source = (row.source_path, row.source_offset)
            rows.append(Collected(row.task_id, split, day, position, len(line), *source, len(view), self._now_us))
            position += len(line)
        self._transaction.put_collected(rows)

    def _take_out(self, old: Collected) -> None:
        self._gone.setdefault((old.split, old.day), set()).add(old.task_id)

    def _stands(self, old: Collected, row: Line, line: bytes) -> bool:
        """Tell whether the set holds this very outcome already."""
        if (old.source, old.source_offset, old.day) != (row.source_path, row.source_offset, row.day):
            return False
        with _Handle(self._files.open_input(layout.outcomes_file(old.split, old.day))) as handle:
            return outcome.same_outcome(line, handle.at(old.position, old.length))

    def _line(self, row: Line, texts: outcome.Texts, split: str, collected_at: str) -> bytes:
        if self._source[0] != row.source_path:
            self._source = (row.source_path, outcome.as_json(row.source_path))
        quality = self._qualities.get(row.task_id)
        if quality is not None:
            texts = outcome.with_quality(texts, *quality)
        return outcome.outcome_line(
            texts, split=split, collected_at=collected_at, file=self._source[1], offset=row.source_offset
        )

    def _line_again(self, old: Collected) -> bytes:
        row = self._transaction.line_of(old.task_id)
        texts = None if row is None else self._silver.texts(row)
        if row is None or texts is None:
            return b""
        found = self._transaction.final_tasks_of([old.task_id], row.id)
        self._with_scores([one for one in found if one.id == row.id], frozenset())
        return self._line(row, texts, old.split, instants.us_to_text(old.collected_us) or "")


def _portion(rows: list[Ungated]) -> list[Ungated]:
    """Return the first of these rows: as many as have no more silver than a step may hold, but at least one."""
    total = 0
    for number, row in enumerate(rows):
        total += row.length
        if total > _STEP_BYTES and number:
            return rows[:number]
    return rows


class _Handle:
    """An open file, or one that is gone and holds nothing."""

    def __init__(self, handle: BinaryIO | None) -> None:
        self._handle = handle

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.close()

    def at(self, position: int, length: int) -> bytes:
        """Return the bytes at a position."""
        return b"" if self._handle is None else os.pread(self._handle.fileno(), length, position)
