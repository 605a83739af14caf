"""Simulated tests: the engines agree, chance can be repeated, and the decision errs no more than it may."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from random import Random
from statistics import fmean

import pytest
from click.testing import CliRunner
from decision_targets import TARGETS, Target
from msgspec import structs

from cortex_autolearn.cli import main
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.rollout import simulate
from cortex_autolearn.rollout.simulate import WORLDS, Ending, World, centre, draw, percentile, report

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")

POLICY = RolloutPolicy()
BY_NAME = {one.name: one for one in WORLDS}
SEED = 7  # that of the benchmark, so that these are its first runs
_ENDINGS: dict[tuple[str, int], list[Ending]] = {}

NAMED = (
    "equal-80 equal-92.5 equal-97 only-quality-80 only-quality-92.5 only-quality-97 slightly-worse worse-5-0.3 "
    "worse-20-0.5 broken better-5.7-0.3 trade-off hangs-10"
)


def endings(name: str, runs: int) -> list[Ending]:
    """Return how runs of a world end; rows of the table that look at the same world share them."""
    if (name, runs) not in _ENDINGS:
        _ENDINGS[name, runs] = simulate.simulate(BY_NAME[name], POLICY, runs=runs, seed=SEED)
    return _ENDINGS[name, runs]


@pytest.mark.parametrize("target", TARGETS, ids=lambda one: one.what)
def test_the_decision_errs_no_more_than_it_may(target: Target) -> None:
    """Every row of DECISION's table; with more runs in benchmarks/decision.py."""
    value = target.worst([target.measure(endings(name, target.few)) for name in target.worlds])
    assert target.is_met(value), f"{value} is not {target.bar}"


def small(world: World) -> World:
    """Return a world whose runs are short, with all that may happen in it."""
    return replace(
        world,
        history=min(world.history, 150),
        window=min(world.window, 60),
        outage=(120, 40) if sum(world.outage) else (0, 0),
    )


SHORT = RolloutPolicy(min_tasks=25, max_challenger_tasks=40, watch_tasks=200, slowdown_min_tasks=5)
VARIED = (
    structs.replace(SHORT, evidence="thresholds"),
    structs.replace(SHORT, completion_gate="scaled", promotion_evidence=5.0, challenger_percentage=50),
    structs.replace(SHORT, breaker_failures=2, breaker_chance=0.99, rollback_evidence=1e9),
    structs.replace(SHORT, rollback_evidence=5.0, scoring_evidence=3.0, ratio_evidence=5.0, history_tasks=0),
)


@pytest.mark.parametrize("world", WORLDS, ids=lambda one: one.name)
def test_the_engines_agree(world: World) -> None:
    """With and without numpy: the same decision for the same reasons at the same task, run by run."""
    plain = simulate.simulate(small(world), SHORT, runs=3, seed=SEED, plain=True)
    assert simulate.simulate(small(world), SHORT, runs=3, seed=SEED) == plain


@pytest.mark.parametrize("policy", VARIED)
def test_the_engines_agree_under_any_policy(policy: RolloutPolicy) -> None:
    """Other bars, other gates, another share, thresholds alone."""
    kinds = set()
    for name in ("equal-80", "better-5.7-0.3", "worse-20-0.5", "scored-90-50", "both-hang-5-waiting", "outage"):
        plain = simulate.simulate(small(BY_NAME[name]), policy, runs=6, seed=3, plain=True)
        assert simulate.simulate(small(BY_NAME[name]), policy, runs=6, seed=3) == plain
        kinds |= {one.decision for one in plain}
    assert len(kinds) > 1


@pytest.mark.parametrize("name", ["unretired-80", "both-hang-5-waiting", "outage"])
def test_the_engines_agree_over_long_runs(name: str) -> None:
    """What is carried from one block of tasks to the next: 1,500 tasks are three of them."""
    world = replace(BY_NAME[name], outage=(480, 60) if name == "outage" else (0, 0))
    policy = RolloutPolicy(max_challenger_tasks=150, breaker_failures=3, breaker_chance=0.3)
    plain = simulate.simulate(world, policy, runs=4, seed=6, plain=True)
    assert simulate.simulate(world, policy, runs=4, seed=6) == plain
    assert max(one.challenger_tasks for one in plain) > 60


@pytest.mark.parametrize(
    "world", [World("w", watch=True, window=100), World("h", hang=(0, 0.3), window=90, watch=True)]
)
def test_the_engines_agree_on_a_watch_with_a_window(world: World) -> None:
    """Only tasks whose windows have closed settle it."""
    plain = simulate.simulate(world, SHORT, runs=20, seed=5, plain=True)
    assert simulate.simulate(world, SHORT, runs=20, seed=5) == plain
    settled = {one.challenger_tasks for one in plain if one.decision == "settle"}
    assert settled == {SHORT.watch_tasks}


