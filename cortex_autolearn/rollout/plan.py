"""A test that is to begin: its name, its baseline, its share of the traffic, and what is to be said about it at once.

Whether one may begin is ``registry``'s business, what is done about it ``job``'s.
"""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.model import layout
from cortex_autolearn.model.experiments import Experiment
from cortex_autolearn.model.instants import DAY_US, SECOND_US
from cortex_autolearn.model.records import COMPLETED
from cortex_autolearn.rollout.baseline import Baseline, Past
from cortex_autolearn.rollout.decide import (
    expected_days,
    is_out_of_reach,
    is_quality_out_of_reach,
    percentage_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cortex_autolearn.model.experiments import AliasChange, Held, PastTask
    from cortex_autolearn.model.rollout_policy import RolloutPolicy

TRAFFIC_DAYS: Final = 14
"""A master's traffic is that of so many days before."""
FOREVER_US: Final = 1 << 62
_LONG_DAYS: Final = 30

GATE_OUT_OF_REACH: Final = "the champion completes so much that no challenger can gain what a promotion needs"
QUALITY_OUT_OF_REACH: Final = "the champion is scored so high that no challenger can gain what a promotion needs"
TOO_SLOW: Final = 'it may take more than 30 days; with challenger_percentage = "auto" it would take less'


class History(NamedTuple):
    """A master before a test: its champion's matured tasks, and how many tasks it has a day."""

    past: list[Past]
    tasks_per_day: float


def test_id(master: str, model_id: str) -> str:
    """Return the name of the first test of a model for a master."""
    return f"{master}-{model_id}"


def watch_id(master: str, model_id: str) -> str:
    """Return the name of the watch after a promotion."""
    return f"{master}-{model_id}-watch"


def can_be_named(master: str, model_id: str) -> bool:
    """Tell whether tests and watches of a model for a master have names that a file can have."""
    return layout.is_safe_name(watch_id(master, model_id) + "-99")


def free_id(name: str, is_taken: Callable[[str], bool]) -> str:
    """Return a name, or with the first suffix ``-2``, ``-3``, … that is not taken.

    Raises:
        UnsafeNameError: it would be too long for a file.
    """
    number, found = 1, name
    while is_taken(layout.safe_name("test", found)):
        number += 1
        found = f"{name}-{number}"
    return found


def past_of(tasks: Iterable[PastTask], policy: RolloutPolicy) -> list[Past]:
    """Return a champion's matured tasks as outcomes: what had none when its window closed has vanished."""
    return list(_past(tasks, policy.maturation_s * SECOND_US))


def reigns(history: Sequence[AliasChange], champion: str) -> list[tuple[int, int]]:
    """Return when a version was champion: from an instant on, and until one; without a history it always was."""
    changes = [one for one in history if one.alias == "champion"]
    if not changes:
        return [(0, FOREVER_US)]
    found = []
    for number, one in enumerate(changes):
        until_us = changes[number + 1].at_us if number + 1 < len(changes) else FOREVER_US
        if one.version == champion:
            found.append((0 if number == 0 else one.at_us, until_us))
    return found


def matured_before_us(policy: RolloutPolicy, now_us: int) -> int:
    """Return the instant before which a task must have begun for its window to be over."""
    return now_us - policy.maturation_s * SECOND_US


def per_day(count: int, first_us: int | None, now_us: int) -> float:
    """Return tasks a day, of so many since the first of them, over a day at least."""
    return 0.0 if first_us is None else count * DAY_US / max(now_us - first_us, DAY_US)


def begin_test(held: Held, name: str, number: int, policy: RolloutPolicy, history: History) -> Experiment:
    """Return the test of the model that is deployed for a master; ``started_us`` and ``seen`` are set by who starts it.

    Arguments:
        held: what serves the master; its challenger is to be tested.
        name: a free name.
        number: how many tests of this model for this master this makes.
        policy: the bars, for as long as the test runs.
        history: the master before it.
    """
    assert held.challenger is not None
    baseline = Baseline.of(history.past)
    percentage = percentage_for(policy, history.tasks_per_day)
    return Experiment(
        test_id=name,
        kind="test",
        master=held.master,
        a=held.champion,
        b=held.challenger,
        treated="b",
        percentage_a=100 - percentage,
        number=number,
        started_us=0,
        started_by="daemon",
        baseline=asdict(baseline),
        policy=policy,
        notes=notes(policy, baseline, percentage, history.tasks_per_day),
        metrics=NO_METRICS,
    )


def begin_watch(test: Experiment, name: str, now_us: int, by: str, seen: int) -> Experiment:
    """Return the watch after the promotion of a test's challenger: the former champion's baseline stands."""
    return Experiment(
        test_id=name,
        kind="watch",
        master=test.master,
        a=test.b,
        b=test.a,
        treated="a",
        percentage_a=100 - test.policy.watch_percentage,
        number=test.number,
        started_us=now_us,
        started_by=by,
        baseline=test.baseline,
        policy=test.policy,
        metrics=NO_METRICS,
        seen=seen,
        looked_us=now_us,
    )


def notes(policy: RolloutPolicy, baseline: Baseline, percentage: int, tasks_per_day: float) -> dict[str, Any]:
    """Return what is to be said when a test begins: traffic, expected days (None: unknown, or never), and warnings."""
    half, most = expected_days(policy, percentage, tasks_per_day)
    warnings = out_of_reach(baseline.completion, baseline.quality, policy)
    is_hopeless = bool(warnings)
    if isfinite(most) and most > _LONG_DAYS and policy.challenger_percentage != "auto":
        warnings.append(TOO_SLOW)
    return {
        "tasks_per_day": round(tasks_per_day, 1),
        "expected_days": [None if is_hopeless or not isfinite(one) else round(one, 1) for one in (half, most)],
        "warnings": warnings,
    }


def out_of_reach(completion: float, quality: float, policy: RolloutPolicy) -> list[str]:
    """Return which bars no challenger can reach beside a champion of these rates, as warnings: where any, none wins."""
    found = [GATE_OUT_OF_REACH] if is_out_of_reach(completion, policy) else []
    return found + ([QUALITY_OUT_OF_REACH] if is_quality_out_of_reach(quality, policy) else [])


def hopeless(test: Experiment) -> list[str]:
    """Return the same of a test as it was set up; a watch asks for no gain."""
    if test.kind == "watch":
        return []
    return out_of_reach(test.baseline.get("completion", 0.0), test.baseline.get("quality", 0.0), test.policy)


def warnings_of(test: Experiment) -> list[str]:
    """Return what is to be said about a test: also what was not looked at yet when an older version began it."""
    return list(dict.fromkeys([*hopeless(test), *test.notes.get("warnings", ())]))


def _past(tasks: Iterable[PastTask], window_us: int) -> Iterator[Past]:
    """Yield what a test with this window would have seen of past tasks; without one, nothing of those under way."""
    for one in tasks:
        if one.created_us is None or one.completed_us is None:
            is_late = False
        else:
            is_late = 0 < window_us < one.completed_us - one.created_us
        if one.final and not is_late:
            yield Past(one.status == COMPLETED, one.quality, one.duration_s)
        elif window_us:
            yield Past(completed=False, quality=None, duration_s=None, returned=False)


_NONE: Final = {"a": 0, "b": 0}
NO_METRICS: Final[dict[str, dict[str, Any]]] = {
    name: dict(_NONE)
    for name in ("tasks_assigned", "tasks_completed", "tasks_failed", "avg_duration", "avg_quality_score")
}
"""What the file of a test shows before its first task."""
