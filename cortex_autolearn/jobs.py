"""What each job does, and which event tells of it.

A job calls rooms and adds up what they did; its bookkeeping is ``runner``'s. Every one may be run again at any time,
and after a kill at any line. Each takes the rooms, its run, and its options by keyword, and returns its counts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cortex_autolearn import retention
from cortex_autolearn.model import instants, layout
from cortex_autolearn.ports import OutputDamagedError, RunHandle
from cortex_autolearn.training.job import decision_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from cortex_autolearn.adapters.observe import Log
    from cortex_autolearn.adapters.store import Store
    from cortex_autolearn.adapters.tree import Tree
    from cortex_autolearn.collect.job import Collector
    from cortex_autolearn.collect.scoring import Scorer
    from cortex_autolearn.medallion.job import Medallion
    from cortex_autolearn.ports import Clock
    from cortex_autolearn.rollout.job import Rollout
    from cortex_autolearn.settings import Settings
    from cortex_autolearn.training.job import Trainings


BROKEN_OFF: Final = "broken_off"
"""Counted by a run that ended before its end, as its process is to end: its slot is run again."""
_FOLDERS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "bronze_bytes": ((layout.BRONZE,), ".jsonl"),
    "silver_bytes": ((layout.SILVER, layout.QUARANTINE), ".jsonl"),
    "outcomes_bytes": ((f"{layout.OUTCOMES}/training", f"{layout.OUTCOMES}/validation"), ".jsonl"),
    "gold_bytes": (
        (
            layout.ANALYTICS,
            layout.REPORTS,
            layout.KPIS,
            f"{layout.TRAINING_VIEW}/training",
            f"{layout.TRAINING_VIEW}/validation",
        ),
        "",
    ),
    "logs_bytes": ((layout.LOG.rsplit("/", 1)[0],), ""),
}
"""The parts of the tree whose size is told: folders, and how the names in them end."""


class Rooms(NamedTuple):
    """What the jobs work with, made from one configuration."""

    store: Store
    tree: Tree
    clock: Clock
    settings: Settings
    medallion: Medallion
    collect: Collector
    scoring: Scorer
    training: Trainings
    rollout: Rollout


class LoggedRun(RunHandle, Protocol):
    """The run that a job is part of, with what only the jobs themselves use of it."""

    @property
    def log(self) -> Log:
        """The log, with the run's keys bound to it."""

    @property
    def is_scheduled(self) -> bool:
        """Whether it is the schedule's own run, which also tidies up."""


def silver(rooms: Rooms, run: LoggedRun) -> dict[str, Any]:
    """Refine what is new in bronze."""
    return rooms.medallion.follow(run).as_dict()


def medallion(
    rooms: Rooms,
    run: LoggedRun,
    *,
    days: Sequence[int] | None = None,
    kpis: tuple[int, int] | None = None,
    rebuild: bool = False,
    compact: bool = False,
    gold: bool = True,
    nightly: bool = False,
) -> dict[str, Any]:
    """Refine what is new in bronze, or all of it again, and write the gold of what changed.

    Options:
        days: whose gold to write (YYYYMMDD); by default that of the days that changed.
        kpis: first and last day of KPIs to write besides.
        rebuild: read bronze from its beginning again.
        compact: take superseded lines out of silver; the nightly run always does.
        gold: whether to write any.
        nightly: tidy up as the schedule's run does: take superseded lines out, and keep to the retention.
    """
    nightly = nightly or run.is_scheduled
    room = rooms.medallion
    counts = (room.rebuild if rebuild else room.follow)(run).as_dict()
    if compact or nightly:
        counts["compacted"] = _texts(room.compact(run))
    if gold:
        counts["gold_days"] = _texts(room.write_gold(run, days))
        if kpis is not None:
            room.write_kpis(*kpis)
    if nightly:
        counts |= retention.remove_old(rooms.store, rooms.tree, rooms.clock, rooms.settings.retention, run.log)
    return counts


def collection(
    rooms: Rooms,
    run: LoggedRun,
    *,
    day: int | None = None,
    everything: bool = False,
) -> dict[str, Any]:
    """Let the rule decide about what is new in silver, that of Cortex included.

    Options:
        day: also about those tasks of this silver day (YYYYMMDD) that it decided about before.
        everything: also about all others.
    """
    rooms.medallion.mend()  # the outcomes' texts are taken from silver
    noted = rooms.medallion.adopt(_Uncounted(run))
    try:
        counts = rooms.collect.run(run, day=day, everything=everything).as_dict()
    except OutputDamagedError as error:
        rooms.medallion.mend(error.relative)  # as long as it was, but not what was written: the next run goes on
        raise
    if noted.objects or noted.quarantined:
        counts["cortex_silver"] = {"objects": noted.objects, "quarantined": noted.quarantined}
    return counts


