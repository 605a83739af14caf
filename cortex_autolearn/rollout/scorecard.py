"""A decision as people and programs read it: FORMATS, "What commands print", ``replay`` and ``check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cortex_autolearn.model.rollout import SCORES, Decision, Inconclusive, Promote, Retire, Settle, WatchDecision
from cortex_autolearn.rollout.decide import shown
from cortex_autolearn.rollout.interval import interval
from cortex_autolearn.rollout.wealth import Range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cortex_autolearn.model.rollout import Arm, Numbers, Pair
    from cortex_autolearn.rollout.evidence import Evidence

Bounds = tuple[float, float] | None

_RATES: Final = (0.0, 1.0)


def name_of(decision: Decision | WatchDecision) -> str:
    """Return the decision's name, as it is printed."""
    return type(decision).__name__.lower()


def pair_of(decision: Decision | WatchDecision) -> Pair:
    """Return the variants as the decision saw them.

    What promotes, retires or settles counts tasks whose windows have closed; all else counts outcomes as they arrive.
    """
    numbers = decision.numbers
    return numbers.closed if isinstance(decision, Promote | Retire | Inconclusive | Settle) else numbers.arrived


def card(decision: Decision | WatchDecision, names: tuple[str, str]) -> dict[str, Any]:
    """Return a decision and its numbers, as ``--json`` prints them.

    Arguments:
        decision: what was decided.
        names: of the models, the one on trial last.
    """
    pair, numbers = pair_of(decision), decision.numbers
    return {
        "decision": name_of(decision),
        "reasons": [one.text for one in decision.reasons],
        "decided_after": {
            "tasks": pair.control.tasks + pair.treated.tasks,
            "challenger_tasks": pair.treated.tasks,
        },
        "variants": {"a": _variant(names[0], pair.control), "b": _variant(names[1], pair.treated)},
        "gain": gain_of(pair),
        "evidence": _evidence(numbers),
    }


def gain_of(pair: Pair) -> dict[str, float | None]:
    """Return the gains over some tasks, as the card has them: scores, and points of completion."""
    return {
        "quality": pair.quality_gain,
        "completion_points": None if pair.completion_gain is None else _rounded(100 * pair.completion_gain),
    }


def intervals(evidence: Evidence, baseline: Mapping[str, float]) -> dict[str, Bounds]:
    """Return between what gains the truth lies, over closed windows, whenever one looks; see ``interval``.

    Keys are those of the card's ``gain``; None before a window has closed on a value.

    Arguments:
        evidence: of the test.
        baseline: its `b` of each metric, by name.
    """
    quality, completion = evidence.values("quality"), evidence.values("completion")
    points = interval(completion, Range(*_RATES, baseline["completion"])) if completion else None
    return {
        "quality": interval(quality, Range(*SCORES, baseline["quality"])) if quality else None,
        "completion_points": None if points is None else (100 * points[0], 100 * points[1]),
    }


def _variant(name: str, arm: Arm) -> dict[str, Any]:
    return {
        "name": name,
        "tasks": arm.tasks,
        "completed": arm.completed,
        "completion_rate": None if arm.completion is None else _rounded(100 * arm.completion),
        "avg_quality": _rounded(arm.quality),
        "avg_duration": _rounded(arm.duration_s),
        "scored": arm.scored,
    }


def _evidence(numbers: Numbers) -> dict[str, float]:
    names = ("quality_up", "quality_down", "completion_up", "completion_down", "duration_down", "returned_down")
    return {name: shown(getattr(numbers, name)) for name in names}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
