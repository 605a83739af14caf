"""``demo``: the README's first command."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cortex_autolearn import demo as demo_module
from cortex_autolearn.cli.call import FAILED, Command, pass_call
from cortex_autolearn.cli.printing import printable

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call

_FILE: Final = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command(cls=Command)
@click.option("--days", type=click.IntRange(1, 60), default=25, show_default=True, help="Days that the fleet works.")
@click.option(
    "--tasks-per-day",
    type=click.IntRange(1, 2_000),
    default=330,
    show_default=True,
    help="Tasks that come in each day.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Names the fleet: the same seed, the same numbers."
)
@click.option("--input", "inputs", type=_FILE, multiple=True, help="Run over these files of task records instead.")
@click.argument("more", metavar="[FILE]...", type=_FILE, nargs=-1)
@pass_call
def demo(
    call: Call, *, days: int, tasks_per_day: int, seed: int, inputs: tuple[Path, ...], more: tuple[Path, ...]
) -> None:
    """Try it all: the real daemon over a simulated fleet on a fast clock, in a folder of its own.

    Days 1 to 25: 1,000 good examples are collected, a model is made of them, tested on 10 % of the tasks and promoted;
    a second one is bad, and rolled back. Takes about 30 seconds. Says what is simulated and what is real, and compares
    what came out with what must come out. The same --seed gives the same counts and decisions.

    Without --root the folder is a temporary one, which is kept; --root must be new, empty, or an earlier demo's.

    With --input, nothing is simulated: the daemon works through copies of your files of task records.

    \b
    Example:  cortex-autolearn demo
              cortex-autolearn demo --days 12 --seed 7 --root /tmp/fleet
              cortex-autolearn demo --input tasks.jsonl more-tasks.json
    """
    sources = inputs + more
    if more and not inputs:
        raise click.UsageError("Files are given with --input FILE...")
    for source in sources:
        if not source.is_file():
            raise click.UsageError(f"{printable(str(source))} is not a regular file.")
    if not sources and (call.config is not None or call.flags):
        raise click.UsageError("A simulated fleet is judged by the defaults: no --set, no --config.")
    root = demo_module.prepare(call.named_root)

    screen = _Screen(call)
    if sources:
        is_right = demo_module.process(
            root, sources, say=screen.say, environ=os.environ, config=call.config, flags=dict(call.flags)
        )
    else:
        is_right = demo_module.simulate(
            root, days=days, tasks_per_day=tasks_per_day, seed=seed, say=screen.say, progress=screen.progress
        )
    if not is_right:
        raise click.exceptions.Exit(FAILED)


class _Screen:
    """Prints lines to stdout and, where stderr is a terminal, how far it is below them."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._shows = sys.stderr.isatty()
        self._width = 0

    def say(self, text: str) -> None:
        """Print lines that stay, at once."""
        self._clear()
        click.echo(printable(self._call.copyable(text)))
        sys.stdout.flush()

    def progress(self, text: str) -> None:
        """Show how far it is, until the next line."""
        if self._shows:
            self._clear()
            text = printable(text)[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write(text)
            sys.stderr.flush()
            self._width = len(text)

    def _clear(self) -> None:
        if self._width:
            sys.stderr.write(f"\r{' ' * self._width}\r")
            sys.stderr.flush()
            self._width = 0


for _option in demo.params:
    if isinstance(_option, click.Option) and _option.name == "root":  # here it has a default of its own
        _option.help = "Folder to run in: new, empty, or an earlier demo's.  [default: a temporary one, which is kept]"
    if isinstance(_option, click.Option) and _option.name in ("config", "set"):
        _option.help = f"{_option.help} Only with --input."
