"""What comes back, read as what it is documented to be.

Envelopes are read for what is needed and may grow; what the judge says may not differ by one key. What is not as it
must be is a refusal, or a ValueError where nobody can tell whose it is.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from cortex_autolearn.adapters.claude import faults
from cortex_autolearn.adapters.claude.wire import SCHEMA
from cortex_autolearn.model import instants
from cortex_autolearn.model.judgement import (
    Answer,
    Batch,
    BatchState,
    Judgement,
    LifeState,
    ModelLife,
    Refusal,
    Usage,
)

if TYPE_CHECKING:
    from cortex_autolearn.adapters.claude.wire import Effort

_RATIONALE_CHARS: Final = 2_000

_Count = Annotated[int, Meta(ge=0)]
_Mark = Annotated[int, Meta(ge=1, le=5)]


class _Judgement(Struct, frozen=True, forbid_unknown_fields=True):
    task_success: _Mark
    correctness: _Mark
    completeness: _Mark
    clarity: _Mark
    overall: Annotated[float, Meta(ge=1, le=5, multiple_of=0.5)]
    rationale: Annotated[str, Meta(max_length=_RATIONALE_CHARS)]


class _Block(Struct, frozen=True):
    type: str
    text: str | None = None


class _Written(Struct, frozen=True):
    ephemeral_5m_input_tokens: _Count = 0
    ephemeral_1h_input_tokens: _Count = 0


class _Usage(Struct, frozen=True):
    input_tokens: _Count
    output_tokens: _Count
    cache_creation_input_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation: _Written | None = None


class _Stop(Struct, frozen=True):
    category: str | None = None
    explanation: str | None = None


class _Message(Struct, frozen=True):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[_Block]
    stop_reason: str | None
    usage: _Usage
    stop_details: _Stop | None = None


class _Paid(Struct, frozen=True):
    usage: _Usage


class _Error(Struct, frozen=True):
    type: str
    message: str = ""


class _ErrorBody(Struct, frozen=True):
    error: _Error
    request_id: str | None = None


class _Result(Struct, frozen=True):
    type: str
    message: Raw | msgspec.UnsetType = msgspec.UNSET
    error: _ErrorBody | None = None


class _Row(Struct, frozen=True):
    custom_id: str
    result: Raw


class _Counts(Struct, frozen=True):
    processing: _Count
    succeeded: _Count
    errored: _Count
    canceled: _Count
    expired: _Count


class _Batch(Struct, frozen=True):
    id: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,256}\Z")]
    processing_status: BatchState
    created_at: Annotated[datetime, Meta(tz=True)]
    request_counts: _Counts
    results_url: str | None = None


class _Page(Struct, frozen=True):
    data: list[_Batch]
    has_more: bool = False


class _Can(Struct, frozen=True):
    supported: bool = False


class _Efforts(Struct, frozen=True):
    low: _Can = _Can()
    medium: _Can = _Can()
    high: _Can = _Can()


class _Capabilities(Struct, frozen=True):
    structured_outputs: _Can | None = None
    batch: _Can | None = None
    effort: _Efforts | None = None


class _Model(Struct, frozen=True):
    id: str
    lifecycle: LifeState = "active"
    retires_at: datetime | None = None
    capabilities: _Capabilities | None = None


_read_judgement: Final = msgspec.json.Decoder(_Judgement).decode
_read_message: Final = msgspec.json.Decoder(_Message).decode
_read_paid: Final = msgspec.json.Decoder(_Paid).decode
_read_row: Final = msgspec.json.Decoder(_Row).decode
_read_result: Final = msgspec.json.Decoder(_Result).decode
_read_batch: Final = msgspec.json.Decoder(_Batch).decode
_read_page: Final = msgspec.json.Decoder(_Page).decode
_read_model: Final = msgspec.json.Decoder(_Model).decode


def answer(key: str, body: bytes, request_id: str | None, *, batched: bool = False) -> Answer | Refusal:
    """Read a message as a judgement; whatever is not one is an ``invalid`` refusal with the reason."""
    try:
        message = _read_message(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = f"the answer is no message: {error}"
        return Refusal(key, "invalid", reason, _paid(body, batched), request_id, retryable=True)
    usage = _usage(message.usage, batched)
    request_id = request_id or message.id
    match message.stop_reason:
        case "end_turn":
            pass
        case "refusal":
            details = message.stop_details or _Stop()
            told = ": ".join(text for text in (details.category, details.explanation) if text)
            reason = f"the model declined to answer ({told})" if told else "the model declined to answer"
            return Refusal(key, "invalid", reason, usage, request_id, retryable=False)
        case "model_context_window_exceeded":
            return Refusal(key, "too_large", "it is longer than the model can read", usage, request_id, retryable=False)
        case other:
            reason = f"the answer was cut short: {other}"
            return Refusal(key, "invalid", reason, usage, request_id, retryable=True)
    try:
        judgement = _judgement([block for block in message.content if not block.type.endswith("thinking")])
    except ValueError as error:
        return Refusal(key, "invalid", f"the answer is no judgement: {error}", usage, request_id, retryable=True)
    return Answer(key, judgement, usage, request_id, message.model)


def _judgement(blocks: list[_Block]) -> Judgement:
    if len(blocks) != 1 or blocks[0].type != "text" or blocks[0].text is None:
        raise ValueError(f"it is {', '.join(block.type for block in blocks) or 'empty'} instead of one text")
    text = blocks[0].text
    read = _read_judgement(text)
    # Of a key that comes twice the decoder takes the last; which of the two was meant nobody knows.
    if len(json.loads(text, object_pairs_hook=list)) != len(SCHEMA["required"]):
        raise ValueError("a key comes twice")
    if not read.rationale.strip():
        raise ValueError("it gives no reason")
    return Judgement(
        read.task_success, read.correctness, read.completeness, read.clarity, read.overall, read.rationale.strip()
    )


def _usage(read: _Usage, batched: bool) -> Usage:  # noqa: FBT001 - a fact about the answer, passed on
    written = read.cache_creation
    if written is None:
        # Without the breakdown everything was written for as long as was asked for.
        total = read.cache_creation_input_tokens or 0
        written = _Written(0, total) if batched else _Written(total, 0)
    return Usage(
        read.input_tokens,
        written.ephemeral_5m_input_tokens,
        read.cache_read_input_tokens or 0,
        read.output_tokens,
        written.ephemeral_1h_input_tokens,
    )


def _paid(body: bytes, batched: bool) -> Usage | None:  # noqa: FBT001 - as above
    try:
        return _usage(_read_paid(body).usage, batched)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


# ------------------------------------------------------------------------------------------------------------- batches


def result(line: bytes) -> Answer | Refusal:
    """Read one line of a batch's results.

    Raises:
        ValueError: it does not tell which ask it is about.
    """
    row = _read_row(line)
    key, raw = row.custom_id, bytes(row.result)
    try:
        read = _read_result(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Refusal(key, "invalid", f"the result cannot be read: {error}", None, None, retryable=True)
    match read.type:
        case "succeeded" if read.message is not msgspec.UNSET:
            return answer(key, bytes(read.message), None, batched=True)
        case "errored" if read.error is not None:
            return _errored(key, read.error)
        case "expired":
            reason = "the batch ended before its turn came"
            return Refusal(key, "expired", reason, None, None, retryable=True)
        case "canceled":
            reason = "the batch was canceled before its turn came"
            return Refusal(key, "canceled", reason, None, None, retryable=True)
        case other:
            reason = f"the result is of an unknown kind or lacks what it should hold: {other}"
            return Refusal(key, "invalid", reason, None, None, retryable=True)


def _errored(key: str, read: _ErrorBody) -> Refusal:
    kind = read.error.type
    reason = f"{kind}: {read.error.message[:500]}".rstrip(":. ")
    if kind == "request_too_large":
        return Refusal(key, "too_large", reason, None, read.request_id, retryable=False)
    if faults.about_all(kind, read.error.message):
        return Refusal(key, "errored", reason, None, read.request_id, retryable=True, about_all=True)
    # What is wrong with the request stays wrong; anything else was the provider's or the account's trouble.
    return Refusal(key, "errored", reason, None, read.request_id, retryable=kind != "invalid_request_error")


def batch(body: bytes) -> tuple[Batch, bool]:
    """Read a batch, and whether its results are there to be read.

    Raises:
        ValueError: it is none.
    """
    read = _read_batch(body)
    return _batch(read), read.results_url is not None


def page(body: bytes) -> tuple[list[Batch], bool]:
    """Read a page of batches, and whether there are more.

    Raises:
        ValueError: it is none.
    """
    read = _read_page(body)
    return [_batch(each) for each in read.data], read.has_more


def _batch(read: _Batch) -> Batch:
    counts: dict[str, int] = msgspec.to_builtins(read.request_counts)
    return Batch(read.id, read.processing_status, instants.to_us(read.created_at), sum(counts.values()), counts)


# -------------------------------------------------------------------------------------------------------------- models


def model(body: bytes, effort: Effort | None) -> tuple[ModelLife, Effort | None]:
    """Read where a model is in its life, and the effort it can be asked for: the given one, or None.

    A gateway that tells of no lifecycle has the model, so it counts as active; one that tells of no capabilities
    leaves them to be found out.

    Raises:
        ValueError: it is no model.
    """
    read = _read_model(body)
    can = read.capabilities or _Capabilities()
    needed = {"structured_outputs": can.structured_outputs, "batch": can.batch}
    lacks = tuple(name for name, has in needed.items() if has is not None and not has.supported)
    retires_on = None if read.retires_at is None else instants.to_text(read.retires_at)[:10]
    takes = {"low": _Can(), "medium": _Can(), "high": _Can()} | (
        {} if can.effort is None else {"low": can.effort.low, "medium": can.effort.medium, "high": can.effort.high}
    )
    fits = effort is not None and takes[effort].supported
    return ModelLife(read.id, read.lifecycle, retires_on, lacks), effort if fits else None
