"""Puts the application together: the only constructor.

Everything gets what it needs handed in, once; nothing else in the package knows which adapter stands behind a port.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from cortex_autolearn import settings as settings_module
from cortex_autolearn.adapters import claude, files, rubrics
from cortex_autolearn.adapters.clock import SystemClock
from cortex_autolearn.adapters.lock import held
from cortex_autolearn.adapters.store import Store
from cortex_autolearn.adapters.store.look import Look
from cortex_autolearn.adapters.trainers.exemplar import ExemplarTrainer
from cortex_autolearn.adapters.trainers.export import ExportTrainer
from cortex_autolearn.adapters.trainers.lifecycle import life_by
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.canonical import Readers
from cortex_autolearn.collect.job import Collector
from cortex_autolearn.collect.scoring import Scorer
from cortex_autolearn.jobs import Rooms
from cortex_autolearn.medallion.job import Medallion
from cortex_autolearn.model import layout
from cortex_autolearn.model.training_policy import price_table
from cortex_autolearn.ports import BoundaryError, Judge, Trainer
from cortex_autolearn.rollout.job import Rollout
from cortex_autolearn.runner import Runner
from cortex_autolearn.training.build import Builder
from cortex_autolearn.training.job import Trainings

if TYPE_CHECKING:
    from cortex_autolearn.adapters.observe import Log, Logging
    from cortex_autolearn.ports import Clock
    from cortex_autolearn.settings import Loaded, Settings

_QUIET_QUEUE: Final = 1_000
_TOPS: Final = (layout.COORDINATION, layout.AUTOLEARN.partition("/")[0])
"""What a tree is made of: nobody means a tree of its own in there."""
_WORK_S: Final = 2.0
"""So long a backend that trains in this process works before it looks whether that is to end."""

JudgeMaker = Callable[[], Judge]


@dataclass
class App:
    """The application over one ROOT. ``rooms`` and ``settings`` change with :meth:`reload`."""

    root: Path
    loaded: Loaded
    settings: Settings
    tree: Tree
    store: Store
    clock: Clock
    logging: Logging
    log: Log
    rooms: Rooms
    runner: Runner
    judge: JudgeMaker | None
    environ: Mapping[str, str]

    @property
    def medallion(self) -> Medallion:
        """The medallion."""
        return self.rooms.medallion

    @property
    def collect(self) -> Collector:
        """The collector."""
        return self.rooms.collect

    @property
    def datasets(self) -> Builder:
        """What makes datasets."""
        return datasets(self.settings, self.store, self.tree, self.clock)

    def reload(self, loaded: Loaded) -> None:
        """Let all runs from now on follow another configuration."""
        self.loaded, self.settings = loaded, loaded.settings
        self.rooms = _rooms(loaded.settings, self.store, self.tree, self.clock, self.judge, self.environ)
        self.runner.use(self.rooms)

    def close(self) -> None:
        """Let go of the state, then of the log; no job may be running."""
        self.store.close()
        self.logging.close()


def build(  # noqa: PLR0913 - options, by keyword only
    root: Path,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    clock: Clock | None = None,
    logging: Logging | None = None,
    init: bool = False,
    looks_only: bool = False,
    judge: JudgeMaker | None = None,
) -> App:
    """Put the application together on ``root``.

    Arguments:
        root: the folder that holds ``coordination/``.
        config: the configuration file, instead of ``cortex-autolearn.toml`` in ``root``.
        environ: the environment; by default this process's.
        flags: settings given on the command line, by dotted key.
        clock: tells the time; by default the machine's.
        logging: the log, which the application then owns; by default one to stderr, of warnings only.
        init: create ``coordination/`` where it is missing.
        looks_only: nothing will be written, and no right to is needed; a state need not be there either.
        judge: makes who scores tasks; by default Claude, where there is a key.

    Raises:
        ConfigError: with all that is wrong with the configuration.
        BoundaryError: ``root`` is none, or the state cannot be opened.
    """
    root = root.absolute()
    require_root(root, init=init)
    environ = os.environ if environ is None else environ
    loaded = settings_module.load(root, environ=environ, config=config, flags=flags)
    judge = claude_by(environ) if judge is None else judge
    clock = SystemClock() if clock is None else clock
    tree = Tree(root)
    own = logging is None
    if logging is None:
        # Here, for structlog takes as long to import as all the rest, and the command line brings a log of its own.
        from cortex_autolearn.adapters import observe  # noqa: PLC0415

        logging = observe.configure(level="warning", fmt="auto", file=None, queue_size=_QUIET_QUEUE, stream=sys.stderr)
    log = logging.log
    try:
        if looks_only:
            store: Store = Look(tree)
        else:
            store = Store(tree, clock, lambda error: log.warning("state_trouble", error=str(error), hint=error.hint))
    except BaseException:
        if own:
            logging.close()
        raise
    rooms = _rooms(loaded.settings, store, tree, clock, judge, environ)
    return App(
        root=root,
        loaded=loaded,
        settings=loaded.settings,
        tree=tree,
        store=store,
        clock=clock,
        logging=logging,
        log=log,
        rooms=rooms,
        runner=Runner(store, tree, clock, log, rooms),
        judge=judge,
        environ=environ,
    )


def claude_by(environ: Mapping[str, str]) -> JudgeMaker | None:
    """Return what makes Claude the judge, with the key that the environment names; None where it names none."""
    try:
        if not claude.api_key(environ):
            return None
    except BoundaryError:
        pass  # there is one, but it cannot be read: whoever needs it finds out, and says so
    return partial(claude.open_judge, environ)


def require_root(root: Path, *, init: bool) -> None:
    """Make sure that ``root`` holds ``coordination/``, or create it with ``init``.

    Raises:
        BoundaryError: it does not, or it cannot be created.
    """
    with files.wrap("look at", root):
        if (root / layout.COORDINATION).is_dir():
            return
    above, is_part = tree_above(root)
    hint = "Give the folder that holds coordination/ with --root or CORTEX_HOME"
    if above is not None:
        hint = f"Give {above}, which holds {layout.COORDINATION}/, with --root or CORTEX_HOME"
    if init and is_part:
        cause = f"it is a part of the tree {above}"
        raise BoundaryError("create a tree in", str(root), cause, hint=hint, retryable=False)
    if not init:
        cause = f"it has no folder {layout.COORDINATION}/"
        hint += "" if is_part else ", or create one with run --init"
        raise BoundaryError("find the fleet's tree", str(root), cause, hint=hint, retryable=False)
    for folder in (layout.BRONZE, layout.SILVER):
        with files.wrap("create", root / folder):
            files.make_folder(root / folder)


def tree_above(root: Path) -> tuple[Path | None, bool]:
    """Return the nearest folder above ``root`` that holds ``coordination/``, and whether ``root`` is a part of it."""
    real = Path(os.path.realpath(root))
    for folder in real.parents:
        with suppress(OSError):  # who may not look at it is not told of it
            if (folder / layout.COORDINATION).is_dir():
                return folder, real.relative_to(folder).parts[0] in _TOPS
    return None, False


def datasets(settings: Settings, store: Store, tree: Tree, clock: Clock) -> Builder:
    """Return what makes datasets by these settings."""

    def scratch() -> BinaryIO:
        folder = tree.path(layout.AUTOLEARN)
        with files.wrap("create a temporary file in", folder):
            # Without a name, so that nothing is left of it, however the process ends.
            return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))

    return Builder(
        store=store,
        files=tree,
        clock=clock,
        scratch=scratch,
        lock=lambda: held(tree.path(layout.DATASET_LOCK)),
        training=settings.training,
        policy=settings.dataset,
    )


def _rooms(  # noqa: PLR0913, PLR0917 - what all rooms are made of
    settings: Settings,
    store: Store,
    tree: Tree,
    clock: Clock,
    judge: JudgeMaker | None,
    environ: Mapping[str, str],
) -> Rooms:
    readers = Readers(settings.medallion, lambda: tree.folders(layout.MASTERS))
    backends = trainers(settings, tree, clock, judge, environ)
    medallion = Medallion(store, tree, clock, settings.medallion, readers)
    rollout = Rollout(store, tree, clock, settings.rollout, readers, backends, medallion.taken_in_us)
    return Rooms(
        store=store,
        tree=tree,
        clock=clock,
        settings=settings,
        medallion=medallion,
        collect=Collector(store, tree, clock, settings.collect, settings.training.system_prompt, readers),
        scoring=Scorer(
            store,
            tree,
            clock,
            settings.collect,
            settings.judge,
            partial(rubrics.load, settings.judge, tree.root),
            readers,
            judge,
            rollout.masters_under_test,
        ),
        training=Trainings(
            store,
            tree,
            clock,
            settings.training,
            datasets(settings, store, tree, clock),
            backends,
        ),
        rollout=rollout,
    )


def trainers(
    settings: Settings,
    tree: Tree,
    clock: Clock,
    judge: JudgeMaker | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Mapping[str, Trainer]:
    """Return the backends by the names that ``training.backend`` knows them by; nobody is asked yet.

    ``judge`` makes whoever can tell where a base model is in its life; without it nobody can be asked. ``environ`` is
    where the backends of providers find their credentials.
    """
    prices = price_table(settings.training)
    life = None if judge is None else life_by(judge)

    def bedrock() -> Trainer:
        from cortex_autolearn.adapters.trainers.bedrock import BedrockTrainer  # noqa: PLC0415 - few train there

        return BedrockTrainer(tree.root, clock, policy=settings.bedrock, prices=prices, environ=environ)

    def openai_compat() -> Trainer:
        from cortex_autolearn.adapters.trainers.openai_compat import OpenaiTrainer  # noqa: PLC0415 - likewise

        return OpenaiTrainer(tree.root, clock, policy=settings.openai, prices=prices, environ=environ)

    return _Backends(
        {
            "exemplar": lambda: ExemplarTrainer(tree.root, clock, prices=prices, life=life, work_s=_WORK_S),
            "export": lambda: ExportTrainer(tree.root, clock, prices=prices),
            "bedrock": bedrock,
            "openai_compat": openai_compat,
        }
    )


class _Backends(Mapping[str, Trainer]):
    """The backends by their names, each made when it is first asked for: a daemon that trains here pays for no other.

    Arguments:
        makers: make each.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Trainer]]) -> None:
        self._makers = makers
        self._made: dict[str, Trainer] = {}
        self._making = Lock()

    def __getitem__(self, name: str) -> Trainer:
        with self._making:  # jobs run in threads, and the clients of a provider are there once
            if name not in self._made:
                self._made[name] = self._makers[name]()
            return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
