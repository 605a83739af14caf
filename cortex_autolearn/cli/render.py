"""``render``: the request to the model that serves a task, for callers in other languages. It needs no state."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from cortex_autolearn import settings
from cortex_autolearn.cli.call import Command, pass_call
from cortex_autolearn.cli.printing import note, print_json
from cortex_autolearn.cli.route import MASTER, TASK_ID, chosen
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call

MAX_INPUT_BYTES: Final = 16 << 20
"""No provider takes a longer input."""
_MAX_TOKENS: Final = 1_000_000


class _Text(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """Text that a request can hold."""

    name = "TEXT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        try:
            return os.fsencode(str(value)).decode("utf-8")
        except UnicodeError as error:
            self.fail(f"it is not UTF-8: {error}.", param, ctx)


_TEXT: Final = _Text()


@click.command(cls=Command)
@click.argument("master", type=MASTER)
@click.argument("task_id", type=TASK_ID)
@click.option("--system", type=_TEXT, help="System prompt.  [default: training.system_prompt]")
@click.option("--task-type", type=_TEXT, help="What kind of task it is; helps to find examples that fit.")
@click.option("--max-tokens", type=click.IntRange(1, _MAX_TOKENS), metavar="N", help="How long the answer may be.")
@pass_call
def render(
    call: Call, master: str, task_id: str, *, system: str | None, task_type: str | None, max_tokens: int | None
) -> None:
    """Write the request to the model that serves the task TASK_ID of MASTER, as JSON; its input comes from stdin.

    What is printed is the body of a request to the provider, with worked examples where the model brings some.

    \b
    Example:  cortex-autolearn render security-master task-4711 < input.txt > request.json
    """
    choice = chosen(call.root, master, task_id)
    if system is None:
        loaded = settings.load(call.root, environ=os.environ, config=call.config, flags=dict(call.flags))
        system = loaded.settings.training.system_prompt.replace("{master}", master)
    text = _input()
    print_json(choice.request(system=system, input=text, task_type=task_type, max_tokens=max_tokens))


def _input() -> str:
    stream = sys.stdin.buffer
    if stream.isatty():
        note("Type the input of the task, and end it with Ctrl-D on a line of its own.")
    data = stream.read(MAX_INPUT_BYTES + 1)
    if len(data) > MAX_INPUT_BYTES:
        raise _bad_input(f"it is longer than {MAX_INPUT_BYTES:,} bytes", "Shorten it")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        cause = f"byte {error.start:,} is not UTF-8 (0x{data[error.start]:02x})"
        raise _bad_input(cause, "Convert it, with iconv say") from None
    if not text.strip():
        raise _bad_input("it is empty", "Hand over what the task asks, as in: render MASTER TASK_ID < input.txt")
    return text


def _bad_input(cause: str, hint: str) -> BoundaryError:
    return BoundaryError("read the input", "stdin", cause, hint=hint, retryable=False)
