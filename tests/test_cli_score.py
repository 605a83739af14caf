"""``score``, ``label`` and ``judge calibrate``: what they print, word for word, and how they end."""

from __future__ import annotations

import getpass
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from anthropic_api import KEY, AnthropicApi
from judge_support import Desk, unscored
from support import good
from test_cli import call

from cortex_autolearn.model import layout
from cortex_autolearn.model.judgement import Refusal
from cortex_autolearn.model.judging import Label, Score
from cortex_autolearn.testing import ScriptedJudge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Desk(tmp_path) as desk:
        desk.put("a.jsonl", good("scored"), unscored("one", output="[[score 4.5]] It was done, and checked twice"))
        desk.put("a.jsonl", unscored("two", output="[[score 2]] It was perhaps done, nobody knows"))
        desk.settle()
    return tmp_path


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as one:
        yield one


def env(api: AnthropicApi, **more: str) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url, **more}


def doctor(root: Path, *args: str, **environ: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call(root, "doctor", "--json", *args, env=environ).stdout)["checks"]
    return [check for check in found if check["name"] == "judge"]


def judge_status(root: Path, **environ: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(root, "status", "--json", env=environ).stdout)["judge"]
    return found


class TestScore:
    def test_scores_and_says_what_it_cost(self, root: Path, api: AnthropicApi) -> None:
        result = call(root, "score", env=env(api))
        assert result.exit_code == 0, result.output
        assert re.fullmatch(
            r"New to be judged: 2\nSent: 2\nScored: 2\nOn their way: 0\nWaiting: 0\nCost: 0\.000\d USD\n"
            r"Time taken: \d\.\d\d s\n",
            result.stdout,
        )
        assert call(root, "collect").stdout.startswith("Total tasks processed: 2\nHigh-quality tasks: 1\n")
        assert call(root, "score", env=env(api)).stdout.startswith("New to be judged: 0\nSent: 0\nScored: 0\n")

    def test_a_batch_is_sent_by_one_call_and_taken_in_by_the_next(self, root: Path, api: AnthropicApi) -> None:
        batched = ("--set", "judge.batch_min=2")
        result = call(root, "score", *batched, env=env(api))
        assert "Sent: 2 (in 1 batch)\nScored: 0\nOn their way: 2\n" in result.stdout
        assert result.stderr.startswith("Results of batches are taken in by the daemon, or by calling again: ")
        assert "Sent: 0\nScored: 2\nOn their way: 0\n" in call(root, "score", *batched, env=env(api)).stdout

    def test_as_json(self, root: Path, api: AnthropicApi) -> None:
        counts = json.loads(call(root, "score", "--limit", "1", "--json", env=env(api)).stdout)
        assert (counts["sent"], counts["scored"], counts["waiting"], counts["held"]) == (1, 1, 1, "")
        assert counts["cost_usd"] > 0

    def test_a_dry_run_changes_nothing(self, root: Path) -> None:
        state = root / layout.STATE
        before = state.read_bytes()
        result = call(root, "score", "--dry-run")
        assert re.fullmatch(
            r"Waiting: 2 tasks\nWould go out one by one: 2\nWould cost: about 0\.000\d USD, at most 0\.00\d\d USD\n"
            r"Budget 20\d\d-\d\d-\d\d: 0\.2000 USD of 0\.2000 USD left\nBudget 20\d\d-\d\d: 2\.00 USD of 2\.00 USD left\n"
            r"Now nothing would be sent: there is no key\n",
            result.stdout,
        )
        assert state.read_bytes() == before

    def test_a_dry_run_tells_what_a_run_then_costs(self, root: Path, api: AnthropicApi) -> None:
        """The most is never exceeded."""
        found = json.loads(call(root, "score", "--dry-run", "--json", env=env(api)).stdout)
        counts = json.loads(call(root, "score", "--json", env=env(api)).stdout)
        assert found["tasks"] == counts["scored"] == 2
        assert counts["cost_usd"] <= found["most_cost_usd"]
        assert found["estimated_cost_usd"] / 10 < counts["cost_usd"]
        again = json.loads(call(root, "score", "--dry-run", "--rescore", "--json", env=env(api)).stdout)
        assert again["waiting"] == 0

    def test_without_a_key_it_says_how_many_wait(self, root: Path) -> None:
        result = call(root, "score")
        assert result.exit_code == 0
        assert "Waiting: 2 (there is no key)\n" in result.stdout
        assert result.stderr.startswith("Set ANTHROPIC_API_KEY to a key")

    def test_a_wrong_key_fails_with_a_remedy(self, root: Path, api: AnthropicApi) -> None:
        result = call(root, "score", env=env(api, ANTHROPIC_API_KEY="sk-ant-wrong"))
        assert result.exit_code == 1
        assert "401" in result.stderr
        assert "sk-ant-wrong" not in result.output
        last = json.loads(call(root, "status", "--json").stdout)["last_runs"]["scoring"]
        assert last["result"] == "failed"


