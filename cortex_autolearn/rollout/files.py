"""The files that Cortex's shell library shares with rollout, as values: ``aliases.json`` and ``ab-tests/<test>.json``.

Names and shapes are those of FORMATS, "A/B test"; keys that are not known here are kept. Writing them is ``project``'s
business, and what they are made of the state's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.model import instants, layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cortex_autolearn.model.experiments import AliasChange, Experiment, Held
    from cortex_autolearn.model.routing import Variant

_OURS: Final = "cortex-autolearn"

Document = dict[str, Any]


class Unusable(NamedTuple):
    """What stands where a champion is named, and is no name that one can have."""

    value: object


def champion_in(found: Mapping[str, Any] | None) -> str | Unusable | None:
    """Return the champion that an ``aliases.json`` names; None where it names none."""
    champion: object = found
    for key in ("aliases", "champion", "version"):
        if not champion:
            return None
        if not isinstance(champion, dict):
            return Unusable(champion)
        champion = champion.get(key)
    if not champion:
        return None
    return champion if isinstance(champion, str) and layout.is_safe_name(champion) else Unusable(champion)


def aliases(found: Mapping[str, Any] | None, held: Held, history: Sequence[AliasChange]) -> Document:
    """Return a master's ``aliases.json``.

    Arguments:
        found: what stands there now.
        held: what serves the master.
        history: the changes of its aliases, the oldest first.
    """
    before = dict(found or {})
    named = before.get("aliases")
    named = dict(named) if isinstance(named, dict) else {}
    champion = _alias(named.get("champion"), held.champion, "active", _latest(history, "champion"))
    challenger = None
    if held.challenger is not None:
        challenger = _alias(named.get("challenger"), held.challenger, held.phase, _latest(history, "challenger"))
    versions = before.get("version_history")
    others = [one for one in versions if not _is_ours(one)] if isinstance(versions, list) else []
    return before | {
        "master_id": held.master,
        "aliases": {"shadow": None, **named, "champion": champion, "challenger": challenger},
        "version_history": others + [_version(one) for one in history if one.alias == "champion"],
        "last_updated": instants.us_to_text(held.since_us),
    }


def document_of(found: Mapping[str, Any] | None, test: Experiment) -> Document:
    """Return the file of a test.

    Arguments:
        found: what stands there now.
        test: the test.
    """
    # While it is paused the shell, too, is to give all tasks to the champion.
    share_a = 100 if test.is_active and is_paused(test) else test.percentage_a
    before = dict(found or {})
    ours: Document = {
        "test_id": test.test_id,
        "master": test.master,
        "variants": {
            "a": {"name": test.a, "traffic_percentage": share_a},
            "b": {"name": test.b, "traffic_percentage": 100 - share_a},
        },
        "status": "active" if test.is_active else "completed",
        "created_at": instants.us_to_text(test.started_us),
        "metrics": test.metrics,
    }
    for key in ("winner", "completed_at"):
        before.pop(key, None)
    if not test.is_active:
        ours |= {"winner": test.winner, "completed_at": instants.us_to_text(test.ended_us)}
    document = before | ours
    for key in ("variants", "metrics"):
        document[key] = _merged(before.get(key), ours[key])
    return document


def is_paused(test: Experiment) -> bool:
    """Tell whether a test is paused now."""
    return any(one.until_us is None for one in test.pauses)


def manual_stop(found: Mapping[str, Any] | None, test: Experiment) -> Variant | None:
    """Return the winner that a person set in the file of a test that runs; None where nobody stopped it there."""
    if found is None or not test.is_active or found.get("status") != "completed":
        return None
    match found.get("winner"):
        case "a":
            return "a"
        case "b":
            return "b"
        case _:
            return None


def occupied(found: Mapping[str, Any] | None) -> str | None:
    """Return the master of a test that runs, by its file; None where it does not run."""
    if found is None or found.get("status") != "active":
        return None
    master = found.get("master")
    return layout.master_name(master) if isinstance(master, str) else None


def _alias(before: object, version: str, status: str, change: AliasChange | None) -> Document:
    kept = dict(before) if isinstance(before, dict) and before.get("version") == version else {}
    if change is None:
        return {"description": "", **kept, "version": version, "status": status}
    return {
        "description": change.why,
        **kept,
        "version": version,
        "promoted_at": instants.us_to_text(change.at_us),
        "status": status,
    }


def _latest(history: Sequence[AliasChange], alias: str) -> AliasChange | None:
    return next((one for one in reversed(history) if one.alias == alias), None)


def _version(change: AliasChange) -> Document:
    return {
        "version": change.version,
        "promoted_at": instants.us_to_text(change.at_us),
        "step": change.step,
        "by": change.by,
        "why": change.why,
        "source": _OURS,
    }


def _is_ours(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("source") == _OURS


def _merged(before: object, ours: Document) -> Document:
    """Return our values, with what others have put beside them."""
    if not isinstance(before, dict):
        return ours
    return before | {
        key: _merged(before.get(key), value) if isinstance(value, dict) else value for key, value in ours.items()
    }
