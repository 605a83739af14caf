"""``demo``: the README's first command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cortex_autolearn import demo as demo_module
from cortex_autolearn.cli.call import FAILED, Command, pass_call
from cortex_autolearn.cli.printing import printable

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call

_LONGEST_S: Final = 40.0
_DAY_S: Final = 2.0
_FILE: Final = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command(cls=Command)
@click.option("--days", type=click.IntRange(1, 60), default=7, show_default=True, help="Days that the fleet works.")
@click.option(
    "--tasks-per-day", type=click.IntRange(1, 2_000), default=80, show_default=True, help="Tasks that come in each day."
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

    Takes about 20 seconds. Says what is simulated and what is real, and compares what came out with what must come out.
    Without --root the folder is a temporary one, which is kept; --root must be new, empty, or an earlier demo's.

    With --input, nothing is simulated: the daemon works through copies of your files of task records.

    \b
    Example:  cortex-autolearn demo
              cortex-autolearn demo --days 3 --seed 7 --root /tmp/fleet
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

    def say(text: str) -> None:
        click.echo(printable(call.copyable(text)))
        sys.stdout.flush()

    if sources:
        is_right = demo_module.process(
            root, sources, say=say, environ=os.environ, config=call.config, flags=dict(call.flags)
        )
    else:
        day_s = min(_DAY_S, _LONGEST_S / days)
        is_right = demo_module.simulate(root, days=days, tasks_per_day=tasks_per_day, seed=seed, say=say, day_s=day_s)
    if not is_right:
        raise click.exceptions.Exit(FAILED)


for _option in demo.params:
    if isinstance(_option, click.Option) and _option.name == "root":  # here it has a default of its own
        _option.help = "Folder to run in: new, empty, or an earlier demo's.  [default: a temporary one, which is kept]"
    if isinstance(_option, click.Option) and _option.name in ("config", "set"):
        _option.help = f"{_option.help} Only with --input."
