"""``check`` and ``explain``: what would be decided about a test now, and why something was decided in the past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
import orjson

from cortex_autolearn.cli.call import Command, answer, json_option, pass_call
from cortex_autolearn.cli.card import (
    EXIT_CODES,
    criteria_table,
    criterion_dict,
    decision_lines,
    ended_card,
    evidence_table,
    find_test,
    gain_lines,
    lettered,
    unknown,
    variants_table,
    when,
    wrapped,
)
from cortex_autolearn.cli.look import ROLLOUT_KINDS
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.printing import print_json, printable
from cortex_autolearn.cli.route import MASTER
from cortex_autolearn.model import instants
from cortex_autolearn.model.rollout import Numbers
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.rollout import report, scorecard
from cortex_autolearn.rollout.apply import names
from cortex_autolearn.rollout.decide import criteria

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cortex_autolearn.adapters.store.database import Reading
    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.model.experiments import Decided, Experiment

_SHOWN: Final = 10


@click.command(cls=Command)
@click.argument("test")
@click.argument("master", metavar="[MASTER]", required=False, type=MASTER)
@json_option
@pass_call
def check(call: Call, test: str, *, master: str | None, as_json: bool) -> None:
    """Say what would be decided about the test TEST now, and why. Changes nothing.

    Of a test that has ended it says how that was decided. MASTER may be left out; it must be the test's own.

    Exit codes: 0 promote (of a watch: settled), 3 continue or held, 4 roll back (of a watch: revert), 5 retire or
    inconclusive; 1 it failed, 2 there is no such test.

    \b
    Example:  cortex-autolearn check security-master-ft-20251127-001
              cortex-autolearn check security-master-ft-20251127-001 security --json | jq -r .decision
    """
    with opened(call, looks_only=True) as app, app.store.read() as reading:
        found = find_test(reading, test)
        if master is not None and master != found.master:
            raise click.UsageError(printable(f"{test} is a test of {found.master}, not of {master}."))
        decision = report.check(reading, test, app.medallion.taken_in_us())
    plain = scorecard.card(decision, names(found))
    card = lettered(plain if found.is_active else ended_card(plain, found), found)
    needs = criteria(decision.numbers, found.policy)
    answer(EXIT_CODES[card["decision"]])
    if as_json:
        told = {"test_id": test, "master": found.master, "active": found.is_active}
        print_json(told | card | {"criteria": [criterion_dict(one) for one in needs]})
    else:
        head = "Decision" if found.is_active else f"Decided {when(found.ended_us)} UTC"
        gains = gain_lines(card, scorecard.gain_of(decision.numbers.closed))
        lines = [*decision_lines(card, head=head), "", variants_table(card, found), "", *gains, ""]
        if found.kind == "test":
            lines += [criteria_table(needs), ""]
        click.echo(wrapped([*lines, evidence_table(card["evidence"], found.policy, found.kind, found.alarms)]))


@click.command(cls=Command)
@click.argument("event_seq", type=click.IntRange(1, (1 << 63) - 1))
@json_option
@pass_call
def explain(call: Call, event_seq: int, *, as_json: bool) -> None:
    """Say why a past decision was taken, from the numbers and bars that were kept with it.

    EVENT_SEQ is the number of its event, as cortex-autolearn events prints it.

    \b
    Example:  cortex-autolearn events --type auto_rollback
              cortex-autolearn explain 4711
    """
    with opened(call, looks_only=True) as app, app.store.read() as reading:
        name, body = _event(reading, event_seq)
        decided = reading.decided(event_seq)
        test = None if decided is None else reading.experiment(decided.test_id)
    if as_json:
        print_json({**body, "decision": None} if decided is None else _decided_dict(body, decided, test))
    else:
        click.echo(wrapped(_explained(name, body, decided, test)))


def _event(reading: Reading, seq: int) -> tuple[str, dict[str, Any]]:
    """Return the name of a rollout's event, and all it tells.

    Raises:
        UsageError: there is no such event; the message names the last that there are.
    """
    for found, timestamp, name, body in reading.events_after(seq - 1, None, 1):
        if found == seq and name in ROLLOUT_KINDS:
            return name, {"event": name, "timestamp": timestamp, "seq": seq, **orjson.loads(body)}
    last = [one for kind in ROLLOUT_KINDS for one in reading.last_events(_SHOWN, kind)]
    there = [f"{number} ({name})" for number, _, name, _ in sorted(last, reverse=True)[:_SHOWN]]
    raise unknown("decision with the event", str(seq), there)


def _decided_dict(body: Mapping[str, Any], decided: Decided, test: Experiment | None) -> dict[str, Any]:
    numbers, policy = _kept(decided)
    return {
        **body,
        "test_id": decided.test_id,
        "decided_at": instants.us_to_text(decided.at_us),
        **lettered(decided.numbers["card"], test),
        "decision": decided.decision,
        "reasons": [one["text"] for one in decided.reasons],
        "rules": [one["rule"] for one in decided.reasons],
        "criteria": [criterion_dict(one) for one in criteria(numbers, policy)],
        "numbers": decided.numbers["numbers"],
        "policy": decided.policy,
    }


def _kept(decided: Decided) -> tuple[Numbers, RolloutPolicy]:
    return msgspec.convert(decided.numbers["numbers"], Numbers), msgspec.convert(decided.policy, RolloutPolicy)


def _explained(name: str, body: Mapping[str, Any], decided: Decided | None, test: Experiment | None) -> list[str]:
    lines = [
        f"Event {body['seq']}: {name}, {body['timestamp']}",
        *[
            f"{label:9}{str(body[key]).replace('_', ' ') if key == 'step' else body[key]}"
            for key, label in _TOLD.items()
            if body.get(key)
        ],
    ]
    if decided is None:
        return [*lines, "No numbers were kept with it: it does not rest on outcomes"]
    card = {**lettered(decided.numbers["card"], test), "decision": decided.decision}
    numbers, policy = _kept(decided)
    kind = "test" if test is None else test.kind
    head = "What the numbers called for" if name == "manual_decision" else "Decision"
    gains = gain_lines(card, scorecard.gain_of(numbers.closed))
    lines += ["", *decision_lines(card, head=head), "", variants_table(card, test), "", *gains]
    lines += ["", evidence_table(card["evidence"], policy, kind, numbers.alarms)]
    if kind == "test":
        lines += ["", criteria_table(criteria(numbers, policy))]
    return lines


_TOLD: Final[Mapping[str, str]] = {
    "test_id": "Test:",
    "master": "Master:",
    "model": "Model:",
    "step": "Step:",
    "by": "By:",
    "why": "Why:",
}
