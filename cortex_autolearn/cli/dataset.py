"""``dataset``: builds datasets of what was collected, and shows, compares and exports them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from cortex_autolearn.adapters import files
from cortex_autolearn.cli.call import Command, Group, json_option, pass_call
from cortex_autolearn.cli.opened import opened
from cortex_autolearn.cli.printing import Bar, plural, print_json, printable, size, table
from cortex_autolearn.model import chat_formats, instants, layout
from cortex_autolearn.model.training import DATASET_SPLITS
from cortex_autolearn.model.training_jobs import GLOBAL
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.runner import Unrecorded
from cortex_autolearn.training import frozen
from cortex_autolearn.training.dataset import difference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cortex_autolearn.cli.call import Call
    from cortex_autolearn.model.training import DatasetRow
    from cortex_autolearn.training.frozen import Dataset
    from cortex_autolearn.wiring import App

_SHOWN: Final = 10
_LONGEST_ID: Final = 64


@click.group(cls=Group)
def dataset() -> None:
    """Build, show, compare and export datasets of examples.

    A dataset is frozen: its id follows from its content. Any beginning of an id will do where it is the only one.

    \b
    Example:  cortex-autolearn dataset build
              cortex-autolearn dataset export --format openai
    """


@dataset.command("list", cls=Command)
@json_option
@pass_call
def list_(call: Call, *, as_json: bool) -> None:
    """List all datasets, the oldest first.

    \b
    Example:  cortex-autolearn dataset list
    """
    with opened(call, looks_only=True) as app:
        with app.store.read() as reading:
            rows = reading.datasets()
        there = {row.dataset_id: _is_there(app, row) for row in rows}
    if as_json:
        print_json({"datasets": [_row_dict(row) | {"is_there": there[row.dataset_id]} for row in rows]})
        return
    if not rows:
        click.echo(call.copyable("There is none yet. Build one by: cortex-autolearn dataset build"))
        return
    lines = [("DATASET", "SCOPE", "CREATED (UTC)", "TRAIN", "VALIDATION", "TOKENS", "PARENT", "")]
    for row in rows:
        created = f"{instants.from_us(row.created_us):%Y-%m-%d %H:%M:%S}"
        numbers = (f"{row.train:,}", f"{row.validation:,}", f"{row.tokens:,}")
        lost = "" if there[row.dataset_id] else "its files are gone"
        lines.append((row.dataset_id, row.scope, created, *numbers, row.parent or "", lost))
    click.echo(table(lines))


@dataset.command(cls=Command)
@click.argument("dataset_id", metavar="[DATASET]", required=False)
@json_option
@pass_call
def show(call: Call, *, dataset_id: str | None, as_json: bool) -> None:
    """Show what a dataset holds, what was left out and why. Without DATASET, the newest.

    \b
    Example:  cortex-autolearn dataset show
              cortex-autolearn dataset show 3f9a --json | jq .by_master
    """
    with opened(call, looks_only=True) as app:
        found = frozen.open_dataset(app.tree, _row(call, app, dataset_id).dataset_id)
        is_whole = found.is_whole()
    shown: dict[str, Any] = msgspec.to_builtins(found.manifest)
    del shown["examples"], shown["dropped_examples"]
    shown |= {"path": found.folder, "is_whole": is_whole}
    if as_json:
        print_json(shown)
    else:
        click.echo(printable(_text(shown)))


@dataset.command(cls=Command)
@click.option("--master", metavar="MASTER", help="Only of this master's work; else of all.")
@json_option
@pass_call
def build(call: Call, *, master: str | None, as_json: bool) -> None:
    """Build the dataset of what is collected now.

    Secrets are masked, duplicates left out, and nothing of the validation split is trained on. The same outcomes and
    settings give the same dataset, which is then not written again.

    \b
    Example:  cortex-autolearn dataset build
              cortex-autolearn dataset build --master security-master --json
    """
    scope = GLOBAL
    if master is not None:
        scope = layout.master_name(master) or ""
        if not scope:
            raise click.UsageError(f"{master!r} cannot be the name of a master.")
    bar = Bar()
    with opened(call) as app:
        try:
            made = app.datasets.build(scope, _Shown(bar), is_to_stay=True)
        finally:
            bar.clear()
    if as_json:
        print_json(made.as_dict())
        return
    new = "Built" if made.created else "It is there already:"
    lines = [
        f"{new} {made.row.dataset_id}",
        f"Training:   {plural(made.row.train, 'example')}, {made.row.tokens:,} tokens",
        f"Validation: {plural(made.row.validation, 'example')}",
        f"Path:       {layout.dataset_folder(made.row.dataset_id)}",
        *_counted("Left out:", made.dropped),
        *_counted("Masked:", made.redactions),
    ]
    click.echo("\n".join(lines))


@dataset.command(cls=Command)
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@json_option
@pass_call
def diff(call: Call, *, before: str, after: str, as_json: bool) -> None:
    """Show which tasks are in dataset B and not in A, or in A and not in B, and whose example changed.

    \b
    Example:  cortex-autolearn dataset diff 3f9a c07e
    """
    with opened(call, looks_only=True) as app:
        old, new = (frozen.open_dataset(app.tree, _row(call, app, one).dataset_id) for one in (before, after))
    changes = {
        split: difference(old.manifest.examples[split], new.manifest.examples[split]) for split in DATASET_SPLITS
    }
    if as_json:
        shown: dict[str, Any] = {"a": old.dataset_id, "b": new.dataset_id, "settings": _settings_changed(old, new)}
        print_json(shown | {split: change._asdict() for split, change in changes.items()})
        return
    lines = [f"From {old.dataset_id} to {new.dataset_id}:"]
    for split, change in changes.items():
        lines.append(
            f"{split}: {len(change.added):,} added, {len(change.removed):,} removed, "
            f"{len(change.changed):,} changed, {change.same:,} the same"
        )
        for sign, tasks in (("+", change.added), ("-", change.removed), ("~", change.changed)):
            lines += [f"  {sign} {task}" for task in tasks[:_SHOWN]]
            lines += [f"  {sign} … and {len(tasks) - _SHOWN:,} more"] * (len(tasks) > _SHOWN)
    settings = _settings_changed(old, new)
    lines += [f"dataset.{name}: {was} → {now}" for name, (was, now) in settings.items()]
    click.echo(printable("\n".join(lines)))


@dataset.command(cls=Command)
@click.argument("dataset_id", metavar="[DATASET]", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(chat_formats.FORMATS),
    default="claude",
    show_default=True,
    help="Whose format the files are to have.",
)
@click.option(
    "--to", "folder", metavar="DIR", type=click.Path(), help="Where to write them.  [default: ./DATASET-FORMAT]"
)
@json_option
@pass_call
def export(call: Call, *, dataset_id: str | None, form: str, folder: str | None, as_json: bool) -> None:
    """Write both splits of a dataset in a provider's format. Without DATASET, the newest.

    \b
    claude                {"system", "messages"}, as a dataset holds them
    bedrock-conversation  Amazon Bedrock's conversations (Nova, Llama)
    openai                chat messages, the system prompt first
    prompt-completion     one prompt, one completion

    \b
    Example:  cortex-autolearn dataset export --format openai --to /srv/training
    """
    with opened(call, looks_only=True) as app:
        found = frozen.open_dataset(app.tree, _row(call, app, dataset_id).dataset_id)
        place = Path(folder or f"{found.dataset_id}-{form}").absolute()
        if place.resolve().is_relative_to((app.root / layout.DATASETS).resolve()):
            raise click.UsageError(f"{place} is where datasets are kept as they were frozen: export to another folder.")
        written: dict[str, dict[str, Any]] = {}
        for split in DATASET_SPLITS:
            path = place / f"{split}.jsonl"
            files.replace(path, (chat_formats.convert(line, form) for line in found.lines(split)))
            written[split] = {"path": str(path), "examples": found.manifest.counts[split], "bytes": path.stat().st_size}
    if as_json:
        shown: dict[str, Any] = {"dataset_id": found.dataset_id, "format": form}
        print_json(shown | written)
        return
    for one in written.values():
        click.echo(f"{one['path']}: {plural(one['examples'], 'example')}, {size(one['bytes'])}")


class _Shown(Unrecorded):
    """A run that shows how far it is."""

    def __init__(self, bar: Bar) -> None:
        self.progress = bar  # type: ignore[method-assign]  # called alike


def _row(call: Call, app: App, wanted: str | None) -> DatasetRow:
    """Return the dataset whose id begins so, or the newest.

    Raises:
        BoundaryError: there is none, or there are several.
    """
    with app.store.read() as reading:
        rows = reading.datasets()
    if wanted is None:
        if rows:
            return rows[-1]
        hint = call.copyable("Build one by: cortex-autolearn dataset build")
        raise BoundaryError("find the newest dataset", str(app.root), "there is none yet", hint=hint, retryable=False)
    matching = [row for row in rows if wanted and row.dataset_id.startswith(wanted)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        cause, hint = f"{len(matching)} datasets begin so: {_names(matching)}", "Give more of the id"
    else:
        cause = "there is none of this id"
        hint = f"There are: {_names(rows)}" if rows else "There is none at all yet"
    raise BoundaryError("find the dataset", wanted[:_LONGEST_ID], cause, hint=hint, retryable=False)


def _names(rows: list[DatasetRow]) -> str:
    names = [row.dataset_id for row in rows[-_SHOWN:]]
    return ", ".join(["…"] * (len(rows) > _SHOWN) + names)


def _is_there(app: App, row: DatasetRow) -> bool:
    names = (frozen.MANIFEST, *(f"{split}.jsonl" for split in DATASET_SPLITS))
    return all((app.tree.path(layout.dataset_file(row.dataset_id, name))).is_file() for name in names)


def _row_dict(row: DatasetRow) -> dict[str, Any]:
    return {
        "dataset_id": row.dataset_id,
        "path": layout.dataset_folder(row.dataset_id),
        "scope": row.scope,
        "parent": row.parent,
        "created_at": instants.us_to_text(row.created_us),
        "train": row.train,
        "validation": row.validation,
        "tokens": row.tokens,
    }


def _settings_changed(old: Dataset, new: Dataset) -> dict[str, tuple[Any, Any]]:
    was, now = old.manifest.configuration, new.manifest.configuration
    names = dict.fromkeys((*was, *now))
    return {name: (was.get(name), now.get(name)) for name in names if was.get(name) != now.get(name)}


def _text(shown: dict[str, Any]) -> str:
    lines = [
        f"Dataset:     {shown['dataset_id']}"
        + ("" if shown["is_whole"] else "  (its files are not as they were frozen)"),
        f"Path:        {shown['path']}",
        f"Scope:       {shown['scope']}",
        f"Created:     {shown['created_at']} by cortex-autolearn {shown['package_version']}",
        f"Parent:      {shown['parent'] or 'none'}",
        f"Considered:  {plural(shown['considered'], 'outcome')}",
    ]
    for split in DATASET_SPLITS:
        examples, measured = plural(shown["counts"][split], "example"), size(shown["files"][split]["bytes"])
        lines += [
            f"{split.capitalize() + ':':<12} {examples}, {shown['tokens'][split]:,} tokens, {measured}",
            *_counted("  by master:", shown["by_master"][split]),
            *_counted("  by task type:", shown["by_task_type"][split]),
        ]
    return "\n".join([*lines, *_counted("Left out:", shown["dropped"]), *_counted("Masked:", shown["redactions"])])


def _counted(title: str, counts: Mapping[str, int]) -> list[str]:
    indent = " " * (len(title) - len(title.lstrip()) + 2)
    return [title, *(f"{indent}{name}: {count:,}" for name, count in counts.items())] if counts else []
