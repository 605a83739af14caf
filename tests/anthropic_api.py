"""The Claude API on the loopback interface: real HTTP, strict about requests, with faults by order.

In a test's process it runs in threads (``with AnthropicApi() as api``); for tests that kill, in a process of its own
(``with api_process(folder) as api``). Whatever it was asked and whatever it charged stands in a journal, one JSON line
each, so that what was paid can be counted after everything else has died. It bills nobody and scores by
``anthropic_rules.judgement``.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anthropic_rules as rules
from anthropic_http import Handler, Server
from anthropic_rules import KEY, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from ssl import SSLContext

__all__ = ["KEY", "AnthropicApi", "ApiProcess", "Fault", "api_process", "count_paid"]

# A proxy of the machine's must not stand between a test and its own service.
os.environ["NO_PROXY"] = "127.0.0.1"


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path" the pattern finds, so many times.

    ``how``: ``refuse`` (an error answer, nothing done), ``drop`` (the connection breaks, nothing done), ``late_refuse``
    and ``late_drop`` (it is done and charged, and then that), ``slow`` (``wait_s`` before the answer), ``garble``
    (done, and the answer is no JSON), ``cut`` (done, and the answer stops in the middle), ``drip`` (done, and white space
    comes for ``wait_s`` instead of the answer), ``redirect`` (to ``text``).
    """

    where: str
    how: str = "refuse"
    times: int = 1
    status: int = 500
    kind: str = "api_error"
    text: str = "Internal server error"
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0


@dataclass
class _Batch:
    id: str
    created: datetime
    requests: list[rules.Request]
    polls: int = 0
    begun: float = field(default_factory=time.monotonic)
    state: str = "in_progress"
    counts: dict[str, int] = field(default_factory=dict)
    archived: bool = False


