"""The looks of many simulated runs: what is known at each, and what follows from it.

Arrays have a row for each run and a column for each look. Every formula is one of ``wealth``, ``breaker`` or
``decide``; where the tasks come from, and which runs go on, is ``vectorised``'s business.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import lgamma, log, log1p
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from cortex_autolearn.model.rollout import SCORES
from cortex_autolearn.rollout import breaker, decide, wealth
from cortex_autolearn.rollout.baseline import PSEUDO_OUTCOMES, PSEUDO_QUALITY, PSEUDO_RATE, SLOWEST_S
from cortex_autolearn.rollout.simulate import Ending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cortex_autolearn.model.rollout_policy import RolloutPolicy
    from cortex_autolearn.rollout.simulate import World

    # What an array holds, for the reader: numpy does not follow it through its own functions.
    Reals = NDArray[Any]
    Flags = NDArray[Any]


class Tasks(NamedTuple):
    """Tasks of many runs, a row a run; where ``counts`` is false there is none."""

    counts: Flags
    treated: Flags
    completed: Flags
    scored: Flags
    quality: Reals
    returned: Flags
    duration_s: Reals

    def only(self, counts: Flags) -> Tasks:
        """Return those that count here as well."""
        return self._replace(counts=self.counts & counts)


class Carried:
    """What goes on from block to block, a row a run: the baseline, and every sum so far.

    Arguments:
        world: the truth about the models.
        policy: every bar, as it holds in that world.
        probability: how likely a task goes to the model on trial.
        rows: by name; to begin with, the baseline.
    """

    def __init__(self, world: World, policy: RolloutPolicy, probability: float, rows: dict[str, Reals]) -> None:
        self.world = world
        self.policy = policy
        self.probability = probability
        self.rows = rows

    @property
    def size(self) -> int:
        """How many runs there are."""
        return len(next(iter(self.rows.values())))

    def keep(self, runs: Flags) -> None:
        """Let all other runs go."""
        self.rows = {name: one[runs] for name, one in self.rows.items()}

    def total(self, name: str, increments: NDArray[Any]) -> Reals:
        """Return the sum up to each column, on top of that of the blocks before."""
        sums = np.cumsum(increments, axis=1, dtype=np.float64)
        before = self.rows.get(name)
        if before is not None:
            sums += before[:, None]
        self.rows[name] = sums[:, -1].copy()
        return sums

    def highest(self, name: str, values: Reals) -> Reals:
        """Return the greatest value up to each column, those of the blocks before included; none is below 0."""
        before = self.rows.get(name)
        if before is not None:
            values[:, 0] = np.maximum(values[:, 0], before)
        found: Reals = np.maximum.accumulate(values, axis=1)
        self.rows[name] = found[:, -1].copy()
        return found


class Block:
    """The looks of one block: what is known at each, and what follows from it."""

    def __init__(self, carried: Carried, arrived: Tasks, closed: Tasks, assigned: Tasks) -> None:
        self._carried = carried
        self._policy = carried.policy
        self._arrived = arrived
        self._closed = closed
        self._assigned = carried.total("assigned", assigned.counts & assigned.treated)
        self._tasks = {
            name: _counted(carried, name, tasks.counts, tasks.treated)
            for name, tasks in (("arrived", arrived), ("closed", closed), ("all", assigned))
        }
        self._alarmed = self._alarms()
        self._rules: dict[str, dict[str, Flags]] = {}
        if carried.world.watch:
            self._watch()
        else:
            self._test()
        was_tried = self._tasks["arrived"][1] > 0
        self._rules["rollback"] = {name: one & was_tried for name, one in self._rules["rollback"].items()}

    @cached_property
    def ends(self) -> Flags:
        """Where a run is decided."""
        found = np.zeros_like(self._alarmed)
        for rules in self._rules.values():
            for one in rules.values():
                found |= one
        return found

    def ending(self, row: int, column: int) -> Ending:
        """Return how a run ended that ended at a look."""
        for decision, rules in self._rules.items():
            met = frozenset(name for name, one in rules.items() if one[row, column])
            if met:
                if decision == "rollback":
                    tasks = self._assigned[row, column]
                elif decision == "settle":
                    tasks = sum(one[row, column] for one in self._tasks["closed"])
                else:
                    tasks = self._tasks["closed"][1][row, column]
                alarmed = bool(self._alarmed[row, column])
                if decision == "inconclusive" and alarmed:
                    met |= {name for name, one in self._rung.items() if one[row, column]}
                return Ending(decision, met, int(tasks), alarmed)
        raise AssertionError("nothing was decided at this look")

    def _watch(self) -> None:
        bar = self._policy.watch_evidence
        self._rules["rollback"] = self._losses(bar) | {"breaker": self._broken()}
        watched: Reals = np.add(*self._tasks["closed"])
        self._rules["settle"] = {"tasks": watched >= self._policy.watch_tasks}

    def _test(self) -> None:
        policy = self._policy
        closed, both = self._closed, self._tasks["closed"]
        enough = np.minimum(*both) >= policy.min_tasks
        completed = _counted(self._carried, "closed completed", closed.counts & closed.completed, closed.treated)
        with np.errstate(divide="ignore", invalid="ignore"):
            completion = np.round(completed[1] / both[1] - completed[0] / both[0], _GAIN_DIGITS)
            quality, bound = self._quality()
            bar = np.full(self._carried.size, policy.min_completion_gain / 100)
            if policy.completion_gate == "scaled":
                bar = np.minimum(bar, decide.SCALED_SHARE * (1 - self._carried.rows["completion"]))
            promotes = enough & ~self._alarmed & (quality > policy.min_quality_gain) & (completion > bar[:, None])
            if policy.evidence == "anytime":
                log_bar = log(policy.promotion_evidence)
                good = closed.counts & closed.scored
                promotes &= self._share(closed, closed.completed, "completion", log_bar, up=True)
                promotes &= self._scores(closed, good, log_bar, up=True)
                retires = {
                    "quality": bound < policy.min_quality_gain,
                    "completion": completion + _completion_margin(completed, both, policy) < bar[:, None],
                }
                self._rules["rollback"] = self._worse()
            else:
                retires = {}
                self._rules["rollback"] = {
                    "quality": enough & (quality < -policy.min_quality_gain),
                    "completion": enough & (completion < -bar[:, None]),
                }
        self._rules["promote"] = {"quality": promotes, "completion": promotes}
        may = enough & ~self._alarmed & policy.retire_early
        self._rules["retire"] = {name: one & may for name, one in retires.items()}
        self._rules["inconclusive"] = {"tasks": both[1] >= policy.max_challenger_tasks}

    def _worse(self) -> dict[str, Flags]:
        policy, arrived, closed = self._policy, self._arrived, self._closed
        timed = arrived.counts & arrived.returned
        known = _counted(self._carried, "timed", timed, arrived.treated)
        spent = _counted(self._carried, "spent", np.where(timed, arrived.duration_s, 0.0), arrived.treated)
        speed = 1 - np.minimum(arrived.duration_s, SLOWEST_S) / SLOWEST_S
        where = (0.0, 1.0, self._carried.rows["speed"])
        slower = self._reached("speed", arrived.treated, speed, timed, where, log(policy.slowdown_evidence), up=False)
        slower &= np.minimum(*known) >= policy.slowdown_min_tasks
        slower &= spent[1] / known[1] > spent[0] / known[0] * (1 + policy.max_slowdown_percent / 100)
        vanishing = self._share(closed, closed.returned, "returned", log(policy.vanishing_evidence), up=False)
        rules = self._losses(policy.rollback_evidence)
        return rules | {"duration": slower, "vanishing": vanishing, "breaker": self._broken()}

    def _losses(self, bar: float) -> dict[str, Flags]:
        arrived, closed, rows = self._arrived, self._closed, self._carried.rows
        share = self._policy.patient_above_percent
        waits = (100 * rows["past vanished"] > share * rows["past tasks"])[:, None]
        counts = np.where(waits, closed.counts, arrived.counts)
        treated = np.where(waits, closed.treated, arrived.treated)
        tasks = arrived._replace(counts=counts, treated=treated)
        completed = np.where(waits, closed.completed, arrived.completed)
        completion = self._share(tasks, completed, "completion", log(bar), up=False)
        quality = self._scores(arrived, arrived.counts & arrived.scored, log(bar), up=False)
        return {"completion": completion, "quality": quality & ~self._rung["scored"]}

    def _quality(self) -> tuple[Reals, Reals]:
        """Return the gain over closed windows, and its upper bound (``decide.quality_bound``)."""
        tasks = self._closed
        good = tasks.counts & tasks.scored
        # Around 4, so that the sums of squares keep their digits.
        off = np.where(good, tasks.quality - PSEUDO_QUALITY, 0.0)
        known = _counted(self._carried, "scored", good, tasks.treated)
        sums = _counted(self._carried, "scores", off, tasks.treated)
        squares = _counted(self._carried, "squares", off * off, tasks.treated)
        gain = np.round(sums[1] / known[1] - sums[0] / known[0], _GAIN_DIGITS)
        measured = sum((q - s * s / n) / (n - 1) / n for q, s, n in zip(squares, sums, known, strict=True))
        least = decide.LEAST_VARIANCE * (1 / known[0] + 1 / known[1])
        bound = gain + _margin(np.maximum(measured, least), decide.TAU_QUALITY, self._policy.retirement_risk)
        return gain, np.where(np.minimum(*known) > 1, bound, np.inf)

    def _alarms(self) -> Flags:
        policy, arrived, closed = self._policy, self._arrived, self._closed
        done = closed._replace(counts=closed.counts & closed.completed)
        bar = log(policy.scoring_evidence)
        rings = self._share(done, done.scored, "scored", bar, up=True)
        rings |= self._share(done, done.scored, "scored", bar, up=False)
        rings &= np.minimum(*_counted(self._carried, "done", done.counts, done.treated)) > 0
        rings &= self._carried.total("unscored", done.counts & ~done.scored) > 0
        recorded = arrived.counts & arrived.returned
        counts = _counted(self._carried, "recorded", recorded, arrived.treated)
        uneven = np.maximum(_log_split(*counts, self._carried.probability), self._split_of_all())
        off = uneven >= log(policy.ratio_evidence)
        self._rung = {
            "scored": self._carried.highest("rang scored", rings.astype(np.float64)) > 0,
            "split": self._carried.highest("rang split", off.astype(np.float64)) > 0,
        }
        return self._rung["scored"] | self._rung["split"]

    def _split_of_all(self) -> Reals:
        return _log_split(*self._tasks["all"], self._carried.probability)

    def _broken(self) -> Flags:
        """Follow the failures in a row, and the other model's outcomes since the last success (``breaker``)."""
        carried, tasks, policy = self._carried, self._arrived, self._policy
        failed = _counted(carried, "failed", tasks.counts & ~tasks.completed, tasks.treated)
        others = self._tasks["arrived"][0]
        success = tasks.counts & tasks.treated & tasks.completed
        since = [
            one - carried.highest(f"at success {name}", np.where(success, one, 0.0))
            for name, one in (("row", failed[1]), ("seen", others), ("failed", failed[0]))
        ]
        row, seen, bad = since
        fires = (row >= policy.breaker_failures) & (2 * bad <= seen)
        if fires.any():
            rows = carried.rows
            completed = (rows["past completed"] + PSEUDO_OUTCOMES * PSEUDO_RATE)[:, None] + others - failed[0]
            rate = 1 - completed / ((rows["past tasks"] + PSEUDO_OUTCOMES)[:, None] + others)
            lengths = row[fires].astype(np.intp)
            highest = {int(one): _highest_rate(int(one), policy.breaker_chance) for one in np.unique(lengths)}
            fires[fires] = rate[fires] <= np.array([highest[int(one)] for one in lengths])
        return fires

    def _share(self, tasks: Tasks, successes: Flags, metric: str, log_bar: float, *, up: bool) -> Flags:
        """Tell where the evidence on a share reaches a bar. Of each share there are four terms only."""
        probability, b = self._carried.probability, self._carried.rows[metric]
        kinds = np.where(tasks.counts, 2 * tasks.treated + successes, 4)
        sign = 1 if up else -1
        phi = sign * np.stack(
            [b / (1 - probability), (b - 1) / (1 - probability), -b / probability, (1 - b) / probability], axis=1
        )
        largest = _largest(0.0, 1.0, b, probability, up=up)
        logs = []
        for number, share in enumerate(wealth.UP if up else wealth.DOWN):
            terms = np.concatenate([np.log1p(share * phi / largest[:, None]), np.zeros((len(b), 1))], axis=1)
            logs.append(self._carried.total(f"{metric} {up} {number}", np.take_along_axis(terms, kinds, axis=1)))
        return _above(logs, log_bar)

    def _scores(self, tasks: Tasks, counts: Flags, log_bar: float, *, up: bool) -> Flags:
        where = (*SCORES, self._carried.rows["quality"])
        return self._reached("quality", tasks.treated, tasks.quality, counts, where, log_bar, up=up)

    def _reached(  # noqa: PLR0913, PLR0917 - what a metric is made of
        self,
        metric: str,
        treated: Flags,
        values: Reals,
        counts: Flags,
        where: tuple[float, float, Reals],
        log_bar: float,
        *,
        up: bool,
    ) -> Flags:
        """Tell where the evidence on a metric reaches a bar (``wealth.Wealth``)."""
        low, high, b = where
        probability = self._carried.probability
        phi = (values - b[:, None]) * np.where(treated, 1 / probability, -1 / (1 - probability))
        stake = (phi if up else -phi) / _largest(low, high, b, probability, up=up)[:, None]
        stake[~counts] = 0.0
        logs = [
            self._carried.total(f"{metric} {up} {number}", np.log1p(share * stake))
            for number, share in enumerate(wealth.UP if up else wealth.DOWN)
        ]
        return _above(logs, log_bar)


