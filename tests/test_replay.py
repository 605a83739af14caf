"""``replay``: recorded outcomes are decided about as if they arrived live."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cortex_autolearn.assignment import variant
from cortex_autolearn.cli import main
from cortex_autolearn.model.instants import us_to_text
from cortex_autolearn.model.rollout import Continue, Invalid, Outcome
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.rollout.baseline import Baseline
from cortex_autolearn.rollout.decide import decide
from cortex_autolearn.rollout.evidence import Evidence

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:click")

MODELS = ("--champion", "v1.0.0", "--challenger", "ft-20251127-001")
START_US = 1_764_000_000_000_000
MINUTE_US = 60_000_000


def call(*args: str | Path, cwd: Path | None = None) -> Result:
    cleared: dict[str, str | None] = {name: None for name in os.environ if name.startswith("CORTEX_")}
    return CliRunner().invoke(
        main, ["replay", *map(str, args)], env=cleared | {"CORTEX_HOME": str(cwd) if cwd else None}
    )


def answer(*args: str | Path) -> dict[str, Any]:
    result = call(*args, *MODELS, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def row(number: int, model: str, **changes: Any) -> dict[str, Any]:
    at_us = START_US + number * MINUTE_US
    good = {
        "task_id": f"task-{number}",
        "master": "security-master",
        "status": "completed",
        "quality_score": 4.1,
        "duration_seconds": 30,
        "created_at": us_to_text(at_us),
        "completed_at": us_to_text(at_us + 30_000_000),
        "model": model,
    }
    return good | changes


def pairs(
    count: int, completion: tuple[float, float], quality: tuple[float, float], seed: int = 1
) -> list[dict[str, Any]]:
    """Return each task twice: as the champion did it, and as the challenger did."""
    random, rows = Random(seed), []
    for number in range(count):
        for model, rate, mean in zip((MODELS[1], MODELS[3]), completion, quality, strict=True):
            done = random.random() < rate
            score = round(min(5.0, max(1.0, random.gauss(mean, 0.7))), 2) if done else None
            rows.append(row(number, model, status="completed" if done else "failed", quality_score=score))
    return rows


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    data = "".join(json.dumps(one) + "\n" for one in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


BETTER = ((0.925, 0.982), (4.1, 4.4))


def test_a_better_challenger_is_promoted(tmp_path: Path) -> None:
    """With the shape of FORMATS, the numbers as of the decision, and no ROOT anywhere near."""
    found = answer(write(tmp_path / "rows.jsonl", pairs(6_000, *BETTER)))
    assert found["decision"] == "promote"
    assert found["decided_after"]["challenger_tasks"] >= 100
    assert found["decided_after"]["tasks"] == sum(one["tasks"] for one in found["variants"].values()) < 6_000
    assert set(found["variants"]["a"]) >= {
        "name",
        "tasks",
        "completed",
        "completion_rate",
        "avg_quality",
        "avg_duration",
    }
    assert (found["variants"]["a"]["name"], found["variants"]["b"]["name"]) == (MODELS[1], MODELS[3])
    assert found["gain"]["quality"] > 0.2
    assert found["gain"]["completion_points"] > 5
    assert found["evidence"]["quality_up"] >= 100
    assert found["evidence"]["completion_up"] >= 100
    assert found["rows"] == {"counted": 6_000, "other_variant": 6_000}


@pytest.mark.parametrize(
    ("completion", "quality", "decision"),
    [
        ((0.925, 0.925), (4.1, 4.1), "retire"),
        ((0.925, 0.5), (4.1, 4.1), "rollback"),
        ((0.9, 0.9), (4.1, 4.6), "retire"),
    ],
)
def test_other_challengers_meet_their_fate(
    tmp_path: Path, completion: tuple[float, float], quality: tuple[float, float], decision: str
) -> None:
    """Equal: retired; worse: rolled back; better scored only: not promoted."""
    assert answer(write(tmp_path / "rows.jsonl", pairs(8_000, completion, quality)))["decision"] == decision


def test_it_is_the_decision_that_would_have_been_taken_live(tmp_path: Path) -> None:
    """The same outcomes, put into the evidence one by one as they came, end at the same task with the same numbers."""
    rows = pairs(6_000, *BETTER, seed=3)
    found = answer(write(tmp_path / "rows.jsonl", rows))
    policy = RolloutPolicy()
    ended: Any = None
    evidence = Evidence(Baseline(), policy)
    for one in rows:
        treated = one["model"] == MODELS[3]
        if (variant(one["task_id"], 90) == "b") != treated:
            continue
        begun_us = START_US + int(one["task_id"][5:]) * MINUTE_US
        done_us = begun_us + MINUTE_US // 2
        for _ in evidence.closing(done_us - 1):
            ended = ended or _ended(evidence, policy, done_us)
        evidence.observe(
            Outcome(
                one["task_id"],
                treated,
                0.1,
                begun_us,
                done_us,
                one["status"] == "completed",
                one["quality_score"],
                30.0,
            )
        )
        ended = ended or _ended(evidence, policy, done_us)
        if ended:
            break
    assert ended is not None
    assert ended.numbers.closed.treated.tasks == found["decided_after"]["challenger_tasks"]
    assert ended.numbers.closed.quality_gain == found["gain"]["quality"]


def _ended(evidence: Evidence, policy: RolloutPolicy, now_us: int) -> Any:
    decision = decide(evidence.numbers(), policy, elapsed_s=(now_us - START_US) / 1e6)
    return None if isinstance(decision, Continue | Invalid) else decision


def test_the_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    """Nor how the rows are spread over files, nor whether those are packed."""
    rows = pairs(3_000, *BETTER)
    expected = answer(write(tmp_path / "rows.jsonl", rows))
    Random(1).shuffle(rows)
    parts = [write(tmp_path / "one.jsonl", rows[:2_500]), write(tmp_path / "two.jsonl.gz", rows[2_500:])]
    assert answer(*parts) == expected


def test_without_times_the_order_is_that_of_the_hashes(tmp_path: Path) -> None:
    """One row that lacks its time is enough; all windows close at the end."""
    rows = pairs(6_000, *BETTER)
    del rows[17]["completed_at"], rows[17]["duration_seconds"]
    del rows[16]["completed_at"]
    found = answer(write(tmp_path / "rows.jsonl", rows))
    assert (found["order"], found["decision"]) == ("sha256", "promote")
    for one in rows:
        one.pop("completed_at", None)
    Random(4).shuffle(rows)
    assert answer(write(tmp_path / "rows.jsonl", rows))["decided_after"] == found["decided_after"]


def test_a_task_counts_once_and_by_its_assignment(tmp_path: Path) -> None:
    """Repeated rows, the other variant's, rows that are not final, of other models and masters: left out and counted."""
    to_b = next(number for number in range(1000) if variant(f"task-{number}", 90) == "b")
    to_a = next(number for number in range(1000) if variant(f"task-{number}", 90) == "a")
    rows = [
        row(to_b, MODELS[3]),
        row(to_b, MODELS[3], status="failed"),
        row(to_b, MODELS[1]),
        row(to_a, MODELS[1]),
        row(to_a, MODELS[3]),
        row(to_a, "another"),
        row(to_a, MODELS[1], status="running"),
        row(to_a, MODELS[1], status="skipped"),
        row(to_a, MODELS[1], master="cicd-master"),
        row(to_a, MODELS[1], task_id=""),
    ]
    found = answer(write(tmp_path / "rows.jsonl", rows), "--master", "security")
    left_out = {
        "cancelled": 1,
        "not_final": 1,
        "other_master": 1,
        "other_model": 1,
        "other_variant": 2,
        "repeated": 1,
        "unreadable": 1,
    }
    assert found["rows"] == {"counted": 2} | left_out
    assert found["decision"] == "continue"
    assert (found["variants"]["b"]["tasks"], found["variants"]["b"]["completed"]) == (1, 0)
    assert found["variants"]["a"]["completed"] == 1


