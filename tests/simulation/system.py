"""The daemon's jobs over one ROOT: its lives one after the other, and the deaths between them.

A life has the real state, rooms and runner; only the providers and the clock are the world's. A step that is to be
killed runs in a fork with a life of its own, which kills itself; nothing of it is left but what is on the disk.
"""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from cortex_autolearn import wiring
from cortex_autolearn.adapters.store import Store
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.canonical import Readers
from cortex_autolearn.jobs import WAITS, Rooms
from cortex_autolearn.model import layout
from cortex_autolearn.redact import redact
from cortex_autolearn.rollout.job import Rollout
from cortex_autolearn.runner import Result, Runner
from cortex_autolearn.settings import Loaded
from cortex_autolearn.testing import FakeClock, ScriptedTrainer
from cortex_autolearn.training.job import Trainings

from . import syscalls
from .judge import Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cortex_autolearn.adapters.observe import Log, Logging

    from .world import World

SCRIPTED: Final = "scripted"


class Line(NamedTuple):
    """A line of the log."""

    level: str
    event: str
    keys: dict[str, object]


class Listener:
    """Implements ``adapters.observe.Log``, and stands in for ``Logging``: keeps what may need a look."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.log = self

    def debug(self, event: str, **keys: object) -> None:
        """Keep nothing."""

    def info(self, event: str, **keys: object) -> None:
        """Keep nothing."""

    def warning(self, event: str, **keys: object) -> None:
        """Keep it."""
        self.lines.append(Line("warning", event, keys))

    def error(self, event: str, **keys: object) -> None:
        """Keep it."""
        self.lines.append(Line("error", event, keys))

    def bind(self, **keys: object) -> Log:
        """Return itself."""
        return cast("Log", self)


class TrueClock:
    """The providers' clock, which goes right however ours is set; implements ``ports.Clock``."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._begins = clock.now() - timedelta(seconds=clock.monotonic())

    def now(self) -> datetime:
        """Return the true instant."""
        return self._begins + timedelta(seconds=self._clock.monotonic())

    def monotonic(self) -> float:
        """Return the same seconds as ours."""
        return self._clock.monotonic()


class Ask(NamedTuple):
    """A job that is asked for, with its options."""

    job: str
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


class System:
    """The jobs over one ROOT.

    ``damaged`` are files that the simulation took away or cut since all was in order, ``was_refused`` whether the disk
    refused something since then.

    Arguments:
        root: the ROOT.
        outside: the folder in which the providers live.
        clock: tells the time.
        world: the world.
    """

    def __init__(self, root: Path, outside: Path, clock: FakeClock, world: World) -> None:
        self.root = root
        self.outside = outside
        self.clock = clock
        self.true_clock = TrueClock(clock)
        self.bench = Bench(outside / "judge", clock, self.true_clock)
        self.trainer = ScriptedTrainer(outside / "trainer", self.true_clock)
        training = msgspec.structs.replace(world.settings.training, backend=world.backend)
        self.settings = msgspec.structs.replace(world.settings, training=training)
        self._backend = world.backend
        self.log = Listener()
        self.is_open = False
        self._app = wiring.build(
            root, environ={}, clock=clock, logging=cast("Logging", self.log), init=True, judge=lambda: self.bench
        )
        self._app.store.close()
        self.damaged: set[str] = set()
        self.was_refused = False
        redact("")  # its patterns are compiled here, once, and not in every life

    # --- lives --------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a life. Raises BoundaryError where the disk refuses."""
        tree = Tree(self.root)
        store = Store(tree, self.clock, lambda error: self.log.warning("state_trouble", error=str(error)))
        self.is_open = True
        self._app.store, self._app.runner = store, Runner(store, tree, self.clock, cast("Log", self.log), self.rooms)
        self._app.reload(Loaded(self.settings, {}))
        if self._backend == SCRIPTED:
            trainers = {SCRIPTED: self.trainer}
            builds = wiring.datasets(self.settings, store, tree, self.clock)
            training = Trainings(store, tree, self.clock, self.settings.training, builds, trainers)
            readers = Readers(self.settings.medallion, lambda: tree.folders(layout.MASTERS))
            rollout = Rollout(
                store, tree, self.clock, self.settings.rollout, readers, trainers, self.rooms.medallion.taken_in_us
            )
            self._app.rooms = self._app.rooms._replace(training=training, rollout=rollout)
            self.runner.use(self.rooms)

    @property
    def store(self) -> Store:
        """The state in this life."""
        return self._app.store

    @property
    def rooms(self) -> Rooms:
        """The rooms in this life."""
        return self._app.rooms

    @property
    def runner(self) -> Runner:
        """What runs the jobs in this life."""
        return self._app.runner

    def end(self) -> None:
        """End a life as a daemon that is stopped does."""
        if self.is_open:
            self._app.store.close()
            self.is_open = False

    # --- work ---------------------------------------------------------------------------------------------------------

    def run(self, asks: Sequence[Ask]) -> list[Result]:
        """Run jobs one after the other."""
        return [self.runner.run(ask.job, trigger="simulation", **ask.options) for ask in asks]

    def waiting(self) -> list[Ask]:
        """Return the jobs for which there is something to do now, as the daemon's heartbeat asks for them."""
        return [Ask(job) for job, waits in WAITS.items() if job != "silver" and waits(self.rooms)]

    def die_at(self, at: int, work: Callable[[System], None]) -> bool:
        """Let a fork with a life of its own work until the n-th call that changes something; tell whether it died."""
        self.end()
        pid = os.fork()
        if pid == 0:
            self._live_and_die(at, work)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "the fork failed; its trace is on stderr"
            return False
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True

    def _live_and_die(self, at: int, work: Callable[[System], None]) -> None:
        code = 1
        try:
            with syscalls.armed(syscalls.Plan("die", at), str(self.outside)):
                self.begin()
                work(self)
            code = 0
        except BaseException:
            import traceback  # noqa: PLC0415 - in trouble only

            traceback.print_exc()
        finally:
            os._exit(code)
