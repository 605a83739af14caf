"""``medallion``, ``collect`` and ``run-once``: the daemon's jobs, run by hand, beside a daemon or without one."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from cortex_autolearn.cli.call import Command, json_option, pass_call
from cortex_autolearn.cli.dates import DAY, day_of
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.printing import Bar, note, period, plural, print_json, printable, size
from cortex_autolearn.runner import JOBS

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.runner import Result

_MAX_DAYS: Final = 3_660
_DAYS_SHOWN: Final = 10

_READING: Final = ("silver", "medallion", "collection")
"""Jobs whose troubles are files; those of the others are providers."""


@click.command(cls=Command)
@click.option("--date", "day", type=DAY, help="Write the gold of this day, changed or not, and of no other.")
@click.option("--from", "first", type=DAY, help="Also write the gold and KPIs of the days from this one on …")
@click.option("--to", "last", type=DAY, help="… to this one.")
@click.option("--rebuild", is_flag=True, help="Read all bronze again and replace silver, quarantine and gold.")
@click.option("--compact", is_flag=True, help="Take superseded lines out of silver, as the nightly run does.")
@json_option
@pass_call
def medallion(
    call: Call, *, day: int | None, first: int | None, last: int | None, rebuild: bool, compact: bool, as_json: bool
) -> None:
    """Refine new bronze into silver, and write the gold of the days that changed.

    What was read before is not read again, so it costs little to call this often. Bronze itself is never changed.

    \b
    Example:  cortex-autolearn medallion --root /path/to/cortex
              cortex-autolearn medallion --from 2025-11-01 --to 2025-11-30
    """
    days = _days(day, first, last)
    if sum([days is not None, rebuild, compact]) > 1:
        raise click.UsageError("--date or --from/--to, --rebuild and --compact exclude each other.")
    options: dict[str, Any] = {"rebuild": rebuild, "compact": compact}
    if days is not None:
        options |= {"days": [int(f"{one:%Y%m%d}") for one in days], "kpis": (day_of(days[0]), day_of(days[-1]))}
    counts = _counts(_run(call, "medallion", options))
    if as_json:
        print_json(counts)
    else:
        click.echo(medallion_summary(counts))


@click.command(cls=Command)
@click.option("--date", "day", type=DAY, help="Decide about all tasks of this silver day, and of no other.")
@click.option("--all", "everything", is_flag=True, help="Decide about all tasks again.")
@json_option
@pass_call
def collect(call: Call, *, day: int | None, everything: bool, as_json: bool) -> None:
    """Let the quality rule decide about the tasks that are new, and collect the good ones.

    After a night that is yesterday's work. A task is collected once, however often this is called.

    \b
    Example:  cortex-autolearn collect
              cortex-autolearn collect --date 2025-11-27 --json
    """
    if day is not None and everything:
        raise click.UsageError("--date and --all exclude each other.")
    counts = _counts(_run(call, "collection", {"day": day, "everything": everything}))
    if as_json:
        print_json(counts)
        return
    click.echo(collect_summary(counts))
    if not counts["processed"]:
        note(call.copyable("Nothing is new. Bronze becomes silver by: cortex-autolearn medallion"))


@click.command("run-once", cls=Command)
@click.argument("job", type=click.Choice(JOBS))
@json_option
@pass_call
def run_once(call: Call, *, job: str, as_json: bool) -> None:
    """Run one job of the schedule now, wait for it, and show what it did.

    \b
    silver      refine what is new in bronze
    medallion   the nightly run: refine, compact, write gold, keep to [retention]
    collection  let the quality rule decide about what is new
    scoring     have tasks scored, and take in what the judge answered
    readiness   look whether a fine-tuning is due, and start it
    training    look after the trainings under way
    rollout     deploy what was trained, follow the tests, decide and apply
    status      log how far the system is

    \b
    Example:  cortex-autolearn run-once readiness --json
    """
    result = _run(call, job, {"nightly": True} if job == "medallion" else {})
    if as_json:
        shown = {"run_id": result.run_id, "job": job, "result": result.result, "duration_seconds": result.duration_s}
        print_json(shown | {"counts": result.counts})
        return
    click.echo(f"{job}: {result.result} in {period(result.duration_s)}  (run {result.run_id})")
    for name, value in result.counts.items():
        click.echo(f"  {name}: {printable(_words(name, value))}")


def medallion_summary(counts: dict[str, Any]) -> str:
    """Return what a run of the medallion did, in lines whose numbers add up."""
    objects, days = counts["objects"], counts["days"]
    shown = ", ".join(days[:_DAYS_SHOWN]) + (", …" if len(days) > _DAYS_SHOWN else "")
    lines = [
        f"Files read: {counts['files']:,} ({size(counts['bytes_read'])})",
        f"Records found: {objects:,}",
        f"  - To silver: {counts['silver']:,}",
        f"  - Superseded by another record of their task: {counts['superseded']:,}",
        f"  - Quarantined: {counts['quarantined_objects']:,}",
    ]
    broken = counts["quarantined"] - counts["quarantined_objects"]
    if broken:
        lines.append(f"Also quarantined: {plural(broken, 'broken stretch', 'broken stretches')}")
    lines.append(f"Days changed: {len(days)}" + (f" ({shown})" if days else ""))
    if counts.get("compacted") is not None:
        lines.append(f"Superseded lines taken out of: {plural(len(counts['compacted']), 'day')}")
    if counts.get("gold_days"):
        lines.append(f"Gold written: {plural(len(counts['gold_days']), 'day')}")
    lines.append(f"Time taken: {period(counts['duration_seconds'])}")
    return "\n".join(lines)


def collect_summary(counts: dict[str, Any]) -> str:
    """Return what a collection did, as its operators know it."""
    lines = [
        f"Total tasks processed: {counts['processed']}",
        f"High-quality tasks: {counts['high_quality']}",
        f"  - Training: {counts['training']}",
        f"  - Validation: {counts['validation']}",
    ]
    if counts["rejected"]:
        reasons = sorted(counts["rejected"].items(), key=lambda item: -item[1])
        lines += ["", "Rejection reasons:", *[f"  {reason}: {count}" for reason, count in reasons]]
    extra = [("Already collected", counts["already_collected"]), ("Withdrawn", counts["withdrawn"])]
    extra.append(("Quarantined of silver that Cortex wrote", counts.get("cortex_silver", {}).get("quarantined", 0)))
    lines += [""] * any(count for _, count in extra) + [f"{name}: {count}" for name, count in extra if count]
    return "\n".join(lines)


def _run(call: Call, job: str, options: dict[str, Any]) -> Result:
    bar = Bar()
    with opened(call) as app:
        try:
            result = app.runner.run(job, trigger="command", progress=bar, raise_errors=True, **options)
        finally:
            bar.clear()
    for trouble in result.counts.get("troubles", ()):
        note(f"{'Not read' if job in _READING else 'Not done yet'}: {trouble}")
    return result


def _counts(result: Result) -> dict[str, Any]:
    return result.counts | {"duration_seconds": result.duration_s}


def _days(day: int | None, first: int | None, last: int | None) -> list[date] | None:
    """Return the days that a call names, or None; a contradiction is wrong usage."""
    if day is not None and (first is not None or last is not None):
        raise click.UsageError("--date and --from/--to exclude each other.")
    if (first is None) != (last is None):
        raise click.UsageError("--from and --to go together.")
    if day is not None:
        first = last = day
    if first is None or last is None:
        return None
    begins, ends = date.fromisoformat(f"{first:08}"), date.fromisoformat(f"{last:08}")
    if begins > ends:
        raise click.UsageError(f"--from {begins} is after --to {ends}.")
    count = (ends - begins).days + 1
    if count > _MAX_DAYS:
        raise click.UsageError(f"--from {begins} --to {ends} are {count:,} days: at most {_MAX_DAYS:,} at once.")
    return [begins + timedelta(days=offset) for offset in range(count)]


def _words(name: str, value: object, *, is_inner: bool = False) -> str:
    """Return a count for people, whatever a job counts."""
    if value is None or value in ([], {}):
        return "none"
    text = str(value)
    match value:
        case bool():
            text = "yes" if value else "no"
        case int() | float() if name.endswith("_bytes") or name == "bytes_read":
            text = size(value)
        case int() | float():
            text = f"{value:,}" if isinstance(value, int) else f"{value:g}"
        case dict():
            text = ", ".join(f"{key} {_words(key, inner, is_inner=True)}" for key, inner in value.items())
            text = f"({text})" if is_inner else text
        case list():
            text = ", ".join(_words("", one, is_inner=True) for one in value)
    return text
