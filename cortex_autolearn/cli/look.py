"""``status``, ``schedule`` and ``events``: what the state tells."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from cortex_autolearn import status as status_module
from cortex_autolearn.adapters.store.database import event_line
from cortex_autolearn.cli.call import Command, json_option, pass_call
from cortex_autolearn.cli.card import number
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.printing import (
    as_pairs,
    note,
    one_line,
    period,
    plural,
    print_json,
    print_lines,
    printable,
    size,
    table,
)
from cortex_autolearn.model import instants
from cortex_autolearn.model.judging import MICRO_USD
from cortex_autolearn.model.training_jobs import GLOBAL
from cortex_autolearn.rollout import plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.collect.standing import Standing
    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.model.runs import Run
    from cortex_autolearn.rollout.standing import Standing as MasterStanding
    from cortex_autolearn.status import Status

_POLL_S: Final = 0.5
_STDOUT: Final = 1
_PAGE: Final = 1_000
_LAST_SHOWN: Final = 10
_MOST: Final = (1 << 63) - 1
"""SQLite knows no larger number."""

ROLLOUT_KINDS: Final = (
    "challenger_deployed",
    "ab_test_started",
    "ab_test_held",
    "auto_promotion",
    "auto_rollback",
    "challenger_retired",
    "ab_test_inconclusive",
    "promotion_settled",
    "promotion_reverted",
    "manual_decision",
)
"""What the events file may tell of tests of new models."""

EVENT_KINDS: Final = (
    "medallion_run",
    "hq_collection",
    "quality_scored",
    "budget_reached",
    "dataset_created",
    "fine_tune_triggered",
    "fine_tune_progress",
    "fine_tune_completed",
    "fine_tune_failed",
    *ROLLOUT_KINDS,
    "daemon_started",
    "daemon_stopped",
)
"""What the events file may tell of."""

_Event = tuple[int, str, str, str]


@click.command(cls=Command)
@json_option
@pass_call
def status(call: Call, *, as_json: bool) -> None:
    """Show how far the system is: examples collected, what was rejected and why, the schedule, and what it takes.

    \b
    Example:  cortex-autolearn status
              cortex-autolearn status --json | jq .data_collection.progress_percent
    """
    with opened(call, looks_only=True) as app:
        found = status_module.gather(app)
    if as_json:
        print_json(found.as_dict())
    else:
        click.echo(status_text(found))


@click.command(cls=Command)
@json_option
@pass_call
def schedule(call: Call, *, as_json: bool) -> None:
    """Show for each job its rule, its last run, and when it runs next, in local time and in UTC.

    \b
    Example:  cortex-autolearn schedule
    """
    with opened(call, looks_only=True) as app:
        found = status_module.gather(app)
    if as_json:
        alive = {"daemon_alive": found.daemon.alive, "generated_at": instants.to_text(found.now)}
        print_json({"timezone": found.zone, **alive, "jobs": [found.planned_dict(one) for one in found.schedule]})
        return
    rows = [("JOB", "RULE", "LAST RUN (UTC)", "RESULT", f"NEXT RUN ({found.zone})", "NEXT RUN (UTC)")]
    for one in found.schedule:
        last = "never" if one.last is None else f"{instants.from_us(one.last.started_us):%Y-%m-%d %H:%M:%S}"
        result = "" if one.last is None else str(one.last.result)
        local, utc = found.local(one.next_at), one.next_at
        rows.append((one.job, one.rule, last, result, f"{local:%Y-%m-%d %H:%M}", f"{utc:%Y-%m-%d %H:%M}"))
    click.echo(table(rows))
    if not found.daemon.alive:
        note(call.copyable("No daemon runs on this ROOT, so nothing of this will run: cortex-autolearn run"))


@click.command(cls=Command)
@click.option("--follow", "-f", is_flag=True, help="Go on printing what happens, until Ctrl-C.")
@click.option(
    "--type",
    "kind",
    metavar="TYPE",
    type=click.Choice(EVENT_KINDS),
    help=f"Only events of this type: {', '.join(EVENT_KINDS)}.",
)
@click.option("--since", type=click.IntRange(0, _MOST), metavar="SEQ", help="Only events after this sequence number.")
@click.option(
    "--limit", type=click.IntRange(1, _MOST), metavar="N", help="At most N: the last, or the first after --since."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, as the events file holds it.")
@pass_call
def events(call: Call, *, follow: bool, kind: str | None, since: int | None, limit: int | None, as_json: bool) -> None:
    """Print what happened, oldest first, one event a line.

    \b
    Example:  cortex-autolearn events --limit 20
              cortex-autolearn events --follow --type hq_collection --json
    """
    render = _event_json if as_json else _event_text
    with opened(call, looks_only=True) as app:
        if follow and since is None and limit is None:
            limit = _LAST_SHOWN
        if since is None and limit is not None:
            with app.store.read() as reading:
                rows = reading.last_events(limit, kind)
                seen = reading.last_event_seq()
            print_lines(map(render, rows))
        else:
            seen = since or 0
            left = limit
            while left is None or left > 0:
                with app.store.read() as reading:
                    rows = reading.events_after(seen, kind, _PAGE if left is None else min(left, _PAGE))
                if not rows:
                    break
                print_lines(map(render, rows))
                seen, left = rows[-1][0], None if left is None else left - len(rows)
        while follow:
            _rest()
            with app.store.read() as reading:
                rows = reading.events_after(seen, kind, _PAGE)
            if rows:
                print_lines(map(render, rows))
                sys.stdout.flush()
                seen = rows[-1][0]


def _rest() -> None:
    """Wait a little, or until nobody reads our output any more, which else the next event alone would tell.

    Raises:
        BrokenPipeError: nobody does.
    """
    output = select.poll()
    output.register(_STDOUT, 0)  # that it broke is told in any case
    if output.poll(1000 * _POLL_S):
        raise BrokenPipeError


def status_text(found: Status) -> str:
    """Return a status for people."""
    collection = found.collection
    daemon = f"running (process {found.daemon.noted.get('pid', 'unknown')})" if found.daemon.alive else "not running"
    tokens, cost = found.estimate
    lag = found.lag
    waits = f"{size(lag.bytes)} in {plural(lag.files, 'file')}, for {period(lag.seconds)}" if lag.files else "nothing"
    examples = examples_text(collection["training_examples"], found.fine_tuning["scopes"])
    lines = [
        f"Root:      {found.root}",
        f"Daemon:    {daemon}",
        "",
        f"Training examples:   {examples}",
        f"Validation examples: {collection['validation_examples']:,}",
        f"Estimated training:  {tokens:,} tokens, {_price(cost)}",
        "",
        f"Tasks seen:          {found.tasks:,} ({found.final_tasks:,} final)",
        f"Tasks completed:     {found.completed_tasks:,} ({found.scored_tasks:,} with a quality score of their own)",
        f"Not yet refined:     {waits}",
        f"Not yet decided on:  {plural(found.waiting, 'task')}",
        f"Lack only a score:   {_unscored(found.judge)}",
        f"Scored:              {found.judge.scored:,} by the judge, {found.judge.labelled:,} by people",
        f"Spent on scores:     {_spent(found.judge)}",
        f"Quarantined:         {sum(found.quarantined.values()):,}",
        "",
        "Masters:",
        *_masters(found.masters),
        "",
        "Rejection reasons:",
        *_indented(found.rejected.items()),
        "",
        "Last runs:",
        *_indented((job, _run_text(run)) for job, run in found.last_runs.items()),
        "",
        f"Next runs ({found.zone}):",
        *_indented((one.job, f"{found.local(one.next_at):%Y-%m-%d %H:%M}  {one.rule}") for one in found.schedule),
        "",
        "Disk:",
        *_indented((name.removesuffix("_bytes"), size(count)) for name, count in found.disk.items()),
    ]
    return printable("\n".join(lines))


def examples_text(collected: int, scopes: Sequence[Mapping[str, Any]]) -> str:
    """Say how many examples there are, and how many of them the next training has, and needs."""
    text = f"{collected:,} collected"
    if not scopes:
        return text
    first = max(scopes, key=lambda one: one["new"] / one["needed"])
    text += f"; {first['new']:,} of {first['needed']:,} new"
    text += ": the next training is due" if first["new"] >= first["needed"] else " for the next training"
    return text if first["scope"] == GLOBAL else f"{text} ({first['scope']})"


def _indented(pairs: Iterable[tuple[str, Any]]) -> list[str]:
    return [f"  {name}: {value}" for name, value in pairs] or ["  none"]


def _run_text(run: Run) -> str:
    took = "" if run.ended_us is None else f" in {period((run.ended_us - run.started_us) / instants.SECOND_US)}"
    return f"{run.result}, {instants.from_us(run.started_us):%Y-%m-%d %H:%M:%S} UTC{took}"


def _masters(found: list[MasterStanding]) -> list[str]:
    """Say what serves each master, and how the model beside its champion does."""
    lines = []
    for one in found:
        waits = f"; {plural(len(one.waiting), 'model waits', 'models wait')}" if one.waiting else ""
        lines.append(f"  {one.held.master}: champion {one.held.champion}{waits}")
        if one.test is not None and one.card is not None:
            lines.append(f"    {_trial(one.test, one.held.phase, one.card)}")
            lines += [f"    Note: {warning}" for warning in plan.warnings_of(one.test)]
        elif one.held.challenger is not None:
            lines.append(f"    {one.held.challenger} is being deployed")
    return lines or ["  no model was deployed for one yet"]


def _trial(test: Experiment, phase: str, card: dict[str, Any]) -> str:
    gain, after = card["gain"], card["decided_after"]
    what = {"watching": "is watched", "paused": "is paused"}.get(phase, "is tested")
    gains = f"quality {number(gain['quality'], sign='+')}, "
    gains += f"completion {number(gain['completion_points'], ' points', sign='+')}"
    tasks = f"{after['challenger_tasks']:,} of {plural(after['tasks'], 'task')}"
    says = "held" if test.is_held else card["decision"]
    return f"{test.model} {what}: {tasks}, {gains}: {says}"


def _price(usd: float | None) -> str:
    return "at an unknown price (see training.prices)" if usd is None else f"{usd:,.2f} USD"


def _unscored(judge: Standing) -> str:
    """Say how many tasks wait for a score, and what for."""
    text = plural(judge.unscored, "task")
    if not judge.is_enabled:
        return f"{text} (judge.enabled is false)"
    if not judge.has_key:
        return f"{text} (no judge: there is no ANTHROPIC_API_KEY)"
    aside = sum(judge.queue.set_aside.values())
    parts = [f"{judge.queue.sent:,} sent"] * bool(judge.queue.sent) + [f"{aside:,} set aside"] * bool(aside)
    return f"{text} ({', '.join(parts)})" if parts else text


def _spent(judge: Standing) -> str:
    day, month = judge.budgets
    amounts = [f"{one.spent / MICRO_USD:.4f} of {one.limit / MICRO_USD:.2f} USD" for one in (day, month)]
    reached = "; reached: " + ", ".join(one.period for one in judge.reached) if judge.reached else ""
    return f"{amounts[0]} today, {amounts[1]} this month{reached}"


def _event_json(event: _Event) -> str:
    return event_line(*event).decode()


def _event_text(event: _Event) -> str:
    seq, timestamp, name, body = event
    return one_line(f"{timestamp}  {seq:>6}  {name:<20} {as_pairs(orjson.loads(body))}".rstrip())