def scoring(
    rooms: Rooms,
    run: LoggedRun,
    *,
    limit: int | None = None,
    rescore: bool = False,
    again: Collection[str] | None = None,
    calibrate: int = 0,
) -> dict[str, Any]:
    """Have tasks judged that lack a score, and take in what the judge has answered.

    Options:
        limit: the most tasks to send.
        rescore: also judge tasks again whose score is of another model or rubric.
        again: also try these tasks anew that were set aside; empty for all of them.
        calibrate: also judge so many tasks that people or the fleet have scored.
    """
    rooms.medallion.mend()  # what is judged is read from silver
    try:
        return rooms.scoring.run(run, limit=limit, rescore=rescore, again=again, calibrate=calibrate).as_dict()
    except OutputDamagedError as error:
        rooms.medallion.mend(error.relative)  # as in collection
        raise


def readiness(rooms: Rooms, run: LoggedRun) -> dict[str, Any]:
    """Say whether there is enough to fine-tune on, and start a training of every scope that is due."""
    counts = {**data_collection(rooms), "due": _is_training_due(rooms)}
    run.log.info("training_ready" if counts["due"] else "training_not_ready", **counts)
    decisions = rooms.training.check(run, lambda shown: run.log.info("fine_tune_triggered", **shown))
    counts["decisions"] = list(map(decision_dict, decisions))
    for decision in counts["decisions"]:
        run.log.info("training_decided", **decision)
    # Not all scopes may have been looked at, and the next look by itself is tomorrow's.
    return counts | {BROKEN_OFF: True} if run.is_ending() else counts


def training(
    rooms: Rooms,
    run: LoggedRun,
    *,
    start: str | None = None,
    is_forced: bool = False,
    by: str = "",
    give_up: str | None = None,
) -> dict[str, Any]:
    """Submit trainings that were started, ask how far those under way are, and end those that are to end.

    Options:
        start: a scope whose training a person asks for.
        is_forced: start it with fewer examples, or sooner after a failure, than the rule asks.
        by: who asks.
        give_up: the model of a training that is to end here even if its backend does not answer.
    """
    counts: dict[str, Any] = {}
    if start is not None:
        decision = rooms.training.trigger(
            start, run, lambda shown: run.log.info("fine_tune_triggered", **shown), is_forced=is_forced, by=by
        )
        counts["decision"] = decision_dict(decision)
        run.log.info("training_decided", **counts["decision"])
    counts["trainings"] = rooms.training.tender.tend(run)
    if give_up is not None:
        rooms.training.tender.give_up(give_up, run)
    return counts


def rollout(rooms: Rooms, run: LoggedRun) -> dict[str, Any]:
    """Deploy models that wait, follow the tests that run, and apply what they decide."""
    rooms.medallion.mend()  # which variant answered a task is read from silver
    try:
        counts = rooms.rollout.run(run)
    except OutputDamagedError as error:
        rooms.medallion.mend(error.relative)  # as in collection
        raise
    for begun in counts.get("begun", ()):
        (run.log.warning if begun["warnings"] else run.log.info)("ab_test_started", **begun)
    return counts


def status(rooms: Rooms, run: LoggedRun) -> dict[str, Any]:
    """Say in one line how things stand."""
    with rooms.store.read() as reading:
        waiting = reading.waiting_tasks()
        last = {job: reading.last_run(job) for job in BODIES}
    counts: dict[str, Any] = {"data_collection": data_collection(rooms), "due": _is_training_due(rooms)}
    counts["waiting"] = waiting
    counts["last_runs"] = {
        job: {"result": one.result, "ended_at": instants.us_to_text(one.ended_us)}
        for job, one in last.items()
        if one is not None
    }
    counts["disk"] = disk_use(rooms.tree)
    run.log.info("status", **counts)
    return counts


BODIES: Final[Mapping[str, Callable[..., dict[str, Any]]]] = {
    "silver": silver,
    "medallion": medallion,
    "collection": collection,
    "scoring": scoring,
    "readiness": readiness,
    "training": training,
    "rollout": rollout,
    "status": status,
}


def _is_training_due(rooms: Rooms) -> bool:
    """Tell whether some scope has what its next training takes: what was trained on is not new."""
    return any(one.new >= one.needed for one in rooms.training.progress().values())


