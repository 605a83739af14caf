"""Writes what follows from the state: ``routes.json``, ``aliases.json`` of each master, ``ab-tests/<test>.json``.

A file that says what it should is left alone; any other is replaced, for the state wins. One thing in them is heard: a
test that a person stopped in its file is left for ``job``, which honours it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.routing import BASE, EXEMPLAR, Served
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.rollout import files as documents
from cortex_autolearn.rollout import routes
from cortex_autolearn.rollout.apply import serving_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cortex_autolearn.model.experiments import Experiment, Held
    from cortex_autolearn.ports import Clock, Files
    from cortex_autolearn.rollout.needs import RolloutReading

_MAX_BYTES: Final = 1 << 20
"""A larger file is none of ours, and not read."""

_FRESH_US: Final = 2 * instants.SECOND_US
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode

_Found = Mapping[str, Any] | None
_Wanted = Callable[[_Found], dict[str, Any]]
_Stopped = Callable[[_Found], bool]


def read(files: Files, relative: str) -> dict[str, Any] | None:
    """Return a small JSON object that others may write as well; None where there is none."""
    handle = files.open_input(relative)
    if handle is None:
        return None
    with handle:
        data = handle.read(_MAX_BYTES + 1)
    try:
        return _decode(data) if len(data) <= _MAX_BYTES else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Projector:
    """Writes the projections of one ROOT. To be used where nobody else writes the state.

    A file that cannot be read or written hinders no other one; ``troubles`` tells of it.

    Arguments:
        files: the tree below ROOT.
        clock: tells the time.
    """

    def __init__(self, files: Files, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self.troubles: list[BoundaryError] = []

    def show(self, reading: RolloutReading, only: Experiment | None = None) -> int:
        """Bring all files to what the state says, or that of one test; return how many were written."""
        written = 0
        self.troubles.clear()
        for path, document in self._changes(reading, self.troubles, only):
            if document is None:
                continue
            try:
                self._files.replace(path, _text(document))
                written += 1
            except BoundaryError as error:
                self.troubles.append(error)
        return written

    def is_current(self, reading: RolloutReading) -> bool:
        """Tell whether all files that can be read say what the state does."""
        return not any(True for _ in self._changes(reading, []))

    def _changes(
        self, reading: RolloutReading, troubles: list[BoundaryError], only: Experiment | None = None
    ) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Yield the files that say something else, with what they should say.

        None where nothing is to be written yet: a person is to be heard first, or is still writing. What cannot be read
        goes to ``troubles``.
        """
        for path, wanted, is_stopped in self._wanted(reading, only):
            try:
                found = read(self._files, path)
                is_written = found is None and self._is_fresh(path)
            except BoundaryError as error:
                troubles.append(error)
                continue
            document = wanted(found)
            same = (
                found is not None and found.get("masters") == document["masters"]
                if path == layout.ROUTES
                else (found == document)
            )
            if not same:
                yield path, None if is_written or is_stopped(found) else document

    def _wanted(self, reading: RolloutReading, only: Experiment | None) -> Iterator[tuple[str, _Wanted, _Stopped]]:
        """Yield each file, what makes its document of the one that stands there, and whether that is to be heard."""
        tests, held = ([only], []) if only is not None else (reading.experiments(), reading.servings())
        for test in tests:
            yield (
                layout.test_file(test.test_id),
                partial(documents.document_of, test=test),
                partial(_is_stopped, test),
            )
        for one in held:
            history = reading.alias_history(one.master)
            wanted = partial(documents.aliases, held=one, history=history)
            yield layout.aliases_file(one.master), wanted, _never
        if held:
            routed = self._routes(reading, held, tests)
            yield layout.ROUTES, lambda _: routed, _never

    def _is_fresh(self, path: str) -> bool:
        """Tell whether a file was changed just now: what cannot be read of it may be half of what is being written."""
        entry = self._files.entry(path)
        if entry is None:
            return False
        age_us = instants.to_us(self._clock.now()) - entry.mtime_ns // 1_000
        return 0 <= age_us < _FRESH_US

    def _routes(self, reading: RolloutReading, held: list[Held], tests: list[Experiment]) -> dict[str, Any]:
        at_us = max(one.since_us for one in held)
        return routes.document(
            [serving_of(one) for one in held],
            models=served(reading),
            percentages={one.test_id: 100 - one.percentage_a for one in tests},
            generated_at=instants.us_to_text(at_us) or "",
        )


def _text(document: dict[str, Any]) -> bytes:
    """Return what a file is to hold, also where others put numbers or nests beside it that orjson refuses to write."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _is_stopped(test: Experiment, found: _Found) -> bool:
    return documents.manual_stop(found, test) is not None


def _never(_: _Found) -> bool:
    return False


def served(reading: RolloutReading) -> dict[str, Served]:
    """Return how each model is called by who serves it."""
    targets = {one.model_id: one.seen.target for one in reading.endpoints() if one.seen is not None}
    found = {}
    for model in reading.models():
        ref = model.ref
        own = ref.base if ref.kind in {BASE, EXEMPLAR} else ref.artefact
        found[ref.model_id] = Served(targets.get(ref.model_id) or own, ref.model_id, ref.kind)
    return found