class AnthropicApi:
    """The service. Settings are attributes, to be set before or while it runs.

    ``end_after_polls`` and ``end_after_s``: when a batch ends by itself, counted from its creation; ``hold`` keeps all
    from ending. ``expire`` ends what is left as expired. ``usage`` stands in for the tokens that would be counted.
    ``hook`` is called with "got" or "done", the method, the path and the headers: when a request was read and nothing
    has been done yet, and when it was done, charged and written down, and nothing has been answered yet.
    """

    def __init__(self, journal: Path | None = None, port: int = 0, tls: SSLContext | None = None) -> None:
        self.end_after_polls = 0
        self.end_after_s = 0.0
        self.hold = False
        self.expire = False
        self.results_host = ""
        self.usage: dict[str, Any] = {}
        self.hook: Callable[[str, str, str, Mapping[str, str]], None] = lambda *_: None
        self.requests: list[dict[str, Any]] = []
        self.charges: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.keep_bodies = True
        self.most_at_once = 0
        self._faults: list[Fault] = []
        self._batches: list[_Batch] = []
        self._cached: set[tuple[str, str]] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._at_once = 0
        self._journal = None if journal is None else journal.open("a", encoding="utf-8")
        self._server = Server(("127.0.0.1", port), Handler)
        self._server.api = self
        self._tls = tls is not None
        if tls is not None:
            # The handshake is made by the thread that serves the connection, not by the one that takes all of them.
            plain = self._server.socket
            self._server.socket = tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http{'s' * self._tls}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> AnthropicApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self._journal is not None:
            self._journal.close()

    def fail(self, where: str, how: str = "refuse", **rest: Any) -> None:
        """Order a fault; those ordered first come first."""
        with self._lock:
            self._faults.append(Fault(where, how, **rest))

    def archive(self, batch_id: str) -> None:
        """Forget the results of a batch, as the API does after 29 days."""
        batch = self._find(batch_id)
        batch.archived, batch.created = True, batch.created - timedelta(days=29)

    def paid(self) -> dict[str, int]:
        """Return how often each batched ask (by custom id), and each single one (by its text), was charged."""
        return count_paid(self.charges)

    # ------------------------------------------------------------------------------------------------------ inside

    def take_fault(self, line: str) -> Fault | None:
        with self._lock:
            for each in self._faults:
                if re.search(each.where, line):
                    each.times -= 1
                    if each.times <= 0:
                        self._faults.remove(each)
                    return each
        return None

    def next_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):024d}"

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def note(self, kept: list[dict[str, Any]], what: str, **facts: Any) -> None:
        with self._lock:
            kept.append(facts)
            if self._journal is not None:
                self._journal.write(json.dumps({"what": what, **facts}) + "\n")
                self._journal.flush()

    def message(
        self, params: dict[str, Any], found: rules.Model, *, custom_id: str | None, batch: str | None
    ) -> dict[str, Any]:
        """Answer, and charge for it."""
        asked = rules.asked_text(params)
        usage = self._usage(params, found, len(rules.content_for(asked)[1])) | self.usage
        text = asked if len(asked) < 200 else asked[:100] + asked[-100:]
        self.note(self.charges, "charge", custom_id=custom_id, batch=batch, model=found.id, text=text, usage=usage)
        return self._message(params, found, usage | {"service_tier": "standard" if batch is None else "batch"})

    def _message(self, params: dict[str, Any], found: rules.Model, usage: dict[str, Any]) -> dict[str, Any]:
        stop_reason, text = rules.content_for(rules.asked_text(params))
        content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        if found.effort:
            content.insert(0, {"type": "thinking", "thinking": "", "signature": "c2lnbmVk"})
        declined = {"type": "refusal", "category": "cyber", "explanation": None}
        return {
            "id": self.next_id("msg"),
            "type": "message",
            "role": "assistant",
            "model": found.id,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "stop_details": declined if stop_reason == "refusal" else None,
            "container": None,
            "usage": usage,
        }

    def _usage(self, params: dict[str, Any], found: rules.Model, written: int) -> dict[str, Any]:
        system = rules.system_text(params)
        tokens = len(system) // 3
        blocks = params.get("system") if isinstance(params.get("system"), list) else []
        control = next((each["cache_control"] for each in blocks or [] if each.get("cache_control")), None)
        kept = {"5m": 0, "1h": 0}
        read = 0
        if control is not None and tokens >= found.least_cached:
            with self._lock:
                if (found.id, system) in self._cached:
                    read = tokens
                else:
                    self._cached.add((found.id, system))
                    kept[control.get("ttl", "5m")] = tokens
            tokens = 0
        return {
            "input_tokens": tokens + len(rules.asked_text(params)) // 3 + 8,
            "cache_creation_input_tokens": sum(kept.values()),
            "cache_read_input_tokens": read,
            "cache_creation": {"ephemeral_5m_input_tokens": kept["5m"], "ephemeral_1h_input_tokens": kept["1h"]},
            "output_tokens": 1 + written // 3,
        }

    def create(self, body: bytes) -> dict[str, Any]:
        batch = _Batch(self.next_id("msgbatch"), datetime.now(UTC), rules.check_batch(body))
        with self._lock:
            self._batches.append(batch)
        ids = [each.custom_id for each in batch.requests]
        self.note([], "batch", id=batch.id, asked=len(ids), custom_ids=ids if len(ids) <= 1_000 else [])
        return self._told(batch)

    def look(self, batch_id: str) -> dict[str, Any]:
        batch = self._find(batch_id)
        batch.polls += 1
        ripe = batch.polls > self.end_after_polls and time.monotonic() - batch.begun >= self.end_after_s
        if batch.state == "canceling" or (batch.state == "in_progress" and ripe and not self.hold):
            self._end(batch)
        return self._told(batch)

    def cancel(self, batch_id: str) -> dict[str, Any]:
        batch = self._find(batch_id)
        if batch.state == "ended":
            raise rules.invalid(f"Batch {batch_id} has already ended and cannot be canceled")
        batch.state = "canceling"
        return self._told(batch)

    def list(self, query: dict[str, list[str]]) -> dict[str, Any]:
        limit = int(query.get("limit", ["20"])[0])
        if not 1 <= limit <= 1_000 or set(query) - {"limit", "after_id", "before_id"}:
            raise rules.invalid("limit: Input should be between 1 and 1000")
        with self._lock:
            newest = self._batches[::-1]
        ids = [each.id for each in newest]
        if "after_id" in query:
            newest = newest[ids.index(query["after_id"][0]) + 1 :]
        if "before_id" in query:
            end = ids.index(query["before_id"][0])
            newest = newest[max(0, end - limit) : end]
        data = [self._told(each) for each in newest[:limit]]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return {"data": data, "has_more": len(newest) > limit, "first_id": first, "last_id": last}

    def results(self, batch_id: str) -> Iterator[bytes]:
        batch = self._find(batch_id)
        if batch.state != "ended" or batch.archived:
            raise ApiError(404, "not_found_error", f"No results for batch {batch_id}")
        return (self._line(each) for each in reversed(batch.requests))

    def _line(self, each: rules.Request) -> bytes:
        params = each.params_read()
        word, argument = rules.marker(rules.asked_text(params))
        if word == "line":
            return argument.encode() + b"\n"
        result = each.result
        if result["type"] == "succeeded":
            # Charged when the batch ended; written anew each time the results are read.
            message = self._message(params, rules.model(params["model"]), result["usage"])
            result = {"type": "succeeded", "message": message}
        return json.dumps({"custom_id": each.custom_id, "result": result}).encode() + b"\n"

    def _end(self, batch: _Batch) -> None:
        with self._lock:
            counts = dict.fromkeys(("succeeded", "errored", "canceled", "expired"), 0)
            for each in batch.requests:
                each.result = self._settle(batch, each)
                counts[each.result["type"]] += 1
            batch.state, batch.counts = "ended", counts

    def _settle(self, batch: _Batch, each: rules.Request) -> dict[str, Any]:
        params = each.params_read()
        try:
            found = rules.check_message(params)
            word, argument = rules.marker(rules.asked_text(params))
            if batch.state == "canceling" or word == "canceled":
                return {"type": "canceled"}
            if self.expire or word == "expired":
                return {"type": "expired"}
            if word == "errored":
                raise ApiError(500, argument or "api_error", "It did not work out")
        except ApiError as error:
            return {"type": "errored", "error": error.body(self.next_id("req"))}
        message = self.message(params, found, custom_id=each.custom_id, batch=batch.id)
        return {"type": "succeeded", "usage": message["usage"]}

    def _find(self, batch_id: str) -> _Batch:
        with self._lock:
            for each in self._batches:
                if each.id == batch_id:
                    return each
        raise ApiError(404, "not_found_error", f"Batch {batch_id} not found")

    def _told(self, batch: _Batch) -> dict[str, Any]:
        ended = batch.state == "ended"
        none = dict.fromkeys(("succeeded", "errored", "canceled", "expired"), 0)
        counts = {"processing": 0, **batch.counts} if ended else {"processing": len(batch.requests), **none}
        host = self.results_host or self.url
        there = ended and not batch.archived
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": batch.state,
            "request_counts": counts,
            "created_at": batch.created.isoformat().replace("+00:00", "Z"),
            "expires_at": (batch.created + timedelta(hours=24)).isoformat().replace("+00:00", "Z"),
            "ended_at": batch.created.isoformat().replace("+00:00", "Z") if ended else None,
            "archived_at": batch.created.isoformat().replace("+00:00", "Z") if batch.archived else None,
            "cancel_initiated_at": None,
            "results_url": f"{host}/v1/messages/batches/{batch.id}/results" if there else None,
        }


