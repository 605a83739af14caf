"""Tests of invented models, whose truth is known: how often a configuration decides wrongly, and how soon rightly.

A :class:`World` says how two models really are. Each run of it draws tasks one after the other and puts them through
the same evidence and the same decision as real outcomes, with a look after every one. ``vectorised`` does that for many
runs at once where numpy is installed, from the same draws; here stands the plain engine, and the sums over runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from math import ceil, cos, erf, exp, log, pi, sin, sqrt
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import structs

from cortex_autolearn.model.instants import SECOND_US
from cortex_autolearn.model.rollout import SCORES, Continue, Decision, Invalid, Outcome, Rollback, Settle, WatchDecision
from cortex_autolearn.rollout.baseline import Baseline, Past
from cortex_autolearn.rollout.decide import decide, decide_watch
from cortex_autolearn.rollout.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cortex_autolearn.model.rollout_policy import RolloutPolicy

DRAWS: Final = 6
"""Random numbers a task: its variant, whether it hangs, completes and is scored, and two for quality and duration."""

MEDIAN_S: Final = 120.0
SPREAD: Final = 0.5
_DEFAULT_PERCENTAGE: Final = 10
_FAR: Final = 8
_HALVINGS: Final = 60


@dataclass(frozen=True, slots=True)
class World:
    """How two models really are. Pairs are (the other model, the model on trial); rates are shares of 1.

    Arguments:
        name: its name.
        completion: the share of tasks that complete, of those that do not hang.
        quality: the mean score of completed tasks; scores are normal, clipped to 1 to 5.
        sd: their standard deviation before they are clipped.
        scored: the share of completed tasks that get a score.
        hang: the share of tasks that never end.
        slowdown: how much longer the model on trial takes, as a factor.
        history: outcomes of the champion's before the test.
        window: the window of a task, as a number of tasks of the master; 0: it closes at once.
        outage: the first task and the number of tasks that all fail, in both variants.
        retire: whether hopeless challengers are retired (where the policy says so, too).
        watch: whether it is the watch after a promotion.
    """

    name: str
    completion: tuple[float, float] = (0.925, 0.925)
    quality: tuple[float, float] = (4.1, 4.1)
    sd: float = 0.7
    scored: tuple[float, float] = (1.0, 1.0)
    hang: tuple[float, float] = (0.0, 0.0)
    slowdown: float = 1.0
    history: int = 2000
    window: int = 0
    outage: tuple[int, int] = (0, 0)
    retire: bool = True
    watch: bool = False

    def at(self, completion: float | None, quality: float | None, sd: float | None) -> World:
        """Return this world with another champion, the difference between the models kept."""
        rates, scores = self.completion, self.quality
        if completion is not None:
            rates = (completion, min(1.0, max(0.0, completion + rates[1] - rates[0])))
        if quality is not None:
            scores = (quality, quality + scores[1] - scores[0])
        return replace(self, completion=rates, quality=scores, sd=self.sd if sd is None else sd)

    def policy(self, policy: RolloutPolicy) -> RolloutPolicy:
        """Return the policy as it holds in this world; a task comes every two seconds of it."""
        window_s = 2 * self.window if self.window else 1
        return structs.replace(policy, maturation_s=window_s, retire_early=policy.retire_early and self.retire)

    def probability(self, policy: RolloutPolicy) -> float:
        """Return how likely a task goes to the model on trial."""
        if self.watch:
            return 1 - policy.watch_percentage / 100
        share = policy.challenger_percentage
        return (_DEFAULT_PERCENTAGE if share == "auto" else share) / 100


def _same(completion: float) -> tuple[float, float]:
    return completion, completion


_BETTER_QUALITY: Final = (4.1, 4.4)
_LARGE_GAIN: Final = (4.1, 4.6)

WORLDS: Final = (
    World("equal-80", _same(0.8)),
    World("equal-92.5"),
    World("equal-97", _same(0.97)),
    World("only-quality-80", _same(0.8), _LARGE_GAIN),
    World("only-quality-92.5", quality=_LARGE_GAIN),
    World("only-quality-97", _same(0.97), _LARGE_GAIN),
    World("slightly-worse", (0.925, 0.915), (4.1, 4.05)),
    World("worse-5-0.3", (0.925, 0.875), (4.1, 3.8)),
    World("worse-20-0.5", (0.925, 0.725), (4.1, 3.6)),
    World("broken", (0.925, 0.0)),
    World("better-5.7-0.3", (0.925, 0.982), _BETTER_QUALITY),
    World("trade-off", (0.925, 0.895), _BETTER_QUALITY),
    World("hangs-10", quality=_BETTER_QUALITY, hang=(0.0, 0.1)),
    World("better-5.7-0.3-sd-1", (0.925, 0.982), _BETTER_QUALITY, sd=1.0),
    World("worse-20", (0.925, 0.725), retire=False),
    World("unretired-80", _same(0.8), retire=False),
    World("unretired-92.5", retire=False),
    World("unretired-97", _same(0.97), retire=False),
    World("both-hang-1", hang=(0.01, 0.01), retire=False),
    World("both-hang-2", hang=(0.02, 0.02), retire=False),
    World("both-hang-5", hang=(0.05, 0.05), retire=False),
    World("both-hang-1-waiting", hang=(0.01, 0.01), window=500, retire=False),
    World("both-hang-2-waiting", hang=(0.02, 0.02), window=500, retire=False),
    World("both-hang-5-waiting", hang=(0.05, 0.05), window=500, retire=False),
    World("hangs-10-waiting", quality=_BETTER_QUALITY, hang=(0.0, 0.1), window=500),
    World("hides-failures", (0.925, 1.0), _BETTER_QUALITY, hang=(0.0, 0.075), window=500),
    World("worse-5-0.3-waiting", (0.925, 0.875), (4.1, 3.8), window=5_000),
    World("outage", outage=(1_000, 100), retire=False),
    World("scored-90-50", scored=(0.9, 0.5), retire=False),
    World("scored-90-90", scored=(0.9, 0.9), retire=False),
    World("no-history-60", _same(0.6), history=0, retire=False),
    World("no-history-80", _same(0.8), history=0, retire=False),
    World("slower-20", slowdown=1.2, retire=False),
    World("slower-50", slowdown=1.5),
    World("watch-worse-5-0.3", (0.925, 0.875), (4.1, 3.8), watch=True),
    World("watch-equal", watch=True),
)
"""The worlds that the defaults were chosen for, those every operator asks about first."""

FIRST_WORLDS: Final = 13
"""As many of them are simulated when none is named."""


class Ending(NamedTuple):
    """How a run ended.

    ``decision`` is the class of the decision in lower case, ``rules`` are its reasons. ``challenger_tasks`` counts as
    the decision does: assigned tasks for a rollback, else those with closed windows, when a watch settles those of
    both variants. ``alarmed`` tells whether an alarm rang.
    """

    decision: str
    rules: frozenset[str]
    challenger_tasks: int
    alarmed: bool


class Report(NamedTuple):
    """What became of the runs of a world: shares in percent, numbers of challenger tasks at the decision."""

    name: str
    runs: int
    promoted: float
    rolled_back: float
    retired: float
    inconclusive: float
    held: float
    settled: float
    challenger_tasks_p50: int
    challenger_tasks_p90: int
    challenger_tasks_p99: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is printed."""
        return self._asdict()


