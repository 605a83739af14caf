"""Public face for callers: which model serves this task, and how to ask it.

Reads ``routes.json``, which ``rollout`` writes; the hash is ``assignment``'s, and ``model.routing`` says what may be in
the file. Meant for the agents themselves: it imports little, starts no thread, keeps no file open and waits for another
thread for a tenth of a second at most, so that processes may fork and threads share a router; and whatever becomes of
the file, a choice is made.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from itertools import count
from pathlib import Path
from threading import Lock
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from cortex_autolearn.assignment import BUCKETS, arm, bucket
from cortex_autolearn.model import layout, routing
from cortex_autolearn.model.choice import Choice
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cortex_autolearn.exemplars import ExemplarModel
    from cortex_autolearn.model.routing import Route, Served, Variant

LOOK_EVERY_S: Final = 0.05
"""The file is looked at this often at most, in seconds; so a new one is noticed within 0.1 s."""
MAX_ROUTES_BYTES: Final = 1 << 20
"""A larger file is none of ours: this holds 3,000 masters."""
DEFAULT_MAX_TOKENS: Final = 8_192
"""How long an answer of a base model may be where the caller does not say."""

_FRESH_S: Final = 0.03
"""While another thread looks, what is known serves on for so long after that look was due, and no longer."""
_LOST_S: Final = 0.1
"""A thread that has not come back from a look after so long will not."""
_SETTLED_NS: Final = 2_000_000_000
"""A file that changed less than this ago is read again: file systems count time in steps of up to 2 s."""
_MAX_NAMES: Final = 4_096
"""So many names that are not in the document are remembered."""
_MAX_NAME_CHARS: Final = 256
_MAX_OPEN: Final = 8
"""So many models with examples are kept open."""
_TRIES: Final = 3

_Arms = Choice | tuple[Choice, ...]  # of a master: the champion, or in an experiment the choice of each bucket
_Signature = tuple[int, int, int, int, int]


class _Loaded(NamedTuple):
    """What is known of the file, replaced as a whole."""

    arms: dict[str, _Arms]
    """By master, in several spellings."""
    data: bytes | None = None
    """What was read last, good or not."""
    signature: _Signature | None = None
    """Of the file that was read; None where it has to be read again in any case."""
    trouble: str | None = None


class Router:
    """Tells which model serves a task. One for a process is enough; any number of threads may share it."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Look at ``root``, the folder that holds ``coordination/``; nothing need be there yet."""
        self._root = Path(root).absolute()
        self._path = self._root / layout.ROUTES
        self._tree = self._root / layout.COORDINATION
        self._renderer = _Renderer(self._root)
        self._default = _choices("", routing.DEFAULT_ROUTE, self._renderer)
        self._loaded = _Loaded({})
        self._look_at = 0.0
        self._looking = Lock()
        self._look()

    def __reduce__(self) -> tuple[type[Router], tuple[Path]]:
        """A router that is sent to another process looks for itself there."""
        return Router, (self._root,)

    @property
    def trouble(self) -> str | None:
        """Why the file is not followed; None when it is, or when a ROOT that holds ``coordination/`` never had one.

        Meanwhile the last good routes are followed, or, where there were none, the default champion serves.
        """
        return self._loaded.trouble

    def choose(self, master: str, task_id: str) -> Choice:
        """Return the model that serves a task: the same for a task as long as the routes stay the same.

        Never raises, and waits for nothing but a look at a file of a few kilobytes, 20 times a second at most, by this
        thread or another.

        Arguments:
            master: with ``-master`` or without; one of which nothing is known gets the default champion.
            task_id: the id under which the task will be recorded.
        """
        if monotonic() >= self._look_at:
            self._look()
        try:
            arms = self._loaded.arms[master]
            return arms if arms.__class__ is Choice else arms[bucket(task_id)]  # type: ignore[index]  # spares a call
        except Exception:  # noqa: BLE001 -- a caller's hot path: there is always an answer
            return self._unusual(master, task_id)

    def _unusual(self, master: str, task_id: object) -> Choice:
        """Choose for a master that is not in the document, or is spelled otherwise, and for an id that is no text."""
        try:
            known = self._loaded.arms
            name = layout.master_name(master)
            arms = None if name is None else known.get(name)
            if arms is None:
                arms = _choices(name or master, routing.DEFAULT_ROUTE, self._renderer)
            if len(known) < _MAX_NAMES and len(master) < _MAX_NAME_CHARS:
                known[master] = arms
            if isinstance(arms, Choice):
                return arms
            # An id that is no text cannot be recorded, so that such a task is part of no experiment.
            return arms[bucket(task_id)] if isinstance(task_id, str) else (arms[0].fallback or arms[0])
        except Exception:  # noqa: BLE001 -- likewise
            assert isinstance(self._default, Choice)
            return self._default

    def _look(self) -> None:
        """Follow the file if it has changed; whatever stands there, what is known stays or becomes better."""
        looking, due = self._looking, self._look_at
        started = monotonic()
        is_fresh = started - due <= _FRESH_S
        # Where another thread looks, what is known may be of last night: then that look is waited for.
        if not looking.acquire(timeout=0 if is_fresh else _LOST_S):
            if not is_fresh and self._looking is looking:  # it hangs, or was lost in a fork: this one is next
                self._looking, self._look_at = Lock(), monotonic()
                self._look()
            return
        try:
            if self._look_at != due:
                return  # another has looked meanwhile
            if is_fresh:
                self._look_at = started + LOOK_EVERY_S
            known = self._loaded
            try:
                found = self._renewed(known)
            except Exception as error:  # noqa: BLE001 -- no file, no right to read it, no memory: the next look tries again
                found = known._replace(signature=None, trouble=self._trouble_of(error, known))
            if self._looking is looking:  # else others have looked meanwhile, and know better
                self._loaded = found
                self._look_at = started + LOOK_EVERY_S
        finally:
            looking.release()

    def _trouble_of(self, error: Exception, known: _Loaded) -> str | None:
        """Return what is wrong when no file was read: nothing where a fleet's tree has none yet."""
        if not isinstance(error, FileNotFoundError) or known.data is not None:
            return str(error) or type(error).__name__
        if os.path.isdir(self._tree):  # noqa: PTH112 -- a Path's own raises where it may not look
            return None
        return f"{self._root} holds no folder {layout.COORDINATION}/"

    def _renewed(self, known: _Loaded) -> _Loaded:
        status = self._path.lstat()
        if _signature(status) == known.signature:
            return known
        data, status = _read(self._path, status)
        # Two changes within one step of the file system's clock look alike: until it has moved on, read again.
        settled = time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > _SETTLED_NS
        signature = _signature(status) if settled else None
        if data == known.data and known.trouble is None:
            return known._replace(signature=signature)
        try:
            routes = routing.routes_of(orjson.loads(data))
        except (ValueError, RecursionError) as error:
            return known._replace(data=data, signature=signature, trouble=f"{self._path}: {error}")
        return _Loaded(self._table(routes), data, signature)

    def _table(self, routes: Mapping[str, Route]) -> dict[str, _Arms]:
        table = {}
        for name, route in routes.items():
            arms = _choices(name, route, self._renderer)
            bare = name.removesuffix("-master")
            spellings = [one for one in (name, bare, f"{bare}-agent") if layout.master_name(one) == name]
            table.update(dict.fromkeys(spellings, arms))
        return table


