"""Looks at the tests of new models: why a promotion does not happen, and what would let it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from cortex_autolearn.adapters.clock import SystemClock
from cortex_autolearn.adapters.store.database import Reading
from cortex_autolearn.doctor.check import Check, Patient, ago, counted
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.experiments import Experiment, Held, Queued
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.rollout import decide, files, plan
from cortex_autolearn.rollout.apply import MANUAL
from cortex_autolearn.rollout.deploy import named_champion
from cortex_autolearn.rollout.evidence import SCORED, SPLIT, UNROUTED
from cortex_autolearn.rollout.project import Projector

_FORGOTTEN_S: Final = 86_400
_SILENT_S: Final = 86_400
_FEW_COMPLETED: Final = 20
_RECENT: Final = timedelta(days=30)
_EVENTS_ASKED: Final = 20
_STEPS_ASKED: Final = 1_000
_SHOWN: Final = 5
_MOST_BYTES: Final = 1 << 20
_NAME: Final = "rollout"
_START: Final = "Start it: cortex-autolearn run; or once: cortex-autolearn run-once rollout"
_SPLIT_REMEDY: Final = (
    "Let every caller ask the router, or the shell's hash, for each task, and record every task: one that leaves out "
    "failures, or sends some tasks elsewhere, spoils the comparison"
)
_SCORED_REMEDY: Final = "Score both alike: let the judge do it (see judge), or let the fleet score every completed task"
_UNROUTED_REMEDY: Final = (
    "Let the callers ask cortex_autolearn.Router or cortex-autolearn route for each task, and record a task that the "
    "champion rescued with fallback_from"
)
_ALARMS: Final[Mapping[str, tuple[str, str]]] = {
    SPLIT: ("its tasks are not split as they should be", _SPLIT_REMEDY),
    SCORED: ("scores are missing more often in one variant", _SCORED_REMEDY),
    UNROUTED: ("its callers do not route: the champion answers tasks of the challenger's", _UNROUTED_REMEDY),
}


def _tests(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    tests = patient.reading.experiments(only_active=True)
    for test in tests:
        found = list(_test(patient, test))
        if not found:
            assigned = sum(test.metrics.get("tasks_assigned", {}).values())
            state = "is paused; it began" if files.is_paused(test) else "began"
            text = f"{test.test_id} {state} {_since(patient, test.started_us)}, {assigned:,.0f} tasks so far"
            found = [Check(_NAME, "ok", text)]
        yield from found
    yield from _untested(patient, patient.reading)
    if not tests and not patient.reading.models():
        yield Check(_NAME, "ok", "no model was trained yet, so there is none to promote")
    elif not tests and not patient.reading.deploy_queue():
        yield Check(_NAME, "ok", "no test runs, and no model waits for one")


def _untested(patient: Patient, reading: Reading) -> Iterator[Check]:
    """Look for models that are tested nowhere, and never were."""
    tried = {test.model for test in reading.experiments()} | {queued.model_id for queued in reading.deploy_queue()}
    tried |= {held.challenger for held in reading.servings() if held.challenger is not None}
    tried |= {body["former_challenger"] for _, body in _unserved(reading)} | _given_up(reading)
    never = [model.ref.model_id for model in reading.models() if model.ref.model_id not in tried]
    waiting = [model_id for model_id in reading.models_to_offer() if model_id in never]
    if waiting and not patient.is_alive:
        yield Check(_NAME, "warn", f"{', '.join(waiting[-_SHOWN:])} waits to be deployed by the daemon", _START)
    never = [model_id for model_id in never if model_id not in waiting]
    if never:
        of = patient.settings.rollout.masters
        why = f"rollout.masters names only {', '.join(of)}" if of else "no master of its dataset is known"
        remedy = f"Deploy it by hand: cortex-autolearn deploy {never[-1]} MASTER"
        yield Check(_NAME, "warn", f"{', '.join(never[-_SHOWN:])} was never tested: {why}", remedy)


def _unserved(reading: Reading) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """Yield when which model could not be served, as the last events tell."""
    for _, timestamp, _, text in reading.last_events(_EVENTS_ASKED, "challenger_retired"):
        body = orjson.loads(text)
        if body.get("step") == "fail":
            yield instants.decode(orjson.dumps(timestamp)), body


def _given_up(reading: Reading) -> set[Any]:
    """Return the models that a person gave up, also before they had a test."""
    bodies = [orjson.loads(text) for *_, text in reading.last_events(_STEPS_ASKED, MANUAL)]
    key_of = {"withdraw": "model", "abort": "former_challenger"}
    return {body.get(key_of[body["step"]]) for body in bodies if body.get("step") in key_of}


def _test(patient: Patient, test: Experiment) -> Iterator[Check]:
    for alarm in test.alarms:
        if alarm == SPLIT and UNROUTED in test.alarms:
            continue  # for the same reason
        text, remedy = _ALARMS.get(alarm, (f"an alarm rang ({alarm})", "See what it rests on"))
        details = f"details: cortex-autolearn check {test.test_id}"
        if test.kind == "watch":
            back = f"Or take the promotion back: cortex-autolearn rollback {test.master}"
            yield _warn(test, f"goes on, and shows less than it should: {text}", f"{remedy}. {back}; {details}")
            continue
        again = f"Then begin anew: cortex-autolearn abort {test.test_id}, and deploy it again"
        yield _warn(test, f"is held: {text}", f"{remedy}. {again}; {details}")
    if files.is_paused(test):
        since_us = test.pauses[-1].from_us
        if _age_s(patient, since_us) > _FORGOTTEN_S:
            remedy = (
                f"Go on: cortex-autolearn resume {test.test_id}; or give it up: cortex-autolearn abort {test.test_id}"
            )
            yield _warn(test, f"is paused since {_since(patient, since_us)}; until it goes on nothing counts", remedy)
        return
    if test.kind == "watch":
        return
    yield from _bars(test)
    yield from _traffic(patient, test)


def _bars(test: Experiment) -> Iterator[Check]:
    """Look for bars that can hardly be met; they do not move while a test runs."""
    unreachable = plan.hopeless(test)
    if plan.GATE_OUT_OF_REACH in unreachable:
        completes = test.baseline.get("completion", 0.0)
        bar = 100 * decide.completion_bar(completes, test.policy)
        text = (
            f"promotion is practically impossible: the champion completes {100 * completes:.1f} % of its tasks, and a "
            f"gain of more than {bar:g} points is asked for"
        )
        remedy = (
            'Set rollout.completion_gate to "scaled", which asks for two thirds of the failures; it holds for tests '
            f"that begin afterwards: cortex-autolearn abort {test.test_id}, then deploy the model again"
        )
        yield _warn(test, text, remedy)
    if plan.QUALITY_OUT_OF_REACH in unreachable:
        scored = test.baseline.get("quality", 0.0)
        text = (
            f"promotion is practically impossible: the champion's tasks are scored {scored:.2f} of 5, and a gain of "
            f"more than {test.policy.min_quality_gain:g} is asked for"
        )
        remedy = (
            "Lower rollout.min_quality_gain, or score more strictly; it holds for tests that begin afterwards: "
            f"cortex-autolearn abort {test.test_id}, then deploy the model again"
        )
        yield _warn(test, text, remedy)
    half, most = test.notes.get("expected_days") or (None, None)
    if half is not None and not unreachable and plan.TOO_SLOW in test.notes.get("warnings", ()):
        share = f"{100 - test.percentage_a:g} % of the tasks"
        text = (
            f"takes about {half:.0f} days until a good model is promoted, at {share}; one of ten takes over {most:.0f}"
        )
        remedy = (
            'Set rollout.challenger_percentage to "auto": it gives a quiet master a greater share; it holds for tests '
            "that begin afterwards"
        )
        yield _warn(test, text, remedy)


def _traffic(patient: Patient, test: Experiment) -> Iterator[Check]:
    """Look whether tasks come at all, reach the challenger, and have scores."""
    assigned, completed = test.metrics.get("tasks_assigned", {}), test.metrics.get("tasks_completed", {})
    if _age_s(patient, test.started_us) > _SILENT_S and not sum(assigned.values()):
        remedy = (
            f"Are tasks of {test.master} recorded, with their creation times? See bronze above; cortex-autolearn "
            f"ab show {test.test_id} says what was left out"
        )
        yield _warn(test, f"has seen no task since it began, {_since(patient, test.started_us)}", remedy)
    scores = test.metrics.get("avg_quality_score", {})
    if sum(completed.values()) >= _FEW_COMPLETED and not any(scores.values()):
        remedy = "A promotion needs scores: let the fleet write quality_score, or let the judge score (see judge)"
        yield _warn(test, f"{sum(completed.values()):,.0f} of its tasks completed, and none has a score", remedy)


def _queue(patient: Patient) -> Iterator[Check]:
    """Look at the models that wait, and at what keeps their masters busy."""
    if patient.reading is None:
        return
    ours = {one.test_id for one in patient.reading.experiments()}
    busy = {one.master: one.test_id for one in patient.reading.experiments(only_active=True)}
    standing = {held.master: held for held in patient.reading.servings()}
    foreign = _foreign(patient, ours)
    waiting: dict[str, list[Queued]] = {}
    for queued in patient.reading.deploy_queue():
        waiting.setdefault(queued.master, []).append(queued)
    for master, tests in sorted(foreign.items()):
        models = counted(len(waiting.get(master, ())), "model waits", "models wait")
        text = f"{tests[0]}, a test that is not ours, occupies {master}; {models} for it"
        remedy = f'End it where it was begun: status "completed" in {layout.AB_TESTS}/{tests[0]}.json'
        yield Check(_NAME, "warn" if master in waiting else "ok", text, remedy if master in waiting else "")
    for master, queued_models in sorted(waiting.items()):
        if master not in foreign:
            names = ", ".join(one.model_id for one in queued_models)
            turn = _hindered(patient, master, names) or _turn(patient, names, standing.get(master), busy.get(master))
            yield turn


def _hindered(patient: Patient, master: str, waiting: str) -> Check | None:
    """Return what keeps models waiting for a master whose champion nobody knows; None where that is known."""
    if patient.reading is None or patient.reading.serving(master) is not None:
        return None
    try:
        named_champion(patient.tree, master)
    except BoundaryError as error:
        return Check(
            _NAME, "warn", f"{waiting} waits, as nobody knows the champion of {master}: {error.cause}", error.hint
        )
    return None


def _turn(patient: Patient, names: str, held: Held | None, test_id: str | None) -> Check:
    """Say what the models wait for that wait for a master, whose test this is, if one runs."""
    if test_id is not None:
        return Check(_NAME, "ok", f"{names} waits until {test_id} has ended")
    if held is not None and held.phase == "deploying":
        return Check(_NAME, "ok", f"{names} waits until {held.challenger} is deployed for {held.master}, and tested")
    if patient.is_alive:
        return Check(_NAME, "ok", f"{names} is deployed next")
    return Check(_NAME, "warn", f"{names} waits to be deployed by the daemon", _START)


def _endpoints(patient: Patient) -> Iterator[Check]:
    """Look for models that could not be had served, and for a job that fails."""
    if patient.reading is None:
        return
    standing = {held.master: held for held in patient.reading.servings()}
    for at, body in _unserved(patient.reading):
        held, model, age = standing.get(body["master"]), body["former_challenger"], patient.now - at
        if held is None or held.phase != "steady" or age > _RECENT:
            continue
        why = body.get("why") or "its backend says no more"
        found = f"{model} could not be served for {held.master}, {ago(age)}: {why}"
        yield Check(_NAME, "warn", found, f"Mend that, then: cortex-autolearn deploy {model} {held.master}")
    serving = {version: held.master for held in standing.values() for version in (held.champion, held.challenger)}
    for row in patient.reading.endpoints():
        if row.seen is not None and row.seen.state == "failed" and row.model_id in serving:
            found = f"{row.model_id} is to serve {serving[row.model_id]} and cannot be served: {row.seen.reason}"
            yield Check(_NAME, "fail", found, "Mend that: it is asked for again every hour")
    last = patient.reading.last_run("rollout", patient.now_us)
    if last is not None and last.result == "failed" and last.ended_us is not None:
        remedy = "See the log for its cause, or run it by hand: cortex-autolearn run-once rollout"
        yield Check(_NAME, "fail", f"the last run of it failed, {_since(patient, last.ended_us)}", remedy)


def _files(patient: Patient) -> Iterator[Check]:
    """Look whether callers and the shell are told what the state says; a running daemon sees to that by itself."""
    if patient.reading is None or patient.is_alive or not patient.reading.servings():
        return
    if not Projector(patient.tree, SystemClock()).is_current(patient.reading):
        text = "routes.json, aliases.json or a test's file is gone, or says something else than the state"
        remedy = "Callers may be served by the wrong model: start the daemon, or call cortex-autolearn run-once rollout"
        yield Check(_NAME, "fail", text, remedy)


def _foreign(patient: Patient, ours: set[str]) -> dict[str, list[str]]:
    """Return the tests that run in the shared folder and are not ours, by master."""
    found: dict[str, list[str]] = {}
    for entry in patient.tree.entries(layout.AB_TESTS, ".json"):
        name = entry.relative.rsplit("/", 1)[-1].removesuffix(".json")
        if name in ours:
            continue
        handle = patient.tree.open_input(entry.relative)
        if handle is None:
            continue
        with handle:
            content = _object(handle.read(_MOST_BYTES))
        master = files.occupied(content)
        if master is not None:
            found.setdefault(master, []).append(name)
    return found


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _warn(test: Experiment, text: str, remedy: str) -> Check:
    return Check(_NAME, "warn", f"{test.test_id} {text}", remedy)


def _since(patient: Patient, us: int) -> str:
    return ago(patient.now - instants.from_us(us))


def _age_s(patient: Patient, us: int) -> float:
    return (patient.now - instants.from_us(us)) / timedelta(seconds=1)


LOOKS: Final[tuple[Callable[[Patient], Iterator[Check]], ...]] = (_tests, _queue, _endpoints, _files)
