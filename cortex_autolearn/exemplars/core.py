"""The core set: examples that stand first in every request of a master, always the same. Rules only.

It shows what work of each type looks like where nothing similar is found, and, being the same every time, is read from
the provider's prompt cache at a fraction of the price.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from cortex_autolearn.exemplars.words import resemblance

_LARGEST_SHARE: Final = 3
"""No example takes more than one in this many of the core's tokens."""
_ALIKE: Final = (0.5, 0.9)
"""Resemblance from which an example says nothing new: at first, and when nothing newer is left."""
_LEAST_SHARE: Final = 100
"""A type of fewer than one in this many has no turn of its own: nobody gets into every request by one record."""
_TRIED: Final = 200
"""Of a task type, as many of the most typical examples are looked at."""


class Candidate(NamedTuple):
    """An example that may become part of a core set."""

    example: int
    task_type: str | None
    tokens: int
    sketch: frozenset[int]


def choose(candidates: Iterable[Candidate], *, tokens: int) -> list[int]:
    """Return the examples of a core set of about ``tokens`` tokens, in the order in which they are shown.

    Task types take turns, the most frequent first, and rare ones share a turn with what has no type; each gives the
    example whose words are the most usual among those of its type, then the next that differs from what it gave. Only
    when no type has a different one are similar ones taken too: a core set that is too short is not cached. It ends
    with the first example that reaches ``tokens``.
    """
    types: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.tokens * _LARGEST_SHARE <= tokens:
            types.setdefault(candidate.task_type or "", []).append(candidate)
    _share_turns(types)
    by_frequency = sorted(types, key=lambda name: (-len(types[name]), name))
    left = {name: _typical(types[name]) for name in by_frequency}
    chosen: list[Candidate] = []
    total = 0
    for alike in _ALIKE:
        for candidate in _in_turns(left, chosen, alike):
            chosen.append(candidate)
            total += candidate.tokens
            if total >= tokens:
                return [one.example for one in chosen]
    return [one.example for one in chosen]


def _share_turns(types: dict[str, list[Candidate]]) -> None:
    """Put examples of rare types and of none together, and leave them out where they are rare all the same."""
    least = sum(map(len, types.values())) / _LEAST_SHARE
    together = [one for name in [*types] if not name or len(types[name]) < least for one in types.pop(name)]
    if len(together) >= max(1, least):
        types[""] = together


def _in_turns(left: dict[str, list[Candidate]], chosen: Sequence[Candidate], alike: float) -> Iterator[Candidate]:
    """Yield of each type in turn the next candidate less than ``alike`` to all that were chosen before."""
    turns = {name: iter(list(candidates)) for name, candidates in left.items()}
    while turns:
        for name in list(turns):
            for candidate in turns[name]:
                if all(resemblance(candidate.sketch, other.sketch) < alike for other in chosen):
                    left[name].remove(candidate)
                    yield candidate
                    break
            else:
                del turns[name]


def _typical(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Order the examples of a type by how usual their words are in it."""
    usual = Counter(digest for candidate in candidates for digest in candidate.sketch)

    def rank(candidate: Candidate) -> tuple[float, int]:
        sketch = candidate.sketch
        return -sum(usual[digest] for digest in sketch) / (len(sketch) or 1), candidate.example

    return sorted(candidates, key=rank)[:_TRIED]