class TestAgain:
    @pytest.fixture
    def aside(self, root: Path) -> Path:
        """A ROOT whose judge could not score anything: both tasks were set aside."""
        refusal = Refusal("", "invalid", "no judgement", None, None, retryable=False)
        with Desk(root, lambda: ScriptedJudge(lambda _: refusal)) as desk:
            assert desk.score()["set_aside"] == 2
        return root

    def test_what_was_set_aside_is_judged_when_a_person_asks(self, aside: Path, api: AnthropicApi) -> None:
        """Nothing else tries it any more, and where its cause is mended nobody has to score it by hand."""
        assert json.loads(call(aside, "score", "--json", env=env(api)).stdout)["sent"] == 0
        (check,) = doctor(aside, ANTHROPIC_API_KEY=KEY)
        assert (
            check["remedy"].replace(f" --root {aside}", "").startswith("Try them anew: cortex-autolearn score --again;")
        )
        counts = json.loads(call(aside, "score", "--again", "--json", env=env(api)).stdout)
        assert (counts["chosen"], counts["sent"], counts["scored"]) == (2, 2, 2)
        assert judge_status(aside)["set_aside"] == {}
        counts = json.loads(call(aside, "score", "--again", "--json", env=env(api)).stdout)
        assert (counts["chosen"], counts["sent"]) == (0, 0)

    def test_of_tasks_that_are_named_no_other_one_is(self, aside: Path, api: AnthropicApi) -> None:
        assert "Scored: 1\n" in call(aside, "score", "--again", "two", env=env(api)).stdout
        with Desk(aside) as desk:
            assert list(desk.scores()) == ["two"]
            assert desk.queue() == {"one": ("set_aside", 1, "invalid: no judgement")}

    def test_no_more_are_tried_anew_than_a_person_limits_it_to(self, aside: Path, api: AnthropicApi) -> None:
        """Not by the daemon either, afterwards: who tries one first pays for one."""
        assert json.loads(call(aside, "score", "--again", "--limit", "1", "--json", env=env(api)).stdout)["sent"] == 1
        assert json.loads(call(aside, "score", "--json", env=env(api)).stdout)["sent"] == 0
        with Desk(aside) as desk:
            assert list(desk.scores()) == ["one"]
            assert desk.queue() == {"two": ("set_aside", 1, "invalid: no judgement")}

    def test_it_has_all_its_attempts_anew(self, aside: Path) -> None:
        """Whether it was refused once or as often as is tried."""
        assert "Waiting: 2 (there is no key)\n" in call(aside, "score", "--again").stdout
        with Desk(aside) as desk:
            assert desk.queue() == {"one": ("waiting", 0, ""), "two": ("waiting", 0, "")}

    def test_a_dry_run_says_what_it_would_cost(self, aside: Path, api: AnthropicApi) -> None:
        """And moves nothing."""
        assert json.loads(call(aside, "score", "--dry-run", "--json", env=env(api)).stdout)["tasks"] == 0
        found = json.loads(call(aside, "score", "--dry-run", "--again", "--json", env=env(api)).stdout)
        assert (found["waiting"], found["tasks"], found["held"]) == (2, 2, "")
        one = json.loads(call(aside, "score", "--dry-run", "--again", "one", "--json", env=env(api)).stdout)
        assert one["tasks"] == 1
        assert 0 < one["most_cost_usd"] < found["most_cost_usd"]
        assert sum(judge_status(aside)["set_aside"].values()) == 2

    def test_what_a_person_scored_is_settled(self, aside: Path, api: AnthropicApi) -> None:
        """It costs nothing more."""
        call(aside, "label", "two", "3")
        assert json.loads(call(aside, "score", "--again", "--json", env=env(api)).stdout)["sent"] == 1

    @pytest.mark.parametrize("args", [("--again", "scored"), ("--again", "one", "on"), ("one",)])
    def test_a_task_that_was_not_set_aside_is_wrong_usage(self, aside: Path, api: AnthropicApi, args: Any) -> None:
        """Nothing is done, and those that were are named."""
        result = call(aside, "score", *args, env=env(api))
        assert result.exit_code == 2
        assert "There are: one, two." in result.stderr or "goes with --again only" in result.stderr
        assert sum(judge_status(aside)["set_aside"].values()) == 2


