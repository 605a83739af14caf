"""Scoring with the state and real files, judged by a script: what is chosen, what is asked, what comes of the answers."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from judge_support import Desk, Run, unscored
from support import NOW, check_state, events, good, line, objects, quick_folder

from cortex_autolearn.collect import tally
from cortex_autolearn.collect.session import Session
from cortex_autolearn.collect.standing import stand
from cortex_autolearn.collect.tally import Tally
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.judge_policy import JudgePolicy, MasterRubric
from cortex_autolearn.model.judgement import Ask, Judgement, LifeState, Refusal, Usage
from cortex_autolearn.model.judging import Label
from cortex_autolearn.model.policy import GatePolicy
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.testing import FakeClock, ScriptedJudge
from cortex_autolearn.wiring import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LATER = "2025-11-26T11:00:00Z"
FINE = Judgement(5, 5, 4, 5, 4.5, "All of it was done.")
POOR = Judgement(1, 2, 1, 3, 1.5, "Nothing was done.")


@pytest.fixture
def root() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


def fine(_: Ask) -> Judgement:
    return FINE


def desk_with(root: Path, judge: ScriptedJudge, **policy: Any) -> Desk:
    return Desk(root, lambda: judge, **policy)


def outcome(desk: Desk, task_id: str) -> dict[str, Any]:
    (found,) = [one for one in objects(desk.outcomes) if one["task_id"] == task_id]
    return found


def label(desk: Desk, task_id: str, score: float) -> None:
    with desk.store.write() as transaction:
        transaction.put_label(Label(task_id, score, "", "tester", 0))


class TestWhatIsJudged:
    def test_a_task_that_lacks_only_a_score_is_judged_and_collected(self, root: Path) -> None:
        """The score wakes the rule for its task, and stands in the outcome with whose it is."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("wanted"), good("scored"), unscored("failed", status="failed"))
            desk.put("a.jsonl", unscored("slow", duration_seconds=5_000), unscored("retried", retry_count=2))
            assert desk.settle()["rejected"]["No quality score"] == 2  # of a slow one that is the first reason too
            counts = desk.score()
            assert (counts["chosen"], counts["sent"], counts["scored"]) == (1, 1, 1)
            assert list(desk.scores()) == ["wanted"]
            assert desk.collect()["high_quality"] == 1
            found = outcome(desk, "wanted")
            assert (found["quality_score"], found["quality_source"]) == (4.5, "judge")
            assert "quality_source" not in outcome(desk, "scored")
            check_state(root)

    def test_a_score_is_stored_with_all_that_tells_how_it_came_about(self, root: Path) -> None:
        """Model, rubric, criteria, rationale, cost and request id."""
        judge = ScriptedJudge(fine, usage=Usage(1_000, 0, 0, 100))
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            desk.score()
            score = desk.scores()["t"]
        assert score[1:7] == (4.5, 5, 5, 4, 5, "All of it was done.")
        assert (score.model, score.answered_by, score.rubric) == ("claude-haiku-5-5", "scripted-judge", "v1")
        assert (score.cost, score.request_id) == (150, "scripted-1")

    @pytest.mark.parametrize(("length", "said"), [(0, "nothing was"), (1_400, "1,200 characters were")])
    def test_a_cut_that_was_never_made_is_none(self, root: Path, length: int, said: str) -> None:
        """A text may hold its mark, for which the rubric excuses it: what was left out is said behind the record."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge, max_text_chars=200) as desk:
            mark = "The work: [… 9,000 characters left out …]"
            desk.put("a.jsonl", unscored("t", input="Do it", output=mark.ljust(length, "x")))
            desk.settle()
            desk.score()
        (ask,) = judge.asked
        behind = ask.user.rpartition("</task-record-")[2]
        assert f"of which {said} left out, whatever it says" in behind

    def test_a_poor_score_keeps_a_task_out(self, root: Path) -> None:
        """It is rejected as one that the fleet scored so."""
        with desk_with(root, ScriptedJudge(lambda _: POOR)) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            desk.score()
            assert desk.collect()["rejected"] == {"Quality score too low": 1}

    def test_nothing_is_asked_twice(self, root: Path) -> None:
        """Whatever runs how often."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            for _ in range(3):
                desk.score()
                desk.collect(everything=True)
            desk.medallion.rebuild(Run())
            desk.collect()
            desk.score()
            assert len(judge.asked) == 1
            assert desk.collected().keys() == {"t"}

    def test_a_master_under_test_has_all_its_completed_tasks_judged(self, root: Path) -> None:
        """With a score of their own, with retries, too fast: or the comparison would be biased."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", good("scored"), good("retried", retry_count=1), good("fast", duration_seconds=1))
            desk.put("a.jsonl", good("failed", status="failed"), good("other", master="development-master"))
            desk.settle()
            assert desk.score()["chosen"] == 0
            desk.under_test = {"security-master": instants.to_us(NOW) - 30 * instants.DAY_US}
            desk.score()
            assert desk.scores().keys() == {"scored", "retried", "fast"}
            desk.collect(everything=True)
            assert "quality_source" not in outcome(desk, "scored")

    def test_changed_limits_choose_again_and_ask_nothing_twice(self, root: Path) -> None:
        """What a wider limit lets in is judged; what was judged stays judged."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("normal"), unscored("slow", duration_seconds=700))
            desk.settle()
            desk.score()
            desk.gate = GatePolicy(max_duration_s=1_000)
            desk.score()
            assert desk.scores().keys() == {"normal", "slow"}
            assert len(judge.asked) == 2

    def test_an_operators_rubric_judges_a_masters_tasks(self, root: Path) -> None:
        """Its text is what the judge reads, and its version is made of its content."""
        judge = ScriptedJudge(fine)
        (root / "own.md").write_text("Score only the tone.")
        with desk_with(root, judge, rubrics=(MasterRubric(master="security-master", file="own.md"),)) as desk:
            desk.put("a.jsonl", unscored("own"), unscored("common", master="development-master"))
            desk.settle()
            desk.score()
            assert {ask.system == "Score only the tone." for ask in judge.asked} == {True, False}
            own, common = desk.scores()["own"].rubric, desk.scores()["common"].rubric
            assert own.startswith("security-master@")
            assert common == "v1"

    @pytest.mark.parametrize("what", ["fifo", "folder", "nothing", "empty", "huge", "nul", "device"])
    def test_what_is_no_rubric_is_refused(self, root: Path, what: str) -> None:
        """Nothing is waited for, held or sent: it is said which setting names which file, and what to do about it."""
        path, name = root / "own.md", "own.md"
        match what:
            case "fifo":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "empty":
                path.write_text(" \n")
            case "huge":
                with path.open("wb") as file:
                    file.truncate(8 << 30)
            case "nul":
                name = "own\0.md"
            case "device":
                name = "/dev/zero"
        causes = {
            "fifo": "it is a FIFO",
            "folder": "it is a folder",
            "nothing": "there is no such file",
            "empty": "it is empty",
            "huge": "it holds more than 262,144 bytes",
            "nul": "embedded null byte",
            "device": "it is a device",
        }
        own = (
            MasterRubric(master="cicd-master", file=str(root / "good.md")),
            MasterRubric(master="security-master", file=name),
        )
        (root / "good.md").write_text("Score only the tone.")
        judge = ScriptedJudge(fine)
        with desk_with(root, judge, rubrics=own) as desk:
            desk.put("a.jsonl", unscored("own"))
            desk.settle()
            with pytest.raises(BoundaryError) as caught:
                desk.score()
            assert causes[what] in caught.value.cause
            assert "judge.rubrics[1].file" in caught.value.operation
            assert name.replace("\0", "\\x00") in caught.value.subject
            assert "judge.rubrics[1].file" in caught.value.hint
            assert not judge.asked


