"""What is wrong with a ROOT, and what to do about it.

Looks by itself and changes nothing: the state is opened for reading only, so that a doctor can be sent to a tree that
is broken, another user's, or not there. ``flow`` looks at the way of the records, ``judge`` at who scores them,
``training`` at what is learnt from them, ``rollout`` at the tests of new models, ``system`` at what it all stands on.
Numbers that are merely interesting are ``status``' business.
"""

from __future__ import annotations

import sqlite3
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cortex_autolearn import settings as settings_module
from cortex_autolearn.adapters.store.database import DAMAGED, Reading, database_errors
from cortex_autolearn.adapters.store.look import look_at
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.doctor import flow, judge, rollout, system, training
from cortex_autolearn.doctor.check import Check, Patient
from cortex_autolearn.jobs import state_bytes
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.settings import ConfigError, Settings
from cortex_autolearn.status import look_for_daemon
from cortex_autolearn.wiring import claude_by, tree_above

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Check", "examine", "is_well"]

_QUICK_CHECK_S: Final = 5.0
_REFUSED: Final = "Check who owns it and its folders, and under which user this runs"


def examine(root: Path, *, config: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> list[Check]:
    """Look at everything, in the order in which it is worth mending.

    Arguments:
        root: the folder that holds ``coordination/``.
        config: the configuration file, instead of the one in ``root``.
        environ: the environment.
        flags: settings given on the command line, by dotted key.
    """
    root = root.absolute()
    checks = [_root(root)]
    settings, check = _configuration(root, config, environ, flags)
    checks.append(check)
    if checks[0].verdict == "fail":
        return checks
    connection, check = _state(root)
    checks.append(check)
    reading = None if connection is None else Reading(connection)
    has_key = claude_by(environ) is not None
    patient = Patient(root, Tree(root), settings, datetime.now(UTC), reading, _is_alive(root), has_key, environ)
    for look in (*system.LOOKS, *flow.LOOKS, *judge.LOOKS, *training.LOOKS, *rollout.LOOKS):
        try:
            checks += look(patient)
        except (BoundaryError, OSError, sqlite3.Error) as error:
            found = f"cannot be looked at: {error}"
            checks.append(Check(look.__name__.strip("_"), "fail", found, "Mend that first, then ask again"))
    if connection is not None:
        connection.close()
    return checks


def is_well(checks: list[Check]) -> bool:
    """Tell whether nothing is wrong; a warning is not."""
    return all(check.verdict != "fail" for check in checks)


def _root(root: Path) -> Check:
    try:
        if _is_folder(root / layout.COORDINATION):
            return Check("root", "ok", f"{root} holds {layout.COORDINATION}/")
        found = f"{root} holds no folder {layout.COORDINATION}/" if _is_folder(root) else f"{root} is no folder"
    except OSError as error:
        return Check("root", "fail", f"cannot be looked at: {error}", _REFUSED)
    above, is_part = tree_above(root)
    remedy = f"Name {above or 'the folder of the fleet'} with --root or CORTEX_HOME"
    remedy += "" if is_part else "; for a new one: cortex-autolearn run --init"
    return Check("root", "fail", found, remedy)


def _is_folder(path: Path) -> bool:
    """Tell whether there is such a folder; unlike ``is_dir()``, raise OSError wherever that cannot be told."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def _mode(path: Path) -> int | None:
    """Return what kind of file lies there, or None where none does."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _configuration(
    root: Path, config: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> tuple[Settings, Check]:
    try:
        loaded = settings_module.load(root, environ=environ, config=config, flags=flags)
    except ConfigError as error:
        found = "; ".join(str(problem) for problem in error.problems)
        remedy = "Mend these; cortex-autolearn config check says whether they are. All else was checked with defaults"
        return Settings(), Check("configuration", "fail", found, remedy)
    given = sum(origin != "default" for origin in loaded.origins.values())
    found = "right; all settings are the defaults"
    if given:
        found = f"right; {given} {'setting is not the default' if given == 1 else 'settings are not the defaults'}"
    return loaded.settings, Check("configuration", "ok", found)


def _state(root: Path) -> tuple[sqlite3.Connection | None, Check]:
    path = root / layout.STATE
    try:
        is_there = _mode(path) is not None
    except OSError as error:
        return None, Check("state", "fail", f"cannot be looked at: {error}", _REFUSED)
    if not is_there:
        remedy = "Refine once: cortex-autolearn medallion; or start the daemon: cortex-autolearn run"
        return None, Check("state", "warn", "there is none: nothing ran here yet", remedy)
    connection = None
    remedy = f"See that its disk is sound. {DAMAGED}"
    try:
        with database_errors(path):
            connection = look_at(path)
            problem, is_whole = _quick_check(connection)
    except BoundaryError as error:  # what cannot be read need not be damaged: the error knows
        problem, is_whole, remedy = error.cause, True, error.hint
    if problem or connection is None:
        if connection is not None:
            connection.close()
        return None, Check("state", "fail", f"{layout.STATE}: {problem}", remedy)
    how = "its whole structure is sound" if is_whole else f"no fault within {_QUICK_CHECK_S:.0f} s of checking"
    return connection, Check("state", "ok", f"opens ({state_bytes(root):,} bytes), {how}")


def _quick_check(connection: sqlite3.Connection) -> tuple[str, bool]:
    """Return what SQLite finds wrong, or nothing, and whether it came to the end in time."""
    ends_at = time.monotonic() + _QUICK_CHECK_S
    connection.execute("SELECT count(*) FROM meta").fetchone()
    connection.set_progress_handler(lambda: time.monotonic() > ends_at, 10_000)
    try:
        first = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return "", False
        raise
    finally:
        connection.set_progress_handler(None, 0)
    return ("" if first == "ok" else first), True


def _is_alive(root: Path) -> bool:
    try:
        return look_for_daemon(root).alive
    except BoundaryError:  # told of by the look at the daemon
        return False
