"""Finds the recipe of an exemplar model: the core sets, how many examples are retrieved, and in which mix.

The rules are ``exemplars.core`` and ``exemplars.measure``; here examples are read for them. Nothing held out is shown:
a held-out task that stands in the training split as well (which a dataset rules out) is not counted, and told of.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.exemplars import core, index, measure
from cortex_autolearn.exemplars.model import ANYONE, EXAMPLES, INDEX, ExemplarModel, Recipe
from cortex_autolearn.exemplars.pick import pick
from cortex_autolearn.exemplars.words import likeness, shingles_of, words_of

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from cortex_autolearn.adapters.trainers.dataset import Example
    from cortex_autolearn.model.training_jobs import Metric, Spec

KNOBS: Final[dict[str, tuple[int, int]]] = {
    "k": (1, measure.MOST),
    "core_tokens": (0, 100_000),
    "token_budget": (100, 500_000),
    "max_tokens": (1, 128_000),
    "held_out": (0, 10_000),
}
"""The hyperparameters, all whole numbers, with their limits."""

_CACHE_MINIMUM: Final = {"claude-haiku-5-5": 512, "claude-haiku-4-5": 4_096}
_CACHE_MINIMUM_ELSEWHERE: Final = 4_096
"""The largest minimum of any base: right for all, if more than some need."""
_REMEMBERED: Final = 1_024


class Knobs(NamedTuple):
    """What an operator may set: ``k`` (None: it is measured), the size of core and request, how much is held out."""

    k: int | None = None
    core_tokens: int = 2_048
    token_budget: int = 6_000
    max_tokens: int = 8_192
    held_out: int = 300

    @classmethod
    def of(cls, spec: Spec) -> Knobs:
        """Read them from the hyperparameters, but for :func:`refused_knobs`.

        The core set grows to what the base's prompt cache takes at least.
        """
        refused = refused_knobs(spec)
        asked = {name: value for name, value in spec.hyperparameters.items() if name in KNOBS and name not in refused}
        knobs = cls(**{name: int(value) for name, value in asked.items()})
        if knobs.core_tokens == 0:
            return knobs
        # Half as much again: tokens are estimated, and below the minimum nothing is cached.
        return knobs._replace(core_tokens=max(knobs.core_tokens, cache_minimum(spec.base) * 3 // 2))


def refused_knobs(spec: Spec) -> dict[str, str]:
    """Return the hyperparameters of a spec that are out of range, each with what is allowed."""
    refused = {}
    for name, asked in sorted(spec.hyperparameters.items()):
        low, high = KNOBS.get(name, (0, 0))
        if name in KNOBS and (isinstance(asked, bool) or not isinstance(asked, int) or not low <= asked <= high):
            refused[name] = f"a whole number from {low} to {high}"
    return refused


def cache_minimum(base: str) -> int:
    """Return how many tokens must stand before a cache breakpoint of a base for it to count."""
    found = [tokens for name, tokens in _CACHE_MINIMUM.items() if base.startswith(name)]
    return found[0] if found else _CACHE_MINIMUM_ELSEWHERE


def find_recipe(
    folder: Path, spec: Spec, validation: Iterable[Example]
) -> tuple[dict[str, Any], dict[str, Metric], list[dict[str, Any]]]:
    """Return the recipe, the metrics, and what each setting that was tried reached.

    Arguments:
        folder: where the examples and their index are.
        spec: the training.
        validation: the held-out examples.

    Raises:
        BoundaryError: a file cannot be read.
        sqlite3.Error: likewise.
    """
    knobs = Knobs.of(spec)
    recipe = Recipe(base=spec.base, k=measure.MOST, token_budget=knobs.token_budget, max_tokens=knobs.max_tokens)
    cores, core_tokens, mean = _cores(folder, knobs.core_tokens)
    price = measure.CACHED_PRICE if core_tokens >= cache_minimum(spec.base) else 1.0
    with ExemplarModel(folder, recipe) as model:
        sample = heapq.nsmallest(knobs.held_out, validation, key=lambda example: _digest(example.task_id))
        seen = _seen(folder / EXAMPLES)
        held_out = [example for example in sample if _identity(example.input) not in seen]
        exam = _Exam(model, cores)
        trials = [exam.trial(example) for example in held_out]
    counts = (knobs.k,) if knobs.k else measure.COUNTS
    finding = measure.choose(trials, example_tokens=mean, core_cost=core_tokens * price, counts=counts)
    setting = finding.setting
    chosen = {
        "k": setting.k,
        "scoped": setting.scoped,
        "token_budget": knobs.token_budget,
        "max_tokens": knobs.max_tokens,
        "core": cores if setting.core else {},
    }
    metrics: dict[str, Metric] = {
        "examples": exam.size,
        "held_out": finding.held_out,
        "leaked": len(sample) - len(held_out),
        "unmatched": exam.unmatched,
        "k": setting.k,
        "scoped": int(setting.scoped),
        "core_examples": len(cores[ANYONE]) if setting.core else 0,
        "core_tokens": core_tokens if setting.core else 0,
        "retrieved_tokens": round(min(mean * setting.k, knobs.token_budget)),
    }
    for name, quality in (
        ("quality", finding.chosen),
        ("quality_retrieved", finding.retrieved),
        ("quality_random", finding.chance),
    ):
        if quality is not None:
            metrics[name] = round(quality.mean, 4)
            metrics[f"{name}_standard_error"] = round(quality.standard_error, 4)
    return chosen, metrics, [_told(quality) for quality in finding.tried]


class _Exam:
    """Compares what held-out tasks were answered with what the model would show."""

    def __init__(self, model: ExemplarModel, cores: dict[str, list[int]]) -> None:
        self.size = model.size
        self.unmatched = 0
        self._model = model
        self._cores = cores
        self._answer = lru_cache(maxsize=_REMEMBERED)(lambda number: shingles_of(model.example(number).output))

    def trial(self, example: Example) -> measure.Trial:
        expected = shingles_of(example.output)
        retrieved = [self._retrieved(example, expected, scoped=scoped) for scoped in (True, False)]
        self.unmatched += not any(retrieved[1])
        drawn = [1 + _digest(f"{example.task_id}:{turn}") % self.size for turn in range(measure.MOST)]
        shown = self._cores.get(example.master or ANYONE, self._cores[ANYONE])
        return measure.Trial(
            scoped=measure.prefix_best(retrieved[0]),
            unscoped=measure.prefix_best(retrieved[1]),
            chance=measure.prefix_best(self._alike(expected, drawn)),
            core=max(self._alike(expected, shown), default=0.0),
        )

    def _retrieved(self, example: Example, expected: frozenset[str], *, scoped: bool) -> list[float]:
        matches = self._model.matches(example.input, master=example.master, task_type=example.task_type, scoped=scoped)
        taken = pick(matches, count=measure.MOST, token_budget=self._model.recipe.token_budget)
        return self._alike(expected, [match.example for match in taken])

    def _alike(self, expected: frozenset[str], numbers: Iterable[int]) -> list[float]:
        return [likeness(expected, self._answer(number)) for number in numbers]


def _cores(folder: Path, tokens: int) -> tuple[dict[str, list[int]], int, float]:
    """Return the core set of each master that fills one, and of all together; its tokens; those of a mean example."""
    connection = index.connect(folder / INDEX)
    try:
        everyone, everyone_tokens = _core(connection, None, tokens)
        cores = {ANYONE: everyone}
        masters = index.masters(connection)
        for master in masters if len(masters) > 1 else ():
            own, own_tokens = _core(connection, master, tokens)
            if own_tokens >= tokens > 0:
                cores[master] = own
        return cores, everyone_tokens, index.mean_tokens(connection)
    finally:
        connection.close()


def _core(connection: sqlite3.Connection, master: str | None, tokens: int) -> tuple[list[int], int]:
    """Return the core set of a master, None for all together, and the tokens that it takes."""
    candidates = {one.example: one for one in index.candidates(connection, master)}
    chosen = core.choose(candidates.values(), tokens=tokens)
    return chosen, sum(candidates[number].tokens for number in chosen)


def _seen(path: Path) -> set[int]:
    with path.open("rb") as file:
        return {_identity(json.loads(line)["input"]) for line in file}


def _identity(asked: str) -> int:
    return _digest(" ".join(words_of(asked)) or asked)


def _digest(text: str) -> int:
    return int.from_bytes(sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _told(quality: measure.Quality) -> dict[str, Any]:
    return {
        **quality.setting._asdict(),
        "quality": round(quality.mean, 4),
        "standard_error": round(quality.standard_error, 4),
    }
