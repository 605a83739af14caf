"""The line to the provider: one HTTP request at a time, over the anthropic package, which is imported nowhere else.

The package brings what is tedious to get right: its API version and headers, TLS, proxies, pooled connections and the
reading of errors. Three of its conveniences are off. It retries nothing (how long to be patient is ``judge``'s
decision; the package would sleep for as long as a server tells it to), it follows no redirect (the key goes nowhere
but to the configured address), and it builds no objects from answers: bodies go in and out as bytes, so that each is
encoded once, measured as it is sent, and read as strictly as ``wire`` wants.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cortex_autolearn.model.version import VERSION
from cortex_autolearn.ports import BoundaryError, JudgeAuthError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import anthropic
    import httpx2

    Content = bytes | AsyncIterator[bytes]

KEY_HINT: Final = (
    "Set ANTHROPIC_API_KEY, or the systemd credential anthropic_api_key, to a key from platform.claude.com with access "
    "to the model"
)

_KEY: Final = re.compile(r"[\x21-\x7e]{1,1024}\Z")
_CAUSE_CHARS: Final = 500
_CONNECT_S: Final = 10.0
_WRITE_S: Final = 60.0
_POOL_S: Final = 60.0
_HIDDEN: Final = "[key]"
_WAITS: Final = 3
_ANSWER_BYTES: Final = 16 << 20
"""A longer answer is none; results, which are read line by line, may be of any length."""
_PLAIN: Final = "identity"


class Reply(NamedTuple):
    """What came back."""

    body: bytes
    request_id: str | None


class Fault(Exception):  # noqa: N818 - it becomes an error, or a refusal, only when ``faults`` has looked at it
    """A request that was refused or came to nothing, before anybody decided what that means.

    ``status`` is HTTP's, None where no answer came; ``sent`` tells whether the provider may have got the request;
    ``kind`` and ``code`` are the provider's ``error.type`` and ``error.details.error_code``.
    """

    def __init__(  # noqa: PLR0913 - what an error answer holds, each by its name
        self,
        cause: str,
        *,
        status: int | None = None,
        kind: str | None = None,
        code: str | None = None,
        sent: bool = True,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.status = status
        self.kind = kind
        self.code = code
        self.sent = sent
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class Line:
    """Connections to one address with one key; opened when first used, in the event loop of whoever uses them.

    Arguments:
        key: the key, or what returns it when the line is opened; None where there is none.
        base_url: where the provider is.
        connections: how many requests may be under way at once.
    """

    def __init__(self, key: str | Callable[[], str | None] | None, base_url: str, connections: int) -> None:
        self._find_key = key
        self._base_url = base_url
        self._connections = connections
        self._client: anthropic.AsyncAnthropic | None = None
        self._key = ""

    def __repr__(self) -> str:
        return f"Line({self._base_url!r})"

    async def send(
        self, method: str, path: str, content: Content | None = None, *, length: int | None = None, read_s: float
    ) -> Reply:
        """Make one request and return the whole answer.

        Arguments:
            method: GET or POST.
            path: the path below the base address, with its query.
            content: the body; one that comes in pieces needs its ``length`` in bytes.
            read_s: how long to wait for the next bytes of the answer; all of it may take :data:`_WAITS` times that.

        Raises:
            Fault: it was refused, or nothing came back.
            JudgeAuthError: there is no key, or none that could be one.
        """
        client = self._open()
        options = self._options(read_s)
        if length is not None:
            options["headers"] = {"Content-Length": str(length)}
        try:
            with self._faults():
                async with asyncio.timeout(read_s * _WAITS):
                    if method == "GET":
                        response = await client.get(path, cast_to=_response(), options=options)
                    else:
                        response = await client.post(path, cast_to=_response(), content=content or b"", options=options)
        except TimeoutError:
            raise Fault(f"it was not done after {read_s * _WAITS:g} seconds") from None
        return Reply(response.content, response.headers.get("request-id"))

    @asynccontextmanager
    async def stream(self, path: str, *, read_s: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Make a GET request whose answer is read piece by piece inside the context.

        Raises:
            Fault, JudgeAuthError: as :meth:`send`; also while reading.
        """
        client = self._open()
        with self._faults():
            # Where the plain response is asked for, ``stream`` says only that the body is not read yet.
            unread: bool = True
            response = await client.get(path, cast_to=_response(), options=self._options(read_s), stream=unread)
        assert isinstance(response, _response())
        pieces = response.aiter_bytes()
        try:
            with self._faults():
                yield pieces
        finally:
            await pieces.aclose()
            await response.aclose()

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _open(self) -> anthropic.AsyncAnthropic:
        if self._client is not None:
            return self._client
        import anthropic  # noqa: PLC0415 - a second and 55 MB, which only those pay who ask a judge
        import httpx2  # noqa: PLC0415 - what anthropic sends its requests with

        found = self._find_key() if callable(self._find_key) else self._find_key
        if not found:
            raise JudgeAuthError("ask the judge", self._base_url, "there is no key", hint=KEY_HINT)
        if _KEY.match(found) is None:
            # The HTTP library would repeat a header's value where it complains about it.
            cause = "the key holds characters that no key has"
            raise JudgeAuthError("ask the judge", self._base_url, cause, hint=KEY_HINT)
        self._key = found
        limits = httpx2.Limits(max_connections=self._connections)
        timeout = anthropic.Timeout(_WRITE_S, connect=_CONNECT_S)
        self._client = anthropic.AsyncAnthropic(
            api_key=found,
            base_url=self._base_url,
            max_retries=0,
            timeout=timeout,
            # A megabyte that is packed well is a gigabyte when it has been read.
            default_headers={"User-Agent": f"cortex-autolearn/{VERSION}", "Accept-Encoding": _PLAIN},
            # Spans would carry what is judged to wherever the process sends its traces.
            open_telemetry=False,
            http_client=anthropic.DefaultAsyncHttpxClient(
                limits=limits, timeout=timeout, follow_redirects=False, event_hooks={"response": [_bound]}
            ),
        )
        return self._client

    @staticmethod
    def _options(read_s: float) -> anthropic.RequestOptions:
        import anthropic  # noqa: PLC0415 - as above

        return {"timeout": anthropic.Timeout(connect=_CONNECT_S, read=read_s, write=_WRITE_S, pool=_POOL_S)}

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn the package's exceptions into :class:`Fault`."""
        try:
            yield
        except Exception as error:
            fault = self._fault(error)
            if fault is None:
                raise
            # Not from the error: its request and its response hold the headers, and the key is one.
            raise fault from None

    def _fault(self, error: Exception) -> Exception | None:
        import anthropic  # noqa: PLC0415 - as above
        import httpx2  # noqa: PLC0415 - as above

        if isinstance(error, anthropic.APIStatusError):
            said = error.api_message if isinstance(error.api_message, str) else error.response.reason_phrase
            return Fault(
                self._clean(said or "no reason given"),
                status=error.status_code,
                kind=error.type,
                code=error.error_code,
                retry_after_s=_retry_after(error.response.headers.get("retry-after")),
                request_id=error.request_id,
            )
        # Whatever goes wrong while a request is sent is the cause of a connection error, a failure to read what is to
        # be sent among them.
        cause = (error.__cause__ or error) if isinstance(error, anthropic.APIConnectionError) else error
        if isinstance(cause, BoundaryError):
            return cause
        if cause is error and not isinstance(error, httpx2.HTTPError | httpx2.StreamError):
            return None
        unsent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
        said = f"{type(cause).__name__}: {cause}".removesuffix(": ")
        return Fault(self._clean(said), sent=not isinstance(cause, unsent))

    def _clean(self, text: str) -> str:
        text = " ".join(text.replace(self._key, _HIDDEN).split())
        return (text[:_CAUSE_CHARS] + "…" if len(text) > _CAUSE_CHARS else text).rstrip(".")


