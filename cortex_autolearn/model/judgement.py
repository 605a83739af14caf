"""What a judge is asked about a task's work, and what it answers.

The text of the question is made by the room that asks; how it travels is the business of the adapter behind
``ports.Judge``. An answer that is no judgement is a :class:`Refusal` with its reason, never a guess.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
"""What an ask may be called (``KEY.match``): the form the provider wants of a custom id."""

MAX_BATCH_REQUESTS: Final = 100_000
"""Most asks in one batch, by the provider's limit."""
MAX_BATCH_BYTES: Final = 256_000_000
"""Most bytes of one batch's request; the provider allows 256 MB and does not say which MB."""
MAX_ASK_BYTES: Final = 32_000_000
"""Most bytes of the request of one ask that is sent alone."""
MAX_OUTPUT_TOKENS: Final = 4_096
"""Most tokens of one answer, what the model thinks before it answers included: most of them take a few hundred."""

BatchState = Literal["in_progress", "canceling", "ended"]
RefusalKind = Literal["invalid", "errored", "expired", "canceled", "too_large"]
LifeState = Literal["active", "deprecated", "retired", "unknown"]


class Ask(NamedTuple):
    """One question.

    ``key`` is matched by :data:`KEY` and unique in a batch; ``system`` is the same text for many asks, so that the
    provider can keep it; ``user`` holds what is judged.
    """

    key: str
    system: str
    user: str


class Usage(NamedTuple):
    """What the provider charges for, in tokens; the four kinds of input do not overlap."""

    input_tokens: int
    cache_write_tokens: int
    """Written to the cache for five minutes."""
    cache_read_tokens: int
    output_tokens: int
    cache_write_1h_tokens: int = 0
    """Written to the cache for an hour."""


class Judgement(NamedTuple):
    """What the judge thinks: four criteria from 1 to 5, overall 1.0 to 5.0 in halves, and why in one sentence."""

    task_success: int
    correctness: int
    completeness: int
    clarity: int
    overall: float
    rationale: str


class Answer(NamedTuple):
    """A judgement and what it took.

    ``request_id`` is what the provider's support asks for; in a batch, where no answer has one, the id of the message.
    ``model`` is the one that answered, by its own account.
    """

    key: str
    judgement: Judgement
    usage: Usage
    request_id: str | None
    model: str


class Refusal(NamedTuple):
    """No judgement, and why.

    ``invalid``: an answer came and is no judgement (it was paid for: ``usage``). ``errored``: the provider refused
    the request or failed. ``expired``, ``canceled``: the batch ended before its turn came, nothing was charged.
    ``too_large``: the request exceeds what the provider takes. ``retryable``: the same ask may be answered later.
    ``about_all``: it says nothing about this ask; the key, its account or the model was refused.
    """

    key: str
    kind: RefusalKind
    reason: str
    usage: Usage | None
    request_id: str | None
    retryable: bool
    about_all: bool = False


class Batch(NamedTuple):
    """A batch as the provider tells of it.

    ``created_us`` is by the provider's clock, in microseconds since 1970; ``asked`` is the sum of ``counts``, whose
    keys are ``processing``, ``succeeded``, ``errored``, ``canceled`` and ``expired``; all but the first are 0 until
    the batch has ended.
    """

    id: str
    state: BatchState
    created_us: int
    asked: int
    counts: dict[str, int]


class ModelLife(NamedTuple):
    """Where a model is in its life.

    ``model`` is the full id behind an alias; ``retires_on`` an ISO date; ``unknown`` means that the provider does not
    know the name, so that no call with it will succeed. ``lacks`` names what a judge needs and this model cannot do:
    ``structured_outputs``, ``batch``.
    """

    model: str
    state: LifeState
    retires_on: str | None
    lacks: tuple[str, ...] = ()
