"""The evidence of many simulated runs at once, with numpy: the same draws, the same looks, the same endings.

With ``looks`` the one door to numpy, which is an extra. Here tasks are drawn and runs come to their end; what is known
at each look is worked out there. The tests hold every ending to that of the plain engine.

A block holds the next tasks of all runs that go on. Where windows close at once, a task is one look; else it is two:
its outcome, then the closing of the window that ends with it.
"""

from __future__ import annotations

from math import pi
from random import Random
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cortex_autolearn.model.rollout import SCORES
from cortex_autolearn.rollout.baseline import PSEUDO_OUTCOMES, PSEUDO_QUALITY, PSEUDO_RATE, PSEUDO_RETURNED, SLOWEST_S
from cortex_autolearn.rollout.looks import Block, Carried, Tasks
from cortex_autolearn.rollout.simulate import DRAWS, MEDIAN_S, SPREAD, Ending, centre

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cortex_autolearn.model.rollout_policy import RolloutPolicy
    from cortex_autolearn.rollout.looks import Flags, Reals
    from cortex_autolearn.rollout.simulate import World


_BLOCK_CELLS: Final = 400_000
_MAX_BLOCK: Final = 512
_RUNS_AT_ONCE: Final = 1_000


def simulate(
    world: World, policy: RolloutPolicy, seeds: Sequence[int], progress: Callable[[int], None]
) -> list[Ending]:
    """Return how the runs with these seeds end; see :func:`simulate.simulate`."""
    endings: list[Ending] = []
    for start in range(0, len(seeds), _RUNS_AT_ONCE):
        batch = _Batch(world, policy, seeds[start : start + _RUNS_AT_ONCE])
        while batch.size:
            batch.step()
            progress(start + batch.ended)
        endings += batch.endings()
    return endings


