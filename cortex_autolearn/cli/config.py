"""``config show`` and ``config check``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cortex_autolearn import settings
from cortex_autolearn.cli.call import BAD_CONFIG, Command, Group, answer, json_option, pass_call
from cortex_autolearn.cli.printing import plural, print_json, table
from cortex_autolearn.model.layout import CONFIG

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call


@click.group(cls=Group)
def config() -> None:
    """Show and check the configuration.

    A value comes from --set, else from the environment (CORTEX_AUTOLEARN__SECTION__KEY), else from the file
    (--config, else ROOT/cortex-autolearn.toml), else it is the default.
    """


@config.command(cls=Command)
@json_option
@pass_call
def show(call: Call, *, as_json: bool) -> None:
    """Print every setting, its value, and where that comes from. Secrets are masked.

    \b
    Example:  cortex-autolearn config show
              cortex-autolearn config show --set collect.min_quality=4.5
    """
    rows = settings.show(_load(call))
    if as_json:
        print_json({"settings": [{"key": row.key, "value": row.plain, "origin": row.origin} for row in rows]})
    else:
        click.echo(table([("SETTING", "VALUE", "ORIGIN"), *[(row.key, _short(row.value), row.origin) for row in rows]]))


@config.command(cls=Command)
@json_option
@pass_call
def check(call: Call, *, as_json: bool) -> None:
    """Say whether the configuration is right; else print all that is wrong and exit 78.

    \b
    Example:  cortex-autolearn config check --config new.toml && systemctl reload cortex-autolearn
    """
    problems: list[settings.Problem] = []
    loaded: settings.Loaded | None = None
    try:
        loaded = _load(call)
    except settings.ConfigError as error:
        if not as_json:
            raise
        problems = error.problems
    given = 0 if loaded is None else sum(origin != "default" for origin in loaded.origins.values())
    if as_json:
        answer(BAD_CONFIG if problems else 0)
        print_json({"ok": not problems, "problems": [str(problem) for problem in problems], "given": given})
        return
    file = call.config or call.root / CONFIG
    where = str(file) if file.exists() else f"there is no {file}"
    click.echo(f"The configuration is right: {where}; {plural(given, 'value')} given, all else is the default.")


def _load(call: Call) -> settings.Loaded:
    return settings.load(call.root, environ=os.environ, config=call.config, flags=call.flags)


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}..."
