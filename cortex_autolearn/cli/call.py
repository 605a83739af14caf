"""What every command takes and how every command ends: global options, errors, exit codes.

The global options may stand before or after the command's name; what stands after it wins. What a configuration value
may be is ``settings``' business.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from cortex_autolearn.cli.printing import printable
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

F = TypeVar("F")

FAILED: Final = 1
BAD_CONFIG: Final = 78
_INTERRUPTED: Final = 130
_OUTPUT_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
_META: Final = "cortex_autolearn."
_ANSWER: Final = f"{_META}answer"
_HOME: Final = "CORTEX_HOME"
_PROGRAM: Final = "cortex-autolearn"
_COMMAND: Final = re.compile(
    rf"(?<![\w/-]){_PROGRAM} (?P<words>(?:run --init|run-once \w+|config check|medallion --rebuild|events --json|"
    r"label TASK_ID SCORE|dataset build|fine-tune (?:status|jobs|trigger|cancel|complete)\b|"
    r"(?:run|medallion|collect|score|status|schedule|events|doctor|ab|check|explain|deploy|rollback|resume|abort)\b))"
    r"(?![^;\n]* --root)"
)
_REPORT: Final = "This is a bug: please report it with the output of the same command with --debug."

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@dataclass(frozen=True)
class Call:
    """What the global options say.

    ``named_root`` and ``config`` are None where none was named; ``flags`` holds dotted key → text of every ``--set``.
    """

    root: Path
    named_root: Path | None
    config: Path | None
    flags: Mapping[str, object]

    @classmethod
    def of(cls, ctx: click.Context) -> Call:
        """Return what was said, on whichever side of the command's name."""
        meta = ctx.meta
        named = meta.get(f"{_META}root")
        config = meta.get(f"{_META}config")
        return cls(
            root=Path(named or os.environ.get(_HOME) or "."),
            named_root=Path(named) if named else None,
            config=Path(config) if config else None,
            flags=dict(meta.get(f"{_META}set", ())),
        )

    def copyable(self, text: str) -> str:
        """Return a text whose commands work where they are copied: program as it was called, ROOT as it was named."""
        root = "" if self.named_root is None else f" --root {shlex.quote(str(self.named_root))}"
        text = _COMMAND.sub(lambda match: f"{_PROGRAM} {match['words']}{root}", text)
        return re.sub(rf"(?<![\w/-]){_PROGRAM} (?=[a-z])", lambda _: f"{program()} ", text)


def program() -> str:
    """Return how this program is called from here: by its name where that is on the PATH, else as it was called."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == "cortex_autolearn":
        return f"{shlex.quote(sys.executable)} -m cortex_autolearn"
    found = shutil.which(_PROGRAM)
    is_on_path = found is not None and os.path.realpath(found) == os.path.realpath(called)
    return _PROGRAM if is_on_path or called.name != _PROGRAM else shlex.quote(sys.argv[0])


def answer(code: int) -> None:
    """Note the exit code that is a command's answer: it stands also where nobody reads what is printed."""
    click.get_current_context().meta[_ANSWER] = code


def pass_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the :class:`Call` as its first argument."""

    @click.pass_context
    def with_call(ctx: click.Context, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the command takes
        return function(Call.of(ctx), *args, **kwargs)

    with_call.__name__ = function.__name__
    with_call.__doc__ = function.__doc__
    return with_call


class Command(click.Command):
    """A command that takes the global options as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self.params += _global_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; a name or a remark that is not UTF-8 is wrong usage. A ``click.Path`` may be so."""
        rest = super().parse_args(ctx, args)
        for param in self.params:
            value = ctx.params.get(param.name or "")
            if param.type is click.STRING and isinstance(value, str):
                _require_utf8(value, ctx, param)
        return rest


class Group(click.Group):
    """A group of commands that takes the global options; the topmost turns errors into words and exit codes."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self.params += _global_options()

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - click's own
        """Run the program; what cannot be printed before a command is called, such as the help, ends it in words."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if not kwargs.get("standalone_mode", True):
                raise
            _quieten()
            _explained(error).show()
            sys.exit(FAILED)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        """Run what was asked for; only exceptions of click leave the topmost group."""
        if ctx.parent is not None:
            return super().invoke(ctx)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 must not break a message
                stream.reconfigure(errors="backslashreplace")
        try:
            return self._answered(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo(err=True)
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except BrokenPipeError:
            _quieten()
            raise click.exceptions.Exit(ctx.meta.get(_ANSWER, 0)) from None
        except Exception as error:  # noqa: BLE001 - the one place where any error becomes words
            if ctx.meta.get(f"{_META}debug"):
                traceback.print_exc()
            if isinstance(error, OSError):
                _quieten()
            raise _explained(error) from None

    def _answered(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        found = super().invoke(ctx)
        if ctx.meta.get(_ANSWER):
            raise click.exceptions.Exit(ctx.meta[_ANSWER])
        return found


class _Failure(click.ClickException):
    """An error in words, with its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code  # click declares it a constant of the class

    def show(self, file: Any = None) -> None:  # noqa: ANN401 - click's own
        """Print it to stderr, which a supervisor takes to its log: without secrets, whatever was refused."""
        from cortex_autolearn.redact import redact  # noqa: PLC0415 - only who fails needs it

        click.echo(f"cortex-autolearn: {redact(self.message).text}", file=file, err=file is None)