def simulate(  # noqa: PLR0913 - three of them by keyword
    world: World,
    policy: RolloutPolicy,
    *,
    runs: int,
    seed: int,
    plain: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Ending]:
    """Return how ``runs`` runs of a world ended; the same for the same seed, whichever engine is there.

    Arguments:
        world: the truth.
        policy: every bar.
        runs: how many.
        seed: what chance follows from.
        plain: whether to do without numpy even where it is installed.
        progress: told how many runs have ended.
    """
    seeds = [seed_of(seed, world.name, run) for run in range(runs)]
    if not plain and has_numpy():
        from cortex_autolearn.rollout import vectorised  # noqa: PLC0415 - the one door to numpy

        return vectorised.simulate(world, policy, seeds, progress)
    endings = []
    for one in seeds:
        endings.append(run_once(world, policy, one))
        progress(len(endings))
    return endings


def has_numpy() -> bool:
    """Tell whether many runs can be simulated at once."""
    return find_spec("numpy") is not None


def seed_of(seed: int, name: str, run: int) -> int:
    """Return the seed of one run, independent of all others."""
    return int.from_bytes(sha256(f"{seed}/{name}/{run}".encode()).digest()[:8], "big")


def report(world: World, endings: Sequence[Ending]) -> Report:
    """Sum up how the runs of a world ended."""
    count = len(endings)

    def share(decision: str) -> float:
        return round(100 * sum(one.decision == decision for one in endings) / count, 3) if count else 0.0

    tasks = sorted(one.challenger_tasks for one in endings)
    return Report(
        world.name,
        count,
        share("promote"),
        share("rollback"),
        share("retire"),
        share("inconclusive"),
        round(100 * sum(one.alarmed for one in endings) / count, 3) if count else 0.0,
        share("settle"),
        percentile(tasks, 50),
        percentile(tasks, 90),
        percentile(tasks, 99),
    )