_GAIN_DIGITS: Final = 9


def _counted(carried: Carried, name: str, values: NDArray[Any], treated: Flags) -> tuple[Reals, Reals]:
    """Return the running sums of both variants."""
    return carried.total(f"{name} 0", np.where(treated, 0, values)), carried.total(
        f"{name} 1", np.where(treated, values, 0)
    )


def _largest(low: float, high: float, b: Reals, probability: float, *, up: bool) -> Reals:
    under, over = (b - low, high - b) if up else (high - b, b - low)
    return np.maximum(under / probability, over / (1 - probability))


def _above(logs: list[Reals], log_bar: float) -> Flags:
    """Tell where ``log_mean_exp`` reaches a bar; a mean does so only where its greatest term does."""
    top = logs[0].copy()
    for one in logs[1:]:
        np.maximum(top, one, out=top)
    found: Flags = top >= log_bar
    if found.any():
        near = top[found]
        means = sum(np.exp(one[found] - near) for one in logs) / len(logs)
        found[found] = near + np.log(means) >= log_bar
    return found


def _margin(variance: Reals, tau: float, alpha: float) -> Reals:
    r = tau * tau / variance
    return np.sqrt(variance * (1 + 1 / r) * (2 * log(1 / alpha) + np.log(1 + r)))


