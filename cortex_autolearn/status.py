"""How far the system is, gathered from the state and the tree; asked by the command line and the daemon alike.

Only reads. What is wrong, and what to do about it, is ``doctor``'s to say; how it is printed, the command line's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import tzlocal

from cortex_autolearn import jobs
from cortex_autolearn.adapters import lock
from cortex_autolearn.collect import gate, score
from cortex_autolearn.collect.standing import stand
from cortex_autolearn.jobs import disk_use
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.training_jobs import GLOBAL
from cortex_autolearn.model.training_policy import price_table
from cortex_autolearn.rollout import standing as rollout_standing
from cortex_autolearn.runner import JOBS
from cortex_autolearn.slots import Daily, Every, Job, next_due
from cortex_autolearn.training.cost import cost, tokens_for
from cortex_autolearn.training.tend import training_dict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cortex_autolearn.adapters.store.database import Reading
    from cortex_autolearn.collect.standing import Standing
    from cortex_autolearn.model.ledger import Source
    from cortex_autolearn.model.policy import GatePolicy, SchedulePolicy
    from cortex_autolearn.model.runs import Run
    from cortex_autolearn.model.training import DatasetRow
    from cortex_autolearn.ports import Entry
    from cortex_autolearn.rollout.standing import Standing as MasterStanding
    from cortex_autolearn.settings import Settings
    from cortex_autolearn.slots import Rule
    from cortex_autolearn.wiring import App

_REFINING: Final = ("silver", "medallion")
"""The jobs that read bronze."""
_BYTES_PER_TOKEN: Final = 3.5
"""What a token of English text and code is worth, roughly: it serves until a dataset was built, which is measured."""


class Daemon(NamedTuple):
    """Whether a daemon runs on a ROOT, and what the last one noted about itself (``pid``, …)."""

    alive: bool
    noted: dict[str, Any]


class Lag(NamedTuple):
    """What of bronze is not refined yet: bytes nobody looked at, and for how long at least the oldest have waited.

    ``tail_bytes`` are unfinished ends of files that were looked at: they wait for their writers.
    """

    files: int
    bytes: int
    seconds: float
    tail_bytes: int


@dataclass(frozen=True)
class Planned:
    """A job of the schedule: its rule in words, its last run, and when it runs next."""

    job: str
    rule: str
    next_at: datetime
    last: Run | None


@dataclass(frozen=True)
class Status:
    """All of it. Instants are aware and in UTC, sizes in bytes."""

    root: Path
    now: datetime
    zone: str
    daemon: Daemon
    collection: dict[str, Any]
    """Training and validation examples, how many are needed, whether that is enough."""
    fine_tuning: dict[str, Any]
    """Whether a training is under way, how many models there are, and how far each scope is."""
    text_bytes: int
    built: DatasetRow | None
    """The newest dataset of all masters, whose examples were measured."""
    settings: Settings
    schedule: list[Planned]
    last_runs: dict[str, Run]
    lag: Lag
    tasks: int
    final_tasks: int
    scored_tasks: int
    completed_tasks: int
    rejected: dict[str, int]
    """Reason to number of final tasks that the rule rejects as they stand, the commonest first."""
    waiting: int
    """Final tasks that the rule was not asked about yet."""
    judge: Standing
    masters: list[MasterStanding]
    """What serves each master that was ever offered a model, and how the test beside it goes."""
    quarantined: dict[str, int]
    disk: dict[str, int]

    @property
    def estimate(self) -> tuple[int, float | None]:
        """Tokens of one training run over all epochs, and its price in USD, None where that is unknown."""
        training = self.settings.training
        examples = self.collection["training_examples"]
        if self.built is not None:
            tokens = examples * self.built.tokens / self.built.train
        else:
            tokens = (self.text_bytes + examples * len(training.system_prompt.encode())) / _BYTES_PER_TOKEN
        once = tokens_for(training.base, round(tokens))
        if training.backend == "exemplar":
            return once, 0.0  # each example is read once, and nobody is paid for it
        price = price_table(training).get(training.base)
        usd = cost(price, train_tokens=once, epochs=training.epochs).training
        return once * training.epochs, None if usd is None else round(usd, 2)

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``status --json`` prints it."""
        tokens, usd = self.estimate
        return {
            "root": str(self.root),
            "generated_at": instants.to_text(self.now),
            "daemon": {"alive": self.daemon.alive, "pid": self.daemon.noted.get("pid") if self.daemon.alive else None},
            "data_collection": self.collection,
            "fine_tuning": self.fine_tuning,
            "cost_estimate": {
                "example_count": self.collection["training_examples"],
                "estimated_tokens": tokens,
                "estimated_cost_usd": usd,
                "is_measured": self.built is not None,
            },
            "tasks": {
                "seen": self.tasks,
                "final": self.final_tasks,
                "completed": self.completed_tasks,
                "completed_with_score": self.scored_tasks,
                "waiting_for_collection": self.waiting,
            },
            "judge": self.judge.as_dict(),
            "masters": [one.as_dict() for one in self.masters],
            "rejected": self.rejected,
            "quarantined": self.quarantined,
            "silver_lag": {**self.lag._asdict(), "seconds": round(self.lag.seconds, 3)},
            "schedule": {"timezone": self.zone, "jobs": [self.planned_dict(one) for one in self.schedule]},
            "last_runs": {job: run_dict(run) for job, run in self.last_runs.items()},
            "disk": self.disk,
        }

    def planned_dict(self, one: Planned) -> dict[str, Any]:
        """Return one line of the schedule as JSON holds it."""
        return {
            "job": one.job,
            "rule": one.rule,
            "next_run": instants.to_text(one.next_at),
            "next_run_local": self.local(one.next_at).isoformat(),
            "last_run": None if one.last is None else run_dict(one.last),
        }

    def local(self, instant: datetime) -> datetime:
        """Return an instant in the zone of the schedule."""
        return instant.astimezone(ZoneInfo(self.zone))


