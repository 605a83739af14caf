"""The index of a model's examples: an SQLite file with full-text search over what was asked.

Texts stay in ``examples.jsonl``; the index knows where. The words of ``words`` are handed to FTS5 as they are, so that
a query can look up how rare each one is and ask for the rarest only: what keeps a lookup quick. ``write`` is for the
trainer, the rest for the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from struct import pack, unpack
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.exemplars.core import Candidate
from cortex_autolearn.exemplars.pick import Match
from cortex_autolearn.exemplars.words import sketch_of, tokens_of, words_of

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

ASKED_WORDS: Final = 10
"""A query asks for at most so many words."""

_SCANNED: Final = 5_000
"""A query stops asking for further words when so many examples have been named by those it has."""
_MATCHES: Final = 32
_AT_ONCE: Final = 500
_DISTINCT_WORDS: Final = 600
"""Of an example's words, at most so many different ones are indexed."""

# The tokenizer "ascii" takes every byte above 127 for part of a word and folds A to Z: it cuts our words nowhere.
_TABLES: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE examples (
  id INTEGER PRIMARY KEY, master TEXT, task_type TEXT, position INTEGER NOT NULL, length INTEGER NOT NULL,
  tokens INTEGER NOT NULL, sketch BLOB NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5(asked, content = '', tokenize = 'ascii');
"""
_FINISH: Final = """
BEGIN;
INSERT INTO words(words) VALUES ('optimize');
CREATE TABLE frequencies (word TEXT PRIMARY KEY, examples INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE temp.counted USING fts5vocab(main, words, row);
INSERT INTO frequencies SELECT term, doc FROM temp.counted;
COMMIT;
"""
_SEARCH: Final = """
SELECT e.id, found.tier, found.relevance, e.tokens, e.sketch FROM (
  SELECT words.rowid AS id, -bm25(words) AS relevance, CASE
      WHEN NOT :scoped THEN 2 WHEN e.task_type = :task_type THEN 0 WHEN e.master = :master THEN 1 ELSE 2
    END AS tier
  FROM words JOIN examples AS e ON e.id = words.rowid WHERE words MATCH :query
  ORDER BY tier, relevance DESC, words.rowid LIMIT :limit
) AS found JOIN examples AS e ON e.id = found.id
"""


class Row(NamedTuple):
    """An example as it is indexed: where its line stands in ``examples.jsonl``, and what is known about it."""

    position: int
    length: int
    master: str | None
    task_type: str | None
    input: str
    output: str


def write(path: Path, rows: Iterable[Row]) -> int:
    """Write the index of examples, numbered from 1 in their order, to a new file; returns how many there are.

    The file is not safe from a crash before the caller has synced it. Raises sqlite3.Error.
    """
    import sqlite3  # noqa: PLC0415 -- whoever only imports this pays nothing for SQLite

    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.executescript(_TABLES)
        connection.execute("BEGIN")
        number = 0
        for number, row in enumerate(rows, 1):
            words = words_of(row.input)
            distinct = dict.fromkeys(words)
            kept = words if len(distinct) <= _DISTINCT_WORDS else list(distinct)[:_DISTINCT_WORDS]
            sketch = sketch_of(distinct)
            connection.execute(
                "INSERT INTO examples VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    number,
                    _text(row.master),
                    _text(row.task_type),
                    row.position,
                    row.length,
                    tokens_of(row.input) + tokens_of(row.output),
                    pack(f"<{len(sketch)}I", *sorted(sketch)),
                ),
            )
            connection.execute("INSERT INTO words(rowid, asked) VALUES (?, ?)", (number, _text(" ".join(kept))))
        connection.execute("COMMIT")
        connection.executescript(_FINISH)
        return number
    finally:
        connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open an index for reading, from any thread but by one at a time. Raises sqlite3.Error."""
    import sqlite3  # noqa: PLC0415 -- as above

    # Immutable: nobody changes a finished model, and no lock file is needed beside it.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )


def search(
    connection: sqlite3.Connection, asked: str, *, master: str | None, task_type: str | None, scoped: bool
) -> list[Match]:
    """Return the best matches for what is asked, the best first; ties by number. Raises sqlite3.Error."""
    query = _query(connection, asked)
    if not query:
        return []
    values = {
        "query": query,
        "scoped": scoped,
        "master": _text(master),
        "task_type": _text(task_type),
        "limit": _MATCHES,
    }
    found = connection.execute(_SEARCH, values).fetchall()
    matches = [
        Match(example, tier, max(rank, 1e-9), tokens, _sketch(blob)) for example, tier, rank, tokens, blob in found
    ]
    return sorted(matches, key=lambda match: (match.tier, -match.relevance, match.example))


def place(connection: sqlite3.Connection, example: int) -> tuple[int, int]:
    """Return where an example's line stands in ``examples.jsonl``: its offset and length. Raises sqlite3.Error."""
    position, length = connection.execute("SELECT position, length FROM examples WHERE id = ?", (example,)).fetchone()
    return position, length


def size(connection: sqlite3.Connection) -> int:
    """Return how many examples there are. Raises sqlite3.Error."""
    count: int = connection.execute("SELECT count(*) FROM examples").fetchone()[0]
    return count


def mean_tokens(connection: sqlite3.Connection) -> float:
    """Return how many tokens an example has on average; 0 where there is none. Raises sqlite3.Error."""
    mean: float | None = connection.execute("SELECT avg(tokens) FROM examples").fetchone()[0]
    return mean or 0.0


def masters(connection: sqlite3.Connection) -> list[str]:
    """Return the masters of the examples by name. Raises sqlite3.Error."""
    found = connection.execute("SELECT DISTINCT master FROM examples WHERE master IS NOT NULL ORDER BY master")
    return [master for (master,) in found]


def candidates(connection: sqlite3.Connection, master: str | None) -> Iterator[Candidate]:
    """Yield the examples of a master, or all, that a core set may be made of. Raises sqlite3.Error."""
    found = connection.execute(
        "SELECT id, task_type, tokens, sketch FROM examples WHERE :master IS NULL OR master = :master ORDER BY id",
        {"master": master},
    )
    for example, task_type, tokens, blob in found:
        yield Candidate(example, task_type, tokens, _sketch(blob))


def _query(connection: sqlite3.Connection, asked: str) -> str:
    """Return the query for what is asked: its rarest words that any example has, each quoted, joined by OR."""
    words = [word.encode("utf-8", "replace").decode() for word in dict.fromkeys(words_of(asked))]
    known: list[tuple[int, str]] = []
    for start in range(0, len(words), _AT_ONCE):
        part = words[start : start + _AT_ONCE]
        marks = ",".join("?" * len(part))
        statement = f"SELECT examples, word FROM frequencies WHERE word IN ({marks})"  # noqa: S608 -- question marks
        known += connection.execute(statement, part)
    chosen, scanned = [], 0
    for examples, word in sorted(known)[:ASKED_WORDS]:
        chosen.append(f'"{word}"')  # a word holds no quotation mark: it has letters and digits only
        scanned += examples
        if scanned > _SCANNED:
            break
    return " OR ".join(chosen)


def _sketch(blob: bytes) -> frozenset[int]:
    return frozenset(unpack(f"<{len(blob) // 4}I", blob))


def _text(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "replace").decode()


def texts(line: bytes) -> tuple[str, str]:
    """Return what was asked and answered, from a line of ``examples.jsonl``. Raises ValueError or KeyError."""
    found = json.loads(line)
    return found["input"], found["output"]
