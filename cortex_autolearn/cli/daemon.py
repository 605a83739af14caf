"""``run``: the daemon, in the foreground, as a supervisor wants it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cortex_autolearn import daemon
from cortex_autolearn.cli.call import Command, pass_call

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call


@click.command(cls=Command)
@click.option("--init", is_flag=True, help="Create coordination/ in ROOT where it is missing.")
@pass_call
def run(call: Call, *, init: bool) -> None:
    """Run the daemon: refine bronze as it grows, collect, keep the schedule; until it is stopped.

    Stays in the foreground; logs to stdout and to ROOT/coordination/logs/auto-learning-daemon.log. SIGTERM or Ctrl-C
    lets running jobs end, a second one leaves at once; SIGHUP reads the configuration again. One daemon at a time: a
    second one exits 75.

    \b
    Example:  cortex-autolearn run --root /path/to/cortex
    """
    code = daemon.serve(call.root, config=call.config, environ=os.environ, flags=dict(call.flags), init=init)
    raise click.exceptions.Exit(code)