def test_the_same_seed_gives_the_same_numbers() -> None:
    """And another one others; a run does not depend on how many there are."""
    world = BY_NAME["equal-80"]
    few = simulate.simulate(world, POLICY, runs=20, seed=1)
    assert simulate.simulate(world, POLICY, runs=40, seed=1)[:20] == few
    assert simulate.simulate(world, POLICY, runs=20, seed=2) != few


def test_progress_is_told() -> None:
    """Up to the last run, by both engines."""
    for plain in (True, False):
        told: list[int] = []
        simulate.simulate(BY_NAME["broken"], POLICY, runs=7, seed=1, plain=plain, progress=told.append)
        assert told[-1] == 7
        assert told == sorted(told)


def test_worlds_are_as_they_say() -> None:
    """The rates of what is drawn are the declared ones, of the scores after they are clipped."""
    world = World("w", (0.9, 0.7), (4.1, 4.5), 1.0, (0.8, 0.5), (0.02, 0.1), 1.5)
    random = Random(1)
    tasks = [draw(world, 0.4, number, random.random) for number in range(40_000)]
    for treated in (False, True):
        mine = [one for one in tasks if one.treated is treated]
        returned = [one for one in mine if not one.hangs]
        done = [one for one in returned if one.completed]
        scores = [one.quality for one in done if one.quality is not None]
        assert len(mine) / len(tasks) == pytest.approx(0.4 if treated else 0.6, abs=0.01)
        assert 1 - len(returned) / len(mine) == pytest.approx(world.hang[treated], abs=0.01)
        assert len(done) / len(returned) == pytest.approx(world.completion[treated], abs=0.01)
        assert len(scores) / len(done) == pytest.approx(world.scored[treated], abs=0.015)
        assert fmean(scores) == pytest.approx(world.quality[treated], abs=0.03)
        assert fmean(one.duration_s or 0 for one in returned) == pytest.approx(136 * (1.5 if treated else 1), rel=0.03)
    assert centre(4.1, 0) == 4.1


def test_the_worlds_of_formats_are_there() -> None:
    """Under their names, first and in their order."""
    assert [one.name for one in WORLDS[: simulate.FIRST_WORLDS]] == NAMED.split()
    assert len(BY_NAME) == len(WORLDS)


def test_another_champion_keeps_the_difference() -> None:
    """Operators ask about their own rates."""
    own = BY_NAME["better-5.7-0.3"].at(0.8, 3.5, 1.1)
    assert own.completion == pytest.approx((0.8, 0.857))
    assert own.quality == pytest.approx((3.5, 3.8))
    assert own.sd == 1.1
    assert BY_NAME["equal-80"].at(None, None, None) == BY_NAME["equal-80"]


def test_a_report_adds_up() -> None:
    """Shares in percent, and percentiles of the tasks by nearest rank."""
    none: frozenset[str] = frozenset()
    runs = [Ending("promote", none, tasks, alarmed=False) for tasks in range(1, 100)] + [
        Ending("retire", none, 500, alarmed=True)
    ]
    found = report(BY_NAME["equal-80"], runs)
    assert (found.promoted, found.retired, found.rolled_back, found.inconclusive, found.held) == (99, 1, 0, 0, 1)
    assert (found.challenger_tasks_p50, found.challenger_tasks_p90, found.challenger_tasks_p99) == (50, 90, 99)
    assert percentile([], 50) == 0


def test_the_command_prints_the_table() -> None:
    """JSON as FORMATS has it, or columns."""
    args = ["rollout", "simulate", "--world", "broken", "--world", "hangs-10", "--runs", "20"]
    env: dict[str, str | None] = {name: None for name in os.environ if name.startswith("CORTEX_")}
    result = CliRunner().invoke(main, [*args, "--json"], env=env)
    assert result.exit_code == 0, result.output
    worlds = json.loads(result.stdout)["worlds"]
    assert [one["name"] for one in worlds] == ["broken", "hangs-10"]
    needed = "name runs promoted rolled_back retired inconclusive challenger_tasks_p50 challenger_tasks_p90 challenger_tasks_p99"
    assert set(needed.split()) <= set(worlds[0])
    assert (worlds[0]["runs"], worlds[0]["rolled_back"]) == (20, 100)
    text = CliRunner().invoke(main, args, env=env).stdout
    assert text.splitlines()[0].split()[:3] == ["WORLD", "RUNS", "PROMOTED"]
    assert text.splitlines()[1].split()[:2] == ["broken", "20"]
    assert CliRunner().invoke(main, [*args, "--world", "nowhere"], env=env).exit_code == 2


def test_it_works_without_numpy() -> None:
    """A process that cannot import numpy simulates the same, and says that it takes long only where it does."""
    program = (
        "import sys; sys.modules['numpy'] = None; import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'numpy' else find(name, *a)\n"
        "from cortex_autolearn.cli import main; main()"
    )
    args = ["rollout", "simulate", "--world", "broken", "--runs", "3", "--json"]
    found = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, check=True, timeout=60
    )
    with_numpy = CliRunner().invoke(main, args).stdout
    assert json.loads(found.stdout) == json.loads(with_numpy)
    assert not found.stderr