def test_a_rescued_try_is_the_challengers_failure(tmp_path: Path) -> None:
    """The champion's row says that the challenger was tried."""
    to_b = next(number for number in range(1000) if variant(f"task-{number}", 90) == "b")
    rows = [row(to_b, MODELS[1], fallback_from=MODELS[3]), row(to_b + 1, MODELS[3]), row(to_b + 1, MODELS[1])]
    found = answer(write(tmp_path / "rows.jsonl", rows))["variants"]["b"]
    assert (found["tasks"], found["completed"]) == (1, 0)


@pytest.mark.parametrize(
    ("fields", "is_tried"),
    [
        ({"variant": "b"}, True),
        ({"variant": MODELS[3]}, True),
        ({"variant": "b", "experiment": f"security-master-{MODELS[3]}-2"}, True),
        ({"variant": "b", "experiment": "security-master-v1.0.0"}, False),
        ({"variant": "b", "experiment": f"security-master-{MODELS[3]}-watch"}, False),
        ({"variant": "a"}, False),
    ],
)
def test_a_variant_that_did_not_answer_was_tried(tmp_path: Path, fields: dict[str, str], is_tried: bool) -> None:
    """The champion's row names the challenger's variant, of a test of this challenger: the challenger failed."""
    to_b = next(number for number in range(1000) if variant(f"task-{number}", 90) == "b")
    rows = [row(to_b, MODELS[1], **fields), row(to_b + 1, MODELS[3]), row(to_b + 1, MODELS[1])]
    found = answer(write(tmp_path / "rows.jsonl", rows))["variants"]["b"]
    assert (found["tasks"], found["completed"]) == (int(is_tried), 0)


