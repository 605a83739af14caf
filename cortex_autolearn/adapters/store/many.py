"""Asks about many values at once, and inserts many rows.

Values are bound, never put into JSON: SQLite ends a JSON string at U+0000, and a task id may hold one.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

_AT_ONCE: Final = 512
_ROWS_AT_ONCE: Final = 32


def rows_for(
    connection: sqlite3.Connection, query: str, values: Iterable[Any], *others: Any
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query for many values.

    Arguments:
        connection: where to ask.
        query: SQL with ``{many}`` where the list of values stands, after every other placeholder.
        values: any number of them; repeated ones are asked for once a portion.
        others: the values of the other placeholders.
    """
    portion = list(values)
    for start in range(0, len(portion), _AT_ONCE):
        chosen = portion[start : start + _AT_ONCE]
        # Filled up to a few sizes, so that few statements are prepared, and those once.
        size = 16 if len(chosen) <= 16 else _AT_ONCE
        chosen += chosen[-1:] * (size - len(chosen))
        yield from connection.execute(query.format(many=",".join("?" * size)), (*others, *chosen))


def insert(connection: sqlite3.Connection, query: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert many rows, some dozens with a statement: each statement costs about as much as what it inserts.

    Arguments:
        connection: where to insert.
        query: SQL with ``{many}`` where the rows of placeholders stand.
        rows: all of the same length.
    """
    if not rows:
        return
    row = f"({','.join('?' * len(rows[0]))})"
    together = query.format(many=",".join([row] * _ROWS_AT_ONCE))
    whole = len(rows) - len(rows) % _ROWS_AT_ONCE
    for start in range(0, whole, _ROWS_AT_ONCE):
        connection.execute(together, list(chain.from_iterable(rows[start : start + _ROWS_AT_ONCE])))
    connection.executemany(query.format(many=row), rows[whole:])
