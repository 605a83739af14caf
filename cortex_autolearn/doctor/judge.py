"""Looks at the judge: can it be asked, how many tasks wait for it, and does its money last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from cortex_autolearn.adapters import rubrics
from cortex_autolearn.collect import money
from cortex_autolearn.collect.standing import Standing, stand
from cortex_autolearn.doctor.check import Check, Patient, counted
from cortex_autolearn.model import instants
from cortex_autolearn.model.judging import MICRO_USD
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.status import verdicts

_REASON_CHARS: Final = 80


def _judge(patient: Patient) -> Iterator[Check]:
    if patient.reading is None:
        return
    policy, today = patient.settings.judge, instants.day_number(patient.now)
    unscored = verdicts(patient.reading, patient.settings.collect)[1]
    found = stand(patient.reading, policy, today, unscored, has_key=patient.has_key)
    wait = f"{counted(unscored, 'task lacks', 'tasks lack')} only a quality score"
    by_hand = "or let people score: cortex-autolearn label TASK_ID SCORE"
    if not found.is_enabled or not found.has_key:
        why = "judge.enabled is false" if not found.is_enabled else "there is no key"
        remedy = "Set judge.enabled" if not found.is_enabled else "Set ANTHROPIC_API_KEY for the daemon"
        yield Check("judge", "warn" if unscored else "ok", f"{wait}; {why}", f"{remedy}, {by_hand}" if unscored else "")
        return
    if money.price_of(policy.model, today, policy.prices) is None:
        remedy = "Declare its price with [[judge.prices]]: without, nothing is sent"
        yield Check("judge", "fail", f"no price is known for {policy.model}", remedy)
    try:
        rubrics.load(policy, patient.root)
    except BoundaryError as error:
        yield Check("judge", "fail", f"{error.subject}: {error.cause}: nothing is scored", error.hint)
    yield from _model(found)
    yield from _queue(found, wait)


def _model(found: Standing) -> Iterator[Check]:
    remedy = "Set judge.model to a current one"
    if found.model_state in {"retired", "unknown"}:
        what = "is retired" if found.model_state == "retired" else "is not known to its provider"
        yield Check("judge", "fail", f"{found.model} {what}: nothing is scored", remedy)
    elif found.model_state == "deprecated":
        until = f" and retires on {found.retires_on}" if found.retires_on else ""
        yield Check("judge", "warn", f"{found.model} is deprecated{until}", remedy)


def _queue(found: Standing, wait: str) -> Iterator[Check]:
    aside = sum(found.queue.set_aside.values())
    for budget in found.reached:
        text = f"the budget of {budget.period} is reached ({budget.limit / MICRO_USD:.2f} USD); {wait}"
        yield Check("judge", "warn", text, "Wait for the next, or raise judge.daily_usd or judge.monthly_usd")
    if found.is_too_dear:
        text = f"what waits for the judge may cost more than a whole budget, task by task; {wait}"
        yield Check("judge", "warn", text, "Raise judge.daily_usd or judge.monthly_usd, or lower judge.max_text_chars")
    if aside:
        reason = next(iter(found.queue.set_aside))[:_REASON_CHARS]
        example = found.queue.examples[0][:_REASON_CHARS]
        text = f"{counted(aside, 'task')} set aside, mostly: {reason}; such as {example}"
        remedy = "Try them anew: cortex-autolearn score --again; or score them: cortex-autolearn label TASK_ID SCORE"
        yield Check("judge", "warn", text, remedy)
    if not (found.reached or found.is_too_dear or aside):
        yield Check("judge", "ok", f"{wait}, {found.queue.sent:,} of them are sent; {found.scored:,} are scored")


LOOKS: Final[tuple[Callable[[Patient], Iterator[Check]], ...]] = (_judge,)
