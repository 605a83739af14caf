"""What may follow what for a master's models, and at whose word."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_autolearn.model.experiments import Actor, AliasChange, Phase
from cortex_autolearn.rollout.registry import (
    TRANSITIONS,
    Refused,
    Serving,
    Step,
    Unchanged,
    Verb,
    champions,
    follow,
    former_champion,
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


@pytest.mark.parametrize(
    ("serving", "step"),
    [
        *((serving, Step("pause", "person")) for serving in (STEADY, DEPLOYING, WATCHING)),
        *((serving, Step("resume", "person")) for serving in (STEADY, DEPLOYING, WATCHING)),
        *((one, Step("restore", "person", model=one.champion)) for one in (DEPLOYING, TESTING, PAUSED, WATCHING)),
        (STEADY, Step("deploy", "person", model="v1.0.0")),
    ],
)
def test_what_was_not_done_is_no_repetition(serving: Serving, step: Step) -> None:
    """A step that only looks like one that was taken is refused, so that nobody believes it was."""
    assert isinstance(follow(serving, step), Refused)


def test_what_stands_is_told_to_whoever_repeats() -> None:
    """Who serves the master, and what goes on beside it."""
    assert follow(PAUSED, Step("pause", "person")) == Unchanged(
        "security-master is served by v1.0.0, and a test is paused (ft-1)"
    )
    assert follow(STEADY, Step("restore", "person", model="v1.0.0")) == Unchanged(
        "security-master is served by v1.0.0, and no model is tested"
    )


def test_a_refusal_names_the_step_as_people_say_it() -> None:
    """The step, the master, and what stands in the way."""
    assert follow(DEPLOYING, Step("roll_back", "person")) == Refused(
        "cannot roll back for security-master: a model is being deployed (ft-1)"
    )
    assert follow(STEADY, Step("restore", "person", model="v0")) == Refused(
        "cannot restore v0 for security-master: its former champions are none"
    )
    assert follow(STEADY, Step("restore", "person", model="v0"), known=frozenset({"v2", "v1"})) == Refused(
        "cannot restore v0 for security-master: its former champions are v1, v2"
    )
    assert follow(STEADY, Step("restore", "daemon", model="v0"), known=frozenset({"v0"})) == Refused(
        "cannot restore for security-master: that is a person's to decide"
    )


@pytest.mark.parametrize("model", ["a-9", "zz-1", "v1.0.0"])
@pytest.mark.parametrize("by", get_args(Actor))
@pytest.mark.parametrize("serving", [STEADY, DEPLOYING, TESTING, PAUSED, WATCHING])
def test_a_model_that_is_not_asked_for_changes_nothing(serving: Serving, by: Actor, model: str) -> None:
    """Only ``deploy``, ``promote`` and ``restore`` are about a model that the step names."""
    for verb in set(get_args(Verb)) - {"deploy", "promote", "restore"}:
        assert follow(serving, Step(verb, by, model, "t")) == follow(serving, Step(verb, by, None, "t"))


@pytest.mark.parametrize("name", ["a-9", "v1.0.0-2", "zz-1"])
def test_names_have_no_order(name: str) -> None:
    """Any other model may be deployed, promoted and restored, whatever it is called."""
    assert follow(STEADY, Step("deploy", "daemon", model=name)) == Serving(M, "v1.0.0", "deploying", name)
    tested = TESTING._replace(challenger=name)
    assert follow(tested, Step("promote", "person", name, "w")) == Serving(M, name, "watching", "v1.0.0", "w")
    assert follow(STEADY, Step("restore", "person", model=name), known=frozenset({name})) == Serving(M, name)
    other = tested._replace(phase="deploying", test_id=None)
    assert isinstance(follow(other, Step("deploy", "person", model=name + "x")), Refused)


def read_again(name: str) -> str:
    """Return the name as it comes from a command or the state: equal, and another object."""
    return "".join(list(name))


def test_a_name_counts_by_what_it_says() -> None:
    """Whether it was typed, or read from the state."""
    model, champion = read_again("ft-1"), read_again("v1.0.0")
    assert isinstance(follow(STEADY, Step("deploy", "person", model=champion)), Refused)
    assert isinstance(follow(DEPLOYING, Step("deploy", "person", model=model)), Unchanged)
    assert isinstance(follow(WATCHING, Step("promote", "person", model=model)), Unchanged)
    assert isinstance(follow(STEADY, Step("restore", "person", model=champion)), Unchanged)


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


def test_former_champions_are_told_by_the_history() -> None:
    """In their order, one that came back twice; the former one is the last that was another."""
    named = [
        ("champion", "v1"),
        ("challenger", "z"),
        ("champion", "ft-1"),
        ("a", "x"),
        ("champion", None),
        ("champion", "v1"),
    ]
    history = [AliasChange("m-master", *one, 0, "promote", "daemon", "", None) for one in named]
    assert champions(history) == ["v1", "ft-1", "v1"]
    assert former_champion(history, "v1") == "ft-1"
    assert former_champion(history, "".join(["ft", "-1"])) == "v1"
    assert former_champion([*history, history[2]], "".join(["ft", "-1"])) == "v1"
    assert former_champion(history[:2], "v1") is None
