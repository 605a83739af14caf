"""The command line: parses, calls and prints; knows no rule.

A command's module is imported when the command is called, so that each pays for what it needs and ``--help`` for
nothing. The commands stand in the modules of this folder, one for each group of commands that need the same; what
they share is in ``call`` (the options every command takes, errors and exit codes), ``printing`` and ``opened``.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import Final, cast

import click

from cortex_autolearn.cli.call import Group, version_option

__all__ = ["COMMANDS", "main"]

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("daemon", "Run the daemon: refine, collect and keep the schedule until it is stopped."),
    "medallion": ("refine", "Refine new bronze into silver and gold."),
    "collect": ("refine", "Collect high-quality outcomes."),
    "score": ("score", "Have a model score tasks that have no quality score."),
    "label": ("score", "Record a person's quality score of a task."),
    "judge": ("judge", "Look at the judge that scores tasks."),
    "run-once": ("refine", "Run one job of the schedule now."),
    "status": ("look", "Show how far the system is."),
    "schedule": ("look", "Show what runs when, and how it went last."),
    "events": ("look", "Print what happened, oldest first."),
    "dataset": ("dataset", "Build, show, compare and export datasets of examples."),
    "fine-tune": ("fine_tune", "Show whether a fine-tuning is due."),
    "ab": ("ab", "Look at the A/B tests of new models, and at what they decided."),
    "check": ("check", "Say what would be decided about a test now, and why."),
    "explain": ("check", "Say why a past decision was taken."),
    "deploy": ("deploy", "Test a model as challenger of a master."),
    "promote": ("deploy", "Make the challenger of a master its champion now."),
    "rollback": ("deploy", "Give all tasks of a master to the champion that is, or was."),
    "pause": ("deploy", "Give all tasks to the champion for now."),
    "resume": ("deploy", "Let a paused test go on."),
    "abort": ("deploy", "Give a test up."),
    "route": ("route", "Say which model serves a task."),
    "render": ("render", "Write the request to the model that serves a task."),
    "doctor": ("checkup", "Look for what is wrong, and say what to do about it."),
    "health": ("health", "Say whether the daemon lives, for a container's health check."),
    "config": ("config", "Show and check the configuration."),
    "replay": ("replay", "Put recorded outcomes of two models through the decision."),
    "rollout": ("rollout", "Look at how challengers are tested and promoted."),
    "demo": ("demo", "Try it all on a simulated fleet, or on files of yours."),
}
"""Each command's module in this folder, and its line in the help."""


class _Program(Group):
    """The top of the command line; finds a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command; of a name that is nearly one, say which."""
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # a shell asks what may follow: after a slip nothing
                return None
            from difflib import get_close_matches  # noqa: PLC0415 - only a typo needs it

            for near in get_close_matches(cmd_name, COMMANDS, 1):
                raise click.UsageError(f"No such command {cmd_name!r}. Did you mean {near!r}?", ctx)
            return None
        module = import_module(f"{__name__}.{COMMANDS[cmd_name][0]}")
        return cast("click.Command", getattr(module, cmd_name.replace("-", "_")))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


_GARBAGE_EVERY: Final = 20_000
"""Objects made between two looks for cycles: records make many objects and no cycles, so looking often only costs."""


@click.group(cls=_Program, name="cortex-autolearn")
@version_option
def main() -> None:
    """Let a Cortex fleet improve by itself: refine, collect, train, test, and promote what is better.

    ROOT is the folder that holds coordination/: --root, else CORTEX_HOME, else the current folder.

    \b
    Try it:        cortex-autolearn demo
    Look first:    cortex-autolearn doctor --root /path/to/cortex
    Run it:        cortex-autolearn run --root /path/to/cortex

    Exit codes: 0 fine, 1 failed, 2 wrong usage, 75 another daemon runs on this ROOT, 78 wrong configuration;
    check also 3, 4 and 5, as its help says.
    """
    gc.set_threshold(_GARBAGE_EVERY, 20, 50)