def test_windows_close_when_they_end_and_not_with_the_next_outcome(tmp_path: Path) -> None:
    """A challenger that had shown itself within two days is promoted, though the next task came 100 days later."""
    rows = pairs(6_000, *BETTER)
    before = answer(write(tmp_path / "rows.jsonl", rows), "--maturation", "1000000")
    assert before["decision"] == "promote"
    later_us = START_US + 100 * 1440 * MINUTE_US
    late = {"created_at": us_to_text(later_us), "completed_at": us_to_text(later_us)}
    rows += [row(7_000, model, **late) for model in (MODELS[1], MODELS[3])]
    assert answer(write(tmp_path / "rows.jsonl", rows), "--maturation", "1000000") == before | {
        "rows": {"counted": 6_001, "other_variant": 6_001}
    }


def test_our_own_silver_is_taken_by_its_reading(tmp_path: Path) -> None:
    """Where a row has our `canonical`, that counts; the record around it may say it in any words."""
    to_b = next(number for number in range(1000) if variant(f"task-{number}", 90) == "b")
    canonical: dict[str, Any] = {
        "task_id": f"task-{to_b}", "master": "security-master", "task_type": None, "input_field": None, "output_field": None,
        "status": "completed", "quality_score": 4.5, "created_at": None, "started_at": None, "completed_at": "2025-11-27T10:00:00Z",
        "duration_seconds": 9, "error": None, "retry_count": 0, "model": MODELS[3], "variant": None, "experiment": None,
        "fallback_from": None, "cost_usd": None, "flags": [],
    }  # fmt: skip
    rows = [{"id": "x", "layer": "silver", "canonical": canonical}, row(to_b + 1, MODELS[1]), row(to_b + 1, MODELS[3])]
    assert answer(write(tmp_path / "rows.jsonl", rows))["variants"]["b"]["avg_quality"] == 4.5
    for not_ours in ({"completed_at": "2025-11-27T10:00:00"}, {"task_id": ""}, {"flags": None}):
        rows[0] = row(to_b, MODELS[3], quality_score=2) | {"canonical": canonical | not_ours}
        assert answer(write(tmp_path / "rows.jsonl", rows))["variants"]["b"]["avg_quality"] == 2


def test_a_task_that_took_longer_than_its_window_failed(tmp_path: Path) -> None:
    """The window is the policy's, or --maturation."""
    slow = row(0, MODELS[1], completed_at=us_to_text(START_US + 7_200_000_000))
    path = write(tmp_path / "rows.jsonl", [slow, row(1, MODELS[3])])
    if variant("task-0", 90) == "b":
        pytest.fail("the first task must be the champion's")
    assert answer(path)["variants"]["a"]["completed"] == 1
    assert answer(path, "--maturation", "3600")["variants"]["a"]["completed"] == 0
    assert answer(path, "--maturation", "0")["variants"]["a"]["completed"] == 1


def test_another_policy_and_percentage(tmp_path: Path) -> None:
    """--policy names a file, --set a value, --percentage the share; a wrong policy ends with 78."""
    path = write(tmp_path / "rows.jsonl", pairs(3_000, *BETTER))
    policy = tmp_path / "other.toml"
    policy.write_text('[rollout]\npromotion_evidence = 1e9\nretire_early = false\nchallenger_percentage = "auto"\n')
    assert answer(path)["decision"] == "promote"
    assert answer(path, "--policy", policy)["decision"] == "continue"
    assert answer(path, "--set", "rollout.promotion_evidence=1e9")["decision"] == "continue"
    half = answer(path, "--percentage", "50")
    assert half["decided_after"]["challenger_tasks"] > 0.4 * half["decided_after"]["tasks"]
    policy.write_text("[rollout]\nmin_tasks = 0\n")
    assert call(path, *MODELS, "--policy", policy).exit_code == 78


def test_rows_split_otherwise_are_an_alarm(tmp_path: Path) -> None:
    """Half of all tasks done by the challenger, and tasks of the champion's that never show: invalid, and told why."""
    rows = [
        one
        for one in pairs(8_000, (0.925, 0.925), (4.1, 4.1))
        if one["model"] == MODELS[3] or int(one["task_id"][5:]) % 3 == 0
    ]
    found = answer(write(tmp_path / "rows.jsonl", rows))
    assert found["decision"] == "invalid"
    assert "split" in found["reasons"][0]