@lru_cache(maxsize=256)
def centre(mean: float, sd: float) -> float:
    """Return where a normal distribution must lie for its values, clipped to 1 to 5, to have this mean."""
    # By bisection: the mean of what is clipped grows with the centre.
    low, high = SCORES[0] - _FAR * sd, SCORES[1] + _FAR * sd
    for _ in range(_HALVINGS if sd > 0 else 0):
        middle = (low + high) / 2
        clipped = middle + sd * (_excess((middle - SCORES[0]) / sd) - _excess((SCORES[1] - middle) / sd))
        low, high = (middle, high) if clipped < mean else (low, middle)
    return low if sd > 0 else mean


def _excess(z: float) -> float:
    """Return by how much a standard normal number exceeds ``z`` on average, counting 0 where it does not."""
    return exp(-z * z / 2) / sqrt(2 * pi) - z * (1 - erf(z / sqrt(2))) / 2


def percentile(ordered: Sequence[int], percent: float) -> int:
    """Return a percentile by nearest rank; 0 of nothing."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)] if ordered else 0


class Drawn(NamedTuple):
    """One task as chance made it."""

    treated: bool
    hangs: bool
    completed: bool
    quality: float | None
    duration_s: float | None


def draw(world: World, probability: float, index: int, random: Callable[[], float]) -> Drawn:
    """Draw one task; ``index`` is its place in the test, negative before it."""
    arm, hang, success, scoring, first, second = [random() for _ in range(DRAWS)]
    treated = arm < probability
    radius, angle = sqrt(-2 * log(1 - first)), 2 * pi * second
    begin, length = world.outage
    fails = begin <= index < begin + length
    hangs = hang < world.hang[treated] and not fails
    completed = success < world.completion[treated] and not fails and not hangs
    score = min(SCORES[1], max(SCORES[0], centre(world.quality[treated], world.sd) + world.sd * radius * cos(angle)))
    took = MEDIAN_S * exp(SPREAD * radius * sin(angle)) * (world.slowdown if treated else 1.0)
    is_scored = completed and scoring < world.scored[treated]
    return Drawn(treated, hangs, completed, score if is_scored else None, None if hangs else took)


def run_once(world: World, policy: RolloutPolicy, seed: int) -> Ending:
    """Run a world once, task by task, through the real evidence and the real decision."""
    random, probability = Random(seed).random, world.probability(policy)  # noqa: S311 - chance that can be repeated
    policy = world.policy(policy)
    history = (draw(world, 0.0, -1, random) for _ in range(min(world.history, policy.history_tasks)))
    baseline = Baseline.of(Past(one.completed, one.quality, one.duration_s, not one.hangs) for one in history)
    evidence = Evidence(baseline, policy)
    index = treated = 0
    while True:
        one = draw(world, probability, index, random)
        treated += one.treated
        for _ in _looks(evidence, one, index, probability, world.window):
            numbers = evidence.numbers()
            decision = (decide_watch if world.watch else decide)(numbers, policy, elapsed_s=0)
            if not isinstance(decision, Continue | Invalid):
                return _ending(decision, treated)
        index += 1


def _looks(evidence: Evidence, one: Drawn, index: int, probability: float, window: int) -> Iterator[None]:
    """Let a task happen, and yield whenever somebody would look."""
    at_us, task_id = 2 * index * SECOND_US, str(index)
    if one.hangs:
        evidence.assigned(task_id, treated=one.treated, probability=probability, at_us=at_us)
    else:
        evidence.observe(
            Outcome(task_id, one.treated, probability, at_us, at_us, one.completed, one.quality, one.duration_s)
        )
    if window:
        yield
    for _ in evidence.closing(at_us if window else at_us + SECOND_US):
        yield


def _ending(decision: Decision | WatchDecision, treated: int) -> Ending:
    match decision:
        case Rollback():
            tasks = treated
        case Settle():
            tasks = decision.numbers.watched
        case _:
            tasks = decision.numbers.closed.treated.tasks
    rules = frozenset(one.rule for one in decision.reasons)
    return Ending(type(decision).__name__.lower(), rules, tasks, bool(decision.numbers.alarms))
