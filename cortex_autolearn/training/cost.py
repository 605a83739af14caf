"""What examples measure in tokens, what a training of them costs, and what trainings have cost.

Pure, and mostly an estimate: providers publish no tokenizer of their present models. Prices come from the settings
(``model.training_policy.price_table``); what is unknown stays None, and so does every sum it enters.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.model import instants

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cortex_autolearn.model.training_jobs import Price
    from cortex_autolearn.model.trainings import Training

TOKENS_PER_MESSAGE: Final = 4
"""What marks the beginning, the end and the role of one message."""
NEWER_CLAUDE: Final = 1.3
"""How many tokens the present Claude tokenizer makes of what was one before (the provider's own figure, rounded)."""

_LETTERS: Final = bytes(range(0x41, 0x5B)) + bytes(range(0x61, 0x7B))
_DIGITS: Final = b"0123456789"
_MARKS: Final = bytes(code for code in range(0x21, 0x7F) if code not in _LETTERS + _DIGITS)
_IDEOGRAPH: Final = re.compile("[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_NEWER_NAME: Final = re.compile(r"claude-[a-z]+-(?:4-[7-9]|[5-9])")
_MTOK: Final = 1_000_000

# Tokens per character of each kind. Fitted by least squares of the relative error to the last tokenizer of Claude that
# was published, on half of 1,380 texts (task records, prose, code, Markdown, logs, five other languages). On the other
# half the sum is within 9 % for every kind of text and the median text within 7 %; a quarter of the bytes, as is often
# assumed, is off by up to 75 %.
_PER_LETTER: Final = 0.31
_PER_DIGIT: Final = 0.67
_PER_MARK: Final = 0.26
_PER_LINE_FEED: Final = 1.4
_PER_IDEOGRAPH: Final = 0.94
_PER_OTHER: Final = 0.59


class Cost(NamedTuple):
    """What a model costs in US dollars; None where a price is unknown.

    Arguments:
        training: the training itself, once.
        storage_per_month: keeping the model.
        serving_per_hour: an endpoint that stands and waits.
        added_per_task: the input tokens that each task carries more than with the base alone.
    """

    training: float | None
    storage_per_month: float | None
    serving_per_hour: float | None
    added_per_task: float | None


def tokens(text: str) -> int:
    """Estimate the tokens of a text; at least 1 for any text, 0 for none.

    By kinds of characters: letters, digits, marks, line feeds, ideographs and all others. Blanks cost nothing, as
    tokenizers join them to the word that follows.
    """
    if not text:
        return 0
    data = text.encode("utf-8", "surrogatepass")
    count = (
        _PER_LETTER * _count(data, _LETTERS)
        + _PER_DIGIT * _count(data, _DIGITS)
        + _PER_MARK * _count(data, _MARKS)
        + _PER_LINE_FEED * data.count(b"\n")
    )
    if len(data) > len(text):
        ideographs = len(_IDEOGRAPH.findall(text))
        others = sum(map(len, _NOT_ASCII.findall(text))) - ideographs
        count += _PER_IDEOGRAPH * ideographs + _PER_OTHER * others
    return max(1, round(count))


_NOT_ASCII: Final = re.compile("[^\x00-\x7f]+")


def example_tokens(texts: Iterable[str]) -> int:
    """Estimate the tokens of an example: of its system prompt and messages, and of what separates them."""
    return sum(tokens(text) + TOKENS_PER_MESSAGE for text in texts)


def tokens_for(base: str, count: int) -> int:
    """Return how many tokens ``count`` are for a base: more for the Claude models with the newer tokenizer."""
    return round(count * NEWER_CLAUDE) if _NEWER_NAME.search(base) else count


def cost(price: Price | None, *, train_tokens: int, epochs: int, added_cached: int = 0, added_fresh: int = 0) -> Cost:
    """Return what a training of these tokens costs.

    Arguments:
        price: of the base, per million tokens; None when it has none.
        train_tokens: tokens of the training split, counted once and for this base (:func:`tokens_for`).
        epochs: passes over them that are paid for.
        added_cached: input tokens that each task carries more and that are read from the prompt cache.
        added_fresh: those that are not.
    """
    if price is None:
        return Cost(None, None, None, 0.0 if added_cached == added_fresh == 0 else None)
    return Cost(
        training=_usd(train_tokens * epochs, price.training),
        storage_per_month=price.storage_per_month,
        serving_per_hour=price.serving_per_hour,
        added_per_task=_sum(_usd(added_cached, price.cache_read), _usd(added_fresh, price.input)),
    )


def _usd(count: int, usd_per_mtok: float | None) -> float | None:
    if not count:
        return 0.0  # nothing costs nothing, whatever the price
    return None if usd_per_mtok is None else count / _MTOK * usd_per_mtok


def _sum(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _count(data: bytes, kind: bytes) -> int:
    return len(data) - len(data.translate(None, kind))


def spent_in_month(trainings: Iterable[Training], now: datetime) -> float:
    """Return what the trainings of this month (UTC) cost, those included that are about to be submitted."""
    begins_us = instants.to_us(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    costs = 0.0
    for training in trainings:
        will_be = training.submitted_us is None and training.ended_us is None
        if will_be or (training.submitted_us or 0) >= begins_us:
            costs += _cost_usd(training)
    return costs


def _cost_usd(training: Training) -> float:
    """Return what a training cost, as its backend counted it; as it was estimated where it did not, or not yet.

    While it runs there, given up here or not, what was counted may be a part: the month's budget is kept by whichever
    is more. One that its backend never took cost nothing.
    """
    estimated, seen = training.estimate.training_usd or 0.0, training.seen
    if seen is None:
        return estimated
    if not seen.job_id:
        return 0.0
    counted = seen.metrics.get("training_usd")
    if not isinstance(counted, int | float) or not 0 <= counted < math.inf:
        return estimated
    return counted if seen.ended else max(counted, estimated)
