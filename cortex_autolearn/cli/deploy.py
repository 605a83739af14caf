"""``deploy``, ``promote``, ``rollback``, ``pause``, ``resume`` and ``abort``: a person's word in a rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from cortex_autolearn.cli.call import FAILED, Command, answer, json_option, pass_call
from cortex_autolearn.cli.card import find_test, number, unknown, wrapped
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.person import clean, person
from cortex_autolearn.cli.printing import note, print_json
from cortex_autolearn.cli.route import MASTER
from cortex_autolearn.model import instants, layout
from cortex_autolearn.rollout.plan import GATE_OUT_OF_REACH, QUALITY_OUT_OF_REACH
from cortex_autolearn.rollout.registry import Refused, Unchanged
from cortex_autolearn.rollout.steps import held_for, queued_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.rollout.steps import Result
    from cortex_autolearn.wiring import App

_MOST_WHY: Final = 500


def _why(ctx: click.Context, param: click.Parameter, value: str) -> str:
    text = " ".join(clean(value).split())
    if len(text) > _MOST_WHY:
        raise click.BadParameter(f"{len(text):,} characters: at most {_MOST_WHY} are kept", ctx=ctx, param=param)
    return text


_why_option = click.option("--why", metavar="TEXT", default="", callback=_why, help="Why; it is kept with the step.")


@click.command(cls=Command)
@click.argument("model")
@click.argument("master", type=MASTER)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing.")
@_why_option
@json_option
@pass_call
def deploy(call: Call, model: str, master: str, *, dry_run: bool, why: str, as_json: bool) -> None:
    """Test the model MODEL as challenger of MASTER, beside its champion, on a share of its tasks.

    The daemon does that by itself with every model that was trained; this is for doing it again, or for another
    master. One model is tested at a time: where a test runs, MODEL waits until that has ended. What becomes of the
    challenger is decided by the outcomes.

    \b
    Example:  cortex-autolearn deploy ft-20251127-001 security-master --dry-run
              cortex-autolearn deploy ft-20251127-001 security-master --why "retrained on this month"
    """
    with opened(call) as app:
        with app.store.read() as reading:
            if reading.model(model) is None:
                raise unknown("model", model, [one.ref.model_id for one in reversed(reading.models())])
        _require_master(app, master)
        result = app.rooms.rollout.deploy(model, master, by=person(), why=why, dry_run=dry_run)
        _finish(app, result, as_json=as_json, is_dry=dry_run)


@click.command(cls=Command)
@click.argument("master", type=MASTER)
@_why_option
@json_option
@pass_call
def promote(call: Call, master: str, *, why: str, as_json: bool) -> None:
    """Make the challenger of MASTER its champion now, whatever its test has shown so far.

    The former champion keeps a share of the tasks for the watch that follows, in which a worse model is taken back.

    \b
    Example:  cortex-autolearn promote security-master --why "checked by hand"
    """
    _of_master(call, master, lambda app: app.rooms.rollout.promote(master, by=person(), why=why), as_json=as_json)


@click.command(cls=Command)
@click.argument("master", type=MASTER)
@click.option("--to", "version", metavar="VERSION", help="The former champion to return to.  [default: the last]")
@_why_option
@json_option
@pass_call
def rollback(call: Call, master: str, *, version: str | None, why: str, as_json: bool) -> None:
    """Give all tasks of MASTER to the champion that is, or was.

    While a challenger is tested, that ends, and the champion stays. While a promoted model is watched, the former
    champion comes back. When neither runs, it comes back if the end of that watch was the last that happened, or if
    --to names it; else nothing changes.

    \b
    Example:  cortex-autolearn rollback security-master --why "answers are cut off"
              cortex-autolearn rollback security-master --to v1.0.0
    """

    def step(app: App) -> Result:
        return app.rooms.rollout.rollback(master, by=person(), why=why, to=version)

    _of_master(call, master, step, as_json=as_json)


@click.command(cls=Command)
@click.argument("test")
@_why_option
@json_option
@pass_call
def pause(call: Call, test: str, *, why: str, as_json: bool) -> None:
    """Give all tasks to the champion for now; the test TEST goes on later. Tasks from the pause do not count.

    \b
    Example:  cortex-autolearn pause security-master-ft-20251127-001 --why "the provider has trouble"
    """
    _of_test(call, test, lambda app: app.rooms.rollout.pause(test, by=person(), why=why), as_json=as_json)


@click.command(cls=Command)
@click.argument("test")
@_why_option
@json_option
@pass_call
def resume(call: Call, test: str, *, why: str, as_json: bool) -> None:
    """Let the paused test TEST go on, with what it had.

    \b
    Example:  cortex-autolearn resume security-master-ft-20251127-001
    """
    _of_test(call, test, lambda app: app.rooms.rollout.resume(test, by=person(), why=why), as_json=as_json)


@click.command(cls=Command)
@click.argument("test")
@_why_option
@json_option
@pass_call
def abort(call: Call, test: str, *, why: str, as_json: bool) -> None:
    """Give the test TEST up: the champion stays, whatever the test has shown.

    A model that is being deployed, or waits for its turn, has no test yet: name it MASTER-MODEL, as its test would be
    called. What is given up is deployed again by cortex-autolearn deploy only.

    \b
    Example:  cortex-autolearn abort security-master-ft-20251127-001 --why "wrong dataset"
    """

    def step(app: App) -> Result:
        return app.rooms.rollout.abort(test, by=person(), why=why)

    _of_test(call, test, step, as_json=as_json, or_untested=True)


def _of_master(call: Call, master: str, step: Callable[[App], Result], *, as_json: bool) -> None:
    with opened(call) as app:
        _require_master(app, master)
        _finish(app, step(app), as_json=as_json)


def _of_test(call: Call, test: str, step: Callable[[App], Result], *, as_json: bool, or_untested: bool = False) -> None:
    with opened(call) as app:
        with app.store.read() as reading:
            if not (or_untested and (held_for(reading, test) or queued_for(reading, test))):
                find_test(reading, test)
        _finish(app, step(app), as_json=as_json)


def _require_master(app: App, master: str) -> None:
    """Refuse a master that nobody has heard of: a slip of the pen would be a test without a task."""
    with app.store.read() as reading:
        there = {held.master for held in reading.servings()}
        there |= {name for name in map(layout.master_name, app.tree.folders(layout.MASTERS)) if name is not None}
        there |= {name for name in reading.training_counts() if name is not None}
        if master in there:
            return
        count, _ = reading.tasks_created(master, 0, instants.to_us(app.clock.now()))
    if not count:
        raise unknown("master", master, sorted(there))


def _finish(app: App, result: Result, *, as_json: bool, is_dry: bool = False) -> None:
    """Print what came of a step, and let what follows from it be done at once."""
    shown: dict[str, Any]
    match result:
        case Refused(reason):
            shown = {"result": "refused", "text": reason}
        case Unchanged(reason):
            shown = {"result": "unchanged", "text": reason}
        case _:
            shown = {"result": "would do" if is_dry else "done", "text": result.text, "event_seq": result.event_seq}
            shown |= {"details": {name: value for name, value in result.details.items() if name != "since_us"}}
            if not is_dry:
                shown |= _followed(app, result.details.get("master"))
    answer(FAILED if shown["result"] == "refused" else 0)
    if as_json:
        print_json(shown)
    elif shown["result"] == "refused":
        note(f"cortex-autolearn: refused: {shown['text']}")
    else:
        text = f"Dry run, nothing is done: {shown['text']}" if is_dry else shown["text"]
        click.echo(wrapped([text, *_told(shown)]))


def _followed(app: App, master: str | None) -> dict[str, Any]:
    """Let what follows from a step be done at once; return what serves its master now."""
    done = app.runner.run("rollout", trigger="command", raise_errors=True)
    for trouble in done.counts.get("troubles", ()):
        note(f"Not done yet, and tried again: {trouble}")
    with app.store.read() as reading:
        held = None if master is None else reading.serving(master)
    if held is None:
        return {"serving": None}
    return {"serving": {name: getattr(held, name) for name in ("champion", "phase", "challenger", "test_id")}}


def _told(shown: dict[str, Any]) -> list[str]:
    """Return what is worth knowing of a test that begins, or would."""
    details, serving = shown.get("details", {}), shown.get("serving") or {}
    if "percentage" not in details:
        return []
    if serving.get("phase") == "testing" and serving["challenger"] == details["model"]:
        return [f"Its test has begun: {serving['test_id']}", *_outlook(details)]
    return _outlook(details)


def _outlook(details: dict[str, Any]) -> list[str]:
    lines = [f"Share of the tasks: {details['percentage']:g} % of about {number(details['tasks_per_day'])} a day"]
    if details.get("occupied_by"):
        lines.append(f"It waits: {details['occupied_by']}, a test that is not ours, runs for this master")
    half, most = details["expected_days"]
    if {GATE_OUT_OF_REACH, QUALITY_OUT_OF_REACH} & set(details["warnings"]):
        lines.append("No promotion is to be expected: see the note")
    elif half is None:
        lines.append("Nothing can be said about how long it takes: no task of this master was seen lately")
    else:
        lines.append(f"A clearly better model is promoted in about {number(half)} days, nine of ten in {number(most)}")
    return lines + [f"Note: {warning}" for warning in details["warnings"]]
