"""Shared by the tests of Claude as the judge: a judge in an event loop of its own, and asks to put to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from anthropic_rules import KEY

from cortex_autolearn.adapters.claude.judge import ClaudeJudge
from cortex_autolearn.adapters.claude.patience import Patience
from cortex_autolearn.model.judgement import Answer, Ask, Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from anthropic_api import AnthropicApi

_T = TypeVar("_T")

HAIKU = "claude-haiku-5-5"
RUBRIC = "Score the work by the rubric. " * 80
SOON = Patience(tries=4, total_s=5.0, first_s=0.01, most_s=0.02)


def with_judge(api: AnthropicApi, use: Callable[[ClaudeJudge], Awaitable[_T]], **options: Any) -> _T:
    """Run ``use`` with a judge, and see that it leaves no task behind."""

    async def run() -> _T:
        judge = ClaudeJudge(options.pop("key", KEY), api.url, patience=options.pop("patience", SOON), **options)
        try:
            return await use(judge)
        finally:
            await judge.close()
            # The loop closes what the HTTP library left half read in tasks of its own, by the next turns.
            for _ in range(3):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(run())


def ask_all(
    api: AnthropicApi, asks: Iterable[Ask], *, model: str = HAIKU, concurrency: int = 4, **options: Any
) -> list[Answer | Refusal]:
    async def use(judge: ClaudeJudge) -> list[Answer | Refusal]:
        return [each async for each in judge.ask(asks, model=model, concurrency=concurrency)]

    return with_judge(api, use, **options)


def ask_one(api: AnthropicApi, text: str, **options: Any) -> Answer | Refusal:
    (only,) = ask_all(api, [Ask("one", RUBRIC, text)], **options)
    return only


def refused(api: AnthropicApi, text: str, **options: Any) -> Refusal:
    found = ask_one(api, text, **options)
    assert isinstance(found, Refusal)
    return found


def several(count: int) -> list[Ask]:
    return [Ask(f"task-{number}", RUBRIC, f"Work number {number}.") for number in range(count)]
