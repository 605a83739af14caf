"""``route``: which model serves a task, for callers in other languages. It needs no state."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from cortex_autolearn.cli.call import Command, json_option, pass_call
from cortex_autolearn.cli.printing import note, print_json, printable
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.router import Router

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.model.choice import Choice


class _Master(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A master's name, normalised."""

    name = "MASTER"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return ``<name>-master``."""
        name = layout.master_name(str(value))
        if name is None:
            self.fail(f"{printable(str(value))!r} is no name of a master.", param, ctx)
        return name


class _TaskId(click.ParamType):  # type: ignore[type-arg]  # likewise
    """A task's id: any bytes but none, as the shell hands them over."""

    name = "TASK_ID"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id as text, whatever the locale is: UTF-8, with each other byte as PEP 383 has it."""
        text = os.fsencode(str(value)).decode("utf-8", "surrogateescape")
        if not text:
            self.fail("it is empty.", param, ctx)
        return text


MASTER: Final = _Master()
TASK_ID: Final = _TaskId()


@click.command(cls=Command)
@click.argument("master", type=MASTER)
@click.argument("task_id", type=TASK_ID)
@json_option
@pass_call
def route(call: Call, master: str, task_id: str, *, as_json: bool) -> None:
    """Say which model serves the task TASK_ID of MASTER.

    \b
    Example:  cortex-autolearn route security-master task-4711
              cortex-autolearn route security task-4711 --json | jq -r .version
    """
    choice = chosen(call.root, master, task_id)
    if not as_json:
        click.echo(_text(choice))
        return
    print_json(
        {
            "master": choice.master,
            # A byte that is no UTF-8 cannot stand in JSON.
            "task_id": task_id.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            "variant": choice.variant,
            "model": choice.model,
            "version": choice.version,
            "experiment": choice.experiment,
            "challenger_percentage": choice.challenger_percentage,
            "kind": choice.kind,
        }
    )


def chosen(root: Path, master: str, task_id: str) -> Choice:
    """Choose for one task; when the routes cannot be followed, say so on stderr.

    Raises:
        BoundaryError: ``root`` is none.
    """
    if not (root / layout.COORDINATION).is_dir():
        hint = "Name the folder that holds coordination/ with --root or CORTEX_HOME"
        raise BoundaryError("route a task", str(root), "it holds no folder coordination/", hint=hint, retryable=False)
    router = Router(root)
    choice = router.choose(master, task_id)
    if router.trouble is not None:
        note(f"The routes are not followed, so this is the default champion: {router.trouble}")
    return choice


def _text(choice: Choice) -> str:
    called = "" if choice.model == choice.version else f", which its provider calls {choice.model}"
    if choice.experiment is None:
        return printable(f"{choice.version}{called}: champion of {choice.master}")
    share = choice.challenger_percentage if choice.variant == "b" else 100 - choice.challenger_percentage
    return printable(
        f"{choice.version}{called}: variant {choice.variant} of {choice.experiment} ({share:g} % of the tasks)"
    )