class TestLaterRecords:
    def test_a_later_record_of_the_same_content_keeps_the_score(self, root: Path) -> None:
        """It stays in the set throughout, and is not paid for again."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            desk.score()
            desk.collect()
            desk.put("b.jsonl", unscored("t", completed_at=LATER))
            assert desk.settle()["withdrawn"] == 0
            desk.score()
            assert desk.collected() == {"t": "validation"} or desk.collected() == {"t": "training"}
            assert len(judge.asked) == 1

    def test_without_a_collection_between_the_score_moves_as_well(self, root: Path) -> None:
        """Scoring finds out by itself that the very same was judged before."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            desk.score()
            desk.put("b.jsonl", unscored("t", completed_at=LATER))
            desk.follow()
            assert desk.score()["moved"] == 1
            assert len(judge.asked) == 1
            assert desk.collect()["high_quality"] == 1

    def test_a_later_record_of_other_content_is_judged_anew(self, root: Path) -> None:
        """Until then the old score does not count for it."""
        judge = ScriptedJudge(lambda ask: POOR if "ruined" in ask.user else FINE)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            desk.score()
            desk.collect()
            desk.put("b.jsonl", unscored("t", completed_at=LATER, output="It is all ruined now, sorry about that"))
            counts = desk.settle()
            assert (counts["withdrawn"], counts["rejected"]) == (1, {"No quality score": 1})
            desk.score()
            assert len(judge.asked) == 2
            assert desk.collect()["rejected"] == {"Quality score too low": 1}

    def test_a_record_that_comes_while_a_batch_runs_is_judged_after_it(self, root: Path) -> None:
        """The batch's score is for the record that was sent."""
        judge = ScriptedJudge(fine, polls=1)
        with desk_with(root, judge, batch_min=1) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            desk.score()
            desk.put("b.jsonl", unscored("t", completed_at=LATER, output="Another answer, which is long enough too"))
            desk.settle()
            for _ in range(6):
                desk.score()
            assert len({ask.user for ask in judge.asked}) == 2
            assert desk.collect()["high_quality"] == 1
            assert "Another answer" in outcome(desk, "t")["output"]

    def test_a_score_of_its_own_ends_the_waiting(self, root: Path) -> None:
        """A later record brought one: nothing is asked."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            desk.scorer.choose(Run(), tally.Tally())
            desk.put("b.jsonl", good("t", completed_at=LATER))
            desk.settle()
            assert desk.score()["dropped"] == 1
            assert not judge.asked

    def test_a_text_that_is_gone_cannot_be_judged(self, root: Path) -> None:
        """It is set aside with the reason."""
        with desk_with(root, ScriptedJudge(fine)) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            with desk.store.write() as transaction:
                assert transaction.release_silver(20251126, layout.silver_file(20251126))
            assert desk.score()["set_aside"] == 1
            assert desk.queue() == {"t": ("set_aside", 0, "its text is gone")}


class TestDamage:
    @pytest.mark.parametrize("how", ["overwritten", "removed"])
    def test_silver_that_was_damaged_comes_back_and_is_judged(self, root: Path, how: str) -> None:
        """A task that lacks only a score is read by nobody else: scoring itself sees to it, and is not stopped for good."""
        judge = ScriptedJudge(fine)
        clock = FakeClock(datetime(2026, 11, 22, 12, tzinfo=UTC))
        app = build(root, environ={}, clock=clock, judge=lambda: judge, init=True)
        (root / layout.BRONZE / "a.jsonl").write_bytes(line(unscored("first")) + line(unscored("second")))
        for job in ("silver", "collection"):
            assert app.runner.run(job, trigger="test").result == "ok"
        path = root / layout.silver_file(20251126)
        if how == "removed":
            path.unlink()
        else:
            first, rest = path.read_bytes().split(b"\n", 1)
            path.write_bytes(b"#" * len(first) + b"\n" + rest)
        for _ in range(3):
            result = app.runner.run("scoring", trigger="test")
        assert result.result == "ok"
        assert len(judge.asked) == 2
        app.close()


class TestLabels:
    def test_a_person_has_the_last_word(self, root: Path) -> None:
        """Over the task's own score and over the judge's, in either direction; the outcome says whose it is."""
        with desk_with(root, ScriptedJudge(fine)) as desk:
            desk.put("a.jsonl", good("own"), unscored("judged"), good("raised", quality_score=2))
            desk.settle()
            desk.score()
            desk.collect()
            label(desk, "own", 1)
            label(desk, "judged", 2.5)
            label(desk, "raised", 4)
            counts = desk.collect()
            assert (counts["withdrawn"], counts["high_quality"]) == (2, 1)
            found = outcome(desk, "raised")
            assert (found["quality_score"], found["quality_source"]) == (4, "person")
            check_state(root)

    def test_a_label_replaces_the_line_of_a_collected_task(self, root: Path) -> None:
        """The outcome holds the score that counts."""
        with desk_with(root, ScriptedJudge(fine)) as desk:
            desk.put("a.jsonl", good("t"))
            desk.settle()
            label(desk, "t", 5)
            assert desk.collect()["already_collected"] == 1
            assert outcome(desk, "t")["quality_score"] == 5

    def test_a_labelled_task_is_not_judged(self, root: Path) -> None:
        """It has a score."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            label(desk, "t", 4)
            assert desk.score()["sent"] == 0
            assert not judge.asked
            assert desk.collect()["high_quality"] == 1

    def test_a_label_may_come_before_the_task(self, root: Path) -> None:
        """It waits for it."""
        with desk_with(root, ScriptedJudge(fine)) as desk:
            desk.put("a.jsonl", unscored("t", status="running"))
            desk.settle()
            label(desk, "t", 5)
            desk.collect()
            desk.put("b.jsonl", unscored("t"))
            assert desk.settle()["high_quality"] == 1

    def test_a_label_counts_though_the_outcome_was_lost(self, root: Path) -> None:
        """Writing a lost line again is no decision: the task still meets the rule, with the label that came meanwhile."""
        with desk_with(root, ScriptedJudge(fine)) as desk:
            desk.put("a.jsonl", good("t"))
            desk.settle()
            label(desk, "t", 1)
            for path in desk.outcomes.rglob("*.jsonl"):
                path.unlink()
            assert desk.collect()["withdrawn"] == 1
            assert objects(desk.outcomes) == []

    def test_lost_outcomes_come_back_with_the_score_that_counts(self, root: Path) -> None:
        """A removed file is written again from silver, which does not hold it."""
        with desk_with(root, ScriptedJudge(fine)) as desk:
            desk.put("a.jsonl", unscored("t"), good("own"))
            desk.settle()
            desk.score()
            label(desk, "own", 4)
            desk.collect()
            before = sorted(map(json.dumps, objects(desk.outcomes)))
            for path in desk.outcomes.rglob("*.jsonl"):
                path.unlink()
            desk.collect()
            assert sorted(map(json.dumps, objects(desk.outcomes))) == before


