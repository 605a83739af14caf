"""A judge that follows a script: no model is called, nothing is sent and nothing costs anything."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from cortex_autolearn.model.judgement import Answer, Batch, Judgement, ModelLife, Refusal, Usage
from cortex_autolearn.ports import JudgeMissingError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from cortex_autolearn.model.judgement import Ask, LifeState

MODEL: Final = "scripted-judge"
"""What answers, by its own account."""

_DATA: Final = re.compile(r"<task-record-(\w+)>\n(.*)\n</task-record-\1>", re.DOTALL)
_WORDS_PER_MARK: Final = 5


def by_words(ask: Ask) -> Judgement:
    """Return a judgement that grows with the number of different words in the output: any rule would do."""
    words = len(set(output_of(ask).lower().split()))
    mark = max(1, min(5, round(words / _WORDS_PER_MARK)))
    overall = max(1.0, min(5.0, round(2 * words / _WORDS_PER_MARK) / 2))
    return Judgement(mark, mark, mark, mark, overall, f"Scripted: the output has {words} different words.")


def output_of(ask: Ask) -> str:
    """Return the answer that a question is about, for a script of your own."""
    found = _DATA.search(ask.user)
    assert found is not None, "a question holds the record of its task"
    return str(json.loads(found[2])["output"])


class ScriptedJudge:
    """Implements ``ports.Judge``. It remembers every ask, and its batches for as long as it lives.

    Arguments:
        script: answers an ask; a :class:`Refusal` is given back as it is, with the key of the ask.
        usage: what every answer takes.
        polls: how often a batch is looked at before it has ended.
        state: where every model is in its life.
    """

    def __init__(
        self,
        script: Callable[[Ask], Judgement | Refusal] = by_words,
        *,
        usage: Usage = Usage(0, 0, 0, 0),  # noqa: B008 - cannot be changed
        polls: int = 0,
        state: LifeState = "active",
    ) -> None:
        self.asked: list[Ask] = []
        self.batches: dict[str, list[Ask]] = {}
        self._script = script
        self._usage = usage
        self._polls = polls
        self._state: LifeState = state
        self._looks: dict[str, int] = {}

    async def life(self, model: str) -> ModelLife:
        """Return the same for every model."""
        return ModelLife(model, self._state, None)

    def ask_bytes(self, ask: Ask, *, model: str) -> int:
        """Return about what it would take."""
        return len(ask.key) + len(ask.system.encode()) + len(ask.user.encode()) + len(model) + 1_000

    async def ask(
        self,
        asks: Iterable[Ask],
        *,
        model: str,  # noqa: ARG002 - they all answer alike
        concurrency: int,  # noqa: ARG002 - one after the other
    ) -> AsyncGenerator[Answer | Refusal, None]:
        """Answer one by one."""
        for ask in asks:
            yield self._answer(ask)

    async def submit(self, asks: Sequence[Ask], *, model: str) -> Batch:  # noqa: ARG002 - as above
        """Take a batch."""
        batch_id = f"scripted-{len(self.batches) + 1}"
        self.batches[batch_id] = list(asks)
        self._looks[batch_id] = 0
        return self._batch(batch_id)

    async def recent(self, since_us: int) -> AsyncGenerator[Batch, None]:  # noqa: ARG002 - there are not many
        """Yield all batches, the latest first."""
        for batch_id in reversed(self.batches):
            yield self._batch(batch_id)

    async def batch(self, batch_id: str) -> Batch:
        """Look at a batch."""
        self._require(batch_id)
        self._looks[batch_id] += 1
        return self._batch(batch_id)

    async def results(self, batch_id: str) -> AsyncGenerator[Answer | Refusal, None]:
        """Yield the results of a batch."""
        self._require(batch_id)
        for ask in self.batches[batch_id]:
            yield self._answer(ask)

    async def cancel(self, batch_id: str) -> None:
        """Let a batch end."""
        self._require(batch_id)
        self._looks[batch_id] = self._polls + 1

    async def close(self) -> None:
        """Do nothing: nothing is open."""

    def _answer(self, ask: Ask) -> Answer | Refusal:
        self.asked.append(ask)
        given = self._script(ask)
        if isinstance(given, Refusal):
            return given._replace(key=ask.key)
        return Answer(ask.key, given, self._usage, f"scripted-{len(self.asked)}", MODEL)

    def _batch(self, batch_id: str) -> Batch:
        count, has_ended = len(self.batches[batch_id]), self._looks[batch_id] > self._polls
        counts = {"processing": 0 if has_ended else count, "succeeded": count if has_ended else 0}
        return Batch(batch_id, "ended" if has_ended else "in_progress", 0, count, counts)

    def _require(self, batch_id: str) -> None:
        if batch_id not in self.batches:
            raise JudgeMissingError("look at batch", batch_id, "it was never submitted", hint="Submit it")
