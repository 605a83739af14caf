"""Which of the matches are shown, and in which order. Rules only.

A match of a nearer tier is always preferred. Within a tier the next one shown is the best by its rank less what it
repeats of those already taken (maximal marginal relevance, Carbonell and Goldstein 1998), so that of near-equal matches
one is shown. Ties go to the earlier match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from cortex_autolearn.exemplars.words import resemblance

_REPETITION: Final = 0.4
"""How much a repetition weighs against relevance, which runs from 0 to 1."""


class Match(NamedTuple):
    """An example that has something in common with what is asked.

    ``tier`` is 0 for the same task type, 1 for the same master, 2 for any other (all 2 where matches are not scoped);
    ``relevance`` is above 0, higher for a better match; ``tokens`` is what showing it takes.
    """

    example: int
    tier: int
    relevance: float
    tokens: int
    sketch: frozenset[int]


def pick(matches: Sequence[Match], *, count: int, token_budget: int) -> list[Match]:
    """Return at most ``count`` of the matches that together fit into the budget, in the order in which they are chosen.

    The choice for a smaller count is the beginning of that for a larger one.
    """
    taken: list[Match] = []
    left = token_budget
    repeated = dict.fromkeys((match.example for match in matches), 0.0)
    waiting = sorted(matches, key=_rank)
    best = max((match.relevance for match in matches), default=0.0)
    while waiting and len(taken) < count:
        tier = waiting[0].tier
        candidates = [match for match in waiting if match.tier == tier]
        chosen = max(candidates, key=lambda match: match.relevance / best - _REPETITION * repeated[match.example])
        waiting.remove(chosen)
        if chosen.tokens > left:
            continue
        taken.append(chosen)
        left -= chosen.tokens
        for match in waiting:
            repeated[match.example] = max(repeated[match.example], resemblance(chosen.sketch, match.sketch))
    return taken


def best_last(taken: Sequence[Match]) -> list[Match]:
    """Return the matches in the order in which they are shown: the nearer to the task, the better."""
    return sorted(taken, key=_rank, reverse=True)


def _rank(match: Match) -> tuple[int, float, int]:
    return match.tier, -match.relevance, match.example