class TestFaults:
    @pytest.mark.parametrize("batch_min", [1, 100], ids=["in batches", "one by one"])
    def test_what_may_pass_is_tried_again_and_then_set_aside(self, root: Path, batch_min: int) -> None:
        """A bounded number of times, with the reason."""
        refusal = Refusal("", "errored", "api_error: try later", None, None, retryable=True)
        judge = ScriptedJudge(lambda _: refusal)
        with desk_with(root, judge, batch_min=batch_min, max_attempts=3) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            for _ in range(8):
                desk.score()
            assert desk.queue() == {"t": ("set_aside", 3, "errored: api_error: try later")}
            assert len(judge.asked) == 3
            assert desk.score()["chosen"] == 0

    def test_what_cannot_pass_is_set_aside_at_once_and_paid_for(self, root: Path) -> None:
        """An answer that is no judgement was charged; another record of the task is tried anew."""
        refusal = Refusal("", "invalid", "no judgement", Usage(1_000_000, 0, 0, 0), "r", retryable=False)
        judge = ScriptedJudge(lambda ask: FINE if "mended" not in ask.user else refusal)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            desk.score()
            assert desk.queue() == {"t": ("set_aside", 1, "invalid: no judgement")}
            assert desk.spent()["cost"] == 500_000  # above 100,000 tokens the price is five times as high
            desk.put("b.jsonl", unscored("t", completed_at=LATER, output="Something else came out in the end"))
            desk.settle()
            assert desk.score()["scored"] == 1

    def test_an_answer_that_does_not_tell_its_cost_is_booked_at_the_most_it_can_be(self, root: Path) -> None:
        """It may have been charged, so it is not taken for free."""
        refusal = Refusal("", "invalid", "no message", None, None, retryable=False)
        with desk_with(root, ScriptedJudge(lambda _: refusal)) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            desk.score()
            assert desk.spent()["requests"] == 1
            assert desk.spent()["cost"] > 0

    @pytest.mark.parametrize("state", ["retired", "unknown"])
    def test_a_model_that_is_gone_is_refused(self, root: Path, state: Any) -> None:
        """Before anything is asked, with what to do about it."""
        judge = ScriptedJudge(fine, state=state)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            with pytest.raises(BoundaryError, match=r"claude-haiku-5-5.*Set judge\.model to a current one"):
                desk.score()
            assert desk.queue() == {"t": ("waiting", 0, "")}
            assert not judge.asked

    def test_a_model_without_a_price_is_refused(self, root: Path) -> None:
        """It would otherwise cost nothing, by our books."""
        with desk_with(root, ScriptedJudge(fine), model="claude-next") as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            with pytest.raises(BoundaryError, match=r"claude-next: no price is known.*\[\[judge\.prices\]\]"):
                desk.score()

    def test_without_a_key_or_disabled_tasks_wait(self, root: Path) -> None:
        """They are counted, and nothing fails."""
        with Desk(root) as desk:
            desk.put("a.jsonl", unscored("t"))
            desk.settle()
            assert (desk.score()["held"], desk.score()["waiting"]) == (tally.NO_KEY, 1)
        with Desk(root, lambda: ScriptedJudge(fine), enabled=False) as desk:
            assert desk.score()["held"] == tally.DISABLED

    def test_a_model_that_retires_is_refused_by_the_next_run(self, root: Path) -> None:
        """Not a day later: till then each answer would be a refusal."""
        state: list[LifeState] = ["active", "retired"]
        with Desk(root, lambda: ScriptedJudge(fine, state=state.pop(0))) as desk:
            desk.put("a.jsonl", unscored("before"))
            desk.settle()
            assert desk.score()["scored"] == 1
            desk.put("b.jsonl", unscored("after"))
            desk.settle()
            with pytest.raises(BoundaryError, match="retired"):
                desk.score()
            assert desk.queue() == {"after": ("waiting", 0, "")}

    def test_a_run_that_is_to_end_sends_nothing_new(self, root: Path) -> None:
        """What was under way is taken in; the rest waits."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", *[unscored(f"t{number}") for number in range(5)])
            desk.settle()
            counts = desk.score(Run(ending=lambda: len(judge.asked) >= 2))
            assert 2 <= counts["scored"] == len(judge.asked) < 5
            assert counts["waiting"] == 5 - counts["scored"]


class TestMoney:
    def fill(self, desk: Desk, count: int = 30) -> None:
        desk.put("a.jsonl", *[unscored(f"t{number}") for number in range(count)])
        desk.settle()

    @pytest.mark.parametrize("batch_min", [1, 100], ids=["in batches", "one by one"])
    def test_a_budget_is_kept_and_told_of_once(self, root: Path, batch_min: int) -> None:
        """Spending stays below it though every answer is as dear as can be; the next day goes on."""
        judge = ScriptedJudge(fine, usage=Usage(2_000, 3_000, 0, 4_096))
        with desk_with(root, judge, batch_min=batch_min, daily_usd=0.02, batch_max=3) as desk:
            self.fill(desk, 60)
            for _ in range(12):
                counts = desk.score()
            first = len(judge.asked)
            assert 0 < first < 20
            assert counts["held"] == tally.BUDGET
            assert 10_000 < desk.spent()["cost"] <= 20_000
            told = [one for one in events(root) if one["event"] == "budget_reached"]
            assert [(one["period"], one["budget_usd"], one["waiting"]) for one in told] == [
                ("2025-11-27", 0.02, 60 - first)
            ]
            desk.clock.advance(86_400)
            for _ in range(12):
                desk.score()
            assert first < len(judge.asked) <= 2 * first + 1
            assert len([one for one in events(root) if one["event"] == "budget_reached"]) == 2

    def test_a_budget_that_was_raised_is_not_reached_any_more(self, root: Path) -> None:
        """Whoever did as the doctor said is not told the same for the rest of the month; the higher one is told of too."""
        judge = ScriptedJudge(fine, usage=Usage(2_000, 3_000, 0, 4_096))

        def reached(desk: Desk) -> list[str]:
            with desk.store.read() as reading:
                standing = stand(reading, desk.judge_policy, 20251127, 0, has_key=True)
            return [one.period for one in standing.reached]

        with desk_with(root, judge, monthly_usd=0.01, batch_min=100) as desk:
            self.fill(desk)
            assert desk.score()["held"] == tally.BUDGET
            assert reached(desk) == ["2025-11"]
        with desk_with(root, judge, monthly_usd=0.02, batch_min=100) as desk:
            assert reached(desk) == []
            assert desk.score()["held"] == tally.BUDGET
            assert desk.score()["held"] == tally.BUDGET
            assert reached(desk) == ["2025-11"]
        told = [one["budget_usd"] for one in events(root) if one["event"] == "budget_reached"]
        assert told == [0.01, 0.02]

    def test_the_months_budget_holds_as_well(self, root: Path) -> None:
        """However many days it spreads over."""
        judge = ScriptedJudge(fine, usage=Usage(2_000, 3_000, 0, 4_096))
        with desk_with(root, judge, daily_usd=0.02, monthly_usd=0.03, batch_min=100) as desk:
            self.fill(desk)
            for _ in range(4):
                desk.score()
                desk.clock.advance(86_400 // 2)
            assert desk.spent()["cost"] <= 30_000
            periods = [one["period"] for one in events(root) if one["event"] == "budget_reached"]
            assert periods == ["2025-11-27", "2025-11"]

    def test_no_budget_at_all_asks_nothing(self, root: Path) -> None:
        """Zero is a budget."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge, daily_usd=0) as desk:
            self.fill(desk, 3)
            assert desk.score()["held"] == tally.BUDGET
            assert not judge.asked

    @pytest.mark.parametrize("batch_min", [1, 100], ids=["in batches", "one by one"])
    def test_a_task_that_no_budget_has_room_for_keeps_nothing_back(self, root: Path, batch_min: int) -> None:
        """It waits until a budget is raised; what came after it is scored meanwhile."""
        judge = ScriptedJudge(fine)
        limits = {"max_text_chars": 400_000, "batch_min": batch_min}
        with desk_with(root, judge, daily_usd=0.05, **limits) as desk:
            desk.put("a.jsonl", unscored("dear", output="<" * 300_000))
            self.fill(desk, 3)
            for _ in range(4):
                desk.score()
                desk.clock.advance(86_400)
            assert desk.scores().keys() == {"t0", "t1", "t2"}
            assert desk.score()["held"] == tally.TOO_DEAR
            assert desk.queue() == {"dear": ("waiting", 0, "")}
        with desk_with(root, judge, daily_usd=5, **limits) as desk:
            for _ in range(2):
                counts = desk.score()
            assert "dear" in desk.scores()
            assert not counts["held"]

    def test_what_is_under_way_counts_until_its_price_is_known(self, root: Path) -> None:
        """A batch reserves what it may cost; the budget is not reached, it is only not free."""
        judge = ScriptedJudge(fine, polls=2)
        with desk_with(root, judge, batch_min=1, daily_usd=0.005) as desk:
            self.fill(desk)
            counts = desk.score()
            assert counts["held"] == tally.UNDER_WAY
            assert 0 < counts["sent"] < 5
            assert not [one for one in events(root) if one["event"] == "budget_reached"]
            for _ in range(40):
                desk.score()
            assert len(desk.scores()) == 30  # they cost nothing in the end

    def test_an_answer_that_cannot_be_stored_is_paid_for_all_the_same(self, root: Path) -> None:
        """The disk fills up over it: what it cost counts for the budget, and its task is asked about again."""
        size: list[int] = []

        def full(ask: Ask) -> Judgement:
            if not size:
                with desk.store.write() as transaction:
                    size.append(1)
                    transaction.connection.execute("PRAGMA max_page_count = 1")  # no page more than there are
            return fine(ask)._replace(rationale="x" * 20_000)

        judge = ScriptedJudge(full, usage=Usage(1_000, 0, 0, 100))
        with desk_with(root, judge, batch_min=100) as desk:
            self.fill(desk, 3)
            with pytest.raises(BoundaryError, match="full"):
                desk.score()
            with desk.store.write() as transaction:
                transaction.connection.execute("PRAGMA max_page_count = 1000000")
            assert len(judge.asked) == 1
            desk.score()
            assert len(judge.asked) == 4
            assert desk.spent()["cost"] >= 4 * 150
            assert len(desk.scores()) == 3

    def test_what_was_not_committed_is_not_counted(self, root: Path) -> None:
        """The run's numbers are those of its transactions: what was taken back is told of once, when it is done again."""
        with desk_with(root, ScriptedJudge(fine)) as desk:
            asking = desk.scorer.asking()
            session = Session(desk.store, desk.clock, JudgePolicy(), ScriptedJudge(fine), asking, Run(), Tally(), None)
            with session.write():
                session.tally.scored += 1
            with pytest.raises(ZeroDivisionError), session.write():
                session.tally.scored += 1
                session.tally.redactions["token"] += 1
                _ = 1 / 0
            assert session.tally == Tally(scored=1)

    def test_a_limit_of_tasks_is_kept(self, root: Path) -> None:
        """In batches and one by one."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge, batch_min=4, batch_max=4) as desk:
            self.fill(desk)
            assert desk.score(limit=6)["sent"] == 6
            assert desk.score(limit=0)["sent"] == 0


class TestAgain:
    def test_another_model_or_rubric_rescores_only_on_request(self, root: Path) -> None:
        """Silently nothing changes; on request each task once."""
        judge = ScriptedJudge(fine)
        with desk_with(root, judge) as desk:
            desk.put("a.jsonl", unscored("a"), unscored("b"))
            desk.settle()
            desk.score()
        with desk_with(root, judge, model="claude-haiku-4-5") as desk:
            desk.score()
            assert len(judge.asked) == 2
            assert desk.score(rescore=True, limit=1)["scored"] == 1
            assert desk.score(rescore=True)["scored"] == 1
            assert desk.score(rescore=True)["chosen"] == 0
            assert {one.model for one in desk.scores().values()} == {"claude-haiku-4-5"}
