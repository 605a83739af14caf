"""``judge calibrate``: whether the judge agrees with people, and with the fleet's own scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from cortex_autolearn.cli.call import Command, Group, json_option, pass_call
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.printing import plural, print_json, printable, table
from cortex_autolearn.collect.agreement import ENOUGH, agreement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.collect.agreement import Agreement
    from cortex_autolearn.model.judging import Pair

_OTHERS: Final = {"person": "people's labels", "task": "the tasks' own scores"}
_ALL: Final = "all masters"


@click.group("judge", cls=Group)
def judge() -> None:
    """Look at the judge that scores tasks.

    \b
    Example:  cortex-autolearn judge calibrate
    """


@judge.command(cls=Command)
@json_option
@pass_call
def calibrate(call: Call, *, as_json: bool) -> None:
    """Compare the judge's scores with people's labels and with tasks' own scores, by master.

    Takes tasks that both have scored, and at least 30 of them: score --calibrate N has the judge score tasks that
    others have scored, and label TASK_ID SCORE has a person score what the judge has.

    \b
    Example:  cortex-autolearn judge calibrate
    """
    with opened(call, looks_only=True) as app, app.store.read() as reading:
        found = {kind: _by_master(reading.pairs(kind)) for kind in _OTHERS}
    if as_json:
        print_json({kind: [_as_dict(*one) for one in groups.items()] for kind, groups in found.items()})
    else:
        click.echo(printable("\n\n".join(_section(kind, groups) for kind, groups in found.items())))


def _by_master(pairs: Iterable[Pair]) -> dict[str, list[tuple[float, float]]]:
    groups: dict[str, list[tuple[float, float]]] = {_ALL: []}
    for pair in pairs:
        both = (pair.judge, float(pair.other))
        groups[_ALL].append(both)
        groups.setdefault(pair.master or "no master", []).append(both)
    return groups


def _as_dict(name: str, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    found = agreement(pairs)
    if found is None:
        return {"master": name, "pairs": len(pairs), "enough": False}
    return {"master": name, "enough": True, **found._asdict()}


def _section(kind: str, groups: dict[str, list[tuple[float, float]]]) -> str:
    lines = [f"The judge and {_OTHERS[kind]}:"]
    rows: list[tuple[str, ...]] = [("", "PAIRS", "JUDGE HIGHER BY", "SPEARMAN", "KAPPA")]
    rows += [_row(name, len(pairs), agreement(pairs)) for name, pairs in groups.items()]
    lines.append(table(rows, indent="  "))
    whole = agreement(groups[_ALL])
    if whole is None:
        missing = ENOUGH - len(groups[_ALL])
        lines.append(f"  Too few to say anything: it takes {ENOUGH} pairs, so {plural(missing, 'pair')} more.")
        return "\n".join(lines)
    marks = [str(mark) for mark in range(1, 6)]
    confusion: list[tuple[str, ...]] = [("judge \\ other", *marks)]
    confusion += [(mark, *map(str, row)) for mark, row in zip(marks, whole.confusion, strict=True)]
    return "\n".join([*lines, "", table(confusion, indent="  ")])


def _row(name: str, count: int, found: Agreement | None) -> tuple[str, ...]:
    if found is None:
        return (name, str(count), "too few", "", "")
    return (name, str(count), f"{found.difference:+.2f}", _shown(found.spearman), _shown(found.kappa))


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
