"""What commands print of a test: decision, variants, gains and what a promotion needs, in at most 100 columns."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

import click

from cortex_autolearn.cli.printing import plural, printable, table
from cortex_autolearn.model import instants
from cortex_autolearn.rollout.decide import shown
from cortex_autolearn.rollout.evidence import SCORED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cortex_autolearn.adapters.store.database import Reading
    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.model.rollout_policy import RolloutPolicy
    from cortex_autolearn.rollout.decide import Criterion

EXIT_CODES: Final[Mapping[str, int]] = {
    "promote": 0,
    "settle": 0,
    "continue": 3,
    "invalid": 3,
    "rollback": 4,
    "retire": 5,
    "inconclusive": 5,
}
"""What ``check`` ends with."""

_DECISIONS: Final[Mapping[str, str]] = {
    "promote": "promote",
    "settle": "settle",
    "roll_back": "rollback",
    "revert": "rollback",
    "retire": "retire",
    "conclude": "inconclusive",
    "abort": "inconclusive",
}
"""What each ending of a test is as a decision."""

_MEANING: Final[Mapping[str, str]] = {
    "promote": "promote: the challenger becomes champion",
    "settle": "settle: the promoted model has stood its watch",
    "continue": "continue: nothing is decided yet",
    "invalid": "held: an alarm rang, so nothing is promoted or retired",
    "rollback": "roll back: all tasks to the other model",
    "retire": "retire: the challenger cannot become better enough any more",
    "inconclusive": "inconclusive: the champion stays",
}
_CRITERIA: Final[Mapping[str, str]] = {
    "tasks_control": "tasks of the champion's",
    "tasks_treated": "tasks of the challenger's",
    "quality_gain": "quality gain",
    "completion_gain": "completion gain, points",
    "quality_evidence": "evidence for quality",
    "completion_evidence": "evidence for completion",
}
_EVIDENCE: Final[Mapping[str, str]] = {
    "quality_up": "is scored higher",
    "completion_up": "completes more",
    "quality_down": "is scored lower",
    "completion_down": "completes less",
    "duration_down": "is slower",
    "returned_down": "loses tasks",
}
_PROMOTES: Final = "needed for a promotion"
_ROLLS_BACK: Final = "rolled back"
_SCORES_MISS: Final = "nothing, as scores are missing"
_KNOWN_SHOWN: Final = 20
_COLUMNS: Final = 100


def find_test(reading: Reading, test_id: str) -> Experiment:
    """Return a test.

    Raises:
        UsageError: there is none of that name; the message names those there are.
    """
    found = reading.experiment(test_id)
    if found is None:
        raise unknown("test", test_id, [one.test_id for one in reversed(reading.experiments())])
    return found


def unknown(what: str, name: str, there: Sequence[str]) -> click.UsageError:
    """Return the refusal of a name that stands for nothing, with those that do."""
    names = ", ".join(there[:_KNOWN_SHOWN]) + (", …" if there[_KNOWN_SHOWN:] else "")
    return click.UsageError(printable(f"There is no {what} {name}. {f'There are: {names}' if names else 'None yet'}."))


def ended_card(card: Mapping[str, Any], test: Experiment) -> dict[str, Any]:
    """Return the card of a test that has ended: its last numbers, under what was decided."""
    assert test.ending is not None
    decision = _DECISIONS[test.ending]
    reasons = card["reasons"] if card["decision"] == decision else [f"it was ended: {test.ending.replace('_', ' ')}"]
    return {**card, "decision": decision, "reasons": reasons}


def decision_lines(card: Mapping[str, Any], *, head: str = "Decision") -> list[str]:
    """Return a decision and its reasons."""
    after = card["decided_after"]
    tasks = f"{plural(after['tasks'], 'task')}, {after['challenger_tasks']:,} of them of the model on trial"
    meaning = _MEANING[card["decision"]]
    return [f"{head}: {meaning}", f"  after {tasks}", *[f"  - {reason}" for reason in card["reasons"]]]


def lettered(card: Mapping[str, Any], test: Experiment | None) -> dict[str, Any]:
    """Return a card with the variants as the test's file names them: in a watch the model on trial is ``a``."""
    treated = "b" if test is None else test.treated
    control, on_trial = card["variants"]["a"], card["variants"]["b"]
    variants = {"a": control, "b": on_trial} if treated == "b" else {"a": on_trial, "b": control}
    return {**card, "variants": variants, "on_trial": treated}


def variants_table(
    card: Mapping[str, Any], test: Experiment | None = None, cost_usd: Mapping[str, float | None] | None = None
) -> str:
    """Return the variants side by side, each in a column.

    Arguments:
        card: as :func:`lettered` returns it.
        test: the test, for its shares of the traffic.
        cost_usd: what a task of each variant costs; None where nobody knows.
    """
    variants: Mapping[str, Mapping[str, Any]] = card["variants"]
    roles = (
        ["champion", "challenger, on trial"] if card["on_trial"] == "b" else ["promoted, on trial", "former champion"]
    )
    pair = list(variants.values())
    rows = [["", *[f"{letter}: {one['name']}" for letter, one in variants.items()]], ["", *roles]]
    if test is not None:
        rows.append(["Traffic", f"{test.percentage_a:g} %", f"{100 - test.percentage_a:g} %"])
    rows += [
        ["Tasks", *[f"{one['tasks']:,}" for one in pair]],
        ["Completed", *[f"{number(one['completion_rate'], ' %')} ({one['completed']:,})" for one in pair]],
        ["Quality", *[f"{number(one['avg_quality'])} ({one['scored']:,} scored)" for one in pair]],
        ["Duration", *[number(one["avg_duration"], " s") for one in pair]],
    ]
    if cost_usd is not None:
        rows.append(["Cost a task", *[number(cost_usd.get(letter), " USD") for letter in variants]])
    return table(rows)