class TestLabel:
    def test_records_a_persons_score(self, root: Path) -> None:
        result = call(root, "label", "two", "4.5", "--note", "it was checked")
        assert (result.exit_code, result.stdout) == (0, f"two: 4.5, by {getpass.getuser()}\n")
        assert call(root, "collect").stdout.startswith("Total tasks processed: 1\nHigh-quality tasks: 1\n")

    def test_is_no_score_of_the_tasks_own(self, root: Path) -> None:
        """Status says whose scores it counts: a task that a person scored has none of its own still."""
        call(root, "label", "two", "5")
        said = call(root, "status").stdout
        assert "Tasks completed:     3 (1 with a quality score of their own)\n" in said
        assert "Scored:              0 by the judge, 1 by people\n" in said

    def test_a_task_that_nobody_knows_yet(self, root: Path) -> None:
        result = call(root, "label", "later", "3")
        assert result.exit_code == 0
        assert result.stderr == "No record of this task was seen yet: the score waits for it.\n"

    def test_makes_no_task_more_that_waits(self, root: Path) -> None:
        """A task that nobody decided about yet is one, labelled or not; a score without a task waits for no rule."""

        def waiting() -> int:
            return int(json.loads(call(root, "status", "--json").stdout)["tasks"]["waiting_for_collection"])

        call(root, "collect")
        with Desk(root) as desk:
            desk.put("b.jsonl", good("new"))
        call(root, "medallion")
        assert waiting() == 1
        for task_id in ("new", "never seen"):
            call(root, "label", task_id, "5")
        assert waiting() == 1
        call(root, "label", "two", "5")
        assert waiting() == 2
        assert json.loads(call(root, "collect", "--json").stdout)["processed"] == 2
        assert waiting() == 0

    @pytest.mark.parametrize("mark", ["0.5", "5.1", "nan", "good", "inf"])
    def test_a_score_is_from_1_to_5(self, root: Path, mark: str) -> None:
        assert call(root, "label", "two", mark).exit_code == 2

    def test_as_json(self, root: Path) -> None:
        found = json.loads(call(root, "label", "two", "2", "--json").stdout)
        assert found == {"task_id": "two", "score": 2.0, "note": "", "by": getpass.getuser(), "is_known": True}


class TestCalibrate:
    def fill(self, root: Path, count: int) -> None:
        with Desk(root, ScriptedJudge) as desk:
            desk.put("b.jsonl", *[unscored(f"c{number}") for number in range(count)])
            desk.settle()
            with desk.store.read() as reading:
                rows = reading.connection.execute(
                    "SELECT task_id, source, source_offset FROM tasks WHERE task_id LIKE 'c%'"
                ).fetchall()
            with desk.store.write() as transaction:
                for number, (task_id, source, offset) in enumerate(rows):
                    mark = 1 + number % 5
                    transaction.put_score(
                        Score(task_id, mark, 1, 1, 1, 1, "", "m", "m", "v1", 0, None, 0, source, offset, b"")
                    )
                    transaction.put_label(Label(task_id, max(1, mark - 1), "", "me", 0))

    def test_too_few_pairs_are_said_to_be_too_few(self, root: Path) -> None:
        self.fill(root, 10)
        result = call(root, "judge", "calibrate")
        assert result.stdout == (
            "The judge and people's labels:\n"
            "                   PAIRS  JUDGE HIGHER BY  SPEARMAN  KAPPA\n"
            "  all masters      10     too few\n"
            "  security-master  10     too few\n"
            "  Too few to say anything: it takes 30 pairs, so 20 pairs more.\n"
            "\n"
            "The judge and the tasks' own scores:\n"
            "               PAIRS  JUDGE HIGHER BY  SPEARMAN  KAPPA\n"
            "  all masters  0      too few\n"
            "  Too few to say anything: it takes 30 pairs, so 30 pairs more.\n"
        )

    def test_enough_pairs_are_compared(self, root: Path) -> None:
        self.fill(root, 40)
        result = call(root, "judge", "calibrate")
        assert result.stdout.startswith(
            "The judge and people's labels:\n"
            "                   PAIRS  JUDGE HIGHER BY  SPEARMAN  KAPPA\n"
            "  all masters      40     +0.80            0.97      0.80\n"
            "  security-master  40     +0.80            0.97      0.80\n"
            "\n"
            "  judge \\ other  1  2  3  4  5\n"
            "  1              8  0  0  0  0\n"
            "  2              8  0  0  0  0\n"
            "  3              0  8  0  0  0\n"
            "  4              0  0  8  0  0\n"
            "  5              0  0  0  8  0\n"
        )
        found = json.loads(call(root, "judge", "calibrate", "--json").stdout)
        assert [(one["master"], one["pairs"], one["enough"]) for one in found["person"]] == [
            ("all masters", 40, True),
            ("security-master", 40, True),
        ]
        assert found["task"] == [{"master": "all masters", "pairs": 0, "enough": False}]

    def test_tasks_that_others_scored_are_judged_on_request(self, root: Path, api: AnthropicApi) -> None:
        """The judge's score of them changes nothing but the comparison."""
        counts = json.loads(call(root, "score", "--calibrate", "5", "--json", env=env(api)).stdout)
        assert counts["scored"] == 3
        found = json.loads(call(root, "judge", "calibrate", "--json").stdout)
        assert found["task"][0]["pairs"] == 1
        assert call(root, "collect").stdout.startswith("Total tasks processed: 3\nHigh-quality tasks: 1\n")


