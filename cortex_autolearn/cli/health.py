"""``health``: for a container's HEALTHCHECK, a load balancer's script, or a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from cortex_autolearn.adapters import lock
from cortex_autolearn.adapters.files import wrap
from cortex_autolearn.cli.call import FAILED, Command, answer, json_option, pass_call
from cortex_autolearn.cli.printing import print_json
from cortex_autolearn.model import layout

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.cli.call import Call

_TIMEOUT_S: Final = 5.0
_STALE_S: Final = 95.0
"""What a daemon with the default heartbeat notes; for one that has not noted anything yet."""
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


class _Found(NamedTuple):
    """What there is to say: whether all is well, in a word, and how it was found out."""

    ok: bool
    status: str
    by: str


@click.command(cls=Command)
@click.option("--ready", is_flag=True, help="Ask whether it can do its work, not only whether it lives.")
@json_option
@pass_call
def health(call: Call, *, ready: bool, as_json: bool) -> None:
    """Say whether the daemon on ROOT lives; exits 0 when it does, and 1 when not.

    Asks the daemon over HTTP, where it answers that; else looks at its lock and at how fresh the heartbeat in it is.
    Reads no configuration and changes nothing.

    \b
    Example:  cortex-autolearn health --root /path/to/cortex
    """
    found = _look(call.root.absolute() / layout.DAEMON_LOCK, "/readyz" if ready else "/healthz")
    answer(0 if found.ok else FAILED)
    if as_json:
        print_json(found._asdict())
    else:
        click.echo(found.status)


def _look(path: Path, question: str) -> _Found:
    if not lock.is_held(path):
        return _Found(ok=False, status="no daemon runs here", by="lock")
    noted = lock.holder(path)
    address = _address(noted)
    if address is not None:
        # Here, so that who runs without HTTP needs no socket either.
        from cortex_autolearn.adapters.http_ask import ask  # noqa: PLC0415

        said = ask(*address, question, _TIMEOUT_S)
        words = {200: "ok", 503: "not well"}.get(said.status, f"HTTP {said.status}")
        body = " ".join(said.body.decode("utf-8", "replace").split())[:500]
        return _Found(ok=said.status == 200, status=words if said.status == 200 else f"{words}: {body}", by="http")
    if question == "/readyz":
        status = "it lives, but whether it is ready is told over HTTP only: http.enabled is false, or its log says why"
        return _Found(ok=False, status=f"{status} (http_unavailable)", by="lock")
    with wrap("look at the heartbeat", path):
        age_s = time.time() - path.stat().st_mtime
    stale_s = noted.get("stale_after_s")
    limit_s = float(stale_s) if isinstance(stale_s, int | float) else _STALE_S
    if age_s > limit_s:
        return _Found(ok=False, status=f"its heartbeat is {age_s:.0f} s old", by="heartbeat")
    return _Found(ok=True, status="ok", by="heartbeat")


def _address(noted: dict[str, Any]) -> tuple[str, int] | None:
    match noted.get("http"):
        case [str(host), int(port)]:
            return _EVERYWHERE.get(host, host), port
        case _:
            return None
