"""The log of one command: warnings as plain lines on stderr, the rest nowhere.

What a command did it prints itself; the structured log is the daemon's, and costs more to import than most commands
take.
"""

from __future__ import annotations

from cortex_autolearn.cli.printing import as_pairs, note

_SAID = frozenset({"input_unreadable", "provider_trouble"})
"""Events that the command tells of itself, in its own words."""


class QuietLog:
    """Implements ``adapters.observe.Log``."""

    def debug(self, event: str, **keys: object) -> None:
        """Say nothing."""

    def info(self, event: str, **keys: object) -> None:  # noqa: ARG002 - it has no values worth a line
        """Say nothing, but that another process has to be waited for."""
        if event == "waiting_for_other_run":
            note("Another process runs this job now: waiting for it …")

    def warning(self, event: str, **keys: object) -> None:
        """Print what may need a look."""
        if event not in _SAID:
            note(f"cortex-autolearn: {event}: {as_pairs(keys)}")

    error = warning

    def bind(self, **keys: object) -> QuietLog:  # noqa: ARG002 - what is bound tells which command this is
        """Return itself."""
        return self


class Quiet:
    """Stands in for ``adapters.observe.Logging``."""

    dropped = 0
    write_errors = 0

    def __init__(self) -> None:
        self.log = QuietLog()

    def close(self, timeout_s: float = 2.0) -> None:
        """Do nothing: every line is out already."""
