"""``fine-tune``: how far a training is due, those there were, and starting, ending and completing one by hand."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from cortex_autolearn import status as status_module
from cortex_autolearn.cli.call import FAILED, Command, Group, answer, json_option, pass_call
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.person import person
from cortex_autolearn.cli.printing import Bar, note, print_json, printable, table
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.training_jobs import GLOBAL
from cortex_autolearn.training.facts import tried
from cortex_autolearn.training.job import UnknownScopeError, UnknownTrainingError, decision_dict
from cortex_autolearn.training.plan import rests_until_us
from cortex_autolearn.training.tend import configuration, training_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cortex_autolearn.adapters.store import Store
    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.wiring import App

_PROVIDER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,255}")


@click.group("fine-tune", cls=Group)
def fine_tune() -> None:
    """Show whether a training is due and how those under way are; start, cancel or complete one by hand.

    The daemon starts a training by itself when enough new examples are there, and looks after it. What a training is
    made of and may cost is set in [training]; what becomes an example, in [dataset].

    \b
    Example:  cortex-autolearn fine-tune status
              cortex-autolearn fine-tune trigger --dry-run
    """


@fine_tune.command(cls=Command)
@json_option
@pass_call
def status(call: Call, *, as_json: bool) -> None:
    """Show how many training examples there are, of how many that are needed, and what is under way.

    \b
    Example:  cortex-autolearn fine-tune status
              cortex-autolearn fine-tune status --json | jq .fine_tuning.scopes
    """
    with opened(call, looks_only=True) as app:
        found = status_module.gather(app).as_dict()
    kept = {name: found[name] for name in ("data_collection", "fine_tuning", "cost_estimate")}
    if as_json:
        print_json(kept)
        return
    data, training, cost = found["data_collection"], found["fine_tuning"], found["cost_estimate"]
    click.echo(
        f"Training examples: {data['training_examples']:,} of {data['min_required']:,} ({data['progress_percent']:g} %)"
    )
    for scope in training["scopes"]:
        new = f"  {scope['scope']}: {scope['new']:,} new since its last training, {scope['needed']:,} needed"
        click.echo(printable(new))
    usd = cost["estimated_cost_usd"]
    price = "unknown" if usd is None else f"{usd:.2f} USD"
    by = f"{training['backend']} on {training['base'] or 'no base'}"
    click.echo(printable(f"A training now: {cost['estimated_tokens']:,} tokens, {price}, {by}"))
    last = "" if training["last_model"] is None else f", the last one {training['last_model']}"
    click.echo(f"Models trained: {training['models_trained']}{last}")
    for decision in training["decided"]:
        if decision["decision"] == "wait" and decision["reason"] != "too_few_examples":  # that is said above
            click.echo(printable(f"{_said(decision, is_dry=False)} ({training['decided_at']})"))
    for job in training["active"]:
        progress = "" if job["progress_percent"] is None else f", {job['progress_percent']:g} %"
        click.echo(
            printable(f"Under way: {job['model_id']} ({job['scope']}, {job['backend']}): {job['state']}{progress}")
        )
        if job["reason"]:
            click.echo(printable(call.copyable(f"  {job['reason']}")))
    for trouble in training["troubles"]:
        click.echo(printable(call.copyable(f"Trouble at the last look: {trouble}")))


@fine_tune.command(cls=Command)
@json_option
@pass_call
def jobs(call: Call, *, as_json: bool) -> None:
    """List the trainings, the oldest first, with their progress and what their backends measured.

    JOB, in the other commands, is the model that a training makes: the first column.

    \b
    Example:  cortex-autolearn fine-tune jobs
              cortex-autolearn fine-tune jobs --json | jq '.jobs[-1].metrics'
    """
    with opened(call, looks_only=True) as app, app.store.read() as reading:
        found = [training_dict(training) for training in reading.trainings()]
    if as_json:
        print_json({"jobs": found})
        return
    if not found:
        note(call.copyable("No training yet. How far things are: cortex-autolearn fine-tune status"))
        return
    rows = [["MODEL", "SCOPE", "BACKEND", "DATASET", "STATE", "PROGRESS", "ASKED AT", "MEASURED, AND WHY"]]
    for job in found:
        progress = "" if job["progress_percent"] is None else f"{job['progress_percent']:g} %"
        cells = [job["model_id"], job["scope"], job["backend"], job["dataset_id"], job["state"], progress]
        metrics = {name: value for name, value in job["metrics"].items() if not name.endswith("_standard_error")}
        measured = ", ".join(f"{name} {value}" for name, value in metrics.items())
        rows.append([*cells, job["asked_at"], "; ".join(filter(None, (measured, call.copyable(job["reason"]))))])
    click.echo(table(rows))


@fine_tune.command(cls=Command)
@click.option("--master", metavar="MASTER", help="Train a model for this master only; else one for all.")
@click.option("--force", is_flag=True, help="Start with fewer examples, or sooner after a failure, than the rule asks.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing.")
@json_option
@pass_call
def trigger(call: Call, *, master: str | None, force: bool, dry_run: bool, as_json: bool) -> None:
    """Start a training now, if the rule allows it. A second one of the same scope is never started.

    What it rests on is printed in any case: examples, cost, and what stands in the way. Not even --force goes beyond
    the budget, or starts what the backend cannot do. Exit code 1 when nothing was started, or would be.

    \b
    Example:  cortex-autolearn fine-tune trigger --dry-run
              cortex-autolearn fine-tune trigger --master security-master
              cortex-autolearn fine-tune trigger --force --set training.backend=export
    """
    scope = _scope(master)
    try:
        shown = _preview(call, scope, force=force) if dry_run else _trigger(call, scope, force=force)
    except UnknownScopeError as error:
        raise click.UsageError(f"{error}.") from None
    answer(0 if shown["decision"] in ("start", "build") else FAILED)
    if as_json:
        print_json(shown)
    else:
        _show_decision(call, shown, is_dry=dry_run)


@fine_tune.command(cls=Command)
@click.argument("job")
@click.option(
    "--give-up",
    is_flag=True,
    help="End it here even if its backend does not answer; see there whether it still runs, and what it costs.",
)
@json_option
@pass_call
def cancel(call: Call, *, job: str, give_up: bool, as_json: bool) -> None:
    """End the training that makes model JOB, such as ft-20261122-001.

    Its backend is asked to end it. While that does not answer, the training stays, and the daemon goes on asking.
    One that has made its model by then has succeeded.

    That ends this training, and no more: where there are enough new examples, the daily look starts another one of the
    same scope on them a day later (2, then 4 after the next cancelled or failed ones in a row). A training.min_examples
    out of reach keeps it from that.

    \b
    Example:  cortex-autolearn fine-tune cancel ft-20261122-001
    """
    with opened(call) as app:
        with _naming_a_training():
            model_id = app.rooms.training.cancel(job).model_id
        options: dict[str, Any] = {"give_up": model_id} if give_up else {}
        result = app.runner.run("training", trigger="command", raise_errors=True, **options)
        _show_one(call, app.store, model_id, result.counts, as_json=as_json)
        if not as_json:
            _warn_of_next(app, model_id)


@fine_tune.command(cls=Command)
@click.argument("job")
@click.option("--model", metavar="ID", required=True, help="The provider's id of the model that was trained elsewhere.")
@json_option
@pass_call
def complete(call: Call, *, job: str, model: str, as_json: bool) -> None:
    """Hand in the model that was trained elsewhere from what the backend "export" wrote for JOB.

    \b
    Example:  cortex-autolearn fine-tune complete ft-20261122-001 --model my-provider/tuned-7
    """
    if not _PROVIDER_ID.fullmatch(model):
        raise click.UsageError(f"{model!r} cannot be the id of a model: 1 to 256 letters, digits and ._:@/- are.")
    with opened(call) as app:
        with _naming_a_training():
            model_id = app.rooms.training.complete(job, model).model_id
        result = app.runner.run("training", trigger="command", raise_errors=True)
        _show_one(call, app.store, model_id, result.counts, as_json=as_json)


def _scope(master: str | None) -> str:
    if master is None:
        return GLOBAL
    scope = layout.master_name(master)
    if scope is None:
        raise click.UsageError(f"{master!r} cannot be the name of a master.")
    return scope


def _preview(call: Call, scope: str, *, force: bool) -> dict[str, Any]:
    with opened(call, looks_only=True) as app:
        return decision_dict(app.rooms.training.preview(scope, is_forced=force))


def _trigger(call: Call, scope: str, *, force: bool) -> dict[str, Any]:
    bar = Bar()
    with opened(call) as app:
        app.rooms.training.preview(scope, is_forced=force)  # a name that is wrong is no run that failed
        try:
            options: dict[str, Any] = {"start": scope, "is_forced": force, "by": person()}
            result = app.runner.run("training", trigger="command", progress=bar, raise_errors=True, **options)
        finally:
            bar.clear()
        with app.store.read() as reading:
            newest = reading.trainings(scope)[-1:]
    shown: dict[str, Any] = result.counts["decision"]
    if shown["decision"] == "start" and newest:
        shown |= {"configuration": configuration(newest[0]), "job": training_dict(newest[0])}
    if "troubles" in result.counts:
        shown["troubles"] = result.counts["troubles"]
    return shown


@contextmanager
def _naming_a_training() -> Iterator[None]:
    try:
        yield
    except UnknownTrainingError as error:
        raise click.UsageError(f"{error}.") from None


def _show_decision(call: Call, shown: dict[str, Any], *, is_dry: bool) -> None:
    click.echo(printable(call.copyable(_said(shown, is_dry=is_dry))))
    if "new" in shown:
        click.echo(f"Training examples: {shown['examples']:,}, new: {shown['new']:,}, needed: {shown['needed']:,}")
    if shown.get("train_split") is not None:
        click.echo(f"After cleaning: {shown['train_split']:,}")
    for name, value in shown.get("configuration", {}).items():
        text = ", ".join(f"{key}={one}" for key, one in value.items()) if isinstance(value, dict) else value
        click.echo(printable(f"  {name}: {'unknown' if text is None else text}"))
    if "job" in shown:
        click.echo(printable(call.copyable(_line(shown["job"]))))
    for trouble in shown.get("troubles", ()):
        note(f"Not done yet: {trouble}")


def _said(shown: dict[str, Any], *, is_dry: bool) -> str:
    scope = shown["scope"]
    match shown["decision"]:
        case "start":
            return f"Started: {scope}, on dataset {shown['dataset_id']}"
        case "build":
            return f"Would build a dataset for {scope}, and train on what cleaning leaves of it"
        case "poll" | "abandon":
            return f"Under way already: {shown['model_id']} ({scope}). Nothing else of this scope is started"
        case _:
            until = f", until {shown['until']}" if shown["until"] else ""
            return f"{'Would not start' if is_dry else 'Not started'}: {scope}: {shown['text']}{until}"


def _show_one(call: Call, store: Store, model_id: str, counts: dict[str, Any], *, as_json: bool) -> None:
    with store.read() as reading:
        training = reading.training(model_id)
    assert training is not None
    shown = training_dict(training)
    answer(FAILED if training.ended_us is None else 0)
    if as_json:
        print_json(shown)
    else:
        click.echo(printable(call.copyable(_line(shown))))
    if training.ended_us is None:
        for trouble in counts.get("troubles", ()):
            note(f"Not done yet: {trouble}")


def _warn_of_next(app: App, model_id: str) -> None:
    """Say when another training may take the place of the one that was cancelled."""
    with app.store.read() as reading:
        training = reading.training(model_id)
        if training is None or training.state != "cancelled":
            return
        until_us = rests_until_us(tuple(map(tried, reading.trainings(training.scope))))
    if until_us is not None:
        at = f"{instants.from_us(until_us):%Y-%m-%d %H:%M} UTC"
        note(
            f"The daily look starts another training of {training.scope} after {at}, where enough examples are new; a "
            "training.min_examples out of reach keeps it from that."
        )


def _line(job: dict[str, Any]) -> str:
    reason = f": {job['reason']}" if job["reason"] else ""
    return f"{job['model_id']} ({job['scope']}, {job['backend']}): {job['state']}{reason}"
