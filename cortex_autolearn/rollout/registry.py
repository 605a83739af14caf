"""What may become of a master's models, and at whose word: the transition table, and what each step leaves behind.

A master is served by its champion. A challenger is deployed, tested beside it and then promoted, rolled back, retired
or given up; after a promotion the former champion keeps a share of the traffic while the new one is watched. Whether a
step is called for is ``decide``'s business, or a person's; what it does to files and endpoints is ``job``'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cortex_autolearn.model.experiments import Actor, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cortex_autolearn.model.experiments import AliasChange

Verb = Literal[
    "deploy",  # prepare a model to be this master's challenger
    "start",  # its endpoint is ready: it gets traffic from now on
    "fail",  # its endpoint cannot be had
    "promote",  # the challenger becomes champion, and is watched
    "roll_back",  # the challenger is worse: all traffic to the champion
    "retire",  # the challenger cannot become better enough any more
    "conclude",  # the test took its time and showed nothing
    "abort",  # the test is given up, whatever it showed
    "pause",  # all traffic to the champion for now
    "resume",  # the test goes on
    "revert",  # the promoted model is worse than it seemed: the former champion comes back
    "settle",  # the promoted model has stood the watch
    "restore",  # an earlier champion comes back
]

_BOTH: Final[frozenset[Actor]] = frozenset({"daemon", "person"})
_DAEMON: Final[frozenset[Actor]] = frozenset({"daemon"})
_PERSON: Final[frozenset[Actor]] = frozenset({"person"})

TRANSITIONS: Final[dict[tuple[Phase, Verb], tuple[Phase, frozenset[Actor]]]] = {
    ("steady", "deploy"): ("deploying", _BOTH),
    ("steady", "restore"): ("steady", _PERSON),
    ("deploying", "start"): ("testing", _DAEMON),
    ("deploying", "fail"): ("steady", _DAEMON),
    ("deploying", "abort"): ("steady", _PERSON),
    ("testing", "promote"): ("watching", _BOTH),
    ("testing", "roll_back"): ("steady", _BOTH),
    ("testing", "retire"): ("steady", _DAEMON),
    ("testing", "conclude"): ("steady", _DAEMON),
    ("testing", "abort"): ("steady", _PERSON),
    ("testing", "pause"): ("paused", _PERSON),
    ("paused", "resume"): ("testing", _PERSON),
    ("paused", "promote"): ("watching", _PERSON),
    ("paused", "roll_back"): ("steady", _PERSON),
    ("paused", "abort"): ("steady", _PERSON),
    ("watching", "revert"): ("steady", _BOTH),
    ("watching", "settle"): ("steady", _BOTH),
}
"""(phase, step) to the phase that follows, and who may take the step; whatever is not here is refused."""

_PHASE_WORDS: Final[dict[Phase, str]] = {
    "steady": "no model is tested",
    "deploying": "a model is being deployed",
    "testing": "a test runs",
    "paused": "a test is paused",
    "watching": "a promoted model is being watched",
}
_VERB_WORDS: Final[dict[Verb, str]] = {"roll_back": "roll back"}


class Serving(NamedTuple):
    """What serves a master.

    Arguments:
        master: its name.
        phase: where it stands.
        champion: the version that serves it.
        challenger: the version beside it: the one deployed, tested or paused; in a watch the former champion.
        test_id: the test or watch that runs, or is paused.
    """

    master: str
    champion: str
    phase: Phase = "steady"
    challenger: str | None = None
    test_id: str | None = None


class Step(NamedTuple):
    """A step that is to be taken: ``model`` for ``deploy`` and ``restore``, ``test_id`` for what begins a test."""

    verb: Verb
    by: Actor
    model: str | None = None
    test_id: str | None = None


class Refused(NamedTuple):
    """A step that may not be taken, and why, in words for whoever asked."""

    reason: str


class Unchanged(NamedTuple):
    """A step that was taken before: there is nothing to do."""

    reason: str


def follow(serving: Serving, step: Step, *, known: frozenset[str] = frozenset()) -> Serving | Refused | Unchanged:
    """Return what serves a master after a step, or why it may not be taken.

    Arguments:
        serving: what serves it now.
        step: the step.
        known: versions that may be restored: its former champions.
    """
    repeated = _repeated(serving, step)
    if repeated is not None:
        return repeated
    found = TRANSITIONS.get((serving.phase, step.verb))
    word = _VERB_WORDS.get(step.verb, step.verb)
    if found is None:
        return Refused(f"cannot {word} for {serving.master}: {_PHASE_WORDS[serving.phase]}{_of(serving)}")
    phase, actors = found
    if step.by not in actors:
        whose = "a person's" if step.by == "daemon" else "the daemon's"
        return Refused(f"cannot {word} for {serving.master}: that is {whose} to decide")
    if step.verb == "deploy" and step.model == serving.champion:
        return Refused(f"cannot deploy {step.model} for {serving.master}: it is the champion already")
    if step.verb == "restore" and step.model not in known:
        names = ", ".join(sorted(known)) or "none"
        return Refused(f"cannot restore {step.model} for {serving.master}: its former champions are {names}")
    return _after(serving, step, phase)


def _after(serving: Serving, step: Step, phase: Phase) -> Serving:
    champion, challenger = serving.champion, serving.challenger
    match step.verb:
        case "deploy":
            return Serving(serving.master, champion, phase, step.model)
        case "start":
            return serving._replace(phase=phase, test_id=step.test_id)
        case "promote":
            assert challenger is not None  # there is one in each phase that may be followed by this
            return Serving(serving.master, challenger, phase, champion, step.test_id)
        case "pause" | "resume":
            return serving._replace(phase=phase)
    last = {"revert": challenger, "restore": step.model}.get(step.verb)
    return Serving(serving.master, last or champion)


def _repeated(serving: Serving, step: Step) -> Unchanged | None:
    """Tell whether a step was taken before: whoever repeats a command after a kill must not be refused."""
    is_there = {
        "deploy": serving.phase in {"deploying", "testing", "paused"} and serving.challenger == step.model,
        "pause": serving.phase == "paused",
        "resume": serving.phase == "testing",
        "promote": step.model is not None and serving.champion == step.model,
        "restore": serving.phase == "steady" and serving.champion == step.model,
    }
    if not is_there.get(step.verb):
        return None
    return Unchanged(
        f"{serving.master} is served by {serving.champion}, and {_PHASE_WORDS[serving.phase]}{_of(serving)}"
    )


def _of(serving: Serving) -> str:
    return "" if serving.challenger is None else f" ({serving.challenger})"


def champions(history: Iterable[AliasChange]) -> list[str]:
    """Return the versions that were champion, in the order of a master's history; one that came back stands twice."""
    return [one.version for one in history if one.alias == "champion" and one.version is not None]


def former_champion(history: Iterable[AliasChange], champion: str) -> str | None:
    """Return the version that was champion last before this one; None where there was none."""
    return next((version for version in reversed(champions(history)) if version != champion), None)