def _completion_margin(completed: tuple[Reals, Reals], tasks: tuple[Reals, Reals], policy: RolloutPolicy) -> Reals:
    pooled = (completed[0] + completed[1] + 1) / (tasks[0] + tasks[1] + 2)
    variance = pooled * (1 - pooled) * (1 / tasks[0] + 1 / tasks[1])
    return _margin(variance, decide.TAU_COMPLETION, policy.retirement_risk)


def _log_split(control: Reals, treated: Reals, probability: float) -> Reals:
    """Return ``wealth.log_split`` of many counts."""
    a, b = wealth.PRIOR_TASKS * probability, wealth.PRIOR_TASKS * (1 - probability)
    most = 1 << int(np.max(control) + np.max(treated) + 1).bit_length()
    one, other, both = (_log_gammas(start, most) for start in (a, b, a + b))
    left, right = treated.astype(np.intp), control.astype(np.intp)
    found: Reals = one[left] + other[right] - both[left + right]
    found -= lgamma(a) + lgamma(b) - lgamma(a + b) + treated * log(probability) + control * log1p(-probability)
    return found


@lru_cache(maxsize=64)
def _log_gammas(start: float, count: int) -> Reals:
    return np.array([lgamma(start + one) for one in range(count)])


@lru_cache(maxsize=4_096)
def _highest_rate(length: int, chance: float) -> float:
    """Return the highest failure rate at which the breaker fires at so many failures in a row (by bisection)."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if breaker.fires(length, middle, at_least=1, chance=chance):
            low = middle
        else:
            high = middle
    return low


_HALVINGS: Final = 50
