"""How the loopback service of ``anthropic_api`` is spoken to: HTTP, headers, bodies, and connections that break."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import anthropic_rules as rules
from anthropic_rules import KEY, ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anthropic_api import AnthropicApi, Fault

_BATCH_PATH: Final = re.compile(r"/v1/messages/batches/([^/]+)(/cancel|/results)?\Z")
_MODEL_PATH: Final = re.compile(r"/v1/models/([^/]+)\Z")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # Whoever asks closes its connections; a thread that still waits for a next request must not hold up the end.
    block_on_close = False
    api: AnthropicApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that clients broke off."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    @property
    def _api(self) -> AnthropicApi:
        return cast("Server", self.server).api

    def _serve(self) -> None:
        request_id = self._api.next_id("req")
        path = urlsplit(self.path).path
        if path == "/control":
            self._control()
            return
        fault = self._api.take_fault(f"{self.command} {path}")
        with self._api.counted():
            body = self._body(path) if fault is None or fault.how != "drop" else b""
            self._api.hook("got", self.command, path, dict(self.headers.items()))
            if fault is not None and fault.how == "slow":
                time.sleep(fault.wait_s)
            try:
                if fault is not None and fault.how == "refuse":
                    raise ApiError(fault.status, fault.kind, fault.text, fault.code)
                answer = None if fault is not None and fault.how == "drop" else self._route(path, body)
                if fault is not None and fault.how == "late_refuse":
                    raise ApiError(fault.status, fault.kind, fault.text, fault.code)
            except ApiError as error:
                self._note(error.status, request_id)
                headers = fault.headers if fault is not None else {}
                self._send(error.status, json.dumps(error.body(request_id)).encode(), request_id, headers)
                return
        self._note(0 if fault is not None and "drop" in fault.how else 200, request_id)
        self._api.hook("done", self.command, path, dict(self.headers.items()))
        self._answer(answer, fault, request_id)

    def _answer(self, answer: Any, fault: Fault | None, request_id: str) -> None:
        how = "" if fault is None else fault.how
        if how in {"drop", "late_drop"}:
            self._break()
        elif how == "redirect":
            assert fault is not None
            self._send(307, b"{}", request_id, {"Location": fault.text})
        elif how == "garble":
            self._send(200, b'<html>{"id": 1', request_id, {})
        elif how == "drip":
            assert fault is not None
            self._drip(fault.wait_s)
        elif isinstance(answer, dict):
            self._send(200, json.dumps(answer).encode(), request_id, {})
        else:
            self._stream(answer, request_id, cut=how == "cut")

    def _route(self, path: str, body: bytes) -> Any:
        self._check_headers()
        api = self._api
        split = urlsplit(self.path)
        if self.command == "POST" and path == "/v1/messages":
            params = self._json(body)
            return api.message(params, rules.check_message(params), custom_id=None, batch=None)
        if path == "/v1/messages/batches":
            return api.create(self._typed(body)) if self.command == "POST" else api.list(parse_qs(split.query))
        if found := _BATCH_PATH.match(path):
            batch_id, rest = found[1], found[2]
            if self.command == "POST" and rest == "/cancel":
                return api.cancel(batch_id)
            if self.command == "GET" and rest != "/cancel":
                return api.results(batch_id) if rest else api.look(batch_id)
        if self.command == "GET" and (found := _MODEL_PATH.match(path)):
            return rules.model_info(rules.model(found[1]))
        raise ApiError(404, "not_found_error", f"Not found: {self.command} {path}")

    def _check_headers(self) -> None:
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        key = self.headers.get("x-api-key") or bearer
        if not key:
            raise ApiError(401, "authentication_error", "x-api-key header is required")
        # What follows the key is a test's own: which process asks, for the hook.
        if not key.startswith(KEY):
            raise ApiError(401, "authentication_error", "invalid x-api-key")
        version = self.headers.get("anthropic-version")
        if version != rules.VERSION:
            raise rules.invalid(f"anthropic-version: {version or 'header is required'}")

    def _typed(self, body: bytes) -> bytes:
        if self.headers.get("content-type", "").split(";")[0] != "application/json":
            raise rules.invalid("content-type must be application/json")
        return body

    def _json(self, body: bytes) -> Any:
        try:
            return json.loads(self._typed(body).decode())
        except ValueError as error:
            raise rules.invalid(f"The request body is not valid JSON: {error}") from None

    def _body(self, path: str) -> bytes:
        if self.command == "GET":
            return b""
        length = int(self.headers["Content-Length"])
        most = rules.MAX_BATCH_BYTES if path.endswith("/batches") else rules.MAX_MESSAGE_BYTES
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionResetError
        if self._api.keep_bodies:
            self._api.bodies.append(body)
        if length > most:
            self.close_connection = True
            self._send(413, b'{"type":"error","error":{"type":"request_too_large","message":"Too large"}}', "", {})
            raise ConnectionAbortedError
        return body

    def _control(self) -> None:
        """Take orders of a test in another process."""
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for name, value in order.get("set", {}).items():
            assert hasattr(self._api, name), name
            setattr(self._api, name, value)
        if "fail" in order:
            self._api.fail(**order["fail"])
        self._send(200, b"{}", "", {})

    def _note(self, status: int, request_id: str) -> None:
        agent = self.headers.get("user-agent")
        self._api.note(
            self._api.requests,
            "request",
            method=self.command,
            path=self.path,
            status=status,
            id=request_id,
            agent=agent,
        )

    def _send(self, status: int, body: bytes, request_id: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if request_id:
            self.send_header("request-id", request_id)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, lines: Iterator[bytes], request_id: str, *, cut: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/binary")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("request-id", request_id)
        self.end_headers()
        pending = b""
        for number, line in enumerate(lines):
            if cut and number:
                self._chunk(pending + line[: len(line) // 2])
                self._break()
                return
            pending += line
            # Pieces end within lines, as they do on a network.
            if len(pending) > 20_000:
                self._chunk(pending[:20_000])
                pending = pending[20_000:]
        if pending:
            self._chunk(pending)
        self.wfile.write(b"0\r\n\r\n")

    def _drip(self, wait_s: float) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            self._chunk(b" ")
            time.sleep(0.05)
        self._break()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _break(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