def _choices(master: str, route: Route, renderer: _Renderer) -> _Arms:
    """Make the choices of a master once, for all its tasks."""

    def choice(serving: Served, variant: Variant, fallback: Choice | None) -> Choice:
        return Choice(
            model=serving.model,
            version=serving.version,
            variant=variant,
            experiment=route.experiment,
            challenger_percentage=route.challenger_percentage,
            fallback=fallback,
            kind=serving.kind,
            master=master,
            renderer=renderer,
        )

    champion = choice(route.champion, "a", None)
    if route.challenger is None:
        return champion
    challenger = choice(route.challenger, "b", champion)
    of_champion = _buckets_of_champion(route.challenger_percentage)
    return (champion,) * of_champion + (challenger,) * (BUCKETS - of_champion)


@lru_cache(maxsize=128)
def _buckets_of_champion(challenger_percentage: float) -> int:
    """Count the champion's buckets, which are the lower ones."""
    return sum(arm(number, 100 - challenger_percentage) == "a" for number in range(BUCKETS))


def _signature(status: os.stat_result) -> _Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(path: Path, status: os.stat_result) -> tuple[bytes, os.stat_result]:
    """Read a small regular file as it was at one moment, without ever waiting for another program.

    Raises:
        OSError: it cannot be opened or read.
        ValueError: it is something else, too large, or did not hold still.
    """
    for _ in range(_TRIES):
        _require_small_file(path, status)  # before opening: opening a device may already do something
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            before = os.fstat(opened)
            _require_small_file(path, before)
            with os.fdopen(opened, "rb", buffering=0, closefd=False) as file:
                data = file.readall()
            status = os.fstat(opened)
        finally:
            os.close(opened)
        if len(data) == status.st_size == before.st_size and status.st_mtime_ns == before.st_mtime_ns:
            return data, status
    raise ValueError(f"{path} is being written")


