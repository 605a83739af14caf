"""``ab``: the tests of challengers and the watches after promotions, and which model served a master when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from cortex_autolearn.cli.call import Command, Group, json_option, pass_call
from cortex_autolearn.cli.card import (
    criteria_table,
    criterion_dict,
    decision_lines,
    ended_card,
    evidence_table,
    find_test,
    gain_lines,
    lettered,
    number,
    unknown,
    variants_table,
    when,
    wrapped,
)
from cortex_autolearn.cli.dates import INSTANT
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.printing import note, period, plural, print_json, printable, table
from cortex_autolearn.cli.route import MASTER
from cortex_autolearn.model import instants, layout
from cortex_autolearn.rollout import forecast, plan, report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.model.experiments import AliasChange, Experiment, Queued
    from cortex_autolearn.model.rollout_policy import RolloutPolicy
    from cortex_autolearn.rollout.forecast import Forecast
    from cortex_autolearn.rollout.report import Summary

_FEW_CHARS: Final = 20
_ENDED: Final = {
    "promote": "promoted",
    "roll_back": "rolled back",
    "retire": "retired",
    "conclude": "inconclusive",
    "abort": "aborted",
    "revert": "reverted",
    "settle": "settled",
}
_KINDS: Final = {"test": "test", "watch": "watch after a promotion"}


@click.group(cls=Group)
def ab() -> None:
    """Look at the A/B tests of new models, and at what they decided."""


@ab.command("list", cls=Command, short_help="List the tests, and the models that wait.")
@click.option("--active", is_flag=True, help="Only those that run or are paused.")
@json_option
@pass_call
def list_(call: Call, *, active: bool, as_json: bool) -> None:
    """List the tests and watches, the oldest first, and the models that wait for their turn.

    \b
    Example:  cortex-autolearn ab list --active
    """
    with opened(call, looks_only=True) as app, app.store.read() as reading:
        tests = reading.experiments(only_active=active)
        queue = reading.deploy_queue()
    if as_json:
        print_json({"tests": [_test_dict(one) for one in tests], "queue": [_queued_dict(one) for one in queue]})
        return
    if tests:
        rows = [["TEST", "STATE", "A", "SHARE", "TASKS A/B", "STARTED"]]
        rows += [
            [
                one.test_id,
                state_of(one),
                one.a,
                f"{one.percentage_a:g}/{100 - one.percentage_a:g}",
                "/".join(f"{one.metrics.get('tasks_assigned', {}).get(letter, 0):.0f}" for letter in "ab"),
                f"{instants.from_us(one.started_us):%Y-%m-%d}",
            ]
            for one in tests
        ]
        click.echo(table(rows))
    elif not queue:
        by_hand = call.copyable("cortex-autolearn deploy")
        note(f"No test yet. A trained model is tested by itself, or by: {by_hand} MODEL MASTER")
    for queued in queue:
        line = f"Waits for {queued.master} to be free: {queued.model_id}, since {when(queued.asked_us)} ({queued.by})"
        click.echo(printable(line))


@ab.command(cls=Command, short_help="Show how a test was set up.")
@click.argument("test")
@json_option
@pass_call
def show(call: Call, test: str, *, as_json: bool) -> None:
    """Show how the test TEST was set up: variants, shares, baseline and bars, pauses, alarms and what was left out.

    \b
    Example:  cortex-autolearn ab show security-master-ft-20251127-001
    """
    with opened(call, looks_only=True) as app, app.store.read() as reading:
        found = find_test(reading, test)
    if as_json:
        print_json(_test_dict(found))
    else:
        click.echo(wrapped(_show_lines(found)))


@ab.command(cls=Command, short_help="Show how a test stands, and what is missing.")
@click.argument("test")
@json_option
@pass_call
def summary(call: Call, test: str, *, as_json: bool) -> None:
    """Show how the test TEST stands: each variant, the gains, what a promotion needs, and when to expect a decision.

    \b
    Example:  cortex-autolearn ab summary security-master-ft-20251127-001
              cortex-autolearn ab summary security-master-ft-20251127-001 --json | jq .gain
    """
    with opened(call, looks_only=True) as app, app.store.read() as reading:
        find_test(reading, test)
        now_us = instants.to_us(app.clock.now())
        found = report.summary(reading, test, now_us, app.medallion.taken_in_us())
    expected = forecast_of(found, now_us) if state_of(found.experiment) in {"active", "held"} else None
    if as_json:
        print_json(_summary_dict(found, expected))
    else:
        click.echo(wrapped(_summary_lines(found, expected, now_us)))


@ab.command(cls=Command, short_help="Show what served a master, and since when.")
@click.argument("master", type=MASTER)
@click.option("--at", "at_us", metavar="TIME", type=INSTANT, help="Which model was champion then, and why.")
@json_option
@pass_call
def history(call: Call, master: str, *, at_us: int | None, as_json: bool) -> None:
    """Show which models MASTER was served by, since when, by whom and why, the oldest first.

    TIME is such as 2025-11-27T12:00:00Z, or a day (its end), in UTC.

    \b
    Example:  cortex-autolearn ab history security-master
              cortex-autolearn ab history security-master --at 2025-11-27
    """
    with opened(call, looks_only=True) as app, app.store.read() as reading:
        there = [held.master for held in reading.servings()]
        found = [one for one in reading.alias_history(master) if at_us is None or one.at_us <= at_us]
    if master not in there:
        raise unknown("master with a history", master, there)
    champion = next((one for one in reversed(found) if one.alias == "champion"), None)
    if as_json:
        shown: dict[str, Any] = {"master": master, "history": [_change_dict(one) for one in found]}
        if at_us is not None:
            shown |= {"at": instants.us_to_text(at_us), "champion": champion and _change_dict(champion)}
        print_json(shown)
        return
    if at_us is not None:
        click.echo(wrapped([_champion_line(master, at_us, champion)]))
        return
    rows = [["SINCE (UTC)", "ALIAS", "VERSION", "BY", "EVENT"]]
    for one in found:
        seq = "" if one.event_seq is None else str(one.event_seq)
        rows.append([when(one.at_us), one.alias, one.version or "none", one.by, seq])
    taken = sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True))
    whys = ["WHY", *[_short(one.why, max(_FEW_CHARS, 100 - taken)) for one in found]]
    click.echo(table([[*row, why] for row, why in zip(rows, whys, strict=True)]))


def state_of(test: Experiment) -> str:
    """Return where a test stands, in a word or two."""
    if test.is_active:
        paused = bool(test.pauses) and test.pauses[-1].until_us is None
        return "paused" if paused else "held" if test.is_held else "active"
    return _ENDED.get(test.ending or "", "ended")


def forecast_of(found: Summary, now_us: int) -> Forecast:
    """Return when a running test or watch can be expected to be decided."""
    test, numbers = found.experiment, found.decision.numbers
    paused_us = sum((now_us if one.until_us is None else one.until_us) - one.from_us for one in test.pauses)
    elapsed_s = (now_us - test.started_us - paused_us) / instants.SECOND_US
    pace = forecast.Pace(found.tasks_per_day, elapsed_s, now_us)
    if test.kind == "watch":
        return forecast.of_watch(numbers, test.policy, pace)
    expected = forecast.of_test(numbers, test.policy, 100 - test.percentage_a, pace)
    return expected._replace(half_us=None, most_us=None) if plan.hopeless(test) else expected


def _summary_dict(found: Summary, expected: Forecast | None) -> dict[str, Any]:
    test = found.experiment
    card = lettered(found.card if test.is_active else ended_card(found.card, test), test)
    return {
        "test_id": test.test_id,
        "master": test.master,
        "kind": test.kind,
        "state": state_of(test),
        "traffic": {"a": test.percentage_a, "b": 100 - test.percentage_a},
        **card,
        "cost_usd": found.cost_usd,
        "closed_gain": found.closed_gain,
        "intervals": found.intervals,
        "criteria": [criterion_dict(one) for one in found.criteria],
        "tasks_per_day": round(found.tasks_per_day, 3),
        "expected": None if expected is None else expected.as_dict(),
        "left_out": found.refused,
        "late": found.late,
        "alarms": list(test.alarms),
        "warnings": plan.warnings_of(test),
    }


def _summary_lines(found: Summary, expected: Forecast | None, now_us: int) -> list[str]:
    test = found.experiment
    until_us = now_us if test.ended_us is None else test.ended_us
    ended = "" if test.ended_us is None else f", ended {when(test.ended_us)}"
    ran = period((until_us - test.started_us) / instants.SECOND_US)
    card = lettered(found.card if test.is_active else ended_card(found.card, test), test)
    lines = [
        test.test_id,
        f"A {_KINDS[test.kind]} of {test.master}: {state_of(test)}; since {when(test.started_us)} UTC ({ran}){ended}",
        "",
        *decision_lines(card, head="Decision" if test.is_active else "Decided"),
        "",
        variants_table(card, test, found.cost_usd),
        "",
        *gain_lines(card, found.closed_gain, found.intervals),
        "",
    ]
    if test.kind == "test":
        lines += [criteria_table(found.criteria), ""]
    lines += [evidence_table(card["evidence"], test.policy, test.kind, test.alarms), ""]
    lines += _forecast_lines(test, expected, found.tasks_per_day, now_us)
    lines += [f"Note: {warning}" for warning in plan.warnings_of(test) if test.is_active]
    if found.late:
        lines.append(f"Came after its end, and count for nothing: {plural(found.late, 'outcome')}")
    if found.refused:
        left = ", ".join(f"{count:,} {reason}" for reason, count in found.refused.items())
        lines.append(f"Left out: {left}")
    if test.kind == "watch" and test.is_active and test.alarms:
        rung = ", ".join(test.alarms)
        lines.append(f"Note: an alarm rang ({rung}): the watch goes on, and doctor says what to mend")
    return lines


def _forecast_lines(test: Experiment, expected: Forecast | None, per_day: float, now_us: int) -> list[str]:
    if expected is None:
        return ["Nothing is decided while it is paused"] if state_of(test) == "paused" else []
    if test.is_held:
        return [f"It ends by {when(expected.latest_us)}, if nobody aborts it before"]
    rate = f"Expected, at {number(per_day)} tasks a day"
    if expected.earliest_us is None:
        return [f"{rate}: nothing before it ends, by {when(expected.latest_us)}"]
    if test.kind == "watch":
        return [f"{rate}: settled about {when(expected.earliest_us)}, unless it is reverted before"]
    lines = [f"{rate}:"]
    if plan.hopeless(test):
        lines.append("  no promotion is to be expected: see the note")
    else:
        if expected.earliest_us > now_us:
            lines.append(f"  {when(expected.earliest_us)}  no promotion before: until then there are too few tasks")
        lines += [
            f"  {when(expected.half_us)}  half of the clearly better models are promoted (+0.3, +5.7 points)",
            f"  {when(expected.most_us)}  nine of ten of them are",
        ]
    return [*lines, f"  {when(expected.latest_us)}  it ends by then, whatever it shows"]


def _show_lines(test: Experiment) -> list[str]:
    policy = test.policy
    other = "a" if test.treated == "b" else "b"
    lines = [
        test.test_id,
        f"Kind:      {_KINDS[test.kind]}, number {test.number} of this model",
        f"Master:    {test.master}",
        f"State:     {state_of(test)}" + (f"; winner {test.winner}" if test.winner else ""),
        f"a:         {test.a}, {test.percentage_a:g} % of the tasks" + (" (on trial)" if other == "b" else ""),
        f"b:         {test.b}, {100 - test.percentage_a:g} % of the tasks" + (" (on trial)" if other == "a" else ""),
        f"Started:   {when(test.started_us)} UTC, by {test.started_by}",
    ]
    if test.ended_us is not None:
        lines.append(f"Ended:     {when(test.ended_us)} UTC")
    lines += [f"Baseline:  {_baseline(test.baseline)}", *_bars(policy, test.kind)]
    lines += [
        f"Paused:    {when(one.from_us)} to {when(one.until_us) if one.until_us else 'now'} UTC" for one in test.pauses
    ]
    lines += [f"Alarms:    {', '.join(test.alarms)}"] if test.alarms else []
    lines += _noted(test)
    lines += [f"Left out:  {count:,} {reason}" for reason, count in test.refused.items()]
    return [*lines, f"File:      {layout.AB_TESTS}/{test.test_id}.json"]


def _bars(policy: RolloutPolicy, kind: str) -> list[str]:
    """Return what is asked of the model on trial, and when it ends."""
    if kind == "watch":
        bars = f"evidence of a loss {policy.watch_evidence:g}: then the former champion comes back"
        ends = f"{policy.watch_tasks:,} tasks with closed windows, or {policy.watch_days:g} days"
    else:
        bars = f"{policy.min_tasks:,} tasks each, quality +{policy.min_quality_gain:g}, completion "
        bars += f"+{policy.min_completion_gain:g} points ({policy.completion_gate}), "
        bars += f"evidence {policy.promotion_evidence:g} ({policy.evidence})"
        ends = f"{policy.max_challenger_tasks:,} tasks of b, or {policy.max_days:g} days"
    window = period(policy.maturation_s) if policy.maturation_s else "none, a task counts when it ends"
    return [f"Bars:      {bars}", f"Window:    {window}", f"Ends:      after {ends}, in any case"]


def _baseline(baseline: Mapping[str, float]) -> str:
    tasks = round(baseline.get("tasks", 0))
    if not tasks:
        return "no outcome of the champion's was known"
    return (
        f"{tasks:,} outcomes of the champion's: completes {number(100 * baseline['completion'])} %, quality "
        f"{number(baseline['quality'])} (20 typical ones are mixed in)"
    )


def _noted(test: Experiment) -> list[str]:
    """Return what was said when it began."""
    notes = test.notes
    if not notes:
        return []
    half, most = notes.get("expected_days") or (None, None)
    days = f", a good model promoted in {number(half)} to {number(most)} days" if half is not None else ""
    if plan.hopeless(test):
        days = ", no promotion is to be expected"
    lines = [f"Expected:  {number(notes.get('tasks_per_day'))} tasks a day{days} (when it began)"]
    return lines + [f"Warned:    {warning}" for warning in plan.warnings_of(test)]


def _test_dict(test: Experiment) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(test)
    for name in ("seen", "results", "revision", "closing_us", "looked_us"):
        del shown[name]
    started_us, ended_us = shown.pop("started_us"), shown.pop("ended_us")
    return shown | {
        "state": state_of(test),
        "started_at": instants.us_to_text(started_us),
        "ended_at": instants.us_to_text(ended_us),
        "pauses": [
            {"from": instants.us_to_text(one.from_us), "until": instants.us_to_text(one.until_us)}
            for one in test.pauses
        ],
    }


def _queued_dict(queued: Queued) -> dict[str, Any]:
    shown = queued._asdict()
    return shown | {"asked_at": instants.us_to_text(shown.pop("asked_us"))}


def _change_dict(change: AliasChange) -> dict[str, Any]:
    shown = change._asdict()
    return shown | {"at": instants.us_to_text(shown.pop("at_us"))}


def _champion_line(master: str, at_us: int, champion: AliasChange | None) -> str:
    if champion is None:
        return f"{when(at_us)} UTC: nothing is known of {master} so early"
    told = "" if champion.event_seq is None else f", event {champion.event_seq}"
    return (
        f"{when(at_us)} UTC: {champion.version}, champion of {master} since {when(champion.at_us)} UTC, "
        f"by {champion.by}{told}: {champion.why}"
    )


def _short(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"
