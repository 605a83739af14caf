"""Reads the collected outcomes and makes candidates of them: masked, measured, their texts put on a shelf.

What is chosen of them is ``dataset``'s business. Only what is committed is read: every line where the state says that
it stands, and it must be the line of its task.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import msgspec

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.training import Example
from cortex_autolearn.model.training_jobs import GLOBAL
from cortex_autolearn.redact import redact
from cortex_autolearn.training import dataset, frozen
from cortex_autolearn.training.cost import example_tokens
from cortex_autolearn.training.dataset import Bounds, Candidate, Dropped
from cortex_autolearn.training.nearness import Words, normalised
from cortex_autolearn.training.rare import Rarity
from cortex_autolearn.training.scratch import Scratch, Triples

if TYPE_CHECKING:
    from collections.abc import Callable

    from cortex_autolearn.model.training import OutcomePlace
    from cortex_autolearn.ports import Files


class Kept(NamedTuple):
    """Where the lines of candidates and their triples are kept, each under the candidate's number."""

    lines: Scratch
    triples: Triples


@dataclass
class Gathered:
    """What was read: candidates by number, and what is none."""

    kept: Kept
    rarity: Rarity
    candidates: list[Candidate] = field(default_factory=list)
    first_line: int = -1
    first_triples: int = -1
    redactions: dict[int, dict[str, int]] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    others: set[str | None] = field(default_factory=set)
    covers_us: int = 0
    torn: str = ""

    @property
    def considered(self) -> int:
        """How many outcomes of the scope there are."""
        return len(self.candidates) + len(self.dropped)

    def line(self, number: int) -> bytes:
        """Return the line of a candidate."""
        return self.kept.lines.get(self.first_line + number)

    def triples(self, number: int) -> array[int]:
        """Return the triples of a candidate's input."""
        return self.kept.triples.get(self.first_triples + number)


class _Stored(msgspec.Struct, gc=False):
    """What of an outcome's line an example is made of."""

    task_id: str
    master: str | None
    task_type: str | None
    created_at: datetime | None
    completed_at: datetime | None
    input: str | None
    output: str | None


class _Named(msgspec.Struct, gc=False):
    task_id: str


_FAR_TOO_LONG: Final = 10
"""Masking may make a text shorter, but so many times the limit it is not even masked: that takes seconds and memory."""

_decode_stored: Final = msgspec.json.Decoder(_Stored).decode
_decode_named: Final = msgspec.json.Decoder(_Named).decode


class Outcomes:
    """Reads outcomes where they stand, and makes candidates of them."""

    def __init__(self, files: Files, scope: str, bounds: Bounds, prompt: Callable[[str | None], str]) -> None:
        self._files = files
        self._scope = scope
        self._bounds = bounds
        self._prompt = prompt
        self._prompts: dict[str | None, str] = {}
        self._names: dict[str, str] = {}
        self._words = Words()
        self._open: tuple[str, BinaryIO | None] = ("", None)

    def __enter__(self) -> Outcomes:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def take(self, place: OutcomePlace, into: Gathered) -> None:
        """Read one outcome; it becomes a candidate or is dropped, if it is of the scope."""
        into.covers_us = max(into.covers_us, place.collected_us)
        is_validation = place.split == "validation"
        if not place.length:
            if self._scope == GLOBAL:  # whose it was stood in its text
                into.dropped.append(Dropped(place.task_id, is_validation, dataset.NO_TEXT))
            return
        line = self._line(place)
        try:
            if not line.endswith(b"}\n") or _decode_named(line).task_id != place.task_id:
                raise msgspec.DecodeError
        except (msgspec.DecodeError, UnicodeDecodeError):
            into.torn = into.torn or layout.outcomes_file(place.split, place.day)
            return
        try:
            stored = _decode_stored(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            into.dropped.append(Dropped(place.task_id, is_validation, dataset.UNREADABLE))
            return
        if self._scope not in (GLOBAL, stored.master):
            into.others.add(stored.master)
            return
        self._consider(stored, into, is_validation=is_validation)

    def _consider(self, stored: _Stored, into: Gathered, *, is_validation: bool) -> None:
        if stored.input is None or stored.output is None:
            into.dropped.append(Dropped(stored.task_id, is_validation, dataset.NO_INPUT))
            return
        if len(stored.input) + len(stored.output) > _FAR_TOO_LONG * self._bounds.max_example_chars:
            into.dropped.append(Dropped(stored.task_id, is_validation, dataset.TOO_LONG))
            return
        asked, answered = redact(stored.input), redact(stored.output)
        example = Example(
            stored.task_id, stored.master, stored.task_type, self._system(stored.master), asked.text, answered.text
        )
        tokens = example_tokens((example.system, example.input, example.output))
        reason = dataset.refusal(example, tokens, self._bounds)
        if reason is not None:
            into.dropped.append(Dropped(stored.task_id, is_validation, reason))
            return
        masked = normalised(asked.text)
        plain = masked if asked.text == stored.input else normalised(stored.input)
        triples = self._words.triples(masked)
        into.rarity.count(triples)
        line_at, triples_at = into.kept.lines.put(frozen.example_line(example)), into.kept.triples.put(triples)
        number = len(into.candidates)
        if not number:
            into.first_line, into.first_triples = line_at, triples_at
        counts = dataset.added_up((asked.counts, answered.counts)) if asked.counts or answered.counts else {}
        if counts:
            into.redactions[number] = counts
        digest = dataset.digest_of(masked)
        into.candidates.append(
            Candidate(
                task_id=stored.task_id,
                is_validation=is_validation,
                master=self._name(stored.master),
                task_type=self._name(stored.task_type),
                when_us=_when(stored),
                plain=digest if plain == masked else dataset.digest_of(plain),
                masked=digest,
                tokens=tokens,
            )
        )

    def _system(self, master: str | None) -> str:
        if master not in self._prompts:
            self._prompts[master] = self._prompt(master)
        return self._prompts[master]

    def _name(self, name: str | None) -> str | None:
        """Return one object for equal names."""
        return None if name is None else self._names.setdefault(name, name)

    def _line(self, place: OutcomePlace) -> bytes:
        path = layout.outcomes_file(place.split, place.day)
        if self._open[0] != path:
            self._close()
            self._open = (path, self._files.open_input(path))
        file = self._open[1]
        return b"" if file is None else os.pread(file.fileno(), place.length, place.position)

    def _close(self) -> None:
        if self._open[1] is not None:
            self._open[1].close()
        self._open = ("", None)


def _when(stored: _Stored) -> int:
    moment = stored.completed_at or stored.created_at
    return -1 if moment is None else instants.to_us(moment)