def gather(app: App) -> Status:
    """Look at everything once."""
    now = app.clock.now()
    now_us = instants.to_us(now)
    schedule = app.settings.schedule
    with app.store.read() as reading:
        last_runs = {job: run for job in JOBS if (run := reading.last_run(job, now_us)) is not None}
        lag = look_for_lag(reading, app.tree.entries(layout.BRONZE, ".jsonl"), now)
        tasks, final, completed, scored = reading.task_totals()
        waiting = reading.waiting_tasks()
        rejected, unscored = verdicts(reading, app.settings.collect)
        today = instants.day_number(now)
        judge = stand(reading, app.settings.judge, today, unscored, has_key=app.judge is not None)
        masters = rollout_standing.stand(reading, now_us)
        quarantined = reading.quarantine_counts()
        text_bytes = reading.collected_totals().get("training", (0, 0))[1]
        built = reading.latest_dataset(GLOBAL)
    return Status(
        root=app.root,
        now=now,
        zone=zone_name(schedule),
        daemon=look_for_daemon(app.root),
        collection=jobs.data_collection(app.rooms),
        fine_tuning=fine_tuning(app),
        text_bytes=text_bytes,
        built=built,
        settings=app.settings,
        schedule=[
            Planned(job.name, rule_text(job.rule), next_due(job.rule, now).due_at, last_runs.get(job.name))
            for job in planned(schedule)
        ],
        last_runs=last_runs,
        lag=lag,
        tasks=tasks,
        final_tasks=final,
        scored_tasks=scored,
        completed_tasks=completed,
        rejected=rejected,
        waiting=waiting,
        judge=judge,
        masters=masters,
        quarantined=quarantined,
        disk=disk_use(app.tree),
    )


def fine_tuning(app: App) -> dict[str, Any]:
    """Return how far trainings are, as ``fine-tune status`` shows it."""
    now_us = instants.to_us(app.clock.now())
    with app.store.read() as reading:
        active = reading.active_trainings()
        models = reading.models()
        last = reading.last_run("readiness", now_us)
        looks = [run for job in ("readiness", "training") if (run := reading.last_run(job, now_us)) is not None]
    latest = max(looks, key=lambda run: run.started_us, default=None)
    progress = app.rooms.training.progress()
    return {
        "backend": app.settings.training.backend,
        "base": app.settings.training.base,
        "has_triggered": bool(active),
        "models_trained": len(models),
        "last_model": models[-1].ref.model_id if models else None,
        "active": [training_dict(training) for training in active],
        "troubles": [] if latest is None else latest.counts.get("troubles", []),
        "decided_at": None if last is None else instants.us_to_text(last.ended_us),
        "decided": [] if last is None else last.counts.get("decisions", []),
        "scopes": [{"scope": scope, **one._asdict()} for scope, one in progress.items()],
    }


