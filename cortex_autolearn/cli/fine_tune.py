"""``fine-tune status``; what may follow from it comes with a later version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cortex_autolearn import status as status_module
from cortex_autolearn.cli.call import Command, Group, pass_call
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.printing import print_json

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call


@click.group("fine-tune", cls=Group)
def fine_tune() -> None:
    """Show whether a fine-tuning is due. Starting one comes with a later version."""


@fine_tune.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_call
def status(call: Call, *, as_json: bool) -> None:
    """Show how many training examples there are, and of how many that are needed.

    \b
    Example:  cortex-autolearn fine-tune status --json
    """
    with opened(call, looks_only=True) as app:
        found = status_module.gather(app).as_dict()
    kept = {name: found[name] for name in ("data_collection", "fine_tuning", "cost_estimate")}
    if as_json:
        print_json(kept)
        return
    data = found["data_collection"]
    click.echo(
        f"Training examples: {data['training_examples']:,} of {data['min_required']:,} ({data['progress_percent']:g} %)"
    )
    click.echo("Enough to fine-tune on." if data["ready"] else "Not enough to fine-tune on yet.")
    click.echo("Triggered: no; models trained: 0. This version collects; it cannot start a fine-tuning yet.")
