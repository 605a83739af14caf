"""A whole life of a model in which the process is killed again and again: at commits, fsyncs, renames and writes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from rollout_support import Life
from support import Killer, quick_folder, slow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    made = Killer()
    yield made
    made.close()


def lived(root: Path, killer: Killer, chance: random.Random | None, calls: list[int]) -> tuple[dict[str, Any], int]:
    """Live a life; with ``chance`` every step is killed at some call, and then done again.

    Arguments:
        root: where.
        killer: does the steps.
        chance: chooses where to die; None for an undisturbed life.
        calls: how many deadly calls each step makes; an undisturbed life notes them here.

    Returns:
        what is left of it, and how often it was killed.
    """
    kills = 0

    def run(at_s: float, step: str | None) -> None:
        nonlocal kills
        options: dict[str, Any] = {"at_s": at_s, "step": step}
        if chance is None:
            calls.append(killer.work(root, task="rollout", **options)["calls"])
            return
        kills += killer.work(root, task="rollout", die_at=chance.randrange(calls[life.steps]), **options)["died"]
        assert not killer.work(root, task="rollout", **options)["died"]

    life = Life(root, run)
    try:
        life.live()
        return life.found(), kills
    finally:
        life.close()


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("least", [10, pytest.param(200, marks=slow)])
def test_a_kill_at_any_instant_changes_nothing(killer: Killer, least: int) -> None:
    """After every kill the next run completes what was begun: the life is, in state and files, an undisturbed one."""
    with quick_folder() as folder:
        calls: list[int] = []
        expected, _ = lived(folder / "undisturbed", killer, None, calls)
        kills, number = 0, 0
        while kills < least:
            number += 1
            found, died = lived(folder / f"killed-{number}", killer, random.Random(f"{least} {number}"), calls)
            kills += died
            for name, value in expected.items():
                assert found[name] == value, name
