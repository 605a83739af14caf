"""A small HTTP server in the event loop, for health, metrics and status: it answers only as long as the loop lives.

One request a connection, and everything has a limit: the bytes of a request, the time until it is there, the time
until its answer is gone, and the number of connections. When too many are open, the one that has waited longest
without having sent its request is closed for the newest, so that any number of slow clients keeps nobody out who knows
what to ask. What is refused and how an answer looks is told by ``http_rules``; what an answer says, by whoever hands
in the answers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import h11

from cortex_autolearn.adapters import http_rules
from cortex_autolearn.adapters.http_rules import Answer
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

__all__ = ["MAX_CONNECTIONS", "MAX_REQUEST_BYTES", "Server"]

MAX_CONNECTIONS: Final = 256
MAX_REQUEST_BYTES: Final = 8 * 1024
REQUEST_S: Final = 5.0
"""So long a client may take to send its request."""
ANSWER_S: Final = 20.0
"""So long it may take until the answer is made and read."""
_BACKLOG: Final = 64
"""At most so many are accepted in one turn of the loop. It takes three turns until the request of one of them is read:
whoever has sent it is not closed for those who came after."""


class Server:
    """Answers GET requests.

    Arguments:
        answers: for each path, what makes its answer; called in the event loop.
        allowed_hosts: names by which others may ask.
        on_error: called with the path and what its answer failed of.
    """

    def __init__(
        self,
        answers: Mapping[str, Callable[[], Awaitable[Answer]]],
        *,
        allowed_hosts: Collection[str] = (),
        on_error: Callable[[str, Exception], None],
        request_s: float = REQUEST_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        self.answers = answers
        self.allowed_hosts = frozenset(name.lower() for name in allowed_hosts)
        self.on_error = on_error
        self.request_s, self.answer_s = request_s, answer_s
        self._server: asyncio.Server | None = None
        self._waiting: dict[_Connection, None] = {}
        self._open: dict[_Connection, None] = {}

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address and the port.

        Raises:
            BoundaryError: the port is taken or not to be had.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=_BACKLOG)
        except OSError as error:
            raise BoundaryError(
                "listen for HTTP on",
                f"{host}:{port}",
                error.strerror or str(error),
                hint="Choose another http.port, or set http.enabled = false",
                retryable=True,
            ) from error
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    def close(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._open):
            connection.abort()

    def opened(self, connection: _Connection) -> None:
        """Note a new connection, and close another when there are too many."""
        self._open[connection] = self._waiting[connection] = None
        if len(self._open) > MAX_CONNECTIONS:
            # Whoever has asked comes last: those who only hold a connection open make room first.
            next(iter(self._waiting or self._open)).abort()

    def asked(self, connection: _Connection) -> None:
        """Note that a connection has sent its request."""
        self._waiting.pop(connection, None)

    def closed(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._open.pop(connection, None)
        self._waiting.pop(connection, None)


class _Connection(asyncio.Protocol):
    """One connection with its one request."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST_BYTES)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._read_bytes = 0
        self._is_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(self._server.request_s, self._too_slow)
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own
        self._server.closed(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._task is not None or self._transport is None or self._transport.is_closing():
            return  # the request is there: what comes after it is not read
        self._read_bytes += len(data)
        if self._read_bytes > MAX_REQUEST_BYTES:
            self._say(http_rules.TOO_LARGE)
            return
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            self._say(http_rules.BAD_REQUEST)
            return
        if isinstance(event, h11.Request):
            self._answer(event)
        elif event is not h11.NEED_DATA:
            self.abort()

    def eof_received(self) -> bool:
        return self._task is not None  # a client that has asked may close its half and still read

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, request: h11.Request) -> None:
        self._server.asked(self)
        self._is_head = bytes(request.method) == b"HEAD"
        assert self._transport is not None
        self._transport.pause_reading()
        self._arm(self._server.answer_s, self.abort)
        local: Any = self._transport.get_extra_info("sockname") or ("",)
        refused = http_rules.refusal(
            bytes(request.method), list(request.headers), {str(local[0])}, self._server.allowed_hosts
        )
        path = http_rules.path_of(bytes(request.target))
        if refused is None and path not in self._server.answers:
            refused = http_rules.NOT_FOUND
        if refused is not None:
            self._say(refused)
        else:
            self._task = asyncio.get_running_loop().create_task(self._make(path))

    async def _make(self, path: str) -> None:
        try:
            answer = await self._server.answers[path]()
        except TimeoutError:
            answer = http_rules.LATE
        except Exception as error:  # noqa: BLE001 - whatever the state, the disk or a bug of ours raised
            self._server.on_error(path, error)
            answer = http_rules.FAILED
        self._say(answer)

    def _say(self, answer: Answer) -> None:
        """Send an answer and close; what the client does not read is dropped when its time is over."""
        assert self._transport is not None
        self._server.asked(self)
        self._arm(self._server.answer_s, self.abort)
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.abort()
            return
        head = h11.Response(status_code=answer.status, headers=answer.headers())
        body = b"" if self._is_head else answer.body
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self._transport.write(self._http.send(event) or b"")
        self._transport.close()

    def _too_slow(self) -> None:
        if self._read_bytes:
            self._say(http_rules.TOO_SLOW)
        else:
            self.abort()

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)
