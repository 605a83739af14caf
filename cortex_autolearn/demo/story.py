"""What is told of the simulated days: one line a milestone, made of the daemon's own events, and the end of it all."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from cortex_autolearn.demo.places import next_steps
from cortex_autolearn.testing.agents import Served

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.wiring import App

_QUARTERS: Final = 4
_OUTCOMES: Final = (50, 100)
_PROMOTED, _ROLLED_BACK, _REVERTED = "auto_promotion", "auto_rollback", "promotion_reverted"
_ENDINGS: Final = {
    _PROMOTED: "PROMOTED: {model} is the champion of {master}",
    _ROLLED_BACK: "ROLLED BACK: {champion} has all tasks again, {model} none",
    _REVERTED: "TAKEN BACK: {champion} is the champion again, not {model}",
    "challenger_retired": "retired: {model}; {champion} stays",
    "ab_test_inconclusive": "undecided: {model} is given up; {champion} stays",
}
"""What is told of a decision."""
_TOLD: Final = {
    "fine_tune_failed": "not trained: {model_id}: {reason}",
    "ab_test_held": "held: {reasons}",
    "promotion_settled": "settled: {champion} stays; {why}",
}
_LINE_BELOW: Final = "\n" + " " * 14


class Decision(NamedTuple):
    """A decision of the daemon's: its event, the day it fell on, the model on trial and its test."""

    seq: int
    day: int
    kind: str
    model: str
    test_id: str


class Story:
    """Tells what has happened since it was last asked.

    Arguments:
        app: the application.
        start: the beginning of the first day.
        quality: says of a version how able the simulation makes it.
    """

    def __init__(self, app: App, start: datetime, quality: Callable[[str], str]) -> None:
        self._app = app
        self._start = start
        self._quality = quality
        self._seq = 0
        self._marks = 0
        self._held_up = ""
        self._outcomes_told: dict[str, int] = {}
        self.decisions: list[Decision] = []
        """The decisions about models, in their order."""

    def news(self) -> list[str]:
        """Return a line for each milestone since the last time."""
        with self._app.store.read() as reading:
            rows = reading.events_after(self._seq)
            examples = reading.collected_totals().get("training", (0, 0))[0]
            readiness = reading.last_run("readiness")
            tests = reading.experiments(only_active=True)
        lines = self._marks_passed(examples) + self._outcomes(tests)
        for seq, timestamp, kind, body in rows:
            self._seq = seq
            at = datetime.fromisoformat(timestamp)
            told = self._told(seq, at, kind, orjson.loads(body))
            if told:
                lines.append(self._line(at, told))
        if readiness is not None:
            lines += self._held(readiness.counts.get("decisions", ()))
        return lines

    def standing(self) -> str:
        """Return in a few words how far things are now."""
        now, needed = self._app.clock.now(), self._app.settings.training.min_examples
        with self._app.store.read() as reading:
            examples = reading.collected_totals().get("training", (0, 0))[0]
            tests = reading.experiments(only_active=True)
        told = [f"{one.model} {one.kind}: {sum(one.metrics['tasks_assigned'].values()):,} tasks" for one in tests]
        return self._line(now, "; ".join([f"{examples:,} training examples ({needed:,} needed)", *told]))

    def _line(self, at: datetime, text: str) -> str:
        day, time = self._day(at), f"{at:%H:%M}"
        return f"Day {day:2} {'24:00' if time == '00:00' and at > self._start else time}  {text}"

    def _day(self, at: datetime) -> int:
        """Return the number of a day; midnight is the end of one, but for the first."""
        return max(1, ceil((at - self._start) / timedelta(days=1)))

    def _marks_passed(self, examples: int) -> list[str]:
        needed = self._app.settings.training.min_examples
        lines = []
        while self._marks < _QUARTERS and examples * _QUARTERS >= needed * (self._marks + 1):
            self._marks += 1
            mark = needed * self._marks // _QUARTERS
            text = f"{mark:,} of {needed:,} training examples are collected"
            lines.append(self._line(self._app.clock.now(), text))
        return lines

    def _outcomes(self, tests: list[Experiment]) -> list[str]:
        """Say how a test stands when so many outcomes of the model on trial have come back."""
        lines = []
        for test in tests:
            back = _back(test, "b")
            passed = max((mark for mark in _OUTCOMES if back >= mark), default=0)
            if test.kind == "test" and passed > self._outcomes_told.get(test.test_id, 0):
                self._outcomes_told[test.test_id] = passed
                text = f"outcomes: {_stands(test, 'b')}{_LINE_BELOW}          {_stands(test, 'a')}"
                lines.append(self._line(self._app.clock.now(), text))
        return lines

    def _held(self, decisions: list[dict[str, Any]]) -> list[str]:
        """Say once why no training starts though there is enough to train on."""
        texts = [one["text"] for one in decisions if one.get("reason") not in (None, "too_few_examples")]
        held_up = "; ".join(texts).replace(" (left out", f"{_LINE_BELOW}(left out")
        if held_up == self._held_up:
            return []
        self._held_up = held_up
        return [self._line(self._app.clock.now(), f"no training yet: {held_up}")] if held_up else []

    def _told(self, seq: int, at: datetime, kind: str, body: dict[str, Any]) -> str:
        """Return what is told of an event, and keep it where it is a decision; nothing of most."""
        if kind in _ENDINGS:
            model = str(body["former_champion" if kind == _REVERTED else "former_challenger"])
            decision = Decision(seq, self._day(at), kind, model, str(body["test_id"]))
            self.decisions.append(decision)
            return _ENDINGS[kind].format_map(body | {"model": model}) + _LINE_BELOW + _why(body)
        match kind:
            case "daemon_started":
                return f"the daemon starts; {self._app.settings.rollout.default_champion} serves every master"
            case "fine_tune_triggered":
                what = f"{body['train']:,} examples, backend {body['backend']}, base {body['base']}"
                return f"fine-tuning triggered: {body['model_id']}, {what}"
            case "fine_tune_completed":
                return f"trained: {body['model_id']}{_alike(body['metrics'])}"
            case "challenger_deployed":
                percent, model = self._app.settings.rollout.challenger_percentage, str(body["challenger"])
                text = f"challenger deployed: {model} gets {percent} % of the tasks of {body['master']}"
                return f"{text}{_LINE_BELOW}{self._quality(model)}"
            case _:
                return _TOLD.get(kind, "").format_map({**body, "reasons": "; ".join(body.get("reasons", ()))})


