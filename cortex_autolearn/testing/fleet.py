"""A seeded, simulated Cortex fleet: what it appends to bronze, when, and what must come of it.

``Fleet`` decides what arrives when. The words are in ``work``, a task's records in ``life``, their JSON in ``shapes``,
what spoils them in ``blemishes``, and the oracle in ``facts``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cortex_autolearn.model import layout
from cortex_autolearn.testing.blemishes import KINDS, spoil
from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.facts import Expected, Write, expect
from cortex_autolearn.testing.life import LONGEST_LIFE, SKILLS, Task, live
from cortex_autolearn.testing.shapes import draw_hand
from cortex_autolearn.testing.work import MASTERS, compose

_DAY = timedelta(days=1)

# The fleet never sleeps, but the people who feed it do; their office hours are those of America's middle.
_BUSY_HOURS_UTC = range(14, 24)

_TASKS_PER_BLEMISH = 20


class Fleet:
    """A fleet whose every byte follows from its arguments, on any Python.

    Arguments:
        seed: names the world; two seeds have nothing in common.
        tasks_per_day: how many tasks are created each day, exactly. Their records may arrive on later days.
        start: the beginning of day 0, aware and in UTC.
        masters: who works, each alike likely; any of :data:`~cortex_autolearn.testing.MASTERS`.

    Raises:
        ValueError: an argument is outside of what is said here.
    """

    def __init__(
        self, seed: int, *, start: datetime, tasks_per_day: int = 80, masters: Sequence[str] = MASTERS
    ) -> None:
        if start.utcoffset() != timedelta(0):
            raise ValueError(f"a fleet starts at an aware UTC instant, not at {start!r}")
        if tasks_per_day < 1:
            raise ValueError(f"tasks_per_day is 1 or more, not {tasks_per_day}")
        unknown = sorted(set(masters) - set(MASTERS))
        if unknown or not masters:
            raise ValueError(f"masters are some of {', '.join(MASTERS)}, not {', '.join(unknown) or 'none'}")
        self._seed = seed
        self._start = start
        self._tasks_per_day = tasks_per_day
        self._masters = tuple(masters)
        self._lives: dict[int, list[Write]] = {}

    def tasks(self, day: int) -> list[Task]:
        """Return the tasks created on ``day`` (0 is the first), by time of creation."""
        drawn = [self._task(day, number) for number in range(self._tasks_per_day)]
        return sorted(drawn, key=lambda task: task.created_at)

    def day(self, day: int) -> list[Write]:
        """Return what is appended on ``day`` (0 is the first), in order; records of earlier tasks are among it."""
        if day < 0:
            raise ValueError(f"the first day is 0, not {day}")
        begins, ends = self._start + day * _DAY, self._start + (day + 1) * _DAY
        oldest = max(0, day - LONGEST_LIFE // _DAY)
        for gone in [cached for cached in self._lives if cached < oldest]:
            del self._lives[gone]
        arriving = [write for born in range(oldest, day + 1) for write in self._life(born) if begins <= write.at < ends]
        arriving.sort(key=lambda write: write.at)
        return self._blemished(day, arriving, ends)

    def writes(self, days: int) -> Iterator[Write]:
        """Yield what is appended on the first ``days`` days, in order."""
        for day in range(days):
            yield from self.day(day)

    def expected(self, days: int) -> Expected:
        """Return what must have come of the first ``days`` days once all of it is read."""
        return expect(self.writes(days))

    def _task(self, day: int, number: int) -> Task:
        dice = Dice(self._seed, "task", day, number)
        hour = dice.weighted([(hour, 3.0 if self._busy(hour) else 1.0) for hour in range(24)])
        created_at = self._start + day * _DAY + timedelta(hours=hour, milliseconds=dice.between(0, 3_599_999))
        master = dice.pick(self._masters)
        brief = compose(dice, master)
        hand = draw_hand(dice, brief.title)
        if hand.times != "fraction":
            created_at = created_at.replace(microsecond=0)
        epoch = int(created_at.timestamp())
        prefix = dice.weighted((("task", 6), (f"{master.removesuffix('-master')}-task", 3), ("sched", 1)))
        return Task(
            task_id=f"{prefix}-{epoch}-{dice.digits(4)}{number:04x}",
            master=master,
            brief=brief,
            hand=hand,
            created_at=created_at,
            skill=dice.weighted([(skill, skill.share) for skill in SKILLS]),
        )

    def _busy(self, hour: int) -> bool:
        return (self._start.hour + hour) % 24 in _BUSY_HOURS_UTC

    def _life(self, day: int) -> list[Write]:
        """Return the writes about the tasks created on ``day``, task by task, on whatever day they arrive."""
        if day not in self._lives:
            self._lives[day] = [
                write for task in self.tasks(day) for write in live(Dice(self._seed, "life", task.task_id), task)
            ]
        return self._lives[day]

    def _blemished(self, day: int, writes: list[Write], ends: datetime) -> list[Write]:
        """Return the day's writes with its blemishes: as many each day, and each kind in its turn."""
        count = max(1, self._tasks_per_day // _TASKS_PER_BLEMISH)
        dice = Dice(self._seed, "blemishes", day)
        befallen: dict[int, int] = {}
        for number in range(min(count, len(writes))):
            first, last = number * len(writes) // count, (number + 1) * len(writes) // count - 1
            befallen[dice.between(first, max(first, last))] = number

        result: list[Write] = []
        for place, write in enumerate(writes):
            if place not in befallen:
                result.append(write)
                continue
            number = befallen[place]
            kind = KINDS[(day * count + number) % len(KINDS)]
            after = writes[place + 1].at if place + 1 < len(writes) else ends
            result += spoil(dice, kind, write, gap=after - write.at, number=number)
        return result


def append(root: Path, write: Write) -> None:
    """Append ``write`` to its bronze file below ``root``, as the fleet would: no fsync, no lock."""
    folder = root / layout.BRONZE
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / write.file).open("ab") as file:
        file.write(write.data)
