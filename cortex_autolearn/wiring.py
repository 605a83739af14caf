"""Puts the application together: the only constructor.

Everything gets what it needs handed in, once; nothing else in the package knows which adapter stands behind a port.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cortex_autolearn import settings as settings_module
from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.clock import SystemClock
from cortex_autolearn.adapters.store import Store
from cortex_autolearn.adapters.store.look import Look
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.canonical import Readers
from cortex_autolearn.collect.job import Collector
from cortex_autolearn.jobs import Rooms
from cortex_autolearn.medallion.job import Medallion
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cortex_autolearn.adapters.observe import Log, Logging
    from cortex_autolearn.ports import Clock
    from cortex_autolearn.settings import Loaded, Settings

_QUIET_QUEUE: Final = 1_000


@dataclass
class App:
    """The application over one ROOT. ``medallion``, ``collect`` and ``settings`` change with :meth:`reload`."""

    root: Path
    loaded: Loaded
    settings: Settings
    tree: Tree
    store: Store
    clock: Clock
    logging: Logging
    log: Log
    medallion: Medallion
    collect: Collector
    runner: Runner

    def reload(self, loaded: Loaded) -> None:
        """Let all runs from now on follow another configuration."""
        self.loaded, self.settings = loaded, loaded.settings
        rooms = _rooms(loaded.settings, self.store, self.tree, self.clock)
        self.medallion, self.collect = rooms.medallion, rooms.collect
        self.runner.use(rooms)

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

    Raises:
        ConfigError: with all that is wrong with the configuration.
        BoundaryError: ``root`` is none, or the state cannot be opened.
    """
    root = root.absolute()
    require_root(root, init=init)
    loaded = settings_module.load(root, environ=os.environ if environ is None else environ, config=config, flags=flags)
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
    rooms = _rooms(loaded.settings, store, tree, clock)
    return App(
        root=root,
        loaded=loaded,
        settings=loaded.settings,
        tree=tree,
        store=store,
        clock=clock,
        logging=logging,
        log=log,
        medallion=rooms.medallion,
        collect=rooms.collect,
        runner=Runner(store, tree, clock, log, rooms),
    )


def require_root(root: Path, *, init: bool) -> None:
    """Make sure that ``root`` holds ``coordination/``, or create it with ``init``.

    Raises:
        BoundaryError: it does not, or it cannot be created.
    """
    with files.wrap("look at", root):
        if (root / layout.COORDINATION).is_dir():
            return
    if not init:
        raise BoundaryError(
            "find the fleet's tree",
            str(root),
            f"it has no folder {layout.COORDINATION}/",
            hint="Give the folder that holds coordination/ with --root or CORTEX_HOME, or create one with run --init",
            retryable=False,
        )
    for folder in (layout.BRONZE, layout.SILVER):
        with files.wrap("create", root / folder):
            files.make_folder(root / folder)


def _rooms(settings: Settings, store: Store, tree: Tree, clock: Clock) -> Rooms:
    readers = Readers(settings.medallion, lambda: tree.folders(layout.MASTERS))
    return Rooms(
        store=store,
        tree=tree,
        clock=clock,
        settings=settings,
        medallion=Medallion(store, tree, clock, settings.medallion, readers),
        collect=Collector(store, tree, clock, settings.collect, settings.training.system_prompt, readers),
    )
