"""What serves a master, against a model of a page: every step, by the daemon and by people, in any order.

The real store, job, files and a scripted backend on one side; on the other a few plain fields a master. After each step
the two must tell the same: what serves, what was refused, what the files and events say, and who was champion when.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rollout_support import CHAMPION, MASTER, OTHER, Town
from support import NOW, events, quick_folder
from support import slow as slow_test

from cortex_autolearn.cli import main
from cortex_autolearn.model import instants, layout
from cortex_autolearn.rollout.endpoints import POLL_S
from cortex_autolearn.rollout.registry import Refused, Unchanged
from cortex_autolearn.rollout.steps import Done
from cortex_autolearn.testing import FakeClock, Script

MASTERS = (MASTER, OTHER)
MODELS = tuple(f"ft-20251127-{number:03}" for number in range(1, 5))
VERSIONS = (CHAMPION, "v7", "v-unheard-of", *MODELS)
DEPLOY_S = 60
DAY_S = 86_400
TASKS = 12
"""Tasks of each variant after which a test is decided: those of a challenger that is no better show it at once."""
IN_A_ROW = 5
WATCHED = 20
TEST_DAYS = 3
WATCH_DAYS = 3
WAIT_S = DAY_S * 11 // 10
POLICY: dict[str, Any] = {
    "min_tasks": TASKS,
    "maturation_s": 0,
    "challenger_percentage": 50,
    "watch_percentage": 50,
    "promotion_evidence": 1.0,
    "rollback_evidence": 1e12,
    "watch_evidence": 1e12,
    "retirement_risk": 0.5,
    "breaker_failures": IN_A_ROW,
    "breaker_chance": 1.0,
    "max_days": float(TEST_DAYS),
    "watch_tasks": WATCHED,
    "watch_days": float(WATCH_DAYS),
}
"""Bars at which a dozen outcomes decide, so that a model can say what they decide."""

PORTIONS: dict[str, list[tuple[float | None, float | None]]] = {
    "alike": [(4, 4)] * 2,
    "better": [(None, 5), (3, 5)] * 7,
    "worse": [(4, None)] * 8,
    "no better": [(4, None), (4, 4)] * 7,
}
"""Outcomes that come in: pairs of the other variant's and of that on trial, each a score, or None for a failure."""

NEW, TESTED, WATCHED_NOW, SETTLED = range(4)
BEGUN = [
    (NEW,),
    (TESTED,),
    (TESTED,),
    (WATCHED_NOW,),
    (WATCHED_NOW,),
    (SETTLED,),
    (SETTLED, TESTED),
    (SETTLED, SETTLED),
]
"""How far each model has come before anything else happens: that is where most may happen."""
masters = st.sampled_from(MASTERS)
WORDS = (
    "pause",
    "resume",
    "abort",
    "pause wait wait wait resume wait",
    "pause pause resume resume",
    "pause abort abort",
)
FORWARD = {"promote", "settle"}
"""After any other last step a rollback that names no version changes nothing."""


@dataclass
class Served:
    """A model that is to serve, at its backend."""

    asked_s: int  # when the daemon asked about it last
    ready_s: int
    works: bool
    is_known: bool = False  # to the daemon: that it stands, or never will


@dataclass
class Running:
    """A test or watch that has not ended."""

    name: str
    champion: str
    challenger: str
    watch: bool
    begun_s: int
    paused_s: int = 0
    since_s: int | None = None
    pairs: int = 0


