"""Makes the question about a task out of its record: what was asked and answered, secrets taken out, cut to length."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cortex_autolearn.collect import prompt, score
from cortex_autolearn.collect.silver import Silver
from cortex_autolearn.model.records import COMPLETED
from cortex_autolearn.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cortex_autolearn.canonical import Readers
    from cortex_autolearn.collect.needs import ScoringReading
    from cortex_autolearn.collect.outcome import Texts
    from cortex_autolearn.model.judging import Candidate, Judged, Waiting
    from cortex_autolearn.model.ledger import Line
    from cortex_autolearn.model.policy import GatePolicy
    from cortex_autolearn.model.rubric import Rubric, Rubrics
    from cortex_autolearn.ports import Files

TEXT_GONE: Final = "its text is gone"

_KIND_CHARS: Final = 200


class Question(NamedTuple):
    """What is to be asked about a waiting task, and of which record."""

    item: Waiting
    rubric: Rubric
    user: str
    source: int
    source_offset: int
    digest: bytes


class Needless(NamedTuple):
    """A waiting task that need not be judged any more."""

    item: Waiting


class Known(NamedTuple):
    """A waiting task of which the very same was judged before, from another record."""

    item: Waiting
    source: int
    source_offset: int


class Impossible(NamedTuple):
    """A waiting task that cannot be judged, and why."""

    item: Waiting
    source: int
    source_offset: int
    reason: str


Prepared = Question | Needless | Known | Impossible


class _Told(msgspec.Struct):
    """What a canonical reading tells a judge besides the texts."""

    master: str | None
    task_type: str | None


_decode_told = msgspec.json.Decoder(_Told).decode
_decode_text = msgspec.json.Decoder(str | None).decode


class Asking:
    """Prepares questions; ``redactions`` counts what was masked, by rule.

    Arguments:
        files: the tree below ROOT.
        readers: gives the reader of a file's records, for silver that Cortex wrote.
        gate: the ``[collect]`` section.
        rubrics: by what to score.
        max_text_chars: how much of the input, and of the output, is shown.
        under_test: the masters of which an A/B test runs, and since when.
    """

    def __init__(
        self,
        files: Files,
        readers: Readers,
        gate: GatePolicy,
        rubrics: Rubrics,
        max_text_chars: int,
        under_test: Mapping[str, int],
    ) -> None:
        self._files = files
        self._readers = readers
        self._gate = gate
        self._rubrics = rubrics
        self._max_text_chars = max_text_chars
        self._under_test = under_test
        self.redactions: Counter[str] = Counter()

    def prepare(self, reading: ScoringReading, items: Iterable[Waiting]) -> Iterator[Prepared]:
        """Yield what is to become of each waiting task, in order; silver must not change meanwhile.

        Raises:
            OutputDamagedError: a line should stand in our silver and does not.
        """
        items = list(items)
        found = reading.standing_candidates([item.task_id for item in items])
        judged = reading.judged(found)
        lines = {line.id: line for line in reading.lines([candidate.id for candidate in found.values()])}
        silver = Silver(self._files, self._readers)
        try:
            for item in items:
                candidate = found.get(item.task_id)
                if candidate is None:
                    yield Needless(item)
                else:
                    yield self._one(item, candidate, lines[candidate.id], judged.get(item.task_id), silver)
        finally:
            silver.close()

    def _one(self, item: Waiting, task: Candidate, line: Line, judged: Judged | None, silver: Silver) -> Prepared:
        if not self._is_wanted(item, task):
            return Needless(item)
        record = (task.source, task.source_offset)
        texts = silver.texts(line)
        if texts is None:
            return Impossible(item, *record, TEXT_GONE)
        digest = score.digest(texts)
        if judged is not None and not item.forced and judged.digest == digest:
            return Known(item, *record)
        return Question(item, self._rubrics.of(task.master), self._user(texts), *record, digest)

    def _is_wanted(self, item: Waiting, task: Candidate) -> bool:
        if item.forced:
            return task.status == COMPLETED
        return score.wanted(task, self._gate, self._under_test)

    def _user(self, texts: Texts) -> str:
        told = _decode_told(texts.canonical)
        kind = None if told.task_type is None else prompt.cut(self._masked(told.task_type), _KIND_CHARS)
        asked, answered = (self._masked(_decode_text(text) or "") for text in (texts.asked, texts.answered))
        left_out = sum(max(0, len(text) - self._max_text_chars) for text in (asked, answered))
        asked, answered = (prompt.cut(text, self._max_text_chars) for text in (asked, answered))
        return prompt.question(prompt.Material(told.master, kind, asked, answered, left_out))

    def _masked(self, text: str) -> str:
        """Return a text without secrets; it is cut after that, as a cut could halve one."""
        found = redact(text)
        self.redactions.update(found.counts)
        return found.text
