"""A model made of a base model and worked examples, opened from its folder.

``manifest.json`` holds the recipe and is written last; ``examples.jsonl`` an example a line, with ``task_id``,
``master``, ``task_type``, ``input`` and ``output``; ``index.db`` is described by ``index``.
"""

from __future__ import annotations

import json
import os
import weakref
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cortex_autolearn.exemplars import index, pick, prompt
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

FORMAT: Final = 1
"""Of the folder; a model of another one is refused."""
MANIFEST: Final = "manifest.json"
EXAMPLES: Final = "examples.jsonl"
INDEX: Final = "index.db"

ANYONE: Final = ""
"""The key of the core set for masters that have none of their own."""
DAMAGED_HINT: Final = "Train the model again, or restore its folder from a backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a request is made; part of the manifest.

    ``k`` examples are retrieved, of ``token_budget`` tokens at most; ``scoped`` prefers the same task type, then the
    same master. ``core`` lists each master's core set, :data:`ANYONE` the one for the others. ``max_tokens`` is how
    long an answer may be where the caller does not say.
    """

    base: str
    k: int = 4
    scoped: bool = True
    token_budget: int = 6_000
    max_tokens: int = 8_192
    core: Mapping[str, Sequence[int]] = field(default_factory=dict)


class ExemplarModel:
    """Finds the examples for a task. May be used by many threads at once; holds a file or two for each.

    Arguments:
        folder: the model's folder.
        recipe: how requests are made.

    Raises:
        BoundaryError: a file is missing, or no index.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.recipe = recipe
        self._folder = folder
        self._process = os.getpid()
        self._idle: deque[sqlite3.Connection] = deque()
        self._core: dict[str, tuple[prompt.Shown, ...]] = {}
        with _reading(folder):
            self._opened = os.open(folder / EXAMPLES, os.O_RDONLY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, _close, self._opened, self._idle)
        try:
            with _reading(folder), self._connection() as connection:
                self.size = index.size(connection)
        except BaseException:
            self._close()
            raise

    def request(
        self,
        *,
        system: str,
        input: str,  # noqa: A002 -- the field's name in the record
        master: str | None = None,
        task_type: str | None = None,
        max_tokens: int | None = None,
    ) -> dict[str, Any]:
        """Return the keyword arguments for ``messages.create``.

        Arguments:
            system: the system prompt of the master.
            input: what the task asks.
            master: whose task it is, ``<name>-master``.
            task_type: what kind of task it is.
            max_tokens: how long the answer may be, in tokens; None for the recipe's own limit.

        Raises:
            ValueError: ``input`` is empty.
            BoundaryError: the model's files cannot be read.
        """
        core = self.core(master)
        return prompt.compose(
            model=self.recipe.base,
            max_tokens=self.recipe.max_tokens if max_tokens is None else max_tokens,
            system=system,
            core=core,
            retrieved=self.retrieve(input, master=master, task_type=task_type, besides=core),
            asked=input,
        )

    def retrieve(
        self,
        asked: str,
        *,
        master: str | None = None,
        task_type: str | None = None,
        besides: Collection[prompt.Shown] = (),
    ) -> list[prompt.Shown]:
        """Return the examples for what is asked, the best match last; none where nothing matches.

        None is among those that are shown ``besides``, or comes twice: the next best takes its place.

        Raises:
            BoundaryError: the model's files cannot be read.
        """
        recipe = self.recipe
        with _reading(self._folder), self._connection() as connection:
            matches = index.search(connection, asked, master=master, task_type=task_type, scoped=recipe.scoped)
            read: dict[int, prompt.Shown] = {}
            while True:
                taken = pick.pick(matches, count=recipe.k, token_budget=recipe.token_budget)
                seen, repeated = set(besides), set()
                for match in taken:
                    if match.example not in read:
                        read[match.example] = self._shown(connection, match.example)
                    if read[match.example] in seen:
                        repeated.add(match.example)
                    seen.add(read[match.example])
                if not repeated:
                    return [read[match.example] for match in pick.best_last(taken)]
                matches = [match for match in matches if match.example not in repeated]

    def matches(self, asked: str, *, master: str | None, task_type: str | None, scoped: bool) -> list[pick.Match]:
        """Return all matches for what is asked, the best first: for whoever measures.

        Raises:
            BoundaryError: the model's files cannot be read.
        """
        with _reading(self._folder), self._connection() as connection:
            return index.search(connection, asked, master=master, task_type=task_type, scoped=scoped)

    def core(self, master: str | None) -> Sequence[prompt.Shown]:
        """Return the core set that stands first in the requests of a master.

        Raises:
            BoundaryError: the model's files cannot be read.
        """
        name = master if master in self.recipe.core else ANYONE
        assert name is not None
        shown = self._core.get(name)
        if shown is None:
            shown = tuple(self.example(number) for number in self.recipe.core.get(name, ()))
            self._core[name] = shown  # two threads may both read them, and read the same
        return shown

    def example(self, number: int) -> prompt.Shown:
        """Return an example by its number, from 1.

        Raises:
            BoundaryError: the model's files cannot be read.
        """
        with _reading(self._folder), self._connection() as connection:
            return self._shown(connection, number)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection to the index to the current thread."""
        if self._process != os.getpid():
            self._process = os.getpid()  # after a fork: SQLite's connections are not to be used by the child
            _close_all(self._idle)
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = index.connect(self._folder / INDEX)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self._close.alive:
            self._idle.append(connection)
        else:
            connection.close()

    def _shown(self, connection: sqlite3.Connection, example: int) -> prompt.Shown:
        position, length = index.place(connection, example)
        return prompt.Shown(*index.texts(os.pread(self._opened, length, position)))

    def close(self) -> None:
        """Close the files; the model cannot be used any more. Happens by itself when nobody holds the model."""
        self._close()

    def __enter__(self) -> ExemplarModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_model(folder: Path) -> ExemplarModel:
    """Open the model in a folder ``models/<model_id>``. Quick: reads the manifest, and no example.

    Raises:
        BoundaryError: it is not there, not finished, of another format, or damaged.
    """
    with _reading(folder):
        manifest = json.loads((folder / MANIFEST).read_bytes())
        found = manifest["format"]
        if found != FORMAT or manifest["kind"] != "exemplar":
            raise BoundaryError(
                "open the model",
                str(folder),
                f"it is of kind {manifest['kind']!r} and format {found!r}, not exemplar and {FORMAT}",
                hint="Use the version of this package that made it, or train it again",
                retryable=False,
            )
        for name in (EXAMPLES, INDEX):
            expected, actual = manifest["files"][name]["bytes"], (folder / name).stat().st_size
            if actual != expected:
                raise ValueError(f"{name} has {actual} of {expected} bytes")
        recipe = Recipe(base=manifest["base"], **manifest["recipe"])
    return ExemplarModel(folder, recipe)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turn whatever a missing or damaged file leads to into a BoundaryError."""
    try:
        yield
    except BoundaryError:
        raise
    except OSError as error:
        cause = error.strerror or str(error)
        raise BoundaryError("read the model", str(folder), cause, hint=DAMAGED_HINT, retryable=False) from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise BoundaryError("read the model", str(folder), cause, hint=DAMAGED_HINT, retryable=False) from error
    except Exception as error:
        if type(error).__module__ != "sqlite3":  # without importing it: nobody may have
            raise
        raise BoundaryError("read the model", str(folder), str(error), hint=DAMAGED_HINT, retryable=False) from error


def _close(opened: int, idle: deque[sqlite3.Connection]) -> None:
    _close_all(idle)
    os.close(opened)


def _close_all(idle: deque[sqlite3.Connection]) -> None:
    while idle:
        idle.pop().close()
