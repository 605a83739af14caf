"""Asks the provider of a base model where that is in its life, for a trainer's preflight."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cortex_autolearn.model.judgement import ModelLife
    from cortex_autolearn.ports import Judge


def life_by(make: Callable[[], Judge]) -> Callable[[str], ModelLife]:
    """Return what tells where a model is in its life, by the provider that also judges.

    What is returned raises BoundaryError when the provider does not answer.
    """

    def life(model: str) -> ModelLife:
        import asyncio  # noqa: PLC0415 - commands that train nothing do without it

        return asyncio.run(_asked(make(), model))

    return life


async def _asked(judge: Judge, model: str) -> ModelLife:
    try:
        return await judge.life(model)
    finally:
        await judge.close()
