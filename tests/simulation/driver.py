"""Takes a world through its steps: time passes, the fleet works, something goes wrong, the jobs run, all is checked."""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.model import instants
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.testing import FakeClock, Script
from cortex_autolearn.testing.dice import Dice

from . import people, syscalls
from .fleet import Fleet
from .invariants import Books
from .judge import MOODS, UNSURE
from .looking import State
from .promise import BrokenError, require
from .system import Ask, System
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cortex_autolearn.runner import Result

ROUNDS: Final = 10
_PAGES: Final = (1 << 30) - 1
_DAY_S: Final = 86_400
_SKEW_S: Final = 60


class Outcome(NamedTuple):
    """What came of a world: what happened in it how often, and what did not hold, with its trace."""

    seed: int
    happened: Counter[str]
    broken: str = ""
    trace: str = ""


def simulate(seed: int, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """Simulate the world of a seed; ``tell`` hears of every step."""
    happened: Counter[str] = Counter()
    with folder() as place:
        run = Simulation(World.of(seed), place, happened, tell)
        try:
            run.run()
        except Exception as error:  # noqa: BLE001 - it is the result
            return Outcome(seed, happened, f"{error}" or repr(error), "".join(traceback.format_exception(error)))
        finally:
            run.system.end()
    return Outcome(seed, happened)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: fsync costs nothing there, and a kill leaves the same behind."""
    shared = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="simulation-", dir=shared if shared.is_dir() else None))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Simulation:
    """One world on its way.

    Arguments:
        world: the world.
        place: an empty folder.
        happened: counts what goes wrong and what is reached.
        tell: hears of every step.
    """

    def __init__(self, world: World, place: Path, happened: Counter[str], tell: Callable[[str], None]) -> None:
        self.world = world
        self.happened = happened
        self.clock = FakeClock(world.begins)
        root = place / "root"
        root.mkdir()
        self.system = System(root, place / "outside", self.clock, world)
        self.fleet = Fleet(root, world, self.clock, happened)
        self.books = Books(world, self.system, self.fleet, happened)
        self._tell = tell
        self._night = world.begins.date()
        people.name_champions(root, world.champions)

    def run(self) -> None:
        """Take all steps, then let everything come to an end."""
        syscalls.install()
        self.system.begin()
        for number in range(self.world.steps):
            self.step(number)
        self.finish()
        self._count()

    def step(self, number: int) -> None:
        """Take one step."""
        dice = Dice(self.world.seed, "step", number)
        before = self.happened.copy()
        self._let_time_pass(dice)
        self._set_providers(dice)
        if self._occurs("person", dice):
            people.decide(self.system, dice)
        if self._occurs("removed file", dice):
            self.system.damaged |= people.damage(self.system.root, dice)
        if self._occurs("restart", dice):
            self.system.end()
            self.system.begin()
        is_settled = self._work(self._asks(dice), dice)
        self.books.after_step(is_settled=is_settled)
        what = ", ".join(f"{name} {count}" for name, count in sorted((self.happened - before).items()))
        self._tell(f"{number:3} {self.clock.now():%Y-%m-%d %H:%M} tasks {len(self.fleet.tasks):4} {what}")

    def finish(self) -> None:
        """Let what is under way come to an end, with nothing going wrong any more: all must be right then."""
        dice = Dice(self.world.seed, "finish")
        self.system.bench.mood = "well"
        self.system.trainer.script = Script(training_usd=self.world.training_usd)
        self.fleet.finish()
        last = self.fleet.last_due
        left_s = 0.0 if last is None else (last - self.clock.now()).total_seconds()
        self.clock.advance(max(left_s, 0.0) + 3_600)
        self.fleet.deliver(dice)
        self.fleet.finish()
        self._faultless([Ask("medallion", {"nightly": True}), Ask("collection"), Ask("readiness"), Ask("rollout")])
        self.books.after_step(is_settled=True)
        self._tell(f"end {self.clock.now():%Y-%m-%d %H:%M}")

    # --- what happens -------------------------------------------------------------------------------------------------

    def _occurs(self, name: str, dice: Dice) -> bool:
        happens = dice.chance(self.world.rates[name])
        if happens:
            self.happened[name] += 1
        return happens

    def _let_time_pass(self, dice: Dice) -> None:
        if self._occurs("silence", dice):
            self.fleet.finish()  # who is silent for days was not in the middle of a line
            self.clock.advance(_DAY_S * dice.between(2, 9))
            self.fleet.deliver(dice)
        if self._occurs("clock forwards", dice):
            seconds = dice.pick((90, 7_200, 90_000))
            self.fleet.finish(seconds)  # to who reads, a clock that goes wrong by a day is a day
            self.clock.step(seconds)
        if self._occurs("clock back", dice):
            self.clock.step(-dice.pick((5, 600, 5_000, 90_000)))
        if not self.fleet.drifted and self._occurs("drift", dice):
            self.fleet.drifted = True
        count = round(self.world.pace * dice.between(60, 140) / 100)
        if self._occurs("burst", dice):
            count *= 3
        self.fleet.work(count, dice.between(1_200, 9_000), dice)

    def _set_providers(self, dice: Dice) -> None:
        self.system.bench.mood = dice.pick(MOODS) if self._occurs("judge outage", dice) else "well"
        skew_s = (self.clock.now() - self.system.true_clock.now()).total_seconds()
        if abs(skew_s) > _SKEW_S and self.system.bench.mood in UNSURE:
            # Whether a batch was taken is found out by its time: whose clock goes wrong by minutes, cannot know.
            self.system.bench.mood = "busy"
        now_us = instants.to_us(self.system.true_clock.now())
        away = ((now_us - 1, now_us + 1),) if self._occurs("trainer outage", dice) else ()
        fails = self._occurs("training fails", dice)
        self.system.trainer.script = Script(
            outcome=dice.pick(("fails", "fails", "hangs")) if fails else "succeeds",
            retryable=dice.chance(0.5),
            queued_s=dice.pick((0, 60)),
            running_s=dice.pick((60, 1_800, 5_400)),
            deploy="fails" if self._occurs("deployment fails", dice) else "succeeds",
            deploy_s=dice.pick((0, 60, 3_000)),
            loses_answers=dice.chance(0.1),
            away=away,
            training_usd=self.world.training_usd,
        )

    # --- the jobs -----------------------------------------------------------------------------------------------------

    def _asks(self, dice: Dice) -> list[Ask]:
        """Return what the schedule and the watcher ask for in this step; the heartbeat asks for the rest."""
        is_night = self.clock.now().date() != self._night
        self._night = self.clock.now().date()
        asks = [Ask("medallion", {"nightly": True}) if is_night else Ask("silver"), Ask("collection")]
        if dice.chance(0.02):
            asks[0] = Ask("medallion", {"rebuild": True})
            self.books.settled.was_rebuilt = True
        if is_night or dice.chance(0.3):
            asks.append(Ask("readiness"))
        if dice.chance(0.1):
            asks.append(Ask("status"))
        return [*asks, Ask("rollout")]

    def _work(self, asks: list[Ask], dice: Dice) -> bool:
        """Let the jobs run, killed, refused or in peace; tell whether all is settled."""
        if self._occurs("kill", dice):
            self._killed(asks, dice)
        elif self._occurs("disk error", dice):
            self._refused(asks, dice)
        elif self._occurs("database full", dice):
            self._full(asks)
        else:
            self._faultless(asks)
            return True
        if dice.chance(0.4):
            self._faultless(asks)
            return True
        return False

    def _killed(self, asks: list[Ask], dice: Dice) -> None:
        at = round(dice.lognormal(25, 1.3))
        died = self.system.die_at(at, lambda system: check(work(system, asks)))
        self.happened["killed"] += died
        self.books.at_any_instant()
        self.system.begin()

    def _refused(self, asks: list[Ask], dice: Dice) -> None:
        code = dice.pick((errno.ENOSPC, errno.EIO, errno.EDQUOT))
        plan = syscalls.Plan("refuse", round(dice.lognormal(20, 1.3)), code, dice.pick((1, 1, 3, 40)))
        with syscalls.armed(plan, str(self.system.outside)) as state:
            results = work(self.system, asks)
        self.system.was_refused |= state.refused > 0
        self.happened["refused"] += state.refused > 0
        check(results)
        self.happened["failed of the disk"] += any(one.error is not None for one in results)

    def _full(self, asks: list[Ask]) -> None:
        writer = self.system.store._connection
        writer.execute("PRAGMA max_page_count = 1")
        results = work(self.system, asks)
        writer.execute(f"PRAGMA max_page_count = {_PAGES}")
        check(results)
        self.system.was_refused = True
        self.happened["failed of the database"] += any(one.error is not None for one in results)

    def _faultless(self, asks: list[Ask]) -> None:
        for result in work(self.system, asks, must_rest=True):
            if result.error is not None:
                raise BrokenError("a job fails of nothing", f"{result.job}: {result.error}") from result.error
        self.system.was_refused = False
        self.system.damaged.clear()

    def _count(self) -> None:
        """Count what was reached, by the events that tell of it."""
        state = State(self.system.root)
        for event, count in state.rows("SELECT event, count(*) FROM events GROUP BY event"):
            self.happened[event] += count
        state.close()


def work(system: System, asks: list[Ask], *, must_rest: bool = False) -> list[Result]:
    """Run jobs, and then those for which there is something to do, until there is nothing."""
    results = system.run(asks)
    for _ in range(ROUNDS):
        try:
            waiting = system.waiting()
        except BoundaryError:
            if must_rest:
                raise
            return results  # the disk refuses; the heartbeat looks again later
        if not waiting:
            return results
        results += system.run(waiting)
    require("it comes to rest", not must_rest, lambda: f"there is always something to do: {waiting}")
    return results


def check(results: list[Result]) -> None:
    """Whatever is refused, jobs fail of what was refused, and not of a mistake of ours."""
    for result in results:
        if result.error is not None and not isinstance(result.error, BoundaryError):
            raise BrokenError("errors are explained", f"{result.job}: {result.error!r}") from result.error


def replay(seed: int) -> str:
    """Return the command that repeats a world."""
    return f"{Path(sys.executable).name} -m tests.simulation --seed {seed} --verbose"