class TestStatusAndDoctor:
    def test_without_a_key_they_say_how_many_wait(self, root: Path) -> None:
        found = judge_status(root)
        assert (found["waiting_for_score"], found["has_key"], found["enabled"]) == (2, False, True)
        assert "Lack only a score:   2 tasks (no judge: there is no ANTHROPIC_API_KEY)\n" in call(root, "status").stdout
        (check,) = doctor(root)
        assert check["verdict"] == "warn"
        assert check["found"] == "2 tasks lack only a quality score; there is no key"
        assert "label TASK_ID SCORE" in check["remedy"]

    def test_who_has_no_key_sees_that_the_daemon_has_one(self, root: Path, api: AnthropicApi) -> None:
        """By its last run: status and doctor may be called by anybody."""
        call(root, "score", "--limit", "1", env=env(api))
        assert judge_status(root)["has_key"] is True
        assert [check["verdict"] for check in doctor(root)] == ["ok"]
        call(root, "score")
        assert judge_status(root)["has_key"] is False

    def test_disabled_they_say_so(self, root: Path) -> None:
        (check,) = doctor(root, "--set", "judge.enabled=false", ANTHROPIC_API_KEY=KEY)
        assert check["found"] == "2 tasks lack only a quality score; judge.enabled is false"
        text = call(root, "status", "--set", "judge.enabled=false").stdout
        assert "Lack only a score:   2 tasks (judge.enabled is false)\n" in text

    def test_costs_are_shown(self, root: Path, api: AnthropicApi) -> None:
        call(root, "score", env=env(api))
        found = judge_status(root, ANTHROPIC_API_KEY=KEY)
        assert (found["scored"], found["waiting_for_score"], found["model_state"]) == (2, 0, "active")
        assert found["spent_usd"]["today"] == found["spent_usd"]["month"] == found["spent_usd"]["total"] > 0
        assert found["budget_usd"] == {"daily": 0.2, "monthly": 2.0}
        text = call(root, "status", env={"ANTHROPIC_API_KEY": KEY}).stdout
        assert re.search(r"Spent on scores:     0\.000\d of 0\.20 USD today, 0\.000\d of 2\.00 USD this month\n", text)
        (check,) = doctor(root, ANTHROPIC_API_KEY=KEY)
        assert check["verdict"] == "ok"

    def test_a_reached_budget_is_a_warning(self, root: Path, api: AnthropicApi) -> None:
        call(root, "score", "--set", "judge.daily_usd=0", env=env(api))
        (check,) = doctor(root, "--set", "judge.daily_usd=0", ANTHROPIC_API_KEY=KEY)
        assert check["verdict"] == "warn"
        assert "is reached (0.00 USD); 2 tasks lack only a quality score" in check["found"]

    def test_a_retired_model_fails_and_a_deprecated_one_warns(self, root: Path, api: AnthropicApi) -> None:
        """By what was last read: a doctor asks nobody."""
        model = ("--set", "judge.model=claude-3-haiku-20240307")
        assert call(root, "score", *model, env=env(api)).exit_code == 1
        checks = doctor(root, *model, ANTHROPIC_API_KEY=KEY)
        assert ["fail", "fail", "ok"] == [check["verdict"] for check in checks]
        assert "no price is known" in checks[0]["found"]
        assert checks[1]["found"] == "claude-3-haiku-20240307 is retired: nothing is scored"
        with Desk(root) as desk, desk.store.write() as transaction:
            note: dict[str, object] = {
                "model": "claude-haiku-5-5",
                "state": "deprecated",
                "retires_on": "2027-10-07",
                "lacks": [],
            }
            transaction.set_judge_note("model", note)
        (check, _) = doctor(root, ANTHROPIC_API_KEY=KEY)
        assert (check["verdict"], check["remedy"]) == ("warn", "Set judge.model to a current one")
        assert check["found"] == "claude-haiku-5-5 is deprecated and retires on 2027-10-07"

    def test_what_is_no_rubric_is_told_of_before_a_run_fails(self, root: Path, api: AnthropicApi) -> None:
        """By the doctor with the name of the setting, and by the run that ends there, in a message and no traceback."""
        entry = '[[judge.rubrics]]\nmaster = "security-master"\nfile = "coordination"\n'
        (root / "cortex-autolearn.toml").write_text(entry)
        (check, _) = doctor(root, ANTHROPIC_API_KEY=KEY)
        assert check["verdict"] == "fail"
        assert check["found"] == f"'{root / 'coordination'}': it is a folder: nothing is scored"
        assert check["remedy"].startswith("Let judge.rubrics[0].file name a text of at most 262,144 bytes")
        result = call(root, "score", env=env(api))
        assert result.exit_code == 1
        assert "it is a folder. Let judge.rubrics[0].file name a text" in result.stderr
        assert "Traceback" not in result.output

    def test_what_is_too_dear_for_a_whole_budget_is_told_of(self, root: Path, api: AnthropicApi) -> None:
        """It keeps nothing back, and no budget is reached: nobody would know why it is not scored."""
        with Desk(root) as desk:
            desk.put("b.jsonl", unscored("dear", output="<" * 300_000))
            desk.settle()
        settings = "[judge]\ndaily_usd = 0.05\nmax_text_chars = 400_000\n"
        (root / "cortex-autolearn.toml").write_text(settings)
        call(root, "score", env=env(api))
        (check,) = doctor(root, ANTHROPIC_API_KEY=KEY)
        assert (check["verdict"], "more than a whole budget" in check["found"]) == ("warn", True)
        (root / "cortex-autolearn.toml").write_text(settings.replace("0.05", "9"))
        call(root, "score", env=env(api))
        assert [check["verdict"] for check in doctor(root, ANTHROPIC_API_KEY=KEY)] == ["ok"]

    def test_what_was_set_aside_is_told_of(self, root: Path, api: AnthropicApi) -> None:
        with Desk(root) as desk:
            desk.put("b.jsonl", unscored("odd", output="[[refusal]] The judge will not say a word about this"))
            desk.settle()
        call(root, "score", env=env(api))
        (check,) = doctor(root, ANTHROPIC_API_KEY=KEY)
        assert check["verdict"] == "warn"
        assert check["found"].startswith("1 task set aside, mostly: invalid: the model declined")
        assert "(1 set aside)" in call(root, "status", env={"ANTHROPIC_API_KEY": KEY}).stdout

    def test_what_was_set_aside_is_named_and_a_person_can_settle_it(self, root: Path, api: AnthropicApi) -> None:
        """Whoever does as the doctor says is not told the same for ever."""
        with Desk(root) as desk:
            desk.put("b.jsonl", unscored("odd", output="[[refusal]] The judge will not say a word about this"))
            desk.settle()
        call(root, "score", env=env(api))
        (check,) = doctor(root, ANTHROPIC_API_KEY=KEY)
        assert check["found"].endswith("such as odd")
        call(root, "label", "odd", "3")
        assert [check["verdict"] for check in doctor(root, ANTHROPIC_API_KEY=KEY)] == ["ok"]
        assert judge_status(root)["set_aside"] == {}

    def test_what_a_person_scored_before_is_not_told_of(self, root: Path) -> None:
        """A task may be set aside when its label is there already: it was on its way to the judge, or is calibrated with."""
        with Desk(root) as desk, desk.store.write() as transaction:
            transaction.enqueue([("odd", 0, 1)])
            transaction.put_label(Label("odd", 3.0, "", "ann", 1))
            (item,) = transaction.waiting_items(0, 1)
            transaction.set_aside(item.id, 0, 1, "invalid")
        assert judge_status(root)["set_aside"] == {}

    def test_of_many_reasons_the_commonest_are_told(self, root: Path) -> None:
        """A reason may name a number that is another one for each task: status, and who scrapes it, take no harm."""
        with Desk(root) as desk, desk.store.write() as transaction:
            transaction.enqueue([(f"task-{number}", 0, number) for number in range(300)])
            for item in transaction.waiting_items(0, 300):
                transaction.set_aside(item.id, 0, item.id, f"too_large: {max(0, item.id - 100)} tokens")
        found = judge_status(root)["set_aside"]
        assert len(found) <= 21
        assert sum(found.values()) == 300
        assert next(iter(found.items())) == ("too_large: 0 tokens", 100)
