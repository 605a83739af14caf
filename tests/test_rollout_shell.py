"""Cortex's shell library beside rollout: a script with jq and md5sum reads our test files and writes what we read."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from rollout_support import MASTER, MODEL, USUAL, Town, town

from cortex_autolearn.assignment import variant
from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEST = f"{MASTER}-{MODEL}"

SCRIPT = r"""
set -euo pipefail
tests="$1/coordination/ab-tests"; test_id="$2"; shift 2
file="$tests/$test_id.json"

variant_of() {
  local split hash
  split=$(jq -r '.variants.a.traffic_percentage' "$file")
  hash=$(printf '%s' "$1" | md5sum | cut -c1-8)
  if [ $((16#$hash % 100)) -lt "$split" ]; then echo a; else echo b; fi
}

case "$1" in
  choose) for task in "${@:2}"; do variant_of "$task"; done ;;
  model)
    variant=$(variant_of "$2")
    jq -r --arg variant "$variant" '.variants[$variant].name' "$file" ;;
  record)
    mkdir -p "$tests/results"
    jq -n --arg test_id "$test_id" --arg task "$2" --arg variant "$(variant_of "$2")" --arg status "$3" \
      --argjson seconds "$4" --argjson quality "$5" --arg at "$6" \
      '{test_id: $test_id, task_id: $task, variant: $variant, status: $status, duration_seconds: $seconds,
        quality_score: $quality, timestamp: $at}' >> "$tests/results/$test_id-results.jsonl" ;;
  count)
    jq --arg variant "$2" '.metrics.tasks_assigned[$variant] += 1' "$file" > "$file.tmp"
    mv "$file.tmp" "$file" ;;
  stop)
    jq --arg winner "$2" --arg at "$3" '.status = "completed" | .winner = $winner | .completed_at = $at' \
      "$file" > "$file.tmp"
    mv "$file.tmp" "$file" ;;
esac
"""


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path, challenger_percentage=30) as made:
        made.skills[MODEL] = USUAL
        made.until(lambda: made.phase() == "testing", most=2)
        yield made


def shell(one: Town, *arguments: str) -> list[str]:
    """Run the script on the test, and return its lines."""
    bash = shutil.which("bash")
    if bash is None or shutil.which("jq") is None:
        pytest.skip("needs bash and jq, as Cortex's own scripts do; .ci/run installs them")
    command = [bash, "-c", SCRIPT, "cortex", str(one.root), TEST, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_the_shell_chooses_as_we_do(one: Town) -> None:
    """Split and hash lead to the same variant for every task, and to the version that serves it."""
    tasks = [f"task {number} ü" for number in range(40)]
    assert shell(one, "choose", *tasks) == [variant(task, 70) for task in tasks]
    assert {*shell(one, "model", tasks[0]), *shell(one, "model", tasks[1])} <= {"v1.0.0", MODEL}


def test_what_the_shell_appends_is_taken_in(one: Town) -> None:
    """Its pretty-printed results become outcomes of the variant that it chose."""
    before = one.file(TEST)["metrics"]["tasks_completed"]
    at = one.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    tasks = [f"shell-{number}" for number in range(12)]
    for task in tasks:
        shell(one, "record", task, "completed", "31", "4.4", at)
    assert (one.root / layout.results_file(TEST)).read_text().count("\n") > 5 * len(tasks)
    one.run()
    after = one.file(TEST)["metrics"]["tasks_completed"]
    chosen: list[str] = [variant(task, 70) for task in tasks]
    assert {name: after[name] - before[name] for name in "ab"} == {name: chosen.count(name) for name in "ab"}


def test_counters_of_the_shell_give_way_to_the_state(one: Town) -> None:
    """What it adds to the metrics in the file is ours to say, and comes back as the state has it."""
    before = one.file(TEST)
    shell(one, "count", "b")
    one.run()
    assert one.file(TEST) == before


@pytest.mark.parametrize(("winner", "phase"), [("a", "steady"), ("b", "watching")])
def test_a_stop_by_hand_is_honoured(one: Town, winner: str, phase: str) -> None:
    """Status and winner set with jq end the test that way, as a manual decision."""
    shell(one, "stop", winner, "2025-11-30T12:00:00Z")
    one.run()
    assert one.phase() == phase
    assert "manual_decision" in one.kinds()
    assert (one.file(TEST)["status"], one.file(TEST)["winner"]) == ("completed", winner)
