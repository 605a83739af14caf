"""The judge's provider: a folder outside of the ROOT, so that what it took and charged outlives whoever is killed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from cortex_autolearn.model import instants
from cortex_autolearn.model.judgement import Answer, Ask, Batch, Judgement, ModelLife, Refusal, Usage
from cortex_autolearn.ports import JudgeBusyError, JudgeMissingError, JudgeUnsureError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
    from pathlib import Path

    from cortex_autolearn.ports import Clock

Mood = Literal["well", "busy", "charging for nothing", "unsure and taken", "unsure and not taken", "forgetful"]
MOODS: Final[tuple[Mood, ...]] = (
    "busy",
    "charging for nothing",
    "unsure and taken",
    "unsure and not taken",
    "forgetful",
)
"""What is wrong with it in an outage. (Forgetful: it has lost what batches brought.)"""
UNSURE: Final[tuple[Mood, ...]] = ("unsure and taken", "unsure and not taken")
"""Moods in which its asker does not know whether a batch was taken."""

_INPUT, _CACHE_READ, _OUTPUT = 100, 10, 500
"""Thousandths of a millionth of a dollar a token, by the list of the model that is asked."""


class Charge(NamedTuple):
    """What was charged for one ask, in thousandths of a millionth of a dollar, on the day on which it was sent."""

    day: int
    amount: int


class Bench:
    """Implements ``ports.Judge``. Nothing that it does depends on anything but the ask and its mood.

    Arguments:
        folder: its world.
        clock: the asker's clock, by whose day it may spend.
        own_clock: the provider's.
    """

    def __init__(self, folder: Path, clock: Clock, own_clock: Clock) -> None:
        self.mood: Mood = "well"
        self._folder = folder
        self._clock = clock
        self._own_clock = own_clock
        folder.mkdir(parents=True, exist_ok=True)

    # --- what the simulation asks -------------------------------------------------------------------------------------

    def charges(self) -> Iterator[Charge]:
        """Yield everything that was ever charged."""
        journal = self._folder / "journal"
        if journal.exists():
            for line in journal.read_text().splitlines():
                day, amount = line.split()
                yield Charge(int(day), int(amount))

    # --- the port -----------------------------------------------------------------------------------------------------

    async def life(self, model: str) -> ModelLife:
        """Return that every model lives."""
        self._be_there()
        return ModelLife(model, "active", None)

    def ask_bytes(self, ask: Ask, *, model: str) -> int:
        """Return about what it would take."""
        return len(ask.key) + len(ask.system.encode()) + len(ask.user.encode()) + len(model) + 1_000

    async def ask(self, asks: Iterable[Ask], *, model: str, concurrency: int) -> AsyncGenerator[Answer | Refusal, None]:
        """Answer one by one; in an outage some are answered before it breaks off."""
        for number, ask in enumerate(asks):
            if self.mood == "charging for nothing" and number == 2:
                self._charge(ask, self._today(), is_batch=False)
                cause = "the connection broke over an answer"
                raise JudgeBusyError("score", model, cause, retry_after_s=30.0, is_free=False)
            if number >= 1:
                self._be_there()
            self._charge(ask, self._today(), is_batch=False)
            yield answer(ask)

    async def submit(self, asks: Sequence[Ask], *, model: str) -> Batch:
        """Take a batch, which has ended a quarter of an hour later."""
        self._be_there()
        if self.mood == "unsure and not taken":
            raise JudgeUnsureError("submit", model, "no answer came")
        number = len(list(self._folder.glob("batch-*")))
        batch_id = f"bench-{number + 1}"
        content: dict[str, Any] = {
            "created_us": self._now_us(),
            "day": self._today(),
            "asks": [list(ask) for ask in asks],
        }
        (self._folder / f"batch-{batch_id}").write_text(json.dumps(content))
        for ask in asks:
            self._charge(ask, content["day"], is_batch=True)
        if self.mood == "unsure and taken":
            raise JudgeUnsureError("submit", model, "the answer was lost")
        return self._batch(batch_id)

    async def recent(self, since_us: int) -> AsyncGenerator[Batch, None]:
        """Yield the batches since an instant, the latest first."""
        self._be_there()
        names = sorted(self._folder.glob("batch-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
        for path in names:
            batch = self._batch(path.name.removeprefix("batch-"))
            if batch.created_us >= since_us:
                yield batch

    async def batch(self, batch_id: str) -> Batch:
        """Look at a batch."""
        self._be_there()
        self._require(batch_id)
        return self._batch(batch_id)

    async def results(self, batch_id: str) -> AsyncGenerator[Answer | Refusal, None]:
        """Yield the results of a batch."""
        self._require(batch_id)
        for ask in self._asks(batch_id):
            yield answer(ask)

    async def cancel(self, batch_id: str) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _be_there(self) -> None:
        if self.mood == "busy":
            raise JudgeBusyError("ask", "the bench", "overloaded", retry_after_s=60.0)

    def _require(self, batch_id: str) -> None:
        if self.mood == "forgetful" or not (self._folder / f"batch-{batch_id}").exists():
            raise JudgeMissingError("look at batch", batch_id, "it has it no more", hint="Send it again")

    def _content(self, batch_id: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self._folder / f"batch-{batch_id}").read_text())
        return content

    def _asks(self, batch_id: str) -> list[Ask]:
        return [Ask(*one) for one in self._content(batch_id)["asks"]]

    def _batch(self, batch_id: str) -> Batch:
        content = self._content(batch_id)
        count, created_us = len(content["asks"]), content["created_us"]
        has_ended = not 0 <= self._now_us() - created_us < 900 * instants.SECOND_US
        counts = {"processing": 0 if has_ended else count, "succeeded": count if has_ended else 0}
        return Batch(batch_id, "ended" if has_ended else "in_progress", created_us, count, counts)

    def _charge(self, ask: Ask, day: int, *, is_batch: bool) -> None:
        usage = answer(ask).usage
        if usage is None:
            return
        amount = usage.input_tokens * _INPUT + usage.cache_read_tokens * _CACHE_READ + usage.output_tokens * _OUTPUT
        with (self._folder / "journal").open("a") as journal:
            journal.write(f"{day} {amount // 2 if is_batch else amount}\n")

    def _today(self) -> int:
        return int(f"{self._clock.now():%Y%m%d}")

    def _now_us(self) -> int:
        return instants.to_us(self._own_clock.now())


def _usage(ask: Ask) -> Usage:
    return Usage(len(ask.user) // 4, 0, len(ask.system) // 4, 200 + len(ask.user) % 700)


def answer(ask: Ask) -> Answer | Refusal:
    """Return what comes back to an ask, which its text decides."""
    kind = len(ask.user) % 23
    if kind == 1:
        return Refusal(ask.key, "invalid", "it is no judgement", _usage(ask), None, retryable=True)
    if kind == 2:
        return Refusal(ask.key, "errored", "the provider failed", None, None, retryable=False)
    mark = 3 + len(ask.user) % 3
    return Answer(ask.key, Judgement(mark, mark, mark, mark, float(mark), "By length."), _usage(ask), None, "bench")
