"""What commands print: JSON, tables, numbers in words, and a progress bar.

Results go to stdout, everything else to stderr. What comes from files and errors may hold anything, so it is made
printable first.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BAR_CHARS: Final = 28
_REDRAW_S: Final = 0.1
_LINES_AT_ONCE: Final = 1_000


def print_json(value: object) -> None:
    """Print one JSON object on one line, with escapes for what would steer a terminal."""
    text = orjson.dumps(value, default=str).decode()
    if not text.isprintable():
        # JSON knows escapes of four digits alone: what lies beyond them takes two.
        text = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
    click.echo(text)


def print_lines(lines: Iterable[str]) -> None:
    """Print many lines, a thousand at a time."""
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _LINES_AT_ONCE:
            click.echo("\n".join(batch))
            batch.clear()
    if batch:
        click.echo("\n".join(batch))


def note(text: str) -> None:
    """Print a line that is no result, to stderr."""
    click.echo(printable(text), err=True)


def printable(text: str) -> str:
    """Escape what would steer a terminal; line feeds stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )


def one_line(text: str) -> str:
    """As :func:`printable`, line feeds too: what others wrote shall not pass for a line of ours."""
    return printable(text).replace("\n", "\\n")


def table(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Lay rows out in columns as wide as their widest cell; the last column is left as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [one_line(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def colored(text: str, color: str) -> str:
    """Color a text for a terminal; click takes colors away where there is none, we where ``NO_COLOR`` is set."""
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=color)


def size(count: float) -> str:
    """Return a number of bytes in words: ``3.1 MB`` (decimal units)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 file`` or ``2,000 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def period(seconds: float) -> str:
    """Return a length of time in words: ``0.42 s``, ``3 min``, ``5.0 h``, ``2.1 days``."""
    if seconds < 100:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


class Bar:
    """A progress bar on stderr, where that is a terminal; else nothing. Call it with (done, total)."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._drawn_at = 0.0
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        """Draw how far the run is, ten times a second at most."""
        now = time.monotonic()
        if not self._shows or total <= 0 or now - self._drawn_at < _REDRAW_S:
            return
        self._drawn_at = now
        share = min(1.0, done / total)
        filled = round(share * _BAR_CHARS)
        text = f"[{'#' * filled}{'.' * (_BAR_CHARS - filled)}] {share:4.0%}"
        self._width = len(text)
        sys.stderr.write(f"\r{text}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar off the screen."""
        if self._width:
            sys.stderr.write(f"\r{' ' * self._width}\r")
            sys.stderr.flush()
            self._width = 0


def as_pairs(counts: dict[str, Any]) -> str:
    """Return counts as ``name=value`` pairs, those of zero, None or nothing left out."""
    pairs = []
    for name, value in counts.items():
        if value in (0, None, "", [], {}):
            continue
        text = value if isinstance(value, str | int | float) else orjson.dumps(value, default=str).decode()
        pairs.append(f"{name}={text}")
    return " ".join(pairs)