@dataclass
class Model:
    """What must be so of one master."""

    champion: str
    phase: str = "unheard of"
    challenger: str | None = None
    test: Running | None = None
    changes: list[tuple[int, str, str | None, str]] = field(default_factory=list)  # when, alias, version, step
    told: list[tuple[str, str | None]] = field(default_factory=list)
    ended: dict[str, tuple[str, str]] = field(default_factory=dict)  # test → how it ended, which variant serves
    tested: list[str] = field(default_factory=list)

    def take(self, step: str, now_s: int, event: str | None, *, champion: str, challenger: str | None) -> None:
        if not any(alias == "champion" for _, alias, _, _ in self.changes):
            self.changes.append((now_s, "champion", self.champion, "found"))
        if event is not None:
            self.told.append((event, step))
        if champion != self.champion:
            self.changes.append((now_s, "champion", champion, step))
        if challenger != self.challenger:
            self.changes.append((now_s, "challenger", challenger, step))
        self.champion, self.challenger = champion, challenger

    def end(self, step: str, now_s: int, event: str, *, back: bool = False) -> None:
        """End whatever runs; with ``back`` the former champion returns."""
        champion = self.challenger if back else self.champion
        assert champion is not None
        if self.test is not None:
            self.ended[self.test.name] = (step, "b" if back else "a")
        self.take(step, now_s, event, champion=champion, challenger=None)
        self.phase, self.test = "steady", None

    def promote(self, now_s: int, event: str, watch: str) -> None:
        test = self.test
        assert test is not None
        self.ended[test.name] = ("promote", "b")
        self.take("promote", now_s, event, champion=test.challenger, challenger=test.champion)
        self.told.append(("ab_test_started", None))
        self.phase, self.test = "watching", Running(watch, test.challenger, test.champion, True, now_s)

    def champions(self) -> list[str]:
        return [version for _, alias, version, _ in self.changes if alias == "champion" and version is not None]


