"""The demo over files that somebody has: nothing is simulated, and every object is accounted for."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.clock import SystemClock
from cortex_autolearn.demo.account import Totals, accounting, totals, unaccounted
from cortex_autolearn.demo.places import next_steps, written
from cortex_autolearn.demo.session import application, running
from cortex_autolearn.model import layout
from cortex_autolearn.schedule import RealTime
from cortex_autolearn.status import lag_of

if TYPE_CHECKING:
    from cortex_autolearn.wiring import App

_TAIL_GRACE_S: Final = 1
_NAME_CHARS: Final = 28
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def process(  # noqa: PLR0913 - options, by keyword only
    root: Path,
    inputs: Sequence[Path],
    *,
    say: Callable[[str], None],
    environ: Mapping[str, str],
    config: Path | None = None,
    flags: Mapping[str, object] | None = None,
) -> bool:
    """Let the daemon work through files of task records, and tell whether every object is accounted for.

    Arguments:
        root: from :func:`~cortex_autolearn.demo.prepare`.
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
    say("\n" + written(root) + "\n\n" + _next(root))
    return not faults


async def _given_files(app: App, inputs: Sequence[Path], say: Callable[[str], None]) -> None:
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


def _next(root: Path) -> str:
    where = f"--root {shlex.quote(str(root))}"
    return next_steps(
        [
            ("how far it is", f"status {where}"),
            ("what was collected when", f"events --type hq_collection {where}"),
            ("what is wrong, and what to do", f"doctor {where}"),
            ("the daemon on this tree", f"run {where}"),
        ]
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
