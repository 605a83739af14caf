"""``doctor``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from cortex_autolearn import doctor as doctor_module
from cortex_autolearn.cli.call import FAILED, Command, answer, json_option, pass_call
from cortex_autolearn.cli.printing import colored, one_line, plural, print_json

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call

_COLORS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}
_NAME_CHARS: Final = 14


@click.command(cls=Command)
@json_option
@pass_call
def doctor(call: Call, *, as_json: bool) -> None:
    """Look for what is wrong, and say what to do about it. Changes nothing.

    Looks at the folders, the configuration, the state, what arrives in bronze and becomes of it, the daemon, the clock
    and the disk. Exits 1 when something is wrong; a warning alone is not.

    \b
    Example:  cortex-autolearn doctor --root /path/to/cortex
    """
    checks = doctor_module.examine(call.root, config=call.config, environ=os.environ, flags=call.flags)
    checks = [check._replace(remedy=call.copyable(check.remedy)) for check in checks]
    is_well = doctor_module.is_well(checks)
    answer(0 if is_well else FAILED)
    if as_json:
        print_json({"ok": is_well, "checks": [check._asdict() for check in checks]})
    else:
        for check in checks:
            verdict = colored(f"{check.verdict:4}", _COLORS[check.verdict])
            click.echo(f"{verdict}  {check.name:{_NAME_CHARS}} {one_line(check.found)}")
            if check.verdict != "ok":
                click.echo(f"{'':6}{'':{_NAME_CHARS}} -> {one_line(check.remedy)}.")
        wrong = sum(check.verdict == "fail" for check in checks)
        doubtful = sum(check.verdict == "warn" for check in checks)
        click.echo(f"\n{plural(wrong, 'thing')} wrong, {plural(doubtful, 'warning')}.")
