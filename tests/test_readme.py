"""The README tells the truth: its commands exist, and its tables hold every command and setting with its default."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from test_plan import BARS, NOW, built, facts

from cortex_autolearn import jobs, settings
from cortex_autolearn.cli import main
from cortex_autolearn.collect.gate import REASONS
from cortex_autolearn.training.plan import Start, decide

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text("utf-8")
LINES = README.splitlines()
GLOBAL = {"--root", "--config", "--set", "--debug", "--help", "--version"}
TYPES = {"integer": "N", "integer range": "N"}
DEFAULT_CHARS = 60


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below ``group`` that does something by itself, with its full name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield " ".join([*names, name]), command


def command_row(name: str, command: click.Command) -> str:
    """Return the line of the README's table that describes a command."""
    options = []
    for param in command.params:
        if isinstance(param, click.Argument):
            name += f" {param.human_readable_name}"
        elif isinstance(param, click.Option) and not GLOBAL & set(param.opts):
            takes = "" if param.is_flag else f" {param.metavar or TYPES.get(param.type.name, param.type.name.upper())}"
            options.append(f"`{param.opts[0]}{takes}`")
    what = (command.help or "").partition("\n\n")[0].replace("\n", " ").strip()
    return f"| `{name}` | {', '.join(options)} | {what} |"


def setting_row(field: settings.Field) -> str:
    """Return the line of the README's table that describes a setting."""
    default = field.default if len(field.default) <= DEFAULT_CHARS else field.default[:DEFAULT_CHARS] + "…"
    return f"| `{field.key}` | {f'`{default}`' if default else 'to be given'} | {field.allowed} | {field.description} |"


def setting_rows() -> list[str]:
    """Return the whole table of settings, the keys of tables in lists behind their list."""
    return [setting_row(one) for field in settings.fields() for one in (field, *field.members)]


def table_below(heading: str) -> list[str]:
    """Return the rows of the table below a heading, without its head."""
    lines = iter(LINES[LINES.index(heading) + 1 :])
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append(line)
        elif rows or line.startswith("##"):
            break
    return rows[2:]


def test_every_setting_is_described() -> None:
    """Keys, defaults, limits and words are those of the code, in its order; nothing else is in the table."""
    assert table_below("## Settings") == setting_rows()


def test_every_command_is_described() -> None:
    """Names, arguments, options and words are those of the code, in the order of the help."""
    assert table_below("## Commands") == [command_row(*one) for one in commands(main)]


def test_every_reason_of_the_gate_is_described() -> None:
    """The table of reasons holds all of them, in the order in which they apply."""
    assert [row.split("`")[1] for row in table_below("### What is collected")] == list(REASONS)


def test_every_event_is_described() -> None:
    """What the code logs, and what it tells in the events file, is named where operators look for it."""
    told: set[str] = set()
    for path in (REPOSITORY / "cortex_autolearn").rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call))
        for call in calls:
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if call.args and name in {"info", "warning", "error", "event", "_log", "_notice", "own_record"}:
                said = call.args[0]
                branches = [said.body, said.orelse] if isinstance(said, ast.IfExp) else [said]
                told |= {str(one.value) for one in branches if isinstance(one, ast.Constant)}
    counts = {"objects": 1, "processed": 1, "scored": 1}
    told |= {str(jobs.event_of(job, counts, is_whole=True)) for job in jobs.BODIES} - {"None"}
    assert len(told) > 30
    section = README.split("\n## Logs and events\n")[1].split("\n## ")[0]
    assert sorted(event for event in told if f"`{event}`" not in section) == []


def test_every_event_of_the_log_exists() -> None:
    """Nobody waits for a line that never comes."""
    source = "".join(path.read_text() for path in (REPOSITORY / "cortex_autolearn").rglob("*.py"))
    section = README.split("\n## Logs and events\n")[1].split("\n| `event` | meaning |\n")[1].split("\n\n")[0]
    names = [name for row in section.splitlines()[1:] for name in row.split("|")[1].split("`")[1::2]]
    assert len(names) > 30
    assert [name for name in names if f'"{name}"' not in source] == []


def test_there_are_two_blocks_to_run() -> None:
    """The quick start has the only two: one does the main job, one passes the tests, both in a fresh environment."""
    blocks = re.findall(r"^```(?:sh|bash|console|shell)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    first, second = (block.splitlines() for block in blocks)
    assert first[0] == second[0] == "python3 -m venv .venv"
    assert first[-1].split()[:2] == [".venv/bin/cortex-autolearn", "demo"]
    assert second[-1].removeprefix(".venv/bin/") == (REPOSITORY / ".ci" / "run").read_text("utf-8").splitlines()[-1]
    assert README.index("```sh") < README.index("## On your own")


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith(("cortex-autolearn ", ".venv/bin/cortex"))])
def test_commands_in_examples_exist(line: str) -> None:
    """An example that is copied finds its command and its options."""
    words = shlex.split(re.sub(r" {3,}.*", "", line))[1:]
    names = dict(commands(main))
    name = next(name for name in names if words[: len(name.split())] == name.split())
    known = {option for param in names[name].params if isinstance(param, click.Option) for option in param.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_inline_commands_exist_or_are_said_not_to() -> None:
    """A command that the text names exists, unless its row in the table says "not yet"."""
    names = {name.split()[0] for name, _ in commands(main)}
    for line in LINES:
        if "| not yet" not in line:
            for name in re.findall(r"`cortex-autolearn ([a-z-]+)", line):
                assert name in names, line


def test_the_lock_names_no_host() -> None:
    """Packages come from wherever pip is configured to look, and each is pinned by hash."""
    lock = (REPOSITORY / "requirements.lock").read_text("utf-8")
    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links", lock)
    pins = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE))
    assert all(re.match(r"[a-z0-9.-]+==", pin) and "--hash=sha256:" in pin for pin in pins if pin.strip())


def test_every_dependency_is_accounted_for() -> None:
    """The supply chain names each package that is installed with this one, and with what trains at a provider."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    chapter = README.partition("## Supply chain")[2].partition("\n## ")[0]
    wanted = [*project["dependencies"], *extras["bedrock"], *extras["openai"]]
    names = {re.split(r"[<>=;\[ ]", one)[0] for one in wanted}
    rows = "\n".join(line.split("|")[1] for line in chapter.splitlines() if line.startswith("|"))
    assert {name for name in names if not re.search(rf"\b{re.escape(name)}\b", rows)} == set()
    assert len(names) > 12


def test_what_a_full_dataset_keeps_from_starting_is_said_as_it_is() -> None:
    """Nothing: whoever takes a small ``dataset.max_train`` for a brake pays for a training."""
    (row,) = [line for line in LINES if line.startswith("| `too_few_after_cleaning` |")]
    decision = decide(facts(1200, made=built(500)._replace(is_full=True)), BARS, NOW)
    assert isinstance(decision, Start)
    assert "`dataset.max_train` below `training.min_examples` keeps nothing from starting" in row