# ----------------------------------------------------------------------------------------------------- its own process


def count_paid(charges: list[dict[str, Any]]) -> dict[str, int]:
    """Return how often each ask was charged, by custom id or, asked alone, by its text."""
    paid: dict[str, int] = {}
    for each in charges:
        name = each["custom_id"] or each["text"]
        paid[name] = paid.get(name, 0) + 1
    return paid


@dataclass
class ApiProcess:
    """A service in another process: orders go by HTTP, what happened is read from its journal."""

    url: str
    journal: Path

    def fail(self, where: str, how: str = "refuse", **rest: Any) -> None:
        self._order({"fail": asdict(Fault(where, how, **rest))})

    def set(self, **settings: Any) -> None:
        self._order({"set": settings})

    def noted(self, what: str) -> list[dict[str, Any]]:
        """Return the journal's lines of one kind: ``request``, ``batch``, ``charge``."""
        lines = self.journal.read_text(encoding="utf-8").splitlines()
        return [each for each in map(json.loads, lines) if each["what"] == what]

    def paid(self) -> dict[str, int]:
        return count_paid(self.noted("charge"))

    def _order(self, order: dict[str, Any]) -> None:
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
        try:
            connection.request("POST", "/control", json.dumps(order), {"content-type": "application/json"})
            assert connection.getresponse().status == 200
        finally:
            connection.close()


@contextlib.contextmanager
def api_process(folder: Path) -> Iterator[ApiProcess]:
    """Run the service in a process of its own until the end of the block."""
    journal = folder / "api.jsonl"
    command = [sys.executable, __file__, "--journal", str(journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield ApiProcess(process.stdout.readline().strip(), journal)
        finally:
            process.send_signal(signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with AnthropicApi(given.journal, given.port) as api:
        api.keep_bodies = False
        print(api.url, flush=True)
        over.wait()


if __name__ == "__main__":
    main()
