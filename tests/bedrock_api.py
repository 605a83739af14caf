"""Amazon Bedrock and S3 on the loopback interface: as strict as their service model.

Every request and every answer of Bedrock is held to the service model that botocore ships. S3 is moto's server, behind
a gate that keeps what moto does not: whose bucket it is, whether the credentials are good, and whether what arrives is
what its digest says. ``bedrock_world`` is what the service knows and does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from bedrock_rules import breaches, matched, service_model
from bedrock_world import (
    ACCOUNT,
    BUCKET,
    HAIKU,
    KEY,
    LLAMA,
    NOVA,
    ROLE,
    SECRET,
    Deployment,
    Job,
    Refusal,
    Script,
    World,
)

__all__ = [
    "ACCOUNT",
    "BUCKET",
    "HAIKU",
    "KEY",
    "LLAMA",
    "NOVA",
    "ROLE",
    "SECRET",
    "BedrockApi",
    "Deployment",
    "Job",
    "Script",
]

_OPERATIONS = (
    "GetFoundationModel",
    "CreateModelCustomizationJob",
    "GetModelCustomizationJob",
    "StopModelCustomizationJob",
    "GetCustomModel",
    "DeleteCustomModel",
    "CreateCustomModelDeployment",
    "GetCustomModelDeployment",
    "DeleteCustomModelDeployment",
)
_SCOPE = re.compile(r"Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")


@dataclass
class Order:
    """A fault to make: of which operation, how often, and whether what was asked for is done all the same."""

    operation: str
    status: int = 500
    code: str = "InternalServerException"
    text: str = "An internal error occurred"
    times: int = 1
    is_done: bool = False
    hangs_up: bool = False
    answer: dict[str, Any] | None = None

    def carry_out(
        self, work: Callable[[], tuple[int, dict[str, str], bytes]]
    ) -> tuple[int, dict[str, str], bytes] | None:
        """Return what is answered instead; None where the connection is dropped."""
        self.times -= 1
        if self.is_done:
            work()
        if self.hangs_up:
            return None
        if self.answer is not None:
            return 200, {"Content-Type": "application/json"}, json.dumps(self.answer).encode()
        raise Refusal(self.status, self.code, self.text)


class BedrockApi(World):
    """The service; a context manager. ``s3`` is where moto's server is, as (host, port)."""

    def __init__(self, s3: tuple[str, int]) -> None:
        super().__init__(s3)
        self._operations = [service_model("bedrock").operation_model(name) for name in _OPERATIONS]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def begin(self) -> None:
        """Be as on the first day, and in the best of health."""
        super().begin()
        self.tick_s = 0.0
        self.keys = {KEY: "good"}
        self.is_away = False
        self.spoils = False
        self.orders: list[Order] = []
        self.journal: list[tuple[str, dict[str, Any]]] = []
        self.breaches: list[str] = []
        self.count = 0
        self.deadly: tuple[int, bool, Callable[[], None]] | None = None
        """The request that somebody dies of, whether before it is heard, and what kills."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to come here."""
        return {"AWS_ENDPOINT_URL": self.url}

    def __enter__(self) -> BedrockApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        assert self.breaches == []

    def asked(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.journal)

    def order(self, operation: str, **fault: Any) -> None:
        self.orders.append(Order(operation, **fault))

    # --- HTTP --------------------------------------------------------------------------------------------------------

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with suppress(ConnectionError):  # who asked was killed
                    super().handle()

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = api._answer(self.command, self.path, dict(self.headers.items()), body)
                if found is None:
                    self.close_connection = True
                    return
                status, headers, data = found
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - names of the base class

        return Handler

    def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes] | None:
        with self._lock:
            if self.is_away:
                return None
            if self.tick_s:
                self.advance(self.tick_s)
            scope = _SCOPE.search(headers.get("Authorization", ""))
            service = scope["service"] if scope else "bedrock"
            work: Callable[[], tuple[int, dict[str, str], bytes]]
            if service == "s3":
                name = f"s3:{method}"
                self.journal.append((name, {"path": path}))
                work = lambda: self._of_s3(method, path, headers, body)  # noqa: E731
            else:
                name, asked = self._asked(method, path, body)
                self.journal.append((name, asked))
                region = scope["region"] if scope else ""
                work = lambda: self._of_bedrock(name, region, asked)  # noqa: E731
            deadly = self.deadly if self.deadly is not None and self.deadly[0] == self.count else None
            self.count += 1
            if deadly is not None:
                self.deadly = None
                if not deadly[1]:
                    with suppress(Refusal):
                        work()
                deadly[2]()
                return None
            try:
                self._let_in(scope["key"] if scope else "")
                order = next((one for one in self.orders if one.operation == name and one.times > 0), None)
                if order is not None:
                    return order.carry_out(work)
                return work()
            except Refusal as refusal:
                return _refused(service, refusal)

    def _let_in(self, key: str) -> None:
        state = self.keys.get(key, "unknown")
        if state == "expired":
            raise Refusal(
                403, "ExpiredTokenException", f"The security token of {key} included in the request is expired"
            )
        if state != "good":
            raise Refusal(403, "UnrecognizedClientException", "The security token included in the request is invalid")

    def _asked(self, method: str, path: str, body: bytes) -> tuple[str, dict[str, Any]]:
        for operation in self._operations:
            found = matched(operation, method, urlsplit(path).path)
            if found is not None:
                return operation.name, found | (json.loads(body) if body else {})
        return "nothing", {"method": method, "path": path}

    def _of_bedrock(self, name: str, region: str, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if name == "nothing":
            self.breaches.append(f"there is no operation for {asked}")
            raise Refusal(404, "UnknownOperationException", "There is no such operation")
        operation = service_model("bedrock").operation_model(name)
        wrong = breaches(operation.input_shape, asked)
        if wrong:
            self.breaches += [f"{name} request: {one}" for one in wrong]
            raise Refusal(400, "ValidationException", "; ".join(wrong))
        work = getattr(self, "_" + re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())
        answer = work(self.regions[region], asked)
        self.breaches += [f"{name} answer: {one}" for one in breaches(operation.output_shape, answer)]
        data = json.dumps(answer, default=lambda one: one.isoformat().replace("+00:00", "Z")).encode()
        return operation.http.get("responseCode", 200), {"Content-Type": "application/json"}, data

    def _of_s3(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        given = {name.lower(): value for name, value in headers.items()}
        bucket = path.lstrip("/").split("/")[0].split("?")[0]
        owner = given.get("x-amz-expected-bucket-owner")
        if bucket in self.owners and owner is not None and owner != self.owners[bucket]:
            raise Refusal(403, "AccessDenied", "Access Denied")
        if self.spoils and method == "PUT":
            body = body[:-1] + b"?"
        if "x-amz-checksum-sha256" in given:
            if base64.b64encode(hashlib.sha256(body).digest()).decode() != given["x-amz-checksum-sha256"]:
                raise Refusal(400, "BadDigest", "The SHA256 you specified did not match the calculated checksum")
        elif method == "PUT":
            self.breaches.append(f"{path} was sent without its SHA-256")
        dropped = {"host", "expect", "connection", "content-length"}
        status, data, answered = self._moto(
            method, path, body, headers={k: v for k, v in given.items() if k not in dropped}
        )
        hop = {"connection", "transfer-encoding", "date", "server"}
        kept = {name: value for name, value in answered.items() if name.lower() not in hop}
        if method != "HEAD":
            kept = {name: value for name, value in kept.items() if name.lower() != "content-length"}
        return status, kept, data


def _refused(service: str, refusal: Refusal) -> tuple[int, dict[str, str], bytes]:
    if service == "s3":
        text = f"<Error><Code>{refusal.code}</Code><Message>{refusal.text}</Message></Error>"
        return refusal.status, {"Content-Type": "application/xml"}, text.encode()
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": refusal.code}
    return refusal.status, headers, json.dumps({"message": refusal.text}).encode()