def gain_lines(
    card: Mapping[str, Any],
    closed: Mapping[str, float | None],
    intervals: Mapping[str, Sequence[float] | None] | None = None,
) -> list[str]:
    """Return the gains.

    Arguments:
        card: a decision's, whose gains may be over all outcomes so far.
        closed: the gains over tasks whose windows have closed: those that a promotion counts.
        intervals: of these, where they are to be shown.
    """
    sure = ":" if intervals is None else " (95 % interval, valid whenever one looks):"
    around = intervals or {}
    if closed == card["gain"]:
        return [f"Gains of the model on trial{sure}", *_gains(closed, around)]
    lines = ["Gains of the model on trial, by all outcomes so far:", *_gains(card["gain"], {})]
    return [*lines, f"By the tasks whose windows have closed{sure}", *_gains(closed, around)]


def _gains(gain: Mapping[str, float | None], intervals: Mapping[str, Sequence[float] | None]) -> list[str]:
    lines = []
    for name, label, unit in (("quality", "quality", ""), ("completion_points", "completion", " points")):
        between = intervals.get(name)
        around = "" if between is None else f"   [{number(between[0], sign='+')}, {number(between[1], sign='+')}]"
        lines.append(f"  {label:11}{number(gain[name], unit, sign='+')}{around}")
    return lines


def criteria_table(criteria: Iterable[Criterion]) -> str:
    """Return what a promotion needs: how far it is, how far it must be, and whether that is met."""
    rows = [["A PROMOTION NEEDS", "VALUE", "BAR", "MET"]]
    for one in criteria:
        bar = f"more than {number(_scaled(one.name, one.bar))}" if one.name.endswith("gain") else None
        rows.append(
            [
                _CRITERIA.get(one.name, one.name),
                number(_scaled(one.name, one.value)),
                bar or f"at least {number(_scaled(one.name, one.bar))}",
                "yes" if one.met else "no",
            ]
        )
    return table(rows)


def criterion_dict(one: Criterion) -> dict[str, Any]:
    """Return a criterion as JSON holds it: evidence as e-values, completion in points."""
    value, bar = _scaled(one.name, one.value), _scaled(one.name, one.bar)
    return {"name": one.name, "value": value, "bar": bar, "met": one.met}


def evidence_table(
    evidence: Mapping[str, float], policy: RolloutPolicy, kind: str, alarms: Collection[str] = ()
) -> str:
    """Return the evidence for and against the model on trial, each beside the bar that is asked of it.

    Arguments:
        evidence: as the card has it.
        policy: the bars of the test.
        kind: ``test`` or ``watch``.
        alarms: those that rang.
    """
    bars: dict[str, float] = {}
    if kind == "watch":
        bars = {"quality_down": policy.watch_evidence, "completion_down": policy.watch_evidence}
    elif policy.evidence == "anytime":
        bars = {"quality_up": policy.promotion_evidence, "completion_up": policy.promotion_evidence}
        bars |= {"quality_down": policy.rollback_evidence, "completion_down": policy.rollback_evidence}
        bars |= {"duration_down": policy.slowdown_evidence, "returned_down": policy.vanishing_evidence}
    rows = [["EVIDENCE THAT IT", "VALUE", "BAR", "AT THE BAR"]]
    for name, text in _EVIDENCE.items():
        bar = bars.get(name)
        end = "" if bar is None else _PROMOTES if name.endswith("up") else _ROLLS_BACK
        if name == "quality_down" and SCORED in alarms:
            end = _SCORES_MISS
        rows.append([text, number(evidence[name]), "none" if bar is None else number(bar), end])
    return table(rows)


def number(value: float | None, unit: str = "", *, sign: str = "") -> str:
    """Return a number as people read it."""
    if value is None:
        return "unknown"
    if not sign and value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}{unit}"
    return f"{value:{sign}.3g}{unit}"


def wrapped(lines: Iterable[str]) -> str:
    """Return lines as one text, printable, those that are too long broken between words."""
    found: list[str] = []
    for line in "\n".join(lines).split("\n"):
        if len(line) <= _COLUMNS:
            found.append(line)
            continue
        indent = " " * (len(line) - len(line.lstrip(" -")) + 2)
        found += wrap(line, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return printable("\n".join(found).rstrip())


def when(us: int | None) -> str:
    """Return an instant to the minute, in UTC."""
    return "unknown" if us is None else f"{instants.from_us(us):%Y-%m-%d %H:%M}"


def _scaled(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if name.endswith("evidence"):
        # The bar was a round number before its logarithm was taken.
        return float(f"{shown(value):.12g}")
    return round(100 * value, 9) if name == "completion_gain" else value