def _require_small_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a regular file")
    if status.st_size > MAX_ROUTES_BYTES:
        raise ValueError(f"{path} has {status.st_size:,} bytes: at most {MAX_ROUTES_BYTES:,} are read")


class _Renderer:
    """Writes requests; keeps the models with examples open that were asked last."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, ExemplarModel] = {}
        self._asked: dict[str, int] = {}
        self._turn = count()
        self._process = os.getpid()

    def __reduce__(self) -> tuple[type[_Renderer], tuple[Path]]:
        return _Renderer, (self._root,)

    def render(
        self, choice: Choice, *, system: str, text: str, task_type: str | None, max_tokens: int | None
    ) -> dict[str, Any]:
        """Return what the client of the model's provider takes."""
        user = {"role": "user", "content": text}
        match choice.kind:
            case routing.BASE:
                limit = DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens  # this one must be told
                return {"model": choice.model, "max_tokens": limit, "system": system, "messages": [user]}
            case routing.EXEMPLAR:
                model = self._exemplars(choice.version)
                return model.request(
                    system=system, input=text, master=choice.master, task_type=task_type, max_tokens=max_tokens
                )
            case routing.BEDROCK:
                return _converse(choice.model, system, text, max_tokens)
            case routing.OPENAI:
                return _chat(choice.model, system, text, max_tokens)
            case _:
                hint = "Install a version of cortex-autolearn at least as new as the daemon's"
                cause = f"models of the kind {choice.kind!r} are not known to this version"
                raise BoundaryError("write a request", choice.version, cause, hint=hint, retryable=False)

    def _exemplars(self, version: str) -> ExemplarModel:
        if self._process != os.getpid():  # what a parent has open is not to be used after a fork
            self._open, self._asked, self._process = {}, {}, os.getpid()
        model = self._open.get(version)
        if model is None:
            from cortex_autolearn import exemplars  # noqa: PLC0415 -- SQLite, only for who serves such a model

            folder = self._root / layout.MODELS / layout.safe_name("model", version)
            model = exemplars.open_model(folder)
            self._open[version] = model
        self._asked[version] = next(self._turn)
        if len(self._open) > _MAX_OPEN:
            by_last_asked = sorted(self._open, key=lambda name: self._asked.get(name, -1))
            for longest_unasked in by_last_asked[:-_MAX_OPEN]:
                self._open.pop(longest_unasked, None)
                self._asked.pop(longest_unasked, None)
        return model


def _converse(model: str, system: str, text: str, max_tokens: int | None) -> dict[str, Any]:
    """Return what Bedrock's ``converse`` takes, which refuses an empty system prompt."""
    asked: dict[str, Any] = {"modelId": model, "messages": [{"role": "user", "content": [{"text": text}]}]}
    if system:
        asked["system"] = [{"text": system}]
    if max_tokens is not None:
        asked["inferenceConfig"] = {"maxTokens": max_tokens}
    return asked


def _chat(model: str, system: str, text: str, max_tokens: int | None) -> dict[str, Any]:
    """Return what ``chat.completions.create`` takes; ``max_tokens`` is its old name for the limit, and going."""
    messages = [{"role": "system", "content": system}] if system else []
    asked: dict[str, Any] = {"model": model, "messages": [*messages, {"role": "user", "content": text}]}
    if max_tokens is not None:
        asked["max_completion_tokens"] = max_tokens
    return asked
