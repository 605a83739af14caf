"""What examples measure and what a training of them costs; unknown prices stay unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_autolearn.model.training_jobs import Price
from cortex_autolearn.model.training_policy import BasePrice, TrainingPolicy, price_table
from cortex_autolearn.training.cost import (
    NEWER_CLAUDE,
    TOKENS_PER_MESSAGE,
    Cost,
    cost,
    example_tokens,
    tokens,
    tokens_for,
)

PRICE = Price(
    base="b",
    as_of="2026-11-22",
    training=8.0,
    input=1.0,
    cache_read=0.1,
    storage_per_month=1.95,
    serving_per_hour=0.5,
)


class TestTokens:
    def test_no_text_has_none_and_any_text_has_one(self) -> None:
        """Nothing measures nothing, and no text is free."""
        assert tokens("") == 0
        assert tokens(" ") == 1
        assert tokens("a") == 1

    @given(st.text(), st.text())
    def test_a_longer_text_never_measures_less(self, one: str, other: str) -> None:
        """Whatever is added to a text, half of a surrogate pair too, does not make it cheaper."""
        assert tokens(one + other) >= tokens(one)

    @pytest.mark.parametrize(
        ("text", "low", "high"),
        [
            ("Two weak spots were found in the session handling, and both were mended today. " * 20, 3.0, 5.0),
            ("for number in range(10):\n    total += values[number]\n" * 20, 2.4, 4.4),
            ('{"status":"completed","duration_seconds":31.5,"retries":0},' * 20, 2.2, 4.0),
            ("2025-11-27T10:31:07.123456Z 9f86d081884c7d659a2feaa0c55ad015 " * 20, 1.4, 2.6),
        ],
    )
    def test_bytes_per_token_depend_on_the_kind_of_text(self, text: str, low: float, high: float) -> None:
        """Prose, code, records and digests measure what tokenizers make of them, not a quarter of their bytes."""
        assert low < len(text) / tokens(text) < high

    def test_scripts_of_many_bytes_are_measured_by_their_signs(self) -> None:
        """A Chinese sign is about a token, three bytes or not; so is half of a Cyrillic word."""
        assert 0.8 < tokens("依赖项检查在会话处理中发现了两个漏洞" * 20) / (18 * 20) < 1.2
        assert 0.4 < tokens("Проверка зависимостей показала две уязвимости" * 20) / (45 * 20) < 0.7

    def test_an_example_is_its_texts_and_what_separates_them(self) -> None:
        """System prompt, question and answer count, and the marks around each."""
        texts = ("You are the master.", "Look at it, please.", "It was looked at.")
        assert example_tokens(texts) == sum(map(tokens, texts)) + 3 * TOKENS_PER_MESSAGE

    @pytest.mark.parametrize("base", ["claude-haiku-5-5", "claude-opus-4-7", "us.anthropic.claude-sonnet-5-5-v1:0"])
    def test_newer_claude_models_make_more_of_a_text(self, base: str) -> None:
        """Their tokenizer is another one, and the bill follows it."""
        assert tokens_for(base, 1_000) == round(1_000 * NEWER_CLAUDE)

    @pytest.mark.parametrize("base", ["claude-haiku-4-5", "claude-3-haiku-20240307", "amazon.nova-lite-v1:0", "gpt-5"])
    def test_others_do_not(self, base: str) -> None:
        """What was measured for the others stands."""
        assert tokens_for(base, 1_000) == 1_000


class TestCost:
    def test_tokens_times_epochs_times_price(self) -> None:
        """A million tokens, three times, at eight dollars a million."""
        found = cost(PRICE, train_tokens=1_000_000, epochs=3, added_cached=2_000, added_fresh=500)
        assert found[:3] == (24.0, 1.95, 0.5)
        assert found.added_per_task == pytest.approx(0.0007)

    def test_no_price_is_unknown_and_not_free(self) -> None:
        """Without a price nothing is known; nothing added costs nothing all the same."""
        assert cost(None, train_tokens=1, epochs=1) == Cost(None, None, None, 0.0)
        assert cost(None, train_tokens=1, epochs=1, added_fresh=1).added_per_task is None

    def test_a_price_with_gaps_is_unknown_where_the_gap_is(self) -> None:
        """What one part costs is known though another is not."""
        price = Price(base="b", as_of="2026-11-22", input=1.0)
        found = cost(price, train_tokens=1_000, epochs=1, added_fresh=1_000)
        assert found[:3] == (None, None, None)
        assert found.added_per_task == pytest.approx(0.001)
        assert cost(price, train_tokens=1_000, epochs=1, added_cached=1, added_fresh=1).added_per_task is None


class TestPriceTable:
    def test_the_latest_price_of_a_base_counts(self) -> None:
        """Prices are dated, in whatever order they stand; what a row leaves out is unknown."""
        rows = (
            BasePrice(base="b", as_of="2026-11-01", input_usd_per_mtok=2.0),
            BasePrice(base="b", as_of="2026-10-01", input_usd_per_mtok=1.0, training_usd_per_mtok=1.0),
        )
        table = price_table(TrainingPolicy(prices=rows))
        assert table == {"b": Price(base="b", as_of="2026-11-01", input=2.0)}

    def test_the_prices_that_ship_say_from_when_they_are(self) -> None:
        """Each default has its day and a price for input and output, and none for a training that nobody sells."""
        for base, price in price_table(TrainingPolicy()).items():
            assert price.as_of >= "2026-01-01", base
            assert price.input is not None
            assert price.output is not None
            assert price.training is None
