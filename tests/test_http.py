"""HTTP towards operators: who is answered, what is refused, and that nobody can hold it up."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from service_support import get, raw

from cortex_autolearn import settings
from cortex_autolearn.adapters import http, http_ask, http_rules
from cortex_autolearn.adapters.http_rules import Answer
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

GET = [(b"host", b"localhost")]
BIG = b"x" * 32_000_000


async def _hello() -> Answer:
    return Answer(200, b"hello", http_rules.TEXT)


async def _big() -> Answer:
    return Answer(200, BIG, http_rules.TEXT)


async def _broken() -> Answer:
    raise RuntimeError("a secret that nobody is told")


def serving(
    work: Callable[[tuple[str, int]], None], *, allowed_hosts: tuple[str, ...] = (), **limits: float
) -> tuple[list[tuple[str, Exception]], float]:
    """Run a server, and ``work`` in a thread beside it; return the errors it told of, and how late the loop was."""
    errors: list[tuple[str, Exception]] = []
    lag_s = 0.0

    async def live() -> None:
        nonlocal lag_s
        answers: dict[str, Callable[[], Awaitable[Answer]]] = {"/hello": _hello, "/big": _big, "/broken": _broken}
        server = http.Server(answers, allowed_hosts=allowed_hosts, on_error=lambda *told: errors.append(told), **limits)
        address = await server.start("127.0.0.1", 0)
        working = asyncio.create_task(asyncio.to_thread(work, address))
        while not working.done():
            began = time.monotonic()
            await asyncio.sleep(0.02)
            lag_s = max(lag_s, time.monotonic() - began - 0.02)
        server.close()
        await working

    asyncio.run(live())
    return errors, lag_s


def test_a_get_is_answered_and_nothing_may_keep_it() -> None:
    """The answer has its length and its type, is not to be stored or guessed at, and the connection ends."""

    def work(to: tuple[str, int]) -> None:
        status, head, body = get(to, "/hello?x=1")
        assert (status, body) == (200, "hello")
        for field in ("content-length: 5", "cache-control: no-store", "x-content-type-options: nosniff"):
            assert field in head
        assert http_ask.ask(*to, "/hello", 5.0) == (200, b"hello")

    assert serving(work)[0] == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"DELETE /hello HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 413),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /../hello HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /hello HTTP/1.1\r\nHost: localhost.evil.example:80\r\n\r\n", 421),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /hello HTTP/1.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000, 431),
        (b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n", 500),
    ],
)
def test_what_is_refused(data: bytes, status: int) -> None:
    """Everything but a small GET for a known path under a name of this machine's own is refused in words."""
    got = b""

    def work(to: tuple[str, int]) -> None:
        nonlocal got
        try:
            got = raw(to, data)
        except ConnectionResetError:  # it did not read all of what was sent: the answer may be lost
            got = b"HTTP/1.1 431 "

    errors, _ = serving(work)
    assert got.startswith(b"HTTP/1.1 %d " % status), got
    assert b"secret" not in got
    assert [path for path, _ in errors] == (["/broken"] if status == 500 else [])


@pytest.mark.parametrize(
    ("host", "is_right"),
    [
        (b"localhost", True),
        (b"LOCALHOST:9464", True),
        (b"127.0.0.1:1", True),
        (b"[::1]:9464", True),
        (b"[::1]", True),
        (b"10.0.0.7:9464", True),
        (b"autolearn", True),
        (b"autolearn.:80", True),
        (b"10.0.0.8", False),
        (b"::1", False),
        (b"[::1", False),
        (b"localhost:port", False),
        (b"localhost@evil.example", False),
        (b"evil.example", False),
        (b"", False),
        (b"\xff", False),
        (b"a" * 300, False),
    ],
)
def test_the_host_is_ours(host: bytes, is_right: bool) -> None:
    """Answered is who asks for localhost, for the address that was reached, or for a name that was allowed."""
    refused = http_rules.refusal(b"GET", [(b"host", host)], {"10.0.0.7"}, {"autolearn"})
    assert (refused is None) == is_right


def test_slow_clients_do_no_harm() -> None:
    """With a thousand open connections that send nothing or a byte now and then, whoever asks is answered at once."""
    took_s: list[float] = []

    def work(to: tuple[str, int]) -> None:
        with ExitStack() as stack:
            slow: list[socket.socket] = []
            for number in range(1_000):
                slow.append(stack.enter_context(socket.create_connection(to, timeout=10)))
                if number % 2:
                    slow[-1].sendall(b"GET /hel")
                if number % 50 == 0:
                    began = time.monotonic()
                    assert get(to, "/hello")[0] == 200
                    took_s.append(time.monotonic() - began)
            for number in range(20):
                for one in slow[number::20]:
                    try:
                        one.send(b"l")
                    except OSError:
                        continue  # closed for another one
                began = time.monotonic()
                assert get(to, "/hello")[0] == 200
                took_s.append(time.monotonic() - began)

    errors, lag_s = serving(work)
    assert errors == []
    print(f"slowest answer {max(took_s) * 1e3:.1f} ms, loop at most {lag_s * 1e3:.1f} ms late")
    assert max(took_s) < 2.0
    assert lag_s < 1.0


def test_whoever_takes_too_long_is_let_go() -> None:
    """A request that does not come to its end, and an answer that is not read, each have their time."""

    def work(to: tuple[str, int]) -> None:
        began = time.monotonic()
        assert raw(to, b"GET /hello HTTP/1.1\r\nHost: loc").startswith(b"HTTP/1.1 408 ")
        assert raw(to, b"") == b""
        with socket.create_connection(to, timeout=10) as connection:
            connection.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(1.0)  # nothing is read: that is the test
            got = 0
            with pytest.raises(ConnectionError):
                while chunk := connection.recv(65_536):
                    got += len(chunk)
                raise ConnectionResetError
            assert got < len(BIG)
        assert time.monotonic() - began < 10

    serving(work, request_s=0.3, answer_s=0.5)


def test_a_large_answer_arrives_whole() -> None:
    """Whoever reads gets all of it."""

    def work(to: tuple[str, int]) -> None:
        assert len(get(to, "/big")[2]) == len(BIG)

    serving(work)


def test_a_port_that_is_taken_is_said() -> None:
    """The error names the address and what to do."""

    async def twice() -> None:
        first, second = (http.Server({}, on_error=lambda *_: None) for _ in range(2))
        host, port = await first.start("127.0.0.1", 0)
        with pytest.raises(BoundaryError, match=r"http\.port"):
            await second.start(host, port)
        first.close()

    asyncio.run(twice())


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"http.host": "0.0.0.0"}, "http.allow_public"),
        ({"http.host": "::"}, "http.allow_public"),
        ({"http.host": "192.168.1.7"}, "http.allow_public"),
        ({"http.host": "127.0.0.1.evil.example"}, "http.host"),
        ({"http.host": "evil.example", "http.allow_public": "true"}, "http.host"),
        ({"http.host": "0.0.0.0", "http.allow_public": "true"}, ""),
        ({"http.host": "127.0.0.2"}, ""),
        ({"http.host": "::1"}, ""),
        ({"http.port": "0"}, ""),
    ],
)
def test_a_public_address_must_be_meant(tmp_path: Path, flags: dict[str, str], problem: str) -> None:
    """An address that others reach is wrong configuration, unless it is said that they may."""
    try:
        settings.load(tmp_path, environ={}, flags=flags)
    except settings.ConfigError as error:
        assert problem
        assert problem in str(error.problems[0])
    else:
        assert not problem