def version_option(function: F) -> F:
    """Add ``--version``, which reads the version when it is asked for."""

    def show(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's own
        if asked:
            from cortex_autolearn import __version__  # noqa: PLC0415 - the package is not needed to parse

            click.echo(f"cortex-autolearn {__version__}")
            ctx.exit()

    option = click.option(
        "--version", is_flag=True, expose_value=False, is_eager=True, callback=show, help="Print the version."
    )
    return option(function)  # type: ignore[type-var]  # click's decorators know callables only


def _global_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--root"],
            metavar="DIR",
            expose_value=False,
            callback=_note,
            help=f"Folder that holds coordination/.  [default: ${_HOME}, else the current folder]",
        ),
        click.Option(
            ["--config"],
            metavar="FILE",
            expose_value=False,
            callback=_note,
            help="Configuration to read instead of ROOT/cortex-autolearn.toml.",
        ),
        click.Option(
            ["--set"],
            metavar="SECTION.KEY=VALUE",
            multiple=True,
            expose_value=False,
            callback=_note_settings,
            help="A setting for this call, such as collect.min_quality=4.5. May be given again and again.",
        ),
        click.Option(
            ["--debug"], is_flag=True, expose_value=False, callback=_note, help="Show where an error came from."
        ),
    ]


def _require_utf8(value: str, ctx: click.Context, param: click.Parameter) -> None:
    try:
        value.encode("utf-8")
    except UnicodeError as error:
        raise click.BadParameter(f"it is not UTF-8: {error}.", ctx=ctx, param=param) from None


def _note(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value is not None and value is not False:
        if value == "":
            raise click.BadParameter("it is empty", ctx=ctx, param=param)
        ctx.meta[f"{_META}{param.name}"] = value


def _note_settings(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> None:
    settings: dict[str, str] = ctx.meta.setdefault(f"{_META}set", {})
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            example = "such as --set collect.min_quality=4.5"
            raise click.BadParameter(f"{text!r} is not SECTION.KEY=VALUE, {example}", ctx=ctx, param=param)
        settings[key.strip()] = value


def _explained(error: Exception) -> click.ClickException:
    if isinstance(error, BoundaryError):
        return _Failure(printable(str(error)), FAILED)
    settings = sys.modules.get("cortex_autolearn.settings_sources")  # not imported: then it was not raised either
    if settings is not None and isinstance(error, settings.ConfigError):
        lines = [f"  {problem}" for problem in error.problems]
        return _Failure("\n".join(["the configuration is wrong:", *lines]), BAD_CONFIG)
    if isinstance(error, OSError) and error.strerror:
        return _Failure(printable(_refusal(error)), FAILED)
    return _Failure(f"{type(error).__name__}: {printable(str(error))}\n{_REPORT}", FAILED)


def _refusal(error: OSError) -> str:
    """Say what the machine refused; that is no bug."""
    if error.filename is not None:
        return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}"
    try:
        Path.cwd()
    except OSError:
        return "the current folder was removed: go to another one"
    if error.errno in _OUTPUT_ERRORS:
        return f"cannot write the output: {error.strerror}"
    return f"the system refused: {error.strerror}"


def _quieten() -> None:
    """Let what is still to be written go nowhere: whoever reads our output has enough, or it cannot be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
        except ValueError:  # closed
            continue
    os.close(nowhere)