class Registry(RuleBasedStateMachine):
    """The daemon and a person's commands, each with a state of its own over one ROOT, and what must come of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        root = self.stack.enter_context(quick_folder())
        for master, version in ((MASTER, None), (OTHER, "v7")):
            if version is not None:
                path = root / layout.aliases_file(master)
                path.parent.mkdir(parents=True)
                path.write_text(json.dumps({"aliases": {"champion": {"version": version}}}))
        path = root / layout.dataset_file("both", "manifest.json")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"by_master": {"train": dict.fromkeys(MASTERS, 5)}}))
        clock = FakeClock(NOW)
        self.daemon = self.stack.enter_context(Town(root, clock=clock, script=Script(deploy_s=DEPLOY_S), **POLICY))
        self.person = self.stack.enter_context(Town(root, clock=clock, script=Script(deploy_s=DEPLOY_S), **POLICY))
        self.clock, self.root = clock, root
        self.now_s = 0
        self.models = {MASTER: Model(CHAMPION), OTHER: Model("v7")}
        self.made: list[str] = []
        self.queue: list[tuple[str, str, bool]] = []  # master, model, whether a person asked
        self.unoffered: list[tuple[str, tuple[str, ...]]] = []
        self.served: dict[str, Served] = {}
        self.theirs: set[str] = set()
        self.lines = 0

    def teardown(self) -> None:
        self.stack.close()

    # --- what happens ---------------------------------------------------------------------------------------------

    @initialize(first=st.sampled_from([(MASTER,), (OTHER,), MASTERS]), lives=st.sampled_from(BEGUN))
    def a_life_has_begun(self, first: tuple[str, ...], lives: tuple[int, ...]) -> None:
        """Models are new, tested, watched or have become champion, one after the other."""
        for far in lives:
            self.a_training_ends(first)
            if far > NEW:
                self.the_daemon_runs(10)
                self.the_daemon_runs(DEPLOY_S)
            for _ in range(far - TESTED):
                self.outcomes_come_in(first[0], "better")

    @precondition(lambda self: len(self.made) < len(MODELS))
    @rule(scope=st.sampled_from([(MASTER,), (OTHER,), MASTERS]))
    def a_training_ends(self, scope: tuple[str, ...]) -> None:
        self.pass_time(1)
        model_id = MODELS[len(self.made)]
        self.made.append(model_id)
        self.unoffered.append((model_id, scope))
        both = len(scope) > 1
        self.daemon.add_model(model_id, scope="global" if both else scope[0], dataset_id="both" if both else None)

    @rule(seconds=st.sampled_from([10, DEPLOY_S, DEPLOY_S]), anew=st.booleans())
    def the_daemon_runs(self, seconds: int, anew: bool = False) -> None:
        """As the process that it was, or as one that knows only what is stored."""
        self.pass_time(seconds)
        if anew:
            self.daemon.restart()
        self.run()

    @rule()
    def a_day_passes(self) -> None:
        self.pass_time(WAIT_S)
        self.run()

    @rule(master=masters, portion=st.sampled_from(sorted(PORTIONS)))
    def outcomes_come_in(self, master: str, portion: str) -> None:
        """A portion of outcomes for what runs, and what the daemon makes of them."""
        self.pass_time(10)
        self.run()
        model = self.models[master]
        test = model.test
        if test is None:
            return
        self.pass_time(1)
        self.write(test, PORTIONS[portion])
        if model.phase == "testing":
            self.decide_test(model, master, portion)
        elif model.phase == "watching":
            self.decide_watch(model, portion)
        self.run()

    @rule(works=st.booleans())
    def the_backend_changes(self, works: bool) -> None:
        """From now on what is deployed will stand, or fail."""
        for one in (self.daemon, self.person):
            one.trainer.script = Script(deploy_s=DEPLOY_S, deploy="succeeds" if works else "fails")

    @rule(master=masters)
    def somebody_elses_test(self, master: str) -> None:
        """Begins, or ends, where it is not ours."""
        self.theirs ^= {master}
        status = "active" if master in self.theirs else "completed"
        path = self.root / layout.test_file(f"{master}-theirs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"master": master, "status": status, "winner": "a", "variants": {}}))

    # --- what people do -------------------------------------------------------------------------------------------

    @rule(master=masters, model_id=st.sampled_from([*MODELS, CHAMPION]))
    def deploy(self, master: str, model_id: str) -> None:
        self.pass_time(1)
        model = self.models[master]
        found = self.person.rollout.deploy(model_id, master, by="ada", why="")
        waits = any(one[:2] == (master, model_id) for one in self.queue)
        if model_id not in self.made or model_id == model.champion:
            assert isinstance(found, Refused)
        elif (model.phase in {"deploying", "testing", "paused"} and model.challenger == model_id) or waits:
            assert isinstance(found, Unchanged)
        else:
            assert isinstance(found, Done)
            self.queue.append((master, model_id, True))
            model.told.append(("manual_decision", "deploy"))

    @rule(master=masters)
    def promote(self, master: str) -> None:
        self.pass_time(1)
        model = self.models[master]
        found = self.person.rollout.promote(master, by="ada", why="")
        if model.phase in {"testing", "paused"}:
            assert isinstance(found, Done)
            model.promote(self.now_s, "manual_decision", self.free(f"{master}-{model.challenger}-watch"))
        else:
            assert isinstance(found, Unchanged if model.phase == "watching" else Refused)

    @rule(master=masters, to=st.none() | st.sampled_from(VERSIONS))
    def rollback(self, master: str, to: str | None) -> None:
        self.pass_time(1)
        model = self.models[master]
        found = self.person.rollout.rollback(master, to=to, by="ada", why="")
        if model.phase in {"testing", "paused", "watching"}:
            watched = model.phase == "watching"
            back = model.challenger if watched else model.champion
            if to not in {None, back}:
                assert isinstance(found, Refused)
                return
            assert isinstance(found, Done)
            model.end("revert" if watched else "roll_back", self.now_s, "manual_decision", back=watched)
            return
        earlier = [version for version in model.champions() if version != model.champion]
        if model.phase != "steady" or (to is None and not self.stands(model) and not earlier):
            assert isinstance(found, Refused)
        elif (to is None and self.stands(model)) or to == model.champion:
            assert isinstance(found, Unchanged)
        elif to is not None and to not in earlier:
            assert isinstance(found, Refused)
        elif isinstance(found, Refused):
            version = earlier[-1] if to is None else to
            served = self.served.get(version)
            assert version in self.made, "nothing of ours has to serve it"
            assert served is None or not (served.works and served.is_known), "the daemon saw it ready"
        else:
            assert isinstance(found, Done)
            version = earlier[-1] if to is None else to
            assert version not in self.made or self.served[version].works
            model.take("restore", self.now_s, "manual_decision", champion=version, challenger=None)

    @rule(data=st.data(), verbs=st.sampled_from(WORDS))
    def stop_and_go(self, data: st.DataObject, verbs: str) -> None:
        """Pause, resume or abort a test: one that runs, is waited for, is being deployed, has ended, or never was."""
        running = [model.test.name for model in self.models.values() if model.test is not None]
        deploying = [f"{master}-{m.challenger}" for master, m in self.models.items() if m.phase == "deploying"]
        ended = [name for model in self.models.values() for name in model.ended]
        waiting = [f"{master}-{model_id}" for master, model_id, _ in self.queue]
        known = running or [*deploying, *waiting, *ended, "security-master-none"]
        name = data.draw(st.sampled_from(known) | st.sampled_from([*deploying, *waiting, *ended, *known]), "test")
        for verb in verbs.split():
            if verb == "wait":
                self.a_day_passes()
                continue
            self.pass_time(1)
            found = getattr(self.person.rollout, verb)(name, by="ada", why="")
            expected = self.ask(name, verb)
            assert isinstance(found, {"done": Done, "unchanged": Unchanged, "refused": Refused}[expected]), found
            self.the_files_say_it()

    @rule(master=masters, winner=st.sampled_from("ab"))
    def stop_in_the_file(self, master: str, winner: str) -> None:
        """Set status and winner in the file of a test that runs, as Cortex's shell library lets people do."""
        self.pass_time(10)
        self.run()
        model = self.models[master]
        if model.test is None:
            return
        path = self.root / layout.test_file(model.test.name)
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {"status": "completed", "winner": winner}))
        self.pass_time(1)
        if model.phase == "watching":
            step = "settle" if winner == "a" else "revert"
            model.end(step, self.now_s, "manual_decision", back=winner == "b")
        elif winner == "b":
            model.promote(self.now_s, "manual_decision", self.free(f"{master}-{model.challenger}-watch"))
        else:
            model.end("roll_back", self.now_s, "manual_decision")
        self.run()

    @rule(master=masters, share=st.floats(0, 1), exactly=st.booleans())
    def ask_who_was_champion(self, master: str, share: float, exactly: bool) -> None:
        """``ab history --at`` names the champion of any instant, that of a step included, and none before the first."""
        model = self.models[master]
        if model.phase == "unheard of":
            return
        steps = [when_s for when_s, alias, _, _ in model.changes if alias == "champion"]
        at_s = steps[round(share * (len(steps) - 1))] if exactly else round(share * self.now_s)
        moment = instants.us_to_text(instants.to_us(NOW) + at_s * instants.SECOND_US)
        words = ["ab", "history", master, "--at", str(moment), "--json", "--root", str(self.root)]
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)["champion"]
        before = [version for when_s, alias, version, _ in model.changes if alias == "champion" and when_s <= at_s]
        assert (told and told["version"]) == (before[-1] if before else None)

    # --- what must come of it -------------------------------------------------------------------------------------

    @invariant()
    def the_state_is_the_models(self) -> None:
        """Phase, champion, challenger and test of each master, what waits, and the whole course of aliases."""
        for master, model in self.models.items():
            held = self.daemon.held(master)
            if model.phase == "unheard of":
                assert held is None
                continue
            name = None if model.test is None else model.test.name
            assert held[1:5] == (model.champion, model.phase, model.challenger, name)
            begun_us = instants.to_us(NOW)
            found = [
                ((one.at_us - begun_us) // instants.SECOND_US, one.alias, one.version, one.step)
                for one in self.daemon.history(master)
            ]
            assert found == model.changes
        with self.person.rooms.store.read() as reading:
            waiting = [(one.master, one.model_id, one.actor == "person") for one in reading.deploy_queue()]
        assert waiting == self.queue

    @invariant()
    def the_files_say_it(self) -> None:
        """Routes name the champion always, a challenger while it has traffic; aliases and tests' files agree."""
        for master, model in self.models.items():
            if model.phase == "unheard of":
                continue
            route, aliases = self.daemon.routes()[master], self.daemon.aliases(master)["aliases"]
            splits = model.phase in {"testing", "watching"}
            assert route["champion"]["version"] == aliases["champion"]["version"] == model.champion
            assert (route["challenger"] or {}).get("version") == (model.challenger if splits else None)
            assert route["experiment"] == (model.test.name if splits and model.test else None)
            assert (aliases["challenger"] or {}).get("version") == model.challenger
            if model.test is not None:
                document = self.daemon.file(model.test.name)
                shares = [document["variants"][variant]["traffic_percentage"] for variant in "ab"]
                assert document["status"] == "active"
                assert shares == ([50, 50] if splits else [100, 0])
            for name, (_, winner) in model.ended.items():
                document = self.daemon.file(name)
                assert (document["status"], document["winner"]) == ("completed", winner)

    @invariant()
    def each_change_is_told_once(self) -> None:
        """The events are those of the steps, in their order, in the state and in the file."""
        lines = events(self.root)
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
        for master, model in self.models.items():
            found = [(line["event"], line.get("step")) for line in lines if line["master"] == master]
            assert found == model.told

    @invariant()
    def one_test_a_master(self) -> None:
        """At most one runs; how each ended one ended is kept."""
        with self.person.rooms.store.read() as reading:
            tests = reading.experiments()
        active = sorted(one.test_id for one in tests if one.is_active)
        assert active == sorted(model.test.name for model in self.models.values() if model.test is not None)
        ended = {one.test_id: (one.ending, one.winner) for one in tests if not one.is_active}
        assert ended == {name: how for model in self.models.values() for name, how in model.ended.items()}

    # --- the model ------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.now_s += seconds

    def run(self) -> None:
        """Let the daemon run, and the model do what it must do."""
        self.daemon.rollout.run(self.daemon.handle)
        for model_id, scope in self.unoffered:
            for master in sorted(scope):
                if not any(one[:2] == (master, model_id) for one in self.queue):
                    self.queue.append((master, model_id, False))
        self.unoffered.clear()
        self.ask_backends()
        while self.begin() | self.tend() | self.start() | self.conclude():
            pass  # one round after the other, as what ends makes room for what waits
        standing = {endpoint.model.model_id for endpoint in self.daemon.trainer.endpoints()}
        assert standing == set(self.served)

    def begin(self) -> bool:
        """Let what waits for a master that is free be deployed."""
        changed = False
        for entry in list(self.queue):
            master, model_id, asked = entry
            model = self.models[master]
            if model.phase not in {"unheard of", "steady"} or master in self.theirs:
                continue
            self.queue.remove(entry)
            changed = True
            if model_id == model.champion or (not asked and model_id in model.tested):
                continue
            model.take("deploy", self.now_s, None, champion=model.champion, challenger=model_id)
            model.phase = "deploying"
        return changed

    def ask_backends(self) -> None:
        """Find out what stands by now; each is asked at its pace, however often the daemon runs."""
        for served in self.served.values():
            if not served.is_known and self.now_s - served.asked_s >= POLL_S:
                served.asked_s = self.now_s
                served.is_known = self.now_s >= served.ready_s

    def tend(self) -> bool:
        """Serve what is to serve, and nothing else."""
        versions = {version for model in self.models.values() for version in (model.champion, model.challenger)}
        for model in self.models.values():  # and whom one word brings back
            versions |= set([one for one in model.champions() if one != model.champion][-1:])
        wanted = [model_id for model_id in self.made if model_id in versions]
        if set(wanted) == set(self.served):
            return False
        works = self.daemon.trainer.script.deploy == "succeeds"
        self.served = {
            model_id: self.served.get(model_id) or Served(self.now_s, self.now_s + DEPLOY_S, works)
            for model_id in wanted
        }
        return True

    def start(self) -> bool:
        """Begin the tests of models that stand; give up those that never will."""
        changed = False
        for master, model in self.models.items():
            if model.phase != "deploying":
                continue
            assert model.challenger is not None
            served = self.served[model.challenger]
            if not served.is_known:
                continue
            changed = True
            if not served.works:
                model.end("fail", self.now_s, "challenger_retired")
                continue
            name = self.free(f"{master}-{model.challenger}")
            model.take("start", self.now_s, "challenger_deployed", champion=model.champion, challenger=model.challenger)
            model.told.append(("ab_test_started", None))
            model.tested.append(model.challenger)
            model.phase = "testing"
            model.test = Running(name, model.champion, model.challenger, False, self.now_s)
        return changed

    def conclude(self) -> bool:
        """End what took its time."""
        changed = False
        for model in self.models.values():
            test = model.test
            if test is None or model.phase == "paused":
                continue
            days = (self.now_s - test.begun_s - test.paused_s) / DAY_S
            if days >= (WATCH_DAYS if test.watch else TEST_DAYS):
                step, event = ("settle", "promotion_settled") if test.watch else ("conclude", "ab_test_inconclusive")
                model.end(step, self.now_s, event)
                changed = True
        return changed

    def decide_test(self, model: Model, master: str, portion: str) -> None:
        test = model.test
        assert test is not None
        before = test.pairs
        test.pairs += len(PORTIONS[portion])
        if portion == "better":
            watch = self.free(f"{master}-{model.challenger}-watch")
            model.promote(self.now_s, "auto_promotion", watch)
        elif portion == "worse" and before + IN_A_ROW <= TASKS:
            model.end("roll_back", self.now_s, "auto_rollback")
        elif test.pairs >= TASKS:
            model.end("retire", self.now_s, "challenger_retired")

    def decide_watch(self, model: Model, portion: str) -> None:
        test = model.test
        assert test is not None
        before = 2 * test.pairs
        test.pairs += len(PORTIONS[portion])
        if portion == "worse" and before + 2 * IN_A_ROW <= WATCHED:
            model.end("revert", self.now_s, "promotion_reverted", back=True)
        elif 2 * test.pairs >= WATCHED:
            model.end("settle", self.now_s, "promotion_settled")

    def ask(self, name: str, verb: str) -> str:
        """Return what becomes of a person's word about a test, and do it."""
        for master, model in self.models.items():
            named = model.test.name if model.test else f"{master}-{model.challenger}"
            if named == name and model.phase in {"deploying", "testing", "paused", "watching"}:
                return self.ask_running(model, verb)
        for entry in self.queue if verb == "abort" else ():
            master, model_id, _ = entry
            if name == f"{master}-{model_id}":
                self.queue.remove(entry)
                self.models[master].told.append(("manual_decision", "withdraw"))
                return "done"
        for model in self.models.values():
            if name in model.ended:
                return "unchanged" if model.ended[name][0] == verb else "refused"
        return "refused"

    def ask_running(self, model: Model, verb: str) -> str:
        match verb, model.phase:
            case ("pause", "paused") | ("resume", "testing"):
                return "unchanged"
            case "abort", "deploying" | "testing" | "paused":
                model.end("abort", self.now_s, "manual_decision")
            case "pause", "testing":
                assert model.test is not None
                model.phase, model.test.since_s = "paused", self.now_s
                model.told.append(("manual_decision", "pause"))
            case "resume", "paused":
                test = model.test
                assert test is not None
                assert test.since_s is not None
                test.paused_s += self.now_s - test.since_s
                model.phase, test.since_s = "testing", None
                model.told.append(("manual_decision", "resume"))
            case _:
                return "refused"
        return "done"

    def free(self, name: str) -> str:
        taken = {one for model in self.models.values() for one in model.ended}
        taken |= {model.test.name for model in self.models.values() if model.test is not None}
        found, number = name, 1
        while found in taken:
            number += 1
            found = f"{name}-{number}"
        return found

    @staticmethod
    def stands(model: Model) -> bool:
        """Tell whether there is nothing to roll back, but by name."""
        return bool(model.changes) and model.changes[-1][3] not in FORWARD

    def write(self, test: Running, pairs: list[tuple[float | None, float | None]]) -> None:
        path = self.root / layout.results_file(test.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        letters = "ba" if test.watch else "ab"
        with path.open("a") as file:
            for pair in pairs:
                for letter, score in zip(letters, pair, strict=True):
                    self.lines += 1
                    status = "failed" if score is None else "completed"
                    one = {"task_id": f"t{self.lines}", "variant": letter, "status": status, "quality_score": score}
                    file.write(json.dumps(one) + "\n")


def play(examples: int, steps: int) -> None:
    how = settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Registry, settings=how)


@pytest.mark.timeout(300)
def test_what_serves_is_what_the_steps_say() -> None:
    """Whatever daemon and people do, in any order: state, files, events and history are those of the model."""
    play(30, 30)


@slow_test
@pytest.mark.timeout(3_600)
def test_what_serves_is_what_the_steps_say_at_length() -> None:
    """The same over many long lives."""
    play(600, 80)