def planned(policy: SchedulePolicy) -> list[Job]:
    """Return which job is due when."""
    zone = zone_name(policy)
    return [
        Job("medallion", Daily(policy.medallion_at, zone)),
        Job("collection", Every(policy.collection_every_s)),
        Job("scoring", Every(policy.scoring_every_s)),
        Job("readiness", Daily(policy.readiness_at, zone)),
        Job("status", Every(policy.status_every_s)),
    ]


def zone_name(policy: SchedulePolicy) -> str:
    """Return the zone of the schedule: the configured one, else the machine's, else UTC."""
    if policy.timezone:
        return policy.timezone
    try:
        name = str(tzlocal.get_localzone_name())
        Daily("00:00", name)
    except (LookupError, OSError, ValueError, TypeError):
        return "UTC"  # a machine with an offset but no zone, or none at all
    return name


def look_for_daemon(root: Path) -> Daemon:
    """Tell by its lock whether a daemon runs on ``root``.

    Raises:
        BoundaryError: the lock's file cannot be looked at.
    """
    path = root / layout.DAEMON_LOCK
    return Daemon(lock.is_held(path), lock.holder(path))


def rejections(reading: Reading, policy: GatePolicy) -> dict[str, int]:
    """Return for each reason how many final tasks the rule rejects as they stand, the commonest first."""
    return verdicts(reading, policy)[0]


def verdicts(reading: Reading, policy: GatePolicy) -> tuple[dict[str, int], int]:
    """Return the same, and how many of these tasks lack nothing but a score."""
    counts: Counter[str] = Counter()
    unscored = 0
    for facts, count in reading.fact_groups(policy.min_output_chars, policy.min_duration_s, policy.max_duration_s):
        verdict = gate.verdict(facts, policy)
        if verdict is not gate.KEPT:
            counts[verdict] += count
            unscored += count if score.lacks_only_a_score(facts, policy) else 0
    return dict(counts.most_common()), unscored


def look_for_lag(reading: Reading, entries: Sequence[Entry], now: datetime) -> Lag:
    """Return how far the files of bronze are not refined, by what the state knows of them and of the runs."""
    failing_since_us = reading.failing_since_us(_REFINING, instants.to_us(now))
    return lag_of(entries, reading.sources(layout.BRONZE), now, failing_since_us)


def lag_of(entries: Sequence[Entry], sources: list[Source], now: datetime, failing_since_us: int | None = None) -> Lag:
    """Compare the files of bronze with how far each was read.

    A file that goes on growing is always young; ``failing_since_us``, when the first run began that should have read
    it and did not, tells since when it waits.
    """
    known = {source.path: source for source in sources}
    files = unread = tails = 0
    oldest_ns: int | None = None
    for entry in entries:
        source = known.get(entry.relative)
        if source is not None and (source.size, source.mtime_ns) == (entry.size, entry.mtime_ns):
            tails += entry.size - source.position
            continue
        is_same = source is not None and source.identity == f"{entry.device}:{entry.inode}"
        read = source.position if source is not None and is_same and source.position <= entry.size else 0
        if entry.size > read:
            files += 1
            unread += entry.size - read
            oldest_ns = entry.mtime_ns if oldest_ns is None else min(oldest_ns, entry.mtime_ns)
    waited_s = 0.0
    if oldest_ns is not None:
        since_s = oldest_ns / 1e9
        if failing_since_us is not None:
            since_s = min(since_s, failing_since_us / instants.SECOND_US)
        waited_s = max(0.0, now.timestamp() - since_s)
    return Lag(files, unread, waited_s, tails)


def rule_text(rule: Rule) -> str:
    """Say a rule in words: ``daily at 02:00 (Europe/Berlin)``, ``every hour``, ``every 6 hours``."""
    if isinstance(rule, Daily):
        return f"daily at {rule.at} ({rule.timezone})"
    for unit_s, unit in ((3600, "hour"), (60, "minute"), (1, "second")):
        if rule.period_s % unit_s == 0:
            count = rule.period_s // unit_s
            return f"every {unit}" if count == 1 else f"every {count} {unit}s"
    raise AssertionError(rule)


def run_dict(run: Run) -> dict[str, Any]:
    """Return a run as JSON holds it."""
    ended = None if run.ended_us is None else run.ended_us - run.started_us
    return {
        "run_id": run.run_id,
        "trigger": run.trigger,
        "slot": run.slot,
        "started_at": instants.us_to_text(run.started_us),
        "ended_at": instants.us_to_text(run.ended_us),
        "duration_seconds": None if ended is None else round(ended / instants.SECOND_US, 3),
        "result": run.result,
        "counts": run.counts,
    }
