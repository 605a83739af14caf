"""What judging costs, in whole millionths of a US dollar, and whether a budget allows it.

A price in USD per million tokens is the same number in millionths of a dollar per token. Sums are rounded up, so that
no rounding ever spends more than is known.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.model.judgement import MAX_OUTPUT_TOKENS
from cortex_autolearn.model.judging import MICRO_USD, Spent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cortex_autolearn.model.judge_policy import ModelPrice
    from cortex_autolearn.model.judgement import Usage

_UNSEEN_TOKENS: Final = 1_000
"""What the provider may add to a request: its own instructions, and those for the form of the answer."""
_HOUR_FACTOR: Final = 2
"""An hour in the cache costs twice the input price, by the provider's list."""
_BYTES_PER_TOKEN: Final = 3
"""Of English text and code, roughly, by a current model's count."""
_USUAL_ANSWER_TOKENS: Final = 300


class Budget(NamedTuple):
    """One period's budget: its name, what may be spent, what was, and what is under way may cost at most.

    ``is_reached`` tells whether it was noted as reached: then the rest of it is less than a request may cost.
    """

    period: str
    limit: int
    spent: int
    under_way: int
    is_reached: bool = False

    @property
    def left(self) -> int:
        """What may still be sent."""
        return self.limit - self.spent - self.under_way


class Estimate(NamedTuple):
    """What a request will probably cost, and what it may cost at most."""

    usual: int
    most: int


def micro_usd(usd: float) -> int:
    """Return an amount in millionths of a dollar, rounded down: what a budget holds."""
    return math.floor(Decimal(str(usd)) * MICRO_USD)


def price_of(model: str, day: int, prices: Iterable[ModelPrice]) -> ModelPrice | None:
    """Return a model's price on a day (YYYYMMDD); None where none is known.

    A row names the model, or its beginning up to a dash (``claude-x`` for ``claude-x-20260101``); the longest such name
    counts, and of its rows the latest that has begun.
    """
    known = [row for row in prices if _day(row) <= day and (model == row.model or model.startswith(f"{row.model}-"))]
    return max(known, key=lambda row: (len(row.model), _day(row)), default=None)


def cost(usage: Usage, price: ModelPrice, *, is_batch: bool) -> int:
    """Return what a request cost, by the tokens that its provider counted."""
    prompt = sum(usage) - usage.output_tokens
    amount = _long(price, prompt) * (
        usage.input_tokens * _exact(price.input_usd_per_mtok)
        + usage.cache_write_tokens * _exact(price.cache_write_usd_per_mtok)
        + usage.cache_write_1h_tokens * _HOUR_FACTOR * _exact(price.input_usd_per_mtok)
        + usage.cache_read_tokens * _exact(price.cache_read_usd_per_mtok)
        + usage.output_tokens * _exact(price.output_usd_per_mtok)
    )
    return math.ceil(amount * _factor(price, is_batch=is_batch))


def spent(usage: Usage | None, price: ModelPrice, *, is_batch: bool) -> Spent:
    """Return what a request took; nothing where the provider charged nothing."""
    if usage is None:
        return Spent()
    return Spent(
        requests=1,
        input_tokens=usage.input_tokens,
        cache_write_tokens=usage.cache_write_tokens + usage.cache_write_1h_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        output_tokens=usage.output_tokens,
        cost=cost(usage, price, is_batch=is_batch),
    )


def estimate(system: str, user: str, price: ModelPrice, *, is_batch: bool) -> Estimate:
    """Return what a question will cost before it is asked.

    A token is a byte of text at least, so a text has no more tokens than bytes; the system's text may be written to the
    cache, which is dearer.
    """
    kept, asked = len(system.encode("utf-8", "replace")), len(user.encode("utf-8", "replace"))
    plain, answer = _exact(price.input_usd_per_mtok), _exact(price.output_usd_per_mtok)
    dearest = max(plain * _HOUR_FACTOR, _exact(price.cache_write_usd_per_mtok))
    factor = _factor(price, is_batch=is_batch)
    most = kept * dearest + (asked + _UNSEEN_TOKENS) * plain + MAX_OUTPUT_TOKENS * answer
    most *= _long(price, kept + asked + _UNSEEN_TOKENS)
    usual = ((kept + asked) // _BYTES_PER_TOKEN + _UNSEEN_TOKENS // 2) * plain + _USUAL_ANSWER_TOKENS * answer
    return Estimate(math.ceil(usual * factor), math.ceil(most * factor))


def allows(budgets: Iterable[Budget], most: int) -> bool:
    """Tell whether every budget has room for a request that may cost ``most``."""
    return all(most <= budget.left for budget in budgets)


def reached(budgets: Iterable[Budget], most: int) -> list[Budget]:
    """Return the budgets that have no room for it even when nothing that is under way costs anything."""
    return [budget for budget in budgets if budget.spent + most > budget.limit]


def _day(price: ModelPrice) -> int:
    return int(price.since.replace("-", ""))


def _exact(usd_per_mtok: float) -> Decimal:
    """Return the price as it was written: 0.1 is a tenth."""
    return Decimal(str(usd_per_mtok))


def _long(price: ModelPrice, prompt_tokens: int) -> Decimal:
    is_long = 0 < price.long_prompt_tokens < prompt_tokens
    return _exact(price.long_prompt_factor) if is_long else Decimal(1)


def _factor(price: ModelPrice, *, is_batch: bool) -> Decimal:
    return _exact(price.batch_factor) if is_batch else Decimal(1)
