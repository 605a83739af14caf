"""Looks at what is on the disk without the code under test: the state by SQL, the files as they stand."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import orjson

from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from pathlib import Path


class State:
    """The state, read by SQL alone; opened while a life has it open, so that looking changes nothing."""

    def __init__(self, root: Path) -> None:
        self._connection = sqlite3.connect(root / layout.STATE, isolation_level=None)
        self._connection.row_factory = sqlite3.Row

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Return the rows of a query."""
        return self._connection.execute(query, values).fetchall()

    def one(self, query: str, *values: object) -> Any:
        """Return the first value of the first row."""
        return self._connection.execute(query, values).fetchone()[0]

    def snapshot(self) -> None:
        """Begin to look at one state."""
        self._connection.execute("BEGIN")

    def let_go(self) -> None:
        """Look at newer states again."""
        self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()


def lines(path: Path) -> list[bytes]:
    """Return the lines of a file; none where it is not there."""
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def objects(folder: Path) -> list[dict[str, Any]]:
    """Return all lines of the ``.jsonl`` files below a folder as objects."""
    return [orjson.loads(one) for path in sorted(folder.rglob("*.jsonl")) for one in lines(path)]


def document(path: Path) -> dict[str, Any] | None:
    """Return a file's JSON object; None where it is not there."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found