async def _bound(response: httpx2.Response) -> None:
    """Have an answer end in an error where it is packed or too long to be one, before it is held."""
    import httpx2  # noqa: PLC0415 - as above

    if response.headers.get("content-encoding", _PLAIN) != _PLAIN:
        raise httpx2.DecodingError("the answer is packed, though it was asked for plain", request=response.request)
    if response.is_success and response.request.url.path.endswith("/results"):
        return
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    stream: httpx2.AsyncByteStream = response.stream

    class Bounded(httpx2.AsyncByteStream):  # the library asks for one by inheritance
        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for piece in stream:
                size += len(piece)
                if size > _ANSWER_BYTES:
                    cause = f"the answer is longer than {_ANSWER_BYTES:,} bytes"
                    raise httpx2.ReadError(cause, request=response.request)
                yield piece

        async def aclose(self) -> None:
            await stream.aclose()

    response.stream = Bounded()


def _retry_after(header: str | None) -> float | None:
    # The API sends seconds; a date, which HTTP allows as well, counts as nothing said.
    try:
        seconds = msgspec.convert(header, float, strict=False)
    except msgspec.ValidationError:
        return None
    return seconds if 0 <= seconds < 10**9 else None


def _response() -> type[httpx2.Response]:
    import httpx2  # noqa: PLC0415 - as above

    return httpx2.Response
