"""What makes the disk refuse and the process die: at the n-th call that changes something.

The functions of ``os`` that change files, and SQLite's COMMIT, are wrapped once for the life of this process; while
nothing is armed they do what they always do. A process that dies is a fork: it kills itself by SIGKILL, before the
call, or in the middle of one that writes.
"""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS: Final = ("write", "pwrite", "pwritev", "fsync", "rename", "ftruncate", "unlink", "rmdir", "mkdir")
_WRITING: Final = ("write", "pwrite", "pwritev")
_NEEDING_NOTHING: Final = ("ftruncate",)
"""Calls that a full disk does not refuse."""
_BY_PATH: Final = ("rename", "unlink", "rmdir", "mkdir")


class Plan(NamedTuple):
    """What happens at the n-th of these calls (the first is 0), and at how many after it."""

    what: Literal["die", "refuse"]
    at: int
    code: int = errno.ENOSPC
    calls: int = 1


class _State:
    """What is armed in this process; one for all, as ``os`` is."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.made = 0
        self.refused = 0
        self.outside = ""
        self.is_installed = False


_STATE: Final = _State()


@contextmanager
def armed(plan: Plan, outside: str) -> Iterator[_State]:
    """Carry a plan out for as long as this context lasts; what lies below ``outside`` is spared."""
    install()
    _STATE.plan, _STATE.made, _STATE.refused, _STATE.outside = plan, 0, 0, outside
    try:
        yield _STATE
    finally:
        _STATE.plan = None


def install() -> None:
    """Wrap the calls, once."""
    if _STATE.is_installed:
        return
    _STATE.is_installed = True
    for name in CALLS:
        setattr(os, name, _around(name, getattr(os, name)))
    connect = sqlite3.connect

    def connected(*args: Any, **options: Any) -> sqlite3.Connection:
        return connect(*args, factory=_Connection, **options)

    sqlite3.connect = connected  # type: ignore[assignment]


class _Connection(sqlite3.Connection):
    """A connection whose commits are such calls: it may die before and after one."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if _STATE.plan is None or _STATE.plan.what != "die" or sql != "COMMIT":
            return super().execute(sql, parameters)
        _count()
        cursor = super().execute(sql, parameters)
        _count()
        return cursor


def _around(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **options: Any) -> Any:
        plan = _STATE.plan
        if plan is None or (name in _BY_PATH and os.fspath(args[0]).startswith(_STATE.outside)):
            return call(*args, **options)
        if name in _WRITING and _STATE.made == plan.at:
            call(args[0], _half(args[1]), *args[2:])
        if plan.what == "refuse" and name in _NEEDING_NOTHING:
            return call(*args, **options)
        _count()
        return call(*args, **options)

    return called


def _half(data: Any) -> Any:
    """Return the first half of what is to be written: bytes, or a list of them."""
    if isinstance(data, list):
        return [_half(b"".join(data))]
    return bytes(data)[: len(data) // 2]


def _count() -> None:
    plan = _STATE.plan
    assert plan is not None
    number = _STATE.made
    _STATE.made += 1
    if number < plan.at:
        return
    if plan.what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if number < plan.at + plan.calls:
        _STATE.refused += 1
        raise OSError(plan.code, os.strerror(plan.code))
