"""Training or validation: the same for ever, whoever computes it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_autolearn.collect.split import split_of

# The first eight digits of what `printf %s ID | sha256sum` prints, in decimal, and the last two of those decide.
KNOWN = [
    ("task-001", "3ff4abb6", 1072999350, "training"),
    ("sec-42", "e1a61e10", 3785760272, "training"),
    ("Grüße", "f83e0397", 4164813719, "training"),
    ("task-9", "e34d3152", 3813486930, "training"),
    ("val-4", "92b3044e", 2461205582, "validation"),
]


@pytest.mark.parametrize(("task_id", "digits", "number", "split"), KNOWN)
def test_known_ids_go_where_they_always_went(task_id: str, digits: str, number: int, split: str) -> None:
    """These five were worked out by hand: a change of the rule would move what was collected."""
    assert int(digits, 16) == number
    assert split_of(task_id) == split == ("training" if number % 100 < 80 else "validation")


@pytest.mark.parametrize("task_id", ["task-001", "task 2", "ÄÖÜ", "日本語", "🍏", "x" * 10_000, "a'b\"c$d"])
def test_a_shell_computes_the_same(task_id: str) -> None:
    """The rule can be followed with the tools of any machine: sha256sum and arithmetic."""
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    script = 'h=$(printf %s "$1" | sha256sum); echo $((0x${h%"${h#????????}"} % 100))'
    found = subprocess.run(["bash", "-c", script, "-", task_id], capture_output=True, text=True, check=True)
    assert split_of(task_id) == ("training" if int(found.stdout) < 80 else "validation")


@given(st.text(min_size=1), st.integers(1, 99))
def test_the_split_follows_from_the_sha256_of_the_id(task_id: str, percent: int) -> None:
    """``int(sha256(task_id).hexdigest()[:8], 16) % 100``, below the share for training."""
    task_id = task_id.encode("utf-8", "ignore").decode()
    bucket = int(hashlib.sha256(task_id.encode()).hexdigest()[:8], 16) % 100
    assert split_of(task_id, percent) == ("training" if bucket < percent else "validation")


def test_four_of_five_go_to_training() -> None:
    """Over many ids the shares are 80 and 20, to a percent."""
    share = sum(split_of(f"task-{number}") == "training" for number in range(40_000)) / 40_000
    assert share == pytest.approx(0.8, abs=0.01)


def test_the_split_is_independent_of_the_arm_of_an_ab_test() -> None:
    """Arms are assigned by MD5; within either arm the share of training is the same."""
    arms: dict[bool, list[bool]] = {True: [], False: []}
    for number in range(40_000):
        task_id = f"task-{number}"
        arm = int(hashlib.md5(task_id.encode(), usedforsecurity=False).hexdigest()[:8], 16) % 100 < 50
        arms[arm].append(split_of(task_id) == "training")
    shares = [sum(arm) / len(arm) for arm in arms.values()]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
