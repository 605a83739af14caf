"""The mission, days 1 to 25: a simulated fleet beside the real daemon, on a clock that leaps.

Two shifts a day. Before each the agents ask the router for every task of the shift; the clock leaps to its end and
stands until the daemon has done what is due; then the agents record what they did, all at once, and the clock stands
until the daemon has done that, too. So what is counted and decided follows from the seed, whatever the machine's speed.
What must come of the records is known to the agents, and is compared with the files in the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cortex_autolearn.demo import story
from cortex_autolearn.demo.account import accounting, differences, totals
from cortex_autolearn.demo.leap import LeapingTime
from cortex_autolearn.demo.places import written
from cortex_autolearn.demo.session import application, running
from cortex_autolearn.testing import ScriptedJudge
from cortex_autolearn.testing.agents import Ability, Agents, by_thoroughness
from cortex_autolearn.testing.judge import MODEL

if TYPE_CHECKING:
    from cortex_autolearn.demo.session import Session
    from cortex_autolearn.wiring import App

MASTER: Final = "development-master"
"""The master whose models are tested here."""

_OTHERS: Final = {"security-master": 5, "inventory-master": 7.5}
"""The masters beside it, each with the tasks for one of theirs."""
_NIGHT_H: Final = (2, 3)
_SHIFTS_H: Final = (14, 24)
_ENDS_H: Final = (1, 2)

_USUAL: Final = Ability("usual", completes=0.86, excels=0.62)
_BETTER: Final = Ability("better", completes=0.97, excels=0.88)
_BAD: Final = Ability("bad", completes=0.80, excels=0.75)
_LATER: Final = Ability("as good as the first one", completes=0.97, excels=0.88)
_TRAINED: Final = (_BETTER, _BAD)

SETTINGS: Final[dict[str, object]] = {
    "schedule.timezone": "UTC",
    "rollout.masters": [MASTER],
    "judge.model": MODEL,
    "judge.prices": [
        {
            "model": MODEL,
            "since": "2025-01-01",
            "input_usd_per_mtok": 0.0,
            "cache_write_usd_per_mtok": 0.0,
            "cache_read_usd_per_mtok": 0.0,
            "output_usd_per_mtok": 0.0,
        }
    ],
}
"""The settings that differ from the defaults; all are told."""

Say = Callable[[str], None]


def simulate(  # noqa: PLR0913 - options, by keyword only
    root: Path, *, days: int, tasks_per_day: int, seed: int, say: Say, progress: Say
) -> bool:
    """Let a simulated fleet and the daemon live for some days, and tell whether all came out as it must.

    Arguments:
        root: from :func:`~cortex_autolearn.demo.prepare`.
        days: how many days the fleet works; they end the day before yesterday.
        tasks_per_day: how many tasks come in each day.
        seed: names the fleet; the same seed gives the same counts and decisions.
        say: prints lines that stay.
        progress: shows how far it is, until the next line.
    """
    began = time.monotonic()
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days + 1)
    shares = _shares(tasks_per_day)
    models = _Models()
    say(_opening(root, days=days, shares=shares, seed=seed))
    clock, judge = LeapingTime(start), ScriptedJudge(by_thoroughness)
    with application(root, clock=clock, environ={}, flags=SETTINGS, judge=lambda: judge) as app:
        agents = Agents(root, seed, start=start, tasks_per_day=shares, ability=models.ability)
        told = story.Story(app, start, models.words)
        life = _Life(app, clock, agents, told, say, progress)
        asyncio.run(life.live(start, days))
        found, expected = totals(app), agents.expected()
        with app.store.read() as reading:
            left = reading.count_waiting() + reading.count_sent()
            is_known = reading.serving(MASTER) is not None
        wrong = differences(expected, found, root) + ([f"{left} tasks wait for the judge"] if left else [])
        standing = life.standing()
    say(f"\nAfter {days} days, in {time.monotonic() - began:.0f} s:\n{story.outcome(told.decisions, standing)}")
    say(f"\nThe router was asked for all {agents.asked:,} tasks, and named:\n{story.served(agents.served)}")
    say("\n" + accounting(found))
    if wrong:
        say("\nNOT as expected:\n" + "\n".join(f"  {line}" for line in wrong))
    else:
        say("\nAs expected: these numbers, and which tasks were collected, are what the fleet knows must come of it.")
    say("\n" + written(root))
    say("\n" + story.commands(root, told.decisions, MASTER, is_known=is_known))
    return not wrong


class _Models:
    """How able each model is made here, by the order in which they came; nobody tells the daemon."""

    def __init__(self) -> None:
        self._trained: list[str] = []

    def ability(self, version: str) -> Ability:
        """Return how able a model is."""
        if not version.startswith("ft-"):
            return _USUAL
        if version not in self._trained:
            self._trained.append(version)
        number = self._trained.index(version)
        return _TRAINED[number] if number < len(_TRAINED) else _LATER

    def words(self, version: str) -> str:
        """Say so."""
        ability = self.ability(version)
        return f"simulated, and not told to the daemon: it is {ability.name}, {_able(ability)}"


class _Life:
    """The days, one leap after the other."""

    def __init__(  # noqa: PLR0913, PLR0917 - what takes part
        self, app: App, clock: LeapingTime, agents: Agents, told: story.Story, say: Say, progress: Say
    ) -> None:
        self._app = app
        self._clock = clock
        self._agents = agents
        self._story = told
        self._say = say
        self._progress = progress

    async def live(self, start: datetime, days: int) -> None:
        """Live the days, and the first hours of the next one."""
        async with running(self._app, self._clock) as session:
            await self._settle(session)
            for day in range(days):
                begins = start + timedelta(days=day)
                for hour in _NIGHT_H:
                    await self._leap(session, begins + timedelta(hours=hour))
                for hour in _SHIFTS_H:
                    await self._work(session, begins + timedelta(hours=hour))
            # What still runs at midnight ends, its scores come, and the nightly run tidies up.
            for hour in _ENDS_H:
                await self._leap(session, start + timedelta(days=days, hours=hour))
                await self._record(session)

    def standing(self) -> list[str]:
        """Return what serves now, and what is on trial."""
        with self._app.store.read() as reading:
            held, tests = reading.serving(MASTER), reading.experiments(only_active=True)
        champion = self._app.settings.rollout.default_champion if held is None else held.champion
        trials = [
            f"{one.model}: {'watched' if one.kind == 'watch' else 'still on trial'}, after "
            f"{one.metrics['tasks_assigned'][one.treated]:,} of its tasks"
            for one in tests
        ]
        return [*trials, f"{champion} is the champion of {MASTER}"]

    async def _work(self, session: Session, until: datetime) -> None:
        # The router looks at its file when it has not for LOOK_EVERY_S: between two shifts more real time passes.
        self._agents.ask(until)
        await self._leap(session, until)
        await self._record(session)

    async def _leap(self, session: Session, to: datetime) -> None:
        self._clock.leap(to)
        session.look_again()
        await self._settle(session)

    async def _record(self, session: Session) -> None:
        # In one go: nothing else runs in the event loop meanwhile, so that the daemon reads all of it at once.
        self._agents.report(self._clock.now())
        await self._settle(session)

    async def _settle(self, session: Session) -> None:
        await session.settled()
        for line in await asyncio.to_thread(self._story.news):
            self._say(line)
        self._progress(await asyncio.to_thread(self._story.standing))


def _shares(tasks_per_day: int) -> dict[str, int]:
    """Return how many tasks each master has a day: two thirds, a fifth, and the rest."""
    others = {master: int(tasks_per_day / part) for master, part in _OTHERS.items()}
    return {MASTER: tasks_per_day - sum(others.values())} | others


def _able(ability: Ability) -> str:
    return f"completes {100 * ability.completes:.0f} %, {100 * ability.excels:.0f} % of it thoroughly"


def _opening(root: Path, *, days: int, shares: dict[str, int], seed: int) -> str:
    fleet = ", ".join(f"{count:,} of {master}" for master, count in shares.items())
    return f"""\
{days} days of a fleet that improves by itself (seed {seed})

Real:       the daemon with its schedule, watcher, state and jobs; collection, training (backend exemplar), tests and
            decisions with their default bars; the router, which is asked for every task; every file below
            {root}
Simulated:  the fleet, {sum(shares.values()):,} tasks a day ({fleet});
            the judge, which counts words: no model is called, nothing is sent or paid;
            the models' quality: v1.0.0 {_able(_USUAL)},
            the first model trained is made better, the second one bad, later ones as good as the first;
            time: the clock leaps from 02:00 to 03:00, 14:00 and 24:00, and stands while the daemon works; what is due
            hourly runs once a leap.
Settings:   the defaults, but for schedule.timezone = "UTC", rollout.masters = ["{MASTER}"] (the other masters have
            too few tasks for a test to end in {days} days), and judge.model = "{MODEL}" at a price of 0.
"""
