"""The quality rule: every reason, both sides of every limit, and that the first reason wins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_autolearn.collect import gate
from cortex_autolearn.model.policy import GatePolicy

POLICY = GatePolicy()


@dataclass(frozen=True)
class Facts:
    """A task that passes."""

    status: str | None = "completed"
    output_chars: int = 100
    errored: int = 0
    retries: int = 0
    quality: float | None = 4.5
    duration: float | None = 30


# The order of FORMATS ("High-quality outcome"), and for each reason facts to which it applies.
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("Not successful", {"status": "failed"}),
    ("No output", {"output_chars": 19}),
    ("Has errors", {"errored": 1}),
    ("Has retries", {"retries": 1}),
    ("No quality score", {"quality": None}),
    ("Quality score too low", {"quality": 3.99}),
    ("Too fast (trivial)", {"duration": 9.99}),
    ("Too slow (timeout)", {"duration": 600.01}),
    ("Duration unknown", {"duration": None}),
]


def test_a_good_outcome_is_kept() -> None:
    """An outcome to which no reason applies is kept."""
    assert gate.verdict(Facts(), POLICY) == gate.KEPT
    assert gate.KEPT not in gate.REASONS


def test_the_reasons_are_cortexs_own_words_in_their_order() -> None:
    """Operators know these words, and other programs look for them."""
    assert gate.REASONS == tuple(reason for reason, _ in FAULTS)


@pytest.mark.parametrize(("reason", "fault"), FAULTS)
def test_every_reason_applies_by_itself(reason: str, fault: dict[str, Any]) -> None:
    """One fault is enough, and it is called by its name."""
    assert gate.verdict(replace(Facts(), **fault), POLICY) == reason


@pytest.mark.parametrize(
    ("first", "second"), [pair for pair in combinations(FAULTS, 2) if not pair[0][1].keys() & pair[1][1].keys()]
)
def test_the_first_reason_wins(first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]) -> None:
    """Of two reasons the one that stands first in the list is told."""
    assert gate.verdict(replace(Facts(), **second[1], **first[1]), POLICY) == first[0]


@pytest.mark.parametrize("status", ["failed", "cancelled", "pending", "Completed", "success", "", None])
def test_only_completed_is_successful(status: str | None) -> None:
    """The words of the fleet are unified before; here only one counts."""
    assert gate.verdict(Facts(status=status), POLICY) == "Not successful"


def test_a_status_counts_by_what_it_says() -> None:
    """Read from a file it is another object than the constant."""
    assert gate.verdict(Facts(status="".join(["comp", "leted"])), POLICY) == gate.KEPT


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Facts(output_chars=0), "No output"),
        (Facts(output_chars=19), "No output"),
        (Facts(output_chars=20), "kept"),
        (Facts(retries=0), "kept"),
        (Facts(retries=1), "Has retries"),
        (Facts(quality=3.99), "Quality score too low"),
        (Facts(quality=3.9999999999), "Quality score too low"),
        (Facts(quality=4.0), "kept"),
        (Facts(quality=4), "kept"),
        (Facts(quality=5), "kept"),
        (Facts(quality=1), "Quality score too low"),
        (Facts(duration=0), "Too fast (trivial)"),
        (Facts(duration=9.99), "Too fast (trivial)"),
        (Facts(duration=10), "kept"),
        (Facts(duration=600), "kept"),
        (Facts(duration=600.01), "Too slow (timeout)"),
        (Facts(duration=1e14), "Too slow (timeout)"),
    ],
)
def test_the_limits_themselves_are_inside(facts: Facts, verdict: str) -> None:
    """20 characters, 4.0, 10 s and 600 s pass; the least bit beyond does not."""
    assert gate.verdict(facts, POLICY) == verdict


def test_the_limits_are_those_of_the_policy() -> None:
    """An operator may move every limit."""
    policy = GatePolicy(min_quality=2, min_duration_s=1, max_duration_s=5, min_output_chars=3)
    assert gate.verdict(Facts(quality=2, duration=1, output_chars=3), policy) == "kept"
    assert gate.verdict(Facts(quality=1.9, duration=1, output_chars=3), policy) == "Quality score too low"
    assert gate.verdict(Facts(quality=2, duration=0.9), policy) == "Too fast (trivial)"
    assert gate.verdict(Facts(quality=2, duration=5.1), policy) == "Too slow (timeout)"
    assert gate.verdict(Facts(quality=2, duration=2, output_chars=2), policy) == "No output"


@given(
    st.builds(
        Facts,
        st.sampled_from(["completed", "failed", "cancelled", None]),
        st.integers(0, 100),
        st.integers(0, 1),
        st.integers(0, 3),
        st.none() | st.floats(1, 5),
        st.none() | st.floats(0, 2_000),
    )
)
def test_exactly_what_has_no_fault_is_kept(facts: Facts) -> None:
    """For any facts the verdict is the first fault in the list of FORMATS, or there is none and it is kept."""
    quality, duration = facts.quality, facts.duration
    faults = [
        facts.status != "completed",
        facts.output_chars < 20,
        facts.errored != 0,
        facts.retries > 0,
        quality is None,
        quality is not None and quality < 4,
        duration is not None and duration < 10,
        duration is not None and duration > 600,
        duration is None,
    ]
    expected = next((reason for (reason, _), applies in zip(FAULTS, faults, strict=True) if applies), "kept")
    assert gate.verdict(facts, POLICY) == expected
