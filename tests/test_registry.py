"""What may follow what for a master's models, and at whose word."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_autolearn.rollout.registry import (
    TRANSITIONS,
    Actor,
    Phase,
    Refused,
    Serving,
    Step,
    Unchanged,
    Verb,
    follow,
)

M = "security-master"
STEADY = Serving(M, "v1.0.0")
DEPLOYING = Serving(M, "v1.0.0", "deploying", "ft-1")
TESTING = Serving(M, "v1.0.0", "testing", "ft-1", "t")
PAUSED = TESTING._replace(phase="paused")
WATCHING = Serving(M, "ft-1", "watching", "v1.0.0", "t-watch")


@pytest.mark.parametrize(
    ("before", "step", "after"),
    [
        (STEADY, Step("deploy", "daemon", model="ft-1"), DEPLOYING),
        (DEPLOYING, Step("start", "daemon", test_id="t"), TESTING),
        (DEPLOYING, Step("fail", "daemon"), STEADY),
        (DEPLOYING, Step("abort", "person"), STEADY),
        (TESTING, Step("promote", "daemon", test_id="t-watch"), WATCHING),
        (TESTING, Step("roll_back", "daemon"), STEADY),
        (TESTING, Step("retire", "daemon"), STEADY),
        (TESTING, Step("conclude", "daemon"), STEADY),
        (TESTING, Step("abort", "person"), STEADY),
        (TESTING, Step("pause", "person"), PAUSED),
        (PAUSED, Step("resume", "person"), TESTING),
        (PAUSED, Step("promote", "person", test_id="t-watch"), WATCHING),
        (WATCHING, Step("revert", "daemon"), STEADY),
        (WATCHING, Step("settle", "daemon"), Serving(M, "ft-1")),
    ],
)
def test_life(before: Serving, step: Step, after: Serving) -> None:
    """Each step leads from one phase to the next, and leaves the champion and challenger that it says."""
    assert follow(before, step) == after


@pytest.mark.parametrize(
    ("serving", "step", "words"),
    [
        (TESTING, Step("deploy", "person", model="ft-2"), "cannot deploy for security-master: a test runs (ft-1)"),
        (WATCHING, Step("deploy", "daemon", model="ft-2"), "a promoted model is being watched"),
        (STEADY, Step("promote", "person"), "cannot promote for security-master: no model is tested"),
        (STEADY, Step("roll_back", "daemon"), "cannot roll back"),
        (TESTING, Step("pause", "daemon"), "that is a person's to decide"),
        (TESTING, Step("retire", "person"), "that is the daemon's to decide"),
        (PAUSED, Step("promote", "daemon"), "that is a person's to decide"),
        (STEADY, Step("deploy", "person", model="v1.0.0"), "it is the champion already"),
        (STEADY, Step("restore", "person", model="v0"), "its former champions are v0.9"),
    ],
)
def test_refused(serving: Serving, step: Step, words: str) -> None:
    """What may not follow is refused, and the reason says what stands in the way."""
    found = follow(serving, step, known=frozenset({"v0.9"}))
    assert isinstance(found, Refused)
    assert words in found.reason


@pytest.mark.parametrize(
    ("serving", "step"),
    [
        (DEPLOYING, Step("deploy", "person", model="ft-1")),
        (TESTING, Step("deploy", "person", model="ft-1")),
        (WATCHING, Step("promote", "person", model="ft-1")),
        (PAUSED, Step("pause", "person")),
        (TESTING, Step("resume", "person")),
        (STEADY, Step("restore", "person", model="v1.0.0")),
    ],
)
def test_repeated(serving: Serving, step: Step) -> None:
    """A step that was taken already is no error, and changes nothing."""
    assert isinstance(follow(serving, step), Unchanged)


def test_restore() -> None:
    """A former champion can be brought back by a person."""
    found = follow(Serving(M, "ft-1"), Step("restore", "person", model="v1.0.0"), known=frozenset({"v1.0.0"}))
    assert found == STEADY


steps = st.builds(
    Step,
    st.sampled_from(get_args(Verb)),
    st.sampled_from(get_args(Actor)),
    st.sampled_from(["v1.0.0", "ft-1", "ft-2"]),
    st.just("t"),
)


@given(st.lists(steps, max_size=40))
def test_always_served(walk: list[Step]) -> None:
    """Whatever is tried in whatever order: there is a champion, and a challenger exactly while the phase needs one."""
    serving, former = STEADY, set[str]()
    for step in walk:
        after = follow(serving, step, known=frozenset(former))
        if isinstance(after, Serving):
            assert (serving.phase, step.verb) in TRANSITIONS
            former.add(serving.champion)
            serving = after
        assert serving.champion
        assert (serving.challenger is None) == (serving.phase == "steady")
        assert (serving.test_id is None) == (serving.phase in {"steady", "deploying"})
        assert serving.challenger != serving.champion


def test_every_phase_can_end() -> None:
    """From every phase a person alone can come back to a plain champion."""
    for phase in get_args(Phase):
        assert phase == "steady" or any(
            begin == phase and end == "steady" and "person" in actors
            for (begin, _), (end, actors) in TRANSITIONS.items()
        )