def _collection_waits(rooms: Rooms) -> bool:
    # A transaction, so that this waits for whoever has written lines and is about to commit their tasks.
    with rooms.store.write() as transaction:
        return transaction.waiting_tasks() > 0


def _silver_waits(rooms: Rooms) -> bool:
    return bool(rooms.rollout.masters_under_test())


def _scoring_waits(rooms: Rooms) -> bool:
    if not rooms.scoring.can_ask:
        return False
    now_us = instants.to_us(rooms.clock.now())
    with rooms.store.read() as reading:
        if reading.has_unchosen():
            return True
        last = reading.last_run("scoring", now_us)
        begun_us = 0 if last is None else last.started_us
        is_due = now_us - begun_us >= rooms.settings.judge.poll_s * instants.SECOND_US
        # Who was busy is asked again once: what waits after that waits for a budget, or for its next time.
        return is_due and (bool(reading.open_batches()) or reading.was_busy_until(begun_us, now_us))


def _training_waits(rooms: Rooms) -> bool:
    now_us = instants.to_us(rooms.clock.now())
    before_us = now_us - rooms.settings.training.poll_s * instants.SECOND_US
    with rooms.store.read() as reading:
        last = reading.last_run("training", now_us)
        if last is not None and last.result == "failed" and before_us < last.started_us:
            return False  # it has no slot of the schedule to be tried again in, so it is here, and not at once
        return reading.trainings_to_tend(before_us, now_us) > 0


def _rollout_waits(rooms: Rooms) -> bool:
    return rooms.rollout.is_waiting()


WAITS: Final[Mapping[str, Callable[[Rooms], bool]]] = {
    "silver": _silver_waits,
    "collection": _collection_waits,
    "scoring": _scoring_waits,
    "training": _training_waits,
    "rollout": _rollout_waits,
}
"""For jobs that the daemon asks for at every heartbeat: whether there is anything for them to do now.

Of silver: whether bronze that grows is wanted at once, though the configuration does not have it followed."""


def event_of(job: str, counts: Mapping[str, Any], *, is_whole: bool) -> str | None:
    """Return the event that tells of a run with these counts, or None for one that changed nothing.

    ``is_whole`` is False for a run that failed or was killed; its counts are what it had done by then.
    """
    match job:
        case "medallion":
            return "medallion_run" if is_whole or counts else None
        case "silver":
            return "medallion_run" if counts.get("objects") or counts.get("quarantined") else None
        case "collection":
            return "hq_collection" if counts.get("processed") or counts.get("withdrawn") else None
        case "scoring":
            return "quality_scored" if counts.get("scored") or counts.get("set_aside") else None
        case _:
            return None


def data_collection(rooms: Rooms) -> dict[str, Any]:
    """Return how many training examples there are, and of how many that are needed."""
    with rooms.store.read() as reading:
        totals = reading.collected_totals()
    examples, needed = totals.get("training", (0, 0))[0], rooms.settings.training.min_examples
    return {
        "training_examples": examples,
        "validation_examples": totals.get("validation", (0, 0))[0],
        "min_required": needed,
        "ready": examples >= needed,
        "progress_percent": min(100.0, round(100 * examples / needed, 1)),
    }


def state_bytes(root: Path) -> int:
    """Return the bytes that the state takes, with what SQLite has not moved into its file yet."""
    state = root / layout.STATE
    parts = (state, state.with_name(f"{state.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())


def disk_use(tree: Tree) -> dict[str, int]:
    """Return the bytes that each part of the tree takes, and at last those free where the state lies, or will."""
    used = {
        name: sum(entry.size for folder in folders for entry in tree.entries(folder, suffix))
        for name, (folders, suffix) in _FOLDERS.items()
    }
    for name, folder in (("datasets_bytes", layout.DATASETS), ("models_bytes", layout.MODELS)):
        inside = [f"{folder}/{one}" for one in tree.folders(folder)]
        used[name] = sum(entry.size for one in inside for entry in tree.entries(one, ""))
    used["state_bytes"] = state_bytes(tree.root)
    place = tree.path(layout.AUTOLEARN)
    free = os.statvfs(place if place.is_dir() else tree.root)
    used["free_bytes"] = free.f_bavail * free.f_frsize
    return used


class _Uncounted:
    """A part of a run whose own counts are not the run's."""

    run_id = ""

    def __init__(self, run: LoggedRun) -> None:
        self.progress = run.progress
        self.trouble = run.trouble
        self.is_ending = run.is_ending


def _texts(days: Sequence[int]) -> list[str]:
    return [layout.day_text(day) for day in days]
