"""What must hold in every world after every step.

Each check is named by the promise that it holds the system to. What it compares with comes from the fleet's books, the
providers' own worlds, and these ``Books``, which remember what was seen before; nothing here asks the code under test.
"""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import orjson

from cortex_autolearn.model import instants, layout

from .evidence import closed_tasks, missing_for_promotion
from .looking import State, document, lines, objects
from .promise import require, require_same, split_of
from .settled import Settled
from .world import USUAL_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .fleet import Fleet
    from .system import System
    from .world import World

_ENDINGS: Final = {
    "promote": "auto_promotion",
    "roll_back": "auto_rollback",
    "retire": "challenger_retired",
    "conclude": "ab_test_inconclusive",
    "settle": "promotion_settled",
    "revert": "promotion_reverted",
}
_MANUAL: Final = "manual_decision"
_MILLI: Final = 1_000
_MICRO: Final = 1_000_000


_GOING_ON: Final = frozenset({"start", "deploy", "pause", "resume", "restore"})


class Books:
    """What was seen of one world so far, and the checks.

    Arguments:
        world: the world.
        system: whose disk and providers are looked at.
        fleet: who knows what was written.
        happened: counts milestones.
    """

    def __init__(self, world: World, system: System, fleet: Fleet, happened: Counter[str]) -> None:
        self._world = world
        self._system = system
        self._fleet = fleet
        self._happened = happened
        self._root = system.root
        self._frozen: dict[str, dict[str, str]] = {}
        self._held_out_texts: dict[str, str] = {}
        self._held_out: set[str] = set()
        self._proven: set[int] = set()
        self._champions: dict[str, str] = {}
        self._events_told = 0
        self.settled = Settled(system, fleet)

    # --- at any instant, whoever was killed ---------------------------------------------------------------------------

    def at_any_instant(self) -> None:
        """Check what holds between any two system calls."""
        self._routes_are_deployable()
        self._events_are_in_order()

    def _routes_are_deployable(self) -> None:
        """Whatever the routes name can answer: it always could, or its backend serves it."""
        promise = "routes name deployable models"
        routes = document(self._root / layout.ROUTES) if self._is_whole(layout.ROUTES) else None
        if routes is None:
            return
        served = self._served() | self._restored()
        for master, route in routes["masters"].items():
            own = {USUAL_VERSION, self._world.champions.get(master, USUAL_VERSION)}
            for arm in ("champion", "challenger"):
                named = route[arm]
                if named is not None:
                    version = named["version"]
                    require(promise, version in own | served, lambda: f"{master}'s {arm} is {named}, served: {served}")  # noqa: B023 - called at once
            require(promise, (route["challenger"] is None) == (route["experiment"] is None), f"{route}")

    def _is_whole(self, relative: str) -> bool:
        """Tell whether a file is as the system wrote it: the simulation damages some."""
        return relative not in self._system.damaged

    def _served(self) -> set[str]:
        if self._world.backend == "scripted":
            return {one.model.model_id for one in self._system.trainer.endpoints() if one.state == "ready"}
        models = self._root / layout.MODELS
        return {path.parent.name for path in models.glob("*/manifest.json") if not path.parent.name.startswith(".")}

    def _restored(self) -> set[str]:
        """Return the versions that a person made champions again, at once: what serves them is asked for after it."""
        found = (line for line in lines(self._root / layout.EVENTS) if b'"step":"restore"' in line)
        return {orjson.loads(line)["champion"] for line in found if line.endswith(b"\n")}

    def _events_are_in_order(self) -> None:
        """The events file holds the events from the first, each once; a line under way may be cut off."""
        promise = "the events file is in order"
        found = lines(self._root / layout.EVENTS)
        whole = found[:-1] if found and not found[-1].endswith(b"\n") else found
        seqs = [orjson.loads(one)["seq"] for one in whole]
        require(promise, seqs == list(range(1, len(seqs) + 1)), lambda: f"{seqs[-20:]}")
        require(promise, len(seqs) >= self._events_told, "an event is gone")
        self._events_told = len(seqs)

    # --- after every step ---------------------------------------------------------------------------------------------

    def after_step(self, *, is_settled: bool) -> None:
        """Check everything; ``is_settled`` when nothing was refused since all that was written could be read."""
        self.at_any_instant()
        state = State(self._root)
        try:
            state.snapshot()
            self._files_agree(state)
            self._collected_once(state)
            self._trainings_are_single(state)
            self._budgets_hold(state)
            self._tests_are_single(state)
            self._champions_stay(state)
            self._datasets_keep_apart(state)
            self._promotions_are_proven(state)
            self._changes_are_told(state, is_settled=is_settled)
            if is_settled:
                self.settled.check(state)
            state.let_go()
        finally:
            state.close()

    def _files_agree(self, state: State) -> None:
        """A file that belongs to the state is as long as was committed, and its successor has taken its place."""
        for path, length, staged in state.rows("SELECT path, length, staged FROM outputs"):
            if self._is_whole(path):
                place = self._root / path
                size = place.stat().st_size if place.exists() else 0
                is_true = staged is None and size == length if not self._system.was_refused else size >= 0
                require("files agree with the state", is_true, f"{path}: {size} of {length} bytes, {staged}")

    def _collected_once(self, state: State) -> None:
        """No outcome stands twice, each where its row says, and every row has its line."""
        promise = "each outcome stands once"
        rows = state.rows("SELECT task_id, split, day, position, length FROM outcomes")
        texts: dict[str, bytes] = {}
        # Where the disk refused to give a successor its place, the next transaction does, before anything else.
        waiting = {row[0] for row in state.rows("SELECT path FROM outputs WHERE staged IS NOT NULL")}
        for task_id, split, day, position, length in rows:
            path = layout.outcomes_file(split, day)
            if not self._is_whole(path) or path in waiting:
                continue
            if path not in texts:
                place = self._root / path
                texts[path] = place.read_bytes() if place.exists() else b""
            line = texts[path][position : position + length]
            found = orjson.loads(line) if line.endswith(b"\n") else {}
            require(promise, found.get("task_id") == task_id, f"{path} at {position}: {line[:80]!r}, not {task_id}")
            require(promise, found.get("split") == split == split_of(task_id), f"{task_id} is in {split}")
        if self._system.was_refused or any(path.startswith(layout.OUTCOMES) for path in self._system.damaged):
            return
        told = Counter(one["task_id"] for one in objects(self._root / layout.OUTCOMES))
        twice = [task_id for task_id, count in told.items() if count > 1]
        require(promise, not twice, f"{twice[:3]} stand twice")
        require(promise, len(told) == len(rows), f"{len(told)} lines, {len(rows)} rows")

    def _budgets_hold(self, state: State) -> None:
        """Nobody charges more than the budgets, and what was charged is booked or reserved."""
        promise = "spending stays within the budgets"
        policy = self._world.settings.judge
        days: Counter[int] = Counter()
        for charge in self._system.bench.charges():
            days[charge.day] += charge.amount
        months: Counter[int] = Counter()
        for day, amount in days.items():
            months[day // 100] += amount
            require(promise, amount <= policy.daily_usd * _MICRO * _MILLI, f"the judge charged {amount} on {day}")
            booked = state.one("SELECT coalesce(sum(cost), 0) FROM judge_spend WHERE day = ?", day)
            booked += state.one("SELECT coalesce(sum(reserve), 0) FROM judge_queue WHERE sent_day = ?", day)
            require(promise, booked * _MILLI >= amount, f"{amount} charged on {day}, {booked} booked")
        for month, amount in months.items():
            require(promise, amount <= policy.monthly_usd * _MICRO * _MILLI, f"the judge charged {amount} in {month}")
        if self._world.backend == "scripted":
            self._training_costs_hold(promise, state)

    def _training_costs_hold(self, promise: str, state: State) -> None:
        training = self._world.settings.training
        costs: Counter[str] = Counter()
        asked = {row["token"]: row["asked_us"] for row in state.rows("SELECT token, asked_us FROM training_jobs")}
        for job in self._system.trainer.jobs():
            usd = self._world.training_usd
            costs[f"{instants.from_us(asked[job.token]):%Y-%m}"] += round(usd * 100)
            require(promise, usd <= training.budget_usd, f"a training costs {usd} USD")
        for month, cents in costs.items():
            require(promise, cents <= training.budget_month_usd * 100, f"trainings cost {cents} cents in {month}")

    def _trainings_are_single(self, state: State) -> None:
        """A scope has one training at most, here and at the backend, and a token leads to one job."""
        promise = "at most one job a scope"
        for (count,) in state.rows("SELECT count(*) FROM training_jobs WHERE ended_us IS NULL GROUP BY scope"):
            require(promise, count == 1, f"{count} trainings of one scope")
        if self._world.backend != "scripted":
            return
        jobs = self._system.trainer.jobs()
        known = {row["token"]: row for row in state.rows("SELECT token, model_id, ended_us FROM training_jobs")}
        for job in jobs:
            require(promise, job.token in known, f"the backend has a job that nobody knows: {job.model_id}")
            require(promise, known[job.token]["model_id"] == job.model_id, f"{job.model_id} under another token")
        running = [job for job in jobs if not job.ended and known[job.token]["ended_us"] is None]
        scopes = Counter(state.one("SELECT scope FROM training_jobs WHERE token = ?", one.token) for one in running)
        require(promise, all(count == 1 for count in scopes.values()), f"the backend runs {scopes}")

    def _tests_are_single(self, state: State) -> None:
        """A master has one test or watch at most, and it is the one that its serving names."""
        promise = "at most one test a master"
        active = state.rows("SELECT master, test_id, a, b FROM experiments WHERE ended_us IS NULL")
        masters = Counter(row["master"] for row in active)
        require(promise, all(count == 1 for count in masters.values()), f"{masters}")
        held = {row["master"]: row for row in state.rows("SELECT * FROM servings")}
        for row in active:
            mine = held.get(row["master"])
            require(promise, mine is not None and mine["test_id"] == row["test_id"], f"{row['test_id']} serves nobody")
            assert mine is not None
            arms = {mine["champion"], mine["challenger"]}
            require(promise, arms == {row["a"], row["b"]}, f"{row['test_id']} tests {row['a']}, {row['b']}, not {arms}")
        for master, mine in held.items():
            has_test = mine["phase"] in {"testing", "paused", "watching"}
            require(promise, has_test == (mine["test_id"] is not None) == (master in masters), f"{tuple(mine)}")

    def _champions_stay(self, state: State) -> None:
        """A master that was ever served has a champion, which changes by a step of its history alone."""
        promise = "a champion always exists"
        now = {row["master"]: row["champion"] for row in state.rows("SELECT master, champion FROM servings")}
        models = {row["model_id"] for row in state.rows("SELECT model_id FROM models")}
        for master, before in self._champions.items():
            require(promise, master in now, f"{master} was served by {before}, and is by nobody")
        for master, champion in now.items():
            first = self._world.champions.get(master, USUAL_VERSION)
            require(promise, champion == first or champion in models, f"{master} is served by {champion}")
            last = state.rows(
                "SELECT version FROM alias_history WHERE master = ? AND alias = 'champion' ORDER BY seq DESC LIMIT 1",
                master,
            )
            require(promise, last and last[0]["version"] == champion, f"{master}'s history does not end at {champion}")
        self._champions = now

    # --- what was learnt from -----------------------------------------------------------------------------------------

    def _datasets_keep_apart(self, state: State) -> None:
        """What was once held out is trained on never; a dataset stays as it was frozen."""
        promise = "nothing is trained that was in validation"
        rows = state.rows("SELECT dataset_id FROM datasets ORDER BY number")
        for (dataset_id,) in rows:
            folder = self._root / layout.dataset_folder(dataset_id)
            if not (folder / "manifest.json").exists():
                continue  # removed by the simulation, or not yet written again
            digests = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
            if self._frozen.get(dataset_id) == digests:
                continue
            known = self._frozen.setdefault(dataset_id, digests)
            same = {name: digest for name, digest in digests.items() if name != "manifest.json"}
            require("datasets are frozen", known.items() >= same.items(), f"{dataset_id} was changed")
            self._happened["dataset"] += 1
            self._dataset_keeps_apart(promise, folder)

    def _dataset_keeps_apart(self, promise: str, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        texts = {
            split: [_question(one) for one in lines(folder / f"{split}.jsonl")] for split in ("train", "validation")
        }
        members = {split: [one["task_id"] for one in manifest["examples"][split]] for split in texts}
        self._held_out |= set(members["validation"])
        self._held_out_texts |= dict.fromkeys(texts["validation"], folder.name)
        for task_id, text in zip(members["train"], texts["train"], strict=True):
            require(promise, task_id not in self._held_out, f"{folder.name} trains on {task_id}")
            require(promise, split_of(task_id) == "training", f"{task_id} is for validation")
            require(promise, text not in self._held_out_texts, f"{folder.name} trains on the text of {task_id}")
            task = self._fleet.tasks.get(task_id)
            require(promise, task is not None and any(one.input == text for one, _, _ in task.records), f"{task_id}")
        for task_id in members["validation"]:
            require(promise, split_of(task_id) == "validation", f"{task_id} is for training")

    # --- what was decided ---------------------------------------------------------------------------------------------

    def _promotions_are_proven(self, state: State) -> None:
        """A promotion by the daemon has its decision, whose evidence follows from the stored tasks of its test."""
        promise = "no promotion without its evidence"
        events = state.rows("SELECT seq, body FROM events WHERE event = 'auto_promotion'")
        for seq, body in events:
            if seq in self._proven:
                continue
            decided = state.rows("SELECT * FROM rollout_decisions WHERE event_seq = ?", seq)
            require(promise, len(decided) == 1, f"event {seq} has {len(decided)} decisions")
            told = json.loads(body)
            require(promise, decided[0]["decision"] == "promote", f"{decided[0]['decision']}")
            require(promise, decided[0]["test_id"] == told["test_id"], f"of {decided[0]['test_id']}")
            test = state.rows("SELECT * FROM experiments WHERE test_id = ?", told["test_id"])[0]
            policy = json.loads(decided[0]["policy"])
            trials = state.rows("SELECT * FROM trials WHERE test_id = ?", told["test_id"])
            tasks = closed_tasks([dict(one) for one in trials], policy["maturation_s"] * _MICRO)
            lacks = missing_for_promotion(tasks, json.loads(test["baseline"]), policy)
            require(promise, not lacks, f"{told['test_id']} lacks {lacks}")
            self._trials_were_written(promise, told["test_id"], trials)
            self._proven.add(seq)
            self._happened["promotion"] += 1

    def _trials_were_written(self, promise: str, test_id: str, trials: Iterable[Any]) -> None:
        for row in trials:
            task = self._fleet.tasks.get(row["task_id"])
            require(promise, task is not None, f"{row['task_id']} of {test_id} is no task of the fleet's")
            assert task is not None
            if row["at_us"] is None:
                continue
            outcomes = {one.status == "completed" for one, _, _ in task.records}
            is_rescued = not task.routed
            require(promise, row["completed"] in outcomes or is_rescued, f"{row['task_id']} of {test_id}: {outcomes}")

    def _changes_are_told(self, state: State, *, is_settled: bool) -> None:
        """Every change of the state has one event: what began, what ended, what was made, what was spent."""
        promise = "every change has exactly one event"
        events = [(row["event"], json.loads(row["body"])) for row in state.rows("SELECT event, body FROM events")]
        begun = Counter(body["test_id"] for event, body in events if event == "ab_test_started")
        tests = state.rows("SELECT test_id, ending, ended_us FROM experiments")
        require_same(promise, "tests that began", begun, [row["test_id"] for row in tests])
        ended = Counter(
            (body["test_id"], body["step"])
            for event, body in events
            if event in {*_ENDINGS.values(), _MANUAL} and body.get("test_id") and body["step"] not in _GOING_ON
        )
        require_same(
            promise, "tests that ended", ended, [(row[0], row[1]) for row in tests if row["ended_us"] is not None]
        )
        jobs = state.rows("SELECT model_id, ended_us FROM training_jobs")
        triggered = Counter(body["model_id"] for event, body in events if event == "fine_tune_triggered")
        require_same(promise, "trainings", triggered, [row["model_id"] for row in jobs])
        over = Counter(
            body["model_id"] for event, body in events if event in {"fine_tune_completed", "fine_tune_failed"}
        )
        require_same(promise, "trainings that ended", over, [row[0] for row in jobs if row["ended_us"] is not None])
        made = Counter(body["model_id"] for event, body in events if event == "fine_tune_completed")
        require_same(promise, "models", made, [row[0] for row in state.rows("SELECT model_id FROM models")])
        built = Counter(body["dataset_id"] for event, body in events if event == "dataset_created")
        require_same(promise, "datasets", built, [row[0] for row in state.rows("SELECT dataset_id FROM datasets")])
        reached = Counter(body["period"] for event, body in events if event == "budget_reached")
        require_same(promise, "budgets", reached, [row[0] for row in state.rows("SELECT period FROM judge_budgets")])
        runs = Counter(body["run_id"] for _, body in events if "run_id" in body)
        require(promise, all(count == 1 for count in runs.values()), f"a run was told twice: {runs.most_common(1)}")
        self._events_are_all(promise, state, is_settled=is_settled)

    def _events_are_all(self, promise: str, state: State, *, is_settled: bool) -> None:
        seqs = [row[0] for row in state.rows("SELECT seq FROM events ORDER BY seq")]
        require(promise, seqs == list(range(1, len(seqs) + 1)), "an event was removed")
        if is_settled:  # else the next run copies what a killed one could not
            told = lines(self._root / layout.EVENTS)
            require(promise, len(told) == len(seqs), f"{len(told)} events in the file, {len(seqs)} in the state")
        for row in state.rows("SELECT event_seq, step FROM alias_history WHERE event_seq IS NOT NULL"):
            require(promise, row["event_seq"] <= len(seqs), f"{row['step']} is told by an event that is not there")


def _question(line: bytes) -> str:
    text: str = orjson.loads(line)["messages"][0]["content"]
    return text
