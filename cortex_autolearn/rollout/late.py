"""Outcomes that come when their test has ended: kept for its report for a while, they change nothing."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgspec

from cortex_autolearn.model import instants
from cortex_autolearn.ports import BoundaryError, OutputDamagedError
from cortex_autolearn.rollout import outcomes
from cortex_autolearn.rollout.follow import quarantine
from cortex_autolearn.rollout.intake import Silver, Unfit, read_results
from cortex_autolearn.rollout.trials import late_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cortex_autolearn.canonical import Readers
    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.ports import Clock, Files, RunHandle
    from cortex_autolearn.rollout.needs import RolloutStore, RolloutTransaction
    from cortex_autolearn.rollout.outcomes import Reading

LATE_DAYS: Final = 7
_ROWS_AT_ONCE: Final = 5_000


class Late:
    """Takes in what tests that have ended are still told.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        readers: gives the reader of a file's records, for silver that Cortex wrote.
    """

    def __init__(self, store: RolloutStore, files: Files, clock: Clock, readers: Readers) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._readers = readers

    def take(self, run: RunHandle, counts: Counter[str]) -> None:
        """Take in all there is."""
        since_us = self._now_us() - LATE_DAYS * instants.DAY_US
        with self._store.read() as reading:
            ended = reading.experiments(ended_since_us=since_us)
        for test in ended:
            for portion in (self._silver, self._results):
                try:
                    while portion(test.test_id, counts):
                        pass
                except OutputDamagedError:
                    raise  # the medallion mends it
                except BoundaryError as error:
                    run.trouble(error)

    def _silver(self, test_id: str, counts: Counter[str]) -> bool:
        """Take in a portion of silver; tell whether there may be more."""
        with self._store.write() as transaction:
            test = transaction.experiment(test_id)
            assert test is not None
            until, now_us = transaction.last_task(), self._now_us()
            if test.seen >= until:
                return False
            rows = transaction.seen_tasks(test, until, _ROWS_AT_ONCE)
            with closing(Silver(self._files, self._readers)) as silver:
                found = [outcomes.of_silver(silver.record(row), test, now_us) for row in rows]
            counts["late"] += _keep(transaction, test, found)
            reached = until if len(rows) < _ROWS_AT_ONCE else rows[-1].id
            transaction.put_experiment(msgspec.structs.replace(test, seen=reached))
            return reached < until

    def _results(self, test_id: str, counts: Counter[str]) -> bool:
        """Take in a portion of a results file; tell whether there is more."""
        with self._store.write() as transaction:
            test = transaction.experiment(test_id)
            assert test is not None
            found = read_results(self._files, test_id, test.results)
            if found is None:
                return False
            now_us = self._now_us()
            unfit: list[Unfit] = list(found.broken)
            late: list[Reading | None] = []
            for offset, text, fields in found.objects:
                one = outcomes.of_results(fields, test, now_us)
                if isinstance(one, outcomes.Refused):
                    unfit.append(Unfit(offset, len(text), one.reason, text))
                else:
                    late.append(one)
            counts["late"] += _keep(transaction, test, late)
            refused = Counter(test.refused) + quarantine(transaction, test, sorted(unfit), now_us)
            transaction.put_experiment(msgspec.structs.replace(test, results=found.cursor, refused=dict(refused)))
            return found.has_more

    def _now_us(self) -> int:
        return instants.to_us(self._clock.now())


def _keep(transaction: RolloutTransaction, test: Experiment, found: Iterable[Reading | None]) -> int:
    """Keep the outcomes of tasks that had none when the test ended; return how many."""
    late = [late_row(one.outcome) for one in found if isinstance(one, outcomes.Finished)]
    known = transaction.trials_of(test.test_id, [one.task_id for one in late])
    new = [one for one in late if (row := known.get(one.task_id)) is None or row.at_us is None]
    transaction.put_late(test.test_id, new)
    return len(new)