def test_an_unknown_model_is_told_with_those_found(tmp_path: Path) -> None:
    """Whoever mistypes a name sees the right one."""
    path = write(tmp_path / "rows.jsonl", pairs(5, *BETTER))
    result = call(path, "--champion", "v1.0.0", "--challenger", "ft-20251127-01")
    assert result.exit_code == 1
    assert "did you mean ft-20251127-001?" in result.stderr
    assert "Found are v1.0.0, ft-20251127-001" in result.stderr
    assert call(path, "--champion", "v9", "--challenger", "ft-2").exit_code == 1


def test_a_model_without_an_outcome_decides_nothing(tmp_path: Path) -> None:
    """However many the other one has; and it is said that there is none."""
    rows = [row(number, MODELS[1], quality_score=4.9) for number in range(100)]
    result = call(write(tmp_path / "rows.jsonl", rows), *MODELS, "--json")
    assert result.exit_code == 0
    assert "no row of --challenger ft-20251127-001: it has no outcome" in result.stderr
    found = json.loads(result.stdout)
    assert found["decision"] == "continue"
    assert found["variants"]["b"]["tasks"] == 0
    assert found["gain"] == {"quality": None, "completion_points": None}


def test_what_is_broken_is_told_with_its_line(tmp_path: Path) -> None:
    """The rest counts; a file that holds nothing else ends with 1."""
    path = tmp_path / "rows.jsonl.gz"
    good = [json.dumps(one) for one in pairs(2, *BETTER)]
    path.write_bytes(gzip.compress("\n".join([*good, '{"task_id": "x", "status": ]}', "what?"]).encode()))
    result = call(path, *MODELS, "--json")
    assert result.exit_code == 0
    assert f"{path} line 5: left out: " in result.stderr
    assert json.loads(result.stdout)["rows"]["unreadable"] == 2
    path.write_bytes(b"nothing\nof worth\n")
    result = call(path, *MODELS)
    assert result.exit_code == 1
    assert f"{path} line 1: not JSON" in result.stderr


@pytest.mark.parametrize("kind", ["missing", "folder", "cut", "empty"])
def test_a_file_that_cannot_be_read_ends_with_1(tmp_path: Path, kind: str) -> None:
    """In words, with the file's name."""
    path = tmp_path / "rows.jsonl.gz"
    match kind:
        case "folder":
            path.mkdir()
        case "cut":
            path.write_bytes(gzip.compress(b"{}" * 1000)[:-12])
        case "empty":
            path.write_bytes(b"")
    result = call(path, *MODELS)
    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert "bug" not in result.stderr


def test_what_is_printed_for_people(tmp_path: Path) -> None:
    """The decision, the reasons, both variants, and what was left out."""
    result = call(write(tmp_path / "rows.jsonl", pairs(6_000, *BETTER)), *MODELS)
    assert result.exit_code == 0
    assert result.stdout.startswith("Decision: promote, after ")
    for words in ("scored higher by", "points more", "ft-20251127-001", "Evidence: quality up", "6,000 other variant"):
        assert words in result.stdout


def test_the_same_model_twice_is_wrong_usage(tmp_path: Path) -> None:
    """There is nothing to compare."""
    assert call(tmp_path / "x", "--champion", "a", "--challenger", "a").exit_code == 2


def test_hostile_rows_break_nothing(tmp_path: Path) -> None:
    """Scores of 1e308, negative durations, strange names: they count as what they are, or not at all."""
    rows = pairs(300, *BETTER)
    for number, one in enumerate(rows):
        one["quality_score"] = (1e308, -1, 0, "5", None, 4.5)[number % 6]
        one["duration_seconds"] = (-5, 1e300, 0, "x", None, 20)[number % 6]
        one["task_id"] += "/../\u2028"
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    found = answer(path)
    assert found["decision"] in {"continue", "retire", "rollback"}
    assert all(1 <= one["avg_quality"] <= 5 for one in found["variants"].values() if one["avg_quality"] is not None)


@pytest.mark.parametrize(
    ("value", "code"), [("50", 0), ("auto", 0), ("0", 78), ("51", 78), ("half", 78), ("1.5", 78), ("", 78)]
)
def test_the_percentage_is_a_number_or_auto(tmp_path: Path, value: str, code: int) -> None:
    """In a flag as in a file; anything else is refused with what is allowed."""
    path = write(tmp_path / "rows.jsonl", pairs(50, *BETTER))
    result = call(path, *MODELS, "--set", f"rollout.challenger_percentage={value}")
    assert result.exit_code == code, result.output
    assert ('an integer from 1 to 50, or "auto"' in result.stderr) is (code != 0)
