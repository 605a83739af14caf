"""Claude scores: one question at a time, or many in a batch.

Nothing here remembers what was asked before: which asks wait, which batch is whose and what it all costs are the
business of the room that asks.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from cortex_autolearn.adapters.claude import answers, bodies, faults, wire
from cortex_autolearn.adapters.claude.line import Fault, Line
from cortex_autolearn.adapters.claude.patience import Patience, Run
from cortex_autolearn.model.judgement import (
    MAX_ASK_BYTES,
    Answer,
    Ask,
    Batch,
    ModelLife,
    Refusal,
)
from cortex_autolearn.ports import BoundaryError, JudgeMissingError, JudgeUnsureError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

    from cortex_autolearn.adapters.claude.line import Reply

MAX_CONCURRENCY: Final = 64

_BATCHES: Final = "/v1/messages/batches"
_BATCH_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,256}\Z")
_SUBMIT_WAITS: Final = 5
_WORKSPACE: Final = "the key's workspace"
_PAGE: Final = 100
_PATIENT: Final = Patience()


class ClaudeJudge:
    """``ports.Judge``, answered by Claude.

    It may be used in one event loop after the other, closed in between.

    Arguments:
        key: the key, or what returns it when it is first needed; see :func:`key.api_key`.
        base_url: where the provider is; see :func:`key.base_url`.
        effort: how much the model is to think, where it can be told; None leaves it to the model.
        patience: how long to keep asking when the provider is busy.
    """

    def __init__(
        self,
        key: str | Callable[[], str | None] | None,
        base_url: str,
        *,
        effort: wire.Effort | None = "low",
        patience: Patience = _PATIENT,
    ) -> None:
        self._line = Line(key, base_url, MAX_CONCURRENCY)
        self._effort = effort
        self._efforts: dict[str, wire.Effort | None] = {}
        self._patience = patience
        self._read_s = patience.answer_s

    def __repr__(self) -> str:
        return f"ClaudeJudge({self._line!r})"

    async def life(self, model: str) -> ModelLife:
        """Ask the models API where a model is in its life; its word is final, also against a date that has passed."""
        try:
            reply = await self._look(f"/v1/models/{quote(model, safe='')}", "look at the model", model)
        except JudgeMissingError:
            self._efforts[model] = None
            return ModelLife(model, "unknown", None)
        try:
            life, self._efforts[model] = answers.model(reply.body, self._effort)
        except ValueError as problem:
            raise faults.unreadable("look at the model", model, problem) from problem
        return life

    def ask_bytes(self, ask: Ask, *, model: str) -> int:
        """Return how many bytes one ask takes in a batch at most, the comma behind it included."""
        return len(wire.item(ask, model, self._effort)) + 1

    async def ask(self, asks: Iterable[Ask], *, model: str, concurrency: int) -> AsyncGenerator[Answer | Refusal, None]:
        """Put questions one by one, at most :data:`MAX_CONCURRENCY` at a time.

        What was sent and not answered, as the connection broke or took too long, is not sent again: it may have been
        charged, and whoever asks has put aside what one asking costs. It ends the asking, like a provider that is busy.
        """
        run = Run(self._patience)
        effort = await self._effort_for(model)
        most = min(max(1, concurrency), MAX_CONCURRENCY)
        waiting = iter(asks)
        under_way: set[asyncio.Task[Answer | Refusal | BoundaryError]] = set()
        failure: Exception | None = None
        try:
            while True:
                while failure is None and len(under_way) < most and (ask := _next(waiting)) is not None:
                    if isinstance(ask, Exception):
                        failure = ask
                    else:
                        under_way.add(asyncio.create_task(self._one(ask, model, effort, run)))
                if not under_way:
                    break
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for outcome in [task.result() for task in done]:
                    if isinstance(outcome, BoundaryError):
                        failure = failure or outcome
                        run.stopped.set()
                    else:
                        yield outcome
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        if isinstance(failure, BoundaryError):
            failure.is_free = not run.lost
        if failure is not None:
            raise failure

    async def _one(
        self, ask: Ask, model: str, effort: wire.Effort | None, run: Run
    ) -> Answer | Refusal | BoundaryError:
        """Put one question; a BoundaryError concerns them all."""
        try:
            body = wire.single(ask, model, effort)
        except ValueError as problem:
            return Refusal(ask.key, "errored", f"its text cannot be sent: {problem}", None, None, retryable=False)
        if len(body) > MAX_ASK_BYTES:
            reason = f"it takes {len(body)} of at most {MAX_ASK_BYTES} bytes"
            return Refusal(ask.key, "too_large", reason, None, None, retryable=False)
        try:
            reply = await run.patiently(
                lambda: self._line.send("POST", "/v1/messages", body, read_s=self._read_s), is_paid=True
            )
        except Fault as fault:
            return faults.refusal(ask.key, fault) or faults.error(fault, "ask the judge", model)
        except BoundaryError as error:
            return error
        return answers.answer(ask.key, reply.body, reply.request_id)

    async def submit(self, asks: Sequence[Ask], *, model: str) -> Batch:
        """Send a batch in one POST; its body is made while it is sent, and never held whole.

        The POST is streamed rather than built by the package's ``batches.create``, which holds all requests several
        times over.
        """
        effort = await self._effort_for(model)
        size = bodies.measure(asks, model, effort)
        content = bodies.content(asks, model, effort)
        subject = f"{len(asks)} asks for {model}"
        try:
            reply = await self._line.send("POST", _BATCHES, content, length=size, read_s=self._read_s * _SUBMIT_WAITS)
        except Fault as fault:
            raise faults.submit_error(fault, subject) from fault
        try:
            return answers.batch(reply.body)[0]
        except ValueError as problem:
            # Taken it is, by all the signs; which one it is, the list of batches tells.
            raise JudgeUnsureError("submit a batch", subject, f"the answer cannot be read: {problem}") from problem

    async def recent(self, since_us: int) -> AsyncGenerator[Batch, None]:
        """Yield the batches of the key's workspace created at or after an instant, the latest first."""
        after: str | None = None
        while True:
            query = urlencode({"limit": _PAGE} if after is None else {"limit": _PAGE, "after_id": after})
            reply = await self._look(f"{_BATCHES}?{query}", "list the batches", _WORKSPACE)
            try:
                batches, more = answers.page(reply.body)
            except ValueError as problem:
                raise faults.unreadable("list the batches", _WORKSPACE, problem) from problem
            for batch in batches:
                if batch.created_us < since_us:
                    return
                yield batch
            if not more or not batches or batches[-1].id == after:
                return
            after = batches[-1].id

    async def batch(self, batch_id: str) -> Batch:
        """Look at a batch."""
        return (await self._batch(batch_id))[0]

    async def results(self, batch_id: str) -> AsyncGenerator[Answer | Refusal, None]:
        """Yield the results of a batch that has ended, line by line as they arrive.

        They are read from their documented path at the configured address, not from wherever ``results_url`` points:
        the key goes nowhere else. They stay for 29 days.

        Raises:
            JudgeMissingError: the provider has the batch or its results no more.
            JudgeBusyError: the stream broke; reading may begin again.
            BoundaryError: the batch has not ended, or what came is not its results.
        """
        operation = "read the results of batch"
        batch, ready = await self._batch(batch_id)
        if batch.state != "ended":
            cause = f"it is {batch.state.replace('_', ' ')}"
            raise BoundaryError(operation, batch_id, cause, hint="Wait for its end", retryable=True)
        if not ready:
            raise JudgeMissingError(operation, batch_id, "it has none any more", hint="Ask what is missing again")
        number = 0
        try:
            async with AsyncExitStack() as stack:
                path = f"{_BATCHES}/{batch_id}/results"
                pieces = await Run(self._patience).patiently(
                    lambda: stack.enter_async_context(self._line.stream(path, read_s=self._read_s))
                )
                lines = await stack.enter_async_context(aclosing(bodies.lines(pieces)))
                async for line in lines:
                    number += 1
                    yield answers.result(line)
        except Fault as fault:
            raise faults.error(fault, operation, batch_id) from fault
        except ValueError as problem:
            raise faults.unreadable(operation, batch_id, f"line {max(1, number)}: {problem}") from problem
        if number != batch.asked:
            missing = f"{number} of {batch.asked} results came"
            raise faults.unreadable(operation, batch_id, missing, retryable=True)

    async def cancel(self, batch_id: str) -> None:
        """Ask for the end of a batch."""
        path = f"{_BATCHES}/{_checked(batch_id)}/cancel"
        try:
            await Run(self._patience).patiently(lambda: self._line.send("POST", path, read_s=self._read_s))
        except Fault as fault:
            # What the API says to a batch that has ended meanwhile is not documented; it need not matter.
            if fault.status in {400, 409} and (await self.batch(batch_id)).state != "in_progress":
                return
            raise faults.error(fault, "cancel batch", batch_id) from fault

    async def close(self) -> None:
        """Close the connections."""
        await self._line.close()

    async def _batch(self, batch_id: str) -> tuple[Batch, bool]:
        reply = await self._look(f"{_BATCHES}/{_checked(batch_id)}", "look at batch", batch_id)
        try:
            return answers.batch(reply.body)
        except ValueError as problem:
            raise faults.unreadable("look at batch", batch_id, problem) from problem

    async def _look(self, path: str, operation: str, subject: str) -> Reply:
        try:
            return await Run(self._patience).patiently(lambda: self._line.send("GET", path, read_s=self._read_s))
        except Fault as fault:
            raise faults.error(fault, operation, subject) from fault

    async def _effort_for(self, model: str) -> wire.Effort | None:
        if self._effort is None:
            return None
        if model not in self._efforts:
            await self.life(model)
        return self._efforts[model]


def _next(asks: Iterator[Ask]) -> Ask | Exception | None:
    """Take the next ask; what goes wrong with that must not cancel those that are under way and paid for."""
    try:
        return next(asks, None)
    except Exception as error:  # noqa: BLE001 - it is raised, after them
        return error


def _checked(batch_id: str) -> str:
    """Return a batch's id when it can stand in a path."""
    if _BATCH_ID.match(batch_id) is None:
        hint = "Look up the ids of the batches at platform.claude.com"
        raise JudgeMissingError("look at batch", repr(batch_id[:80]), "no batch has such an id", hint=hint)
    return batch_id
