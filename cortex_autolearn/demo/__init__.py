"""A trial of the real thing: the daemon over a simulated fleet on a fast clock, or over files that somebody has.

Scheduler, watcher, store and jobs are the daemon's own, in this process; only who writes bronze is simulated, and how
fast the clock runs. Each simulated day is written hour by hour, and the next one waits until the daemon is done with it
and with the night, so that a slow machine comes to the same numbers. What must come of it all is known to the fleet,
and is compared with the files in the end.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.clock import SystemClock
from cortex_autolearn.demo.account import Totals, accounting, differences, totals, unaccounted
from cortex_autolearn.demo.session import FastClock, application, running
from cortex_autolearn.model import layout
from cortex_autolearn.model.training_jobs import GLOBAL
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.schedule import FastTime, RealTime
from cortex_autolearn.status import lag_of, look_for_daemon
from cortex_autolearn.testing import Fleet, ScriptedJudge, append
from cortex_autolearn.testing.judge import MODEL

if TYPE_CHECKING:
    from cortex_autolearn.schedule import TimeMap
    from cortex_autolearn.wiring import App

MARKER: Final = ".cortex-autolearn-demo"
"""Stands in the folder of a demo, which the next one may then clear."""

_START: Final = datetime(2025, 6, 2, tzinfo=UTC)
_TICK_S: Final = 0.05
_TAIL_GRACE_S: Final = 1
_NAME_CHARS: Final = 28
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_OURS: Final = (layout.COORDINATION, "llm-mesh", MARKER)

_SCRIPTED: Final[dict[str, object]] = {
    "judge.model": MODEL,
    "judge.prices": [
        {
            "model": MODEL,
            "since": "2025-01-01",
            "input_usd_per_mtok": 0.0,
            "cache_write_usd_per_mtok": 0.0,
            "cache_read_usd_per_mtok": 0.0,
            "output_usd_per_mtok": 0.0,
        }
    ],
}
"""Settings for a judge that costs nothing."""

Say = Callable[[str], None]


def prepare(root: Path | None) -> Path:
    """Return an empty folder for a demo: a new temporary one, or ``root``, cleared where an earlier demo used it.

    Raises:
        BoundaryError: ``root`` holds anything else, or a daemon runs on it.
    """
    if root is None:
        root = Path(tempfile.mkdtemp(prefix="cortex-demo-"))
    root = root.absolute()
    with files.wrap("prepare", root):
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()) and not (root / MARKER).is_file():
            hint = "Name an empty or new folder: a demo never runs in a tree that is in use"
            raise BoundaryError("use for a demo", str(root), "it is not empty", hint=hint, retryable=False)
        if look_for_daemon(root).alive:
            hint = "Stop it, or name another folder"
            raise BoundaryError("use for a demo", str(root), "a daemon runs on it", hint=hint, retryable=False)
        for name in _OURS:
            place = root / name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        (root / MARKER).write_text("A demo of cortex-autolearn wrote this tree; the next one may clear it.\n")
    return root


def simulate(  # noqa: PLR0913 - options, by keyword only
    root: Path, *, days: int, tasks_per_day: int, seed: int, say: Say, day_s: float = 2.0
) -> bool:
    """Let a simulated fleet work on ``root`` for some days, and tell whether all came out as it must.

    Arguments:
        root: from :func:`prepare`.
        days: how many days the fleet works.
        tasks_per_day: how many tasks come in each day.
        seed: names the fleet; the same seed gives the same numbers.
        say: prints a line.
        day_s: how long a day takes, in real seconds, when the machine keeps up.
    """
    fleet = Fleet(seed, start=_START, tasks_per_day=tasks_per_day)
    say(
        f"Simulated: a fleet with {tasks_per_day} tasks a day, for {days} days from {_START:%Y-%m-%d} on (seed {seed}),"
    )
    say(f"           and the pace of the clock: a day takes {day_s:g} s.")
    say("Real:      the daemon with its schedule, watcher, state and jobs, and every file below")
    say(f"           {root}\n")
    clock = FastClock(FastTime(_START, 86_400 / day_s))
    # Its clock is fast: a pause of a second must not pass for a day, after which an unfinished record is broken.
    flags: dict[str, object] = {"schedule.timezone": "UTC", "medallion.tail_grace_s": 31_536_000}
    flags["schedule.scoring_every_s"] = 86_400  # there is no judge yet
    with application(root, clock=clock, environ={}, flags=flags) as app:
        found = asyncio.run(_simulated_days(app, clock.time, fleet, days, say))
    # Compared before anything is scored, as the fleet does not know what a judge will think.
    expected = fleet.expected(days)
    say("\n" + accounting(found))
    wrong = differences(expected, found, root)
    if wrong:
        say("\nNOT as expected:\n" + "\n".join(f"  {line}" for line in wrong))
    else:
        say("\nAs expected: these numbers, and which tasks were collected, are what the fleet knows must come of it.")
    scripted = ScriptedJudge()  # one for all runs: it keeps its batches
    with application(root, clock=clock, environ={}, flags=flags | _SCRIPTED, judge=lambda: scripted) as app:
        wrong += _score(app, say)
        wrong += _train(app, say)
    say("\n" + _where(root))
    return not wrong


def process(  # noqa: PLR0913 - options, by keyword only
    root: Path,
    inputs: Sequence[Path],
    *,
    say: Say,
    environ: Mapping[str, str],
    config: Path | None = None,
    flags: Mapping[str, object] | None = None,
) -> bool:
    """Let the daemon work through files of task records, and tell whether every object is accounted for.

    Arguments:
        root: from :func:`prepare`.
        inputs: files of JSON objects, of any name.
        say: prints a line.
        environ: the environment.
        config: the configuration file, if any.
        flags: settings by dotted key.
    """
    say("Nothing is simulated: the daemon works on copies of these files, in real time, below")
    say(f"  {root}\n")
    # The files are whole: what their last record lacks will not come.
    # And nothing of theirs is sent to a judge, unless that is asked for.
    flags = {"medallion.tail_grace_s": _TAIL_GRACE_S, "judge.enabled": False} | dict(flags or {})
    with application(root, clock=SystemClock(), environ=environ, config=config, flags=flags) as app:
        asyncio.run(_given_files(app, inputs, say))
        app.runner.run("medallion", trigger="demo", raise_errors=True, compact=True)
        app.runner.run("collection", trigger="demo", raise_errors=True)
        found = totals(app)
        entries = app.tree.entries(layout.BRONZE, ".jsonl")
        with app.store.read() as reading:
            lag = lag_of(entries, reading.sources(layout.BRONZE), app.clock.now())
    say("\n" + accounting(found))
    faults = unaccounted(found, root)
    if lag.bytes or lag.tail_bytes:
        faults.append(f"{lag.bytes + lag.tail_bytes:,} bytes of bronze are neither in silver nor in quarantine")
    say("\n" + "\n".join(faults or ["Every object is accounted for."]))
    say("\n" + _where(root))
    return not faults


def _score(app: App, say: Say) -> list[str]:
    """Have the tasks scored that lack nothing else, collect what is good, and return what is wrong with the result."""
    before = totals(app)
    sent = app.runner.run("scoring", trigger="demo", raise_errors=True).counts
    taken = app.runner.run("scoring", trigger="demo", raise_errors=True).counts
    kept = app.runner.run("collection", trigger="demo", raise_errors=True).counts
    after = totals(app)
    scored = sent["scored"] + taken["scored"]
    say(
        f"\nScored: {scored:,} tasks that lacked only a score, by a SCRIPTED judge: no model was called, nothing was "
        f"sent or paid.\n        {kept['high_quality']:,} of them were good enough, so that {after.high_quality:,} "
        "outcomes are collected now."
    )
    checks = (
        ("scored", before.rejected.get("No quality score", 0), scored + after.rejected.get("No quality score", 0)),
        ("collected after scoring", before.high_quality + kept["high_quality"], after.high_quality),
        ("waiting after scoring", 0, taken["waiting"] + taken["in_batches"]),
    )
    wrong = [f"{what}: expected {wanted:,}, found {found:,}" for what, wanted, found in checks if wanted != found]
    if wrong:
        say("\nNOT as expected:\n" + "\n".join(f"  {line}" for line in wrong))
    return wrong + unaccounted(after, app.root)


def _train(app: App, say: Say) -> list[str]:
    """Make a model of what was collected, though there is less of it than the daemon waits for."""
    needed = app.settings.training.min_examples
    options: dict[str, Any] = {"start": GLOBAL, "is_forced": True, "by": "demo"}
    run = app.runner.run("training", trigger="demo", raise_errors=True, **options)
    with app.store.read() as reading:
        models = reading.models()
    if not models:
        say(f"\nNOT as expected:\n  no model was made: {run.counts['decision']}")
        return ["no model was made"]
    model, told = models[-1], models[-1].metrics
    alike, by_chance = (told.get(f"quality_{name}", "not measured") for name in ("retrieved", "random"))
    say(
        f"\nTrained: {model.ref.model_id}, {model.ref.base} with {told['examples']:,} worked examples; by force, as\n"
        f"         the daemon waits for {needed:,}. No model was called. On {told['held_out']:,} held-out tasks, how\n"
        f"         alike to their answers those of the examples shown are: {alike}; of random examples: {by_chance}."
    )
    return []


async def _simulated_days(app: App, clock: TimeMap, fleet: Fleet, days: int, say: Say) -> Totals:
    before = 0
    async with running(app, clock) as session:
        for day in range(days):
            begins, writes = _START + timedelta(days=day), fleet.day(day)
            written = 0
            while written < len(writes) or clock.now() < begins + timedelta(days=1):
                while written < len(writes) and writes[written].at <= clock.now():
                    append(app.root, writes[written])
                    written += 1
                await asyncio.sleep(_TICK_S)
            await session.settled(night_since=clock.now())
            found = await asyncio.to_thread(totals, app)
            rejected = sum(found.rejected.values())
            say(
                f"{begins:%a %Y-%m-%d}  {written:4} writes; so far: tasks {found.tasks:5,}, collected "
                f"{found.high_quality:5,} ({found.high_quality - before:+}), rejected {rejected:5,}, "
                f"quarantined {found.quarantined:3,}; 02:00 run done"
            )
            before = found.high_quality
    return await asyncio.to_thread(totals, app)


async def _given_files(app: App, inputs: Sequence[Path], say: Say) -> None:
    taken: set[str] = set()
    async with running(app, RealTime(app.clock.now)) as session:
        await session.settled()
        before = await asyncio.to_thread(totals, app)
        for source in inputs:
            await asyncio.to_thread(_copy, source, app.root / layout.BRONZE / _bronze_name(source, taken))
            await session.settled()
            now = await asyncio.to_thread(totals, app)
            say(_file_line(source.name, before, now))
            before = now
        await asyncio.sleep(_TAIL_GRACE_S)


def _file_line(name: str, before: Totals, now: Totals) -> str:
    """Say what one file held."""
    objects, quarantined = now.objects - before.objects, now.quarantined_objects - before.quarantined_objects
    stretches = now.quarantined - before.quarantined - quarantined
    return (
        f"{name:{_NAME_CHARS}} {objects:6,} objects: {now.tasks - before.tasks:,} new tasks, {quarantined:,} "
        f"quarantined, {now.high_quality - before.high_quality:,} collected; {stretches:,} broken stretches"
    )


def _where(root: Path) -> str:
    places = (
        ("bronze, as written", layout.BRONZE),
        ("silver", layout.SILVER),
        ("quarantine", layout.QUARANTINE),
        ("gold", layout.ANALYTICS.rsplit("/", 1)[0]),
        ("high-quality outcomes", layout.OUTCOMES),
        ("dataset and model", f"{layout.DATASETS}, {layout.MODELS}"),
        ("log and events", layout.LOG.rsplit("/", 1)[0]),
    )
    lines = [f"Files below {root}:", *[f"  {what:22} {where}" for what, where in places]]
    commands = ("status", "events --type hq_collection", "fine-tune jobs", "schedule", "run")
    return "\n".join(
        [*lines, "", "Next:", *[f"  cortex-autolearn {name} --root {shlex.quote(str(root))}" for name in commands]]
    )


def _bronze_name(source: Path, taken: set[str]) -> str:
    """Return a safe name for a copy that no other copy bears; a date in it is kept, as it tells the day."""
    stem = _UNSAFE.sub("-", source.stem)[:100].strip(".-") or "input"
    number, name = 1, f"{stem}.jsonl"
    while name in taken:
        number += 1
        name = f"{stem}-{number}.jsonl"
    taken.add(name)
    return name


def _copy(source: Path, target: Path) -> None:
    """Put a whole copy in place at once, as nobody appends to it."""
    with files.wrap("copy", source):
        hidden = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(source, hidden)
        hidden.rename(target)
