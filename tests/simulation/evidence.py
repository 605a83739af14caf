"""What a promotion must rest on, worked out once more from the stored tasks of its test, in the plainest way.

The formulas are those of the decision's specification; nothing of ``rollout`` is used.
"""

from __future__ import annotations

from math import log, prod
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_GRID = (1 / 6, 1 / 3, 2 / 3, 0.95)


class Closed(NamedTuple):
    """A task whose window has closed: whose it was, how likely that was, and what came of it."""

    treated: bool
    probability: float
    completed: bool
    quality: float | None


def closed_tasks(rows: Iterable[Mapping[str, Any]], window_us: int) -> list[Closed]:
    """Return the tasks of a test that count for a promotion; an outcome that came too late is a failure."""
    found = []
    for row in rows:
        has_outcome = row["at_us"] is not None
        if not row["closed"] or (not has_outcome and (row["void"] or row["unrouted"])):
            continue
        in_time = has_outcome and row["first_us"] <= row["assigned_us"] + window_us
        completed = bool(in_time and row["completed"])
        found.append(Closed(bool(row["treated"]), row["probability"], completed, row["quality"] if completed else None))
    return found


def missing_for_promotion(tasks: Sequence[Closed], baseline: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    """Return what a promotion would need and these tasks do not show."""
    arms = {one: [task for task in tasks if task.treated == one] for one in (False, True)}
    if any(len(arm) < policy["min_tasks"] for arm in arms.values()):
        return [f"{policy['min_tasks']} tasks in each variant"]
    rate = {one: sum(task.completed for task in arm) / len(arm) for one, arm in arms.items()}
    scores = {one: [task.quality for task in arm if task.quality is not None] for one, arm in arms.items()}
    if not all(scores.values()):
        return ["scores in both variants"]
    mean = {one: sum(values) / len(values) for one, values in scores.items()}
    needed = log(policy["promotion_evidence"]) - 1e-6
    shown = {
        "a gain of completion": rate[True] - rate[False] > policy["min_completion_gain"] / 100 - 1e-9,
        "a gain of quality": mean[True] - mean[False] > policy["min_quality_gain"] - 1e-9,
        "evidence of completion": evidence(_completions(tasks), (0.0, 1.0), baseline["completion"]) >= needed,
        "evidence of quality": evidence(_scores(tasks), (1.0, 5.0), baseline["quality"]) >= needed,
    }
    return [name for name, holds in shown.items() if not holds]


def evidence(values: Sequence[tuple[float, bool, float]], bounds: tuple[float, float], b: float) -> float:
    """Return ``log E_up`` of (value, treated, probability) on a metric's bounds, by its formula."""
    low, high = bounds
    wealth = []
    for share in _GRID:
        factors = []
        for value, treated, chance in values:
            phi = (value - b) * (treated - chance) / (chance * (1 - chance))
            stake = share / max((b - low) / chance, (high - b) / (1 - chance))
            factors.append(1 + stake * phi)
        wealth.append(prod(factors))
    return log(sum(wealth) / len(wealth))


def _completions(tasks: Sequence[Closed]) -> list[tuple[float, bool, float]]:
    return [(float(task.completed), task.treated, task.probability) for task in tasks]


def _scores(tasks: Sequence[Closed]) -> list[tuple[float, bool, float]]:
    return [(task.quality, task.treated, task.probability) for task in tasks if task.quality is not None]
