"""``score`` and ``label``: quality scores that the fleet did not give, by a judge and by people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import click

from cortex_autolearn.cli.call import Command, json_option, pass_call
from cortex_autolearn.cli.card import unknown
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.person import clean, person
from cortex_autolearn.cli.printing import Bar, note, period, plural, print_json, printable
from cortex_autolearn.collect import tally
from cortex_autolearn.model import instants
from cortex_autolearn.model.judging import MICRO_USD, Label

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.collect.preview import Preview
    from cortex_autolearn.wiring import App

_NO_KEY: Final = (
    "Set ANTHROPIC_API_KEY to a key of platform.claude.com, or let people score: cortex-autolearn label TASK_ID SCORE"
)


@click.command(cls=Command)
@click.argument("task_ids", metavar="[TASK_ID]...", nargs=-1)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Send at most N tasks.")
@click.option("--dry-run", is_flag=True, help="Send nothing and change nothing; say what it would cost.")
@click.option("--rescore", is_flag=True, help="Also judge tasks again whose score is of another model or rubric.")
@click.option("--again", is_flag=True, help="Also try tasks anew that were set aside: all, or each TASK_ID given.")
@click.option(
    "--calibrate",
    type=click.IntRange(1, 1_000),
    metavar="N",
    help="Also judge the newest N tasks that people or the fleet have scored, for judge calibrate.",
)
@json_option
@pass_call
def score(
    call: Call,
    *,
    task_ids: tuple[str, ...],
    limit: int | None,
    dry_run: bool,
    rescore: bool,
    again: bool,
    calibrate: int | None,
    as_json: bool,
) -> None:
    """Have a model score tasks that lack nothing but a quality score, as the daemon does.

    Many go out in a batch, whose results a later run or the daemon takes in; few are answered at once. Budgets hold,
    and nothing that was scored is paid for again. A task that the judge could not score is set aside after some
    attempts, and then tried no more but with --again.

    \b
    Example:  cortex-autolearn score --dry-run
              cortex-autolearn score --limit 100
              cortex-autolearn score --again task-1764230400-7
    """
    if dry_run and calibrate:
        raise click.UsageError("--dry-run and --calibrate exclude each other.")
    if task_ids and not again:
        raise click.UsageError("TASK_ID goes with --again only.")
    asked = frozenset(task_ids) if again else None
    if dry_run:
        with opened(call, looks_only=True) as app:
            _require_set_aside(app, task_ids)
            found = app.rooms.scoring.preview(limit=limit, rescore=rescore, again=asked)
        if as_json:
            print_json(found.as_dict())
        else:
            click.echo(preview_text(found))
        return
    bar = Bar()
    with opened(call) as app:
        _require_set_aside(app, task_ids)
        try:
            result = app.runner.run(
                "scoring",
                trigger="command",
                progress=bar,
                raise_errors=True,
                limit=limit,
                rescore=rescore,
                again=asked,
                calibrate=calibrate or 0,
            )
        finally:
            bar.clear()
    counts = result.counts | {"duration_seconds": result.duration_s}
    for trouble in counts.get("troubles", ()):
        note(f"The provider: {trouble}")
    if as_json:
        print_json(counts)
        return
    click.echo(score_text(counts))
    if counts["held"] == tally.NO_KEY:
        note(call.copyable(_NO_KEY))
    elif counts["in_batches"]:
        note(
            call.copyable("Results of batches are taken in by the daemon, or by calling again: cortex-autolearn score")
        )


@click.command(cls=Command)
@click.argument("task_id", metavar="TASK_ID")
@click.argument("mark", metavar="SCORE", type=click.FloatRange(1, 5))
@click.option("--note", "remark", metavar="TEXT", default="", help="Why, or whatever is worth remembering.")
@json_option
@pass_call
def label(call: Call, *, task_id: str, mark: float, remark: str, as_json: bool) -> None:
    """Record a person's quality score of a task, from 1 to 5: it counts before any other.

    The collector decides about the task again with its next run, or within half a minute where the daemon runs.

    \b
    Example:  cortex-autolearn label task-1764230400-7 4.5 --note "complete, and it was checked"
    """
    if math.isnan(mark):  # is in no range, and out of none
        raise click.UsageError("SCORE is a number from 1 to 5.")
    if not task_id:
        raise click.UsageError("TASK_ID is empty.")
    with opened(call) as app:
        given = Label(task_id, mark, clean(remark), person(), instants.to_us(app.clock.now()))
        with app.store.write() as transaction:
            is_known = transaction.knows_task(task_id)
            transaction.put_label(given)
    if as_json:
        shown = {"task_id": task_id, "score": mark, "note": remark, "by": given.by, "is_known": is_known}
        print_json(shown)
        return
    click.echo(printable(f"{task_id}: {mark:g}, by {given.by}"))
    if not is_known:
        note("No record of this task was seen yet: the score waits for it.")


def _require_set_aside(app: App, task_ids: tuple[str, ...]) -> None:
    """Refuse a task that was not set aside: a slip of the pen would be taken for a task that is judged again."""
    if not task_ids:
        return
    with app.store.read() as reading:
        there = [item.task_id for item in reading.set_aside_items()]
    for task_id in task_ids:
        if task_id not in there:
            raise unknown("task set aside", task_id, there)


def score_text(counts: dict[str, Any]) -> str:
    """Return what a run of scoring did."""
    lines = [
        f"New to be judged: {counts['chosen']:,}",
        f"Sent: {counts['sent']:,}"
        + (f" (in {plural(counts['batches'], 'batch', 'batches')})" if counts["batches"] else ""),
        f"Scored: {counts['scored']:,}",
        *[
            f"{name}: {counts[key]:,}"
            for name, key in (
                ("To be tried again", "retried"),
                ("Set aside", "set_aside"),
                ("Need none any more", "dropped"),
                ("Judged before, from another record", "moved"),
            )
            if counts[key]
        ],
        f"On their way: {counts['in_batches']:,}",
        f"Waiting: {counts['waiting']:,}" + (f" ({counts['held']})" if counts["held"] else ""),
        f"Cost: {usd(counts['cost_usd'])}",
    ]
    if counts["redactions"]:
        masked = ", ".join(f"{rule} {count}" for rule, count in counts["redactions"].items())
        lines.append(f"Masked before sending: {masked}")
    lines.append(f"Time taken: {period(counts['duration_seconds'])}")
    return "\n".join(lines)


def preview_text(found: Preview) -> str:
    """Return what scoring would do and cost."""
    lines = [
        f"Waiting: {plural(found.waiting, 'task')}",
        f"Would go out {'in batches' if found.in_batches else 'one by one'}: {found.tasks:,}",
        f"Would cost: about {usd(found.usual / MICRO_USD)}, at most {usd(found.most / MICRO_USD)}",
    ]
    for budget in found.budgets:
        left = max(0, budget.left) / MICRO_USD
        lines.append(f"Budget {budget.period}: {usd(left)} of {usd(budget.limit / MICRO_USD)} left")
    if found.held:
        lines.append(f"Now nothing would be sent: {found.held}")
    return "\n".join(lines)


def usd(amount: float) -> str:
    """Return an amount of money; small ones to a hundredth of a cent."""
    return f"{amount:,.2f} USD" if amount >= 1 or amount == 0 else f"{amount:.4f} USD"