def served(counts: Mapping[str, Served]) -> str:
    """Return in lines which model served how many tasks."""
    width = max(map(len, counts))
    return "\n".join(
        f"  {version:{width}}  {one.tasks:6,} tasks, {100 * one.completed / one.tasks:5.1f} % completed"
        for version, one in sorted(counts.items(), key=lambda item: item[0].removeprefix("v"))
    )


def outcome(decisions: list[Decision], standing: list[str]) -> str:
    """Return in lines what became of each model."""
    lines = [f"  {one.model}: {_BECAME[one.kind]} on day {one.day}" for one in decisions]
    return "\n".join([*lines, *[f"  {line}" for line in standing]])


def commands(root: Path, decisions: list[Decision], master: str, *, is_known: bool) -> str:
    """Return what to type next; ``is_known`` tells that a model was deployed for the master."""
    where = f"--root {shlex.quote(str(root))}"
    found = [("how far it is", f"status {where}")]
    for kind, what in ((_PROMOTED, "promoted"), (_ROLLED_BACK, "rolled back")):
        for one in [one for one in decisions if one.kind == kind][:1]:
            found.append((f"the test of the one {what}", f"ab summary {one.test_id} {where}"))
            found.append((f"why it was {what}", f"explain {one.seq} {where}"))
    if is_known:
        found.append((f"who served {master} when", f"ab history {master} {where}"))
    return next_steps(
        [
            *found,
            ("who serves its next task", f"route {master} my-task {where}"),
            ("all tests", f"ab list {where}"),
            ("what happened", f"events {where}"),
        ]
    )


_BECAME: Final = {
    _PROMOTED: "promoted",
    _ROLLED_BACK: "rolled back",
    _REVERTED: "promotion taken back",
    "challenger_retired": "retired",
    "ab_test_inconclusive": "given up undecided",
}


def _back(test: Experiment, arm: str) -> int:
    """Return how many outcomes of an arm have come back."""
    return int(test.metrics["tasks_completed"][arm] + test.metrics["tasks_failed"][arm])


def _stands(test: Experiment, arm: str) -> str:
    shown, back = test.metrics, _back(test, arm)
    rate, score = shown["tasks_completed"][arm] / max(1, back), shown["avg_quality_score"][arm]
    return f"{back:,} of {test.b if arm == 'b' else test.a}: {100 * rate:.1f} % completed, score {score:.2f}"


def _alike(metrics: dict[str, Any]) -> str:
    """Say what was measured of the examples that a model shows; nothing where nothing was."""
    shown, random, tasks = (metrics.get(name) for name in ("quality_retrieved", "quality_random", "held_out"))
    if None in (shown, random):
        return ""
    alike = f"the examples it shows are {shown:.2f} alike to the answers, random ones {random:.2f}"
    return f"{_LINE_BELOW}measured on {tasks:,} held-out tasks: {alike}"


def _why(body: dict[str, Any]) -> str:
    tasks = body["decided_after"]["challenger_tasks"] if "decided_after" in body else None
    after = "" if tasks is None else f"after {tasks:,} of its tasks: "
    return f"{after}{body['why']}"