class _Batch:
    """Runs that are simulated together, from block to block; a run that has ended leaves."""

    def __init__(self, world: World, policy: RolloutPolicy, seeds: Sequence[int]) -> None:
        self._world = world
        self._random = [_generator(seed) for seed in seeds]
        self._runs = np.arange(len(seeds))
        self._endings: list[Ending | None] = [None] * len(seeds)
        self._index = 0
        self._waiting: Tasks | None = None
        held = world.policy(policy)
        self._carried = Carried(world, held, world.probability(policy), self._history(held.history_tasks))

    @property
    def size(self) -> int:
        return len(self._runs)

    @property
    def ended(self) -> int:
        return len(self._endings) - self.size

    def endings(self) -> list[Ending]:
        return [one for one in self._endings if one is not None]

    def step(self) -> None:
        """Simulate the next tasks of all runs that go on."""
        columns = max(16, min(_MAX_BLOCK, _BLOCK_CELLS // self.size))
        block = Block(self._carried, *self._looks(self._draw(columns, self._index, self._carried.probability)))
        self._index += columns
        ends = block.ends
        done: Flags = np.logical_or.reduce(ends, axis=1)
        for row in np.flatnonzero(done):
            self._endings[self._runs[row]] = block.ending(int(row), int(np.argmax(ends[row])))
        if done.any():
            self._runs = self._runs[~done]
            self._random = [one for one, has_ended in zip(self._random, done, strict=True) if not has_ended]
            self._carried.keep(~done)
            if self._waiting is not None:
                self._waiting = Tasks(*(one[~done] for one in self._waiting))

    def _history(self, most: int) -> dict[str, Reals]:
        """Draw the champion's outcomes before the test, and fix what follows from them (``baseline.Baseline``)."""
        count = min(self._world.history, most)
        past = self._draw(count, -count - 1, 0.0)
        scored = past.completed & past.scored
        speed = np.where(past.returned, 1 - np.minimum(past.duration_s, SLOWEST_S) / SLOWEST_S, 0.0)
        done, known, returned = past.completed.sum(axis=1), scored.sum(axis=1), past.returned.sum(axis=1)
        return {
            "completion": _pseudo(done, count, PSEUDO_RATE),
            "quality": _pseudo(np.where(scored, past.quality, 0.0).sum(axis=1), known, PSEUDO_QUALITY),
            "speed": _pseudo(speed.sum(axis=1), returned, PSEUDO_RATE),
            "scored": _pseudo(known, done, PSEUDO_RATE),
            "returned": _pseudo(returned, count, PSEUDO_RETURNED),
            "past tasks": np.full(self.size, float(count)),
            "past completed": done.astype(np.float64),
            "past vanished": (count - returned).astype(np.float64),
        }

    def _draw(self, columns: int, index: int, probability: float) -> Tasks:
        """Draw tasks as ``simulate.draw`` does, number by number."""
        world = self._world
        numbers = np.empty((self.size, columns, DRAWS))
        for row, one in enumerate(self._random):
            numbers[row] = one.random_sample((columns, DRAWS))
        arm, hang, success, scoring, first, second = (numbers[:, :, one] for one in range(DRAWS))
        treated = arm < probability
        place = np.arange(index, index + columns)
        fails = (place >= world.outage[0]) & (place < sum(world.outage))
        hangs = (hang < _by(treated, world.hang)) & ~fails
        completed = (success < _by(treated, world.completion)) & ~fails & ~hangs
        centres = (centre(world.quality[0], world.sd), centre(world.quality[1], world.sd))
        radius, angle = np.sqrt(-2 * np.log(1 - first)), 2 * pi * second
        quality = np.clip(_by(treated, centres) + world.sd * radius * np.cos(angle), *SCORES)
        took = MEDIAN_S * np.exp(SPREAD * radius * np.sin(angle)) * _by(treated, (1.0, world.slowdown))
        scored = completed & (scoring < _by(treated, world.scored))
        return Tasks(np.ones_like(treated), treated, completed, scored, quality, ~hangs, took)

    def _looks(self, tasks: Tasks) -> tuple[Tasks, Tasks, Tasks]:
        """Return what arrives, what closes and what is assigned at each look."""
        window = self._world.window
        if not window:
            return tasks, tasks, tasks
        if self._waiting is None:
            self._waiting = Tasks(*(np.zeros((self.size, window), dtype=one.dtype) for one in tasks))
        columns = tasks.counts.shape[1]
        queue = Tasks(*(np.concatenate(pair, axis=1) for pair in zip(self._waiting, tasks, strict=True)))
        closing = Tasks(*(one[:, :columns] for one in queue))
        self._waiting = Tasks(*(one[:, columns:] for one in queue))
        nowhere = np.zeros_like(tasks.counts)
        arrived = _alternate(tasks.only(tasks.returned), closing.only(~closing.returned))
        return arrived, _alternate(closing.only(nowhere), closing), _alternate(tasks, closing.only(nowhere))


def _generator(seed: int) -> np.random.RandomState:
    """Return a generator of the same numbers that ``random.Random(seed).random()`` gives."""
    _, internal, _ = Random(seed).getstate()  # noqa: S311 - as in simulate
    generator = np.random.RandomState()
    generator.set_state(("MT19937", np.array(internal[:-1], dtype=np.uint32), internal[-1], 0, 0.0))
    return generator


def _pseudo(sums: NDArray[Any], counts: NDArray[Any] | int, pseudo: float) -> Reals:
    found: Reals = (sums + PSEUDO_OUTCOMES * pseudo) / (counts + PSEUDO_OUTCOMES)
    return found


def _by(treated: Flags, pair: tuple[float, float]) -> Reals:
    return np.where(treated, pair[1], pair[0])


def _alternate(first: Tasks, second: Tasks) -> Tasks:
    """Weave two blocks of tasks into one with a column of each in turn."""
    return Tasks(*(np.stack(pair, axis=2).reshape(pair[0].shape[0], -1) for pair in zip(first, second, strict=True)))
