"""``rollout simulate``: how often a configuration decides wrongly, and how soon rightly."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from cortex_autolearn import settings
from cortex_autolearn.adapters import extras
from cortex_autolearn.cli.call import Command, Group, json_option, pass_call
from cortex_autolearn.cli.printing import Bar, note, print_json, table
from cortex_autolearn.rollout import simulate as simulation

if TYPE_CHECKING:
    from cortex_autolearn.cli.call import Call

_NAMES: Final = [one.name for one in simulation.WORLDS]
_MANY_WITHOUT_NUMPY: Final = 100


@click.group(cls=Group)
def rollout() -> None:
    """Look at how challengers are tested and promoted."""


@rollout.command(cls=Command)
@click.option(
    "--world",
    "names",
    metavar="WORLD",
    type=click.Choice([*_NAMES, "all"]),
    multiple=True,
    help="A world of those below, again and again, or all.  [default: the first 13]",
)
@click.option("--runs", metavar="N", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="Runs.")
@click.option("--seed", metavar="S", type=int, default=1, show_default=True, help="The same seed, the same numbers.")
@click.option("--completion", metavar="PERCENT", type=click.FloatRange(0, 100), help="Your champion's completion rate.")
@click.option("--quality", metavar="SCORE", type=click.FloatRange(1, 5), help="Your champion's mean score.")
@click.option("--quality-sd", metavar="SD", type=click.FloatRange(0, 4), help="The spread of its scores.")
@json_option
@pass_call
def simulate(
    call: Call,
    *,
    names: tuple[str, ...],
    runs: int,
    seed: int,
    completion: float | None,
    quality: float | None,
    quality_sd: float | None,
    as_json: bool,
) -> None:
    """Simulate tests of challengers that are better, equal, worse or broken, under this configuration.

    Each run of a world is a whole test with a look after every task, by the same code that decides about real ones.
    Much faster where numpy is installed (the extra "simulate"); the numbers are the same.

    \b
    Worlds:   equal-80, equal-92.5, equal-97           as good as a champion that completes so many percent
              only-quality-80, -92.5, -97              better scored, but completing no more
              slightly-worse, worse-5-0.3, worse-20-0.5, worse-20, broken
              better-5.7-0.3, better-5.7-0.3-sd-1      points of completion, score; a wide spread of scores
              trade-off                                better scored, completing less
              hangs-10                                 better scored, but a tenth of its tasks never ends
              and more about outages, missing scores, no history, windows, slowness and the watch: --world all

    \b
    Example:  cortex-autolearn rollout simulate
              cortex-autolearn rollout simulate --world equal-97 --runs 2000 --set rollout.completion_gate=scaled
    """
    policy = settings.load(call.root, environ=os.environ, config=call.config, flags=call.flags).settings.rollout
    chosen = _NAMES if "all" in names else names or _NAMES[: simulation.FIRST_WORLDS]
    rate = None if completion is None else completion / 100
    worlds = [one.at(rate, quality, quality_sd) for one in simulation.WORLDS if one.name in chosen]
    if not simulation.has_numpy() and runs * len(worlds) > _MANY_WITHOUT_NUMPY:
        note(f"This takes long without numpy. {extras.remedy('simulate')}")
    bar = Bar()
    reports = []
    for number, world in enumerate(worlds):
        base = number * runs

        def show(done: int, base: int = base) -> None:
            bar(base + done, runs * len(worlds))

        endings = simulation.simulate(world, policy, runs=runs, seed=seed, progress=show)
        reports.append(simulation.report(world, endings).as_dict())
    bar.clear()
    if as_json:
        print_json({"worlds": reports})
    else:
        click.echo(_table(reports))


def _table(reports: list[dict[str, Any]]) -> str:
    head = ("WORLD", "RUNS", "PROMOTED", "ROLLED BACK", "RETIRED", "INCONCLUSIVE", "HELD", "TASKS P50", "P90", "P99")
    shares = ("promoted", "rolled_back", "retired", "inconclusive", "held")
    tasks = ("challenger_tasks_p50", "challenger_tasks_p90", "challenger_tasks_p99")
    rows = [
        (
            one["name"],
            f"{one['runs']:,}",
            *[f"{one[name]:g} %" for name in shares],
            *[f"{one[name]:,}" for name in tasks],
        )
        for one in reports
    ]
    return table([head, *rows])
